//! The events that creance can tell Falco, and what each parameter of theirs is.
//!
//! The one table: the encoder checks every event against it, because a wrong one ends Falco. The source is the event
//! table of falcosecurity/libs (`driver/event_table.c`) at event schema 4.5.1, libs 0.25, which Falco 0.44 carries.
//! A later layout only ever appends parameters, and a reader that knows fewer ignores the rest, so always take the
//! newest. Which parameters may be empty is read off the parsers of libsinsp (`userspace/libsinsp/parsers.cpp`) at
//! 0.23 and 0.25; where they read a parameter without a look at its length, it is never empty here.

/// The type of a parameter: the names of libs are these with `PT_` before them. Numbers are in the machine's byte
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParamType {
    /// A file descriptor, or a negative error: `i64`.
    Fd,
    /// 0 or a negative error: `i64`.
    Errno,
    /// A thread or process, or a negative error: `i64`.
    Pid,
    /// `i32`.
    Int32,
    /// `i64`.
    Int64,
    /// `u8`.
    Uint8,
    /// `u32`.
    Uint32,
    /// `u64`.
    Uint64,
    /// A user: `u32`, all ones for none.
    Uid,
    /// A group: `u32`, all ones for none.
    Gid,
    /// Permission bits in Falco's numbering: `u32`.
    Mode,
    /// Nanoseconds since 1970: `u64`.
    AbsTime,
    /// A signal: `u8`.
    SigType,
    /// Flags in Falco's numbering: `u16`.
    Flags16,
    /// Flags in Falco's numbering: `u32`.
    Flags32,
    /// One choice in Falco's numbering: `u8`.
    EnumFlags8,
    /// One choice in Falco's numbering: `u16`.
    EnumFlags16,
    /// One choice in Falco's numbering: `u32`.
    EnumFlags32,
    /// A string with its NUL.
    CharBuf,
    /// A path with its NUL, relative to the current directory.
    FsPath,
    /// A path with its NUL, relative to the directory descriptor in another parameter.
    FsRelPath,
    /// Bytes.
    ByteBuf,
    /// A packed socket address.
    SockAddr,
    /// A packed pair of socket addresses.
    SockTuple,
    /// An argument of ptrace(2), of one of several types: a `u8` that tells which, and the value.
    DynPtrace,
    /// An option of a socket, likewise.
    DynOption,
}

/// Whether a parameter may have length 0, which says that nothing is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptiness {
    /// Never: libsinsp reads it unasked.
    Never,
    /// Yes.
    Alone,
    /// Only together with all others of this group, 1 to 7: libsinsp looks at one of them and reads all.
    Group(u8),
}

impl Emptiness {
    const fn of_group(group: u8) -> Self {
        if group == 0 { Self::Alone } else { Self::Group(group) }
    }
}

/// One parameter of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name in rules: `evt.arg.NAME`.
    pub name: &'static str,
    /// Its type.
    pub kind: ParamType,
    /// Whether it may be empty.
    pub emptiness: Emptiness,
}

/// An event: its number and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// Its name in libs: `PPME_*`.
    pub name: &'static str,
    /// Its number. Enter events are even, exit events odd.
    pub code: u16,
    /// Its parameters, in order.
    pub params: &'static [Param],
}

impl EventInfo {
    /// Whether it tells the end of a call. All events of calls here do: Falco needs no others.
    #[must_use]
    pub const fn is_exit(&self) -> bool {
        !self.code.is_multiple_of(2)
    }
}

/// The event with this number; `None` if the table has none.
#[must_use]
pub fn by_code(code: u16) -> Option<&'static EventInfo> {
    ALL.iter().copied().find(|event| event.code == code)
}

/// Writes parameters: `name: Type`, with `?0` after it if it may be empty, `?N` if only with all others of group N.
macro_rules! params {
    ($($name:ident: $kind:ident $(? $group:literal)?),*) => {
        [$(Param {
            name: stringify!($name),
            kind: ParamType::$kind,
            emptiness: params!(@emptiness $($group)?),
        }),*]
    };
    (@emptiness) => { Emptiness::Never };
    (@emptiness $group:literal) => { Emptiness::of_group($group) };
}

/// Writes the table: `NAME = number, "name in libs" (parameters);`, or with a list of parameters that several share.
macro_rules! events {
    (@rows [$($done:ident)*]) => {
        /// Every event of the table.
        pub const ALL: &[&EventInfo] = &[$(&$done),*];
    };
    (@rows [$($done:ident)*] $event:ident = $code:literal, $name:literal: $params:expr; $($rest:tt)*) => {
        #[doc = concat!("`", $name, "`.")]
        pub static $event: EventInfo = EventInfo { name: $name, code: $code, params: $params };
        events!(@rows [$($done)* $event] $($rest)*);
    };
    (@rows [$($done:ident)*] $event:ident = $code:literal, $name:literal ($($params:tt)*); $($rest:tt)*) => {
        #[doc = concat!("`", $name, "`.")]
        pub static $event: EventInfo =
            EventInfo { name: $name, code: $code, params: &params!($($params)*) };
        events!(@rows [$($done)* $event] $($rest)*);
    };
}

const CLONE: [Param; 21] = params! {
    res: Pid, exe: CharBuf ?0, args: ByteBuf ?0, tid: Pid, pid: Pid, ptid: Pid, cwd: CharBuf ?0, fdlimit: Int64,
    pgft_maj: Uint64 ?1, pgft_min: Uint64 ?1, vm_size: Uint32 ?1, vm_rss: Uint32 ?1, vm_swap: Uint32 ?1,
    comm: CharBuf ?0, cgroups: ByteBuf ?0, flags: Flags32, uid: Uint32, gid: Uint32,
    vtid: Pid ?2, vpid: Pid ?2, pidns_init_start_ts: Uint64 ?0
};

const EXECVE: [Param; 31] = params! {
    res: Errno, exe: CharBuf ?0, args: ByteBuf ?0, tid: Pid, pid: Pid, ptid: Pid, cwd: CharBuf ?0, fdlimit: Uint64,
    pgft_maj: Uint64 ?1, pgft_min: Uint64 ?1, vm_size: Uint32 ?1, vm_rss: Uint32 ?1, vm_swap: Uint32 ?1,
    comm: CharBuf ?0, cgroups: ByteBuf ?0, env: ByteBuf ?0, tty: Uint32 ?0, vpgid: Pid ?0, loginuid: Uid ?0,
    flags: Flags32 ?0, cap_inheritable: Uint64 ?2, cap_permitted: Uint64 ?2, cap_effective: Uint64 ?2,
    exe_ino: Uint64 ?3, exe_ino_ctime: AbsTime ?3, exe_ino_mtime: AbsTime ?3, uid: Uid ?0,
    trusted_exepath: FsPath ?0, pgid: Pid ?0, gid: Gid ?0, filename: FsPath ?0
};

/// `execveat` lacks the last parameter of `execve`.
const fn without_last(params: &'static [Param]) -> &'static [Param] {
    match params.split_last() {
        Some((_, rest)) => rest,
        None => params,
    }
}

events! { @rows []
    OPEN_X = 3, "PPME_SYSCALL_OPEN_X" (
        fd: Fd, name: FsPath ?0, flags: Flags32, mode: Uint32, dev: Uint32 ?1, ino: Uint64 ?1);
    CLOSE_X = 5, "PPME_SYSCALL_CLOSE_X" (res: Errno, fd: Fd);
    SOCKET_X = 19, "PPME_SOCKET_SOCKET_X" (
        fd: Fd, domain: EnumFlags32, type: Uint32, proto: Uint32, flags: Flags32);
    BIND_X = 21, "PPME_SOCKET_BIND_X" (res: Errno, addr: SockAddr ?0, fd: Fd);
    CONNECT_X = 23, "PPME_SOCKET_CONNECT_X" (res: Errno, tuple: SockTuple, fd: Fd, addr: SockAddr ?0);
    LISTEN_X = 25, "PPME_SOCKET_LISTEN_X" (res: Errno, fd: Fd, backlog: Int32);
    SENDTO_X = 31, "PPME_SOCKET_SENDTO_X" (
        res: Errno, data: ByteBuf ?0, fd: Fd, size: Uint32, tuple: SockTuple);
    RECVFROM_X = 35, "PPME_SOCKET_RECVFROM_X" (
        res: Errno, data: ByteBuf ?0, tuple: SockTuple, fd: Fd, size: Uint32);
    SHUTDOWN_X = 37, "PPME_SOCKET_SHUTDOWN_X" (res: Errno, fd: Fd, how: EnumFlags8);
    SOCKETPAIR_X = 43, "PPME_SOCKET_SOCKETPAIR_X" (
        res: Errno, fd1: Fd, fd2: Fd, source: Uint64, peer: Uint64, domain: EnumFlags32, type: Uint32,
        proto: Uint32);
    GETSOCKOPT_X = 47, "PPME_SOCKET_GETSOCKOPT_X" (
        res: Errno, fd: Fd, level: EnumFlags8, optname: EnumFlags8, val: DynOption, optlen: Uint32);
    SENDMSG_X = 49, "PPME_SOCKET_SENDMSG_X" (
        res: Errno, data: ByteBuf ?0, fd: Fd, size: Uint32, tuple: SockTuple);
    SENDMMSG_X = 51, "PPME_SOCKET_SENDMMSG_X" (
        res: Errno, fd: Fd, size: Uint32, data: ByteBuf ?0, tuple: SockTuple);
    RECVMSG_X = 53, "PPME_SOCKET_RECVMSG_X" (
        res: Errno, size: Uint32, data: ByteBuf ?0, tuple: SockTuple, msgcontrol: ByteBuf ?0, fd: Fd);
    RECVMMSG_X = 55, "PPME_SOCKET_RECVMMSG_X" (
        res: Errno, fd: Fd, size: Uint32, data: ByteBuf ?0, tuple: SockTuple, msgcontrol: ByteBuf ?0);
    CREAT_X = 59, "PPME_SYSCALL_CREAT_X" (
        fd: Fd, name: FsPath ?0, mode: Uint32, dev: Uint32 ?1, ino: Uint64 ?1, creat_flags: Flags16);
    PIPE_X = 61, "PPME_SYSCALL_PIPE_X" (res: Errno, fd1: Fd, fd2: Fd, ino: Uint64);
    EVENTFD_X = 63, "PPME_SYSCALL_EVENTFD_X" (res: Fd, initval: Uint64, flags: Uint32);
    GETCWD_X = 93, "PPME_SYSCALL_GETCWD_X" (res: Errno, path: CharBuf ?0);
    CHDIR_X = 95, "PPME_SYSCALL_CHDIR_X" (res: Errno, path: CharBuf ?0);
    FCHDIR_X = 97, "PPME_SYSCALL_FCHDIR_X" (res: Errno, fd: Fd);
    SIGNALFD_X = 127, "PPME_SYSCALL_SIGNALFD_X" (res: Fd, fd: Fd, mask: Uint32, flags: Uint8);
    TIMERFD_CREATE_X = 137, "PPME_SYSCALL_TIMERFD_CREATE_X" (res: Fd, clockid: Uint8, flags: Uint8);
    INOTIFY_INIT_X = 139, "PPME_SYSCALL_INOTIFY_INIT_X" (res: Fd, flags: Uint8);
    SETRLIMIT_X = 143, "PPME_SYSCALL_SETRLIMIT_X" (
        res: Errno, cur: Int64, max: Int64, resource: EnumFlags8);
    PRLIMIT_X = 145, "PPME_SYSCALL_PRLIMIT_X" (
        res: Errno, newcur: Int64, newmax: Int64, oldcur: Int64, oldmax: Int64, pid: Int64,
        resource: EnumFlags8);
    DROP_E = 148, "PPME_DROP_E" (ratio: Uint32);
    FCNTL_X = 151, "PPME_SYSCALL_FCNTL_X" (res: Fd, fd: Fd, cmd: EnumFlags8, arg: Uint64);
    PTRACE_X = 169, "PPME_SYSCALL_PTRACE_X" (
        res: Errno, addr: DynPtrace, data: DynPtrace, request: EnumFlags16, pid: Pid);
    RENAME_X = 175, "PPME_SYSCALL_RENAME_X" (res: Errno, oldpath: FsPath ?0, newpath: FsPath ?0);
    RENAMEAT_X = 177, "PPME_SYSCALL_RENAMEAT_X" (
        res: Errno, olddirfd: Fd, oldpath: FsRelPath ?0, newdirfd: Fd, newpath: FsRelPath ?0);
    SYMLINK_X = 179, "PPME_SYSCALL_SYMLINK_X" (res: Errno, target: CharBuf ?0, linkpath: FsPath ?0);
    SYMLINKAT_X = 181, "PPME_SYSCALL_SYMLINKAT_X" (
        res: Errno, target: CharBuf ?0, linkdirfd: Fd, linkpath: FsRelPath ?0);
    PROCEXIT_1_E = 186, "PPME_PROCEXIT_1_E" (
        status: Errno, ret: Errno, sig: SigType, core: Uint8, reaper_tid: Pid);
    SETRESUID_X = 193, "PPME_SYSCALL_SETRESUID_X" (res: Errno, ruid: Uid, euid: Uid, suid: Uid);
    SETRESGID_X = 195, "PPME_SYSCALL_SETRESGID_X" (res: Errno, rgid: Gid, egid: Gid, sgid: Gid);
    SETUID_X = 199, "PPME_SYSCALL_SETUID_X" (res: Errno, uid: Uid);
    SETGID_X = 201, "PPME_SYSCALL_SETGID_X" (res: Errno, gid: Gid);
    CLONE_20_X = 223, "PPME_SYSCALL_CLONE_20_X": &CLONE;
    FORK_20_X = 225, "PPME_SYSCALL_FORK_20_X": &CLONE;
    VFORK_20_X = 227, "PPME_SYSCALL_VFORK_20_X": &CLONE;
    SETNS_X = 241, "PPME_SYSCALL_SETNS_X" (res: Errno, fd: Fd, nstype: Flags32);
    ACCEPT_5_X = 247, "PPME_SOCKET_ACCEPT_5_X" (
        fd: Fd, tuple: SockTuple ?0, queuepct: Uint8, queuelen: Uint32, queuemax: Uint32);
    MOUNT_X = 257, "PPME_SYSCALL_MOUNT_X" (
        res: Errno, dev: CharBuf ?0, dir: FsPath ?0, type: CharBuf ?0, flags: Flags32);
    CHROOT_X = 267, "PPME_SYSCALL_CHROOT_X" (res: Errno, path: FsPath ?0);
    SETSID_X = 275, "PPME_SYSCALL_SETSID_X" (res: Pid);
    MKDIR_2_X = 277, "PPME_SYSCALL_MKDIR_2_X" (res: Errno, path: FsPath ?0, mode: Uint32);
    RMDIR_2_X = 279, "PPME_SYSCALL_RMDIR_2_X" (res: Errno, path: FsPath ?0);
    UNSHARE_X = 285, "PPME_SYSCALL_UNSHARE_X" (res: Errno, flags: Flags32);
    EXECVE_19_X = 293, "PPME_SYSCALL_EXECVE_19_X": &EXECVE;
    SETPGID_X = 295, "PPME_SYSCALL_SETPGID_X" (res: Errno, pid: Pid, pgid: Pid);
    UNLINK_2_X = 301, "PPME_SYSCALL_UNLINK_2_X" (res: Errno, path: FsPath ?0);
    UNLINKAT_2_X = 303, "PPME_SYSCALL_UNLINKAT_2_X" (
        res: Errno, dirfd: Fd, name: FsRelPath ?0, flags: Flags32);
    MKDIRAT_X = 305, "PPME_SYSCALL_MKDIRAT_X" (res: Errno, dirfd: Fd, path: FsRelPath ?0, mode: Uint32);
    OPENAT_2_X = 307, "PPME_SYSCALL_OPENAT_2_X" (
        fd: Fd, dirfd: Fd, name: FsRelPath ?0, flags: Flags32, mode: Uint32, dev: Uint32 ?1,
        ino: Uint64 ?1);
    LINK_2_X = 309, "PPME_SYSCALL_LINK_2_X" (res: Errno, oldpath: FsPath ?0, newpath: FsPath ?0);
    LINKAT_2_X = 311, "PPME_SYSCALL_LINKAT_2_X" (
        res: Errno, olddir: Fd, oldpath: FsRelPath ?0, newdir: Fd, newpath: FsRelPath ?0, flags: Flags32);
    FCHMODAT_X = 313, "PPME_SYSCALL_FCHMODAT_X" (res: Errno, dirfd: Fd, filename: FsRelPath ?0, mode: Mode);
    CHMOD_X = 315, "PPME_SYSCALL_CHMOD_X" (res: Errno, filename: FsPath ?0, mode: Mode);
    FCHMOD_X = 317, "PPME_SYSCALL_FCHMOD_X" (res: Errno, fd: Fd, mode: Mode);
    RENAMEAT2_X = 319, "PPME_SYSCALL_RENAMEAT2_X" (
        res: Errno, olddirfd: Fd, oldpath: FsRelPath ?0, newdirfd: Fd, newpath: FsRelPath ?0,
        flags: Flags32);
    USERFAULTFD_X = 321, "PPME_SYSCALL_USERFAULTFD_X" (res: Errno, flags: Flags32);
    OPENAT2_X = 327, "PPME_SYSCALL_OPENAT2_X" (
        fd: Fd, dirfd: Fd, name: FsRelPath ?0, flags: Flags32, mode: Uint32, resolve: Flags32,
        dev: Uint32 ?1, ino: Uint64 ?1);
    EXECVEAT_X = 331, "PPME_SYSCALL_EXECVEAT_X": without_last(&EXECVE);
    CLONE3_X = 335, "PPME_SYSCALL_CLONE3_X": &CLONE;
    OPEN_BY_HANDLE_AT_X = 337, "PPME_SYSCALL_OPEN_BY_HANDLE_AT_X" (
        fd: Fd, mountfd: Fd, flags: Flags32, path: FsPath ?0, dev: Uint32, ino: Uint64);
    IO_URING_SETUP_X = 339, "PPME_SYSCALL_IO_URING_SETUP_X" (
        res: Errno, entries: Uint32, sq_entries: Uint32, cq_entries: Uint32, flags: Flags32,
        sq_thread_cpu: Uint32, sq_thread_idle: Uint32, features: Flags32);
    CAPSET_X = 353, "PPME_SYSCALL_CAPSET_X" (
        res: Errno, cap_inheritable: Uint64, cap_permitted: Uint64, cap_effective: Uint64);
    DUP2_X = 363, "PPME_SYSCALL_DUP2_X" (res: Fd, oldfd: Fd, newfd: Fd);
    DUP3_X = 365, "PPME_SYSCALL_DUP3_X" (res: Fd, oldfd: Fd, newfd: Fd, flags: Flags32);
    DUP_1_X = 367, "PPME_SYSCALL_DUP_1_X" (res: Fd, oldfd: Fd);
    BPF_2_X = 369, "PPME_SYSCALL_BPF_2_X" (fd: Fd, cmd: EnumFlags32);
    EPOLL_CREATE_X = 375, "PPME_SYSCALL_EPOLL_CREATE_X" (res: Errno, size: Int32);
    EPOLL_CREATE1_X = 377, "PPME_SYSCALL_EPOLL_CREATE1_X" (res: Errno, flags: Flags32);
    ACCEPT4_6_X = 389, "PPME_SOCKET_ACCEPT4_6_X" (
        fd: Fd, tuple: SockTuple ?0, queuepct: Uint8, queuelen: Uint32, queuemax: Uint32, flags: Int32);
    UMOUNT2_X = 391, "PPME_SYSCALL_UMOUNT2_X" (res: Errno, name: FsPath ?0, flags: Flags32);
    PIPE2_X = 393, "PPME_SYSCALL_PIPE2_X" (res: Errno, fd1: Fd, fd2: Fd, ino: Uint64, flags: Flags32);
    INOTIFY_INIT1_X = 395, "PPME_SYSCALL_INOTIFY_INIT1_X" (res: Fd, flags: Flags16);
    EVENTFD2_X = 397, "PPME_SYSCALL_EVENTFD2_X" (res: Fd, flags: Flags16, initval: Uint64);
    SIGNALFD4_X = 399, "PPME_SYSCALL_SIGNALFD4_X" (res: Fd, flags: Flags16, fd: Fd, mask: Uint32);
    PRCTL_X = 401, "PPME_SYSCALL_PRCTL_X" (
        res: Errno, option: EnumFlags32, arg2_str: CharBuf ?0, arg2_int: Int64);
    MEMFD_CREATE_X = 405, "PPME_SYSCALL_MEMFD_CREATE_X" (fd: Fd, name: CharBuf ?0, flags: Flags32);
    PIDFD_GETFD_X = 407, "PPME_SYSCALL_PIDFD_GETFD_X" (fd: Fd, pid_fd: Fd, target_fd: Fd, flags: Uint32);
    PIDFD_OPEN_X = 409, "PPME_SYSCALL_PIDFD_OPEN_X" (fd: Fd, pid: Pid, flags: Flags32);
    INIT_MODULE_X = 411, "PPME_SYSCALL_INIT_MODULE_X" (
        res: Errno, img: ByteBuf ?0, length: Uint64, uargs: CharBuf ?0);
    FINIT_MODULE_X = 413, "PPME_SYSCALL_FINIT_MODULE_X" (
        res: Errno, fd: Fd, uargs: CharBuf ?0, flags: Flags32);
    SETREUID_X = 427, "PPME_SYSCALL_SETREUID_X" (res: Errno, ruid: Uid, euid: Uid);
    SETREGID_X = 429, "PPME_SYSCALL_SETREGID_X" (res: Errno, rgid: Uid, egid: Uid);
    CLOSE_RANGE_X = 451, "PPME_SYSCALL_CLOSE_RANGE_X" (
        res: Errno, first: Uint32, last: Uint32, flags: Flags32);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;

    #[test]
    fn every_event_stands_in_the_table_once_with_the_result_first() {
        let mut codes: Vec<_> = ALL.iter().map(|event| event.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
        for event in ALL {
            assert!(event.params.len() <= 32, "libsinsp takes at most 32 parameters");
            assert_eq!(by_code(event.code), Some(*event));
            let first = event.params.first().unwrap();
            assert_eq!(event.is_exit(), event.name.ends_with("_X"));
            let is_result = matches!(first.kind, ParamType::Fd | ParamType::Errno | ParamType::Pid);
            assert!(!event.is_exit() || is_result && first.emptiness == Emptiness::Never, "{}", event.name);
        }
    }

    /// The table of the real thing is a file with the columns `event`, `event_code`, `idx`, `param` and `type`. It is
    /// no part of this repository; the environment names it where it is at hand.
    #[test]
    fn the_table_is_that_of_falco() {
        let Some(path) = std::env::var_os("CREANCE_FALCO_EVENT_TABLE") else {
            println!("skipped: CREANCE_FALCO_EVENT_TABLE names no event table to compare with");
            return;
        };
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let column = |name| head.iter().position(|column| *column == name).unwrap();
        let [event, code, idx, param, kind] = ["event", "event_code", "idx", "param", "type"].map(column);
        let mut theirs: BTreeMap<(String, u16), BTreeMap<usize, (String, String)>> = BTreeMap::new();
        for line in lines {
            let params = theirs.entry((line[event].to_owned(), line[code].parse().unwrap())).or_default();
            let kind = line[kind].trim_start_matches("PT_").to_owned();
            params.insert(line[idx].parse().unwrap(), (line[param].to_owned(), kind));
        }
        for ((name, code), params) in &theirs {
            let ours = by_code(*code).unwrap_or_else(|| panic!("{name} is missing"));
            let kind = |kind| match kind {
                // Which types it may be stands in another table there.
                ParamType::DynPtrace | ParamType::DynOption => "DYN".to_owned(),
                kind => format!("{kind:?}").to_uppercase(),
            };
            let ours_params = ours.params.iter().map(|param| (param.name.to_owned(), kind(param.kind)));
            assert_eq!(ours.name, name);
            assert!(ours_params.eq(params.values().cloned()), "{name}: {params:?}");
        }
        // What the file lacks is an event of libsinsp itself, not of a call.
        let extra = ALL.iter().filter(|ours| !theirs.keys().any(|(_, code)| *code == ours.code));
        assert_eq!(extra.map(|event| event.name).collect::<Vec<_>>(), ["PPME_DROP_E"]);
    }
}
