//! Passes signals on to the workload, as if it had been started without us.

use std::{io, thread};

use signal_hook::{
    consts::signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::Cause,
};

use crate::sys::{Pid, signal::PidFd};

const FORWARDED: [i32; 8] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH];

/// Catches the signals that are meant for the workload, from now on.
pub(super) struct Forwarder {
    signals: SignalsInfo<WithOrigin>,
}

impl Forwarder {
    /// Starts to catch. What comes before [`Self::forward_to`] waits.
    pub(super) fn new() -> io::Result<Self> {
        SignalsInfo::new(FORWARDED).map(|signals| Self { signals })
    }

    /// Passes signals on to a process until this one ends.
    ///
    /// A terminal sends Ctrl-C to the whole foreground group, so the workload has it already: what the kernel sent
    /// is not passed on, lest it arrive twice.
    pub(super) fn forward_to(mut self, root: Pid) -> io::Result<()> {
        let process = PidFd::open(root)?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for origin in self.signals.forever() {
                if origin.cause != Cause::Kernel {
                    // The workload may have ended in the meantime.
                    let _ = process.send(origin.signal);
                }
            }
        })?;
        Ok(())
    }
}
