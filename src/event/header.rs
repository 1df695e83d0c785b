//! The fixed part of a record. Every offset is pinned: a change here is a new version of the wire format.

use std::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::abi::{Abi, SyscallNr};

/// The version of the wire format that this build writes and reads.
pub const VERSION: u16 = 1;

/// Bytes of a [`RecordHeader`].
pub const HEADER_BYTES: usize = size_of::<RecordHeader>();

/// The first 112 bytes of every record. What the fields hold for each kind stands with [`RecordKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RecordHeader {
    /// Bytes of the whole record, captures and padding included: a multiple of 8.
    pub len: u32,
    /// [`VERSION`].
    pub version: u16,
    /// A [`RecordKind`] code.
    pub kind: u16,
    /// Counts the records that this producer made, from 0, the lost ones included. A [`RecordKind::Loss`] stands
    /// for the numbers that are missing, so that the numbers of one producer have no gap.
    pub sequence: u64,
    /// Wall-clock time (`CLOCK_REALTIME`) at which the thread stopped at the entry of the call, in nanoseconds
    /// since 1970. Equal to `exit_ns` where only one moment is known.
    pub enter_ns: u64,
    /// Wall-clock time at which the result was known, in nanoseconds since 1970.
    pub exit_ns: u64,
    /// The thread, as the tracer's PID namespace numbers it.
    pub tid: u32,
    /// Its process (thread group), in the same namespace; 0 where it is not known.
    pub pid: u32,
    /// [`RecordFlags`].
    pub flags: u32,
    /// The ABI of the call: [`crate::abi::Abi::code`].
    pub abi: u8,
    /// Captures that follow.
    pub capture_count: u8,
    /// Which producer of the tracer made the record.
    pub producer: u16,
    /// The system call number.
    pub number: SyscallNr,
    /// Zero.
    pub reserved: u32,
    /// The raw result: the returned value, or `-errno` from -4095 to -1.
    pub result: i64,
    /// The six argument registers at the entry of the call.
    pub arguments: [u64; 6],
}

impl RecordHeader {
    /// The header of a native record of one moment, with everything else zero. The writer fills in the length, the version
    /// and the number of captures.
    #[must_use]
    pub const fn new(kind: RecordKind, now_ns: u64) -> Self {
        Self {
            len: 0,
            version: 0,
            kind: kind.code(),
            sequence: 0,
            enter_ns: now_ns,
            exit_ns: now_ns,
            tid: 0,
            pid: 0,
            flags: 0,
            abi: Abi::NATIVE.code(),
            capture_count: 0,
            producer: 0,
            number: SyscallNr(0),
            reserved: 0,
            result: 0,
            arguments: [0; 6],
        }
    }
}

const _: () = assert!(
    size_of::<RecordHeader>() == 112
        && offset_of!(RecordHeader, len) == 0
        && offset_of!(RecordHeader, version) == 4
        && offset_of!(RecordHeader, kind) == 6
        && offset_of!(RecordHeader, sequence) == 8
        && offset_of!(RecordHeader, enter_ns) == 16
        && offset_of!(RecordHeader, exit_ns) == 24
        && offset_of!(RecordHeader, tid) == 32
        && offset_of!(RecordHeader, pid) == 36
        && offset_of!(RecordHeader, flags) == 40
        && offset_of!(RecordHeader, abi) == 44
        && offset_of!(RecordHeader, capture_count) == 45
        && offset_of!(RecordHeader, producer) == 46
        && offset_of!(RecordHeader, number) == 48
        && offset_of!(RecordHeader, reserved) == 52
        && offset_of!(RecordHeader, result) == 56
        && offset_of!(RecordHeader, arguments) == 64
);

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A trapped call and its result. Captures hold the memory that its arguments pointed to.
    Syscall,
    /// A thread or process was made. `tid` and `pid` are the caller's, `result` is the new tid,
    /// `arguments[0]` the clone flags with the exit signal in the low byte (0 for [`RecordFlags::FROM_CHILD`]),
    /// `arguments[1]` the new thread's pid, `number` the call that did it.
    Clone,
    /// A program was started. `tid` and `pid` are those after it, `arguments[0]` is the tid of the thread that
    /// made the call, `number` the call. Captures hold the `/proc` texts of the new program, and the file name
    /// and `argv` of the call if it was trapped.
    Exec,
    /// A thread ended, and a process if `tid` is `pid`. `result` is the wait status (wait(2)), `number` is 0.
    Exit,
    /// Records were lost just before this one: `result` tells how many, `sequence` is the first of them.
    Loss,
    /// A process that runs already, as `/proc` shows it at `exit_ns`: whoever reads the records may not have heard of it,
    /// or not of what it did last. `tid` is `pid`, `number` is 0, `arguments[0]` holds [`PROCESS_EXEC_LOST`],
    /// [`PROCESS_CLONE_LOST`] and [`PROCESS_OUTSIDER`]. Captures hold the same texts as those of an exec.
    Process,
}

/// In `arguments[0]` of a [`RecordKind::Process`]: the record of the exec by which it runs its program was lost.
pub const PROCESS_EXEC_LOST: u64 = 1;

/// In `arguments[0]` of a [`RecordKind::Process`]: the record of its clone was lost, so that a process which is known
/// under its number is another one, whose end may have been lost as well.
pub const PROCESS_CLONE_LOST: u64 = 2;

/// In `arguments[0]` of a [`RecordKind::Process`]: it is none of the workload's, but an ancestor of it.
pub const PROCESS_OUTSIDER: u64 = 4;

impl RecordKind {
    /// The code in the wire format.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Syscall => 1,
            Self::Clone => 2,
            Self::Exec => 3,
            Self::Exit => 4,
            Self::Loss => 5,
            Self::Process => 6,
        }
    }

    /// The kind of a code; `None` for a code that version 1 does not define.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Syscall),
            2 => Some(Self::Clone),
            3 => Some(Self::Exec),
            4 => Some(Self::Exit),
            5 => Some(Self::Loss),
            6 => Some(Self::Process),
            _ => None,
        }
    }
}

/// Claims about a record, a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordFlags(pub u32);

impl RecordFlags {
    /// The call did not return: the thread died in it, or the call ends the thread. `result` is 0.
    pub const NO_RESULT: Self = Self(1);
    /// Some memory of the thread could not be read; the captures of those arguments are missing.
    pub const MEMORY_UNREADABLE: Self = Self(1 << 1);
    /// The new thread shares its creator's thread group (`CLONE_THREAD`).
    pub const THREAD: Self = Self(1 << 2);
    /// The clone was learnt from its child, because the creator died before it could be asked.
    pub const FROM_CHILD: Self = Self(1 << 3);
    /// Captures were left out because the record was full.
    pub const CAPTURES_DROPPED: Self = Self(1 << 4);
    /// The addresses of the socket could not be had; their captures are missing.
    pub const SOCKET_UNKNOWN: Self = Self(1 << 5);
    /// No loaded rule can match the call; it is recorded because everything is.
    pub const IRRELEVANT: Self = Self(1 << 6);
    /// The thread could not be followed through the call: it is not ours to trace, another traces it, or too many block at
    /// once. Its result is not known ([`Self::NO_RESULT`]), but it went on into the call.
    pub const UNFOLLOWED: Self = Self(1 << 7);
    /// Another thread could have changed what the arguments point to after it was read, and the kernel have used that.
    pub const CHANGEABLE: Self = Self(1 << 8);
    /// The kernel used something else than what the arguments pointed to when they were looked at. The captures show what
    /// it used.
    pub const MISMATCH: Self = Self(1 << 9);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set without the bits of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
