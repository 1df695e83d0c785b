//! What is known of each field in the events of each call, from the call's registers and from the memory they point to.
//!
//! Everything here follows what libsinsp extracts (its `sinsp_filtercheck_*.cpp`) from the parameters that
//! [`crate::falco`] sends. What is not certain is [`Fact::Unknown`].

mod descriptor;

use super::{
    Condition, Test, Width, address,
    fact::{Fact, Place, Source},
    formula::{AF_INET, AF_INET6, AF_UNIX, AddressTest, Form, Formula, Part, Subject},
};
use crate::rules::condition::Field;

/// A parameter of an event.
#[derive(Debug, Clone, Copy)]
enum Param {
    /// A path in the argument with this index.
    Path(u8),
    /// A text that is no path, in the argument with this index.
    Text(u8),
    /// Flags of open(2).
    OpenFlags(Place),
    /// Permission bits, by name.
    ModeBits(u8),
    /// A socket domain, by name.
    Domain(u8),
    /// A request of ptrace(2), by name.
    Request(u8),
    /// A command of bpf(2), by name.
    BpfCommand(u8),
    /// Anything else.
    Other,
}

use Param::{BpfCommand, Domain, ModeBits, OpenFlags, Other, Path, Request, Text};

const fn register(argument: u8) -> Place {
    Place { argument, offset: None }
}

/// `flags` and `mode` of openat2's `struct open_how` (openat2(2)).
const HOW_FLAGS: Place = Place { argument: 2, offset: Some(0) };
const HOW_MODE: Place = Place { argument: 2, offset: Some(8) };

/// Parameters of an event, in order, by name.
type Params = &'static [(&'static str, Param)];

/// The parameters of the events of some calls, in order, by name (libscap's event table).
const PARAMS: &[(&[&str], Params)] = &[
    (
        &["open"],
        &[
            ("fd", Other),
            ("name", Path(0)),
            ("flags", OpenFlags(register(1))),
            ("mode", Other),
            ("dev", Other),
            ("ino", Other),
        ],
    ),
    (
        &["openat"],
        &[
            ("fd", Other),
            ("dirfd", Other),
            ("name", Path(1)),
            ("flags", OpenFlags(register(2))),
            ("mode", Other),
            ("dev", Other),
            ("ino", Other),
        ],
    ),
    (
        &["openat2"],
        &[
            ("fd", Other),
            ("dirfd", Other),
            ("name", Path(1)),
            ("flags", OpenFlags(HOW_FLAGS)),
            ("mode", Other),
            ("resolve", Other),
            ("dev", Other),
            ("ino", Other),
        ],
    ),
    (
        &["creat"],
        &[
            ("fd", Other),
            ("name", Path(0)),
            ("mode", Other),
            ("dev", Other),
            ("ino", Other),
            ("creat_flags", Other),
        ],
    ),
    (&["link", "rename"], &[("res", Other), ("oldpath", Path(0)), ("newpath", Path(1))]),
    (
        &["linkat"],
        &[
            ("res", Other),
            ("olddir", Other),
            ("oldpath", Path(1)),
            ("newdir", Other),
            ("newpath", Path(3)),
            ("flags", Other),
        ],
    ),
    (
        &["renameat", "renameat2"],
        &[
            ("res", Other),
            ("olddirfd", Other),
            ("oldpath", Path(1)),
            ("newdirfd", Other),
            ("newpath", Path(3)),
            ("flags", Other),
        ],
    ),
    (&["symlink"], &[("res", Other), ("target", Text(0)), ("linkpath", Path(1))]),
    (&["symlinkat"], &[("res", Other), ("target", Text(0)), ("linkdirfd", Other), ("linkpath", Path(2))]),
    (&["unlink", "rmdir"], &[("res", Other), ("path", Path(0))]),
    (&["unlinkat"], &[("res", Other), ("dirfd", Other), ("name", Path(1)), ("flags", Other)]),
    (&["mkdir"], &[("res", Other), ("path", Path(0)), ("mode", Other)]),
    (&["mkdirat"], &[("res", Other), ("dirfd", Other), ("path", Path(1)), ("mode", Other)]),
    (&["chmod"], &[("res", Other), ("filename", Path(0)), ("mode", ModeBits(1))]),
    (&["fchmod"], &[("res", Other), ("fd", Other), ("mode", ModeBits(1))]),
    (
        &["fchmodat", "fchmodat2"],
        &[("res", Other), ("dirfd", Other), ("filename", Path(1)), ("mode", ModeBits(2))],
    ),
    (
        &["socket"],
        &[("fd", Other), ("domain", Domain(0)), ("type", Other), ("proto", Other), ("flags", Other)],
    ),
    (
        &["ptrace"],
        &[("res", Other), ("addr", Other), ("data", Other), ("request", Request(0)), ("pid", Other)],
    ),
    (&["bpf"], &[("fd", Other), ("cmd", BpfCommand(0))]),
];

/// Calls whose event has another name than the call, in some cases.
const EVENT_NAMES: &[(&str, &[&str])] = &[
    ("execve", &["execve", "execveat"]),
    ("execveat", &["execve", "execveat"]),
    ("fchmodat2", &["fchmodat", "fchmodat2"]),
    ("prlimit64", &["prlimit", "prlimit64"]),
    ("umount2", &["umount", "umount2"]),
    ("recvmmsg_time64", &["recvmmsg", "recvmmsg_time64"]),
];

/// In which way the events of a call turn out: with it more is known of their fields than without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// In any way.
    Any,
    /// The call gave no error.
    Succeeded,
    /// It gave one. Of `connect`: another one than `EINPROGRESS`, which is none to libsinsp.
    Failed,
    /// A `connect` that gave none.
    Connected(End),
}

/// What libsinsp takes the socket of a `connect` for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It has no room for it in its table.
    Missing,
    /// TCP.
    Tcp,
    /// Another protocol of the internet. If such a socket was bound, libsinsp takes its own address for the server's.
    Datagrams,
    /// A Unix socket.
    Local,
    /// Anything else.
    Other,
}

/// The ways in which the events of a call turn out, and what has to hold for each of them. One of them does always.
pub(super) fn cases(call: &str) -> Vec<(Formula, Case)> {
    let family = |families: &[u16], is_negated| {
        address::atom(SOCKADDR, AddressTest::FamilyIn(families.to_vec()), is_negated)
    };
    let internet = [AF_INET, AF_INET6];
    match call {
        "open" | "openat" | "openat2" | "creat" | "dup2" | "dup3" => {
            vec![(Formula::True, Case::Succeeded), (Formula::True, Case::Failed)]
        }
        "connect" => vec![
            (Formula::True, Case::Failed),
            (Formula::True, Case::Connected(End::Missing)),
            (family(&internet, false), Case::Connected(End::Tcp)),
            (family(&internet, false), Case::Connected(End::Datagrams)),
            (family(&[AF_UNIX], false), Case::Connected(End::Local)),
            (family(&[AF_UNIX, AF_INET, AF_INET6], true), Case::Connected(End::Other)),
        ],
        _ => vec![(Formula::True, Case::Any)],
    }
}

/// Which argument of `connect` points to the address.
const SOCKADDR: u8 = 1;

/// `EINPROGRESS` (errno(3)), as a result.
const IN_PROGRESS: i64 = -115;

/// What is known of `field` in the events of the call with this name that turn out in this way.
pub(super) fn fact_of<'a>(call: &'a str, case: Case, field: &Field) -> Fact<'a> {
    match field.name.as_str() {
        "evt.type" => EVENT_NAMES
            .iter()
            .find(|(name, _)| *name == call)
            .map_or_else(|| Fact::Texts(vec![call]), |(_, names)| Fact::Texts(names.to_vec())),
        "evt.dir" => Fact::Texts(vec!["<"]),
        "evt.is_open_read" => open_access(call, &[0, 2, 3]),
        "evt.is_open_write" => open_access(call, &[1, 2]),
        "evt.is_open_create" => open_create(call),
        "evt.is_open_exec" => open_exec(call),
        "evt.res" => match case {
            Case::Any => Fact::Unknown,
            Case::Succeeded => Fact::Texts(vec!["SUCCESS"]),
            Case::Failed if call == "connect" => Fact::OtherThan(&["SUCCESS", "EINPROGRESS"]),
            Case::Failed => Fact::OtherThan(&["SUCCESS"]),
            Case::Connected(_) => Fact::Texts(vec!["SUCCESS", "EINPROGRESS"]),
        },
        "evt.rawres" => match case {
            Case::Any => Fact::Unknown,
            Case::Succeeded if matches!(call, "dup2" | "dup3") => Fact::Equals(register(1)),
            Case::Succeeded => Fact::Range(0, i64::MAX),
            Case::Failed => Fact::Range(i64::MIN, -1),
            Case::Connected(_) => Fact::Range(IN_PROGRESS, i64::MAX),
        },
        "evt.failed" => match case {
            Case::Succeeded => Fact::Bool { is_true: Formula::False, is_false: Formula::True },
            Case::Failed => Fact::Bool { is_true: Formula::True, is_false: Formula::False },
            Case::Any | Case::Connected(_) => Fact::Unknown,
        },
        // An exec shows the name of the new program, or of the old one if it failed.
        "proc.name" if !matches!(call, "execve" | "execveat") => Fact::Name,
        "evt.arg" | "evt.rawarg" => {
            field.argument.as_deref().map_or(Fact::Unknown, |name| argument(call, name))
        }
        name if name.starts_with("fd.") => descriptor::fact_of(call, case, name),
        name if name.starts_with("fs.path.") => file_path(call, case, name),
        name => match name.strip_prefix("evt.arg.").or_else(|| name.strip_prefix("evt.rawarg.")) {
            Some(param) => argument(call, param),
            None => Fact::Unknown,
        },
    }
}

/// Tells whether nothing is known of a call but its name.
pub(super) fn is_ordinary(call: &str) -> bool {
    params(call).is_none()
        && matches!(cases(call)[..], [(Formula::True, Case::Any)])
        && !descriptor::is_without(call)
        && call != "open_by_handle_at"
        && !EVENT_NAMES.iter().any(|(name, _)| *name == call)
}

fn params(call: &str) -> Option<Params> {
    PARAMS.iter().find(|(calls, _)| calls.contains(&call)).map(|(_, params)| *params)
}

/// The parameter that a rule names, or numbers.
fn argument(call: &str, name: &str) -> Fact<'static> {
    let Some(params) = params(call) else { return Fact::Unknown };
    let param = match name.parse::<usize>() {
        Ok(index) => params.get(index),
        Err(_) => params.iter().find(|(known, _)| *known == name),
    };
    match param.map(|(_, param)| *param) {
        None => Fact::Absent,
        Some(Path(argument)) => Fact::text(whole(argument, Form::Either)),
        Some(Text(argument)) => Fact::text(whole(argument, Form::Written)),
        Some(OpenFlags(place)) => Fact::Bits { place, names: OPEN_FLAGS },
        Some(ModeBits(argument)) => Fact::Bits { place: register(argument), names: MODE_BITS },
        Some(Domain(argument)) => {
            // Falco is told the low byte alone.
            Fact::Choice { condition: compared(argument, Width::Low32, Test::MaskedEq(0xff)), names: DOMAINS }
        }
        Some(Request(argument)) => {
            Fact::Choice { condition: compared(argument, Width::Full64, Test::Eq), names: REQUESTS }
        }
        Some(BpfCommand(argument)) => {
            Fact::Choice { condition: compared(argument, Width::Low32, Test::Eq), names: BPF_COMMANDS }
        }
        Some(Other) => Fact::Unknown,
    }
}

const fn whole(argument: u8, form: Form) -> Subject {
    Subject { argument, form, part: Part::Whole }
}

const fn compared(argument: u8, width: Width, test: Test) -> Condition {
    Condition { argument, width, test, value: 0 }
}

/// Paths as libsinsp's `fs.path` fields have them. Of calls that failed they have none, unless a file was to be opened.
fn file_path(call: &str, case: Case, name: &str) -> Fact<'static> {
    let (end, is_raw) = match name.strip_suffix("raw") {
        Some(end) => (end, true),
        None => (name, false),
    };
    let argument = match (end, call) {
        ("fs.path.name", "open" | "unlink" | "rmdir" | "mkdir" | "chmod") => 0,
        ("fs.path.name", "openat" | "openat2") => 1,
        ("fs.path.source", "rename") | ("fs.path.target", "link" | "symlink") => 0,
        ("fs.path.target", "rename") | ("fs.path.source", "link" | "symlink") => 1,
        ("fs.path.source", "renameat" | "renameat2") | ("fs.path.target", "linkat") => 1,
        ("fs.path.target", "renameat" | "renameat2") | ("fs.path.source", "linkat") => 3,
        _ => return Fact::Unknown,
    };
    let form = if is_raw { Form::Either } else { Form::Resolved };
    let is_open = matches!(call, "open" | "openat" | "openat2");
    Fact::Path {
        sources: vec![Source { subject: whole(argument, form), when: Formula::True }],
        others: if is_open && !is_raw { &["<UNKNOWN>"] } else { &[] },
        may_be_absent: !is_open || case != Case::Succeeded,
        has_single_slashes: false,
    }
}

/// Where a call that opens a path has its flags and the mode of a new file.
fn open_places(call: &str) -> Option<(Place, Place)> {
    match call {
        "open" => Some((register(1), register(2))),
        "openat" => Some((register(2), register(3))),
        "openat2" => Some((HOW_FLAGS, HOW_MODE)),
        _ => None,
    }
}

/// The bits of open(2)'s flags that tell how the file is accessed.
const ACCESS_MODE: u64 = 3;

fn open_access(call: &str, modes: &[u64]) -> Fact<'static> {
    let flags = match call {
        "open_by_handle_at" => register(2),
        _ => match open_places(call) {
            Some((flags, _)) => flags,
            None => return Fact::Bool { is_true: Formula::False, is_false: Formula::True },
        },
    };
    let one_of = |modes: &mut dyn Iterator<Item = u64>| {
        Formula::any(modes.map(|mode| flags.compares(Test::MaskedEq(ACCESS_MODE), mode)))
    };
    Fact::Bool {
        is_true: one_of(&mut modes.iter().copied()),
        is_false: one_of(&mut (0..=ACCESS_MODE).filter(|mode| !modes.contains(mode))),
    }
}

/// `O_CREAT`, and what shows as `O_TMPFILE`: its own bit, and `O_DIRECTORY` of either native ABI.
const CREATING: [u64; 4] = [0o100, 0o20_000_000, 0o200_000, 0o40_000];

/// Without a driver no event says that a file was new: only `O_TMPFILE` shows.
fn open_create(call: &str) -> Fact<'static> {
    let is_true =
        open_places(call).map_or(Formula::False, |(flags, _)| flags.has_any_of(CREATING.into_iter().skip(1)));
    Fact::Bool {
        is_true: if call == "open_by_handle_at" { Formula::True } else { is_true },
        is_false: Formula::True,
    }
}

fn open_exec(call: &str) -> Fact<'static> {
    let executable = [0o100, 0o010, 0o001];
    let is_true = match open_places(call) {
        Some((flags, mode)) => Formula::all([flags.has_any_of(CREATING), mode.has_any_of(executable)]),
        None if call == "creat" => register(1).has_any_of(executable),
        None => Formula::False,
    };
    Fact::Bool { is_true, is_false: Formula::True }
}

/// The names that libsinsp writes for flags of open(2), with the bits that make it do so on any native ABI.
/// Without bits it is not certain which do.
const OPEN_FLAGS: &[(&str, u64)] = &[
    ("O_RDONLY", 0),
    ("O_WRONLY", 0),
    ("O_RDWR", 0),
    ("O_CREAT", 0o100),
    ("O_APPEND", 0o2000),
    ("O_DSYNC", 0),
    ("O_EXCL", 0o200),
    ("O_NONBLOCK", 0o4000),
    ("O_SYNC", 0),
    ("O_TRUNC", 0o1000),
    ("O_DIRECT", 0),
    ("O_DIRECTORY", 0),
    ("O_LARGEFILE", 0),
    ("O_CLOEXEC", 0),
    ("O_TMPFILE", 0),
    ("O_NONE", 0),
    ("O_F_CREATED", 0),
    ("FD_UPPER_LAYER", 0),
    ("FD_LOWER_LAYER", 0),
];

/// The names that libsinsp writes for permission bits.
const MODE_BITS: &[(&str, u64)] = &[
    ("S_IXOTH", 0o1),
    ("S_IWOTH", 0o2),
    ("S_IROTH", 0o4),
    ("S_IXGRP", 0o10),
    ("S_IWGRP", 0o20),
    ("S_IRGRP", 0o40),
    ("S_IXUSR", 0o100),
    ("S_IWUSR", 0o200),
    ("S_IRUSR", 0o400),
    ("S_ISVTX", 0o1000),
    ("S_ISGID", 0o2000),
    ("S_ISUID", 0o4000),
];

/// Names of socket domains (linux/socket.h). Only the ones from here are decided; each is part of no other name.
const DOMAINS: &[(&str, u64)] = &[("AF_PACKET", 17), ("AF_NETLINK", 16), ("AF_ALG", 38), ("AF_VSOCK", 40)];

/// Names of requests of ptrace(2). A text that is part of a name means all of these.
const REQUESTS: &[(&str, u64)] = &[
    ("PTRACE_TRACEME", 0),
    ("PTRACE_POKETEXT", 4),
    ("PTRACE_POKEDATA", 5),
    ("PTRACE_SETREGS", 13),
    ("PTRACE_ATTACH", 16),
    ("PTRACE_SETREGSET", 0x4205),
    ("PTRACE_SEIZE", 0x4206),
];

/// Names of commands of bpf(2), and the digits that stand in the place of one that libsinsp does not know.
const BPF_COMMANDS: &[(&str, u64)] = &[("BPF_PROG_LOAD", 5), ("5", 5)];
