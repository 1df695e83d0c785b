//! Puts records into the ring: numbers them, waits for room within a bound, and announces what was lost.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    abi::{Abi, SyscallNr},
    counters::RecorderCounters,
    event::{self, CaptureBuffer, HEADER_BYTES, RecordHeader, RecordKind},
    limits,
    ring::{Producer, ProducerMemory, ReserveError},
    sys::{clock, ptrace::Call},
};

/// How long the recorder sleeps before it asks again for room in a full ring.
const ROOM_POLL: Duration = Duration::from_micros(100);

/// How long it asks.
const HOLD_MAX: Duration = Duration::from_millis(limits::FULL_RING_HOLD_MS_MAX);

/// One producer's end of the ring.
pub struct Recorder<M: ProducerMemory> {
    producer: Producer<M>,
    id: u16,
    /// The number of the next record.
    sequence: u64,
    /// Records lost since the last one that was written.
    lost: u64,
    counters: RecorderCounters,
}

impl<M: ProducerMemory> Recorder<M> {
    /// A recorder that writes as producer `id`.
    #[must_use]
    pub fn new(producer: Producer<M>, id: u16) -> Self {
        Self { producer, id, sequence: 0, lost: 0, counters: RecorderCounters::default() }
    }

    /// Writes a record. Its number, producer, length, version and number of captures are filled in here.
    ///
    /// In a full ring it waits for room, for [`limits::FULL_RING_HOLD_MS_MAX`] at most; after that this record and
    /// those that follow are lost and counted until there is room, and announced by a [`RecordKind::Loss`].
    pub fn record(&mut self, header: &RecordHeader, captures: &CaptureBuffer) {
        let (sequence, producer) = (self.sequence, self.id);
        self.sequence += 1;
        self.announce_loss(sequence);
        if self.lost == 0 && self.write(&RecordHeader { sequence, producer, ..*header }, captures) {
            return;
        }
        self.lost += 1;
        self.counters.records_lost += 1;
        self.producer.count_drop(1);
    }

    /// Writes a record that has no captures.
    pub fn record_bare(&mut self, header: &RecordHeader) {
        self.record(header, &CaptureBuffer::with_capacity(0));
    }

    /// Announces what was lost last, tells the consumer that nothing follows, and gives the counters.
    pub fn finish(mut self) -> RecorderCounters {
        // The workload is over, so that nobody is kept waiting for the room.
        let since = Instant::now();
        self.announce_loss(self.sequence);
        while self.lost > 0 && since.elapsed() < HOLD_MAX {
            thread::sleep(ROOM_POLL);
            self.announce_loss(self.sequence);
        }
        self.producer.close();
        self.counters
    }

    /// Writes a record for the records that were lost before number `next`, if any were.
    fn announce_loss(&mut self, next: u64) {
        if self.lost == 0 {
            return;
        }
        let header = RecordHeader {
            sequence: next - self.lost,
            producer: self.id,
            result: i64::try_from(self.lost).unwrap_or(i64::MAX),
            ..header(RecordKind::Loss, clock::wall_ns())
        };
        if self.write(&header, &CaptureBuffer::with_capacity(0)) {
            self.lost = 0;
        }
    }

    /// Writes one record; tells whether there was room.
    fn write(&mut self, header: &RecordHeader, captures: &CaptureBuffer) -> bool {
        let len = HEADER_BYTES + captures.as_bytes().len();
        // A consumer that did not make room for the last record is not waited for again: it may be hung, and the
        // workload must not be.
        let hold_max = if self.lost == 0 { HOLD_MAX } else { Duration::ZERO };
        let mut since = None;
        loop {
            match self.producer.reserve(len) {
                Ok(mut reservation) => {
                    if event::write_record(&mut reservation, header, captures).is_err() {
                        return false;
                    }
                    reservation.commit();
                    self.counters.records += 1;
                    self.counters.bytes += len as u64;
                    return true;
                }
                Err(ReserveError::Full) if !hold_max.is_zero() => {
                    self.counters.waits_for_room += u64::from(since.is_none());
                    // The clock is asked, since a short sleep takes up to twice its time.
                    if since.get_or_insert_with(Instant::now).elapsed() >= hold_max {
                        return false;
                    }
                    thread::sleep(ROOM_POLL);
                }
                Err(_) => return false,
            }
        }
    }
}

/// A header of one moment, with everything else zero.
pub(crate) fn header(kind: RecordKind, now_ns: u64) -> RecordHeader {
    RecordHeader {
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

/// The same header for a call.
pub(crate) fn with_call(header: RecordHeader, call: &Call) -> RecordHeader {
    RecordHeader { abi: call.abi.code(), number: call.nr, arguments: call.arguments, ..header }
}
