//! creance as the first process of a container: it is one for all, as tini(1) is, and the workload is in no one's way.

use crate::support::{Workload, directory, fixture, skip};

/// The command as the first process of a PID namespace under creance; `None` where there is no such thing to be had.
fn as_first_process(script: &str) -> Option<Workload> {
    let launcher = fixture("namespace");
    let tried = Workload::new(["true"]).launched_by(&launcher).natively();
    if tried.status.code() == Some(77) {
        skip("no PID namespace can be had here");
        return None;
    }
    assert_eq!(tried.status.code(), Some(0), "{}", tried.stderr);
    Some(Workload::new(["bash", "-c", script]).launched_by(&launcher))
}

/// A child continues the first process of the workload, which has stopped itself.
const CONTINUED: &str =
    "(until grep -q '^State:.[Tt]' /proc/$$/status; do :; done; kill -CONT $$) & kill -STOP $$; wait; exit 8";

/// Waits until there is no zombie.
const UNTIL_REAPED: &str = "while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done";

#[test]
fn as_the_first_process_it_reaps_every_orphan() {
    // The pipe is at its end when the last of them has ended.
    let orphans = "for i in 1 2 3 4 5 6 7 8; do (sh -c 'sleep 0.02; exit 3' &); done | cat";
    let script =
        format!("[ \"$(cat /proc/1/comm)\" = creance ] || exit 20; {orphans}; {UNTIL_REAPED}; exit 5");
    let Some(workload) = as_first_process(&script) else { return };
    let run = workload.under_creance();
    assert_eq!(run.status.code(), Some(5), "{}", run.stderr);
}

#[test]
fn as_the_first_process_it_reaps_what_is_not_the_workloads() {
    let (_held, path) = directory();
    let script = format!("until [ -e \"$STRANGER\" ]; do :; done; {UNTIL_REAPED}; exit 6");
    let Some(workload) = as_first_process(&script) else { return };
    let run = workload.variable("STRANGER", path.join("stranger")).under_creance();
    assert_eq!(run.status.code(), Some(6), "{}", run.stderr);
}

#[test]
fn as_the_first_process_it_passes_on_signals_and_the_status() {
    let Some(workload) = as_first_process("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
    else {
        return;
    };
    let mut capturing = workload.start_capture();
    capturing.signal_when_ready(libc::SIGTERM);
    assert_eq!(capturing.finish_unread().status.code(), Some(7));
    // It cannot die by a signal itself, so it tells of it as shells do.
    let Some(workload) = as_first_process("kill -TERM $$") else { return };
    let run = workload.under_creance();
    assert_eq!(run.status.code(), Some(128 + libc::SIGTERM), "{}", run.stderr);
    // A stop of the workload stops nothing else: nobody could let it go on.
    let Some(workload) = as_first_process(CONTINUED) else { return };
    let run = workload.under_creance();
    assert_eq!(run.status.code(), Some(8), "{}", run.stderr);
}

#[test]
fn as_the_first_process_it_ends_with_the_workloads_first_and_with_it_all_others_as_natively() {
    // One that forks all the time, and one that sleeps.
    let script = "(while :; do (:); done) & sleep 600 & exec sh -c 'exit 9'";
    let Some(workload) = as_first_process(script) else { return };
    assert_eq!(workload.natively().status.code(), Some(9));
    let Some(workload) = as_first_process(script) else { return };
    let run = workload.flags(["--output", "null"]).under_creance();
    assert_eq!(run.status.code(), Some(9), "{}", run.stderr);
}

#[test]
fn an_orphan_of_the_workload_comes_to_creance() {
    let orphan = "while [ -d /proc/$p ]; do :; done
        while read -r key value; do [ \"$key\" != PPid: ] || cat /proc/$value/comm; done </proc/$BASHPID/status";
    let script = format!("(p=$BASHPID; ({orphan}) &)");
    let run = Workload::new(["bash", "-c", &script]).flags(["--output", "null"]).under_creance();
    assert_eq!((run.status.code(), run.stdout()), (Some(0), "creance\n"), "{}", run.stderr);
}
