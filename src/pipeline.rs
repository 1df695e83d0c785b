//! One workload from launch to end: an engine on a thread of its own, the ring, and whoever reads it: the decoder and a
//! sink on this thread, or a consumer in another process over the link.
//!
//! This is the one place that knows both an engine and a sink.

use std::{
    io,
    path::Path,
    process,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{
    container::ContainerIdentity,
    counters::ConsumerCounters,
    decode::Decoder,
    engine::{
        Engine, EngineError, FullRing, LaunchError, Outcome, Population, Recorder, Setup, Wanted,
        histogram_ns,
        ptrace::{self, PtraceEngine, Substitute, Target},
        snapshot,
    },
    event::Record,
    limits,
    link::{Companion, Server, ServerError, Workload},
    ring::{AttachError, Consumer, Memory, Poll, PollError, Presence, Producer, RecordBuffer},
    sink::Sink,
    sys::{
        Pid, clock,
        guard::Guarded,
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
    /// Nobody can connect to the ring.
    #[error("opening the link")]
    Link(#[source] ServerError),
    /// The ring could not be read.
    #[error("reading the ring")]
    Attach(#[source] AttachError),
    /// The engine's thread could not be made.
    #[error("starting the engine's thread")]
    Thread(#[source] io::Error),
    /// The workload could not be started; nothing of it has run.
    #[error("the workload could not be started")]
    Launch(#[source] LaunchError),
    /// A process that runs already could not be attached to; nothing has changed for it.
    #[error("attaching")]
    NotAttached(#[source] ptrace::AttachError),
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

/// What is to be captured.
#[derive(Debug)]
pub struct Plan {
    /// The workload's first process.
    pub image: Image,
    /// The calls that are trapped, and those that are kept.
    pub wanted: Wanted,
    /// How many threads answer notifications; `None` for as many as are of use.
    pub workers: Option<u16>,
    /// For which calls the ptrace engine replaces arguments by copies.
    pub substitute: Substitute,
    /// One of so many dropped calls is compared with its result: [`Setup::verify_share`].
    pub verify_share: u32,
    /// No filter is put on: [`Setup::is_unfiltered`].
    pub is_unfiltered: bool,
    /// What this process has of its guardian, if it has one.
    pub guarded: Option<Guarded>,
    /// How long one stop may be held for room in the ring.
    pub hold_max: Duration,
}

/// What that runs already is to be captured.
#[derive(Debug)]
pub struct AttachPlan {
    /// The process, and how.
    pub target: Target,
    /// The calls that are kept.
    pub wanted: Wanted,
    /// How long one stop may be held for room in the ring.
    pub hold_max: Duration,
}

/// Who reads the ring.
pub enum Destination<'a> {
    /// This process: every event goes to a sink, through a ring of this many bytes.
    Sink(&'a mut dyn Sink, usize),
    /// A consumer in another process.
    Link(&'a Link),
}

/// A ring that a consumer in another process can connect to.
#[derive(Debug)]
pub struct Link {
    memory: Arc<Memfd>,
    presence: Arc<Presence>,
    population: Population,
    companion: Companion,
    server: Server,
}

impl Link {
    /// Makes a ring of `ring_bytes` bytes and offers it in `directory`.
    ///
    /// # Errors
    /// [`PipelineError::Ring`] or [`PipelineError::Link`].
    pub fn open(
        directory: &Path,
        ring_bytes: usize,
        container: ContainerIdentity,
    ) -> Result<Self, PipelineError> {
        let memory = Arc::new(Memfd::create(ring_bytes).map_err(PipelineError::Ring)?);
        let presence = Arc::new(Presence::new(false));
        let tracer = Pid(process::id().cast_signed());
        let population = Population::default();
        let (told, asked) = (population.clone(), population.clone());
        let companion = Companion::default();
        let server = Server::start(
            directory,
            Arc::clone(&memory),
            container,
            Arc::clone(&presence),
            Workload::new(move |tell| snapshot::processes(tracer, &told, tell), move |pid| asked.has(pid))
                .with_companion(companion.clone()),
        );
        Ok(Self { memory, presence, population, companion, server: server.map_err(PipelineError::Link)? })
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.server.path()
    }

    /// The consumer that this process starts itself: whoever does so says here which process it is.
    #[must_use]
    pub fn companion(&self) -> Companion {
        self.companion.clone()
    }

    /// Waits until a consumer is connected, for ever without a bound, and tells whether one is. It stops waiting when
    /// `is_over` says so.
    pub fn wait_consumer(&self, bound: Option<Duration>, mut is_over: impl FnMut() -> bool) -> bool {
        let since = Instant::now();
        while !self.presence.is_there() && bound.is_none_or(|bound| since.elapsed() < bound) && !is_over() {
            thread::sleep(LINK_POLL);
        }
        self.presence.is_there()
    }

    /// Waits until the consumer has read everything, as long as there is one and until [`LINK_DRAIN_MAX`] after the
    /// workload has `ended`; tells how many records it has not read.
    fn drain(&self, ended: Instant) -> u64 {
        let producer = Producer::new(Arc::clone(&self.memory));
        loop {
            let unread = producer.unread();
            if unread == 0 || !self.presence.is_there() || ended.elapsed() >= LINK_DRAIN_MAX {
                return unread;
            }
            thread::sleep(LINK_POLL);
        }
    }
}

/// How often we look for a consumer, or for what it has read.
const LINK_POLL: Duration = Duration::from_millis(5);

/// How long the end of a workload is kept for its consumer, the engine's last records included.
const LINK_DRAIN_MAX: Duration = Duration::from_millis(limits::LINK_DRAIN_MS_MAX);

/// What a capture came to.
#[derive(Debug)]
pub struct Report {
    /// How the workload ended, and what it took to watch it.
    pub outcome: Outcome,
    /// What was read, if it was read here.
    pub consumed: Option<Consumed>,
    /// Records that a consumer elsewhere has not read.
    pub records_unread: u64,
}

/// What a consumer in this process saw.
#[derive(Debug)]
pub struct Consumed {
    /// What it counted.
    pub counters: ConsumerCounters,
    /// From the moment that a record's result was known until it left the ring, in nanoseconds.
    pub ring_latency_ns: Histogram<u64>,
    /// Why the sink takes no more events, if it does not. The workload ran on all the same.
    pub sink_error: Option<io::Error>,
}

/// Runs a workload under the engine `E` until its last process has ended, and gives every record to `destination`.
///
/// `on_start` gets the workload's first process before it runs.
///
/// # Errors
/// [`PipelineError`]. A sink that fails is no error: see [`Consumed::sink_error`].
pub fn capture<E: Engine>(
    plan: Plan,
    destination: Destination<'_>,
    on_start: impl FnOnce(Pid),
) -> Result<Report, PipelineError> {
    let Plan { image, wanted, workers, substitute, verify_share, is_unfiltered, guarded, hold_max } = plan;
    let launch = move |population| {
        let setup = Setup { population, workers, substitute, verify_share, is_unfiltered, guarded };
        E::launch(&image, wanted, setup)
    };
    capture_by(launch, hold_max, destination, on_start)
}

/// Attaches to a process that runs, and captures it until it has ended or was detached from: as [`capture`].
///
/// # Errors
/// [`PipelineError`]. A process that cannot be attached to is [`PipelineError::NotAttached`].
pub fn attach(
    plan: AttachPlan,
    destination: Destination<'_>,
    on_start: impl FnOnce(Pid),
) -> Result<Report, PipelineError> {
    let AttachPlan { target, wanted, hold_max } = plan;
    let attach =
        move |population| PtraceEngine::attach(target, wanted, Setup { population, ..Setup::default() });
    capture_by(attach, hold_max, destination, on_start)
}

fn capture_by<E: Engine>(
    launch: impl FnOnce(Population) -> Result<E, LaunchError> + Send + 'static,
    hold_max: Duration,
    mut destination: Destination<'_>,
    on_start: impl FnOnce(Pid),
) -> Result<Report, PipelineError> {
    let (memory, presence, population) = match &destination {
        Destination::Sink(_, ring_bytes) => {
            let memory = Memfd::create(*ring_bytes).map_err(PipelineError::Ring)?;
            (Arc::new(memory), Arc::new(Presence::new(true)), Population::default())
        }
        Destination::Link(link) => {
            (Arc::clone(&link.memory), Arc::clone(&link.presence), link.population.clone())
        }
    };
    let recorder = Recorder::new(Producer::new(Arc::clone(&memory)), 0, FullRing { hold_max, presence });
    let recorder = match &destination {
        Destination::Sink(..) => recorder,
        Destination::Link(_) => recorder.with_drain_max(LINK_DRAIN_MAX),
    };
    let (started, start) = mpsc::sync_channel(1);
    let (watched, go) = mpsc::sync_channel::<()>(1);
    let engine = thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            let engine = match launch(population) {
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
    let root = start.recv().map_err(|_| PipelineError::EnginePanic)?.map_err(|error| match error {
        LaunchError::Attach(error) => PipelineError::NotAttached(error),
        error => PipelineError::Launch(error),
    })?;
    // Not before the clone: a child that inherits this could not be seized without CAP_SYS_PTRACE.
    signal::deny_access();
    on_start(root);
    // The receiver waits for it, unless its thread is gone, which the join below tells.
    let _ = watched.send(());
    let consumed = match &mut destination {
        Destination::Sink(sink, _) => Some(consume(memory, *sink, &engine)),
        Destination::Link(_) => None,
    };
    let outcome = engine.join().ok().flatten().ok_or(PipelineError::EnginePanic)?;
    let outcome = outcome.map_err(PipelineError::Engine)?;
    let consumed = consumed.transpose()?;
    let records_unread =
        if let Destination::Link(link) = destination { link.drain(outcome.ended) } else { 0 };
    Ok(Report { outcome, consumed, records_unread })
}

/// Reads the ring until the engine has closed it.
fn consume<T>(
    memory: Arc<Memfd>,
    sink: &mut dyn Sink,
    engine: &JoinHandle<T>,
) -> Result<Consumed, PipelineError> {
    let consumer = Consumer::attach(memory).map_err(PipelineError::Attach)?;
    let mut drain = Drain::new(sink);
    drain.run(consumer, engine).map_err(PipelineError::Poll)?;
    Ok(Consumed { counters: drain.counters, ring_latency_ns: drain.latency_ns, sink_error: drain.sink_error })
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
