//! Children that end at once.
#![expect(unsafe_code, reason = "fork(2) has no safe wrapper")]

use std::io;

use super::Pid;

/// Forks a child that does nothing but end, with status 0. The caller has to wait for it.
///
/// # Errors
/// What fork(2) says.
pub fn child_that_ends() -> io::Result<Pid> {
    // SAFETY: the child calls _exit alone, which is async-signal-safe, so that it does not matter which locks other threads hold.
    match unsafe { libc::fork() } {
        // SAFETY: _exit runs no handlers and never returns.
        0 => unsafe { libc::_exit(0) },
        pid if pid > 0 => Ok(Pid(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}
