//! The wire format, version 1: what an engine writes into the ring and a decoder reads from it.
//!
//! A record is a [`RecordHeader`] and then captures, each a [`CaptureHeader`] and its bytes, padded to 8. All
//! numbers are in the byte order of the machine: a ring never leaves it. The byte diagram is in
//! `docs/wire-format.md`; a layout that differs from it is a new [`VERSION`].
//!
//! This module holds raw facts only. What they mean to Falco is the decoder's business.

mod capture;
mod header;
mod reader;
mod writer;

pub use capture::{CAPTURE_HEADER_BYTES, Capture, CaptureFlags, CaptureHeader, CaptureKind};
pub use header::{
    HEADER_BYTES, PROCESS_CLONE_LOST, PROCESS_EXEC_LOST, PROCESS_OUTSIDER, RecordFlags, RecordHeader,
    RecordKind, VERSION,
};
pub use reader::{Captures, Record, RecordError};
pub use writer::{CaptureBuffer, OutOfSpace, write_record};

/// Captures and records start at multiples of this many bytes.
pub const ALIGNMENT: usize = 8;

/// Rounds a length up to the next multiple of [`ALIGNMENT`].
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}
