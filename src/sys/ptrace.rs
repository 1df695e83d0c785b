//! ptrace(2) with stops as values: a thread that stands still is a [`Stopped`], and the only way to let it go on
//! is to consume it.
//!
//! All of this must be called on the thread that seized the tracees: the kernel ties ptrace to it. Read the
//! section "Attaching and detaching" and "Stopped states" of ptrace(2) before you edit.
#![expect(unsafe_code, reason = "signals here include the real-time ones, which nix has no type for")]

mod detour;
mod way_back;

use std::{cell::Cell, io, mem, ptr};

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
};

pub use detour::{CAN_SET_ARGUMENTS, Detour, Ended, Late, NotBegun};
pub use way_back::{CODE_OFFSET, HAS_WAY_BACK, WAY_BACK_BYTES, WayBack, code as way_back_code};

use super::{Pid, RemoteAddr, Tid};
use crate::abi::{Abi, SyscallNr};

/// What a seized tracee reports, and that it dies with us.
const OPTIONS: i32 = libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_EXITKILL;

/// A request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PtraceError {
    /// The thread is no more, or no longer stands still because it was killed. Its end will be reported by
    /// [`wait`].
    #[error("thread {tid} is gone")]
    Gone {
        /// The thread.
        tid: Tid,
    },
    /// The thread stands still for another reason than the one that was reported: it was killed, and another thread has
    /// taken its id by an exec. That stop will be reported by [`wait`] too.
    #[error("thread {tid} is another one by now")]
    Stale {
        /// The thread.
        tid: Tid,
    },
    /// The kernel refused.
    #[error("ptrace request {request} on thread {tid}: {errno}")]
    Refused {
        /// The request.
        request: &'static str,
        /// The thread.
        tid: Tid,
        /// Why.
        errno: Errno,
    },
}

/// Attaches to a thread without stopping it (PTRACE_SEIZE); its children are attached to as well.
///
/// # Errors
/// [`PtraceError`]: `EPERM` if the thread is not ours to trace or has a tracer.
pub fn seize(tid: Tid) -> Result<(), PtraceError> {
    request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, libc::c_long::from(OPTIONS))
}

/// Attaches to a thread as [`seize`] does, but it lives on if we die.
///
/// # Errors
/// [`PtraceError`]: `EPERM` if the thread is not ours to trace, has a tracer or has ended.
pub fn seize_to_let_go(tid: Tid) -> Result<(), PtraceError> {
    request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, libc::c_long::from(OPTIONS & !libc::PTRACE_O_EXITKILL))
}

/// What a thread is attached to for, for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Its result.
    Result,
    /// Its result, or the program that it starts.
    Exec,
    /// The process that it makes, which is attached to as well.
    Fork,
}

/// Attaches to a thread for one call, without stopping it. It lives on if we die.
///
/// # Errors
/// [`PtraceError`]: `EPERM` if the thread is not ours to trace or has a tracer.
pub fn seize_for(tid: Tid, watch: Watch) -> Result<(), PtraceError> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | match watch {
            Watch::Result => 0,
            Watch::Exec => libc::PTRACE_O_TRACEEXEC,
            Watch::Fork => libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK,
        };
    request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, libc::c_long::from(options))
}

/// Makes a thread that is attached to stop ([`StopKind::Trap`]) before it returns to user mode (PTRACE_INTERRUPT).
///
/// # Errors
/// [`PtraceError`]
pub fn interrupt(tid: Tid) -> Result<(), PtraceError> {
    request("PTRACE_INTERRUPT", libc::PTRACE_INTERRUPT, tid, 0)
}

/// Waits as [`wait`] does for threads that are attached to for one call; `None` if a signal came. A [`Stopped`] that is
/// dropped is detached from.
///
/// # Errors
/// As [`wait`].
pub fn wait_attached() -> io::Result<Option<Waited>> {
    wait_with(-1, 0, LetGo::Detach)
}

/// Lets every thread go that the calling thread is still attached to: one that was killed while it stood still, whose end
/// nobody else hears of before us (ptrace(2), "Death under ptrace"), and the child of one that was killed while it made it.
/// Tells of the ends. The calling thread must hold no [`Stopped`], or it waits for ever.
pub fn detach_rest(mut ended: impl FnMut(Tid, i32)) {
    loop {
        match wait_attached() {
            Ok(Some(Waited::NoTracees)) | Err(_) => return,
            Ok(Some(Waited::Ended(tid, status))) => ended(tid, status),
            // A stop is let go by being dropped.
            Ok(Some(Waited::Stopped(..)) | None) => {}
        }
    }
}

/// What [`wait`] saw.
#[derive(Debug)]
pub enum Waited {
    /// A thread stands still.
    Stopped(Stopped, StopKind),
    /// A thread has ended, with this wait status (wait(2)).
    Ended(Tid, i32),
    /// No tracee is left.
    NoTracees,
}

/// Why a thread stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopKind {
    /// The filter trapped a call, which has not begun.
    Seccomp,
    /// A call has returned. Comes only after [`Resume::ToExit`].
    SyscallExit,
    /// It made another thread or process: [`Stopped::event_message`] is its tid.
    Created,
    /// It runs a new program: [`Stopped::event_message`] is the tid that it had before.
    Exec,
    /// A signal is about to be delivered.
    Signal(i32),
    /// It is in a group-stop, by this signal.
    Group(i32),
    /// It is new, or a group-stop has ended.
    Trap,
}

/// Waits until a thread that this thread traces stands still or ends.
///
/// # Errors
/// What waitpid(2) says, other than that there are no children and that a signal came.
pub fn wait() -> io::Result<Waited> {
    loop {
        if let Some(waited) = wait_with(-1, 0, LetGo::Continue)? {
            return Ok(waited);
        }
    }
}

/// As [`wait`], but does not wait on after a signal of our own: `None` if one came.
///
/// # Errors
/// As [`wait`].
pub fn wait_or_signal() -> io::Result<Option<Waited>> {
    wait_with(-1, 0, LetGo::Continue)
}

/// Whether a tracee has something new to tell. That stays to be waited for.
#[must_use]
pub fn has_news(tid: Tid) -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    let look = look | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    let waited = waitid(Id::Pid(nix::unistd::Pid::from_raw(tid.0)), look);
    waited != Ok(WaitStatus::StillAlive)
}

/// Waits for this one thread; `None` if it is not attached to, or is no more.
///
/// # Errors
/// As [`wait`].
pub fn wait_for(tid: Tid) -> io::Result<Option<Waited>> {
    loop {
        match wait_with(tid.0, 0, LetGo::ToCall)? {
            Some(Waited::NoTracees) => return Ok(None),
            Some(waited) => return Ok(Some(waited)),
            None => {}
        }
    }
}

/// As [`wait`], but does not wait: `None` if nothing has happened.
///
/// # Errors
/// As [`wait`].
pub fn poll() -> io::Result<Option<Waited>> {
    wait_with(-1, libc::WNOHANG, LetGo::Continue)
}

/// As [`poll`], but looks at one thread only, which since Linux 5.13 takes the same time however many there are. `None` as
/// well if it is not ours.
///
/// # Errors
/// As [`wait`].
pub fn poll_one(tid: Tid) -> io::Result<Option<Waited>> {
    if tid.0 <= 0 {
        // waitpid(2) would take it for others.
        return Ok(None);
    }
    let waited = wait_with(tid.0, libc::WNOHANG, LetGo::Continue)?;
    Ok(waited.filter(|waited| !matches!(waited, Waited::NoTracees)))
}

fn wait_with(which: libc::pid_t, options: i32, let_go: LetGo) -> io::Result<Option<Waited>> {
    let mut status = 0;
    // SAFETY: `status` is a local that outlives the call. __WNOTHREAD keeps children of other threads of this
    // process out: they are not ours.
    let tid = unsafe { libc::waitpid(which, &raw mut status, options | libc::__WALL | libc::__WNOTHREAD) };
    match tid {
        1.. => Ok(Some(waited(Tid(tid), status, let_go))),
        0 => Ok(None),
        _ => match Errno::last() {
            Errno::EINTR => Ok(None),
            Errno::ECHILD => Ok(Some(Waited::NoTracees)),
            errno => Err(errno.into()),
        },
    }
}

fn waited(tid: Tid, status: i32, let_go: LetGo) -> Waited {
    if !libc::WIFSTOPPED(status) {
        return Waited::Ended(tid, status);
    }
    let signal = libc::WSTOPSIG(status);
    let kind = match status >> 16 {
        libc::PTRACE_EVENT_SECCOMP => StopKind::Seccomp,
        libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => StopKind::Created,
        libc::PTRACE_EVENT_EXEC => StopKind::Exec,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => StopKind::Group(signal),
        // An event that was not asked for cannot come; if it does, the thread simply goes on.
        event if event != 0 => StopKind::Trap,
        // PTRACE_O_TRACESYSGOOD sets bit 7 for the stops of system calls.
        _ if signal == libc::SIGTRAP | 0x80 => StopKind::SyscallExit,
        _ => StopKind::Signal(signal),
    };
    Waited::Stopped(Stopped { tid, let_go: Cell::new(let_go) }, kind)
}

/// How a thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Until something happens (PTRACE_CONT).
    Free,
    /// Until the call that it is in has returned, at the latest (PTRACE_SYSCALL).
    ToExit,
    /// It stays in its group-stop, but SIGCONT is reported (PTRACE_LISTEN).
    Listen,
}

/// A thread that stands still. Nobody else can let it go on, so a value that is dropped resumes it freely.
#[derive(Debug)]
#[must_use = "the thread stands still until it is resumed"]
pub struct Stopped {
    tid: Tid,
    let_go: Cell<LetGo>,
}

/// What happens to a [`Stopped`] that is dropped.
#[derive(Debug, Clone, Copy)]
enum LetGo {
    /// The thread goes on.
    Continue,
    /// It goes on to its next call.
    ToCall,
    /// It goes on, and is no longer attached to.
    Detach,
    /// Nothing: the stop has turned out to be another one, whose own value resumes the thread.
    Nothing,
}

impl Stopped {
    /// Which thread.
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.tid
    }

    /// Lets the thread go on, with `signal` delivered to it unless that is 0.
    ///
    /// # Errors
    /// [`PtraceError::Gone`] if it was killed where it stood.
    pub fn resume(self, how: Resume, signal: i32) -> Result<(), PtraceError> {
        let tid = self.tid;
        mem::forget(self);
        let (name, code) = match how {
            Resume::Free => ("PTRACE_CONT", libc::PTRACE_CONT),
            Resume::ToExit => ("PTRACE_SYSCALL", libc::PTRACE_SYSCALL),
            Resume::Listen => ("PTRACE_LISTEN", libc::PTRACE_LISTEN),
        };
        request(name, code, tid, libc::c_long::from(signal))
    }

    /// Says that a thread whose stop is dropped must stop at its next call still.
    pub fn keep_its_calls(&self) {
        self.let_go.set(LetGo::ToCall);
    }

    /// Says that the thread is to be killed if we die (PTRACE_O_EXITKILL).
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn die_with_us(&self) -> Result<(), PtraceError> {
        request("PTRACE_SETOPTIONS", libc::PTRACE_SETOPTIONS, self.tid, libc::c_long::from(OPTIONS))
    }

    /// Detaches from the thread, which goes on with `signal` delivered to it unless that is 0, or stays in its group-stop.
    ///
    /// # Errors
    /// [`PtraceError::Gone`] if it was killed where it stood.
    pub fn detach(self, signal: i32) -> Result<(), PtraceError> {
        let tid = self.tid;
        mem::forget(self);
        request("PTRACE_DETACH", libc::PTRACE_DETACH, tid, libc::c_long::from(signal))
    }

    /// The call that the filter trapped, at [`StopKind::Seccomp`], and where the next instruction is. Its ABI is what the
    /// kernel says, not what the code segment suggests.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn trapped_call(&self) -> Result<(Call, RemoteAddr), PtraceError> {
        let info = self.syscall_info()?;
        if info.op != libc::PTRACE_SYSCALL_INFO_SECCOMP {
            return Err(self.stale());
        }
        // SAFETY: `op` says that the kernel filled in this member of the union; all of it are plain integers.
        let call = unsafe { info.u.seccomp };
        // The register is 64 bits wide, but the kernel looks at 32 of them (seccomp(2), `struct seccomp_data`).
        let nr = SyscallNr(u32::try_from(call.nr & u64::from(u32::MAX)).unwrap_or(u32::MAX));
        let call = Call { abi: Abi::of_call(info.arch, nr), nr, arguments: call.args };
        Ok((call, RemoteAddr(info.instruction_pointer)))
    }

    /// The call that is about to begin, at a [`StopKind::SyscallExit`] that is none: see [`Self::is_at_entry`]. `None` if it
    /// is one.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn call_at_entry(&self) -> Result<Option<Call>, PtraceError> {
        let info = self.syscall_info()?;
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return Ok(None);
        }
        // SAFETY: `op` says that the kernel filled in this member of the union; all of it are plain integers.
        let call = unsafe { info.u.entry };
        let nr = SyscallNr(u32::try_from(call.nr & u64::from(u32::MAX)).unwrap_or(u32::MAX));
        Ok(Some(Call { abi: Abi::of_call(info.arch, nr), nr, arguments: call.args }))
    }

    /// The result of the call that has returned, at [`StopKind::SyscallExit`]: the value, or `-errno`.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn call_result(&self) -> Result<i64, PtraceError> {
        let info = self.syscall_info()?;
        if info.op != libc::PTRACE_SYSCALL_INFO_EXIT {
            return Err(self.stale());
        }
        // SAFETY: `op` says that the kernel filled in this member of the union; all of it are plain integers.
        Ok(unsafe { info.u.exit }.sval)
    }

    /// Whether a call is about to begin, at a [`StopKind::SyscallExit`]: after [`Resume::ToExit`] from a stop outside of a
    /// call the next call stops at its entry first, and only this tells the two apart.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn is_at_entry(&self) -> Result<bool, PtraceError> {
        self.syscall_info().map(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
    }

    /// What the registers hold of the last call: its number, and its result, at a stop on the way back to user mode.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn last_call(&self) -> Result<(SyscallNr, i64), PtraceError> {
        let registers = self.registers()?;
        Ok((number_of_registers(&registers), result_of_registers(&registers)))
    }

    /// Sets which signals the thread blocks, signal N in bit N - 1; gives those that it blocked before
    /// (PTRACE_GETSIGMASK, PTRACE_SETSIGMASK).
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn replace_signal_mask(&self, mask: u64) -> Result<u64, PtraceError> {
        let mut before = 0_u64;
        self.signal_mask("PTRACE_GETSIGMASK", libc::PTRACE_GETSIGMASK, &raw mut before)?;
        let mut mask = mask;
        self.signal_mask("PTRACE_SETSIGMASK", libc::PTRACE_SETSIGMASK, &raw mut mask)?;
        Ok(before)
    }

    fn signal_mask(&self, name: &'static str, code: libc::c_uint, mask: *mut u64) -> Result<(), PtraceError> {
        // SAFETY: the kernel reads or writes eight bytes, as it is told, at `mask`, a local of the caller's.
        let done = unsafe { libc::ptrace(code, self.tid.0, size_of::<u64>(), mask) };
        if done == 0 { Ok(()) } else { Err(self.error(name, Errno::last())) }
    }

    /// The call that the thread is in, from its registers. For stops inside a call that are not the filter's.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn call_in_registers(&self) -> Result<Call, PtraceError> {
        let arch = self.syscall_info()?.arch;
        Ok(call_of_registers(&self.registers()?, arch))
    }

    pub(super) fn registers(&self) -> Result<libc::user_regs_struct, PtraceError> {
        nix::sys::ptrace::getregs(self.nix_pid()).map_err(|errno| self.error("PTRACE_GETREGS", errno))
    }

    pub(super) fn set_registers(&self, registers: libc::user_regs_struct) -> Result<(), PtraceError> {
        nix::sys::ptrace::setregs(self.nix_pid(), registers)
            .map_err(|errno| self.error("PTRACE_SETREGS", errno))
    }

    /// Writes one word into its memory (PTRACE_POKEDATA), in the order of these bytes.
    pub(super) fn poke(
        &self,
        addr: RemoteAddr,
        word: [u8; size_of::<libc::c_long>()],
    ) -> Result<(), PtraceError> {
        let at = usize::try_from(addr.0).map_err(|_| self.refused("PTRACE_POKEDATA", Errno::EFAULT))?;
        nix::sys::ptrace::write(
            self.nix_pid(),
            ptr::without_provenance_mut(at),
            libc::c_long::from_ne_bytes(word),
        )
        .map_err(|errno| self.error("PTRACE_POKEDATA", errno))
    }

    /// The number that came with the stop (PTRACE_GETEVENTMSG), as a thread id.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn event_message(&self) -> Result<Tid, PtraceError> {
        let message = nix::sys::ptrace::getevent(self.nix_pid())
            .map_err(|errno| self.error("PTRACE_GETEVENTMSG", errno))?;
        i32::try_from(message).map(Tid).map_err(|_| self.refused("PTRACE_GETEVENTMSG", Errno::ERANGE))
    }

    fn syscall_info(&self) -> Result<libc::ptrace_syscall_info, PtraceError> {
        nix::sys::ptrace::syscall_info(self.nix_pid())
            .map_err(|errno| self.error("PTRACE_GET_SYSCALL_INFO", errno))
    }

    const fn nix_pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.tid.0)
    }

    fn stale(&self) -> PtraceError {
        self.let_go.set(LetGo::Nothing);
        PtraceError::Stale { tid: self.tid }
    }

    /// Gives up a stop that is another one by now: see [`PtraceError::Stale`].
    pub fn give_up(self) {
        self.let_go.set(LetGo::Nothing);
    }

    const fn refused(&self, request: &'static str, errno: Errno) -> PtraceError {
        PtraceError::Refused { request, tid: self.tid, errno }
    }

    fn error(&self, request: &'static str, errno: Errno) -> PtraceError {
        if errno == Errno::ESRCH { PtraceError::Gone { tid: self.tid } } else { self.refused(request, errno) }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A failure means that the thread is gone, which `wait` reports.
        let _ = match self.let_go.get() {
            LetGo::Continue => request("PTRACE_CONT", libc::PTRACE_CONT, self.tid, 0),
            LetGo::ToCall => request("PTRACE_SYSCALL", libc::PTRACE_SYSCALL, self.tid, 0),
            LetGo::Detach => request("PTRACE_DETACH", libc::PTRACE_DETACH, self.tid, 0),
            LetGo::Nothing => Ok(()),
        };
    }
}

/// One word of the memory of a thread that stands still (PTRACE_PEEKDATA), in the order of its bytes.
///
/// # Errors
/// `EIO` or `EFAULT` where nothing is mapped, `ESRCH` if it does not stand still or is not ours.
pub fn peek(tid: Tid, addr: RemoteAddr) -> Result<[u8; size_of::<libc::c_long>()], Errno> {
    let at = usize::try_from(addr.0).map_err(|_| Errno::EFAULT)?;
    let tid = nix::unistd::Pid::from_raw(tid.0);
    nix::sys::ptrace::read(tid, ptr::without_provenance_mut(at)).map(libc::c_long::to_ne_bytes)
}

/// A system call as its registers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which table its number belongs to.
    pub abi: Abi,
    /// Its number.
    pub nr: SyscallNr,
    /// Its argument registers.
    pub arguments: [u64; 6],
}

#[cfg(target_arch = "x86_64")]
fn number_of_registers(r: &libc::user_regs_struct) -> SyscallNr {
    SyscallNr(u32::try_from(r.orig_rax & u64::from(u32::MAX)).unwrap_or(u32::MAX))
}

#[cfg(target_arch = "aarch64")]
fn number_of_registers(r: &libc::user_regs_struct) -> SyscallNr {
    SyscallNr(u32::try_from(r.regs[8] & u64::from(u32::MAX)).unwrap_or(u32::MAX))
}

#[cfg(target_arch = "x86_64")]
const fn result_of_registers(r: &libc::user_regs_struct) -> i64 {
    r.rax.cast_signed()
}

#[cfg(target_arch = "aarch64")]
const fn result_of_registers(r: &libc::user_regs_struct) -> i64 {
    r.regs[0].cast_signed()
}

#[cfg(target_arch = "x86_64")]
fn call_of_registers(r: &libc::user_regs_struct, arch: u32) -> Call {
    let nr = number_of_registers(r);
    let abi = Abi::of_call(arch, nr);
    let arguments = if abi == Abi::I386 {
        [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp].map(|register| register & u64::from(u32::MAX))
    } else {
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
    };
    Call { abi, nr, arguments }
}

#[cfg(target_arch = "aarch64")]
fn call_of_registers(r: &libc::user_regs_struct, arch: u32) -> Call {
    let nr = number_of_registers(r);
    let [a, b, c, d, e, f, ..] = r.regs;
    Call { abi: Abi::of_call(arch, nr), nr, arguments: [a, b, c, d, e, f] }
}

fn request(name: &'static str, code: libc::c_uint, tid: Tid, data: libc::c_long) -> Result<(), PtraceError> {
    // SAFETY: these requests take integers in `data` and no memory of ours.
    let done = unsafe { libc::ptrace(code, tid.0, ptr::null_mut::<libc::c_void>(), data) };
    if done == 0 {
        return Ok(());
    }
    match Errno::last() {
        Errno::ESRCH => Err(PtraceError::Gone { tid }),
        errno => Err(PtraceError::Refused { request: name, tid, errno }),
    }
}
