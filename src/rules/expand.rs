//! From entries to rules whose conditions are whole: exceptions, lists and macros put in, as Falco's compiler does it.
//!
//! Falco compiles after each file. So what a file needs has to be in it or in one before it, and [`Expansion::check`]
//! is called after each; [`Expansion::rules`] after the last. What comes out is bounded: macros double what they hold
//! each time that they are named. A macro that is wrong is told of once; rules that need it are left out in silence.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use super::{
    ExpandedRule, SYSCALL_SOURCE,
    condition::{self, Check, Expr, Field, Name, Operand, Operator, Right, Word},
    entries::{Entries, Rule},
    exceptions,
    items::{error, warning},
    lists::{Lists, TooLarge},
    source::{Diagnostic, Located, Severity, Span},
};
use crate::limits::{CONDITION_DEPTH_MAX, CONDITION_NODES_MAX, RULES_NODES_MAX};

/// Fields that Falco 0.44 still takes, and that say nothing any more.
const DEPRECATED_FIELDS: [&str; 6] =
    ["evt.dir", "evt.latency", "evt.latency.s", "evt.latency.ns", "evt.latency.human", "evt.wait_latency"];

/// What is found out about entries while they are made into rules.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    /// What is wrong.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Names of macros that were not known where they were needed, and how bad that is.
    unknown: Vec<(Name, Severity)>,
}

/// A macro while conditions are put together.
struct Macro<'e> {
    name: &'e str,
    span: Span,
    index: usize,
    /// What it stands for, if that could be understood. Macros before the one that is worked on have no names of
    /// macros in them any more.
    expr: Option<Rc<Expr>>,
    is_used: bool,
}

impl Expansion {
    /// Looks at what was added or changed since the entry of the number `since`: whether Falco could compile it with
    /// what there is so far.
    pub(super) fn check(&mut self, entries: &Entries, since: usize) {
        let Some(mut lists) = self.lists(entries) else { return };
        for one in entries.macros.all().filter(|one| one.visibility >= since) {
            if let Some(expr) = self.parsed(&one.condition, &mut lists, Severity::Error) {
                self.look_up(&expr, entries, one.visibility, Severity::Error);
            }
        }
        for rule in entries.rules.all().filter(|rule| rule.visibility >= since) {
            let severity = severity_of(rule);
            if let Some(expr) = self.parsed_rule(rule, &mut lists) {
                self.look_up(&expr, entries, usize::MAX, severity);
            }
        }
    }

    /// The rules, as far as they could be understood.
    pub(super) fn rules(&mut self, entries: &Entries) -> Vec<ExpandedRule> {
        let Some(mut lists) = self.lists(entries) else { return Vec::new() };
        let mut macros = self.macros(entries, &mut lists);
        for position in 0..macros.all.len() {
            let visibility = entries.macros.all().nth(position).map_or(0, |one| one.visibility);
            let raw = macros.all.get(position).and_then(|one| one.expr.clone());
            let Some(raw) = raw else { continue };
            let span = macros.all.get(position).map(|one| one.span);
            let expr = self.resolved(&mut macros, &raw, visibility, span, Severity::Error);
            if let Some(one) = macros.all.get_mut(position) {
                one.expr = expr.map(Rc::new);
            }
        }
        let mut rules = Vec::new();
        for rule in entries.rules.all() {
            let severity = severity_of(rule);
            let Some(expr) = self.parsed_rule(rule, &mut lists) else { continue };
            self.warn_of_output(rule);
            self.warn_of_fields(&expr);
            if let Some(condition) = self.resolved(&mut macros, &expr, usize::MAX, Some(rule.span), severity)
            {
                rules.push(expanded(rule, condition));
            }
        }
        self.warn_of_unused(entries, &macros, &lists);
        rules
    }

    fn lists(&mut self, entries: &Entries) -> Option<Lists> {
        let lists = Lists::new(&entries.lists);
        lists.map_err(|(TooLarge, span)| self.diagnostics.push(error("the lists hold too much", span))).ok()
    }

    fn macros<'e>(&mut self, entries: &'e Entries, lists: &mut Lists) -> Macros<'e> {
        let mut all = Vec::new();
        for one in entries.macros.all() {
            let expr = self.parsed(&one.condition, lists, Severity::Error).map(Rc::new);
            all.push(Macro { name: &one.name, span: one.span, index: one.index, expr, is_used: false });
        }
        let by_name = all.iter().enumerate().map(|(position, one)| (one.name, position)).collect();
        Macros { all, by_name, nodes_left: RULES_NODES_MAX }
    }

    /// A condition with its lists put in, as a tree.
    fn parsed(&mut self, text: &Located, lists: &mut Lists, severity: Severity) -> Option<Expr> {
        let result = lists
            .substitute(text)
            .map_err(|TooLarge| {
                error("this condition holds too much, with its lists put in", text.span(0, 1))
            })
            .and_then(|text| condition::parse(&text));
        result.map_err(|diagnostic| self.diagnostics.push(Diagnostic { severity, ..diagnostic })).ok()
    }

    fn parsed_rule(&mut self, rule: &Rule, lists: &mut Lists) -> Option<Expr> {
        let severity = severity_of(rule);
        let text = if rule.exceptions.is_empty() {
            Cow::Borrowed(&rule.condition)
        } else {
            match exceptions::fold(&rule.condition, &rule.exceptions) {
                Ok(text) => Cow::Owned(text),
                Err(diagnostic) => {
                    self.diagnostics.push(Diagnostic { severity, ..diagnostic });
                    return None;
                }
            }
        };
        self.parsed(&text, lists, severity)
    }

    /// Notes the macros of a condition that are not known.
    fn look_up(&mut self, expr: &Expr, entries: &Entries, visibility: usize, severity: Severity) {
        match expr {
            Expr::And(operands) | Expr::Or(operands) => {
                operands.iter().for_each(|operand| self.look_up(operand, entries, visibility, severity));
            }
            Expr::Not(operand) => self.look_up(operand, entries, visibility, severity),
            Expr::Check(_) => {}
            Expr::Macro(name) => {
                if entries.macros.find(&name.text).is_none_or(|one| one.index >= visibility) {
                    self.unknown.push((name.clone(), severity));
                }
            }
        }
    }

    /// The condition without macros, of which it sees those that were defined before the entry `visibility`.
    fn resolved(
        &mut self,
        macros: &mut Macros<'_>,
        expr: &Expr,
        visibility: usize,
        span: Option<Span>,
        severity: Severity,
    ) -> Option<Expr> {
        let nodes = CONDITION_NODES_MAX.min(macros.nodes_left);
        let mut resolver = Resolver {
            macros,
            visibility,
            path: Vec::new(),
            nodes_left: nodes,
            is_spent: false,
            severity,
            wrong: Vec::new(),
            unknown: &mut self.unknown,
        };
        let result = resolver.resolve(expr, 0);
        let (left, wrong) = (resolver.nodes_left, resolver.wrong);
        macros.nodes_left = macros.nodes_left.saturating_sub(nodes - left);
        for wrong in wrong {
            let diagnostic = match wrong {
                Wrong::Loop(name) => {
                    let message =
                        format!("the macro `{}` names itself, by way of others or at once", name.text);
                    error(message, name.span)
                }
                Wrong::TooLarge => match span {
                    Some(span) => error("this condition holds too much, with its macros put in", span),
                    None => continue,
                },
            };
            self.diagnostics.push(Diagnostic { severity, ..diagnostic });
        }
        result
    }

    fn warn_of_output(&mut self, rule: &Rule) {
        let used = DEPRECATED_FIELDS
            .iter()
            .filter(|field| rule.output.contains(**field))
            .max_by_key(|field| field.len());
        if let Some(field) = used {
            let message =
                format!("the output shows `{field}`, which says nothing since there are no enter events");
            self.diagnostics.push(warning(message, rule.output_span));
        }
        if rule.output.contains("%container.info") {
            let message = "the output shows `%container.info`, which Falco replaces by nothing";
            self.diagnostics.push(warning(message, rule.output_span));
        }
    }

    fn warn_of_fields(&mut self, expr: &Expr) {
        match expr {
            Expr::And(operands) | Expr::Or(operands) => {
                operands.iter().for_each(|operand| self.warn_of_fields(operand))
            }
            Expr::Not(operand) => self.warn_of_fields(operand),
            Expr::Check(check) => self.warn_of_check(check),
            Expr::Macro(_) => {}
        }
    }

    fn warn_of_check(&mut self, check: &Check) {
        self.warn_of_operand(&check.left);
        if let Right::Operand(operand) = &check.right {
            self.warn_of_operand(operand);
        }
        if let Operand::Field(field) = &check.left
            && (field.name.starts_with("ka.") || field.name.starts_with("jevt."))
            && matches!(
                check.operator,
                Operator::Eq | Operator::Ne | Operator::In | Operator::Intersects | Operator::PMatch
            )
        {
            let words = match &check.right {
                Right::Value(word) => std::slice::from_ref(word),
                Right::List(words) => words.as_slice(),
                _ => &[],
            };
            if words.iter().any(|word| word.text == "<NA>") {
                let message = "a comparison with <NA> is not reliable";
                self.diagnostics.push(Diagnostic {
                    help: Some("use `exists`".to_owned()),
                    ..warning(message, check.span)
                });
            }
        }
    }

    fn warn_of_operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Field(Field { name, span, .. }) => {
                if name == "evt.dir" {
                    let message = "`evt.dir` says nothing any more: there are no enter events";
                    let help = "`evt.dir = <` always holds and `evt.dir = >` never does: leave it out";
                    self.diagnostics
                        .push(Diagnostic { help: Some(help.to_owned()), ..warning(message, *span) });
                } else if DEPRECATED_FIELDS.contains(&name.as_str()) {
                    let message = format!("`{name}` says nothing any more: there are no enter events");
                    self.diagnostics.push(warning(message, *span));
                }
            }
            Operand::Transformed { arguments, .. } => {
                arguments.iter().for_each(|argument| self.warn_of_operand(argument));
            }
            Operand::List(operands) => operands.iter().for_each(|operand| self.warn_of_operand(operand)),
            Operand::Word(_) => {}
        }
    }

    fn warn_of_unused(&mut self, entries: &Entries, macros: &Macros<'_>, lists: &Lists) {
        for (position, list) in entries.lists.all().enumerate() {
            if !lists.is_used(position) {
                self.diagnostics.push(warning(format!("nothing uses the list `{}`", list.name), list.span));
            }
        }
        for left in lists.left_names() {
            let message = format!("`{}` is the name of a list, but stays a mere word here", left.name);
            let help = "Falco puts in a list in a list in a list only if the outer ones are defined first";
            self.diagnostics.push(Diagnostic { help: Some(help.to_owned()), ..warning(message, left.span) });
        }
        // Of the macros, Falco looks into those that a rule uses.
        let raw: Vec<_> =
            macros.all.iter().filter(|one| one.is_used).filter_map(|one| one.expr.clone()).collect();
        raw.iter().for_each(|expr| self.warn_of_fields(expr));
        for one in macros.all.iter().filter(|one| !one.is_used) {
            self.diagnostics.push(warning(format!("nothing uses the macro `{}`", one.name), one.span));
        }
    }

    /// Tells of the unknown macros, now that all files were read. With a file that could not be read none is certain.
    pub(super) fn tell_unknown(&mut self, entries: &Entries) {
        for (name, severity) in std::mem::take(&mut self.unknown) {
            if entries.broken_macros.contains(&name.text) {
                continue;
            }
            let help = match entries.macros.find(&name.text) {
                Some(later) if later.span.file == name.span.file => {
                    "it is defined further down: a macro sees only those above it".to_owned()
                }
                Some(_) => "it is defined in a later file: give that file first with -r".to_owned(),
                None => help_for(&name.text, entries),
            };
            let diagnostic = error(format!("there is no macro `{}`", name.text), name.span);
            self.diagnostics.push(Diagnostic { severity, help: Some(help), ..diagnostic });
        }
    }
}

/// What to do about a macro that there is none of.
fn help_for(name: &str, entries: &Entries) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(known, name);
    let close =
        entries.macros.all().filter(|known| known.name.len().abs_diff(name.len()) <= 2 && known.name != name);
    let nearest = close.map(|known| (distance(&known.name), known)).min_by_key(|(distance, _)| *distance);
    let others = "is it defined in another rule file? give that file first with -r";
    match nearest.filter(|(distance, _)| *distance <= 2 && *distance * 3 <= name.len()) {
        Some((_, known)) => format!("did you mean `{}`? or {others}", known.name),
        None => others.to_owned(),
    }
}

/// Rules of other sources are of plugins that Falco may not have: then it skips them.
fn severity_of(rule: &Rule) -> Severity {
    if rule.source == SYSCALL_SOURCE { Severity::Error } else { Severity::Warning }
}

fn expanded(rule: &Rule, condition: Expr) -> ExpandedRule {
    ExpandedRule {
        name: rule.name.clone(),
        span: rule.span,
        is_enabled: rule.is_enabled,
        source: rule.source.clone(),
        condition,
        output: rule.output.clone(),
    }
}

/// All macros.
struct Macros<'e> {
    all: Vec<Macro<'e>>,
    by_name: HashMap<&'e str, usize>,
    /// Nodes that may still come out of all conditions.
    nodes_left: usize,
}

/// Why a condition has no form without macros, other than an unknown one.
enum Wrong {
    Loop(Name),
    TooLarge,
}

/// Puts macros into one condition.
struct Resolver<'r, 'e> {
    macros: &'r mut Macros<'e>,
    visibility: usize,
    /// The macros that we are in.
    path: Vec<usize>,
    nodes_left: usize,
    /// Whether there were more nodes than may be, and nothing more is looked at.
    is_spent: bool,
    severity: Severity,
    wrong: Vec<Wrong>,
    unknown: &'r mut Vec<(Name, Severity)>,
}

impl Resolver<'_, '_> {
    fn resolve(&mut self, expr: &Expr, depth: usize) -> Option<Expr> {
        self.spend(expr, depth)?;
        match expr {
            Expr::And(operands) => self.resolve_all(operands, depth).map(Expr::And),
            Expr::Or(operands) => self.resolve_all(operands, depth).map(Expr::Or),
            Expr::Not(operand) => {
                self.resolve(operand, depth + 1).map(|operand| Expr::Not(Box::new(operand)))
            }
            Expr::Check(check) => Some(Expr::Check(without_names(check))),
            Expr::Macro(name) => self.resolve_macro(name, depth),
        }
    }

    /// All operands are looked at, to find more than the first that is wrong.
    fn resolve_all(&mut self, operands: &[Expr], depth: usize) -> Option<Vec<Expr>> {
        let mut resolved = Vec::with_capacity(operands.len());
        let mut is_whole = true;
        for operand in operands {
            match self.resolve(operand, depth + 1) {
                Some(operand) => resolved.push(operand),
                None => is_whole = false,
            }
            if self.is_spent {
                return None;
            }
        }
        is_whole.then_some(resolved)
    }

    fn resolve_macro(&mut self, name: &Name, depth: usize) -> Option<Expr> {
        let position = self.macros.by_name.get(name.text.as_str()).copied();
        let found = position.and_then(|position| Some((position, self.macros.all.get_mut(position)?)));
        let Some((position, one)) = found.filter(|(_, one)| one.index < self.visibility) else {
            self.unknown.push((name.clone(), self.severity));
            return None;
        };
        one.is_used = true;
        let expr = one.expr.clone()?;
        if self.path.contains(&position) {
            self.wrong.push(Wrong::Loop(name.clone()));
            return None;
        }
        self.path.push(position);
        let resolved = self.resolve(&expr, depth + 1);
        self.path.pop();
        resolved
    }

    fn spend(&mut self, expr: &Expr, depth: usize) -> Option<()> {
        let words = match expr {
            Expr::Check(Check { right: Right::List(words), .. }) => words.len(),
            _ => 0,
        };
        match self.nodes_left.checked_sub(1 + words) {
            Some(left) if depth < CONDITION_DEPTH_MAX => {
                self.nodes_left = left;
                Some(())
            }
            _ => {
                if !self.is_spent {
                    self.wrong.push(Wrong::TooLarge);
                }
                self.is_spent = true;
                None
            }
        }
    }
}

/// A name that no list has is a value.
fn without_names(check: &Check) -> Check {
    let mut check = check.clone();
    if let Right::Named(name) = check.right {
        check.right = Right::List(vec![Word { text: name.text, is_quoted: false, span: name.span }]);
    }
    check
}
