//! The only door to the kernel, and where nearly all unsafe code lives.
//!
//! Each file wraps one part of the kernel's interface in types that cannot be misused: a thread that stands still
//! is a [`ptrace::Stopped`] that has to be consumed, an address in another process is a [`RemoteAddr`]. Nothing
//! here decides anything: policy is the engine's.

mod call_site;
pub mod clock;
pub mod copies;
pub mod cpu;
pub mod forks;
pub mod futex;
pub mod guard;
pub mod hint;
pub mod inbox;
mod inherited;
pub mod inject;
pub mod launch;
pub mod memory;
pub mod notify;
pub mod opened;
mod page;
pub mod probe;
pub mod process;
pub mod procfs;
pub mod ptrace;
pub mod random;
pub mod seqpacket;
pub mod shm;
pub mod signal;
pub mod socket;
pub mod socket_table;

use std::fmt;

/// A thread, as the PID namespace of creance numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub libc::pid_t);

/// A process (thread group), named by the thread id of its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub libc::pid_t);

impl Tid {
    /// The id in the wire format.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0.cast_unsigned()
    }
}

impl Pid {
    /// The id in the wire format.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0.cast_unsigned()
    }

    /// The leading thread.
    #[must_use]
    pub const fn leader(self) -> Tid {
        Tid(self.0)
    }
}

/// An address in the memory of another process. It is never dereferenced here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteAddr(pub u64);

impl RemoteAddr {
    /// The address `bytes` further on, wrapping as the tracee's own arithmetic would.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Whether it is the null pointer.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RemoteAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
