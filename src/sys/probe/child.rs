//! The throw-away child: it is asked what can be asked of one's own child, is traced, and puts a filter on itself.
//!
//! ```text
//! parent: clone, read its memory, seize, open the gate  ........ stop: ask, detach ... receive, CONTINUE ... reap
//! child:             wait for the gate, filter itself, getpgid (RET_TRACE)  getppid (USER_NOTIF)       _exit
//! ```
//!
//! As in `launch.rs`, the child shares our descriptor table, so that its listener is ours at once, and makes nothing but
//! plain system calls. It blocks every signal, dies with us, and is killed and reaped whatever happens.
#![expect(
    unsafe_code,
    reason = "a clone whose child makes raw system calls, and what seccomp(2) has no wrappers for"
)]

use std::{
    hint, io, mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    process,
    sync::atomic::{AtomicI32, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace as nix_ptrace,
        uio::{RemoteIoVec, process_vm_readv},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

use super::{Answer, Probe, Probes};
use crate::{
    abi::Abi,
    limits,
    sys::{
        Pid, futex,
        inherited::{block_signals, set_mask},
        notify::{Listener, Received},
        page::SharedPage,
        procfs,
        ptrace::{self, PtraceError},
        signal::PidFd,
        socket,
    },
};

/// How often the child is looked at while it is expected to stop.
const POLL: Duration = Duration::from_micros(50);

/// What is read from the child's memory. The child has it at the same address.
static MAGIC: [u8; 8] = *b"creance!";

const GATE_SHUT: u32 = 0;
const GATE_OPEN: u32 = 1;
const STAGE_FILTERED: u32 = 1;
const STAGE_DONE: u32 = 2;

/// The ways to put the filter on, the best first.
const ATTEMPTS: [libc::c_ulong; 3] = {
    let spec_allow = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let listener = spec_allow | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    [listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, listener, spec_allow]
};

/// The page that both share. Zeroes are its start. All but `gate` and `stage` is Relaxed: the Release of `stage`
/// publishes it.
#[repr(C)]
struct Page {
    gate: AtomicU32,
    stage: AtomicU32,
    /// The errno of each attempt + 1; 0 for one that was not made.
    attempts: [AtomicI32; ATTEMPTS.len()],
    /// The errno that made the child set `no_new_privs`; 0 for none.
    privileges: AtomicI32,
    /// The listener's descriptor + 1; 0 for none.
    listener: AtomicI32,
    /// What getppid(2) gave the child.
    parent: AtomicI32,
}

/// Asks what takes a child. Where none can be made, nothing is answered.
pub(super) fn run(probes: &mut Probes) {
    // SAFETY: zeroes are a page at its start, and all its fields are atomics.
    let Ok(page) = (unsafe { SharedPage::<Page>::map() }) else { return };
    let Ok(mut child) = Child::spawn(&page) else { return };
    let deadline = Instant::now() + Duration::from_millis(limits::PROBE_MS_MAX);
    let pid = child.pid;
    probes.set(Probe::Proc, Answer::of(procfs::relations(pid.leader())));
    probes.set(Probe::ProcessVmReadv, Answer::of(read_by_call(pid)));
    probes.set(Probe::ProcMem, Answer::of(read_by_file(pid)));
    let pidfd = PidFd::open(pid);
    if let Ok(pidfd) = &pidfd {
        // The descriptor itself is in the table that the child shares.
        probes.set(Probe::PidfdGetfd, Answer::of(socket::duplicate(pid, pidfd.as_raw_fd())));
    }
    let seized = ptrace::seize(pid.leader());
    // Release: pairs with the Acquire in `live`.
    page.gate.store(GATE_OPEN, Ordering::Release);
    // A wake that fails leaves the child to its deadline.
    let _ = futex::wake_one(&page.gate);
    let traced = if seized.is_ok() { trace(probes, &mut child, deadline) } else { Answer::Untried };
    probes.set(Probe::Seize, seized.map_or_else(|error| refused(&error), |()| Answer::Yes));
    filter(probes, &page, pid, deadline);
    // Without a filter nothing could be reported.
    let is_filtered = probes.answer(Probe::Filter) == Answer::Yes;
    probes.set(Probe::Trace, if is_filtered { traced } else { Answer::Untried });
    child.end();
    if let Ok(pidfd) = &pidfd {
        probes.set(Probe::PidfdExitInfo, exit_info(pidfd));
    }
    probes.set(Probe::PidfdOpen, Answer::of(pidfd));
}

fn refused(error: &PtraceError) -> Answer {
    match error {
        PtraceError::Refused { errno, .. } => Answer::No(Some(*errno)),
        PtraceError::Gone { .. } | PtraceError::Stale { .. } => Answer::No(Some(Errno::ESRCH)),
    }
}

fn read_by_call(pid: Pid) -> nix::Result<()> {
    let mut bytes = [0; MAGIC.len()];
    let there = [RemoteIoVec { base: MAGIC.as_ptr().addr(), len: MAGIC.len() }];
    let read = process_vm_readv(nix(pid), &mut [io::IoSliceMut::new(&mut bytes)], &there)?;
    if read == MAGIC.len() && bytes == MAGIC { Ok(()) } else { Err(Errno::EIO) }
}

fn read_by_file(pid: Pid) -> io::Result<()> {
    let mut bytes = [0; MAGIC.len()];
    let there = u64::try_from(MAGIC.as_ptr().addr()).map_err(|_| Errno::EFAULT)?;
    procfs::open(pid.leader(), "mem")?.read_exact_at(&mut bytes, there)?;
    if bytes == MAGIC { Ok(()) } else { Err(Errno::EIO.into()) }
}

/// Waits for the stop at getpgid(2), asks about it, and lets the child go; tells whether it has come.
fn trace(probes: &mut Probes, child: &mut Child, deadline: Instant) -> Answer {
    let answer = child.wait_traced(deadline);
    if answer == Answer::Yes {
        let info = nix_ptrace::syscall_info(nix(child.pid));
        let is_seccomp = info.map(|info| info.op == libc::PTRACE_SYSCALL_INFO_SECCOMP);
        let known = is_seccomp.map_or_else(|errno| Answer::No(Some(errno)), Answer::of_bool);
        probes.set(Probe::SyscallInfo, known);
    }
    // A child that runs or is gone cannot be detached from, and need not be.
    let _ = nix_ptrace::detach(nix(child.pid), None);
    answer
}

/// What came of the filter, and of a call that it reports to its listener.
fn filter(probes: &mut Probes, page: &Page, pid: Pid, deadline: Instant) {
    if !page.wait(STAGE_FILTERED, deadline) {
        return;
    }
    let [killable, listener, plain] =
        page.attempts.each_ref().map(|attempt| match attempt.load(Ordering::Relaxed) {
            0 => Answer::Untried,
            1 => Answer::Yes,
            errno => Answer::No(Some(Errno::from_raw(errno - 1))),
        });
    let has = |answer| answer == Answer::Yes;
    let listens = if has(killable) { killable } else { listener };
    probes.set(Probe::Filter, if has(listens) { listens } else { plain });
    if !has(listens) && !has(plain) {
        return;
    }
    let privileges = match page.privileges.load(Ordering::Relaxed) {
        0 => Answer::Yes,
        errno => Answer::No(Some(Errno::from_raw(errno))),
    };
    probes.set(Probe::FilterKeepsPrivileges, privileges);
    probes.set(Probe::Listener, listens);
    // What refuses both listeners says nothing of how the one would wait.
    probes.set(Probe::WaitKillable, if killable == listener { Answer::Untried } else { killable });
    let fd = page.listener.load(Ordering::Relaxed) - 1;
    if fd < 0 {
        return;
    }
    // SAFETY: the child made this descriptor in the table that it shares with us, and never touches it again; nobody
    // else knows of it.
    let listener = unsafe { OwnedFd::from_raw_fd(fd) };
    let listener = match Listener::new(listener) {
        Ok(listener) => listener,
        Err(error) => return probes.set(Probe::Notification, Answer::of(Err::<(), _>(error))),
    };
    probes.set(Probe::SyncWakeUp, Answer::of(listener.set_sync_wake_up(true)));
    let answered = answer_notification(&listener, pid, deadline).and_then(|()| {
        let is_done = page.wait(STAGE_DONE, deadline);
        let parent = page.parent.load(Ordering::Relaxed);
        if is_done && parent == process::id().cast_signed() { Ok(()) } else { Err(Errno::ETIMEDOUT.into()) }
    });
    probes.set(Probe::Notification, Answer::of(answered));
}

/// Receives the child's one notification, and lets the call go on.
fn answer_notification(listener: &Listener, pid: Pid, deadline: Instant) -> io::Result<()> {
    if !listener.has_call(deadline.saturating_duration_since(Instant::now())) {
        return Err(Errno::ETIMEDOUT.into());
    }
    match listener.receive()? {
        Received::Call(call) if call.tid != pid.leader() => Err(Errno::EPROTO.into()),
        Received::Call(call) if listener.let_go(call.id) => Ok(()),
        // The child blocks every signal: it is gone.
        Received::Call(_) | Received::Nothing => Err(Errno::ENOENT.into()),
    }
}

/// Asks how a process ended that has been reaped.
fn exit_info(pidfd: &PidFd) -> Answer {
    pidfd
        .status_after_wait()
        .map_or_else(|error| Answer::of(Err::<(), _>(error)), |status| Answer::of_bool(status.is_some()))
}

impl Page {
    /// Waits until the child has come as far as `stage`; tells whether it has.
    fn wait(&self, stage: u32, deadline: Instant) -> bool {
        loop {
            // Acquire: pairs with the Releases of the child.
            let now = self.stage.load(Ordering::Acquire);
            let left = deadline.saturating_duration_since(Instant::now());
            if now >= stage || left.is_zero() {
                return now >= stage;
            }
            // Whatever ended the sleep, the loop looks again.
            let _ = futex::wait(&self.stage, now, left);
        }
    }

    /// The child has come as far as `stage`.
    fn reach(&self, stage: u32) {
        // Release: pairs with the Acquire in `wait`.
        self.stage.store(stage, Ordering::Release);
        let _ = futex::wake_one(&self.stage);
    }
}

/// A child that lives until this is dropped.
struct Child {
    pid: Pid,
    is_reaped: bool,
}

impl Child {
    fn spawn(page: &Page) -> io::Result<Self> {
        let program = program();
        let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
        // Our handlers must not run in the child.
        let mask = block_signals();
        // No signal tells of its end: so an inherited SIGCHLD that is ignored does not reap it before we do.
        // SAFETY: without CLONE_VM this is a fork: the child runs on a copy of this stack, and in `live` it makes
        // nothing but plain system calls until it exits.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES, 0, 0, 0, 0) };
        if pid == 0 {
            live(page, &program);
        }
        let error = io::Error::last_os_error();
        set_mask(&mask);
        match i32::try_from(pid) {
            Ok(pid) if pid > 0 => Ok(Self { pid: Pid(pid), is_reaped: false }),
            _ => Err(error),
        }
    }

    /// Waits until a call is reported to us as its tracer.
    fn wait_traced(&mut self, deadline: Instant) -> Answer {
        loop {
            match waitpid(nix(self.pid), Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::StillAlive) if Instant::now() < deadline => thread::sleep(POLL),
                Ok(WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_SECCOMP)) => return Answer::Yes,
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                    self.is_reaped = true;
                    return Answer::No(None);
                }
                Ok(_) => return Answer::No(None),
                Err(errno) => return Answer::No(Some(errno)),
            }
        }
    }

    /// Kills and reaps it.
    fn end(&mut self) {
        if mem::replace(&mut self.is_reaped, true) {
            return;
        }
        // SAFETY: kill takes integers; this is our child, which has not been reaped.
        unsafe { libc::kill(self.pid.0, libc::SIGKILL) };
        // A tracee has a stop to tell of before its end, at most.
        while let Ok(WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)) | Err(Errno::EINTR) =
            waitpid(nix(self.pid), Some(WaitPidFlag::__WALL))
        {
            hint::spin_loop();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// A filter that reports getpgid(2) to a tracer and getppid(2) to a listener.
fn program() -> [libc::sock_filter; 8] {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let offset = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let number = |nr: libc::c_long| u32::try_from(nr).unwrap_or(u32::MAX);
    [
        step(LOAD, offset(mem::offset_of!(libc::seccomp_data, arch)), 0, 0),
        step(JUMP, Abi::NATIVE.audit_arch(), 0, 3),
        step(LOAD, offset(mem::offset_of!(libc::seccomp_data, nr)), 0, 0),
        step(JUMP, number(libc::SYS_getpgid), 2, 0),
        step(JUMP, number(libc::SYS_getppid), 2, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(RETURN, libc::SECCOMP_RET_TRACE, 0, 0),
        step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
    ]
}

/// The child's whole life. Nothing here may allocate, lock or panic.
fn live(page: &Page, program: &libc::sock_fprog) -> ! {
    // SAFETY: this prctl takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    let bound = Duration::from_millis(limits::PROBE_MS_MAX);
    let deadline = Instant::now() + bound;
    // Acquire: pairs with the Release in `run`.
    while page.gate.load(Ordering::Acquire) == GATE_SHUT && Instant::now() < deadline {
        let _ = futex::wait(&page.gate, GATE_SHUT, bound);
    }
    put_on(page, program);
    page.reach(STAGE_FILTERED);
    // SAFETY: both take integers only.
    unsafe { libc::syscall(libc::SYS_getpgid, 0) };
    // SAFETY: as above.
    let parent = unsafe { libc::syscall(libc::SYS_getppid) };
    page.parent.store(i32::try_from(parent).unwrap_or(-1), Ordering::Relaxed);
    page.reach(STAGE_DONE);
    // SAFETY: _exit runs no handlers and never returns.
    unsafe { libc::_exit(0) }
}

/// Puts the filter on in the best way that the kernel takes.
fn put_on(page: &Page, program: &libc::sock_fprog) {
    for (flags, attempt) in ATTEMPTS.into_iter().zip(&page.attempts) {
        let mut result = put_on_with(flags, program);
        if result == Err(libc::EACCES) && page.privileges.swap(libc::EACCES, Ordering::Relaxed) == 0 {
            // SAFETY: this prctl takes integers only.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            result = put_on_with(flags, program);
        }
        attempt.store(result.err().unwrap_or(0).wrapping_add(1), Ordering::Relaxed);
        if let Ok(fd) = result {
            if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
                page.listener.store(fd.wrapping_add(1), Ordering::Relaxed);
            }
            return;
        }
    }
}

/// Gives the listener's descriptor, where one was asked for, or an errno.
fn put_on_with(flags: libc::c_ulong, program: &libc::sock_fprog) -> Result<i32, i32> {
    // SAFETY: `program` points to `len` instructions, which the kernel copies before it returns.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program) };
    match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
    }
}

const fn nix(pid: Pid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid.0)
}
