//! A thread whose memory others share gives its registers back by itself after a dropped call. Nobody in the program may
//! ever see that it did: what the fixture `back` finds of itself is what it finds when nobody watches.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Finished, Freezer, Workload, directory, executable, fifo, fixture, skip};

/// Where the fixture runs: a file and a FIFO, about none of which there is a rule.
struct Place {
    _held: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let (held, path) = directory();
        let kept = path.join("kept").display().to_string();
        let names = [
            format!("evt.type in (open, openat, openat2) and fd.name = {kept}"),
            format!("evt.type = rename and fs.path.source = {kept}"),
            "evt.type = connect and fd.sip = 192.0.2.1".to_owned(),
        ]
        .map(|condition| format!("({condition})"));
        let rule = format!(
            "- rule: kept\n  desc: a test\n  condition: {}\n  output: kept\n  priority: INFO\n",
            names.join(" or ")
        );
        fs::write(path.join("rules.yaml"), rule).expect("a file can be made");
        fs::write(path.join("file"), "").expect("a file can be made");
        fifo(&path.join("fifo"));
        Self { _held: held, path }
    }

    fn workload(&self, words: &[&str]) -> Workload {
        let program = fixture("back");
        let [what, file, more @ ..] = words else { unreachable!("two words at least") };
        let file = self.path.join(file);
        let words = [program.as_os_str(), what.as_ref(), file.as_os_str()];
        Workload::new(words.into_iter().chain(more.iter().map(AsRef::as_ref)))
    }

    fn watched(&self, words: &[&str], flags: &[&str]) -> Workload {
        let rules = self.path.join("rules.yaml");
        self.workload(words)
            .flags(["--engine", "ptrace", "--output", "null", "--stats", "--rules"])
            .flags([&rules])
            .flags(flags)
    }

    /// Runs it natively and under creance, where at least so many calls are to be sent back.
    fn same(&self, words: &[&str], sent_back_min: u64) -> Finished {
        let native = self.workload(words).natively();
        assert_eq!(native.status.code(), Some(0), "{words:?}: {}", native.stderr);
        let run = self.watched(words, &[]).under_creance();
        assert_same(&run, &native, words);
        let sent_back = run.figure("calls sent back");
        assert!(sent_back >= sent_back_min, "{words:?}: {sent_back} {}", run.stderr);
        assert_eq!(run.figure("calls changeable"), 0, "{words:?}");
        run
    }
}

fn assert_same(run: &Finished, native: &Finished, words: &[&str]) {
    assert_eq!(run.status.code(), Some(0), "{words:?}: {}", run.stderr);
    assert_eq!(run.stdout(), native.stdout(), "{words:?}: {}", run.stderr);
}

#[test]
fn a_dropped_call_of_a_program_with_threads_costs_one_stop() {
    let place = Place::new();
    let run = |opens: &str| {
        let program = fixture("stops");
        let file = place.path.join("file");
        let words = [program.as_os_str(), "idle".as_ref(), opens.as_ref(), file.as_os_str(), "3".as_ref()];
        let rules = place.path.join("rules.yaml");
        let flags = ["--engine", "ptrace", "--output", "null", "--stats", "--rules"];
        Workload::new(words).flags(flags).flags([&rules]).under_creance()
    };
    let (few, many) = (run("20"), run("520"));
    for name in ["stops", "calls dropped by triage", "calls on copies", "calls sent back"] {
        assert_eq!(many.figure(name), few.figure(name) + 500, "{name}");
    }
}

#[test]
fn a_program_finds_in_all_its_registers_after_a_call_what_it_finds_natively() {
    let place = Place::new();
    place.same(&["registers", "file"], 9);
    let native = place.workload(&["registers", "file"]).natively();
    for flags in [&["--substitute", "always"][..], &["--no-filter"], &["--substitute", "off"]] {
        let run = place.watched(&["registers", "file"], flags).under_creance();
        assert_same(&run, &native, flags);
    }
}

#[test]
fn a_handler_never_finds_that_its_thread_was_sent_back() {
    let place = Place::new();
    place.same(&["rain", "file", "2000"], 6000);
}

#[test]
fn an_open_that_waits_is_interrupted_begun_anew_and_cancelled_as_natively() {
    let place = Place::new();
    place.same(&["fifo", "fifo"], 10);
}

#[test]
fn an_open_that_waits_goes_on_after_signals_that_another_thread_took() {
    let place = Place::new();
    place.same(&["stolen", "fifo", "300"], 1);
}

#[test]
fn an_open_that_waits_goes_on_after_it_was_frozen() {
    let Some(freezer) = Freezer::of_version_1("back") else {
        return skip("no cgroup that freezes can be made here");
    };
    let place = Place::new();
    place.same(&["frozen", "fifo", freezer.path().to_str().expect("it is text")], 1);
}

#[test]
fn an_open_that_waits_goes_on_after_its_process_was_stopped() {
    let place = Place::new();
    place.same(&["stops", "fifo", "30"], 1);
}

#[test]
fn a_thread_that_waits_in_an_open_vanishes_as_another_one_starts_a_program() {
    let place = Place::new();
    place.same(&["exec", "fifo"], 1);
}

#[test]
fn what_a_thread_makes_after_calls_begins_where_it_was_made() {
    let place = Place::new();
    place.same(&["fork", "file", "60"], 60);
}

#[test]
fn more_threads_than_there_are_places_make_their_calls_all_the_same() {
    let place = Place::new();
    let run = place.same(&["crowd", "file", "1200"], 1000);
    assert!(run.figure("calls on copies") >= 2400);
}

#[test]
fn a_program_in_single_steps_takes_those_that_it_takes_natively() {
    let place = Place::new();
    place.same(&["steps", "file"], 1);
}

#[test]
fn a_filter_that_looks_at_where_calls_come_from_finds_them_where_they_were_made() {
    let place = Place::new();
    place.same(&["filtered", "file"], 3);
}

#[test]
fn code_that_is_changed_while_it_waits_in_a_call_runs_as_it_is_by_then() {
    let place = Place::new();
    place.same(&["rewritten", "fifo"], 1);
}

/// A launcher that refuses mseal(2) to all that it starts, so that a program can take the copies away.
fn without_seals(directory: &Path) -> PathBuf {
    const MSEAL: i32 = 462;
    let launcher = directory.join("launcher");
    executable(&launcher, &format!("#!/bin/sh\nexec {} {MSEAL} \"$@\"\n", fixture("refuse").display()));
    launcher
}

#[test]
fn a_program_that_takes_the_copies_away_goes_on_and_its_calls_say_that_they_are_not_certain() {
    let place = Place::new();
    let words = ["unmapped", "fifo"];
    let run = place.watched(&words, &[]).launched_by(&without_seals(&place.path)).under_creance();
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    assert_eq!(run.stdout(), "opened: 0\n");
    assert!(run.stderr.starts_with("gone\n"), "{}", run.stderr);
    assert!(run.figure("calls changeable") > 0);
}
