//! Two processes of creance, one of which outlives the other: the guardian forks the engine's process, and both see a page
//! in which the engine leaves what the guardian must know of it when it is dead, and what the workload's first process does
//! that the guardian has to do as well: stop and go on.
//!
//! The guardian has one thread, so that what it forks may do anything.
#![expect(unsafe_code, reason = "fork(2) and a page that two processes share have no safe wrapper")]

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Pid, page::SharedPage, procfs, seqpacket::Connection, signal};
use crate::limits;

/// How far the engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is getting ready. Until [`Self::Receiving`] the guardian answers calls in its place, if it has been there before.
    Starting,
    /// It could receive calls.
    Ready,
    /// It receives calls. The guardian says so.
    Receiving,
    /// The workload is over, and what the engine's process exits with is the workload's status.
    Over,
    /// A signal that asks us to end came when the workload's first process was gone: what is left of it ends with us.
    Quit,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Receiving, Self::Over, Self::Quit];
}

/// Zeroes are its start.
#[derive(Debug)]
#[repr(C)]
struct Page {
    stage: AtomicU32,
    root: AtomicI32,
    /// How the root has ended, if the guardian was told: its wait status, with [`IS_TOLD`].
    root_status: AtomicU64,
    unseen: AtomicU64,
    newest: AtomicU64,
    received: [AtomicU64; limits::WORKERS_MAX as usize],
    /// By which signal the root is stopped, 0 for none, then [`FOLLOWS`], and above that how many stops there were. The engine
    /// writes it.
    root_stop: AtomicU64,
    /// How often the guardian has begun or ended to be stopped: it is stopped, or about to be, when this is odd.
    guardian_stops: AtomicU64,
    /// The root is about to be stopped because the guardian is.
    is_following: AtomicBool,
}

/// The bit of `root_status` that says that the wait status below it is one.
const IS_TOLD: u64 = 1 << 32;

/// Bits of `root_stop` that hold the signal.
const SIGNAL_BITS: u64 = 0xff;
/// The bit of `root_stop` that says that this stop follows one of the guardian.
const FOLLOWS: u64 = 0x100;
/// The bits below the number of a stop in `root_stop`.
const NUMBER_SHIFT: u32 = 9;

/// A stop of the workload's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootStop {
    /// Which stop, counted from 1.
    pub number: u64,
    /// By which signal.
    pub signal: i32,
    /// It follows a stop of the guardian, and not the other way round.
    pub follows: bool,
}

/// The page. The engine's process may die at any moment: each field is true by itself.
#[derive(Debug)]
pub struct Board(SharedPage<Page>);

/// Ids on both sides of the newest that is known, which the engine may have received without having noted it: it was
/// killed in between.
const UNNOTED: u64 = 2 * limits::WORKERS_MAX as u64;

impl Board {
    /// A board at [`Stage::Starting`].
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new() -> io::Result<Self> {
        // SAFETY: zeroes are a page at its start, and all its fields are atomics.
        unsafe { SharedPage::map() }.map(Self)
    }

    /// How far the engine is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        // Acquire: pairs with the Release of `set_stage`, so that what was noted before is seen.
        let stage = self.0.stage.load(Ordering::Acquire);
        usize::try_from(stage).ok().and_then(|at| Stage::ALL.get(at).copied()).unwrap_or(Stage::Starting)
    }

    /// Says how far it is.
    pub fn set_stage(&self, stage: Stage) {
        let at = Stage::ALL.iter().position(|&other| other == stage).unwrap_or(0);
        self.0.stage.store(u32::try_from(at).unwrap_or(0), Ordering::Release);
    }

    /// The workload's first process; `None` before it is there.
    #[must_use]
    pub fn root(&self) -> Option<Pid> {
        Some(self.0.root.load(Ordering::Acquire)).filter(|&root| root != 0).map(Pid)
    }

    /// Notes the workload's first process.
    pub fn note_root(&self, root: Pid) {
        self.0.root.store(root.0, Ordering::Release);
    }

    /// The wait status (wait(2)) of the workload's first process, if the guardian has waited for it: it is noted before that
    /// process is gone.
    #[must_use]
    pub fn root_status(&self) -> Option<i32> {
        // Acquire: pairs with the Release of `note_root_status`. Who finds the process gone, by the kernel, finds this.
        let told = self.0.root_status.load(Ordering::Acquire);
        (told & IS_TOLD != 0).then_some(u32::try_from(told & !IS_TOLD).ok()?.cast_signed())
    }

    /// Notes how the workload's first process has ended.
    pub fn note_root_status(&self, status: i32) {
        self.0.root_status.store(IS_TOLD | u64::from(status.cast_unsigned()), Ordering::Release);
    }

    /// Calls that were let go while no engine could look at them.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        self.0.unseen.load(Ordering::Acquire)
    }

    /// Notes how many those are.
    pub fn set_unseen(&self, calls: u64) {
        self.0.unseen.store(calls, Ordering::Release);
    }

    // The guardian must not stop for a stop that is over, nor stay stopped when the root goes on, whatever happens at the same
    // time. So each says what it does before it looks what the other does, and the kernel's order of all four is one for
    // both: SeqCst.

    /// The stop that the root is in.
    #[must_use]
    pub fn root_stop(&self) -> Option<RootStop> {
        let stop = self.0.root_stop.load(Ordering::SeqCst);
        let signal = i32::try_from(stop & SIGNAL_BITS).unwrap_or(0);
        (signal != 0).then_some(RootStop {
            number: stop >> NUMBER_SHIFT,
            signal,
            follows: stop & FOLLOWS != 0,
        })
    }

    /// Notes that the root is stopped; tells whether that is new.
    fn note_root_stopped(&self, signal: i32) -> bool {
        let before = self.0.root_stop.load(Ordering::SeqCst);
        let signal = u64::try_from(signal).unwrap_or(0) & SIGNAL_BITS;
        if before & SIGNAL_BITS != 0 || signal == 0 {
            return false;
        }
        let number = (before >> NUMBER_SHIFT).wrapping_add(1);
        let follows = if self.0.is_following.swap(false, Ordering::SeqCst) { FOLLOWS } else { 0 };
        self.0.root_stop.store(number << NUMBER_SHIFT | follows | signal, Ordering::SeqCst);
        true
    }

    /// Notes that the root goes on; tells whether that is new.
    fn note_root_goes_on(&self) -> bool {
        let before = self.0.root_stop.load(Ordering::SeqCst);
        self.0.root_stop.store(before & !SIGNAL_BITS, Ordering::SeqCst);
        before & SIGNAL_BITS != 0
    }

    /// The stop of the guardian, if it is stopped or about to be.
    fn guardian_stop(&self) -> Option<u64> {
        Some(self.0.guardian_stops.load(Ordering::SeqCst)).filter(|stops| stops % 2 == 1)
    }

    /// Stops the calling process, the guardian, if the root is still in this stop. Returns when it has been continued.
    pub fn stop_with_root(&self, stop: RootStop) {
        self.0.guardian_stops.fetch_add(1, Ordering::SeqCst);
        if self.root_stop() == Some(stop) {
            signal::stop_by(stop.signal);
        }
        self.0.guardian_stops.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that the worker `slot` has received the call with this id, and must answer it.
    pub fn note_received(&self, slot: usize, id: u64) {
        if let Some(received) = self.0.received.get(slot) {
            // Relaxed: it is read when the engine is dead.
            received.store(id, Ordering::Relaxed);
            self.0.newest.store(id, Ordering::Relaxed);
        }
    }

    /// Notes that it has answered.
    pub fn note_answered(&self, slot: usize) {
        if let Some(received) = self.0.received.get(slot) {
            received.store(0, Ordering::Relaxed);
        }
    }

    /// The ids of all calls that the dead engine may have received and not answered.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> {
        let noted = self.0.received.iter().map(|id| id.load(Ordering::Relaxed)).filter(|&id| id != 0);
        let newest = self.0.newest.load(Ordering::Relaxed);
        noted.chain(newest.saturating_sub(UNNOTED)..=newest.saturating_add(UNNOTED))
    }
}

/// The guardian as the engine's process sees it: it does what the workload's first process does.
#[derive(Debug, Clone)]
pub struct Front {
    board: Arc<Board>,
    guardian: Pid,
    /// Rung when the guardian is to go on, for whoever sees to it that it does.
    bell: Arc<EventFd>,
}

impl Front {
    /// What the process `guardian` is to the engine's.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn new(board: Arc<Board>, guardian: Pid) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self { board, guardian, bell: Arc::new(EventFd::from_flags(flags)?) })
    }

    /// The page.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// What rings when [`Self::urge_on`] is to be called.
    #[must_use]
    pub fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// The root has been stopped by this signal: so is the guardian.
    pub fn root_stopped(&self, signal: i32) {
        if self.board.note_root_stopped(signal) {
            // It looks at the page then. If it is gone, we end as well.
            self.send(libc::SIGCHLD);
        }
    }

    /// The root goes on, or has ended: so does the guardian. Waits a moment until it does.
    ///
    /// Until the guardian runs again, the signal that it stopped by would stop it once more. So an engine that can hold the
    /// root lets it go only then: what the root shows may be answered by such a signal for the whole group.
    pub fn root_goes_on(&self) {
        if !self.board.note_root_goes_on() {
            return;
        }
        let Some(stop) = self.board.guardian_stop() else { return };
        self.send(libc::SIGCONT);
        // Only a full counter fails, and then it rings already.
        let _ = self.bell.write(1);
        let since = Instant::now();
        let bound = Duration::from_millis(limits::GUARDIAN_WAKE_MS_MAX);
        while self.board.guardian_stop() == Some(stop) && since.elapsed() < bound {
            thread::sleep(Duration::from_micros(limits::GUARDIAN_WAKE_LOOK_US));
        }
    }

    /// Sees to it that the guardian goes on: it may have been about to stop when [`Self::root_goes_on`] was called.
    pub fn urge_on(&self) {
        // Whatever it holds, it is looked at now.
        let _ = self.bell.read();
        let Some(stop) = self.board.guardian_stop() else { return };
        for _ in 0..limits::URGES_MAX {
            if self.board.guardian_stop() != Some(stop) || self.board.root_stop().is_some() {
                return;
            }
            self.send(libc::SIGCONT);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the guardian has been stopped by somebody, and not by itself because the root was.
    #[must_use]
    pub fn is_stopped_by_others(&self) -> bool {
        self.board.guardian_stop().is_none()
            && self.board.root_stop().is_none()
            && procfs::state(self.guardian.leader()) == Some(b'T')
    }

    /// Notes that the root is about to be stopped because the guardian is, or that it was to be and is continued now: then
    /// the kernel takes a signal to stop away that has not been obeyed (signal(7)).
    pub fn note_following(&self, is_following: bool) {
        self.board.0.is_following.store(is_following, Ordering::SeqCst);
    }

    fn send(&self, signal: i32) {
        // SAFETY: kill takes integers.
        unsafe { libc::kill(self.guardian.0, signal) };
    }
}

/// What the engine's process has of its guardian.
#[derive(Debug)]
pub struct Guarded {
    /// The page.
    pub board: Arc<Board>,
    /// Where the guardian waits for the listener.
    pub to_guardian: Connection,
    /// The guardian.
    pub guardian: Pid,
    /// Whether the workload goes on if both are dead.
    pub outlives_us: bool,
    /// The listener of a workload that another engine's process, now dead, has started.
    pub adopted: Option<OwnedFd>,
    /// What the guardian must be told of the root.
    pub front: Front,
}

impl Guarded {
    /// Whether creance is the first process of its PID namespace, mostly a container. Natively that would be the workload's
    /// first process, and its end that of all others (pid_namespaces(7)).
    #[must_use]
    pub const fn is_first_process(&self) -> bool {
        self.guardian.0 == 1
    }
}

/// Forks. `None` in the child.
///
/// # Errors
/// What fork(2) says; `Unsupported` if this process has several threads.
pub fn fork() -> io::Result<Option<Pid>> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: there is no other thread that could hold a lock in the child.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(Pid(pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes this process the parent of its orphaned descendants (prctl(2), `PR_SET_CHILD_SUBREAPER`).
pub fn adopt_orphans() {
    // SAFETY: this prctl takes integers only.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_told_once_until_the_root_goes_on() {
        let board = Board::new().unwrap();
        assert_eq!(board.root_stop(), None);
        assert!(board.note_root_stopped(libc::SIGTSTP));
        assert!(!board.note_root_stopped(libc::SIGSTOP));
        assert_eq!(board.root_stop(), Some(RootStop { number: 1, signal: libc::SIGTSTP, follows: false }));
        assert!(board.note_root_goes_on() && !board.note_root_goes_on());
        assert_eq!(board.root_stop(), None);
        board.0.is_following.store(true, Ordering::SeqCst);
        assert!(board.note_root_stopped(libc::SIGSTOP));
        assert_eq!(board.root_stop(), Some(RootStop { number: 2, signal: libc::SIGSTOP, follows: true }));
        assert!(board.note_root_goes_on() && board.note_root_stopped(libc::SIGSTOP));
        assert_eq!(board.root_stop(), Some(RootStop { number: 3, signal: libc::SIGSTOP, follows: false }));
        // A guardian does not stop for a stop that is over.
        board.stop_with_root(RootStop { number: 1, signal: libc::SIGSTOP, follows: false });
        assert_eq!(board.guardian_stop(), None);
    }

    #[test]
    fn whoever_looks_finds_every_call_that_was_not_answered() {
        let board = Board::new().unwrap();
        assert_eq!((board.stage(), board.root()), (Stage::Starting, None));
        assert_eq!(board.root_status(), None);
        for status in [0, libc::SIGKILL, 255 << 8, -1] {
            board.note_root_status(status);
            assert_eq!(board.root_status(), Some(status));
        }
        board.note_received(0, 1_000);
        board.note_received(1, 5_000);
        board.note_received(0, 90_000);
        board.note_answered(0);
        let unanswered: Vec<_> = board.unanswered().collect();
        assert!(unanswered.contains(&5_000) && unanswered.contains(&90_001) && !unanswered.contains(&1_000));
        for stage in Stage::ALL {
            board.set_stage(stage);
            assert_eq!(board.stage(), stage);
        }
    }
}
