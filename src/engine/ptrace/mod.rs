//! The ptrace engine: needs no capability for its own children.
//!
//! The life of one call: the filter traps it, the thread stops at its entry, and triage looks at what its arguments point
//! to. If no rule can match, the thread goes on, and that was all. Else what they point to is copied into a buffer of the
//! call's own; the thread goes on, and stops again when the call has returned; the result is read, the thread is let go,
//! and then the record is written. One thread traces, so records are in the order of the stops even though a thread runs
//! on before its record is written.
//!
//! Processes come from ptrace events, never from trapping clone or exit. An exec that is trapped stops at its
//! entry, where its arguments are read, and then either at its event, when it succeeded, or at its exit.

mod attach;
mod call;
mod machine;
mod pack;
mod placement;
mod places;
mod substitute;
mod target;
mod tracees;
mod waiting;

use std::{collections::HashMap, os::fd::OwnedFd, time::Instant};

use self::{
    attach::Attachment,
    machine::{Action, Phase, decide},
    pack::Pack,
    tracees::{Arrival, Held, Tracees},
    waiting::{Crowd, Waiting},
};
pub use self::{
    pack::can_place,
    substitute::Substitute,
    target::{Answer, AttachError, Note, Release, Target, Unfiltered},
};
use super::{
    Engine, EngineError, Holds, LaunchError, Outcome, Recorder, Setup, Stage,
    calls::{CLONE_THREAD, clone_flags, name_of, seen_clone_record, unseen_clone_record},
    capture::Seen,
    process::{self, exec_record, exit_record, process_and_creator},
    told::{ProcessSource, Told, ToldName},
    wanted::Wanted,
};
use crate::{
    abi::{self, Abi, SyscallNr},
    counters::EngineCounters,
    event::{CaptureBuffer, RecordHeader},
    limits,
    ring::ProducerMemory,
    sys::{
        Pid, Tid, clock,
        guard::{self, Front, Guarded},
        launch::{Child, FilterState, Image, Listening},
        process::share_memory,
        procfs,
        ptrace::{self, Late, PtraceError, Resume, StopKind, Stopped, Waited},
    },
};

/// A workload that is traced by ptrace(2).
#[derive(Debug)]
pub struct PtraceEngine {
    /// The first process.
    root: Pid,
    /// The same, if we have started it.
    child: Option<Child>,
    /// What it was attached to, if not.
    attachment: Option<Attachment>,
    wanted: Wanted,
    tracees: Tracees,
    told: Told,
    /// The root has not yet become the workload: what it does is our own doing.
    is_launching: bool,
    filter: Option<FilterState>,
    /// Held so that the workload cannot make a listener of its own (see [`crate::sys::launch`]).
    listener: Option<OwnedFd>,
    /// No filter is on the workload that we have started, and each of its calls stops.
    is_unfiltered: bool,
    /// The first end of the root: later its id may be another's.
    root_status: Option<i32>,
    /// Who stops and goes on as the root does.
    front: Option<Front>,
    /// The end of the root is that of the workload: what is left of it is killed.
    ends_with_root: bool,
    counters: EngineCounters,
    holds: Holds,
    /// What has been read of the call that is being looked at.
    seen: Seen,
    /// The captures of an exec are put together here.
    exec_captures: CaptureBuffer,
    /// `None` if no thread's CPU is chosen.
    pack: Option<Pack>,
    /// What threads stopped or ended for while they were on a detour.
    unserved: Vec<Waited>,
    /// Threads that have not come back from a detour. Nearly always there are none.
    late: HashMap<Tid, Late>,
}

impl Engine for PtraceEngine {
    fn launch(image: &Image, wanted: Wanted, setup: Setup) -> Result<Self, LaunchError> {
        // The first look-up builds the tables, which no stop should wait for.
        let _ = abi::signature_of(Abi::NATIVE, SyscallNr(0));
        let program = wanted.filter().map_err(LaunchError::Filter)?;
        let instructions = if setup.is_unfiltered { &[][..] } else { program.instructions() };
        let child = Child::spawn(image, instructions, Listening::Held).map_err(LaunchError::Spawn)?;
        let root = child.pid();
        let seized = ptrace::seize(root.leader());
        // From its first stop on it stops at each call.
        let seized =
            if setup.is_unfiltered { seized.and_then(|()| ptrace::interrupt(root.leader())) } else { seized };
        if let Err(error) = seized {
            // The child gives up by itself: nobody opens its gate.
            return Err(LaunchError::Seize(error));
        }
        let mut tracees = Tracees::new(setup.population, setup.substitute);
        tracees.introduce(root.leader(), root);
        let ends_with_root = setup.guarded.as_ref().is_some_and(Guarded::is_first_process);
        let front = setup.guarded.map(|guarded| {
            guarded.board.note_root(root);
            guarded.board.set_stage(guard::Stage::Receiving);
            guarded.front
        });
        let is_unfiltered = setup.is_unfiltered;
        Ok(Self {
            front,
            ends_with_root,
            is_unfiltered,
            ..Self::new(root, Some(child), None, wanted, tracees)
        })
    }

    fn root(&self) -> Pid {
        self.root
    }

    fn run<M: ProducerMemory + Send + Sync>(
        mut self,
        mut recorder: Recorder<M>,
    ) -> Result<Outcome, EngineError> {
        match &self.child {
            Some(child) => child.open_gate(),
            None => self.begin_attached(&mut recorder),
        }
        let result = self.watch(&mut recorder);
        let ended = Instant::now();
        recorder.begin_end(ended);
        self.end_attached(&mut recorder);
        self.told.finish(&mut recorder);
        let recorded = recorder.finish();
        result?;
        Ok(Outcome {
            root_status: self.root_status.unwrap_or(0),
            failure: self.child.as_ref().and_then(Child::failure),
            filter: self
                .filter
                .or_else(|| self.child.as_ref()?.filter_state())
                .filter(|_| !self.is_unfiltered),
            counters: self.counters,
            recorded,
            holds: self.holds,
            ended,
        })
    }
}

impl PtraceEngine {
    fn new(
        root: Pid,
        child: Option<Child>,
        attachment: Option<Attachment>,
        wanted: Wanted,
        tracees: Tracees,
    ) -> Self {
        Self {
            root,
            // Should no thread be had for it, stops only take longer.
            pack: wanted.has_placement().then(Pack::new).and_then(Result::ok),
            is_launching: child.is_some(),
            child,
            attachment,
            wanted,
            tracees,
            told: Told::new(process::CAPTURE_BYTES_MAX),
            filter: None,
            is_unfiltered: false,
            listener: None,
            root_status: None,
            front: None,
            ends_with_root: false,
            counters: EngineCounters::default(),
            holds: Holds::default(),
            seen: Seen::new(),
            unserved: Vec::new(),
            late: HashMap::new(),
            exec_captures: CaptureBuffer::with_capacity(
                limits::CALL_CAPTURE_BYTES + process::CAPTURE_BYTES_MAX,
            ),
        }
    }

    fn watch<M: ProducerMemory>(&mut self, recorder: &mut Recorder<M>) -> Result<(), EngineError> {
        let mut round = Vec::with_capacity(limits::TRACEES_RESERVED);
        let mut waiting = Waiting::new();
        loop {
            if self.is_let_go() {
                return self.detach(recorder);
            }
            let crowd = Crowd {
                count: self.tracees.count(),
                held_poll: self.tracees.held_poll(),
                may_be_called: self.attachment.is_some(),
            };
            if !waiting.hear(crowd, &mut round).map_err(EngineError::Wait)? {
                return Ok(());
            }
            for (waited, since) in round.drain(..) {
                recorder.begin_stop(since);
                self.serve(waited, since, recorder);
                while let Some(waited) = self.unserved.pop() {
                    self.serve(waited, since, recorder);
                }
            }
            self.release_overdue(recorder);
            if self.ends_with_root && self.root_status.is_some() {
                // Again, since they fork meanwhile.
                self.tracees.kill();
            }
        }
    }

    fn serve<M: ProducerMemory>(&mut self, waited: Waited, since: Instant, recorder: &mut Recorder<M>) {
        let waited = match waited {
            Waited::Stopped(stop, kind) if self.attachment.is_some() => self.attend(stop, kind, recorder),
            waited => Some(waited),
        };
        match waited.unwrap_or(Waited::NoTracees) {
            Waited::Stopped(stop, kind) => {
                self.counters.stops += 1;
                let stop = if self.late.is_empty() { Some(stop) } else { self.bring_back(stop, kind) };
                let Some(stop) = stop.and_then(|stop| self.leave_way(stop, kind)) else { return };
                if self.is_unfiltered {
                    stop.keep_its_calls();
                }
                if let Some(pack) = &self.pack
                    && kind != StopKind::Exec
                    && pack.stopped(
                        stop.tid(),
                        kind == StopKind::Seccomp,
                        self.tracees.phase(stop.tid()).is_some(),
                        since,
                    )
                {
                    self.counters.packs_stuck += 1;
                }
                if let Err(PtraceError::Refused { .. }) = self.act(stop, kind, since, recorder) {
                    self.counters.requests_refused += 1;
                }
            }
            Waited::Ended(tid, status) => {
                self.late.remove(&tid);
                self.end(tid, status, recorder);
                self.attended_end(tid, recorder);
            }
            Waited::NoTracees => {}
        }
    }

    /// Whether each call of a thread stops, because there is no filter that decides.
    fn stops_at_every_call(&self, tid: Tid) -> bool {
        let is_attached_to = |attachment: &Attachment| attachment.stops_at_every_call(self.tracees.pid(tid));
        self.is_unfiltered || self.attachment.as_ref().is_some_and(is_attached_to)
    }

    /// Carries out what the state machine decides about one stop. On an error the thread is gone, or goes on
    /// freely because its [`Stopped`] was dropped.
    fn act<M: ProducerMemory>(
        &mut self,
        stop: Stopped,
        kind: StopKind,
        since: Instant,
        recorder: &mut Recorder<M>,
    ) -> Result<(), PtraceError> {
        let tid = stop.tid();
        if kind == StopKind::Trap
            && let Some(value) = self.tracees.take_first_argument(tid)
        {
            // Should it be gone, what follows tells.
            let _ = stop.set_argument(0, value);
        }
        let phase = self.tracees.phase(tid);
        if kind == StopKind::SyscallExit
            && phase == Some(Phase::Outside)
            && self.stops_at_every_call(tid)
            && let Some(call) = stop.call_at_entry()?
        {
            return self.enter(stop, (&call, None), since, recorder.epoch());
        }
        if kind == StopKind::Trap
            && let Some(front) = self.front_of(tid)
        {
            front.root_goes_on();
        }
        let done = match decide(phase, kind) {
            Action::Hold => {
                self.tracees.hold(Held { stop, kind, since });
                return Ok(());
            }
            Action::Enter => match stop.trapped_call() {
                Ok((call, next)) => self.enter(stop, (&call, Some(next)), since, recorder.epoch()),
                Err(error) => Err(error),
            },
            Action::Finish => self.finish(stop, since, recorder),
            Action::Introduce(onward) => self.introduce(stop, onward, since, recorder),
            Action::Program => self.program(stop, since, recorder),
            Action::Deliver(onward, signal) => self.resume(stop, (onward, signal), Stage::Life, since),
            Action::Listen => self.resume(stop, (Resume::Listen, 0), Stage::Life, since),
        };
        // One that has been continued before we came to its stop does not stay where it is: it runs, or has stopped anew.
        if let StopKind::Group(signal) = kind
            && let Some(front) = self.front_of(tid)
            && procfs::state(tid) == Some(b't')
            && !ptrace::has_news(tid)
        {
            front.root_stopped(signal);
        }
        if matches!(done, Err(PtraceError::Gone { .. } | PtraceError::Stale { .. })) {
            self.counters.tracees_gone += 1;
        }
        done
    }

    /// Who is to be told of stops of this thread, if it is the root's.
    fn front_of(&self, tid: Tid) -> Option<&Front> {
        self.front.as_ref().filter(|_| self.tracees.pid(tid) == self.root)
    }

    fn resume(
        &mut self,
        stop: Stopped,
        (how, signal): (Resume, i32),
        stage: Stage,
        since: Instant,
    ) -> Result<(), PtraceError> {
        let how =
            if how == Resume::Free && self.stops_at_every_call(stop.tid()) { Resume::ToExit } else { how };
        let done = stop.resume(how, signal);
        self.holds.note(stage, since);
        done
    }

    /// Sees to it that readers know a process before the record that follows. Where its thread stands still this comes
    /// before it is let go, so that it is told as it is at that record.
    fn tell<M: ProducerMemory>(&mut self, pid: Pid, recorder: &mut Recorder<M>) {
        self.told.tell(pid, &Living(&self.tracees), recorder);
    }

    /// A thread has made another thread or process.
    fn introduce<M: ProducerMemory>(
        &mut self,
        stop: Stopped,
        onward: Resume,
        since: Instant,
        recorder: &mut Recorder<M>,
    ) -> Result<(), PtraceError> {
        let tid = stop.tid();
        let child = stop.event_message()?;
        if let Some(pack) = &self.pack {
            pack.introduced(Some(tid), child);
        }
        let mut call = stop.call_in_registers()?;
        let pid = self.tracees.pid(tid);
        let first_argument = self.tracees.first_argument_before(tid);
        // clone3's flags lie in memory, which another thread may have changed since, unless that is ours.
        let is_clone3 = name_of(&call) == Some("clone3");
        let is_certain =
            !is_clone3 || first_argument.is_some() || !self.tracees.spaces.has_racer(self.tracees.space(tid));
        let noted = if is_clone3 { self.tracees.take_clone3(tid) } else { None };
        let flags = noted.filter(|_| is_certain).or_else(|| clone_flags(tid, &call)).or(noted);
        let is_made_thread = flags.map(|flags| flags & CLONE_THREAD != 0);
        let is_shown_thread = || Some(procfs::relations(child).ok()?.process == pid);
        let is_thread = is_made_thread.filter(|_| is_certain).or_else(is_shown_thread).or(is_made_thread);
        let is_thread = is_thread.unwrap_or(false);
        let sharing = sharing((tid, child), is_thread, flags.filter(|_| is_certain));
        if let Some(before) = first_argument {
            // The record shows the call as the thread made it. What it points to has been read by now.
            let [first, ..] = &mut call.arguments;
            *first = before;
        }
        let flags = if name_of(&call) == Some("clone") { clone_flags(tid, &call) } else { flags };
        // The kernel has no more use for what was replaced, and this saves the stop at the exit.
        let onward = match self.tracees.take_lone_restore(tid) {
            Some(restore) => restore.apply(&stop).map(|()| Resume::Free)?,
            None => onward,
        };
        self.tell(pid, recorder);
        let now_ns = clock::wall_ns();
        let resumed = self.resume(stop, (onward, 0), Stage::Life, since);
        let child_pid = if is_thread { pid } else { Pid(child.0) };
        if let Some(attachment) = &mut self.attachment
            && !is_thread
        {
            attachment.born(pid, child_pid);
        }
        let arrival = self.tracees.introduce(child, child_pid);
        match sharing {
            Sharing::Nothing => {}
            Sharing::Memory { is_awaited } => self.tracees.share(child, tid, is_awaited),
            Sharing::Unknown => {
                let space = self.tracees.space(child);
                self.tracees.spaces.note_uncertain(space);
            }
        }
        if let Some(before) = first_argument {
            self.tracees.set_first_argument(child, before);
        }
        self.tracees.note_told(tid);
        if matches!(arrival, Arrival::Known) {
            return resumed;
        }
        self.counters.tracees_created += 1;
        let record = seen_clone_record(now_ns, &call, (tid, pid), (child, child_pid), flags);
        if self.record_clone((pid, child_pid), is_thread, &record, recorder) {
            // A child is called as its creator is until it runs another program.
            self.tracees.set_name(child, self.tracees.name(tid, recorder.epoch()));
        }
        match arrival {
            // Should it be gone, its end will be reported.
            Arrival::Held(Held { stop, kind, since }) => drop(self.act(stop, kind, since, recorder)),
            Arrival::Ended(status) => self.record_end(child, child_pid, status, recorder),
            Arrival::Awaited | Arrival::Known => {}
        }
        resumed
    }

    /// Lets threads go whose creators did not tell of them in time: they were killed in the middle of the call.
    fn release_overdue<M: ProducerMemory>(&mut self, recorder: &mut Recorder<M>) {
        while let Some(Held { stop, kind, since }) = self.tracees.take_overdue() {
            recorder.begin_stop(since);
            let tid = stop.tid();
            if let Some(pack) = &self.pack {
                pack.introduced(None, tid);
            }
            let (pid, creator) = process_and_creator(tid);
            let record = unseen_clone_record(creator, (tid, pid));
            self.tell(creator, recorder);
            self.tracees.introduce(tid, pid);
            // Nobody tells whether it shares its memory.
            let space = self.tracees.space(tid);
            self.tracees.spaces.note_uncertain(space);
            self.counters.tracees_created += 1;
            self.record_clone((creator, pid), pid.leader() != tid, &record, recorder);
            // Should it be gone, its end will be reported.
            let _ = self.act(stop, kind, since, recorder);
        }
    }

    /// A thread runs a new program. It is now the leader of its process, and the only thread.
    fn program<M: ProducerMemory>(
        &mut self,
        stop: Stopped,
        since: Instant,
        recorder: &mut Recorder<M>,
    ) -> Result<(), PtraceError> {
        let tid = stop.tid();
        // One that has been killed since does not tell. All other threads have ended by now, but for the first one.
        let former = stop.event_message().ok().or_else(|| self.tracees.other_of(tid)).unwrap_or(tid);
        if let Some(pack) = &self.pack {
            pack.renamed(former, tid, since);
        }
        // Its own record tells of the process.
        self.told.tell_parents(self.tracees.pid(former), &Living(&self.tracees), recorder);
        if former != tid {
            // The old leader vanishes without a report, in whatever call it was (ptrace(2), "execve(2) under
            // ptrace").
            if let (pid, Some(pending)) = self.tracees.leave(tid) {
                self.close_unreturned(tid, pid, pending, recorder);
            }
        }
        self.tracees.rename(former, tid);
        let (pid, pending) = self.tracees.leave(tid);
        self.exec_captures.clear();
        let call = pending.as_ref().map(|pending| {
            self.exec_captures.append(&pending.captures);
            pending.header(tid, pid)
        });
        let record = exec_record(call, (former, tid, pid), &mut self.exec_captures);
        if self.is_launching {
            self.is_launching = false;
            self.tracees.spaces.note_filters(pid);
            self.filter = self.child.as_ref().and_then(Child::filter_state);
            self.listener = self.child.as_ref().and_then(Child::take_listener);
        }
        let resumed = self.resume(stop, (Resume::Free, 0), Stage::Life, since);
        let told_in = self.told.record_exec(pid, (&record, &self.exec_captures), recorder);
        let hits = self.wanted.name_hits_in(&self.exec_captures);
        let name = hits.zip(told_in).map(|(hits, epoch)| ToldName { hits, epoch });
        self.tracees.set_name(tid, name);
        if let Some(pending) = pending {
            self.tracees.give_back(pending.captures);
        }
        resumed
    }

    /// A thread has ended.
    fn end<M: ProducerMemory>(&mut self, tid: Tid, status: i32, recorder: &mut Recorder<M>) {
        // The end of a process comes after those of all of its threads, but for one that was killed in the middle of starting a
        // program: the kernel had given it the number of the first thread, and nobody told.
        while let Some(other) = self.tracees.other_of(tid) {
            self.end(other, status, recorder);
        }
        if tid == self.root.leader() {
            self.root_status.get_or_insert(status);
            if let Some(front) = &self.front {
                front.root_goes_on();
            }
        }
        if let Some(pack) = &self.pack {
            pack.ended(tid);
        }
        let Some((pid, pending)) = self.tracees.remove(tid, status) else { return };
        if let Some(pending) = pending {
            if pid.leader() != tid {
                self.tell(pid, recorder);
            }
            self.close_unreturned(tid, pid, pending, recorder);
        }
        // A root that never became the workload is no process of the workload.
        if !self.is_launching {
            self.record_end(tid, pid, status, recorder);
        }
    }

    /// Records a new thread, or the new process `child`; tells whether there was room.
    fn record_clone<M: ProducerMemory>(
        &mut self,
        (creator, child): (Pid, Pid),
        is_thread: bool,
        record: &RecordHeader,
        recorder: &mut Recorder<M>,
    ) -> bool {
        if is_thread {
            recorder.record_bare(record)
        } else {
            self.told.record_clone((creator, child), record, recorder)
        }
    }

    fn record_end<M: ProducerMemory>(&mut self, tid: Tid, pid: Pid, status: i32, recorder: &mut Recorder<M>) {
        let exit = exit_record(tid, pid, Some(status));
        self.told.record_exit(pid, &exit, &Living(&self.tracees), recorder);
    }
}

/// What a new process has of its creator's memory.
enum Sharing {
    /// Nothing, or it is a thread of the same process.
    Nothing,
    /// All, while its creator waits or not.
    Memory { is_awaited: bool },
    /// It is not known.
    Unknown,
}

/// Whether a new process shares its creator's memory. `flags` are those that it was made with, if they are certain.
fn sharing((creator, child): (Tid, Tid), is_thread: bool, flags: Option<u64>) -> Sharing {
    if is_thread {
        // It is in the memory of its process in any case.
        return Sharing::Nothing;
    }
    let has = |flags: u64, bits: i32| flags & u64::from(bits.cast_unsigned()) != 0;
    let is_shared =
        flags.map_or_else(|| share_memory(creator, child), |flags| Some(has(flags, libc::CLONE_VM)));
    match is_shared {
        Some(true) => {
            Sharing::Memory { is_awaited: flags.is_some_and(|flags| has(flags, libc::CLONE_VFORK)) }
        }
        Some(false) => Sharing::Nothing,
        None => Sharing::Unknown,
    }
}

/// The tracees, and what `/proc` tells of them.
struct Living<'t>(&'t Tracees);

impl ProcessSource for Living<'_> {
    fn is_tracee(&self, pid: Pid) -> bool {
        self.0.phase(pid.leader()).is_some()
    }
}
