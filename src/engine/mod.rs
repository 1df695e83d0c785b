//! Engines: they hold the workload's threads at the calls that matter and copy raw facts into the ring.
//!
//! An engine formats nothing, logs nothing and interprets nothing: that is the decoder's work, in the consumer's
//! process. The two never import each other. All engines produce the same records; which one runs is a detail
//! behind [`Engine`].

mod capture;
mod process;
pub mod ptrace;
mod recorder;
pub mod snapshot;
mod socket;
pub(crate) mod told;
mod wanted;

use std::{io, time::Instant};

pub use process::name_in;
pub use recorder::{FullRing, Recorder};
pub use wanted::{Verdict, Wanted};

use hdrhistogram::Histogram;

use crate::{
    counters::{EngineCounters, RecorderCounters},
    filter::CompileError,
    limits,
    ring::ProducerMemory,
    sys::{
        Pid,
        launch::{ChildFailure, FilterState, Image},
        ptrace::PtraceError,
    },
};

/// A way to capture a workload.
///
/// An engine belongs to the thread that launches it: [`Engine::run`] must be called there.
pub trait Engine: Sized {
    /// Starts the workload's first process and holds it before its exec.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing of the workload has run then.
    fn launch(image: &Image, wanted: Wanted) -> Result<Self, LaunchError>;

    /// The workload's first process.
    fn root(&self) -> Pid;

    /// Lets the workload go and captures it until the last of its processes has ended.
    ///
    /// # Errors
    /// [`EngineError`] if the kernel stops telling us about the workload.
    fn run<M: ProducerMemory>(self, recorder: Recorder<M>) -> Result<Outcome, EngineError>;
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
}

/// The engine had to stop before the workload's end. The workload dies with the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// waitpid(2) failed.
    #[error("waiting for the workload's threads")]
    Wait(#[source] io::Error),
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
    /// How long each stop was held, in nanoseconds: from the moment that the engine knew of it until the thread was
    /// let go.
    pub hold_ns: Histogram<u64>,
    /// When the last process had ended.
    pub ended: Instant,
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
