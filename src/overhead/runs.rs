//! One run of a program, with or without a tracer before it: started, bounded, awaited, and what it took.
//!
//! A program must not outlive its run: it ends with us, and is killed when it takes too long.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd,
};

use crate::{
    limits,
    sys::{
        Pid, launch, procfs,
        signal::{PidFd, send_to_group},
    },
};

/// A run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not even be started, or not be watched.
    #[error("starting {program}")]
    Start {
        /// The first word of the command.
        program: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It took too long, and was killed.
    #[error("{program} was killed after {seconds} s")]
    TimedOut {
        /// The first word of the command.
        program: String,
        /// The bound.
        seconds: u64,
    },
    /// It ended otherwise than with status 0.
    #[error("{program}: {status}{}", said(last_line))]
    Failed {
        /// The first word of the command.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last line that it wrote to its standard error.
        last_line: String,
    },
    /// It ended well, but its output holds no figure.
    #[error("{program} printed no figure")]
    NoFigure {
        /// The first word of the command.
        program: String,
    },
}

fn said(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The first word of the command.
    pub program: String,
    /// From its start to its end.
    pub took: Duration,
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of what it wrote.
    pub stdout: String,
    /// The end of what it wrote to its standard error.
    pub stderr: String,
    /// CPU seconds of the process that was started, without its children: of a tracer, not of what it traces.
    pub own_cpu_s: Option<f64>,
}

impl Ended {
    /// It, if it ended with status 0.
    ///
    /// # Errors
    /// [`RunError::Failed`], else.
    pub fn well(self) -> Result<Self, RunError> {
        if self.status.success() {
            return Ok(self);
        }
        let last_line = self.stderr.lines().next_back().unwrap_or_default().to_owned();
        Err(RunError::Failed { program: self.program, status: self.status, last_line })
    }

    /// The error that its output holds no figure.
    #[must_use]
    pub fn no_figure(&self) -> RunError {
        RunError::NoFigure { program: self.program.clone() }
    }
}

/// What becomes of the standard output of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is read.
    Read,
    /// Nobody wants it.
    Dropped,
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
    start: Instant,
    limit: Duration,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    alive: mpsc::Sender<()>,
    watchdog: JoinHandle<bool>,
}

/// Runs a command to its end, which must come within the limit.
///
/// # Errors
/// [`RunError::Start`] or [`RunError::TimedOut`]; how it ended is for the caller to look at.
pub fn run(words: &[OsString], output: Output, limit: Duration) -> Result<Ended, RunError> {
    Running::start(words, None, output, limit)?.end()
}

impl Running {
    /// Starts a command, in a process group of its own, with nothing on its standard input.
    ///
    /// # Errors
    /// [`RunError::Start`].
    pub fn start(
        words: &[OsString],
        directory: Option<&Path>,
        output: Output,
        limit: Duration,
    ) -> Result<Self, RunError> {
        let program = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let failed = |source| RunError::Start { program: program.clone(), source };
        let mut command = Command::new(words.first().cloned().unwrap_or_default());
        command.args(words.iter().skip(1)).stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        command.stdout(if output == Output::Read { Stdio::piped() } else { Stdio::null() });
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        launch::end_with_us(&mut command);
        let start = Instant::now();
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().map(|pipe| thread::spawn(|| head(pipe)));
        let stderr = child.stderr.take().map(|pipe| thread::spawn(|| tail(pipe)));
        let pid = Pid(i32::try_from(child.id()).unwrap_or_default());
        let (alive, watchdog) = watch(pid, limit).map_err(failed)?;
        Ok(Self { program, child, start, limit, stdout, stderr, alive, watchdog })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`RunError::TimedOut`] if it has been killed for taking too long, [`RunError::Start`] if it cannot be waited for.
    pub fn end(mut self) -> Result<Ended, RunError> {
        let pid = Pid(i32::try_from(self.child.id()).unwrap_or_default());
        // Not waited for to the last: what it has used is told only while it is a zombie.
        let _ = waitid(Id::Pid(unistd::Pid::from_raw(pid.0)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let took = self.start.elapsed();
        let own_cpu_s = procfs::cpu_seconds(pid);
        let program = self.program;
        let status =
            self.child.wait().map_err(|source| RunError::Start { program: program.clone(), source })?;
        drop(self.alive);
        let text = |reader: Option<JoinHandle<Vec<u8>>>| {
            let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        if self.watchdog.join().unwrap_or_default() {
            return Err(RunError::TimedOut { program, seconds: self.limit.as_secs() });
        }
        let (stdout, stderr) = (text(self.stdout), text(self.stderr));
        Ok(Ended { program, took, status, stdout, stderr, own_cpu_s })
    }

    /// Asks it and what it has started to end, whatever they are.
    pub fn ask_to_end(&self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _ = send_to_group(Pid(group), libc::SIGTERM);
        }
    }
}

/// Kills a group when its time is over, by its first process: first with a signal that a tracer can pass on, so that what it
/// traces cleans up, then for good. Tells whether it had to.
fn watch(pid: Pid, limit: Duration) -> io::Result<(mpsc::Sender<()>, JoinHandle<bool>)> {
    let process = PidFd::open(pid)?;
    let (alive, end) = mpsc::channel::<()>();
    let grace = Duration::from_millis(limits::BENCH_GRACE_MS);
    let watchdog = thread::spawn(move || {
        if end.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
            return false;
        }
        let _ = process.send(libc::SIGTERM);
        if end.recv_timeout(grace) == Err(RecvTimeoutError::Timeout) {
            // The group cannot be another one yet: nobody has waited for its first process.
            let _ = send_to_group(pid, libc::SIGKILL);
        }
        true
    });
    Ok((alive, watchdog))
}

/// The beginning of what can be read; the rest is read and forgotten, so that nobody waits for room.
fn head(mut from: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = from.by_ref().take(limits::BENCH_OUTPUT_BYTES_MAX).read_to_end(&mut kept);
    let _ = io::copy(&mut from, &mut io::sink());
    kept
}

/// The end of what can be read.
fn tail(mut from: impl Read) -> Vec<u8> {
    let most = usize::try_from(limits::BENCH_STDERR_BYTES_MAX).unwrap_or(usize::MAX);
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = from.read(&mut piece) {
        kept.extend_from_slice(piece.get(..read).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(most));
    }
    kept
}

/// A program is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {0}")]
pub struct Missing(String);

/// Looks for programs in the directories of a `PATH`.
///
/// # Errors
/// The first one that is in none of them.
pub fn are_there(names: &[&str], path: &OsStr) -> Result<(), Missing> {
    let is_there = |name: &&&str| env::split_paths(path).any(|directory| directory.join(name).is_file());
    match names.iter().find(|name| !is_there(name)) {
        Some(name) => Err(Missing((*name).to_owned())),
        None => Ok(()),
    }
}

/// Whether the exit status is the one with which creance refuses bad input.
#[must_use]
pub fn is_refused(status: ExitStatus) -> bool {
    status.into_raw() == 2 << 8
}

/// What creance told of itself at the end of a run (`--stats`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watched {
    /// Calls that the filter has trapped; in an audit, all calls.
    pub calls: u64,
    /// Calls that became a record.
    pub kept: u64,
    /// Stops of all threads.
    pub stops: u64,
    /// Records that were written.
    pub records: u64,
    /// CPU seconds of the engine's process.
    pub cpu_s: f64,
    /// Its largest memory, resident, in KiB.
    pub peak_kib: u64,
}

impl Watched {
    /// Reads it in what was written to standard error; `None` where it is not.
    #[must_use]
    pub fn parse(stderr: &str) -> Option<Self> {
        let (_, table) = stderr.rsplit_once("creance: statistics\n")?;
        let figure = |name: &str| {
            let line = table
                .lines()
                .find_map(|line| line.strip_prefix("  ")?.strip_prefix(name)?.strip_prefix(' '))?;
            line.split_whitespace().next()
        };
        let count = |name| figure(name)?.parse().ok();
        Some(Self {
            calls: count("calls trapped").or_else(|| count("calls seen"))?,
            kept: count("calls kept").or_else(|| count("calls kept by triage"))?,
            stops: count("stops")?,
            records: count("records")?,
            cpu_s: figure("CPU time, s")?.parse().ok()?,
            peak_kib: count("peak memory, KiB")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Vec<OsString> {
        ["sh", "-c", script].map(OsString::from).to_vec()
    }

    #[test]
    fn what_a_program_wrote_and_how_it_ended_is_told() {
        let ended =
            run(&shell("echo out; echo one >&2; echo last >&2; exit 3"), Output::Read, LIMIT).unwrap();
        assert_eq!((&*ended.stdout, &*ended.stderr), ("out\n", "one\nlast\n"));
        assert!(ended.own_cpu_s.is_some());
        let told = ended.well().unwrap_err().to_string();
        assert!(told.contains("exit status: 3") && told.ends_with(": last"), "{told}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let killed = run(&shell("exec sleep 600"), Output::Dropped, Duration::from_millis(1));
        assert!(matches!(killed, Err(RunError::TimedOut { .. })), "{killed:?}");
    }

    #[test]
    fn what_is_missing_is_told_by_its_name() {
        let told = run(&["/no/such".into()], Output::Read, LIMIT).unwrap_err().to_string();
        assert_eq!(told, "starting /no/such");
    }

    #[test]
    fn the_first_program_that_is_missing_is_told() {
        let path = env::var_os("PATH").unwrap();
        assert_eq!(are_there(&["sh", "true"], &path), Ok(()));
        let told = are_there(&["sh", "no-such-program", "nor-this"], &path).unwrap_err().to_string();
        assert_eq!(told, "there is no no-such-program");
        assert!(are_there(&["sh"], OsStr::new("/nonexistent")).is_err());
    }

    #[test]
    fn a_long_text_is_kept_at_its_beginning_or_its_end() {
        let most = usize::try_from(limits::BENCH_STDERR_BYTES_MAX).unwrap();
        let text: Vec<u8> = (0..most + 10_000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert_eq!(tail(&*text), text[10_000..]);
        assert_eq!(head(&*text), text);
    }

    #[test]
    fn statistics_are_found_behind_what_the_workload_wrote() {
        let table = "x\ncreance: statistics\n  engine                    ptrace\n  calls trapped             12\n  \
                     calls kept                7\n  stops                     20\n  records                   8\n  \
                     records lost              1\n  CPU time, s               0.250\n  peak memory, KiB          5000\n";
        let expected = Watched { calls: 12, kept: 7, stops: 20, records: 8, cpu_s: 0.25, peak_kib: 5000 };
        assert_eq!(Watched::parse(table), Some(expected));
        assert_eq!(Watched::parse("creance: statistics\n"), None);
    }
}
