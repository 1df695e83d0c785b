//! All tests of one text in one go.
//!
//! What a text starts with or is comes out of one walk through a tree, what it ends with out of another one from the
//! end; only what it may hold anywhere has to be looked for in all of it. Nothing but [`Matcher::of`] may allocate.
//!
//! Of a relative path only an end may be known. Then a test is surely passed, surely failed, or open: see
//! [`Matcher::hits_of_tail`].

use super::{
    bits::{AtomId, Bits, Known},
    glob::Glob,
    needles::{Needles, Screen},
    path::has_single_slashes,
    trie::{At, Literal, Trie},
};
use crate::interest::formula::TextTest;

/// Tests of a text, each with the atom that it belongs to.
#[derive(Debug)]
pub(super) struct Matcher {
    words: usize,
    /// The atoms of tests that every text passes, if there are any.
    always: Option<Bits>,
    starts: Trie,
    /// Literals that texts end with, from their ends.
    ends: Trie,
    /// Whether a text may hold anything that needles and screened globs need.
    screen: Screen,
    needles: Needles,
    screened_globs: Vec<(Glob, AtomId)>,
    globs: Vec<(Glob, AtomId)>,
    /// The components of paths that a text may be below.
    roots: Vec<(Vec<Box<[u8]>>, AtomId)>,
    /// Literals that texts are or end with, each turned round, in order.
    turned: Vec<(Box<[u8]>, AtomId)>,
    /// The last bytes of those, one bit for every four that there are.
    last_bytes: u64,
    /// The atoms that no end of a text excludes.
    open: Bits,
    /// Those that some end of a text makes certain.
    certain: Bits,
    /// All of them.
    atoms: Bits,
}

/// Tells whether there is a matcher for a test. What a test means for which there is none is not known.
pub(super) fn can_match(test: &TextTest) -> bool {
    match test {
        TextTest::Glob(pattern) => Glob::of(pattern).is_some(),
        // libsinsp takes such components for patterns, with results that depend on their order.
        TextTest::Below(roots) => {
            !roots.iter().any(|root| root.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')))
        }
        _ => true,
    }
}

/// The tests, sorted by how they are matched.
#[derive(Default)]
struct Sorted {
    always: Vec<AtomId>,
    open: Vec<AtomId>,
    certain: Vec<AtomId>,
    atoms: Vec<AtomId>,
    starts: Vec<Literal>,
    ends: Vec<Literal>,
    needles: Vec<(Box<[u8]>, bool, AtomId)>,
    globs: Vec<(Glob, AtomId)>,
    roots: Vec<(Vec<Box<[u8]>>, AtomId)>,
    turned: Vec<(Box<[u8]>, AtomId)>,
}

impl Sorted {
    fn add(&mut self, test: &TextTest, atom: AtomId) {
        self.atoms.push(atom);
        match test {
            TextTest::OneOf(texts) => {
                self.starts.extend(texts.iter().map(|text| (text.clone(), At::End, atom)));
                self.turned.extend(texts.iter().map(|text| (turned(text), atom)));
            }
            TextTest::StartsWith(text) => {
                self.starts.push((text.clone(), At::Anywhere, atom));
                self.open.push(atom);
            }
            TextTest::EndsWith(text) => {
                self.ends.push((turned(text), At::Anywhere, atom));
                self.turned.push((turned(text), atom));
                self.certain.push(atom);
            }
            TextTest::Contains(text) | TextTest::ContainsIgnoringCase(text) if text.is_empty() => {
                self.always.push(atom);
            }
            TextTest::Contains(text) | TextTest::ContainsIgnoringCase(text) => {
                let is_exact = matches!(test, TextTest::Contains(_));
                self.needles.push((text.clone(), is_exact, atom));
                self.open.push(atom);
                self.certain.push(atom);
            }
            TextTest::Glob(pattern) => {
                self.open.extend(pattern.ends_with(b"*").then_some(atom));
                self.globs.extend(Glob::of(pattern).map(|glob| (glob, atom)));
            }
            TextTest::Below(roots) => roots.iter().for_each(|root| self.add_root(root, atom)),
        }
    }

    fn add_root(&mut self, root: &[u8], atom: AtomId) {
        let root: Vec<Box<[u8]>> = components(root).map(Into::into).collect();
        if root.is_empty() {
            self.always.push(atom);
            return;
        }
        let mut path = Vec::new();
        for component in &root {
            path.push(b'/');
            path.extend(component);
        }
        self.starts.push((path.into(), At::EndOfComponent, atom));
        self.open.push(atom);
        self.roots.push((root, atom));
    }
}

impl Matcher {
    /// The matcher of these tests, whose atoms are in the first words.
    pub(super) fn of<'a>(tests: impl IntoIterator<Item = (&'a TextTest, AtomId)>, words: usize) -> Self {
        let mut sorted = Sorted::default();
        for (test, atom) in tests {
            sorted.add(test, atom);
        }
        sorted.turned.sort_unstable();
        let (screened_globs, globs): (Vec<_>, _) =
            sorted.globs.into_iter().partition(|(glob, _)| glob.literal().is_some());
        let of_needles = sorted.needles.iter().map(|(text, is_exact, _)| is_exact.then_some(&**text));
        let of_globs = screened_globs.iter().map(|(glob, _)| glob.literal());
        Self {
            words,
            always: (!sorted.always.is_empty()).then(|| set_of(&sorted.always)),
            starts: Trie::of(sorted.starts),
            ends: Trie::of(sorted.ends),
            screen: Screen::of(of_needles.chain(of_globs)),
            needles: Needles::of(sorted.needles),
            screened_globs,
            globs,
            roots: sorted.roots,
            last_bytes: sorted
                .turned
                .iter()
                .filter_map(|(turned, _)| turned.first())
                .fold(0, |bits, last| bits | bit_of(*last)),
            turned: sorted.turned,
            open: set_of(&sorted.open),
            certain: set_of(&sorted.certain),
            atoms: set_of(&sorted.atoms),
        }
    }

    /// Adds the atoms of all tests that a text passes.
    pub(super) fn hits(&self, text: &[u8], hits: &mut Bits) {
        self.hits_of_any(hits);
        self.starts.hits(text.iter().copied(), hits);
        self.ends.hits(text.iter().rev().copied(), hits);
        if self.screen.may_pass(text) {
            self.needles.hits(text, hits);
            hits_of_globs(&self.screened_globs, text, hits);
        }
        hits_of_globs(&self.globs, text, hits);
        if !self.roots.is_empty() && !has_single_slashes(text) {
            self.hits_of_roots(text, hits);
        }
    }

    fn hits_of_any(&self, hits: &mut Bits) {
        if let Some(always) = &self.always {
            hits.insert_all(always, self.words);
        }
    }

    /// The roots, for a text in which slashes do more than to separate components.
    #[cold]
    fn hits_of_roots(&self, text: &[u8], hits: &mut Bits) {
        for (root, atom) in &self.roots {
            let mut components = components(text);
            if root.iter().all(|wanted| components.next() == Some(wanted)) {
                hits.insert(*atom);
            }
        }
    }

    /// Adds the least that [`Matcher::hits_of_tail`] makes of any end as what may pass, and the most as what does.
    pub(super) fn limits_of_tails(&self, hits: &mut Known) {
        self.hits_of_any(&mut hits.upper);
        self.hits_of_any(&mut hits.lower);
        hits.upper.insert_all(&self.open, self.words);
        hits.lower.insert_all(&self.certain, self.words);
    }

    /// The same where a text may be known whole.
    pub(super) fn limits_of_texts(&self, hits: &mut Known) {
        self.hits_of_any(&mut hits.upper);
        hits.lower.insert_all(&self.atoms, self.words);
    }

    /// Adds the atoms of all tests that a text passes which ends so, or may pass beside those.
    pub(super) fn hits_of_tail(&self, tail: &[u8], hits: &mut Known) {
        self.hits_of_any(&mut hits.lower);
        self.ends.hits(tail.iter().rev().copied(), &mut hits.lower);
        if self.screen.may_pass(tail) {
            self.needles.hits(tail, &mut hits.lower);
        }
        hits.upper.insert_all(&self.open, self.words);
        if tail.last().is_none_or(|last| self.last_bytes & bit_of(*last) != 0) {
            self.hits_of_longer(tail, &mut hits.upper);
        }
        for (glob, atom) in self.screened_globs.iter().chain(&self.globs) {
            if glob.may_match_before(tail) {
                hits.upper.insert(*atom);
            }
        }
    }

    /// The literals that a text is or ends with, where they end with this.
    fn hits_of_longer(&self, tail: &[u8], hits: &mut Bits) {
        let first = self.turned.partition_point(|(turned, _)| turned.iter().lt(tail.iter().rev()));
        for (turned, atom) in self.turned.get(first..).unwrap_or_default() {
            if !turned.iter().zip(tail.iter().rev()).all(|(one, other)| one == other)
                || turned.len() < tail.len()
            {
                break;
            }
            hits.insert(*atom);
        }
    }
}

fn hits_of_globs(globs: &[(Glob, AtomId)], text: &[u8], hits: &mut Bits) {
    for (glob, atom) in globs {
        if glob.matches(text) {
            hits.insert(*atom);
        }
    }
}

fn bit_of(byte: u8) -> u64 {
    1 << (byte % 64)
}

fn turned(text: &[u8]) -> Box<[u8]> {
    text.iter().rev().copied().collect()
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

fn set_of(atoms: &[AtomId]) -> Bits {
    let mut set = Bits::NONE;
    atoms.iter().for_each(|atom| set.insert(*atom));
    set
}
