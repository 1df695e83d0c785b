//! What the text that an argument points to says about the atoms of a call.
//!
//! A text is read in two forms, as it is written and as an absolute path, and each form in up to three parts. Most texts
//! are absolute paths without detours, and then both forms are the same bytes where they lie. Of a relative path the end
//! is known before the directory that it starts from, and often that is enough: [`TextArgument::read`]. If it is not,
//! [`TextArgument::read_with_base`] asks for the directory, which costs a system call.
//!
//! Only the end of the written text counts as known, without a slash before it: where libsinsp does not know a directory,
//! it puts `<UNKNOWN>` before the text, with no slash between them.

use super::{
    CallMemory,
    atoms::Claim,
    bits::{AtomId, Bits, Known},
    matcher::Matcher,
    path::{self, Resolved},
};
use crate::interest::formula::{Form, Part};

/// The atoms about the text of one argument.
#[derive(Debug)]
pub(super) struct TextArgument {
    argument: u8,
    words: usize,
    /// The matchers of the parts that are looked at.
    parts: Vec<(Part, Matcher)>,
    /// Those of the atoms in `written` alone.
    parts_written: Vec<(Part, Matcher)>,
    /// All of its atoms.
    atoms: Bits,
    /// Those that hold when their tests fail.
    negated: Bits,
    /// Those that can hold of the text as it is written.
    written: Bits,
    /// Those that can hold of the absolute path.
    resolved: Bits,
    /// Those that can hold of the text as it is written, behind the directory that it starts from.
    either: Bits,
    /// The least that the end of a path leaves as what may hold, and the most that it tells.
    tail_limits: Known,
    /// Whether a call may be dropped for the end of a relative path, before it is known how long the whole is.
    is_tail_enough: bool,
    /// What follows from what libsinsp shows of a path that is too long, if it may find an absolute one so for the
    /// current directory.
    if_too_long: Option<Box<Bits>>,
}

/// How far reading a text has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All is known that can be.
    Done,
    /// The directory that it starts from would tell more.
    NeedsBase,
    /// The same, and what is told as yet cannot decide: most of it was not looked for.
    NeedsBaseAnyway,
}

impl TextArgument {
    /// The atoms of these claims that are about the text of an argument. `None` if there are none.
    pub(super) fn of(argument: u8, claims: &[(Claim, AtomId)], words: usize) -> Option<Self> {
        let none = Bits::NONE;
        let (mut atoms, mut negated, mut written, mut resolved) = (none, none, none, none);
        let mut either = none;
        for (claim, atom) in claims {
            let Claim::Text { subject, is_negated, .. } = claim else { continue };
            if subject.argument != argument {
                continue;
            }
            atoms.insert(*atom);
            if *is_negated {
                negated.insert(*atom);
            }
            if subject.form != Form::Resolved {
                written.insert(*atom);
            }
            if subject.form != Form::Written {
                resolved.insert(*atom);
            }
            if subject.form == Form::Either {
                either.insert(*atom);
            }
        }
        let [parts, parts_written] = [&atoms, &written].map(|atoms| matchers(claims, atoms, words));
        let has_any = !parts.is_empty();
        let mut tail_limits = Known::NONE;
        for (part, matcher) in &parts {
            match part {
                Part::Whole | Part::Directory => matcher.limits_of_tails(&mut tail_limits),
                Part::FileName => matcher.limits_of_texts(&mut tail_limits),
            }
        }
        tail_limits.negate(&negated, words);
        let this = Self {
            argument,
            words,
            parts,
            parts_written,
            atoms,
            negated,
            written,
            resolved,
            either,
            tail_limits,
            is_tail_enough: true,
            if_too_long: None,
        };
        has_any.then_some(this)
    }

    /// Says whether the end of a relative path is enough to drop a call for.
    pub(super) const fn let_tail_drop(&mut self, is_enough: bool) {
        self.is_tail_enough = is_enough;
    }

    /// Says that libsinsp measures an absolute path together with the current directory, which is not looked up here.
    pub(super) fn measure_with_cwd(&mut self) {
        self.if_too_long = Some(Box::new(self.holding(&self.parts, path::TOO_LONG)));
    }

    /// Reads the text, and tells what follows from it alone. The end of a relative path is not looked at if even the most
    /// that it may tell leaves the answer open.
    pub(super) fn read(
        &self,
        memory: &mut impl CallMemory,
        known: &mut Known,
        is_open: impl Fn(&Known) -> bool,
    ) -> Progress {
        let Some(text) = memory.text(self.argument).filter(|text| path::is_plain(text)) else {
            known.settle(&self.atoms, &Bits::ALL, self.words);
            return Progress::Done;
        };
        let progress = if path::is_resolved(text) {
            known.settle(&self.atoms, &self.holding(&self.parts, text), self.words);
            Progress::Done
        } else {
            self.read_crooked(text, known, is_open)
        };
        if let Some(if_too_long) = self.if_too_long.as_ref().filter(|_| text.starts_with(b"/")) {
            known.admit(&self.resolved, if_too_long, if_too_long, self.words);
        }
        progress
    }

    /// Tells what follows from a text that is no resolved path.
    #[cold]
    fn read_crooked(&self, text: &[u8], known: &mut Known, is_open: impl Fn(&Known) -> bool) -> Progress {
        known.settle(&self.atoms, &Bits::NONE, self.words);
        if !self.parts_written.is_empty() {
            let holding = self.holding(&self.parts_written, text);
            known.admit(&self.written, &holding, &holding, self.words);
        }
        if self.resolved.is_empty() {
            return Progress::Done;
        }
        let is_relative = !text.starts_with(b"/");
        let (_, rest) = path::leave(text);
        let is_straight = is_relative && path::is_straight(rest);
        if is_relative && (!is_straight || rest.len() < text.len()) {
            // Nobody here puts a path with detours behind its directory, as libsinsp may.
            known.admit(&self.either, &Bits::ALL, &Bits::ALL, self.words);
        }
        if !path::fits(b"", text) {
            return self.give_up(known);
        }
        if is_relative {
            let mut most = *known;
            self.admit_limited(&self.tail_limits, &mut most);
            if is_open(&most) {
                known.admit(&self.resolved, &Bits::ALL, &Bits::NONE, self.words);
                return Progress::NeedsBaseAnyway;
            }
        }
        if is_straight {
            self.admit_tail(rest, known);
            return Progress::NeedsBase;
        }
        let mut path = Resolved::new();
        if path.follow(text).is_none() {
            return self.give_up(known);
        }
        if is_relative {
            self.admit_tail(path.path().get(1..).unwrap_or_default(), known);
            return Progress::NeedsBase;
        }
        let holding = self.holding(&self.parts, path.path());
        known.admit(&self.resolved, &holding, &holding, self.words);
        Progress::Done
    }

    /// Says that nothing more can be known of the absolute path.
    fn give_up(&self, known: &mut Known) -> Progress {
        known.admit(&self.resolved, &Bits::ALL, &Bits::ALL, self.words);
        Progress::Done
    }

    /// Tells what follows from a relative path and the directory that it starts from, after [`TextArgument::read`].
    #[cold]
    pub(super) fn read_with_base(&self, memory: &mut impl CallMemory, known: &mut Known) {
        let mut path = Resolved::new();
        let holding = match self.resolve(memory, &mut path) {
            Some(()) => self.holding(&self.parts, path.path()),
            None => Bits::ALL,
        };
        // What the written text and the end of the path have shown stays so.
        known.close(&self.resolved, &holding, self.words);
    }

    fn resolve(&self, memory: &mut impl CallMemory, path: &mut Resolved) -> Option<()> {
        path.start_from(memory.base(self.argument)?)?;
        path.follow(memory.text(self.argument)?)
    }

    /// Tells what would follow if libsinsp found the path too long, whatever is written.
    pub(super) fn read_too_long(&self, known: &mut Known) {
        known.settle(&self.resolved, &self.holding(&self.parts, path::TOO_LONG), self.words);
        known.admit(&self.either, &Bits::ALL, &Bits::NONE, self.words);
    }

    /// The atoms of these matchers that hold of a whole text.
    fn holding(&self, parts: &[(Part, Matcher)], text: &[u8]) -> Bits {
        let mut holding = Bits::NONE;
        for (part, matcher) in parts {
            matcher.hits(path::part_of(text, *part), &mut holding);
        }
        holding.toggle_all(&self.negated, self.words);
        holding
    }

    /// Admits what follows from the end of a path: all of this, which comes behind a slash.
    fn admit_tail(&self, tail: &[u8], known: &mut Known) {
        let (directory, name) = match memchr::memrchr(b'/', tail) {
            Some(slash) => (tail.get(..slash), tail.get(slash + 1..)),
            None => (None, Some(tail)),
        };
        let (directory, name) = (directory.unwrap_or_default(), name.unwrap_or_default());
        let mut hits = Known::NONE;
        for (part, matcher) in &self.parts {
            match part {
                // The name is that of the directory that the path starts from, or of one above it.
                _ if name.is_empty() => matcher.hits_of_tail(b"", &mut hits),
                Part::Whole => matcher.hits_of_tail(tail, &mut hits),
                Part::Directory => matcher.hits_of_tail(directory, &mut hits),
                Part::FileName => matcher.hits(name, &mut hits.lower),
            }
        }
        let Known { upper, lower } = &mut hits;
        upper.insert_all(lower, self.words);
        hits.negate(&self.negated, self.words);
        self.admit_limited(&hits, known);
    }

    fn admit_limited(&self, tail: &Known, known: &mut Known) {
        let upper = if self.is_tail_enough { &tail.upper } else { &Bits::ALL };
        known.admit(&self.resolved, upper, &tail.lower, self.words);
    }
}

/// The matchers of the parts that some atoms look at.
fn matchers(claims: &[(Claim, AtomId)], atoms: &Bits, words: usize) -> Vec<(Part, Matcher)> {
    let tests_of = |wanted| {
        claims.iter().filter_map(move |(claim, atom)| match claim {
            Claim::Text { subject, tests, .. } if subject.part == wanted && atoms.has(*atom) => {
                Some(tests.iter().map(|test| (test, *atom)))
            }
            _ => None,
        })
    };
    [Part::Whole, Part::Directory, Part::FileName]
        .into_iter()
        .filter(|part| tests_of(*part).next().is_some())
        .map(|part| (part, Matcher::of(tests_of(part).flatten(), words)))
        .collect()
}
