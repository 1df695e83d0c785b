//! Runtimes that do unusual things with threads, signals and faults do the same under creance: a JVM and node.

use std::{ffi::OsStr, path::Path};

use crate::support::{Workload, directory, has_program, skip};

/// Runs the command natively and under each engine, in a directory that is its last argument, and compares. It must open the
/// missing path so often.
#[track_caller]
fn assert_same(command: &[&OsStr], opens: usize) {
    let (_held, path) = directory();
    let workload = || Workload::new(command.iter().copied().chain([path.as_os_str()]));
    let native = workload().natively();
    assert_eq!(native.status.code(), Some(5), "{}", native.stderr);
    for flags in [&["--engine", "ptrace"][..], &["--engine", "notify"], &["--all"]] {
        let capture = workload().flags(flags).capture();
        if capture.is_impossible() {
            continue;
        }
        assert_eq!(capture.finished.stdout(), native.stdout(), "{flags:?}: {}", capture.finished.stderr);
        assert_eq!(capture.finished.status, native.status, "{flags:?}: {}", capture.finished.stderr);
        assert_eq!(capture.opens("/nonexistent/runtime").len(), opens, "{flags:?}");
    }
}

fn source(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn a_jvm_does_the_same() {
    if !has_program("javac") || !has_program("java") {
        return skip("there is no JDK");
    }
    let (_held, classes) = directory();
    let compiled = Workload::new([
        OsStr::new("javac"),
        "-d".as_ref(),
        classes.as_os_str(),
        source("Runtime.java").as_os_str(),
    ]);
    let compiled = compiled.natively();
    assert!(compiled.status.success(), "{}", compiled.stderr);
    let words = ["java", "-cp"].map(OsStr::new);
    assert_same(&[words[0], words[1], classes.as_os_str(), "Runtime".as_ref()], 6 * 50);
}

#[test]
fn node_does_the_same() {
    if !has_program("node") {
        return skip("there is no node");
    }
    assert_same(&["node".as_ref(), source("runtime.js").as_os_str()], 3 * 100);
}
