//! The `creance` program from outside: it runs real workloads, and what it tells of them is compared with what they
//! did. Nothing here needs root, and what a machine cannot do is skipped with a reason.
//!
//! The engine is the one that creance chooses; `tests/notify` runs those tests in which it matters under the other one.

#[path = "../support/mod.rs"]
mod support;

mod arguments;
mod attach;
#[cfg(target_arch = "x86_64")]
mod back;
mod bench;
mod churn;
mod consumer;
mod detours;
mod doctor;
mod engines;
mod first_process;
#[cfg(target_arch = "x86_64")]
mod foreign;
mod freezing;
mod hostile;
mod inherited;
mod install;
mod jobs;
mod life;
mod link;
mod losses;
mod order;
mod patch;
mod placement;
mod privileges;
mod programs;
mod racing;
mod runtimes;
mod signals;
mod sockets;
mod status;
mod survival;
mod triage;
mod usage;
mod waiting;

/// The engine of a workload that names none.
fn engine() -> &'static str {
    "auto"
}
