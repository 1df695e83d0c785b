//! The ring: lock-free, many producers, one consumer, records of any size, in memory that two processes may share.
//!
//! It carries bytes and knows nothing of what they say. Producers are threads of one process; the consumer is a
//! thread of it or another process, which maps everything read-only but one page of its own. Neither side may be
//! able to harm the other: the consumer trusts no byte, and producers trust nothing of the consumer's page. Read the
//! protocol below before you edit any file here; the models in `models.rs` check it, and they run the shipped code.
//!
//! # Memory
//! ```text
//! data             2^k bytes, handed out in granules of 64 bytes         producers write
//! stamp[granule]   lap:32 | state:2 | len:30, one atomic word each       producers write
//! head, reclaimed  positions                                             producers write
//! tail, sleeping   a position; 1 while the consumer sleeps               consumer writes
//! ```
//! A position counts bytes, modulo 2^64. Its offset is the position mod the size; its lap is the position div the
//! size, mod 2^32. `reclaimed <= tail <= head <= reclaimed + size`, as distances.
//!
//! # Protocol
//! ```text
//! reserve(len):                                          commit(r) / discard(r):
//!   loop                                                   stamp[r.start] = (lap, Committed or Discarded, len)  Release
//!     start = head, or the end of the data                 fence SeqCst
//!             when len does not fit before it              if sleeping == 1 and swap(sleeping, 0) == 1: wake
//!     end = start + len in whole granules
//!     if end - reclaimed > size:                         reclaim():
//!       reclaim(); if it gained nothing: Full              if tail is not within [reclaimed, head]: count, nothing
//!     else if CAS(head, start.., end): break               from reclaimed on, while before tail
//!   if start != head: stamp[head] = (lap, Padding, rest)       and the stamp says published in this lap: step over
//!   the bytes [start, start + len) are the caller's        CAS(reclaimed, old, stepped to)                      Release
//!
//! poll():                                                wait():
//!   loop                                                   sleeping = 1
//!     s = stamp[tail]                            Acquire   fence SeqCst
//!     s.lap older, or s never written:                     if stamp[tail] is pending and not closed:
//!       Closed if closed and tail == head, else Empty        futex_wait(sleeping, 1)
//!     s newer, too long or out of place: error             sleeping = 0
//!     Discarded or Padding: tail += span         Release
//!     Committed: copy out, tail += span          Release
//!
//! history():
//!   at = reclaimed
//!   while at != tail: copy the record at `at` out               producers do not wait for this
//!     if reclaimed has passed `at`: the copy is void, at = reclaimed    Acquire
//! ```
//!
//! # Why it holds
//! - **Publication is not in the data.** Data is whatever the workload made of it, and may look like anything. Stamps
//!   are written by producers only, and the lap in a stamp tells a fresh one from a stale one, so nothing is ever zeroed
//!   and the consumer needs no write access.
//! - **No two reservations overlap, whatever the consumer writes.** The compare-and-swap hands out each position once, and
//!   a range `[start, end)` only if `end - size <= reclaimed`. `reclaimed` moves only over stamps that say the
//!   granules' previous owner is finished, and `tail` can hold it back but not push it further. So a forged tail
//!   that is too old makes the ring look full, one out of range too (and is counted), and one that is too new costs
//!   the consumer its own records: they may be overwritten while it reads them.
//! - **`reclaimed` is also the producers' cache of the tail.** The consumer's cache line is read once in 64 records.
//! - **History is whole or void.** What a consumer has read stays until `reclaimed` passes it, and a producer writes there
//!   only afterwards. It is for a new consumer that wants to know how things came to be as they are: nobody waits for it.
//! - **A wake-up is never lost.** Each side stores its own word, fences, then loads the other's. A discard wakes as a
//!   commit does: records behind it may have been committed while the consumer could not reach them.
//! - **No loop depends on the peer.** `reserve` repeats only when another producer has made progress; `reclaim` and
//!   `poll` are bounded.
//!
//! Records carry a sequence number of their own; the ring has none.

mod consumer;
mod memory;
#[cfg(test)]
mod models;
mod presence;
mod producer;
mod shared;
mod stamp;
#[cfg(test)]
mod tests;

pub use consumer::{Consumer, History, RecordBuffer};
pub use memory::{
    Atomic, Atomics, ConsumerPage, Forged, Heap, Machine, Memory, ProducerMemory, ProducersPage, Stamps,
};
pub use presence::Presence;
pub use producer::{Producer, Reservation};
pub use stamp::Geometry;

use thiserror::Error;

/// Why there is no reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReserveError {
    /// The consumer has not read enough yet.
    #[error("the ring is full")]
    Full,
    /// The record is longer than this ring takes.
    #[error("a record of {len} bytes is longer than the {max} that this ring takes")]
    TooLong {
        /// Bytes asked for.
        len: usize,
        /// Bytes that a reservation may have.
        max: usize,
    },
}

/// What a poll has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poll {
    /// A record, now in the caller's buffer.
    Record,
    /// Nothing yet.
    Empty,
    /// Nothing, and nothing will follow.
    Closed,
}

/// Why a consumer has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PollError {
    /// What is stamped at this position is not what a producer writes there.
    #[error("the ring is corrupt at position {position}: stamp {stamp:#018x}")]
    CorruptStamp {
        /// Bytes since the ring began.
        position: u64,
        /// The stamp as it was read.
        stamp: u64,
    },
}

/// Why a consumer could not attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AttachError {
    /// A ring has one consumer at a time.
    #[error("this process already has a consumer on this ring")]
    Attached,
    /// The consumer's page names a position that no consumer can have.
    #[error(
        "the tail {tail} left in the consumer's page is no record's start within the {ring_bytes} bytes before {head}"
    )]
    TailOutOfRange {
        /// The position found.
        tail: u64,
        /// Where the next reservation starts.
        head: u64,
        /// Bytes of the ring.
        ring_bytes: u64,
    },
}
