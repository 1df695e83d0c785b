//! The hot pair: carries out what `placement.rs` decides, by setting affinities (sched_setaffinity(2)).
//!
//! The duty is that nothing of it remains: what a thread could run on before, it can run on after, whatever happened in
//! between, and no thread or program that it makes inherits anything else. Before you edit, read what is said at
//! [`Pinned`] and [`Pair::introduced`].
//!
//! The engine waits in waitpid(2), which knows no time-out, so a second thread, the watcher, looks whether the pair has
//! gone quiet. It sleeps for as long as no pair is stuck.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::placement::{Placement, Step};
use crate::{
    limits,
    sys::{
        Tid,
        cpu::{self, CpuBudget, CpuSet},
        process,
    },
};

/// Whether placement has a use here and can always be undone.
///
/// An affinity can be set of threads with our user id, or by `CAP_SYS_NICE`. Without it a program that changes the user
/// would get away stuck; but programs can do so only if we had no need to set `no_new_privs`, thanks to `CAP_SYS_ADMIN`.
/// The calls that change the user are trapped: see [`super::Wanted::with_placement`].
#[must_use]
pub fn can_place() -> bool {
    let has = |capability| process::has_capability(capability) == Some(true);
    CpuBudget::of_this_process().cpus > 1 && (has(process::CAP_SYS_NICE) || !has(process::CAP_SYS_ADMIN))
}

/// The tracing thread, and the tracee that it may be stuck to. Dropping it parts them.
#[derive(Debug)]
pub(super) struct Pair {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the watcher.
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    placement: Placement,
    tracer: Tid,
    /// The tracee and the tracer.
    stuck: Option<(Pinned, Pinned)>,
    /// The tracee that was parted from last. What it was making at that moment may have inherited its CPU.
    parted: Option<Pinned>,
    /// The watcher sleeps until it is woken.
    is_asleep: bool,
    is_over: bool,
}

impl Pair {
    /// Places the calling thread, which is the tracer.
    ///
    /// # Errors
    /// If no thread can be made.
    pub(super) fn new() -> io::Result<Self> {
        let state = State {
            placement: Placement::default(),
            tracer: cpu::current_thread(),
            stuck: None,
            parted: None,
            is_asleep: false,
            is_over: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
        let watched = Arc::clone(&shared);
        let watcher = thread::Builder::new().name("placement".into()).spawn(move || watched.watch())?;
        Ok(Self { shared, watcher: Some(watcher) })
    }

    /// A thread stands still, for any reason but a new program.
    pub(super) fn stopped(&self, tid: Tid, at: Instant) {
        let mut state = self.shared.lock();
        let step = state.placement.stopped(tid, at);
        state.part_if(step);
    }

    /// It stands at the entry of a call, which may show where it is placed. Tells whether it has been stuck now.
    pub(super) fn entered(&self, tid: Tid, is_shown: bool) -> bool {
        let mut state = self.shared.lock();
        let step = state.placement.entered(tid, is_shown);
        state.part_if(step);
        // It is about to begin a call, so it is not in the middle of making a thread.
        state.parted.take_if(|parted| parted.tid == tid);
        if step != Step::Stick {
            return false;
        }
        state.stuck = stick(tid, state.tracer);
        let is_stuck = state.stuck.is_some();
        if !is_stuck {
            state.placement.refused();
        } else if state.is_asleep {
            self.shared.wake.notify_one();
        }
        is_stuck
    }

    /// A thread has been made, and has not run yet. `creator` is `None` if it is not known.
    ///
    /// The kernel has copied the creator's affinity at some moment of the call that made the thread. What the creator had
    /// until it was parted from, even if that is over, therefore counts as well.
    pub(super) fn introduced(&self, creator: Option<Tid>, tid: Tid) {
        let mut state = self.shared.lock();
        if let Some(creator) = creator {
            let step = state.placement.changed(creator);
            state.part_if(step);
        }
        let Some(parted) = state.parted.filter(|parted| creator.is_none_or(|creator| creator == parted.tid))
        else {
            return;
        };
        // A creator that has this one CPU still, or again, was given it by somebody else, and so was its child.
        if cpu::affinity(parted.tid) != Ok(parted.to) {
            Pinned { tid, ..parted }.undo();
        }
    }

    /// A thread, whose id was `former`, stands still because it runs a new program.
    pub(super) fn renamed(&self, former: Tid, tid: Tid, at: Instant) {
        let mut state = self.shared.lock();
        if let Some(parted) = state.parted.take_if(|parted| [former, tid].contains(&parted.tid))
            && parted.tid == former
            && !parted.is_undone
        {
            Pinned { tid, ..parted }.undo();
        }
        if let Some((tracee, _)) = &mut state.stuck {
            if tracee.tid == former {
                tracee.tid = tid;
            } else if tracee.tid == tid {
                // The old leader has vanished, and is found no more by this id, which nobody has now.
                tracee.tid = former;
            }
        }
        let step = state.placement.stopped(tid, at);
        state.part_if(step);
        let step = state.placement.changed(tid);
        state.part_if(step);
    }

    /// A thread has ended.
    pub(super) fn ended(&self, tid: Tid) {
        let mut state = self.shared.lock();
        let step = state.placement.changed(tid);
        state.part_if(step);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        state.part();
        drop(state);
        self.shared.wake.notify_one();
        // It has nothing left to do, whether it panicked or not.
        let _ = self.watcher.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the watcher.
    fn watch(&self) {
        let mut state = self.lock();
        while !state.is_over {
            if state.stuck.is_none() {
                state.is_asleep = true;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.is_asleep = false;
                continue;
            }
            let look = Duration::from_millis(limits::PLACEMENT_LOOK_MS);
            // If it wakes early it only looks early.
            state = self.wake.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
            let step = state.placement.looked();
            state.part_if(step);
        }
    }
}

impl State {
    fn part_if(&mut self, step: Step) {
        if step == Step::Part {
            self.part();
        }
    }

    fn part(&mut self) {
        if let Some((mut tracee, mut tracer)) = self.stuck.take() {
            tracee.undo();
            tracer.undo();
            self.parted = Some(tracee);
        }
    }
}

/// Brings the tracer to where the tracee, which stands still, ran last, and keeps both there; `None` if it cannot be, and
/// then nothing has changed.
fn stick(tracee: Tid, tracer: Tid) -> Option<(Pinned, Pinned)> {
    let cpu = cpu::last_cpu(tracee).ok()?;
    // Whoever bound the tracer to other CPUs shall be heeded.
    cpu::affinity(tracer).ok()?.is_set(cpu).ok().filter(|&is_set| is_set)?;
    let to = cpu::only(cpu).ok()?;
    let mut tracee = Pinned::pin(tracee, to).ok()?;
    match Pinned::pin(tracer, to) {
        Ok(tracer) => Some((tracee, tracer)),
        Err(_) => {
            tracee.undo();
            None
        }
    }
}

/// A thread that has been given one CPU, and what it had before.
///
/// An affinity that equals the whole cpuset is not the same as none: since Linux 6.2 the kernel remembers what was asked
/// for (`user_cpus_ptr`), and a thread that was given two CPUs keeps to these two when its cpuset grows to four. A thread
/// that may use its whole cpuset is therefore given back all CPUs there can be.
#[derive(Debug, Clone, Copy)]
struct Pinned {
    tid: Tid,
    to: CpuSet,
    before: CpuSet,
    is_undone: bool,
}

impl Pinned {
    fn pin(tid: Tid, to: CpuSet) -> Result<Self, Errno> {
        let allowed = cpu::affinity(tid)?;
        cpu::set_affinity(tid, &cpu::all())?;
        let is_unbound = cpu::affinity(tid) == Ok(allowed);
        let pinned =
            Self { tid, to, before: if is_unbound { cpu::all() } else { allowed }, is_undone: false };
        if let Err(errno) = cpu::set_affinity(tid, &to) {
            pinned.restore();
            return Err(errno);
        }
        Ok(pinned)
    }

    /// Gives the thread back what it had, unless somebody else has changed that meanwhile.
    fn undo(&mut self) {
        self.is_undone = match cpu::affinity(self.tid) {
            Ok(present) => present != self.to || self.restore(),
            Err(_) => false,
        };
    }

    fn restore(&self) -> bool {
        // If its cpuset has none of these CPUs any more, it is left to that.
        cpu::set_affinity(self.tid, &self.before).is_ok() || cpu::set_affinity(self.tid, &cpu::all()).is_ok()
    }
}
