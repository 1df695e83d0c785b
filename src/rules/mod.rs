//! Falco's rule language, as of Falco 0.44: from files to conditions without macros and lists.
//!
//! A [`RuleSet`] is read from rule files in Falco's order: what later entries append, replace or disable is applied, and
//! each rule has its condition in full, its exceptions included. Everything keeps its place in
//! the file it came from, so that an error can show it.
//!
//! It knows the language and nothing of system calls: what a field is worth is decided in [`crate::interest`].

pub mod condition;
mod config;
mod entries;
mod exceptions;
mod expand;
mod items;
mod lists;
mod load;
pub mod source;
#[cfg(test)]
mod tests;
mod yaml;

use std::path::{Path, PathBuf};

pub use condition::Expr;
pub use source::{Diagnostic, Severity, Sources, Span};

/// The event source of system calls, which a rule is about unless it says otherwise.
pub const SYSCALL_SOURCE: &str = "syscall";

/// A rule with its condition in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedRule {
    /// Its name.
    pub name: String,
    /// Where its name stands in the entry that defined it.
    pub span: Span,
    /// Whether Falco would evaluate it.
    pub is_enabled: bool,
    /// The event source, [`SYSCALL_SOURCE`] unless the rule says otherwise.
    pub source: String,
    /// The condition, with its exceptions, without macros and lists.
    pub condition: Expr,
    /// The output line, as it stands in the file.
    pub output: String,
}

impl ExpandedRule {
    /// Whether Falco evaluates it at system calls.
    #[must_use]
    pub fn looks_at_calls(&self) -> bool {
        self.is_enabled && self.source == SYSCALL_SOURCE
    }
}

/// The rules of some files.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// The files, for messages.
    pub sources: Sources,
    /// What is wrong with them, in the order of the places.
    pub diagnostics: Vec<Diagnostic>,
    /// Every rule that could be understood, in the order of their first entries, disabled ones included.
    pub rules: Vec<ExpandedRule>,
}

impl RuleSet {
    /// Reads rule files and directories of them, in this order (of a directory, its `.yaml` and `.yml` files by name).
    ///
    /// # Errors
    /// [`ReadError`] if a file or a directory cannot be read, or is too large. What is wrong inside is in
    /// [`RuleSet::diagnostics`].
    pub fn read(paths: &[PathBuf]) -> Result<Self, ReadError> {
        load::read(paths).map(load::parse)
    }

    /// The rules of files that were read before: their names and their texts, in this order.
    #[must_use]
    pub fn parse(files: Vec<(PathBuf, String)>) -> Self {
        load::parse(files)
    }

    /// Tells whether Falco would refuse the files.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// A rule file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct ReadError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// The rule files and directories that a `falco.yaml` names (`rules_files`), in order, as it names them. Those that do not
/// exist are left out, as by Falco. Files that it includes (`config_files`) are read as well.
///
/// # Errors
/// [`ReadError`] if a file cannot be read, or none is named that exists.
pub fn files_of_config(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    config::files(path)
}
