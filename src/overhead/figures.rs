//! The figures of one run of the overhead benchmark, as they stand in its JSON file and in its reports.
//!
//! Nothing is computed here that the JSON file does not hold: a report can be made again from the file alone.

use serde::{Deserialize, Serialize};

/// All figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Version of creance, as Cargo knows it.
    pub version: String,
    /// The day of the run, UTC: `2026-11-29`.
    pub date: String,
    /// Where it ran.
    pub machine: Machine,
    /// Rounds of each row and way. A spread is of so many runs, but for those that failed.
    pub rounds: u32,
    /// The ways in which work was done, native first.
    pub ways: Vec<Way>,
    /// The rows, in the order in which they are shown.
    pub rows: Vec<Row>,
    /// How a cost grows with something.
    pub curves: Vec<Curve>,
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// CPUs that the run may use (sched_getaffinity(2)).
    pub cpus: u32,
    /// What a quota of the control group leaves of them, in thousandths of a CPU, where there is one.
    pub quota_millicpus: Option<u32>,
    /// `uname -r`.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The share of the CPUs that others took meanwhile, in per cent.
    pub foreign_percent: Option<Spread>,
}

/// A way to do the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// What the command line calls it: `native`, `ptrace`, `notify-all`, `strace`.
    pub id: String,
    /// For people: `ptrace, stable rules`.
    pub title: String,
    /// The command that comes before the work's own, without the paths of this machine. Empty: none.
    pub prefix: String,
}

/// Which of the three kinds of rows it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// One thing in a loop.
    Micro,
    /// A real program.
    Macro,
}

/// A kind of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What the command line calls it: `files`, `nginx-static`.
    pub id: String,
    /// For people: `create and delete a file`.
    pub title: String,
    /// Its kind.
    pub group: Group,
    /// How much work a run does, in the unit that `native_us` is about: 65,536 files.
    pub units: u64,
    /// Native wall time of a unit in microseconds.
    pub native_us: Spread,
    /// Where calls end, without creance and with it, as far as it was counted.
    pub funnel: Option<Funnel>,
    /// What the other ways cost, in the order of [`Figures::ways`] from the second on.
    pub cells: Vec<Cell>,
    /// Why the row is empty, where it could not be made.
    pub skipped: Option<String>,
}

/// What became of the system calls of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Funnel {
    /// Calls that the work makes.
    pub calls: u64,
    /// Calls that the filter trapped.
    pub trapped: u64,
    /// Calls that became a record.
    pub kept: u64,
}

/// One row in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The way's id.
    pub way: String,
    /// Speed relative to native, 1 for no cost: the native time of a round by the time in this way in the same round.
    pub speed: Option<Spread>,
    /// Stops a second of the run.
    pub stops_per_s: Option<f64>,
    /// Records a second of the run.
    pub records_per_s: Option<f64>,
    /// CPU seconds that the tracer itself took, all its processes together.
    pub tracer_cpu_s: Option<f64>,
    /// The largest memory of the tracer, resident, in KiB.
    pub tracer_peak_kib: Option<u64>,
    /// Latency of one operation, where the row has operations with a latency of their own.
    pub latency: Option<Latency>,
    /// Why there are no figures, where there are none.
    pub skipped: Option<String>,
}

/// Latencies in microseconds, of all runs together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Natively.
    pub native: Percentiles,
    /// In this way.
    pub watched: Percentiles,
}

/// A distribution, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Percentiles {
    /// Half of all are quicker.
    pub p50: f64,
    /// 99 of 100 are quicker.
    pub p99: f64,
    /// 999 of 1,000 are quicker.
    pub p999: f64,
    /// Points of the whole curve: per cent, microseconds, both rising.
    pub curve: Vec<(f64, f64)>,
}

/// How something grows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// `stop-by-threads`.
    pub id: String,
    /// For people: `cost of a stop beside idle threads`.
    pub title: String,
    /// What grows, with its unit.
    pub x: String,
    /// What it costs, with its unit.
    pub y: String,
    /// The lines, one a way.
    pub lines: Vec<Line>,
}

/// A line of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What it is of: a way's title, mostly.
    pub title: String,
    /// The points, by x.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// How much there was.
    pub x: f64,
    /// What it cost.
    pub y: Spread,
}

/// The median of several runs and their quartiles, the nearest runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// A quarter of the runs is not above it.
    pub lower: f64,
    /// The run in the middle.
    pub median: f64,
    /// A quarter of the runs is not below it.
    pub upper: f64,
}

impl Spread {
    /// Of runs in any order; none of no runs.
    #[must_use]
    pub fn of(runs: &[f64]) -> Option<Self> {
        let mut runs = runs.to_vec();
        runs.sort_by(f64::total_cmp);
        let at = |quarter: usize| runs.get(runs.len() * quarter / 4).copied();
        Some(Self { lower: at(1)?, median: at(2)?, upper: at(3)? })
    }
}
