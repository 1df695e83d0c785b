//! Tests of the tables of signatures as a whole, and of the calls that Falco knows.

use std::collections::HashSet;

use super::*;
use crate::abi::{names, number};
use crate::limits::STRUCT_BYTES_MAX;

/// Calls of x86_64 that the kernel no longer implements, or never did: ni_syscall(2) answers them.
const UNIMPLEMENTED: [&str; 12] = [
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "getpmsg",
    "putpmsg",
    "afs_syscall",
    "tuxcall",
    "security",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
];

fn argument_names(abi: Abi, call: &str) -> Vec<&'static str> {
    signature(abi, call).unwrap().arguments.iter().map(|argument| argument.name).collect()
}

fn kinds(abi: Abi, call: &str) -> Vec<ArgumentKind> {
    signature(abi, call).unwrap().arguments.iter().map(|argument| argument.kind).collect()
}

fn all_lines() -> impl Iterator<Item = &'static Line> {
    COMMON.into_iter().chain([overrides::I386, overrides::AARCH64]).flatten()
}

#[test]
fn every_implemented_call_of_a_64_bit_abi_has_a_signature() {
    for abi in [Abi::X86_64, Abi::X32, Abi::Aarch64] {
        for name in names(abi) {
            let is_known = signature_of(abi, number(abi, name).unwrap()).is_some();
            assert_eq!(is_known, !UNIMPLEMENTED.contains(&name), "{name} of {}", abi.name());
        }
    }
}

#[test]
fn every_implemented_call_of_32_bit_x86_has_a_signature() {
    // Beside those above, this ABI keeps numbers of other Unixes that Linux never filled.
    let unimplemented = [
        "afs_syscall",
        "bdflush",
        "break",
        "create_module",
        "ftime",
        "get_kernel_syms",
        "getpmsg",
        "gtty",
        "idle",
        "lock",
        "mpx",
        "nfsservctl",
        "prof",
        "profil",
        "putpmsg",
        "query_module",
        "stty",
        "ulimit",
        "vserver",
    ];
    for name in names(Abi::I386) {
        let is_known = signature(Abi::I386, name).is_some();
        assert_eq!(is_known, !unimplemented.contains(&name), "{name}");
    }
}

#[test]
fn the_look_ups_by_number_and_by_name_agree() {
    for abi in Abi::KNOWN {
        for nr in numbers(abi) {
            let by_name = number_name(abi, nr).and_then(|name| signature(abi, name));
            assert_eq!(signature_of(abi, nr), by_name);
        }
    }
    assert_eq!(signature_of(Abi::Other, SyscallNr(0)), None);
    assert_eq!(signature_of(Abi::X32, SyscallNr(0)), None);
    assert_eq!(signature_of(Abi::X86_64, SyscallNr(X32_SYSCALL_BIT)), None);
    assert_eq!(signature_of(Abi::Aarch64, SyscallNr(u32::MAX)), None);
    assert_eq!(signature(Abi::X86_64, "no_such_call"), None);
}

#[test]
fn every_line_names_a_real_call_and_no_call_has_two_lines_in_a_table() {
    let real: HashSet<&str> = Abi::KNOWN.into_iter().flat_map(names).collect();
    for lines in [COMMON.concat(), overrides::I386.to_vec(), overrides::AARCH64.to_vec()] {
        let mut seen = HashSet::new();
        for name in lines.iter().flat_map(|(names, _)| names.iter()) {
            assert!(real.contains(name), "{name} is no call");
            assert!(seen.insert(*name), "{name} has two lines");
        }
    }
}

#[test]
fn arguments_fit_the_registers_and_have_names_of_their_own() {
    for (calls, signature) in all_lines() {
        let arguments = signature.arguments;
        let distinct: HashSet<&str> = arguments.iter().map(|argument| argument.name).collect();
        assert!(arguments.len() <= 6, "{calls:?}");
        assert_eq!(distinct.len(), arguments.len(), "{calls:?}");
    }
}

#[test]
fn a_directory_stands_right_before_its_path() {
    for (calls, signature) in all_lines() {
        for pair in signature.arguments.windows(2) {
            if pair[0].kind == ArgumentKind::DirFd {
                assert_eq!(pair[1].kind, ArgumentKind::Path, "{calls:?}");
            }
        }
        let last = signature.arguments.last().map(|argument| argument.kind);
        assert_ne!(last, Some(ArgumentKind::DirFd), "{calls:?}");
    }
}

#[test]
fn a_length_is_an_argument_that_holds_a_length_and_a_structure_fits_its_capture() {
    for (calls, signature) in all_lines() {
        for argument in signature.arguments {
            let (length_argument, expected) = match argument.kind {
                ArgumentKind::SockaddrIn { length_argument } => (length_argument, ArgumentKind::Signed),
                ArgumentKind::StructSized { length_argument } => (length_argument, ArgumentKind::Size),
                ArgumentKind::Struct { bytes } => {
                    assert!(usize::from(bytes) <= STRUCT_BYTES_MAX, "{calls:?}");
                    continue;
                }
                _ => continue,
            };
            let length = signature.arguments.get(usize::from(length_argument)).unwrap();
            assert_eq!(length.kind, expected, "{calls:?}");
        }
    }
}

#[test]
fn arguments_have_the_names_that_falco_gives_them() {
    let known: [(&str, &[&str]); 16] = [
        ("open", &["name", "flags", "mode"]),
        ("openat", &["dirfd", "name", "flags", "mode"]),
        ("symlinkat", &["target", "linkdirfd", "linkpath"]),
        ("linkat", &["olddir", "oldpath", "newdir", "newpath", "flags"]),
        ("renameat2", &["olddirfd", "oldpath", "newdirfd", "newpath", "flags"]),
        ("unlinkat", &["dirfd", "name", "flags"]),
        ("fchmodat", &["dirfd", "filename", "mode"]),
        ("mount", &["dev", "dir", "type", "flags", "data"]),
        ("connect", &["fd", "addr", "addrlen"]),
        ("socket", &["domain", "type", "proto"]),
        ("execve", &["filename", "argv", "envp"]),
        ("ptrace", &["request", "pid", "addr", "data"]),
        ("setns", &["fd", "nstype"]),
        ("dup3", &["oldfd", "newfd", "flags"]),
        ("finit_module", &["fd", "uargs", "flags"]),
        ("pidfd_getfd", &["pid_fd", "target_fd", "flags"]),
    ];
    for (call, expected) in known {
        assert_eq!(argument_names(Abi::X86_64, call), expected, "{call}");
    }
}

#[test]
fn a_call_whose_arguments_differ_by_abi_has_those_of_the_abi() {
    let x86_64 = ["flags", "stack", "parent_tid", "child_tid", "tls"];
    let backwards = ["flags", "stack", "parent_tid", "tls", "child_tid"];
    assert_eq!(argument_names(Abi::X86_64, "clone"), x86_64);
    assert_eq!(argument_names(Abi::X32, "clone"), x86_64);
    assert_eq!(argument_names(Abi::I386, "clone"), backwards);
    assert_eq!(argument_names(Abi::Aarch64, "clone"), backwards);
    assert_eq!(argument_names(Abi::I386, "mmap"), ["arg"]);
    assert_eq!(kinds(Abi::I386, "fanotify_mark")[4..], [ArgumentKind::DirFd, ArgumentKind::Path]);
    assert_eq!(kinds(Abi::X86_64, "fanotify_mark")[3..], [ArgumentKind::DirFd, ArgumentKind::Path]);
    assert_eq!(kinds(Abi::I386, "setrlimit")[1], ArgumentKind::Struct { bytes: 8 });
    assert_eq!(kinds(Abi::X32, "setrlimit")[1], ArgumentKind::Struct { bytes: 16 });
}
