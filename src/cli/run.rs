//! `creance run`: a workload from start to end.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
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
    program, rules, say, stats,
    supervisor::{ConsumerCommand, ConsumerError, Log, Supervisor},
};
use crate::{
    container::{self, ContainerIdentity},
    engine::{
        Wanted,
        choice::{Choice, EngineKind, Requested, Unavailable, choose},
        notify::NotifyEngine,
        ptrace::{self, PtraceEngine, Substitute},
    },
    interest::{Funnel, Interest, UnknownCall},
    limits, link,
    pipeline::{self, Destination, Link, Plan, Report},
    rules::ExpandedRule,
    sink::{FalcoEvents, Json, Null, Sink, Text},
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
    /// How events are written
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,

    /// Write events to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// Capture these calls only, by name: openat,connect (default: nearly all that Falco's stable rules react to, and more)
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "all")]
    syscalls: Vec<String>,

    /// Capture every call; with --rules, mark those that no rule can match
    #[arg(long)]
    all: bool,

    /// Capture what these Falco rules can react to: a rule file, or a directory of them; may be given again
    #[arg(short, long, value_name = "FILE|DIR", conflicts_with_all = ["syscalls", "falco_config"])]
    rules: Vec<PathBuf>,

    /// Capture what the rule files can react to that this falco.yaml names
    #[arg(long, value_name = "FILE", conflicts_with = "syscalls")]
    falco_config: Option<PathBuf>,

    /// Offer the events to Falco in this directory, instead of writing them (default: /run/creance, else
    /// $XDG_RUNTIME_DIR/creance; without DIR write -- before CMD)
    #[arg(long, value_name = "DIR", num_args = 0..=1, conflicts_with_all = ["output", "output_file"])]
    link: Option<Option<PathBuf>>,

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

    /// What happens when the ring is full: wait for room within a bound, or drop events at once
    #[arg(long, value_enum, default_value_t = OnFull::Block, value_name = "POLICY")]
    on_full: OnFull,

    /// Hold one stop of the workload for at most so many milliseconds when the ring is full
    #[arg(long, value_name = "MS", default_value_t = limits::FULL_RING_HOLD_MS_MAX,
        value_parser = clap::value_parser!(u64).range(..=limits::HOLD_MS_MAX))]
    hold_max: u64,

    /// Size of the ring: a power of two
    #[arg(long, value_name = "BYTES", default_value_t = limits::RING_BYTES_DEFAULT)]
    ring_bytes: usize,

    /// Whether a thread that stops often shares a CPU with creance for the while: a stop takes a fraction of the time then
    #[arg(long, value_enum, default_value_t = Placement::Auto, value_name = "POLICY")]
    placement: Placement,

    /// For which calls the kernel uses a copy of the path or address that was looked at, which nobody can change: those of
    /// threads that share their memory, all, or none (ptrace engine, x86_64)
    #[arg(long, value_enum, default_value_t = Substituted::Auto, value_name = "POLICY")]
    substitute: Substituted,

    /// The container that Falco is told of (default: found from ECS, Docker, containerd or the control group)
    #[arg(long, value_name = "ID", value_parser = container::parse_id)]
    container_id: Option<String>,

    /// Its name
    #[arg(long, value_name = "NAME", value_parser = container::parse_name)]
    container_name: Option<String>,

    /// Its image
    #[arg(long, value_name = "IMAGE", value_parser = container::parse_image)]
    container_image: Option<String>,

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

    /// Print statistics to standard error at the end
    #[arg(long)]
    stats: bool,

    /// The workload: a command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One readable line per event
    Text,
    /// One JSON object a line (docs/output.md)
    Json,
    /// Events in Falco's own layout, one after the other: what its engine reads
    Falco,
    /// Nothing: only the statistics
    Null,
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

/// What a full ring means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFull {
    /// A stop waits for room, for --hold-max at most; then events are dropped and counted
    Block,
    /// Events are dropped and counted at once
    Drop,
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
enum Wait {
    Seconds(u64),
    Forever,
}

fn parse_wait(text: &str) -> Result<Wait, String> {
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
    #[error("--ring-bytes {0}: the size must be a power of two from {min} to {max}", min = limits::RING_BYTES_MIN, max = limits::RING_BYTES_MAX)]
    RingBytes(usize),
}

impl Run {
    /// Runs the workload; gives its exit status, or does not return if a signal killed it.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut wanted = self.wanted()?;
        let Some(name) = self.command.first() else { return Err(UsageError::Nul.into()) };
        let file = match program::find(name) {
            Ok(file) => file,
            Err(error) => {
                say(format_args!("{error}"));
                return Ok(ExitCode::from(error.status()));
            }
        };
        let image = image(&file, &self.command).ok_or(UsageError::Nul)?;
        if !limits::is_ring_bytes(self.ring_bytes) {
            return Err(UsageError::RingBytes(self.ring_bytes).into());
        }
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
        if may_place && ptrace::can_place() {
            wanted = wanted.with_placement();
        }
        let board = Arc::clone(&guarded.board);
        let is_resumed = guarded.adopted.is_some();
        // A write beyond a limit on file sizes (setrlimit(2)) shall fail, not kill us and the workload with us.
        signal::ignore(libc::SIGXFSZ);
        let mut forwarder = Forwarder::new(&guarded, !is_ptrace).context("catching signals")?;
        let hold_max = match self.on_full {
            OnFull::Block => Duration::from_millis(self.hold_max),
            OnFull::Drop => Duration::ZERO,
        };
        let is_audit = wanted.is_audit();
        let substitute = self.substitute.into();
        let plan =
            Plan { image, wanted, workers: self.workers, substitute, guarded: Some(guarded), hold_max };
        let report = if self.has_reader() {
            let link = self.open_link()?;
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
            let mut sink = self.sink(is_resumed)?;
            capture(plan, Destination::Sink(sink.as_mut(), self.ring_bytes), &watch, forwarder)?
        };
        board.set_stage(Stage::Over);
        report_trouble(&report);
        if self.stats {
            // A closed standard error is no reason to change the exit status.
            let _ = io::stderr().write_all(stats::render(&report, &watch, is_audit).as_bytes());
        }
        Ok(exit(&report, &file))
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
            Requested { engine, is_audit: self.all, may_change_user: process::may_change_user() },
        ) {
            Ok(choice) => Ok(Watch { choice, workers: self.workers }),
            Err(unavailable) if engine.is_some() => Err(UsageError::Engine(unavailable).into()),
            Err(unavailable) => Err(unavailable.into()),
        }
    }

    /// Whether another process reads the events.
    const fn has_reader(&self) -> bool {
        self.link.is_some() || self.consumer.is_some()
    }

    /// The consumer that is to be started, if any.
    fn consumer(&self) -> Result<Option<ConsumerCommand>, UsageError> {
        let command = |text: &String| ConsumerCommand::new(text, self.consumer_log.clone());
        self.consumer.as_ref().map(command).transpose().map_err(UsageError::Consumer)
    }

    fn open_link(&self) -> anyhow::Result<Link> {
        let given = self.link.as_ref().and_then(Option::as_deref);
        // `--link CMD` would make a directory of the command's name.
        if let Some(name) = given.filter(|path| !path.as_os_str().as_bytes().contains(&b'/')) {
            return Err(UsageError::LinkName(name.to_path_buf()).into());
        }
        let directory = link::directory(given).map_err(UsageError::Link)?;
        Ok(Link::open(&directory, self.ring_bytes, self.container())?)
    }

    fn container(&self) -> ContainerIdentity {
        let given = ContainerIdentity {
            id: self.container_id.clone(),
            name: self.container_name.clone(),
            image: self.container_image.clone(),
        };
        let found = container::find(&given);
        for warning in &found.warnings {
            say(format_args!("{warning}"));
        }
        found.identity
    }

    /// Holds on until a consumer is there, if that is wanted; gives the signal that ended the wait, if one did.
    fn wait_consumer(&self, link: &Link, forwarder: &mut Forwarder) -> Option<i32> {
        let wait = self.consumer.as_ref().map(|_| Wait::Seconds(limits::CONSUMER_WAIT_S));
        let bound = match self.wait_consumer.or(wait)? {
            Wait::Seconds(seconds) => Some(Duration::from_secs(seconds)),
            Wait::Forever => None,
        };
        let mut signal = None;
        let is_there = link.wait_consumer(bound, || {
            signal = forwarder.asked_to_end();
            signal.is_some()
        });
        if !is_there && signal.is_none() {
            let seconds = bound.unwrap_or_default().as_secs();
            let socket = link.path().display();
            say(format_args!(
                "no consumer has connected to {socket} in {seconds} s: the workload starts without"
            ));
        }
        signal
    }

    fn wanted(&self) -> anyhow::Result<Wanted> {
        if self.falco_config.is_some() || !self.rules.is_empty() {
            let interest = self.rule_interest()?;
            return Ok(if self.all { Wanted::audit(interest) } else { Wanted::new(interest) });
        }
        Ok(Wanted::new(if self.all {
            Interest::all()
        } else if self.syscalls.is_empty() {
            Interest::built_in()
        } else {
            Interest::of_names(&self.syscalls).map_err(UsageError::UnknownCall)?
        }))
    }

    /// What the given rules can react to. What is wrong with them is said on standard error.
    fn rule_interest(&self) -> anyhow::Result<Interest> {
        let set = rules::read(&self.rules, self.falco_config.as_deref())?;
        let errors = rules::tell_errors(&set);
        if errors > 0 {
            return Err(UsageError::RuleErrors { errors }.into());
        }
        if !set.rules.iter().any(ExpandedRule::looks_at_calls) {
            say(format_args!("no rule is enabled that looks at system calls"));
        }
        let funnel = Funnel::of_rules(&set.rules);
        match set.diagnostics.len() + funnel.warnings.len() {
            0 => {}
            1 => say(format_args!("1 warning about the rules: creance rules check shows it")),
            warnings => {
                say(format_args!("{warnings} warnings about the rules: creance rules check shows them"))
            }
        }
        Ok(funnel.interest)
    }

    fn sink(&self, is_resumed: bool) -> Result<Box<dyn Sink>, UsageError> {
        let stderr = io::stderr();
        let is_colourful = self.output_file.is_none()
            && stderr.is_terminal()
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let writer: Box<dyn Write> = match &self.output_file {
            Some(path) => {
                let error = |source| UsageError::OutputFile { path: path.clone(), source };
                let mut options = File::options();
                // What the engine before this one has written stays.
                options.create(true).write(true).truncate(!is_resumed).append(is_resumed);
                Box::new(BufWriter::new(options.open(path).map_err(error)?))
            }
            None => Box::new(BufWriter::new(stderr)),
        };
        Ok(match self.output {
            Output::Text => Box::new(Text::new(writer, is_colourful)),
            Output::Json => Box::new(Json::new(writer)),
            Output::Falco => {
                let container = self.container();
                Box::new(FalcoEvents::new(writer, std::process::id(), container.id.as_deref()))
            }
            Output::Null => Box::new(Null),
        })
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

/// Says what went wrong without stopping the workload.
fn report_trouble(report: &Report) {
    let lost = report.outcome.recorded.records_lost;
    if lost > 0 {
        say(format_args!("{lost} records were lost because events were not taken fast enough"));
    }
    if report.records_unread > 0 {
        say(format_args!("{} records were not read by any consumer", report.records_unread));
    }
    let Some(consumed) = &report.consumed else { return };
    if let Some(error) = &consumed.sink_error {
        say(format_args!("{} events were not written: {error}", consumed.counters.sink_errors));
    }
    if consumed.counters.decode_errors > 0 {
        say(format_args!(
            "{} records could not be decoded: please report this",
            consumed.counters.decode_errors
        ));
    }
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
