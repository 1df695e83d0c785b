//! The whole way of what is known of processes: a made-up machine, the engine's own table and recorder, a ring that is too
//! small, consumers that come and go, the translator, and a model of what libsinsp remembers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;

use super::short;
use crate::{
    abi::Abi,
    decode::samples::{self, Sample},
    engine::{
        FullRing, Recorder,
        told::{ProcessSource, Told},
    },
    event::{CaptureBuffer, CaptureKind, PROCESS_OUTSIDER, Record, RecordHeader, RecordKind},
    falco::{Batch, Translator, checker},
    ring::{Consumer, Heap, Poll, Presence, Producer, RecordBuffer},
    sys::Pid,
};

const INIT: u32 = 1;
const TRACER: u32 = 2;
const ROOT: u32 = 10;
const RING_BYTES: usize = 8 * 1024;

/// A process as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Living {
    parent: u32,
    name: String,
    uid: u32,
    cwd: String,
    start_ticks: u64,
}

#[derive(Debug, Default)]
struct Machine {
    living: BTreeMap<u32, Living>,
    programs: u32,
    ticks: u64,
    last_pid: u32,
    are_pids_used_again: bool,
}

impl Machine {
    fn new(are_pids_used_again: bool) -> Self {
        let mut machine = Self { last_pid: ROOT, are_pids_used_again, ..Self::default() };
        for (pid, parent, name) in [(INIT, 0, "init"), (TRACER, INIT, "creance"), (ROOT, TRACER, "creance")] {
            machine.add(pid, parent, name.to_owned(), 0, "/".to_owned());
        }
        machine
    }

    fn add(&mut self, pid: u32, parent: u32, name: String, uid: u32, cwd: String) {
        self.ticks += 1;
        self.living.insert(pid, Living { parent, name, uid, cwd, start_ticks: self.ticks });
    }

    fn workload(&self) -> Vec<u32> {
        self.living.keys().copied().filter(|&pid| pid >= ROOT).collect()
    }

    fn new_pid(&mut self) -> u32 {
        if self.are_pids_used_again {
            return (ROOT..).find(|pid| !self.living.contains_key(pid)).unwrap();
        }
        self.last_pid += 1;
        self.last_pid
    }

    fn texts(&self, pid: u32, sample: Sample) -> Sample {
        let Living { parent, name, uid, cwd, start_ticks } = &self.living[&pid];
        let status = format!("Name:\t{name}\nPPid:\t{parent}\nUid:\t0\t{uid}\t0\t0\nGid:\t0\t0\t0\t0\n");
        let stat = format!("{pid} (x) S {parent} 1 1 0 1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start_ticks} 0");
        sample
            .capture(CaptureKind::ProcStatus, 0, status.as_bytes())
            .capture(CaptureKind::ProcStat, 0, stat.as_bytes())
            .capture(CaptureKind::ProcCmdline, 0, format!("{name}\0").as_bytes())
            .capture(CaptureKind::ProcCwd, 0, cwd.as_bytes())
    }

    fn process(&self, pid: u32, bits: u64) -> Sample {
        let bits = bits | if pid < ROOT { PROCESS_OUTSIDER } else { 0 };
        self.texts(pid, Sample::new(RecordKind::Process).thread(pid, pid).arguments(&[bits]))
    }
}

impl ProcessSource for Machine {
    fn is_tracee(&self, pid: Pid) -> bool {
        pid.as_u32() >= ROOT && self.living.contains_key(&pid.as_u32())
    }

    fn parent(&self, pid: Pid) -> Option<Pid> {
        self.living.get(&pid.as_u32()).map(|living| id(living.parent))
    }

    fn record(&self, pid: Pid, bits: u64, captures: &mut CaptureBuffer) -> Option<RecordHeader> {
        self.living.get(&pid.as_u32())?;
        let sample = self.process(pid.as_u32(), bits);
        captures.clear();
        captures.append(&sample.captures);
        Some(sample.header)
    }
}

fn id(pid: u32) -> Pid {
    Pid(i32::try_from(pid).unwrap())
}

/// What libsinsp remembers of a process, as far as rules see it.
#[derive(Debug, Default)]
struct Falco {
    known: HashMap<i64, Remembered>,
    execs: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Remembered {
    parent: i64,
    name: String,
    uid: i64,
    cwd: String,
}

impl Falco {
    fn hear(&mut self, batch: &Batch) {
        for event in checker::read(batch.as_bytes()) {
            let tid = event.tid;
            match short(&event) {
                "DROP_E" => {}
                "CLONE_20_X" if event.number("res") == 0 => {
                    let parent = event.number("ptid");
                    assert!(
                        parent == 0 || self.known.contains_key(&parent),
                        "{tid} before its parent {parent}"
                    );
                    let cwd = self.known.get(&parent).map(|parent| parent.cwd.clone()).unwrap_or_default();
                    let (name, uid) = (event.text("comm"), event.number("uid"));
                    // A clone of a thread that it knows is not looked at.
                    self.known.entry(tid).or_insert(Remembered { parent, name, uid, cwd });
                }
                "PROCEXIT_1_E" => {
                    assert!(self.known.remove(&tid).is_some(), "{tid} ends unheard of");
                    for orphan in self.known.values_mut().filter(|process| process.parent == tid) {
                        orphan.parent = i64::from(INIT);
                    }
                }
                name => {
                    let process = self.known.get_mut(&tid);
                    let process = process.unwrap_or_else(|| panic!("{name} of {tid}, which is unheard of"));
                    match name {
                        "CHDIR_X" if event.number("res") == 0 => process.cwd = event.text("path"),
                        // The parent in it counts only for a thread that libsinsp made up itself.
                        "EXECVE_19_X" => {
                            process.name = event.text("comm");
                            process.uid = event.number("uid");
                            self.execs.push(process.name.clone());
                        }
                        "SETRESUID_X" => process.uid = event.number("euid"),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// All parts between the machine and libsinsp.
struct Line {
    machine: Machine,
    told: Told,
    recorder: Recorder<Heap>,
    presence: Arc<Presence>,
    memory: Arc<Heap>,
    consumer: Option<Consumer<Heap>>,
    translator: Translator,
    falco: Falco,
    /// Records that a new consumer has still to read of what was there when it came.
    backlog: Option<usize>,
}

impl Line {
    fn new(are_pids_used_again: bool) -> Self {
        let memory = Arc::new(Heap::new(RING_BYTES).unwrap());
        let presence = Arc::new(Presence::new(true));
        let full_ring = FullRing { hold_max: Duration::ZERO, presence: Arc::clone(&presence) };
        let mut line = Self {
            machine: Machine::new(are_pids_used_again),
            told: Told::new(4096),
            recorder: Recorder::new(Producer::new(Arc::clone(&memory)), 0, full_ring),
            presence,
            consumer: Some(Consumer::attach(Arc::clone(&memory)).unwrap()),
            memory,
            translator: Translator::new(),
            falco: Falco::default(),
            backlog: Some(0),
        };
        line.preload();
        line.exec(ROOT);
        line
    }

    fn preload(&mut self) {
        for &pid in self.machine.living.keys() {
            self.translator.preload(&Record::parse(&self.machine.process(pid, 0).bytes()).unwrap());
        }
    }

    fn fork(&mut self, pid: u32) {
        let child = self.machine.new_pid();
        self.told.tell(id(pid), &self.machine, &mut self.recorder);
        let sample = samples::clone(pid, child);
        self.told.record_clone((id(pid), id(child)), &sample.header, &mut self.recorder);
        let Living { name, uid, cwd, .. } = self.machine.living[&pid].clone();
        self.machine.add(child, pid, name, uid, cwd);
    }

    fn exec(&mut self, pid: u32) {
        self.machine.programs += 1;
        let name = format!("program{}", self.machine.programs);
        self.machine.living.get_mut(&pid).unwrap().name = name;
        self.told.tell_parents(id(pid), &self.machine, &mut self.recorder);
        let sample = Sample::new(RecordKind::Exec).thread(pid, pid).number(Abi::X86_64, "execve");
        let sample = self.machine.texts(pid, sample);
        self.told.record_exec(id(pid), (&sample.header, &sample.captures), &mut self.recorder);
    }

    fn call(&mut self, sample: Sample) {
        self.told.tell(id(sample.header.pid), &self.machine, &mut self.recorder);
        self.recorder.record(&sample.header, &sample.captures);
    }

    fn become_user(&mut self, pid: u32, uid: u32) {
        self.call(Sample::call("setresuid", &[0, u64::from(uid), 0]).thread(pid, pid));
        self.machine.living.get_mut(&pid).unwrap().uid = uid;
    }

    fn go(&mut self, pid: u32, cwd: &str) {
        let sample = Sample::call("chdir", &[1]).thread(pid, pid);
        self.call(sample.capture(CaptureKind::Path, 0, cwd.as_bytes()));
        self.machine.living.get_mut(&pid).unwrap().cwd = cwd.to_owned();
    }

    fn exit(&mut self, pid: u32) {
        self.machine.living.remove(&pid);
        for orphan in self.machine.living.values_mut().filter(|process| process.parent == pid) {
            orphan.parent = INIT;
        }
        let exit = Sample::new(RecordKind::Exit).thread(pid, pid).header;
        self.told.record_exit(id(pid), &exit, &self.machine, &mut self.recorder);
    }

    fn translate(&mut self, bytes: &[u8]) {
        let mut batch = Batch::with_capacity(64 * 1024);
        self.translator.translate(&Record::parse(bytes).unwrap(), &mut batch);
        self.falco.hear(&batch);
    }

    fn read(&mut self, count: usize) {
        let mut buffer = RecordBuffer::new();
        for _ in 0..count {
            self.catch_up();
            if self.consumer.as_mut().map(|consumer| consumer.poll(&mut buffer)) != Some(Ok(Poll::Record)) {
                break;
            }
            self.translate(&buffer);
            self.backlog = self.backlog.map(|left| left.saturating_sub(1));
        }
        self.catch_up();
    }

    fn catch_up(&mut self) {
        if self.consumer.is_some() && self.backlog == Some(0) {
            self.backlog = None;
            let mut snapshot = self.translator.caught_up();
            let mut batch = Batch::with_capacity(64 * 1024);
            assert!(snapshot.fill(&mut self.translator, 0, &mut batch));
            self.falco.hear(&batch);
        }
    }

    fn depart(&mut self) {
        if self.consumer.take().is_some() {
            self.presence.depart();
        }
    }

    /// Another consumer, which knows nothing but the processes that are there.
    fn arrive(&mut self) {
        if self.consumer.is_some() {
            return;
        }
        self.presence.arrive();
        (self.translator, self.falco) = (Translator::new(), Falco::default());
        self.preload();
        self.consumer = Some(Consumer::attach(Arc::clone(&self.memory)).unwrap());
        // No fewer records than the ring can hold, so that the backlog is read in any case.
        self.backlog = Some(RING_BYTES / 64);
    }

    fn settle(&mut self) {
        self.arrive();
        for round in 0..3 {
            for pid in self.machine.workload() {
                self.call(Sample::call("setsid", &[]).thread(pid, pid));
                self.read(usize::MAX);
            }
            if round == 0 {
                // Nothing is left in the ring.
                self.backlog = self.backlog.map(|_| 0);
                self.catch_up();
            }
        }
        self.told.finish(&mut self.recorder);
        self.read(usize::MAX);
    }

    fn check(&self) {
        assert_eq!((self.translator.events_refused(), self.translator.last_error()), (0, None));
        for (&pid, living) in &self.machine.living {
            let Some(known) = self.falco.known.get(&i64::from(pid)) else {
                assert!(pid < ROOT, "{pid} is alive and unheard of");
                continue;
            };
            assert_eq!(known.name, living.name, "name of {pid}");
            assert_eq!((known.parent, known.uid), (living.parent.into(), living.uid.into()), "{pid}");
            if pid >= ROOT {
                assert_eq!(known.cwd, living.cwd, "directory of {pid}");
            }
        }
        let dead = self
            .falco
            .known
            .keys()
            .find(|&&pid| !self.machine.living.contains_key(&u32::try_from(pid).unwrap()));
        assert_eq!(dead, None, "a process that has ended is known");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Fork(usize),
    Exec(usize),
    Call(usize),
    BecomeUser(usize, u32),
    Go(usize, u8),
    Exit(usize),
    Read(usize),
    Depart,
    Arrive,
}

fn step(restarts: u32) -> impl Strategy<Value = Step> {
    let who = || 0..64usize;
    prop_oneof![
        6 => who().prop_map(Step::Fork),
        4 => who().prop_map(Step::Exec),
        4 => who().prop_map(Step::Call),
        1 => (who(), 0..3u32).prop_map(|(who, uid)| Step::BecomeUser(who, uid)),
        1 => (who(), 0..3u8).prop_map(|(who, place)| Step::Go(who, place)),
        4 => who().prop_map(Step::Exit),
        4 => (0..12usize).prop_map(Step::Read),
        restarts => Just(Step::Depart),
        restarts => Just(Step::Arrive),
    ]
}

fn run(line: &mut Line, steps: &[Step]) {
    for step in steps {
        let workload = line.machine.workload();
        let pid = |who: usize| workload[who % workload.len()];
        match *step {
            Step::Fork(who) if workload.len() < 30 => line.fork(pid(who)),
            Step::Fork(_) => {}
            Step::Exec(who) => line.exec(pid(who)),
            Step::Call(who) => line.call(Sample::call("setsid", &[]).thread(pid(who), pid(who))),
            Step::BecomeUser(who, uid) => line.become_user(pid(who), uid),
            Step::Go(who, place) => line.go(pid(who), &format!("/place{place}")),
            Step::Exit(who) => {
                if pid(who) != ROOT {
                    line.exit(pid(who));
                }
            }
            Step::Read(count) => line.read(count),
            Step::Depart => line.depart(),
            Step::Arrive => line.arrive(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn after_any_losses_each_living_process_has_its_name_and_parent(
        steps in proptest::collection::vec(step(0), 0..150),
    ) {
        let mut line = Line::new(true);
        run(&mut line, &steps);
        line.settle();
        line.check();
    }

    #[test]
    fn after_any_change_of_consumers_each_living_process_has_its_name_and_parent(
        steps in proptest::collection::vec(step(2), 0..150),
    ) {
        let mut line = Line::new(false);
        run(&mut line, &steps);
        line.settle();
        line.check();
    }
}
