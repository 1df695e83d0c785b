//! What holds for the ring as a whole: against a model, under load, across processes, and against hostile peers.

use super::stamp::State;
use super::*;
use crate::limits::RECORD_BYTES_MAX;
use crate::sys::shm::{Memfd, MemfdReader};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Long enough for any machine; reached only by a lost wake-up.
const PATIENCE: Duration = Duration::from_secs(60);

fn heap(ring_bytes: usize, position: u64) -> Arc<Heap> {
    let mut heap = Heap::new(ring_bytes).unwrap();
    heap.start_at(position);
    Arc::new(heap)
}

fn pair(ring_bytes: usize, position: u64) -> (Producer<Heap>, Consumer<Heap>) {
    let memory = heap(ring_bytes, position);
    (Producer::new(Arc::clone(&memory)), Consumer::attach(memory).unwrap())
}

fn write<M: ProducerMemory>(producer: &Producer<M>, bytes: &[u8]) -> Result<(), ReserveError> {
    let mut record = producer.reserve(bytes.len())?;
    record.copy_from_slice(bytes);
    record.commit();
    Ok(())
}

fn read<M: Memory>(consumer: &mut Consumer<M>) -> Option<Vec<u8>> {
    let mut out = RecordBuffer::new();
    match consumer.poll(&mut out).unwrap() {
        Poll::Record => Some(out.to_vec()),
        Poll::Empty | Poll::Closed => None,
    }
}

#[test]
fn a_record_comes_out_as_it_went_in_whatever_its_length() {
    let (producer, mut consumer) = pair(RECORD_BYTES_MAX * 2, 0);
    for len in [0, 1, 7, 8, 63, 64, 65, 4096, RECORD_BYTES_MAX] {
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        write(&producer, &bytes).unwrap();
        assert_eq!(read(&mut consumer), Some(bytes), "{len} bytes");
    }
    assert_eq!(read(&mut consumer), None);
}

#[test]
fn a_record_longer_than_half_of_the_ring_is_too_long() {
    let (producer, _consumer) = pair(256, 0);
    let error = producer.reserve(129).err();
    assert_eq!(error, Some(ReserveError::TooLong { len: 129, max: 128 }));
}

#[test]
fn the_longest_record_fits_an_empty_ring_wherever_it_stands() {
    for granule in 0..16 {
        let (producer, mut consumer) = pair(1024, granule * 64);
        write(&producer, &[1; 512]).unwrap();
        assert_eq!(read(&mut consumer), Some(vec![1; 512]), "from granule {granule}");
    }
}

#[test]
fn a_full_ring_refuses_until_the_consumer_has_read() {
    let (producer, mut consumer) = pair(256, 0_u64.wrapping_sub(128));
    for byte in 0..4 {
        write(&producer, &[byte; 64]).unwrap();
    }
    assert_eq!(write(&producer, &[9; 64]), Err(ReserveError::Full));
    producer.count_drop(1);
    assert_eq!(consumer.dropped(), 1);
    assert_eq!(read(&mut consumer), Some(vec![0; 64]));
    write(&producer, &[4; 64]).unwrap();
    for byte in 1..5 {
        assert_eq!(read(&mut consumer), Some(vec![byte; 64]));
    }
    assert_eq!((read(&mut consumer), producer.tail_invalid()), (None, 0));
}

#[test]
fn a_reservation_that_is_held_holds_back_the_records_after_it() {
    let (producer, mut consumer) = pair(512, 0);
    let mut held = producer.reserve(3).unwrap();
    write(&producer, b"after").unwrap();
    assert_eq!(read(&mut consumer), None);
    held.copy_from_slice(b"now");
    held.commit();
    assert_eq!(read(&mut consumer), Some(b"now".to_vec()));
    assert_eq!(read(&mut consumer), Some(b"after".to_vec()));
}

#[test]
fn closed_is_reported_only_when_all_is_drained() {
    let (producer, mut consumer) = pair(512, 0);
    let mut out = RecordBuffer::new();
    let late = producer.reserve(1).unwrap();
    write(&producer, b"last").unwrap();
    producer.close();
    assert_eq!(consumer.poll(&mut out), Ok(Poll::Empty));
    drop(late);
    assert_eq!(consumer.poll(&mut out), Ok(Poll::Record));
    assert_eq!(&*out, b"last");
    assert_eq!(consumer.poll(&mut out), Ok(Poll::Closed));
    consumer.wait(PATIENCE).unwrap();
}

#[test]
fn a_consumer_resumes_where_the_one_before_it_has_left_off() {
    let (producer, mut consumer) = pair(512, 448);
    for byte in 1..=3 {
        write(&producer, &[byte]).unwrap();
    }
    assert_eq!(read(&mut consumer), Some(vec![1]));
    let memory = Arc::clone(producer.memory());
    assert_eq!(Consumer::attach(Arc::clone(&memory)).err(), Some(AttachError::Attached));
    drop(consumer);
    let mut next = Consumer::attach(memory).unwrap();
    assert_eq!(read(&mut next), Some(vec![2]));
    assert_eq!(read(&mut next), Some(vec![3]));
}

#[test]
fn a_tail_that_no_consumer_can_have_is_refused_and_can_be_skipped() {
    let (producer, consumer) = pair(512, 0);
    drop(consumer);
    write(&producer, b"lost").unwrap();
    let memory = producer.memory();
    for tail in [65, 128, 0_u64.wrapping_sub(512), 32] {
        memory.consumer.tail.store(tail, Ordering::Relaxed);
        let refused = Consumer::attach(Arc::clone(memory)).err();
        assert_eq!(refused, Some(AttachError::TailOutOfRange { tail, head: 64, ring_bytes: 512 }));
    }
    let mut consumer = Consumer::attach_at_head(Arc::clone(memory)).unwrap();
    for round in 0..100 {
        write(&producer, &[round; 100]).unwrap();
        assert_eq!(read(&mut consumer), Some(vec![round; 100]));
    }
}

#[test]
fn a_tail_out_of_range_makes_the_ring_full_and_is_counted() {
    let (producer, _consumer) = pair(256, 0);
    for byte in 0..4 {
        write(&producer, &[byte; 64]).unwrap();
    }
    let tail = &producer.memory().consumer.tail;
    for (count, hostile) in [257, 1 << 40, u64::MAX, 0_u64.wrapping_sub(256)].into_iter().enumerate() {
        tail.store(hostile, Ordering::Relaxed);
        assert_eq!(write(&producer, &[9; 64]), Err(ReserveError::Full), "{hostile}");
        assert_eq!(producer.tail_invalid(), count as u64 + 1);
    }
    // In the middle of a record, and then the truth.
    tail.store(32, Ordering::Relaxed);
    assert_eq!(write(&producer, &[9; 64]), Err(ReserveError::Full));
    tail.store(64, Ordering::Relaxed);
    assert_eq!(write(&producer, &[9; 64]), Ok(()));
}

#[test]
fn a_tail_beyond_a_held_reservation_does_not_give_its_bytes_away() {
    let (producer, _consumer) = pair(256, 0);
    let mut held = producer.reserve(64).unwrap();
    for byte in 1..4 {
        write(&producer, &[byte; 64]).unwrap();
    }
    producer.memory().consumer.tail.store(256, Ordering::Relaxed);
    assert_eq!(write(&producer, &[9; 64]), Err(ReserveError::Full));
    held.fill(7);
    assert!(held.iter().all(|byte| *byte == 7));
    held.commit();
    assert_eq!(write(&producer, &[9; 64]), Ok(()));
}

#[test]
fn a_forged_stamp_stops_the_consumer_for_good_and_names_its_position() {
    let geometry = Geometry::new(512).unwrap();
    let forged = [
        (1 << 30) | 257,                              // longer than half of the ring
        (1 << 30) | ((1 << 30) - 1),                  // as long as a stamp can say
        (2 << 30) | 500,                              // a discard as long
        (3 << 30) | 64,                               // padding that does not reach the end of the data
        (3 << 30) | 512,                              // padding that is all of the data
        1,                                            // a length without a state
        geometry.stamp(512, State::Committed, 1),     // the next lap
        geometry.stamp(512 << 20, State::Padding, 1), // a lap far ahead
    ];
    for stamp in forged {
        let (producer, mut consumer) = pair(512, 0);
        write(&producer, b"true").unwrap();
        producer.memory().stamps[0].store(stamp, Ordering::Relaxed);
        let mut out = RecordBuffer::new();
        for _ in 0..2 {
            let error = PollError::CorruptStamp { position: 0, stamp };
            assert_eq!(consumer.poll(&mut out), Err(error), "{stamp:#x}");
        }
        consumer.wait(PATIENCE).unwrap();
        drop(consumer);
        let mut consumer = Consumer::attach_at_head(Arc::clone(producer.memory())).unwrap();
        write(&producer, b"again").unwrap();
        assert_eq!(read(&mut consumer), Some(b"again".to_vec()));
    }
}

#[test]
fn a_memfd_is_read_through_a_mapping_that_cannot_write_it() {
    let memory = Arc::new(Memfd::create(4096).unwrap());
    let ring = memory.ring_fd().try_clone_to_owned().unwrap();
    let control = memory.control_fd().try_clone_to_owned().unwrap();
    let reader = Arc::new(MemfdReader::map_reader(ring, control).unwrap());
    let producer = Producer::new(memory);
    let mut consumer = Consumer::attach(reader).unwrap();
    for round in 0..100 {
        write(&producer, &[round; 200]).unwrap();
        assert_eq!(read(&mut consumer), Some(vec![round; 200]));
    }
    assert_eq!(consumer.position(), producer.memory().producers().head.load(Ordering::Relaxed));
}

/// Where `a_consumer_in_another_process_reads_and_sleeps` says which files its child is to map.
const CHILD_FILES: &str = "CREANCE_TEST_RING_FILES";

#[test]
fn a_consumer_in_another_process_reads_and_sleeps() {
    let mut memory = Memfd::create(4096).unwrap();
    memory.start_at(0_u64.wrapping_sub(8192));
    let pid = std::process::id();
    let path = |fd: i32| format!("/proc/{pid}/fd/{fd}");
    let files = [path(memory.ring_fd().as_raw_fd()), path(memory.control_fd().as_raw_fd())];
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ring::tests::the_consumer_of_another_process", "--ignored"])
        .env(CHILD_FILES, files.join(":"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let producer = Producer::new(Arc::new(memory));
    write_numbered(&producer, 0, 20_000);
    producer.close();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(producer.tail_invalid(), 0);
}

#[test]
#[ignore = "the other half of `a_consumer_in_another_process_reads_and_sleeps`, which runs it"]
fn the_consumer_of_another_process() {
    let files = std::env::var(CHILD_FILES).expect("this test runs only as the child of another one");
    let (ring, control) = files.split_once(':').unwrap();
    let open = |path| File::options().read(true).write(true).open(path).unwrap().into();
    let reader = MemfdReader::map_reader(open(ring), open(control)).unwrap();
    assert_eq!(read_numbered(&mut Consumer::attach(Arc::new(reader)).unwrap()), [20_000, 0]);
}

/// Reserves as soon as the consumer has made room.
fn reserve<M: ProducerMemory>(producer: &Producer<M>, len: usize) -> Reservation<'_, M> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match producer.reserve(len) {
            Ok(record) => return record,
            Err(error) => assert_eq!(error, ReserveError::Full),
        }
        assert!(Instant::now() < deadline, "the consumer does not read");
        std::thread::yield_now();
    }
}

/// Writes `count` records of many lengths, each telling its producer, its number and bytes made from that number.
fn write_numbered<M: ProducerMemory>(producer: &Producer<M>, id: u8, count: u32) {
    for number in 0..count {
        let [low, ..] = number.to_le_bytes();
        let len = 5 + usize::from(low) % 190;
        let mut record = reserve(producer, len);
        record.fill(low);
        record[0] = id;
        record[1..5].copy_from_slice(&number.to_le_bytes());
        if number % 7 == 3 {
            // Given up and written again, so that discards are in the way.
            drop(record);
            let mut again = reserve(producer, 5);
            again[0] = id;
            again[1..].copy_from_slice(&number.to_le_bytes());
            again.commit();
        } else {
            record.commit();
        }
    }
}

/// Reads until the ring is closed and checks each byte. Answers how many records came from either producer.
fn read_numbered<M: Memory>(consumer: &mut Consumer<M>) -> [u32; 2] {
    let mut next = [0_u32; 2];
    let mut out = RecordBuffer::new();
    loop {
        match consumer.poll(&mut out).unwrap() {
            Poll::Record => {
                let next = &mut next[usize::from(out[0])];
                assert_eq!(out[1..5], next.to_le_bytes(), "records of one producer stay in order");
                let [low, ..] = next.to_le_bytes();
                let len = if *next % 7 == 3 { 5 } else { 5 + usize::from(low) % 190 };
                assert_eq!(out.len(), len);
                assert!(out[5..].iter().all(|byte| *byte == low), "record {next} is torn");
                *next += 1;
            }
            Poll::Empty => consumer.wait(PATIENCE).unwrap(),
            Poll::Closed => return next,
        }
    }
}

/// Two producers and a consumer, each in a thread of its own, on a ring that is full most of the time.
fn stress<M: ProducerMemory + 'static>(memory: Arc<M>) {
    const COUNT: u32 = 20_000;
    let producer = Producer::new(Arc::clone(&memory));
    let mut consumer = Consumer::attach(memory).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_numbered(&mut consumer));
        let writers = [0, 1].map(|id| {
            let producer = producer.clone();
            scope.spawn(move || write_numbered(&producer, id, COUNT))
        });
        for writer in writers {
            writer.join().unwrap();
        }
        producer.close();
        assert_eq!(reader.join().unwrap(), [COUNT, COUNT]);
    });
    assert_eq!(producer.tail_invalid(), 0);
}

#[test]
fn two_producers_under_load_lose_nothing_on_a_small_heap() {
    stress(heap(1024, 0_u64.wrapping_sub(1024 * 100)));
}

#[test]
fn two_producers_under_load_lose_nothing_on_a_heap_with_room() {
    stress(heap(1 << 16, 0_u64.wrapping_sub(1 << 20)));
}

#[test]
fn two_producers_under_load_lose_nothing_on_a_memfd() {
    let mut memory = Memfd::create(4096).unwrap();
    memory.start_at(0_u64.wrapping_sub(1 << 20));
    stress(Arc::new(memory));
}

/// The number of a record that `write_numbered` has made, if the record is whole.
fn checked_number(record: &[u8]) -> u32 {
    let number = u32::from_le_bytes(record[1..5].try_into().unwrap());
    let [low, ..] = number.to_le_bytes();
    let len = if number % 7 == 3 { 5 } else { 5 + usize::from(low) % 190 };
    assert_eq!(record.len(), len, "record {number}");
    assert!(record[5..].iter().all(|byte| *byte == low), "record {number} is torn");
    number
}

#[test]
fn history_that_is_overtaken_goes_on_where_nothing_is_overwritten() {
    let (producer, mut consumer) = pair(1 << 14, 0);
    let write_next = |number: u32| write(&producer, &number.to_le_bytes());
    for number in 0..256 {
        write_next(number).unwrap();
        assert!(read(&mut consumer).is_some());
    }
    let mut out = RecordBuffer::new();
    let mut history = consumer.history(u64::MAX);
    assert!(history.next(&mut out) && out[..] == 0_u32.to_le_bytes());
    // One reservation in a full ring makes room of the oldest 64 records, and two overwrite the oldest two.
    write_next(256).unwrap();
    write_next(257).unwrap();
    for number in 64_u32..256 {
        assert!(history.next(&mut out), "{number}");
        assert_eq!(out[..], number.to_le_bytes());
    }
    assert!(!history.next(&mut out));
}

#[test]
fn history_stays_within_its_bound_and_ends_where_reading_goes_on() {
    let (producer, mut consumer) = pair(1 << 14, 0_u64.wrapping_sub(1 << 13));
    for number in 0_u32..100 {
        write(&producer, &number.to_le_bytes()).unwrap();
    }
    for _ in 0..90 {
        read(&mut consumer).unwrap();
    }
    let mut out = RecordBuffer::new();
    for (bytes_max, from) in [(u64::MAX, 0), (64 * 10, 80), (64 * 10 - 1, 81), (64, 89), (63, 90), (0, 90)] {
        let mut history = consumer.history(bytes_max);
        for number in from..90_u32 {
            assert!(history.next(&mut out) && out[..] == number.to_le_bytes(), "{number} of {bytes_max}");
        }
        assert!(!history.next(&mut out), "{bytes_max}");
    }
    assert_eq!(read(&mut consumer), Some(90_u32.to_le_bytes().to_vec()));
}

/// Consumers come and go while two producers write; each looks at what those before it have read.
fn stress_history<M: ProducerMemory + 'static>(memory: Arc<M>) {
    const COUNT: u32 = 20_000;
    let producer = Producer::new(Arc::clone(&memory));
    let mut seen = 0_u64;
    std::thread::scope(|scope| {
        let writers = [0, 1].map(|id| {
            let producer = producer.clone();
            scope.spawn(move || write_numbered(&producer, id, COUNT))
        });
        let mut next = [0_u32; 2];
        let mut out = RecordBuffer::new();
        while next != [COUNT, COUNT] {
            let mut consumer = Consumer::attach(Arc::clone(&memory)).unwrap();
            let mut last = [None; 2];
            let mut history = consumer.history(u64::MAX);
            while history.next(&mut out) {
                let number = checked_number(&out);
                let last = &mut last[usize::from(out[0])];
                assert!(last.is_none_or(|last| last < number), "{last:?} before {number}");
                *last = Some(number);
                seen += 1;
            }
            for (last, next) in last.into_iter().zip(next) {
                assert!(last.is_none_or(|last| last < next), "{last:?} was not read before {next}");
            }
            for _ in 0..50 {
                if consumer.poll(&mut out).unwrap() == Poll::Record {
                    let next = &mut next[usize::from(out[0])];
                    assert_eq!(checked_number(&out), *next);
                    *next += 1;
                }
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
    });
    assert_eq!((seen > 0, producer.tail_invalid()), (true, 0));
}

#[test]
fn history_is_whole_and_in_order_while_producers_overwrite_it() {
    stress_history(heap(1 << 13, 0_u64.wrapping_sub(1 << 15)));
}

#[test]
fn history_is_whole_and_in_order_while_producers_overwrite_a_memfd() {
    let mut memory = Memfd::create(1 << 14).unwrap();
    memory.start_at(0_u64.wrapping_sub(1 << 20));
    stress_history(Arc::new(memory));
}

#[derive(Debug, Clone)]
enum Op {
    Reserve(usize),
    Commit(prop::sample::Index),
    Discard(prop::sample::Index),
    Poll,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_usize..=600).prop_map(Op::Reserve),
        3 => any::<prop::sample::Index>().prop_map(Op::Commit),
        1 => any::<prop::sample::Index>().prop_map(Op::Discard),
        4 => Just(Op::Poll),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Held,
    Committed(Vec<u8>),
    Skipped,
}

/// The ring as a queue: each slot with the bytes that it takes.
struct Model {
    ring_bytes: usize,
    offset: usize,
    slots: VecDeque<(Slot, usize)>,
    /// Slots that have been popped, so that a held one can be found again.
    popped: usize,
}

impl Model {
    /// Takes room for a record and answers the number of its slot.
    fn reserve(&mut self, len: usize) -> Option<usize> {
        let span = len.max(1).next_multiple_of(64);
        let rest = self.ring_bytes - self.offset;
        let padding = if span > rest { rest } else { 0 };
        let used: usize = self.slots.iter().map(|(_, bytes)| bytes).sum();
        if used + padding + span > self.ring_bytes {
            return None;
        }
        if padding > 0 {
            self.slots.push_back((Slot::Skipped, padding));
        }
        self.slots.push_back((Slot::Held, span));
        self.offset = (self.offset + padding + span) % self.ring_bytes;
        Some(self.popped + self.slots.len() - 1)
    }

    fn finish(&mut self, number: usize, slot: Slot) {
        self.slots[number - self.popped].0 = slot;
    }

    fn poll(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.slots.front()? {
                (Slot::Held, _) => return None,
                (Slot::Skipped, _) => {}
                (Slot::Committed(bytes), _) => {
                    let bytes = bytes.clone();
                    self.slots.pop_front();
                    self.popped += 1;
                    return Some(bytes);
                }
            }
            self.slots.pop_front();
            self.popped += 1;
        }
    }
}

proptest! {
    #[test]
    fn the_ring_does_as_a_queue_does(
        granules_before_wrap in 0_u64..40,
        wraps_positions in any::<bool>(),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let wrap = if wraps_positions { 0 } else { 1024_u64 * 7 };
        let position = wrap.wrapping_sub(granules_before_wrap * 64);
        let (producer, mut consumer) = pair(1024, position);
        let offset = usize::try_from(position % 1024).unwrap();
        let mut model = Model { ring_bytes: 1024, offset, slots: VecDeque::new(), popped: 0 };
        let mut held: Vec<(Reservation<'_, Heap>, usize)> = Vec::new();
        for (turn, op) in ops.into_iter().enumerate() {
            match op {
                Op::Reserve(len) if len > 512 => {
                    let refused = producer.reserve(len).err();
                    prop_assert_eq!(refused, Some(ReserveError::TooLong { len, max: 512 }));
                }
                Op::Reserve(len) => match (producer.reserve(len), model.reserve(len)) {
                    (Ok(mut record), Some(slot)) => {
                        record.fill(turn.to_le_bytes()[0]);
                        prop_assert_eq!(record.len(), len);
                        held.push((record, slot));
                    }
                    (Err(ReserveError::Full), None) => {}
                    (real, expected) => {
                        prop_assert!(false, "{:?} where the model has {:?}", real.err(), expected);
                    }
                },
                Op::Commit(index) if !held.is_empty() => {
                    let (record, slot) = held.swap_remove(index.index(held.len()));
                    model.finish(slot, Slot::Committed(record.to_vec()));
                    record.commit();
                }
                Op::Discard(index) if !held.is_empty() => {
                    let (record, slot) = held.swap_remove(index.index(held.len()));
                    model.finish(slot, Slot::Skipped);
                    drop(record);
                }
                Op::Commit(_) | Op::Discard(_) => {}
                Op::Poll => prop_assert_eq!(read(&mut consumer), model.poll()),
            }
        }
        prop_assert_eq!(producer.tail_invalid(), 0);
    }

    #[test]
    fn a_forged_ring_never_makes_a_consumer_panic_or_turn_for_ever(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        stamps in prop::collection::vec((0_u64..4, 0_u64..200), 0..16),
    ) {
        let mut bytes = bytes;
        // Stamps of the first lap, which chance would hardly ever hit.
        for (index, (state, len)) in stamps.into_iter().enumerate() {
            let at = 18 + index * 8;
            if let Some(word) = bytes.get_mut(at..at + 8) {
                word.copy_from_slice(&((state << 30) | len).to_le_bytes());
            }
        }
        if let Some(positions) = bytes.get_mut(2..18) {
            positions.fill(0);
        }
        let memory = Arc::new(Forged::from_bytes(&bytes));
        let geometry = memory.geometry();
        let attached = Consumer::attach(Arc::clone(&memory)).or_else(|_| Consumer::attach_at_head(memory));
        // Refused only when even the head is no place for a record.
        let Ok(mut consumer) = attached else { return Ok(()) };
        let mut out = RecordBuffer::new();
        let mut records = 0;
        while consumer.poll(&mut out) == Ok(Poll::Record) {
            prop_assert!(out.len() <= geometry.record_bytes_max());
            records += 1;
            prop_assert!(records <= geometry.granules());
        }
    }
}
