//! The pack: carries out what `placement.rs` decides, by setting affinities (sched_setaffinity(2)).
//!
//! The duty is that nothing of it remains: what a thread could run on before, it can run on after, whatever happened in
//! between, and no thread or program that it makes inherits anything else. Before you edit, read what is said at
//! [`Pinned`] and [`Pack::introduced`].
//!
//! The engine waits in waitpid(2), which knows no time-out, so a second thread, the watcher, looks whether the pack has
//! gone quiet. It sleeps for as long as nobody is stuck.

use std::{
    io,
    os::unix::fs::MetadataExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use foldhash::{HashMap, HashMapExt};
use nix::errno::Errno;

use super::{
    super::calls::{is_fork, low_int},
    placement::{Placement, Step},
};
use crate::{
    abi::{Abi, SyscallNr},
    limits,
    sys::{
        RemoteAddr, Tid,
        cpu::{self, CpuBudget, CpuSet},
        memory::write_remote,
        process, procfs,
        ptrace::{Call, Stopped},
    },
};

/// Whether placement has a use here and can always be undone.
///
/// An affinity can be set of threads with our user id, or by `CAP_SYS_NICE`. Without it a program that changes the user
/// would get away stuck; but programs can do so only if we do not set `no_new_privs`: if the workload `is_unfiltered`, or where
/// `CAP_SYS_ADMIN` does without. The calls that change the user are trapped: see [`super::Wanted::with_placement`].
#[must_use]
pub fn can_place(is_unfiltered: bool) -> bool {
    let has = |capability| process::has_capability(capability) == Some(true);
    let may_gain_privileges = is_unfiltered || has(process::CAP_SYS_ADMIN);
    CpuBudget::of_this_process().cpus > 1 && (has(process::CAP_SYS_NICE) || !may_gain_privileges)
}

/// The tracing thread, and the tracees that it may be stuck to. Dropping it parts them.
#[derive(Debug)]
pub(super) struct Pack {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
    /// Our PID namespace.
    namespace: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the watcher.
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    placement: Placement,
    tracer: Tid,
    stuck: Option<Stuck>,
    /// Tracees that were parted from and have not begun a call since. What they were making at that moment may have inherited
    /// their CPU.
    parted: HashMap<Tid, Pinned>,
    /// Threads that ended while they were stuck, or had been parted from: one for each CPU and what was had before. Who is
    /// killed in the middle of making a thread never tells of it, and that thread may have inherited their CPU.
    departed: Vec<Pinned>,
    /// The watcher sleeps until it is woken.
    is_asleep: bool,
    is_over: bool,
}

/// Those who share a CPU.
#[derive(Debug)]
struct Stuck {
    to: CpuSet,
    tracer: Pinned,
    tracees: HashMap<Tid, Pinned>,
}

impl Pack {
    /// Places the calling thread, which is the tracer.
    ///
    /// # Errors
    /// If no thread can be made.
    pub(super) fn new() -> io::Result<Self> {
        let state = State {
            placement: Placement::default(),
            tracer: cpu::current_thread(),
            stuck: None,
            parted: HashMap::new(),
            departed: Vec::with_capacity(limits::PLACEMENT_DEPARTED_MAX),
            is_asleep: false,
            is_over: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
        let watched = Arc::clone(&shared);
        let watcher = thread::Builder::new().name("placement".into()).spawn(move || watched.watch())?;
        Ok(Self { shared, watcher: Some(watcher), namespace: procfs::pid_namespace() })
    }

    /// A thread stands still, for any reason but a new program: perhaps `is_at_entry` of a call. One that nobody has told of yet
    /// is not `is_known`. Tells whether it has been stuck now.
    ///
    /// None stops in the middle of making a thread: what it makes has been made by then, and is still what it was.
    pub(super) fn stopped(&self, tid: Tid, is_at_entry: bool, is_known: bool, at: Instant) -> bool {
        let mut state = self.shared.lock();
        if is_at_entry {
            state.begins(tid);
        }
        let step = state.placement.stopped(tid, is_known, at);
        if step != Step::Stick {
            if is_known && state.placement.is_hot() {
                state.join(tid);
            }
            return false;
        }
        state.stuck = if state.has_room() { stick(tid, state.tracer) } else { None };
        let is_stuck = state.stuck.is_some();
        if !is_stuck {
            state.placement.refused();
        } else if state.is_asleep {
            self.shared.wake.notify_one();
        }
        is_stuck
    }

    /// Answers sched_getaffinity(2) in the kernel's place, for a thread that stands at its entry, as it would be answered if
    /// nobody were stuck. Tells whether it has: else the thread has to be let go first ([`Self::entered`]).
    ///
    /// So a program may ask without an end to its pack. Each thread of Rust's standard library does, at its start.
    pub(super) fn answer(&self, stop: &Stopped, call: &Call) -> bool {
        let [whom, buffer_bytes, buffer, ..] = call.arguments;
        let asked_of = match low_int(whom) {
            0 => stop.tid(),
            tid if self.is_numbered_as_here(stop.tid()) => Tid(tid),
            _ => return false,
        };
        let Some(shown) = self.shown(asked_of) else { return false };
        let result = match cpu::affinity_bytes(&shown, low_int(buffer_bytes).cast_unsigned()) {
            Ok(bytes) if write_remote(stop.tid(), RemoteAddr(buffer), &bytes) => i64::try_from(bytes.len()),
            Ok(_) => return false,
            Err(errno) => Ok(-i64::from(errno as i32)),
        };
        result.is_ok_and(|result| stop.answer_call(result).is_ok())
    }

    /// What a thread may run on, as it would be told if it were not stuck. `None` if it is not, or somebody else has changed it
    /// meanwhile.
    fn shown(&self, tid: Tid) -> Option<CpuSet> {
        let state = self.shared.lock();
        let pinned = state.stuck.as_ref()?.tracees.get(&tid)?;
        (cpu::affinity(tid) == Ok(pinned.to)).then_some(pinned.shown)
    }

    /// Whether a thread knows others by the ids that we know them by.
    fn is_numbered_as_here(&self, tid: Tid) -> bool {
        procfs::metadata(tid, "ns/pid").is_ok_and(|namespace| namespace.ino() == self.namespace)
    }

    /// It stands at the entry of a call, which may show where it is placed.
    pub(super) fn entered(&self, tid: Tid, is_shown: bool) {
        let mut state = self.shared.lock();
        state.begins(tid);
        if is_shown {
            let step = state.placement.shown();
            state.part_if(step);
        }
    }

    /// A thread has been made, and has not run yet. `creator` is `None` if it is not known.
    ///
    /// The kernel has copied the creator's affinity at some moment of the call that made the thread. What the creator had
    /// until it was parted from, even if that is over, therefore counts as well.
    pub(super) fn introduced(&self, creator: Option<Tid>, tid: Tid) {
        let mut state = self.shared.lock();
        let is_orphan = creator.is_none() && !state.departed.is_empty();
        if state.stuck.is_none() && state.parted.is_empty() && !is_orphan {
            return;
        }
        let Ok(affinity) = cpu::affinity(tid) else { return };
        if let Some(stuck) = &mut state.stuck
            && let Some(pinned) = creator_among(&stuck.tracees, creator, &affinity)
        {
            let born = Pinned { tid, ..*pinned };
            // One that was not told of until now may have been taken in by itself.
            stuck.tracees.entry(tid).or_insert(born);
            state.bound();
            return;
        }
        let Some(parted) = creator_among(&state.parted, creator, &affinity) else {
            // The latest is the likeliest.
            if let Some(departed) =
                state.departed.iter().rfind(|departed| is_orphan && departed.to == affinity)
            {
                Pinned { tid, ..*departed }.undo();
            }
            return;
        };
        let is_elsewhere = state
            .stuck
            .as_ref()
            .is_some_and(|stuck| stuck.to != parted.to && stuck.tracees.contains_key(&parted.tid));
        // A creator that has this one CPU still, or again, was given it by somebody else, and so was its child.
        if is_elsewhere || cpu::affinity(parted.tid) != Ok(parted.to) {
            Pinned { tid, ..*parted }.undo();
        }
    }

    /// A thread, whose id was `former`, stands still because it runs a new program.
    pub(super) fn renamed(&self, former: Tid, tid: Tid, at: Instant) {
        let mut state = self.shared.lock();
        if former != tid {
            // The old leader has vanished.
            state.forget(tid);
            if let Some(stuck) = &mut state.stuck
                && let Some(pinned) = stuck.tracees.remove(&former)
            {
                stuck.tracees.insert(tid, Pinned { tid, ..pinned });
            }
            if let Some(parted) = state.parted.get(&former).filter(|parted| !parted.is_undone) {
                // It was parted from by an id that was its own no more.
                Pinned { tid, ..*parted }.undo();
            }
        }
        // What it was making has ended with its old program.
        state.begins(former);
        state.begins(tid);
        state.placement.stopped(tid, false, at);
    }

    /// Parts the pack if there is one: its threads are about to be let go.
    pub(super) fn part(&self) {
        let mut state = self.shared.lock();
        let step = state.placement.refused();
        state.part_if(step);
    }

    /// A thread has ended.
    pub(super) fn ended(&self, tid: Tid) {
        self.shared.lock().forget(tid);
    }
}

impl Drop for Pack {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        state.part();
        drop(state);
        self.shared.wake.notify_one();
        // It has nothing left to do, whether it panicked or not.
        let _ = self.watcher.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the watcher.
    fn watch(&self) {
        let mut state = self.lock();
        while !state.is_over {
            if state.stuck.is_none() {
                state.is_asleep = true;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.is_asleep = false;
                continue;
            }
            let look = Duration::from_millis(limits::PLACEMENT_LOOK_MS);
            // If it wakes early it only looks early.
            state = self.wake.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
            let mut is_crowded = false;
            if state.placement.may_part_crowd(Instant::now()) {
                let members = state.members();
                // The tracer is not kept waiting for it.
                drop(state);
                is_crowded = several_run(&members);
                state = self.lock();
            }
            if state.stuck.is_some() {
                // Should it be another pack by now, that one is only looked at early.
                let step = state.placement.looked(is_crowded, Instant::now());
                state.part_if(step);
            }
        }
    }
}

/// Whether several of these threads run or want to. One that stands still for its tracer does not.
fn several_run(members: &[Tid]) -> bool {
    members.iter().filter(|tid| procfs::state(**tid) == Some(b'R')).nth(1).is_some()
}

impl State {
    /// The tracees of the pack.
    fn members(&self) -> Vec<Tid> {
        self.stuck.iter().flat_map(|stuck| stuck.tracees.keys()).copied().collect()
    }

    /// A thread is about to begin a call, so it is not in the middle of making a thread.
    fn begins(&mut self, tid: Tid) {
        self.parted.remove(&tid);
    }

    /// Whether all of a pack could be remembered after they are parted from. Of those who never begin a call it would be for
    /// ever, so who is seen in no call that makes a thread is forgotten then: what it makes later inherits what is its own.
    fn has_room(&mut self) -> bool {
        let has_room =
            |state: &Self| state.parted.len() + limits::PLACEMENT_THREADS_MAX < limits::PLACEMENT_PARTED_MAX;
        if !has_room(self) {
            self.parted.retain(|tid, parted| !parted.is_undone || may_be_making(*tid));
        }
        has_room(self)
    }

    /// Takes a thread, which stands still, into the pack if there is one.
    fn join(&mut self, tid: Tid) {
        let Some(stuck) = &mut self.stuck else { return };
        if stuck.tracees.contains_key(&tid) {
            return;
        }
        // Where it may not run there, it stays where it may.
        if let Ok(pinned) = Pinned::pin(tid, stuck.to) {
            stuck.tracees.insert(tid, pinned);
            self.bound();
        }
    }

    /// A thread is gone. What it was making may be there.
    fn forget(&mut self, tid: Tid) {
        let stuck = self.stuck.as_mut().and_then(|stuck| stuck.tracees.remove(&tid));
        for gone in stuck.into_iter().chain(self.parted.remove(&tid)) {
            self.departed.retain(|departed| (departed.to, departed.before) != (gone.to, gone.before));
            if self.departed.len() >= limits::PLACEMENT_DEPARTED_MAX {
                self.departed.remove(0);
            }
            self.departed.push(gone);
        }
    }

    /// Parts a pack that has become too large.
    fn bound(&mut self) {
        let count = self.stuck.as_ref().map_or(0, |stuck| stuck.tracees.len());
        if count > limits::PLACEMENT_THREADS_MAX {
            let step = self.placement.refused();
            self.part_if(step);
        }
    }

    fn part_if(&mut self, step: Step) {
        if step == Step::Part {
            self.part();
        }
    }

    fn part(&mut self) {
        let Some(mut stuck) = self.stuck.take() else { return };
        for (tid, mut pinned) in stuck.tracees {
            pinned.undo();
            self.parted.insert(tid, pinned);
        }
        stuck.tracer.undo();
    }
}

/// The creator of a thread that has this affinity, among those that were given it; if the creator is not known, any of them.
fn creator_among<'p>(
    pinned: &'p HashMap<Tid, Pinned>,
    creator: Option<Tid>,
    affinity: &CpuSet,
) -> Option<&'p Pinned> {
    match creator {
        Some(creator) => pinned.get(&creator).filter(|pinned| pinned.to == *affinity),
        None => pinned.values().find(|pinned| pinned.to == *affinity),
    }
}

/// Whether a thread may be in the middle of making another one. The number alone does not tell by which ABI it does.
fn may_be_making(tid: Tid) -> bool {
    procfs::call_number(tid).is_none_or(|number| {
        let nr = u32::try_from(number).map(SyscallNr);
        nr.is_ok_and(|nr| Abi::KNOWN.into_iter().any(|abi| is_fork(&Call { abi, nr, arguments: [0; 6] })))
    })
}

/// Brings the tracer to where the tracee, which stands still, ran last, and keeps both there; `None` if it cannot be, and
/// then nothing has changed.
fn stick(tracee: Tid, tracer: Tid) -> Option<Stuck> {
    let cpu = cpu::last_cpu(tracee).ok()?;
    // Whoever bound the tracer to other CPUs shall be heeded.
    cpu::affinity(tracer).ok()?.is_set(cpu).ok().filter(|&is_set| is_set)?;
    let to = cpu::only(cpu).ok()?;
    let mut tracee = Pinned::pin(tracee, to).ok()?;
    match Pinned::pin(tracer, to) {
        Ok(tracer) => Some(Stuck { to, tracer, tracees: HashMap::from_iter([(tracee.tid, tracee)]) }),
        Err(_) => {
            tracee.undo();
            None
        }
    }
}

/// A thread that has been given one CPU, and what it had before.
///
/// An affinity that equals the whole cpuset is not the same as none: since Linux 6.2 the kernel remembers what was asked
/// for (`user_cpus_ptr`), and a thread that was given two CPUs keeps to these two when its cpuset grows to four. A thread
/// that may use its whole cpuset is therefore given back all CPUs there can be.
#[derive(Debug, Clone, Copy)]
struct Pinned {
    tid: Tid,
    to: CpuSet,
    before: CpuSet,
    /// What the kernel said of it before.
    shown: CpuSet,
    is_undone: bool,
}

impl Pinned {
    fn pin(tid: Tid, to: CpuSet) -> Result<Self, Errno> {
        let shown = cpu::affinity(tid)?;
        cpu::set_affinity(tid, &cpu::all())?;
        let is_unbound = cpu::affinity(tid) == Ok(shown);
        let before = if is_unbound { cpu::all() } else { shown };
        let pinned = Self { tid, to, before, shown, is_undone: false };
        if let Err(errno) = cpu::set_affinity(tid, &to) {
            pinned.restore();
            return Err(errno);
        }
        Ok(pinned)
    }

    /// Gives the thread back what it had, unless somebody else has changed that meanwhile.
    fn undo(&mut self) {
        self.is_undone = match cpu::affinity(self.tid) {
            Ok(present) => present != self.to || self.restore(),
            Err(_) => false,
        };
    }

    fn restore(&self) -> bool {
        // If its cpuset has none of these CPUs any more, it is left to that.
        cpu::set_affinity(self.tid, &self.before).is_ok() || cpu::set_affinity(self.tid, &cpu::all()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use super::*;

    /// A thread that does nothing until it is dropped.
    struct Idle {
        tid: Tid,
        end: Option<mpsc::Sender<()>>,
        thread: Option<JoinHandle<()>>,
    }

    impl Idle {
        fn new() -> Self {
            let (end, ends) = mpsc::channel::<()>();
            let (tell, told) = mpsc::channel();
            let thread = thread::spawn(move || {
                tell.send(cpu::current_thread()).unwrap();
                // It ends when the other side is gone.
                let _ = ends.recv();
            });
            Self { tid: told.recv().unwrap(), end: Some(end), thread: Some(thread) }
        }
    }

    impl Drop for Idle {
        fn drop(&mut self) {
            self.end = None;
            self.thread.take().unwrap().join().unwrap();
        }
    }

    #[test]
    fn who_sleeps_does_not_keep_the_place_of_others_that_are_to_be_remembered() {
        let (sleepers, pack) = ([Idle::new(), Idle::new()], Pack::new().unwrap());
        while sleepers.iter().any(|sleeper| may_be_making(sleeper.tid)) {
            thread::yield_now();
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, (tell, told)) = (Arc::clone(&is_over), mpsc::channel());
        let runner = thread::spawn(move || {
            tell.send(cpu::current_thread()).unwrap();
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let pinned =
            |tid| Pinned { tid, to: cpu::all(), before: cpu::all(), shown: cpu::all(), is_undone: true };
        let [asleep, other, running] = [sleepers[0].tid, sleepers[1].tid, told.recv().unwrap()].map(pinned);
        let not_undone = Pinned { is_undone: false, ..other };
        let mut state = pack.shared.lock();
        // Ids that nobody can have stand for threads of which nothing can be seen.
        let unseen = (1..).map(|number| pinned(Tid(-number)));
        let of = |pinned: Vec<Pinned>| pinned.into_iter().map(|pinned| (pinned.tid, pinned)).collect();
        state.parted = of(unseen
            .clone()
            .take(limits::PLACEMENT_PARTED_MAX - limits::PLACEMENT_THREADS_MAX - 3)
            .collect());
        let unseen_count = state.parted.len();
        state.parted.extend(of(vec![asleep, running, not_undone]) as HashMap<_, _>);
        assert!(state.has_room());
        assert_eq!(state.parted.len(), unseen_count + 2);
        assert!(!state.parted.contains_key(&asleep.tid));
        state.parted.extend(of(unseen.take(limits::PLACEMENT_PARTED_MAX).collect()) as HashMap<_, _>);
        assert!(!state.has_room());
        state.parted.clear();
        is_over.store(true, Ordering::Relaxed);
        runner.join().unwrap();
    }

    #[test]
    fn what_a_thread_was_making_when_it_was_killed_does_not_keep_its_cpu() {
        // The tracer is stuck too, so it is a thread of its own.
        thread::spawn(|| {
            let (creator, child) = (Idle::new(), Idle::new());
            let before = cpu::affinity(child.tid).unwrap();
            let pack = Pack::new().unwrap();
            let now = Instant::now();
            let sticks = |_| pack.stopped(creator.tid, false, true, now);
            assert!((0..limits::PLACEMENT_STOPS_MIN).any(sticks));
            let to = cpu::only(cpu::last_cpu(creator.tid).unwrap()).unwrap();
            cpu::set_affinity(child.tid, &to).unwrap();
            pack.ended(creator.tid);
            pack.part();
            pack.introduced(None, child.tid);
            assert_eq!(cpu::affinity(child.tid), Ok(before));
        })
        .join()
        .unwrap();
    }
}
