//! The memory that a ring lives in, and the plain heap as the simplest of them.
//!
//! A memory owns four regions: the producers' page, the consumer's page, the stamps and the data. It decides nothing:
//! every load, store and ordering is in `producer.rs` and `consumer.rs`, generic over the atomics of a memory, so that
//! the loom models run the very code that ships. Fields are grouped by who writes them, one cache line (two, since
//! x86 fetches lines in pairs) for each writer.

#![expect(unsafe_code, reason = "a memory vouches for its regions")]

use super::stamp::{GRANULE_BYTES, Geometry};
use crate::sys::futex;
use crossbeam::utils::CachePadded;
use std::io;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::Duration;

/// Words of one granule.
const GRANULE_WORDS: usize = GRANULE_BYTES / size_of::<u64>();

/// An atomic integer, of the machine or of a model checker.
pub trait Atomic<T>: Send + Sync {
    /// An atomic that holds `value`.
    fn new(value: T) -> Self;
    /// See [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> T;
    /// See [`AtomicU64::store`].
    fn store(&self, value: T, order: Ordering);
    /// See [`AtomicU64::swap`].
    fn swap(&self, value: T, order: Ordering) -> T;
    /// See [`AtomicU64::fetch_add`].
    fn fetch_add(&self, value: T, order: Ordering) -> T;
    /// See [`AtomicU64::compare_exchange`].
    ///
    /// # Errors
    /// The value found, when it is not `current`.
    fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T>;
}

/// A family of atomics that work together.
pub trait Atomics: 'static {
    /// The 64-bit integer.
    type U64: Atomic<u64>;
    /// The 32-bit integer, the width of a futex.
    type U32: Atomic<u32>;
    /// See [`std::sync::atomic::fence`].
    fn fence(order: Ordering);
    /// Lets others go on for about this long.
    fn nap(duration: Duration);
}

/// The atomics of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl Atomics for Machine {
    type U64 = AtomicU64;
    type U32 = AtomicU32;

    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }

    fn nap(duration: Duration) {
        thread::sleep(duration);
    }
}

/// Implements [`Atomic`] by the type's own methods of the same names.
macro_rules! atomic {
    ($atomic:ty, $integer:ty) => {
        impl $crate::ring::memory::Atomic<$integer> for $atomic {
            #[inline]
            fn new(value: $integer) -> Self {
                Self::new(value)
            }
            #[inline]
            fn load(&self, order: std::sync::atomic::Ordering) -> $integer {
                self.load(order)
            }
            #[inline]
            fn store(&self, value: $integer, order: std::sync::atomic::Ordering) {
                self.store(value, order);
            }
            #[inline]
            fn swap(&self, value: $integer, order: std::sync::atomic::Ordering) -> $integer {
                self.swap(value, order)
            }
            #[inline]
            fn fetch_add(&self, value: $integer, order: std::sync::atomic::Ordering) -> $integer {
                self.fetch_add(value, order)
            }
            #[inline]
            fn compare_exchange(
                &self,
                current: $integer,
                new: $integer,
                success: std::sync::atomic::Ordering,
                failure: std::sync::atomic::Ordering,
            ) -> Result<$integer, $integer> {
                self.compare_exchange(current, new, success, failure)
            }
        }
    };
}
#[cfg(test)]
pub(super) use atomic;

atomic!(AtomicU64, u64);
atomic!(AtomicU32, u32);

/// What only producers write, apart from stamps and data. What it holds is seen through [`super::Producer`] and
/// [`super::Consumer`] only.
#[repr(C, align(4096))]
pub struct ProducersPage<A: Atomics> {
    /// Where the next reservation starts.
    pub(super) head: CachePadded<A::U64>,
    /// Everything before this position is read by the consumer and finished by its producers.
    pub(super) reclaimed: CachePadded<A::U64>,
    pub(super) counters: CachePadded<ProducersCounters<A>>,
    /// 1 once no record follows.
    pub(super) closed: CachePadded<A::U32>,
}

/// What producers count.
#[repr(C)]
pub(super) struct ProducersCounters<A: Atomics> {
    pub(super) dropped: A::U64,
    pub(super) tail_invalid: A::U64,
}

/// What the consumer writes. Producers write one word of it: they clear `sleeping` when they wake the consumer.
#[repr(C, align(4096))]
pub struct ConsumerPage<A: Atomics> {
    /// Where the consumer reads next.
    pub(super) tail: CachePadded<A::U64>,
    /// The futex: 1 while the consumer sleeps or is about to.
    pub(super) sleeping: CachePadded<A::U32>,
}

/// The layout of both pages is part of what two processes agree on.
const _: () = assert!(
    size_of::<ProducersPage<Machine>>() == 4096
        && offset_of!(ProducersPage<Machine>, head) == 0
        && offset_of!(ProducersPage<Machine>, reclaimed) == 128
        && offset_of!(ProducersPage<Machine>, counters) == 256
        && offset_of!(ProducersPage<Machine>, closed) == 384
        && size_of::<ConsumerPage<Machine>>() == 4096
        && offset_of!(ConsumerPage<Machine>, tail) == 0
        && offset_of!(ConsumerPage<Machine>, sleeping) == 128
        && size_of::<Granule>() == GRANULE_BYTES
);

impl<A: Atomics> ProducersPage<A> {
    pub(super) fn new() -> Self {
        Self {
            head: CachePadded::new(A::U64::new(0)),
            reclaimed: CachePadded::new(A::U64::new(0)),
            counters: CachePadded::new(ProducersCounters {
                dropped: A::U64::new(0),
                tail_invalid: A::U64::new(0),
            }),
            closed: CachePadded::new(A::U32::new(0)),
        }
    }
}

impl<A: Atomics> ConsumerPage<A> {
    pub(super) fn new() -> Self {
        Self { tail: CachePadded::new(A::U64::new(0)), sleeping: CachePadded::new(A::U32::new(0)) }
    }
}

/// The stamps of a ring, one for each granule.
pub struct Stamps<'a, A: Atomics>(pub(super) &'a [A::U64]);

impl<A: Atomics> Stamps<'_, A> {
    /// The stamp of one granule, of a position within this ring.
    #[inline]
    pub(super) fn at(&self, granule: usize) -> &A::U64 {
        self.0.get(granule).expect("a memory has a stamp for each granule of its geometry")
    }
}

/// One granule of data. Atomic words, because the consumer must be able to read them whatever a peer writes.
#[repr(C, align(64))]
pub(super) struct Granule(pub(super) [AtomicU64; GRANULE_WORDS]);

impl Granule {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; GRANULE_WORDS])
    }
}

/// Copies `words.len()` words from the granules from `first` on; words beyond the data are left alone.
#[inline]
pub(super) fn copy_words(data: &[Granule], first: usize, words: &mut [u64]) {
    let granules = data.get(first..).unwrap_or_default();
    for (into, granule) in words.chunks_mut(GRANULE_WORDS).zip(granules) {
        for (into, word) in into.iter_mut().zip(&granule.0) {
            *into = word.load(Ordering::Relaxed);
        }
    }
}

/// The memory of a ring, as the consumer needs it.
pub trait Memory: Send + Sync {
    /// The atomics that the pages and stamps are made of.
    type Atomics: Atomics;

    /// How large the data is. It never changes.
    fn geometry(&self) -> Geometry;
    /// The producers' page; the consumer may hold it read-only.
    fn producers(&self) -> &ProducersPage<Self::Atomics>;
    /// The consumer's page.
    fn consumer(&self) -> &ConsumerPage<Self::Atomics>;
    /// As many stamps as there are granules; the consumer may hold them read-only.
    fn stamps(&self) -> Stamps<'_, Self::Atomics>;
    /// Set while a [`super::Consumer`] of this process is attached. It is not shared between processes.
    fn is_attached(&self) -> &AtomicBool;

    /// Copies data from granule `first` on into `words`.
    ///
    /// # Safety
    /// No producer of this process may write these granules until the call returns: the caller is the attached
    /// consumer and has read the stamp that publishes them, but has not moved its tail past them yet.
    unsafe fn copy_out(&self, first: usize, words: &mut [u64]);

    /// Sleeps while `sleeping` is 1, until [`Memory::wake`], `timeout`, or for no reason at all.
    ///
    /// # Errors
    /// What the kernel answers when it cannot sleep on that word.
    fn sleep(&self, timeout: Duration) -> io::Result<()>;
    /// Wakes the consumer if it sleeps.
    ///
    /// # Errors
    /// What the kernel answers when it cannot wake by that word.
    fn wake(&self) -> io::Result<()>;
}

/// The memory of a ring, as producers need it.
///
/// # Safety
/// Every method always answers with the same regions. The producers' page, the stamps and the data are writable, and
/// nothing but this crate's producers and [`ProducerMemory::start_at`] ever writes them: an untrusted process may
/// write the consumer's page only. `bytes` points to memory of `len` bytes that stays mapped as long as the memory
/// is borrowed, and that ranges of other granules do not overlap.
pub unsafe trait ProducerMemory: Memory {
    /// The first of `len` bytes of data from granule `first` on.
    ///
    /// # Panics
    /// When they are not all within the data.
    fn bytes(&self, first: usize, len: usize) -> NonNull<u8>;

    /// Empties the ring and starts it again at `position`, rounded down to a granule. Rings start at 0 without it;
    /// tests start them just below a wrap.
    ///
    /// An attached consumer of another process would take this for corruption.
    fn start_at(&mut self, position: u64) {
        let position = position & !(GRANULE_BYTES as u64 - 1);
        // Relaxed throughout: `&mut self` says that no one else is in the ring, and whoever shares it from here on
        // orders these stores before what the others do.
        for stamp in self.stamps().0 {
            stamp.store(0, Ordering::Relaxed);
        }
        self.producers().head.store(position, Ordering::Relaxed);
        self.producers().reclaimed.store(position, Ordering::Relaxed);
        self.producers().closed.store(0, Ordering::Relaxed);
        self.consumer().tail.store(position, Ordering::Relaxed);
    }
}

/// A ring in this process's own memory.
pub struct Heap {
    pub(super) geometry: Geometry,
    pub(super) producers: Box<ProducersPage<Machine>>,
    pub(super) consumer: Box<ConsumerPage<Machine>>,
    pub(super) stamps: Box<[AtomicU64]>,
    pub(super) data: Box<[Granule]>,
    is_attached: AtomicBool,
}

impl Heap {
    /// A ring of `ring_bytes` bytes, at position 0; `None` unless [`Geometry::new`] takes that size.
    #[must_use]
    pub fn new(ring_bytes: usize) -> Option<Self> {
        let geometry = Geometry::new(ring_bytes)?;
        Some(Self {
            geometry,
            producers: Box::new(ProducersPage::new()),
            consumer: Box::new(ConsumerPage::new()),
            stamps: std::iter::repeat_with(|| AtomicU64::new(0)).take(geometry.granules()).collect(),
            data: std::iter::repeat_with(Granule::new).take(geometry.granules()).collect(),
            is_attached: AtomicBool::new(false),
        })
    }
}

impl Memory for Heap {
    type Atomics = Machine;

    #[inline]
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline]
    fn producers(&self) -> &ProducersPage<Machine> {
        &self.producers
    }

    #[inline]
    fn consumer(&self) -> &ConsumerPage<Machine> {
        &self.consumer
    }

    #[inline]
    fn stamps(&self) -> Stamps<'_, Machine> {
        Stamps(&self.stamps)
    }

    #[inline]
    fn is_attached(&self) -> &AtomicBool {
        &self.is_attached
    }

    #[inline]
    unsafe fn copy_out(&self, first: usize, words: &mut [u64]) {
        copy_words(&self.data, first, words);
    }

    fn sleep(&self, timeout: Duration) -> io::Result<()> {
        futex::wait(&self.consumer.sleeping, 1, timeout)
    }

    fn wake(&self) -> io::Result<()> {
        futex::wake_one(&self.consumer.sleeping)
    }
}

// SAFETY: the four regions are boxes that are never replaced, and they are private to this module's parent, so only
// producers and `start_at` write them. `bytes` takes its pointer from the slice of exactly the granules asked for,
// so it is in bounds, distinct ranges are disjoint, and the box lives as long as the memory is borrowed. Writing
// through it is permitted although the slice is shared: a granule is made of atomics, that is, of `UnsafeCell`s.
unsafe impl ProducerMemory for Heap {
    #[inline]
    fn bytes(&self, first: usize, len: usize) -> NonNull<u8> {
        bytes_within(&self.data, first, len)
    }
}

/// Where `len` bytes from granule `first` on begin.
#[inline]
pub(super) fn bytes_within(data: &[Granule], first: usize, len: usize) -> NonNull<u8> {
    let granules = data.get(first..first + len.div_ceil(GRANULE_BYTES));
    NonNull::from(granules.expect("a reservation lies within the data")).cast()
}

/// A ring made of bytes that someone else has chosen: what a consumer may find when its peer is hostile.
///
/// It has no producer: those rely on stamps that only they have written.
pub struct Forged(Heap);

impl Forged {
    /// Reads a ring from `bytes`; what is missing is zero.
    ///
    /// One byte for the size (128 bytes shifted left by its low three bits), one for whether the ring is closed (bit
    /// 0), head and tail as little-endian u64, a u64 for each stamp, then the data.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let [size, closed] = take(&mut rest);
        let heap = Heap::new(128 << (size & 7)).expect("128 to 16384 are sizes of a ring");
        heap.producers.closed.store(u32::from(closed & 1), Ordering::Relaxed);
        heap.producers.head.store(u64::from_le_bytes(take(&mut rest)), Ordering::Relaxed);
        heap.consumer.tail.store(u64::from_le_bytes(take(&mut rest)), Ordering::Relaxed);
        let data = heap.data.iter().flat_map(|granule| &granule.0);
        for word in heap.stamps.iter().chain(data) {
            word.store(u64::from_le_bytes(take(&mut rest)), Ordering::Relaxed);
        }
        Self(heap)
    }
}

/// Takes the next `N` bytes, zeros where there are none left.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let (head, rest) = bytes.split_at(N.min(bytes.len()));
    for (into, from) in taken.iter_mut().zip(head) {
        *into = *from;
    }
    *bytes = rest;
    taken
}

impl Memory for Forged {
    type Atomics = Machine;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn producers(&self) -> &ProducersPage<Machine> {
        self.0.producers()
    }

    fn consumer(&self) -> &ConsumerPage<Machine> {
        self.0.consumer()
    }

    fn stamps(&self) -> Stamps<'_, Machine> {
        self.0.stamps()
    }

    fn is_attached(&self) -> &AtomicBool {
        self.0.is_attached()
    }

    unsafe fn copy_out(&self, first: usize, words: &mut [u64]) {
        copy_words(&self.0.data, first, words);
    }

    fn sleep(&self, timeout: Duration) -> io::Result<()> {
        self.0.sleep(timeout)
    }

    fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}
