//! What is known of the descriptor of an event, the `fd` fields.
//!
//! libsinsp keeps a table of descriptors for each process. It takes the fields from there if the event has one in the
//! table, and else from the event, or they have no value. Read its `sinsp_filtercheck_fd.cpp` before you edit.

use super::{Case, End, Fact, Form, Formula, Part, SOCKADDR, Source, Subject, open_places};

/// `O_DIRECTORY` of either native ABI. One of them is `O_DIRECT` in the other, which does no harm here.
const DIRECTORY: [u64; 2] = [0o200_000, 0o40_000];

/// Calls whose events have nothing to do with a descriptor for libsinsp.
const WITHOUT_DESCRIPTOR: &[&str] = &[
    "execve",
    "execveat",
    "unlink",
    "rmdir",
    "mkdir",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "chmod",
    "chdir",
    "chroot",
    "mount",
    "umount2",
    "ptrace",
    "unshare",
    "init_module",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setsid",
    "setpgid",
    "capset",
    "prctl",
];

/// Tells whether the events of a call have no descriptor.
pub(super) fn is_without(call: &str) -> bool {
    WITHOUT_DESCRIPTOR.contains(&call)
}

pub(super) fn fact_of(call: &str, case: Case, name: &str) -> Fact<'static> {
    match (call, case) {
        ("open" | "openat" | "openat2" | "creat", _) => opened(call, case == Case::Succeeded, name),
        ("connect", Case::Connected(end)) => connected(end, name),
        _ if is_without(call) => Fact::Absent,
        _ => Fact::Unknown,
    }
}

/// What a call that opens a path opened, or was to open.
fn opened(call: &str, is_open: bool, name: &str) -> Fact<'static> {
    let argument = u8::from(matches!(call, "openat" | "openat2"));
    // What was not opened is shown as the parameter of the event: of these two calls, it is not resolved if absolute.
    let form = if argument == 0 && !is_open { Form::Either } else { Form::Resolved };
    let part = |part| Subject { argument, form, part };
    let always = |subject| Source { subject, when: Formula::True };
    match name {
        "fd.name" => Fact::text(part(Part::Whole)),
        "fd.nameraw" => Fact::Path {
            sources: vec![always(Subject { argument, form: Form::Either, part: Part::Whole })],
            others: &[],
            may_be_absent: false,
            has_single_slashes: true,
        },
        "fd.directory" => {
            // Of what was opened as a directory the whole name is shown, if there was room in the table.
            let flags = open_places(call).map(|(flags, _)| flags);
            let is_directory = flags.filter(|_| is_open).map(|flags| flags.has_any_of(DIRECTORY));
            let whole = is_directory.map(|when| Source { subject: part(Part::Whole), when });
            Fact::Path {
                sources: [always(part(Part::Directory))].into_iter().chain(whole).collect(),
                others: &[],
                may_be_absent: false,
                has_single_slashes: false,
            }
        }
        "fd.filename" if is_open => Fact::Path {
            sources: vec![always(part(Part::FileName))],
            others: &[],
            may_be_absent: true,
            has_single_slashes: false,
        },
        "fd.filename" => Fact::Absent,
        // Without an entry in the table it is the event that tells, and that of `open` does not.
        "fd.typechar" => Fact::Texts(match (call, is_open) {
            ("open", true) => vec!["f", "d", "o"],
            ("open", false) => vec!["o"],
            ("creat", _) | (_, false) => vec!["f"],
            _ => vec!["f", "d"],
        }),
        "fd.type" if is_open => Fact::maybe(&["file", "directory"]),
        "fd.l4proto" if is_open => Fact::maybe(&["<NA>"]),
        "fd.num" if is_open => Fact::Range(0, i64::MAX),
        "fd.num" => Fact::Range(-1, -1),
        "fd.type" | "fd.l4proto" | "fd.sockfamily" | "fd.sip" | "fd.sport" | "fd.cip" | "fd.cport" => {
            Fact::Absent
        }
        _ => Fact::Unknown,
    }
}

/// The socket of a `connect` that gave no error.
fn connected(end: End, name: &str) -> Fact<'static> {
    match (end, name) {
        (End::Other, _)
        | (_, "fd.name" | "fd.nameraw" | "fd.directory" | "fd.num" | "fd.uid" | "fd.types") => Fact::Unknown,
        (_, name) if name.starts_with("fd.container") => Fact::Unknown,
        (End::Missing, "fd.typechar") => Fact::Texts(vec!["o"]),
        (End::Missing, _) => Fact::Absent,
        (End::Local, "fd.typechar") => Fact::Texts(vec!["u"]),
        (End::Local, "fd.type" | "fd.sockfamily") => Fact::Texts(vec!["unix"]),
        (End::Local, "fd.l4proto") => Fact::Texts(vec!["<NA>"]),
        (End::Local, "fd.ip" | "fd.port" | "fd.net") => Fact::maybe(&[]),
        (
            End::Local,
            "fd.sip" | "fd.sport" | "fd.snet" | "fd.cip" | "fd.cport" | "fd.cnet" | "fd.filename",
        ) => Fact::Absent,
        (End::Local, _) => Fact::Unknown,
        // An address of IPv6 may be one of IPv4 to libsinsp.
        (End::Tcp | End::Datagrams, "fd.typechar") => Fact::Texts(vec!["4", "6"]),
        (End::Tcp | End::Datagrams, "fd.type") => Fact::Texts(vec!["ipv4", "ipv6"]),
        (End::Tcp | End::Datagrams, "fd.sockfamily") => Fact::Texts(vec!["ip"]),
        (End::Tcp, "fd.l4proto") => Fact::Texts(vec!["tcp"]),
        (End::Datagrams, "fd.l4proto") => Fact::OtherThan(&["tcp"]),
        (End::Tcp, "fd.sip" | "fd.snet") => Fact::Host(SOCKADDR),
        (End::Tcp, "fd.sport") => Fact::Port(SOCKADDR),
        (End::Tcp | End::Datagrams, "fd.ip" | "fd.net") => Fact::EitherHost(SOCKADDR),
        (End::Tcp | End::Datagrams, "fd.port") => Fact::EitherPort(SOCKADDR),
        (End::Tcp | End::Datagrams, _) => Fact::Unknown,
    }
}
