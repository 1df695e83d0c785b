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
mod worker;

use std::{
    os::fd::OwnedFd,
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
        launch::{Child, FilterState, Image, Listening},
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
    child: Child,
    wanted: Wanted,
    setup: Setup,
}

impl Engine for NotifyEngine {
    fn launch(image: &Image, wanted: Wanted, setup: Setup) -> Result<Self, LaunchError> {
        // If it is ignored, nobody learns how the first process ends.
        signal::reset(libc::SIGCHLD);
        // The first look-up builds the tables, which no stop should wait for.
        let _ = abi::signature_of(abi::Abi::NATIVE, SyscallNr(0));
        let program = wanted.notifying_filter().map_err(LaunchError::Filter)?;
        let child =
            Child::spawn(image, program.instructions(), Listening::Answering).map_err(LaunchError::Spawn)?;
        Ok(Self { child, wanted, setup })
    }

    fn root(&self) -> Pid {
        self.child.pid()
    }

    fn run<M: ProducerMemory + Send + Sync>(self, recorder: Recorder<M>) -> Result<Outcome, EngineError> {
        let Self { child, wanted, setup: Setup { population, workers } } = self;
        let root = child.pid();
        let ends = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(from_errno)?);
        let mut book = Book::new(recorder, population, Arc::clone(&ends));
        book.admit(root);
        child.open_gate();
        let (filter, Some(listener)) = await_listener(&child) else {
            let root_status = keeper::await_end(root, || None);
            return Ok(outcome(&child, None, root_status, Done::default(), book));
        };
        let listener = Listener::new(listener).map_err(EngineError::Listener)?;
        listener.set_sync_wake_up(true);
        let kick = Kick::new().map_err(EngineError::Wait)?;
        let alarm =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(from_errno)?;
        let shared = Shared::new((listener, wanted, root), book, kick, alarm);
        let root_status = thread::scope(|scope| Keeper::new(&shared, ends, scope).run(usize::from(workers.unwrap_or(2))));
        let (book, done, failure) = shared.into_parts();
        let outcome = outcome(&child, filter, root_status.map_err(EngineError::Wait)?, done, book);
        failure.map_or(Ok(outcome), |error| Err(EngineError::Listener(error)))
    }
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
        if procfs::status_before_wait(child.pid()).is_some() {
            return (None, None);
        }
        thread::sleep(LAUNCH_POLL);
    }
}

/// Tells what is still to be told.
fn outcome<M: ProducerMemory>(
    child: &Child,
    filter: Option<FilterState>,
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
        failure: child.failure(),
        filter,
        counters,
        recorded: book.recorder.finish(),
        holds: done.holds,
        ended,
    }
}
