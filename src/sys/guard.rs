//! Two processes of creance, one of which outlives the other: the guardian forks the engine's process, and both see a page
//! in which the engine leaves what the guardian must know of it when it is dead.
//!
//! The guardian has one thread, so that what it forks may do anything.
#![expect(unsafe_code, reason = "fork(2) and a page that two processes share have no safe wrapper")]

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
};

use super::{Pid, page::SharedPage, seqpacket::Connection};
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
}

impl Stage {
    const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Receiving, Self::Over];
}

/// Zeroes are its start.
#[derive(Debug)]
#[repr(C)]
struct Page {
    stage: AtomicU32,
    root: AtomicI32,
    unseen: AtomicU64,
    newest: AtomicU64,
    received: [AtomicU64; limits::WORKERS_MAX as usize],
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

    /// Calls that were let go while no engine could look at them.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        self.0.unseen.load(Ordering::Acquire)
    }

    /// Notes how many those are.
    pub fn set_unseen(&self, calls: u64) {
        self.0.unseen.store(calls, Ordering::Release);
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
    fn whoever_looks_finds_every_call_that_was_not_answered() {
        let board = Board::new().unwrap();
        assert_eq!((board.stage(), board.root()), (Stage::Starting, None));
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
