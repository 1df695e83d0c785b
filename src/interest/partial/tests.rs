//! Small conditions, call by call.

use super::*;
use crate::{
    interest::{
        Condition, Test, Width,
        formula::{AddressTest, Atom, Form, Network, Part, Subject, TextAtom, TextTest},
    },
    rules::{
        condition,
        source::{FileId, Located},
    },
};

fn may(text: &str, call: &str) -> Formula {
    let places = (0..text.len()).map(|at| (FileId(0), u32::try_from(at).unwrap())).collect();
    let parsed = condition::parse(&Located { text: text.to_owned(), places });
    may_match(&parsed.unwrap_or_else(|error| panic!("{text}: {}", error.message)), call)
}

fn register(argument: u8, test: Test, value: u64) -> Formula {
    Formula::Atom(Atom::Register(Condition { argument, width: Width::Low32, test, value }))
}

fn bits(argument: u8, mask: u64, value: u64) -> Formula {
    register(argument, Test::MaskedEq(mask), value)
}

fn path(argument: u8, form: Form, part: Part, test: TextTest) -> Formula {
    let subject = Subject { argument, form, part };
    Formula::Atom(Atom::Text(TextAtom { subject, test, is_negated: false }))
}

fn starts(argument: u8, form: Form, text: &str) -> Formula {
    path(argument, form, Part::Whole, TextTest::StartsWith(text.as_bytes().into()))
}

fn negated(formula: Formula) -> Formula {
    match formula {
        Formula::Atom(Atom::Text(atom)) => Formula::Atom(Atom::Text(TextAtom { is_negated: true, ..atom })),
        other => other,
    }
}

fn address(test: AddressTest, is_negated: bool) -> Formula {
    Formula::Atom(Atom::Address { argument: 1, test, is_negated })
}

/// Whether `part` stands somewhere in `formula`.
fn holds(formula: &Formula, part: &Formula) -> bool {
    formula == part
        || match formula {
            Formula::All(operands) | Formula::Any(operands) => operands.iter().any(|one| holds(one, part)),
            _ => false,
        }
}

#[test]
fn a_name_of_a_call_decides_either_way() {
    for (text, openat, unlink) in [
        ("evt.type = openat", Formula::True, Formula::False),
        ("evt.type in (open, openat)", Formula::True, Formula::False),
        ("not evt.type in (open, openat)", Formula::False, Formula::True),
        ("evt.type != openat", Formula::False, Formula::True),
        ("not (evt.type = unlink or evt.type = rmdir)", Formula::True, Formula::False),
        ("evt.type = openat and evt.dir = >", Formula::False, Formula::False),
    ] {
        assert_eq!((may(text, "openat"), may(text, "unlink")), (openat, unlink), "{text}");
    }
    assert_eq!(may("evt.type = execve", "execveat"), Formula::True);
    assert_eq!(may("evt.type = fchmodat", "fchmodat2"), Formula::True);
}

#[test]
fn what_is_unknown_passes_with_and_without_a_negation() {
    for text in [
        "proc.pname = x",
        "not proc.pname = x",
        "proc.name regex x",
        "proc.name pmatch (x)",
        "proc.name exists",
        "toupper(proc.name) = X",
        "proc.aname[2] in (a, b)",
        "not container.id exists",
        "fd.sip = 1.2.3.4",
    ] {
        assert_eq!(may(text, "connect"), Formula::True, "{text}");
    }
    assert_eq!(may("evt.type = open or proc.pname = x", "connect"), Formula::True);
    assert_eq!(may("evt.type = open and proc.pname = x", "connect"), Formula::False);
}

#[test]
fn the_name_of_the_program_is_left_to_triage_but_at_its_start() {
    let name = |words: &[&str], is_negated| {
        let test = TextTest::OneOf(words.iter().map(|word| word.as_bytes().into()).collect());
        Formula::Atom(Atom::Name { test, is_negated })
    };
    assert_eq!(may("proc.name = x", "unlink"), name(&["x"], false));
    assert_eq!(may("proc.name != x", "unlink"), name(&["x"], true));
    assert_eq!(may("not proc.name in (x, y)", "unlink"), name(&["x", "y"], true));
    assert_eq!(may("proc.name = x and not proc.name in (x, y)", "unlink"), Formula::False);
    for call in ["execve", "execveat"] {
        assert_eq!(may("proc.name = x", call), Formula::True);
    }
}

#[test]
fn the_access_of_an_open_is_in_its_registers() {
    let writes = Formula::any([bits(2, 3, 1), bits(2, 3, 2)]);
    assert_eq!(may("evt.is_open_write = true", "openat"), writes);
    assert_eq!(may("not evt.is_open_write = false", "openat"), writes);
    assert_eq!(may("evt.is_open_write = false", "openat"), Formula::any([bits(2, 3, 0), bits(2, 3, 3)]));
    assert_eq!(may("evt.is_open_write = true", "open"), Formula::any([bits(1, 3, 1), bits(1, 3, 2)]));
    assert_eq!(may("evt.is_open_write = true", "creat"), Formula::False);
    assert_eq!(may("evt.is_open_read = true", "unlink"), Formula::False);
    let Formula::Any(words) = may("evt.is_open_write = true", "openat2") else { panic!("two modes write") };
    assert!(words.iter().all(|word| matches!(word, Formula::Atom(Atom::Word { offset: 0, .. }))));
}

#[test]
fn flags_and_modes_are_looked_up_by_name() {
    assert_eq!(may("evt.arg.flags contains O_CREAT", "openat"), bits(2, 0o100, 0o100));
    assert_eq!(may("not evt.arg.flags contains O_CREAT", "openat"), bits(2, 0o100, 0));
    assert_eq!(may("evt.arg[3] contains O_TRUNC", "openat"), bits(2, 0o1000, 0o1000));
    // It is part of O_DIRECTORY too, whose bit differs between architectures.
    assert_eq!(may("evt.arg.flags contains O_DIRECT", "openat"), Formula::True);
    assert_eq!(may("evt.arg.flags contains \"|\"", "openat"), Formula::True);
    assert_eq!(may("evt.arg.flags contains O_CREAT", "creat"), Formula::False);
    assert_eq!(may("evt.arg.mode contains S_ISUID", "fchmodat"), bits(2, 0o4000, 0o4000));
    assert_eq!(
        may("evt.arg.mode contains S_IX", "chmod"),
        Formula::any([bits(1, 1, 1), bits(1, 8, 8), bits(1, 64, 64)])
    );
    assert_eq!(may("evt.arg.domain = AF_PACKET", "socket"), bits(0, 0xff, 17));
    assert_eq!(may("evt.arg[1] contains AF_", "socket"), Formula::True);
    assert_eq!(
        may("evt.rawres in (0, 1, 2)", "dup3"),
        Formula::any([0, 1, 2].map(|fd| register(1, Test::Eq, fd)))
    );
    assert_eq!(may("evt.rawres in (0, 1, -1)", "dup3"), Formula::True);
    assert_eq!(may("evt.rawres = 0", "dup"), Formula::True);
}

#[test]
fn names_of_files_are_left_to_memory() {
    let etc = |argument, form| starts(argument, form, "/etc/");
    assert_eq!(may("fd.name startswith /etc/", "openat"), etc(1, Form::Resolved));
    // What was not opened is shown as it was written, if it is absolute.
    let either = Formula::any([etc(0, Form::Resolved), etc(0, Form::Either)]);
    assert_eq!(may("fd.name startswith /etc/", "open"), either);
    assert_eq!(may("fd.name startswith /etc/ and fd.num >= 0", "open"), etc(0, Form::Resolved));
    assert_eq!(may("evt.arg.path startswith /etc/", "unlink"), etc(0, Form::Either));
    assert_eq!(may("evt.arg.target startswith /etc/", "symlink"), etc(0, Form::Written));
    assert_eq!(may("evt.arg.name startswith /etc/", "unlink"), Formula::False);
    assert_eq!(may("fd.name startswith /etc/", "unlink"), Formula::False);
    assert_eq!(may("not fd.name startswith /etc/", "unlink"), Formula::True);
    assert_eq!(may("fd.name startswith /etc/", "dup"), Formula::True);
    assert_eq!(may("not fd.name startswith /etc/", "openat"), negated(etc(1, Form::Resolved)));
    for unknown in [
        "fd.name regex a.*",
        "fd.name glob /[a]*",
        "fd.name pmatch (/etc/*)",
        "toupper(fd.name) = /ETC",
        "fd.name = val(proc.exepath)",
        "fd.name exists",
    ] {
        assert_eq!(may(unknown, "openat"), Formula::True, "{unknown}");
    }
}

#[test]
fn what_was_opened_as_a_directory_is_not_cut() {
    let etc = TextTest::OneOf(vec![b"/etc".as_slice().into()]);
    let cut = |part| path(1, Form::Resolved, part, etc.clone());
    let as_directory = Formula::any([0o200_000, 0o40_000].map(|bit| bits(2, bit, bit)));
    let expected = Formula::any([cut(Part::Directory), Formula::all([as_directory, cut(Part::Whole)])]);
    assert_eq!(may("fd.directory = /etc", "openat"), expected);
    assert_eq!(may("fd.directory = /etc and fd.num < 0", "openat"), cut(Part::Directory));
    // What was not opened has no file name.
    assert_eq!(may("fd.filename = /etc", "openat"), cut(Part::FileName));
    assert_eq!(may("fd.filename = /etc and evt.res != SUCCESS", "openat"), Formula::False);
    assert_eq!(may("not fd.filename = /etc", "openat"), Formula::True);
    assert_eq!(may("fd.typechar = 4 and fd.num >= 0", "openat"), Formula::False);
    assert_eq!(may("fd.type = directory and evt.failed = true", "openat"), Formula::False);
}

#[test]
fn a_raw_name_is_compared_where_doubled_slashes_make_no_difference() {
    let test = |test| path(1, Form::Either, Part::Whole, test);
    let bytes = |text: &str| -> Box<[u8]> { text.as_bytes().into() };
    assert_eq!(may("fd.nameraw contains ../", "openat"), test(TextTest::Contains(bytes("../"))));
    assert_eq!(may("fd.nameraw glob *../*../*", "openat"), test(TextTest::Glob(bytes("*../*../*"))));
    for unknown in
        ["contains a/b", "contains /a", "glob *a/b*", "glob *?/*", "endswith /a", "= a/b", "startswith //"]
    {
        assert_eq!(may(&format!("fd.nameraw {unknown}"), "openat"), Formula::True, "{unknown}");
    }
}

#[test]
fn a_path_that_libsinsp_does_not_find_has_a_name_of_its_own() {
    let shadow =
        path(1, Form::Resolved, Part::Whole, TextTest::OneOf(vec![b"/etc/shadow".as_slice().into()]));
    assert_eq!(may("fs.path.name = /etc/shadow", "openat"), shadow);
    assert_eq!(may("fs.path.name != /etc/shadow", "openat"), Formula::True);
    assert_eq!(
        may("fs.path.name != /etc/shadow", "unlink"),
        negated(match shadow {
            Formula::Atom(Atom::Text(atom)) => {
                let subject = Subject { argument: 0, ..atom.subject };
                Formula::Atom(Atom::Text(TextAtom { subject, ..atom }))
            }
            other => other,
        })
    );
    assert_eq!(may("not fs.path.name = /etc/shadow", "unlink"), Formula::True);
    assert_eq!(may("fs.path.target startswith /a", "link"), starts(0, Form::Resolved, "/a"));
    assert_eq!(may("fs.path.source startswith /a", "link"), starts(1, Form::Resolved, "/a"));
    assert_eq!(may("fs.path.name startswith /a", "mkdirat"), Formula::True);
}

/// That a `connect` was made, as rules for outgoing connections ask.
const CONNECTED: &str = "evt.type = connect and (evt.rawres >= 0 or evt.res = EINPROGRESS) and ";

fn connected(text: &str) -> Formula {
    may(&format!("{CONNECTED}{text}"), "connect")
}

#[test]
fn a_connection_is_known_by_its_address() {
    let internet = address(AddressTest::FamilyIn(vec![2, 10]), false);
    let other = address(AddressTest::FamilyIn(vec![1, 2, 10]), true);
    let host = Network { address: 0xffff_0102_0304, prefix_len: 128 };
    assert_eq!(
        connected("(fd.typechar = 4 or fd.typechar = 6)"),
        Formula::any([internet.clone(), other.clone()])
    );
    assert_eq!(
        connected("fd.typechar = 4 and fd.l4proto = tcp and fd.sip = 1.2.3.4"),
        Formula::any([
            Formula::all([internet.clone(), address(AddressTest::HostIn(vec![host]), false)]),
            other.clone()
        ])
    );
    assert_eq!(
        connected("fd.typechar = 4 and fd.l4proto = tcp and fd.sport in (80, 443)"),
        Formula::any([
            Formula::all([internet.clone(), address(AddressTest::PortIn(vec![(80, 80), (443, 443)]), false)]),
            other.clone()
        ])
    );
    // A bound socket that sends datagrams shows its own address as the server's.
    let whole = Formula::any([internet.clone(), other.clone()]);
    assert_eq!(
        connected("fd.typechar = 4 and fd.sip = 1.2.3.4"),
        Formula::any([
            Formula::all([internet.clone(), address(AddressTest::HostIn(vec![host]), false)]),
            whole.clone(),
        ])
    );
    // Either end may be asked for, and only one of them is known.
    assert_eq!(connected("fd.typechar = 4 and fd.ip = 1.2.3.4"), whole);
    let v6 = address(AddressTest::FamilyIn(vec![10]), false);
    let v4 = address(AddressTest::FamilyIn(vec![2]), false);
    let outside = Formula::any([Formula::all([v4, address(AddressTest::HostIn(vec![host]), true)]), v6]);
    let both = Formula::any([Formula::all([internet, outside]), other]);
    assert_eq!(connected("fd.typechar = 4 and fd.ip != 1.2.3.4"), both);
    assert_eq!(connected("fd.typechar = 4 and not fd.net = 1.2.3.4/32"), both);
}

#[test]
fn a_connect_that_failed_shows_what_was_known_of_the_descriptor_before() {
    assert_eq!(may("fd.sip = 1.2.3.4", "connect"), Formula::True);
    assert_eq!(may("fd.sip = 1.2.3.4 and evt.res = ECONNREFUSED", "connect"), Formula::True);
    assert_ne!(may("fd.sip = 1.2.3.4 and evt.rawres >= 0", "connect"), Formula::True);
    assert_eq!(may("evt.res = EINPROGRESS and evt.rawres > 0 and fd.typechar = u", "unlink"), Formula::False);
}

#[test]
fn a_descriptor_that_libsinsp_has_no_room_for_is_shown_without_a_value() {
    // What only excludes passes for such a descriptor, whatever its address is.
    assert_eq!(connected("not fd.snet in (10.0.0.0/8)"), Formula::True);
    assert_eq!(connected("fd.typechar = o"), Formula::True);
    let local = address(AddressTest::FamilyIn(vec![1]), false);
    assert!(holds(&connected("fd.type = unix"), &local));
    assert!(!holds(&connected("fd.type = ipv4"), &local));
}

#[test]
fn the_result_of_a_dup_is_the_descriptor_that_it_was_asked_for() {
    let compares = |test| register(1, test, 3);
    assert_eq!(may("evt.rawres < 3 and evt.res = SUCCESS", "dup2"), compares(Test::Lt));
    assert_eq!(may("not evt.rawres < 3", "dup2"), compares(Test::Ge));
    assert_eq!(may("evt.rawres = 3", "dup2"), compares(Test::Eq));
    assert_eq!(may("evt.rawres != 3 and evt.rawres >= 0", "dup2"), compares(Test::Ne));
    assert_eq!(may("evt.rawres > -1 and evt.failed = true", "dup2"), Formula::False);
    assert_eq!(may("evt.rawres = 0x3", "dup2"), Formula::True);
}

#[test]
fn what_a_conjunction_requires_of_a_field_is_assumed_in_the_rest_of_it() {
    let text = "fd.l4proto = tcp and (evt.type = connect or (evt.type = sendto and fd.l4proto != tcp))";
    assert_eq!(may(text, "connect"), Formula::True);
    assert_eq!(may(text, "sendto"), Formula::False);
    assert_eq!(may("fd.l4proto in (tcp, udp) and fd.l4proto != tcp", "sendto"), Formula::True);
    assert_eq!(may("fd.l4proto in (tcp, udp) and not fd.l4proto in (udp, tcp)", "sendto"), Formula::False);
    assert_eq!(may("not (fd.l4proto != tcp or fd.l4proto = tcp)", "sendto"), Formula::True);
    // The one does not hold where the other is asked.
    assert_eq!(may("(fd.l4proto = tcp and proc.pid = 1) or fd.l4proto != tcp", "sendto"), Formula::True);
    // A field of several values may have one that is equal and one that is not.
    assert_eq!(may("fd.ip = 1.2.3.4 and fd.ip != 1.2.3.4", "connect"), Formula::True);
}
