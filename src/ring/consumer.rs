//! The consumer's side: poll, and sleep when there is nothing.
//!
//! It owns the consumer's page and writes nothing else: all other memory may be mapped read-only. It trusts no byte of
//! that memory, so every stamp goes through [`Geometry::read`], and data is copied out before anyone looks at it.
//!
//! The standard library promises that atomic loads work on read-only memory only for relaxed ones. An Acquire load
//! is therefore a relaxed load and an Acquire fence here, which orders the same and costs nothing more on x86.

#![expect(unsafe_code, reason = "the consumer vouches for what it copies")]

use super::memory::{Atomic, Atomics, Memory};
use super::stamp::{Geometry, Reading};
use super::{AttachError, Poll, PollError};
use crate::limits::{self, RECORD_BYTES_MAX};
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const BUFFER_WORDS: usize = RECORD_BYTES_MAX / size_of::<u64>();

/// The one record that a consumer has read last, in memory of its own, aligned to 8 bytes.
pub struct RecordBuffer {
    words: Box<[u64]>,
    len: usize,
}

impl RecordBuffer {
    /// A buffer that takes any record, empty at first.
    #[must_use]
    pub fn new() -> Self {
        Self { words: vec![0; BUFFER_WORDS].into_boxed_slice(), len: 0 }
    }
}

impl Default for RecordBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for RecordBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice::<u64, u8>(&self.words).get(..self.len).unwrap_or_default()
    }
}

/// Reads records from a ring, in the order in which they were reserved.
pub struct Consumer<M: Memory> {
    memory: Arc<M>,
    geometry: Geometry,
    tail: u64,
    /// The tail when [`Self::wait`] was called last.
    waited_at: u64,
    /// The error that this consumer has stopped at.
    stopped: Option<PollError>,
}

impl<M: Memory> Consumer<M> {
    /// Attaches to the ring in `memory` where its previous consumer has left off.
    ///
    /// # Errors
    /// [`AttachError::Attached`] while this process has another consumer on the same memory;
    /// [`AttachError::TailOutOfRange`] when the previous consumer has left a position that it cannot have had.
    pub fn attach(memory: Arc<M>) -> Result<Self, AttachError> {
        // Acquire: pairs with the Release of the previous consumer in its process, whose last word this was.
        let tail = memory.consumer().tail.load(Ordering::Acquire);
        // Loaded after the tail, so that it covers all that the previous consumer can have read.
        let head = load_acquire::<M>(&memory.producers().head);
        let geometry = memory.geometry();
        if head.wrapping_sub(tail) > geometry.ring_bytes() || !Geometry::is_aligned(tail) {
            return Err(AttachError::TailOutOfRange { tail, head, ring_bytes: geometry.ring_bytes() });
        }
        Self::attach_from(memory, tail)
    }

    /// Attaches to the ring in `memory` and gives up everything that was reserved so far, which is the way on from a
    /// position or a stamp that makes no sense. What is lost shows in the sequence numbers of the records.
    ///
    /// # Errors
    /// [`AttachError::Attached`] as for [`Consumer::attach`]; [`AttachError::TailOutOfRange`] when even `head`
    /// is where no record can start.
    pub fn attach_at_head(memory: Arc<M>) -> Result<Self, AttachError> {
        let head = load_acquire::<M>(&memory.producers().head);
        if !Geometry::is_aligned(head) {
            let ring_bytes = memory.geometry().ring_bytes();
            return Err(AttachError::TailOutOfRange { tail: head, head, ring_bytes });
        }
        let mut consumer = Self::attach_from(memory, head)?;
        consumer.advance(0);
        Ok(consumer)
    }

    fn attach_from(memory: Arc<M>, tail: u64) -> Result<Self, AttachError> {
        // Acquire: pairs with the Release in `drop`: the previous consumer's reads are done.
        if memory.is_attached().swap(true, Ordering::Acquire) {
            return Err(AttachError::Attached);
        }
        let geometry = memory.geometry();
        Ok(Self { memory, geometry, tail, waited_at: tail, stopped: None })
    }

    /// Copies the next record into `out`, if there is one. Never waits.
    ///
    /// # Errors
    /// [`PollError::CorruptStamp`] when no producer that keeps to the protocol can have written what is there. The
    /// consumer then stops for good, and every later call answers the same; [`Consumer::attach_at_head`] starts over.
    pub fn poll(&mut self, out: &mut RecordBuffer) -> Result<Poll, PollError> {
        if let Some(error) = self.stopped {
            return Err(error);
        }
        // Each turn moves on by a granule at least, so that more turns than granules need a peer that feeds us
        // nothing but discards. The caller then gets to do something else.
        for _ in 0..self.geometry.granules() {
            let stamp = self.stamp();
            match self.geometry.read(self.tail, stamp) {
                Reading::Pending => return Ok(self.pending()),
                Reading::Skip { span } => self.advance(span),
                Reading::Record { len, span } => {
                    self.copy(self.tail, len, out);
                    self.advance(span);
                    return Ok(Poll::Record);
                }
                Reading::Corrupt => {
                    let error = PollError::CorruptStamp { position: self.tail, stamp };
                    self.stopped = Some(error);
                    return Err(error);
                }
            }
        }
        Ok(Poll::Empty)
    }

    /// Sleeps until there may be something to poll, `timeout` at most. Returns at once when there already is.
    ///
    /// Where records come again and again it first sleeps for a moment that nobody cuts short: to be woken costs a
    /// producer a system call, and often a switch, while a thread of the workload may stand still.
    ///
    /// # Errors
    /// What the kernel answers when it cannot sleep: futex(2) denied, for one. The caller must then pace itself.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let read = self.tail.wrapping_sub(self.waited_at);
        self.waited_at = self.tail;
        // A ring that fills quickly is not left alone.
        if read > 0 && read <= self.geometry.ring_bytes() / 8 {
            M::Atomics::nap(timeout.min(Duration::from_micros(limits::CONSUMER_NAP_US)));
            if self.has_news() {
                return Ok(());
            }
        }
        let sleeping = &self.memory.consumer().sleeping;
        // A swap, as every write of this word: each then follows the one before it on either side, and a producer's
        // zero for an earlier sleep cannot be taken for one that came after this.
        sleeping.swap(1, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `Producer::wake_sleeper`. Either the producer sees that we sleep, or we see
        // what it has published.
        M::Atomics::fence(Ordering::SeqCst);
        let outcome = if self.has_news() { Ok(()) } else { self.memory.sleep(timeout) };
        sleeping.swap(0, Ordering::Relaxed);
        outcome
    }

    /// Records that producers have given up for want of room. The count is the peer's word, no more.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.memory.producers().counters.dropped.load(Ordering::Relaxed)
    }

    /// Where this consumer reads next, in bytes since the ring began.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Where the next reservation starts: everything before it has been reserved, if not written. The peer's word.
    #[must_use]
    pub fn head(&self) -> u64 {
        load_acquire::<M>(&self.memory.producers().head)
    }

    /// Leaves to the next consumer only what is reserved from now on.
    pub fn skip_to_head(&mut self) {
        let head = self.head();
        self.advance(head.wrapping_sub(self.tail));
    }

    /// Begins to read again what consumers before this one have read, as far back as it is still there, but for no more than
    /// the last `bytes_max` bytes.
    #[must_use]
    pub fn history(&self, bytes_max: u64) -> History<'_, M> {
        let mut history = History { consumer: self, at: self.tail.wrapping_sub(self.left_of_history()) };
        while self.tail.wrapping_sub(history.at) > bytes_max && history.step().is_some() {}
        history
    }

    /// Bytes before the tail that no producer may write to yet; 0 if the ring makes no sense.
    fn left_of_history(&self) -> u64 {
        let reclaimed = load_acquire::<M>(&self.memory.producers().reclaimed);
        let left = self.tail.wrapping_sub(reclaimed);
        if Geometry::is_aligned(reclaimed) && left <= self.geometry.ring_bytes() { left } else { 0 }
    }

    fn stamp(&self) -> u64 {
        self.stamp_at(self.tail)
    }

    fn stamp_at(&self, position: u64) -> u64 {
        // Acquire: pairs with the Release in `Producer::publish`.
        load_acquire::<M>(self.memory.stamps().at(self.geometry.granule(position)))
    }

    fn has_news(&self) -> bool {
        self.stopped.is_some()
            || self.geometry.read(self.tail, self.stamp()) != Reading::Pending
            || self.pending() == Poll::Closed
    }

    /// What it means that nothing is published at the tail.
    fn pending(&self) -> Poll {
        let page = self.memory.producers();
        let is_closed = page.closed.load(Ordering::Relaxed) != 0;
        // Acquire: pairs with the Release in `Producer::close`. The head loaded below covers all that was reserved
        // before, so that an equal tail has drained it.
        M::Atomics::fence(Ordering::Acquire);
        if is_closed && page.head.load(Ordering::Relaxed) == self.tail { Poll::Closed } else { Poll::Empty }
    }

    fn copy(&self, position: u64, len: usize, out: &mut RecordBuffer) {
        let words = out.words.get_mut(..len.div_ceil(size_of::<u64>()));
        let words = words.expect("`Geometry::read` takes no record longer than the longest");
        // SAFETY: we are the attached consumer, since `attach_from` has set the flag and only `drop` clears it. The
        // stamp that publishes these granules was just read with Acquire. Either the tail moves after the copy, or the
        // copy is given up if the granules may have been reserved meanwhile (`History::next`).
        unsafe { self.memory.copy_out(self.geometry.granule(position), words) };
        out.len = len;
    }

    fn advance(&mut self, span: u64) {
        self.tail = self.tail.wrapping_add(span);
        // Release: pairs with the Acquire in `Producer::reclaim`: our reads are done before the granules are reused.
        self.memory.consumer().tail.store(self.tail, Ordering::Release);
    }
}

/// Reads what consumers before have read. Producers do not wait for it, so that the oldest records may vanish meanwhile.
pub struct History<'c, M: Memory> {
    consumer: &'c Consumer<M>,
    at: u64,
}

impl<M: Memory> History<'_, M> {
    /// Copies the next record into `out`; tells whether there was one before the place where the consumer reads on.
    pub fn next(&mut self, out: &mut RecordBuffer) -> bool {
        loop {
            let from = self.at;
            let Some(len) = self.step() else { return false };
            let Some(len) = len else { continue };
            self.consumer.copy(from, len, out);
            // Acquire: the copy is done before `reclaimed` is asked. A producer writes only what `reclaimed` has passed,
            // so what it has not passed yet is whole.
            M::Atomics::fence(Ordering::Acquire);
            let still_there = self.consumer.left_of_history();
            if still_there >= self.consumer.tail.wrapping_sub(from) {
                return true;
            }
            self.at = self.consumer.tail.wrapping_sub(still_there);
        }
    }

    /// Steps over what is stamped next; gives the length of a record, or that there is none here. `None` at the end.
    fn step(&mut self) -> Option<Option<usize>> {
        let consumer = self.consumer;
        let left = consumer.tail.wrapping_sub(self.at);
        if left == 0 {
            return None;
        }
        let (len, span) = match consumer.geometry.read(self.at, consumer.stamp_at(self.at)) {
            Reading::Record { len, span } => (Some(len), span),
            Reading::Skip { span } => (None, span),
            // A producer may have come by: what is still there begins later. If none has, this is no place to go on from.
            Reading::Pending | Reading::Corrupt => (None, left - consumer.left_of_history().min(left)),
        };
        self.at = self.at.wrapping_add(if span == 0 { left } else { span.min(left) });
        Some(len)
    }
}

impl<M: Memory> Drop for Consumer<M> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `attach_from`.
        self.memory.is_attached().store(false, Ordering::Release);
    }
}

/// An Acquire load that also works on memory that is mapped read-only.
#[inline]
fn load_acquire<M: Memory>(word: &<M::Atomics as Atomics>::U64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    M::Atomics::fence(Ordering::Acquire);
    value
}
