//! The records of all tracers, merged by time.
//!
//! The oldest record that is there goes first. Nobody waits for a tracer that has nothing: its next record may be
//! older than what has gone out meanwhile, but never older than another of the same thread.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc, thread, time::Duration};

use hdrhistogram::Histogram;

use super::{
    counters::Counters,
    stream::{Next, Sequences, Stream},
};
use crate::{
    engine::histogram_ns,
    falco::Batch,
    limits,
    link::{Follower, Found},
    sys::{clock, procfs},
};

/// How far the ids of one PID namespace are moved from those of another: one more than the highest thread id of Linux
/// (`PID_MAX_LIMIT`, proc_sys_kernel(5)).
const IDS_OF_NAMESPACE: u64 = 1 << 22;

/// Events between two looks at the latencies.
const LATENCY_RECORDS: u64 = 4096;

/// Every tracer whose ring is read.
pub(super) struct Streams {
    follower: Follower,
    streams: Vec<Stream>,
    /// PID namespaces in the order in which they were met. The first is Falco's own: it has read its own `/proc`, so that
    /// the ids in there are taken.
    namespaces: Vec<u64>,
    /// Of tracers that were connected before.
    sequences: HashMap<String, Sequences>,
    counters: Arc<Counters>,
    latency_ns: Histogram<u64>,
}

impl Streams {
    /// Begins to look for tracers in the directory.
    pub(super) fn open(directory: PathBuf, counters: Arc<Counters>) -> io::Result<Self> {
        let failures = Arc::clone(&counters);
        let follower = Follower::start(directory, move |path, error, is_new| {
            failures.links_failed.add(1);
            if is_new {
                log::warn!(
                    "creance: {}: {:#}",
                    path.display(),
                    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
                );
            }
        })?;
        Ok(Self {
            follower,
            streams: Vec::new(),
            namespaces: vec![procfs::pid_namespace()],
            sequences: HashMap::new(),
            counters,
            latency_ns: histogram_ns(),
        })
    }

    /// Appends events until the batch is full or no tracer has any.
    pub(super) fn fill(&mut self, out: &mut Batch) {
        while let Some(found) = self.follower.take() {
            self.adopt(found);
        }
        self.streams.iter_mut().for_each(Stream::check_tracer);
        let now_ns = clock::wall_ns();
        let before = out.len();
        while !out.is_full() {
            let Some(at) = self.earliest() else { break };
            let Some(stream) = self.streams.get_mut(at) else { break };
            match stream.look() {
                Next::Over => self.dismiss(at),
                Next::Record(exit_ns) => {
                    self.latency_ns.saturating_record(now_ns.saturating_sub(exit_ns));
                    stream.take(now_ns, out);
                }
                _ => stream.take(now_ns, out),
            }
        }
        self.counters.events.add((out.len() - before) as u64);
        if self.latency_ns.len() >= LATENCY_RECORDS || out.is_empty() && !self.latency_ns.is_empty() {
            self.counters.ring_latency_p99_ns.set(self.latency_ns.value_at_quantile(0.99));
            self.latency_ns.reset();
        }
    }

    /// Sleeps until there may be something, `timeout` at most.
    pub(super) fn wait(&mut self, timeout: Duration) {
        let found = match self.streams.as_mut_slice() {
            [] => self.follower.wait(timeout),
            [stream] => {
                stream.wait(timeout);
                None
            }
            // A sleep on several rings takes a kernel of 5.16 (futex_waitv).
            _ => {
                thread::sleep(timeout.min(Duration::from_millis(limits::SEVERAL_RINGS_SLEEP_MS)));
                None
            }
        };
        if let Some(found) = found {
            self.adopt(found);
        }
    }

    fn adopt(&mut self, found: Found) {
        let tracer = &found.linked.tracer;
        // 0 is not known, and so none that was met before.
        let is_same = |known: &u64| *known == tracer.pid_namespace && *known != 0;
        let namespace = self.namespaces.iter().position(is_same);
        if namespace.is_none() && self.namespaces.len() > limits::LINK_ENTRIES_MAX {
            self.counters.links_failed.add(1);
            return;
        }
        let namespace = namespace.unwrap_or_else(|| {
            self.namespaces.push(tracer.pid_namespace);
            self.namespaces.len() - 1
        });
        let sequences = self.sequences.remove(&tracer.id).unwrap_or_default();
        log::info!("creance: connected to tracer {} (process {})", tracer.id, tracer.pid);
        self.counters.tracers_seen.add(1);
        let id_offset = IDS_OF_NAMESPACE * namespace as u64;
        self.streams.push(Stream::new(found, id_offset, sequences, Arc::clone(&self.counters)));
        self.counters.tracers_connected.set(self.streams.len() as u64);
    }

    fn dismiss(&mut self, at: usize) {
        let (id, sequences) = self.streams.remove(at).into_sequences();
        log::info!("creance: tracer {id} is gone");
        if let Some(sequences) = sequences.filter(|_| self.sequences.len() < limits::LINK_ENTRIES_MAX) {
            self.sequences.insert(id, sequences);
        }
        self.counters.tracers_connected.set(self.streams.len() as u64);
    }

    /// Which tracer goes next: what is no record goes before any, then the oldest record. One that has had its turn lets
    /// all others that have a record go first, whatever their times say.
    fn earliest(&mut self) -> Option<usize> {
        let mut earliest: Option<(usize, (bool, u64))> = None;
        for (at, stream) in self.streams.iter_mut().enumerate() {
            let time = match stream.look() {
                Next::Nothing => continue,
                Next::Record(exit_ns) => (stream.has_had_turn(), exit_ns),
                Next::Announcement | Next::Snapshot | Next::Ends | Next::Over => return Some(at),
            };
            if earliest.is_none_or(|(_, earliest)| time < earliest) {
                earliest = Some((at, time));
            }
        }
        let (at, (have_all_had_turns, _)) = earliest?;
        if have_all_had_turns {
            self.streams.iter_mut().for_each(Stream::begin_turn);
        }
        Some(at)
    }
}
