//! Literals that a text may hold anywhere.
//!
//! Few of them are looked for one after the other, which a processor does many bytes at a time; many of them all at
//! once, with an automaton that reads each byte once. Nothing but [`Needles::of`] may allocate.

use aho_corasick::{AhoCorasick, AhoCorasickKind, packed};
use memchr::memmem::Finder;

use super::bits::{AtomId, Bits};

/// As many are looked for one after the other. Each takes some 10 ns in a path of usual length; the automaton takes
/// 100, whatever there is to be found.
const FEW: usize = 8;

/// A look at a text that tells of most texts, many bytes at a time, that they hold none of some literals.
#[derive(Debug)]
pub(super) enum Screen {
    /// There is nothing to look for.
    Closed,
    /// There is nothing that could tell.
    Open,
    /// One literal.
    One(Box<Finder<'static>>),
    /// Several.
    Several(Box<packed::Searcher>),
}

impl Screen {
    /// The screen that texts pass which hold any of these literals; every text passes if one of them is `None`.
    pub(super) fn of<'a>(literals: impl Iterator<Item = Option<&'a [u8]>>) -> Self {
        let Some(mut literals) = literals.collect::<Option<Vec<_>>>() else { return Self::Open };
        literals.sort_unstable();
        literals.dedup();
        match literals.as_slice() {
            [] => Self::Closed,
            [one] => Self::One(Box::new(Finder::new(one).into_owned())),
            // There is none for too many literals, nor on a processor that compares no wide ones.
            _ => packed::Searcher::new(literals).map_or(Self::Open, |all| Self::Several(Box::new(all))),
        }
    }

    /// Tells whether a text holds any of the literals, or may.
    #[inline]
    pub(super) fn may_pass(&self, text: &[u8]) -> bool {
        match self {
            Self::Closed => false,
            Self::Open => true,
            Self::One(finder) => finder.find(text).is_some(),
            Self::Several(all) => all.find(text).is_some(),
        }
    }
}

/// Literals that a text may hold, each with its atom.
#[derive(Debug)]
pub(super) enum Needles {
    /// They are looked for one after the other.
    Few(Vec<Needle>),
    /// They are looked for all at once, without regard to case; then those whose case counts are compared.
    Many(Box<AhoCorasick>, Vec<(Box<[u8]>, bool, AtomId)>),
}

/// One literal.
#[expect(
    clippy::large_enum_variant,
    reason = "they are few, and looked at one after the other without another pointer"
)]
#[derive(Debug)]
pub(super) enum Needle {
    /// As it is written.
    Exact(Finder<'static>, AtomId),
    /// In capitals or not.
    AnyCase(Box<[u8]>, AtomId),
}

impl Needles {
    /// The needles of these literals, whose case counts or not. None of them is empty.
    pub(super) fn of(literals: Vec<(Box<[u8]>, bool, AtomId)>) -> Self {
        if literals.len() > FEW {
            let automaton = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .kind(Some(AhoCorasickKind::DFA))
                .build(literals.iter().map(|(text, ..)| text));
            // One that would be too large is none.
            if let Ok(automaton) = automaton {
                return Self::Many(Box::new(automaton), literals);
            }
        }
        let needle = |(text, is_exact, atom): (Box<[u8]>, _, _)| {
            if is_exact {
                Needle::Exact(Finder::new(&text).into_owned(), atom)
            } else {
                Needle::AnyCase(text, atom)
            }
        };
        Self::Few(literals.into_iter().map(needle).collect())
    }

    /// Adds the atoms of those that a text holds.
    pub(super) fn hits(&self, text: &[u8], hits: &mut Bits) {
        match self {
            Self::Few(needles) => {
                let atoms = needles.iter().filter_map(|needle| needle.hit(text));
                atoms.for_each(|atom| hits.insert(atom));
            }
            Self::Many(automaton, literals) => {
                for found in automaton.find_overlapping_iter(text) {
                    let Some((literal, is_exact, atom)) = literals.get(found.pattern().as_usize()) else {
                        continue;
                    };
                    if !is_exact || text.get(found.range()) == Some(literal) {
                        hits.insert(*atom);
                    }
                }
            }
        }
    }
}

impl Needle {
    fn hit(&self, text: &[u8]) -> Option<AtomId> {
        match self {
            Self::Exact(finder, atom) => finder.find(text).map(|_| *atom),
            Self::AnyCase(literal, atom) => {
                let first = *literal.first()?;
                let starts =
                    memchr::memchr2_iter(first.to_ascii_lowercase(), first.to_ascii_uppercase(), text);
                let ends = starts.map(|start| start..start + literal.len());
                let mut windows = ends.filter_map(|range| text.get(range));
                windows.any(|window| window.eq_ignore_ascii_case(literal)).then_some(*atom)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn a_text_passes_a_screen_if_it_holds_one_of_its_literals(
            literals in vec("[ab/.]{1,5}", 0..70), text in "[ab/.c]{0,90}",
        ) {
            let screen = Screen::of(literals.iter().map(|literal| Some(literal.as_bytes())));
            let is_held = literals.iter().any(|literal| text.contains(literal));
            prop_assert!(matches!(screen, Screen::Open) || screen.may_pass(text.as_bytes()) == is_held);
        }
    }

    #[test]
    fn a_screen_that_cannot_tell_lets_every_text_pass() {
        assert!(Screen::of([Some(&b"a"[..]), None].into_iter()).may_pass(b""));
    }

    #[test]
    fn few_and_many_needles_find_the_same() {
        let words = ["/.ssh/", "id_rsa", "a", "aa", "SSH", "/", "Shadow", "adow", "../", "x/y", "zz"];
        let literal = |(index, word): (usize, &&str)| {
            (word.as_bytes().into(), index % 2 == 0, AtomId::of(index).unwrap())
        };
        let literals: Vec<_> = words.iter().enumerate().map(literal).collect();
        let many = Needles::of(literals.clone());
        assert!(matches!(many, Needles::Many(..)));
        for text in
            ["", "/", "/root/.ssh/id_rsa", "/x/.SSH/ID_RSA", "aA", "/etc/SHADOW", "/etc/shadow", "../x/Y"]
        {
            let (mut one_by_one, mut at_once) = (Bits::NONE, Bits::NONE);
            for literal in &literals {
                Needles::of(vec![literal.clone()]).hits(text.as_bytes(), &mut one_by_one);
                let (bytes, is_exact, atom) = literal;
                let (upper, needle) = (text.to_ascii_uppercase(), String::from_utf8(bytes.to_vec()).unwrap());
                let is_held = if *is_exact {
                    text.contains(&needle)
                } else {
                    upper.contains(&needle.to_ascii_uppercase())
                };
                assert_eq!(one_by_one.word(0) & atom.mask() != 0, is_held, "{needle} in {text}");
            }
            many.hits(text.as_bytes(), &mut at_once);
            assert_eq!(at_once, one_by_one, "{text}");
        }
    }
}
