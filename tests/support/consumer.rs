//! A consumer at the other end of a link, as Falco's plugin is one.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use creance::{
    event::{CaptureKind, Record, RecordKind},
    link::{Follower, Found},
    ring::{Poll, RecordBuffer},
};

use super::limit;

/// A connected consumer.
pub(crate) struct Consumer {
    found: Found,
    buffer: RecordBuffer,
}

/// What one record told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) sequence: u64,
    pub(crate) kind: RecordKind,
    pub(crate) pid: u32,
    pub(crate) result: i64,
    /// The first path, or the name of the program.
    pub(crate) text: String,
}

impl Told {
    fn of(record: &Record<'_>) -> Self {
        let text =
            |kind| record.capture(kind).map(|capture| String::from_utf8_lossy(capture.data).into_owned());
        let name =
            || Some(text(CaptureKind::ProcStatus)?.lines().next()?.strip_prefix("Name:\t")?.to_owned());
        let header = record.header();
        Self {
            sequence: header.sequence,
            kind: record.kind(),
            pid: header.pid,
            result: header.result,
            text: name().or_else(|| text(CaptureKind::Path)).unwrap_or_default(),
        }
    }

    /// How many numbers it stands for.
    fn covers(&self) -> u64 {
        if self.kind == RecordKind::Loss { self.result.unsigned_abs() } else { 1 }
    }
}

impl Consumer {
    /// Waits for a tracer in the directory.
    pub(crate) fn connect(directory: &Path) -> Self {
        let follower = Follower::start(directory.to_owned(), |_, _, _| {}).expect("a thread can be made");
        Self::of(follower.wait(limit()).expect("a tracer is found"))
    }

    /// Reads from a tracer that was found.
    pub(crate) fn of(found: Found) -> Self {
        Self { found, buffer: RecordBuffer::new() }
    }

    /// The processes that the tracer told of at the connection, by their names.
    pub(crate) fn processes(&self) -> Vec<Told> {
        let records = self.found.linked.processes.iter();
        records.map(|bytes| Told::of(&Record::parse(bytes).expect("the link tells records only"))).collect()
    }

    /// The tracer that it is connected to.
    pub(crate) fn tracer(&self) -> &creance::link::Tracer {
        &self.found.linked.tracer
    }

    /// The next record; `None` if there will be none.
    pub(crate) fn next(&mut self) -> Option<Told> {
        let since = Instant::now();
        let consumer = &mut self.found.linked.consumer;
        loop {
            assert!(since.elapsed() < limit(), "no record in {:?}", limit());
            match consumer.poll(&mut self.buffer).expect("the ring makes sense") {
                Poll::Record => {
                    return Some(Told::of(&Record::parse(&self.buffer).expect("a record in the ring")));
                }
                Poll::Closed => return None,
                Poll::Empty => consumer.wait(Duration::from_millis(100)).expect("a consumer can sleep"),
            }
        }
    }

    /// Reads to the end.
    pub(crate) fn rest(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// Checks that no number is missing from `first` on, and tells how many records were announced as lost.
pub(crate) fn check_numbers(told: &[Told], first: u64) -> u64 {
    let mut next = first;
    for one in told {
        assert_eq!(one.sequence, next, "{one:?}");
        next += one.covers();
    }
    told.iter().filter(|one| one.kind == RecordKind::Loss).map(Told::covers).sum()
}
