//! What a workload learns of its own children, signals and timers is what it learns natively.

use std::os::unix::process::ExitStatusExt;

use crate::support::{Capture, Workload, fixture};

/// Runs a mode of the fixture natively and under creance, compares what it printed and how it ended.
#[track_caller]
fn assert_same(mode: &str) -> Capture {
    let program = fixture("wait");
    let workload = || Workload::new([program.as_os_str(), mode.as_ref()]);
    let (native, capture) = (workload().natively(), workload().capture());
    assert_eq!(capture.finished.stdout(), native.stdout(), "natively on the right");
    assert_eq!(capture.finished.status, native.status, "{}", capture.finished.stderr);
    assert_eq!(native.status.signal(), None);
    assert!(!native.stdout().is_empty());
    capture
}

#[test]
fn a_child_that_is_its_parents_sibling_is_waited_for_by_whose_child_it_is() {
    assert_eq!(assert_same("clone-parent").of("procexit").count(), 3);
}

#[test]
fn a_process_that_shares_memory_is_no_thread() {
    let capture = assert_same("clone-vm");
    assert_eq!((capture.of("procexit").count(), capture.of("threadexit").count()), (3, 0));
}

#[test]
fn a_thread_can_exec_while_others_run_and_end() {
    let capture = assert_same("exec-among-threads");
    assert_eq!(capture.execs().filter(|exec| exec.argv().ends_with(&["11"])).count(), 20);
}

#[test]
fn a_bomb_of_forks_goes_off_as_natively() {
    assert_eq!(assert_same("bomb").of("procexit").count(), 3 * 120 + 1);
}

#[test]
fn children_that_are_killed_in_whatever_they_do_are_waited_for() {
    assert_eq!(assert_same("kill-at-random").of("procexit").count(), 201);
}

#[test]
fn a_thread_whose_creator_is_killed_as_it_makes_it_is_no_process() {
    let capture = assert_same("kill-among-threads");
    assert_eq!(capture.of("procexit").count(), 301);
}

#[test]
fn an_orphan_that_had_ended_before_its_parent_is_waited_for() {
    for engine in ["ptrace", "notify"] {
        let words = [fixture("wait").into_os_string(), "orphan".into()];
        let capture = Workload::new(words).flags(["--engine", engine]).capture();
        if capture.is_impossible() {
            continue;
        }
        assert_eq!(capture.code(), 0, "{engine}: {}", capture.finished.stderr);
        assert_eq!(capture.of("procexit").count(), 3, "{engine}");
    }
}

#[test]
fn each_change_of_a_child_is_told_to_its_parent_as_natively() {
    assert_same("child-changes");
}

#[test]
fn a_handler_runs_on_its_alternate_stack_and_knows_of_the_fault() {
    assert_eq!(assert_same("alternate-stack").code(), 9);
}

#[test]
fn timers_expire_with_their_values() {
    assert_same("timers");
}
