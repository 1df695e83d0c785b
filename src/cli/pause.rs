//! `creance pause`: the process of a sidecar that only brings files along. It sleeps until it is told to end.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use signal_hook::{
    consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::sys::signal;

/// Sleep until SIGTERM, SIGINT or SIGHUP: the command of a container that only brings files along
#[derive(Debug, Args)]
pub(super) struct Pause {}

impl Pause {
    /// Sleeps. As the first process of a container it also waits for the orphans that it gets.
    #[expect(clippy::unused_self, reason = "all commands run in one way")]
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM]).context("catching signals")?;
        for heard in signals.forever() {
            if heard != SIGCHLD {
                break;
            }
            while signal::reap_any().is_some() {}
        }
        Ok(ExitCode::SUCCESS)
    }
}
