//! Attaching to what runs already: it is seen from then on, and it does not notice.

use std::{
    ffi::{OsStr, OsString},
    fmt::Debug,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use creance::{
    event::RecordKind,
    sys::{Pid, signal::PidFd},
};
use tempfile::NamedTempFile;

use crate::support::{
    CREANCE, Event, Workload,
    consumer::{Consumer, Told, check_numbers},
    creance, directory, fixture, fixture_with, has_program, limit, skip,
};

/// A program that runs, with a line to it and lines from it. It is killed when it is dropped.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    fn start<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>, reads_stderr: bool) -> Self {
        let mut words = words.into_iter().map(|word| word.as_ref().to_owned());
        let mut command = Command::new(words.next().expect("a command has a program"));
        command.args(words).stdin(Stdio::piped());
        if reads_stderr {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        } else {
            command.stdout(Stdio::piped());
        }
        let mut child = command.spawn().expect("the program can be started");
        let output: Box<dyn Read + Send> = if reads_stderr {
            Box::new(child.stderr.take().expect("it is a pipe"))
        } else {
            Box::new(child.stdout.take().expect("it is a pipe"))
        };
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines }
    }

    fn fixture(words: &[&str]) -> Self {
        let program = fixture("attach");
        let words = [program.as_os_str()].into_iter().chain(words.iter().map(OsStr::new));
        let running = Self::start(words, false);
        running.wait_for("ready");
        running
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    fn signal(&self, signal: i32) {
        let process = PidFd::open(Pid(self.pid())).expect("a child that was not waited for can be opened");
        process.send(signal).expect("a child can be sent a signal");
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(limit()).expect("a line comes")
    }

    /// Waits for a line that holds these words.
    fn wait_for(&self, words: &str) {
        while !self.line().contains(words) {}
    }

    fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open until the end");
        writeln!(stdin, "{line}").expect("the program reads");
    }

    fn ask(&mut self, line: &str) -> i64 {
        self.say(line);
        self.line().parse().expect("it answers a number")
    }

    /// Waits for its end; gives its exit status, or the signal below 0, and its last lines.
    fn finish(mut self) -> (i32, Vec<String>) {
        drop(self.stdin.take());
        let lines = self.lines.iter().collect();
        let status = self.child.wait().expect("a child can be waited for");
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        (status.code().or_else(|| Some(-signal?)).unwrap_or_default(), lines)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// creance, attached.
struct Attached {
    creance: Running,
    output: NamedTempFile,
}

impl Attached {
    /// Attaches, and waits until that is complete; `None` if this machine does not permit it.
    fn to(target: i32, flags: &[&str]) -> Option<Self> {
        let output = NamedTempFile::new().expect("a temporary file can be made");
        let mut words: Vec<OsString> =
            [CREANCE, "attach", "--output", "json", "--output-file"].map(OsString::from).to_vec();
        words.push(output.path().into());
        words.extend(flags.iter().map(OsString::from));
        words.push(target.to_string().into());
        let creance = Running::start(words, true);
        let first = creance.line();
        if ["ptrace_scope", "impossible here"].iter().any(|why| first.contains(why)) {
            skip(&first);
            return None;
        }
        assert!(first.contains("attached to"), "{first}");
        Some(Self { creance, output })
    }

    /// Detaches; gives the events.
    fn detach(self) -> Vec<Event> {
        self.creance.signal(libc::SIGINT);
        self.finish()
    }

    fn finish(self) -> Vec<Event> {
        let (status, lines) = self.creance.finish();
        assert_eq!(status, 0, "{lines:#?}");
        events(&self.output)
    }
}

fn events(output: &NamedTempFile) -> Vec<Event> {
    let text = fs::read_to_string(output.path()).expect("the output is text");
    let events: Vec<_> = text.lines().map(Event::parse).collect();
    for (number, event) in (0..).zip(&events) {
        assert_eq!(event.number("/seq"), Some(number), "{event:?}");
    }
    events
}

/// Waits until a claim is true.
fn until<T: Debug + PartialEq>(is: T, of: impl Fn() -> T) {
    let since = Instant::now();
    while of() != is {
        assert!(since.elapsed() < limit(), "{:?} is not {is:?}", of());
        thread::sleep(Duration::from_millis(2));
    }
}

fn status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it has that line");
    line.trim().chars().take_while(|c| !c.is_whitespace()).collect()
}

/// The last lines that the fixture prints when nobody is attached.
const UNDISTURBED: [&str; 7] =
    ["read 1 0", "futex 0 0", "sleep 0 0", "epoll 1 0", "receive 1 0", "signal 10 0", "registers 0 0"];

#[test]
fn threads_that_are_made_all_the_time_are_all_followed_and_live_on_when_left() {
    for flags in [&["--syscalls", "openat"][..], &["--syscalls", "openat", "--inject-filter"]] {
        let is_filtered = flags.len() > 2;
        let mut target = Running::fixture(&["threads", "64"]);
        let Some(attached) = Attached::to(target.pid(), flags) else { return };
        if is_filtered {
            attached.creance.wait_for("the filter is on");
        }
        let from = target.ask("mark");
        target.say(&format!("until {}", from + 300));
        assert_eq!(target.line(), "there");
        let to = target.ask(&format!("done {from}"));
        let events = if is_filtered {
            assert_eq!(target.finish().0, 0);
            attached.finish()
        } else {
            let events = attached.detach();
            let now = target.ask("mark");
            target.say(&format!("until {}", now + 300));
            assert_eq!(target.line(), "there");
            assert_eq!(status(target.pid(), "TracerPid:"), "0");
            assert_eq!(target.finish().0, 0);
            events
        };
        let number =
            |event: &Event| event.argument("name")?.strip_prefix("/nonexistent/attach-")?.parse::<i64>().ok();
        let mut seen: Vec<_> =
            events.iter().filter_map(number).filter(|n| (from + 1..=to).contains(n)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (from + 1..=to).collect::<Vec<_>>(), "{flags:?}");
        let opens = events.iter().filter(|event| number(event).is_some());
        assert!(opens.clone().count() > 0 && to >= from);
        // The target, by its name, whichever thread it is.
        for open in opens {
            assert_eq!(open.text("/proc/name"), Some("attach"), "{open:?}");
        }
    }
}

#[test]
fn calls_that_wait_go_on_as_if_nobody_had_attached() {
    let mut native = Running::fixture(&["waits"]);
    native.say("go");
    assert_eq!(native.finish(), (0, UNDISTURBED.map(String::from).to_vec()));
    for flags in [&["--all"][..], &[], &["--inject-filter"], &["--inject-filter", "--all"]] {
        let mut target = Running::fixture(&["waits"]);
        let Some(attached) = Attached::to(target.pid(), flags) else { return };
        if flags.contains(&"--inject-filter") {
            attached.creance.wait_for("the filter is on");
            assert_eq!(status(target.pid(), "Seccomp:"), "2");
            target.say("go");
            assert_eq!(target.finish(), (0, UNDISTURBED.map(String::from).to_vec()), "{flags:?}");
            attached.finish();
        } else {
            attached.detach();
            target.say("go");
            assert_eq!(target.finish(), (0, UNDISTURBED.map(String::from).to_vec()), "{flags:?}");
        }
    }
}

#[test]
fn a_call_in_flight_when_creance_leaves_has_no_result() {
    let target = Running::fixture(&["waits"]);
    let Some(attached) = Attached::to(target.pid(), &["--syscalls", "read,epoll_wait"]) else { return };
    // All have had their first stop. Those that sleep have begun their calls anew, and have stopped there too.
    until(2, || {
        let tasks = fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap().flatten();
        // One whose time was up may have ended meanwhile.
        let stats = tasks.flat_map(|task| fs::read_to_string(task.path().join("stat")));
        stats.filter(|stat| stat.contains("(read) S") || stat.contains("(epoll) S")).count()
    });
    let events = attached.detach();
    for name in ["read", "epoll_wait"] {
        let calls: Vec<_> = events.iter().filter(|event| event.kind() == name).collect();
        assert!(calls.iter().any(|call| call.has_flag("no_result") && call.result().is_none()), "{calls:#?}");
    }
}

#[test]
fn what_is_there_is_told_first_with_its_parents() {
    let target = Running::start(["sh", "-c", "cat; exit 3"], false);
    let children = format!("/proc/{0}/task/{0}/children", target.pid());
    until(true, || fs::read_to_string(&children).is_ok_and(|text| !text.trim().is_empty()));
    let Some(attached) = Attached::to(target.pid(), &["--children"]) else { return };
    let (code, _) = target.finish();
    assert_eq!(code, 3);
    let events = attached.finish();
    let told: Vec<_> = events.iter().take_while(|event| event.kind() == "process").collect();
    let [.., shell, cat] = &told[..] else { panic!("{told:#?}") };
    assert_eq!((shell.text("/proc/name"), cat.text("/proc/name")), (Some("sh"), Some("cat")));
    assert_eq!(cat.number("/proc/ppid"), shell.pid());
    assert!(told[..told.len() - 2].iter().all(|event| event.value("/args/outsider").is_some()), "{told:#?}");
    for pid in [shell.pid(), cat.pid()] {
        let exits = events.iter().filter(|event| event.kind() == "procexit" && event.pid() == pid);
        assert_eq!(exits.count(), 1);
    }
}

#[test]
fn a_stopped_process_stays_stopped_while_attached_and_after_it() {
    for flags in [&["--all"][..], &["--inject-filter"]] {
        let target = Running::start(["sh", "-c", "kill -STOP $$; echo woke"], false);
        until("T".to_owned(), || status(target.pid(), "State:"));
        let Some(attached) = Attached::to(target.pid(), flags) else { return };
        // ptrace(2): a thread in a group-stop is shown as traced while somebody is attached.
        until("t".to_owned(), || status(target.pid(), "State:"));
        if flags.contains(&"--inject-filter") {
            attached.creance.wait_for("the filter is on");
            until("t".to_owned(), || status(target.pid(), "State:"));
            target.signal(libc::SIGCONT);
            assert_eq!(target.line(), "woke");
            assert_eq!(target.finish().0, 0);
            attached.finish();
        } else {
            attached.detach();
            until("T".to_owned(), || status(target.pid(), "State:"));
            target.signal(libc::SIGCONT);
            assert_eq!(target.line(), "woke");
        }
    }
}

#[test]
fn after_the_duration_creance_leaves_by_itself() {
    let target = Running::fixture(&["threads", "3"]);
    let Some(attached) = Attached::to(target.pid(), &["--duration", "0.001"]) else { return };
    attached.creance.wait_for("detached from");
    attached.finish();
    assert_eq!(status(target.pid(), "TracerPid:"), "0");
}

#[test]
fn a_process_outlives_a_creance_that_is_killed_unless_the_filter_is_on_it() {
    let mut target = Running::fixture(&["threads", "3"]);
    let Some(attached) = Attached::to(target.pid(), &[]) else { return };
    attached.creance.signal(libc::SIGKILL);
    assert_eq!(attached.creance.finish().0, -libc::SIGKILL);
    let now = target.ask("mark");
    target.say(&format!("until {}", now + 10));
    assert_eq!(target.line(), "there");
    let Some(attached) = Attached::to(target.pid(), &["--inject-filter"]) else { return };
    attached.creance.wait_for("the filter is on");
    // The first one is answered, and creance stays.
    attached.creance.signal(libc::SIGINT);
    attached.creance.wait_for("creance stays until");
    assert_ne!(status(target.pid(), "TracerPid:"), "0");
    attached.creance.signal(libc::SIGINT);
    assert_eq!(attached.creance.finish().0, -libc::SIGINT);
    until(true, || target.lines.recv().is_err());
    assert_eq!(target.finish().0, -libc::SIGKILL);
}

#[test]
fn what_cannot_be_attached_to_is_refused_with_the_reason() {
    let refused = |pid: i32, why: &str| {
        let finished = creance(["attach", "--output", "null", &pid.to_string()]);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(why) && finished.stderr.lines().count() == 1, "{}", finished.stderr);
    };
    refused(std::process::id().cast_signed(), "is creance itself, or has started it");
    refused(i32::MAX, "there is no process");
    thread::scope(|scope| {
        scope.spawn(|| refused(nix::unistd::gettid().as_raw(), "is a thread of process"));
    });
    let target = Running::fixture(&["threads", "3"]);
    let Some(attached) = Attached::to(target.pid(), &[]) else { return };
    refused(target.pid(), "is traced already, by engine (");
    attached.detach();
    assert_eq!(status(target.pid(), "TracerPid:"), "0");
}

#[test]
fn a_consumer_that_is_waited_for_is_told_of_the_process_and_of_all_that_it_does_from_then_on() {
    let (_held, path) = directory();
    let mut target = Running::start(["sh", "-c", "read line; cat /etc/hostname; exit 3"], false);
    let words = ["attach", "--wait-consumer", "forever", "--link"].map(OsString::from);
    let words = [CREANCE.into()]
        .into_iter()
        .chain(words)
        .chain([path.clone().into(), target.pid().to_string().into()]);
    let creance = Running::start(words, true);
    let mut consumer = Consumer::connect(&path);
    // Nothing was attached to before.
    let first = creance.line();
    if first.contains("ptrace_scope") {
        return skip(&first);
    }
    assert!(first.contains("attached to 1 thread"), "{first}");
    target.say("go");
    assert_eq!(target.finish().0, 3);
    let told = consumer.rest();
    assert_eq!(check_numbers(&told, 0), 0);
    let process = |told: &Told| (told.kind == RecordKind::Process).then(|| told.text.clone());
    assert_eq!(told.iter().find_map(process).as_deref(), told.first().map(|first| &*first.text));
    assert!(told.iter().any(|told| told.kind == RecordKind::Process && told.text == "sh"), "{told:?}");
    assert!(told.iter().any(|told| told.kind == RecordKind::Exec && told.text == "cat"), "{told:?}");
    assert!(
        told.iter().any(|told| told.kind == RecordKind::Syscall && told.text == "/etc/hostname"),
        "{told:?}"
    );
    assert_eq!(creance.finish().0, 0);
}

#[test]
fn while_a_consumer_is_waited_for_nothing_is_attached_to_and_a_signal_ends_creance() {
    let (_held, path) = directory();
    let target = Running::fixture(&["threads", "3"]);
    let words = ["attach", "--wait-consumer", "forever", "--link"].map(OsString::from);
    let words = [CREANCE.into()]
        .into_iter()
        .chain(words)
        .chain([path.clone().into(), target.pid().to_string().into()]);
    let creance = Running::start(words, true);
    until(true, || fs::read_dir(&path).unwrap().count() > 0);
    assert_eq!(status(target.pid(), "TracerPid:"), "0");
    creance.signal(libc::SIGTERM);
    assert_eq!(creance.finish().0, -libc::SIGTERM);
    assert_eq!(status(target.pid(), "TracerPid:"), "0");
}

/// Runs words as a user who is nobody; `None` if that cannot be.
fn as_nobody<'w>(words: impl IntoIterator<Item = &'w str>) -> Option<Vec<String>> {
    if !nix::unistd::geteuid().is_root() || !has_program("setpriv") {
        skip("root and setpriv are needed");
        return None;
    }
    let drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    Some(drop.into_iter().chain(words).map(str::to_owned).collect())
}

#[test]
fn what_is_said_of_missing_rights_is_what_is_missing() {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let scope = scope.trim().parse::<u32>().unwrap_or(0);
    let refused = |pid: i32, why: &str| {
        let pid = pid.to_string();
        let words = as_nobody([CREANCE, "attach", "--output", "null", &pid]);
        let finished = Workload::new(words.unwrap_or_default()).natively();
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        let by_yama = ["ptrace_scope is 1", "ptrace_scope is 2", "ptrace_scope is 3"];
        let why = scope.checked_sub(1).and_then(|index| by_yama.get(index as usize)).unwrap_or(&why);
        assert!(finished.stderr.contains(why), "{why}: {}", finished.stderr);
    };
    let (_held, path) = directory();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let program = path.join("secret");
    fs::copy(fixture("secret"), &program).unwrap();
    let Some(help) = as_nobody([CREANCE, "--version"]) else { return };
    if !Workload::new(help).natively().status.success() {
        return skip("a plain user cannot run the program under test");
    }
    let secret = as_nobody([program.to_str().unwrap()]).unwrap();
    let (others, secret) = (Running::start(["cat"], false), Running::start(secret, false));
    secret.wait_for("ready");
    if scope != 1 {
        refused(others.pid(), "it is another user's: be that user, or have CAP_SYS_PTRACE");
    }
    refused(secret.pid(), "it is not dumpable, as after setuid, or has capabilities that creance lacks");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_process_is_followed_and_takes_no_filter() {
    let flags = ["-m32", "-nostdlib", "-static", "-fno-stack-protector", "-fno-pie", "-no-pie"];
    let Ok(program) = fixture_with("i386_loop", "", &flags) else {
        return skip("cc makes no 32-bit programs");
    };
    let target = Running::start([program], false);
    if target.lines.recv_timeout(limit()).is_err() {
        return skip("the kernel runs no 32-bit programs");
    }
    let Some(attached) = Attached::to(target.pid(), &["--inject-filter"]) else { return };
    attached.creance.wait_for("does not run 64-bit x86 code");
    let is_seen = || {
        let text = fs::read_to_string(attached.output.path()).unwrap();
        text.lines().any(|line| line.contains("\"open\"") && line.contains("/nonexistent/i386"))
    };
    until(true, is_seen);
    let events = attached.detach();
    assert!(events.iter().any(|event| event.is_open() && event.text("/abi") == Some("i386")));
    assert_eq!(status(target.pid(), "TracerPid:"), "0");
}
