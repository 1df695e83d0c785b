//! Runs workloads under creance and natively, and reads what was captured.
//!
//! Every program that is started here is killed, by its descriptor, when it takes longer than [`limit`]. creance's
//! workload dies with it.

mod capture;
pub(crate) mod consumer;
mod fixture;
mod freezer;
mod permitted;
mod skip;
pub(crate) mod terminal;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use creance::sys::{Pid, signal::PidFd};
use tempfile::{NamedTempFile, TempDir};

pub(crate) use capture::{Capture, Event};
pub(crate) use fixture::{fixture, fixture_with};
pub(crate) use freezer::Freezer;
pub(crate) use permitted::is_permitted;
pub(crate) use skip::skip;

/// How long a program may take. Far more than any needs: a loaded machine must not fail a test. On one that is emulated
/// `CREANCE_TEST_SECONDS_MAX` gives them more.
pub(crate) fn limit() -> Duration {
    static LIMIT: OnceLock<Duration> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let seconds = env::var("CREANCE_TEST_SECONDS_MAX").ok();
        Duration::from_secs(seconds.map_or(60, |seconds| seconds.parse().expect("it is a number")))
    })
}

/// The program under test.
pub(crate) const CREANCE: &str = env!("CARGO_BIN_EXE_creance");

/// The status of creance if the machine does not permit the engine that was asked for: that of bad input.
pub(crate) const IMPOSSIBLE: Option<i32> = Some(2);

/// A program that is about to run.
#[derive(Debug)]
pub(crate) struct Workload {
    command: Vec<OsString>,
    launcher: Option<PathBuf>,
    flags: Vec<OsString>,
    stdin: Vec<u8>,
    directory: Option<PathBuf>,
    variables: Vec<(&'static str, OsString)>,
}

impl Workload {
    /// A command and its arguments.
    pub(crate) fn new<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            launcher: None,
            flags: Vec::new(),
            stdin: Vec::new(),
            directory: None,
            variables: Vec::new(),
        }
    }

    /// A shell script.
    pub(crate) fn shell(script: &str) -> Self {
        Self::new(["sh", "-c", script])
    }

    /// Flags for `creance run`.
    pub(crate) fn flags<S: AsRef<OsStr>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// What the program can read from its standard input.
    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// Where the program starts.
    pub(crate) fn directory(mut self, path: &Path) -> Self {
        self.directory = Some(path.to_owned());
        self
    }

    /// A variable of its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    /// A program that runs the command, or creance with the command, in its own place.
    pub(crate) fn launched_by(mut self, launcher: &Path) -> Self {
        self.launcher = Some(launcher.to_owned());
        self
    }

    /// Runs it under creance, and reads what was captured.
    pub(crate) fn capture(self) -> Capture {
        self.start_capture().finish()
    }

    /// Starts it under creance.
    pub(crate) fn start_capture(self) -> Capturing {
        let output = NamedTempFile::new().expect("a temporary file can be made");
        let mut flags: Vec<OsString> = ["--output", "json", "--output-file"].map(OsString::from).to_vec();
        flags.push(output.path().as_os_str().to_owned());
        let is_notify = self.engine() == Some("notify".as_ref());
        let running = self.flags(flags).start(true);
        Capturing { running, output, is_notify }
    }

    /// Runs it under creance with exactly the flags that were given.
    pub(crate) fn under_creance(self) -> Finished {
        self.start(true).finish()
    }

    /// Starts it under creance with exactly the flags that were given.
    pub(crate) fn start_under_creance(self) -> Running {
        self.start(true)
    }

    /// Runs it with nobody watching.
    pub(crate) fn natively(self) -> Finished {
        self.start(false).finish()
    }

    /// The engine that is asked for; `None` for an audit, which takes the one that can do it.
    fn engine(&self) -> Option<&OsStr> {
        let named =
            self.flags.iter().position(|flag| flag == "--engine").and_then(|at| self.flags.get(at + 1));
        let is_audit = self.flags.iter().any(|flag| flag == "--all");
        named.map(|engine| engine.as_os_str()).or((!is_audit).then(|| crate::engine().as_ref()))
    }

    fn start(self, is_watched: bool) -> Running {
        let mut words: Vec<OsString> = self.launcher.iter().map(|launcher| launcher.clone().into()).collect();
        if is_watched {
            words.extend([CREANCE, "run"].map(Into::into));
            if !self.flags.iter().any(|flag| flag == "--engine") {
                words.extend(
                    self.engine().into_iter().flat_map(|engine| ["--engine".into(), engine.to_owned()]),
                );
            }
            words.extend(self.flags);
            words.push("--".into());
        }
        words.extend(self.command);
        start(&words, self.stdin, self.directory.as_deref(), &self.variables)
    }
}

/// Runs `creance` with these arguments.
pub(crate) fn creance<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Finished {
    let mut words = vec![CREANCE.into()];
    words.extend(arguments.into_iter().map(|word| word.as_ref().to_owned()));
    start(&words, Vec::new(), None, &[]).finish()
}

fn start(
    words: &[OsString],
    stdin: Vec<u8>,
    directory: Option<&Path>,
    variables: &[(&str, OsString)],
) -> Running {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let mut child = command.spawn().expect("the program can be started");
    let pid = Pid(i32::try_from(child.id()).expect("a pid fits"));
    let process = PidFd::open(pid).expect("a child that was not waited for can be opened");
    let mut pipe = child.stdin.take().expect("standard input is a pipe");
    // A program that does not read its input is no error.
    let feeder = thread::spawn(move || drop(pipe.write_all(&stdin)));
    let (alive, death) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let is_late = death.recv_timeout(limit()) == Err(RecvTimeoutError::Timeout);
        if is_late {
            // It may have ended just now.
            let _ = process.send(libc::SIGKILL);
        }
        is_late
    });
    Running { child, pid, feeder, alive, watchdog }
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    feeder: JoinHandle<()>,
    alive: mpsc::Sender<()>,
    watchdog: JoinHandle<bool>,
}

impl Running {
    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let process = PidFd::open(self.pid).expect("a child that was not waited for can be opened");
        process.send(signal).expect("a child can be sent a signal");
    }

    pub(crate) fn finish(self) -> Finished {
        let output = self.child.wait_with_output().expect("a child can be waited for");
        drop(self.alive);
        self.feeder.join().expect("the thread that feeds standard input does not panic");
        let is_late = self.watchdog.join().expect("the watchdog does not panic");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!is_late, "killed after {:?}; standard error: {stderr}", limit());
        Finished { status: output.status, stdout: output.stdout, stderr }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// What the program wrote to its standard output.
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the program writes text")
    }

    /// A number of `--stats` by its name.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let value = self
            .stderr
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        assert!(value.is_some(), "no {name}: {}", self.stderr);
        value.unwrap_or_default()
    }
}

/// creance with a workload that runs.
pub(crate) struct Capturing {
    running: Running,
    output: NamedTempFile,
    is_notify: bool,
}

impl Capturing {
    /// Sends a signal to creance once the workload has written the line `ready`.
    pub(crate) fn signal_when_ready(&mut self, signal: i32) {
        let stdout = self.running.child.stdout.as_mut().expect("standard output is a pipe");
        let mut line = [0; 6];
        stdout.read_exact(&mut line).expect("the workload tells that it is ready");
        assert_eq!(&line, b"ready\n");
        self.running.signal(signal);
    }

    /// Waits for its end, whatever was captured.
    pub(crate) fn finish_unread(self) -> Finished {
        self.running.finish()
    }

    /// Waits for its end, and reads what was captured.
    pub(crate) fn finish(self) -> Capture {
        Capture::read(self.running.finish(), self.output.path(), self.is_notify)
    }
}

/// A directory for one test, by the path that the kernel shows.
pub(crate) fn directory() -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let path = directory.path().canonicalize().expect("it is there");
    (directory, path)
}

/// Makes a FIFO.
pub(crate) fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO can be made");
}

/// Makes an executable file. Another process writes it: a descriptor of ours that is open for writing could be
/// inherited by a child of another test, and exec would fail with ETXTBSY for a moment.
pub(crate) fn executable(path: &Path, contents: &str) {
    let write = "cat > \"$0\" && chmod 755 \"$0\"";
    let words = [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(write), path.as_os_str()];
    let written = Workload::new(words).stdin(contents.as_bytes()).natively();
    assert!(written.status.success(), "{}", written.stderr);
}

/// Whether there is a program of this name in `PATH`.
pub(crate) fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(name).is_file())
}
