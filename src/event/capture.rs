//! The variable parts of a record: copies of memory, links and texts, each with what it is.

use std::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

/// Bytes of a [`CaptureHeader`].
pub const CAPTURE_HEADER_BYTES: usize = size_of::<CaptureHeader>();

/// The 8 bytes before a capture's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CaptureHeader {
    /// A [`CaptureKind`] code.
    pub kind: u16,
    /// The index of the argument that it belongs to, 0 to 5; 0 where it belongs to none.
    pub argument: u8,
    /// [`CaptureFlags`].
    pub flags: u8,
    /// Bytes of data that follow, without the padding to 8.
    pub len: u32,
}

const _: () = assert!(
    size_of::<CaptureHeader>() == 8
        && offset_of!(CaptureHeader, kind) == 0
        && offset_of!(CaptureHeader, argument) == 2
        && offset_of!(CaptureHeader, flags) == 3
        && offset_of!(CaptureHeader, len) == 4
);

macro_rules! capture_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What the bytes of a capture are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CaptureKind {
            $($(#[$doc])* $name,)*
        }

        impl CaptureKind {
            /// Every kind of version 1.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code in the wire format.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The kind of a code; `None` for a code that version 1 does not define.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

capture_kinds! {
    /// A path in the thread's memory, without its NUL, just as the program wrote it.
    Path = 1,
    /// Another string in the thread's memory, without its NUL: no path to resolve.
    Text = 2,
    /// The current directory that the path of this argument is relative to: the text of `/proc/TID/cwd`.
    Cwd = 3,
    /// What the descriptor in this argument is open on, for one a directory that a path starts from: the text of
    /// `/proc/TID/fd/N`.
    FdPath = 4,
    /// A `struct sockaddr` in the thread's memory.
    Sockaddr = 5,
    /// The socket's own address after the call, as getsockname(2) tells it: a `struct sockaddr`.
    SocketLocal = 6,
    /// The socket's peer after the call, as getpeername(2) tells it: a `struct sockaddr`.
    SocketPeer = 7,
    /// The strings of an argument vector, each ended by a NUL.
    Argv = 8,
    /// The strings of an environment, each ended by a NUL.
    Environ = 9,
    /// A structure in the thread's memory, such as `struct open_how`.
    Struct = 10,
    /// What the socket is: three `i32`, its `SO_DOMAIN`, `SO_TYPE` and `SO_PROTOCOL` (socket(7)).
    SocketInfo = 11,
    /// The text of `/proc/PID/status`.
    ProcStatus = 32,
    /// The text of `/proc/PID/stat`.
    ProcStat = 33,
    /// The text of `/proc/PID/cmdline`.
    ProcCmdline = 34,
    /// The text of `/proc/PID/environ`.
    ProcEnviron = 35,
    /// The text of `/proc/PID/cgroup`.
    ProcCgroup = 36,
    /// The text of `/proc/PID/loginuid`.
    ProcLoginuid = 37,
    /// The text of the link `/proc/PID/exe`.
    ProcExe = 38,
    /// The text of the link `/proc/PID/cwd`.
    ProcCwd = 39,
    /// The file that runs: `u64` inode, `u64` ctime and `u64` mtime in nanoseconds since 1970, `u32` `st_mode`, `u32`
    /// owner, `u32` group, `u32` layer of an overlay (0 unknown, 1 upper, 2 lower).
    ExeStat = 40,
    /// The soft limit of open files (`RLIMIT_NOFILE`): one `u64`.
    FdLimit = 41,
}

/// Claims about a capture, a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureFlags(pub u8);

impl CaptureFlags {
    /// The original was longer than what is kept.
    pub const TRUNCATED: Self = Self(1);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One capture, as a reader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture<'a> {
    /// What the bytes are.
    pub kind: CaptureKind,
    /// The index of the argument that it belongs to, 0 to 5; 0 where it belongs to none.
    pub argument: u8,
    /// Claims about it.
    pub flags: CaptureFlags,
    /// The bytes.
    pub data: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_code() {
        for &kind in CaptureKind::ALL {
            assert_eq!(CaptureKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(CaptureKind::from_code(0), None);
    }
}
