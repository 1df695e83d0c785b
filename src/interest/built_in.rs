//! The calls that are captured when no rules narrow them down.
//!
//! First what the stable rules of Falco react to, and what its state needs (the working directory, the ids of a
//! process). Then the actions on files and the network that a reader of a capture expects, because Falco's
//! incubating rules ask for them and they are rare.
//!
//! Left out on purpose: `exit`, `clone`, `fork` and their kin, since the life of a process comes from ptrace's
//! events; and `sendmsg`, which a stable rule asks for, but only by an address that lies in memory. No register
//! tells that address, the call is hot in every program that serves, and each one would cost a stop.

use std::collections::BTreeMap;

use super::{Condition, RegisterTest, Test, Width};

/// The table: each call by its name, with the test that its registers must pass.
pub(super) fn calls() -> BTreeMap<&'static str, RegisterTest> {
    BUILT_IN.iter().map(|(name, when)| (*name, when.register_test())).collect()
}

/// When a call of the built-in table is wanted. A name for each condition keeps the table readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// `newfd` of dup2(2) and dup3(2) is standard input, output or error: how a reverse shell wires itself up.
    NewFdIsStandard,
    /// `dest_addr` of sendto(2) is given. Without it the peer is that of an earlier connect, which was seen.
    HasAddress,
    /// `request` of ptrace(2) attaches or changes the tracee, rather than reads or resumes it.
    RequestIntrudes,
}

impl When {
    fn register_test(self) -> RegisterTest {
        match self {
            Self::Always => RegisterTest::ALWAYS,
            Self::NewFdIsStandard => RegisterTest::any_of(vec![vec![Condition {
                argument: 1,
                width: Width::Low32,
                test: Test::Le,
                value: 2,
            }]]),
            Self::HasAddress => RegisterTest::any_of(vec![vec![Condition {
                argument: 4,
                width: Width::Full64,
                test: Test::Ne,
                value: 0,
            }]]),
            // The kernel declares the request as `long`: all 64 bits count.
            Self::RequestIntrudes => RegisterTest::any_of(
                PTRACE_REQUESTS
                    .iter()
                    .map(|&value| {
                        vec![Condition { argument: 0, width: Width::Full64, test: Test::Eq, value }]
                    })
                    .collect(),
            ),
        }
    }
}

/// `PTRACE_TRACEME`, `POKETEXT`, `POKEDATA`, `SETREGS`, `ATTACH`, `SETREGSET`, `SEIZE` (linux/ptrace.h).
const PTRACE_REQUESTS: [u64; 7] = [0, 4, 5, 13, 16, 0x4205, 0x4206];

/// Calls by name. The first block is for the stable rules and for state, the second for everything else.
const BUILT_IN: &[(&str, When)] = &[
    // For the stable rules, and for the state that they rest on.
    ("connect", When::Always),
    ("dup", When::Always),
    ("dup2", When::NewFdIsStandard),
    ("dup3", When::NewFdIsStandard),
    ("execve", When::Always),
    ("execveat", When::Always),
    ("finit_module", When::Always),
    ("init_module", When::Always),
    ("link", When::Always),
    ("linkat", When::Always),
    ("open", When::Always),
    ("openat", When::Always),
    ("openat2", When::Always),
    ("ptrace", When::RequestIntrudes),
    ("sendto", When::HasAddress),
    ("socket", When::Always),
    ("symlink", When::Always),
    ("symlinkat", When::Always),
    ("chdir", When::Always),
    ("fchdir", When::Always),
    ("setuid", When::Always),
    ("setgid", When::Always),
    ("setreuid", When::Always),
    ("setregid", When::Always),
    ("setresuid", When::Always),
    ("setresgid", When::Always),
    ("setsid", When::Always),
    // For a reader of the capture.
    ("accept", When::Always),
    ("accept4", When::Always),
    ("bind", When::Always),
    ("bpf", When::Always),
    ("capset", When::Always),
    ("chmod", When::Always),
    ("chroot", When::Always),
    ("creat", When::Always),
    ("fchmod", When::Always),
    ("fchmodat", When::Always),
    ("fchmodat2", When::Always),
    ("io_uring_setup", When::Always),
    ("listen", When::Always),
    ("memfd_create", When::Always),
    ("mkdir", When::Always),
    ("mkdirat", When::Always),
    ("mount", When::Always),
    ("pivot_root", When::Always),
    ("rename", When::Always),
    ("renameat", When::Always),
    ("renameat2", When::Always),
    ("rmdir", When::Always),
    ("setns", When::Always),
    ("umount2", When::Always),
    ("unlink", When::Always),
    ("unlinkat", When::Always),
    ("unshare", When::Always),
    ("userfaultfd", When::Always),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{self, Abi, SyscallNr};
    use crate::interest::Interest;

    fn nr(abi: Abi, name: &str) -> SyscallNr {
        abi::number(abi, name).unwrap_or_else(|| panic!("{} has no {name}", abi.name()))
    }

    #[test]
    fn every_name_of_the_built_in_table_is_known_and_stands_there_once() {
        let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        Interest::of_names(&names).unwrap();
        assert_eq!(calls().len(), names.len());
        for name in names {
            assert!(Interest::built_in().is_wanted(Abi::X86_64, nr(Abi::X86_64, name)), "{name}");
        }
    }

    #[test]
    fn hot_calls_and_the_life_of_processes_are_not_in_the_built_in_table() {
        let interest = Interest::built_in();
        for name in ["read", "write", "close", "mmap", "futex", "sendmsg", "clone", "fork", "exit_group"] {
            assert!(!interest.is_wanted(Abi::X86_64, nr(Abi::X86_64, name)), "{name}");
        }
    }

    #[test]
    fn the_built_in_conditions_tell_the_calls_that_matter() {
        let interest = Interest::built_in();
        let is_wanted = |abi, name, args| interest.is_call_wanted(abi, nr(abi, name), &args);
        let dup2 = |newfd| is_wanted(Abi::X86_64, "dup2", [9, newfd, 0, 0, 0, 0]);
        assert_eq!([0, 2, 0xffff_ffff_0000_0001].map(dup2), [true; 3]);
        assert_eq!([3, u64::from(u32::MAX)].map(dup2), [false; 2]);
        let sendto = |address| is_wanted(Abi::X86_64, "sendto", [3, 4, 5, 6, address, 16]);
        assert_eq!([0, 1, 1 << 40].map(sendto), [false, true, true]);
        let ptrace = |request| is_wanted(Abi::Aarch64, "ptrace", [request, 1, 0, 0, 0, 0]);
        assert!(PTRACE_REQUESTS.into_iter().all(ptrace));
        assert!(![1, 2, 7, 12, 17, 24, 0x4200, 0x4204, 1 << 32].into_iter().any(ptrace));
    }
}
