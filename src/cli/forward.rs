//! Passes signals on to the workload, as if it had been started without us, and tells the guardian when the workload's first
//! process stops and goes on.
//!
//! A signal for a process group reaches the workload by itself, and must not arrive twice. The guardian is a member of the group
//! as this process is; so a signal that both were sent by the same sender was one for the group.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::end_by;
use crate::{
    limits,
    sys::{
        Pid, clock,
        guard::{Front, Guarded, Stage},
        inbox::{Heard, Inbox},
        process, procfs,
        seqpacket::Connection,
        signal::{self, PidFd, is_ignored},
    },
};

/// What asks a program to end.
const ENDS_US: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// What is ours alone even if the kernel sends it: a timer that whoever ran creance had set.
const OF_TIMERS: [i32; 3] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];

/// What stops a program that does not catch it.
const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// What is neither taken nor passed on: nobody can take the first two, the third is about our own children, and the others
/// are about a fault of ours when they come.
const OWN: [i32; 10] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
];

/// What our own calls cause in the engine's process, which ignores it.
const OF_OUR_WRITES: [i32; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

/// The signals that are passed on. What is ignored stays ignored, for us and for the workload, as under nohup(1).
pub(super) fn passed_on() -> Vec<i32> {
    let standard = (1..32).filter(|signal| !OWN.contains(signal));
    // The two below belong to the C library.
    let all = standard.chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
    // Rust's runtime ignores SIGPIPE, and nobody sends it to a process.
    all.filter(|&signal| !is_ignored(signal)).collect()
}

/// What the guardian tells of: a signal that it was sent.
pub(super) struct Told {
    heard: Heard,
    /// When the guardian read it, as [`clock::monotonic_ns`] has it.
    at: u64,
}

impl Told {
    const BYTES: usize = Heard::BYTES + size_of::<u64>();

    /// A signal that has just been read.
    pub(super) fn now(heard: Heard) -> Self {
        Self { heard, at: clock::monotonic_ns() }
    }

    /// It as a message.
    pub(super) fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let all = self.heard.to_bytes().into_iter().chain(self.at.to_ne_bytes());
        bytes.iter_mut().zip(all).for_each(|(into, from)| *into = from);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (heard, at) = bytes.split_first_chunk::<{ Heard::BYTES }>()?;
        Some(Self { heard: Heard::from_bytes(heard), at: u64::from_ne_bytes(at.try_into().ok()?) })
    }
}

/// Catches the signals that are meant for the workload, from now on.
pub(super) struct Forwarder {
    /// What this process is sent itself.
    inbox: Inbox,
    /// What the guardian was sent.
    from_guardian: Connection,
    front: Front,
    /// Who has sent each signal to this process, of those that the guardian has not told of yet.
    own: Vec<(i32, Pid)>,
    /// When a signal of each [`kind`] was last read here, as [`Told::at`].
    read_at: HashMap<i32, u64>,
    /// What came before there was a workload.
    early: Vec<Told>,
    /// The stops of the workload's first process are ours to look for: the engine does not see them.
    watches_root: bool,
}

impl Forwarder {
    /// Starts to catch. What comes before [`Self::forward_to`] waits.
    pub(super) fn new(guarded: &Guarded, watches_root: bool) -> io::Result<Self> {
        let signals = passed_on().into_iter().filter(|signal| !OF_OUR_WRITES.contains(signal));
        let inbox = Inbox::open(signals.chain(watches_root.then_some(libc::SIGCHLD)))?;
        Ok(Self {
            inbox,
            from_guardian: guarded.to_guardian.try_clone()?,
            front: guarded.front.clone(),
            own: Vec::new(),
            read_at: HashMap::new(),
            early: Vec::new(),
            watches_root,
        })
    }

    /// The signal that asks us to end while there is no workload yet, if one has come.
    pub(super) fn asked_to_end(&mut self) -> Option<i32> {
        while let Some(Some(told)) = self.next_of_guardian() {
            let signal = told.heard.signal;
            if ENDS_US.contains(&signal) {
                return Some(signal);
            }
            // As the kernel does, one of each is kept.
            if self.early.iter().all(|early| early.heard.signal != signal) {
                self.early.push(told);
            }
        }
        None
    }

    /// Passes signals on to a process until this one ends.
    pub(super) fn forward_to(mut self, root: Pid) -> io::Result<()> {
        let process = match PidFd::open(root) {
            // It has ended before we came to this.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
            process => Some(process?),
        };
        let root = Root { pid: root, process };
        thread::Builder::new().name("signals".into()).spawn(move || {
            for told in std::mem::take(&mut self.early) {
                self.pass_on(&told, &root);
            }
            self.run(&root);
        })?;
        Ok(())
    }

    fn run(mut self, root: &Root) {
        let mut is_guarded = true;
        let mut looked = Instant::now();
        let mut was_stopped = false;
        loop {
            let mut fds = vec![PollFd::new(self.front.bell().as_fd(), PollFlags::POLLIN)];
            if is_guarded {
                fds.push(PollFd::new(self.from_guardian.as_fd(), PollFlags::POLLIN));
            }
            // What this process is sent itself says nothing before the guardian tells of it. And whoever waits for it is woken
            // by each signal whatever it is (`signalfd_notify`): by each stop of which the engine takes SIGCHLD for a hint.
            if !is_guarded || self.watches_root {
                fds.push(PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::from(limits::GUARDIAN_LOOK_MS)) {
                Ok(_) | Err(Errno::EINTR) => {}
                // Without a way to wait there is nothing to do.
                Err(_) => return,
            }
            let is_rung = fds.first().and_then(PollFd::any).unwrap_or(false);
            let has_children = self.hear_own(is_guarded, root);
            while is_guarded && let Some(told) = self.next_of_guardian() {
                match told {
                    Some(told) => self.pass_on(&told, root),
                    None => is_guarded = false,
                }
            }
            if is_rung {
                self.front.urge_on();
            }
            if has_children {
                // Every call that the engine follows to its end gives such a hint.
                thread::sleep(Duration::from_millis(limits::ROOT_LOOK_MS));
                self.look_at_root(root);
            }
            if looked.elapsed() >= Duration::from_millis(limits::GUARDIAN_LOOK_MS.into()) {
                looked = Instant::now();
                // While a call of its first thread is followed nobody is told of its stop (`do_notify_parent_cldstop`).
                self.look_at_root(root);
                let is_stopped = is_guarded && self.front.is_stopped_by_others();
                // Seen twice: when a whole group is continued, the guardian comes a moment later than we do.
                if is_stopped && was_stopped {
                    self.front.note_following(true);
                    root.send(libc::SIGSTOP, root.group());
                }
                was_stopped = is_stopped && !was_stopped;
            }
        }
    }

    /// Hears what this process was sent itself; tells whether something has happened to a child.
    fn hear_own(&mut self, is_guarded: bool, root: &Root) -> bool {
        let mut has_children = false;
        while let Some(heard) = self.inbox.take() {
            if heard.signal == libc::SIGCHLD {
                has_children = true;
            } else if is_guarded {
                self.own.retain(|(signal, _)| *signal != heard.signal);
                self.own.push((heard.signal, heard.sender));
                self.read_at.insert(kind(heard.signal), clock::monotonic_ns());
            } else if heard.is_from_kernel() {
                // It goes to the whole group.
            } else if let Some(process) = &root.process {
                // Whoever is gone needs it no more.
                let _ = heard.pass_on(process);
            }
        }
        has_children
    }

    /// The next signal that the guardian tells of, if there is one; `Some(None)` if it is gone.
    fn next_of_guardian(&self) -> Option<Option<Told>> {
        let mut fds = [PollFd::new(self.from_guardian.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
            return None;
        }
        let mut bytes = [0; Told::BYTES];
        let received = self.from_guardian.receive(&mut bytes);
        Some(received.ok().and_then(|(len, _)| Told::from_bytes(bytes.get(..len)?)))
    }

    /// Passes on what the guardian was sent, unless the workload's first process was sent it as well.
    fn pass_on(&mut self, told: &Told, root: &Root) {
        let heard = &told.heard;
        // The kernel sends to the newest member of a group first, and we are newer than the guardian: what was for the whole
        // group is here by now.
        self.hear_own(true, root);
        let own = self.own.iter().position(|own| *own == (heard.signal, heard.sender));
        if let Some(at) = own {
            // Of each kind the guardian tells in the order in which they were sent: those before will not be told.
            let after = self.own.split_off(at + 1);
            self.own.retain(|(signal, _)| kind(*signal) != kind(heard.signal));
            self.own.extend(after);
        }
        let is_for_group = if heard.is_from_kernel() {
            !OF_TIMERS.contains(&heard.signal)
        } else {
            // Who kills processes by their name kills us both and not the workload. To be asked twice to end does no harm.
            !ENDS_US.contains(&heard.signal) && (own.is_some() || self.may_have_missed(told))
        };
        if heard.signal == libc::SIGCONT {
            self.front.note_following(false);
        }
        let group = root.group();
        if is_for_group && group.is_none() {
            return;
        }
        let is_sent = if is_for_group {
            root.send(heard.signal, group)
        } else {
            root.process.as_ref().is_some_and(|process| heard.pass_on(process).is_ok())
        };
        // The first process of the workload may have ended, while others go on or the events are still being written. Then
        // the signal is for us, and what is left of the workload dies with us.
        if !is_sent && ENDS_US.contains(&heard.signal) {
            self.front.board().set_stage(Stage::Quit);
            end_by(heard.signal);
        }
    }

    /// Whether this signal may have been sent to this process as well, without its reading it. Two that are the same are read as
    /// one, and a signal to stop takes one to continue away that has not been read, and the other way round (signal(7)). So
    /// what was read here last stands for all of its kind that the guardian read before.
    fn may_have_missed(&self, told: &Told) -> bool {
        self.read_at.get(&kind(told.heard.signal)).is_some_and(|&read| read >= told.at)
    }

    fn look_at_root(&self, root: &Root) {
        if !self.watches_root {
            return;
        }
        match signal::take_stop(root.pid) {
            Some(signal) => {
                // It may have gone on since the last stop without our seeing it.
                self.front.root_goes_on();
                self.front.root_stopped(signal);
            }
            None if procfs::state(root.pid.leader()) != Some(b'T') => self.front.root_goes_on(),
            None => {}
        }
    }
}

/// Signals of one kind take each other away while they wait: a signal for all that are like it.
fn kind(signal: i32) -> i32 {
    if STOPS.contains(&signal) { libc::SIGCONT } else { signal }
}

/// The workload's first process.
struct Root {
    pid: Pid,
    /// `None` if it has ended.
    process: Option<PidFd>,
}

impl Root {
    /// Its process group, if it leads one that is not ours: natively that would be the group that the job is.
    fn group(&self) -> Option<Pid> {
        let is_alive = self.process.as_ref().is_some_and(PidFd::owns_its_id);
        is_alive.then(|| process::group_of_its_own(self.pid)).flatten()
    }

    /// Sends a signal to the group, or to the process alone; tells whether it was there.
    fn send(&self, signal: i32, group: Option<Pid>) -> bool {
        match group {
            Some(group) => signal::send_to_group(group, signal),
            None => self.process.as_ref().is_some_and(|process| process.send(signal).is_ok()),
        }
    }
}
