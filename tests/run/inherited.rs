//! What a workload finds when it starts is what it would find without creance.

use crate::support::{Workload, directory, executable, fixture};

/// Compares what the fixture `state` finds natively and under creance.
#[track_caller]
fn assert_same_state(workload: impl Fn() -> Workload) {
    let native = workload().natively();
    let capture = workload().capture();
    assert!(native.status.success(), "{}", native.stderr);
    assert_eq!(capture.code(), 0);
    let (native, watched) = (native.stdout(), capture.finished.stdout());
    for (native, watched) in native.lines().zip(watched.lines()) {
        assert_eq!(native, watched, "natively on the left");
    }
    assert_eq!(native.lines().count(), watched.lines().count());
}

#[test]
fn a_program_starts_in_the_state_that_it_has_natively() {
    let program = fixture("state");
    let (_held, path) = directory();
    assert_same_state(|| {
        Workload::new([program.as_os_str(), "".as_ref(), "two words".as_ref()])
            .directory(&path)
            .variable("EMPTY", "")
            .variable("LINES", "one\ntwo")
    });
}

/// The state of a program whose parent ignores some signals and blocks SIGUSR2.
#[track_caller]
fn assert_same_state_with_ignored(signals: &[i32]) {
    let (program, launcher) = (fixture("state"), fixture("launch"));
    let numbers: Vec<_> = signals.iter().map(ToString::to_string).collect();
    let ignored = numbers.join(" ");
    assert_same_state(|| {
        Workload::new([&program]).launched_by(&launcher).variable("LAUNCH_IGNORED", &ignored)
    });
}

#[test]
fn a_blocked_signal_stays_blocked() {
    assert_same_state_with_ignored(&[]);
}

#[test]
fn an_ignored_sigpipe_stays_ignored() {
    assert_same_state_with_ignored(&[libc::SIGPIPE]);
}

#[test]
fn signals_that_creance_passes_on_stay_ignored() {
    // As nohup(1) and the background jobs of a script have them.
    assert_same_state_with_ignored(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGTERM,
    ]);
}

#[test]
fn an_ignored_sigchld_stays_ignored_and_hides_no_end() {
    assert_same_state_with_ignored(&[libc::SIGCHLD]);
    let words = ["/bin/sh", "-c", "exit 42"];
    let workload = Workload::new(words).launched_by(&fixture("launch"));
    let capture = workload.variable("LAUNCH_IGNORED", libc::SIGCHLD.to_string()).capture();
    assert_eq!(capture.code(), 42);
}

#[test]
fn standard_input_and_output_pass_through_untouched() {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
    let run = Workload::new(["cat"]).stdin(&bytes).capture();
    assert_eq!(run.code(), 0);
    assert!(run.finished.stdout == bytes);
    // Nor do events on standard error come into it.
    let run = Workload::new(["cat"]).stdin(&bytes).under_creance();
    assert!(run.stdout == bytes);
}

#[test]
fn a_workload_without_standard_descriptors_gets_none() {
    let program = fixture("state");
    let script = "exec \"$0\" 9>&1 1>&9 2>&- 0<&-";
    assert_same_state(|| Workload::new(["sh".as_ref(), "-c".as_ref(), script.as_ref(), program.as_os_str()]));
}

#[test]
fn a_workload_gets_no_standard_input_that_creance_was_not_given() {
    let (_held, path) = directory();
    let launcher = path.join("without-input");
    executable(&launcher, "#!/bin/sh\nexec \"$@\" <&-\n");
    let program = fixture("state");
    assert_same_state(|| Workload::new([&program]).launched_by(&launcher));
}
