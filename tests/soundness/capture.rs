//! Runs a workload with everything recorded, in this process.

use std::{
    ffi::{CString, OsString},
    os::unix::ffi::OsStrExt,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use creance::{
    engine::{
        Wanted,
        ptrace::{PtraceEngine, Substitute},
    },
    pipeline::{self, Destination, Plan, Report},
    sink::Sink,
    sys::{
        Pid,
        launch::{self, Image},
    },
};

/// No record may be lost, so that a stop is held for as long as it takes.
const HOLD_MAX: Duration = Duration::from_secs(300);

const RING_BYTES: usize = 64 << 20;

/// Runs a program, by its path, to its end. `on_start` gets its process before it runs.
pub(crate) fn capture(
    command: &[OsString],
    wanted: Wanted,
    sink: &mut dyn Sink,
    on_start: impl FnOnce(Pid),
) -> Result<Report> {
    let text = |word: &OsString| CString::new(word.as_bytes());
    let argv = command.iter().map(text).collect::<Result<Vec<_>, _>>().context("a NUL in the command")?;
    let program = argv.first().context("a command has a program")?.clone();
    let image = Image::new(program, argv, launch::environment());
    let plan = Plan {
        image,
        wanted,
        workers: None,
        substitute: Substitute::default(),
        verify_share: 0,
        is_unfiltered: false,
        guarded: None,
        hold_max: HOLD_MAX,
    };
    let report = pipeline::capture::<PtraceEngine>(plan, Destination::Sink(sink, RING_BYTES), on_start)?;
    let consumed = report.consumed.as_ref().context("the records are read here")?;
    ensure!(consumed.sink_error.is_none(), "writing the records: {:?}", consumed.sink_error);
    let lost = report.outcome.recorded.records_lost;
    ensure!(lost == 0, "{lost} records were lost");
    Ok(report)
}
