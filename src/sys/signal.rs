//! Signals to the workload, and the death by the same signal.
#![expect(
    unsafe_code,
    reason = "pidfd_open(2), pidfd_send_signal(2) and dying by a signal have no safe wrapper"
)]

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use super::{Pid, Tid};

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

impl PidFd {
    /// Whether the process has not been waited for yet, so that its id is still its own.
    #[must_use]
    pub fn owns_its_id(&self) -> bool {
        // Only ESRCH says that it does not: EPERM is about a process that is there.
        !self.send(0).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
    }

    /// The wait status (wait(2)) of the process; `None` until somebody has waited for it: PIDFD_GET_INFO, Linux 6.15.
    ///
    /// # Errors
    /// What ioctl(2) says: `ENOTTY` or `EINVAL` on older kernels.
    pub fn status_after_wait(&self) -> io::Result<Option<i32>> {
        let exit = u64::from(libc::PIDFD_INFO_EXIT);
        // SAFETY: integers only, for which zeroes are values.
        let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
        info.mask = exit;
        // SAFETY: the request names the size of `info`, which the kernel reads and writes, and which outlives the call.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((info.mask & exit != 0).then_some(info.exit_code))
    }
}

/// Waits for the end of our child, without blocking; its wait status (wait(2)). `None` if it has not ended or is not our
/// child. What it stops for stays with the thread of ours that traces it: of a tracee waitpid(2) would take that, and waitid(2)
/// too, whatever it is asked for.
#[must_use]
pub fn reap(pid: Pid) -> Option<i32> {
    peek(libc::P_PID, pid.as_u32())?;
    reap_of(pid.0).map(|(_, status)| status)
}

/// Waits for any child that has ended, without blocking; gives its wait status (wait(2)).
#[must_use]
pub fn reap_any() -> Option<(Pid, i32)> {
    reap_of(-1)
}

/// A child that has ended, which still has to be waited for, and its wait status (wait(2)).
#[must_use]
pub fn peek_any() -> Option<(Pid, i32)> {
    peek(libc::P_ALL, 0)
}

fn peek(which: libc::idtype_t, id: libc::id_t) -> Option<(Pid, i32)> {
    // SAFETY: integers and a union of integers and pointers, for which zeroes are values.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: `info` is a local that outlives the call.
    let done = unsafe { libc::waitid(which, id, &raw mut info, how) };
    // SAFETY: waitid(2) has filled in what this reads, or it is the zero from above.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let value = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => (value & 0xff) << 8,
        libc::CLD_DUMPED => value | 0x80,
        libc::CLD_KILLED => value,
        // It is traced, and has stopped.
        _ => return None,
    };
    (done == 0 && pid > 0).then_some((Pid(pid), status))
}

fn reap_of(which: libc::pid_t) -> Option<(Pid, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a local that outlives the call.
    let reaped = unsafe { libc::waitpid(which, &raw mut status, libc::WNOHANG | libc::__WALL) };
    let has_ended = libc::WIFEXITED(status) || libc::WIFSIGNALED(status);
    (reaped > 0 && has_ended).then_some((Pid(reaped), status))
}

/// Whether a thread belongs to a process now: tgkill(2) looks for it there.
#[must_use]
pub fn has_thread(pid: Pid, tid: Tid) -> bool {
    // SAFETY: tgkill takes integers, and signal 0 is none.
    let found = unsafe { libc::syscall(libc::SYS_tgkill, pid.0, tid.0, 0) };
    // EPERM is about a thread that is there.
    found == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Whether there is a thread of this id now, of whatever process.
#[must_use]
pub fn exists(tid: Tid) -> bool {
    // SAFETY: tkill takes integers, and signal 0 is none.
    let found = unsafe { libc::syscall(libc::SYS_tkill, tid.0, 0) };
    // EPERM is about a thread that is there.
    found == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Sends a signal to a process group; tells whether there was one to send it to.
#[must_use]
pub fn send_to_group(group: Pid, signal: i32) -> bool {
    // SAFETY: killpg takes integers.
    unsafe { libc::killpg(group.0, signal) == 0 }
}

/// Interrupts system calls of our own threads: see [`Kick::kick`].
#[derive(Debug, Clone, Copy)]
pub struct Kick(i32);

extern "C" fn nothing(_: i32) {}

impl Kick {
    /// Catches a real-time signal, so that it interrupts calls and does nothing else.
    ///
    /// # Errors
    /// What sigaction(2) says.
    pub fn new() -> io::Result<Self> {
        let signal = libc::SIGRTMAX();
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: zeroes are values of all its fields: no flags (no SA_RESTART above all) and an empty mask.
        let action = unsafe { action.assume_init_mut() };
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        // SAFETY: the handler touches nothing; the kernel reads `action`, a local that outlives the call.
        let done = unsafe { libc::sigaction(signal, &raw const *action, ptr::null_mut()) };
        if done == 0 { Ok(Self(signal)) } else { Err(io::Error::last_os_error()) }
    }

    /// The one that another thread has caught already by [`Self::new`].
    #[must_use]
    pub fn caught() -> Self {
        Self(libc::SIGRTMAX())
    }

    /// Lets the calling thread be kicked, whatever mask it has inherited.
    pub fn receive(self) {
        unblock(self.0);
    }

    /// Interrupts the call in which a thread of ours is. One that is in none is not interrupted later.
    pub fn kick(self, tid: Tid) {
        let own = nix::unistd::getpid().as_raw();
        // SAFETY: tgkill takes integers; a thread that is gone only makes it fail.
        unsafe { libc::syscall(libc::SYS_tgkill, own, tid.0, self.0) };
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

/// Gives a signal its default disposition here. The workload gets that which this process began with.
pub fn reset(signal: i32) {
    // SAFETY: SIG_DFL runs no code of ours; a signal number out of range only makes the call fail.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
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
    reset(signal);
    // We may have been started with this signal blocked.
    unblock(signal);
    // SAFETY: raise takes an integer.
    unsafe { libc::raise(signal) };
}

/// Stops this process by a stop signal, so that whoever waits for it sees what the workload was stopped by. Returns when it
/// has been continued, or at once where that does not stop us: in an orphaned process group, and as the first process of
/// a PID namespace (signal(7), pid_namespaces(7)).
pub fn stop_by(signal: i32) {
    let was_ignored = is_ignored(signal);
    reset(signal);
    // One that was sent to us as well and is blocked becomes the same one.
    // SAFETY: raise takes an integer.
    unsafe { libc::raise(signal) };
    change_mask(libc::SIG_UNBLOCK, signal);
    if was_ignored {
        ignore(signal);
    } else {
        change_mask(libc::SIG_BLOCK, signal);
    }
}

/// The signal by which our child has been stopped since the last time that this was asked, and still is; `None` also while a
/// tracer has stopped it.
#[must_use]
pub fn take_stop(pid: Pid) -> Option<i32> {
    let look = libc::WSTOPPED | libc::WNOHANG;
    // What a thread of ours that traces it waits for is not to be taken from that one, so it is only looked at first.
    wait_for_stop(pid, look | libc::WNOWAIT)?;
    wait_for_stop(pid, look)
}

fn wait_for_stop(pid: Pid, options: i32) -> Option<i32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel writes into `info`, a local of its type that outlives the call.
    let done = unsafe { libc::waitid(libc::P_PID, pid.as_u32(), info.as_mut_ptr(), options) };
    // SAFETY: all of it are integers and pointers, for which the zeroes it began with are values as good as the kernel's.
    let info = unsafe { info.assume_init() };
    if done != 0 || info.si_code != libc::CLD_STOPPED {
        return None;
    }
    // SAFETY: the code says that this member of the union is filled in.
    Some(unsafe { info.si_status() })
}

/// Has this process sent a signal when its parent, which must be `parent`, dies. It dies by it at once if that has happened
/// already.
pub fn die_with(parent: Pid, by: i32) {
    set_parent_death_signal(by);
    if nix::unistd::getppid().as_raw() != parent.0 {
        die_by(by);
    }
}

/// The signal that this process is sent when the thread that made it ends, 0 for none (prctl(2), `PR_SET_PDEATHSIG`).
pub(super) fn set_parent_death_signal(signal: i32) {
    // SAFETY: this prctl takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) };
}

fn unblock(signal: i32) {
    change_mask(libc::SIG_UNBLOCK, signal);
}

fn change_mask(how: i32, signal: i32) {
    let mut only = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: it writes into `only`, a local of its type.
    unsafe { libc::sigaddset(only.as_mut_ptr(), signal) };
    // SAFETY: it only reads the set, a local of its type; zeroes, which it began with, are the empty set.
    unsafe { libc::pthread_sigmask(how, only.as_ptr(), ptr::null_mut()) };
}
