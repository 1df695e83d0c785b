//! Whatever records say, Falco is never told that a process is its own ancestor.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Feed, call, short};
use crate::{
    decode::samples::{self, Sample},
    event::{PROCESS_CLONE_LOST, PROCESS_EXEC_LOST, Record, RecordFlags, RecordKind},
    falco::checker::Seen,
    limits,
};

const CLONE_PARENT: u64 = 0x8000;
const CLONE_NEWPID: u64 = 0x2000_0000;

/// What libsinsp makes of the events: which threads there are, and the parent of each. It is stricter than libsinsp, which
/// takes the parent of an exec only for a thread that it made up itself.
#[derive(Debug, Default)]
struct Family {
    threads: BTreeMap<i64, Thread>,
}

#[derive(Debug, Clone, Copy)]
struct Thread {
    pid: i64,
    parent: i64,
}

impl Family {
    fn hear(&mut self, event: &Seen<'_>) {
        const CLONES: [&str; 4] = ["CLONE_20_X", "FORK_20_X", "VFORK_20_X", "CLONE3_X"];
        let (tid, name) = (event.tid, short(event));
        let is_clone = CLONES.contains(&name);
        let is_birth = is_clone && event.number("res") == 0;
        match name {
            "DROP_E" => return,
            "PROCEXIT_1_E" => self.end(tid),
            _ => assert_ne!(is_birth, self.threads.contains_key(&tid), "{name} of {tid}: {:?}", self.threads),
        }
        if is_birth || name == "EXECVE_19_X" && event.number("res") == 0 {
            let (pid, parent) = (event.number("pid"), event.number("ptid"));
            self.check_parent(tid, parent);
            self.threads.insert(tid, Thread { pid, parent });
        }
        self.check();
    }

    fn check_parent(&self, tid: i64, parent: i64) {
        // libsinsp goes on from the first thread of the parent's process, which may have another parent.
        let is_first = self.threads.get(&parent).is_some_and(|thread| thread.pid == parent);
        assert!(parent == 0 || is_first, "the parent {parent} of {tid} is no process");
    }

    /// The children of a process that ends go to one of its ancestors; process 1 is no child to libsinsp.
    fn end(&mut self, tid: i64) {
        let ended = self.threads.remove(&tid).unwrap_or_else(|| panic!("{tid} ends, which is unknown"));
        assert!(self.threads.values().all(|thread| thread.pid != tid), "{tid} ends before its threads");
        for child in self.threads.values_mut().filter(|thread| thread.parent == tid && thread.pid != 1) {
            child.parent = ended.parent;
        }
    }

    fn check(&self) {
        for &tid in self.threads.keys() {
            let mut next = tid;
            for _ in 0..=self.threads.len() {
                let Some(thread) = self.threads.get(&next) else { break };
                next = thread.parent;
            }
            assert!(!self.threads.contains_key(&next), "{tid} is its own ancestor: {:?}", self.threads);
        }
    }
}

/// A Falco and what it believes.
struct Story {
    feed: Feed,
    family: Family,
}

impl Story {
    fn new() -> Self {
        Self { feed: Feed::bare(), family: Family::default() }
    }

    fn hear(&mut self) {
        for event in self.feed.events() {
            self.family.hear(&event);
        }
        self.feed.batch.clear();
    }

    fn tell(&mut self, sample: Sample) {
        self.feed.push([sample]);
        self.hear();
    }

    fn preload(&mut self, sample: Sample) {
        self.feed.translator.preload(&Record::parse(&sample.bytes()).unwrap());
    }

    fn catch_up(&mut self) {
        let mut snapshot = self.feed.translator.caught_up();
        assert!(snapshot.fill(&mut self.feed.translator, 1, &mut self.feed.batch));
        self.hear();
    }

    /// Another Falco, which knows nothing.
    fn begin_again(&mut self) {
        self.family = Family::default();
        let mut snapshot = self.feed.translator.snapshot();
        assert!(snapshot.fill(&mut self.feed.translator, 1, &mut self.feed.batch));
        self.hear();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Clone { creator: (pid, tid), child, child_pid, kernel_flags, flags } => {
                let sample = samples::clone(pid, child).thread(pid, tid).flags(RecordFlags(flags));
                self.tell(sample.arguments(&[kernel_flags, u64::from(child_pid)]));
            }
            Step::Exec { pid, tid, parent } => {
                self.tell(samples::exec(pid, parent, &["x"]).thread(pid, tid).arguments(&[u64::from(tid)]));
            }
            Step::Process { pid, parent, bits, start_ticks } => {
                self.tell(samples::process(pid, parent, &["x"], start_ticks).arguments(&[bits]));
            }
            Step::Preload { pid, parent } => self.preload(samples::process(pid, parent, &["x"], 1)),
            Step::Exit { pid, tid } => self.tell(Sample::new(RecordKind::Exit).thread(pid, tid)),
            Step::Call { pid, tid } => self.tell(call("setsid", &[]).thread(pid, tid)),
            Step::CatchUp => self.catch_up(),
            Step::BeginAgain => self.begin_again(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Clone { creator: (u32, u32), child: u32, child_pid: u32, kernel_flags: u64, flags: u32 },
    Exec { pid: u32, tid: u32, parent: u32 },
    Process { pid: u32, parent: u32, bits: u64, start_ticks: u64 },
    Preload { pid: u32, parent: u32 },
    Exit { pid: u32, tid: u32 },
    Call { pid: u32, tid: u32 },
    CatchUp,
    BeginAgain,
}

/// Few numbers, so that they meet.
fn step() -> impl Strategy<Value = Step> {
    let id = || 0..6u32;
    let kernel_flags = proptest::sample::select(&[0, CLONE_PARENT, CLONE_NEWPID][..]);
    let flags = proptest::sample::select(&[0, RecordFlags::THREAD.0, RecordFlags::FROM_CHILD.0][..]);
    let bits = 0..=(PROCESS_CLONE_LOST | PROCESS_EXEC_LOST);
    prop_oneof![
        6 => ((id(), id()), id(), id(), kernel_flags, flags).prop_map(
            |(creator, child, child_pid, kernel_flags, flags)| {
                Step::Clone { creator, child, child_pid, kernel_flags, flags }
            }
        ),
        3 => (id(), id(), id()).prop_map(|(pid, tid, parent)| Step::Exec { pid, tid, parent }),
        3 => (id(), id(), bits, 0..3u64).prop_map(|(pid, parent, bits, start_ticks)| {
            Step::Process { pid, parent, bits, start_ticks }
        }),
        2 => (id(), id()).prop_map(|(pid, parent)| Step::Preload { pid, parent }),
        2 => (id(), id()).prop_map(|(pid, tid)| Step::Exit { pid, tid }),
        2 => (id(), id()).prop_map(|(pid, tid)| Step::Call { pid, tid }),
        1 => Just(Step::CatchUp),
        1 => Just(Step::BeginAgain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_records_make_a_process_its_own_ancestor(steps in proptest::collection::vec(step(), 0..60)) {
        let mut story = Story::new();
        for step in &steps {
            story.step(step);
        }
    }
}

#[test]
fn a_parent_that_descends_from_its_child_is_no_parent() {
    let mut feed = Feed::bare();
    feed.push([samples::exec(10, 9, &["a"]), samples::clone(10, 11), samples::clone(11, 12)]);
    let event = feed.last(samples::exec(10, 12, &["b"]));
    assert_eq!((short(&event), event.number("ptid")), ("EXECVE_19_X", 0));
    feed.batch.clear();
    let mut snapshot = feed.translator.snapshot();
    assert!(snapshot.fill(&mut feed.translator, 1, &mut feed.batch));
    let parents = feed.events().into_iter().filter(|event| short(event) == "CLONE_20_X");
    let mut parents: Vec<_> = parents.map(|event| (event.tid, event.number("ptid"))).collect();
    parents.sort_unstable();
    assert_eq!(parents, [(9, 0), (10, 0), (11, 10), (12, 11)]);
}

#[test]
fn a_new_consumer_is_told_a_parent_that_the_old_one_knew_too_late() {
    let mut feed = Feed::bare();
    feed.push([samples::process(10, 9, &["a"], 5), samples::process(20, 0, &["b"], 6)]);
    feed.push([Sample::new(RecordKind::Exit).thread(9, 9)]);
    let event = feed.last(samples::exec(10, 20, &["a"]));
    assert_eq!((short(&event), event.number("ptid")), ("EXECVE_19_X", 0));
    feed.batch.clear();
    let mut snapshot = feed.translator.snapshot();
    assert!(snapshot.fill(&mut feed.translator, 1, &mut feed.batch));
    let events = feed.events();
    let child = events.iter().find(|event| event.tid == 10).unwrap();
    assert_eq!(child.number("ptid"), 20);
}

#[test]
fn a_process_ends_after_its_threads_and_stays_while_they_are_too_many_to_tell() {
    let mut feed = Feed::bare();
    let thread =
        |tid: u32| samples::clone(10, 10).arguments(&[0, 10]).flags(RecordFlags::THREAD).result(tid.into());
    feed.push([samples::exec(10, 9, &["a"]), thread(11), thread(12)]);
    let mut told = feed.tell([Sample::new(RecordKind::Exit).thread(10, 10)]);
    assert_eq!(told.pop(), Some(("PROCEXIT_1_E", 10)));
    told.sort_unstable();
    assert_eq!(told, [11, 12].map(|tid| ("PROCEXIT_1_E", tid)));
    feed.push([samples::exec(10, 9, &["a"])]);
    for number in 0..=u32::try_from(limits::THREADS_ENDED_MAX).unwrap() {
        feed.push([thread(100 + number)]);
    }
    let told = feed.tell([samples::clone(9, 10)]);
    assert_eq!(told.len(), limits::THREADS_ENDED_MAX + 1, "the creator's is told, and no child");
    let told = feed.tell([samples::clone(9, 10)]);
    let ends = told.iter().filter(|(name, _)| *name == "PROCEXIT_1_E").count();
    assert_eq!((ends, told[2]), (2, ("CLONE_20_X", 10)));
}
