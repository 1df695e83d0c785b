//! What it costs to hand a record from the engine to a consumer: the ring against queues that one would use instead.
//!
//! `cargo bench --bench ring`. A record has 192 bytes, as a header with one path has. `round_trip` is one thread that
//! writes a record and reads it back, which is the cost of the code alone. `throughput` has each producer and the
//! consumer on a thread of its own, and the time for all records to arrive; with more threads than CPUs it measures the
//! scheduler, too. No queue loses a record: a producer that finds its queue full yields and tries again.

use creance::ring::{Consumer, Heap, Memory, Poll, Producer, ProducerMemory, RecordBuffer};
use creance::sys::shm::{Memfd, MemfdReader};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const RECORD_BYTES: usize = 192;
/// All queues have room for as many records.
const RECORDS_QUEUED: usize = 4096;
const RING_BYTES: usize = (RECORDS_QUEUED * RECORD_BYTES).next_power_of_two();

type Record = [u8; RECORD_BYTES];

/// A queue of records. `push` and `pop` say whether they could.
trait Queue: Sync {
    type Reader: Send;
    fn push(&self, byte: u8) -> bool;
    fn pop(reader: &mut Self::Reader) -> Option<u8>;
}

struct Ring<M: ProducerMemory>(Producer<M>);

impl<M: ProducerMemory> Queue for Ring<M> {
    type Reader = (Consumer<M>, RecordBuffer);

    fn push(&self, byte: u8) -> bool {
        let Ok(mut record) = self.0.reserve(RECORD_BYTES) else { return false };
        record.copy_from_slice(&black_box([byte; RECORD_BYTES]));
        record.commit();
        true
    }

    fn pop(reader: &mut Self::Reader) -> Option<u8> {
        let (consumer, record) = reader;
        match consumer.poll(record) {
            Ok(Poll::Record) => black_box(&**record).first().copied(),
            Ok(Poll::Empty | Poll::Closed) | Err(_) => None,
        }
    }
}

struct Arrays(Arc<ArrayQueue<Record>>);

impl Queue for Arrays {
    type Reader = Arc<ArrayQueue<Record>>;

    fn push(&self, byte: u8) -> bool {
        self.0.push(black_box([byte; RECORD_BYTES])).is_ok()
    }

    fn pop(reader: &mut Self::Reader) -> Option<u8> {
        black_box(reader.pop())?.first().copied()
    }
}

struct Boxes(Arc<ArrayQueue<Box<Record>>>);

impl Queue for Boxes {
    type Reader = Arc<ArrayQueue<Box<Record>>>;

    fn push(&self, byte: u8) -> bool {
        self.0.push(Box::new(black_box([byte; RECORD_BYTES]))).is_ok()
    }

    fn pop(reader: &mut Self::Reader) -> Option<u8> {
        black_box(reader.pop())?.first().copied()
    }
}

type Locked = Arc<Mutex<VecDeque<Vec<u8>>>>;

struct Vectors(Locked);

impl Queue for Vectors {
    type Reader = Locked;

    fn push(&self, byte: u8) -> bool {
        let record = black_box([byte; RECORD_BYTES]).to_vec();
        let mut queue = self.0.lock().expect("no holder panics");
        let has_room = queue.len() < RECORDS_QUEUED;
        if has_room {
            queue.push_back(record);
        }
        has_room
    }

    fn pop(reader: &mut Self::Reader) -> Option<u8> {
        let record = reader.lock().expect("no holder panics").pop_front();
        black_box(record)?.first().copied()
    }
}

fn ring<M: ProducerMemory>(memory: M) -> (Ring<M>, (Consumer<M>, RecordBuffer)) {
    let memory = Arc::new(memory);
    let consumer = Consumer::attach(Arc::clone(&memory)).expect("the ring is new");
    (Ring(Producer::new(memory)), (consumer, RecordBuffer::new()))
}

fn heap() -> (Ring<Heap>, (Consumer<Heap>, RecordBuffer)) {
    ring(Heap::new(RING_BYTES).expect("the size is a power of two"))
}

fn arrays() -> (Arrays, Arc<ArrayQueue<Record>>) {
    let queue = Arc::new(ArrayQueue::new(RECORDS_QUEUED));
    (Arrays(Arc::clone(&queue)), queue)
}

fn boxes() -> (Boxes, Arc<ArrayQueue<Box<Record>>>) {
    let queue = Arc::new(ArrayQueue::new(RECORDS_QUEUED));
    (Boxes(Arc::clone(&queue)), queue)
}

fn vectors() -> (Vectors, Locked) {
    let queue = Locked::default();
    (Vectors(Arc::clone(&queue)), queue)
}

/// Sends `count` records in all through a queue, from `producers` threads.
fn transfer<Q: Queue>(queue: &Q, reader: &mut Q::Reader, producers: u64, count: u64) -> Duration {
    let begin = Instant::now();
    thread::scope(|scope| {
        for producer in 0..producers {
            let share = count / producers + u64::from(producer < count % producers);
            scope.spawn(move || {
                for _ in 0..share {
                    while !queue.push(1) {
                        thread::yield_now();
                    }
                }
            });
        }
        let mut sum = 0_u64;
        while sum < count {
            match Q::pop(reader) {
                Some(byte) => sum += u64::from(byte),
                None => thread::yield_now(),
            }
        }
    });
    begin.elapsed()
}

fn round_trip(criterion: &mut Criterion) {
    fn bench<Q: Queue>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, queue: (Q, Q::Reader)) {
        let (queue, mut reader) = queue;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                queue.push(1);
                Q::pop(&mut reader)
            });
        });
    }
    let mut group = criterion.benchmark_group("round_trip");
    bench(&mut group, "ring_heap", heap());
    bench(&mut group, "ring_memfd", ring(Memfd::create(RING_BYTES).expect("memfd_create")));
    bench(&mut group, "array_queue", arrays());
    bench(&mut group, "array_queue_box", boxes());
    bench(&mut group, "mutex_vec_deque", vectors());
    group.bench_function("ring_memfd_two_mappings", |bencher| {
        let memfd = Memfd::create(RING_BYTES).expect("memfd_create");
        let ring = memfd.ring_fd().try_clone_to_owned().expect("dup");
        let control = memfd.control_fd().try_clone_to_owned().expect("dup");
        let reader = MemfdReader::map_reader(ring, control).expect("mmap");
        assert_eq!(reader.geometry(), memfd.geometry());
        let queue = Ring(Producer::new(Arc::new(memfd)));
        let mut consumer = Consumer::attach(Arc::new(reader)).expect("the ring is new");
        let mut record = RecordBuffer::new();
        bencher.iter(|| {
            queue.push(1);
            consumer.poll(&mut record)
        });
    });
    group.finish();
}

/// The producer's half alone, which is what a stopped tracee waits for. The consumer reads between measurements.
fn write(criterion: &mut Criterion) {
    let (queue, mut reader) = heap();
    criterion.bench_function("write/ring_heap", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            let mut left = count;
            while left > 0 {
                let batch = left.min(RECORDS_QUEUED as u64);
                let begin = Instant::now();
                for _ in 0..batch {
                    assert!(queue.push(1), "the ring was emptied before");
                }
                spent += begin.elapsed();
                left -= batch;
                while Ring::pop(&mut reader).is_some() {}
            }
            spent
        });
    });
}

fn throughput(criterion: &mut Criterion) {
    fn bench<Q: Queue>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, queue: (Q, Q::Reader)) {
        let (queue, mut reader) = queue;
        for producers in [1, 2] {
            group.bench_function(BenchmarkId::new(name, producers), |bencher| {
                bencher.iter_custom(|count| transfer(&queue, &mut reader, producers, count));
            });
        }
    }
    let mut group = criterion.benchmark_group("throughput");
    group.throughput(Throughput::Elements(1));
    bench(&mut group, "ring_heap", heap());
    bench(&mut group, "ring_memfd", ring(Memfd::create(RING_BYTES).expect("memfd_create")));
    bench(&mut group, "array_queue", arrays());
    bench(&mut group, "array_queue_box", boxes());
    bench(&mut group, "mutex_vec_deque", vectors());
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2))
}

criterion_group!(name = benches; config = config(); targets = round_trip, write, throughput);
criterion_main!(benches);
