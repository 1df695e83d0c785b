//! Partial evaluation: a rule's condition, with all put in that is known of one call.
//!
//! Each comparison is asked when it *may* come out as wanted. So a negation is first pushed down to the comparisons;
//! what is unknown may come out either way.
//!
//! The comparisons of a conjunction are not independent where they are about the same field: `fd.l4proto = tcp and
//! (evt.type = connect or (evt.type = sendto and fd.l4proto != tcp))` leaves no `sendto`. So what a conjunction
//! requires of a field is assumed while the rest of it is evaluated. And what a call gives back decides much of what
//! its event shows, so each way in which it may turn out is evaluated by itself.

use std::collections::BTreeSet;

use super::{
    fact::{self, Fact},
    facts::{self, Case},
    formula::Formula,
};
use crate::rules::{
    Expr,
    condition::{Check, Field, Operand, Operator},
};

/// When `condition` may hold in an event that Falco is told of the call with this name.
pub(super) fn may_match(condition: &Expr, call: &str) -> Formula {
    let cases = facts::cases(call).into_iter();
    Formula::any(cases.map(|(when, case)| {
        let may = Evaluator { call, case, assumed: Vec::new() }.may(condition, true);
        Formula::all([when, may])
    }))
}

/// The calls that `condition` compares `evt.type` with; `None` if it compares by more than equality. All calls that it does
/// not name are the same to it, but for those of which more is known than the name ([`facts::is_ordinary`]).
pub(super) fn named_calls(condition: &Expr) -> Option<BTreeSet<&str>> {
    let mut named = BTreeSet::new();
    for check in condition.checks() {
        if matches!(&check.left, Operand::Field(field) if field.name != "evt.type") {
            continue;
        }
        match (check.operator, fact::words(check)) {
            (Operator::Eq | Operator::Ne | Operator::In, Some(words)) => named.extend(words),
            _ => return None,
        }
    }
    Some(named)
}

/// Fields that have one value in an event, which is compared as text. Only of these is anything assumed.
const SINGLE_TEXTS: [&str; 7] =
    ["fd.l4proto", "fd.type", "fd.typechar", "fd.sockfamily", "evt.res", "proc.name", "proc.pname"];

struct Evaluator<'a> {
    call: &'a str,
    case: Case,
    /// Fields that have a value, and each of them one of these.
    assumed: Vec<(&'a Field, Vec<&'a str>)>,
}

impl<'a> Evaluator<'a> {
    fn may(&mut self, condition: &'a Expr, is_wanted: bool) -> Formula {
        match condition {
            Expr::Not(inner) => self.may(inner, !is_wanted),
            Expr::And(operands) if is_wanted => self.all(operands, is_wanted),
            Expr::Or(operands) if !is_wanted => self.all(operands, is_wanted),
            Expr::And(operands) | Expr::Or(operands) => {
                let mut any = Vec::new();
                for operand in operands {
                    match self.may(operand, is_wanted) {
                        Formula::True => return Formula::True,
                        other => any.push(other),
                    }
                }
                Formula::any(any)
            }
            Expr::Check(check) => self.check(check, is_wanted),
            Expr::Macro(_) => Formula::True,
        }
    }

    fn all(&mut self, operands: &'a [Expr], is_wanted: bool) -> Formula {
        let before = self.assumed.len();
        operands.iter().for_each(|operand| self.assume(operand, is_wanted));
        let mut all = Vec::new();
        for operand in operands {
            match self.may(operand, is_wanted) {
                Formula::False => {
                    all = vec![Formula::False];
                    break;
                }
                other => all.push(other),
            }
        }
        self.assumed.truncate(before);
        Formula::all(all)
    }

    /// Notes what a required part of a conjunction says about a field.
    fn assume(&mut self, operand: &'a Expr, is_wanted: bool) {
        match operand {
            Expr::Not(inner) => self.assume(inner, !is_wanted),
            Expr::And(operands) if is_wanted => operands.iter().for_each(|one| self.assume(one, is_wanted)),
            Expr::Or(operands) if !is_wanted => operands.iter().for_each(|one| self.assume(one, is_wanted)),
            Expr::Check(check) if is_wanted && matches!(check.operator, Operator::Eq | Operator::In) => {
                if let (Some(field), Some(values)) = (single_text(check), fact::words(check)) {
                    self.assumed.push((field, values));
                }
            }
            _ => {}
        }
    }

    fn check(&self, check: &'a Check, is_wanted: bool) -> Formula {
        let Operand::Field(field) = &check.left else { return Formula::True };
        match facts::fact_of(self.call, self.case, field) {
            Fact::Unknown | Fact::Name if self.is_excluded(check, is_wanted) => Formula::False,
            fact => fact.may(check, is_wanted),
        }
    }

    /// Whether what is assumed of the field leaves the comparison no way to come out as wanted.
    fn is_excluded(&self, check: &Check, is_wanted: bool) -> bool {
        let (Some(field), Some(values)) = (single_text(check), fact::words(check)) else { return false };
        let assumed = self.assumed.iter().filter(|(known, _)| is_same(known, field));
        let is_equality = match check.operator {
            Operator::Eq | Operator::In => is_wanted,
            Operator::Ne => !is_wanted,
            _ => return false,
        };
        assumed.into_iter().any(|(_, known)| known.iter().all(|value| values.contains(value) != is_equality))
    }
}

fn is_same(left: &Field, right: &Field) -> bool {
    left.name == right.name && left.argument == right.argument
}

fn single_text(check: &Check) -> Option<&Field> {
    match &check.left {
        Operand::Field(field) if check.modifier.is_none() && SINGLE_TEXTS.contains(&field.name.as_str()) => {
            Some(field)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
