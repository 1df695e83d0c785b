//! Where positions lie in the ring, and what one stamp says about the position it stands for.
//!
//! Pure arithmetic, shared by producers and consumer so that they cannot disagree. It must never assume that a
//! stamp was written by a producer of ours: [`Geometry::read`] is what stands between a forged stamp and the data.
//! Read the protocol in `mod.rs` first.

use crate::limits::{RECORD_BYTES_MAX, RING_BYTES_MAX};

/// The unit in which the ring is handed out: a cache line. A record starts on one.
pub(super) const GRANULE_BYTES: usize = 64;

/// A ring of one granule could hold no record at all, since a record may take half of the ring.
const GRANULES_MIN: usize = 2;

const LEN_BITS: u32 = 30;
const LEN_MASK: u64 = (1 << LEN_BITS) - 1;
const LAP_SHIFT: u32 = 32;
const LAP_MASK: u64 = u32::MAX as u64;

// A length, of padding too, is at most half of the ring and must fit its bits; a lap takes 32 of the bits that the
// size leaves of a position, so that laps wrap exactly when positions do.
const _: () = assert!(RING_BYTES_MAX <= 1 << LEN_BITS);
const _: () = assert!(RECORD_BYTES_MAX.is_multiple_of(GRANULE_BYTES));

/// What a producer says of the granules from one position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A record.
    Committed,
    /// A reservation that was given up: its bytes mean nothing.
    Discarded,
    /// The rest of the data area, too short for the record that follows at offset 0.
    Padding,
}

impl State {
    const fn code(self) -> u64 {
        match self {
            Self::Committed => 1,
            Self::Discarded => 2,
            Self::Padding => 3,
        }
    }
}

/// What a stamp means to whoever stands at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Nothing is published here yet.
    Pending,
    /// A record of `len` bytes; the next position is `span` bytes on.
    Record { len: usize, span: u64 },
    /// Nothing to read; the next position is `span` bytes on.
    Skip { span: u64 },
    /// No producer that keeps to the protocol has written this.
    Corrupt,
}

/// Where one reservation lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Position of the record. When it is not the position that was asked for, the bytes between are padding.
    pub(super) start: u64,
    /// Position after the record.
    pub(super) end: u64,
}

/// The size of a ring and all the arithmetic on its positions.
///
/// A position counts bytes since the ring began, modulo 2^64; its offset in the data is the position modulo the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    ring_bytes: u64,
    ring_bits: u32,
}

impl Geometry {
    /// The geometry of a data area of `ring_bytes` bytes; `None` unless that is a power of two from 128 bytes to
    /// [`RING_BYTES_MAX`].
    #[must_use]
    pub const fn new(ring_bytes: usize) -> Option<Self> {
        let in_bounds = ring_bytes >= GRANULES_MIN * GRANULE_BYTES && ring_bytes <= RING_BYTES_MAX;
        if !in_bounds || !ring_bytes.is_power_of_two() {
            return None;
        }
        Some(Self { ring_bytes: ring_bytes as u64, ring_bits: ring_bytes.trailing_zeros() })
    }

    /// Bytes of the data area.
    #[must_use]
    pub const fn ring_bytes(self) -> u64 {
        self.ring_bytes
    }

    /// Granules of the data area, which is also the number of stamps.
    #[must_use]
    pub const fn granules(self) -> usize {
        index(self.ring_bytes) / GRANULE_BYTES
    }

    /// Longest record.
    ///
    /// Half of the ring at most: then padding and record together always fit an empty ring, wherever it stands.
    #[must_use]
    pub const fn record_bytes_max(self) -> usize {
        let half = index(self.ring_bytes) / 2;
        if half < RECORD_BYTES_MAX { half } else { RECORD_BYTES_MAX }
    }

    /// The granule, and so the stamp, of a position.
    pub(super) const fn granule(self, position: u64) -> usize {
        index(self.offset(position)) / GRANULE_BYTES
    }

    /// Bytes that a record of `len` bytes takes: whole granules, and one even for an empty record, since each
    /// record needs a stamp of its own.
    pub(super) const fn span(len: usize) -> u64 {
        let len = if len == 0 { 1 } else { len };
        len.next_multiple_of(GRANULE_BYTES) as u64
    }

    /// Whether a record may start at this position.
    pub(super) const fn is_aligned(position: u64) -> bool {
        position.is_multiple_of(GRANULE_BYTES as u64)
    }

    /// Places a record of `len` bytes (at most [`Geometry::record_bytes_max`]) at the first position from `head` on
    /// where it does not run over the end of the data.
    pub(super) const fn place(self, head: u64, len: usize) -> Place {
        let span = Self::span(len);
        let rest = self.rest(head);
        let start = if span <= rest { head } else { head.wrapping_add(rest) };
        Place { start, end: start.wrapping_add(span) }
    }

    /// The stamp that publishes `len` bytes at `position`.
    pub(super) const fn stamp(self, position: u64, state: State, len: u64) -> u64 {
        (self.lap(position) << LAP_SHIFT) | (state.code() << LEN_BITS) | (len & LEN_MASK)
    }

    /// Reads `stamp`, found at the granule of `position`, trusting nothing.
    ///
    /// A stamp of an earlier lap is one that this lap has not overwritten yet. Two laps are told apart modulo
    /// 2^32, so a stamp would have to stand for 2^32 laps (2^50 bytes through the smallest ring) without once being
    /// overwritten to be taken for a new one.
    pub(super) const fn read(self, position: u64, stamp: u64) -> Reading {
        if stamp == 0 {
            return Reading::Pending;
        }
        let len = stamp & LEN_MASK;
        let is_padding = match (stamp >> LEN_BITS) & 3 {
            0 => return Reading::Corrupt,
            state => state == State::Padding.code(),
        };
        let laps_ahead = (stamp >> LAP_SHIFT).wrapping_sub(self.lap(position)) & LAP_MASK;
        if laps_ahead > LAP_MASK / 2 {
            return Reading::Pending;
        }
        if laps_ahead != 0 {
            return Reading::Corrupt;
        }
        let rest = self.rest(position);
        if is_padding {
            // Padding runs to the end of the data and is never all of it: nothing needs padding at offset 0.
            let in_place = len == rest && len != self.ring_bytes;
            return if in_place { Reading::Skip { span: len } } else { Reading::Corrupt };
        }
        let len_bytes = index(len);
        let span = Self::span(len_bytes);
        if len_bytes > self.record_bytes_max() || span > rest {
            return Reading::Corrupt;
        }
        if (stamp >> LEN_BITS) & 3 == State::Committed.code() {
            Reading::Record { len: len_bytes, span }
        } else {
            Reading::Skip { span }
        }
    }

    /// Bytes from a position to the end of the data.
    pub(super) const fn rest(self, position: u64) -> u64 {
        self.ring_bytes - self.offset(position)
    }

    const fn offset(self, position: u64) -> u64 {
        position & (self.ring_bytes - 1)
    }

    const fn lap(self, position: u64) -> u64 {
        (position >> self.ring_bits) & LAP_MASK
    }
}

/// A count of bytes within one ring, as an index.
#[expect(
    clippy::cast_possible_truncation,
    reason = "creance builds for 64-bit targets only, as asserted here"
)]
const fn index(bytes: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    bytes as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RING: Geometry = Geometry::new(1024).expect("1024 is a power of two in bounds");

    #[test]
    fn a_ring_is_a_power_of_two_in_bounds() {
        for bytes in [0, 64, 127, 192, 1000, RING_BYTES_MAX * 2] {
            assert_eq!(Geometry::new(bytes), None, "{bytes}");
        }
        for bytes in [128, 4096, RING_BYTES_MAX] {
            assert!(Geometry::new(bytes).is_some(), "{bytes}");
        }
    }

    #[test]
    fn a_stamp_of_another_lap_is_pending_or_corrupt() {
        let position = 5 * 1024 + 64;
        let stamp = RING.stamp(position, State::Committed, 10);
        assert_eq!(RING.read(position, stamp), Reading::Record { len: 10, span: 64 });
        assert_eq!(RING.read(position + 1024, stamp), Reading::Pending);
        assert_eq!(RING.read(position - 1024, stamp), Reading::Corrupt);
    }

    #[test]
    fn laps_compare_across_the_wrap_of_positions() {
        let last = 0_u64.wrapping_sub(1024);
        let stamp = RING.stamp(last, State::Discarded, 70);
        assert_eq!(RING.read(last, stamp), Reading::Skip { span: 128 });
        assert_eq!(RING.read(0, stamp), Reading::Pending);
        assert_eq!(RING.read(last, RING.stamp(0, State::Committed, 1)), Reading::Corrupt);
    }

    #[test]
    fn padding_is_read_only_where_it_ends_with_the_data() {
        assert_eq!(RING.read(960, RING.stamp(960, State::Padding, 64)), Reading::Skip { span: 64 });
        assert_eq!(RING.read(896, RING.stamp(896, State::Padding, 64)), Reading::Corrupt);
        assert_eq!(RING.read(0, RING.stamp(0, State::Padding, 1024)), Reading::Corrupt);
    }

    proptest! {
        #[test]
        fn what_is_stamped_is_read_back(granule in any::<u64>(), len in 0_usize..=512) {
            let head = granule.wrapping_mul(64);
            let place = RING.place(head, len);
            let padding = place.start.wrapping_sub(head);
            prop_assert!(padding == 0 || padding == RING.rest(head));
            prop_assert!(Geometry::span(len) <= RING.rest(place.start));
            let stamp = RING.stamp(place.start, State::Committed, len as u64);
            let span = place.end.wrapping_sub(place.start);
            prop_assert_eq!(RING.read(place.start, stamp), Reading::Record { len, span });
        }

        #[test]
        fn no_stamp_leads_out_of_the_data(granule in any::<u64>(), low in any::<u32>()) {
            let position = granule.wrapping_mul(64);
            match RING.read(position, (RING.lap(position) << LAP_SHIFT) | u64::from(low)) {
                Reading::Record { len, span } => {
                    prop_assert!(len as u64 <= span && span <= RING.rest(position) && span >= 64);
                }
                Reading::Skip { span } => prop_assert!(span <= RING.rest(position) && span >= 64),
                Reading::Pending | Reading::Corrupt => {}
            }
        }
    }
}
