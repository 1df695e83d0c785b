//! The guardian of the notify engine: a process that does nothing while the engine's lives, and holds a duplicate of the
//! filter's listener.
//!
//! With the last listener gone every trapped call of the workload would fail (seccomp_unotify(2)). So when the engine's
//! process dies before its workload, the guardian either kills the workload, or answers in the engine's place until it has
//! started another one, which adopts the workload and announces what was not seen.

use std::{
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
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{STATUS_FAILED, exit_as, forward::FORWARDED, say};
use crate::{
    limits,
    sys::{
        Pid,
        guard::{self, Board, Guarded, Stage},
        notify::{Listener, Received},
        procfs,
        seqpacket::Connection,
        signal,
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

/// Longest time in which what answers in the engine's place looks whether the engine is ready.
const LOOK: Duration = Duration::from_millis(2);

/// Makes this process a guardian, and goes on in another one.
///
/// # Errors
/// What the kernel says about the parts of it.
pub(super) fn guard(on_death: OnDeath) -> io::Result<Role> {
    let heard = FORWARDED.into_iter().filter(|&heard| !signal::is_ignored(heard)).chain([libc::SIGCHLD]);
    let heard: SigSet = heard.filter_map(|heard| Signal::try_from(heard).ok()).collect();
    let mask = heard.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    // If it is ignored, nobody learns how a process ends.
    signal::reset(libc::SIGCHLD);
    guard::adopt_orphans();
    let mut guardian = Guardian {
        on_death,
        mask,
        signals: SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
        board: Arc::new(Board::new()?),
        engine: None,
        listener: None,
        root_status: None,
    };
    match guardian.start_engine()? {
        Some(guarded) => Ok(Role::Engine(guarded)),
        None => guardian.watch(),
    }
}

/// The engine's process, and where it sends the listener to.
struct Engine {
    pid: Pid,
    connection: Connection,
}

struct Guardian {
    on_death: OnDeath,
    /// The signal mask that this process was given.
    mask: SigSet,
    signals: SignalFd,
    board: Arc<Board>,
    engine: Option<Engine>,
    listener: Option<Listener>,
    /// How the workload's first process has ended, if that was told to us and not to the engine.
    root_status: Option<i32>,
}

impl Guardian {
    /// Forks the engine's process; gives what it has of us, in it.
    fn start_engine(&mut self) -> io::Result<Option<Guarded>> {
        let (ours, theirs) = Connection::pair()?;
        let adopted =
            self.listener.as_ref().map(|listener| listener.as_fd().try_clone_to_owned()).transpose()?;
        let guardian = Pid(nix::unistd::getpid().as_raw());
        self.board.set_stage(Stage::Starting);
        match guard::fork()? {
            Some(pid) => {
                self.engine = Some(Engine { pid, connection: ours });
                Ok(None)
            }
            None => {
                self.mask.thread_set_mask()?;
                Ok(Some(Guarded {
                    board: Arc::clone(&self.board),
                    to_guardian: theirs,
                    guardian,
                    outlives_us: self.on_death == OnDeath::Continue,
                    adopted,
                }))
            }
        }
    }

    fn watch(mut self) -> io::Result<Role> {
        loop {
            let sender = self.engine.as_ref().filter(|_| self.listener.is_none());
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(sender.map(|engine| PollFd::new(engine.connection.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.take_listener();
            if let Some(status) = self.hear_signals()?
                && let Some(role) = self.engine_ended(status)?
            {
                return Ok(role);
            }
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

    /// Passes signals on to the engine, which passes them on to the workload; gives the engine's wait status if it has
    /// ended.
    fn hear_signals(&mut self) -> io::Result<Option<i32>> {
        let mut has_children = false;
        while let Some(heard) = self.signals.read_signal()? {
            let signal = i32::try_from(heard.ssi_signo).unwrap_or(0);
            // What the kernel sends goes to the whole foreground group: they have it already.
            if signal == libc::SIGCHLD {
                has_children = true;
            } else if heard.ssi_code <= 0 {
                let to = self.engine.as_ref().map(|engine| engine.pid).or_else(|| self.board.root());
                if let (Some(to), Ok(signal)) = (to, Signal::try_from(signal)) {
                    // Whoever is gone needs it no more.
                    let _ = kill(nix::unistd::Pid::from_raw(to.0), signal);
                }
            }
        }
        Ok(if has_children { self.reap() } else { None })
    }

    /// Waits for every child that has ended; gives the engine's wait status if it is one of them.
    fn reap(&mut self) -> Option<i32> {
        let mut of_engine = None;
        while let Some((pid, status)) = signal::reap_any() {
            if self.engine.as_ref().is_some_and(|engine| engine.pid == pid) {
                self.engine = None;
                of_engine = Some(status);
            } else if self.board.root() == Some(pid) {
                self.root_status = Some(status);
            }
        }
        of_engine
    }

    /// The engine's process has ended: gives what that means, or nothing if there is another one.
    fn engine_ended(&mut self, status: i32) -> io::Result<Option<Role>> {
        let is_orderly = self.board.stage() == Stage::Over || self.board.root().is_none();
        if is_orderly {
            return Ok(Some(Role::Guardian(exit_as(self.root_status.unwrap_or(status)))));
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
                Stage::Receiving | Stage::Over => return Ok(None),
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
        Ok(Role::Guardian(exit_as(self.root_status.unwrap_or(engine_status))))
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
