//! What is known of a field in the events of one call before the call returns, and what follows for a comparison.

use super::{
    Condition, Test, Width,
    formula::{Atom, Formula, Subject, TextAtom, TextTest},
};
use crate::rules::condition::{Check, Operator, Right};

/// Where a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the argument: the register, or the pointer to a structure.
    pub(super) argument: u8,
    /// Where in the structure, in bytes.
    pub(super) offset: Option<u8>,
}

impl Place {
    /// That the low 32 bits of the number compare like this.
    pub(super) const fn compares(self, test: Test, value: u64) -> Formula {
        let condition = Condition { argument: self.argument, width: Width::Low32, test, value };
        Formula::Atom(match self.offset {
            None => Atom::Register(condition),
            Some(offset) => Atom::Word { offset, condition },
        })
    }

    /// That it has any of these bits.
    pub(super) fn has_any_of(self, bits: impl IntoIterator<Item = u64>) -> Formula {
        Formula::any(bits.into_iter().map(|bit| self.compares(Test::MaskedEq(bit), bit)))
    }
}

/// What is known of a field, in every event that Falco is told of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact<'a> {
    /// It has no value, or an empty one.
    Absent,
    /// It is one of these texts.
    Texts(Vec<&'a str>),
    /// It is a boolean. Either formula may hold when the other one does: then it is not certain which one it is.
    Bool {
        /// When it may be true.
        is_true: Formula,
        /// When it may be false.
        is_false: Formula,
    },
    /// It is one of these texts that arguments point to, or absent.
    Path(Vec<Subject>),
    /// It is a text made of the names of the bits that a number has set, with `|` between them. Names that have no bit
    /// here may stand there whatever the number is.
    Bits {
        /// The number.
        place: Place,
        /// Every name that libsinsp knows, and its bit.
        names: &'static [(&'static str, u64)],
    },
    /// It is the name of a number, or its digits. Other numbers than these have other names.
    Choice {
        /// How the number is compared with the one of a name.
        condition: Condition,
        /// Some names, with their numbers.
        names: &'static [(&'static str, u64)],
    },
    /// It is a number: this one, or a negative one.
    ResultIs(Place),
    /// Nothing is known.
    Unknown,
}

impl Fact<'_> {
    /// When the comparison of a field with this fact may come out as `is_wanted`.
    pub(super) fn may(&self, check: &Check, is_wanted: bool) -> Formula {
        if check.modifier.is_some() {
            return Formula::True;
        }
        match self {
            Self::Absent => absent(check, is_wanted),
            Self::Texts(texts) => {
                let may = |text: &&str| compare(text, check).is_none_or(|holds| holds == is_wanted);
                if texts.iter().any(may) { Formula::True } else { Formula::False }
            }
            Self::Bool { is_true, is_false } => match truth(check) {
                Some(truth) if truth == is_wanted => is_true.clone(),
                Some(_) => is_false.clone(),
                None => Formula::True,
            },
            Self::Path(subjects) => path(subjects, check, is_wanted).unwrap_or(Formula::True),
            Self::Bits { place, names } => bits(*place, names, check, is_wanted).unwrap_or(Formula::True),
            Self::Choice { condition, names } => {
                choice(*condition, names, check, is_wanted).unwrap_or(Formula::True)
            }
            Self::ResultIs(place) => result(*place, check, is_wanted).unwrap_or(Formula::True),
            Self::Unknown => Formula::True,
        }
    }
}

/// The values that a comparison asks for, if it asks for plain ones.
pub(super) fn words(check: &Check) -> Option<Vec<&str>> {
    match &check.right {
        Right::Value(word) => Some(vec![word.text.as_str()]),
        Right::List(words) => Some(words.iter().map(|word| word.text.as_str()).collect()),
        Right::Nothing | Right::Named(_) | Right::Operand(_) => None,
    }
}

/// A comparison with a value that is not empty fails where there is nothing to compare.
fn absent(check: &Check, is_wanted: bool) -> Formula {
    let needs_text = matches!(
        check.operator,
        Operator::Eq
            | Operator::In
            | Operator::Contains
            | Operator::IContains
            | Operator::StartsWith
            | Operator::EndsWith
    );
    let is_never_met =
        needs_text && words(check).is_some_and(|words| words.iter().all(|word| !word.is_empty()));
    if is_never_met && is_wanted { Formula::False } else { Formula::True }
}

/// Whether a known text compares; `None` for an operator that is not looked at.
fn compare(text: &str, check: &Check) -> Option<bool> {
    if check.operator == Operator::Exists {
        return Some(true);
    }
    let words = words(check)?;
    let holds = |test: fn(&str, &str) -> bool| words.iter().any(|word| test(text, word));
    match check.operator {
        Operator::Eq | Operator::In | Operator::Intersects => Some(holds(|text, word| text == word)),
        Operator::Ne => Some(!holds(|text, word| text == word)),
        Operator::Contains => Some(holds(|text, word| text.contains(word))),
        Operator::StartsWith => Some(holds(|text, word| text.starts_with(word))),
        Operator::EndsWith => Some(holds(|text, word| text.ends_with(word))),
        _ => None,
    }
}

/// What a comparison of a boolean asks it to be.
fn truth(check: &Check) -> Option<bool> {
    let [word] = words(check)?[..] else { return None };
    let value = match word {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    match check.operator {
        Operator::Eq => Some(value),
        Operator::Ne => Some(!value),
        _ => None,
    }
}

/// The characters that make a pattern of fnmatch(3) more than `*` and `?` do.
const PATTERN_CHARACTERS: &[char] = &['[', ']', '\\', '(', ')', '|', '!', '+', '@'];

fn path(subjects: &[Subject], check: &Check, is_wanted: bool) -> Option<Formula> {
    let words = words(check)?;
    let bytes = |word: &str| -> Box<[u8]> { word.as_bytes().into() };
    let one = || match words[..] {
        [word] => Some(word),
        _ => None,
    };
    let (test, is_negated) = match check.operator {
        Operator::Eq => (TextTest::OneOf(vec![bytes(one()?)]), false),
        Operator::Ne => (TextTest::OneOf(vec![bytes(one()?)]), true),
        Operator::In => (TextTest::OneOf(words.iter().map(|word| bytes(word)).collect()), false),
        Operator::StartsWith => (TextTest::StartsWith(bytes(one()?)), false),
        Operator::EndsWith => (TextTest::EndsWith(bytes(one()?)), false),
        Operator::Contains => (TextTest::Contains(bytes(one()?)), false),
        Operator::IContains => (TextTest::ContainsIgnoringCase(bytes(one()?)), false),
        Operator::Glob if !one()?.contains(PATTERN_CHARACTERS) => (TextTest::Glob(bytes(one()?)), false),
        Operator::PMatch => (TextTest::Below(words.iter().map(|word| bytes(word)).collect()), false),
        _ => return None,
    };
    if !is_wanted {
        // Where there is no value, the comparison fails, whatever it is.
        return None;
    }
    Some(Formula::any(
        subjects
            .iter()
            .map(|&subject| Formula::Atom(Atom::Text(TextAtom { subject, test: test.clone(), is_negated }))),
    ))
}

/// Whether a text can only be part of a single name: it holds nothing but what names are made of.
fn is_of_a_name(word: &str) -> bool {
    word.contains('_') && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

fn bits(place: Place, names: &[(&str, u64)], check: &Check, is_wanted: bool) -> Option<Formula> {
    let [word] = words(check)?[..] else { return None };
    if check.operator != Operator::Contains || !is_of_a_name(word) {
        return None;
    }
    let mut formulas = Vec::new();
    for (_, bit) in names.iter().filter(|(name, _)| name.contains(word)) {
        if *bit == 0 {
            return None;
        }
        formulas.push(place.compares(Test::MaskedEq(*bit), if is_wanted { *bit } else { 0 }));
    }
    Some(if is_wanted { Formula::any(formulas) } else { Formula::all(formulas) })
}

fn choice(condition: Condition, names: &[(&str, u64)], check: &Check, is_wanted: bool) -> Option<Formula> {
    if !is_wanted {
        return None;
    }
    let words = words(check)?;
    let is_known = |word: &&str| names.iter().any(|(name, _)| name == word);
    let matches = |name: &str| match check.operator {
        Operator::Eq | Operator::In => Some(words.contains(&name)),
        Operator::Contains if words.iter().all(|word| is_of_a_name(word)) => {
            Some(words.iter().any(|word| name.contains(word)))
        }
        _ => None,
    };
    if !words.iter().all(is_known) {
        return None;
    }
    let mut formulas = Vec::new();
    for (name, value) in names {
        if matches(name)? {
            formulas.push(Formula::Atom(Atom::Register(Condition { value: *value, ..condition })));
        }
    }
    Some(Formula::any(formulas))
}

fn result(place: Place, check: &Check, is_wanted: bool) -> Option<Formula> {
    if !is_wanted || !matches!(check.operator, Operator::Eq | Operator::In) {
        return None;
    }
    let values = words(check)?
        .into_iter()
        .map(|word| word.parse::<u32>().ok().filter(|&value| value <= i32::MAX as u32));
    let values: Vec<_> = values.collect::<Option<_>>()?;
    Some(Formula::any(values.into_iter().map(|value| place.compares(Test::Eq, u64::from(value)))))
}
