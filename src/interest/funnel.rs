//! From rules to an interest, and what each rule has a share in.

use super::{Interest, RegisterTest, formula::Formula};
use crate::rules::{Diagnostic, ExpandedRule};

/// What rules make of the system calls.
#[derive(Debug, Clone)]
pub struct Funnel {
    /// What is trapped.
    pub interest: Interest,
    /// The calls that are trapped, by name.
    pub calls: Vec<CallFunnel>,
    /// What a user should know about the rules: those that can never match, those that cost much.
    pub warnings: Vec<Diagnostic>,
}

/// What rules make of one call.
#[derive(Debug, Clone)]
pub struct CallFunnel {
    /// Its name.
    pub name: &'static str,
    /// What the filter looks at.
    pub registers: RegisterTest,
    /// What triage looks at: when any rule may match.
    pub formula: Formula,
    /// The rules that may match, and when each of them may.
    pub rules: Vec<RuleShare>,
    /// Whether Falco's picture of a process needs the call, whatever the rules say about it.
    pub is_state: bool,
}

/// One rule's share in what is made of a call.
#[derive(Debug, Clone)]
pub struct RuleShare {
    /// Its index in the rules.
    pub rule: usize,
    /// When it may match.
    pub formula: Formula,
}

impl Funnel {
    /// What these rules make of the system calls. Disabled rules, and those of other sources, have no share.
    #[must_use]
    pub fn of_rules(_rules: &[ExpandedRule]) -> Self {
        Self { interest: Interest::built_in(), calls: Vec::new(), warnings: Vec::new() }
    }
}
