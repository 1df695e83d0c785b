//! Reads records and trusts no byte of them: the peer may have written anything.
//!
//! [`Record::parse`] checks the whole record once; iterating over its captures afterwards cannot fail.

use bytemuck::pod_read_unaligned;

use super::{
    ALIGNMENT, CAPTURE_HEADER_BYTES, Capture, CaptureFlags, CaptureHeader, CaptureKind, HEADER_BYTES,
    RecordFlags, RecordHeader, RecordKind, VERSION, padded,
};
use crate::{abi::Abi, limits};

/// Why bytes are not a record. Offsets count from the record's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer bytes than a header.
    #[error("a record of {len} bytes is shorter than its header of {HEADER_BYTES}")]
    Short {
        /// Bytes that are there.
        len: usize,
    },
    /// Another version of the wire format.
    #[error("offset 4: wire format version {version}, but this build reads version {VERSION}")]
    Version {
        /// The version found.
        version: u16,
    },
    /// The length in the header is not that of the bytes, no multiple of 8, or over the bound.
    #[error("offset 0: the record claims {claimed} bytes, but {len} are there")]
    Length {
        /// The length in the header.
        claimed: u32,
        /// Bytes that are there.
        len: usize,
    },
    /// A kind that version 1 does not define.
    #[error("offset 6: unknown record kind {kind}")]
    Kind {
        /// The code found.
        kind: u16,
    },
    /// An ABI that version 1 does not define.
    #[error("offset 44: unknown ABI code {abi}")]
    Abi {
        /// The code found.
        abi: u8,
    },
    /// The reserved field is not zero.
    #[error("offset 52: the reserved field holds {reserved}")]
    Reserved {
        /// The value found.
        reserved: u32,
    },
    /// A capture runs past the end of the record.
    #[error("offset {offset}: a capture of {len} bytes runs past the end of the record")]
    CaptureLength {
        /// Where the capture starts.
        offset: usize,
        /// Bytes of data it claims, 0 if not even its header fits.
        len: u32,
    },
    /// A capture kind that version 1 does not define.
    #[error("offset {offset}: unknown capture kind {kind}")]
    CaptureKind {
        /// Where the capture starts.
        offset: usize,
        /// The code found.
        kind: u16,
    },
    /// A capture names an argument that no call has.
    #[error("offset {offset}: a capture names argument {argument}, but calls have arguments 0 to 5")]
    CaptureArgument {
        /// Where the capture starts.
        offset: usize,
        /// The index found.
        argument: u8,
    },
    /// The number of captures is not what the header says.
    #[error("offset 45: the record claims {claimed} captures, but {found} are there")]
    CaptureCount {
        /// The number in the header.
        claimed: u8,
        /// The number found.
        found: usize,
    },
}

/// A checked record, borrowed from a private copy of its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    header: RecordHeader,
    kind: RecordKind,
    abi: Abi,
    captures: &'a [u8],
}

impl<'a> Record<'a> {
    /// Checks `bytes`, which must be exactly one record.
    ///
    /// # Errors
    /// A [`RecordError`] that names the offset of the first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let len = bytes.len();
        let (head, captures) = bytes.split_at_checked(HEADER_BYTES).ok_or(RecordError::Short { len })?;
        let header: RecordHeader = pod_read_unaligned(head);
        if header.version != VERSION {
            return Err(RecordError::Version { version: header.version });
        }
        if usize::try_from(header.len) != Ok(len)
            || !len.is_multiple_of(ALIGNMENT)
            || len > limits::RECORD_BYTES_MAX
        {
            return Err(RecordError::Length { claimed: header.len, len });
        }
        let kind = RecordKind::from_code(header.kind).ok_or(RecordError::Kind { kind: header.kind })?;
        let abi = Abi::from_code(header.abi).ok_or(RecordError::Abi { abi: header.abi })?;
        if header.reserved != 0 {
            return Err(RecordError::Reserved { reserved: header.reserved });
        }
        let mut found = 0;
        let mut rest = captures;
        while !rest.is_empty() {
            let offset = len - rest.len();
            (_, rest) = split_capture(rest, offset)?;
            found += 1;
        }
        if found != usize::from(header.capture_count) || found > limits::CAPTURES_MAX {
            return Err(RecordError::CaptureCount { claimed: header.capture_count, found });
        }
        Ok(Self { header, kind, abi, captures })
    }

    /// The header, as it was written.
    #[must_use]
    pub const fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// What the record tells.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        self.kind
    }

    /// The ABI of the call.
    #[must_use]
    pub const fn abi(&self) -> Abi {
        self.abi
    }

    /// Claims about the record.
    #[must_use]
    pub const fn flags(&self) -> RecordFlags {
        RecordFlags(self.header.flags)
    }

    /// The captures, in the order in which they were written.
    #[must_use]
    pub const fn captures(&self) -> Captures<'a> {
        Captures { rest: self.captures }
    }

    /// The first capture of a kind, for any argument.
    #[must_use]
    pub fn capture(&self, kind: CaptureKind) -> Option<Capture<'a>> {
        self.captures().find(|capture| capture.kind == kind)
    }

    /// The first capture of a kind that belongs to the argument with this index.
    #[must_use]
    pub fn capture_of(&self, kind: CaptureKind, argument: u8) -> Option<Capture<'a>> {
        self.captures().find(|capture| capture.kind == kind && capture.argument == argument)
    }
}

/// Iterates over captures: those of a checked record, or those that a buffer has gathered.
#[derive(Debug, Clone, Copy)]
pub struct Captures<'a> {
    rest: &'a [u8],
}

impl<'a> Captures<'a> {
    /// Those that a buffer has gathered.
    pub(super) const fn gathered(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Captures<'a> {
    type Item = Capture<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        // The record was checked whole, so an error can only mean that nothing is left.
        let (capture, rest) = split_capture(self.rest, 0).ok()?;
        self.rest = rest;
        Some(capture)
    }
}

/// Takes the first capture off `bytes`, which start at `offset` of their record.
fn split_capture(bytes: &[u8], offset: usize) -> Result<(Capture<'_>, &[u8]), RecordError> {
    let past_end = |len| RecordError::CaptureLength { offset, len };
    let (head, rest) = bytes.split_at_checked(CAPTURE_HEADER_BYTES).ok_or(past_end(0))?;
    let header: CaptureHeader = pod_read_unaligned(head);
    let len = usize::try_from(header.len).map_err(|_| past_end(header.len))?;
    if len > rest.len() {
        return Err(past_end(header.len));
    }
    let (data, rest) = rest.split_at_checked(padded(len)).ok_or(past_end(header.len))?;
    let kind =
        CaptureKind::from_code(header.kind).ok_or(RecordError::CaptureKind { offset, kind: header.kind })?;
    if header.argument > 5 {
        return Err(RecordError::CaptureArgument { offset, argument: header.argument });
    }
    let data = data.get(..len).ok_or(past_end(header.len))?;
    Ok((Capture { kind, argument: header.argument, flags: CaptureFlags(header.flags), data }, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CaptureBuffer, OutOfSpace, write_record};
    use super::*;
    use crate::abi::SyscallNr;

    fn header() -> RecordHeader {
        RecordHeader {
            len: 0,
            version: 0,
            kind: RecordKind::Syscall.code(),
            sequence: 7,
            enter_ns: 1,
            exit_ns: 2,
            tid: 3,
            pid: 4,
            flags: RecordFlags::NO_RESULT.0,
            abi: Abi::X86_64.code(),
            capture_count: 0,
            producer: 1,
            number: SyscallNr(257),
            reserved: 0,
            result: -2,
            arguments: [1, 2, 3, 4, 5, 6],
        }
    }

    fn record(captures: &CaptureBuffer) -> Vec<u8> {
        let mut bytes = vec![0xaa; HEADER_BYTES + captures.as_bytes().len()];
        write_record(&mut bytes, &header(), captures).unwrap();
        bytes
    }

    fn capture_strategy() -> impl Strategy<Value = (CaptureKind, u8, u8, Vec<u8>)> {
        (
            proptest::sample::select(CaptureKind::ALL),
            0..6u8,
            0..2u8,
            proptest::collection::vec(any::<u8>(), 0..300),
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(input in proptest::collection::vec(capture_strategy(), 0..limits::CAPTURES_MAX)) {
            let mut buffer = CaptureBuffer::with_capacity(16 * 1024);
            for (kind, argument, flags, data) in &input {
                buffer.push(*kind, *argument, CaptureFlags(*flags), data).unwrap();
            }
            let bytes = record(&buffer);
            let read = Record::parse(&bytes).unwrap();
            prop_assert_eq!(read.header().tid, 3);
            prop_assert_eq!(read.kind(), RecordKind::Syscall);
            let output: Vec<_> =
                read.captures().map(|c| (c.kind, c.argument, c.flags.0, c.data.to_vec())).collect();
            prop_assert_eq!(output, input);
        }

        #[test]
        fn any_damage_is_an_error_or_a_record_within_bounds(
            input in proptest::collection::vec(capture_strategy(), 0..4),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut buffer = CaptureBuffer::with_capacity(4096);
            for (kind, argument, flags, data) in &input {
                buffer.push(*kind, *argument, CaptureFlags(*flags), data).unwrap();
            }
            let mut bytes = record(&buffer);
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = Record::parse(&bytes[..cut.index(bytes.len())]);
            if let Ok(read) = Record::parse(&bytes) {
                prop_assert!(read.captures().map(|c| c.data.len()).sum::<usize>() <= bytes.len());
                prop_assert_eq!(read.captures().count(), usize::from(read.header().capture_count));
            }
        }
    }

    #[test]
    fn a_capture_that_does_not_fit_is_dropped_whole_and_told() {
        let mut buffer = CaptureBuffer::with_capacity(32);
        buffer.push(CaptureKind::Path, 1, CaptureFlags::default(), b"/etc/shadow").unwrap();
        let error = buffer.push(CaptureKind::Cwd, 1, CaptureFlags::default(), b"/").unwrap_err();
        assert_eq!(error, OutOfSpace { wanted: 16, free: 8 });
        assert!(buffer.has_dropped());
        assert_eq!(buffer.count(), 1);
        assert_eq!(Record::parse(&record(&buffer)).unwrap().captures().count(), 1);
    }

    #[test]
    fn an_error_names_the_offset() {
        let mut buffer = CaptureBuffer::with_capacity(64);
        buffer.push(CaptureKind::Path, 1, CaptureFlags::default(), b"/etc/shadow").unwrap();
        let mut bytes = record(&buffer);
        bytes[HEADER_BYTES + 4] = 200;
        let error = Record::parse(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "offset 112: a capture of 200 bytes runs past the end of the record");
    }
}
