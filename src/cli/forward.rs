//! Passes signals on to the workload, as if it had been started without us.

use std::{io, thread};

use signal_hook::{
    consts::signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::siginfo::{Cause, Origin},
};

use crate::sys::{
    Pid,
    signal::{PidFd, die_by, is_ignored},
};

pub(super) const FORWARDED: [i32; 8] =
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH];

/// Of these, what asks a program to end.
const ENDS_US: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Catches the signals that are meant for the workload, from now on.
pub(super) struct Forwarder {
    signals: SignalsInfo<WithOrigin>,
    /// What came before there was a workload.
    early: Vec<Origin>,
}

impl Forwarder {
    /// Starts to catch. What comes before [`Self::forward_to`] waits.
    pub(super) fn new() -> io::Result<Self> {
        // What is ignored stays ignored, for us and for the workload, as under nohup(1).
        let heard = FORWARDED.into_iter().filter(|&signal| !is_ignored(signal));
        SignalsInfo::new(heard).map(|signals| Self { signals, early: Vec::new() })
    }

    /// The signal that asks us to end while there is no workload yet, if one has come.
    pub(super) fn asked_to_end(&mut self) -> Option<i32> {
        for origin in self.signals.pending() {
            if ENDS_US.contains(&origin.signal) {
                return Some(origin.signal);
            }
            // As the kernel does, one of each is kept.
            if self.early.iter().all(|early| early.signal != origin.signal) {
                self.early.push(origin);
            }
        }
        None
    }

    /// Passes signals on to a process until this one ends.
    ///
    /// A terminal sends Ctrl-C to the whole foreground group, so the workload has it already: what the kernel sent
    /// is not passed on, lest it arrive twice.
    pub(super) fn forward_to(mut self, root: Pid) -> io::Result<()> {
        let process = match PidFd::open(root) {
            // It has ended before we came to this.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
            process => Some(process?),
        };
        thread::Builder::new().name("signals".into()).spawn(move || {
            for origin in self.early.into_iter().chain(self.signals.forever()) {
                if origin.cause == Cause::Kernel {
                    continue;
                }
                // The first process of the workload may have ended, while others go on or the events are still being
                // written. Then the signal is for us, and what is left of the workload dies with us.
                if process.as_ref().is_none_or(|process| process.send(origin.signal).is_err())
                    && ENDS_US.contains(&origin.signal)
                {
                    die_by(origin.signal);
                    // The first process of a PID namespace does not die of a signal of its own (pid_namespaces(7)).
                    std::process::exit(128 + origin.signal);
                }
            }
        })?;
        Ok(())
    }
}
