//! Signals to the workload, and the death by the same signal.
#![expect(
    unsafe_code,
    reason = "pidfd_open(2), pidfd_send_signal(2) and dying by a signal have no safe wrapper"
)]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use super::Pid;

/// A process held by descriptor, so that a signal can never reach another one that got the same id.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens a process by pidfd_open(2), Linux 5.3.
    ///
    /// # Errors
    /// What the kernel says: `ESRCH` when there is no such process.
    pub fn open(pid: Pid) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
        let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just made this descriptor (close-on-exec, as all pidfds are) and nobody else
        // knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a signal by pidfd_send_signal(2), Linux 5.1.
    ///
    /// # Errors
    /// What the kernel says: `ESRCH` when the process has ended.
    pub fn send(&self, signal: i32) -> io::Result<()> {
        // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) does; no memory is passed.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Whether a signal is ignored.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null new action the kernel only writes the present one into `action`, which outlives the call.
    let noted = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all of its fields are integers, for which the zeroes it began with are values as good as the kernel's.
    let action = unsafe { action.assume_init() };
    noted == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Ignores a signal. The workload gets the disposition that this process began with when it is launched.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs no code of ours; a signal number out of range only makes the call fail.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Keeps processes of the same user out of the memory of this one, and so out of what it records (prctl(2),
/// `PR_SET_DUMPABLE`). Whoever has `CAP_SYS_PTRACE` gets in all the same.
pub fn deny_access() {
    // SAFETY: this prctl takes integers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Ends this process by a signal, so that whoever waits for it sees what the workload died of. Returns only if
/// the signal does not end a process.
pub fn die_by(signal: i32) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `no_core` is a local that outlives the call, which only reads it. The workload has left its own
    // core file, if it was to leave one; ours would overwrite it.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
    // SAFETY: SIG_DFL runs no code of ours; a signal number out of range only makes the call fail.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let mut only = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: it writes into `only`, a local of its type.
    unsafe { libc::sigaddset(only.as_mut_ptr(), signal) };
    // We may have been started with this signal blocked.
    // SAFETY: it only reads the set, a local of its type; zeroes, which it began with, are the empty set.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, only.as_ptr(), ptr::null_mut()) };
    // SAFETY: raise takes an integer.
    unsafe { libc::raise(signal) };
}
