//! The evaluation of a formula as its documentation says it, without any haste.

use crate::{
    interest::{
        Condition, Width,
        formula::{Atom, Form, Formula, Part, TextAtom, TextTest},
    },
    triage::{NameHits, address},
};

/// All there is to be known of a call.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub(super) registers: [u64; 6],
    pub(super) texts: [Option<Vec<u8>>; 3],
    pub(super) bases: [Option<Vec<u8>>; 3],
    pub(super) bytes: [Option<Vec<u8>>; 3],
    pub(super) name: Option<Vec<u8>>,
    /// What triage says of the name.
    pub(super) name_hits: Option<NameHits>,
    pub(super) bases_asked: u32,
}

impl Call {
    /// The call of which only some is known: texts, then directories, then bytes, then the name.
    pub(super) fn without(mut self, known: [bool; 10]) -> Self {
        let things = self.texts.iter_mut().chain(&mut self.bases).chain(&mut self.bytes);
        let things = things.chain([&mut self.name]);
        for (thing, _) in things.zip(known).filter(|(_, is_known)| !is_known) {
            *thing = None;
        }
        self
    }

    /// Whether it has a relative path that starts from no directory, or from one that makes it too long.
    pub(super) fn has_path_without_base(&self) -> bool {
        (0..3).any(|argument| {
            let written = self.written(argument);
            written.is_some_and(|text| !text.starts_with(b"/")) && self.resolved(argument).is_none()
        })
    }

    /// Whether it has a relative path that starts from no directory that is known.
    pub(super) fn has_unknown_directory(&self) -> bool {
        (0..3).any(|argument| {
            let is_relative = self.written(argument).is_some_and(|text| !text.starts_with(b"/"));
            is_relative && self.base(argument).is_none()
        })
    }

    fn base(&self, argument: u8) -> Option<&[u8]> {
        self.bases.get(usize::from(argument))?.as_deref().filter(|base| is_directory(base))
    }

    fn written(&self, argument: u8) -> Option<&[u8]> {
        let text = self.texts.get(usize::from(argument))?.as_deref()?;
        (!text.is_empty() && is_printable(text)).then_some(text)
    }

    fn resolved(&self, argument: u8) -> Option<Vec<u8>> {
        let text = self.written(argument)?;
        let base = if text.starts_with(b"/") { b"" } else { self.base(argument)? };
        if base.len() + text.len() + 2 > 1024 {
            return None;
        }
        Some([b"/".to_vec(), normal(base.split(is_slash).chain(text.split(is_slash)))].concat())
    }

    /// What libsinsp shows: also where it does not know the directory of a relative path, and where a path is too long.
    fn shown(&self, argument: u8) -> Option<Vec<u8>> {
        let text = self.written(argument)?;
        let base = self.base(argument);
        if text.starts_with(b"/") {
            return self.resolved(argument);
        }
        let is_too_long = base.map_or(9, <[u8]>::len) + text.len() + 2 > 1024;
        match base {
            _ if is_too_long => Some(TOO_LONG.to_vec()),
            Some(_) => self.resolved(argument),
            None => Some(normal([b"<UNKNOWN>", text].concat().split(is_slash))),
        }
    }
}

/// Tells whether the formula may hold of what libsinsp shows of an `open`: it measures absolute paths with the directory too.
pub(super) fn may_hold_of_open(formula: &Formula, call: &Call) -> bool {
    evaluate(formula, call, &|argument| {
        let base = call.bases[usize::from(argument)].as_deref().unwrap_or_default();
        let is_too_long = call.written(argument).is_some_and(|text| base.len() + text.len() + 2 > 1024);
        if is_too_long { Some(TOO_LONG.to_vec()) } else { call.shown(argument) }
    })
}

const TOO_LONG: &[u8] = b"/DIR_TOO_LONG/FILENAME_TOO_LONG";

fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| (b' '..=b'~').contains(byte))
}

fn is_directory(base: &[u8]) -> bool {
    base.starts_with(b"/")
        && is_printable(base)
        && base == [b"/".to_vec(), normal(base.split(is_slash))].concat()
}

/// Tells whether a text is a relative path that is not in its shortest form.
fn has_detour(call: &Call, argument: u8) -> bool {
    let text = call.written(argument);
    let is_detour = |component: &[u8]| matches!(component, b"" | b"." | b"..");
    text.is_some_and(|text| !text.starts_with(b"/") && text.split(is_slash).any(is_detour))
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// The components that are left of some, with slashes between them.
fn normal<'a>(components: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut left = Vec::new();
    for component in components {
        match component {
            b"" | b"." => {}
            b".." => {
                left.pop();
            }
            name => left.push(name),
        }
    }
    left.join(&b'/')
}

/// Tells whether the formula may hold.
pub(super) fn may_hold(formula: &Formula, call: &Call) -> bool {
    evaluate(formula, call, &|argument| call.resolved(argument))
}

/// Tells whether the formula may hold of what libsinsp shows.
pub(super) fn may_hold_as_shown(formula: &Formula, call: &Call) -> bool {
    evaluate(formula, call, &|argument| call.shown(argument))
}

fn evaluate(formula: &Formula, call: &Call, resolved: &impl Fn(u8) -> Option<Vec<u8>>) -> bool {
    match formula {
        Formula::True => true,
        Formula::False => false,
        Formula::All(operands) => operands.iter().all(|operand| evaluate(operand, call, resolved)),
        Formula::Any(operands) => operands.iter().any(|operand| evaluate(operand, call, resolved)),
        Formula::Atom(Atom::Register(condition)) => condition.holds(&call.registers),
        Formula::Atom(Atom::Word { offset, condition }) => {
            word(call, *offset, condition).is_none_or(|word| {
                let mut registers = [0; 6];
                registers[usize::from(condition.argument)] = word;
                condition.holds(&registers)
            })
        }
        Formula::Atom(Atom::Address { argument, test, is_negated }) => {
            let bytes = call.bytes[usize::from(*argument)].as_deref();
            let passes = bytes.and_then(|bytes| address::passes(test, bytes));
            passes.is_none_or(|passes| passes != *is_negated)
        }
        Formula::Atom(Atom::Name { test, is_negated }) => {
            let name = call.name.as_deref().filter(|name| !name.is_empty() && is_printable(name));
            name.is_none_or(|name| passes(test, name) != *is_negated)
        }
        Formula::Atom(Atom::Text(atom)) => {
            let argument = atom.subject.argument;
            let of_written = || may_hold_of(atom, call.written(argument));
            let of_resolved = || may_hold_of(atom, resolved(argument).as_deref());
            match atom.subject.form {
                Form::Written => of_written(),
                Form::Resolved => of_resolved(),
                // What is told behind a directory is put together by nobody here: where it may be another text it is kept.
                Form::Either => of_written() || of_resolved() || has_detour(call, argument),
            }
        }
    }
}

fn word(call: &Call, offset: u8, condition: &Condition) -> Option<u64> {
    let bytes = call.bytes[usize::from(condition.argument)].as_ref()?;
    let len = if condition.width == Width::Low32 { 4 } else { 8 };
    let read = bytes.get(usize::from(offset)..usize::from(offset) + len)?;
    // Little-endian, as all that creance runs on.
    Some(read.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

fn may_hold_of(atom: &TextAtom, text: Option<&[u8]>) -> bool {
    text.is_none_or(|text| passes(&atom.test, &part(text, atom.subject.part)) != atom.is_negated)
}

fn part(text: &[u8], part: Part) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let cut = match (part, text.rsplit_once('/')) {
        (Part::Whole, _) => text.clone(),
        (_, None) => "/".to_owned(),
        (Part::Directory, Some(("", _))) => "/".to_owned(),
        (_, Some((_, ""))) => text.clone(),
        (Part::Directory, Some((directory, _))) => directory.to_owned(),
        (Part::FileName, Some((_, name))) => name.to_owned(),
    };
    cut.into_bytes()
}

fn passes(test: &TextTest, text: &[u8]) -> bool {
    let holds = |needle: &[u8], text: &[u8]| {
        needle.is_empty() || text.windows(needle.len()).any(|window| window == needle)
    };
    match test {
        TextTest::OneOf(texts) => texts.iter().any(|one| **one == *text),
        TextTest::StartsWith(start) => text.starts_with(start),
        TextTest::EndsWith(end) => text.ends_with(end),
        TextTest::Contains(needle) => holds(needle, text),
        TextTest::ContainsIgnoringCase(needle) => {
            holds(&needle.to_ascii_lowercase(), &text.to_ascii_lowercase())
        }
        TextTest::Glob(pattern) => matches(pattern, text),
        TextTest::Below(roots) => roots.iter().any(|root| {
            let components = |path: &[u8]| {
                let names = path.split(is_slash).filter(|name| !name.is_empty());
                names.map(<[u8]>::to_vec).collect::<Vec<_>>()
            };
            components(text).starts_with(&components(root))
        }),
    }
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', fewer)), _) if matches(fewer, text) => true,
        (Some((b'*', _)), Some((_, rest))) => matches(pattern, rest),
        (Some((b'?', pattern)), Some((_, rest))) => matches(pattern, rest),
        (Some((wanted, pattern)), Some((byte, rest))) => wanted == byte && matches(pattern, rest),
        _ => false,
    }
}
