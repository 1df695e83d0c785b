//! Random conditions over what a funnel can decide, and some over what it cannot.
//!
//! Each names the calls that it is about, as a rule has to: one that names none asks for every call, and of those no
//! funnel gives it all.

use crate::{
    random::Random,
    texts::{self, one},
};

/// How deep `and`, `or` and `not` are nested.
const DEPTH: usize = 3;

/// Makes one comparison of a field.
type Leaf = fn(&mut Random) -> String;

/// Calls of which one is like the other to the conditions here.
pub(crate) const REST: &[&str] = &[
    "dup",
    "dup2",
    "dup3",
    "socket",
    "ptrace",
    "bpf",
    "unshare",
    "setns",
    "mount",
    "umount2",
    "chdir",
    "fchdir",
    "chroot",
    "memfd_create",
    "setuid",
    "setresuid",
    "listen",
    "accept4",
    "io_uring_setup",
    "userfaultfd",
    "mprotect",
    "kill",
    "open_by_handle_at",
    "capset",
    "prctl",
    "setsid",
    "quotactl",
    "init_module",
    "finit_module",
    "process_vm_readv",
];

/// Kinds of calls: their names, and which fields a condition about them compares.
const KINDS: [(&[&str], Leaf); 7] = [
    (&["open", "openat", "openat2", "creat"], about_open),
    (&["open", "openat", "openat2"], about_open),
    (&["rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"], about_name),
    (&["link", "linkat", "symlink", "symlinkat", "unlinkat", "rename"], about_name),
    (&["chmod", "fchmod", "fchmodat", "fchmodat2"], about_mode),
    (&["connect", "sendto", "sendmsg", "bind"], about_socket),
    (REST, about_rest),
];

/// A condition.
pub(crate) fn condition(random: &mut Random) -> String {
    let mut text = one_kind(random);
    if random.below(6) == 0 {
        text = format!("({text}) or ({})", one_kind(random));
    }
    text
}

fn one_kind(random: &mut Random) -> String {
    let Some((calls, leaf)) = random.pick(&KINDS) else { return String::new() };
    let types = types(random, calls);
    let rest = nested(random, DEPTH, calls, *leaf);
    match random.below(8) {
        0 => types,
        1 => format!("({rest}) and {types}"),
        2 => format!("{types} and not ({rest})"),
        3 => format!("not (not {types} or not ({rest}))"),
        4 if calls.contains(&"open") => format!("evt.is_open_{} = true and ({rest})", open_kind(random)),
        _ => format!("{types} and ({rest})"),
    }
}

fn types(random: &mut Random, calls: &[&str]) -> String {
    let some: Vec<&str> = (0..1 + random.below(4)).map(|_| one(random, calls)).collect();
    match some.as_slice() {
        [only] => format!("evt.type = {only}"),
        [first, second] if random.below(2) == 0 => format!("(evt.type = {first} or evt.type = {second})"),
        more => format!("evt.type in ({})", more.join(", ")),
    }
}

fn nested(random: &mut Random, depth: usize, calls: &[&str], leaf: Leaf) -> String {
    if depth == 0 || random.below(5) == 0 {
        return match random.below(14) {
            12 | 13 => about_program(random),
            0 => types(random, calls),
            1 => format!("not {}", types(random, calls)),
            2 => outcome(random),
            3 => anything(random),
            _ => leaf(random),
        };
    }
    let mut inner = || nested(random, depth - 1, calls, leaf);
    let (left, right) = (inner(), inner());
    match random.below(7) {
        0 => format!("not ({left})"),
        1 | 2 => format!("({left}) or ({right})"),
        3 => format!("({left}) and not ({right})"),
        4 => format!("({left}) and ({right}) and ({})", nested(random, depth - 1, calls, leaf)),
        5 => format!("not (({left}) or ({right}))"),
        _ => format!("({left}) and ({right})"),
    }
}

/// A comparison of one of these fields, which are paths or other texts.
fn text_test(random: &mut Random, fields: &[&str]) -> String {
    let field = one(random, fields);
    let quoted = |text: &str| format!("\"{text}\"");
    let list = |random: &mut Random, of: fn(&mut Random) -> String| {
        let words: Vec<String> = (0..1 + random.below(4)).map(|_| quoted(&of(random))).collect();
        words.join(", ")
    };
    match random.below(14) {
        // libsinsp takes no function of a raw argument.
        12 if field.contains("rawarg") => format!("{field} startswith {}", quoted(&texts::path(random))),
        0..=2 => format!("{field} = {}", quoted(&texts::path(random))),
        3 => format!("{field} != {}", quoted(&texts::path(random))),
        4 => format!("{field} in ({})", list(random, texts::path)),
        5 => format!("{field} pmatch ({})", list(random, texts::path)),
        6 => format!("{field} startswith {}", quoted(&texts::piece(random))),
        7 => format!("{field} endswith {}", quoted(&texts::piece(random))),
        8 => format!("{field} contains {}", quoted(&texts::piece(random))),
        9 => format!("{field} icontains {}", quoted(&texts::piece(random))),
        10 => format!("{field} glob {}", quoted(&texts::pattern(random))),
        11 => format!("{field} exists"),
        12 => format!("tolower({field}) = {}", quoted(&texts::path(random))),
        _ => format!("{field} regex {}", quoted(&format!(".*{}.*", texts::name(random).replace('.', "[.]")))),
    }
}

fn directory_test(random: &mut Random) -> String {
    let directory = texts::directory(random);
    match random.below(4) {
        0 => format!("fd.directory = \"{directory}\""),
        1 => format!("fd.directory in (\"{directory}\", \"{}\")", texts::directory(random)),
        2 => format!("fd.directory startswith \"{directory}\""),
        _ => text_test(random, &["fd.directory"]),
    }
}

fn filename_test(random: &mut Random) -> String {
    let name = texts::name(random);
    match random.below(5) {
        0 => format!("fd.filename = \"{name}\""),
        1 => format!("fd.filename in (\"{name}\", \"{}\")", texts::name(random)),
        2 => format!("fd.filename endswith \"{name}\""),
        3 => format!("fd.filename startswith \"{name}\""),
        _ => format!("fd.filename contains \"{name}\""),
    }
}

fn open_kind(random: &mut Random) -> &'static str {
    one(random, &["read", "write", "exec", "create"])
}

fn about_open(random: &mut Random) -> String {
    match random.below(20) {
        0..=2 => format!("evt.is_open_{} = {}", open_kind(random), one(random, &[true, true, false])),
        3..=6 => text_test(random, &["fd.name"]),
        7 | 8 => directory_test(random),
        9 | 10 => filename_test(random),
        11 => text_test(random, &["fd.nameraw"]),
        12 => text_test(random, &["evt.arg.name"]),
        13 => text_test(random, &["fs.path.name", "fs.path.nameraw", "evt.rawarg.name", "evt.args"]),
        14 | 15 => {
            let flags = [
                "O_RDONLY",
                "O_WRONLY",
                "O_RDWR",
                "O_CREAT",
                "O_TRUNC",
                "O_APPEND",
                "O_DIRECTORY",
                "O_EXCL",
                "O_TMPFILE",
                "O_CLOEXEC",
                "O_F_CREATED",
            ];
            let operator = one(random, &["contains", "contains", "startswith", "="]);
            format!("evt.arg.flags {operator} {}", one(random, &flags))
        }
        16 => format!("fd.typechar = {}", one(random, &["f", "4", "d"])),
        17 => format!("fd.type = {}", one(random, &["file", "directory", "ipv4"])),
        18 => format!("fd.num {} {}", one(random, &[">=", "<", "=", "!="]), random.below(12)),
        _ => format!("evt.arg.mode contains {}", one(random, &MODES)),
    }
}

fn about_name(random: &mut Random) -> String {
    let fields = [
        "evt.arg.path",
        "evt.arg.oldpath",
        "evt.arg.newpath",
        "evt.arg.target",
        "evt.arg.linkpath",
        "evt.arg.name",
        "fs.path.name",
        "fs.path.nameraw",
        "fs.path.source",
        "fs.path.sourceraw",
        "fs.path.target",
        "fs.path.targetraw",
        "fd.name",
        "evt.arg[0]",
        "evt.arg[1]",
        "evt.arg[2]",
        "evt.arg[3]",
        "evt.args",
        "evt.abspath",
        "evt.abspath.src",
        "evt.abspath.dst",
        "fd.filename",
        "fd.directory",
    ];
    match random.below(10) {
        0 => format!("evt.arg.flags contains {}", one(random, &["AT_REMOVEDIR", "AT_SYMLINK_FOLLOW", "0"])),
        _ => text_test(random, &fields),
    }
}

const MODES: [&str; 8] =
    ["S_ISUID", "S_ISGID", "S_IXUSR", "S_IWOTH", "S_IXOTH", "S_IRUSR", "S_IXGRP", "S_ISVTX"];

fn about_mode(random: &mut Random) -> String {
    match random.below(8) {
        0..=4 => format!("evt.arg.mode contains {}", one(random, &MODES)),
        5 => text_test(random, &["evt.arg.filename", "fs.path.name", "fd.name", "evt.arg[1]"]),
        6 => filename_test(random),
        _ => format!("evt.args contains {}", one(random, &MODES)),
    }
}

fn about_socket(random: &mut Random) -> String {
    let address = one(random, &ADDRESSES);
    let port = one(random, &PORTS);
    match random.below(18) {
        0 | 1 => format!("fd.{} = {address}", one(random, &["sip", "rip", "ip", "cip", "lip"])),
        2 => format!("fd.sip != {address}"),
        3 => format!("fd.{} in ({address}, {})", one(random, &["sip", "ip", "rip"]), one(random, &ADDRESSES)),
        4 | 5 => format!("fd.{} = {}", one(random, &["snet", "net", "rnet"]), one(random, &NETWORKS)),
        6 => format!("fd.snet in ({}, {})", one(random, &NETWORKS), one(random, &NETWORKS)),
        7 | 8 => format!("fd.{} = {port}", one(random, &["sport", "port", "rport", "cport"])),
        9 => format!("fd.sport in ({port}, {})", one(random, &PORTS)),
        10 => format!("fd.sport {} {port}", one(random, &["<", ">=", "!="])),
        11 => format!("fd.typechar = {}", one(random, &["4", "6", "u", "f"])),
        12 => format!("fd.type in ({})", one(random, &["ipv4", "ipv4, ipv6", "unix", "file"])),
        13 => format!("fd.l4proto {} {}", one(random, &["=", "!="]), one(random, &["tcp", "udp"])),
        14 => format!("fd.sockfamily = {}", one(random, &["ip", "unix"])),
        15 => format!("fd.{} = true", one(random, &["connected", "name_changed", "is_server"])),
        16 => format!("fd.name contains {address}"),
        _ => format!("fd.name = {}", one(random, &["/run/s", "/tmp/x"])),
    }
}

pub(crate) const ADDRESSES: [&str; 7] =
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "8.8.8.8", "0.0.0.0", "192.168.7.7", "10.1.2.4"];
const NETWORKS: [&str; 6] =
    ["127.0.0.0/8", "10.0.0.0/8", "10.1.2.0/30", "169.254.169.254/32", "0.0.0.0/0", "192.168.0.0/16"];
pub(crate) const PORTS: [u16; 6] = [53, 80, 443, 22, 6667, 0];

fn about_rest(random: &mut Random) -> String {
    match random.below(16) {
        0 => format!("evt.arg.domain = {}", one(random, &["AF_INET", "AF_PACKET", "AF_UNIX"])),
        1 | 2 => {
            let requests = [
                "PTRACE_ATTACH",
                "PTRACE_POKETEXT",
                "PTRACE_SEIZE",
                "PTRACE_CONT",
                "PTRACE_SETREGS",
                "PTRACE_TRACEME",
            ];
            format!("evt.arg.request in ({}, {})", one(random, &requests), one(random, &requests))
        }
        3 => format!("evt.arg.cmd = {}", one(random, &["BPF_PROG_LOAD", "BPF_MAP_CREATE"])),
        4 => format!(
            "evt.arg.flags contains {}",
            one(random, &["CLONE_NEWNS", "CLONE_NEWUSER", "O_CLOEXEC", "MFD_CLOEXEC", "MS_BIND"])
        ),
        5 => format!("fd.num in (0, 1, {})", random.below(6)),
        6 => format!("evt.arg.fd {} {}", one(random, &["=", "<", ">"]), random.below(6)),
        7 => format!(
            "fd.{}",
            one(random, &["typechar = 4", "type in (ipv4, ipv6)", "typechar = f", "num < 3"])
        ),
        8 => format!("evt.arg.uid = {}", one(random, &["0", "1000", "root"])),
        9 => format!("evt.arg[{}] = {}", random.below(4), one(random, &["0", "1", "2", "AF_INET"])),
        10 => format!("evt.rawarg.res {} 0", one(random, &["=", "<", ">=", "!="])),
        11 => {
            format!("evt.arg.{} = {}", one(random, &["oldfd", "newfd", "nstype", "option"]), random.below(4))
        }
        12 => text_test(random, &["evt.arg.path", "evt.arg.dev", "evt.arg.dir", "evt.arg.name"]),
        13 => text_test(random, &["fs.path.name", "fs.path.source", "fs.path.target"]),
        _ => anything(random),
    }
}

/// Names of programs.
pub(crate) const PROGRAMS: [&str; 5] = ["p1", "p2", "p10", "sh", "P1"];

fn about_program(random: &mut Random) -> String {
    let field = one(random, &["proc.name", "proc.name", "proc.name", "proc.name", "proc.pname"]);
    let name = one(random, &PROGRAMS);
    match random.below(10) {
        0..=2 => format!("{field} = {name}"),
        3 => format!("{field} != {name}"),
        4 => format!("{field} in ({name}, sh, p3)"),
        5 => format!("{field} {} p", one(random, &["startswith", "endswith", "contains", "icontains"])),
        6 => format!("{field} glob \"{}\"", one(random, &["p?", "*1", "[a-p]*", "?*0"])),
        7 => format!("{field} pmatch (p1, sh)"),
        8 => format!("{field} {}", one(random, &["endswith 0", "exists", "intersects (p1, p2)"])),
        _ => format!("toupper({field}) = P1"),
    }
}

fn outcome(random: &mut Random) -> String {
    match random.below(6) {
        0 => "evt.rawres >= 0".to_owned(),
        1 => "evt.rawres < 0".to_owned(),
        2 => "evt.res = SUCCESS".to_owned(),
        3 => "evt.failed = true".to_owned(),
        4 => "evt.arg.res = ENOENT".to_owned(),
        _ => "evt.res in (SUCCESS, EINPROGRESS)".to_owned(),
    }
}

fn anything(random: &mut Random) -> String {
    one(
        random,
        &[
            "proc.name = p1",
            "proc.name exists",
            "user.uid = 0",
            "proc.pname = sh",
            "evt.dir = <",
            "evt.num >= 0",
            "thread.cap_effective contains CAP_SYS_ADMIN",
            "fd.name exists",
            "len(fd.name) > 8",
            "fd.name = val(fd.nameraw)",
            "basename(fd.name) = shadow",
            "evt.category = file",
            "evt.is_io = true",
            "syscall.type = openat",
            "fd.ino > 0",
        ],
    )
    .to_owned()
}
