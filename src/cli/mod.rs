//! The command line: flags in, exit status out.
//!
//! The exit status is the workload's own wherever there is one. Bad input is status 2, with one line that says what
//! and where, and nothing has been started then.

mod attach;
mod bench;
mod doctor;
mod explain;
mod forward;
mod guardian;
mod install;
mod options;
pub mod patch;
mod pause;
mod program;
mod rules;
mod run;
mod stats;
mod supervisor;

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use anyhow::Context;
use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{sys::signal, terminal::is_hidden};

/// Exit status when creance itself fails.
const STATUS_FAILED: u8 = 125;
/// Exit status for bad input.
const STATUS_USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "creance",
    version,
    about = "Captures the system calls of a workload from user space, for Falco",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a workload and show what it does
    Run(Box<run::Run>),
    /// Show what a process does that runs already
    Attach(Box<attach::Attach>),
    /// Show what would be trapped for some rules, and why
    Explain(explain::Explain),
    /// Show what this machine permits, and which engine it gets
    Doctor(doctor::Doctor),
    /// Check rule files, or show their rules in full
    Rules(rules::Rules),
    /// Measure what creance costs on this machine
    Bench(bench::Bench),
    /// Sleep until SIGTERM: the command of a container that only brings files along
    Pause(pause::Pause),
    /// Copy creance, and its plugin if it lies beside it, into a directory
    Install(install::Install),
    /// Add creance to a task definition of ECS or a pod of Kubernetes
    Patch(Box<patch::command::Patch>),
}

/// Says one line on standard error. Unlike `eprintln!` it does not panic when nobody can hear it: the exit status is
/// the workload's all the same.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "creance: {line}");
}

/// Ends as a process with this wait status (wait(2)) did, or gives what to exit with.
fn exit_as(status: i32) -> ExitCode {
    let status = ExitStatus::from_raw(status);
    match status.signal() {
        Some(signal) => die_by(signal),
        None => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(STATUS_FAILED))
        }
    }
}

/// Dies by a signal, or gives what to exit with where that does not end us.
fn die_by(by: i32) -> ExitCode {
    signal::die_by(by);
    ExitCode::from(u8::try_from(128 + by).unwrap_or(STATUS_FAILED))
}

/// Ends this process by a signal, from any thread. The first process of a PID namespace does not die of a signal of its own
/// (pid_namespaces(7)), and exits.
fn end_by(by: i32) -> ! {
    signal::die_by(by);
    std::process::exit(128 + by)
}

/// Writes to standard output. Nobody may read it to its end, as under head(1): that is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    // A terminal would obey what a rule file holds. Whatever else reads it gets it as it is.
    let harmless =
        stdout.is_terminal().then(|| text.split('\n').map(printable).collect::<Vec<_>>().join("\n"));
    let written = stdout.write_all(harmless.as_deref().unwrap_or(text).as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

/// A text as one line that does nothing to a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Tells whether an error is about what the user gave, and not about what creance met.
fn is_usage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<run::UsageError>().is_some()
        || error.downcast_ref::<rules::BadRules>().is_some()
        || error.downcast_ref::<bench::BenchError>().is_some()
        || error.downcast_ref::<patch::command::Refused>().is_some()
}

/// Prints help and the version as they are, and bad input as one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.to_string();
    // What comes after the first empty line is usage, and the same for every error.
    let line: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = line.join(" ");
    say(format_args!("{}", line.strip_prefix("error: ").unwrap_or(&line)));
    ExitCode::from(STATUS_USAGE)
}

/// Runs the program with the process's own arguments; gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return refuse(&error),
    };
    let done = match command {
        Command::Run(run) => run.run(),
        Command::Attach(attach) => attach.run(),
        Command::Explain(explain) => explain.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Rules(rules) => rules.run(),
        Command::Bench(bench) => bench.run(),
        Command::Pause(pause) => pause.run(),
        Command::Install(install) => install.run(),
        Command::Patch(patch) => patch.run(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // One line, however many causes.
            say(format_args!("{error:#}"));
            ExitCode::from(if is_usage(&error) { STATUS_USAGE } else { STATUS_FAILED })
        }
    }
}
