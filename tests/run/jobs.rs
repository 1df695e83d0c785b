//! A shell at a terminal sees of a workload under creance what it sees natively: the same output, the same table of jobs.

use std::time::Instant;

use crate::support::{
    CREANCE, LIMIT,
    terminal::{PROMPT, Terminal},
};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";

/// Waits until the shell knows that a job is stopped.
const UNTIL_STOPPED: &str = "until [ -n \"$(jobs -s)\" ]; do sleep 0.02; done";

/// Waits until no job is stopped.
const UNTIL_NOT_STOPPED: &str = "until [ -z \"$(jobs -s)\" ]; do sleep 0.02; done";

/// Starts the fixture so that it counts signals, and waits until it does.
const COUNT: &str = "T=$(mktemp); $W bash -c 'echo \"$$\" >\"$1.pid\"; exec $J count' count $T >$T & \
    until grep -q running $T; do sleep 0.02; done";

/// Does the same natively and under creance, and compares what was shown.
#[track_caller]
fn assert_same(act: impl Fn(&mut Terminal)) {
    assert_same_from("", act);
}

/// As [`assert_same`], of what was shown from a text on. When a shell tells of a job that goes on again depends on who is
/// quicker.
#[track_caller]
fn assert_same_from(from: &str, act: impl Fn(&mut Terminal)) {
    let watched = format!("{CREANCE} run --engine {} --output null --", crate::engine());
    let [native, watched] = ["", &*watched].map(|prefix| {
        let mut terminal = Terminal::shell(prefix);
        act(&mut terminal);
        let (shown, status) = terminal.finish();
        (shown.find(from).and_then(|at| shown.get(at..)).unwrap_or_default().to_owned(), status)
    });
    assert!(!native.0.is_empty());
    assert_eq!(watched.0, native.0, "natively on the right");
    assert_eq!(watched.1, native.1);
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
        assert!(since.elapsed() < LIMIT, "process {pid} is still as it was: {stat}");
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
        terminal.wait_for("running");
        terminal.type_in("one\n");
        terminal.wait_for("got one");
        terminal.type_in(CTRL_Z);
        terminal.wait_for(PROMPT);
        terminal.command("jobs");
        terminal.type_in("fg\n");
        // What the shell says when it brings the job back.
        terminal.wait_for("repeat\r\n");
        terminal.type_in("two\n");
        terminal.wait_for("got two");
        terminal.type_in(CTRL_Z);
        terminal.wait_for(PROMPT);
        // In the background it wants to read, and is stopped.
        terminal.command("bg");
        terminal.command(UNTIL_STOPPED);
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
        terminal.wait_for("running");
        terminal.type_in(CTRL_C);
        terminal.wait_for(PROMPT);
        terminal.command("echo status $?; jobs");
    });
}

#[test]
fn a_program_that_catches_sigtstp_puts_things_in_order_before_it_stops() {
    assert_same(|terminal| {
        terminal.type_in("$W $J editor\n");
        terminal.wait_for("running");
        for _ in 0..3 {
            stop_and_bring_back(terminal);
            terminal.wait_for("back again");
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
        terminal.wait_for("running");
        terminal.type_in(CTRL_Z);
        terminal.type_in("one\n");
        terminal.wait_for("got one");
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
        terminal.wait_for("running");
        for _ in 0..3 {
            stop_and_bring_back(terminal);
            terminal.wait_for("threads\r\n");
            // Now it goes on: before that another Ctrl-Z would be lost.
            terminal.type_in("one\n");
            terminal.wait_for("got one");
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
        terminal.wait_for("running");
        terminal.type_in(CTRL_Z);
        terminal.wait_for(PROMPT);
        terminal.command(&format!("kill -KILL %1; {UNTIL_NOT_STOPPED}; jobs"));
        // Whether the shell was quick enough to see it stopped is not known; that it ends is.
        terminal.command("($W $J continued-by-child; echo status $?)");
    });
}

#[test]
fn a_signal_for_a_job_arrives_once() {
    assert_same_from("status 8", |terminal| {
        terminal.command(COUNT);
        for signal in ["USR1", "USR2", "WINCH", "URG"] {
            terminal.command(&format!("kill -{signal} %1"));
        }
        terminal.command(&format!("kill -STOP %1; {UNTIL_STOPPED}; kill -CONT %1; {UNTIL_NOT_STOPPED}"));
        // To the process that the shell knows alone.
        terminal.command("kill -USR1 $!; kill -TERM $!; wait $!; echo status $?; cat $T; rm $T $T.pid");
    });
}

#[test]
fn who_stops_creance_stops_the_workload() {
    let watched = format!("{CREANCE} run --engine {} --output null --", crate::engine());
    let mut terminal = Terminal::shell(&watched);
    terminal.command(COUNT);
    let job = terminal.last_job();
    terminal.command("echo \"{$(cat $T.pid)}\"; rm $T $T.pid");
    let workload = terminal.number_in('{', '}');
    terminal.command(&format!("kill -STOP {job}"));
    await_stop(job, true);
    await_stop(workload, true);
    terminal.command(&format!("kill -CONT {job}"));
    await_stop(workload, false);
    await_stop(job, false);
    // And the other way round.
    terminal.command(&format!("kill -STOP {workload}"));
    await_stop(job, true);
    terminal.command(&format!("kill -CONT {workload}"));
    await_stop(job, false);
    terminal.command("kill -TERM %1; wait; jobs");
    terminal.finish();
}

#[test]
fn an_interactive_shell_in_the_workload_has_jobs_of_its_own() {
    assert_same(|terminal| {
        terminal.type_in("$W bash --norc --noprofile --noediting -i\n");
        terminal.wait_for(PROMPT);
        terminal.type_in("$J editor\n");
        terminal.wait_for("running");
        for _ in 0..2 {
            stop_and_bring_back(terminal);
            terminal.wait_for("back again");
        }
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.type_in("$J repeat\n");
        terminal.wait_for("running");
        terminal.type_in(CTRL_C);
        terminal.wait_for(PROMPT);
        // The shell stops itself, and the outer one has the terminal until it brings it back.
        terminal.command("echo inner; suspend");
        terminal.command("jobs");
        terminal.type_in("fg\n");
        terminal.wait_for(PROMPT);
        terminal.command("echo inner again");
        terminal.type_in("$J repeat\n");
        terminal.wait_for("running");
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
        terminal.wait_for("running");
        stop_and_bring_back(terminal);
        terminal.wait_for("cat\r\n");
        terminal.type_in("one\n");
        terminal.wait_for("got one");
        terminal.type_in("end\n");
        terminal.wait_for(PROMPT);
        terminal.command("echo ${PIPESTATUS[0]}");
    });
}
