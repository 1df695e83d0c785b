//! One tracer's records, read from its ring and made into events.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use super::counters::Counters;
use crate::{
    container::announcement_of,
    event::{Record, RecordHeader, RecordKind},
    falco::{Batch, Snapshot, Translator},
    limits,
    link::Found,
    ring::{Consumer, Poll, RecordBuffer},
    sys::shm::MemfdReader,
};

/// The number that the next record of each producer should have.
pub(super) type Sequences = HashMap<u16, u64>;

/// One tracer.
pub(super) struct Stream {
    found: Found,
    translator: Translator,
    /// What tells Falco's container plugin the name and image of the container, until it is told.
    announcement: Option<Vec<u8>>,
    /// Introductions that have to be told before any other record.
    snapshot: Option<Snapshot>,
    /// Where the ring's head was when we connected, until we have come so far.
    catching_up_to: Option<u64>,
    buffer: RecordBuffer,
    next: Next,
    /// Records taken in this turn.
    taken: u32,
    /// The tracer is gone: what is in its ring is all that will ever be.
    has_died: bool,
    /// Its ring made no sense, and it will be connected to again.
    was_given_up: bool,
    sequences: Sequences,
    counters: Arc<Counters>,
    /// What of the translator's own counts has been passed on.
    events_refused: u64,
    unremembered: u64,
}

/// What comes next of a tracer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing yet.
    Nothing,
    /// A record of this time, which is in the buffer.
    Record(u64),
    /// The container, before anything else.
    Announcement,
    /// Introductions, before any record.
    Snapshot,
    /// The ends of processes that nobody else will tell.
    Ends,
    /// Nothing any more.
    Over,
}

impl Stream {
    /// A tracer that has just been found. `sequences` are those of an earlier connection to it.
    pub(super) fn new(
        mut found: Found,
        id_offset: u64,
        sequences: Sequences,
        counters: Arc<Counters>,
    ) -> Self {
        let container = &found.linked.tracer.container;
        let announcement = announcement_of(container);
        let mut translator =
            Translator::new().with_id_offset(id_offset).with_container(container.id.as_deref());
        for process in mem::take(&mut found.linked.processes) {
            match Record::parse(&process) {
                Ok(record) => translator.preload(&record),
                Err(_) => counters.decode_errors.add(1),
            }
        }
        let catching_up_to = Some(found.linked.consumer.head());
        counters.rings_reset.add(u64::from(found.linked.was_reset));
        let mut buffer = RecordBuffer::new();
        let mut sequences = sequences;
        learn_history(&found.linked.consumer, &mut buffer, &mut translator, &mut sequences);
        let snapshot = Some(translator.snapshot());
        Self {
            found,
            translator,
            announcement,
            snapshot,
            catching_up_to,
            buffer,
            next: Next::Nothing,
            taken: 0,
            has_died: false,
            was_given_up: false,
            sequences,
            counters,
            events_refused: 0,
            unremembered: 0,
        }
    }

    /// Asks whether the tracer is still there. This takes a system call, so it is not asked for each record.
    pub(super) fn check_tracer(&mut self) {
        self.has_died = self.found.linked.connection.is_hung_up();
    }

    /// What comes next. It asks the ring only if nothing is known to be there.
    pub(super) fn look(&mut self) -> Next {
        if self.next == Next::Nothing {
            self.next = self.poll();
        }
        self.next
    }

    fn poll(&mut self) -> Next {
        if self.announcement.is_some() {
            return Next::Announcement;
        }
        if self.snapshot.is_some() {
            return Next::Snapshot;
        }
        let consumer = &mut self.found.linked.consumer;
        // The head is ahead of where we are by less than the ring, so the difference as a signed number tells.
        if self.catching_up_to.is_some_and(|head| head.wrapping_sub(consumer.position()).cast_signed() <= 0) {
            self.catching_up_to = None;
            self.snapshot = Some(self.translator.caught_up());
            return Next::Snapshot;
        }
        match consumer.poll(&mut self.buffer) {
            Ok(Poll::Record) => match Record::parse(&self.buffer) {
                Ok(record) => Next::Record(record.header().exit_ns),
                Err(_) => {
                    self.counters.decode_errors.add(1);
                    Next::Nothing
                }
            },
            Ok(Poll::Empty) if !self.has_died => Next::Nothing,
            // Of a workload that has ended in good order nothing is left, unless ends of processes were lost.
            Ok(Poll::Empty | Poll::Closed) => Next::Ends,
            Err(_) => self.give_up(),
        }
    }

    /// The ring makes no sense where we are. Whoever connects next begins at its head, with the processes as they are
    /// then, so those of now are ended; what is lost shows in the numbers of the records.
    fn give_up(&mut self) -> Next {
        self.counters.rings_reset.add(1);
        self.found.linked.consumer.skip_to_head();
        self.was_given_up = true;
        Next::Ends
    }

    /// Whether as many records were taken as go out before those of other tracers have their turn.
    pub(super) const fn has_had_turn(&self) -> bool {
        self.taken >= limits::TURN_RECORDS_MAX
    }

    pub(super) const fn begin_turn(&mut self) {
        self.taken = 0;
    }

    /// Appends the events of what [`Self::look`] has found.
    pub(super) fn take(&mut self, now_ns: u64, out: &mut Batch) {
        match self.next {
            Next::Nothing | Next::Over => {}
            Next::Announcement => {
                if let Some(data) = self.announcement.take() {
                    let told = out.async_event(now_ns, c"container", &data);
                    self.counters.events_refused.add(u64::from(told.is_err()));
                }
                self.next = Next::Nothing;
            }
            Next::Record(_) => {
                self.next = Next::Nothing;
                self.record(out);
            }
            Next::Snapshot => {
                let snapshot = self.snapshot.as_mut();
                if snapshot.is_none_or(|snapshot| snapshot.fill(&mut self.translator, now_ns, out)) {
                    self.snapshot = None;
                    self.next = Next::Nothing;
                }
            }
            Next::Ends => {
                if self.translator.end_all(now_ns, out) {
                    self.next = Next::Over;
                }
            }
        }
        self.pass_on_counts();
    }

    fn record(&mut self, out: &mut Batch) {
        let Ok(record) = Record::parse(&self.buffer) else { return };
        self.counters.records.add(1);
        self.taken = self.taken.saturating_add(1);
        let skipped = count(&mut self.sequences, record.header(), record.kind());
        if skipped > 0 {
            self.counters.records_skipped.add(skipped);
            self.translator.tell_loss(skipped, record.header().exit_ns, out);
        }
        if record.kind() == RecordKind::Loss {
            self.counters.records_lost.add(record.header().result.cast_unsigned());
        }
        self.translator.translate(&record, out);
    }

    fn pass_on_counts(&mut self) {
        let (refused, unremembered) = (self.translator.events_refused(), self.translator.unremembered());
        if refused != self.events_refused {
            if let Some(error) = self.translator.last_error() {
                log::warn!("creance: an event was left out, please report this: {error}");
            }
            self.counters.events_refused.add(refused - self.events_refused);
            self.events_refused = refused;
        }
        self.counters.processes_unremembered.add(unremembered - self.unremembered);
        self.unremembered = unremembered;
    }

    /// Sleeps until there may be a record, `timeout` at most.
    pub(super) fn wait(&mut self, timeout: Duration) {
        if self.found.linked.consumer.wait(timeout).is_err() {
            // Without a sleep the caller would spin.
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
        }
    }

    /// The tracer's id, and the numbers that its next records should have, if there may be any.
    pub(super) fn into_sequences(self) -> (String, Option<Sequences>) {
        (self.found.linked.tracer.id, Some(self.sequences).filter(|_| self.was_given_up))
    }
}

/// Learns from records that another consumer has read which processes there are where this one reads on: those that have
/// ended since are in no snapshot. Their events were told then, and are not told again.
fn learn_history(
    consumer: &Consumer<MemfdReader>,
    buffer: &mut RecordBuffer,
    translator: &mut Translator,
    sequences: &mut Sequences,
) {
    let mut told_before = Batch::with_capacity(0);
    let mut history = consumer.history(limits::HISTORY_BYTES_MAX);
    while history.next(buffer) {
        if let Ok(record) = Record::parse(buffer) {
            translator.translate(&record, &mut told_before);
            told_before.clear();
            count(sequences, record.header(), record.kind());
        }
    }
}

/// Notes the number of a record; tells how many before it are missing without an announcement.
fn count(sequences: &mut Sequences, header: &RecordHeader, kind: RecordKind) -> u64 {
    // An announcement has the number of the first record that it stands for.
    let covers = if kind == RecordKind::Loss { header.result.max(0).cast_unsigned() } else { 1 };
    let next = header.sequence.saturating_add(covers);
    match sequences.insert(header.producer, next) {
        Some(expected) => header.sequence.saturating_sub(expected),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u64, result: i64) -> RecordHeader {
        RecordHeader { sequence, result, ..bytemuck::Zeroable::zeroed() }
    }

    #[test]
    fn announced_losses_leave_no_gap_and_others_do() {
        let mut sequences = Sequences::new();
        let mut counted = |sequence, lost| {
            let kind = if lost > 0 { RecordKind::Loss } else { RecordKind::Syscall };
            count(&mut sequences, &header(sequence, lost), kind)
        };
        assert_eq!(counted(100, 0), 0, "what was before we came is not known");
        assert_eq!(counted(101, 0), 0);
        assert_eq!(counted(102, 5), 0);
        assert_eq!(counted(107, 0), 0);
        assert_eq!(counted(110, 0), 2);
        assert_eq!(counted(111, 0), 0);
    }
}
