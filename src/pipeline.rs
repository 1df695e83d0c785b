//! One workload from launch to end: an engine on a thread of its own, the ring, the decoder and a sink.
//!
//! This is the one place that knows both an engine and a sink.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    counters::ConsumerCounters,
    decode::Decoder,
    engine::{Engine, EngineError, LaunchError, Outcome, Recorder, histogram_ns},
    event::Record,
    interest::Interest,
    limits,
    ring::{AttachError, Consumer, Memory, Poll, PollError, Producer, RecordBuffer},
    sink::Sink,
    sys::{
        Pid, clock,
        launch::Image,
        shm::{CreateError, Memfd},
        signal,
    },
};

/// A workload could not be captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The ring could not be made.
    #[error("making the ring")]
    Ring(#[source] CreateError),
    /// The ring could not be read.
    #[error("reading the ring")]
    Attach(#[source] AttachError),
    /// The engine's thread could not be made.
    #[error("starting the engine's thread")]
    Thread(#[source] io::Error),
    /// The workload could not be started; nothing of it has run.
    #[error("the workload could not be started")]
    Launch(#[source] LaunchError),
    /// The engine stopped before the workload did, which has died with it.
    #[error("the engine stopped early, and the workload with it")]
    Engine(#[source] EngineError),
    /// The engine broke one of its own invariants, and the workload has died with it.
    #[error("the engine panicked, and the workload has died with it: please report this")]
    EnginePanic,
    /// The ring holds what no producer writes.
    #[error("reading the ring")]
    Poll(#[source] PollError),
}

/// What a capture came to.
#[derive(Debug)]
pub struct Report {
    /// How the workload ended, and what it took to watch it.
    pub outcome: Outcome,
    /// What the consumer saw.
    pub consumed: ConsumerCounters,
    /// From the moment that a record's result was known until it left the ring, in nanoseconds.
    pub ring_latency_ns: Histogram<u64>,
    /// Why the sink takes no more events, if it does not. The workload ran on all the same.
    pub sink_error: Option<io::Error>,
}

/// Runs a workload under the engine `E` until its last process has ended, and gives every event to `sink`.
///
/// `on_start` gets the workload's first process before it runs.
///
/// # Errors
/// [`PipelineError`]. A sink that fails is no error: see [`Report::sink_error`].
pub fn capture<E: Engine>(
    image: Image,
    interest: Interest,
    ring_bytes: usize,
    sink: &mut dyn Sink,
    on_start: impl FnOnce(Pid),
) -> Result<Report, PipelineError> {
    let memory = Arc::new(Memfd::create(ring_bytes).map_err(PipelineError::Ring)?);
    let consumer = Consumer::attach(Arc::clone(&memory)).map_err(PipelineError::Attach)?;
    let recorder = Recorder::new(Producer::new(memory), 0);
    let (started, start) = mpsc::sync_channel(1);
    let (watched, go) = mpsc::sync_channel::<()>(1);
    let engine = thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            let engine = match E::launch(&image, interest) {
                Ok(engine) => engine,
                Err(error) => {
                    // The receiver waits for this one message.
                    let _ = started.send(Err(error));
                    return None;
                }
            };
            let _ = started.send(Ok(engine.root()));
            // Until `on_start` has the root, it must neither run nor end.
            let _ = go.recv();
            Some(engine.run(recorder))
        })
        .map_err(PipelineError::Thread)?;
    let root = start.recv().map_err(|_| PipelineError::EnginePanic)?.map_err(PipelineError::Launch)?;
    // Not before the clone: a child that inherits this could not be seized without CAP_SYS_PTRACE.
    signal::deny_access();
    on_start(root);
    // The receiver waits for it, unless its thread is gone, which the join below tells.
    let _ = watched.send(());
    let mut drain = Drain::new(sink);
    let drained = drain.run(consumer, &engine);
    let outcome = engine.join().ok().flatten().ok_or(PipelineError::EnginePanic)?;
    let outcome = outcome.map_err(PipelineError::Engine)?;
    drained.map_err(PipelineError::Poll)?;
    Ok(Report {
        outcome,
        consumed: drain.counters,
        ring_latency_ns: drain.latency_ns,
        sink_error: drain.sink_error,
    })
}

/// The consumer's side.
struct Drain<'a> {
    sink: &'a mut dyn Sink,
    sink_error: Option<io::Error>,
    decoder: Decoder,
    counters: ConsumerCounters,
    latency_ns: Histogram<u64>,
}

impl<'a> Drain<'a> {
    fn new(sink: &'a mut dyn Sink) -> Self {
        Self {
            sink,
            sink_error: None,
            decoder: Decoder::new(),
            counters: ConsumerCounters::default(),
            latency_ns: histogram_ns(),
        }
    }

    /// Takes records until the ring is closed, or the engine is gone without closing it.
    fn run<M: Memory, T>(
        &mut self,
        mut consumer: Consumer<M>,
        engine: &JoinHandle<T>,
    ) -> Result<(), PollError> {
        let mut buffer = RecordBuffer::new();
        loop {
            // Asked first: whatever a finished engine wrote is there by then.
            let is_finished = engine.is_finished();
            match consumer.poll(&mut buffer)? {
                Poll::Record => self.record(&buffer),
                Poll::Closed => break,
                Poll::Empty if is_finished => break,
                Poll::Empty => {
                    self.flush();
                    // Failing to sleep only makes this loop look again at once.
                    let _ = consumer.wait(Duration::from_millis(limits::CONSUMER_SLEEP_MS_MAX));
                }
            }
        }
        self.flush();
        self.counters.processes_unremembered = self.decoder.processes_unremembered();
        Ok(())
    }

    fn record(&mut self, bytes: &[u8]) {
        let Ok(record) = Record::parse(bytes) else {
            self.counters.decode_errors += 1;
            return;
        };
        let header = record.header();
        self.latency_ns.saturating_record(clock::wall_ns().saturating_sub(header.exit_ns));
        let event = self.decoder.decode(&record);
        if self.sink_error.is_some() {
            self.counters.sink_errors += 1;
        } else if let Err(error) = self.sink.event(&event) {
            self.counters.sink_errors += 1;
            self.sink_error = Some(error);
        }
    }

    fn flush(&mut self) {
        if self.sink_error.is_none() {
            self.sink_error = self.sink.flush().err();
        }
    }
}
