//! The command line: flags in, exit status out.
//!
//! The exit status is the workload's own wherever there is one. Bad input is status 2, with one line that says what
//! and where, and nothing has been started then.

mod forward;
mod program;
mod run;
mod stats;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};

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
    Run(run::Run),
}

/// Says one line on standard error. Unlike `eprintln!` it does not panic when nobody can hear it: the exit status is
/// the workload's all the same.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "creance: {line}");
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
    let Command::Run(run) = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return refuse(&error),
    };
    match run.run() {
        Ok(code) => code,
        Err(error) => {
            // One line, however many causes.
            say(format_args!("{error:#}"));
            let is_usage = error.downcast_ref::<run::UsageError>().is_some();
            ExitCode::from(if is_usage { STATUS_USAGE } else { STATUS_FAILED })
        }
    }
}
