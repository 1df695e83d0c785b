//! `creance bench`: what creance costs on this machine, for its users: no cargo, no other program, nothing left behind.
//!
//! It starts this very program again, as the work and as the tracer of the work, and measures both by turns. The long form,
//! with real programs and other tracers, is the bench `overhead` (docs/overhead.md).

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{STATUS_FAILED, print, printable, program, rules, run::UsageError, say};
use crate::overhead::{
    acts::{Act, UnknownAct},
    figures::{self, Figures, Group, Machine},
    machine::today,
    micro::{self, Extent},
    quiet::Quiet,
    runs::{self, Output, RunError},
    table,
    turns::{Measured, Sight, Subject, Turns, Way},
};

/// How long it may take to start creance with a program that does nothing.
const START_MAX: Duration = Duration::from_secs(60);

/// How long a command of the user may take, of which nothing is known.
const COMMAND_RUN_MAX: Duration = Duration::from_secs(3600);

/// How much is done, and how long a quiet machine is waited for.
const NORMAL: (Extent, Duration) = (
    Extent { turns: Turns { rounds: 7, budget: Some(Duration::from_secs(4)) }, less: 4, latency_runs: 1 },
    Duration::from_secs(10),
);
const QUICK: (Extent, Duration) = (
    Extent {
        turns: Turns { rounds: 3, budget: Some(Duration::from_millis(500)) },
        less: 32,
        latency_runs: 1,
    },
    Duration::ZERO,
);

/// How long rounds of a command of the user go on.
const COMMAND_BUDGET: Duration = Duration::from_secs(60);

/// Measure what creance costs here: some things in a loop, or a command, natively and under creance by turns
#[derive(Debug, Args)]
#[command(after_help = "Without --quick it takes about a minute. What is told: docs/overhead.md.")]
pub(super) struct Bench {
    /// Less of everything: some seconds
    #[arg(long)]
    quick: bool,

    /// Only these rows, by name: files,getppid
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = Act::from_str)]
    rows: Vec<Act>,

    /// The engine
    #[arg(long, value_enum, default_value_t = Engine::Auto, value_name = "ENGINE")]
    engine: Engine,

    /// What these Falco rules can react to is captured (default: the built-in set); may be given again
    #[arg(short = 'r', long = "rules", value_name = "FILE|DIR")]
    rule_files: Vec<PathBuf>,

    /// Write the figures to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Do this act and print what it took: what is measured
    #[arg(long, hide = true, value_name = "NAME", conflicts_with_all = ["quick", "rows", "rule_files", "json"])]
    act: Option<Asked>,

    /// So many units of it
    #[arg(long, hide = true, default_value_t = 1, value_name = "N", requires = "act")]
    count: u64,

    /// Time each unit of it
    #[arg(long, hide = true, requires = "act")]
    each: bool,

    /// A command to measure in place of the acts: its wall time, with all that creance needs to start
    #[arg(trailing_var_arg = true, value_name = "CMD", conflicts_with_all = ["rows", "act"])]
    command: Vec<OsString>,
}

/// Which engine watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// That which creance chooses
    Auto,
    /// Seccomp notifications
    Notify,
    /// ptrace alone
    Ptrace,
}

/// What this process is to do in place of measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Nothing: it is the program that is started where there is no other.
    Nothing,
    Act(Act),
}

impl FromStr for Asked {
    type Err = UnknownAct;

    fn from_str(name: &str) -> Result<Self, UnknownAct> {
        if name == "nothing" { Ok(Self::Nothing) } else { name.parse().map(Self::Act) }
    }
}

/// What could not be done with what the user gave.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    #[error("--json {}", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--engine {engine}: {reason}")]
    Engine { engine: String, reason: String },
}

impl Bench {
    /// Measures, and prints.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        match self.act {
            Some(Asked::Nothing) => return Ok(ExitCode::SUCCESS),
            Some(Asked::Act(act)) => {
                print(&(serde_json::to_string(&act.perform(self.count, self.each)?)? + "\n"))?;
                return Ok(ExitCode::SUCCESS);
            }
            None => {}
        }
        if let Some(name) = self.command.first()
            && let Err(error) = program::find(name)
        {
            say(format_args!("{error}"));
            return Ok(ExitCode::from(error.status()));
        }
        self.check_rules()?;
        let json = self.json.as_ref().map(|path| (path, fs::File::create(path)));
        let json = match json {
            Some((path, Err(source))) => {
                return Err(BenchError::Json { path: path.clone(), source }.into());
            }
            Some((path, Ok(file))) => Some((path, file)),
            None => None,
        };
        let own = env::current_exe().context("finding the own executable")?;
        let ways = [Way::native(), self.watched(&own)];
        self.check_engine(&ways)?;
        let figures = self.measure(&own, &ways);
        if let Some((path, file)) = json {
            serde_json::to_writer_pretty(file, &figures)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        print(&table::text(&figures))?;
        let is_made = figures.rows.iter().any(|row| row.cells.iter().any(|cell| cell.speed.is_some()));
        Ok(if is_made { ExitCode::SUCCESS } else { ExitCode::from(STATUS_FAILED) })
    }

    /// Mistakes in rules are told before anything is started.
    fn check_rules(&self) -> anyhow::Result<()> {
        if self.rule_files.is_empty() {
            return Ok(());
        }
        let errors = rules::tell_errors(&rules::read(&self.rule_files, None)?);
        if errors > 0 { Err(UsageError::RuleErrors { errors }.into()) } else { Ok(()) }
    }

    /// The way under creance.
    fn watched(&self, own: &Path) -> Way {
        let engine =
            self.engine.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut flags: Vec<OsString> =
            ["run", "--output", "null", "--stats", "--engine", &engine].map(Into::into).to_vec();
        flags.extend(
            self.rule_files.iter().flat_map(|path| [OsStr::new("--rules"), path.as_os_str()].map(Into::into)),
        );
        flags.push("--".into());
        let shown: Vec<String> = flags.iter().map(|flag| printable(&flag.to_string_lossy())).collect();
        let rules = if self.rule_files.is_empty() { "the built-in set" } else { "the rules given" };
        let told = figures::Way {
            id: engine.clone(),
            title: format!("{engine}, {rules}"),
            prefix: format!("creance {}", shown.join(" ")),
        };
        let prefix = std::iter::once(own.into()).chain(flags).collect();
        Way { told, prefix, sight: Sight::Filtered }
    }

    /// An engine that is asked for and impossible is no figure that is missing, but a mistake.
    fn check_engine(&self, ways: &[Way]) -> anyhow::Result<()> {
        let Some(watched) = ways.last() else { return Ok(()) };
        let own = watched.prefix.first().cloned().unwrap_or_default();
        let words = watched.words([own, "bench".into(), "--act".into(), "nothing".into()]);
        let ended = runs::run(&words, Output::Dropped, START_MAX)?;
        if runs::is_refused(ended.status) {
            let reason = ended.stderr.lines().next_back().unwrap_or_default();
            let reason = reason.strip_prefix("creance: ").unwrap_or(reason).to_owned();
            let reason = reason.strip_prefix("--engine: ").map(str::to_owned).unwrap_or(reason);
            return Err(BenchError::Engine { engine: watched.told.id.clone(), reason }.into());
        }
        Ok(ended.well().map(drop)?)
    }

    fn measure(&self, own: &Path, ways: &[Way]) -> Figures {
        let (extent, patience) = if self.quick { QUICK } else { NORMAL };
        let mut quiet = Quiet::new(patience);
        let rows = if self.command.is_empty() {
            let acts = if self.rows.is_empty() { &Act::ALL[..] } else { &self.rows };
            acts.iter().map(|act| micro::row(*act, own, ways, extent, &mut quiet)).collect()
        } else {
            vec![self.command_row(ways, extent.turns, &mut quiet)]
        };
        Figures {
            version: env!("CARGO_PKG_VERSION").into(),
            date: today(),
            machine: Machine::here(quiet.foreign_percent()),
            rounds: extent.turns.rounds,
            ways: ways.iter().map(|way| way.told.clone()).collect(),
            rows,
            curves: Vec::new(),
        }
    }

    /// The row of the user's own command.
    fn command_row(&self, ways: &[Way], turns: Turns, quiet: &mut Quiet) -> figures::Row {
        let title: Vec<_> = self.command.iter().map(|word| printable(&word.to_string_lossy())).collect();
        let subject =
            Subject { id: "command".into(), title: title.join(" "), group: Group::Macro, latency_runs: 0 };
        let turns = Turns { budget: Some(COMMAND_BUDGET), ..turns };
        turns.row(subject, ways, quiet, |way, _| {
            let ended = runs::run(&way.words(&self.command), Output::Dropped, COMMAND_RUN_MAX)?.well()?;
            Ok::<_, RunError>(Measured::of(ended.took, 1, &ended))
        })
    }
}
