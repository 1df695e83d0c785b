//! Threads that receive trapped calls, look at them, and answer.
//!
//! Most calls end here after one look. One that is kept and ends soon is followed by the worker itself; one that may
//! block is handed to a thread of its own, so that a worker never waits for what may never happen.

use std::{
    sync::{MutexGuard, atomic::Ordering},
    thread::Scope,
    time::Instant,
};

use crossbeam::channel::{Receiver, Sender, TrySendError};

use super::{
    book::Sharing,
    follow::{Denied, End, Fork, follow, follow_fork, follow_through},
    shared::Shared,
    verify::{Scrutiny, finding, is_block_changeable, scrutiny_of_dropped, scrutiny_of_kept},
};
use crate::{
    counters::EngineCounters,
    engine::{
        Holds, Stage, Verdict,
        calls::{
            CLONE_THREAD, asks_for_tracer, clone_flags, is_exec, is_fork, may_block, name_of,
            seen_clone_record, socket_of, waiting_socket,
        },
        capture::{Reader, Seen},
        direct::Direct,
        process::{self, exec_record},
        recorder::call_header,
        socket::capture_socket,
    },
    event::{CaptureBuffer, RecordFlags, RecordHeader},
    limits,
    ring::ProducerMemory,
    sys::{
        Pid, Tid, clock,
        notify::{Notification, Received},
        process::share_memory,
        procfs,
        ptrace::{Call, Stopped, Watch},
        random::Draws,
        socket,
    },
};

/// A call that is followed, with what was read of it.
pub(super) struct Kept {
    notification: Notification,
    since: Instant,
    enter_ns: u64,
    flags: RecordFlags,
    pid: Pid,
    captures: CaptureBuffer,
    verdict: Verdict,
    scrutiny: Scrutiny,
}

impl Kept {
    fn header(&self) -> RecordHeader {
        let Notification { tid, call, .. } = &self.notification;
        call_header(self.enter_ns, call, (*tid, self.pid), self.flags)
    }
}

/// What a thread of the engine did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) counters: EngineCounters,
    pub(super) holds: Holds,
}

impl Done {
    pub(super) fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.holds.add(&other.holds);
    }
}

/// One thread that receives calls.
pub(super) struct Worker<'s, M: ProducerMemory> {
    shared: &'s Shared<M>,
    slot: usize,
    /// It is this worker's turn to receive: it keeps it for as long as it waits for nothing else.
    turn: Option<MutexGuard<'s, ()>>,
    to_followers: Sender<Kept>,
    followers: Receiver<Kept>,
    seen: Seen,
    captures: CaptureBuffer,
    exec_captures: CaptureBuffer,
    draws: Draws,
    done: Done,
    /// A call that has been received by another worker and is this one's.
    next: Option<Notification>,
}

impl<'scope, 's: 'scope, M: ProducerMemory + Send + Sync> Worker<'s, M> {
    /// A worker that gives calls which may block to threads that take them from this channel.
    pub(super) fn new(shared: &'s Shared<M>, slot: usize, channel: (Sender<Kept>, Receiver<Kept>)) -> Self {
        let (to_followers, followers) = channel;
        Self {
            shared,
            slot,
            turn: None,
            to_followers,
            followers,
            seen: Seen::new(),
            captures: CaptureBuffer::with_capacity(limits::CALL_CAPTURE_BYTES),
            exec_captures: CaptureBuffer::with_capacity(
                limits::CALL_CAPTURE_BYTES + process::CAPTURE_BYTES_MAX,
            ),
            draws: Draws::default(),
            done: Done::default(),
            next: None,
        }
    }

    /// Receives calls until the workload is over.
    pub(super) fn run(mut self, scope: &'scope Scope<'scope, '_>) {
        self.shared.kick.receive();
        self.shared.occupy(self.slot, Tid(nix::unistd::gettid().as_raw()));
        loop {
            let received = match self.next.take() {
                Some(notification) => Ok(Received::Call(notification)),
                None => {
                    self.turn.get_or_insert_with(|| self.shared.take_turn());
                    if self.shared.is_over() {
                        break;
                    }
                    self.shared.listener.receive()
                }
            };
            match received {
                Ok(Received::Call(notification)) => {
                    let board = self.shared.guarded.as_ref().map(|guarded| &guarded.board);
                    board.inspect(|board| board.note_received(self.slot, notification.id));
                    self.serve(notification, Instant::now(), scope);
                    board.inspect(|board| board.note_answered(self.slot));
                }
                Ok(Received::Nothing) => {}
                Err(error) => self.shared.fail(error),
            }
        }
        self.shared.add(&self.done);
    }

    fn serve(&mut self, notification: Notification, since: Instant, scope: &'scope Scope<'scope, '_>) {
        let (tid, call) = (notification.tid, &notification.call);
        self.done.counters.stops += 1;
        if self.shared.restarting.times(tid) != 0 {
            self.shared.listener.let_go(notification.id);
        } else if self.shared.is_after_fork(&notification) {
            // It will be notified again.
        } else if is_exec(call) {
            self.exec(&notification, since);
        } else if self.shared.is_launching.load(Ordering::Acquire) {
            // Until the root has become the workload only its exec is the workload's.
            self.shared.listener.let_go(notification.id);
        } else if is_fork(call) {
            self.fork(&notification, since);
        } else {
            self.call(notification, since, scope);
        }
    }

    /// From now on the worker waits for a call to return: somebody else receives.
    fn begin_wait(&mut self) {
        self.turn = None;
        self.shared.begin_wait(self.slot);
    }

    fn let_go(&mut self, notification: &Notification, since: Instant) {
        self.shared.listener.let_go(notification.id);
        self.done.holds.note(Stage::Dropped, since);
    }

    fn count(&mut self, verdict: Verdict, unread: u64) {
        self.done.counters.reads_failed += unread;
        verdict.count(&mut self.done.counters);
    }

    /// A call that neither starts a program nor makes a process.
    fn call(&mut self, notification: Notification, since: Instant, scope: &'scope Scope<'scope, '_>) {
        let enter_ns = clock::wall_ns();
        let (tid, shared) = (notification.tid, self.shared);
        let direct = Direct::of(tid, &notification.call);
        let is_block_changeable = direct
            .and_then(|direct| direct.block)
            .is_some_and(|block| is_block_changeable(shared, tid, block));
        let is_block_unread = direct.is_some_and(|direct| direct.is_unread);
        // From here on it is the call that it stands for. Only the kernel's number of the notification counts.
        let call = direct.map_or(notification.call, |direct| direct.call);
        let notification = Notification { call, ..notification };
        let name = || shared.book().name(tid);
        let mut reader = Reader::new(tid, &call, &mut self.seen).with_name(&name);
        let verdict = if is_block_changeable || is_block_unread {
            shared.wanted.judge_number(&call)
        } else {
            shared.wanted.judge(&call, &mut reader)
        };
        let mut scrutiny = match verdict {
            Verdict::Dropped => scrutiny_of_dropped(shared, &mut self.draws, (tid, &call), &reader),
            _ => Scrutiny::No,
        };
        if verdict != Verdict::Kept && scrutiny == Scrutiny::No {
            let unread = reader.unread();
            self.count(verdict, unread);
            return self.let_go(&notification, since);
        }
        let mut captures = std::mem::replace(&mut self.captures, CaptureBuffer::with_capacity(0));
        captures.clear();
        let mut flags = reader.capture(&mut captures);
        if is_block_changeable {
            flags = flags.with(RecordFlags::CHANGEABLE);
            self.done.counters.calls_changeable += 1;
        }
        if is_block_unread {
            flags = flags.with(RecordFlags::MEMORY_UNREADABLE);
        }
        let unread = reader.unread();
        self.count(verdict, unread);
        if !self.shared.listener.is_waiting(notification.id) {
            // What was read may be another thread's.
            self.done.counters.tracees_gone += 1;
            self.captures = captures;
            return;
        }
        let Some(pid) = self.shared.book().enter(tid) else {
            self.done.counters.tracees_gone += 1;
            self.captures = captures;
            return;
        };
        if scrutiny == Scrutiny::Changing {
            // Should this call not be followed to its end, the next one is.
            shared.suspect(pid);
        }
        if verdict == Verdict::Kept {
            scrutiny = scrutiny_of_kept(shared, &mut self.draws, (tid, pid), &call);
        }
        let kept = Kept { notification, since, enter_ns, flags, pid, captures, verdict, scrutiny };
        if asks_for_tracer(&call) || self.shared.false_starts.times(tid) >= limits::FALSE_STARTS_MAX {
            self.shared.false_starts.remove(tid);
            self.captures = leave_unfollowed(self.shared, kept, &mut self.done);
            return;
        }
        let was_cut_short = self.shared.blocking.remove(tid);
        if was_cut_short || may_block(&call) && !self.is_socket_ready(&kept) {
            self.hand_over(kept, scope);
            self.captures = CaptureBuffer::with_capacity(limits::CALL_CAPTURE_BYTES);
            return;
        }
        self.begin_wait();
        self.captures = follow_kept(self.shared, kept, &mut self.done, |notification| {
            follow(self.shared, notification, Watch::Result)
        });
        self.shared.end_wait(self.slot);
    }

    /// Whether the call is one on a socket that blocks nobody (`O_NONBLOCK`).
    fn is_socket_ready(&self, kept: &Kept) -> bool {
        let fd = waiting_socket(&kept.notification.call);
        fd.and_then(|fd| socket::duplicate(kept.pid, fd).ok()).is_some_and(|fd| socket::is_nonblocking(&fd))
    }

    /// Gives the call to a thread that may wait for it.
    fn hand_over(&mut self, kept: Kept, scope: &'scope Scope<'scope, '_>) {
        let shared = self.shared;
        if shared.blocked.fetch_add(1, Ordering::AcqRel) >= limits::BLOCKED_CALLS_MAX {
            shared.blocked.fetch_sub(1, Ordering::AcqRel);
            leave_unfollowed(shared, kept, &mut self.done);
            return;
        }
        // Somebody takes it at once or not at all: what is sent into a channel without room has its receiver.
        match self.to_followers.try_send(kept) {
            Ok(()) => {}
            Err(TrySendError::Full(kept) | TrySendError::Disconnected(kept)) => {
                let lost = Kept { captures: CaptureBuffer::with_capacity(0), ..kept };
                let more = self.followers.clone();
                let run = move || follow_blocking(shared, kept, &more);
                let spawned = std::thread::Builder::new().name("follower".into()).spawn_scoped(scope, run);
                if spawned.is_err() {
                    // What was read went with the thread that was not made.
                    leave_unfollowed(shared, lost, &mut self.done);
                    shared.blocked.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    }

    /// A call that starts a program.
    fn exec(&mut self, notification: &Notification, since: Instant) {
        let enter_ns = clock::wall_ns();
        let (tid, call) = (notification.tid, notification.call);
        let shared = self.shared;
        let is_launching = shared.is_launching.load(Ordering::Acquire);
        let mut reader = Reader::new(tid, &call, &mut self.seen);
        let verdict =
            if is_launching { Verdict::Kept } else { shared.wanted.judge_unasked(&call, &mut reader) };
        let mut captures = std::mem::replace(&mut self.captures, CaptureBuffer::with_capacity(0));
        captures.clear();
        let is_kept = verdict == Verdict::Kept;
        let flags = if is_kept { reader.capture(&mut captures) } else { RecordFlags::default() };
        let unread = reader.unread();
        self.count(verdict, unread);
        if !shared.listener.is_waiting(notification.id) {
            self.done.counters.tracees_gone += 1;
            self.captures = captures;
            return;
        }
        let Some(pid) = shared.book().enter(tid) else {
            self.done.counters.tracees_gone += 1;
            self.captures = captures;
            return;
        };
        let scrutiny = Scrutiny::No;
        let kept =
            Kept { notification: *notification, since, enter_ns, flags, pid, captures, verdict, scrutiny };
        self.begin_wait();
        let end = follow(shared, notification, Watch::Exec);
        match end {
            Ok(End::Program(stop)) => self.program(stop, &kept, is_kept),
            Ok(End::Returned(stop, result, signal)) => {
                if is_kept && !is_launching {
                    write_result(shared, &kept, result, RecordFlags::default());
                }
                self.done.counters.note_gone(stop.detach(signal).is_err());
            }
            Ok(End::CutShort) => {}
            Ok(End::Gone) => {
                self.done.counters.tracees_gone += 1;
                if is_kept && !is_launching {
                    write_result(shared, &kept, 0, RecordFlags::NO_RESULT);
                }
            }
            Err(Denied) => {
                shared.book().note_unseen_program(pid);
                shared.listener.let_go(notification.id);
                self.done.counters.calls_unfollowed += 1;
                // Whether it has failed is not known: the program tells of itself by what it does.
                shared.is_launching.store(false, Ordering::Release);
            }
        }
        shared.detach_rest();
        shared.book().leave(pid);
        shared.end_wait(self.slot);
        self.done.holds.note(Stage::Life, since);
        self.captures = kept.captures;
    }

    /// A thread runs a new program. It is now the leader of its process, and the only thread.
    fn program(&mut self, stop: Stopped, kept: &Kept, is_kept: bool) {
        let (shared, tid) = (self.shared, stop.tid());
        let former = stop.event_message().unwrap_or(tid);
        self.exec_captures.clear();
        let call = is_kept.then(|| {
            self.exec_captures.append(&kept.captures);
            kept.header()
        });
        let record = exec_record(call, (former, tid, kept.pid), &mut self.exec_captures);
        {
            let mut book = shared.book();
            book.recorder.begin_stop(kept.since);
            let hits = shared.wanted.name_hits_in(&self.exec_captures);
            book.record_exec(kept.pid, (&record, &self.exec_captures), hits);
        }
        shared.is_launching.store(false, Ordering::Release);
        self.done.counters.note_gone(stop.detach(0).is_err());
    }

    /// A call that makes a thread or a process.
    fn fork(&mut self, notification: &Notification, since: Instant) {
        let (tid, call) = (notification.tid, notification.call);
        let enter_ns = clock::wall_ns();
        let shared = self.shared;
        let flags = clone_flags(tid, &call);
        let is_thread = flags.is_some_and(|flags| flags & CLONE_THREAD != 0);
        let is_wanted = shared.wanted.interest().is_call_wanted(call.abi, call.nr, &call.arguments);
        self.count(if is_wanted { Verdict::Kept } else { Verdict::NumberUnwanted }, 0);
        // Of one that is gone the flags may be another thread's.
        if is_thread || !shared.listener.is_waiting(notification.id) {
            return self.let_go(notification, since);
        }
        let Some(pid) = shared.book().enter(tid) else {
            self.done.counters.tracees_gone += 1;
            return;
        };
        self.begin_wait();
        let captures = CaptureBuffer::with_capacity(0);
        let mut kept = Kept {
            notification: *notification,
            since,
            enter_ns,
            flags: RecordFlags::default(),
            pid,
            captures,
            verdict: Verdict::Kept,
            scrutiny: Scrutiny::No,
        };
        let (fork, next) = match follow_fork(shared, notification) {
            Ok((fork, next)) => (Ok(fork), next),
            Err(denied) => (Err(denied), None),
        };
        self.next = next;
        match fork {
            Ok(Fork::Made { parent, child, child_stop }) => {
                let made = (child, Pid(child.0));
                let record = seen_clone_record(clock::wall_ns(), &call, (tid, pid), made, flags);
                let sharing = sharing((tid, child), &call, flags);
                {
                    let mut book = shared.book();
                    book.recorder.begin_stop(since);
                    book.record_fork((pid, Pid(child.0)), sharing, &record);
                }
                if let Some(stop) = child_stop {
                    self.done.counters.note_gone(stop.detach(0).is_err());
                }
                self.done.counters.note_gone(parent.detach(0).is_err());
            }
            Ok(Fork::Failed(stop, signal)) => {
                if is_wanted {
                    kept.flags = kept.flags.with(RecordFlags::UNFOLLOWED);
                    write_result(shared, &kept, 0, RecordFlags::NO_RESULT);
                }
                self.done.counters.note_gone(stop.detach(signal).is_err());
            }
            Ok(Fork::Gone) => self.done.counters.tracees_gone += 1,
            Err(Denied) => {
                shared.listener.let_go(notification.id);
                self.done.counters.calls_unfollowed += 1;
            }
        }
        shared.detach_rest();
        shared.book().leave(pid);
        shared.end_wait(self.slot);
        self.done.holds.note(Stage::Life, since);
    }
}

/// Whether a new process shares its creator's memory. Both stand still.
fn sharing((creator, child): (Tid, Tid), call: &Call, flags: Option<u64>) -> Sharing {
    let is_awaited = flags.is_some_and(|flags| flags & u64::from(libc::CLONE_VFORK.cast_unsigned()) != 0)
        // clone3's flags lie in memory, which somebody may have changed since.
        && (name_of(call) != Some("clone3") || !procfs::has_other_threads(creator));
    match share_memory(creator, child) {
        Some(false) => Sharing::Nothing,
        Some(true) if is_awaited => Sharing::Awaited,
        Some(true) | None => Sharing::Memory,
    }
}

/// A thread that follows calls which may block, one after the other.
fn follow_blocking<M: ProducerMemory>(shared: &Shared<M>, first: Kept, more: &Receiver<Kept>) {
    let mut done = Done::default();
    let mut next = Some(first);
    while let Some(kept) = next {
        follow_kept(shared, kept, &mut done, |notification| follow_through(shared, notification));
        shared.blocked.fetch_sub(1, Ordering::AcqRel);
        next = more.recv().ok();
    }
    shared.add(&done);
}

/// Follows a call in the given way, and writes its record; gives its buffer back.
fn follow_kept<M: ProducerMemory>(
    shared: &Shared<M>,
    mut kept: Kept,
    done: &mut Done,
    follow: impl FnOnce(&Notification) -> Result<End, Denied>,
) -> CaptureBuffer {
    match follow(&kept.notification) {
        Ok(End::Returned(stop, result, signal)) => {
            if let Some(fd) = socket_of(&kept.notification.call, result) {
                let flags = capture_socket(kept.notification.tid, kept.pid, fd, &mut kept.captures);
                kept.flags = kept.flags.with(flags);
            }
            let found = finding(
                shared,
                (kept.notification.tid, kept.pid),
                (&kept.notification.call, kept.verdict),
                kept.scrutiny,
                (kept.enter_ns, result),
                (&kept.captures, &mut done.counters),
            );
            kept.flags = kept.flags.with(found.flags);
            kept.captures = found.captures.unwrap_or(kept.captures);
            if found.is_recorded {
                write_result(shared, &kept, result, RecordFlags::default());
            }
            done.counters.note_gone(stop.detach(signal).is_err());
        }
        Ok(End::CutShort) => {}
        Ok(End::Gone | End::Program(_)) => {
            done.counters.tracees_gone += 1;
            let is_changing = kept.scrutiny == Scrutiny::Changing;
            if is_changing {
                note_changing(&mut kept, done);
            }
            if is_changing || kept.verdict == Verdict::Kept {
                write_result(shared, &kept, 0, RecordFlags::NO_RESULT);
            }
        }
        Err(Denied) => return leave_unfollowed(shared, kept, done),
    }
    shared.detach_rest();
    done.holds.note(Stage::Kept, kept.since);
    shared.book().leave(kept.pid);
    kept.captures
}

/// What a call points to was seen to change, and what it has used will not be known.
fn note_changing(kept: &mut Kept, done: &mut Done) {
    done.counters.calls_mismatched += 1;
    kept.flags = kept.flags.with(RecordFlags::MISMATCH).with(RecordFlags::CHANGEABLE);
}

/// Lets a call go whose result cannot be learnt, and writes what is known of it.
fn leave_unfollowed<M: ProducerMemory>(shared: &Shared<M>, mut kept: Kept, done: &mut Done) -> CaptureBuffer {
    match kept.scrutiny {
        Scrutiny::Suspect => kept.flags = kept.flags.with(RecordFlags::CHANGEABLE),
        Scrutiny::Changing => note_changing(&mut kept, done),
        // It was only to be compared.
        Scrutiny::No | Scrutiny::Compared if kept.verdict != Verdict::Kept => {
            shared.listener.let_go(kept.notification.id);
            shared.book().leave(kept.pid);
            return kept.captures;
        }
        Scrutiny::No | Scrutiny::Compared => {}
    }
    done.counters.calls_unfollowed += 1;
    // This one fails for nobody but who is traced already, and readers pass over what has no result.
    let unknown = if asks_for_tracer(&kept.notification.call) {
        RecordFlags::default()
    } else {
        RecordFlags::NO_RESULT
    };
    write_result(shared, &kept, 0, unknown.with(RecordFlags::UNFOLLOWED));
    shared.listener.let_go(kept.notification.id);
    done.holds.note(Stage::Kept, kept.since);
    shared.book().leave(kept.pid);
    kept.captures
}

/// Writes the record of a call, whose thread stands still where it is not gone.
fn write_result<M: ProducerMemory>(shared: &Shared<M>, kept: &Kept, result: i64, flags: RecordFlags) {
    let mut record = RecordHeader { exit_ns: clock::wall_ns(), result, ..kept.header() };
    record.flags |= flags.0;
    let mut book = shared.book();
    book.recorder.begin_stop(kept.since);
    book.record_call(&record, kept.pid, &kept.captures);
}
