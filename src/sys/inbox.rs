//! Signals for this process, taken one by one when it suits instead of delivered: signalfd(2).
//!
//! It must never lose a signal that is to be passed on: what is in the set stays blocked in every thread that is made after.
#![expect(unsafe_code, reason = "the safe wrappers know no real-time signals")]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use super::{Pid, signal::PidFd};

/// A signal that was sent to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Which.
    pub signal: i32,
    /// How it was sent: `si_code` of sigaction(2).
    pub code: i32,
    /// Who has sent it, in our PID namespace; 0 if it is in none that we can see, and for what the kernel sends.
    pub sender: Pid,
    /// The user of the sender.
    pub uid: u32,
    /// What came with it (sigqueue(3)).
    pub value: u64,
}

impl Heard {
    /// How many bytes it is as a message.
    pub const BYTES: usize = 24;

    /// Whether the kernel has sent it, such as a terminal's to the group in its foreground.
    #[must_use]
    pub const fn is_from_kernel(&self) -> bool {
        self.code > 0
    }

    /// It as a message for another process of ours.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [self.signal, self.code, self.sender.0, self.uid.cast_signed()];
        let fields = fields.iter().flat_map(|field| field.to_ne_bytes()).chain(self.value.to_ne_bytes());
        bytes.iter_mut().zip(fields).for_each(|(into, from)| *into = from);
        bytes
    }

    /// What [`Self::to_bytes`] has made.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let field = |at: usize| {
            let mut field = [0; 4];
            field.iter_mut().zip(bytes.iter().skip(4 * at)).for_each(|(into, from)| *into = *from);
            i32::from_ne_bytes(field)
        };
        let mut value = [0; 8];
        value.iter_mut().zip(bytes.iter().skip(16)).for_each(|(into, from)| *into = *from);
        Self {
            signal: field(0),
            code: field(1),
            sender: Pid(field(2)),
            uid: field(3).cast_unsigned(),
            value: u64::from_ne_bytes(value),
        }
    }

    /// Sends it on to a process. What was queued with a value (sigqueue(3)) arrives as it was sent; all else comes from us.
    ///
    /// # Errors
    /// What pidfd_send_signal(2) says: `ESRCH` when the process has ended.
    pub fn pass_on(&self, to: &PidFd) -> io::Result<()> {
        if self.code != libc::SI_QUEUE {
            return to.send(self.signal);
        }
        let info = QueuedInfo {
            signal: self.signal,
            errno: 0,
            code: libc::SI_QUEUE,
            padding: 0,
            pid: self.sender.0,
            uid: self.uid,
            value: self.value,
            rest: [0; 12],
        };
        // SAFETY: the kernel only reads `info`, a local of the size and layout of its own structure, which outlives the call.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, to.as_raw_fd(), self.signal, &raw const info, 0)
        };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// `siginfo_t` of a queued signal (asm-generic/siginfo.h), 128 bytes.
#[repr(C)]
struct QueuedInfo {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    pid: i32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<QueuedInfo>() == size_of::<libc::siginfo_t>());

/// Takes signals.
#[derive(Debug)]
pub struct Inbox(OwnedFd);

impl Inbox {
    /// Blocks these signals for this thread, and for those that it makes; from now on they are taken here.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub fn open(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        for signal in signals {
            // SAFETY: it writes into `set`, a local of its type; a number that is no signal only makes it fail.
            unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
        }
        // SAFETY: it only reads the set, a local of its type; zeroes, which it began with, are the empty set.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
        // SAFETY: as above; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has come, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Heard> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let wanted = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most `wanted` bytes into `info`, a local of that size that outlives the call.
        let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), wanted) };
        // Nothing has come, or a signal that nobody takes here has interrupted the call.
        if usize::try_from(read) != Ok(wanted) {
            return None;
        }
        // SAFETY: all of its fields are integers, for which what the kernel wrote over the zeroes is a value.
        let info = unsafe { info.assume_init() };
        Some(Heard {
            signal: info.ssi_signo.cast_signed(),
            code: info.ssi_code,
            sender: Pid(info.ssi_pid.cast_signed()),
            uid: info.ssi_uid,
            value: info.ssi_ptr,
        })
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_the_same_after_it_was_a_message() {
        let heard = Heard { signal: 34, code: -1, sender: Pid(77), uid: u32::MAX, value: 1 << 63 | 5 };
        assert_eq!(Heard::from_bytes(&heard.to_bytes()), heard);
    }
}
