//! A formula in words: `flags & 3 is any of [O_WRONLY, O_RDWR] and path starts with /etc/`.
//!
//! Registers are named as the arguments of the call, and their values as the kernel's headers name them. It decides
//! nothing: what the words say and what the formula says must be the same.

use std::{fmt::Write, net::Ipv6Addr};

use crate::{
    abi::{self, Abi, ArgumentKind, FlagSet, FlagWords},
    interest::{
        Condition, Test,
        formula::{AddressTest, Atom, Formula, Network, Part, Subject, TextAtom, TextTest},
    },
};

/// How many values of a list are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// This many; how many more there are is told.
    Some(usize),
    /// All of them.
    All,
}

/// How a predicate compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Is,
    IsIn,
    IsBelow,
    StartsWith,
    EndsWith,
    Contains,
    ContainsInAnyCase,
    Matches,
    Has,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Verb {
    /// In words.
    pub(super) const fn asserted(self) -> &'static str {
        match self {
            Self::Is => "is",
            Self::IsIn => "is in",
            Self::IsBelow => "is at or below",
            Self::StartsWith => "starts with",
            Self::EndsWith => "ends with",
            Self::Contains => "contains",
            Self::ContainsInAnyCase => "contains, in any case,",
            Self::Matches => "matches",
            Self::Has => "has",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }

    /// Its contrary, in words.
    const fn negated(self) -> &'static str {
        match self {
            Self::Is => "is not",
            Self::IsIn => "is not in",
            Self::IsBelow => "is not at or below",
            Self::StartsWith => "does not start with",
            Self::EndsWith => "does not end with",
            Self::Contains => "does not contain",
            Self::ContainsInAnyCase => "does not contain, in any case,",
            Self::Matches => "does not match",
            Self::Has => "lacks",
            Self::Less => ">=",
            Self::AtMost => ">",
            Self::Greater => "<=",
            Self::AtLeast => "<",
        }
    }
}

/// What one comparison says: `path starts with` one of some values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Predicate {
    /// What is compared: `path`, `flags & 3`.
    pub(super) subject: String,
    /// How.
    pub(super) verb: Verb,
    /// With what: one of these.
    pub(super) values: Vec<String>,
    /// Whether it has to fail with every one of them.
    pub(super) is_negated: bool,
}

impl Predicate {
    fn new(subject: impl Into<String>, verb: Verb, value: impl Into<String>) -> Self {
        Self { subject: subject.into(), verb, values: vec![value.into()], is_negated: false }
    }

    /// Takes in the values of another one; gives it back if it is about something else.
    fn absorb(&mut self, other: Self) -> Option<Self> {
        let is_alike =
            (&self.subject, self.verb, self.is_negated) == (&other.subject, other.verb, other.is_negated);
        if !is_alike {
            return Some(other);
        }
        for value in other.values {
            if !self.values.contains(&value) {
                self.values.push(value);
            }
        }
        None
    }

    /// In words.
    pub(super) fn text(&self, shown: Shown) -> String {
        let Self { subject, verb, values, is_negated } = self;
        let test = if *is_negated { verb.negated() } else { verb.asserted() };
        let mut text = format!("{subject} {test} ");
        match &values[..] {
            [value] => text.push_str(value),
            _ => {
                let most = match shown {
                    Shown::Some(most) => most,
                    Shown::All => values.len(),
                };
                let seen: Vec<_> = values.iter().take(most).map(String::as_str).collect();
                text.push_str("any of [");
                text.push_str(&seen.join(", "));
                if values.len() > most {
                    // Writing to a string cannot fail.
                    let _ = write!(text, ", ... and {} more", values.len() - most);
                }
                text.push(']');
            }
        }
        text
    }
}

/// What the arguments of one call are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    call: &'static str,
}

impl Terms {
    /// Those of the call with this name.
    pub(super) const fn of(call: &'static str) -> Self {
        Self { call }
    }

    /// A formula in words.
    pub(super) fn text(self, formula: &Formula, shown: Shown) -> String {
        match formula {
            Formula::True => "always".to_owned(),
            Formula::False => "never".to_owned(),
            Formula::Atom(atom) => self.predicate(atom).text(shown),
            Formula::All(operands) => self.parts(operands, false, shown).join(" and "),
            Formula::Any(operands) => self.parts(operands, true, shown).join(" or "),
        }
    }

    /// What a formula asks of texts and addresses, without how it hangs together: alike comparisons as one, those that
    /// have to hold first. Where it asks nothing of these, it is what it asks of numbers in structures.
    pub(super) fn memory_predicates(self, formula: &Formula) -> Vec<Predicate> {
        let mut found = Vec::new();
        self.collect(formula, &mut found, Atom::is_text);
        if found.is_empty() {
            self.collect(formula, &mut found, |atom| matches!(atom, Atom::Word { .. }));
        }
        let mut found = grouped(found, |_| true);
        found.iter_mut().for_each(|predicate| predicate.values.sort());
        found.sort_by_key(|predicate| predicate.is_negated);
        found
    }

    fn collect(self, formula: &Formula, found: &mut Vec<Predicate>, is_meant: fn(&Atom) -> bool) {
        match formula {
            Formula::Atom(atom) if is_meant(atom) => found.push(self.predicate(atom)),
            Formula::True | Formula::False | Formula::Atom(_) => {}
            Formula::All(operands) => operands.iter().for_each(|one| self.collect(one, found, is_meant)),
            Formula::Any(operands) => {
                distinct(operands).for_each(|one| self.collect(one, found, is_meant));
            }
        }
    }

    /// The operands of a conjunction or a disjunction in words.
    fn parts(self, operands: &[Formula], is_any: bool, shown: Shown) -> Vec<String> {
        let mut predicates = Vec::new();
        let mut rest = Vec::new();
        for operand in operands {
            match operand {
                Formula::Atom(atom) => predicates.push(self.predicate(atom)),
                other => rest.push(self.in_brackets(other, shown)),
            }
        }
        // `x is a or x is b` is one comparison with a list, and so is `x is not a and x is not b`.
        let grouped = grouped(predicates, |predicate| predicate.is_negated != is_any);
        grouped.iter().map(|predicate| predicate.text(shown)).chain(without_repeats(rest)).collect()
    }

    /// A formula in words, in brackets if they are several.
    fn in_brackets(self, formula: &Formula, shown: Shown) -> String {
        let count = match formula {
            Formula::All(operands) => self.parts(operands, false, shown).len(),
            Formula::Any(operands) => self.parts(operands, true, shown).len(),
            Formula::True | Formula::False | Formula::Atom(_) => 1,
        };
        let text = self.text(formula, shown);
        if count > 1 { format!("({text})") } else { text }
    }

    fn predicate(self, atom: &Atom) -> Predicate {
        match atom {
            Atom::Register(condition) => self.number(condition, None),
            Atom::Word { offset, condition } => self.number(condition, Some(*offset)),
            Atom::Text(atom) => of_text(&self.subject(atom.subject), &atom.test, atom.is_negated),
            Atom::Name { test, is_negated } => of_text("program name", test, *is_negated),
            Atom::Address { argument: _, test, is_negated } => {
                Predicate { is_negated: *is_negated, ..of_address(test) }
            }
        }
    }

    fn number(self, condition: &Condition, offset: Option<u8>) -> Predicate {
        let (name, kind) = self.number_name(condition.argument, offset);
        let value = condition.value;
        let plain = |test| Predicate::new(&*name, test, number(kind, value));
        match condition.test {
            Test::Eq => plain(Verb::Is),
            Test::Ne => Predicate { is_negated: true, ..plain(Verb::Is) },
            Test::Lt => plain(Verb::Less),
            Test::Le => plain(Verb::AtMost),
            Test::Gt => plain(Verb::Greater),
            Test::Ge => plain(Verb::AtLeast),
            Test::MaskedEq(mask) if mask.count_ones() == 1 => {
                let is_negated = value & mask == 0;
                Predicate { is_negated, ..Predicate::new(name, Verb::Has, number(kind, mask)) }
            }
            Test::MaskedEq(mask) => Predicate::new(
                format!("{name} & {}", plain_number(mask)),
                Verb::Is,
                number(kind, value & mask),
            ),
        }
    }

    /// The name of an argument, or of a number in the structure that it points to, and what the number means.
    fn number_name(self, argument: u8, offset: Option<u8>) -> (String, Option<ArgumentKind>) {
        match (self.call, offset) {
            // The fields of its `struct open_how` (openat2(2)).
            ("openat2", Some(0)) => {
                return ("how.flags".to_owned(), Some(ArgumentKind::Flags(FlagSet::Open)));
            }
            ("openat2", Some(8)) => return ("how.mode".to_owned(), Some(ArgumentKind::Mode)),
            _ => {}
        }
        let known = abi::signature(Abi::NATIVE, self.call)
            .and_then(|signature| signature.arguments.get(usize::from(argument)));
        let name = known.map_or_else(|| format!("argument {argument}"), |known| known.name.to_owned());
        match offset {
            None => (name, known.map(|known| known.kind)),
            Some(offset) => (format!("{name}[{offset}]"), None),
        }
    }

    /// What a part of a text is called. A call with several texts has names for them.
    fn subject(self, subject: Subject) -> String {
        let arguments = abi::signature(Abi::NATIVE, self.call).map_or(&[][..], |known| known.arguments);
        let is_text = |kind| matches!(kind, ArgumentKind::Path | ArgumentKind::Text);
        let is_only_one = arguments.iter().filter(|argument| is_text(argument.kind)).count() == 1;
        let argument = arguments.get(usize::from(subject.argument));
        let name = match argument {
            Some(argument) if is_only_one && argument.kind == ArgumentKind::Path => "path",
            Some(argument) => argument.name,
            None => "text",
        };
        match (subject.part, name) {
            (Part::Whole, name) => name.to_owned(),
            (Part::Directory, "path") => "directory".to_owned(),
            (Part::FileName, "path") => "file name".to_owned(),
            (Part::Directory, name) => format!("directory of {name}"),
            (Part::FileName, name) => format!("file name of {name}"),
        }
    }
}

/// The operands of a disjunction, without those that only say of the whole path of a directory what another one says of
/// the directory of a path: they belong to the same comparison, for what is opened as a directory.
fn distinct(operands: &[Formula]) -> impl Iterator<Item = &Formula> {
    let is_whole = |formula: &Formula| {
        let Formula::Atom(Atom::Text(atom)) = formula else { return false };
        let subject = Subject { part: Part::Directory, ..atom.subject };
        let directory = Formula::Atom(Atom::Text(TextAtom { subject, ..atom.clone() }));
        atom.subject.part == Part::Whole && operands.contains(&directory)
    };
    let is_number = |formula: &Formula| match formula {
        Formula::Any(operands) => {
            operands.iter().all(|one| matches!(one, Formula::Atom(atom) if !atom.is_text()))
        }
        formula => matches!(formula, Formula::Atom(atom) if !atom.is_text()),
    };
    let is_shadowed = move |formula: &Formula| match formula {
        Formula::All(all) => {
            all.iter().any(is_whole) && all.iter().all(|one| is_whole(one) || is_number(one))
        }
        formula => is_whole(formula),
    };
    operands.iter().filter(move |formula| !is_shadowed(formula))
}

/// Alike predicates as one, if they may stand as a list. A list of values is a disjunction, and a negated one a
/// conjunction.
fn grouped(predicates: Vec<Predicate>, is_list: impl Fn(&Predicate) -> bool) -> Vec<Predicate> {
    let mut groups: Vec<Predicate> = Vec::new();
    for predicate in predicates {
        let mut left = Some(predicate);
        for group in &mut groups {
            if let Some(one) = left.take_if(|one| is_list(one)) {
                left = group.absorb(one);
            }
        }
        groups.extend(left);
    }
    groups
}

fn without_repeats(texts: Vec<String>) -> impl Iterator<Item = String> {
    let mut seen = Vec::new();
    texts.into_iter().filter(move |text| {
        let is_new = !seen.contains(text);
        if is_new {
            seen.push(text.clone());
        }
        is_new
    })
}

fn of_text(subject: &str, test: &TextTest, is_negated: bool) -> Predicate {
    let one = |verb, value: &[u8]| Predicate::new(subject, verb, shown(value));
    let several = |verb, values: &[Box<[u8]>]| Predicate {
        values: values.iter().map(|value| shown(value)).collect(),
        ..Predicate::new(subject, verb, "")
    };
    let predicate = match test {
        TextTest::OneOf(values) => several(Verb::Is, values),
        TextTest::StartsWith(value) => one(Verb::StartsWith, value),
        TextTest::EndsWith(value) => one(Verb::EndsWith, value),
        TextTest::Contains(value) => one(Verb::Contains, value),
        TextTest::ContainsIgnoringCase(value) => one(Verb::ContainsInAnyCase, value),
        TextTest::Glob(value) => one(Verb::Matches, value),
        TextTest::Below(values) => several(Verb::IsBelow, values),
    };
    Predicate { is_negated, ..predicate }
}

fn of_address(test: &AddressTest) -> Predicate {
    let several =
        |subject: &str, test, values: Vec<String>| Predicate { values, ..Predicate::new(subject, test, "") };
    match test {
        AddressTest::FamilyIn(families) => {
            let name = |family: &u16| number(Some(ArgumentKind::Flags(FlagSet::Domain)), u64::from(*family));
            several("address family", Verb::Is, families.iter().map(name).collect())
        }
        AddressTest::PortIn(ranges) => {
            let range = |&(first, last): &(u16, u16)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            };
            several("port", Verb::Is, ranges.iter().map(range).collect())
        }
        AddressTest::HostIn(networks) => several("host", Verb::IsIn, networks.iter().map(network).collect()),
    }
}

/// Bits of an IPv6 address before an IPv4 one that is mapped into it.
const MAPPED_BITS: u8 = 96;

/// A network as people write it.
pub(super) fn network(network: &Network) -> String {
    let address = Ipv6Addr::from(network.address);
    match (address.to_ipv4_mapped(), network.prefix_len.checked_sub(MAPPED_BITS)) {
        (Some(address), Some(32)) => address.to_string(),
        (Some(address), Some(bits)) => format!("{address}/{bits}"),
        _ if network.prefix_len == 128 => address.to_string(),
        _ => format!("{address}/{}", network.prefix_len),
    }
}

/// A number as what it means suggests.
fn number(kind: Option<ArgumentKind>, value: u64) -> String {
    match kind {
        Some(ArgumentKind::Flags(set)) => flag_words(set, value),
        Some(ArgumentKind::Mode) => format!("{value:#o}"),
        _ => plain_number(value),
    }
}

/// The words of flags. The word that no bits stand for, as `O_RDONLY`, is left out beside others.
fn flag_words(set: FlagSet, value: u64) -> String {
    let words = FlagWords::of(set, value).to_string();
    let none = FlagWords::of(set, 0).to_string();
    let stripped = words.strip_prefix(&none).and_then(|words| words.strip_prefix('|'));
    stripped.map_or(words.clone(), str::to_owned)
}

fn plain_number(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

/// A text from a rule, in quotes if it would be mistaken without.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let is_bare =
        |c: char| c.is_alphanumeric() || c.is_ascii_punctuation() && !matches!(c, '"' | ',' | '[' | ']');
    if !text.is_empty() && text.chars().all(is_bare) { text.into_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interest::{Width, formula::Form};

    fn masked(argument: u8, mask: u64, value: u64) -> Formula {
        let test = Test::MaskedEq(mask);
        Formula::Atom(Atom::Register(Condition { argument, width: Width::Low32, test, value }))
    }

    fn text(argument: u8, part: Part, test: TextTest, is_negated: bool) -> Formula {
        let subject = Subject { argument, form: Form::Either, part };
        Formula::Atom(Atom::Text(TextAtom { subject, test, is_negated }))
    }

    fn one_of(values: &[&str]) -> TextTest {
        TextTest::OneOf(values.iter().map(|value| value.as_bytes().into()).collect())
    }

    fn below(prefix: &str) -> TextTest {
        TextTest::StartsWith(prefix.as_bytes().into())
    }

    #[test]
    fn registers_have_the_names_of_arguments_and_values_those_of_the_kernel() {
        let openat = Terms::of("openat");
        let writes = Formula::any([masked(2, 3, 1), masked(2, 3, 2)]);
        assert_eq!(openat.text(&writes, Shown::All), "flags & 3 is any of [O_WRONLY, O_RDWR]");
        assert_eq!(openat.text(&masked(2, 3, 0), Shown::All), "flags & 3 is O_RDONLY");
        assert_eq!(openat.text(&masked(2, 0o100, 0o100), Shown::All), "flags has O_CREAT");
        assert_eq!(openat.text(&masked(2, 0o100, 0), Shown::All), "flags lacks O_CREAT");
        assert_eq!(Terms::of("chmod").text(&masked(1, 0o4000, 0o4000), Shown::All), "mode has 0o4000");
        let at_most = Condition { argument: 1, width: Width::Low32, test: Test::Le, value: 2 };
        assert_eq!(Terms::of("dup2").text(&Formula::Atom(Atom::Register(at_most)), Shown::All), "newfd <= 2");
        assert_eq!(
            Terms::of("no such call").text(&Formula::Atom(Atom::Register(at_most)), Shown::All),
            "argument 1 <= 2"
        );
        let how = Formula::Atom(Atom::Word { offset: 0, condition: Condition { argument: 2, ..at_most } });
        assert_eq!(Terms::of("openat2").text(&how, Shown::All), "how.flags <= O_RDWR");
        assert_eq!(Terms::of("bind").text(&how, Shown::All), "addrlen[0] <= 2");
    }

    #[test]
    fn alternatives_that_differ_in_their_value_are_one_list() {
        let formula = Formula::any([
            text(1, Part::Whole, one_of(&["/a", "/b"]), false),
            text(1, Part::Whole, below("/etc/"), false),
            text(1, Part::Whole, one_of(&["/c d"]), false),
            text(1, Part::FileName, below("x"), false),
        ]);
        let openat = Terms::of("openat");
        assert_eq!(
            openat.text(&formula, Shown::All),
            "path is any of [/a, /b, \"/c d\"] or path starts with /etc/ or file name starts with x"
        );
        assert_eq!(
            openat.text(&formula, Shown::Some(2)),
            "path is any of [/a, /b, ... and 1 more] or path starts with /etc/ or file name starts with x"
        );
    }

    #[test]
    fn what_must_hold_together_is_not_made_a_list() {
        let both = Formula::all([
            text(1, Part::Whole, below("/a"), false),
            text(1, Part::Whole, below("/b"), false),
            masked(2, 3, 1),
        ]);
        let openat = Terms::of("openat");
        let words = "path starts with /a and path starts with /b and flags & 3 is O_WRONLY";
        assert_eq!(openat.text(&both, Shown::All), words);
        let either = Formula::any([both, masked(2, 0o100, 0o100)]);
        assert_eq!(openat.text(&either, Shown::All), format!("flags has O_CREAT or ({words})"));
    }

    #[test]
    fn negated_tests_are_a_list_where_all_of_them_must_fail() {
        let not = |prefix| text(0, Part::Whole, below(prefix), true);
        let open = Terms::of("open");
        assert_eq!(
            open.text(&Formula::all([not("/a"), not("/b")]), Shown::All),
            "path does not start with any of [/a, /b]"
        );
        assert_eq!(
            open.text(&Formula::any([not("/a"), not("/b")]), Shown::All),
            "path does not start with /a or path does not start with /b"
        );
        let is_not = text(0, Part::Whole, one_of(&["/a"]), true);
        assert_eq!(open.text(&is_not, Shown::All), "path is not /a");
    }

    #[test]
    fn what_is_opened_as_a_directory_is_told_in_full_but_not_in_the_summary() {
        let whole = text(0, Part::Whole, one_of(&["/root"]), false);
        let formula = Formula::any([
            text(0, Part::Directory, one_of(&["/root"]), false),
            Formula::all([masked(1, 0o200_000, 0o200_000), whole]),
            text(0, Part::Whole, one_of(&["/x"]), false),
        ]);
        let open = Terms::of("open");
        assert_eq!(
            open.text(&formula, Shown::All),
            "directory is /root or path is /x or (flags has O_DIRECTORY and path is /root)"
        );
        let found = open.memory_predicates(&formula);
        let texts: Vec<_> = found.iter().map(|predicate| predicate.text(Shown::All)).collect();
        assert_eq!(texts, ["directory is /root", "path is /x"]);
    }

    #[test]
    fn a_call_with_two_paths_names_them() {
        let formula = Formula::any([
            text(0, Part::Whole, below("/a"), false),
            text(1, Part::Directory, one_of(&["/b"]), false),
        ]);
        assert_eq!(
            Terms::of("rename").text(&formula, Shown::All),
            "oldpath starts with /a or directory of newpath is /b"
        );
        let target = text(0, Part::Whole, below("/a"), false);
        assert_eq!(Terms::of("symlink").text(&target, Shown::All), "target starts with /a");
    }

    #[test]
    fn addresses_are_named_as_people_write_them() {
        let text = |test, is_negated| {
            let atom = Atom::Address { argument: 1, test, is_negated };
            Terms::of("connect").text(&Formula::Atom(atom), Shown::All)
        };
        assert_eq!(
            text(AddressTest::FamilyIn(vec![2, 10]), false),
            "address family is any of [AF_INET, AF_INET6]"
        );
        assert_eq!(
            text(AddressTest::PortIn(vec![(22, 22), (80, 90)]), true),
            "port is not any of [22, 80-90]"
        );
        let network = |address: &str, prefix_len| Network {
            address: address.parse::<Ipv6Addr>().unwrap().into(),
            prefix_len,
        };
        let networks = [
            network("::ffff:10.0.0.0", 104),
            network("::ffff:127.0.0.1", 128),
            network("fc00::", 7),
            network("::1", 128),
            network("::", 0),
        ];
        assert_eq!(
            text(AddressTest::HostIn(networks.to_vec()), true),
            "host is not in any of [10.0.0.0/8, 127.0.0.1, fc00::/7, ::1, ::/0]"
        );
    }

    #[test]
    fn what_memory_is_asked_is_told_without_registers_and_sorted() {
        let formula = Formula::any([
            Formula::all([masked(2, 3, 1), text(1, Part::Whole, below("/b"), true)]),
            text(1, Part::Whole, one_of(&["/z", "/a"]), false),
            Formula::all([masked(2, 3, 2), text(1, Part::Whole, one_of(&["/m", "/a"]), false)]),
        ]);
        let found = Terms::of("openat").memory_predicates(&formula);
        let texts: Vec<_> = found.iter().map(|predicate| predicate.text(Shown::All)).collect();
        assert_eq!(texts, ["path is any of [/a, /m, /z]", "path does not start with /b"]);
        assert_eq!(Terms::of("openat").memory_predicates(&Formula::True), []);
    }
}
