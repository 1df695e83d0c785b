//! A consumer that creance starts itself, as Falco in the container of its workload.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

use crate::support::{
    Finished, Workload,
    consumer::{Consumer, check_numbers},
    directory, fifo,
};

/// Where the consumer of these tests finds its tracer.
const LINK: &str = "CREANCE_TEST_LINK";

/// A directory in which it makes a file when it leaves, after the first open of [`FIRST`]. If it finds that file there
/// when it comes, it opens the FIFO `go` and stays.
const LEAVE_IN: &str = "CREANCE_TEST_LEAVE_IN";
const FIRST: &str = "/etc/passwd";

/// Not a test by itself: the consumer of the others. It prints the name of each program and path that it is told of.
#[test]
#[ignore = "it is the consumer that the other tests have creance start"]
fn as_a_program() {
    let Some(link) = env::var_os(LINK) else { return };
    let mut consumer = Consumer::connect(Path::new(&link));
    println!("consumer: connected");
    let directory = env::var_os(LEAVE_IN).map(PathBuf::from);
    let has_left = directory.as_ref().is_some_and(|directory| directory.join("left").exists());
    if let Some(directory) = directory.as_ref().filter(|_| has_left) {
        fs::File::options().write(true).open(directory.join("go")).unwrap();
    }
    while let Some(told) = consumer.next() {
        println!("consumer: {:?} {}", told.kind, told.text);
        if let Some(directory) = directory.as_ref().filter(|_| !has_left && told.text == FIRST) {
            fs::write(directory.join("left"), "").unwrap();
            return;
        }
    }
    println!("consumer: end");
}

/// The command of that consumer.
fn command() -> String {
    let own = env::current_exe().expect("this program has a path");
    format!("'{}' --exact consumer::as_a_program --ignored --nocapture", own.display())
}

/// A workload with a consumer.
fn with(workload: Workload, link: &Path, consumer: &str) -> Workload {
    let flags = ["--link".as_ref(), link.as_os_str(), "--consumer".as_ref(), consumer.as_ref()];
    workload.flags(flags).variable(LINK, link)
}

/// Runs a workload with a consumer; gives what that has written, too.
fn run(workload: Workload, link: &Path, consumer: &str) -> (Finished, String) {
    let log: PathBuf = link.with_extension("log");
    let flags = ["--consumer-log".as_ref(), log.as_os_str()];
    let finished = with(workload, link, consumer).flags(flags).under_creance();
    (finished, fs::read_to_string(&log).expect("creance makes it"))
}

#[test]
fn it_is_there_before_the_workload_and_is_told_everything_but_itself() {
    let (_held, path) = directory();
    let workload = Workload::shell("cat /etc/passwd >/dev/null; exit 3");
    let (finished, log) = run(workload, &path.join("link"), &command());
    assert_eq!(finished.status.code(), Some(3), "{}", finished.stderr);
    let told: Vec<_> = log.lines().filter_map(|line| line.split_once("consumer: ")?.1.into()).collect();
    assert_eq!(told.first(), Some(&"connected"), "{log}");
    assert!(told.contains(&"Syscall /etc/passwd") && told.contains(&"Exec cat"), "{log}");
    let programs = told.iter().filter(|line| line.starts_with("Exec")).count();
    assert_eq!((programs, told.last()), (2, Some(&"end")), "the shell and cat: {log}");
}

#[test]
fn one_that_ends_is_started_again_and_reads_on() {
    let (_held, path) = directory();
    let [go, link] = ["go", "link"].map(|name| path.join(name));
    fifo(&go);
    let script = format!("cat {FIRST} >/dev/null; read line <{}; cat /etc/group >/dev/null", go.display());
    let workload = Workload::shell(&script).variable(LEAVE_IN, &path);
    let (finished, log) = run(workload, &link, &command());
    // The shell reads the end of the file.
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let again = "the consumer has ended (exit status: 0): it is started again in 1 s";
    assert!(finished.stderr.contains(again), "{}", finished.stderr);
    assert_eq!(log.matches("consumer: connected").count(), 2, "{log}");
    assert_eq!(log.matches("consumer: Syscall /etc/passwd").count(), 1, "{log}");
    assert!(log.contains("consumer: Syscall /etc/group"), "{log}");
}

#[test]
fn without_it_the_workload_runs_all_the_same() {
    let (_held, path) = directory();
    for consumer in ["false", "/bin/sh -c 'kill -9 $$'"] {
        let workload = Workload::shell("echo ran; exit 4").flags(["--wait-consumer", "0"]);
        let (finished, log) = run(workload, &path.join("link"), consumer);
        assert_eq!((finished.status.code(), finished.stdout(), log.as_str()), (Some(4), "ran\n", ""));
        assert!(finished.stderr.contains("no consumer has connected"), "{}", finished.stderr);
    }
}

#[test]
fn one_that_does_not_end_is_killed_after_the_workload() {
    let (_held, path) = directory();
    let consumer = "sh -c 'trap \"\" TERM; echo $$; exec 1>&- 2>&-; while :; do sleep 1; done'";
    let workload = Workload::new(["true"]).flags(["--wait-consumer", "1"]);
    let (finished, log) = run(workload, &path.join("link"), consumer);
    assert_eq!(finished.status.code(), Some(0));
    assert!(finished.stderr.contains("the consumer does not end: it is killed"), "{}", finished.stderr);
    assert!(!Path::new(&format!("/proc/{}", log.trim())).exists());
}

#[test]
fn a_signal_while_it_is_waited_for_ends_both() {
    let (_held, path) = directory();
    let [ready, link] = ["ready", "link"].map(|name| path.join(name));
    fifo(&ready);
    let consumer = format!("sh -c 'echo $$ >{}; exec sleep 600'", ready.display());
    let workload = Workload::new(["echo", "started"]).flags(["--wait-consumer", "forever"]);
    let running = with(workload, &link, &consumer).start_under_creance();
    let consumer = fs::read_to_string(&ready).unwrap();
    running.signal(libc::SIGTERM);
    let finished = running.finish();
    assert_eq!((finished.status.signal(), finished.stdout()), (Some(libc::SIGTERM), ""));
    assert!(!Path::new(&format!("/proc/{}", consumer.trim())).exists());
}

#[test]
fn a_command_that_cannot_be_run_starts_nothing() {
    for (consumer, expected) in [
        (
            "",
            "creance: --consumer: '' is no command: expected words as a shell splits them, with every quote closed\n",
        ),
        ("/no/such/falco -c x", "creance: --consumer: /no/such/falco: command not found\n"),
    ] {
        let finished = Workload::new(["echo", "started"]).flags(["--consumer", consumer]).under_creance();
        assert_eq!((finished.status.code(), finished.stdout()), (Some(2), ""));
        assert_eq!(finished.stderr, expected);
    }
}

/// The records of a consumer that is connected from the start have no gap.
#[test]
fn nothing_is_missing_from_what_it_is_told() {
    let (_held, path) = directory();
    let link = path.join("link");
    // It does not read, so that the test can.
    let workload = Workload::shell("cat /etc/passwd >/dev/null").flags(["--wait-consumer", "forever"]);
    let reader = std::thread::spawn({
        let link = link.clone();
        move || Consumer::connect(&link).rest()
    });
    let finished = with(workload, &link, "sleep 600").under_creance();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_eq!(check_numbers(&reader.join().unwrap(), 0), 0);
}
