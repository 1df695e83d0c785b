//! `creance doctor`, here and where something is refused as by a container's runtime; and the engine that a run gets.

use std::ffi::OsString;

use serde_json::Value;

use crate::support::{CREANCE, Finished, Workload, creance, fixture};

/// What the machine permits, as JSON, and the exit status.
fn examine(finished: &Finished) -> (Value, Option<i32>) {
    assert!(finished.stderr.is_empty(), "{}", finished.stderr);
    (serde_json::from_str(finished.stdout()).expect("it is JSON"), finished.status.code())
}

/// As [`examine`], under a filter that refuses a system call or holds a listener.
fn examine_refusing(what: &str) -> (Value, Option<i32>) {
    let words = [fixture("refuse").into_os_string()];
    let rest = [what, CREANCE, "doctor", "--json"].map(OsString::from);
    examine(&Workload::new(words.into_iter().chain(rest)).natively())
}

fn probe<'a>(findings: &'a Value, name: &str) -> &'a Value {
    let probes = findings["probes"].as_array().expect("a list");
    probes.iter().find(|probe| probe["name"] == name).expect("every probe is told")
}

#[test]
fn the_text_tells_every_probe_and_what_is_missing() {
    let text = creance(["doctor"]);
    let (findings, status) = examine(&creance(["doctor", "--json"]));
    assert_eq!((status, text.status.code()), (Some(0), Some(0)), "{}", text.stdout());
    let probes = findings["probes"].as_array().expect("a list");
    let missing = probes.iter().filter(|probe| probe["answer"] != "yes").count();
    for (label, count) in [("  yes ", probes.len() - missing), (" lost: ", missing), (" change: ", missing)] {
        assert_eq!(text.stdout().matches(label).count(), count, "{label}: {}", text.stdout());
    }
    let end = format!("\nengine\n  {}\n", findings["why"].as_str().expect("a text"));
    assert!(text.stdout().ends_with(&end), "{}", text.stdout());
}

#[test]
fn without_what_every_engine_needs_there_is_none() {
    for (call, name) in [(libc::SYS_ptrace, "seize"), (libc::SYS_seccomp, "filter")] {
        let (findings, status) = examine_refusing(&call.to_string());
        assert_eq!((status, &findings["engine"]), (Some(1), &Value::Null), "{name}: {findings}");
        assert_eq!(probe(&findings, name)["errno"], "EPERM", "{findings}");
    }
}

#[test]
fn what_is_only_a_help_leaves_an_engine() {
    for (call, name) in [
        (libc::SYS_pidfd_getfd, "pidfd_getfd"),
        (libc::SYS_process_vm_readv, "process_vm_readv"),
        (libc::SYS_clone3, "clone3"),
    ] {
        let (findings, status) = examine_refusing(&call.to_string());
        assert_eq!((status, &probe(&findings, name)["answer"]), (Some(0), &"no".into()), "{findings}");
        assert!(findings["engine"].is_string(), "{findings}");
    }
    let (findings, _) = examine_refusing(&libc::SYS_io_uring_setup.to_string());
    assert_eq!(probe(&findings, "io_uring_refused")["answer"], "yes");
}

#[test]
fn a_listener_over_us_rules_out_notify() {
    let (findings, status) = examine_refusing("listener");
    assert_eq!((status, &findings["engine"]), (Some(0), &"ptrace".into()), "{findings}");
    assert_eq!(probe(&findings, "listener")["errno"], "EBUSY");
    assert_eq!(probe(&findings, "notification")["answer"], "untried");
}

#[test]
fn an_engine_that_is_impossible_is_refused_on_one_line_and_starts_nothing() {
    let run = creance(["run", "--engine", "notify", "--all", "--", "echo", "started"]);
    assert_eq!((run.status.code(), run.stdout(), run.stderr.lines().count()), (Some(2), "", 1));
    assert!(run.stderr.contains("--engine: the notify engine is impossible here"), "{}", run.stderr);
    for workers in ["0", "257", "x"] {
        assert_eq!(creance(["run", "--workers", workers, "--", "true"]).status.code(), Some(2));
    }
}

#[test]
fn a_run_tells_its_engine_and_why() {
    let flags = ["--engine", "ptrace", "--output", "null", "--stats"];
    let run = Workload::new(["true"]).flags(flags).under_creance();
    assert!(run.stderr.contains("  engine                    ptrace: asked for\n"), "{}", run.stderr);
    let flags = ["--all", "--output", "null", "--stats"];
    let run = Workload::new(["true"]).flags(flags).under_creance();
    assert!(run.stderr.contains("  engine                    ptrace: "), "{}", run.stderr);
}
