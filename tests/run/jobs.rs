//! A shell at a terminal sees of a workload under creance what it sees natively: the same output, the same table of jobs.

use std::{path::Path, time::Instant};

use crate::support::{
    CREANCE, limit,
    terminal::{PROMPT, Terminal},
};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";

/// Waits until the shell knows that a job is stopped.
const UNTIL_STOPPED: &str = "until [ -n \"$(jobs -s)\" ]; do sleep 0.02; done";

/// Waits until no job is stopped.
const UNTIL_NOT_STOPPED: &str = "until [ -z \"$(jobs -s)\" ]; do sleep 0.02; done";

/// Starts the fixture so that it tells of signals in a file.
const TELL_SIGNALS: &str = "T=$(mktemp); $W $J signals >$T &";

/// Waits until there are so many lines in that file.
fn until_lines(count: usize) -> String {
    format!("until [ \"$(wc -l <$T)\" -ge {count} ]; do sleep 0.02; done")
}

/// Does the same natively and under creance, and compares what was shown.
#[track_caller]
fn assert_same(act: impl Fn(&mut Terminal)) {
    assert_same_from("", act);
}

/// How often it is done natively, at most, until it shows the same. When a shell tells of a job depends on who is quicker, so
/// natively there is more than one outcome too.
const NATIVE_RUNS: usize = 8;

/// As [`assert_same`], of what was shown from a text on.
#[track_caller]
fn assert_same_from(from: &str, act: impl Fn(&mut Terminal)) {
    let outcome = |prefix: &str| {
        let mut terminal = Terminal::shell(prefix);
        act(&mut terminal);
        let (shown, status) = terminal.finish();
        assert!(shown.contains(from), "{from:?} is not shown under {prefix:?}: {shown}");
        (shown.split_once(from).unwrap_or_default().1.to_owned(), status)
    };
    let watched = outcome(&format!("{CREANCE} run --engine {} --output null --", crate::engine()));
    let mut native = Vec::new();
    while native.len() < NATIVE_RUNS && !native.contains(&watched) {
        native.push(outcome(""));
    }
    assert!(native.contains(&watched), "watched {watched:?}, natively {native:?}");
}

/// Waits until a process is stopped, or until it is not.
#[track_caller]
fn await_stop(pid: i32, is_stopped: bool) {
    let since = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, rest) = stat.rsplit_once(") ").expect("a state comes after the name");
        if rest.starts_with(['T', 't']) == is_stopped {
            return;
        }
        assert!(since.elapsed() < limit(), "process {pid} is still as it was: {stat}");
        std::thread::yield_now();
    }
}

/// Waits until a file is longer than it is. That a process is not stopped at some moment does not mean that it goes on: it runs
/// between the two stops of a signal that stops it, which its tracer delivers.
#[track_caller]
fn await_growth(path: &Path) {
    let len = || std::fs::metadata(path).map_or(0, |file| file.len());
    let (since, before) = (Instant::now(), len());
    while len() <= before {
        assert!(since.elapsed() < limit(), "{} does not grow", path.display());
        std::thread::yield_now();
    }
}

/// Stops a job by Ctrl-Z, looks at it, and brings it back.
fn stop_and_bring_back(terminal: &mut Terminal) {
    terminal.type_in(CTRL_Z);
    terminal.wait_for(PROMPT);
    terminal.command("jobs");
    terminal.type_in("fg\n");
}

#[test]
fn ctrl_z_stops_a_job_and_fg_and_bg_let_it_go_on() {
    assert_same(|terminal| {
        terminal.type_in("$W $J repeat; echo status $?\n");
        terminal.wait_for("running\r\n");
        terminal.type_in("one\n");
        terminal.wait_for("got one\r\n");
        terminal.type_in(CTRL_Z);
        terminal.wait_for(PROMPT);
        terminal.command("jobs");
        terminal.type_in("fg\n");
        // What the shell says when it brings the job back.
        terminal.wait_for("repeat\r\n");
        terminal.type_in("two\n");
        terminal.wait_for("got two\r\n");
        terminal.type_in(CTRL_Z);
        terminal.wait_for(PROMPT);
        // In the background it wants to read, and is stopped.
        terminal.command(&format!("bg; {UNTIL_STOPPED}"));
        terminal.command("jobs");
        terminal.type_in("fg\n");
        terminal.wait_for("repeat\r\n");
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.command("jobs; echo none");
    });
}

#[test]
fn ctrl_c_ends_a_job() {
    assert_same(|terminal| {
        terminal.type_in("$W $J repeat\n");
        terminal.wait_for("running\r\n");
        terminal.type_in(CTRL_C);
        terminal.wait_for(PROMPT);
        terminal.command("echo status $?; jobs");
    });
}

#[test]
fn a_program_that_catches_sigtstp_puts_things_in_order_before_it_stops() {
    assert_same(|terminal| {
        terminal.type_in("$W $J editor\n");
        terminal.wait_for("running\r\n");
        for _ in 0..3 {
            stop_and_bring_back(terminal);
            terminal.wait_for("back again\r\n");
        }
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.command("echo status $?");
    });
}

#[test]
fn an_editor_in_a_raw_terminal_stops_its_group() {
    assert_same(|terminal| {
        terminal.type_in("$W $J raw-editor\n");
        terminal.wait_for("running");
        for _ in 0..3 {
            stop_and_bring_back(terminal);
            terminal.wait_for("back again");
        }
        terminal.type_in("q");
        terminal.wait_for(PROMPT);
        terminal.command("echo status $?");
    });
}

#[test]
fn ctrl_z_does_nothing_to_a_program_that_ignores_it() {
    assert_same(|terminal| {
        terminal.type_in("$W $J ignore\n");
        terminal.wait_for("running\r\n");
        terminal.type_in(CTRL_Z);
        terminal.type_in("one\n");
        terminal.wait_for("got one\r\n");
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.command("echo status $?; jobs");
    });
}

#[test]
fn a_program_that_stops_itself_gives_the_shell_its_prompt() {
    for mode in ["stop-self", "suspend-self"] {
        assert_same(|terminal| {
            terminal.type_in(&format!("$W $J {mode}\n"));
            for _ in 0..3 {
                terminal.wait_for(PROMPT);
                terminal.command("jobs");
                terminal.type_in("fg\n");
            }
            terminal.wait_for(PROMPT);
            terminal.command("echo status $?");
        });
    }
}

#[test]
fn a_program_with_threads_stops_and_goes_on() {
    assert_same(|terminal| {
        terminal.type_in("$W $J threads\n");
        terminal.wait_for("running\r\n");
        for _ in 0..3 {
            stop_and_bring_back(terminal);
            terminal.wait_for("threads\r\n");
            // Now it goes on: before that another Ctrl-Z would be lost.
            terminal.type_in("one\n");
            terminal.wait_for("got one\r\n");
        }
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.command("echo status $?");
    });
}

#[test]
fn a_program_in_the_background_that_reads_or_writes_is_stopped() {
    assert_same(|terminal| {
        terminal.command(&format!("$W $J repeat >/dev/null & {UNTIL_STOPPED}"));
        terminal.command("jobs");
        terminal.command(&format!("kill -KILL %1; {UNTIL_NOT_STOPPED}"));
        terminal.command("stty tostop");
        terminal.command(&format!("$W $J stop-self & {UNTIL_STOPPED}"));
        terminal.command("jobs");
        terminal.command(&format!("kill -KILL %1; {UNTIL_NOT_STOPPED}"));
    });
}

#[test]
fn a_job_that_is_stopped_can_be_killed_and_a_child_can_continue_its_parent() {
    assert_same(|terminal| {
        terminal.type_in("$W $J editor\n");
        terminal.wait_for("running\r\n");
        terminal.type_in(CTRL_Z);
        terminal.wait_for(PROMPT);
        terminal.command(&format!("kill -KILL %1; {UNTIL_NOT_STOPPED}; jobs"));
        // Whether the shell was quick enough to see it stopped is not known; that it ends is.
        terminal.command("($W $J continued-by-child; echo status $?)");
    });
}

#[test]
fn a_signal_for_a_job_arrives_once() {
    // When the shell tells of a job that goes on again depends on who is quicker, so what it shows before is left out.
    assert_same_from("status 8", |terminal| {
        terminal.command(&format!("{TELL_SIGNALS} {}", until_lines(1)));
        for (count, signal) in (2..).zip(["USR1", "USR2", "WINCH", "URG"]) {
            terminal.command(&format!("kill -{signal} %1; {}", until_lines(count)));
        }
        terminal.command(&format!("kill -STOP %1; {UNTIL_STOPPED}; kill -CONT %1; {}", until_lines(6)));
        // To the process that the shell knows alone.
        terminal.command(&format!("kill -USR1 $!; {}", until_lines(7)));
        terminal.command("kill -TERM $!; wait $!; echo status $?; cat $T; rm $T");
    });
}

#[test]
fn who_stops_creance_stops_the_workload() {
    let watched = format!("{CREANCE} run --engine {} --output null --", crate::engine());
    let directory = tempfile::tempdir().expect("a directory can be made");
    let (pid, ticks) = (directory.path().join("pid"), directory.path().join("ticks"));
    let mut terminal = Terminal::shell(&watched);
    let [pid_path, ticks_path] = [&pid, &ticks].map(|path| path.to_str().expect("a plain path"));
    terminal.command(&format!("$W bash -c 'echo $$ >{pid_path}; exec $J tick' >{ticks_path} &"));
    let job = terminal.last_job();
    await_growth(&ticks);
    let workload = std::fs::read_to_string(&pid).expect("it was written before the ticks");
    let workload = workload.trim().parse().expect("a pid");
    terminal.command(&format!("kill -STOP {job}"));
    await_stop(job, true);
    await_stop(workload, true);
    terminal.command(&format!("kill -CONT {job}"));
    await_growth(&ticks);
    await_stop(job, false);
    // And the other way round.
    terminal.command(&format!("kill -STOP {workload}"));
    await_stop(job, true);
    terminal.command(&format!("kill -CONT {workload}"));
    await_stop(job, false);
    await_growth(&ticks);
    terminal.command("kill -TERM %1; wait; jobs");
    terminal.finish();
}

#[test]
fn an_interactive_shell_in_the_workload_has_jobs_of_its_own() {
    assert_same(|terminal| {
        terminal.type_in("$W bash --norc --noprofile --noediting -i\n");
        terminal.wait_for(PROMPT);
        terminal.type_in("$J editor\n");
        terminal.wait_for("running\r\n");
        for _ in 0..2 {
            stop_and_bring_back(terminal);
            terminal.wait_for("back again\r\n");
        }
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.type_in("$J repeat\n");
        terminal.wait_for("running\r\n");
        terminal.type_in(CTRL_C);
        terminal.wait_for(PROMPT);
        // The shell stops itself, and the outer one has the terminal until it brings it back.
        terminal.command("echo inner; suspend");
        terminal.command("jobs");
        terminal.type_in("fg\n");
        terminal.wait_for(PROMPT);
        terminal.command("echo inner again");
        terminal.type_in("$J repeat\n");
        terminal.wait_for("running\r\n");
        terminal.type_in(CTRL_D);
        terminal.wait_for(PROMPT);
        terminal.command("echo status $?; exit 4");
        terminal.command("echo status $?");
    });
}

#[test]
fn a_pipeline_is_one_job() {
    assert_same(|terminal| {
        terminal.type_in("$W $J repeat | cat\n");
        terminal.wait_for("running\r\n");
        stop_and_bring_back(terminal);
        terminal.wait_for("cat\r\n");
        terminal.type_in("one\n");
        terminal.wait_for("got one\r\n");
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.command("echo ${PIPESTATUS[0]}");
    });
}
