//! `creance rules`: what is wrong with rule files, and their rules in full.
//!
//! It also reads the rules for `creance run` and `creance explain`. It prints and counts; what is right and wrong is for
//! [`crate::rules`] to say.

use std::{
    fmt,
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{STATUS_USAGE, print, printable};
use crate::{
    interest::Funnel,
    rules::{self, Diagnostic, ExpandedRule, ReadError, RuleSet, SYSCALL_SOURCE, Severity, Span},
};

/// Check rule files, or show their rules in full.
#[derive(Debug, Args)]
pub(super) struct Rules {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with rule files, and which rules cost much or can never match
    ///
    /// The exit status is 0 without errors and 2 with them; warnings do not count.
    Check(Files),
    /// Show the condition of each rule, with its exceptions, and without macros and lists
    Expand(Expand),
}

/// Where rules come from.
#[derive(Debug, Args)]
struct Files {
    /// Rule files and directories of them, in the order in which Falco reads them
    #[arg(
        value_name = "FILE|DIR",
        required_unless_present = "falco_config",
        conflicts_with = "falco_config"
    )]
    paths: Vec<PathBuf>,

    /// The rule files that this falco.yaml names
    #[arg(long, value_name = "FILE")]
    falco_config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Expand {
    #[command(flatten)]
    files: Files,

    /// Only this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
}

/// The rules cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRules {
    #[error(transparent)]
    Read(ReadError),
    #[error("the rules have {errors} error{}", if *errors == 1 { "" } else { "s" })]
    Errors { errors: usize },
    #[error("--rule {name:?}: there is no rule of this name{}", suggestion(nearest.as_deref()))]
    NoRule { name: String, nearest: Option<String> },
    #[error("--rule needs rules: give their files with -r")]
    NoRules,
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"))
}

impl Rules {
    /// Does what is asked; gives the exit status.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Check(files) => check(files),
            Command::Expand(expand) => expand.run(),
        }
    }
}

fn check(files: &Files) -> anyhow::Result<ExitCode> {
    let set = read(&files.paths, files.falco_config.as_deref())?;
    // What could be understood is looked at, whatever else is wrong.
    let warnings = Funnel::of_rules(&set.rules).warnings;
    let mut diagnostics: Vec<_> = set.diagnostics.iter().chain(&warnings).collect();
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.file, diagnostic.span.start));
    let mut text = String::new();
    for diagnostic in &diagnostics {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", diagnostic.display(&set.sources));
    }
    let errors = diagnostics.iter().filter(|diagnostic| is_error(diagnostic)).count();
    let warnings = diagnostics.len() - errors;
    let _ = writeln!(
        text,
        "{}, {}, {}",
        counted(set.rules.len(), "rule"),
        counted(errors, "error"),
        counted(warnings, "warning")
    );
    print(&text)?;
    Ok(status(errors))
}

impl Expand {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let set = read(&self.files.paths, self.files.falco_config.as_deref())?;
        let errors = tell_errors(&set);
        let meant = match &self.rule {
            Some(name) => match find(&set, name) {
                Ok(at) => Some(at),
                // The rule may be missing because of one of the errors, which were told.
                Err(_) if errors > 0 => return Err(BadRules::Errors { errors }.into()),
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let rules = set.rules.iter().enumerate().filter(|(at, _)| meant.is_none_or(|meant| meant == *at));
        let blocks: Vec<_> = rules.map(|(_, rule)| block(&set, rule)).collect();
        print(&blocks.join("\n"))?;
        Ok(status(errors))
    }
}

/// A rule as a comment with its name and place, and its condition on a line.
fn block(set: &RuleSet, rule: &ExpandedRule) -> String {
    let mut notes = Vec::new();
    notes.extend(Place::of(set, rule.span).map(|place| place.to_string()));
    if !rule.is_enabled {
        notes.push("disabled".to_owned());
    }
    if rule.source != SYSCALL_SOURCE {
        notes.push(format!("source {}", printable(&rule.source)));
    }
    format!("# {} ({})\n{}\n", printable(&rule.name), notes.join(", "), rule.condition)
}

/// Reads rules that Falco would take. What is wrong with others is told on standard error.
pub(super) fn read_valid(paths: &[PathBuf], falco_config: Option<&Path>) -> Result<RuleSet, BadRules> {
    let set = read(paths, falco_config)?;
    match tell_errors(&set) {
        0 => Ok(set),
        errors => Err(BadRules::Errors { errors }),
    }
}

/// Reads rules, whatever is wrong with them.
pub(super) fn read(paths: &[PathBuf], falco_config: Option<&Path>) -> Result<RuleSet, BadRules> {
    let named = falco_config.map(rules::files_of_config).transpose().map_err(BadRules::Read)?;
    RuleSet::read(named.as_deref().unwrap_or(paths)).map_err(BadRules::Read)
}

/// Shows errors on standard error; gives their number.
pub(super) fn tell_errors(set: &RuleSet) -> usize {
    let errors: Vec<_> = set.diagnostics.iter().filter(|diagnostic| is_error(diagnostic)).collect();
    for error in &errors {
        // Nobody may be there to read it; the exit status tells as well.
        let _ = writeln!(io::stderr(), "{}", error.display(&set.sources));
    }
    errors.len()
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

fn status(errors: usize) -> ExitCode {
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(STATUS_USAGE) }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The index of the rule with this name.
pub(super) fn find(set: &RuleSet, name: &str) -> Result<usize, BadRules> {
    set.rules.iter().position(|rule| rule.name == name).ok_or_else(|| {
        let plain = name.to_lowercase();
        let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &plain);
        let known = set.rules.iter().map(|rule| (distance(&rule.name), &rule.name));
        let nearest = known.min_by_key(|(distance, _)| *distance);
        let nearest = nearest.filter(|(distance, _)| distance * 3 <= name.chars().count());
        BadRules::NoRule { name: name.to_owned(), nearest: nearest.map(|(_, known)| known.clone()) }
    })
}

/// Where something stands, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The path of the file, as it was given.
    pub(super) file: String,
    /// The line, from 1 on.
    pub(super) line: usize,
    /// The column, from 1 on, in characters.
    pub(super) column: usize,
}

impl Place {
    /// The place of a stretch; `None` if its file is not known.
    pub(super) fn of(set: &RuleSet, span: Span) -> Option<Self> {
        let (line, column) = set.sources.line_column(span)?;
        let file = set.sources.file(span.file)?.path.to_string_lossy().into_owned();
        Some(Self { file, line, column })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", printable(&self.file), self.line)
    }
}
