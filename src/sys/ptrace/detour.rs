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
use crate::{
    limits,
    sys::{call_site, procfs},
};

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
    /// Begins one, at a [`StopKind::Seccomp`] of a call of the native ABI, or where that is about to begin.
    ///
    /// # Errors
    /// [`NotBegun`] if the thread does not stand behind an instruction that makes such a call, or the kernel refuses.
    pub fn begin(stop: Stopped) -> Result<Self, NotBegun> {
        let Ok(original) = stop.registers() else { return Err(NotBegun(stop)) };
        if !call_site::is_behind_call(stop.tid, &original) {
            return Err(NotBegun(stop));
        }
        let Ok(mask) = stop.replace_signal_mask(u64::MAX) else { return Err(NotBegun(stop)) };
        Ok(Self { tid: stop.tid, stop: Some(stop), lost: None, original, mask, is_at_entry: true })
    }

    /// Makes a call; its result, or `-errno`. `None` if the thread is lost or did not make it.
    pub fn call(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Option<i64> {
        let stop = self.stop.take()?;
        let with_call = if self.is_at_entry { call_site::at_entry } else { call_site::before_call };
        let registers = with_call(&self.original, number, arguments);
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
            let is_over = procfs::awaits_wait(Pid(self.tid.0));
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
        let Some(stop) = &self.stop else { return false };
        let mut at = addr;
        words.iter().all(|word| {
            let is_written = stop.poke(at, word.to_ne_bytes()).is_ok();
            at = at.plus(8);
            is_written
        })
    }

    /// Reads one word of the thread's memory.
    #[must_use]
    pub fn read(&self, addr: RemoteAddr) -> Option<u64> {
        super::peek(self.tid, addr).ok().map(u64::from_ne_bytes)
    }

    /// Lets the thread make its own call anew, in the way `onward`.
    #[must_use]
    pub fn end(mut self, onward: Resume) -> Ended {
        let Some(stop) = self.stop.take() else {
            return match self.lost {
                Some(waited) => Ended::Lost(waited),
                None => Ended::Late(Late { original: Box::new(self.original), mask: self.mask }),
            };
        };
        if self.is_at_entry {
            // If it is gone, its end will be reported.
            let _ = stop.set_registers(self.original);
            let _ = stop.replace_signal_mask(self.mask);
        } else {
            set_back(&stop, &self.original, self.mask);
        }
        let _ = stop.resume(onward, 0);
        Ended::Back
    }
}

/// How a detour has ended.
#[derive(Debug)]
pub enum Ended {
    /// The thread makes its own call.
    Back,
    /// It has stopped or ended for something else.
    Lost(Waited),
    /// It does not come back: somebody holds it, such as a freezer of cgroups. When it stops again it has to be set back.
    Late(Late),
}

/// What a thread is set back to that does not come back from its detour in time.
#[derive(Debug)]
pub struct Late {
    original: Box<libc::user_regs_struct>,
    mask: u64,
}

impl Late {
    /// Sets the thread back at a stop of it: it makes its own call anew as soon as it goes on. `false` if that has to wait
    /// for another stop, since a call of the detour is about to begin here.
    #[must_use]
    pub fn set_back(&self, stop: &Stopped, kind: StopKind) -> bool {
        let is_before_call = kind == StopKind::Seccomp
            || kind == StopKind::SyscallExit
                && stop.call_result_or_entry().is_ok_and(|result| result.is_none());
        if !is_before_call {
            set_back(stop, &self.original, self.mask);
        }
        !is_before_call
    }
}

/// If the thread is gone, its end will be reported.
fn set_back(stop: &Stopped, original: &libc::user_regs_struct, mask: u64) {
    let _ = stop.set_registers(call_site::before_own_call(original));
    let _ = stop.replace_signal_mask(mask);
}

impl Stopped {
    /// The result of the call that has returned; `None` if one is about to begin.
    fn call_result_or_entry(&self) -> Result<Option<i64>, PtraceError> {
        if self.is_at_entry()? { Ok(None) } else { self.call_result().map(Some) }
    }
}

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

    /// Makes the call that the thread stands at return this without being made, at a [`StopKind::Seccomp`]: a result, or an
    /// errno below 0.
    ///
    /// # Errors
    /// [`PtraceError`]
    #[cfg(target_arch = "x86_64")]
    pub fn answer_call(&self, result: i64) -> Result<(), PtraceError> {
        use std::mem::offset_of;
        self.poke_user(offset_of!(libc::user_regs_struct, rax), result.cast_unsigned())?;
        self.poke_user(offset_of!(libc::user_regs_struct, orig_rax), u64::MAX)
    }

    /// Not on this architecture.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn answer_call(&self, _result: i64) -> Result<(), PtraceError> {
        Err(self.refused("PTRACE_POKEUSER", nix::errno::Errno::ENOSYS))
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn poke_user(&self, offset: usize, value: u64) -> Result<(), PtraceError> {
        let offset = std::ptr::without_provenance_mut::<libc::c_void>(offset);
        nix::sys::ptrace::write_user(self.nix_pid(), offset, value.cast_signed())
            .map_err(|errno| self.error("PTRACE_POKEUSER", errno))
    }
}
