//! The exit status is the workload's.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt},
};

use crate::support::{Workload, creance, directory, executable, fixture, has_program, skip};

#[test]
fn an_exit_code_is_passed_on() {
    for (script, code) in [("true", 0), ("false", 1), ("exit 42", 42), ("exit 255", 255)] {
        let capture = Workload::shell(script).capture();
        assert_eq!(capture.code(), code, "{script}");
        assert_eq!(capture.exit(capture.root()).number("/args/status"), Some(i64::from(code)));
    }
}

#[test]
fn the_signal_that_killed_the_workload_kills_creance() {
    let program = fixture("signals");
    for (number, name) in [(libc::SIGKILL, "SIGKILL"), (libc::SIGTERM, "SIGTERM"), (libc::SIGABRT, "SIGABRT")]
    {
        let words = [program.as_os_str(), "die".as_ref(), number.to_string().as_ref()].map(ToOwned::to_owned);
        let capture = Workload::new(words).capture();
        assert_eq!(capture.finished.status.signal(), Some(number));
        assert_eq!(capture.exit(capture.root()).argument("signal"), Some(name));
    }
    let real_time = libc::SIGRTMIN() + 6;
    let words = [program.as_os_str(), "die".as_ref(), real_time.to_string().as_ref()].map(ToOwned::to_owned);
    let capture = Workload::new(words).capture();
    assert_eq!(capture.finished.status.signal(), Some(real_time));
    assert!(capture.exit(capture.root()).argument("signal").is_some());
}

#[test]
fn how_a_process_of_another_user_ended_is_told_as_it_was_or_not_at_all() {
    if !nix::unistd::geteuid().is_root() || !has_program("setpriv") {
        return skip("root and setpriv are needed");
    }
    let (_held, path) = directory();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let launcher = path.join("plain");
    let give_up = "setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace";
    executable(&launcher, &format!("#!/bin/sh\nexec {give_up} \"$@\"\n"));
    // `cat` never waits for its child, which is to be waited for as long as `cat` runs.
    let script = r#"
        mkfifo -m 666 fifo
        for i in 1 2 3 4 5 6 7 8 9 10; do
            (setpriv --reuid 65534 sh -c 'exec 3>fifo; exit 7' & exec cat fifo)
        done"#;
    for engine in ["ptrace", "notify"] {
        let workload = Workload::shell(script).directory(&path).launched_by(&launcher);
        let capture = workload.flags(["--engine", engine]).capture();
        if capture.is_impossible() {
            continue;
        }
        assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
        let ends: Vec<_> =
            capture.of("procexit").filter(|end| end.number("/proc/uid") == Some(65534)).collect();
        assert_eq!(ends.len(), 10, "{ends:#?}");
        for end in ends {
            let told = (end.number("/args/status"), end.has_flag("no_result"));
            let is_right = told == (Some(7), false) || engine == "notify" && told == (None, true);
            assert!(is_right, "{end:?}");
        }
    }
}

#[test]
fn what_cannot_be_run_has_the_status_of_a_shell_and_is_named() {
    let (_held, path) = directory();
    let (garbage, orphan, plain) = (path.join("garbage"), path.join("orphan"), path.join("plain"));
    executable(&garbage, "\u{1}\u{2} neither a program nor a script\n");
    executable(&orphan, "#!/nonexistent/interpreter\n");
    fs::write(&plain, "text").unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let cases = [
        ("/no/such".to_owned(), 127),
        ("no-such-command-at-all".to_owned(), 127),
        (path(&orphan), 127),
        (path(&plain), 126),
        (path(&garbage), 126),
        ("/etc/passwd".to_owned(), 126),
        ("/".to_owned(), 126),
    ];
    for (command, status) in cases {
        let capture = Workload::new([&command]).capture();
        assert_eq!(capture.code(), status, "{command}");
        let stderr = &capture.finished.stderr;
        assert!(stderr.contains(&command) && stderr.lines().count() == 1, "{command}: {stderr:?}");
    }
}

#[test]
fn a_signal_for_creance_is_passed_on_to_the_workload() {
    let program = fixture("signals");
    for (signal, code) in [(libc::SIGTERM, Some(7)), (libc::SIGUSR1, None)] {
        let words = [program.as_os_str(), "until-terminated".as_ref()];
        let mut capturing = Workload::new(words).start_capture();
        capturing.signal_when_ready(signal);
        let capture = capturing.finish();
        assert_eq!(capture.finished.status.code(), code);
        // What the workload does not catch kills it, and creance like it.
        assert_eq!(capture.finished.status.signal(), code.is_none().then_some(signal));
    }
}

#[test]
fn a_shell_can_trap_a_signal_for_creance() {
    let mut capturing =
        Workload::shell("trap 'exit 7' TERM; echo ready; while :; do :; done").start_capture();
    capturing.signal_when_ready(libc::SIGTERM);
    assert_eq!(capturing.finish().code(), 7);
}

#[test]
fn a_workload_that_ends_at_once_leaves_no_complaint() {
    // The end of the workload races with the rest of creance's own start.
    for _ in 0..20 {
        let run = creance(["run", "--output", "null", "--", "/bin/true"]);
        assert_eq!((run.status.code(), &*run.stderr), (Some(0), ""));
    }
}
