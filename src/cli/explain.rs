//! `creance explain`: the funnel of given rules, for people and for machines.
//!
//! It tells what the interest, the filter and the rules say, and decides nothing itself: what it counts, and what it
//! calls a stage, follow from their formulas. What the words and the keys mean is in `docs/rules.md`.

mod json;
mod text;
mod words;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{print, rules};
use crate::{
    abi::{self, Abi, SyscallNr},
    filter::{self, Program},
    interest::{CallFunnel, Funnel, Interest, NativeCalls, RegisterTest, RuleShare, formula::Formula},
    rules::{Diagnostic, ExpandedRule, RuleSet},
};

/// Show what would be trapped for some rules, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Without rules it explains the built-in table. How to read it, and the keys of the JSON: docs/rules.md.
The exit status is 2 if the rules have errors, which are then shown on standard error, or for other bad input.")]
pub(super) struct Explain {
    /// A rule file, or a directory of them; may be given again
    #[arg(short, long, value_name = "FILE|DIR", conflicts_with = "falco_config")]
    rules: Vec<PathBuf>,

    /// The rule files that this falco.yaml names
    #[arg(long, value_name = "FILE")]
    falco_config: Option<PathBuf>,

    /// Only this rule's share, in full; a disabled rule as if it were enabled
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,

    /// One JSON object with everything, whatever else is asked
    #[arg(long)]
    json: bool,

    /// List the seccomp filter too
    #[arg(long)]
    bpf: bool,

    /// Leave nothing out: every rule, every path
    #[arg(short, long)]
    verbose: bool,
}

impl Explain {
    /// Explains; gives the exit status.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let has_rules = self.falco_config.is_some() || !self.rules.is_empty();
        let mut set = match has_rules {
            true => Some(rules::read_valid(&self.rules, self.falco_config.as_deref())?),
            false => None,
        };
        let focus = self.rule.as_deref().map(|name| Focus::on(set.as_mut(), name)).transpose()?;
        let funnel = set.as_ref().map_or_else(built_in, |set| Funnel::of_rules(&set.rules));
        let filter = filter::compile(&funnel.interest, Abi::NATIVE, filter::Action::Trace)?;
        let explanation = Explanation::new(set.as_ref(), funnel, filter, focus);
        print(&if self.json {
            json::render(&explanation)
        } else {
            text::render(&explanation, text::Options { is_verbose: self.verbose, has_bpf: self.bpf })
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The one rule that is explained.
#[derive(Debug, Clone, Copy)]
struct Focus {
    /// Its index in the rules.
    rule: usize,
    /// Whether Falco would evaluate it.
    is_enabled: bool,
}

impl Focus {
    /// Finds a rule, and enables it.
    fn on(set: Option<&mut RuleSet>, name: &str) -> Result<Self, rules::BadRules> {
        let Some(set) = set else { return Err(rules::BadRules::NoRules) };
        let rule = rules::find(set, name)?;
        let enabled = set.rules.get_mut(rule).map(|rule| std::mem::replace(&mut rule.is_enabled, true));
        Ok(Self { rule, is_enabled: enabled == Some(true) })
    }
}

/// The built-in table as a funnel that no rule has a share in.
fn built_in() -> Funnel {
    let interest = Interest::built_in();
    let mut calls: Vec<_> = match interest.native_calls(Abi::NATIVE) {
        NativeCalls::All => Vec::new(),
        NativeCalls::Only(calls) => calls
            .into_iter()
            .filter_map(|(nr, test)| {
                Some(CallFunnel {
                    name: abi::number_name(Abi::NATIVE, nr)?,
                    registers: test.clone(),
                    formula: Formula::of_registers(test),
                    rules: Vec::new(),
                    state: None,
                })
            })
            .collect(),
    };
    calls.sort_by_key(|call| call.name);
    Funnel { interest, calls, warnings: Vec::new() }
}

/// All that is explained.
struct Explanation<'a> {
    /// The rules; `None` for the built-in table.
    set: Option<&'a RuleSet>,
    /// The rule that it is all about, if it is about one.
    focus: Option<Focus>,
    /// The calls that are trapped on this machine's ABI, or those of them that the rule in focus has a share in.
    calls: Vec<Call>,
    /// What a user should know about the rules, in the order of the places.
    warnings: Vec<Diagnostic>,
    /// The filter for all rules.
    filter: Program,
}

/// A trapped call.
struct Call {
    name: &'static str,
    nr: SyscallNr,
    /// What the filter looks at, for all rules.
    registers: RegisterTest,
    /// When any rule may match, or the one in focus.
    formula: Formula,
    /// The shares of the rules.
    shares: Vec<RuleShare>,
    /// What Falco shows that would be wrong without the call, if it is trapped for that.
    state: Option<&'static str>,
}

/// What has to be looked at to keep a call for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Nothing: every such call is kept.
    All,
    /// For some of the calls numbers suffice: registers, or flags in a structure.
    ByNumbers,
    /// A text, an address or a name has to pass, whatever the numbers are.
    ByText,
}

impl Keeps {
    fn of(formula: &Formula) -> Self {
        match formula.without_texts() {
            Formula::False => Self::ByText,
            Formula::True => Self::All,
            _ => Self::ByNumbers,
        }
    }
}

impl Call {
    /// Tells whether triage can drop some calls that the filter traps.
    fn is_narrowed_by_memory(&self) -> bool {
        self.formula.with_memory(&Formula::False) != self.formula.with_memory(&Formula::True)
    }

    /// Tells whether the filter lets some calls pass.
    fn is_narrowed_by_registers(&self) -> bool {
        !self.registers.is_always()
    }

    /// Tells whether no rule asks for it.
    fn is_state_only(&self) -> bool {
        self.state.is_some() && self.shares.is_empty()
    }
}

impl AsRef<Self> for Call {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl<'a> Explanation<'a> {
    fn new(set: Option<&'a RuleSet>, funnel: Funnel, filter: Program, focus: Option<Focus>) -> Self {
        let calls = funnel.calls.into_iter().filter_map(|call| explained(call, focus)).collect();
        let rule = |focus: Focus| set.and_then(|set| set.rules.get(focus.rule));
        let span = focus.and_then(rule).map(|rule| rule.span);
        let mut warnings = funnel.warnings;
        warnings.retain(|warning| span.is_none_or(|span| warning.span == span));
        warnings.sort_by_key(|warning| (warning.span.file, warning.span.start));
        Self { set, focus, calls, warnings, filter }
    }

    /// The rules, with their indices, or the one in focus.
    fn rules(&self) -> impl Iterator<Item = (usize, &'a ExpandedRule)> {
        let is_meant = |index: usize| self.focus.is_none_or(|focus| focus.rule == index);
        self.set
            .into_iter()
            .flat_map(|set| set.rules.iter().enumerate())
            .filter(move |(index, _)| is_meant(*index))
    }

    /// The calls that a rule has a share in, and what keeps them for it.
    fn shares(&self, rule: usize) -> impl Iterator<Item = (&'static str, Keeps)> {
        self.calls.iter().filter_map(move |call| {
            let share = call.shares.iter().find(|share| share.rule == rule)?;
            Some((call.name, Keeps::of(&share.formula)))
        })
    }
}

/// What is explained of a call: nothing, if this machine has no such call or the rule in focus has no share in it.
fn explained(call: CallFunnel, focus: Option<Focus>) -> Option<Call> {
    let nr = abi::number(Abi::NATIVE, call.name)?;
    let mut shares = call.rules;
    let mut formula = call.formula;
    if let Some(focus) = focus {
        shares.retain(|share| share.rule == focus.rule);
        formula = shares.first()?.formula.clone();
    }
    let state = call.state.filter(|_| focus.is_none());
    Some(Call { name: call.name, nr, registers: call.registers, formula, shares, state })
}

#[cfg(test)]
mod tests;
