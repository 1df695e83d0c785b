mod ancestry;
mod files;
mod identity;
mod life;
mod running;
mod sockets;
mod truth;

use proptest::prelude::*;

use super::*;
use crate::{
    abi::Abi,
    decode::samples::{self, Sample},
    event::CaptureKind,
    falco::checker::{self, Seen},
    limits,
};

const AT_FDCWD: u64 = 0xffff_ff9c;

/// A Falco that is told of records.
struct Feed {
    translator: Translator,
    batch: Batch,
}

impl Feed {
    /// One that knows process 1234, which runs `bash` in `/root`, and its thread 1235.
    fn new() -> Self {
        let mut feed = Self::bare();
        let thread =
            samples::clone(1234, 1234).arguments(&[0x1_0000, 1234]).flags(RecordFlags::THREAD).result(1235);
        feed.push([samples::exec(1234, 1, &["bash"]), thread]);
        feed.batch.clear();
        feed
    }

    fn bare() -> Self {
        Self { translator: Translator::new(), batch: Batch::with_capacity(1024 * 1024) }
    }

    fn push<const N: usize>(&mut self, samples: [Sample; N]) {
        for sample in samples {
            self.push_bytes(&sample.bytes());
        }
        assert_eq!((self.translator.events_refused(), self.translator.last_error()), (0, None));
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.translator.translate(&Record::parse(bytes).unwrap(), &mut self.batch);
    }

    fn events(&self) -> Vec<Seen<'_>> {
        checker::read(self.batch.as_bytes())
    }

    /// Tells of records, and gives the names and threads of their events.
    fn tell<const N: usize>(&mut self, samples: [Sample; N]) -> Vec<(&'static str, i64)> {
        self.batch.clear();
        self.push(samples);
        self.events().iter().map(|event| (short(event), event.tid)).collect()
    }

    /// Tells of one record that makes one event.
    fn one(&mut self, sample: Sample) -> Seen<'_> {
        self.batch.clear();
        self.push([sample]);
        let mut events = self.events();
        let event = events.pop().unwrap();
        assert!(events.is_empty(), "more than {}: {events:?}", event.info.name);
        event
    }

    /// Tells of one record and gives the last of its events.
    fn last(&mut self, sample: Sample) -> Seen<'_> {
        self.batch.clear();
        self.push([sample]);
        self.events().pop().unwrap()
    }
}

fn short(event: &Seen<'_>) -> &'static str {
    let name = event.info.name.strip_prefix("PPME_").unwrap();
    name.strip_prefix("SYSCALL_").or_else(|| name.strip_prefix("SOCKET_")).unwrap_or(name)
}

fn call(name: &str, arguments: &[u64]) -> Sample {
    Sample::call(name, arguments)
}

trait Captures {
    fn path(self, argument: u8, path: &str) -> Self;
    fn text(self, argument: u8, text: &str) -> Self;
    fn cwd(self, argument: u8, path: &str) -> Self;
    fn directory(self, argument: u8, path: &str) -> Self;
}

impl Captures for Sample {
    fn path(self, argument: u8, path: &str) -> Self {
        self.capture(CaptureKind::Path, argument, path.as_bytes())
    }

    fn text(self, argument: u8, text: &str) -> Self {
        self.capture(CaptureKind::Text, argument, text.as_bytes())
    }

    fn cwd(self, argument: u8, path: &str) -> Self {
        self.capture(CaptureKind::Cwd, argument, path.as_bytes())
    }

    fn directory(self, argument: u8, path: &str) -> Self {
        self.capture(CaptureKind::FdPath, argument, path.as_bytes())
    }
}

#[test]
fn a_new_consumer_is_told_of_parents_before_children() {
    let mut feed = Feed::bare();
    feed.push([
        samples::exec(30, 1, &["sh"]),
        samples::clone(30, 20),
        samples::clone(20, 10),
        samples::clone(10, 40),
        samples::clone(40, 50),
        samples::clone(10, 10).arguments(&[0x1_0000, 10]).flags(RecordFlags::THREAD).result(11),
        // An orphan must not be told as the child of another process with its parent's number.
        Sample::new(RecordKind::Exit).thread(40, 40),
        samples::clone(30, 40),
    ]);
    feed.batch.clear();
    let mut snapshot = feed.translator.snapshot();
    assert!(snapshot.fill(&mut feed.translator, 77, &mut feed.batch));
    let events = feed.events();
    let clones: Vec<_> = events.iter().filter(|event| short(event) == "CLONE_20_X").collect();
    let mut known = vec![0];
    for event in &clones {
        assert!(known.contains(&event.number("ptid")), "{} before its parent", event.tid);
        assert_eq!(event.ts, 77);
        known.push(event.tid);
    }
    known.sort_unstable();
    assert_eq!(known, [0, 1, 10, 11, 20, 30, 40, 50]);
    let orphan = clones.iter().find(|event| event.tid == 50).unwrap();
    assert_eq!(orphan.number("ptid"), 0);
    assert_eq!(events.iter().filter(|event| short(event) == "CHDIR_X").count(), 7);
}

#[test]
fn a_snapshot_goes_on_where_a_full_batch_stopped_it() {
    let mut feed = Feed::bare();
    for pid in 10..30 {
        feed.push([samples::clone(pid, pid + 1)]);
    }
    let mut snapshot = feed.translator.snapshot();
    let mut small = Batch::with_capacity(300);
    let mut told = Vec::new();
    loop {
        let is_done = snapshot.fill(&mut feed.translator, 1, &mut small);
        told.extend(checker::read(small.as_bytes()).iter().map(|event| event.tid));
        small.clear();
        if is_done {
            break;
        }
    }
    told.dedup();
    assert_eq!(told, (10..=30).collect::<Vec<i64>>());
}

#[test]
fn every_event_of_a_call_can_be_made_except_those_that_no_record_can_tell() {
    const UNTOLD: [&str; 6] = [
        "PPME_SYSCALL_PIPE_X",
        "PPME_SYSCALL_PIPE2_X",
        "PPME_SYSCALL_GETCWD_X",
        "PPME_SOCKET_SOCKETPAIR_X",
        "PPME_SOCKET_GETSOCKOPT_X",
        "PPME_SYSCALL_CLOSE_RANGE_X",
    ];
    let mut feed = Feed::new();
    for abi in [Abi::X86_64, Abi::I386] {
        for name in crate::abi::names(abi) {
            for result in [0, -2] {
                feed.push([Sample::new(RecordKind::Syscall).number(abi, name).result(result)]);
            }
            feed.push([samples::clone(1234, 1300).number(abi, name)]);
        }
    }
    feed.push([Sample::new(RecordKind::Exit), Sample::new(RecordKind::Loss)]);
    let made: Vec<_> = feed.events().iter().map(|event| event.info.code).collect();
    let missing = table::ALL.iter().filter(|event| !made.contains(&event.code)).map(|event| event.name);
    let mut missing: Vec<_> = missing.collect();
    missing.sort_unstable();
    let mut untold = UNTOLD;
    untold.sort_unstable();
    assert_eq!(missing, untold);
}

#[test]
fn a_full_table_remembers_no_more_and_counts_it() {
    let mut feed = Feed::bare();
    let mut bytes = call("setsid", &[]).bytes();
    for pid in 0..=u32::try_from(limits::PROCESSES_MAX).unwrap() {
        // Thread and process stand side by side in the header.
        bytes[32..36].copy_from_slice(&(pid + 1).to_ne_bytes());
        bytes[36..40].copy_from_slice(&(pid + 1).to_ne_bytes());
        feed.batch.clear();
        feed.push_bytes(&bytes);
    }
    assert_eq!(feed.batch.len(), 1, "the event itself is told all the same");
    assert_eq!((feed.translator.processes.len(), feed.translator.unremembered()), (limits::PROCESSES_MAX, 1));
}

#[test]
fn the_longest_record_fits_behind_a_batch_that_is_nearly_full() {
    let mut feed = Feed::bare();
    feed.batch = Batch::with_capacity(1);
    let long = [b'x'; 4096];
    let path = [&b"/"[..], &long[1..]].concat();
    let text = |kind| move |sample: Sample| sample.capture(kind, 0, &long);
    let sample = Sample::new(RecordKind::Exec).number(Abi::X86_64, "execve").thread(10, 11);
    let sample = text(CaptureKind::ProcEnviron)(text(CaptureKind::ProcCmdline)(sample))
        .capture(CaptureKind::ProcStatus, 0, b"PPid:\t9\n")
        .capture(CaptureKind::ProcCgroup, 0, &[&b"0::/"[..], &long[..800]].concat())
        .capture(CaptureKind::ProcExe, 0, &path)
        .capture(CaptureKind::ProcCwd, 0, &path[..4095])
        .capture(CaptureKind::Path, 0, &path);
    feed.push([sample]);
    feed.batch.clear();
    feed.push([samples::clone(10, 20).thread(10, 12)]);
    assert!(feed.batch.as_bytes().len() > 30_000, "{}", feed.batch.as_bytes().len());
    feed.batch.clear();
    let rename = call("rename", &[]).thread(10, 13);
    let rename = rename.capture(CaptureKind::Path, 0, &long).capture(CaptureKind::Path, 1, &long);
    feed.push([rename.capture(CaptureKind::Cwd, 0, b"/srv")]);
    assert_eq!(feed.translator.events_refused(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_records_make_an_event_that_breaks_the_table(
        records in proptest::collection::vec(samples::any_record(), 0..20),
    ) {
        let mut feed = Feed::bare();
        for bytes in &records {
            feed.push_bytes(bytes);
        }
        prop_assert_eq!(feed.translator.last_error(), None);
        let count = feed.events().len();
        prop_assert_eq!(count, feed.batch.len());
        // A clone names four at most: its creator and the child, each with its process.
        prop_assert!(feed.translator.processes.len() <= 4 * records.len());
        let mut snapshot = feed.translator.snapshot();
        feed.batch.clear();
        prop_assert!(snapshot.fill(&mut feed.translator, 1, &mut feed.batch));
        prop_assert!(feed.events().len() <= 2 * feed.translator.processes.len());
        prop_assert_eq!(feed.translator.events_refused(), 0);
    }
}
