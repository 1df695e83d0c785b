//! Kernel facts as pure data: ABIs, system call numbers and names, what their arguments are.
//!
//! Nothing here does I/O or knows of tracing. Read `signatures.rs` before you add a call: its argument names are
//! Falco's where Falco has an event for the call, else those of the man page.

mod flags;
mod multiplexed;
mod numbers;
mod signatures;

pub use flags::{FlagSet, FlagWords, errno_name, signal_name};
pub use multiplexed::{BLOCK_WORDS_MAX, Multiplexed};
pub use numbers::{names, nearest_name, number, number_name};
pub use signatures::{Argument, ArgumentKind, Signature, signature, signature_of};

use bytemuck::{Pod, Zeroable};

/// A system call number, as the tracee put it into its register. It means something only beside an [`Abi`].
///
/// x32 numbers keep their bit 30 (`__X32_SYSCALL_BIT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct SyscallNr(pub u32);

/// The bit that tells an x32 number from an x86_64 one: `__X32_SYSCALL_BIT` (asm/unistd.h).
pub const X32_SYSCALL_BIT: u32 = 0x4000_0000;

/// The calling convention of a system call: which table its number belongs to and how wide its pointers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86: `int 0x80`, `sysenter`, from a 32-bit or a 64-bit process.
    I386,
    /// 64-bit x86 with 32-bit pointers. Shares x86_64's audit architecture; told apart by bit 30 of the number.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// An architecture that creance has no table for. Its calls are recorded by number.
    Other,
}

impl Abi {
    /// Every ABI that has a table of names.
    pub const KNOWN: [Self; 4] = [Self::X86_64, Self::I386, Self::X32, Self::Aarch64];

    /// The ABI of this build of creance, in which a workload makes nearly all of its calls.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The ABI of this build of creance, in which a workload makes nearly all of its calls.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    /// Tells the ABI of a call from what seccomp(2) and `PTRACE_GET_SYSCALL_INFO` report: the `AUDIT_ARCH_*`
    /// value (linux/audit.h) and the number.
    #[must_use]
    pub const fn of_call(audit_arch: u32, nr: SyscallNr) -> Self {
        match audit_arch {
            AUDIT_ARCH_X86_64 if nr.0 & X32_SYSCALL_BIT != 0 => Self::X32,
            AUDIT_ARCH_X86_64 => Self::X86_64,
            AUDIT_ARCH_I386 => Self::I386,
            AUDIT_ARCH_AARCH64 => Self::Aarch64,
            _ => Self::Other,
        }
    }

    /// The `AUDIT_ARCH_*` value (linux/audit.h) that the kernel reports for calls of this ABI; 0 for
    /// [`Abi::Other`].
    #[must_use]
    pub const fn audit_arch(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => AUDIT_ARCH_X86_64,
            Self::I386 => AUDIT_ARCH_I386,
            Self::Aarch64 => AUDIT_ARCH_AARCH64,
            Self::Other => 0,
        }
    }

    /// Bytes of a pointer in memory (of `argv`, for one).
    #[must_use]
    pub const fn pointer_bytes(self) -> usize {
        match self {
            Self::I386 | Self::X32 => 4,
            Self::X86_64 | Self::Aarch64 | Self::Other => 8,
        }
    }

    /// The name that creance prints: `x86_64`, `i386`, `x32`, `aarch64`, `other`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::X32 => "x32",
            Self::Aarch64 => "aarch64",
            Self::Other => "other",
        }
    }

    /// The code of this ABI in the wire format (docs/wire-format.md).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::X86_64 => 1,
            Self::I386 => 2,
            Self::X32 => 3,
            Self::Aarch64 => 4,
            Self::Other => 255,
        }
    }

    /// The ABI of a wire-format code; `None` for a code that version 1 does not define.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::X86_64),
            2 => Some(Self::I386),
            3 => Some(Self::X32),
            4 => Some(Self::Aarch64),
            255 => Some(Self::Other),
            _ => None,
        }
    }
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
