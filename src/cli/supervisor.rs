//! The consumer that creance starts itself: Falco beside the workload, in one container, without another supervisor.
//!
//! It is a child of this thread and not traced. It is started before the workload and again whenever it ends, later and
//! later; after the workload it is asked to end, and killed if it does not. It never outlives us.

use std::{
    fs::File,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    str::FromStr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd,
};

use super::{program, say};
use crate::{
    limits,
    link::Companion,
    sys::{Pid, launch, signal},
};

/// Where the output of the consumer goes.
#[derive(Debug, Clone)]
pub(super) enum Log {
    /// To our standard output, which is the workload's as well.
    Stdout,
    /// To our standard error.
    Stderr,
    /// To the end of this file.
    File(PathBuf),
}

impl FromStr for Log {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            file => Self::File(file.into()),
        })
    }
}

/// The consumer cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsumerError {
    /// The command is empty, or a quote in it is not closed.
    #[error("'{0}' is no command: expected words as a shell splits them, with every quote closed")]
    Words(String),
    /// There is no such program.
    #[error(transparent)]
    NotRunnable(#[from] program::NotRunnable),
    /// Its log cannot be opened.
    #[error("--consumer-log {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// No thread can be made for it.
    #[error("starting the thread of the consumer")]
    Thread(#[source] io::Error),
}

/// A command for a consumer.
#[derive(Debug)]
pub(super) struct ConsumerCommand {
    program: PathBuf,
    arguments: Vec<String>,
    log: Log,
}

impl ConsumerCommand {
    /// Splits a command as a shell does, and looks for its program; nothing in it is expanded.
    ///
    /// # Errors
    /// [`ConsumerError`]: nothing has been started then.
    pub(super) fn new(command: &str, log: Log) -> Result<Self, ConsumerError> {
        let words = shlex::split(command).unwrap_or_default();
        let [name, arguments @ ..] = words.as_slice() else {
            return Err(ConsumerError::Words(command.into()));
        };
        let this = Self { program: program::find(name.as_ref())?, arguments: arguments.to_vec(), log };
        this.output()?;
        Ok(this)
    }

    /// Where its output goes, opened anew.
    fn output(&self) -> Result<(Stdio, Stdio), ConsumerError> {
        let open = |path: &PathBuf| {
            let log = File::options().create(true).append(true).open(path)?;
            Ok((log.try_clone()?.into(), log.into()))
        };
        match &self.log {
            Log::Stdout => Ok((Stdio::inherit(), Stdio::inherit())),
            Log::Stderr => Ok((io::stderr().into(), Stdio::inherit())),
            Log::File(path) => open(path).map_err(|source| ConsumerError::Log { path: path.clone(), source }),
        }
    }

    fn start(&self) -> anyhow::Result<Pid> {
        let (stdout, stderr) = self.output()?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        launch::end_with_us(&mut command);
        let child = command.spawn()?;
        Ok(Pid(i32::try_from(child.id())?))
    }
}

/// Keeps a consumer running until it is dropped.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    command: ConsumerCommand,
    state: Mutex<State>,
    /// Tells of every change.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The consumer, from its start until it has been waited for: its id is its own as long as it stands here.
    companion: Companion,
    is_over: bool,
}

impl Supervisor {
    /// Starts the consumer, and goes on starting it. `companion` always tells which process it is.
    ///
    /// # Errors
    /// [`ConsumerError::Thread`]. A consumer that does not start is tried again, as one that ends.
    pub(super) fn start(command: ConsumerCommand, companion: Companion) -> Result<Self, ConsumerError> {
        let state = Mutex::new(State { companion, is_over: false });
        let shared = Arc::new(Shared { command, state, changed: Condvar::new() });
        let supervised = Arc::clone(&shared);
        let thread = thread::Builder::new().name("consumer".into()).spawn(move || supervised.supervise());
        Ok(Self { shared, thread: Some(thread.map_err(ConsumerError::Thread)?) })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        self.shared.changed.notify_all();
        state.send(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_millis(limits::CONSUMER_END_MS_MAX);
        while state.companion.pid().is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                say(format_args!("the consumer does not end: it is killed"));
                state.send(Signal::SIGKILL);
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        // It waits for nothing but the consumer's end.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the thread, whose end would end the consumer too.
    fn supervise(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let since = Instant::now();
            let state = self.lock();
            if state.is_over {
                return;
            }
            let started = self.command.start();
            state.companion.set(started.as_ref().ok().copied());
            drop(state);
            let how = match started {
                Ok(pid) => format!("has ended ({})", self.wait(pid)),
                Err(error) => format!("could not be started: {error:#}"),
            };
            if since.elapsed() >= STEADY {
                pause = PAUSE_MIN;
            }
            if !self.pause(pause, &how) {
                return;
            }
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    /// Waits until it has ended; tells how.
    fn wait(&self, pid: Pid) -> String {
        let id = unistd::Pid::from_raw(pid.0);
        // It is only reaped under the lock, so that nobody sends a signal to whoever gets its id next.
        while waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        let state = self.lock();
        let status = signal::reap(pid);
        state.companion.set(None);
        self.changed.notify_all();
        status.map_or_else(|| "nobody knows how".into(), |status| ExitStatus::from_raw(status).to_string())
    }

    /// Says what happened, and waits before the next start; tells whether there is to be one.
    fn pause(&self, pause: Duration, how: &str) -> bool {
        let mut state = self.lock();
        if !state.is_over {
            say(format_args!("the consumer {how}: it is started again in {} s", pause.as_secs_f32()));
        }
        let deadline = Instant::now() + pause;
        while !state.is_over {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

impl State {
    fn send(&self, signal: Signal) {
        if let Some(pid) = self.companion.pid() {
            // It has not been waited for, so that this is nobody else.
            let _ = kill(unistd::Pid::from_raw(pid.0), signal);
        }
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(limits::CONSUMER_PAUSE_MS_MIN);
const PAUSE_MAX: Duration = Duration::from_millis(limits::CONSUMER_PAUSE_MS_MAX);

/// A consumer that ran so long is no worse than a new one.
const STEADY: Duration = Duration::from_millis(limits::CONSUMER_STEADY_MS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_splits_it() {
        let command = ConsumerCommand::new("sh -c 'echo a b'", Log::Stderr).unwrap();
        assert!(command.program.ends_with("sh"));
        assert_eq!(command.arguments, ["-c", "echo a b"]);
        for (text, expected) in [
            ("", "'' is no command"),
            ("falco 'a", "is no command"),
            ("/no/falco -c x", "/no/falco: command not found"),
            ("/etc/passwd", "not a program"),
        ] {
            let error = ConsumerCommand::new(text, Log::Stderr).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let log = Log::File("/no/such/directory/log".into());
        let error = ConsumerCommand::new("true", log).unwrap_err().to_string();
        assert!(error.contains("--consumer-log /no/such/directory/log"), "{error}");
    }
}
