//! Those tests of `tests/run` in which the engine matters, under the notify engine; and what only that engine does.

#[path = "../support/mod.rs"]
mod support;

#[path = "../run/arguments.rs"]
mod arguments;
mod debuggers;
#[path = "../run/first_process.rs"]
mod first_process;
#[cfg(target_arch = "x86_64")]
#[path = "../run/foreign.rs"]
mod foreign;
#[path = "../run/inherited.rs"]
mod inherited;
#[path = "../run/jobs.rs"]
mod jobs;
#[path = "../run/life.rs"]
mod life;
#[path = "../run/link.rs"]
mod link;
#[path = "../run/losses.rs"]
mod losses;
#[path = "../run/order.rs"]
mod order;
#[path = "../run/programs.rs"]
mod programs;
#[path = "../run/signals.rs"]
mod signals;
#[path = "../run/sockets.rs"]
mod sockets;
#[path = "../run/status.rs"]
mod status;
#[path = "../run/survival.rs"]
mod survival;
#[path = "../run/triage.rs"]
mod triage;
#[path = "../run/waiting.rs"]
mod waiting;

use std::sync::LazyLock;

use support::{IMPOSSIBLE, creance, skip};

/// The engine of a workload that names none.
fn engine() -> &'static str {
    static ENGINE: LazyLock<&str> = LazyLock::new(|| {
        let tried = creance(["run", "--engine", "notify", "--output", "null", "--", "true"]);
        if tried.status.code() == IMPOSSIBLE {
            skip(&tried.stderr);
            return "auto";
        }
        "notify"
    });
    &ENGINE
}
