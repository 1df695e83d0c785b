//! The parts of the proof that the funnel is sound which need no libsinsp: that the verdict which is taken again from a
//! record is the engine's own, and that random rules and records are what they should be. The proof itself is
//! `tests/libsinsp/soundness`; `docs/soundness.md` tells what it compares.

mod capture;
mod conditions;
#[path = "../libsinsp/boundary_events/random.rs"]
mod random;
mod records;
mod sieve;
#[path = "../support/skip.rs"]
mod skip;
mod tape;
mod texts;

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use creance::{
    abi,
    decode::Event,
    engine::{Verdict, Wanted},
    event::{HEADER_BYTES, Record, RecordFlags, RecordKind, write_record},
    rules::RuleSet,
    sink::Sink,
};
use random::Random;
use tape::{Tape, TapeWriter};
use tempfile::TempDir;

/// Rules of our own, a few of each kind that a funnel decides in another way.
const RULES: &str = r#"
- rule: number
  condition: evt.type = unlinkat
  desc: x
  output: x
  priority: INFO
- rule: registers
  condition: evt.type = openat and evt.is_open_write = true and fd.name startswith /no/such
  desc: x
  output: x
  priority: INFO
- rule: paths
  condition: >
    evt.type in (open, openat, openat2) and (fd.name in (/etc/passwd, /etc/group) or fd.filename endswith "_hosts"
    or fd.directory = /etc/pam.d)
  desc: x
  output: x
  priority: INFO
- rule: addresses
  condition: evt.type = connect and fd.sport = 53
  desc: x
  output: x
  priority: INFO
- rule: names
  condition: >
    (evt.type = openat and proc.name in (python3, sh) and not fd.name startswith /usr)
    or (evt.type in (fcntl, close) and not proc.name startswith py)
  desc: x
  output: x
  priority: INFO
"#;

/// Compares the mark of the engine with the verdict on the record.
struct Compared {
    funnel: Wanted,
    names: sieve::Names,
    calls: u64,
    kept: u64,
    different: Vec<String>,
}

impl Sink for Compared {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        let record = event.record();
        self.names.learn(record);
        if record.kind() == RecordKind::Syscall {
            let is_kept = sieve::judge(&self.funnel, &self.names, record) == Verdict::Kept;
            self.calls += 1;
            self.kept += u64::from(is_kept);
            if is_kept == record.flags().contains(RecordFlags::IRRELEVANT) {
                self.different.push(format!("{:?} {is_kept}", record.header()));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn funnel(rules: &str) -> Wanted {
    let set = RuleSet::parse(vec![(PathBuf::from("rules.yaml"), rules.to_owned())]);
    assert!(!set.has_errors(), "{:?}", set.diagnostics);
    assert!(!set.rules.is_empty(), "the rules are read");
    sieve::funnel(&set.rules)
}

#[test]
fn the_verdict_on_a_record_is_that_of_the_engine_on_the_call() {
    let Some(python) = python() else {
        return skip::skip("there is no python3");
    };
    let directory = TempDir::new().unwrap();
    let workloads = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/workloads");
    let command: Vec<OsString> = vec![
        "/usr/bin/env".into(),
        "CREANCE_WORKLOAD_SCALE=1".into(),
        format!("PATH={}:/usr/bin:/bin", python.parent().unwrap().display()).into(),
        workloads.into(),
        "run".into(),
        "python-mixed".into(),
        directory.path().into(),
    ];
    let mut compared = Compared {
        funnel: funnel(RULES),
        names: sieve::Names::default(),
        calls: 0,
        kept: 0,
        different: Vec::new(),
    };
    capture::capture(&command, funnel(RULES), &mut compared, |_| {}).unwrap();
    assert_eq!(compared.different, Vec::<String>::new());
    assert!(
        compared.kept > 0 && compared.kept < compared.calls / 2,
        "{} of {}",
        compared.kept,
        compared.calls
    );
}

fn python() -> Option<PathBuf> {
    let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    Some(PathBuf::from(String::from_utf8(found.stdout).ok()?.trim())).filter(|path| path.is_absolute())
}

#[test]
fn random_rules_are_what_the_language_allows_and_differ_by_their_seed() {
    let rules = |seed| {
        let mut random = Random::new(seed);
        (0..200).map(|_| conditions::condition(&mut random)).collect::<Vec<_>>()
    };
    assert_eq!(rules(1), rules(1));
    assert_ne!(rules(1), rules(2));
    for (number, condition) in rules(3).into_iter().enumerate() {
        let quoted = serde_json::to_string(&condition).unwrap();
        let file =
            format!("- rule: r{number}\n  condition: {quoted}\n  desc: x\n  output: x\n  priority: INFO\n");
        let set = RuleSet::parse(vec![(PathBuf::from("rules.yaml"), file)]);
        assert!(!set.has_errors(), "{condition}: {:?}", set.diagnostics);
        assert_eq!(set.rules.len(), 1);
    }
}

#[test]
fn random_records_are_records_of_many_calls() {
    let mut random = Random::new(7);
    assert_ne!(random.bytes(8), random.bytes(8));
    let mut calls = BTreeSet::new();
    for sequence in 0..2000 {
        let made = records::record(&mut random, sequence).unwrap();
        let mut bytes = vec![0; HEADER_BYTES + made.captures.as_bytes().len()];
        write_record(&mut bytes, &made.header, &made.captures).unwrap();
        let record = Record::parse(&bytes).unwrap();
        calls.insert(abi::number_name(record.abi(), record.header().number));
    }
    assert!(calls.len() > 50, "{calls:?}");
}

#[test]
fn a_file_of_records_gives_them_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("records");
    let mut random = Random::new(8);
    let mut tape = TapeWriter::create(&path).unwrap();
    for sequence in 0..20 {
        let made = records::record(&mut random, sequence).unwrap();
        tape.write(&made.header, &made.captures).unwrap();
    }
    tape.finish().unwrap();
    let tape = Tape::read(&path).unwrap();
    let sequences: Vec<u64> = tape.records().map(|record| record.unwrap().header().sequence).collect();
    assert_eq!(sequences, (0..20).collect::<Vec<_>>());
}
