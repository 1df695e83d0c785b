//! What calls mean for the life of processes and for sockets, as far as an engine must know it.

use super::capture::clone3_flags;
use crate::{
    abi::{self, SyscallNr},
    event::{RecordFlags, RecordHeader, RecordKind},
    sys::{Pid, RemoteAddr, Tid, clock, ptrace::Call},
};

pub(super) const CLONE_THREAD: u64 = 0x0001_0000;
/// A tracer does not get to see what is made with this flag (clone(2)).
pub(super) const CLONE_UNTRACED: u64 = 0x0080_0000;

/// What a record names where the call itself was not seen: the most general call that can have been made.
pub(super) const CLONE: SyscallNr = native(libc::SYS_clone);
pub(super) const EXECVE: SyscallNr = native(libc::SYS_execve);

#[expect(
    clippy::cast_possible_truncation,
    reason = "system call numbers are below 600, and the test knows these"
)]
const fn native(nr: libc::c_long) -> SyscallNr {
    SyscallNr(nr.cast_unsigned() as u32)
}

pub(super) fn name_of(call: &Call) -> Option<&'static str> {
    abi::number_name(call.abi, call.nr)
}

pub(super) fn is_exec(call: &Call) -> bool {
    matches!(name_of(call), Some("execve" | "execveat"))
}

/// The clone flags that a call which made a thread or process stands for, the exit signal in the low byte.
pub(super) fn clone_flags(tid: Tid, call: &Call) -> Option<u64> {
    let [first, ..] = call.arguments;
    let bits = |flags: i32| u64::from(flags.cast_unsigned());
    match name_of(call)? {
        "clone" => Some(first),
        "clone3" => clone3_flags(tid, RemoteAddr(first)),
        "fork" => Some(bits(libc::SIGCHLD)),
        "vfork" => Some(bits(libc::CLONE_VFORK | libc::CLONE_VM | libc::SIGCHLD)),
        _ => None,
    }
}

/// Whether a call makes a thread or process behind our back. `word` reads the flags where they lie in memory.
pub(super) fn is_untraced_clone(call: &Call, word: impl FnOnce() -> Option<u64>) -> bool {
    let [first, ..] = call.arguments;
    let flags = match name_of(call) {
        Some("clone") => first,
        Some("clone3") => word().unwrap_or(0),
        _ => 0,
    };
    flags & CLONE_UNTRACED != 0
}

pub(super) fn is_fork(call: &Call) -> bool {
    matches!(name_of(call), Some("fork" | "vfork" | "clone" | "clone3"))
}

/// Whether the caller asks to be traced by its parent (PTRACE_TRACEME), which is refused while we are attached to it.
pub(super) fn asks_for_tracer(call: &Call) -> bool {
    let [request, ..] = call.arguments;
    name_of(call) == Some("ptrace") && request == 0
}

/// Whether a call can wait for something that may never happen: all but those that are known to end soon.
///
/// An interruption is not transparent to each of them (signal(7), "Interruption of system calls"), so a call that is not
/// known to be harmless is one of them. Some that never wait for long give up all the same when there is a signal: the
/// verifier of bpf(2) answers EAGAIN, swapoff(2) EINTR.
pub(super) fn may_block(call: &Call) -> bool {
    const SOON: &[&str] = &[
        "acct",
        "adjtimex",
        "bind",
        "brk",
        "capget",
        "capset",
        "chdir",
        "chmod",
        "chown",
        "chroot",
        "clock_settime",
        "creat",
        "dup",
        "dup2",
        "dup3",
        "epoll_create",
        "epoll_create1",
        "epoll_ctl",
        "eventfd",
        "eventfd2",
        "execve",
        "execveat",
        "faccessat",
        "faccessat2",
        "fanotify_init",
        "fanotify_mark",
        "fchdir",
        "fchmod",
        "fchmodat",
        "fchmodat2",
        "fchown",
        "fchownat",
        "fsetxattr",
        "fstat",
        "ftruncate",
        "getcwd",
        "getpid",
        "getppid",
        "getsockname",
        "getsockopt",
        "getuid",
        "inotify_add_watch",
        "inotify_init",
        "inotify_init1",
        "io_uring_setup",
        "kcmp",
        "kexec_file_load",
        "kexec_load",
        "kill",
        "lchown",
        "link",
        "linkat",
        "listen",
        "lsetxattr",
        "lstat",
        "memfd_create",
        "memfd_secret",
        "mkdir",
        "mkdirat",
        "mknod",
        "mknodat",
        "mmap",
        "mprotect",
        "munmap",
        "name_to_handle_at",
        "newfstatat",
        "open",
        "open_by_handle_at",
        "open_tree",
        "openat",
        "openat2",
        "personality",
        "pidfd_getfd",
        "pidfd_open",
        "pidfd_send_signal",
        "pipe",
        "pipe2",
        "pivot_root",
        "prctl",
        "prlimit64",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "quotactl",
        "readlink",
        "readlinkat",
        "reboot",
        "rename",
        "renameat",
        "renameat2",
        "rmdir",
        "seccomp",
        "setdomainname",
        "setfsgid",
        "setfsuid",
        "setgid",
        "setgroups",
        "sethostname",
        "setns",
        "setpgid",
        "setpriority",
        "setregid",
        "setresgid",
        "setresuid",
        "setreuid",
        "setrlimit",
        "setsid",
        "setsockopt",
        "settimeofday",
        "setuid",
        "setxattr",
        "shmat",
        "shmget",
        "signalfd",
        "signalfd4",
        "socket",
        "socketpair",
        "stat",
        "statx",
        "swapon",
        "symlink",
        "symlinkat",
        "tgkill",
        "timerfd_create",
        "tkill",
        "truncate",
        "umask",
        "umount",
        "umount2",
        "unlink",
        "unlinkat",
        "unshare",
        "userfaultfd",
        "utime",
        "utimensat",
        "utimes",
    ];
    name_of(call).is_none_or(|name| SOON.binary_search(&name).is_err())
}

/// The descriptor of a call that blocks only if the socket in its first argument does.
pub(super) fn waiting_socket(call: &Call) -> Option<i32> {
    const NAMES: [&str; 7] = ["accept", "accept4", "connect", "recvfrom", "recvmsg", "sendmsg", "sendto"];
    let [first, ..] = call.arguments;
    NAMES.contains(&name_of(call)?).then(|| low_int(first))
}

/// What the kernel sees of an `int` argument.
pub(super) fn low_int(value: u64) -> i32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX).cast_signed()
}

/// The record of a new thread or process, made by a call that is not known.
fn clone_record(
    now_ns: u64,
    (tid, pid): (Tid, Pid),
    (child, child_pid): (Tid, Pid),
    flags: u64,
) -> RecordHeader {
    let is_thread = child_pid.leader() != child;
    RecordHeader {
        tid: tid.as_u32(),
        pid: pid.as_u32(),
        flags: if is_thread { RecordFlags::THREAD.0 } else { 0 },
        number: CLONE,
        result: i64::from(child.as_u32()),
        arguments: [flags, u64::from(child_pid.as_u32()), 0, 0, 0, 0],
        ..RecordHeader::new(RecordKind::Clone, now_ns)
    }
}

/// The record of a new thread or process that `creator` made by this call, with these flags if they are known.
pub(super) fn seen_clone_record(
    now_ns: u64,
    call: &Call,
    creator: (Tid, Pid),
    child: (Tid, Pid),
    flags: Option<u64>,
) -> RecordHeader {
    let record = clone_record(now_ns, creator, child, flags.unwrap_or(0));
    RecordHeader { abi: call.abi.code(), number: call.nr, ..record }
}

/// The record of one that its creator did not tell of, learnt from itself.
pub(super) fn unseen_clone_record(creator: Pid, child: (Tid, Pid)) -> RecordHeader {
    let record = clone_record(clock::wall_ns(), (creator.leader(), creator), child, 0);
    RecordHeader { flags: record.flags | RecordFlags::FROM_CHILD.0, ..record }
}

/// The descriptor of a call that is, or may be, a socket whose addresses are worth asking for.
pub(super) fn socket_of(call: &Call, result: i64) -> Option<i32> {
    let [first, ..] = call.arguments;
    match name_of(call)? {
        "connect" if result == 0 || result == -i64::from(libc::EINPROGRESS) => Some(low_int(first)),
        "sendto" | "sendmsg" | "listen" if result >= 0 => Some(low_int(first)),
        "accept" | "accept4" | "dup" | "dup2" | "dup3" if result >= 0 => i32::try_from(result).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_not_known_to_end_soon_may_block() {
        let call = |name| Call {
            abi: abi::Abi::NATIVE,
            nr: abi::number(abi::Abi::NATIVE, name).unwrap(),
            arguments: [7, 0, 0, 0, 0, 0],
        };
        for name in ["acct", "openat", "execve", "dup3", "utimes", "socket"] {
            assert!(!may_block(&call(name)), "{name}");
        }
        for name in ["connect", "accept4", "read", "epoll_wait", "flock", "fcntl", "futex", "bpf", "swapoff"]
        {
            assert!(may_block(&call(name)), "{name}");
        }
        assert!(may_block(&Call { nr: SyscallNr(1023), ..call("openat") }));
        assert_eq!((waiting_socket(&call("connect")), waiting_socket(&call("openat"))), (Some(7), None));
    }

    #[test]
    fn calls_that_were_not_seen_have_their_names() {
        assert_eq!(abi::number_name(abi::Abi::NATIVE, CLONE), Some("clone"));
        assert_eq!(abi::number_name(abi::Abi::NATIVE, EXECVE), Some("execve"));
    }
}
