//! Puts records into the ring: numbers them, waits for room within a bound, and announces what was lost.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    counters::RecorderCounters,
    event::{self, CaptureBuffer, HEADER_BYTES, RecordFlags, RecordHeader, RecordKind},
    limits,
    ring::{Presence, Producer, ProducerMemory, ReserveError},
    sys::{Pid, Tid, clock, ptrace::Call},
};

/// How long the recorder sleeps before it asks again for room in a full ring.
const ROOM_POLL: Duration = Duration::from_micros(100);

/// What is done about a full ring.
#[derive(Debug, Clone)]
pub struct FullRing {
    /// How long one stop may be held until there is room, whatever is written about it; zero loses records at once.
    /// Without a consumer nobody waits.
    pub hold_max: Duration,
    /// Whether there is a consumer.
    pub presence: Arc<Presence>,
}

/// One producer's end of the ring.
///
/// A loss begins with a record that found no room, and lasts until [`Self::recover`] has announced it: in between
/// nothing is written, even if there is room again. So nobody reads a record about a process before what was lost of
/// that process could be told again.
pub struct Recorder<M: ProducerMemory> {
    producer: Producer<M>,
    id: u16,
    /// The number of the next record.
    sequence: u64,
    /// Records lost since the last one that was written.
    lost: u64,
    /// How many times a loss has begun or ended.
    turns: u32,
    full_ring: FullRing,
    /// From when on the present wait counts: the engine has known of the stop that it serves since then.
    held_since: Instant,
    /// What must still be written before a full ring is waited for again: after a wait in vain as much may be left of it,
    /// and a consumer that is hung would be waited for once more when that is used up.
    bytes_unproven: usize,
    /// How long may be waited for room in all once the workload is over.
    drain_max: Duration,
    /// The workload is over: nobody stands still any more.
    is_over: bool,
    counters: RecorderCounters,
}

impl<M: ProducerMemory> Recorder<M> {
    /// A recorder that writes as producer `id`.
    #[must_use]
    pub fn new(producer: Producer<M>, id: u16, full_ring: FullRing) -> Self {
        let counters = RecorderCounters::default();
        Self {
            producer,
            id,
            sequence: 0,
            lost: 0,
            turns: 0,
            full_ring,
            held_since: Instant::now(),
            bytes_unproven: 0,
            drain_max: Duration::from_millis(limits::FULL_RING_HOLD_MS_MAX),
            is_over: false,
            counters,
        }
    }

    /// The same recorder with another bound on the waits for room once the workload is over:
    /// [`limits::FULL_RING_HOLD_MS_MAX`] otherwise.
    #[must_use]
    pub fn with_drain_max(self, drain_max: Duration) -> Self {
        Self { drain_max, ..self }
    }

    /// Says that so many calls were not seen before anything was written: that is announced with the first record.
    pub(crate) fn begin_after_gap(&mut self, unseen: u64) {
        self.sequence += unseen;
        self.lost += unseen;
    }

    /// Says that what is written from now on is about another stop, of which the engine has known `since` then: until
    /// [`FullRing::hold_max`] after that, all of it together may wait for room. So not even the last of several threads
    /// that were heard at once stands still for longer.
    pub fn begin_stop(&mut self, since: Instant) {
        self.held_since = since;
    }

    /// Says that the workload has been over `since` then. What is still written, the announcement of a loss too, may wait
    /// for room until the bound after that, whatever [`FullRing::hold_max`] says: nobody is kept by it.
    pub fn begin_end(&mut self, since: Instant) {
        self.held_since = since;
        self.full_ring.hold_max = self.drain_max;
        self.is_over = true;
    }

    /// Names the stretch of the stream in which a process that was told of is known: it changes when a loss begins, when
    /// one ends, and when a consumer departs. 0 until the first of these.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.turns.wrapping_add(self.full_ring.presence.departures())
    }

    /// Whether there is a consumer.
    pub(crate) fn has_consumer(&self) -> bool {
        self.full_ring.presence.is_there()
    }

    /// Ends a loss by announcing it, if there is one and there is room; tells whether records can be written.
    pub fn recover(&mut self) -> bool {
        if self.lost > 0 {
            self.announce_loss();
        }
        self.lost == 0
    }

    /// Writes a record; tells whether it was. Its number, producer, length, version and number of captures are filled in
    /// here.
    ///
    /// In a full ring it waits for room, as [`FullRing`] says. After that this record and those that follow are lost
    /// and counted, until [`Self::recover`] finds room and announces them by a [`RecordKind::Loss`]. A consumer that was
    /// waited for in vain is not waited for again until it has read something.
    pub fn record(&mut self, header: &RecordHeader, captures: &CaptureBuffer) -> bool {
        let (sequence, producer) = (self.sequence, self.id);
        self.sequence += 1;
        if self.lost == 0 && self.write(&RecordHeader { sequence, producer, ..*header }, captures, true) {
            return true;
        }
        if self.lost == 0 {
            self.turns = self.turns.wrapping_add(1);
        }
        self.lost += 1;
        self.counters.records_lost += 1;
        self.producer.count_drop(1);
        false
    }

    /// Writes a record that has no captures; tells whether it was.
    pub fn record_bare(&mut self, header: &RecordHeader) -> bool {
        self.record(header, &CaptureBuffer::with_capacity(0))
    }

    /// Whether a record with these captures fits into an empty ring.
    #[must_use]
    pub fn takes(&self, captures: &CaptureBuffer) -> bool {
        record_bytes(captures) <= self.producer.record_bytes_max()
    }

    /// Announces what was lost last, tells the consumer that nothing follows, and gives the counters.
    pub fn finish(mut self) -> RecorderCounters {
        self.recover();
        self.producer.close();
        self.counters
    }

    /// Writes a record for those that were lost, without waiting while the workload runs: a consumer that did not make
    /// room for the last record may be hung, and the workload must not be.
    fn announce_loss(&mut self) {
        let header = RecordHeader {
            sequence: self.sequence - self.lost,
            producer: self.id,
            result: i64::try_from(self.lost).unwrap_or(i64::MAX),
            ..RecordHeader::new(RecordKind::Loss, clock::wall_ns())
        };
        if self.write(&header, &CaptureBuffer::with_capacity(0), self.is_over) {
            self.lost = 0;
            self.turns = self.turns.wrapping_add(1);
        }
    }

    /// Writes one record, and waits for room if it may and there is time left; tells whether there was room.
    fn write(&mut self, header: &RecordHeader, captures: &CaptureBuffer, may_wait: bool) -> bool {
        let len = record_bytes(captures);
        let mut is_waiting = false;
        loop {
            match self.producer.reserve(len) {
                Ok(mut reservation) => {
                    if event::write_record(&mut reservation, header, captures).is_err() {
                        return false;
                    }
                    reservation.commit();
                    self.counters.records += 1;
                    self.counters.bytes += len as u64;
                    self.bytes_unproven = self.bytes_unproven.saturating_sub(len);
                    return true;
                }
                Err(ReserveError::Full) if may_wait && self.has_time_to_wait() => {
                    self.counters.waits_for_room += u64::from(!is_waiting && !self.is_over);
                    is_waiting = true;
                    thread::sleep(ROOM_POLL);
                }
                Err(_) => {
                    if is_waiting {
                        // This record did not fit, nor into the rest before the end of the data: twice its span, at most
                        // a header longer than itself.
                        self.bytes_unproven = 2 * (len + HEADER_BYTES);
                    }
                    return false;
                }
            }
        }
    }

    /// Whether room is worth waiting for. A consumer that departs meanwhile is not waited for any longer. The clock is
    /// asked each time, since a short sleep takes up to twice its time.
    fn has_time_to_wait(&self) -> bool {
        (self.bytes_unproven == 0 || self.is_over)
            && self.full_ring.presence.is_there()
            && self.held_since.elapsed() < self.full_ring.hold_max
    }
}

fn record_bytes(captures: &CaptureBuffer) -> usize {
    HEADER_BYTES + captures.as_bytes().len()
}

/// The header of the record of a call that began then, with what is known of it at its entry.
pub(crate) fn call_header(
    enter_ns: u64,
    call: &Call,
    (tid, pid): (Tid, Pid),
    flags: RecordFlags,
) -> RecordHeader {
    RecordHeader {
        tid: tid.as_u32(),
        pid: pid.as_u32(),
        flags: flags.0,
        abi: call.abi.code(),
        number: call.nr,
        arguments: call.arguments,
        ..RecordHeader::new(RecordKind::Syscall, enter_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{CaptureFlags, CaptureKind, Record},
        ring::{Consumer, Heap, Poll, RecordBuffer},
    };

    fn recorder(hold_max: Duration, presence: Presence) -> (Recorder<Heap>, Consumer<Heap>) {
        let memory = Arc::new(Heap::new(1024).unwrap());
        let full_ring = FullRing { hold_max, presence: Arc::new(presence) };
        let recorder = Recorder::new(Producer::new(Arc::clone(&memory)), 3, full_ring);
        (recorder, Consumer::attach(memory).unwrap())
    }

    fn call() -> RecordHeader {
        RecordHeader::new(RecordKind::Syscall, 1)
    }

    /// Kind, number and result of each record in the ring.
    fn read(consumer: &mut Consumer<Heap>) -> Vec<(RecordKind, u64, i64)> {
        let mut buffer = RecordBuffer::new();
        let mut read = Vec::new();
        while consumer.poll(&mut buffer) == Ok(Poll::Record) {
            let record = Record::parse(&buffer).unwrap();
            read.push((record.kind(), record.header().sequence, record.header().result));
        }
        read
    }

    #[test]
    fn a_full_ring_is_waited_for_once_and_not_without_a_consumer() {
        let hold_max = Duration::from_millis(20);
        let (mut recorder, _consumer) = recorder(hold_max, Presence::new(true));
        while recorder.record_bare(&call()) {}
        let since = Instant::now();
        assert!(!recorder.record_bare(&call()) && !recorder.recover());
        assert!(since.elapsed() < hold_max, "a second record waits for nobody");
        assert_eq!((recorder.counters.waits_for_room, recorder.counters.records_lost), (1, 2));
        let (mut recorder, _consumer) = self::recorder(Duration::from_secs(60), Presence::new(false));
        while recorder.record_bare(&call()) {}
        assert_eq!(recorder.counters.waits_for_room, 0);
    }

    #[test]
    fn a_hung_consumer_is_waited_for_once_even_if_its_loss_can_be_announced() {
        let (mut recorder, mut consumer) = recorder(Duration::from_millis(20), Presence::new(true));
        let mut captures = CaptureBuffer::with_capacity(512);
        captures.push(CaptureKind::Path, 0, CaptureFlags::default(), &[b'x'; 300]).unwrap();
        let fill = |recorder: &mut Recorder<Heap>| {
            recorder.begin_stop(Instant::now());
            while recorder.record(&call(), &captures) {}
            recorder.counters.waits_for_room
        };
        assert_eq!(fill(&mut recorder), 1);
        assert!(recorder.recover(), "an announcement is shorter");
        assert_eq!(fill(&mut recorder), 1);
        for _ in 0..16 {
            read(&mut consumer);
            assert!(recorder.recover() && recorder.record_bare(&call()));
        }
        assert_eq!(fill(&mut recorder), 2, "it has read something");
    }

    #[test]
    fn a_stop_that_was_heard_long_ago_is_held_no_longer() {
        let hold_max = Duration::from_secs(60);
        let (mut recorder, _consumer) = recorder(hold_max, Presence::new(true));
        recorder.begin_stop(Instant::now().checked_sub(hold_max).unwrap());
        while recorder.record_bare(&call()) {}
        assert_eq!((recorder.counters.waits_for_room, recorder.counters.records_lost), (0, 1));
    }

    #[test]
    fn the_end_waits_for_a_hung_consumer_within_one_bound_whatever_a_stop_may() {
        let drain_max = Duration::from_millis(100);
        let (recorder, _consumer) = recorder(Duration::ZERO, Presence::new(true));
        let mut recorder = recorder.with_drain_max(drain_max);
        while recorder.record_bare(&call()) {}
        let ended = Instant::now();
        recorder.begin_end(ended);
        assert!(!recorder.recover() && ended.elapsed() >= drain_max);
        let counters = recorder.finish();
        assert!(ended.elapsed() < drain_max * 2, "it waits once");
        assert_eq!(counters.waits_for_room, 0, "no stop was held");
    }

    #[test]
    fn a_loss_is_announced_at_the_end_when_a_slow_consumer_makes_room() {
        let (mut recorder, mut consumer) = recorder(Duration::ZERO, Presence::new(true));
        while recorder.record_bare(&call()) {}
        let ended = Instant::now();
        recorder.begin_end(ended);
        let reader = thread::spawn(move || {
            let mut told = Vec::new();
            while !matches!(told.last(), Some((RecordKind::Loss, _, _))) {
                assert!(ended.elapsed() < Duration::from_secs(20), "it is never announced");
                told.extend(read(&mut consumer));
            }
            told
        });
        assert_eq!(recorder.finish().records_lost, 1);
        assert_eq!(reader.join().unwrap().last().unwrap().2, 1);
    }

    #[test]
    fn after_a_loss_nothing_is_written_until_it_is_announced() {
        let (mut recorder, mut consumer) = recorder(Duration::ZERO, Presence::new(true));
        let mut written = 0;
        while recorder.record_bare(&call()) {
            written += 1;
        }
        let during = recorder.epoch();
        assert_ne!(during, 0);
        assert_eq!(read(&mut consumer).len(), written);
        assert!(!recorder.record_bare(&call()), "although there is room");
        assert!(recorder.recover() && recorder.epoch() != during);
        assert!(recorder.record_bare(&call()));
        let first_lost = u64::try_from(written).unwrap();
        assert_eq!(
            read(&mut consumer),
            [(RecordKind::Loss, first_lost, 2), (RecordKind::Syscall, first_lost + 2, 0)]
        );
        let counters = recorder.finish();
        assert_eq!((counters.records_lost, counters.records), (2, first_lost + 2));
    }

    #[test]
    fn a_consumer_that_departs_begins_another_epoch() {
        let (recorder, _consumer) = recorder(Duration::ZERO, Presence::new(true));
        assert_eq!(recorder.epoch(), 0);
        recorder.full_ring.presence.depart();
        assert_eq!(recorder.epoch(), 1);
    }
}
