//! A detour: a thread that stands at the entry of a call makes other calls for us first, and then begins its own anew as
//! if nothing had been. And single argument registers that are changed for one call.
//!
//! The first call of ours takes the place of the thread's own. Each further one, and at last its own, is made by the same
//! instruction, to which the thread is set back. So it may run an instruction that another thread has changed meanwhile,
//! and never come back by itself: every wait here is bounded, and ends with an interruption. Signals are blocked on the
//! way, and come after it. Only x86_64 can do it.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::{Pid, PtraceError, RemoteAddr, Resume, StopKind, Stopped, Tid, Waited, interrupt, poll_one};
use crate::{limits, sys::procfs};

/// How long the answer of a call is awaited without sleeping. It takes some microseconds.
const SPIN: Duration = Duration::from_micros(300);

/// How long is slept between two looks after that.
const NAP: Duration = Duration::from_micros(50);

/// A thread on its detour.
#[derive(Debug)]
pub struct Detour {
    tid: Tid,
    /// `None` once it is lost.
    stop: Option<Stopped>,
    lost: Option<Waited>,
    original: libc::user_regs_struct,
    mask: u64,
    is_at_entry: bool,
}

/// A detour was not begun. The thread stands where it stood.
#[derive(Debug)]
pub struct NotBegun(pub Stopped);

impl Detour {
    /// Begins one, at a [`StopKind::Seccomp`] of a call of the native ABI.
    ///
    /// # Errors
    /// [`NotBegun`] if the thread does not stand behind an instruction that makes such a call, or the kernel refuses.
    pub fn begin(stop: Stopped) -> Result<Self, NotBegun> {
        let Ok(original) = stop.registers() else { return Err(NotBegun(stop)) };
        if !is_behind_call(stop.tid, &original) {
            return Err(NotBegun(stop));
        }
        let Ok(mask) = stop.replace_signal_mask(u64::MAX) else { return Err(NotBegun(stop)) };
        Ok(Self { tid: stop.tid, stop: Some(stop), lost: None, original, mask, is_at_entry: true })
    }

    /// Makes a call; its result, or `-errno`. `None` if the thread is lost or did not make it.
    pub fn call(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Option<i64> {
        let stop = self.stop.take()?;
        let registers = with_call(self.original, (number, arguments), self.is_at_entry);
        if stop.set_registers(registers).is_err() {
            self.stop = Some(stop);
            return None;
        }
        let mut has_begun = self.is_at_entry;
        self.is_at_entry = false;
        self.resume(stop);
        // An entry, the filter's stop, and the exit; and a few for group-stops.
        for _ in 0..limits::DETOUR_STOPS_MAX {
            let kind = self.wait()?;
            let stop = self.stop.take()?;
            match kind {
                StopKind::Seccomp => has_begun = true,
                StopKind::SyscallExit => match stop.call_result_or_entry() {
                    Ok(Some(result)) if has_begun => {
                        self.stop = Some(stop);
                        return Some(result);
                    }
                    Ok(_) => has_begun = true,
                    Err(_) => {
                        self.stop = Some(stop);
                        return None;
                    }
                },
                // A fault, since signals are blocked: somebody plays with the thread's code.
                StopKind::Signal(_) | StopKind::Exec | StopKind::Created => {
                    self.stop = Some(stop);
                    return None;
                }
                StopKind::Group(_) | StopKind::Trap => {}
            }
            self.resume(stop);
        }
        None
    }

    fn resume(&self, stop: Stopped) {
        // If it is gone, the wait tells.
        let _ = stop.resume(Resume::ToExit, 0);
    }

    /// Waits for the thread's next stop; `None` if it is lost.
    fn wait(&mut self) -> Option<StopKind> {
        for _ in 0..limits::DETOUR_INTERRUPTIONS_MAX {
            match self.wait_once() {
                Ok(Some(Waited::Stopped(stop, kind))) if kind != StopKind::Exec => {
                    self.stop = Some(stop);
                    return Some(kind);
                }
                // With a new program it is another thread, which has taken its id.
                Ok(Some(waited)) => {
                    self.lost = Some(waited);
                    return None;
                }
                Ok(None) => {}
                Err(_) => return None,
            }
            let is_over = procfs::status_before_wait(Pid(self.tid.0)).is_some();
            if is_over || interrupt(self.tid).is_err() {
                return None;
            }
        }
        None
    }

    fn wait_once(&self) -> io::Result<Option<Waited>> {
        let start = Instant::now();
        loop {
            if let Some(waited) = poll_one(self.tid)? {
                return Ok(Some(waited));
            }
            let elapsed = start.elapsed();
            if elapsed > Duration::from_millis(limits::DETOUR_MS_MAX) {
                return Ok(None);
            } else if elapsed > SPIN {
                thread::sleep(NAP);
            } else {
                thread::yield_now();
            }
        }
    }

    /// Writes into the thread's memory. The page must be writable for it.
    #[must_use]
    pub fn write(&self, addr: RemoteAddr, words: &[u64]) -> bool {
        let mut at = addr;
        words.iter().all(|&word| {
            let is_written = poke(self.tid, at, word);
            at = at.plus(8);
            is_written
        })
    }

    /// Reads one word of the thread's memory.
    #[must_use]
    pub fn read(&self, addr: RemoteAddr) -> Option<u64> {
        super::peek(self.tid, addr).ok().map(u64::from_ne_bytes)
    }

    /// Lets the thread make its own call anew. What it stopped or ended for, if it was lost on the way.
    #[must_use]
    pub fn end(mut self) -> Option<Waited> {
        if let Some(stop) = self.stop.take() {
            let registers = if self.is_at_entry { self.original } else { back_to_call(self.original) };
            // If it is gone, its end will be reported.
            let _ = stop.set_registers(registers);
            let _ = stop.replace_signal_mask(self.mask);
            let _ = stop.resume(Resume::Free, 0);
        }
        self.lost
    }
}

impl Stopped {
    /// The result of the call that has returned; `None` if one is about to begin.
    fn call_result_or_entry(&self) -> Result<Option<i64>, PtraceError> {
        if self.is_at_entry()? { Ok(None) } else { self.call_result().map(Some) }
    }
}

/// Puts a word into the memory of a thread that stands still; tells whether it could be.
fn poke(tid: Tid, addr: RemoteAddr, word: u64) -> bool {
    let Ok(at) = usize::try_from(addr.0) else { return false };
    let pid = nix::unistd::Pid::from_raw(tid.0);
    nix::sys::ptrace::write(pid, std::ptr::without_provenance_mut(at), word.cast_signed()).is_ok()
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::{RemoteAddr, Tid};
    use crate::sys::ptrace::peek;

    /// Bytes of the instruction `syscall`.
    const CALL_BYTES: u64 = 2;

    /// Whether the instruction before is `syscall`.
    pub(super) fn is_behind_call(tid: Tid, registers: &libc::user_regs_struct) -> bool {
        let at = registers.rip.wrapping_sub(CALL_BYTES);
        // The word that holds it may reach into the next page, so it is read by its aligned words.
        let byte = |at: u64| {
            let word = peek(tid, RemoteAddr(at & !7)).ok()?;
            word.get(usize::try_from(at & 7).ok()?).copied()
        };
        byte(at) == Some(0x0f) && byte(at.wrapping_add(1)) == Some(0x05)
    }

    /// Registers that make a call: the one that has not begun if it stands at an entry, else by the instruction before.
    pub(super) fn with_call(
        original: libc::user_regs_struct,
        (number, arguments): (libc::c_long, [u64; 6]),
        is_at_entry: bool,
    ) -> libc::user_regs_struct {
        let number = u64::from_ne_bytes(number.to_ne_bytes());
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let registers = libc::user_regs_struct { rdi, rsi, rdx, r10, r8, r9, ..original };
        if is_at_entry {
            libc::user_regs_struct { orig_rax: number, ..registers }
        } else {
            let rip = original.rip.wrapping_sub(CALL_BYTES);
            libc::user_regs_struct { rax: number, orig_rax: u64::MAX, rip, ..registers }
        }
    }

    /// Registers that make the original call.
    pub(super) fn back_to_call(original: libc::user_regs_struct) -> libc::user_regs_struct {
        let rip = original.rip.wrapping_sub(CALL_BYTES);
        libc::user_regs_struct { rax: original.orig_rax, orig_rax: u64::MAX, rip, ..original }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    use super::Tid;

    pub(super) const fn is_behind_call(_: Tid, _: &libc::user_regs_struct) -> bool {
        false
    }

    pub(super) const fn with_call(
        original: libc::user_regs_struct,
        _: (libc::c_long, [u64; 6]),
        _: bool,
    ) -> libc::user_regs_struct {
        original
    }

    pub(super) const fn back_to_call(original: libc::user_regs_struct) -> libc::user_regs_struct {
        original
    }
}

use arch::{back_to_call, is_behind_call, with_call};

/// Whether calls can be given other arguments here.
pub const CAN_SET_ARGUMENTS: bool = cfg!(target_arch = "x86_64");

impl Stopped {
    /// Sets an argument register of the call of the native ABI that the thread stands at or has made.
    ///
    /// # Errors
    /// [`PtraceError`]
    #[cfg(target_arch = "x86_64")]
    pub fn set_argument(&self, index: u8, value: u64) -> Result<(), PtraceError> {
        use std::mem::offset_of;
        let offset = match index {
            0 => offset_of!(libc::user_regs_struct, rdi),
            1 => offset_of!(libc::user_regs_struct, rsi),
            2 => offset_of!(libc::user_regs_struct, rdx),
            3 => offset_of!(libc::user_regs_struct, r10),
            4 => offset_of!(libc::user_regs_struct, r8),
            _ => offset_of!(libc::user_regs_struct, r9),
        };
        self.poke_user(offset, value)
    }

    /// Not on this architecture.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn set_argument(&self, _index: u8, _value: u64) -> Result<(), PtraceError> {
        Err(self.refused("PTRACE_POKEUSER", nix::errno::Errno::ENOSYS))
    }

    /// Makes the call that the thread stands at fail with this errno without being made, at a [`StopKind::Seccomp`].
    ///
    /// # Errors
    /// [`PtraceError`]
    #[cfg(target_arch = "x86_64")]
    pub fn refuse_call(&self, errno: i32) -> Result<(), PtraceError> {
        use std::mem::offset_of;
        self.poke_user(offset_of!(libc::user_regs_struct, rax), i64::from(-errno).cast_unsigned())?;
        self.poke_user(offset_of!(libc::user_regs_struct, orig_rax), u64::MAX)
    }

    /// Not on this architecture.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn refuse_call(&self, _errno: i32) -> Result<(), PtraceError> {
        Err(self.refused("PTRACE_POKEUSER", nix::errno::Errno::ENOSYS))
    }

    #[cfg(target_arch = "x86_64")]
    fn poke_user(&self, offset: usize, value: u64) -> Result<(), PtraceError> {
        let offset = std::ptr::without_provenance_mut::<libc::c_void>(offset);
        nix::sys::ptrace::write_user(self.nix_pid(), offset, value.cast_signed())
            .map_err(|errno| self.error("PTRACE_POKEUSER", errno))
    }
}
