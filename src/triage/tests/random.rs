//! Random formulas and calls, from few words, so that they have to do with each other.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::plain::Call;
use crate::interest::{
    Condition, Test, Width,
    formula::{AddressTest, Atom, Form, Formula, Network, Part, Subject, TextAtom, TextTest},
};

const NAMES: &[&str] = &["etc", "shadow", "a", "b", "aa", "ab", ".ssh", "..", ".", "", "..a", "sha", "Etc"];

/// A path, or what could be one.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let names = vec(select(NAMES), 0..5).prop_map(|names| names.join("/").into_bytes());
    let named = (any::<bool>(), names)
        .prop_map(|(is_absolute, names)| if is_absolute { [b"/", names.as_slice()].concat() } else { names });
    prop_oneof![
        20 => named,
        1 => Just(b"/etc/\xc3\xa9".to_vec()),
        1 => Just(b"a\nb".to_vec()),
        1 => (0_usize..400).prop_map(|count| "aa/".repeat(count).into_bytes()),
    ]
}

fn base() -> impl Strategy<Value = Vec<u8>> {
    let names = select(&["etc", "shadow", "a", "ab", ".ssh"][..]);
    let named = vec(names, 0..4).prop_map(|names| format!("/{}", names.join("/")).into_bytes());
    prop_oneof![
        15 => named,
        1 => Just(format!("/{}", "b".repeat(990)).into_bytes()),
        1 => path(),
    ]
}

/// Directories that a path may start from.
pub(super) fn bases() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(base(), 1..6)
}

fn address() -> impl Strategy<Value = Vec<u8>> {
    let head = (select(&[0_u16, 1, 2, 10][..]), select(&[80_u16, 443][..]));
    (head, vec(select(&[0_u8, 1, 10, 0xff][..]), 0..26))
        .prop_map(|((family, port), rest)| [&family.to_ne_bytes()[..], &port.to_be_bytes(), &rest].concat())
}

/// A call.
pub(super) fn call() -> impl Strategy<Value = Call> {
    let some = |strategy: BoxedStrategy<Vec<u8>>| {
        let one = || option::weighted(0.9, strategy.clone());
        [one(), one(), one()]
    };
    let memory = (some(path().boxed()), some(base().boxed()), some(address().boxed()));
    let name = option::weighted(0.9, path());
    (vec(0_u64..3, 6), memory, name).prop_map(|(registers, (texts, bases, bytes), name)| Call {
        registers: registers.try_into().unwrap(),
        texts,
        bases,
        bytes,
        name,
        ..Call::default()
    })
}

fn literal() -> impl Strategy<Value = Box<[u8]>> {
    (path(), 0_usize..6, 0_usize..6).prop_map(|(path, start, end)| {
        let end = path.len().saturating_sub(end);
        path.get(start.min(end)..end).unwrap().into()
    })
}

fn text_test() -> impl Strategy<Value = TextTest> {
    let literals = || vec(prop_oneof![literal(), path().prop_map(Into::into)], 1..4);
    let glob = prop_oneof![literal(), "[/ae*?]{0,6}".prop_map(|glob| glob.into_bytes().into())];
    prop_oneof![
        4 => literals().prop_map(TextTest::OneOf),
        2 => literal().prop_map(TextTest::StartsWith),
        2 => literal().prop_map(TextTest::EndsWith),
        1 => literal().prop_map(TextTest::Contains),
        1 => literal().prop_map(TextTest::ContainsIgnoringCase),
        1 => glob.prop_map(TextTest::Glob),
        1 => literals().prop_map(TextTest::Below),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let tests = vec![Test::Eq, Test::Ne, Test::Lt, Test::Le, Test::Gt, Test::Ge, Test::MaskedEq(1)];
    (0_u8..3, any::<bool>(), select(tests), 0_u64..3).prop_map(|(argument, is_wide, test, value)| {
        let width = if is_wide { Width::Full64 } else { Width::Low32 };
        Condition { argument, width, test, value }
    })
}

fn address_test() -> impl Strategy<Value = AddressTest> {
    let network =
        (any::<[bool; 2]>(), 90_u8..=128).prop_map(|([is_mapped, is_private], prefix_len)| Network {
            address: u128::from(is_private) << 24 | if is_mapped { 0xffff_0a01_0101 } else { 0x0a01 },
            prefix_len,
        });
    prop_oneof![
        vec(select(&[0_u16, 1, 2, 10][..]), 1..3).prop_map(AddressTest::FamilyIn),
        vec(select(&[(80, 80), (0, 442), (443, 500)][..]), 1..3).prop_map(AddressTest::PortIn),
        vec(network, 1..3).prop_map(AddressTest::HostIn),
    ]
}

fn text_atom(arguments: u8, parts: &'static [Part]) -> impl Strategy<Value = Atom> {
    let forms = select(&[Form::Written, Form::Resolved, Form::Resolved, Form::Either][..]);
    (0..arguments, forms, select(parts), text_test(), any::<bool>()).prop_map(
        |(argument, form, part, test, is_negated)| {
            Atom::Text(TextAtom { subject: Subject { argument, form, part }, test, is_negated })
        },
    )
}

fn formula_of(arguments: u8, parts: &'static [Part]) -> impl Strategy<Value = Formula> {
    let word = (0_u8..9, condition()).prop_map(|(offset, condition)| Atom::Word { offset, condition });
    let address = (0_u8..3, address_test(), any::<bool>())
        .prop_map(|(argument, test, is_negated)| Atom::Address { argument, test, is_negated });
    let name = (text_test(), any::<bool>()).prop_map(|(test, is_negated)| Atom::Name { test, is_negated });
    let leaf = prop_oneof![
        2 => name,
        8 => text_atom(arguments, parts),
        2 => condition().prop_map(Atom::Register),
        1 => word,
        1 => address,
    ];
    leaf.prop_map(Formula::Atom).prop_recursive(4, 24, 5, |inner| {
        prop_oneof![vec(inner.clone(), 1..5).prop_map(Formula::all), vec(inner, 1..5).prop_map(Formula::any),]
    })
}

const PARTS: &[Part] = &[Part::Whole, Part::Whole, Part::Directory, Part::FileName];

/// A formula about up to three arguments.
pub(super) fn formula() -> impl Strategy<Value = Formula> {
    formula_of(3, PARTS)
}

/// A formula about the text of one argument, and no other text.
pub(super) fn formula_of_one_text() -> impl Strategy<Value = Formula> {
    formula_of(1, PARTS)
}

/// A formula about no file name: libsinsp has none where it does not know the directory.
pub(super) fn formula_without_names() -> impl Strategy<Value = Formula> {
    formula_of(3, &[Part::Whole, Part::Directory])
}
