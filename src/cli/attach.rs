//! `creance attach`: processes that run already, until they end or creance is told to leave them.

use std::{
    io,
    process::ExitCode,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use super::{
    end_by,
    options::Options,
    run::{UsageError, Wait, Watch, parse_wait},
    say,
};
use crate::{
    engine::{
        choice::{Choice, EngineKind, Why},
        ptrace::{self, Answer, Note, Release, Target},
    },
    limits,
    pipeline::{self, AttachPlan, Destination, Link, PipelineError},
    sys::{Pid, hint, signal},
};

/// Show what a process does that runs already
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C, SIGTERM or the end of --duration detaches, and the process runs on as before. With --inject-filter that is not
possible: creance stays until the process has ended, and if creance is ended first, so is the process.
The exit status is 0 when the process has ended or was left, 2 if it cannot be attached to (nothing has changed for it
then), 125 if creance itself fails.")]
pub(super) struct Attach {
    #[command(flatten)]
    options: Options,

    /// Attach to the descendants of the process too, as far as they descend from it now
    #[arg(long)]
    children: bool,

    /// Put the filter on the process, so that calls which do not matter do not stop. It stays until the process ends, and
    /// creance has to stay too
    #[arg(long, conflicts_with = "duration")]
    inject_filter: bool,

    /// Detach so many seconds after all threads have been attached to
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Attach only when Falco is connected, for which it is waited so many seconds at most or 'forever' (default: 0)
    #[arg(long, value_name = "SECONDS", value_parser = parse_wait, requires = "link")]
    wait_consumer: Option<Wait>,

    /// The process, as this PID namespace numbers it
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero() && duration.as_secs() <= limits::ATTACH_SECONDS_MAX)
        .ok_or_else(|| "expected more than 0 seconds and at most a year".into())
}

impl Attach {
    /// Attaches, and stays until the process has ended or was left.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut wanted = self.options.wanted()?;
        self.options.check_ring()?;
        // Without the filter the process shall outlive us, whatever we had done to its CPUs.
        if self.inject_filter && ptrace::can_place(false) {
            wanted = wanted.with_placement();
        }
        let is_audit = wanted.is_audit();
        signal::ignore(libc::SIGXFSZ);
        // Before there is any other thread.
        let asking = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
        let signals: SigSet = asking.into_iter().filter(|&asks| !signal::is_ignored(asks as i32)).collect();
        signals.thread_block().context("blocking signals")?;
        hint::set_blocked(true);
        let (notes, told) = mpsc::sync_channel(limits::ATTACHED_PROCESSES_MAX);
        let release = Release::default();
        let target = Target {
            pid: Pid(self.pid),
            with_children: self.children,
            with_filter: self.inject_filter,
            release: release.clone(),
            notes,
        };
        let plan = AttachPlan { target, wanted, hold_max: self.options.hold_max() };
        let with_filter = self.inject_filter;
        let (attached, is_attached) = mpsc::sync_channel(1);
        let teller =
            thread::Builder::new().name("notes".into()).spawn(move || tell(&told, &attached, with_filter))?;
        let leave = || {
            if let Some(after) = self.duration {
                leave_after(after, is_attached, release.clone())?;
            }
            leave_when_asked(signals, &release)
        };
        let mut left = Ok(());
        let on_start = |_| left = leave();
        let report = if self.options.link.is_some() {
            let link = self.options.open_link()?;
            if let Some(wait) = self.wait_consumer {
                hold(wait, &link, signals)?;
            }
            pipeline::attach(plan, Destination::Link(&link), on_start)
        } else {
            let mut sink = self.options.sink(false)?;
            pipeline::attach(plan, Destination::Sink(sink.as_mut(), self.options.ring_bytes), on_start)
        };
        let report = report.map_err(|error| match error {
            PipelineError::NotAttached(error) => anyhow::Error::from(UsageError::Attach(error)),
            error => error.into(),
        })?;
        // The engine has let go of the other end.
        let _ = teller.join();
        left.context("starting the threads that wait for the end")?;
        let choice = Choice { engine: EngineKind::Ptrace, why: Why::Attached };
        self.options.tell_end(&report, &Watch { choice, workers: None }, is_audit);
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits for a consumer. A signal ends that, and creance: nothing has been done yet.
fn hold(wait: Wait, link: &Link, signals: SigSet) -> anyhow::Result<()> {
    let asking = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("waiting for signals")?;
    let mut asks = None;
    let is_asked = || {
        asks = asking.read_signal().ok().flatten().and_then(|asks| i32::try_from(asks.ssi_signo).ok());
        asks.is_some()
    };
    wait.hold(link, is_asked, "creance attaches without");
    if let Some(asks) = asks {
        end_by(asks);
    }
    Ok(())
}

/// Has the process left some time after it has been attached to.
fn leave_after(after: Duration, is_attached: Receiver<()>, release: Release) -> io::Result<()> {
    thread::Builder::new().name("duration".into()).spawn(move || {
        // Whether it is or it takes too long: the time begins.
        let _ = is_attached.recv_timeout(Duration::from_millis(limits::ATTACH_COMPLETE_MS_MAX));
        thread::sleep(after);
        release.ask()
    })?;
    Ok(())
}

/// Has the process left at a signal. A second one ends creance at once.
fn leave_when_asked(signals: SigSet, release: &Release) -> io::Result<()> {
    let release = release.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut was_asked = false;
        loop {
            let Ok(asks) = signals.wait() else { continue };
            if was_asked {
                end_by(asks as i32);
            }
            was_asked = true;
            let release = release.clone();
            // A thread that does not come to a stop must not keep the second signal waiting.
            let asking = thread::Builder::new().name("detach".into()).spawn(move || {
                if release.ask() == Answer::Bound {
                    say(format_args!(
                        "the filter stays on the process, and without a tracer its calls would fail: creance stays until it \
                         has ended. The next signal ends creance and kills the process"
                    ));
                }
            });
            drop(asking);
        }
    })?;
    Ok(())
}

/// Says what happens, until the engine ends, and tells when all has been attached to.
fn tell(notes: &Receiver<Note>, attached: &SyncSender<()>, with_filter: bool) {
    for note in notes {
        match note {
            Note::Attached { processes, threads } => {
                // Without a --duration nobody waits for it.
                let _ = attached.try_send(());
                let (s, es) = (if threads == 1 { "" } else { "s" }, if processes == 1 { "" } else { "es" });
                say(format_args!("attached to {threads} thread{s} of {processes} process{es}"));
                if with_filter {
                    say(format_args!(
                        "--inject-filter: from now on the processes die if creance does, and creance cannot leave them"
                    ));
                } else {
                    say(format_args!(
                        "every call of them stops twice, whether it matters or not, which takes some tens of microseconds \
                         each: expect a busy service to be several times slower until creance leaves (--inject-filter lets \
                         other calls go)"
                    ));
                }
            }
            Note::LeftOut(error) => say(format_args!("not attached: {error}")),
            Note::Filtered { pid, no_new_privs } => {
                let privileges = if no_new_privs {
                    "; no_new_privs had to be set, so setuid programs that it starts have no privileges"
                } else {
                    ""
                };
                say(format_args!("the filter is on process {pid}{privileges}"));
            }
            Note::Unfiltered(pid, why) => say(format_args!(
                "the filter cannot be put on process {pid}: {why}; each of its calls goes on to stop"
            )),
            Note::Detached(threads) => {
                let s = if threads == 1 { "" } else { "s" };
                say(format_args!("detached from {threads} thread{s}"));
            }
        }
    }
}
