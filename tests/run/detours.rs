//! A thread that makes calls for us in the middle of its own is held at that moment by somebody else.

use std::{ffi::OsString, path::Path};

use crate::support::{Freezer, Workload, fixture, skip};

/// Runs the fixture, under creance only: the moments come from there.
fn holds(rounds: usize, freezer: Option<&Path>) {
    let mut words: Vec<OsString> = vec![fixture("detours").into(), rounds.to_string().into()];
    words.extend(freezer.map(Into::into));
    for flags in [&["--engine", "ptrace"][..], &["--engine", "ptrace", "--no-filter"]] {
        let capture = Workload::new(&words).flags(flags).flags(["--syscalls", "openat"]).capture();
        assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
        assert_eq!(capture.finished.stdout(), format!("{rounds} done\n"), "{}", capture.finished.stderr);
        assert_eq!(capture.opens("/nonexistent/detour").len(), rounds);
    }
}

#[test]
fn a_process_that_is_stopped_on_a_detour_goes_on_as_if_there_had_been_none() {
    holds(300, None);
}

#[test]
fn a_process_that_is_frozen_on_a_detour_goes_on_as_if_there_had_been_none() {
    let Some(freezer) = Freezer::of_version_1("detours") else {
        return skip("no cgroup that freezes can be made here");
    };
    holds(80, Some(freezer.path()));
}
