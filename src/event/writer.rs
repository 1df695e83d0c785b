//! Writes records in place. It never allocates: captures go into a buffer that the caller owns, and a record is
//! put together straight in the ring.

use bytemuck::bytes_of;

use super::{
    CAPTURE_HEADER_BYTES, CaptureFlags, CaptureHeader, CaptureKind, Captures, HEADER_BYTES, RecordHeader,
    VERSION, padded,
};
use crate::limits;

/// The buffer has no room for a capture. It is left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a capture of {wanted} bytes does not fit into the {free} bytes that are left")]
pub struct OutOfSpace {
    /// Bytes that the capture takes, with its header and padding.
    pub wanted: usize,
    /// Bytes that were left.
    pub free: usize,
}

/// Captures in wire form, gathered in one buffer before their record exists.
///
/// What a call's arguments point to has to be read at its entry, but its record can only be made when the result
/// is known: a reservation in the ring may not be held over a call that blocks. So the captures wait here.
#[derive(Debug)]
pub struct CaptureBuffer {
    bytes: Box<[u8]>,
    len: usize,
    count: u8,
    dropped: bool,
}

impl CaptureBuffer {
    /// Makes an empty buffer with room for `capacity` bytes of captures, headers and padding included, at most
    /// [`limits::RECORD_BYTES_MAX`] less a record header.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = padded(capacity).min(limits::RECORD_BYTES_MAX - HEADER_BYTES);
        Self { bytes: vec![0; capacity].into_boxed_slice(), len: 0, count: 0, dropped: false }
    }

    /// Forgets all captures.
    pub fn clear(&mut self) {
        self.len = 0;
        self.count = 0;
        self.dropped = false;
    }

    /// The captures in wire form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The captures.
    #[must_use]
    pub fn captures(&self) -> Captures<'_> {
        Captures::gathered(self.as_bytes())
    }

    /// How many captures there are.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// Whether a capture did not fit.
    #[must_use]
    pub const fn has_dropped(&self) -> bool {
        self.dropped
    }

    /// Appends all captures of another buffer. If they do not all fit none is appended, and
    /// [`Self::has_dropped`] is true from then on.
    pub fn append(&mut self, other: &Self) {
        let end = self.len + other.len;
        let count = self.count.saturating_add(other.count);
        match self.bytes.get_mut(self.len..end) {
            Some(target) if usize::from(count) <= limits::CAPTURES_MAX => {
                target.copy_from_slice(other.as_bytes());
                self.len = end;
                self.count = count;
                self.dropped |= other.dropped;
            }
            _ => self.dropped = true,
        }
    }

    /// Appends a capture by copying `data`.
    ///
    /// # Errors
    /// [`OutOfSpace`] if it does not fit or [`limits::CAPTURES_MAX`] are there; [`Self::has_dropped`] is true from
    /// then on.
    pub fn push(
        &mut self,
        kind: CaptureKind,
        argument: u8,
        flags: CaptureFlags,
        data: &[u8],
    ) -> Result<(), OutOfSpace> {
        self.push_with(kind, argument, data.len(), |target| {
            target.copy_from_slice(data);
            (data.len(), flags)
        })
    }

    /// Appends a capture of at most `room` bytes that `fill` writes in place. `fill` gets `room` bytes and tells
    /// how many of them it used; a larger answer counts as `room`.
    ///
    /// # Errors
    /// As [`Self::push`]; `fill` is not called then.
    pub fn push_with(
        &mut self,
        kind: CaptureKind,
        argument: u8,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> (usize, CaptureFlags),
    ) -> Result<(), OutOfSpace> {
        let free = self.bytes.len() - self.len;
        let wanted = CAPTURE_HEADER_BYTES.saturating_add(room).saturating_add(super::ALIGNMENT - 1)
            & !(super::ALIGNMENT - 1);
        let target = self.bytes.get_mut(self.len..).and_then(|rest| rest.get_mut(..wanted));
        let Some(target) = target.filter(|_| usize::from(self.count) < limits::CAPTURES_MAX) else {
            self.dropped = true;
            return Err(OutOfSpace { wanted, free });
        };
        let (header, body) = target.split_at_mut(CAPTURE_HEADER_BYTES);
        let (used, flags) = fill(body.get_mut(..room).unwrap_or_default());
        let used = used.min(room);
        let len = u32::try_from(used).unwrap_or(u32::MAX);
        header.copy_from_slice(bytes_of(&CaptureHeader { kind: kind.code(), argument, flags: flags.0, len }));
        if let Some(padding) = body.get_mut(used..padded(used)) {
            padding.fill(0);
        }
        self.len += CAPTURE_HEADER_BYTES + padded(used);
        self.count += 1;
        Ok(())
    }
}

/// Writes one whole record into `target`, which must be exactly [`HEADER_BYTES`] and the captures long.
///
/// `len`, `version` and `capture_count` of the header are filled in here; the other fields are the caller's.
///
/// # Errors
/// [`OutOfSpace`] if `target` has another length; nothing is written then.
pub fn write_record(
    target: &mut [u8],
    header: &RecordHeader,
    captures: &CaptureBuffer,
) -> Result<(), OutOfSpace> {
    let free = target.len();
    let wanted = HEADER_BYTES + captures.as_bytes().len();
    let (true, Ok(len)) = (free == wanted, u32::try_from(wanted)) else {
        return Err(OutOfSpace { wanted, free });
    };
    let header = RecordHeader { len, version: VERSION, capture_count: captures.count(), ..*header };
    let (head, body) = target.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(bytes_of(&header));
    body.copy_from_slice(captures.as_bytes());
    Ok(())
}
