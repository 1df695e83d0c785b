//! Children and threads that end at once: what it costs to make them, and nothing else.
#![expect(unsafe_code, reason = "fork(2) has no safe wrapper, and a thread of std does more than to begin")]

use std::{ffi::c_void, io, mem::MaybeUninit, ptr};

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

/// A thread that does nothing but end. One of std also asks for its affinity and makes a stack for signals.
#[derive(Debug)]
#[must_use = "it keeps its stack until it is joined"]
pub struct BareThread(libc::pthread_t);

extern "C" fn nothing(argument: *mut c_void) -> *mut c_void {
    argument
}

impl BareThread {
    /// Makes it.
    ///
    /// # Errors
    /// What `pthread_create(3)` says.
    pub fn spawn() -> io::Result<Self> {
        let mut thread = MaybeUninit::zeroed();
        // SAFETY: the new thread is told of in `thread`, a local of its type; a null pointer stands for the usual attributes; the
        // function takes any argument, which it does not follow, and touches nothing.
        let errno =
            unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), nothing, ptr::null_mut()) };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // SAFETY: it is an integer, for which the zeroes it began with are a value as good as that of the library.
        Ok(Self(unsafe { thread.assume_init() }))
    }

    /// Waits for its end.
    pub fn join(self) {
        // SAFETY: it was made joinable, and nobody else has joined it: whoever does takes it. Its result is not asked for.
        unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_threads_begin_and_end() {
        let child = child_that_ends().unwrap();
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.0), None).unwrap();
        assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
        BareThread::spawn().unwrap().join();
    }
}
