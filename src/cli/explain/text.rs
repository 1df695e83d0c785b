//! An explanation as text for people: a table of calls, what memory has to show, what rules cost, and warnings.
//!
//! It is no interface: what a program should read is in the JSON.

use std::fmt::Write;

use super::{
    Call, Explanation, Focus, Keeps,
    words::{Shown, Terms},
};
use crate::{
    cli::{printable, rules::Place},
    interest::formula::Formula,
    rules::SYSCALL_SOURCE,
};

/// What is left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Nothing is.
    pub(super) is_verbose: bool,
    /// The filter is listed too.
    pub(super) has_bpf: bool,
}

/// Values of a list that are shown where not all are.
const VALUES_SHOWN: usize = 8;

/// Rules of a call that are named where not all are.
const NAMES_SHOWN: usize = 2;

/// Rules whose cost is shown where not all are.
const COSTS_SHOWN: usize = 20;

/// Columns of a line, as far as it can be broken.
const COLUMNS: usize = 110;

/// Columns of a register condition in the table, unless nothing is left out.
const CONDITION_COLUMNS: usize = 44;

/// The calls that start a program: always kept, since Falco knows processes by them.
const EXEC_CALLS: [&str; 2] = ["execve", "execveat"];

/// The whole text.
pub(super) fn render(explanation: &Explanation<'_>, options: Options) -> String {
    let mut page = Page { text: String::new(), options };
    if explanation.focus.is_some() {
        page.focus(explanation);
    } else {
        page.calls(explanation);
        page.state(explanation);
        page.memory(explanation);
        page.costs(explanation);
    }
    page.warnings(explanation);
    if options.has_bpf {
        page.filter(explanation);
    }
    page.summary(explanation);
    page.text
}

struct Page {
    text: String,
    options: Options,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(heading);
    }

    /// Lines of words, broken at blanks; the first one behind `first`, the others under it.
    fn wrapped(&mut self, first: &str, words: &str) {
        let indent = first.chars().count();
        let mut line = first.to_owned();
        let mut is_bare = true;
        for word in words.split(' ') {
            if !is_bare && line.chars().count() + 1 + word.chars().count() > COLUMNS {
                self.line(&line);
                line = " ".repeat(indent);
                is_bare = true;
            }
            if !is_bare {
                line.push(' ');
            }
            line.push_str(word);
            is_bare = false;
        }
        self.line(&line);
    }

    /// Rows in columns as wide as what stands in them, the last one of any width.
    fn table<const N: usize>(&mut self, rows: &[[String; N]]) {
        let mut widths = [0; N];
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            self.line(&cells.collect::<Vec<_>>().join("  "));
        }
    }

    const fn shown(&self) -> Shown {
        if self.options.is_verbose { Shown::All } else { Shown::Some(VALUES_SHOWN) }
    }

    fn calls(&mut self, explanation: &Explanation<'_>) {
        let has_rules = explanation.set.is_some();
        let header = ["call", "trapped when", "dropped at", if has_rules { "rules" } else { "" }];
        let mut rows = vec![header.map(str::to_owned)];
        for call in explanation.calls.iter().filter(|call| !call.is_state_only()) {
            rows.push([
                call.name.to_owned(),
                self.condition(call),
                stages(call).to_owned(),
                if has_rules { self.rule_names(explanation, call) } else { String::new() },
            ]);
        }
        self.table(&rows);
    }

    fn condition(&self, call: &Call) -> String {
        let words = when(call, self.shown());
        if self.options.is_verbose || words.chars().count() <= CONDITION_COLUMNS {
            return words;
        }
        let cut: String = words.chars().take(CONDITION_COLUMNS - 4).collect();
        format!("{cut} ...")
    }

    fn rule_names(&self, explanation: &Explanation<'_>, call: &Call) -> String {
        let count = call.shares.len();
        if !self.options.is_verbose && count > NAMES_SHOWN {
            return count.to_string();
        }
        let rules = explanation.set.map_or(&[][..], |set| &set.rules);
        let names = call.shares.iter().filter_map(|share| rules.get(share.rule));
        let names: Vec<_> = names.map(|rule| printable(&rule.name)).collect();
        format!("{count}: {}", names.join("; "))
    }

    fn state(&mut self, explanation: &Explanation<'_>) {
        let reasons = grouped(&explanation.calls, |call| call.state);
        if reasons.is_empty() {
            return;
        }
        self.heading("trapped for Falco's picture of processes, whatever the rules say of them:");
        for (reason, calls) in reasons {
            let conditions = grouped(&calls, |call| Some(when(call, Shown::All)));
            let calls = conditions.iter().map(|(condition, calls)| match condition.as_str() {
                "always" => names(calls),
                condition => format!("{} when {condition}", names(calls)),
            });
            let calls = calls.collect::<Vec<_>>().join(", ");
            self.wrapped("  ", &format!("{calls}: {reason}"));
        }
    }

    fn memory(&mut self, explanation: &Explanation<'_>) {
        let narrowed = explanation.calls.iter().filter(|call| call.is_narrowed_by_memory());
        let narrowed: Vec<_> = narrowed.collect();
        let asked = grouped(&narrowed, |call| {
            let terms = Terms::of(call.name);
            let anyway = call.formula.without_texts();
            Some((terms.memory_predicates(&call.formula), terms.text(&anyway, Shown::All)))
        });
        if asked.is_empty() {
            return;
        }
        self.heading("what memory must show, or else the call is dropped at its entry:");
        for ((predicates, anyway), calls) in asked {
            self.line(&format!("  {}", names(&calls)));
            for predicate in &predicates {
                self.wrapped("    ", &predicate.text(self.shown()));
            }
            if anyway != "never" {
                self.wrapped("    ", &format!("(kept all the same when {anyway})"));
            }
        }
    }

    /// The rules for which memory need not show anything in some calls: these cost a record at each of them.
    fn costs(&mut self, explanation: &Explanation<'_>) {
        let mut costs: Vec<_> = explanation
            .rules()
            .filter_map(|(index, rule)| {
                let is_costly =
                    |(call, keeps): &(&str, Keeps)| *keeps != Keeps::ByText && !EXEC_CALLS.contains(call);
                let (all, some): (Vec<_>, Vec<_>) =
                    explanation.shares(index).filter(is_costly).partition(|(_, keeps)| *keeps == Keeps::All);
                let count = all.len() + some.len();
                (count > 0).then_some((count, all.len(), rule, all, some))
            })
            .collect();
        costs.sort_by_key(|(count, all, ..)| std::cmp::Reverse((*count, *all)));
        if costs.is_empty() {
            return;
        }
        self.heading(
            "what rules cost, beside program starts: calls that they keep whatever path or address it is",
        );
        let most = if self.options.is_verbose { costs.len() } else { COSTS_SHOWN };
        for (_, _, rule, all, some) in costs.iter().take(most) {
            let name = |(call, _): &(&str, Keeps)| (*call).to_owned();
            let some = some.iter().map(|call| format!("{} (by numbers)", name(call)));
            let calls: Vec<_> = all.iter().map(name).chain(some).collect();
            let calls = self.bounded(&calls);
            self.wrapped("  ", &format!("{}: {calls}", printable(&rule.name)));
        }
        if costs.len() > most {
            self.line(&format!("  ... and {} more rules: --verbose shows them", costs.len() - most));
        }
    }

    fn bounded(&self, words: &[String]) -> String {
        let most = if self.options.is_verbose { words.len() } else { VALUES_SHOWN };
        let mut text = words.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
        if words.len() > most {
            let _ = write!(text, ", ... and {} more", words.len() - most);
        }
        text
    }

    /// One rule: for each call all of what it asks.
    fn focus(&mut self, explanation: &Explanation<'_>) {
        let rule = explanation.rules().next();
        if let (Some((_, rule)), Some(set)) = (rule, explanation.set) {
            let place = Place::of(set, rule.span).map_or_else(String::new, |place| format!(" ({place})"));
            self.line(&format!("{}{place}", printable(&rule.name)));
        }
        let asked = grouped(&explanation.calls, |call| {
            let terms = Terms::of(call.name);
            Some((when(call, Shown::All), terms.text(&call.formula, Shown::All), stages(call)))
        });
        for ((trapped, formula, stages), calls) in asked {
            self.heading(&names(&calls));
            self.wrapped("  trapped when  ", &format!("{trapped}{}", trapped_for(explanation)));
            self.wrapped("  may match if  ", &formula);
            self.wrapped("  dropped at    ", stages);
        }
    }

    fn warnings(&mut self, explanation: &Explanation<'_>) {
        let Some(set) = explanation.set.filter(|_| !explanation.warnings.is_empty()) else { return };
        self.heading("warnings:");
        for warning in &explanation.warnings {
            self.line(&warning.display(&set.sources).to_string());
        }
    }

    fn filter(&mut self, explanation: &Explanation<'_>) {
        let filter = &explanation.filter;
        let count = filter.instructions().len();
        self.heading(&format!("the seccomp filter for {}, {count} instructions:", filter.native().name()));
        self.text.push_str(&filter.to_string());
    }

    fn summary(&mut self, explanation: &Explanation<'_>) {
        if let Some(focus) = explanation.focus {
            return self.focus_summary(explanation, focus);
        }
        let Explanation { calls, set, .. } = explanation;
        let count = |claim: fn(&Call) -> bool| calls.iter().filter(|call| claim(call)).count();
        let rules = set.map_or_else(
            || "the built-in table, no rules".to_owned(),
            |set| {
                let enabled = set.rules.iter().filter(|rule| rule.is_enabled).count();
                format!("{enabled} rules enabled of {}", set.rules.len())
            },
        );
        let mut line = format!(
            "{rules}: {} calls trapped, of them {} narrowed by registers, {} by memory",
            calls.len(),
            count(Call::is_narrowed_by_registers),
            count(Call::is_narrowed_by_memory)
        );
        match count(Call::is_state_only) {
            0 => {}
            // Writing to a string cannot fail.
            state => drop(write!(line, "; {state} only for the picture of processes")),
        }
        self.heading(&line);
        let diagnostics = set.map_or(0, |set| set.diagnostics.len());
        if diagnostics > 0 {
            self.line(&format!(
                "{diagnostics} more warnings about the files: creance rules check shows them"
            ));
        }
    }

    fn focus_summary(&mut self, explanation: &Explanation<'_>, focus: Focus) {
        let state = if focus.is_enabled { "enabled" } else { "disabled, and explained as if it were not" };
        let source = explanation.rules().next().map_or("", |(_, rule)| &rule.source);
        let share = match explanation.calls.len() {
            0 if source != SYSCALL_SOURCE => {
                format!("no share in any call: it is about events of {}", printable(source))
            }
            0 if explanation.warnings.is_empty() => {
                "no share in any call: what it asks for is told without a trap, as clone and procexit are"
                    .to_owned()
            }
            0 => "no share in any call".to_owned(),
            1 => "a share in 1 call".to_owned(),
            calls => format!("a share in {calls} calls"),
        };
        self.heading(&format!("the rule is {state}; it has {share}"));
    }
}

/// Why the registers in focus may be wider than the rule's own.
fn trapped_for(explanation: &Explanation<'_>) -> &'static str {
    let is_alone =
        explanation.set.is_none_or(|set| set.rules.iter().filter(|rule| rule.is_enabled).count() < 2);
    if is_alone { "" } else { "  (for all rules together)" }
}

/// When the filter traps a call.
fn when(call: &Call, shown: Shown) -> String {
    let formula = Formula::of_registers(&call.registers);
    Terms::of(call.name).text(&formula, shown)
}

/// The stages of the funnel that can drop a call that has its number.
pub(super) fn stages(call: &Call) -> &'static str {
    match (call.is_narrowed_by_registers(), call.is_narrowed_by_memory()) {
        (true, true) => "registers, memory",
        (true, false) => "registers",
        (false, true) => "memory",
        (false, false) => "never",
    }
}

fn names<C: AsRef<Call>>(calls: &[C]) -> String {
    calls.iter().map(|call| call.as_ref().name).collect::<Vec<_>>().join(", ")
}

/// The calls with the same key together, in the order of the first of each.
fn grouped<C: AsRef<Call>, K: PartialEq>(
    calls: &[C],
    key: impl Fn(&Call) -> Option<K>,
) -> Vec<(K, Vec<&Call>)> {
    let mut groups: Vec<(K, Vec<&Call>)> = Vec::new();
    for call in calls {
        let Some(key) = key(call.as_ref()) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(call.as_ref()),
            None => groups.push((key, vec![call.as_ref()])),
        }
    }
    groups
}
