//! A thread that stops often is stuck to one CPU, and nothing of it is to be seen in the workload.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::Path,
    thread,
    time::Instant,
};

use creance::sys::{
    Tid,
    cpu::{CpuBudget, affinity, current_thread},
};

use crate::support::{Finished, Workload, directory, executable, fifo, fixture, has_program, limit, skip};

/// Only the ptrace engine sticks threads. Its statistics tell how often.
const STUCK: [&str; 5] = ["--engine", "ptrace", "--output", "null", "--stats"];

/// Runs the steps of the fixture `placed`, natively and under creance, until a thread has been stuck: they print the same.
fn assert_same(steps: &[&str], launcher: Option<&Path>) {
    let since = Instant::now();
    loop {
        let [native, watched] = run(steps, launcher);
        assert!(!native.stdout.is_empty());
        assert_eq!(watched.stdout(), native.stdout(), "{steps:?}");
        if was_stuck(&watched, since) {
            return;
        }
    }
}

/// Runs the steps natively and under creance.
fn run(steps: &[&str], launcher: Option<&Path>) -> [Finished; 2] {
    let workload = || {
        let words = [fixture("placed").into_os_string()].into_iter().chain(steps.iter().map(Into::into));
        let workload = Workload::new(words);
        match launcher {
            Some(launcher) => workload.launched_by(launcher),
            None => workload,
        }
    };
    let finished = workload().flags(STUCK).under_creance();
    assert_eq!(finished.status.code(), Some(0), "{steps:?}: {}", finished.stderr);
    [workload().natively(), finished]
}

/// How many times a thread was stuck.
fn stuck(finished: &Finished) -> u64 {
    finished.figure("packs stuck to one CPU")
}

/// Whether a thread was stuck in a run that began then. Where others have the CPUs a thread may not stop often enough for that, so
/// that it takes another run.
fn was_stuck(finished: &Finished, since: Instant) -> bool {
    let was_stuck = stuck(finished) > 0;
    assert!(was_stuck || since.elapsed() < limit(), "{}", finished.stderr);
    was_stuck
}

/// Whether there is a choice of CPUs.
fn has_cpus() -> bool {
    let has = CpuBudget::of_this_process().cpus > 1;
    if !has {
        skip("there is only one CPU");
    }
    has
}

#[test]
fn whoever_is_asked_may_run_where_it_may_natively() {
    if !has_cpus() {
        return;
    }
    let each = ["ask", "raw", "fork", "vfork", "thread", "exec", "threadexec", "pin", "pinother"];
    let longer: [&[&str]; 4] = [
        &["raw", "pin", "raw", "thread", "raw"],
        &["fork", "thread", "vfork", "ask", "exec"],
        &["pin", "fork", "thread", "ask", "vfork", "threadexec"],
        &["pinother", "thread", "fork", "exec"],
    ];
    for steps in each.iter().map(std::slice::from_ref).chain(longer) {
        assert_same(steps, None);
    }
}

#[test]
fn programs_that_ask_get_their_native_answer() {
    if !has_cpus() {
        return;
    }
    let script =
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do :< /nonexistent/$i; nproc; done 2> /dev/null";
    let workload = || Workload::shell(script);
    assert_eq!(workload().under_creance().stdout(), workload().natively().stdout());
    if has_program("python3") {
        let script = "import os\nfor i in range(500):\n os.path.exists('/x')\n try: open('/x')\n except OSError: pass\n\
                      print(os.sched_getaffinity(0))\nprint(os.popen('nproc').read())";
        let workload = || Workload::new(["python3", "-c", script]);
        assert_eq!(workload().under_creance().stdout(), workload().natively().stdout());
    }
}

/// Whom a workload names in the first FIFO is let go while it waits for the second; the workload must have had somebody stuck.
fn assert_is_let_go(words: impl Fn(&Path, &Path) -> Vec<OsString>) {
    let since = Instant::now();
    while !was_stuck(&let_go(&words), since) && has_cpus() {}
}

fn let_go(words: impl FnOnce(&Path, &Path) -> Vec<OsString>) -> Finished {
    let (_held, path) = directory();
    let [told, awaited] = ["told", "awaited"].map(|name| {
        let path = path.join(name);
        fifo(&path);
        path
    });
    let running = Workload::new(words(&told, &awaited)).flags(STUCK).start_under_creance();
    let pid = fs::read_to_string(told).expect("it is told").trim().parse().expect("a pid");
    let since = Instant::now();
    let here = affinity(current_thread()).expect("a thread may ask");
    while affinity(Tid(pid)).expect("it is there") != here {
        assert!(since.elapsed() < limit(), "it keeps its one CPU");
        thread::yield_now();
    }
    File::options().write(true).open(awaited).expect("somebody reads");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished
}

#[test]
fn a_thread_that_goes_quiet_may_run_everywhere_again() {
    assert_is_let_go(|told, awaited| {
        let program = fixture("placed");
        [program.as_os_str(), "quiet".as_ref(), told.as_os_str(), awaited.as_os_str()].map(Into::into).into()
    });
}

#[test]
fn what_is_born_where_others_are_stuck_may_run_everywhere_when_they_are_let_go() {
    assert_is_let_go(|told, awaited| {
        let script = format!(
            "opens() {{ for i in {{1..60}}; do : < /nonexistent/stuck; done 2> /dev/null; }}; \
             opens; sleep 1000 & opens; echo $! > {}; : < {}; kill %1",
            told.display(),
            awaited.display()
        );
        ["bash", "-c", &script].map(Into::into).into()
    });
}

#[test]
fn what_is_trapped_for_placement_alone_is_not_recorded() {
    let program = fixture("placed");
    let words = [program.as_os_str(), "pin".as_ref()];
    let capture = Workload::new(words)
        .flags(["--engine", "ptrace", "--syscalls", "openat,sched_setaffinity"])
        .capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(capture.of("sched_setaffinity").count(), 1);
    assert_eq!(capture.of("sched_getaffinity").count(), 0);
    assert!(capture.execs().all(|exec| exec.result() == Some(0)));
}

#[test]
fn with_placement_off_no_thread_is_stuck() {
    let words = [fixture("placed").into_os_string(), "ask".into()];
    let flags = STUCK.into_iter().chain(["--placement", "off"]);
    assert_eq!(stuck(&Workload::new(words).flags(flags).under_creance()), 0);
}

#[test]
fn a_workload_that_becomes_another_user_is_not_left_on_one_cpu() {
    if !has_cpus() {
        return;
    }
    if !nix::unistd::geteuid().is_root() || !has_program("setpriv") {
        skip("there is no user to change, or no setpriv to give up CAP_SYS_NICE with");
        return;
    }
    let (_held, path) = directory();
    let launcher = path.join("plain");
    let give_up = "--bounding-set -sys_nice,-sys_admin --inh-caps -sys_nice,-sys_admin";
    executable(&launcher, &format!("#!/bin/sh\nexec setpriv {give_up} \"$@\"\n"));
    assert_same(&["user", "65534", "fork", "thread"], Some(&launcher));
}
