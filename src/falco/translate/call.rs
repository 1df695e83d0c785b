//! Which event a call is told as, and one call's record with its arguments at hand.

use crate::{
    abi::{self, Abi, SyscallNr, X32_SYSCALL_BIT},
    event::{CaptureFlags, CaptureKind, Record},
    falco::encode::Text,
    limits::SYSCALL_NUMBERS_MAX,
};

/// `AT_FDCWD` (linux/fcntl.h): a path starts from the current directory.
pub(super) const AT_FDCWD: i32 = -100;

/// Defines [`CallKind`] with the names of the calls that each kind stands for.
macro_rules! call_kinds {
    ($($kind:ident: $($name:literal)|+;)+) => {
        /// A call that has an event of Falco's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum CallKind {
            /// A call that has none, or whose event needs facts that no record holds.
            Other,
            $($kind),+
        }

        impl CallKind {
            fn of_name(name: &str) -> Self {
                match name {
                    $($($name)|+ => Self::$kind,)+
                    _ => Self::Other,
                }
            }
        }
    };
}

call_kinds! {
    Open: "open"; Openat: "openat"; Openat2: "openat2"; Creat: "creat"; OpenByHandleAt: "open_by_handle_at";
    Memfd: "memfd_create";
    Link: "link"; Linkat: "linkat"; Symlink: "symlink"; Symlinkat: "symlinkat";
    Unlink: "unlink"; Unlinkat: "unlinkat"; Rmdir: "rmdir"; Mkdir: "mkdir"; Mkdirat: "mkdirat";
    Rename: "rename"; Renameat: "renameat"; Renameat2: "renameat2";
    Chmod: "chmod"; Fchmod: "fchmod"; Fchmodat: "fchmodat" | "fchmodat2";
    Chdir: "chdir"; Fchdir: "fchdir"; Chroot: "chroot"; Mount: "mount"; Umount2: "umount2";
    Close: "close"; Dup: "dup"; Dup2: "dup2"; Dup3: "dup3"; Fcntl: "fcntl" | "fcntl64";
    EpollCreate: "epoll_create"; EpollCreate1: "epoll_create1"; Eventfd: "eventfd"; Eventfd2: "eventfd2";
    InotifyInit: "inotify_init"; InotifyInit1: "inotify_init1"; Signalfd: "signalfd"; Signalfd4: "signalfd4";
    TimerfdCreate: "timerfd_create"; Userfaultfd: "userfaultfd"; IoUringSetup: "io_uring_setup";
    PidfdOpen: "pidfd_open"; PidfdGetfd: "pidfd_getfd";
    Socket: "socket"; Bind: "bind"; Connect: "connect"; Listen: "listen"; Accept: "accept"; Accept4: "accept4";
    Sendto: "sendto"; Sendmsg: "sendmsg"; Sendmmsg: "sendmmsg"; Recvfrom: "recvfrom"; Recvmsg: "recvmsg";
    Recvmmsg: "recvmmsg" | "recvmmsg_time64"; Shutdown: "shutdown";
    Setuid: "setuid" | "setuid32"; Setgid: "setgid" | "setgid32";
    Setreuid: "setreuid" | "setreuid32"; Setregid: "setregid" | "setregid32";
    Setresuid: "setresuid" | "setresuid32"; Setresgid: "setresgid" | "setresgid32";
    Setsid: "setsid"; Setpgid: "setpgid"; Capset: "capset"; Prctl: "prctl";
    Setrlimit: "setrlimit"; Prlimit: "prlimit64";
    Unshare: "unshare"; Setns: "setns"; Ptrace: "ptrace"; Bpf: "bpf";
    InitModule: "init_module"; FinitModule: "finit_module";
    Execve: "execve"; Execveat: "execveat";
    Clone: "clone"; Clone3: "clone3"; Fork: "fork"; Vfork: "vfork";
}

impl CallKind {
    /// The result that a call is taken to have had which could not be followed to its end: success, since a rule might
    /// match that. A descriptor that nobody knows is told as one that no process has. `None` for a call of which nothing
    /// can be told without its result.
    pub(super) const fn assumed_result(self) -> Option<i64> {
        const NO_DESCRIPTOR: i64 = i32::MAX as i64;
        match self {
            Self::Open | Self::Openat | Self::Openat2 | Self::Creat | Self::OpenByHandleAt | Self::Memfd => {
                Some(NO_DESCRIPTOR)
            }
            Self::Link
            | Self::Linkat
            | Self::Symlink
            | Self::Symlinkat
            | Self::Unlink
            | Self::Unlinkat
            | Self::Rmdir
            | Self::Mkdir
            | Self::Mkdirat
            | Self::Rename
            | Self::Renameat
            | Self::Renameat2
            | Self::Chmod
            | Self::Fchmod
            | Self::Fchmodat
            | Self::Chroot
            | Self::Mount
            | Self::Umount2
            | Self::Connect
            | Self::Ptrace
            | Self::Bpf
            | Self::InitModule
            | Self::FinitModule => Some(0),
            _ => None,
        }
    }
}

/// The kind of each number, per ABI, so that no name is compared on the path of an event.
#[derive(Debug)]
pub(super) struct CallKinds {
    tables: [Box<[CallKind]>; Abi::KNOWN.len()],
}

impl CallKinds {
    pub(super) fn new() -> Self {
        Self {
            tables: Abi::KNOWN.map(|abi| {
                let bit = if abi == Abi::X32 { X32_SYSCALL_BIT } else { 0 };
                let kind = |number| abi::number_name(abi, SyscallNr(number | bit)).map(CallKind::of_name);
                (0..SYSCALL_NUMBERS_MAX).map(|number| kind(number).unwrap_or(CallKind::Other)).collect()
            }),
        }
    }

    pub(super) fn of(&self, record: &Record<'_>) -> CallKind {
        let table = Abi::KNOWN.iter().zip(&self.tables).find(|(abi, _)| **abi == record.abi());
        let number = record.header().number.0;
        let number = if record.abi() == Abi::X32 { number & !X32_SYSCALL_BIT } else { number };
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        table.and_then(|(_, kinds)| kinds.get(index)).copied().unwrap_or(CallKind::Other)
    }
}

/// A record of a call with its arguments, and who made it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'r, 'a> {
    pub(super) record: &'r Record<'a>,
    pub(super) pid: u32,
    /// The value that it returned, or `-errno`.
    pub(super) result: i64,
}

impl<'a> Call<'_, 'a> {
    pub(super) fn tid(&self) -> i64 {
        i64::from(self.record.header().tid)
    }

    pub(super) fn ts(&self) -> u64 {
        self.record.header().exit_ns
    }

    pub(super) const fn result(&self) -> i64 {
        self.result
    }

    /// Whether the call did what it was asked to.
    pub(super) const fn has_succeeded(&self) -> bool {
        self.result() >= 0
    }

    pub(super) const fn abi(&self) -> Abi {
        self.record.abi()
    }

    /// An argument as wide as the register is on its ABI.
    pub(super) fn word(&self, index: u8) -> u64 {
        let raw = self.record.header().arguments.get(usize::from(index)).copied().unwrap_or(0);
        if self.abi() == Abi::I386 { raw & 0xffff_ffff } else { raw }
    }

    /// The low half of an argument, which is all that the kernel looks at of an `int`.
    pub(super) fn uint(&self, index: u8) -> u32 {
        u32::try_from(self.word(index) & 0xffff_ffff).unwrap_or_default()
    }

    pub(super) fn int(&self, index: u8) -> i32 {
        self.uint(index).cast_signed()
    }

    /// A file descriptor, a process, or another `int` that Falco has as `i64`.
    pub(super) fn long(&self, index: u8) -> i64 {
        i64::from(self.int(index))
    }

    pub(super) fn data(&self, kind: CaptureKind, index: u8) -> Option<&'a [u8]> {
        self.record.capture_of(kind, index).map(|capture| capture.data)
    }

    /// A string that is no path.
    pub(super) fn text(&self, index: u8) -> Text<'a> {
        self.data(CaptureKind::Text, index).map_or(Text::MISSING, Text::bounded)
    }

    /// A path as the program wrote it: Falco puts a relative one under the current directory, of which it was told
    /// just before.
    pub(super) fn path(&self, index: u8) -> Text<'a> {
        self.data(CaptureKind::Path, index).map_or(Text::MISSING, Text::bounded)
    }

    /// A path that starts from the directory descriptor in the argument before it. Where that is not the current
    /// directory the path is made absolute, since Falco does not know the descriptor.
    pub(super) fn path_at(&self, index: u8) -> Text<'a> {
        let Some(path) = self.data(CaptureKind::Path, index) else { return Text::MISSING };
        let before = index.wrapping_sub(1);
        match self.data(CaptureKind::FdPath, before).filter(|directory| directory.starts_with(b"/")) {
            Some(directory) if !path.starts_with(b"/") && self.int(before) != AT_FDCWD => {
                if path.is_empty() {
                    Text::bounded(directory)
                } else {
                    Text::under(directory, path)
                }
            }
            _ => Text::bounded(path),
        }
    }

    /// The current directory that a path of the call starts from, or that the new program starts in; `None` if no
    /// record tells it or it is no place in the file tree.
    pub(super) fn cwd(&self) -> Option<&'a [u8]> {
        let is_cwd = |kind| matches!(kind, CaptureKind::Cwd | CaptureKind::ProcCwd);
        let capture = self.record.captures().find(|capture| is_cwd(capture.kind))?;
        let is_whole = !capture.flags.contains(CaptureFlags::TRUNCATED);
        Some(capture.data).filter(|cwd| is_whole && cwd.starts_with(b"/") && !cwd.contains(&0))
    }

    /// The 32-bit number at `at` in the structure that an argument points to.
    pub(super) fn field32(&self, index: u8, at: usize) -> Option<u32> {
        let field = self.data(CaptureKind::Struct, index)?.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*field))
    }

    /// The 64-bit number at `at` in the structure that an argument points to.
    pub(super) fn field64(&self, index: u8, at: usize) -> Option<u64> {
        let field = self.data(CaptureKind::Struct, index)?.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*field))
    }
}
