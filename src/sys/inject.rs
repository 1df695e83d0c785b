//! Calls that a thread makes in our place: it stands still outside of any call, makes them, and stands where it stood, with
//! all that it had.
//!
//! ```text
//! begin   the thread stands where the kernel is about to return to user mode: interrupted, or in a group-stop. Keep its
//!         registers, and block its signals: a handler would run in the middle
//! call    point it at the instruction by which it made its last call, with the registers of ours; follow it through
//! end     have it interrupted again, so that it stands at the same place of the kernel; give back what it had
//! ```
//!
//! The end matters most. A call that the interruption cut short, as the thread was waiting in it, begins again by what the
//! kernel makes of its registers *after* such a stop (`-ERESTARTSYS` and its like in the place of the result,
//! `arch_do_signal_or_restart`). So they must be given back there and not where our own call ends: then a handler that
//! comes meanwhile does to that call what it would have done, and a sleep goes on for the rest of its time
//! (restart_syscall(2)), which none of the calls made here touches.
//!
//! Only for native code: a 32-bit program makes its calls by other instructions and numbers. Before you edit, read "Signal
//! injection and suppression", "Group-stop" and "Syscall-stops" in ptrace(2).

use std::{io, mem::offset_of};

use nix::errno::Errno;

use super::{
    RemoteAddr, Tid, call_site,
    ptrace::{self, PtraceError, Resume, StopKind, Stopped, Waited},
};
use crate::limits;

/// All signals but those that cannot be blocked (signal(7)).
const ALL_SIGNALS: u64 = u64::MAX;

/// Why a thread cannot make calls for us where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHere {
    /// It has not just come out of a call, so that the instruction is not at hand. It may be at its next stop.
    NoCall,
    /// It runs code of another architecture, or this one is not known here.
    Foreign,
}

/// What happened to a thread in the midst of our calls.
#[derive(Debug)]
pub enum Lost {
    /// It has ended, or runs another program: what was waited for, which somebody still has to serve.
    Waited(Waited),
    /// It is gone, or it was refused.
    Request(PtraceError),
    /// waitpid(2) failed.
    Wait(io::Error),
}

impl From<PtraceError> for Lost {
    fn from(error: PtraceError) -> Self {
        Self::Request(error)
    }
}

/// A thread that makes calls for us.
#[derive(Debug)]
pub struct Guest {
    stop: Stopped,
    registers: libc::user_regs_struct,
    mask: u64,
}

/// How putting a filter on went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtered {
    /// All threads of the process have it.
    Yes {
        /// `no_new_privs` had to be set.
        no_new_privs: bool,
    },
    /// A thread has a filter that the others lack (seccomp(2), `SECCOMP_FILTER_FLAG_TSYNC`).
    Differs(i64),
    /// The kernel, or a filter that is there already, refused this call.
    Refused(&'static str, Errno),
}

/// Lets the call that a thread was interrupted in begin again (x86: only the kernel does it, of what it finds there). For
/// calls that fail with EINTR whenever they are interrupted, even by us. As after any other, a handler that comes meanwhile
/// fails it with EINTR.
///
/// # Errors
/// [`PtraceError`]
#[cfg(target_arch = "x86_64")]
pub fn begin_again(stop: &Stopped) -> Result<(), PtraceError> {
    /// `ERESTARTNOHAND` (linux/errno.h).
    const AGAIN_WITHOUT_HANDLER: i64 = -514;
    let registers = stop.registers()?;
    stop.set_registers(libc::user_regs_struct { rax: AGAIN_WITHOUT_HANDLER.cast_unsigned(), ..registers })
}

/// See the other one: here the kernel has decided before it stops.
#[cfg(not(target_arch = "x86_64"))]
pub fn begin_again(_stop: &Stopped) -> Result<(), PtraceError> {
    Ok(())
}

impl Guest {
    /// Takes a thread over that stands at a [`StopKind::Trap`] or [`StopKind::Group`].
    ///
    /// # Errors
    /// The stop as it is, and why it cannot be.
    pub fn begin(stop: Stopped) -> Result<Self, (Stopped, Result<NotHere, PtraceError>)> {
        let not_here = |stop, why| Err((stop, Ok(why)));
        let registers = match stop.registers() {
            Ok(registers) => registers,
            Err(error) => return Err((stop, Err(error))),
        };
        if !is_native(&registers) {
            return not_here(stop, NotHere::Foreign);
        }
        if !is_after_call(stop.tid(), &registers) {
            return not_here(stop, NotHere::NoCall);
        }
        match stop.replace_signal_mask(ALL_SIGNALS) {
            Ok(mask) => Ok(Self { stop, registers, mask }),
            Err(error) => Err((stop, Err(error))),
        }
    }

    /// Has the thread put a filter on its whole process (`SECCOMP_FILTER_FLAG_TSYNC`), with `no_new_privs` only if it must
    /// be.
    ///
    /// # Errors
    /// [`Lost`]
    pub fn put_filter(self, filter: &[libc::sock_filter]) -> Result<(Self, Filtered), Lost> {
        let bytes = (size_of_val(filter) + size_of::<libc::sock_fprog>()) as u64;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let map = [0, bytes, number(writable), number(private), u64::MAX, 0];
        let (guest, mapped) = self.call(libc::SYS_mmap, map)?;
        if let Some(errno) = errno_of(mapped) {
            return Ok((guest, Filtered::Refused("mmap", errno)));
        }
        let program = RemoteAddr(mapped.cast_unsigned());
        guest.write_program(program, filter)?;
        let (guest, filtered) = guest.put_written(program)?;
        // What is left there if this fails is as good as nothing.
        let (guest, _) = guest.call(libc::SYS_munmap, [program.0, bytes, 0, 0, 0, 0])?;
        Ok((guest, filtered))
    }

    fn put_written(self, program: RemoteAddr) -> Result<(Self, Filtered), Lost> {
        let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        let put = [mode, flags, program.0, 0, 0, 0];
        let (guest, done) = self.call(libc::SYS_seccomp, put)?;
        if errno_of(done) != Some(Errno::EACCES) {
            return Ok((guest, filtered(done, false)));
        }
        let no_new_privs = [number(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0, 0];
        let (guest, done) = guest.call(libc::SYS_prctl, no_new_privs)?;
        if let Some(errno) = errno_of(done) {
            return Ok((guest, Filtered::Refused("prctl", errno)));
        }
        let (guest, done) = guest.call(libc::SYS_seccomp, put)?;
        Ok((guest, filtered(done, true)))
    }

    /// Writes a `struct sock_fprog` and, behind it, its instructions.
    fn write_program(&self, at: RemoteAddr, filter: &[libc::sock_filter]) -> Result<(), PtraceError> {
        const POINTER: u64 = offset_of!(libc::sock_fprog, filter) as u64;
        const HEAD: u64 = size_of::<libc::sock_fprog>() as u64;
        let count = u64::try_from(filter.len()).unwrap_or(u64::MAX);
        self.stop.poke(at, count.to_ne_bytes())?;
        self.stop.poke(at.plus(POINTER), at.plus(HEAD).0.to_ne_bytes())?;
        let mut at = at.plus(HEAD);
        for instruction in filter {
            let ([c0, c1], [k0, k1, k2, k3]) = (instruction.code.to_ne_bytes(), instruction.k.to_ne_bytes());
            self.stop.poke(at, [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3])?;
            at = at.plus(size_of::<libc::sock_filter>() as u64);
        }
        Ok(())
    }

    /// Has the thread make one call; gives its result.
    fn call(self, nr: libc::c_long, arguments: [u64; 6]) -> Result<(Self, i64), Lost> {
        let Self { stop, registers, mask } = self;
        stop.set_registers(call_site::before_call(&registers, nr, arguments))?;
        let stop = next_call_stop(stop)?;
        // It comes in and out.
        let stop = next_call_stop(stop)?;
        let result = stop.call_result()?;
        Ok((Self { stop, registers, mask }, result))
    }

    /// Gives the thread back what it had, where the kernel is about to return to user mode.
    ///
    /// # Errors
    /// [`Lost`]
    pub fn end(self) -> Result<(Stopped, StopKind), Lost> {
        let Self { mut stop, registers, mask } = self;
        let mut signal = 0;
        for _ in 0..limits::INJECTION_STOPS_MAX {
            // Any other stop takes the place of the one that is asked for.
            ptrace::interrupt(stop.tid())?;
            let (next, kind) = next_stop(stop, signal)?;
            signal = match kind {
                StopKind::Trap | StopKind::Group(_) => {
                    next.set_registers(registers)?;
                    next.replace_signal_mask(mask)?;
                    return Ok((next, kind));
                }
                // SIGSTOP cannot be blocked.
                StopKind::Signal(signal) => signal,
                _ => 0,
            };
            stop = next;
        }
        Err(Lost::Wait(io::ErrorKind::TimedOut.into()))
    }
}

/// Lets a thread go on to the next stop at the entry or the exit of a call.
fn next_call_stop(mut stop: Stopped) -> Result<Stopped, Lost> {
    let mut signal = 0;
    for _ in 0..limits::INJECTION_STOPS_MAX {
        let (next, kind) = next_stop(stop, signal)?;
        signal = match kind {
            StopKind::SyscallExit => return Ok(next),
            StopKind::Signal(signal) => signal,
            // A group-stop is taken up again at the end, and a filter that traps our call is of no concern.
            _ => 0,
        };
        stop = next;
    }
    Err(Lost::Wait(io::ErrorKind::TimedOut.into()))
}

fn next_stop(stop: Stopped, signal: i32) -> Result<(Stopped, StopKind), Lost> {
    let tid = stop.tid();
    stop.resume(Resume::ToExit, signal)?;
    match ptrace::wait_for(tid).map_err(Lost::Wait)? {
        Some(Waited::Stopped(stop, kind)) if kind != StopKind::Exec => Ok((stop, kind)),
        Some(waited) => Err(Lost::Waited(waited)),
        None => Err(Lost::Request(PtraceError::Gone { tid })),
    }
}

fn filtered(done: i64, no_new_privs: bool) -> Filtered {
    match (done, errno_of(done)) {
        (_, Some(errno)) => Filtered::Refused("seccomp", errno),
        (0, _) => Filtered::Yes { no_new_privs },
        (thread, _) => Filtered::Differs(thread),
    }
}

/// The errno of a failed call.
fn errno_of(result: i64) -> Option<Errno> {
    let errno = i32::try_from(-result).ok().filter(|errno| (1..4096).contains(errno))?;
    Some(Errno::from_raw(errno))
}

fn number(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// Whether the thread runs 64-bit code.
#[cfg(target_arch = "x86_64")]
const fn is_native(registers: &libc::user_regs_struct) -> bool {
    /// `__USER_CS` (asm/segment.h).
    const CODE_64: u64 = 0x33;
    registers.cs == CODE_64
}

/// Whether the kernel was entered by the instruction `syscall` before the next one.
#[cfg(target_arch = "x86_64")]
fn is_after_call(tid: Tid, registers: &libc::user_regs_struct) -> bool {
    registers.orig_rax.cast_signed() >= 0 && call_site::is_behind_call(tid, registers)
}

#[cfg(not(target_arch = "x86_64"))]
const fn is_native(_registers: &libc::user_regs_struct) -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
const fn is_after_call(_tid: Tid, _registers: &libc::user_regs_struct) -> bool {
    false
}
