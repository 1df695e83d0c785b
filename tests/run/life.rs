//! The life and death of processes, in the ways that are easy to get wrong.

use std::{ffi::OsStr, path::Path};

use crate::support::{Capture, Workload, directory, fifo, fixture};

fn life(mode: &str, path: Option<&Path>) -> Workload {
    let program = fixture("life");
    Workload::new([program.as_os_str(), OsStr::new(mode)].into_iter().chain(path.map(Path::as_os_str)))
}

fn exits_by<'a>(capture: &'a Capture, signal: &'a str) -> usize {
    capture.of("procexit").filter(|exit| exit.argument("signal") == Some(signal)).count()
}

#[test]
fn a_thread_that_execs_becomes_the_leader() {
    let (_held, path) = directory();
    let pipe = path.join("fifo");
    fifo(&pipe);
    // Only this engine knows of the leader's end before that of its call.
    let capture = life("exec-by-thread", Some(&pipe)).flags(["--engine", "ptrace"]).capture();
    assert_eq!(capture.code(), 5);
    let root = capture.root();
    // The old leader was inside an open, which never returned.
    let open = capture.open(&pipe);
    assert!(open.has_flag("no_result") && open.result().is_none(), "{open:?}");
    assert_eq!(open.thread(), (root, root));
    let start = capture.started(&["renamed", "-c", "exit 5"]);
    assert_eq!(start.thread(), (root, root));
    assert!(open.number("/seq") < start.number("/seq"));
    assert_eq!(capture.of("procexit").count(), 1);
}

#[test]
fn a_program_started_by_posix_spawn_is_seen() {
    let capture = life("spawn", None).capture();
    assert_eq!(capture.code(), 0);
    capture.check_parents();
    let missing = capture.one("execve", |exec| exec.argument("filename") == Some("/nonexistent/spawn"));
    assert_eq!(missing.errno(), Some("ENOENT"));
    let start = capture.started(&["spawned", "-c", "exit 6"]);
    assert_eq!(start.number("/proc/ppid"), Some(capture.root()));
    assert_eq!(capture.exit(start.pid().unwrap()).number("/args/status"), Some(6));
}

#[test]
fn a_call_in_which_its_thread_was_killed_has_no_result() {
    let (_held, path) = directory();
    let pipe = path.join("fifo");
    fifo(&pipe);
    let capture = life("killed-in-call", Some(&pipe)).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(capture.finished.stdout(), "signal 9\n");
    let open = capture.open(&pipe);
    assert!(open.has_flag("no_result") && open.result().is_none(), "{open:?}");
    assert_eq!(capture.exit(open.pid().unwrap()).argument("signal"), Some("SIGKILL"));
}

#[test]
fn each_process_of_a_group_that_is_killed_is_seen_to_end() {
    let capture = life("kill-group", None).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(exits_by(&capture, "SIGKILL"), 6);
    assert_eq!(capture.of("procexit").count(), 7);
}

#[test]
fn creance_stays_until_the_last_process_has_ended() {
    let (_held, path) = directory();
    let file = path.join("daemon-was-here");
    let capture = life("daemon", Some(&file)).capture();
    assert_eq!(capture.code(), 0);
    assert!(file.exists());
    let open = capture.open(&file);
    let root_exit = capture.exit(capture.root());
    assert!(root_exit.number("/seq") < open.number("/seq"));
    let last = capture.events.last().unwrap();
    assert_eq!((last.kind(), last.pid()), ("procexit", open.pid()));
    assert_eq!(last.number("/args/status"), Some(9));
}

#[test]
fn a_crash_is_seen_as_the_parent_sees_it() {
    let (_held, path) = directory();
    let native = life("segfault", None).directory(&path).natively();
    let capture = life("segfault", None).directory(&path).capture();
    assert_eq!(capture.finished.stdout(), native.stdout());
    let exit = capture.one("procexit", |exit| exit.argument("signal") == Some("SIGSEGV"));
    let has_core = native.stdout().ends_with("core 1\n");
    assert_eq!(exit.value("/args/core").unwrap().as_bool(), Some(has_core));
}

#[test]
fn stopping_and_continuing_a_child_works_as_natively() {
    let native = life("stop-and-continue", None).natively();
    let capture = life("stop-and-continue", None).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(native.status.code(), Some(0));
    assert_eq!(capture.finished.stdout(), native.stdout());
    assert_eq!(exits_by(&capture, "SIGKILL"), 1);
}
