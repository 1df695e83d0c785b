//! Flags, bad input, and what `--stats` tells.

use std::{ffi::OsString, path::Path};

use crate::support::{CREANCE, Finished, Workload, creance, directory, fixture};

/// Runs creance with these arguments and a workload that leaves a file behind; tells whether it has run.
fn run(flags: &[&str]) -> (Finished, bool) {
    let (_held, path) = directory();
    let file = path.join("started");
    let words = ["run"].into_iter().chain(flags.iter().copied()).map(OsString::from);
    let finished = creance(words.chain(["--".into(), "touch".into(), file.clone().into_os_string()]));
    (finished, file.exists())
}

#[test]
fn bad_input_is_status_2_and_starts_nothing() {
    let cases: [&[&str]; 5] = [
        &["--syscalls", "opnat"],
        &["--output", "json", "--output-file", "/nonexistent/directory/file"],
        &["--all", "--syscalls", "openat"],
        &["--output", "nonsense"],
        &["--no-such-flag"],
    ];
    for flags in cases {
        let (finished, was_started) = run(flags);
        assert_eq!(finished.status.code(), Some(2), "{flags:?}: {}", finished.stderr);
        assert!(!was_started, "{flags:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{flags:?}: {}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{flags:?}");
    }
    for arguments in [&["run"][..], &["run", "--"], &["run", "--all", "--"], &["no-such-command"]] {
        let finished = creance(arguments);
        assert_eq!(finished.status.code(), Some(2), "{arguments:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{arguments:?}: {}", finished.stderr);
    }
}

#[test]
fn a_command_that_is_not_found_leaves_an_older_output_file_as_it_is() {
    let (_held, path) = directory();
    let file = path.join("events");
    std::fs::write(&file, "older").unwrap();
    let words = ["run".as_ref(), "--output-file".as_ref(), file.as_os_str(), "/no/such".as_ref()];
    assert_eq!(creance(words).status.code(), Some(127));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "older");
}

#[test]
fn an_unknown_call_is_named_with_the_nearest_one_on_one_line() {
    let (finished, _) = run(&["--syscalls", "connect,opnat"]);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    for word in ["--syscalls", "opnat", "openat"] {
        assert!(finished.stderr.contains(word), "{word} is not in {}", finished.stderr);
    }
}

#[test]
fn an_output_file_that_cannot_be_made_is_named_on_one_line() {
    let (finished, _) = run(&["--output-file", "/nonexistent/directory/file"]);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("/nonexistent/directory/file"), "{}", finished.stderr);
}

#[test]
fn flags_behind_the_command_are_the_commands_own() {
    let run = creance(["run", "--output", "null", "echo", "--all", "--stats", "--", "-x"]);
    assert_eq!((run.stdout(), &*run.stderr), ("--all --stats -- -x\n", ""));
}

#[test]
fn text_goes_to_standard_error_and_not_to_the_workloads_output() {
    let run = Workload::new([fixture("open").as_os_str(), "/nonexistent/text".as_ref()]).under_creance();
    assert_eq!((run.status.code(), run.stdout()), (Some(0), ""));
    let lines: Vec<_> = run.stderr.lines().collect();
    assert!(
        lines.iter().any(|line| line.contains(" openat ") && line.contains("/nonexistent/text")),
        "{lines:#?}"
    );
    assert!(lines.first().is_some_and(|line| line.contains(" execve ")), "{lines:#?}");
    assert!(lines.last().is_some_and(|line| line.contains(" procexit status=0")), "{lines:#?}");
    // No terminal, no colours.
    assert!(!run.stderr.contains('\u{1b}'));
}

#[test]
fn null_output_is_nothing() {
    let run = creance(["run", "--output", "null", "--", "sh", "-c", "cat /etc/passwd >/dev/null; echo out"]);
    assert_eq!((run.stdout(), &*run.stderr), ("out\n", ""));
}

#[test]
fn an_output_file_is_made_anew() {
    let (_held, path) = directory();
    let file = path.join("events");
    for _ in 0..2 {
        let flags = ["run", "--output", "json", "--output-file"].map(OsString::from);
        let words = flags.into_iter().chain([file.clone().into(), "--".into(), "true".into()]);
        assert!(creance(words).status.success());
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("\"seq\":0,").count(), 1);
}

#[test]
fn a_full_disk_does_not_touch_the_workload() {
    if !Path::new("/dev/full").exists() {
        return crate::support::skip("there is no /dev/full");
    }
    let run = creance(["run", "--output-file", "/dev/full", "--", "sh", "-c", "echo out; exit 9"]);
    assert_eq!((run.status.code(), run.stdout()), (Some(9), "out\n"));
    assert!(run.stderr.contains("events were not written"), "{}", run.stderr);
}

#[test]
fn statistics_tell_every_figure() {
    let run = Workload::new([CREANCE, "--version"]).flags(["--output", "null", "--stats"]).under_creance();
    assert_eq!(run.status.code(), Some(0));
    for name in [
        "calls on copies",
        "calls sent back",
        "calls trapped",
        "calls not wanted",
        "calls dropped by triage",
        "calls kept",
        "stops",
        "tracees created",
        "tracees gone in a stop",
        "requests refused",
        "arguments not readable",
        "records",
        "records lost",
        "bytes",
        "waits for ring room",
        "records not decoded",
        "dropped call held, us",
        "kept call held, us",
        "other stop held, us",
        "calls not followed",
        "ring latency, us",
        "no_new_privs set",
        "listener held",
    ] {
        assert!(figure(&run, name).is_some(), "{name} is missing: {}", run.stderr);
    }
    assert_ne!(figure(&run, "records"), Some("0"));
    assert_eq!(figure(&run, "records lost"), Some("0"));
    assert_eq!(figure(&run, "records not decoded"), Some("0"));
    assert_eq!(figure(&run, "requests refused"), Some("0"));
}

#[test]
fn a_call_that_nobody_wants_is_not_stopped() {
    let words = [fixture("getppid").into_os_string(), "100000".into()];
    let run =
        Workload::new(words).flags(["--syscalls", "openat", "--output", "null", "--stats"]).under_creance();
    assert_eq!(run.status.code(), Some(0));
    for name in ["calls trapped", "stops"] {
        let count: u32 = figure(&run, name).unwrap().parse().unwrap();
        // What is left is the search of the dynamic linker for libraries.
        assert!(count < 1000, "{name}: {count}");
    }
}

#[test]
fn only_the_calls_that_were_asked_for_are_told() {
    let script = "cat /etc/passwd >/dev/null; cd /";
    let capture = Workload::shell(script).flags(["--syscalls", "chdir,connect"]).capture();
    assert_eq!(capture.code(), 0);
    // The life of processes is always told.
    let life = ["chdir", "clone", "clone3", "fork", "vfork", "execve", "procexit"];
    assert!(capture.events.iter().all(|event| life.contains(&event.kind())), "{:#?}", capture.events);
    assert_eq!(capture.one("chdir", |_| true).path("path"), Some("/"));
    assert_eq!(capture.of("procexit").count(), 2);
}

/// A figure of `--stats` by its name.
fn figure<'a>(run: &'a Finished, name: &str) -> Option<&'a str> {
    let line =
        run.stderr.lines().find_map(|line| line.strip_prefix("  ")?.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.trim()).filter(|value| !value.is_empty())
}
