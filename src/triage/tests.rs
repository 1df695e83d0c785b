//! Triage against a plain evaluation of the same formulas, and what it may ask for.

mod plain;
mod random;

use proptest::prelude::*;

use self::plain::Call;
use super::*;
use crate::interest::{
    Condition, Test, Width,
    formula::{AddressTest, Atom, Form, Part, Subject, TextAtom, TextTest},
};

/// Some call.
const NR: SyscallNr = SyscallNr(7);

impl CallMemory for Call {
    fn text(&mut self, argument: u8) -> Option<&[u8]> {
        self.texts.get(usize::from(argument))?.as_deref()
    }

    fn base(&mut self, argument: u8) -> Option<&[u8]> {
        self.bases_asked += 1;
        self.bases.get(usize::from(argument))?.as_deref()
    }

    fn bytes(&mut self, argument: u8) -> Option<&[u8]> {
        self.bytes.get(usize::from(argument))?.as_deref()
    }

    fn name(&mut self) -> Option<NameHits> {
        self.name_hits
    }
}

fn is_kept(formula: &Formula, call: &Call) -> bool {
    asked(formula, call).1
}

/// How many directories are asked for, and whether the call is kept.
fn asked(formula: &Formula, call: &Call) -> (u32, bool) {
    asked_of(NR, formula, call)
}

fn asked_of(nr: SyscallNr, formula: &Formula, call: &Call) -> (u32, bool) {
    let triage = Triage::of_formulas([(nr, formula)]);
    let name_hits = call.name.as_deref().and_then(|name| triage.name_hits(name));
    let (mut call, registers) = (Call { name_hits, ..call.clone() }, call.registers);
    let is_kept = triage.is_kept(Abi::NATIVE, nr, &registers, &mut call);
    (call.bases_asked, is_kept)
}

/// An atom about the text of argument 1.
fn text(form: Form, part: Part, test: TextTest, is_negated: bool) -> Formula {
    let subject = Subject { argument: 1, form, part };
    Formula::Atom(Atom::Text(TextAtom { subject, test, is_negated }))
}

fn path(test: TextTest) -> Formula {
    text(Form::Resolved, Part::Whole, test, false)
}

fn one_of(texts: &[&str]) -> TextTest {
    TextTest::OneOf(texts.iter().map(|text| text.as_bytes().into()).collect())
}

fn starts_with(text: &str) -> TextTest {
    TextTest::StartsWith(text.as_bytes().into())
}

fn ends_with(text: &str) -> TextTest {
    TextTest::EndsWith(text.as_bytes().into())
}

fn register(value: u64) -> Formula {
    Formula::Atom(Atom::Register(Condition { argument: 0, width: Width::Low32, test: Test::Eq, value }))
}

/// A call whose argument 1 points to a path.
fn open(path: &str, base: Option<&str>) -> Call {
    let mut call = Call::default();
    call.texts[1] = Some(path.as_bytes().to_vec());
    call.bases[1] = base.map(|base| base.as_bytes().to_vec());
    call
}

proptest! {
    #[test]
    fn a_call_is_kept_if_its_formula_may_hold(formula in random::formula(), call in random::call()) {
        prop_assume!(!call.has_path_without_base());
        prop_assert_eq!(is_kept(&formula, &call), plain::may_hold(&formula, &call));
    }

    #[test]
    fn a_path_that_is_too_long_drops_nothing_that_falco_would_match(
        formula in random::formula(), call in random::call(),
    ) {
        // libsinsp has no file name where it does not know the directory: see the test about that.
        prop_assume!(!call.has_unknown_directory());
        prop_assert!(!plain::may_hold_as_shown(&formula, &call) || is_kept(&formula, &call));
    }

    #[test]
    fn a_directory_that_makes_an_absolute_path_of_open_too_long_drops_nothing(
        formula in random::formula(), call in random::call(),
    ) {
        // Not every machine has such a call.
        let Some(open) = abi::number(Abi::NATIVE, "open") else { return Ok(()) };
        prop_assert!(!plain::may_hold_of_open(&formula, &call) || asked_of(open, &formula, &call).1);
    }

    #[test]
    fn what_is_not_known_keeps_what_any_answer_would_keep(
        formula in random::formula(), call in random::call(), known in any::<[bool; 10]>(),
    ) {
        let hidden = call.clone().without(known);
        prop_assert!(!is_kept(&formula, &call) || is_kept(&formula, &hidden));
        prop_assert!(!is_kept(&formula, &hidden) || plain::may_hold(&formula, &hidden));
    }

    #[test]
    fn a_directory_that_libsinsp_does_not_know_drops_nothing_that_falco_would_match(
        formula in random::formula_without_names(), call in random::call(),
    ) {
        let unknown = call.clone().without([true, true, true, false, false, false, true, true, true, true]);
        let shown = plain::may_hold_as_shown(&formula, &unknown);
        prop_assert!(!shown || is_kept(&formula, &unknown));
    }

    #[test]
    fn a_directory_is_asked_for_only_if_the_answer_depends_on_it(
        formula in random::formula_of_one_text(), call in random::call(), others in random::bases(),
    ) {
        let (asked, is_kept) = asked(&formula, &call);
        for base in others {
            let other = Call { bases: [const { None }; 3].map(|_: Option<()>| Some(base.clone())), ..call.clone() };
            if asked == 0 && !other.has_path_without_base() {
                prop_assert_eq!(plain::may_hold(&formula, &other), is_kept);
            }
        }
    }
}

#[test]
fn a_call_without_predicates_is_kept() {
    let never = Formula::False;
    let triage = Triage::of_formulas([(NR, &never)]);
    let kept = |abi, nr| triage.is_kept(abi, nr, &[0; 6], &mut Call::default());
    assert!(!kept(Abi::NATIVE, NR));
    assert!(kept(Abi::NATIVE, SyscallNr(6)));
    assert!(kept(Abi::NATIVE, SyscallNr(8)));
    assert!(kept(Abi::NATIVE, SyscallNr(u32::MAX)));
    assert!(kept(Abi::I386, NR));
    assert!(kept(Abi::Other, NR));
}

#[test]
fn a_number_beyond_the_tables_costs_no_memory() {
    let never = Formula::False;
    let triage = Triage::of_formulas([(SyscallNr(u32::MAX), &never)]);
    assert!(triage.calls.is_empty());
}

#[test]
fn registers_decide_before_memory_is_read() {
    /// It must not be asked.
    struct Untouchable;
    impl CallMemory for Untouchable {
        fn text(&mut self, _argument: u8) -> Option<&[u8]> {
            panic!("no text is needed")
        }
        fn base(&mut self, _argument: u8) -> Option<&[u8]> {
            panic!("no directory is needed")
        }
        fn bytes(&mut self, _argument: u8) -> Option<&[u8]> {
            panic!("no bytes are needed")
        }
        fn name(&mut self) -> Option<NameHits> {
            panic!("no name is needed")
        }
    }
    let etc = path(starts_with("/etc"));
    let both = Formula::all([register(1), etc.clone()]);
    let either = Formula::any([register(1), etc]);
    let kept = |formula: &Formula, first| {
        Triage::of_formulas([(NR, formula)]).is_kept(
            Abi::NATIVE,
            NR,
            &[first, 0, 0, 0, 0, 0],
            &mut Untouchable,
        )
    };
    assert!(!kept(&both, 2));
    assert!(kept(&either, 1));
}

#[test]
fn the_end_of_a_relative_path_decides_without_its_directory() {
    let shadow = path(one_of(&["/etc/shadow", "/etc/gshadow"]));
    let named = text(Form::Resolved, Part::FileName, one_of(&["shadow"]), false);
    let agent = path(ends_with("release_agent"));
    let ssh = path(TextTest::Contains(b"/.ssh/"[..].into()));
    for (formula, written, expected) in [
        (&shadow, "lib/libc.so.6", (0, false)),
        (&shadow, "shadow", (1, true)),
        (&shadow, "../shadow", (1, false)),
        (&named, "./x/../shadow", (0, true)),
        (&named, "shadow.d", (0, false)),
        (&named, "..", (1, false)),
        (&agent, "a/release_agent", (0, true)),
        (&agent, "a/release_agents", (0, false)),
        (&agent, "agent", (1, false)),
        (&ssh, "home/.ssh/id", (0, true)),
        (&ssh, "home/ssh/id", (1, false)),
        (&path(starts_with("/etc")), "x", (1, true)),
        (&path(TextTest::Glob(b"/etc/*.conf"[..].into())), "x.txt", (0, false)),
        (&path(TextTest::Below(vec![b"/etc"[..].into()])), "x.txt", (1, true)),
    ] {
        assert_eq!(asked(formula, &open(written, Some("/etc"))), expected, "{written}");
    }
}

#[test]
fn the_written_text_decides_without_a_directory() {
    let raw = text(Form::Written, Part::Whole, TextTest::Contains(b"../"[..].into()), false);
    assert_eq!(asked(&raw, &open("../x", Some("/srv"))), (0, true));
    assert_eq!(asked(&raw, &open("x", Some("/srv"))), (0, false));
    // What else has to hold is not asked for if the written text is not what it should be.
    let both = Formula::all([raw, path(starts_with("/etc"))]);
    assert_eq!(asked(&both, &open("x", Some("/etc"))), (0, false));
    assert_eq!(asked(&both, &open("../etc/x", Some("/srv"))), (1, true));
}

#[test]
fn an_atom_about_either_form_holds_if_it_does_for_one() {
    let formula = |is_negated| text(Form::Either, Part::Whole, starts_with("/etc"), is_negated);
    for (written, base, holds, fails) in [
        ("/etc/x", "/", true, false),
        ("x", "/etc", true, true),
        ("x", "/srv", false, true),
        ("/etc/../x", "/", true, true),
    ] {
        assert_eq!(is_kept(&formula(false), &open(written, Some(base))), holds, "{written}");
        assert_eq!(is_kept(&formula(true), &open(written, Some(base))), fails, "{written}");
    }
}

#[test]
fn a_text_that_falco_shows_otherwise_is_kept() {
    let shadow = path(one_of(&["/etc/shadow"]));
    let others = text(Form::Written, Part::Whole, one_of(&["/etc/shadow"]), true);
    let long = format!("/{}", "x/".repeat(600));
    for written in ["", "/etc/shad\u{f6}w", "/etc/\nshadow", &long] {
        assert_eq!(asked(&shadow, &open(written, Some("/"))), (0, true), "{written}");
        assert!(is_kept(&others, &open(written, Some("/"))), "{written}");
    }
    assert!(is_kept(&shadow, &Call::default()));
    assert!(!is_kept(&shadow, &open("/etc/shadow.", Some("/"))));
}

#[test]
fn a_directory_of_which_nothing_is_known_keeps_the_call() {
    let shadow = path(one_of(&["/etc/shadow"]));
    let deep = format!("/{}", "x".repeat(1020));
    for base in [None, Some("pipe:[7]"), Some(""), Some("/\u{e9}"), Some(deep.as_str())] {
        assert_eq!(asked(&shadow, &open("shadow", base)), (1, true), "{base:?}");
        assert_eq!(asked(&shadow, &open("shadows", base)), (0, false), "{base:?}");
    }
}

#[test]
fn a_rule_that_matches_what_libsinsp_shows_for_long_paths_needs_the_directory() {
    // Below /usr the file may be anywhere, but if the whole is too long libsinsp shows another name.
    let formula = Formula::any([text(Form::Resolved, Part::Whole, ends_with("lib/x.so"), true), register(9)]);
    let deep = format!("/{}", "x".repeat(1015));
    assert_eq!(asked(&formula, &open("lib/x.so", Some("/usr"))), (1, false));
    assert_eq!(asked(&formula, &open("lib/x.so", Some(&deep))), (1, true));
}

#[test]
fn the_root_is_above_every_path() {
    for root in ["/", "", "//"] {
        let below = path(TextTest::Below(vec![root.as_bytes().into()]));
        assert_eq!(asked(&below, &open("x", Some("/srv"))), (0, true), "{root}");
    }
}

#[test]
fn a_path_is_below_whole_components_only() {
    let below = |form| text(form, Part::Whole, TextTest::Below(vec![b"/etc/ssl/"[..].into()]), false);
    for (written, is_below) in [
        ("/etc/ssl", true),
        ("/etc/ssl/certs", true),
        ("/etc/ssl/", true),
        ("/etc/ssl2", false),
        ("/etc", false),
        ("//etc//ssl//x", true),
    ] {
        assert_eq!(is_kept(&below(Form::Written), &open(written, None)), is_below, "{written}");
        assert_eq!(is_kept(&below(Form::Resolved), &open(written, None)), is_below, "{written}");
    }
    // libsinsp splits at slashes, and does not ask whether there was one in front.
    assert!(is_kept(&below(Form::Written), &open("etc/ssl/certs", None)));
}

#[test]
fn what_cannot_be_decided_is_kept() {
    let patterns = [
        TextTest::Glob(b"/etc/[ps]*"[..].into()),
        TextTest::Glob(b"/etc/\\*"[..].into()),
        TextTest::Below(vec![b"/etc/*"[..].into()]),
    ];
    for test in patterns {
        for is_negated in [false, true] {
            let formula = text(Form::Resolved, Part::Whole, test.clone(), is_negated);
            assert!(is_kept(&formula, &open("/srv", None)), "{test:?}");
            assert!(is_kept(&Formula::any([formula, path(starts_with("/etc"))]), &open("/srv", None)));
        }
    }
}

#[test]
fn more_atoms_than_can_be_told_apart_keep_the_call() {
    let numbered = |count: u64| Formula::any((0..count).map(register));
    let call = Call { registers: [u64::from(u32::MAX), 0, 0, 0, 0, 0], ..Call::default() };
    assert!(!is_kept(&numbered(1024), &call));
    assert!(is_kept(&numbered(1025), &call));
    let paths = Formula::any((0..5_000).map(|number| path(starts_with(&format!("/{number}/")))));
    // Those that are tested together are one atom.
    assert!(!is_kept(&paths, &open("/x", None)));
    assert!(is_kept(&paths, &open("/4999/x", None)));
}

#[test]
fn of_two_paths_the_first_may_spare_the_second() {
    let second = Subject { argument: 3, form: Form::Resolved, part: Part::Whole };
    let test = starts_with("/etc");
    let second = Formula::Atom(Atom::Text(TextAtom { subject: second, test, is_negated: false }));
    let both = Formula::all([path(starts_with("/etc")), second.clone()]);
    let either = Formula::any([path(starts_with("/etc")), second]);
    assert_eq!(asked(&both, &open("x", Some("/srv"))), (1, false));
    assert_eq!(asked(&either, &open("x", Some("/etc"))), (0, true), "the second cannot be read");
}

#[test]
fn words_and_addresses_are_read_from_memory() {
    let condition = Condition { argument: 2, width: Width::Full64, test: Test::MaskedEq(3), value: 1 };
    let writes = Formula::Atom(Atom::Word { offset: 8, condition });
    let with = |bytes: &[u8]| {
        let mut call = Call::default();
        call.bytes[2] = Some(bytes.to_vec());
        call
    };
    let how = |word: u64| [0, word].map(u64::to_ne_bytes).concat();
    assert!(is_kept(&writes, &with(&how(0b101))));
    assert!(!is_kept(&writes, &with(&how(0b110))));
    assert!(is_kept(&writes, &with(&how(0b110)[..15])));
    assert!(is_kept(&writes, &Call::default()));
    let port = |is_negated| {
        let test = AddressTest::PortIn(vec![(443, 443)]);
        Formula::Atom(Atom::Address { argument: 2, test, is_negated })
    };
    let address = [2, 0, 1, 187, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(is_kept(&port(false), &with(&address)));
    assert!(!is_kept(&port(true), &with(&address)));
    assert!(is_kept(&port(true), &with(&address[..8])));
}
