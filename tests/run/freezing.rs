//! A workload that is frozen by its control group at any moment, as `docker pause` and a suspended node do it, and thawed
//! again: whatever creance waits for at that moment, the workload does what it does natively.

use std::{
    ffi::OsString,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::support::{Capture, Event, Freezer, Workload, directory, fixture, skip};

/// Runs what `run` does while the group is frozen and thawed all the time.
fn frozen_around<T>(freezer: &Freezer, run: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // It is thawed for longer than it is frozen, so that it comes to run also where many others want to.
            for turn in 0_u64.. {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                freezer.set(true);
                thread::sleep(Duration::from_micros(turn * 7919 % 2000));
                freezer.set(false);
                thread::sleep(Duration::from_micros(turn * 6007 % 5000));
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        is_over.store(true, Ordering::Release);
        done
    })
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs the command natively, and frozen under each engine and each version; it must print the same and end alike.
fn assert_same(name: &str, command: &[OsString], check: impl Fn(&Capture)) {
    let freezers = Freezer::all(name);
    if freezers.is_empty() {
        return skip("no cgroup that freezes can be made here");
    }
    let (_held, path) = directory();
    let native = Workload::new(command).directory(&path).natively();
    assert_ne!(native.status.code(), None, "{}", native.stderr);
    for freezer in &freezers {
        let enter = ["sh", "-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""].map(OsString::from);
        let words = enter.iter().cloned().chain([freezer.path().into()]).chain(command.iter().cloned());
        let words: Vec<_> = words.collect();
        for flags in [&["--engine", "ptrace"][..], &["--engine", "notify"], &["--all"]] {
            let run = || Workload::new(&words).directory(&path).flags(flags).capture();
            let capture = frozen_around(freezer, run);
            if capture.is_impossible() {
                continue;
            }
            let what = format!("{flags:?} in {}: {}", freezer.path().display(), capture.finished.stderr);
            assert_eq!(capture.finished.stdout(), native.stdout(), "natively on the right; {what}");
            assert_eq!(capture.finished.status, native.status, "{what}");
            check(&capture);
        }
    }
}

fn assert_waits_are_same(mode: &str) {
    assert_same(mode, &[fixture("wait").into(), mode.into(), "patient".into()], |_| ());
}

#[test]
fn threads_that_are_frozen_open_what_they_meant_and_each_open_is_told() {
    let words = ["4", "150", ".", "500"].map(OsString::from);
    let command: Vec<_> = [fixture("threads").into()].into_iter().chain(words).collect();
    assert_same("threads", &command, |capture| {
        let missing =
            |open: &&Event| open.argument("name").is_some_and(|name| name.starts_with("/nonexistent/"));
        let missing = capture.of("openat").filter(missing).filter(|open| open.errno() == Some("ENOENT"));
        assert_eq!(missing.count(), 4 * 75);
        let made = |open: &&Event| open.argument("name").is_some_and(|name| name.starts_with("./thread-"));
        assert_eq!(capture.of("openat").filter(made).filter(|open| open.result() > Some(2)).count(), 4 * 75);
    });
}

#[test]
fn processes_that_are_frozen_are_made_and_waited_for() {
    assert_waits_are_same("bomb");
}

#[test]
fn a_thread_that_is_frozen_execs_among_others() {
    assert_waits_are_same("exec-among-threads");
}

#[test]
fn children_that_are_frozen_are_killed_in_whatever_they_do() {
    assert_waits_are_same("kill-at-random");
}

#[test]
fn children_that_are_frozen_stop_and_go_on() {
    assert_waits_are_same("child-changes");
}

#[test]
fn timers_of_a_process_that_is_frozen_expire() {
    assert_waits_are_same("timers");
}

#[test]
fn children_that_are_frozen_live_and_end_in_all_ways() {
    let words = ["20", "3", "restart"].map(OsString::from);
    let command: Vec<_> = [fixture("churn").into()].into_iter().chain(words).collect();
    assert_same("churn", &command, |capture| assert!(capture.of("procexit").count() > 20));
}
