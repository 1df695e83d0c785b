//! The engine's own thread: it starts the workers, hears of the ends of processes, and sees to it that somebody receives
//! calls even when the workers wait for calls that do not return.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    thread::{self, Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use crossbeam::channel::{self, Receiver, Sender};
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout},
};

use super::{
    shared::Shared,
    worker::{Kept, Worker},
};
use crate::{
    limits,
    ring::ProducerMemory,
    sys::{
        Pid,
        guard::Guarded,
        procfs,
        signal::{self, PidFd},
    },
};

/// Data of the epoll set that are no pid.
const LISTENER: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;
const GUARDIAN: u64 = u64::MAX - 2;

/// How often a worker is interrupted that shall end, and how often we look for the end of a process that is near.
const END_POLL: Duration = Duration::from_micros(200);

/// See the module.
pub(super) struct Keeper<'scope, 'env, M: ProducerMemory> {
    shared: &'env Shared<M>,
    ends: Arc<Epoll>,
    scope: &'scope Scope<'scope, 'env>,
    channel: (Sender<Kept>, Receiver<Kept>),
    workers: Vec<ScopedJoinHandle<'scope, ()>>,
    /// Workers wait for calls to return, and we look whether they get on.
    is_watching: bool,
    /// What is left of the workload is killed.
    is_ending: bool,
}

impl<'scope, 'env: 'scope, M: ProducerMemory + Send + Sync> Keeper<'scope, 'env, M> {
    /// A keeper of the processes whose pidfds are in `ends`.
    pub(super) fn new(shared: &'env Shared<M>, ends: Arc<Epoll>, scope: &'scope Scope<'scope, 'env>) -> Self {
        // Without room: a call is taken at once by a thread that has nothing else to do, or goes to a new one.
        let channel = channel::bounded(0);
        Self { shared, ends, scope, channel, workers: Vec::new(), is_watching: false, is_ending: false }
    }

    /// Keeps the engine going with so many workers, until the last process has ended; gives the wait status of the first
    /// one.
    ///
    /// # Errors
    /// What epoll(7) or the start of a thread says.
    pub(super) fn run(mut self, workers: usize) -> io::Result<i32> {
        let kept = self.keep(workers);
        self.shared.end();
        for worker in self.workers.drain(..) {
            // The interruption is lost on a worker that is between two calls.
            while !worker.is_finished() {
                self.shared.kick_all();
                thread::sleep(END_POLL);
            }
        }
        kept?;
        self.await_ends();
        let told = || self.shared.root_status.get().copied();
        // Of an adopted workload the guardian knows it.
        Ok(told().unwrap_or_else(|| if self.shared.is_child { await_end(self.shared.root, told) } else { 0 }))
    }

    fn keep(&mut self, workers: usize) -> io::Result<()> {
        let event = |flags, data| EpollEvent::new(flags, data);
        self.ends.add(self.shared.listener.as_fd(), event(EpollFlags::EPOLLHUP, LISTENER))?;
        self.ends.add(self.shared.alarm().as_fd(), event(EpollFlags::EPOLLIN, ALARM))?;
        let guardian = self.shared.guarded.as_ref().filter(|guarded| !guarded.outlives_us);
        let guardian = guardian.map(|guarded| PidFd::open(guarded.guardian)).transpose()?;
        if let Some(guardian) = &guardian {
            self.ends.add(guardian.as_fd(), event(EpollFlags::EPOLLIN, GUARDIAN))?;
        }
        self.start_worker()?;
        // One is enough to go on.
        while self.workers.len() < workers && self.start_worker().is_ok() {}
        let mut events = [EpollEvent::empty(); 64];
        while !self.shared.is_over() {
            let stall = u16::try_from(limits::STALL_MS).unwrap_or(u16::MAX);
            let timeout = match (self.is_ending, self.is_watching) {
                (true, _) => EpollTimeout::from(1_u8),
                (false, true) => EpollTimeout::from(stall),
                // Whoever is left ends unheard of.
                (false, false) if !self.shared.book().hears_of_ends() => EpollTimeout::from(stall),
                (false, false) => EpollTimeout::NONE,
            };
            let heard = match self.ends.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                heard => heard?,
            };
            let mut may_have_orphans = heard == 0;
            for event in events.iter().take(heard) {
                match event.data() {
                    LISTENER => self.shared.end(),
                    GUARDIAN => {
                        self.is_ending = true;
                        // It has told all that it can.
                        let _ = guardian.as_ref().map(|guardian| self.ends.delete(guardian.as_fd()));
                    }
                    ALARM => {
                        // Whatever it holds, it is looked at now.
                        let _ = self.shared.alarm().read();
                        self.is_watching = true;
                    }
                    pid => {
                        self.end(Pid(i32::try_from(pid).unwrap_or(0)));
                        may_have_orphans = true;
                    }
                }
            }
            if may_have_orphans {
                self.reap_orphans();
            }
            if self.is_watching {
                self.watch();
            }
            if self.is_ending {
                // Again, since they fork meanwhile.
                self.shared.book().kill();
            }
        }
        Ok(())
    }

    /// Hears of the ends of the last processes. They have given up the filter, but may not be dead yet.
    fn await_ends(&mut self) {
        for fd in [self.shared.listener.as_fd(), self.shared.alarm().as_fd()] {
            // Whatever it still tells, nobody waits for it.
            let _ = self.ends.delete(fd);
        }
        let since = Instant::now();
        let bound = Duration::from_millis(limits::LAST_ENDS_MS_MAX);
        let mut events = [EpollEvent::empty(); 64];
        while since.elapsed() <= bound && !self.shared.book().pids().is_empty() {
            let heard = self.ends.wait(&mut events, EpollTimeout::from(10_u8)).unwrap_or(0);
            let ended = events.iter().take(heard).filter_map(|event| i32::try_from(event.data()).ok());
            ended.for_each(|pid| self.end(Pid(pid)));
        }
        // Not in the loop's head, where the book would stay locked.
        let left = self.shared.book().pids();
        left.into_iter().for_each(|pid| self.end(pid));
    }

    /// Looks whether the workers get on.
    fn watch(&mut self) {
        let (waiting, stalled) = self.shared.look_at_waiters();
        if waiting == 0 {
            self.is_watching = !self.shared.rest();
        } else if stalled > 0 && waiting == self.workers.len() && waiting < usize::from(limits::WORKERS_MAX) {
            // Should no thread be had for it, the next look tries again.
            let _ = self.start_worker();
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let (shared, slot, channel, scope) =
            (self.shared, self.workers.len(), self.channel.clone(), self.scope);
        let run = move || Worker::new(shared, slot, channel).run(scope);
        let started = thread::Builder::new().name("worker".into()).spawn_scoped(scope, run)?;
        self.workers.push(started);
        Ok(())
    }

    /// A process has ended.
    fn end(&mut self, pid: Pid) {
        let zombie = procfs::status_before_wait(pid);
        let status = signal::reap(pid).or(zombie).or_else(|| self.told_by_guardian(pid));
        self.note_end(pid, status);
    }

    /// A process has ended, with this wait status (wait(2)) if it is known.
    fn note_end(&mut self, pid: Pid, status: Option<i32>) {
        let mut book = self.shared.book();
        if pid == self.shared.root {
            self.is_ending |= self.shared.guarded.as_ref().is_some_and(Guarded::is_first_process);
            if let Some(status) = status {
                self.shared.note_root_status(status);
            }
            if self.shared.is_launching.load(Ordering::Acquire) {
                // It was never the workload.
                return book.forget(pid);
            }
        }
        book.end(pid, status);
    }

    /// Waits for the processes that had ended before their parents left them to us, of which nothing tells again. Before Linux
    /// 6.11 a process is under its filter until somebody has waited for it, so that the workload would not be over before.
    fn reap_orphans(&mut self) {
        for pid in procfs::adopted() {
            if let Some(status) = signal::reap(pid) {
                self.note_end(pid, Some(status));
            }
        }
    }

    /// How the first process of an adopted workload has ended, for which the guardian waits.
    fn told_by_guardian(&self, pid: Pid) -> Option<i32> {
        let guarded = self.shared.guarded.as_ref()?;
        (pid == self.shared.root && !self.shared.is_child).then(|| guarded.board.root_status()).flatten()
    }
}

/// Waits for the end of our child, which is near, or until somebody else has been told of it.
pub(super) fn await_end(pid: Pid, told: impl Fn() -> Option<i32>) -> i32 {
    loop {
        if let Some(status) = signal::reap(pid).or_else(&told) {
            return status;
        }
        thread::sleep(END_POLL);
    }
}
