//! Tests of the name of the program: done once for each name, so that a call costs a look at a few bits.
//!
//! Which name a thread has is not decided here: it must be the one that Falco was told, and else unknown.

use std::collections::HashMap;

use super::{
    bits::{AtomId, Bits},
    matcher::Matcher,
    path,
};
use crate::interest::formula::TextTest;

/// Tests of all calls together that are told apart. What further ones say is not known, which keeps more than needed.
/// Falco's own rules, taken together, need fewer than half as many.
const TESTS_MAX: usize = 64 * WORDS;

const WORDS: usize = 4;

/// The number of a test of names: less than [`TESTS_MAX`].
pub(super) type NameTest = AtomId;

/// Which of the tests that rules make a name passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameHits([u64; WORDS]);

impl NameHits {
    /// Whether the name passes a test.
    pub(super) fn has(&self, test: NameTest) -> bool {
        self.0.get(test.word()).is_some_and(|word| word & test.mask() != 0)
    }
}

/// The tests of all calls, each a disjunction.
#[derive(Debug, Default)]
pub(super) struct NameTests {
    numbers: HashMap<Vec<TextTest>, NameTest>,
    matcher: Option<Matcher>,
}

impl NameTests {
    /// The number of a test; `None` if there are too many of them.
    pub(super) fn number(&mut self, tests: &[TextTest]) -> Option<NameTest> {
        let count = self.numbers.len();
        if let Some(known) = self.numbers.get(tests) {
            return Some(*known);
        }
        let new = AtomId::of(count).filter(|_| count < TESTS_MAX)?;
        self.numbers.insert(tests.to_vec(), new);
        Some(new)
    }

    /// Makes the matcher, when all tests are there.
    pub(super) fn compile(&mut self) {
        let tests = self.numbers.iter().flat_map(|(tests, number)| tests.iter().map(|test| (test, *number)));
        self.matcher = (!self.numbers.is_empty()).then(|| Matcher::of(tests, WORDS));
    }

    /// What a name passes; `None` if libsinsp shows it in another way, or nobody asks.
    pub(super) fn hits(&self, name: &[u8]) -> Option<NameHits> {
        let mut hits = Bits::NONE;
        self.matcher.as_ref().filter(|_| path::is_plain(name))?.hits(name, &mut hits);
        let mut words = [0; WORDS];
        words.iter_mut().enumerate().for_each(|(index, word)| *word = hits.word(index));
        Some(NameHits(words))
    }
}
