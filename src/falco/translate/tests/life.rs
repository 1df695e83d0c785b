use super::{Captures as _, Feed, call, short};
use crate::{
    abi::Abi,
    decode::samples::{self, Sample},
    event::{CaptureFlags, CaptureKind, RecordFlags, RecordKind},
};

#[test]
fn the_first_program_is_introduced_before_it_starts_and_its_parent_before_it() {
    let mut feed = Feed::bare();
    feed.translator.learn_outsider(7, b"creance");
    let told = feed.tell([samples::exec(10, 7, &["sh", "-c", "x"])]);
    let chdir = |tid| ("CHDIR_X", tid);
    let clone = |tid| ("CLONE_20_X", tid);
    assert_eq!(told, [clone(7), chdir(7), clone(10), chdir(10), chdir(10), ("EXECVE_19_X", 10)]);
    let events = feed.events();
    assert_eq!((events[0].text("comm"), events[0].number("ptid")), ("creance".into(), 0));
    assert_eq!(events[0].number("uid"), i64::from(u32::MAX), "what is not known is not root");
    let child = &events[2];
    assert_eq!(["res", "pid", "ptid", "vpid"].map(|name| child.number(name)), [0, 10, 7, 10]);
    assert_eq!(
        (child.text("exe"), child.param("args"), child.number("fdlimit")),
        ("sh".into(), &b"-c\0x\0"[..], -1)
    );
    // A directory that is not known is told by a change that failed: the thread lives.
    assert_eq!((events[3].number("res"), events[4].text("path")), (-2, "/root".into()));
}

#[test]
fn an_exec_has_all_that_proc_tells() {
    let mut feed = Feed::new();
    let status = "Name:\tcat\nTgid:\t1234\nPPid:\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t1234\nNSpgid:\t1230\n\
        VmSize:\t 5000 kB\nVmRSS:\t 300 kB\nVmSwap:\t 0 kB\nCapInh:\t0\nCapPrm:\t3\nCapEff:\t1\n";
    let exec = Sample::new(RecordKind::Exec)
        .number(Abi::X86_64, "execve")
        .arguments(&[1235])
        .path(0, "./cat")
        .cwd(0, "/usr/bin")
        .capture(CaptureKind::ProcStatus, 0, status.as_bytes())
        .capture(CaptureKind::ProcStat, 0, b"1234 (cat) R 1 1230 1200 34816 1234 0 20 0 3 0")
        .capture(CaptureKind::ProcCmdline, 0, b"cat\0/etc/shadow\0\0x\0")
        .capture(CaptureKind::ProcEnviron, 0, b"A=1\0B=2")
        .capture(CaptureKind::ProcCgroup, 0, b"0::/ecs/a\n")
        .capture(CaptureKind::ProcLoginuid, 0, b"1000")
        .capture(CaptureKind::ProcExe, 0, b"/memfd:cat (deleted)")
        .capture(CaptureKind::ProcCwd, 0, b"/usr/bin");
    let told = feed.tell([exec]);
    assert_eq!(told, [("PROCEXIT_1_E", 1235), ("CHDIR_X", 1234), ("EXECVE_19_X", 1234)]);
    let events = feed.events();
    let event = &events[2];
    let numbers =
        ["res", "tid", "pid", "ptid", "fdlimit", "pgft_maj", "pgft_min", "vm_size", "vm_rss", "vm_swap"];
    assert_eq!(numbers.map(|name| event.number(name)), [0, 1234, 1234, 1, -1, 3, 20, 5000, 300, 0]);
    let numbers =
        ["tty", "vpgid", "loginuid", "flags", "cap_permitted", "cap_effective", "uid", "pgid", "gid"];
    assert_eq!(numbers.map(|name| event.number(name)), [34816, 1230, 1000, 4, 3, 1, 2, 1230, 6]);
    assert_eq!((event.text("exe"), event.param("args")), ("cat".into(), &b"/etc/shadow\0\0x\0"[..]));
    assert_eq!(
        (event.text("comm"), event.text("trusted_exepath")),
        ("cat".into(), "memfd:cat (deleted)".into())
    );
    assert_eq!((event.param("env"), event.text("filename")), (&b"A=1\0B=2\0"[..], "./cat".into()));
    assert!(event.param("cgroups").starts_with(b"cpuset=/ecs/a\0"));
    assert!(event.param("exe_ino").is_empty() && event.param("cwd").is_empty());
    // The threads of the old program are gone with it.
    let told = feed.tell([call("close", &[1]).thread(1234, 1235)]);
    assert_eq!(told, [("CLONE_20_X", 1235), ("CHDIR_X", 1235), ("CLOSE_X", 1235)]);
}

#[test]
fn texts_of_an_exec_keep_to_their_bounds() {
    let mut feed = Feed::new();
    let long = [b'x'; 4096];
    let cut = CaptureFlags::TRUNCATED;
    let exec = |cmdline: &[u8]| {
        Sample::new(RecordKind::Exec)
            .number(Abi::X86_64, "execve")
            .capture_with(CaptureKind::ProcCmdline, 0, cut, cmdline)
            .capture_with(CaptureKind::ProcEnviron, 0, cut, &long)
            .capture(CaptureKind::ProcExe, 0, &long)
    };
    let event = feed.last(exec(&[&b"cat\0"[..], &long].concat()));
    assert_eq!((event.param("args").len(), event.param("env").len()), (4092, 4096));
    assert_eq!((event.param("args")[4091], event.param("env")[4095]), (0, 0));
    let event = feed.last(exec(&long));
    assert_eq!((event.param("exe").len(), event.param("args").len()), (4096, 0));
    assert_eq!(event.param("trusted_exepath").len(), 4096);
    assert!(event.param("uid").is_empty() && event.param("vm_swap").is_empty());
}

#[test]
fn an_exec_that_failed_has_the_arguments_of_the_call() {
    let mut feed = Feed::new();
    let failed = |name, index: u8| {
        call(name, &[]).path(index - 1, "/no").capture(CaptureKind::Argv, index, b"no\0-x\0")
    };
    let event = feed.one(failed("execve", 1).result(-2));
    assert_eq!((short(&event), event.number("res"), event.text("exe")), ("EXECVE_19_X", -2, "no".into()));
    assert_eq!((event.param("args"), event.text("comm")), (&b"-x\0"[..], "bash".into()));
    assert_eq!((event.text("filename"), event.number("uid")), ("/no".into(), 0));
    let event = feed.one(failed("execveat", 2).result(-13));
    assert_eq!((short(&event), event.params.len()), ("EXECVEAT_X", 30));
    assert!(feed.tell([failed("execve", 1).result(0)]).is_empty(), "a success has a record of its own");
}

#[test]
fn a_clone_is_told_by_the_child_and_then_by_its_creator() {
    let mut feed = Feed::new();
    let told = feed.tell([samples::clone(1234, 1300)]);
    assert_eq!(told, [("CLONE_20_X", 1300), ("CHDIR_X", 1300), ("CLONE_20_X", 1234)]);
    let events = feed.events();
    let names = ["res", "tid", "pid", "ptid", "uid", "gid", "vtid"];
    assert_eq!(names.map(|name| events[0].number(name)), [0, 1300, 1300, 1234, 0, 0xffff_ffff, 1300]);
    assert_eq!((events[0].text("comm"), events[1].text("path")), ("bash".into(), "/root".into()));
    assert_eq!(["res", "tid", "pid", "ptid"].map(|name| events[2].number(name)), [1300, 1234, 1234, 1]);
    let vfork = samples::clone(1300, 1301).number(Abi::X86_64, "vfork");
    assert_eq!(feed.tell([vfork])[0], ("VFORK_20_X", 1301));
    let thread = samples::clone(1301, 1301).number(Abi::X86_64, "clone3");
    let thread = thread.arguments(&[0x1_0000, 1301]).flags(RecordFlags::THREAD).result(1302);
    feed.tell([thread]);
    let events = feed.events();
    assert_eq!(["tid", "pid", "ptid"].map(|name| events[0].number(name)), [1302, 1301, 1300]);
    assert_eq!(events[0].number("flags") & 1 << 13, 1 << 13);
    // The child of a creator that died in the call has no event of its creator.
    let orphan = samples::clone(1300, 1400).arguments(&[0, 1400]).flags(RecordFlags::FROM_CHILD);
    assert_eq!(feed.tell([orphan]), [("CLONE_20_X", 1400), ("CHDIR_X", 1400)]);
}

#[test]
fn a_process_in_a_new_pid_namespace_is_its_first() {
    let mut feed = Feed::new();
    let clone = samples::clone(1234, 1300).arguments(&[0x2000_0011, 1300]);
    feed.tell([clone]);
    assert_eq!((feed.events()[0].number("vpid"), feed.events()[0].number("flags")), (1, 1 << 6));
    feed.tell([samples::clone(1300, 1301)]);
    let events = feed.events();
    assert!(events[0].param("vpid").is_empty(), "no record tells the number of another");
    assert_eq!(events[0].number("flags") & 1 << 29, 1 << 29);
}

const CLONE_NEWPID: u64 = 0x2000_0000;

fn vpid_of_child(feed: &mut Feed, clone: Sample) -> Option<i64> {
    let child = clone.header.result;
    feed.tell([clone]);
    let events = feed.events();
    let event = events.iter().find(|event| event.tid == child).unwrap();
    Some(()).filter(|()| !event.param("vpid").is_empty()).map(|()| event.number("vpid"))
}

#[test]
fn the_first_child_after_unshare_is_the_first_of_a_pid_namespace() {
    let mut feed = Feed::new();
    feed.tell([call("unshare", &[CLONE_NEWPID]).result(-1), call("unshare", &[0x2_0000])]);
    assert_eq!(
        vpid_of_child(&mut feed, samples::clone(1234, 1300)),
        Some(1300),
        "no such unshare has succeeded"
    );
    feed.tell([call("unshare", &[CLONE_NEWPID])]);
    let by_other_thread = samples::clone(1234, 1301).thread(1234, 1235);
    assert_eq!(
        vpid_of_child(&mut feed, by_other_thread),
        Some(1301),
        "it is the caller's children that go there"
    );
    assert_eq!(vpid_of_child(&mut feed, samples::clone(1234, 1302)), Some(1));
    assert_eq!(feed.events()[0].number("flags") & 1 << 29, 1 << 29);
    assert_eq!(vpid_of_child(&mut feed, samples::clone(1234, 1303)), None, "the second has a number there");
    assert_eq!(vpid_of_child(&mut feed, samples::clone(1302, 1304)), None, "its children are in its own");
}

#[test]
fn where_children_go_outlives_an_exec_of_the_thread_that_said_so() {
    let mut feed = Feed::new();
    let exec = |former: u64| samples::exec(1234, 1, &["sh"]).arguments(&[former]);
    feed.tell([call("unshare", &[CLONE_NEWPID]).thread(1234, 1235), exec(1235)]);
    assert_eq!(vpid_of_child(&mut feed, samples::clone(1234, 1300)), Some(1));
    feed.tell([call("unshare", &[CLONE_NEWPID]).thread(1234, 1235), exec(1234)]);
    assert_eq!(vpid_of_child(&mut feed, samples::clone(1234, 1301)), Some(1301));
}

#[test]
fn a_child_that_goes_to_a_namespace_that_was_there_before_has_no_known_number() {
    let mut feed = Feed::new();
    feed.tell([call("setns", &[3, 0])]);
    assert_eq!(
        vpid_of_child(&mut feed, samples::clone(1234, 1300)),
        Some(1300),
        "it may have been of any kind"
    );
    feed.tell([call("setns", &[3, CLONE_NEWPID])]);
    assert_eq!(vpid_of_child(&mut feed, samples::clone(1234, 1301)), None);
    assert_eq!(vpid_of_child(&mut feed, samples::clone(1234, 1302)), None);
    let first = samples::clone(1234, 1303).arguments(&[CLONE_NEWPID, 1303]);
    assert_eq!(vpid_of_child(&mut feed, first), Some(1));
}

#[test]
fn an_exit_is_the_last_event_of_its_thread() {
    let mut feed = Feed::new();
    let exit = |pid, tid, status| Sample::new(RecordKind::Exit).thread(pid, tid).result(status);
    let event = feed.one(exit(1234, 1235, 0x0300));
    assert_eq!((short(&event), event.tid), ("PROCEXIT_1_E", 1235));
    assert_eq!(["status", "ret", "sig", "core"].map(|name| event.number(name)), [0x300, 3, 0, 0]);
    let event = feed.one(exit(1234, 1234, 0x8b));
    assert_eq!(["ret", "sig", "core", "reaper_tid"].map(|name| event.number(name)), [0, 11, 1, 0]);
    assert_eq!(feed.translator.processes.len(), 1, "init is the parent that nobody told of");
    // A call that never returned is no event, and a lost record is one.
    assert!(feed.tell([call("open", &[1]).path(0, "/x").flags(RecordFlags::NO_RESULT)]).is_empty());
    let event = feed.one(Sample::new(RecordKind::Loss).thread(0, 0).result(12));
    assert_eq!((short(&event), event.number("ratio")), ("DROP_E", 12));
}

#[test]
fn a_call_that_could_not_be_followed_is_told_as_if_it_had_succeeded() {
    let mut feed = Feed::new();
    let unfollowed = RecordFlags::NO_RESULT.with(RecordFlags::UNFOLLOWED);
    let event = feed.one(call("open", &[1]).path(0, "/x").flags(unfollowed));
    assert_eq!((short(&event), event.number("fd")), ("OPEN_X", i64::from(i32::MAX)));
    assert_eq!(feed.one(call("rmdir", &[1]).path(0, "/x").flags(unfollowed)).number("res"), 0);
    assert!(feed.tell([call("accept", &[1]).flags(unfollowed)]).is_empty());
}

#[test]
fn a_thread_that_no_record_told_of_is_introduced_without_a_name() {
    let mut feed = Feed::bare();
    let told = feed.tell([call("setsid", &[]).thread(10, 11)]);
    let clone = |tid| [("CLONE_20_X", tid), ("CHDIR_X", tid)];
    assert_eq!(told[..4], [clone(10), clone(11)].concat());
    assert_eq!((feed.events()[0].text("comm"), feed.events()[2].number("pid")), ("<NA>".into(), 10));
    // A record without a process belongs to the one that its thread is known in.
    assert_eq!(feed.tell([call("setsid", &[]).thread(0, 11)]), [("SETSID_X", 11)]);
}

#[test]
fn a_number_is_a_thread_or_a_process_but_never_both() {
    let mut feed = Feed::new();
    let thread =
        |tid| samples::clone(1234, 1234).arguments(&[0x1_0000, 1234]).flags(RecordFlags::THREAD).result(tid);
    feed.tell([samples::clone(1234, 1300)]);
    feed.tell([thread(1300)]);
    assert_eq!(feed.tell([call("setsid", &[]).thread(0, 1300)]), [("SETSID_X", 1300)]);
    assert_eq!(feed.translator.processes.len(), 4, "init, the process and its two threads");
    feed.tell([samples::clone(1234, 1300)]);
    assert_eq!(feed.translator.processes.len(), 4);
    assert_eq!(feed.translator.processes.group_of(1300), 1300);
}
