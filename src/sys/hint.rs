//! SIGCHLD as a hint at which tracee has something to tell: the kernel sends one for each stop and each end (ptrace(2)),
//! with the thread's id. An alarm is one too, so that a wait for hints that has a bound need not set a timer of its own.
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
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
};

use super::{Tid, cpu, signal};

/// Ends a wait of the thread that made it, at one moment.
#[derive(Debug)]
pub struct Alarm {
    timer: Timer,
    at: Option<Instant>,
}

impl Alarm {
    /// For the calling thread.
    ///
    /// # Errors
    /// If the kernel permits no further timer (timer_create(2)).
    pub fn new() -> nix::Result<Self> {
        let notify = SigevNotify::SigevThreadId {
            signal: Signal::SIGCHLD,
            thread_id: cpu::current_thread().0,
            si_value: 0,
        };
        let timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
        Ok(Self { timer, at: None })
    }

    /// Sets it, unless it stands at this moment already: a wait then costs no timer, which would be dear.
    ///
    /// # Errors
    /// None that is known (timer_settime(2)).
    pub fn set(&mut self, at: Instant) -> nix::Result<()> {
        if self.at == Some(at) {
            return Ok(());
        }
        // No time at all would unset it.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        self.timer.set(Expiration::OneShot(left.into()), TimerSetTimeFlags::empty())?;
        self.at = Some(at);
        Ok(())
    }

    /// Waits for a hint; `None` if the alarm or a signal with a handler ended the wait. Without the alarm a wait may have no
    /// end, so it has to be set before each.
    #[must_use]
    pub fn wait(&mut self) -> Option<Tid> {
        let hint = next(None).and_then(|info| sender(&info));
        if hint.is_none() {
            // Whether it has gone off is not asked: it is set once more.
            self.at = None;
        }
        hint
    }
}

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

/// Forgets what is pending: a hint, and an alarm. What comes meanwhile is not waited for, and may stay.
pub fn forget() {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    for _ in 0..PENDING_MAX {
        if next(Some(&now)).is_none() {
            return;
        }
    }
}

/// One for the process, which is a hint, and one for the thread, which is an alarm (signal(7)).
const PENDING_MAX: usize = 2;

/// The thread that a hint names; `None` of what a timer sent.
fn sender(info: &libc::siginfo_t) -> Option<Tid> {
    // SAFETY: the kernel has filled in a SIGCHLD; of one that a timer sent, this field is the timer's number.
    let sender = Tid(unsafe { info.si_pid() });
    (info.si_code != libc::SI_TIMER).then_some(sender)
}

/// The next SIGCHLD, which may be waited for so long at most.
fn next(bound: Option<&libc::timespec>) -> Option<libc::siginfo_t> {
    let set = only_sigchld();
    // SAFETY: integers only, for which zeroes are values.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let bound = bound.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: it reads the set and the time, if there is one, and writes the structure, all of which outlive the call.
    let signal = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, bound) };
    (signal == libc::SIGCHLD).then_some(info)
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

    /// Whether an alarm of the calling thread is pending (proc_pid_status(5)): other tests' children do not count.
    fn is_pending() -> bool {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
        u64::from_str_radix(pending.trim(), 16).unwrap() >> (libc::SIGCHLD - 1) & 1 == 1
    }

    fn wait_until_pending() {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_pending() {
            assert!(Instant::now() < end, "the alarm has not gone off");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_alarm_goes_off_again_for_a_moment_for_which_it_has_gone_off() {
        ask_for();
        let mut alarm = Alarm::new().unwrap();
        let at = Instant::now();
        for _ in 0..3 {
            alarm.set(at).unwrap();
            while alarm.wait().is_some() {}
        }
    }

    #[test]
    fn an_alarm_that_has_gone_off_is_forgotten() {
        ask_for();
        let mut alarm = Alarm::new().unwrap();
        alarm.set(Instant::now()).unwrap();
        wait_until_pending();
        forget();
        assert!(!is_pending());
    }

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
