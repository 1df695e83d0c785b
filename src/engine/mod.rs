//! Engines: they hold the workload's threads at the calls that matter and copy raw facts into the ring.
//!
//! An engine formats nothing, logs nothing and interprets nothing: that is the decoder's work, in the consumer's
//! process. The two never import each other. All engines produce the same records; which one runs is a detail
//! behind [`Engine`].

pub mod advice;
mod calls;
mod capture;
pub mod choice;
mod direct;
pub mod notify;
mod process;
pub mod ptrace;
mod recorder;
pub mod snapshot;
mod socket;
pub(crate) mod told;
mod truth;
mod wanted;

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub use process::name_in;
pub use recorder::{FullRing, Recorder};
pub use wanted::{Verdict, Wanted};

use hdrhistogram::Histogram;

use self::ptrace::AttachError;
use crate::{
    counters::{EngineCounters, RecorderCounters},
    filter::CompileError,
    limits,
    ring::ProducerMemory,
    sys::{
        Pid,
        guard::Guarded,
        launch::{ChildFailure, FilterState, Image},
        ptrace::PtraceError,
    },
};

/// The processes of a workload that run, as its engine knows them: all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Population(Arc<Mutex<HashSet<Pid>>>);

impl Population {
    /// Those that run now.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        self.lock().iter().copied().collect()
    }

    /// Whether this process is one of them.
    #[must_use]
    pub fn has(&self, pid: Pid) -> bool {
        self.lock().contains(&pid)
    }

    fn add(&self, pid: Pid) {
        self.lock().insert(pid);
    }

    fn remove(&self, pid: Pid) {
        self.lock().remove(&pid);
    }

    /// Nothing that is done under the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an engine is given besides what is wanted.
#[derive(Debug, Default)]
pub struct Setup {
    /// Which processes run: the engine keeps it up to date.
    pub population: Population,
    /// How many threads answer notifications, in an engine that has several; `None` for as many as are of use.
    pub workers: Option<u16>,
    /// For which calls the ptrace engine replaces arguments by copies.
    pub substitute: ptrace::Substitute,
    /// One of so many calls that triage drops is followed by the notify engine, where another thread could have changed what
    /// was looked at; 0 for none.
    pub verify_share: u32,
    /// No filter is put on the workload: each of its calls stops. Only the ptrace engine can do that.
    pub is_unfiltered: bool,
    /// What this process has of its guardian, if it has one.
    pub guarded: Option<Guarded>,
}

/// A way to capture a workload.
///
/// An engine belongs to the thread that launches it: [`Engine::run`] must be called there.
pub trait Engine: Sized {
    /// Starts the workload's first process and holds it before its exec.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing of the workload has run then.
    fn launch(image: &Image, wanted: Wanted, setup: Setup) -> Result<Self, LaunchError>;

    /// The workload's first process.
    fn root(&self) -> Pid;

    /// Lets the workload go and captures it until the last of its processes has ended.
    ///
    /// # Errors
    /// [`EngineError`] if the kernel stops telling us about the workload.
    fn run<M: ProducerMemory + Send + Sync>(self, recorder: Recorder<M>) -> Result<Outcome, EngineError>;
}

/// The workload could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The filter could not be compiled.
    #[error("compiling the filter")]
    Filter(#[source] CompileError),
    /// The first process could not be made.
    #[error("starting the workload's first process")]
    Spawn(#[source] io::Error),
    /// The first process could not be traced.
    #[error("tracing the workload's first process (is ptrace permitted here? see kernel.yama.ptrace_scope)")]
    Seize(#[source] PtraceError),
    /// A process that runs already could not be attached to.
    #[error("attaching")]
    Attach(#[from] AttachError),
}

/// The engine had to stop before the workload's end. The workload dies with the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// waitpid(2) or what serves in its place failed.
    #[error("waiting for the workload's threads")]
    Wait(#[source] io::Error),
    /// The listener of the filter gives nothing more.
    #[error("receiving the workload's calls")]
    Listener(#[source] io::Error),
}

/// How a workload ended, and what it took to watch it.
#[derive(Debug)]
pub struct Outcome {
    /// The wait status (wait(2)) of the workload's first process.
    pub root_status: i32,
    /// Why the first process never became the workload.
    pub failure: Option<ChildFailure>,
    /// How the filter was put on; `None` if it was not.
    pub filter: Option<FilterState>,
    /// What the engine did.
    pub counters: EngineCounters,
    /// What it recorded.
    pub recorded: RecorderCounters,
    /// How long stops were held.
    pub holds: Holds,
    /// When the last process had ended.
    pub ended: Instant,
}

/// What a thread is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A call that does not matter, once it was looked at.
    Dropped,
    /// A call that may matter. The ptrace engine holds its thread twice, before the call and after it; the notify engine
    /// counts from its beginning to its end.
    Kept,
    /// Another program, thread or process, or a signal.
    Life,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dropped, Self::Kept, Self::Life];
}

/// How long stops were held, in nanoseconds, by what for: from the moment that the engine knew of a stop until the thread
/// was let go.
#[derive(Debug)]
pub struct Holds([Histogram<u64>; Stage::ALL.len()]);

impl Default for Holds {
    fn default() -> Self {
        Self(std::array::from_fn(|_| histogram_ns()))
    }
}

impl Holds {
    /// The times of one stage.
    #[must_use]
    pub const fn of(&self, stage: Stage) -> &Histogram<u64> {
        let [dropped, kept, life] = &self.0;
        match stage {
            Stage::Dropped => dropped,
            Stage::Kept => kept,
            Stage::Life => life,
        }
    }

    /// Notes a stop that has been known `since` then and ends now.
    fn note(&mut self, stage: Stage, since: Instant) {
        let [dropped, kept, life] = &mut self.0;
        let times = match stage {
            Stage::Dropped => dropped,
            Stage::Kept => kept,
            Stage::Life => life,
        };
        times.saturating_record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds the times of another thread.
    fn add(&mut self, other: &Self) {
        for (into, from) in self.0.iter_mut().zip(&other.0) {
            // All have the same bounds.
            let _ = into.add(from);
        }
    }
}

/// An empty histogram of times in nanoseconds with two significant digits. Its size does not change afterwards.
#[must_use]
pub fn histogram_ns() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "the bounds are constants, and a test makes one")]
    Histogram::new_with_bounds(1, limits::HISTOGRAM_NS_MAX, 2).expect("constant bounds are in order")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_histogram_takes_the_longest_time() {
        let mut histogram = super::histogram_ns();
        histogram.record(crate::limits::HISTOGRAM_NS_MAX).unwrap();
        histogram.saturating_record(u64::MAX);
        assert_eq!(histogram.len(), 2);
    }
}
