//! SIGCHLD as a hint at which tracee has something to tell: the kernel sends one for each stop and each end (ptrace(2)),
//! with the thread's id.
//!
//! It is a hint and no more: while one is pending, another one is lost. It must be blocked in every thread of this process,
//! or one that does not block it takes it from the tracing thread; so the command line blocks it before it makes any
//! thread. In a tracing thread that does not block it no hint is made at all, and none costs anything.
#![expect(
    unsafe_code,
    reason = "sigtimedwait(2) and the masks of threads have no safe wrapper that tells who sent it"
)]

use std::{
    mem::{self, MaybeUninit},
    ptr,
    time::Duration,
};

use super::{Tid, signal};

/// Blocks hints for the calling thread and those that it makes, or lets them be ignored.
pub fn set_blocked(is_blocked: bool) {
    let how = if is_blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    let only = only_sigchld();
    // SAFETY: it only reads the set, a local that outlives the call.
    unsafe { libc::pthread_sigmask(how, &raw const only, ptr::null_mut()) };
}

/// Makes hints be sent to the calling thread, in which they are blocked from now on. Where SIGCHLD was ignored, none
/// would be.
pub fn ask_for() {
    if signal::is_ignored(libc::SIGCHLD) {
        signal::reset(libc::SIGCHLD);
    }
    set_blocked(true);
}

/// Waits for a hint, for so long at most; `None` if none came.
#[must_use]
pub fn wait(bound: Duration) -> Option<Tid> {
    let set = only_sigchld();
    // SAFETY: integers only, for which zeroes are values.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let bound = libc::timespec {
        tv_sec: libc::time_t::try_from(bound.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(bound.subsec_nanos().cast_signed()),
    };
    // SAFETY: it reads the set and the time and writes the structure, all of which are locals that outlive the call.
    let signal = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const bound) };
    // SAFETY: the kernel has filled in a SIGCHLD, of which this is a field.
    (signal == libc::SIGCHLD).then(|| Tid(unsafe { info.si_pid() }))
}

/// Forgets the hint that is pending, if one is.
pub fn forget() {
    let _ = wait(Duration::ZERO);
}

/// Whether a single thread can be asked without a walk over all: since Linux 5.13.
#[must_use]
pub fn is_of_use() -> bool {
    nix::sys::utsname::uname().is_ok_and(|names| is_recent(&names.release().to_string_lossy()))
}

fn is_recent(release: &str) -> bool {
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 13))
}

fn only_sigchld() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: it writes into `set`, a local of its type; zeroes, which it began with, are the empty set.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: a set is made of integers.
    unsafe { set.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_compared_by_its_numbers() {
        for (release, is_of_use) in [
            ("5.10.0-30-amd64", false),
            ("5.13.0", true),
            ("6.1.158-180.294.amzn2023.x86_64", true),
            ("5.9", false),
            ("", false),
            ("five", false),
        ] {
            assert_eq!(is_recent(release), is_of_use, "{release}");
        }
    }
}
