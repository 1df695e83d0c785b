//! Sleeping on a word that another process may share.
//!
//! Both calls are the shared kind (no `FUTEX_PRIVATE_FLAG`): the kernel then knows the word by the page that it lies
//! in, not by its address, and so a wake reaches sleepers that have mapped the page elsewhere (futex(2)).

#![expect(unsafe_code, reason = "futex(2) has no wrapper in libc")]

use std::io;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` is `expected`, until a wake or `timeout`, and sometimes for no reason.
///
/// # Errors
/// What futex(2) answers other than `EAGAIN` (the word was different), `EINTR` and `ETIMEDOUT`, which are ways to
/// have slept.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> io::Result<()> {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: futex(2) with FUTEX_WAIT loads the four aligned bytes of `word`, which stays borrowed until the call
    // returns, and reads one `timespec`, which lives on our stack for as long.
    let result = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, ptr::from_ref(&timeout))
    };
    match outcome(result) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT)) => {
            Ok(())
        }
        other => other,
    }
}

/// Wakes one thread that sleeps on `word`, if there is one.
///
/// # Errors
/// What futex(2) answers: a seccomp filter may deny it.
pub fn wake_one(word: &AtomicU32) -> io::Result<()> {
    // SAFETY: futex(2) with FUTEX_WAKE takes `word` as a name only, and reads and writes no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    outcome(result)
}

fn outcome(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_wait_for_another_value_returns_at_once() {
        wait(&AtomicU32::new(0), 1, Duration::from_secs(3600)).unwrap();
    }

    #[test]
    fn a_wait_ends_with_its_timeout() {
        wait(&AtomicU32::new(1), 1, Duration::from_millis(1)).unwrap();
    }

    #[test]
    fn a_wake_ends_a_wait() {
        let word = AtomicU32::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::Acquire) == 1 {
                    wait(&word, 1, Duration::from_secs(3600)).unwrap();
                }
            });
            word.store(0, Ordering::Release);
            wake_one(&word).unwrap();
        });
    }
}
