//! A shell at a terminal, and somebody who types.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::signal::{Signal, kill},
};

use super::{fixture, limit};

/// What the shell prints when it takes a command.
pub(crate) const PROMPT: &str = "ready> ";

/// A shell with a terminal of its own.
pub(crate) struct Terminal {
    master: File,
    shell: Child,
    since: Instant,
    /// All that was shown.
    shown: Vec<u8>,
    /// How much of it came before the last text that was waited for ended.
    seen: usize,
}

impl Terminal {
    /// A shell in which `$W` is what comes before a command, and `$J` the fixture `jobs`.
    pub(crate) fn shell(prefix: &str) -> Self {
        let (master, slave) = pair();
        let stdio = || Stdio::from(slave.try_clone().expect("a descriptor can be had"));
        let shell = Command::new(fixture("session"))
            .args(["bash", "--norc", "--noprofile", "--noediting", "-i"])
            .envs([
                ("W", prefix),
                ("PS1", PROMPT),
                ("PS2", ""),
                ("TERM", "dumb"),
                ("HISTFILE", ""),
                ("LC_ALL", "C"),
            ])
            .env("J", fixture("jobs"))
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .expect("a shell can be started");
        let mut terminal = Self { master, shell, since: Instant::now(), shown: Vec::new(), seen: 0 };
        terminal.wait_for(PROMPT);
        terminal
    }

    /// Types.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("a terminal takes what is typed");
    }

    /// Waits until a text is shown, after those that were waited for before.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let new = self.shown.get(self.seen..).unwrap_or_default();
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen += at + text.len();
                return;
            }
            assert!(self.read(), "ended before {text:?} was shown: {}", self.transcript());
        }
    }

    /// Runs a command and waits until the shell takes the next one.
    pub(crate) fn command(&mut self, command: &str) {
        self.type_in(&format!("{command}\n"));
        self.wait_for(PROMPT);
    }

    /// The pid of the last job that was started in the background.
    pub(crate) fn last_job(&mut self) -> i32 {
        self.command("echo \"<$!>\"");
        self.number_in('<', '>')
    }

    /// The last number that is shown in such brackets.
    pub(crate) fn number_in(&self, open: char, close: char) -> i32 {
        let text = self.transcript();
        let mut found = text.rsplit(open).filter_map(|rest| rest.split_once(close)?.0.parse().ok());
        found.next().expect("a number is shown")
    }

    /// Reads what comes; tells whether the terminal is still in use.
    fn read(&mut self) -> bool {
        let left = limit().saturating_sub(self.since.elapsed());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut polled = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut polled, left).expect("a terminal can be waited for");
        assert!(ready > 0, "nothing more is shown after: {}", self.transcript());
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(0) => false,
            Ok(read) => {
                self.shown.extend(bytes.iter().take(read));
                true
            }
            // Nobody has the other side open any more (Linux's ptys answer so).
            Err(error) if error.raw_os_error() == Some(libc::EIO) => false,
            Err(error) => panic(&error),
        }
    }

    fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Ends the shell; gives what was shown, with each pid as `PID`, and how it ended.
    pub(crate) fn finish(mut self) -> (String, ExitStatus) {
        self.type_in("exit 9\n");
        while self.read() {}
        let status = self.shell.wait().expect("a child can be waited for");
        assert_eq!(status.signal(), None, "{}", self.transcript());
        (without_pids(&self.transcript()), status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.shell.try_wait() {
            let pid = i32::try_from(self.shell.id()).expect("a pid fits");
            // It has not been waited for, so the id is its own.
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            let _ = self.shell.wait();
        }
    }
}

/// Both ends of a new terminal. No program that another test starts meanwhile inherits them, as it would those of
/// openpty(3): a terminal is in use as long as anybody has it open.
fn pair() -> (File, File) {
    let master =
        posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a terminal can be had");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal of one's own can be used");
    let name = ptsname_r(&master).expect("a terminal has a name");
    let mut options = OpenOptions::new();
    let slave = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name)
        .expect("a terminal can be opened");
    (File::from(OwnedFd::from(master)), slave)
}

fn panic(error: &io::Error) -> bool {
    assert!(error.raw_os_error().is_none(), "reading a terminal: {error}");
    false
}

/// Numbers of three digits and more are pids.
fn without_pids(text: &str) -> String {
    let mut plain = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        plain.push_str(if digits.len() >= 3 { "PID" } else { &digits });
        digits.clear();
        plain.push(c);
    }
    plain
}
