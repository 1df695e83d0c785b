//! The atoms of a formula, numbered, and what is left of the formula without them.
//!
//! Texts that come together in a rule are tested together: "starts with one of these or is one of those" becomes one
//! atom, and so does "is none of these". That is what keeps the atoms few. What cannot be decided becomes true, which
//! can only keep more.

use std::collections::HashMap;

use super::{bits::AtomId, matcher::can_match, program::Commonness};
use crate::interest::{
    Condition,
    formula::{AddressTest, Atom, Form, Formula, Subject, TextTest},
};

/// A formula over numbered atoms.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tree {
    /// It holds, or it does not.
    Constant(bool),
    /// It holds if the atom does.
    Atom(AtomId),
    /// It holds if all of these do.
    All(Vec<Self>),
    /// It holds if any of these does.
    Any(Vec<Self>),
}

/// What an atom says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// A register compares.
    Register(Condition),
    /// A number in memory compares.
    Word { offset: u8, condition: Condition },
    /// A socket address passes the test, or fails it.
    Address { argument: u8, test: AddressTest, is_negated: bool },
    /// A text passes any of the tests, or fails all of them.
    Text { subject: Subject, tests: Vec<TextTest>, is_negated: bool },
    /// The name of the program does.
    Name { tests: Vec<TextTest>, is_negated: bool },
}

/// The numbers of the claims.
#[derive(Debug, Default)]
pub(super) struct Atoms(HashMap<Claim, AtomId>);

impl Atoms {
    /// The claims with their numbers, in the order of the numbers.
    pub(super) fn into_claims(self) -> Vec<(Claim, AtomId)> {
        let mut claims: Vec<_> = self.0.into_iter().collect();
        claims.sort_unstable_by_key(|(_, atom)| *atom);
        claims
    }

    /// Numbers the atoms of a formula.
    pub(super) fn number(&mut self, formula: &Formula) -> Tree {
        match formula {
            Formula::True => Tree::Constant(true),
            Formula::False => Tree::Constant(false),
            Formula::Atom(atom) => self.number_claim(Claim::of(atom)),
            Formula::All(operands) => Tree::All(self.number_operands(operands, true)),
            Formula::Any(operands) => Tree::Any(self.number_operands(operands, false)),
        }
    }

    fn number_operands(&mut self, operands: &[Formula], are_negated: bool) -> Vec<Tree> {
        let mut joined: Vec<(Option<Subject>, Vec<TextTest>)> = Vec::new();
        let mut trees = Vec::new();
        for operand in operands {
            match joinable(operand, are_negated) {
                Some((subject, test)) => match joined.iter_mut().find(|(known, _)| *known == subject) {
                    Some((_, tests)) => tests.push(test.clone()),
                    None => joined.push((subject, vec![test.clone()])),
                },
                None => trees.push(self.number(operand)),
            }
        }
        let joined = joined.into_iter().map(|(subject, tests)| match subject {
            Some(subject) => Claim::Text { subject, tests, is_negated: are_negated },
            None => Claim::Name { tests, is_negated: are_negated },
        });
        trees.extend(joined.map(|claim| self.number_claim(claim)));
        trees
    }

    fn number_claim(&mut self, claim: Claim) -> Tree {
        if !claim.can_be_decided() {
            return Tree::Constant(true);
        }
        if let Some(known) = self.0.get(&claim) {
            return Tree::Atom(*known);
        }
        // Too many to tell apart: it counts as true.
        let Some(new) = AtomId::of(self.0.len()) else { return Tree::Constant(true) };
        self.0.insert(claim, new);
        Tree::Atom(new)
    }
}

/// The subject and the test of an operand that can be joined with its like; no subject for the name of the program.
fn joinable(operand: &Formula, is_negated: bool) -> Option<(Option<Subject>, &TextTest)> {
    let atom = match operand {
        Formula::Atom(Atom::Name { test, is_negated: is_test_negated }) => {
            return (*is_test_negated == is_negated && can_match(test)).then_some((None, test));
        }
        Formula::Atom(Atom::Text(atom)) => atom,
        _ => return None,
    };
    // The two forms of a text may fail two tests each in its own way: then both atoms hold, but neither form fails both.
    let is_two_ways = is_negated && atom.subject.form == Form::Either;
    let is_alike = atom.is_negated == is_negated && !is_two_ways && can_match(&atom.test);
    is_alike.then_some((Some(atom.subject), &atom.test))
}

impl Claim {
    fn of(atom: &Atom) -> Self {
        match atom {
            Atom::Register(condition) => Self::Register(*condition),
            Atom::Word { offset, condition } => Self::Word { offset: *offset, condition: *condition },
            Atom::Address { argument, test, is_negated } => {
                Self::Address { argument: *argument, test: test.clone(), is_negated: *is_negated }
            }
            Atom::Text(atom) => Self::Text {
                subject: atom.subject,
                tests: vec![atom.test.clone()],
                is_negated: atom.is_negated,
            },
            Atom::Name { test, is_negated } => {
                Self::Name { tests: vec![test.clone()], is_negated: *is_negated }
            }
        }
    }

    /// A negated claim about texts that cannot be tested may hold, and so may one that is not.
    fn can_be_decided(&self) -> bool {
        match self {
            Self::Text { tests, .. } | Self::Name { tests, .. } => tests.iter().all(can_match),
            _ => true,
        }
    }

    /// The argument whose memory it is about.
    pub(super) const fn argument_in_memory(&self) -> Option<u8> {
        match self {
            Self::Register(_) | Self::Name { .. } => None,
            Self::Word { condition, .. } => Some(condition.argument),
            Self::Address { argument, .. } => Some(*argument),
            Self::Text { subject, .. } => Some(subject.argument),
        }
    }

    /// How often it holds of the calls of programs, as far as its kind tells. Any guess is right: it only decides what is
    /// asked first.
    pub(super) fn commonness(&self) -> Commonness {
        match self {
            Self::Text { is_negated: true, .. } | Self::Address { is_negated: true, .. } => 1000,
            Self::Register(_) => 100,
            Self::Word { .. } | Self::Address { .. } => 50,
            Self::Text { tests, .. } => {
                let is_wide = |test| matches!(test, &TextTest::StartsWith(_) | &TextTest::Below(_));
                if tests.iter().any(is_wide) { 10 } else { 1 }
            }
            Self::Name { is_negated, .. } => {
                if *is_negated {
                    1000
                } else {
                    20
                }
            }
        }
    }
}
