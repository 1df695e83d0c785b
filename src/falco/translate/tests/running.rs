//! Processes that no clone told of: after a loss, from a snapshot, and at the end of a tracer.

use super::{Feed, call, short};
use crate::{
    decode::samples::{self, Sample},
    event::{CaptureKind, PROCESS_CLONE_LOST, PROCESS_EXEC_LOST, Record, RecordFlags, RecordKind},
    falco::{Batch, Snapshot, checker},
};

impl Feed {
    fn preload<const N: usize>(&mut self, samples: [Sample; N]) {
        for sample in samples {
            self.translator.preload(&Record::parse(&sample.bytes()).unwrap());
        }
    }

    fn fill(&mut self, mut snapshot: Snapshot) -> Vec<(&'static str, i64)> {
        self.batch.clear();
        assert!(snapshot.fill(&mut self.translator, 9, &mut self.batch));
        self.events().iter().map(|event| (short(event), event.tid)).collect()
    }
}

fn introduced(tid: i64) -> [(&'static str, i64); 2] {
    [("CLONE_20_X", tid), ("CHDIR_X", tid)]
}

fn lost(bits: u64, sample: Sample) -> Sample {
    sample.arguments(&[bits])
}

fn init_and(pid: u32, name: &str) -> [Sample; 2] {
    [samples::process(1, 0, &["init"], 1), samples::process(pid, 1, &[name], 5)]
}

fn exit(pid: u32) -> Sample {
    Sample::new(RecordKind::Exit).thread(pid, pid)
}

#[test]
fn a_process_that_is_not_known_is_introduced_as_it_is() {
    let mut feed = Feed::bare();
    feed.push([samples::process(1, 0, &["init"], 1)]);
    let told = feed.tell([samples::process(10, 1, &["sh", "-c", "x"], 5)]);
    assert_eq!(told, introduced(10), "and no new program is told, for there is none");
    let events = feed.events();
    assert_eq!((events[0].text("comm"), events[0].param("args")), ("sh".into(), &b"-c\0x\0"[..]));
    assert_eq!((events[0].number("ptid"), events[0].number("uid")), (1, 0));
    assert_eq!((events[1].number("res"), events[1].text("path")), (0, "/root".into()));
    assert!(feed.tell([samples::process(10, 1, &["sh", "-c", "x"], 5)]).is_empty(), "it has not changed");
}

#[test]
fn a_program_whose_start_was_lost_is_told_late() {
    let mut feed = Feed::new();
    let told = feed.tell([lost(PROCESS_EXEC_LOST, samples::process(1234, 1, &["cat", "/etc/shadow"], 5))]);
    assert_eq!(
        told,
        [("PROCEXIT_1_E", 1235), ("EXECVE_19_X", 1234)],
        "its threads ended with the old program"
    );
    let events = feed.events();
    assert_eq!((events[1].text("comm"), events[1].param("args")), ("cat".into(), &b"/etc/shadow\0"[..]));
    let both = PROCESS_EXEC_LOST | PROCESS_CLONE_LOST;
    let told = feed.tell([lost(both, samples::process(1300, 1234, &["cat"], 6))]);
    assert_eq!(told[..2], introduced(1300));
    assert_eq!(told.last(), Some(&("EXECVE_19_X", 1300)));
}

#[test]
fn of_a_process_that_is_known_only_differences_are_told() {
    let mut feed = Feed::new();
    let status = b"Name:\tbash\nPPid:\t1\nUid:\t7\t8\t9\t9\nGid:\t4\t5\t6\t6\n";
    let other = || {
        let process = Sample::new(RecordKind::Process).capture(CaptureKind::ProcStatus, 0, status);
        process.capture(CaptureKind::ProcCwd, 0, b"/srv")
    };
    let told = feed.tell([other()]);
    assert_eq!(told, [("SETRESUID_X", 1234), ("SETRESGID_X", 1234), ("CHDIR_X", 1234)]);
    let events = feed.events();
    assert_eq!(["ruid", "euid", "suid"].map(|name| events[0].number(name)), [7, 8, 9]);
    assert_eq!(["rgid", "egid", "sgid"].map(|name| events[1].number(name)), [4, 5, 6]);
    assert_eq!(events[2].text("path"), "/srv");
    assert!(feed.tell([other()]).is_empty());
}

#[test]
fn another_process_with_the_same_number_begins_anew() {
    let mut feed = Feed::bare();
    feed.push(init_and(10, "old"));
    let told = feed.tell([samples::process(10, 1, &["new"], 6)]);
    assert_eq!(told, [&[("PROCEXIT_1_E", 10)][..], &introduced(10)].concat(), "by the time of its start");
    feed.push([samples::clone(10, 11)]);
    assert!(feed.tell([samples::process(11, 10, &["new"], 7)]).is_empty(), "the child of that clone");
    feed.push([samples::clone(10, 12)]);
    let told = feed.tell([lost(PROCESS_CLONE_LOST, samples::process(12, 10, &["other"], 8))]);
    assert_eq!(told[0], ("PROCEXIT_1_E", 12), "by its clone, which was lost");
    let told = feed.tell([samples::clone(10, 12)]);
    assert_eq!(told[0], ("PROCEXIT_1_E", 12));
}

#[test]
fn a_process_without_a_name_gets_one() {
    let mut feed = Feed::bare();
    feed.push([samples::process(1, 0, &["init"], 1), call("setsid", &[]).thread(10, 10)]);
    let told = feed.tell([samples::process(10, 1, &["sh"], 5)]);
    assert_eq!(told, [&[("PROCEXIT_1_E", 10)][..], &introduced(10)].concat());
    assert_eq!(feed.events()[1].text("comm"), "sh");
}

#[test]
fn a_process_of_a_snapshot_is_introduced_when_a_record_names_it() {
    let mut feed = Feed::bare();
    feed.preload(init_and(10, "sh"));
    feed.preload([samples::process(11, 10, &["cat"], 6), samples::process(12, 10, &["ls"], 7)]);
    let told = feed.tell([call("setsid", &[]).thread(11, 11)]);
    let expected = [introduced(1), introduced(10), introduced(11)].concat();
    assert_eq!(told, [&expected[..], &[("SETSID_X", 11)]].concat(), "ancestors first");
    assert_eq!(feed.events()[4].text("comm"), "cat");
    // The parent of a new process.
    assert_eq!(feed.tell([samples::clone(12, 13)])[..2], introduced(12));
}

#[test]
fn what_the_ring_tells_of_a_process_comes_before_its_snapshot() {
    let mut feed = Feed::bare();
    feed.preload(init_and(10, "now"));
    feed.preload([samples::process(11, 10, &["now"], 6), samples::process(12, 10, &["now"], 7)]);
    feed.push([samples::process(10, 1, &["then"], 5)]);
    feed.push([samples::clone(10, 11), exit(12)]);
    assert!(feed.batch.as_bytes().windows(4).all(|bytes| bytes != b"now\0"));
    let left = feed.translator.caught_up();
    assert!(feed.fill(left).is_empty());
}

#[test]
fn a_child_of_a_creator_that_only_the_snapshot_tells_of_is_what_the_snapshot_says() {
    let mut feed = Feed::bare();
    feed.preload(init_and(10, "now"));
    feed.preload([samples::process(11, 1, &["child"], 6)]);
    feed.tell([samples::clone(10, 11)]);
    let child = feed.events().into_iter().find(|event| event.tid == 11).unwrap();
    assert_eq!(
        (child.text("comm"), child.number("ptid")),
        ("child".into(), 10),
        "which had this parent then"
    );
}

#[test]
fn an_older_exec_does_not_bring_back_a_parent_that_is_gone() {
    let mut feed = Feed::bare();
    feed.preload(init_and(10, "now"));
    feed.push([call("setsid", &[]).thread(10, 10)]);
    let event = feed.last(samples::exec(10, 77, &["then"]));
    assert_eq!((short(&event), event.number("ptid")), ("EXECVE_19_X", 1));
}

#[test]
fn what_is_left_of_a_snapshot_is_introduced_when_the_ring_was_read() {
    let mut feed = Feed::bare();
    feed.preload([samples::process(11, 10, &["cat"], 6)]);
    feed.preload(init_and(10, "sh"));
    let left = feed.translator.caught_up();
    assert_eq!(feed.fill(left), [introduced(1), introduced(10), introduced(11)].concat());
    let none = feed.translator.caught_up();
    assert!(feed.fill(none).is_empty());
    assert_eq!(feed.tell([call("setsid", &[]).thread(11, 11)]), [("SETSID_X", 11)]);
}

#[test]
fn the_end_of_a_process_that_falco_does_not_know_is_not_told() {
    let mut feed = Feed::bare();
    feed.preload([samples::process(10, 0, &["sh"], 6)]);
    assert!(feed.tell([exit(10), exit(11)]).is_empty());
}

#[test]
fn a_tracer_that_is_gone_has_no_processes_left() {
    let mut feed = Feed::bare();
    feed.translator.learn_outsider(7, b"creance");
    feed.push([samples::exec(10, 7, &["sh"]), samples::clone(10, 11), samples::clone(11, 12)]);
    let thread = samples::clone(12, 12).arguments(&[0x1_0000, 12]).flags(RecordFlags::THREAD).result(13);
    feed.push([thread]);
    let mut small = Batch::with_capacity(100);
    let mut ended = Vec::new();
    loop {
        let is_done = feed.translator.end_all(9, &mut small);
        ended.extend(checker::read(small.as_bytes()).iter().map(|event| (short(event), event.tid)));
        small.clear();
        if is_done {
            break;
        }
    }
    assert_eq!(ended[0], ("PROCEXIT_1_E", 13), "threads before their process");
    ended.sort_unstable();
    assert_eq!(ended, [10, 11, 12, 13].map(|tid| ("PROCEXIT_1_E", tid)));
    assert_eq!(feed.translator.processes.len(), 1, "the parent of it all lives on");
}

#[test]
fn ids_of_another_pid_namespace_are_shifted_but_not_what_a_process_sees_itself() {
    const OFFSET: u64 = 1 << 22;
    const SHIFT: i64 = 1 << 22;
    let mut feed = Feed::bare();
    feed.translator = std::mem::take(&mut feed.translator).with_id_offset(OFFSET);
    feed.tell([samples::exec(10, 7, &["sh"]), samples::clone(10, 11)]);
    let events = feed.events();
    assert!(events.iter().all(|event| event.tid > SHIFT));
    let child = events.iter().find(|event| event.tid == SHIFT + 11).unwrap();
    let names = ["res", "tid", "pid", "ptid", "vtid", "vpid"];
    let expected = [0, SHIFT + 11, SHIFT + 11, SHIFT + 10, 11, 11];
    assert_eq!(names.map(|name| child.number(name)), expected);
    assert_eq!(events.last().map(|event| event.number("res")), Some(SHIFT + 11), "the child of a clone");
    assert_eq!(feed.one(call("setsid", &[]).thread(10, 10).result(10)).number("res"), 10);
    assert_eq!(feed.one(call("setsid", &[]).thread(10, 10).result(-1)).number("res"), -1);
    assert_eq!(feed.one(Sample::new(RecordKind::Loss).thread(0, 0).result(1)).tid, 0);
    feed.batch.clear();
    feed.translator.end_all(1, &mut feed.batch);
    assert!(feed.events().iter().all(|event| event.tid > SHIFT));
}

#[test]
fn a_long_line_of_ancestors_keeps_to_the_room_of_a_batch() {
    let mut feed = Feed::bare();
    feed.batch = Batch::with_capacity(1);
    let long = "x".repeat(4000);
    for pid in 1..200 {
        feed.preload([samples::process(pid, pid - 1, &["sh", &long], 5)]);
    }
    let told = feed.tell([call("setsid", &[]).thread(199, 199)]);
    assert_eq!(told.last(), Some(&("SETSID_X", 199)));
    assert!(told.contains(&("CLONE_20_X", 199)) && told.contains(&("CLONE_20_X", 198)));
    let left = feed.translator.caught_up();
    assert!(feed.fill_in_parts(left) < 200);
}

impl Feed {
    /// How many processes are introduced by a snapshot whose batches are small.
    fn fill_in_parts(&mut self, mut snapshot: Snapshot) -> usize {
        let mut clones = 0;
        loop {
            self.batch.clear();
            let is_done = snapshot.fill(&mut self.translator, 9, &mut self.batch);
            clones += self.events().iter().filter(|event| short(event) == "CLONE_20_X").count();
            if is_done {
                assert_eq!(self.translator.events_refused(), 0);
                return clones;
            }
        }
    }
}
