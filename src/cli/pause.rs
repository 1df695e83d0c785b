//! `creance pause`: the process of a sidecar that only brings files along. It sleeps until it is told to end.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal},
};

use crate::sys::signal;

/// Sleep until SIGTERM, SIGINT or SIGHUP: the command of a container that only brings files along
#[derive(Debug, Args)]
pub(super) struct Pause {}

impl Pause {
    /// Sleeps. As the first process of a container it also waits for the orphans that it gets.
    #[expect(clippy::unused_self, reason = "all commands run in one way")]
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        // Blocked, they reach even the first process of a PID namespace (pid_namespaces(7)).
        let heard: SigSet =
            [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        heard.thread_block().context("blocking signals")?;
        loop {
            match heard.wait() {
                Ok(Signal::SIGCHLD) => while signal::reap_any().is_some() {},
                Ok(_) => return Ok(ExitCode::SUCCESS),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("waiting for signals"),
            }
        }
    }
}
