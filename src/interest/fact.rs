//! What is known of a field in the events of one call before the call returns, and what follows for a comparison.

use super::{
    Condition, Test, Width, address,
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

/// A text that an argument points to, and when a field may be that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The text.
    pub(super) subject: Subject,
    /// When the field may be it.
    pub(super) when: Formula,
}

/// What is known of a field, in every event that Falco is told of a call and that turns out in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact<'a> {
    /// It has no value: no comparison of it holds, not even `!=`.
    Absent,
    /// It is one of these texts.
    Texts(Vec<&'a str>),
    /// It is a text, but none of these.
    OtherThan(&'static [&'static str]),
    /// It is a boolean. Either formula may hold when the other one does: then it is not certain which one it is.
    Bool {
        /// When it may be true.
        is_true: Formula,
        /// When it may be false.
        is_false: Formula,
    },
    /// It is one of some texts.
    Path {
        /// The texts that arguments point to.
        sources: Vec<Source>,
        /// What else it may be.
        others: &'static [&'static str],
        /// Whether it may have no value.
        may_be_absent: bool,
        /// Whether libsinsp leaves one slash of several in a row.
        has_single_slashes: bool,
    },
    /// It is the name of the program.
    Name,
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
    /// It is this number, which is not negative.
    Equals(Place),
    /// It is a number in this range, both ends included.
    Range(i64, i64),
    /// It is the host of the socket address in the argument with this index.
    Host(u8),
    /// It is the port of that address.
    Port(u8),
    /// It is compared with the hosts of both ends of a connection, of which that address is one.
    EitherHost(u8),
    /// It is compared with the ports of both ends.
    EitherPort(u8),
    /// Nothing is known.
    Unknown,
}

impl Fact<'_> {
    /// It is this text, and always there.
    pub(super) fn text(subject: Subject) -> Self {
        Self::Path {
            sources: vec![Source { subject, when: Formula::True }],
            others: &[],
            may_be_absent: false,
            has_single_slashes: false,
        }
    }

    /// It is one of these texts, or has no value.
    pub(super) const fn maybe(others: &'static [&'static str]) -> Self {
        Self::Path { sources: Vec::new(), others, may_be_absent: true, has_single_slashes: false }
    }

    /// When the comparison of a field with this fact may come out as `is_wanted`: at any time, if that is not decided.
    pub(super) fn may(&self, check: &Check, is_wanted: bool) -> Formula {
        let is_plain = check.modifier.is_none();
        is_plain.then(|| self.decided(check, is_wanted)).flatten().unwrap_or(Formula::True)
    }

    /// The same, where it is decided.
    fn decided(&self, check: &Check, is_wanted: bool) -> Option<Formula> {
        let exactly = |holds: bool| if holds == is_wanted { Formula::True } else { Formula::False };
        match self {
            Self::Absent => Some(exactly(false)),
            Self::Texts(texts) => {
                let may = |text: &&str| compare(text, check).is_none_or(|holds| holds == is_wanted);
                Some(if texts.iter().any(may) { Formula::True } else { Formula::False })
            }
            Self::OtherThan(texts) => compare_other(texts, check).map(exactly),
            Self::Bool { is_true, is_false } => {
                let truth = truth(check)?;
                Some(if truth == is_wanted { is_true.clone() } else { is_false.clone() })
            }
            Self::Path { may_be_absent: true, .. } if !is_wanted => None,
            Self::Path { has_single_slashes: true, .. } if !is_blind_to_slashes(check) => None,
            Self::Path { sources, others, .. } => path(sources, others, check, is_wanted),
            Self::Name => name(check, is_wanted),
            Self::Bits { place, names } => bits(*place, names, check, is_wanted),
            Self::Choice { condition, names } => choice(*condition, names, check, is_wanted),
            Self::Equals(place) => equals(*place, check, is_wanted),
            Self::Range(first, last) => compare_range(*first, *last, check).map(exactly),
            Self::Host(argument) => address::host(*argument, check, is_wanted),
            Self::Port(argument) => address::port(*argument, check, is_wanted),
            Self::EitherHost(argument) => address::either_host(*argument, check, is_wanted),
            Self::EitherPort(argument) => address::either_port(*argument, check, is_wanted),
            Self::Unknown => None,
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

/// Whether a text compares of which is known that it is none of these.
fn compare_other(texts: &[&str], check: &Check) -> Option<bool> {
    match check.operator {
        Operator::Exists => Some(true),
        Operator::Eq | Operator::In | Operator::Intersects | Operator::Ne => {
            let is_excluded = words(check)?.iter().all(|word| texts.contains(word));
            is_excluded.then_some(check.operator == Operator::Ne)
        }
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

/// The test that a comparison stands for, and whether it has to fail.
pub(super) fn text_test(check: &Check) -> Option<(TextTest, bool)> {
    let words = words(check)?;
    let bytes = |word: &str| -> Box<[u8]> { word.as_bytes().into() };
    let all = || words.iter().map(|word| bytes(word)).collect();
    let one = || match words[..] {
        [word] => Some(bytes(word)),
        _ => None,
    };
    let has_any = |characters: &[char]| words.iter().any(|word| word.contains(characters));
    Some(match check.operator {
        Operator::Eq => (TextTest::OneOf(vec![one()?]), false),
        Operator::Ne => (TextTest::OneOf(vec![one()?]), true),
        Operator::In | Operator::Intersects => (TextTest::OneOf(all()), false),
        Operator::StartsWith => (TextTest::StartsWith(one()?), false),
        Operator::EndsWith => (TextTest::EndsWith(one()?), false),
        Operator::Contains => (TextTest::Contains(one()?), false),
        Operator::IContains => (TextTest::ContainsIgnoringCase(one()?), false),
        Operator::Glob if !has_any(PATTERN_CHARACTERS) => (TextTest::Glob(one()?), false),
        // libsinsp matches patterns in components of the path.
        Operator::PMatch if !has_any(&['*', '?', '[']) => (TextTest::Below(all()), false),
        _ => return None,
    })
}

/// Whether a comparison comes out the same for a path with several slashes in a row and with one in their place.
fn is_blind_to_slashes(check: &Check) -> bool {
    let has_any = |part: &[u8]| part.contains(&b'/');
    let at_end = |part: &[u8]| !part.split_last().is_some_and(|(_, rest)| has_any(rest));
    match text_test(check) {
        Some((
            TextTest::Contains(part) | TextTest::ContainsIgnoringCase(part) | TextTest::StartsWith(part),
            _,
        )) => at_end(&part),
        Some((TextTest::EndsWith(part), _)) => !has_any(&part),
        Some((TextTest::Glob(pattern), _)) => {
            // A slash at the end of a piece is the first of its row, and the star behind it takes the others.
            let mut pieces: Vec<_> = pattern.split(|&byte| byte == b'*').collect();
            let last = pieces.pop();
            !pattern.contains(&b'?') && pieces.iter().all(|piece| at_end(piece)) && !last.is_some_and(has_any)
        }
        _ => false,
    }
}

fn path(sources: &[Source], others: &[&str], check: &Check, is_wanted: bool) -> Option<Formula> {
    let (test, is_negative) = text_test(check)?;
    // What is compared by a pattern or by components is taken to match in both ways.
    if others.iter().any(|other| compare(other, check).is_none_or(|holds| holds == is_wanted)) {
        return None;
    }
    let is_negated = is_negative == is_wanted;
    let atom = |subject| Formula::Atom(Atom::Text(TextAtom { subject, test: test.clone(), is_negated }));
    let may_be = |source: &Source| Formula::all([source.when.clone(), atom(source.subject)]);
    Some(Formula::any(sources.iter().map(may_be)))
}

fn name(check: &Check, is_wanted: bool) -> Option<Formula> {
    let (test, is_negative) = text_test(check)?;
    let is_negated = is_negative == is_wanted;
    match test {
        // A name has no components for `pmatch`.
        TextTest::Below(_) => None,
        TextTest::OneOf(names) if names.is_empty() => {
            Some(if is_negated { Formula::True } else { Formula::False })
        }
        test => Some(Formula::Atom(Atom::Name { test, is_negated })),
    }
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

/// The numbers that a comparison asks for, if it writes all of them in plain decimal digits.
pub(super) fn numbers(check: &Check) -> Option<Vec<i64>> {
    let number = |word: &str| {
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_plain =
            digits == "0" || !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        word.parse().ok().filter(|_| is_plain)
    };
    words(check)?.into_iter().map(number).collect()
}

/// Whether a number compares.
fn compare_number(number: i64, check: &Check, numbers: &[i64]) -> Option<bool> {
    let one = match numbers {
        [one] => Some(*one),
        _ => None,
    };
    Some(match check.operator {
        Operator::Eq | Operator::In | Operator::Intersects => numbers.contains(&number),
        Operator::Ne => number != one?,
        Operator::Lt => number < one?,
        Operator::Le => number <= one?,
        Operator::Gt => number > one?,
        Operator::Ge => number >= one?,
        _ => return None,
    })
}

/// Whether every number of a range compares in the same way, and how.
fn compare_range(first: i64, last: i64, check: &Check) -> Option<bool> {
    if check.operator == Operator::Exists {
        return Some(true);
    }
    let numbers = numbers(check)?;
    let at_ends = [first, last].map(|end| compare_number(end, check, &numbers));
    let is_order = matches!(check.operator, Operator::Lt | Operator::Le | Operator::Gt | Operator::Ge);
    let has_none = || !numbers.iter().any(|number| (first..=last).contains(number));
    match at_ends {
        [Some(at_first), Some(at_last)]
            if at_first == at_last && (is_order || first == last || has_none()) =>
        {
            Some(at_first)
        }
        _ => None,
    }
}

fn equals(place: Place, check: &Check, is_wanted: bool) -> Option<Formula> {
    let numbers = numbers(check)?;
    let against = |test: Test, value: &i64| match (u64::try_from(*value), test) {
        // It is not negative, so how it compares with a negative number is certain, and in part with 0.
        (Ok(0), Test::Lt) | (Err(_), Test::Eq | Test::Lt | Test::Le) => Some(Formula::False),
        (Ok(0), Test::Ge) | (Err(_), Test::Ne | Test::Gt | Test::Ge) => Some(Formula::True),
        (Ok(value), test) if value <= u64::from(i32::MAX.cast_unsigned()) => {
            Some(place.compares(test, value))
        }
        _ => None,
    };
    let (test, inverse) = match check.operator {
        Operator::Eq | Operator::In | Operator::Intersects => (Test::Eq, Test::Ne),
        Operator::Ne => (Test::Ne, Test::Eq),
        Operator::Lt => (Test::Lt, Test::Ge),
        Operator::Le => (Test::Le, Test::Gt),
        Operator::Gt => (Test::Gt, Test::Le),
        Operator::Ge => (Test::Ge, Test::Lt),
        _ => return None,
    };
    let test = if is_wanted { test } else { inverse };
    let all: Vec<_> = numbers.iter().map(|value| against(test, value)).collect::<Option<_>>()?;
    Some(if is_wanted { Formula::any(all) } else { Formula::all(all) })
}
