//! The guardian: the process that was started, whose child is the engine's process. Whoever started it sees in it what they
//! would see in the workload's first process: it passes signals on, stops and goes on as that one does, and ends as it did. It
//! waits for every orphan that comes to it, as the first process of a container and otherwise as a subreaper.
//!
//! It must do nothing that could fail or wait, since nobody watches over it. If it dies, so does all else.
//!
//! With the notify engine it also holds a duplicate of the filter's listener: with the last listener gone every trapped call of
//! the workload would fail (seccomp_unotify(2)). So when the engine's process dies before its workload, the guardian either
//! kills the workload, or answers in the engine's place until it has started another one, which adopts the workload and
//! announces what was not seen.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::{getpgrp, tcgetpgrp, tcsetpgrp},
};

use super::{
    STATUS_FAILED, exit_as,
    forward::{Told, passed_on},
    say,
};
use crate::{
    limits,
    sys::{
        Pid,
        guard::{self, Board, Front, Guarded, Stage},
        inbox::{Heard, Inbox},
        notify::{Listener, Received},
        process, procfs,
        seqpacket::Connection,
        signal::{self, PidFd},
    },
};

/// What becomes of the workload if creance dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnDeath {
    /// It dies as well
    Kill,
    /// It goes on, and is captured again as soon as may be; the gap is announced (only with the notify engine)
    Continue,
}

/// Which of the two processes this is.
pub(super) enum Role {
    /// The guardian, which has done its work: what it exits with.
    Guardian(ExitCode),
    /// The engine's.
    Engine(Guarded),
}

/// How long a message for the engine's process waits for room.
const SEND_MAX: Duration = Duration::from_millis(100);

/// Longest time in which what answers in the engine's place looks whether the engine is ready.
const LOOK: Duration = Duration::from_millis(2);

/// Makes this process a guardian, and goes on in another one, which `dies_with_us` or finds out by itself that we are dead.
///
/// # Errors
/// What the kernel says about the parts of it.
pub(super) fn guard(on_death: OnDeath, dies_with_us: bool) -> io::Result<Role> {
    let signals = Inbox::open(passed_on().into_iter().chain([libc::SIGCHLD]))?;
    // If it is ignored, nobody learns how a process ends.
    signal::reset(libc::SIGCHLD);
    guard::adopt_orphans();
    let mut guardian = Guardian {
        on_death,
        dies_with_us,
        signals,
        board: Arc::new(Board::new()?),
        engine: None,
        listener: None,
        stops_seen: 0,
    };
    match guardian.start_engine()? {
        Some(guarded) => Ok(Role::Engine(guarded)),
        None => {
            signal::deny_access();
            guardian.watch()
        }
    }
}

/// The engine's process, and where it sends the listener to.
struct Engine {
    pid: Pid,
    connection: Connection,
}

struct Guardian {
    on_death: OnDeath,
    dies_with_us: bool,
    signals: Inbox,
    board: Arc<Board>,
    engine: Option<Engine>,
    listener: Option<Listener>,
    /// The last stop of the workload's first process that we know of.
    stops_seen: u64,
}

impl Guardian {
    /// Forks the engine's process; gives what it has of us, in it.
    fn start_engine(&mut self) -> io::Result<Option<Guarded>> {
        let (ours, theirs) = Connection::pair()?;
        let adopted =
            self.listener.as_ref().map(|listener| listener.as_fd().try_clone_to_owned()).transpose()?;
        // It may be stopped, and we must not wait for it.
        ours.set_timeout(SEND_MAX)?;
        let guardian = Pid(nix::unistd::getpid().as_raw());
        let front = Front::new(Arc::clone(&self.board), guardian)?;
        self.board.set_stage(Stage::Starting);
        match guard::fork()? {
            Some(pid) => {
                self.engine = Some(Engine { pid, connection: ours });
                Ok(None)
            }
            None => {
                if self.dies_with_us {
                    signal::die_with(guardian, libc::SIGKILL);
                }
                Ok(Some(Guarded {
                    board: Arc::clone(&self.board),
                    to_guardian: theirs,
                    guardian,
                    outlives_us: self.on_death == OnDeath::Continue,
                    adopted,
                    front,
                }))
            }
        }
    }

    fn watch(mut self) -> io::Result<Role> {
        // Of those that ended before we heard of such things nobody tells again.
        let mut has_ended = self.reap();
        loop {
            if let Some(status) = has_ended.take()
                && let Some(role) = self.engine_ended(status)?
            {
                return Ok(role);
            }
            let sender = self.engine.as_ref().filter(|_| self.listener.is_none());
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(sender.map(|engine| PollFd::new(engine.connection.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.take_listener();
            has_ended = self.hear_signals()?;
        }
    }

    /// Takes the listener if the engine has sent it.
    fn take_listener(&mut self) {
        let Some(engine) = self.engine.as_ref().filter(|_| self.listener.is_none()) else { return };
        let mut fds = [PollFd::new(engine.connection.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
            return;
        }
        let received = engine.connection.receive(&mut [0; 16]).ok();
        let descriptor = received.and_then(|(_, descriptors)| descriptors.into_iter().next());
        self.listener = descriptor.and_then(|descriptor| Listener::new(descriptor).ok());
    }

    /// Passes signals on to the engine, which passes them on to the workload, and stops if the workload has been stopped;
    /// gives the engine's wait status if it has ended.
    fn hear_signals(&mut self) -> io::Result<Option<i32>> {
        let mut has_children = false;
        while let Some(heard) = self.signals.take() {
            if heard.signal == libc::SIGCHLD {
                has_children = true;
            } else {
                self.pass_on(heard);
            }
        }
        let ended = if has_children { self.reap() } else { None };
        self.stop_with_root();
        Ok(ended)
    }

    fn pass_on(&self, heard: Heard) {
        let engine = self.engine.as_ref();
        if heard.signal == libc::SIGCONT {
            if engine.is_some_and(|engine| engine.pid == heard.sender) {
                // It was for us alone: the workload goes on.
                return;
            }
            if let Some(root) = self.board.root() {
                hand_over_terminal(root);
            }
        }
        match engine {
            // If it takes no more, it is dead or stopped itself: a signal that asks for an end can be sent again.
            Some(engine) => drop(engine.connection.send(&Told::now(heard).to_bytes(), &[])),
            None => {
                let root = self.board.root().and_then(|root| PidFd::open(root).ok());
                // What the kernel sends goes to the whole foreground group: they have it already.
                if let Some(root) = root.filter(|_| !heard.is_from_kernel()) {
                    // Whoever is gone needs it no more.
                    let _ = heard.pass_on(&root);
                }
            }
        }
    }

    /// Stops if the workload's first process has been stopped since we last looked.
    fn stop_with_root(&mut self) {
        let Some(stop) = self.board.root_stop().filter(|stop| stop.number != self.stops_seen) else { return };
        self.stops_seen = stop.number;
        // If it was stopped because we were, we have been continued since.
        if !stop.follows {
            self.board.stop_with_root(stop);
        }
    }

    /// Waits for every child that has ended; gives the engine's wait status if it is one of them.
    fn reap(&mut self) -> Option<i32> {
        let mut of_engine = None;
        while let Some((pid, status)) = signal::peek_any() {
            if self.engine.as_ref().is_some_and(|engine| engine.pid == pid) {
                self.engine = None;
                of_engine = Some(status);
            } else if self.board.root() == Some(pid) {
                // An engine that has adopted the workload looks here when it finds the process gone.
                self.board.note_root_status(status);
            }
            if signal::reap(pid).is_none() {
                break;
            }
        }
        of_engine
    }

    /// The engine's process has ended: gives what that means, or nothing if there is another one.
    fn engine_ended(&mut self, status: i32) -> io::Result<Option<Role>> {
        match self.board.stage() {
            Stage::Over => {
                return Ok(Some(Role::Guardian(exit_as(self.board.root_status().unwrap_or(status)))));
            }
            Stage::Quit => {
                kill_descendants();
                return Ok(Some(Role::Guardian(exit_as(status))));
            }
            _ if self.board.root().is_none() => return Ok(Some(Role::Guardian(exit_as(status)))),
            Stage::Starting | Stage::Ready | Stage::Receiving => {}
        }
        self.take_listener();
        if self.on_death == OnDeath::Continue
            && let Some(listener) = self.listener.take()
        {
            return self.bridge(listener);
        }
        say(format_args!("the engine's process has died, and the workload is killed with it"));
        kill_descendants();
        Ok(Some(Role::Guardian(ExitCode::from(STATUS_FAILED))))
    }

    /// Lets the workload's calls go until another engine is ready.
    fn bridge(&mut self, listener: Listener) -> io::Result<Option<Role>> {
        say(format_args!("the engine's process has died: another one is started, and the workload goes on"));
        // Those that are not its own it refuses.
        let mut unseen = self.board.unanswered().map(|id| u64::from(listener.let_go(id))).sum::<u64>();
        self.listener = Some(listener);
        if let Some(guarded) = self.start_engine()? {
            return Ok(Some(Role::Engine(guarded)));
        }
        loop {
            let Some(listener) = &self.listener else { return Ok(None) };
            match self.board.stage() {
                Stage::Starting => {}
                Stage::Ready => {
                    self.board.set_unseen(unseen);
                    self.board.set_stage(Stage::Receiving);
                    return Ok(None);
                }
                Stage::Receiving | Stage::Over | Stage::Quit => return Ok(None),
            }
            if listener.is_over(Duration::ZERO) {
                // The new engine will find that out.
                return Ok(None);
            }
            if listener.has_call(LOOK)
                && let Received::Call(call) = listener.receive()?
            {
                unseen += u64::from(listener.let_go(call.id));
            }
            if let Some(status) = self.hear_signals()? {
                // It did not come as far as the first one.
                say(format_args!("the engine could not be started again: the workload goes on without"));
                return self.answer_alone(status).map(Some);
            }
        }
    }

    /// Lets the workload's calls go until it ends.
    fn answer_alone(&mut self, engine_status: i32) -> io::Result<Role> {
        while let Some(listener) = &self.listener
            && !listener.is_over(Duration::ZERO)
        {
            if listener.has_call(LOOK)
                && let Received::Call(call) = listener.receive()?
            {
                listener.let_go(call.id);
            }
            self.hear_signals()?;
        }
        self.reap();
        Ok(Role::Guardian(exit_as(self.board.root_status().unwrap_or(engine_status))))
    }
}

/// Whoever continues a job has given the terminal to its process group (as a shell's `fg` does), which is ours. If the
/// workload's first process has made a group of its own, as an interactive shell does, it goes to that one.
fn hand_over_terminal(root: Pid) {
    let Some(group) = process::group_of_its_own(root) else { return };
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else { return };
    if tcgetpgrp(&terminal) == Ok(getpgrp()) {
        // It fails only for a group of another session.
        let _ = tcsetpgrp(&terminal, nix::unistd::Pid::from_raw(group.0));
    }
}

/// Kills all descendants of this process. They fork meanwhile, so that it takes several looks.
fn kill_descendants() {
    let since = Instant::now();
    let bound = Duration::from_millis(limits::KILL_MS_MAX);
    while since.elapsed() < bound {
        let victims = procfs::descendants(Pid(nix::unistd::getpid().as_raw()));
        if victims.is_empty() {
            return;
        }
        for victim in victims {
            let _ = kill(nix::unistd::Pid::from_raw(victim.0), Signal::SIGKILL);
        }
        while signal::reap_any().is_some() {}
        thread::sleep(Duration::from_millis(1));
    }
}
