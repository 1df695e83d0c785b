//! System call numbers and names, per ABI.
//!
//! The tables are those of the `syscalls` crate; this file owns what it lacks: x32, calls newer than the crate, and
//! a few names that it has wrong. A name here is the kernel's (`__NR_` without its prefix), so that a call has one
//! name on every ABI. [`number_name`] is on the path of every event: keep it free of scans.

use syscalls::{aarch64, x86, x86_64};

use super::{Abi, SyscallNr, X32_SYSCALL_BIT};
use crate::limits::SYSCALL_NUMBERS_MAX;

/// Calls that came after the `syscalls` crate's tables. Since Linux 5.1 (number 424) a new call has the same number
/// on every ABI, so one list serves all.
const NEWER: [(u32, &str); 2] = [(470, "listns"), (471, "rseq_slice_yield")];

/// First number of [`X32_OWN`].
const X32_OWN_FIRST: u32 = 512;

/// The calls that have a number of their own on x32, in order, because their arguments in memory hold pointers
/// (arch/x86/entry/syscalls/syscall_64.tbl). The kernel has closed this block: it never grows.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Whether the x86_64 call `nr` has no x32 number with the same low bits: it is in [`X32_OWN`], or (the last line)
/// x32 does not have it at all.
const fn is_x86_64_only(nr: u32) -> bool {
    matches!(
        nr,
        13 | 15 | 16 | 19 | 20 | 45..=47 | 54 | 55 | 59 | 101 | 127..=129 | 131
            | 206 | 209 | 222 | 244 | 246 | 247 | 273 | 274 | 278 | 279
            | 295..=297 | 299 | 307 | 310 | 311 | 322 | 327 | 328
            | 134 | 156 | 174 | 177 | 178 | 180 | 205 | 211 | 214 | 215 | 236
    )
}

/// The name of call `nr` of `abi`, or `None` if that table has no such number.
///
/// An x32 number is looked up with its bit 30, and is no x32 number without it.
#[must_use]
pub fn number_name(abi: Abi, nr: SyscallNr) -> Option<&'static str> {
    match abi {
        Abi::X86_64 => x86_64_name(nr.0),
        Abi::I386 => i386_name(nr.0),
        Abi::X32 if nr.0 & X32_SYSCALL_BIT != 0 => x32_name(nr.0 & !X32_SYSCALL_BIT),
        Abi::Aarch64 => aarch64_name(nr.0),
        Abi::X32 | Abi::Other => None,
    }
}

/// The number of the call `name` on `abi`, or `None` if that ABI has no such call.
///
/// It walks the table, a few microseconds: for start-up, not for events.
#[must_use]
pub fn number(abi: Abi, name: &str) -> Option<SyscallNr> {
    numbers(abi).find(|nr| number_name(abi, *nr) == Some(name))
}

/// The names of all calls of `abi`, in the order of their numbers.
pub fn names(abi: Abi) -> impl Iterator<Item = &'static str> {
    numbers(abi).filter_map(move |nr| number_name(abi, nr))
}

/// The name that is nearest to `name` among those of all ABIs, to suggest where `name` is no call; `None` if nothing
/// is near enough to be meant: more than a third of the letters would have to change.
#[must_use]
pub fn nearest_name(name: &str) -> Option<&'static str> {
    let length = name.chars().count();
    let distance_max = (length / 3).max(1);
    [Abi::X86_64, Abi::Aarch64, Abi::I386]
        .into_iter()
        .flat_map(names)
        // The difference in length is the least that the distance can be. This also bounds the work on a name of
        // absurd length, which no call is near to.
        .filter(|candidate| candidate.len().abs_diff(length) <= distance_max)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Every number that a table of `abi` may hold, gaps included.
pub(super) fn numbers(abi: Abi) -> impl Iterator<Item = SyscallNr> {
    let bit = if abi == Abi::X32 { X32_SYSCALL_BIT } else { 0 };
    (0..SYSCALL_NUMBERS_MAX).map(move |nr| SyscallNr(nr | bit))
}

fn x86_64_name(nr: u32) -> Option<&'static str> {
    match x86_64::Sysno::new(usize::try_from(nr).ok()?) {
        Some(sysno) => Some(sysno.name()),
        None => newer_name(nr),
    }
}

fn i386_name(nr: u32) -> Option<&'static str> {
    // `break` is a keyword of Rust, and the crate leaves it out for that.
    if nr == 17 {
        return Some("break");
    }
    match x86::Sysno::new(usize::try_from(nr).ok()?) {
        Some(sysno) => Some(sysno.name()),
        None => newer_name(nr),
    }
}

fn x32_name(nr: u32) -> Option<&'static str> {
    if let Some(own) = nr.checked_sub(X32_OWN_FIRST) {
        return X32_OWN.get(usize::try_from(own).ok()?).copied();
    }
    if is_x86_64_only(nr) { None } else { x86_64_name(nr) }
}

fn aarch64_name(nr: u32) -> Option<&'static str> {
    match nr {
        // asm-generic/unistd.h calls it `newfstatat` on machines with 64-bit words.
        79 => Some("newfstatat"),
        // The calls with a 64-bit time exist on 32-bit machines only, though the crate lists them.
        403..=423 => None,
        _ => match aarch64::Sysno::new(usize::try_from(nr).ok()?) {
            Some(sysno) => Some(sysno.name()),
            None => newer_name(nr),
        },
    }
}

fn newer_name(nr: u32) -> Option<&'static str> {
    NEWER.iter().find(|(number, _)| *number == nr).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x32(nr: u32) -> SyscallNr {
        SyscallNr(nr | X32_SYSCALL_BIT)
    }

    #[test]
    fn known_calls_have_their_numbers_on_every_abi() {
        let known = [
            ("openat", SyscallNr(257), SyscallNr(295), x32(257), SyscallNr(56)),
            ("execve", SyscallNr(59), SyscallNr(11), x32(520), SyscallNr(221)),
            ("execveat", SyscallNr(322), SyscallNr(358), x32(545), SyscallNr(281)),
            ("connect", SyscallNr(42), SyscallNr(362), x32(42), SyscallNr(203)),
            ("ptrace", SyscallNr(101), SyscallNr(26), x32(521), SyscallNr(117)),
            ("clone", SyscallNr(56), SyscallNr(120), x32(56), SyscallNr(220)),
            ("clone3", SyscallNr(435), SyscallNr(435), x32(435), SyscallNr(435)),
            ("openat2", SyscallNr(437), SyscallNr(437), x32(437), SyscallNr(437)),
            ("sendmsg", SyscallNr(46), SyscallNr(370), x32(518), SyscallNr(211)),
            ("pwritev2", SyscallNr(328), SyscallNr(379), x32(547), SyscallNr(287)),
        ];
        for (name, x86_64, i386, x32, aarch64) in known {
            assert_eq!(number(Abi::X86_64, name), Some(x86_64), "{name}");
            assert_eq!(number(Abi::I386, name), Some(i386), "{name}");
            assert_eq!(number(Abi::X32, name), Some(x32), "{name}");
            assert_eq!(number(Abi::Aarch64, name), Some(aarch64), "{name}");
        }
        assert_eq!(number(Abi::X86_64, "newfstatat"), Some(SyscallNr(262)));
        assert_eq!(number(Abi::Aarch64, "newfstatat"), Some(SyscallNr(79)));
        assert_eq!(number(Abi::I386, "socketcall"), Some(SyscallNr(102)));
        assert_eq!(number(Abi::I386, "break"), Some(SyscallNr(17)));
    }

    #[test]
    fn a_call_since_5_1_has_one_number_on_every_abi() {
        let unified = [
            (424, "pidfd_send_signal"),
            (425, "io_uring_setup"),
            (449, "futex_waitv"),
            (451, "cachestat"),
            (452, "fchmodat2"),
            (453, "map_shadow_stack"),
            (454, "futex_wake"),
            (457, "statmount"),
            (458, "listmount"),
            (459, "lsm_get_self_attr"),
            (462, "mseal"),
            (463, "setxattrat"),
            (467, "open_tree_attr"),
            (468, "file_getattr"),
            (469, "file_setattr"),
            (470, "listns"),
            (471, "rseq_slice_yield"),
        ];
        for abi in Abi::KNOWN {
            let bit = if abi == Abi::X32 { X32_SYSCALL_BIT } else { 0 };
            for (nr, name) in unified {
                assert_eq!(number_name(abi, SyscallNr(nr | bit)), Some(name), "{}", abi.name());
            }
        }
    }

    #[test]
    fn every_number_survives_the_way_to_its_name_and_back() {
        for abi in Abi::KNOWN {
            for nr in numbers(abi) {
                if let Some(name) = number_name(abi, nr) {
                    assert_eq!(number(abi, name), Some(nr), "{name} of {}", abi.name());
                }
            }
        }
    }

    #[test]
    fn a_table_ends_below_the_bound_on_numbers() {
        for abi in Abi::KNOWN {
            let bit = if abi == Abi::X32 { X32_SYSCALL_BIT } else { 0 };
            for nr in SYSCALL_NUMBERS_MAX..4 * SYSCALL_NUMBERS_MAX {
                assert_eq!(number_name(abi, SyscallNr(nr | bit)), None);
            }
        }
    }

    #[test]
    fn an_x32_number_needs_its_bit_and_no_other_abi_takes_it() {
        assert_eq!(number_name(Abi::X32, SyscallNr(257)), None);
        assert_eq!(number_name(Abi::X86_64, x32(257)), None);
        assert_eq!(number_name(Abi::I386, x32(295)), None);
        assert_eq!(number_name(Abi::Aarch64, x32(56)), None);
        assert_eq!(number_name(Abi::X86_64, SyscallNr(520)), None);
        assert_eq!(number_name(Abi::X32, x32(59)), None);
        assert_eq!(number_name(Abi::X32, x32(548)), None);
    }

    #[test]
    fn an_unknown_abi_or_number_has_no_name() {
        assert_eq!(number_name(Abi::Other, SyscallNr(0)), None);
        assert_eq!(number(Abi::Other, "read"), None);
        assert_eq!(names(Abi::Other).count(), 0);
        assert_eq!(number_name(Abi::X86_64, SyscallNr(u32::MAX)), None);
        assert_eq!(number_name(Abi::Aarch64, SyscallNr(403)), None);
    }

    #[test]
    fn a_misspelt_name_suggests_the_call_that_was_meant() {
        assert_eq!(nearest_name("opnat"), Some("openat"));
        assert_eq!(nearest_name("exceve"), Some("execve"));
        assert_eq!(nearest_name("socketcal"), Some("socketcall"));
        assert_eq!(nearest_name("openat"), Some("openat"));
        assert_eq!(nearest_name("completely_else"), None);
        assert_eq!(nearest_name(""), None);
        assert_eq!(nearest_name(&"a".repeat(1 << 20)), None);
    }

    #[test]
    fn the_tables_agree_with_the_kernel_headers_of_this_machine() {
        let headers = [
            (Abi::X86_64, "unistd_64.h"),
            (Abi::I386, "unistd_32.h"),
            (Abi::X32, "unistd_x32.h"),
            (Abi::Aarch64, "unistd_64.h"),
        ];
        for (abi, file) in headers {
            let directory = match abi {
                Abi::Aarch64 => "/usr/include/aarch64-linux-gnu/asm",
                _ => "/usr/include/x86_64-linux-gnu/asm",
            };
            let Ok(text) = std::fs::read_to_string(format!("{directory}/{file}")) else {
                eprintln!("skipped for {}: there is no {directory}/{file}", abi.name());
                continue;
            };
            for (name, nr) in text.lines().filter_map(header_line) {
                assert_eq!(number(abi, name), Some(nr), "{name} of {}", abi.name());
            }
        }
    }

    /// Reads `#define __NR_name 42` and `#define __NR_name (__X32_SYSCALL_BIT + 42)`.
    fn header_line(line: &str) -> Option<(&str, SyscallNr)> {
        let (name, value) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        let nr = match value.strip_prefix("(__X32_SYSCALL_BIT + ") {
            Some(rest) => x32(rest.strip_suffix(')')?.parse().ok()?),
            None => SyscallNr(value.parse().ok()?),
        };
        (name != "syscalls").then_some((name, nr))
    }
}
