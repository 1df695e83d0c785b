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
    /// Whether a call may be dropped for the end of a relative path, before it is known how long the whole is.
    is_tail_enough: bool,
    /// What follows from what libsinsp shows of a path that is too long, if it may find an absolute one so for the
    /// current directory.
    if_too_long: Option<Box<Known>>,
}

/// How far reading a text has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All is known that can be.
    Done,
    /// The directory that it starts from would tell more.
    NeedsBase,
}

impl TextArgument {
    /// The atoms of these claims that are about the text of an argument. `None` if there are none.
    pub(super) fn of(argument: u8, claims: &[(Claim, AtomId)], words: usize) -> Option<Self> {
        let none = Bits::NONE;
        let (mut atoms, mut negated, mut written, mut resolved) = (none, none, none, none);
        let mut either = none;
        let mut tests: [Vec<_>; 3] = [const { Vec::new() }; 3];
        let parts = [Part::Whole, Part::Directory, Part::FileName];
        for (claim, atom) in claims {
            let Claim::Text { subject, tests: these, is_negated } = claim else { continue };
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
            for (_, tests) in parts.iter().zip(&mut tests).filter(|(part, _)| **part == subject.part) {
                tests.extend(these.iter().map(|test| (test, *atom)));
            }
        }
        let used = parts.into_iter().zip(tests).filter(|(_, tests)| !tests.is_empty());
        let parts: Vec<_> = used.map(|(part, tests)| (part, Matcher::of(tests, words))).collect();
        let this = Self {
            argument,
            words,
            parts,
            atoms,
            negated,
            written,
            resolved,
            either,
            is_tail_enough: true,
            if_too_long: None,
        };
        (!this.parts.is_empty()).then_some(this)
    }

    /// Says whether the end of a relative path is enough to drop a call for.
    pub(super) const fn let_tail_drop(&mut self, is_enough: bool) {
        self.is_tail_enough = is_enough;
    }

    /// Says that libsinsp measures an absolute path together with the current directory, which is not looked up here.
    pub(super) fn measure_with_cwd(&mut self) {
        self.if_too_long = Some(Box::new(self.of_text(path::TOO_LONG)));
    }

    /// Reads the text, and tells what follows from it alone.
    pub(super) fn read(&self, memory: &mut impl CallMemory, known: &mut Known) -> Progress {
        let Some(text) = memory.text(self.argument).filter(|text| path::is_plain(text)) else {
            self.tell(known, &Known::UNKNOWN, &Known::UNKNOWN);
            return Progress::Done;
        };
        let progress = if path::is_resolved(text) {
            let both = self.of_text(text);
            self.tell(known, &both, &both);
            Progress::Done
        } else {
            self.read_crooked(text, known)
        };
        if let Some(if_too_long) = self.if_too_long.as_ref().filter(|_| text.starts_with(b"/")) {
            known.admit(&self.resolved, if_too_long, self.words);
        }
        progress
    }

    /// Tells what follows from a text that is no resolved path.
    #[cold]
    fn read_crooked(&self, text: &[u8], known: &mut Known) -> Progress {
        let written = if self.written.is_empty() { Known::UNKNOWN } else { self.of_text(text) };
        if self.resolved.is_empty() {
            self.tell(known, &written, &Known::UNKNOWN);
            return Progress::Done;
        }
        let mut path = Resolved::new();
        let (resolved, progress) = match path.follow(text) {
            None => (Known::UNKNOWN, Progress::Done),
            Some(()) if text.starts_with(b"/") => (self.of_text(path.path()), Progress::Done),
            Some(()) => (self.of_tail(path.path()), Progress::NeedsBase),
        };
        self.tell(known, &written, &resolved);
        self.admit_joined(text, known);
        progress
    }

    /// Tells what follows from a relative path and the directory that it starts from.
    #[cold]
    pub(super) fn read_with_base(&self, memory: &mut impl CallMemory, known: &mut Known) {
        let mut path = Resolved::new();
        let resolved = match self.resolve(memory, &mut path) {
            Some(()) => self.of_text(path.path()),
            None => Known::UNKNOWN,
        };
        let written = match memory.text(self.argument) {
            Some(text) => self.of_text(text),
            None => Known::UNKNOWN,
        };
        self.tell(known, &written, &resolved);
        if let Some(text) = memory.text(self.argument) {
            self.admit_joined(text, known);
        }
    }

    /// Admits what could follow from a relative path with detours behind its directory, which nobody puts together here.
    fn admit_joined(&self, text: &[u8], known: &mut Known) {
        let is_detour = |component: &[u8]| matches!(component, b"" | b"." | b"..");
        if !text.starts_with(b"/") && text.split(|byte| *byte == b'/').any(is_detour) {
            known.admit(&self.either, &Known::UNKNOWN, self.words);
        }
    }

    fn resolve(&self, memory: &mut impl CallMemory, path: &mut Resolved) -> Option<()> {
        path.start_from(memory.base(self.argument)?)?;
        path.follow(memory.text(self.argument)?)
    }

    /// Tells what would follow if libsinsp found the path too long, whatever is written.
    pub(super) fn read_too_long(&self, known: &mut Known) {
        self.tell(known, &Known::PENDING, &self.of_text(path::TOO_LONG));
    }

    fn tell(&self, known: &mut Known, written: &Known, resolved: &Known) {
        known.reset(&self.atoms, self.words);
        known.admit(&self.written, written, self.words);
        known.admit(&self.resolved, resolved, self.words);
    }

    /// What follows from a whole text.
    fn of_text(&self, text: &[u8]) -> Known {
        let mut hits = Bits::NONE;
        for (part, matcher) in &self.parts {
            matcher.hits(path::part_of(text, *part), &mut hits);
        }
        Known::exactly(hits).negate(&self.negated, self.words)
    }

    /// What follows from the end of a path: all of this, which starts with a slash, but for that slash.
    fn of_tail(&self, tail: &[u8]) -> Known {
        let mut hits = Known::exactly(Bits::NONE);
        for (part, matcher) in &self.parts {
            let name = memchr::memrchr(b'/', tail).and_then(|slash| tail.split_at_checked(slash));
            let (directory, name) = name.unwrap_or_default();
            match part {
                // The name is that of the directory that the path starts from, or of one above it.
                _ if name.len() < 2 => matcher.hits_of_tail(b"", &mut hits),
                Part::Whole => matcher.hits_of_tail(tail.get(1..).unwrap_or_default(), &mut hits),
                Part::Directory => matcher.hits_of_tail(directory.get(1..).unwrap_or_default(), &mut hits),
                Part::FileName => {
                    let mut exact = Bits::NONE;
                    matcher.hits(name.get(1..).unwrap_or_default(), &mut exact);
                    hits.upper.insert_all(&exact, self.words);
                    hits.lower.insert_all(&exact, self.words);
                }
            }
        }
        let known = hits.negate(&self.negated, self.words);
        if self.is_tail_enough { known } else { Known { upper: Bits::ALL, ..known } }
    }
}
