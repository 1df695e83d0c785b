//! Small conditions, call by call.

use super::*;
use crate::{
    interest::{
        Condition, Test, Width,
        formula::{Atom, Form, Part, Subject, TextAtom, TextTest},
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

fn path(argument: u8, part: Part, test: TextTest) -> Formula {
    let subject = Subject { argument, form: Form::Either, part };
    Formula::Atom(Atom::Text(TextAtom { subject, test, is_negated: false }))
}

fn starts(argument: u8, text: &str) -> Formula {
    path(argument, Part::Whole, TextTest::StartsWith(text.as_bytes().into()))
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
        "proc.name = x",
        "not proc.name = x",
        "proc.aname[2] in (a, b)",
        "not container.id exists",
        "fd.sip = 1.2.3.4",
    ] {
        assert_eq!(may(text, "connect"), Formula::True, "{text}");
    }
    assert_eq!(may("evt.type = open or proc.name = x", "connect"), Formula::True);
    assert_eq!(may("evt.type = open and proc.name = x", "connect"), Formula::False);
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
    assert_eq!(may("fd.name startswith /etc/", "openat"), starts(1, "/etc/"));
    assert_eq!(may("fd.name startswith /etc/", "open"), starts(0, "/etc/"));
    assert_eq!(may("evt.arg.path startswith /etc/", "unlink"), starts(0, "/etc/"));
    assert_eq!(may("evt.arg.name startswith /etc/", "unlink"), Formula::False);
    assert_eq!(may("fd.name startswith /etc/", "dup"), Formula::True);
    let directory = TextTest::OneOf(vec![b"/etc".as_slice().into()]);
    assert_eq!(
        may("fd.directory = /etc", "openat"),
        Formula::any([path(1, Part::Directory, directory.clone()), path(1, Part::Whole, directory)])
    );
    // It may have no value, and then the comparison fails.
    assert_eq!(may("not fd.name startswith /etc/", "openat"), Formula::True);
    for unknown in
        ["fd.name regex a.*", "fd.name glob /[a]*", "toupper(fd.name) = /ETC", "fd.name = val(proc.exepath)"]
    {
        assert_eq!(may(unknown, "openat"), Formula::True, "{unknown}");
    }
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
