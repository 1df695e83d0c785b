//! The plugin as Falco runs it, with a tracer's ring on the other side of a real link.

use std::{
    ffi::CString,
    sync::Arc,
    time::{Duration, Instant},
};

use falco_plugin::static_plugin;
use falco_plugin_runner::{CapturingPluginRunner, MetricValue, PluginRunner, ScapStatus};

use super::Creance;
use crate::{
    container::ContainerIdentity,
    decode::samples::{self, Sample},
    event::RecordKind,
    falco::checker::{self, Seen},
    limits,
    link::{Server, Workload},
    ring::{Presence, Producer},
    sys::shm::Memfd,
};

static_plugin!(CREANCE = Creance);

const SOON: Duration = Duration::from_secs(20);

/// A tracer without a workload.
struct Tracer {
    producer: Producer<Memfd>,
    _server: Server,
    sequence: u64,
}

impl Tracer {
    fn new(directory: &tempfile::TempDir, processes: Vec<Sample>) -> Self {
        let memory = Arc::new(Memfd::create(limits::RING_BYTES_MIN).unwrap());
        let processes: Vec<_> = processes.into_iter().map(Sample::bytes).collect();
        let server = Server::start(
            directory.path(),
            Arc::clone(&memory),
            ContainerIdentity::default(),
            Arc::new(Presence::new(false)),
            Workload::new(move |tell| processes.iter().try_for_each(|process| tell(process)), |_| false),
        );
        Self { producer: Producer::new(memory), _server: server.unwrap(), sequence: 0 }
    }

    fn write(&mut self, mut sample: Sample) {
        sample.header.sequence = self.sequence;
        self.sequence += if sample.header.kind == RecordKind::Loss.code() { 3 } else { 1 };
        self.write_bytes(&sample.bytes());
    }

    fn write_bytes(&self, bytes: &[u8]) {
        let mut reservation = self.producer.reserve(bytes.len()).unwrap();
        reservation.copy_from_slice(bytes);
        reservation.commit();
    }
}

/// Falco with the plugin.
struct Falco(CapturingPluginRunner);

impl Falco {
    fn new(directory: &tempfile::TempDir) -> Self {
        let mut runner = PluginRunner::new();
        let config = CString::new(format!("link={}", directory.path().display())).unwrap();
        runner.register_plugin(&CREANCE, &config).unwrap();
        Self(runner.start_capture().unwrap())
    }

    /// The next event's bytes; `None` if there is none in time.
    fn event(&mut self) -> Option<Vec<u8>> {
        match self.0.next_event() {
            Ok(event) => {
                // SAFETY: the plugin has made this event in memory that lives until the next batch.
                #[expect(unsafe_code, reason = "the runner gives a bare pointer")]
                let len = unsafe { (*event.buf).len };
                let len = usize::try_from(len).unwrap();
                // SAFETY: as above, and the event is as long as its header says.
                #[expect(unsafe_code, reason = "the runner gives a bare pointer")]
                let bytes = unsafe { std::slice::from_raw_parts(event.buf.cast::<u8>(), len) };
                Some(bytes.to_vec())
            }
            Err(error) => {
                assert!(matches!(error.downcast_ref::<ScapStatus>(), Some(ScapStatus::Timeout)), "{error:?}");
                None
            }
        }
    }

    /// Reads until an event of this name comes; gives all events until then, it included.
    fn until(&mut self, name: &str) -> Vec<Vec<u8>> {
        let since = Instant::now();
        let mut events = Vec::new();
        while since.elapsed() < SOON {
            if let Some(event) = self.event() {
                let is_last = short(&event).contains(name);
                events.push(event);
                if is_last {
                    return events;
                }
            }
        }
        panic!("no {name} among {:?}", events.iter().map(|event| short(event)).collect::<Vec<_>>());
    }

    fn metric(&mut self, name: &str) -> u64 {
        let metrics = self.0.get_metrics();
        let metric = metrics.into_iter().find(|metric| metric.name == format!("creance.{name}")).unwrap();
        match metric.value {
            MetricValue::U64(value) => value,
            value => panic!("{value:?}"),
        }
    }

    fn await_metric(&mut self, name: &str, wanted: u64) {
        let since = Instant::now();
        while self.metric(name) != wanted {
            assert!(since.elapsed() < SOON, "{name} is {}, not {wanted}", self.metric(name));
            let _ = self.event();
        }
    }
}

fn seen(event: &[u8]) -> Seen<'_> {
    checker::read(event).pop().unwrap()
}

fn short(event: &[u8]) -> String {
    seen(event).info.name.to_ascii_lowercase()
}

fn open(path: &str) -> Sample {
    Sample::call("openat", &[0xffff_ff9c, 0, 0, 0])
        .capture(crate::event::CaptureKind::Path, 1, path.as_bytes())
        .result(3)
}

fn at(mut sample: Sample, exit_ns: u64) -> Sample {
    sample.header.exit_ns = exit_ns;
    sample
}

#[test]
fn records_of_a_tracer_come_out_as_events() {
    let directory = tempfile::tempdir().unwrap();
    let mut tracer = Tracer::new(&directory, vec![]);
    tracer.write(samples::exec(1234, 1, &["cat", "/etc/shadow"]));
    tracer.write(open("/etc/shadow"));
    let mut falco = Falco::new(&directory);
    let events = falco.until("openat");
    let names: Vec<_> = events.iter().map(|event| short(event)).collect();
    assert!(names.iter().any(|name| name.contains("execve")), "{names:?}");
    let last = seen(events.last().unwrap());
    assert_eq!((last.tid, last.text("name")), (1234, "/etc/shadow".into()));
    assert_eq!((falco.metric("records"), falco.metric("tracers_connected")), (2, 1));
    // The runner takes events out of a batch one by one.
    assert!(falco.metric("events") >= events.len() as u64);
    assert_eq!((falco.metric("decode_errors"), falco.metric("events_refused")), (0, 0));
}

#[test]
fn without_a_tracer_there_is_nothing_but_a_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let mut falco = Falco::new(&directory);
    let since = Instant::now();
    assert!(falco.event().is_none());
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[test]
fn losses_are_told_in_band_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut tracer = Tracer::new(&directory, vec![]);
    tracer.write(open("/one"));
    tracer.write(Sample::new(RecordKind::Loss).thread(0, 0).result(3));
    tracer.write(open("/two"));
    // Two records that nobody announces.
    tracer.sequence += 2;
    tracer.write(open("/three"));
    let mut falco = Falco::new(&directory);
    let mut drops = Vec::new();
    for _ in 0..3 {
        let events = falco.until("openat");
        drops.extend(
            events
                .iter()
                .map(|event| seen(event))
                .filter(|event| event.info.name == "PPME_DROP_E")
                .map(|event| event.number("ratio")),
        );
    }
    assert_eq!(drops, [3, 2]);
    assert_eq!((falco.metric("records_lost"), falco.metric("records_skipped")), (3, 2));
}

#[test]
fn what_is_no_record_is_counted_and_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut tracer = Tracer::new(&directory, vec![]);
    tracer.write_bytes(b"junk");
    tracer.write(open("/after"));
    let mut falco = Falco::new(&directory);
    assert_eq!(seen(falco.until("openat").last().unwrap()).text("name"), "/after");
    assert_eq!(falco.metric("decode_errors"), 1);
}

#[test]
fn two_tracers_are_merged_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (Tracer::new(&directory, vec![]), Tracer::new(&directory, vec![]));
    let mut falco = Falco::new(&directory);
    falco.await_metric("tracers_connected", 2);
    for n in 0..10 {
        one.write(at(open(&format!("/{n}a")), 100 * n));
        two.write(at(open(&format!("/{n}b")).thread(77, 77), 100 * n + 50));
    }
    let names: Vec<_> = (0..20).map(|_| seen(falco.until("openat").last().unwrap()).text("name")).collect();
    assert_eq!(names, (0..10).flat_map(|n| [format!("/{n}a"), format!("/{n}b")]).collect::<Vec<_>>());
}

#[test]
fn a_reload_makes_a_second_plugin_beside_the_first_and_tells_the_processes_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut tracer = Tracer::new(&directory, vec![]);
    tracer.write(samples::exec(1234, 1, &["bash"]));
    let mut falco = Falco::new(&directory);
    falco.until("execve");
    // The trial: it must take nothing from the one that works.
    let mut trial = PluginRunner::new();
    trial.register_plugin(&CREANCE, c"").unwrap();
    drop(trial);
    tracer.write(open("/before"));
    falco.until("openat");
    drop(falco);
    tracer.write(open("/between"));
    let mut falco = Falco::new(&directory);
    let events = falco.until("openat");
    assert_eq!(seen(events.last().unwrap()).text("name"), "/between");
    assert!(short(&events[0]).contains("clone"), "the process is introduced again");
}

#[test]
fn a_tracer_that_ends_is_dismissed() {
    let directory = tempfile::tempdir().unwrap();
    let mut tracer = Tracer::new(&directory, vec![]);
    let mut falco = Falco::new(&directory);
    falco.await_metric("tracers_connected", 1);
    tracer.write(open("/last"));
    tracer.producer.close();
    falco.until("openat");
    falco.await_metric("tracers_connected", 0);
}

#[test]
fn bad_settings_are_refused_with_a_reason() {
    let mut runner = PluginRunner::new();
    let error = runner.register_plugin(&CREANCE, c"rings=/x").unwrap_err();
    assert!(format!("{error:#}").contains("init_config"), "{error:#}");
}
