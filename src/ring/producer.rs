//! The producers' side: reserve, write in place, commit.
//!
//! It owns `head`, `reclaimed`, the stamps and the data. It must never let two reservations overlap, whatever the
//! consumer's page says: that proof is the invariant in `mod.rs`, and every line of [`Producer::reserve`] and
//! [`Producer::reclaim`] serves it.

#![expect(unsafe_code, reason = "a reservation lends out bytes of the ring")]

use super::ReserveError;
use super::memory::{Atomic, Atomics, ProducerMemory};
use super::stamp::{Geometry, Place, Reading, State};
use crate::limits;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Writes records into a ring, from any number of threads.
pub struct Producer<M: ProducerMemory> {
    memory: Arc<M>,
    geometry: Geometry,
}

impl<M: ProducerMemory> Clone for Producer<M> {
    fn clone(&self) -> Self {
        Self { memory: Arc::clone(&self.memory), geometry: self.geometry }
    }
}

impl<M: ProducerMemory> Producer<M> {
    /// A producer for the ring in `memory`.
    #[must_use]
    pub fn new(memory: Arc<M>) -> Self {
        let geometry = memory.geometry();
        Self { memory, geometry }
    }

    /// The memory that this producer writes to.
    #[must_use]
    pub fn memory(&self) -> &Arc<M> {
        &self.memory
    }

    /// Longest record that this ring takes, in bytes.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.geometry.record_bytes_max()
    }

    /// Reserves `len` bytes, to be written in place and then committed.
    ///
    /// Lock-free: it starts over only when another producer has got its own reservation in between. The consumer sees
    /// records in the order of their reservations, so one that is held for long holds back all that follow.
    ///
    /// # Errors
    /// [`ReserveError::Full`] when the consumer has not read enough yet, or claims a position that it cannot have.
    /// [`ReserveError::TooLong`] when no ring of this size could ever take the record.
    pub fn reserve(&self, len: usize) -> Result<Reservation<'_, M>, ReserveError> {
        let max = self.record_bytes_max();
        if len > max {
            return Err(ReserveError::TooLong { len, max });
        }
        let page = self.memory.producers();
        // Acquire: pairs with the Release in `reclaim`, which comes after the consumer's last read of these granules
        // and after the last write of whoever had reserved them in the lap before. Loaded before `head`, so that the
        // head seen is never behind it.
        let mut reclaimed = page.reclaimed.load(Ordering::Acquire);
        let mut head = page.head.load(Ordering::Relaxed);
        let place = loop {
            let place = self.geometry.place(head, len);
            if place.end.wrapping_sub(reclaimed) > self.geometry.ring_bytes() {
                if !self.reclaim(reclaimed) {
                    return Err(ReserveError::Full);
                }
                // Acquire: as above.
                reclaimed = page.reclaimed.load(Ordering::Acquire);
                head = page.head.load(Ordering::Relaxed);
                continue;
            }
            // Relaxed: the exchange only makes the range ours. What orders our writes after the previous lap is
            // `reclaimed`, and what orders the consumer's reads after our writes is the stamp.
            match page.head.compare_exchange(head, place.end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break place,
                Err(moved) => head = moved,
            }
        };
        // Release: pairs with the Acquire fence in `History::next`. Whoever sees a byte that is written from here on also
        // sees a `reclaimed` that has passed what the byte belonged to. No instruction on x86.
        M::Atomics::fence(Ordering::Release);
        self.pad(head, place);
        Ok(Reservation { producer: self, start: place.start, len })
    }

    /// Adds `n` records to those that were given up for want of room.
    pub fn count_drop(&self, n: u64) {
        self.memory.producers().counters.dropped.fetch_add(n, Ordering::Relaxed);
    }

    /// Records given up so far, by all producers.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.memory.producers().counters.dropped.load(Ordering::Relaxed)
    }

    /// Records that the consumer has not read. Exact while no producer writes.
    #[must_use]
    pub fn unread(&self) -> u64 {
        let page = self.memory.producers();
        // Acquire: as in `reserve`.
        let reclaimed = page.reclaimed.load(Ordering::Acquire);
        let tail = self.memory.consumer().tail.load(Ordering::Acquire);
        let head = page.head.load(Ordering::Relaxed);
        // A tail that makes no sense has read nothing.
        let is_honest = tail.wrapping_sub(reclaimed) <= head.wrapping_sub(reclaimed);
        let mut at = if is_honest { tail } else { reclaimed };
        let mut unread = 0;
        while at != head {
            // Acquire: pairs with the Release in `publish`.
            let stamp = self.memory.stamps().at(self.geometry.granule(at)).load(Ordering::Acquire);
            match self.geometry.read(at, stamp) {
                Reading::Record { span, .. } => {
                    unread += 1;
                    at = at.wrapping_add(span);
                }
                Reading::Skip { span } => at = at.wrapping_add(span),
                Reading::Pending | Reading::Corrupt => break,
            }
        }
        unread
    }

    /// How many times a reservation found the consumer at a position that it cannot have.
    #[must_use]
    pub fn tail_invalid(&self) -> u64 {
        self.memory.producers().counters.tail_invalid.load(Ordering::Relaxed)
    }

    /// Says that no record follows and wakes the consumer, which still reads all that was committed, and whatever is
    /// still reserved when it is committed or discarded.
    ///
    /// A record that is reserved afterwards may be missed.
    pub fn close(&self) {
        // Release: pairs with the Acquire in `Consumer::poll`, so that a consumer that sees the ring closed also sees
        // how far `head` had come.
        self.memory.producers().closed.store(1, Ordering::Release);
        self.wake_sleeper();
    }

    /// Stamps what `place` leaves unused before the end of the data, if anything.
    #[inline]
    fn pad(&self, head: u64, place: Place) {
        if place.start != head {
            let stamp = self.geometry.stamp(head, State::Padding, self.geometry.rest(head));
            self.publish(head, stamp);
        }
    }

    /// Moves `reclaimed` towards the consumer's tail, over records that were published. Says whether `reclaimed` is no
    /// longer what the caller has `seen`.
    #[cold]
    fn reclaim(&self, seen: u64) -> bool {
        let page = self.memory.producers();
        // Acquire: whoever stored this had seen the tail and the head at or beyond it, so we do, too.
        let from = page.reclaimed.load(Ordering::Acquire);
        if from != seen {
            return true;
        }
        // Acquire: pairs with the Release in `Consumer::advance`: the consumer's reads are done.
        let tail = self.memory.consumer().tail.load(Ordering::Acquire);
        let head = page.head.load(Ordering::Relaxed);
        if tail.wrapping_sub(from) > head.wrapping_sub(from) {
            // An honest tail lies between the two: `from` once was a tail, and `head`, loaded after the tail, covers
            // all that the consumer can have read.
            page.counters.tail_invalid.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let to = self.published_until(from, tail);
        if to == from {
            // Relaxed: when it has moved, the caller loads it again with Acquire.
            return page.reclaimed.load(Ordering::Relaxed) != seen;
        }
        // Release: pairs with the Acquire in `reserve`. The exchange fails only when another producer has moved
        // `reclaimed`, and then the stamps that we have read may be of the next lap: our answer is void, theirs holds.
        let _: Result<u64, u64> =
            page.reclaimed.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed);
        true
    }

    /// Where the unbroken run of published records from `from` on ends, at `tail` or before.
    fn published_until(&self, from: u64, tail: u64) -> u64 {
        let stamps = self.memory.stamps();
        let mut to = from;
        for _ in 0..limits::RECLAIM_RECORDS_MAX {
            let left = tail.wrapping_sub(to);
            // Acquire: pairs with the Release in `publish`: the writes of the previous owner of these granules are
            // done before the next owner's begin.
            let stamp = stamps.at(self.geometry.granule(to)).load(Ordering::Acquire);
            match self.geometry.read(to, stamp) {
                Reading::Record { span, .. } | Reading::Skip { span } if span <= left => {
                    to = to.wrapping_add(span);
                }
                _ => break,
            }
        }
        to
    }

    #[inline]
    fn publish(&self, position: u64, stamp: u64) {
        let stamps = self.memory.stamps();
        // Release: pairs with the Acquire in `Consumer::poll`: who sees the stamp sees the bytes.
        stamps.at(self.geometry.granule(position)).store(stamp, Ordering::Release);
    }

    /// Wakes the consumer if it sleeps; a system call only then.
    #[inline]
    fn wake_sleeper(&self) {
        let sleeping = &self.memory.consumer().sleeping;
        // SeqCst: pairs with the fence in `Consumer::wait`. Each side stores its own word and then loads the other's,
        // and only a total order of the two fences keeps both from reading the old value.
        M::Atomics::fence(Ordering::SeqCst);
        if sleeping.load(Ordering::Relaxed) == 1 && sleeping.swap(0, Ordering::Relaxed) == 1 {
            // The record is published, so there is nothing to undo if the kernel refuses: the consumer's sleep has
            // a bound of its own.
            let _: std::io::Result<()> = self.memory.wake();
        }
    }
}

/// Bytes of the ring that belong to one producer until it commits them. Dropped without a commit, they are skipped.
///
/// At first they hold what an earlier record has left there: overwrite them all.
#[must_use = "a reservation that is dropped publishes nothing"]
pub struct Reservation<'a, M: ProducerMemory> {
    producer: &'a Producer<M>,
    start: u64,
    len: usize,
}

impl<M: ProducerMemory> Reservation<'_, M> {
    /// Publishes the record.
    #[inline]
    pub fn commit(self) {
        ManuallyDrop::new(self).finish(State::Committed);
    }

    #[inline]
    fn finish(&self, state: State) {
        let producer = self.producer;
        let stamp = producer.geometry.stamp(self.start, state, self.len as u64);
        producer.publish(self.start, stamp);
        producer.wake_sleeper();
    }

    #[inline]
    fn first_granule(&self) -> usize {
        self.producer.geometry.granule(self.start)
    }
}

impl<M: ProducerMemory> Drop for Reservation<'_, M> {
    fn drop(&mut self) {
        // A consumer that sleeps behind this reservation must be woken for the records after it.
        self.finish(State::Discarded);
    }
}

impl<M: ProducerMemory> Deref for Reservation<'_, M> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let bytes = self.producer.memory.bytes(self.first_granule(), self.len);
        // SAFETY: `bytes` points to `len` initialised bytes that stay mapped while `producer` is borrowed. Until this
        // reservation is finished no one else writes them (the invariant in `mod.rs`), and we lend them out
        // mutably only through `&mut self`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr(), self.len) }
    }
}

impl<M: ProducerMemory> DerefMut for Reservation<'_, M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.producer.memory.bytes(self.first_granule(), self.len);
        // SAFETY: as in `deref`; moreover the consumer does not read them before they are published, which takes
        // this reservation by value, and `&mut self` keeps any other slice of them from living at the same time.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_ptr(), self.len) }
    }
}
