//! What the threads of the notify engine share without a lock around all of it: the listener, what is wanted, and who
//! does what at the moment.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::eventfd::EventFd;

use super::{book::Book, worker::Done};
use crate::{
    engine::Wanted,
    limits,
    ring::ProducerMemory,
    sys::{
        Pid, Tid,
        guard::Guarded,
        notify::{Listener, Notification},
        ptrace,
        signal::Kick,
    },
};

/// How long who follows a fork has to hear that it has ended.
const FORK_KICK_GAP: Duration = Duration::from_micros(50);

/// A set of threads that is nearly always empty, and cheap to ask then: how often each was added to it.
#[derive(Debug, Default)]
pub(super) struct FewThreads {
    count: AtomicUsize,
    set: Mutex<HashMap<Tid, u32>>,
}

impl FewThreads {
    pub(super) fn add(&self, tid: Tid) {
        let mut set = lock(&self.set);
        *set.entry(tid).or_default() += 1;
        // Release: pairs with the Acquire in `times`. Whoever learns of the thread by the kernel, which orders more than
        // this, sees the number.
        self.count.store(set.len(), Ordering::Release);
    }

    pub(super) fn remove(&self, tid: Tid) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut set = lock(&self.set);
        let was_there = set.remove(&tid).is_some();
        self.count.store(set.len(), Ordering::Release);
        was_there
    }

    pub(super) fn times(&self, tid: Tid) -> u32 {
        if self.count.load(Ordering::Acquire) == 0 {
            return 0;
        }
        lock(&self.set).get(&tid).copied().unwrap_or(0)
    }
}

/// Threads that make a process, and who follows each. A fork that fails, or makes a child that nobody is to trace, ends
/// without a word: then it is the next call of the thread that tells of it.
#[derive(Debug, Default)]
pub(super) struct Forks {
    count: AtomicUsize,
    set: Mutex<HashMap<Tid, (Tid, Option<Notification>)>>,
}

impl Forks {
    /// The calling thread follows the fork of this one.
    pub(super) fn begin(&self, tid: Tid) {
        let follower = Tid(nix::unistd::gettid().as_raw());
        let mut set = lock(&self.set);
        set.insert(tid, (follower, None));
        // Release: as in `FewThreads::add`.
        self.count.store(set.len(), Ordering::Release);
    }

    /// Before the thread is let go. Gives its next call if nobody has taken it: it is that of another thread, which has
    /// taken the id.
    pub(super) fn end(&self, tid: Tid) -> Option<Notification> {
        let mut set = lock(&self.set);
        let (_, next) = set.remove(&tid)?;
        self.count.store(set.len(), Ordering::Release);
        next
    }

    /// The thread makes another call, of this notification: tells who must answer it.
    fn hand_over(&self, notification: &Notification) -> Option<Tid> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut set = lock(&self.set);
        let (follower, next) = set.get_mut(&notification.tid)?;
        *next = Some(*notification);
        Some(*follower)
    }

    /// Takes the next call of the thread, if it is in one.
    pub(super) fn take_next(&self, tid: Tid) -> Option<Notification> {
        lock(&self.set).get_mut(&tid).and_then(|(_, next)| next.take())
    }

    fn has_next(&self, tid: Tid) -> bool {
        lock(&self.set).get(&tid).is_some_and(|(_, next)| next.is_some())
    }
}

/// What one worker does, for whoever watches that it gets on.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The thread; 0 for a slot that is not used.
    tid: AtomicU64,
    /// Since when it has been waiting for a call to return: nanoseconds since [`Shared::start`], 0 if it does not.
    waits_since: AtomicU64,
}

/// See the module.
pub(super) struct Shared<M: ProducerMemory> {
    pub(super) listener: Listener,
    pub(super) wanted: Wanted,
    /// Whose turn it is to receive. The kernel wakes everybody who waits at the listener, for every call, and on the CPU of
    /// the thread that calls; so one waits there, and the others for their turn.
    turn: Mutex<()>,
    /// What this process has of its guardian, if it has one.
    pub(super) guarded: Option<Guarded>,
    book: Mutex<Book<M>>,
    /// The workload's first process.
    pub(super) root: Pid,
    /// It is our child, and not that of an engine's process that is dead.
    pub(super) is_child: bool,
    /// How it ended: told to whoever was attached to it then, else to who waits for it.
    pub(super) root_status: OnceLock<i32>,
    /// It has not become the workload yet.
    pub(super) is_launching: AtomicBool,
    /// Threads whose call begins anew: its notification has been looked at before.
    pub(super) restarting: FewThreads,
    /// Threads whose call blocked although it should not.
    pub(super) blocking: FewThreads,
    /// Threads whose call was to be followed through, but a signal came before it.
    pub(super) false_starts: FewThreads,
    /// Threads whose fork is followed.
    pub(super) forks: Forks,
    /// Calls that block and are followed.
    pub(super) blocked: AtomicUsize,
    /// One of so many dropped calls is compared; 0 for none.
    pub(super) verify_share: u32,
    /// There are processes of which each call is followed: the book knows which.
    has_suspects: AtomicBool,
    /// The workload is over, or the engine has failed: every thread ends.
    is_over: AtomicBool,
    failure: Mutex<Option<io::Error>>,
    done: Mutex<Done>,
    pub(super) kick: Kick,
    start: Instant,
    slots: Vec<Slot>,
    /// Wakes who watches the slots, who sleeps while nobody waits.
    alarm: EventFd,
    is_alarmed: AtomicBool,
}

impl<M: ProducerMemory> Shared<M> {
    pub(super) fn new(
        (listener, wanted, guarded): (Listener, Wanted, Option<Guarded>),
        (root, is_child): (Pid, bool),
        book: Book<M>,
        kick: Kick,
        alarm: EventFd,
    ) -> Self {
        Self {
            listener,
            wanted,
            turn: Mutex::new(()),
            book: Mutex::new(book),
            guarded,
            root,
            is_child,
            is_launching: AtomicBool::new(is_child),
            root_status: OnceLock::new(),
            restarting: FewThreads::default(),
            blocking: FewThreads::default(),
            false_starts: FewThreads::default(),
            forks: Forks::default(),
            blocked: AtomicUsize::new(0),
            verify_share: 0,
            has_suspects: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            failure: Mutex::new(None),
            done: Mutex::new(Done::default()),
            kick,
            start: Instant::now(),
            slots: std::iter::repeat_with(Slot::default).take(usize::from(limits::WORKERS_MAX)).collect(),
            alarm,
            is_alarmed: AtomicBool::new(false),
        }
    }

    /// The same, with one of so many dropped calls compared.
    pub(super) fn with_verify_share(self, verify_share: u32) -> Self {
        Self { verify_share, ..self }
    }

    /// Whether there are suspects, or were a moment ago.
    pub(super) fn has_suspects(&self) -> bool {
        // Acquire: pairs with the Release in `suspect`. A thread whose call was let go after that is seen as a suspect's.
        self.has_suspects.load(Ordering::Acquire)
    }

    /// Whether each call of this process is followed.
    pub(super) fn is_suspect(&self, pid: Pid) -> bool {
        if !self.has_suspects() {
            return false;
        }
        let book = self.book();
        // Under the lock under which it is set.
        self.has_suspects.store(book.suspects() > 0, Ordering::Release);
        book.is_suspect(pid)
    }

    /// A process, which the book knows, has used something else than what it had shown.
    pub(super) fn suspect(&self, pid: Pid) {
        let mut book = self.book();
        book.suspect(pid);
        self.has_suspects.store(book.suspects() > 0, Ordering::Release);
    }

    /// Waits until it is the caller's turn to receive.
    pub(super) fn take_turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book<M>> {
        lock(&self.book)
    }

    /// Whether this call is left to whoever follows the fork that the thread made before, which has ended: he lets go of
    /// the thread, and it begins the call anew.
    pub(super) fn is_after_fork(&self, notification: &Notification) -> bool {
        let Some(follower) = self.forks.hand_over(notification) else { return false };
        // A kick is lost on who does not wait yet. If all are, the watch over the workers makes up for them.
        for _ in 0..limits::FORK_KICKS_MAX {
            self.kick.kick(follower);
            std::thread::sleep(FORK_KICK_GAP);
            if !self.forks.has_next(notification.tid) {
                break;
            }
        }
        true
    }

    /// A thread that was attached to has ended, with this wait status (wait(2)).
    pub(super) fn note_end(&self, tid: Tid, status: i32) {
        if tid == self.root.leader() {
            self.note_root_status(status);
        }
        self.book().note_status(tid, status);
    }

    /// The workload's first process has ended, with this wait status (wait(2)). The first to tell is right: later its id may
    /// be another's.
    pub(super) fn note_root_status(&self, status: i32) {
        let _ = self.root_status.set(status);
    }

    /// Lets go of what the calling thread is still attached to: see [`ptrace::detach_rest`].
    pub(super) fn detach_rest(&self) {
        ptrace::detach_rest(|tid, status| self.note_end(tid, status));
    }

    /// What is left when every thread has ended: also what all have done, and why the engine failed if it did.
    pub(super) fn into_parts(self) -> (Book<M>, Done, Option<io::Error>) {
        (into_inner(self.book), into_inner(self.done), into_inner(self.failure))
    }

    /// Adds what a thread that ends has done.
    pub(super) fn add(&self, done: &Done) {
        lock(&self.done).add(done);
    }

    /// Ends every thread, because of this error if it is the first.
    pub(super) fn fail(&self, error: io::Error) {
        lock(&self.failure).get_or_insert(error);
        self.is_over.store(true, Ordering::Release);
        self.ring_alarm();
    }

    /// Ends every thread: the workload is over.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(super) const fn alarm(&self) -> &EventFd {
        &self.alarm
    }

    fn ring_alarm(&self) {
        // Only a full counter fails, and then it is readable already.
        let _ = nix::unistd::write(self.alarm.as_fd(), &1_u64.to_ne_bytes());
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Notes that the worker of this slot runs as this thread.
    pub(super) fn occupy(&self, slot: usize, tid: Tid) {
        if let Some(slot) = self.slots.get(slot) {
            slot.tid.store(u64::from(tid.as_u32()), Ordering::Release);
        }
    }

    /// Notes that the worker of this slot waits from now on for a call to return, and sees to it that somebody watches.
    pub(super) fn begin_wait(&self, slot: usize) {
        if let Some(slot) = self.slots.get(slot) {
            slot.waits_since.store(self.now_ns(), Ordering::Release);
            if !self.is_alarmed.swap(true, Ordering::AcqRel) {
                self.ring_alarm();
            }
        }
    }

    pub(super) fn end_wait(&self, slot: usize) {
        if let Some(slot) = self.slots.get(slot) {
            slot.waits_since.store(0, Ordering::Release);
        }
    }

    /// Interrupts the workers that have waited for too long; tells how many wait, and of those how many for too long.
    pub(super) fn look_at_waiters(&self) -> (usize, usize) {
        let (now, bound) = (self.now_ns(), limits::STALL_MS * 1_000_000);
        let mut found = (0, 0);
        for slot in &self.slots {
            let since = slot.waits_since.load(Ordering::Acquire);
            if since == 0 {
                continue;
            }
            found.0 += 1;
            if now.saturating_sub(since) > bound {
                found.1 += 1;
                self.kick_slot(slot);
            }
        }
        found
    }

    /// Interrupts every worker.
    pub(super) fn kick_all(&self) {
        self.slots.iter().for_each(|slot| self.kick_slot(slot));
    }

    fn kick_slot(&self, slot: &Slot) {
        let tid = i32::try_from(slot.tid.load(Ordering::Acquire)).unwrap_or(0);
        if tid != 0 {
            self.kick.kick(Tid(tid));
        }
    }

    /// Nobody waits any more, so that nobody has to be watched. Tells whether that is still so.
    pub(super) fn rest(&self) -> bool {
        self.is_alarmed.store(false, Ordering::SeqCst);
        self.slots.iter().all(|slot| slot.waits_since.load(Ordering::SeqCst) == 0)
    }
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing that is done under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
