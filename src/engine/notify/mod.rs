//! The notify engine: seccomp user notification, assisted by ptrace for as long as one call takes.
//!
//! The life of one call: the filter reports it to the listener, and its thread waits. A worker receives it and looks at
//! what its arguments point to. If no rule can match, the worker answers that the call may go on, and that was all. Else
//! the thread is attached to for this call alone, and its result read when it returns (`follow.rs`). In between nobody
//! is attached to: no stop per signal, thread or fork, and debuggers work inside the workload.
//!
//! Processes come from the calls that make them and from those that start programs, all of which are trapped; their
//! ends come from pidfds. Threads cost nothing: one is told of when a record of it is written.
//!
//! It needs `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, Linux 5.19: without it any signal takes a call away from whoever
//! looks at it, and one that comes often enough for ever.

mod book;
mod follow;
mod keeper;
mod shared;
mod verify;
mod worker;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags},
        eventfd::{EfdFlags, EventFd},
    },
};

use self::{book::Book, keeper::Keeper, shared::Shared, worker::Done};
use super::{Engine, EngineError, LaunchError, Outcome, Recorder, Setup, Wanted};
use crate::{
    abi::{self, SyscallNr},
    ring::ProducerMemory,
    sys::{
        Pid,
        cpu::CpuBudget,
        guard::{self, Guarded, Stage},
        launch::{Child, ChildFailure, FilterState, Image, Listening},
        notify::Listener,
        procfs,
        signal::{self, Kick},
    },
};

/// How often we look whether the first process has put its filter on.
const LAUNCH_POLL: Duration = Duration::from_micros(50);

/// A workload whose calls are told by seccomp user notification.
#[derive(Debug)]
pub struct NotifyEngine {
    workload: Workload,
    wanted: Wanted,
    setup: Setup,
}

/// Where the workload comes from.
#[derive(Debug)]
enum Workload {
    /// We start it.
    Child(Child),
    /// Another process, now dead, has started it.
    Adopted {
        /// Its first process.
        root: Pid,
        /// The listener of its filter.
        listener: OwnedFd,
    },
}

impl Engine for NotifyEngine {
    fn launch(image: &Image, wanted: Wanted, mut setup: Setup) -> Result<Self, LaunchError> {
        // If it is ignored, nobody learns how the first process ends.
        signal::reset(libc::SIGCHLD);
        // So that what the workload leaves behind stays ours to trace.
        guard::adopt_orphans();
        // The first look-up builds the tables, which no stop should wait for.
        let _ = abi::signature_of(abi::Abi::NATIVE, SyscallNr(0));
        let adopted = setup.guarded.as_mut().and_then(|guarded| {
            Some(Workload::Adopted { root: guarded.board.root()?, listener: guarded.adopted.take()? })
        });
        let workload = match adopted {
            Some(adopted) => adopted,
            None => {
                let program = wanted.notifying_filter().map_err(LaunchError::Filter)?;
                let child = Child::spawn(image, program.instructions(), Listening::Answering);
                Workload::Child(child.map_err(LaunchError::Spawn)?)
            }
        };
        Ok(Self { workload, wanted, setup })
    }

    fn root(&self) -> Pid {
        match &self.workload {
            Workload::Child(child) => child.pid(),
            Workload::Adopted { root, .. } => *root,
        }
    }

    fn run<M: ProducerMemory + Send + Sync>(self, recorder: Recorder<M>) -> Result<Outcome, EngineError> {
        let root = self.root();
        let Self { workload, wanted, setup } = self;
        let Setup { population, workers, guarded, verify_share, .. } = setup;
        let ends = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(from_errno)?);
        let mut book = Book::new(recorder, population, Arc::clone(&ends));
        let (child, filter, listener) = match workload {
            Workload::Child(child) => {
                book.admit(root);
                child.open_gate();
                let (filter, listener) = await_listener(&child);
                (Some(child), filter, listener)
            }
            Workload::Adopted { listener, .. } => (None, None, Some(listener)),
        };
        let failure = || child.as_ref().and_then(Child::failure);
        let Some(listener) = listener else {
            let root_status = keeper::await_end(root, || None);
            return Ok(outcome((failure(), filter), root_status, Done::default(), book));
        };
        let listener = Listener::new(listener).map_err(EngineError::Listener)?;
        // Without it a worker only wakes later.
        let _ = listener.set_sync_wake_up(true);
        if let Some(guarded) = &guarded {
            entrust(guarded, root, &listener, &mut book).map_err(EngineError::Listener)?;
        }
        let workers = workers.map_or_else(|| CpuBudget::of_this_process().parallelism().max(2), usize::from);
        let kick = Kick::new().map_err(EngineError::Wait)?;
        let alarm =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(from_errno)?;
        let shared = Shared::new((listener, wanted, guarded), (root, child.is_some()), book, kick, alarm)
            .with_verify_share(verify_share);
        let root_status = thread::scope(|scope| Keeper::new(&shared, ends, scope).run(workers));
        let (book, done, failed) = shared.into_parts();
        let outcome = outcome((failure(), filter), root_status.map_err(EngineError::Wait)?, done, book);
        failed.map_or(Ok(outcome), |error| Err(EngineError::Listener(error)))
    }
}

/// Gives the guardian what it needs when we are dead. Of a workload that is adopted it then stops to answer the calls, and
/// what runs of it and what was not seen is told.
fn entrust<M: ProducerMemory>(
    guarded: &Guarded,
    root: Pid,
    listener: &Listener,
    book: &mut Book<M>,
) -> io::Result<()> {
    if guarded.board.root().is_none() {
        guarded.to_guardian.send(b"listener", &[listener.as_fd()])?;
        guarded.board.note_root(root);
        guarded.board.set_stage(Stage::Receiving);
        return Ok(());
    }
    guarded.board.set_stage(Stage::Ready);
    while guarded.board.stage() == Stage::Ready {
        thread::sleep(LAUNCH_POLL);
    }
    // What the dead engine was about to tell is lost as well.
    book.recorder.begin_after_gap(guarded.board.unseen().max(1));
    let own = Pid(nix::unistd::getpid().as_raw());
    for pid in procfs::descendants(guarded.guardian) {
        if pid != own {
            book.adopt(pid);
        }
    }
    Ok(())
}

fn from_errno(errno: Errno) -> EngineError {
    EngineError::Wait(errno.into())
}

/// Waits until the first process has put its filter on. There is no listener if it could not.
fn await_listener(child: &Child) -> (Option<FilterState>, Option<OwnedFd>) {
    loop {
        if let Some(state) = child.filter_state() {
            return (Some(state), child.take_listener());
        }
        // Killed before it came to that.
        if procfs::awaits_wait(child.pid()) {
            return (None, None);
        }
        thread::sleep(LAUNCH_POLL);
    }
}

/// Tells what is still to be told.
fn outcome<M: ProducerMemory>(
    (failure, filter): (Option<ChildFailure>, Option<FilterState>),
    root_status: i32,
    done: Done,
    mut book: Book<M>,
) -> Outcome {
    let ended = Instant::now();
    book.recorder.begin_end(ended);
    book.finish();
    let mut counters = done.counters;
    counters.tracees_created += book.created;
    Outcome {
        root_status,
        failure,
        filter,
        counters,
        recorded: book.recorder.finish(),
        holds: done.holds,
        ended,
    }
}
