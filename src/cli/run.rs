//! `creance run`: a workload from start to end.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{STATUS_FAILED, forward::Forwarder, program, say, stats};
use crate::{
    engine::ptrace::PtraceEngine,
    interest::{Interest, UnknownCall},
    limits,
    pipeline::{self, Report},
    sink::{FalcoEvents, Json, Null, Sink, Text},
    sys::{
        launch::{self, ChildFailure, Image},
        signal,
    },
};

/// Run a workload and show what it does.
#[derive(Debug, Args)]
#[command(after_help = "\
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

    /// Capture every call
    #[arg(long)]
    all: bool,

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

/// The input is bad; nothing has been started.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    #[error("--syscalls")]
    UnknownCall(#[source] UnknownCall),
    #[error("--output-file {}", path.display())]
    OutputFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the command holds a NUL byte")]
    Nul,
}

impl Run {
    /// Runs the workload; gives its exit status, or does not return if a signal killed it.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let interest = self.interest()?;
        let Some(name) = self.command.first() else { return Err(UsageError::Nul.into()) };
        let file = match program::find(name) {
            Ok(file) => file,
            Err(error) => {
                say(format_args!("{error}"));
                return Ok(ExitCode::from(error.status()));
            }
        };
        let image = image(&file, &self.command).ok_or(UsageError::Nul)?;
        // Only now: a command that cannot be run leaves an older file as it is.
        let mut sink = self.sink()?;
        // A write beyond a limit on file sizes (setrlimit(2)) shall fail, not kill us and the workload with us.
        signal::ignore(libc::SIGXFSZ);
        let forwarder = Forwarder::new().context("catching signals")?;
        let mut forwarding = Ok(());
        let report = pipeline::capture::<PtraceEngine>(
            image,
            interest,
            limits::RING_BYTES_DEFAULT,
            sink.as_mut(),
            |root| forwarding = forwarder.forward_to(root),
        )?;
        if let Err(error) = forwarding {
            say(format_args!("signals were not passed on to the workload: {error}"));
        }
        report_trouble(&report);
        if self.stats {
            // A closed standard error is no reason to change the exit status.
            let _ = io::stderr().write_all(stats::render(&report).as_bytes());
        }
        Ok(exit(&report, &file))
    }

    fn interest(&self) -> Result<Interest, UsageError> {
        if self.all {
            Ok(Interest::all())
        } else if self.syscalls.is_empty() {
            Ok(Interest::built_in())
        } else {
            Interest::of_names(&self.syscalls).map_err(UsageError::UnknownCall)
        }
    }

    fn sink(&self) -> Result<Box<dyn Sink>, UsageError> {
        let stderr = io::stderr();
        let is_colourful = self.output_file.is_none()
            && stderr.is_terminal()
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let writer: Box<dyn Write> = match &self.output_file {
            Some(path) => {
                let error = |source| UsageError::OutputFile { path: path.clone(), source };
                Box::new(BufWriter::new(File::create(path).map_err(error)?))
            }
            None => Box::new(BufWriter::new(stderr)),
        };
        Ok(match self.output {
            Output::Text => Box::new(Text::new(writer, is_colourful)),
            Output::Json => Box::new(Json::new(writer)),
            Output::Falco => Box::new(FalcoEvents::new(writer, std::process::id())),
            Output::Null => Box::new(Null),
        })
    }
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
        say(format_args!("{lost} records were lost because events could not be written fast enough"));
    }
    if let Some(error) = &report.sink_error {
        say(format_args!("{} events were not written: {error}", report.consumed.sink_errors));
    }
    if report.consumed.decode_errors > 0 {
        say(format_args!(
            "{} records could not be decoded: please report this",
            report.consumed.decode_errors
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
    let status = ExitStatus::from_raw(report.outcome.root_status);
    if let Some(number) = status.signal() {
        signal::die_by(number);
        return ExitCode::from(u8::try_from(128 + number).unwrap_or(STATUS_FAILED));
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(STATUS_FAILED))
}
