//! `creance run`: a workload from start to end.

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{ArgGroup, Args, ValueEnum};

use super::{
    STATUS_FAILED, die_by, exit_as,
    forward::Forwarder,
    guardian::{OnDeath, Role, guard},
    options::Options,
    program, say,
    supervisor::{ConsumerCommand, ConsumerError, Log, Supervisor},
};
use crate::{
    engine::{
        choice::{Choice, EngineKind, Requested, Unavailable, choose},
        notify::NotifyEngine,
        ptrace::{self, AttachError, PtraceEngine, Substitute},
    },
    interest::UnknownCall,
    limits, link,
    pipeline::{self, Destination, Link, Plan, Report},
    sys::{
        guard::Stage,
        hint,
        launch::{self, ChildFailure, Image},
        probe::Probes,
        process, signal,
    },
};

/// Run a workload and show what it does.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("reader").args(["link", "consumer"]).multiple(true), after_help = "\
Events go to standard error unless --output-file is given, never to the workload's standard output.
The exit status is the workload's; creance dies by the same signal if the workload was killed by one.
It is 127 if CMD is not found, 126 if it cannot be run, 2 for bad input, 125 if creance itself fails.")]
pub(super) struct Run {
    #[command(flatten)]
    options: Options,

    /// Start this command beside the workload, as the one that reads the events (offered as by --link): 'falco -c FILE'. It
    /// is not captured, is started again when it ends, and is ended after the workload
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["output", "output_file"])]
    consumer: Option<String>,

    /// Where the output of that command goes: stdout, stderr, or the end of a file
    #[arg(long, value_name = "FILE", default_value = "stderr", requires = "consumer")]
    consumer_log: Log,

    /// Hold the workload until Falco is connected, for so many seconds at most or 'forever' (default: 30 with --consumer,
    /// else 0)
    #[arg(long, value_name = "SECONDS", value_parser = parse_wait, requires = "reader")]
    wait_consumer: Option<Wait>,

    /// Whether a thread that stops often shares a CPU with creance for the while: a stop takes a fraction of the time then
    #[arg(long, value_enum, default_value_t = Placement::Auto, value_name = "POLICY")]
    placement: Placement,

    /// For which calls the kernel uses a copy of the path or address that was looked at, which nobody can change: those of
    /// threads that share their memory, all, or none (ptrace engine, x86_64)
    #[arg(long, value_enum, default_value_t = Substituted::Auto, value_name = "POLICY")]
    substitute: Substituted,

    /// Where another thread could change a path or address after it was looked at and no copy can be had, one of so many
    /// dropped calls is compared with what it has used, and thirty-two times as many are looked at twice; 0 for none (notify
    /// engine)
    #[arg(long, value_name = "N", default_value_t = limits::VERIFY_SHARE)]
    verify_share: u32,

    /// Put no filter on the workload, and so no no_new_privs: every call stops, which makes a busy workload several times
    /// slower. Set-user-ID programs keep their privileges if creance has CAP_SYS_PTRACE (ptrace engine)
    #[arg(long)]
    no_filter: bool,

    /// How the workload is watched: by ptrace alone, or by seccomp notifications, which costs less but can fail a call with
    /// EINTR (creance doctor tells what is possible)
    #[arg(long, value_enum, default_value_t = Engine::Auto, value_name = "ENGINE")]
    engine: Engine,

    /// Threads that answer notifications, in the notify engine (default: one for each CPU, and at least two)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::WORKERS_MAX)))]
    workers: Option<u16>,

    /// What becomes of the workload if creance dies
    #[arg(long, value_enum, default_value_t = OnDeath::Kill, value_name = "POLICY")]
    on_death: OnDeath,

    /// The workload: a command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Which engine is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// ptrace where it is possible, else notify
    Auto,
    /// Seccomp notifications, with ptrace for single calls
    Notify,
    /// ptrace alone
    Ptrace,
}

/// Whether creance chooses CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Placement {
    /// Where there are several CPUs, and what was chosen can always be undone
    Auto,
    /// Never
    Off,
}

/// For which calls arguments are replaced by copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Substituted {
    /// Those of threads that share their memory with others
    Auto,
    /// All
    Always,
    /// None
    Off,
}

impl From<Substituted> for Substitute {
    fn from(given: Substituted) -> Self {
        match given {
            Substituted::Auto => Self::Auto,
            Substituted::Always => Self::Always,
            Substituted::Off => Self::Off,
        }
    }
}

/// How long the workload is held for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Seconds(u64),
    Forever,
}

impl Wait {
    /// Waits until a consumer is there, or `is_over`, or the time is up, of which it says what comes of that.
    pub(super) fn hold(self, link: &Link, mut is_over: impl FnMut() -> bool, then: &str) {
        let bound = match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(seconds)),
            Self::Forever => None,
        };
        let mut was_over = false;
        let is_there = link.wait_consumer(bound, || {
            was_over = is_over();
            was_over
        });
        if !is_there && !was_over {
            let seconds = bound.unwrap_or_default().as_secs();
            let socket = link.path().display();
            say(format_args!("no consumer has connected to {socket} in {seconds} s: {then}"));
        }
    }
}

pub(super) fn parse_wait(text: &str) -> Result<Wait, String> {
    match text {
        "forever" => Ok(Wait::Forever),
        _ => text.parse().map(Wait::Seconds).map_err(|_| "expected a number of seconds or 'forever'".into()),
    }
}

/// The input is bad; nothing has been started.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    #[error("--syscalls")]
    UnknownCall(#[source] UnknownCall),
    #[error("the rules have {errors} error{}: nothing was started", if *errors == 1 { "" } else { "s" })]
    RuleErrors { errors: usize },
    #[error("--output-file {}", path.display())]
    OutputFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--engine")]
    Engine(#[source] Unavailable),
    #[error("--on-death continue: only the notify engine lets a workload live on; this is {0}")]
    OnDeath(Choice),
    #[error("the command holds a NUL byte")]
    Nul,
    #[error("--link {}: a directory has a slash in it: write ./{} if you mean it, or -- before the command", .0.display(), .0.display())]
    LinkName(PathBuf),
    #[error("--consumer")]
    Consumer(#[source] ConsumerError),
    #[error("--link")]
    Link(#[source] link::DirectoryError),
    #[error("{0}")]
    Attach(#[source] AttachError),
    #[error("--ring-bytes {0}: the size must be a power of two from {min} to {max}", min = limits::RING_BYTES_MIN, max = limits::RING_BYTES_MAX)]
    RingBytes(usize),
}

impl Run {
    /// Runs the workload; gives its exit status, or does not return if a signal killed it.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut wanted = self.options.wanted()?;
        let Some(name) = self.command.first() else { return Err(UsageError::Nul.into()) };
        let file = match program::find(name) {
            Ok(file) => file,
            Err(error) => {
                say(format_args!("{error}"));
                return Ok(ExitCode::from(error.status()));
            }
        };
        let image = image(&file, &self.command).ok_or(UsageError::Nul)?;
        self.options.check_ring()?;
        let consumer = self.consumer()?;
        let watch = self.watch()?;
        let is_ptrace = watch.choice.engine == EngineKind::Ptrace;
        if is_ptrace && self.on_death == OnDeath::Continue {
            return Err(UsageError::OnDeath(watch.choice).into());
        }
        // The kernel kills the workload with whoever traces it, and nobody else has to see to that.
        let guarded = match guard(self.on_death, is_ptrace).context("starting the engine's process")? {
            Role::Guardian(status) => return Ok(status),
            Role::Engine(guarded) => guarded,
        };
        if is_ptrace {
            // Before there is any other thread.
            hint::set_blocked(true);
        }
        // Only this engine chooses CPUs.
        let may_place = is_ptrace && self.placement == Placement::Auto;
        if may_place && ptrace::can_place(self.no_filter) {
            wanted = wanted.with_placement();
        }
        if self.no_filter {
            self.tell_unfiltered();
        }
        let board = Arc::clone(&guarded.board);
        let front = guarded.front.clone();
        let is_resumed = guarded.adopted.is_some();
        // A write beyond a limit on file sizes (setrlimit(2)) shall fail, not kill us and the workload with us.
        signal::ignore(libc::SIGXFSZ);
        let mut forwarder = Forwarder::new(&guarded, !is_ptrace).context("catching signals")?;
        let hold_max = self.options.hold_max();
        let is_audit = wanted.is_audit();
        let substitute = self.substitute.into();
        let plan = Plan {
            image,
            wanted,
            workers: self.workers,
            substitute,
            verify_share: self.verify_share,
            is_unfiltered: self.no_filter,
            guarded: Some(guarded),
            hold_max,
        };
        let report = if self.has_reader() {
            let link = self.options.open_link()?;
            let supervisor =
                consumer.map(|consumer| Supervisor::start(consumer, link.companion())).transpose()?;
            if !is_resumed && let Some(signal) = self.wait_consumer(&link, &mut forwarder) {
                // The consumer and our socket go before we do.
                drop((supervisor, link));
                return Ok(die_by(signal));
            }
            capture(plan, Destination::Link(&link), &watch, forwarder)?
        } else {
            // Only now: a command that cannot be run leaves an older file as it is.
            let mut sink = self.options.sink(is_resumed)?;
            capture(plan, Destination::Sink(sink.as_mut(), self.options.ring_bytes), &watch, forwarder)?
        };
        board.set_stage(Stage::Over);
        // It may have stopped with the workload a moment before that ended, and nobody is left then who would continue it.
        front.root_goes_on();
        front.urge_on();
        self.options.tell_end(&report, &watch, is_audit);
        Ok(exit(&report, &file))
    }

    /// Says what it means to do without the filter.
    fn tell_unfiltered(&self) {
        let privileges = if process::has_capability(process::CAP_SYS_PTRACE) == Some(false) {
            "without CAP_SYS_PTRACE set-user-ID programs and file capabilities have no effect all the same"
        } else {
            "set-user-ID programs and file capabilities keep their effect"
        };
        say(format_args!(
            "--no-filter: every call of the workload stops twice, whether it matters or not, which takes some tens of \
             microseconds each: expect a busy service to be several times slower; {privileges}"
        ));
    }

    /// The engine that was asked for, if it is possible here.
    fn watch(&self) -> anyhow::Result<Watch> {
        let engine = match self.engine {
            Engine::Auto => None,
            Engine::Notify => Some(EngineKind::Notify),
            Engine::Ptrace => Some(EngineKind::Ptrace),
        };
        match choose(
            &Probes::run(),
            Requested {
                engine,
                is_audit: self.options.all,
                is_unfiltered: self.no_filter,
                may_change_user: process::may_change_user(),
            },
        ) {
            Ok(choice) => Ok(Watch { choice, workers: self.workers }),
            Err(unavailable) if engine.is_some() => Err(UsageError::Engine(unavailable).into()),
            Err(unavailable) => Err(unavailable.into()),
        }
    }

    /// Whether another process reads the events.
    const fn has_reader(&self) -> bool {
        self.options.link.is_some() || self.consumer.is_some()
    }

    /// The consumer that is to be started, if any.
    fn consumer(&self) -> Result<Option<ConsumerCommand>, UsageError> {
        let command = |text: &String| ConsumerCommand::new(text, self.consumer_log.clone());
        self.consumer.as_ref().map(command).transpose().map_err(UsageError::Consumer)
    }

    /// Holds on until a consumer is there, if that is wanted; gives the signal that ended the wait, if one did.
    fn wait_consumer(&self, link: &Link, forwarder: &mut Forwarder) -> Option<i32> {
        let wait = self.consumer.as_ref().map(|_| Wait::Seconds(limits::CONSUMER_WAIT_S));
        let mut signal = None;
        let is_asked = || {
            signal = forwarder.asked_to_end();
            signal.is_some()
        };
        self.wait_consumer.or(wait)?.hold(link, is_asked, "the workload starts without");
        signal
    }
}

/// How a workload is watched.
#[derive(Debug)]
pub(super) struct Watch {
    /// The engine, and why it is taken.
    pub(super) choice: Choice,
    /// How many threads answer notifications; `None` for one on each CPU.
    pub(super) workers: Option<u16>,
}

fn capture(
    plan: Plan,
    destination: Destination<'_>,
    watch: &Watch,
    forwarder: Forwarder,
) -> anyhow::Result<Report> {
    let mut forwarding = Ok(());
    let on_start = |root| forwarding = forwarder.forward_to(root);
    let report = match watch.choice.engine {
        EngineKind::Ptrace => pipeline::capture::<PtraceEngine>(plan, destination, on_start)?,
        EngineKind::Notify => pipeline::capture::<NotifyEngine>(plan, destination, on_start)?,
    };
    if let Err(error) = forwarding {
        say(format_args!("signals were not passed on to the workload: {error}"));
    }
    Ok(report)
}

/// The command as execve(2) wants it; `None` if it holds a NUL byte, which no argument of a process can.
fn image(file: &Path, command: &[OsString]) -> Option<Image> {
    let string = |text: &OsStr| CString::new(text.as_bytes()).ok();
    let argv = command.iter().map(|argument| string(argument)).collect::<Option<_>>()?;
    Some(Image::new(string(file.as_os_str())?, argv, launch::environment()))
}

/// The exit status that a shell would have seen without us.
fn exit(report: &Report, file: &Path) -> ExitCode {
    match report.outcome.failure {
        Some(ChildFailure::Exec(errno)) => {
            say(format_args!("{}: {}", file.display(), io::Error::from_raw_os_error(errno)));
            return ExitCode::from(if errno == libc::ENOENT { 127 } else { 126 });
        }
        Some(ChildFailure::Filter(libc::EMFILE | libc::ENFILE)) => {
            say(format_args!("no descriptor is left for the filter's listener: raise the limit (ulimit -n)"));
            return ExitCode::from(STATUS_FAILED);
        }
        Some(ChildFailure::Filter(errno)) => {
            let error = io::Error::from_raw_os_error(errno);
            say(format_args!("putting the seccomp filter on the workload: {error}"));
            return ExitCode::from(STATUS_FAILED);
        }
        None => {}
    }
    exit_as(report.outcome.root_status)
}
