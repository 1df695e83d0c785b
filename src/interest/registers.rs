//! What the kernel can tell of a formula: its register conditions, in the form that a seccomp filter takes.
//!
//! All that is done here may only widen: a condition that does not fit is left out, and a call that is trapped for
//! nothing is dropped by triage, which looks at the whole formula.

use super::{
    Condition, RegisterTest, Test,
    formula::{Atom, Formula},
};
use crate::limits::{REGISTER_ALTERNATIVES_MAX, REGISTER_CONDITIONS_MAX};

/// The widest mask, in bits, whose values are counted to find that some alternatives together leave none out.
const COUNTED_BITS_MAX: u32 = 4;

/// One alternative: all of its conditions hold.
type Alternative = Vec<Condition>;

/// The test that registers must pass for `formula` to hold, whatever memory says; `None` if they never do.
pub(super) fn register_test(formula: &Formula) -> Option<RegisterTest> {
    match alternatives(&formula.with_memory(&Formula::True)) {
        None => Some(RegisterTest::ALWAYS),
        Some(alternatives) if alternatives.is_empty() => None,
        Some(alternatives) => Some(RegisterTest::any_of(alternatives)),
    }
}

/// The disjunction of conjunctions that `formula` widens to; `None` for what always holds.
fn alternatives(formula: &Formula) -> Option<Vec<Alternative>> {
    match formula {
        Formula::False => Some(Vec::new()),
        Formula::Atom(Atom::Register(condition)) => Some(vec![vec![*condition]]),
        Formula::True | Formula::Atom(_) => None,
        Formula::Any(operands) => {
            let mut all = Vec::new();
            for operand in operands {
                all.extend(alternatives(operand)?);
            }
            let all = without_redundant(all);
            (all.len() <= REGISTER_ALTERNATIVES_MAX && !is_exhaustive(&all)).then_some(all)
        }
        Formula::All(operands) => operands.iter().filter_map(alternatives).reduce(|left, right| {
            let product = product(&left, &right);
            // Either side alone is wider than both together.
            if product.len() > REGISTER_ALTERNATIVES_MAX { left } else { product }
        }),
    }
}

/// Every alternative of the one side with every alternative of the other, without those that cannot hold.
fn product(left: &[Alternative], right: &[Alternative]) -> Vec<Alternative> {
    let joined = left.iter().flat_map(|left| right.iter().filter_map(move |right| join(left, right)));
    without_redundant(joined.collect())
}

/// Both alternatives in one; `None` if they contradict each other.
fn join(left: &Alternative, right: &Alternative) -> Option<Alternative> {
    let mut joined = left.clone();
    for condition in right {
        if joined.iter().any(|known| contradict(known, condition)) {
            return None;
        }
        if !joined.contains(condition) && joined.len() < REGISTER_CONDITIONS_MAX {
            joined.push(*condition);
        }
    }
    Some(joined)
}

/// Tells whether no register can meet both conditions. Only equalities are looked at.
fn contradict(left: &Condition, right: &Condition) -> bool {
    let mask = |condition: &Condition| match condition.test {
        Test::Eq => Some(u64::MAX),
        Test::MaskedEq(mask) => Some(mask),
        _ => None,
    };
    let is_same_place = left.argument == right.argument && left.width == right.width;
    match (mask(left), mask(right)) {
        (Some(a), Some(b)) if is_same_place => {
            let seen = a & b & left.width.mask();
            left.value & seen != right.value & seen
        }
        _ => false,
    }
}

/// The alternatives without those that another one includes.
fn without_redundant(all: Vec<Alternative>) -> Vec<Alternative> {
    let mut kept: Vec<Alternative> = Vec::new();
    for alternative in all {
        let is_included =
            |wide: &Alternative, narrow: &Alternative| wide.iter().all(|one| narrow.contains(one));
        if !kept.iter().any(|known| is_included(known, &alternative)) {
            kept.retain(|known| !is_included(&alternative, known));
            kept.push(alternative);
        }
    }
    kept
}

/// Tells whether single conditions on the same few bits leave no value of these out.
fn is_exhaustive(all: &[Alternative]) -> bool {
    let masked = |alternative: &Alternative| match alternative.as_slice() {
        [Condition { argument, width, test: Test::MaskedEq(mask), value }] => {
            Some(((*argument, *width, mask & width.mask()), value & mask & width.mask()))
        }
        _ => None,
    };
    let masked: Vec<_> = all.iter().filter_map(masked).collect();
    masked.iter().any(|(place, _)| {
        let bits = place.2.count_ones();
        let values: std::collections::BTreeSet<_> =
            masked.iter().filter(|(other, _)| other == place).map(|(_, value)| value).collect();
        bits <= COUNTED_BITS_MAX && values.len() == 1 << bits
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interest::{
        Width,
        formula::{Form, Part, Subject, TextAtom, TextTest},
    };

    fn masked(argument: u8, mask: u64, value: u64) -> Formula {
        let test = Test::MaskedEq(mask);
        Formula::Atom(Atom::Register(Condition { argument, width: Width::Low32, test, value }))
    }

    fn path() -> Formula {
        let subject = Subject { argument: 0, form: Form::Written, part: Part::Whole };
        let test = TextTest::Contains(b"x".as_slice().into());
        Formula::Atom(Atom::Text(TextAtom { subject, test, is_negated: false }))
    }

    #[test]
    fn memory_is_left_to_triage() {
        let reads = || masked(1, 3, 0);
        assert_eq!(register_test(&path()), Some(RegisterTest::ALWAYS));
        let both = register_test(&Formula::all([path(), reads()])).unwrap();
        assert_eq!(both.alternatives().len(), 1);
        assert!(register_test(&Formula::any([path(), reads()])).unwrap().is_always());
        assert_eq!(register_test(&Formula::False), None);
    }

    #[test]
    fn alternatives_that_leave_no_value_out_are_no_test() {
        let modes = |values: &[u64]| Formula::any(values.iter().map(|&value| masked(1, 3, value)));
        assert_eq!(register_test(&modes(&[0, 1, 3])).unwrap().alternatives().len(), 3);
        assert!(register_test(&modes(&[0, 1, 2, 3])).unwrap().is_always());
    }

    #[test]
    fn what_contradicts_itself_never_holds() {
        assert_eq!(register_test(&Formula::all([masked(1, 3, 1), masked(1, 3, 2)])), None);
    }

    fn formulas() -> impl Strategy<Value = Formula> {
        let leaf = prop_oneof![
            Just(path()),
            (0..3_u8, 0..8_u64, 0..8_u64).prop_map(|(argument, mask, value)| masked(argument, mask, value)),
            (0..3_u8, 0..8_u64).prop_map(|(argument, value)| Formula::Atom(Atom::Register(Condition {
                argument,
                width: Width::Low32,
                test: Test::Ne,
                value
            }))),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..6).prop_map(Formula::all),
                prop::collection::vec(inner, 1..6).prop_map(Formula::any),
            ]
        })
    }

    fn holds(formula: &Formula, args: &[u64; 6]) -> bool {
        match formula {
            Formula::False => false,
            Formula::Atom(Atom::Register(condition)) => condition.holds(args),
            Formula::True | Formula::Atom(_) => true,
            Formula::All(all) => all.iter().all(|one| holds(one, args)),
            Formula::Any(any) => any.iter().any(|one| holds(one, args)),
        }
    }

    proptest! {
        #[test]
        fn a_call_that_may_matter_passes_the_test(formula in formulas(), args in prop::array::uniform6(0..8_u64)) {
            let passes = register_test(&formula).is_some_and(|test| test.holds(&args));
            prop_assert!(passes || !holds(&formula, &args));
        }
    }
}
