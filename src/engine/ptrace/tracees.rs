//! The table of tracees: which process each thread belongs to, the call that it is in, and the new threads that
//! are held until their creators tell of them.

use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use nix::sys::signal::{Signal, kill};

use super::{
    machine::Phase,
    substitute::{OnWayBack, Restore, SpaceId, Spaces, Substitute},
};
use crate::{
    engine::{Population, process::process_and_creator, told::ToldName},
    event::{CaptureBuffer, RecordFlags},
    limits,
    sys::{
        Pid, Tid, procfs,
        ptrace::{Call, StopKind, Stopped},
    },
};

/// A trapped call that has not returned.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) call: Call,
    /// When it was trapped: wall-clock nanoseconds.
    pub(super) enter_ns: u64,
    pub(super) flags: RecordFlags,
    /// A record of its own has told of it already: that of the thread or process that it made.
    pub(super) is_told: bool,
    /// Nothing kept what was read of it from being changed: its result is compared with that.
    pub(super) is_compared: bool,
    pub(super) captures: CaptureBuffer,
}

/// A thread that stands still until its creator has told of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) stop: Stopped,
    pub(super) kind: StopKind,
    pub(super) since: Instant,
}

/// What became of a thread that was introduced.
#[derive(Debug)]
pub(super) enum Arrival {
    /// It has not stopped yet.
    Awaited,
    /// It was waiting to be introduced.
    Held(Held),
    /// It had been introduced already.
    Known,
    /// It has ended already, with this wait status, and is not in the table.
    Ended(i32),
}

/// A thread that ended before its creator told of it.
#[derive(Debug)]
struct EarlyEnd {
    tid: Tid,
    status: i32,
    at: Instant,
}

#[derive(Debug)]
struct Tracee {
    pid: Pid,
    pending: Option<PendingCall>,
    name: Option<ToldName>,
    /// The memory that it uses.
    space: SpaceId,
    /// What is to be set back at the exit of the call that it is in.
    restore: Option<Restore>,
    /// The way back that it was sent on and may not have left.
    on_way: Option<OnWayBack>,
    /// The memory in which its creator waits until it is gone from there.
    suspends: Option<SpaceId>,
    /// The first argument register of the call that made it, if that was replaced: set back before it runs.
    first_argument: Option<u64>,
    /// The flags of the clone3(2) that it has begun, as they were then.
    clone3_flags: Option<u64>,
}

impl Tracee {
    const fn new(pid: Pid, space: SpaceId) -> Self {
        Self {
            pid,
            pending: None,
            name: None,
            space,
            restore: None,
            on_way: None,
            suspends: None,
            first_argument: None,
            clone3_flags: None,
        }
    }

    /// It is gone from its memory.
    fn leave(&mut self, spaces: &mut Spaces) {
        if let Some(restore) = self.restore.take() {
            spaces.release(&restore);
        }
        if let Some(on_way) = self.on_way.take() {
            spaces.leave_way(&on_way);
        }
        if let Some(suspended) = self.suspends.take() {
            spaces.suspend(suspended, false);
        }
        spaces.leave(self.space);
    }
}

#[derive(Debug)]
pub(super) struct Tracees {
    /// The memory of all of them.
    pub(super) spaces: Spaces,
    population: Population,
    /// Bounded, as `held` is, by the kernel's own bound on thread ids, `PID_MAX_LIMIT` (proc(5)).
    known: HashMap<Tid, Tracee>,
    held: Vec<Held>,
    ended: Vec<EarlyEnd>,
    /// Buffers that no call is using.
    buffers: Vec<CaptureBuffer>,
}

impl Tracees {
    pub(super) fn new(population: Population, substitute: Substitute) -> Self {
        let buffer = || CaptureBuffer::with_capacity(limits::CALL_CAPTURE_BYTES);
        Self {
            spaces: Spaces::new(substitute),
            population,
            known: HashMap::with_capacity(limits::TRACEES_RESERVED),
            held: Vec::with_capacity(limits::EARLY_ENDS_MAX),
            ended: Vec::with_capacity(limits::EARLY_ENDS_MAX),
            buffers: std::iter::repeat_with(buffer).take(limits::CALL_BUFFERS_RESERVED).collect(),
        }
    }

    /// Where a tracee is; `None` if it is not known.
    pub(super) fn phase(&self, tid: Tid) -> Option<Phase> {
        let tracee = self.known.get(&tid)?;
        let is_inside = tracee.pending.is_some() || tracee.restore.is_some();
        Some(if is_inside { Phase::Inside } else { Phase::Outside })
    }

    /// The process of a tracee. A thread that is not known counts as its own process.
    pub(super) fn pid(&self, tid: Tid) -> Pid {
        self.known.get(&tid).map_or(Pid(tid.0), |tracee| tracee.pid)
    }

    /// Makes a thread known.
    pub(super) fn introduce(&mut self, tid: Tid, pid: Pid) -> Arrival {
        if self.known.contains_key(&tid) {
            return Arrival::Known;
        }
        self.forget_old_ends();
        if let Some(at) = self.ended.iter().position(|end| end.tid == tid) {
            let end = self.ended.swap_remove(at);
            // One that is alive is another one, to whom the id was given since.
            if procfs::state(tid).is_none_or(|state| b"ZX".contains(&state)) {
                return Arrival::Ended(end.status);
            }
        }
        // A thread shares the memory of its process, whose first thread may have ended. That one itself comes before all.
        let others = || self.known.values().find(|other| other.pid == pid);
        let process = || self.known.get(&pid.leader()).or_else(others);
        let process = if pid.leader() == tid { None } else { process() };
        let space = match process {
            Some(other) => {
                self.spaces.join(other.space);
                other.space
            }
            None => self.spaces.add(),
        };
        self.known.insert(tid, Tracee::new(pid, space));
        if pid.leader() == tid {
            self.population.add(pid);
        }
        match self.held.iter().position(|held| held.stop.tid() == tid) {
            Some(at) => Arrival::Held(self.held.swap_remove(at)),
            None => Arrival::Awaited,
        }
    }

    /// Keeps a stopped thread until it is introduced.
    pub(super) fn hold(&mut self, held: Held) {
        // An end that was reported for this id was that of another thread, long gone.
        self.ended.retain(|end| end.tid != held.stop.tid());
        self.held.push(held);
    }

    /// How long to sleep between two looks because a thread is held.
    pub(super) fn held_poll(&self) -> Option<Duration> {
        let newest = self.held.iter().map(|held| held.since).max()?;
        let is_long = newest.elapsed() > Duration::from_millis(limits::NEW_TRACEE_HOLD_MS_MAX);
        let poll_us = if is_long { limits::UNTOLD_TRACEE_POLL_US } else { limits::NEW_TRACEE_POLL_US };
        Some(Duration::from_micros(poll_us))
    }

    /// How many threads are followed.
    pub(super) fn count(&self) -> usize {
        self.known.len() + self.held.len()
    }

    /// Kills every process that is known.
    pub(super) fn kill(&self) {
        for (&tid, _) in self.known.iter().filter(|(tid, tracee)| tracee.pid.leader() == **tid) {
            // Nobody has waited for it, so that this is nobody else.
            let _ = kill(nix::unistd::Pid::from_raw(tid.0), Signal::SIGKILL);
        }
    }

    /// Takes all threads that are held.
    pub(super) fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    /// The threads that are known.
    pub(super) fn tids(&self) -> Vec<Tid> {
        self.known.keys().copied().collect()
    }

    /// How many processes are known, and how many threads.
    pub(super) fn counts(&self) -> (usize, usize) {
        let leaders = self.known.iter().filter(|(tid, tracee)| tracee.pid.leader() == **tid);
        (leaders.count(), self.known.len())
    }

    /// Takes a thread that has been held for too long. While its creator may only have had no CPU to tell of it, that is longer.
    pub(super) fn take_overdue(&mut self) -> Option<Held> {
        let [bound, bound_of_untold] =
            [limits::NEW_TRACEE_HOLD_MS_MAX, limits::UNTOLD_TRACEE_HOLD_MS_MAX].map(Duration::from_millis);
        let has_creator = |tid: Tid| {
            let (_, creator) = process_and_creator(tid);
            self.known.values().any(|tracee| tracee.pid == creator)
        };
        let at = self.held.iter().position(|held| {
            let since = held.since.elapsed();
            since > bound_of_untold || since > bound && !has_creator(held.stop.tid())
        })?;
        Some(self.held.swap_remove(at))
    }

    fn forget_old_ends(&mut self) {
        let bound = Duration::from_millis(limits::EARLY_END_MS_MAX);
        self.ended.retain(|end| end.at.elapsed() < bound);
    }

    /// Notes that a known thread is in a call. A call that it was in before is forgotten: it cannot have two.
    pub(super) fn enter(&mut self, tid: Tid, call: PendingCall) {
        if let Some(tracee) = self.known.get_mut(&tid) {
            tracee.pending = Some(call);
        }
    }

    /// Notes that the call which a thread is in has been told of.
    pub(super) fn note_told(&mut self, tid: Tid) {
        if let Some(pending) = self.known.get_mut(&tid).and_then(|tracee| tracee.pending.as_mut()) {
            pending.is_told = true;
        }
    }

    /// Takes the call that a thread is in, and tells its process.
    pub(super) fn leave(&mut self, tid: Tid) -> (Pid, Option<PendingCall>) {
        self.known.get_mut(&tid).map_or((Pid(tid.0), None), |tracee| (tracee.pid, tracee.pending.take()))
    }

    /// The memory that a thread uses.
    pub(super) fn space(&self, tid: Tid) -> SpaceId {
        self.known.get(&tid).map_or_else(SpaceId::default, |tracee| tracee.space)
    }

    /// A process was made that shares the memory of its creator, which waits for it or not.
    pub(super) fn share(&mut self, child: Tid, creator: Tid, is_awaited: bool) {
        let space = self.space(creator);
        let Some(tracee) = self.known.get_mut(&child) else { return };
        self.spaces.leave(tracee.space);
        self.spaces.join(space);
        tracee.space = space;
        if is_awaited {
            self.spaces.suspend(space, true);
            tracee.suspends = Some(space);
        }
    }

    /// Notes what is to be set back at the exit of the call that a thread begins.
    pub(super) fn set_restore(&mut self, tid: Tid, restore: Restore) {
        if let Some(tracee) = self.known.get_mut(&tid)
            && let Some(former) = tracee.restore.replace(restore)
        {
            self.spaces.release(&former);
        }
    }

    /// Notes that a thread comes back by itself from the call that it begins.
    pub(super) fn set_on_way(&mut self, tid: Tid, on_way: OnWayBack) {
        if let Some(tracee) = self.known.get_mut(&tid)
            && let Some(former) = tracee.on_way.replace(on_way)
        {
            // Each stop takes it, so that there is none.
            self.spaces.leave_way(&former);
        }
    }

    /// Takes the way back that a thread was sent on and may not have left, as it stops and does so.
    pub(super) fn take_on_way(&mut self, tid: Tid) -> Option<OnWayBack> {
        if !self.spaces.has_sent_back() {
            return None;
        }
        let on_way = self.known.get_mut(&tid)?.on_way.take()?;
        self.spaces.leave_way(&on_way);
        Some(on_way)
    }

    /// Takes what is to be set back, whose places are free from now on.
    pub(super) fn take_restore(&mut self, tid: Tid) -> Option<Restore> {
        let restore = self.known.get_mut(&tid)?.restore.take()?;
        self.spaces.release(&restore);
        Some(restore)
    }

    /// The same, if nothing else is awaited at the exit.
    pub(super) fn take_lone_restore(&mut self, tid: Tid) -> Option<Restore> {
        let is_awaited = self.known.get(&tid)?.pending.is_some();
        if is_awaited { None } else { self.take_restore(tid) }
    }

    /// What the first argument register held before it was replaced for the call that a thread is in.
    pub(super) fn first_argument_before(&self, tid: Tid) -> Option<u64> {
        self.known.get(&tid)?.restore.as_ref()?.before(0)
    }

    /// Notes which flags the clone3(2) has that a thread begins: should it be killed in the middle of that, its memory, where
    /// they lie, is gone when it tells of what it has made.
    pub(super) fn note_clone3(&mut self, tid: Tid, flags: Option<u64>) {
        if let Some(tracee) = self.known.get_mut(&tid) {
            tracee.clone3_flags = flags;
        }
    }

    /// Takes them, as the thread has made another.
    pub(super) fn take_clone3(&mut self, tid: Tid) -> Option<u64> {
        self.known.get_mut(&tid)?.clone3_flags.take()
    }

    /// Notes that the first argument register of a new thread is to be set to this before it runs.
    pub(super) fn set_first_argument(&mut self, tid: Tid, value: u64) {
        if let Some(tracee) = self.known.get_mut(&tid) {
            tracee.first_argument = Some(value);
        }
    }

    /// Takes what the first argument register of a new thread is to be set to.
    pub(super) fn take_first_argument(&mut self, tid: Tid) -> Option<u64> {
        self.known.get_mut(&tid)?.first_argument.take()
    }

    /// Gives the state of thread `former` to `tid`, the leader of its process, whose place it has taken. It runs a new
    /// program, and so has memory of its own.
    pub(super) fn rename(&mut self, former: Tid, tid: Tid) {
        let state = self.known.remove(&former);
        let mut state = state.unwrap_or_else(|| Tracee::new(Pid(tid.0), self.spaces.add()));
        if let Some(mut vanished) = self.known.remove(&tid) {
            vanished.leave(&mut self.spaces);
        }
        state.leave(&mut self.spaces);
        state.space = self.spaces.add();
        self.known.insert(tid, state);
    }

    /// Notes by which name a thread is known. While there are so many that a reader may not remember all of them, no
    /// name is certain.
    pub(super) fn set_name(&mut self, tid: Tid, name: Option<ToldName>) {
        let is_certain = self.known.len() < limits::PROCESSES_MAX / 2;
        if let Some(tracee) = self.known.get_mut(&tid) {
            tracee.name = name.filter(|_| is_certain);
        }
    }

    /// The name by which a thread is known, if it is certain in this epoch.
    pub(super) fn name(&self, tid: Tid, epoch: u32) -> Option<ToldName> {
        self.known.get(&tid)?.name.filter(|name| name.epoch == epoch)
    }

    /// Another thread of the process whose first one `leader` is, if it is that.
    pub(super) fn other_of(&self, leader: Tid) -> Option<Tid> {
        let first = self.known.get(&leader).filter(|tracee| tracee.pid.leader() == leader)?;
        // Nearly all have ended before it, and who is alone is not looked for among thousands.
        if !self.spaces.is_shared(first.space) {
            return None;
        }
        let mut known = self.known.iter();
        known.find(|(tid, tracee)| **tid != leader && tracee.pid.leader() == leader).map(|(tid, _)| *tid)
    }

    /// Forgets a thread that has ended; gives its process and the call that it was in. `None` if it was not known:
    /// its end is remembered for a while, because its creator may still tell of it.
    pub(super) fn remove(&mut self, tid: Tid, status: i32) -> Option<(Pid, Option<PendingCall>)> {
        if let Some(mut tracee) = self.known.remove(&tid) {
            tracee.leave(&mut self.spaces);
            if tracee.pid.leader() == tid {
                self.population.remove(tracee.pid);
            }
            return Some((tracee.pid, tracee.pending));
        }
        self.held.retain(|held| held.stop.tid() != tid);
        self.forget_old_ends();
        if self.ended.len() < limits::EARLY_ENDS_MAX {
            self.ended.push(EarlyEnd { tid, status, at: Instant::now() });
        }
        None
    }

    /// An empty buffer for the captures of a call.
    pub(super) fn take_buffer(&mut self) -> CaptureBuffer {
        let mut buffer =
            self.buffers.pop().unwrap_or_else(|| CaptureBuffer::with_capacity(limits::CALL_CAPTURE_BYTES));
        buffer.clear();
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&mut self, buffer: CaptureBuffer) {
        if self.buffers.len() < limits::TRACEES_RESERVED {
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        abi::SyscallNr,
        interest::formula::{Atom, Formula, TextTest},
        triage::Triage,
    };

    #[test]
    fn a_name_is_certain_in_the_epoch_in_which_it_was_told_and_goes_with_a_new_program() {
        let test = TextTest::OneOf(vec![b"cat".as_slice().into()]);
        let formula = Formula::Atom(Atom::Name { test, is_negated: false });
        let triage = Triage::of_formulas([(SyscallNr(0), &formula)]);
        let name = triage.name_hits(b"cat").map(|hits| ToldName { hits, epoch: 3 });
        let tid = Tid(7);
        let mut tracees = Tracees::new(Population::default(), Substitute::Auto);
        tracees.introduce(tid, Pid(7));
        assert!(tracees.name(tid, 3).is_none(), "it was not seen to start a program");
        tracees.set_name(tid, name);
        assert!(tracees.name(tid, 3).is_some());
        assert!(tracees.name(tid, 4).is_none());
        tracees.set_name(tid, None);
        assert!(tracees.name(tid, 3).is_none());
    }

    #[test]
    fn the_other_threads_of_a_process_are_those_that_have_not_ended() {
        let mut tracees = Tracees::new(Population::default(), Substitute::Auto);
        let process = Pid(7);
        for tid in [7, 8] {
            tracees.introduce(Tid(tid), process);
        }
        // A process of its own, though it shares the memory.
        tracees.introduce(Tid(9), Pid(9));
        tracees.share(Tid(9), Tid(7), false);
        assert_eq!(tracees.other_of(Tid(7)), Some(Tid(8)));
        assert_eq!([8, 9].map(|tid| tracees.other_of(Tid(tid))), [None; 2]);
        assert_eq!(tracees.remove(Tid(8), 0).map(|(pid, _)| pid), Some(process));
        assert_eq!(tracees.other_of(Tid(7)), None);
    }
}
