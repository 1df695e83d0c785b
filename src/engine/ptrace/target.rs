//! What is asked of an engine that attaches, what it answers, and what it refuses.
//!
//! All that an engine does later to processes that it did not start rests on what is refused here, so whoever allows more
//! has to think about who waits for whom: a process that reads what creance writes must not be one that it follows.

use std::{
    fs, io, iter,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU8, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    unistd::{geteuid, getpid},
};

use crate::{
    limits,
    sys::{
        Pid, Tid, cpu, process, procfs,
        ptrace::{self, PtraceError},
        signal::Kick,
    },
};

/// Which processes are attached to, and how.
#[derive(Debug)]
pub struct Target {
    /// The process.
    pub pid: Pid,
    /// Its descendants too.
    pub with_children: bool,
    /// The filter is put on them, so that other calls do not stop.
    pub with_filter: bool,
    /// By which the engine is asked to detach.
    pub release: Release,
    /// Where it is told what happens.
    pub notes: SyncSender<Note>,
}

/// What happens, for people.
#[derive(Debug)]
pub enum Note {
    /// So many threads of so many processes are attached to: none is missed from now on.
    Attached {
        /// Processes.
        processes: usize,
        /// Threads.
        threads: usize,
    },
    /// A descendant cannot be attached to.
    LeftOut(AttachError),
    /// The filter is on a process.
    Filtered {
        /// The process.
        pid: Pid,
        /// `no_new_privs` had to be set.
        no_new_privs: bool,
    },
    /// The filter is not on a process, and each call of it goes on to stop.
    Unfiltered(Pid, Unfiltered),
    /// So many threads were detached from. They go on as before.
    Detached(usize),
}

/// Why a filter is not put on a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfiltered {
    /// It is no 64-bit program.
    #[error("it does not run 64-bit x86 code")]
    Foreign,
    /// It has filters that we do not have, which might kill it for a call that it does not expect.
    #[error("it has put a seccomp filter on itself, which may kill it for the calls that this takes")]
    HasFilters,
    /// Its threads have different filters.
    #[error("its thread {0} has a seccomp filter that others lack")]
    Differs(i64),
    /// A call was refused.
    #[error("{0}: {1}")]
    Refused(&'static str, Errno),
    /// The kernel refused a request.
    #[error("{0}")]
    Request(PtraceError),
    /// The thread that was to do it was stopped again and again.
    #[error("the thread that was to do it was disturbed")]
    Disturbed,
}

/// A process cannot be attached to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is none.
    #[error("there is no process {0}")]
    None(Pid),
    /// It is a thread.
    #[error("{tid} is a thread of process {pid}: attach to that")]
    Thread {
        /// What was given.
        tid: Tid,
        /// Its process.
        pid: Pid,
    },
    /// It has ended.
    #[error("process {0} has ended")]
    Ended(Pid),
    /// It is this process, or what has started it.
    #[error("process {0} is creance itself, or has started it: each would wait for the other")]
    Own(Pid),
    /// It is part of the kernel.
    #[error("process {0} is a thread of the kernel")]
    Kernel(Pid),
    /// Somebody traces it.
    #[error(
        "process {pid} is traced already, by {name} ({tracer}): a thread has one tracer (TracerPid in /proc/{pid}/status)"
    )]
    Traced {
        /// The process.
        pid: Pid,
        /// Its tracer.
        tracer: Pid,
        /// The tracer's name.
        name: String,
    },
    /// It is not ours to trace.
    #[error("process {pid} may not be traced: {why}")]
    Refused {
        /// The process.
        pid: Pid,
        /// What is missing.
        why: &'static str,
    },
    /// The kernel said something else.
    #[error("attaching to process {pid}: {source}")]
    Seize {
        /// The process.
        pid: Pid,
        /// What.
        source: PtraceError,
    },
    /// The engine cannot be reached to be told to detach.
    #[error("catching the signal by which the engine is asked to detach: {0}")]
    Signal(#[source] Arc<io::Error>),
}

/// By which an engine that has attached is asked to detach: all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Release(Arc<Asking>);

#[derive(Debug, Default)]
struct Asking {
    /// The engine's thread; 0 until it can be reached.
    engine: AtomicI32,
    state: AtomicU8,
}

/// Nobody has asked.
const IDLE: u8 = 0;
/// Somebody has asked, and the engine has not heard.
const ASKED: u8 = 1;
/// It detaches.
const GRANTED: u8 = 2;
/// A filter is on the workload.
const BOUND: u8 = 3;

/// What becomes of the wish to detach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The engine detaches, or will as soon as it has attached.
    Granted,
    /// A filter is on the workload, whose calls would fail without a tracer.
    Bound,
}

impl Release {
    /// Asks the engine to detach, and waits until it has heard.
    #[must_use]
    pub fn ask(&self) -> Answer {
        let Asking { engine, state } = &*self.0;
        // All of these are Relaxed: nothing but the states themselves is told by them. One who is bound stays so.
        let asked = state.compare_exchange(IDLE, ASKED, Ordering::Relaxed, Ordering::Relaxed);
        let mut now = asked.map_or_else(|now| now, |_| ASKED);
        while now == ASKED {
            let tid = engine.load(Ordering::Relaxed);
            if tid != 0 {
                Kick::caught().kick(Tid(tid));
            }
            // The engine may just be about to wait: then the next one reaches it.
            thread::sleep(Duration::from_millis(limits::DETACH_ASK_MS));
            now = state.load(Ordering::Relaxed);
        }
        if now == BOUND { Answer::Bound } else { Answer::Granted }
    }

    /// Lets the calling thread, which is the engine's, be reached.
    pub(super) fn hear(&self) -> io::Result<()> {
        Kick::new()?.receive();
        self.0.engine.store(cpu::current_thread().0, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it has been asked for and is granted.
    pub(super) fn is_granted(&self) -> bool {
        let state = &self.0.state;
        state.compare_exchange(ASKED, GRANTED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A filter is about to be put on; tells whether it may be.
    pub(super) fn bind(&self) -> bool {
        let state = &self.0.state;
        let bound = state.compare_exchange(IDLE, BOUND, Ordering::Relaxed, Ordering::Relaxed);
        bound.is_ok() || bound == Err(BOUND)
    }

    /// It was not, and no other is.
    pub(super) fn unbind(&self) {
        // Whoever asked meanwhile has been told that it is bound.
        let _ = self.0.state.compare_exchange(BOUND, IDLE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The engine ends: nobody has to wait for it.
    pub(super) fn over(&self) {
        self.0.state.store(GRANTED, Ordering::Relaxed);
    }
}

/// Refuses what cannot or must not be attached to; else gives when the process was made.
///
/// # Errors
/// [`AttachError`]
pub(super) fn check(pid: Pid) -> Result<u64, AttachError> {
    let birth = procfs::birth(pid.leader()).ok_or(AttachError::None(pid))?;
    let relations = procfs::relations(pid.leader()).map_err(|_| AttachError::None(pid))?;
    if relations.process != pid {
        return Err(AttachError::Thread { tid: pid.leader(), pid: relations.process });
    }
    let parent = |pid: &Pid| procfs::relations(pid.leader()).ok().map(|relations| relations.parent);
    let own = Pid(getpid().as_raw());
    if iter::successors(Some(own), parent).take(limits::ANCESTORS_MAX).any(|ancestor| ancestor == pid) {
        return Err(AttachError::Own(pid));
    }
    if birth.is_kernel_thread {
        return Err(AttachError::Kernel(pid));
    }
    // The first thread of a process may end before the others.
    if birth.has_ended && procfs::threads(pid).len() < 2 {
        return Err(AttachError::Ended(pid));
    }
    traced(pid.leader(), pid).map_or(Ok(birth.start_ticks), Err)
}

/// Attaches to the first thread of a process, if it has not ended.
///
/// # Errors
/// [`AttachError`]
pub(super) fn seize_leader(pid: Pid) -> Result<(), AttachError> {
    if procfs::birth(pid.leader()).ok_or(AttachError::Ended(pid))?.has_ended {
        return Ok(());
    }
    ptrace::seize_to_let_go(pid.leader()).map_err(|error| explain(pid, error))
}

/// Whether somebody else than the calling thread traces a thread of a process.
pub(super) fn traced(tid: Tid, pid: Pid) -> Option<AttachError> {
    let tracer = i32::try_from(procfs::status_number(tid, "TracerPid")?).ok()?;
    if tracer == 0 || tracer == cpu::current_thread().0 {
        return None;
    }
    let mut name = [0; limits::NAME_BYTES_MAX];
    let (len, _) = procfs::read_text(Tid(tracer), "comm", &mut name).unwrap_or_default();
    let name = String::from_utf8_lossy(name.get(..len).unwrap_or_default()).trim_end().to_owned();
    let name = if name.is_empty() { "a process that is not seen from here".to_owned() } else { name };
    Some(AttachError::Traced { pid, tracer: Pid(tracer), name })
}

fn explain(pid: Pid, error: PtraceError) -> AttachError {
    match error {
        PtraceError::Gone { .. } => AttachError::Ended(pid),
        PtraceError::Refused { errno: Errno::EPERM, .. } => traced(pid.leader(), pid)
            .unwrap_or_else(|| AttachError::Refused { pid, why: what_is_missing(pid) }),
        source => AttachError::Seize { pid, source },
    }
}

/// Why PTRACE_SEIZE said EPERM (ptrace(2), "Ptrace access mode checking").
fn what_is_missing(pid: Pid) -> &'static str {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let scope = scope.ok().and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0);
    let is_own = procfs::status_number(pid.leader(), "Uid") == Some(i64::from(geteuid().as_raw()));
    let is_capable = process::has_capability(process::CAP_SYS_PTRACE) == Some(true);
    match scope {
        3.. => "kernel.yama.ptrace_scope is 3: this machine permits it to nobody",
        _ if is_capable => {
            "a security module (AppArmor, SELinux) forbids it, or it belongs to another user namespace"
        }
        2 => "kernel.yama.ptrace_scope is 2: CAP_SYS_PTRACE is needed",
        _ if !is_own => "it is another user's: be that user, or have CAP_SYS_PTRACE",
        1 => "kernel.yama.ptrace_scope is 1: only a descendant may be traced without CAP_SYS_PTRACE",
        _ => {
            "it is not dumpable, as after setuid, or has capabilities that creance lacks: CAP_SYS_PTRACE is needed"
        }
    }
}
