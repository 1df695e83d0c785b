//! A decoded record: what happened, in Falco's words.

use std::fmt;

use super::{Argument, CallName, Process, SocketAddress, value::Arguments};
use crate::{
    abi::{self, Abi, SyscallNr},
    event::{CaptureKind, Record, RecordFlags, RecordHeader, RecordKind},
};

/// One event. It borrows from its record and from the decoder's process table.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub(super) record: Record<'a>,
    pub(super) name: EventName,
    pub(super) arguments: Arguments<'a>,
    pub(super) process: Option<&'a Process>,
}

impl<'a> Event<'a> {
    /// What happened, as Falco's `evt.type` names it.
    #[must_use]
    pub const fn name(&self) -> EventName {
        self.name
    }

    /// What kind of record it was.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        self.record.kind()
    }

    /// Its number among the records of its producer, without a gap.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.header().sequence
    }

    /// Which producer of the tracer made the record.
    #[must_use]
    pub const fn producer(&self) -> u16 {
        self.header().producer
    }

    /// Wall-clock time of the call's entry, in nanoseconds since 1970.
    #[must_use]
    pub const fn enter_ns(&self) -> u64 {
        self.header().enter_ns
    }

    /// Wall-clock time at which the result was known, in nanoseconds since 1970.
    #[must_use]
    pub const fn exit_ns(&self) -> u64 {
        self.header().exit_ns
    }

    /// The thread, as the tracer's PID namespace numbers it; `None` where the event belongs to none.
    #[must_use]
    pub fn tid(&self) -> Option<u32> {
        Some(self.header().tid).filter(|&tid| tid != 0)
    }

    /// Its process, in the same namespace; `None` where it is not known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        Some(self.header().pid).filter(|&pid| pid != 0)
    }

    /// The ABI of the call.
    #[must_use]
    pub const fn abi(&self) -> Abi {
        self.record.abi()
    }

    /// The system call number; `None` for an event that is no call.
    #[must_use]
    pub const fn number(&self) -> Option<SyscallNr> {
        if self.is_call() { Some(self.header().number) } else { None }
    }

    /// Claims about the record.
    #[must_use]
    pub const fn flags(&self) -> RecordFlags {
        self.record.flags()
    }

    /// The same claims in words: `no_result`, `memory_unreadable`, `thread`, `from_child`, `captures_dropped`,
    /// `socket_unknown`, `irrelevant`, `unfollowed`, `changeable`, `mismatch`.
    pub fn flag_words(&self) -> impl Iterator<Item = &'static str> {
        const WORDS: [(RecordFlags, &str); 10] = [
            (RecordFlags::NO_RESULT, "no_result"),
            (RecordFlags::MEMORY_UNREADABLE, "memory_unreadable"),
            (RecordFlags::THREAD, "thread"),
            (RecordFlags::FROM_CHILD, "from_child"),
            (RecordFlags::CAPTURES_DROPPED, "captures_dropped"),
            (RecordFlags::SOCKET_UNKNOWN, "socket_unknown"),
            (RecordFlags::IRRELEVANT, "irrelevant"),
            (RecordFlags::UNFOLLOWED, "unfollowed"),
            (RecordFlags::CHANGEABLE, "changeable"),
            (RecordFlags::MISMATCH, "mismatch"),
        ];
        let flags = self.flags();
        WORDS.into_iter().filter_map(move |(flag, word)| flags.contains(flag).then_some(word))
    }

    /// The record that it was decoded from.
    #[must_use]
    pub const fn record(&self) -> &Record<'a> {
        &self.record
    }

    /// The arguments, in their order.
    #[must_use]
    pub fn arguments(&self) -> &[Argument<'a>] {
        self.arguments.as_slice()
    }

    /// How the call ended; `None` for an event that is no call.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        if !self.is_call() {
            return None;
        }
        if self.flags().contains(RecordFlags::NO_RESULT) {
            return Some(Outcome::Missing);
        }
        let result = self.header().result;
        Some(match (self.kind(), self.name) {
            _ if (-ERRNO_MAX..0).contains(&result) => {
                let number = u32::try_from(result.unsigned_abs()).unwrap_or_default();
                Outcome::Error { number, name: abi::errno_name(number) }
            }
            (RecordKind::Syscall, EventName::Known(call)) => CallName(call).success(result),
            _ => Outcome::Value(result),
        })
    }

    /// The process that the event belongs to, as it is after the event.
    #[must_use]
    pub const fn process(&self) -> Option<&'a Process> {
        self.process
    }

    /// The socket's own address after the call, if the record tells it.
    #[must_use]
    pub fn socket_local(&self) -> Option<SocketAddress<'a>> {
        SocketAddress::parse(self.record.capture(CaptureKind::SocketLocal)?.data)
    }

    /// The socket's peer after the call, if the record tells it.
    #[must_use]
    pub fn socket_peer(&self) -> Option<SocketAddress<'a>> {
        SocketAddress::parse(self.record.capture(CaptureKind::SocketPeer)?.data)
    }

    const fn header(&self) -> &RecordHeader {
        self.record.header()
    }

    const fn is_call(&self) -> bool {
        matches!(self.kind(), RecordKind::Syscall | RecordKind::Clone | RecordKind::Exec)
    }
}

/// The largest error number of the kernel: `MAX_ERRNO` (linux/err.h).
const ERRNO_MAX: i64 = 4095;

/// The name of an event, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventName {
    /// A system call by its name, or `process`, `procexit`, `threadexit`, `drop`.
    Known(&'static str),
    /// A call whose number has no name in its ABI: `syscall_N`.
    Unnamed(SyscallNr),
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(name) => f.write_str(name),
            Self::Unnamed(SyscallNr(number)) => write!(f, "syscall_{number}"),
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this value.
    Value(i64),
    /// It returned a new file descriptor.
    Fd(i64),
    /// It returned an address in the thread's memory.
    Address(u64),
    /// It failed.
    Error {
        /// The error number, above 0.
        number: u32,
        /// Its name, such as `ENOENT`.
        name: Option<&'static str>,
    },
    /// It did not return: the thread died in it, or the call ends the thread.
    Missing,
}
