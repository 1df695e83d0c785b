//! Loom runs the shipped producers and consumer through every interleaving and every value that the memory model
//! allows, over a memory of a few granules.
//!
//! Data is no atomic: each granule has a loom cell, which fails the model when two accesses to it are not ordered. A
//! sleep without a wake-up is a deadlock, which fails the model, too, since time does not pass in it.

#![expect(unsafe_code, reason = "the modelled memory vouches for its regions as the real ones do")]

use super::memory::{Granule, atomic, bytes_within, copy_words};
use super::*;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

atomic!(AtomicU64, u64);
atomic!(AtomicU32, u32);

struct Loom;

impl Atomics for Loom {
    type U64 = AtomicU64;
    type U32 = AtomicU32;

    fn fence(order: Ordering) {
        fence(order);
    }

    // It orders nothing, and others may go on at any moment anyway.
    fn nap(_duration: Duration) {}
}

struct Modelled {
    geometry: Geometry,
    producers: Box<ProducersPage<Loom>>,
    consumer: Box<ConsumerPage<Loom>>,
    stamps: Box<[AtomicU64]>,
    data: Box<[Granule]>,
    /// One for each granule: who touches it, as loom sees it.
    touched: Box<[UnsafeCell<()>]>,
    is_attached: AtomicBool,
    /// The kernel's lock on a futex: it compares and goes to sleep under it.
    bucket: Mutex<()>,
    woken: Condvar,
}

// SAFETY: only the cells are not `Sync`, and finding out who shares them is what they are for; they hold nothing.
unsafe impl Sync for Modelled {}

impl Modelled {
    fn new(ring_bytes: usize, position: u64) -> Arc<Self> {
        let geometry = Geometry::new(ring_bytes).unwrap();
        let granules = 0..geometry.granules();
        let mut memory = Self {
            geometry,
            producers: Box::new(ProducersPage::new()),
            consumer: Box::new(ConsumerPage::new()),
            stamps: granules.clone().map(|_| AtomicU64::new(0)).collect(),
            data: granules.clone().map(|_| Granule::new()).collect(),
            touched: granules.map(|_| UnsafeCell::new(())).collect(),
            is_attached: AtomicBool::new(false),
            bucket: Mutex::new(()),
            woken: Condvar::new(),
        };
        memory.start_at(position);
        Arc::new(memory)
    }

    fn touched(&self, first: usize, bytes: usize) -> &[UnsafeCell<()>] {
        &self.touched[first..first + bytes.div_ceil(64)]
    }
}

impl Memory for Modelled {
    type Atomics = Loom;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn producers(&self) -> &ProducersPage<Loom> {
        &self.producers
    }

    fn consumer(&self) -> &ConsumerPage<Loom> {
        &self.consumer
    }

    fn stamps(&self) -> Stamps<'_, Loom> {
        Stamps(&self.stamps)
    }

    fn is_attached(&self) -> &AtomicBool {
        &self.is_attached
    }

    unsafe fn copy_out(&self, first: usize, words: &mut [u64]) {
        for granule in self.touched(first, words.len() * 8) {
            granule.with(|_| ());
        }
        copy_words(&self.data, first, words);
    }

    fn sleep(&self, _timeout: Duration) -> io::Result<()> {
        let guard = self.bucket.lock().unwrap();
        if self.consumer.sleeping.load(Ordering::Relaxed) == 1 {
            drop(self.woken.wait(guard).unwrap());
        }
        Ok(())
    }

    fn wake(&self) -> io::Result<()> {
        let _guard = self.bucket.lock().unwrap();
        self.woken.notify_one();
        Ok(())
    }
}

// SAFETY: as for `Heap`: boxes that are never replaced, and distinct granules.
unsafe impl ProducerMemory for Modelled {
    fn bytes(&self, first: usize, len: usize) -> NonNull<u8> {
        for granule in self.touched(first, len) {
            granule.with_mut(|_| ());
        }
        bytes_within(&self.data, first, len)
    }
}

/// Explores `model` with at most `preemptions` involuntary switches in one execution. Most faults of protocols like
/// this one need two.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Writes one record full of `byte`, if there is room.
fn try_write<M: ProducerMemory>(producer: &Producer<M>, byte: u8, len: usize) -> bool {
    match producer.reserve(len) {
        Ok(mut record) => {
            record.fill(byte);
            record.commit();
            true
        }
        Err(error) => {
            assert_eq!(error, ReserveError::Full);
            false
        }
    }
}

/// Writes one record full of `byte`, however long that takes.
fn write(producer: &Producer<Modelled>, byte: u8, len: usize) {
    while !try_write(producer, byte, len) {
        thread::yield_now();
    }
}

/// The first byte of each record, until `count` of them have come or the ring is closed. In between, `idle`.
fn read(
    consumer: &mut Consumer<Modelled>,
    count: usize,
    len: usize,
    idle: fn(&mut Consumer<Modelled>),
) -> Vec<u8> {
    let mut out = RecordBuffer::new();
    let mut firsts = Vec::new();
    while firsts.len() < count {
        match consumer.poll(&mut out).unwrap() {
            Poll::Record => {
                assert_eq!(out.len(), len);
                assert!(out.iter().all(|byte| *byte == out[0]), "the record is torn: {:?}", &*out);
                firsts.push(out[0]);
            }
            Poll::Empty => idle(consumer),
            Poll::Closed => break,
        }
    }
    firsts
}

/// Sleeps until it is woken, for ever if it is not.
fn sleep(consumer: &mut Consumer<Modelled>) {
    consumer.wait(Duration::MAX).unwrap();
}

/// Looks again later: fewer interleavings, for models that are about something else than sleep.
fn look_again(_: &mut Consumer<Modelled>) {
    thread::yield_now();
}

#[test]
fn two_producers_go_round_a_ring_of_two_granules() {
    explore(2, || {
        let memory = Modelled::new(128, 0_u64.wrapping_sub(64));
        let producer = Producer::new(Arc::clone(&memory));
        write(&producer, 1, 64);
        let other = producer.clone();
        let first = thread::spawn(move || write(&producer, 2, 64));
        let second = thread::spawn(move || write(&other, 3, 64));
        let read = read(&mut Consumer::attach(memory).unwrap(), 3, 64, look_again);
        assert!(matches!(*read, [1, 2, 3] | [1, 3, 2]), "{read:?}");
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn room_that_one_producer_has_found_is_safe_for_the_other() {
    explore(2, || {
        let memory = Modelled::new(128, 0);
        let producer = Producer::new(Arc::clone(&memory));
        write(&producer, 1, 64);
        write(&producer, 2, 64);
        let other = producer.clone();
        let first = thread::spawn(move || try_write(&producer, 3, 64));
        let second = thread::spawn(move || try_write(&other, 3, 64));
        assert_eq!(read(&mut Consumer::attach(memory).unwrap(), 2, 64, look_again), [1, 2]);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn padding_is_skipped_while_two_producers_race_for_the_end_of_the_data() {
    explore(2, || {
        let memory = Modelled::new(512, 448);
        let producer = Producer::new(Arc::clone(&memory));
        let other = producer.clone();
        let first = thread::spawn(move || write(&producer, 1, 128));
        let second = thread::spawn(move || write(&other, 2, 128));
        let read = read(&mut Consumer::attach(memory).unwrap(), 2, 128, sleep);
        assert!(matches!(*read, [1, 2] | [2, 1]), "{read:?}");
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn a_discard_wakes_the_consumer_for_the_records_behind_it() {
    explore(2, || {
        let memory = Modelled::new(128, 0);
        let producer = Producer::new(Arc::clone(&memory));
        let other = producer.clone();
        let first = thread::spawn(move || drop(producer.reserve(64).unwrap()));
        let second = thread::spawn(move || write(&other, 2, 64));
        assert_eq!(read(&mut Consumer::attach(memory).unwrap(), 1, 64, sleep), [2]);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn a_sleeping_consumer_is_woken_for_each_record_and_for_the_close() {
    explore(3, || {
        let memory = Modelled::new(128, 0_u64.wrapping_sub(64));
        let producer = Producer::new(Arc::clone(&memory));
        let writer = thread::spawn(move || {
            write(&producer, 1, 64);
            write(&producer, 2, 64);
            producer.close();
        });
        assert_eq!(read(&mut Consumer::attach(memory).unwrap(), usize::MAX, 64, sleep), [1, 2]);
        writer.join().unwrap();
    });
}

#[test]
fn a_record_reserved_before_the_close_is_read_before_closed_is_reported() {
    explore(3, || {
        let memory = Modelled::new(256, 0);
        let producer = Producer::new(Arc::clone(&memory));
        let writer = thread::spawn(move || {
            let mut late = producer.reserve(64).unwrap();
            producer.close();
            late.fill(1);
            late.commit();
        });
        let read = read(&mut Consumer::attach(memory).unwrap(), usize::MAX, 64, sleep);
        // A consumer that looks only after the close has something to drain; there is nothing that it may miss.
        assert_eq!(read, [1]);
        writer.join().unwrap();
    });
}

#[test]
fn no_forged_tail_makes_two_producers_write_the_same_granules() {
    explore(2, || {
        let memory = Modelled::new(128, 0);
        let forger = Arc::clone(&memory);
        let producer = Producer::new(memory);
        let other = producer.clone();
        let first = thread::spawn(move || (try_write(&producer, 1, 64), try_write(&producer, 2, 64)));
        let second = thread::spawn(move || (try_write(&other, 3, 64), try_write(&other, 4, 64)));
        for tail in [64, 128] {
            forger.consumer.tail.store(tail, Ordering::Release);
        }
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// A memory whose data may be read while it is overwritten, as [`History`] does: the first word of each granule is an
/// atomic of the model that counts how often the granule was written.
struct Rewritten {
    modelled: Arc<Modelled>,
    versions: Box<[AtomicU64]>,
}

impl Rewritten {
    fn new(ring_bytes: usize) -> Arc<Self> {
        let modelled = Modelled::new(ring_bytes, 0);
        let versions = (0..modelled.geometry.granules()).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { modelled, versions })
    }
}

impl Memory for Rewritten {
    type Atomics = Loom;

    fn geometry(&self) -> Geometry {
        self.modelled.geometry()
    }

    fn producers(&self) -> &ProducersPage<Loom> {
        self.modelled.producers()
    }

    fn consumer(&self) -> &ConsumerPage<Loom> {
        self.modelled.consumer()
    }

    fn stamps(&self) -> Stamps<'_, Loom> {
        self.modelled.stamps()
    }

    fn is_attached(&self) -> &AtomicBool {
        self.modelled.is_attached()
    }

    unsafe fn copy_out(&self, first: usize, words: &mut [u64]) {
        words[0] = self.versions[first].load(Ordering::Relaxed);
    }

    fn sleep(&self, timeout: Duration) -> io::Result<()> {
        self.modelled.sleep(timeout)
    }

    fn wake(&self) -> io::Result<()> {
        self.modelled.wake()
    }
}

// SAFETY: as for `Modelled`, whose regions these are.
unsafe impl ProducerMemory for Rewritten {
    fn bytes(&self, first: usize, len: usize) -> NonNull<u8> {
        let version = &self.versions[first];
        // Its one writer is who has reserved it.
        version.store(version.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.modelled.bytes(first, len)
    }
}

#[test]
fn what_history_gives_was_not_overwritten_meanwhile() {
    explore(3, || {
        let memory = Rewritten::new(128);
        let producer = Producer::new(Arc::clone(&memory));
        let mut consumer = Consumer::attach(memory).unwrap();
        let mut out = RecordBuffer::new();
        for byte in [1, 2] {
            assert!(try_write(&producer, byte, 64));
            assert_eq!(consumer.poll(&mut out), Ok(Poll::Record));
        }
        let reader = thread::spawn(move || {
            let mut history = consumer.history(u64::MAX);
            while history.next(&mut out) {
                assert_eq!(out[..8], 1_u64.to_ne_bytes(), "this was overwritten while it was copied");
            }
        });
        assert!(try_write(&producer, 3, 64));
        reader.join().unwrap();
    });
}
