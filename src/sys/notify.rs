//! Seccomp user notification: trapped calls are received from the listener of a filter, and each is answered once.
//!
//! A [`Notification`] is a call whose thread waits in the kernel, neither stopped nor running. It may die at any
//! moment, and its id be another thread's by then: what was read of it counts only if [`Listener::is_waiting`] says so
//! afterwards. Read seccomp_unotify(2) before you edit.
#![expect(unsafe_code, reason = "the ioctls of a listener have no safe wrapper")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Tid, ptrace::Call};
use crate::abi::{Abi, SyscallNr};

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (linux/seccomp.h), Linux 6.6.
const SYNC_WAKE_UP: u64 = 1;

/// A trapped call whose thread waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Names it to the kernel. Ids of one listener ascend, one by one.
    pub id: u64,
    /// The thread; 0 if our PID namespace does not show it.
    pub tid: Tid,
    /// What it calls.
    pub call: Call,
}

/// What [`Listener::receive`] gave.
#[derive(Debug)]
pub enum Received {
    /// A call.
    Call(Notification),
    /// Nothing: a signal came, or the thread was gone before it was looked at.
    Nothing,
}

/// What the kernel writes: its `struct seccomp_notif`, and room for what a later kernel may append.
#[repr(C)]
struct Room {
    notification: libc::seccomp_notif,
    more: [u64; 16],
}

/// The listener of a filter. Any number of threads may use it.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Takes over a listener, if the kernel's notifications have a form that this build knows.
    ///
    /// # Errors
    /// What seccomp(2) says about their sizes; `Unsupported` if they are larger than we have room for.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut sizes =
            libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        // SAFETY: the kernel writes three numbers into `sizes`, a local of its layout that outlives the call.
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        let is_known = usize::from(sizes.seccomp_notif) <= size_of::<Room>()
            && usize::from(sizes.seccomp_notif_resp) <= size_of::<libc::seccomp_notif_resp>();
        if is_known { Ok(Self(fd)) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    /// Wakes whoever waits on the CPU of who wakes it, since both never run at once.
    ///
    /// # Errors
    /// `EINVAL` before Linux 6.6.
    pub fn set_sync_wake_up(&self, is_on: bool) -> nix::Result<()> {
        let flags = if is_on { SYNC_WAKE_UP } else { 0 };
        // SAFETY: this ioctl takes an integer.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags) };
        Errno::result(done).map(drop)
    }

    /// Whether a call waits to be received. Waits for that until `timeout`.
    #[must_use]
    pub fn has_call(&self, timeout: Duration) -> bool {
        self.poll(PollFlags::POLLIN, timeout).contains(PollFlags::POLLIN)
    }

    /// Waits for a trapped call.
    ///
    /// # Errors
    /// What the kernel says, other than that a signal came or that the thread is gone.
    pub fn receive(&self) -> io::Result<Received> {
        // SAFETY: all of it are integers.
        let mut room: Room = unsafe { mem::zeroed() };
        // SAFETY: the kernel writes its `struct seccomp_notif`, which fits as `new` has seen, into a zeroed local.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut room) };
        if done != 0 {
            return match Errno::last() {
                Errno::EINTR | Errno::ENOENT => Ok(Received::Nothing),
                errno => Err(errno.into()),
            };
        }
        let (notification, data) = (&room.notification, &room.notification.data);
        let nr = SyscallNr(data.nr.cast_unsigned());
        Ok(Received::Call(Notification {
            id: notification.id,
            tid: Tid(notification.pid.cast_signed()),
            call: Call { abi: Abi::of_call(data.arch, nr), nr, arguments: data.args },
        }))
    }

    /// Whether the thread still waits for the answer to this notification.
    #[must_use]
    pub fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the kernel reads a u64 from `id`, a local that outlives the call.
        until_uninterrupted(|| unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id)
        })
    }

    /// Lets the thread make the call; tells whether it still waited.
    pub fn let_go(&self, id: u64) -> bool {
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        self.send(libc::seccomp_notif_resp { id, val: 0, error: 0, flags: u32::try_from(flags).unwrap_or(1) })
    }

    /// Makes the thread stop before the call, which it then begins anew: tells whether it still waited.
    ///
    /// The call ends with -ERESTARTNOINTR without having begun. The kernel turns that into a new start on the way back to
    /// user mode, but only if the thread has a signal or a stop to attend to there: so it must have been interrupted
    /// (PTRACE_INTERRUPT) before, or the number would be the workload's to see.
    pub fn stop_before(&self, id: u64) -> bool {
        const ERESTARTNOINTR: i32 = 513;
        self.send(libc::seccomp_notif_resp { id, val: 0, error: -ERESTARTNOINTR, flags: 0 })
    }

    fn send(&self, mut answer: libc::seccomp_notif_resp) -> bool {
        // SAFETY: the kernel reads the answer from a local that outlives the call.
        until_uninterrupted(|| unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
        })
    }

    /// Whether the last thread under the filter has ended. Waits for that until `timeout`.
    #[must_use]
    pub fn is_over(&self, timeout: Duration) -> bool {
        self.poll(PollFlags::empty(), timeout).contains(PollFlags::POLLHUP)
    }

    fn poll(&self, events: PollFlags, timeout: Duration) -> PollFlags {
        let mut fds = [PollFd::new(self.as_fd(), events)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, timeout);
        let [fd] = fds;
        fd.revents().unwrap_or(PollFlags::empty())
    }
}

/// Makes a call until no signal has interrupted it; whether it succeeded. Where two threads answer at once one of them
/// waits for the other, and that wait ends with a signal, or a stop (`notify_lock` in kernel/seccomp.c): an answer that
/// was lost so would leave its thread waiting for ever.
fn until_uninterrupted(mut call: impl FnMut() -> libc::c_int) -> bool {
    loop {
        if call() == 0 {
            return true;
        }
        if Errno::last() != Errno::EINTR {
            return false;
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
