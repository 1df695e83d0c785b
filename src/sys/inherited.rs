//! What this process was given by its parent and has changed since, so that the workload gets it as it was: signal
//! dispositions, the signal mask, and standard descriptors that were closed.
//!
//! It must be noted before Rust's runtime starts, which changes some of it. What runs in the child between clone and
//! exec makes plain system calls only.
#![expect(unsafe_code, reason = "it runs before Rust's runtime, and asks for what that runtime hides")]

use std::{
    mem::MaybeUninit,
    ops::RangeInclusive,
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

// All statics are Relaxed throughout: they are written once, by the only thread, before `main`.

/// Signals that were ignored when this process began, signal N in bit N - 1. Since then Rust's runtime has ignored
/// SIGPIPE, and signals are caught to pass them on; neither is the workload's business.
static IGNORED_AT_START: AtomicU64 = AtomicU64::new(0);

/// Standard descriptors that were closed when this process began, descriptor N in bit N. Rust's runtime has opened
/// `/dev/null` in their place.
static CLOSED_AT_START: AtomicU32 = AtomicU32::new(0);

/// Signals that were blocked when this process began, signal N in bit N - 1. Since then those that are passed on are.
static BLOCKED_AT_START: AtomicU64 = AtomicU64::new(0);

/// `struct sigaction` as the kernel has it (linux/signal_types.h). The C library keeps two signals to itself, so it is
/// not asked.
#[repr(C)]
struct KernelAction {
    handler: libc::sighandler_t,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

const SIGNALS: RangeInclusive<i32> = 1..=64;

const STANDARD: RangeInclusive<i32> = libc::STDIN_FILENO..=libc::STDERR_FILENO;

extern "C" fn note() {
    let mut ignored = 0;
    for signal in SIGNALS {
        let mut action = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
        // SAFETY: with a null new action the kernel only writes the present one into `action`, a local of the
        // kernel's own layout that outlives the call.
        let noted = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<KernelAction>(), &raw mut action, 8)
        };
        if noted == 0 && action.handler == libc::SIG_IGN {
            ignored |= 1 << (signal - 1);
        }
    }
    IGNORED_AT_START.store(ignored, Ordering::Relaxed);
    let mut blocked = 0_u64;
    // SAFETY: with a null new mask the kernel only writes the eight bytes of the present one into `blocked`, a local that
    // outlives the call.
    unsafe {
        let none = ptr::null::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, none, &raw mut blocked, 8)
    };
    BLOCKED_AT_START.store(blocked, Ordering::Relaxed);
    let mut closed = 0;
    for fd in STANDARD {
        // SAFETY: this fcntl takes integers only, and fails for a descriptor that is closed.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            closed |= 1 << fd;
        }
    }
    CLOSED_AT_START.store(closed, Ordering::Relaxed);
}

/// Runs `note` before Rust's runtime starts.
// SAFETY: `.init_array` holds functions that take nothing, or what they ignore, and are called once by the loader
// before `main`; this one needs nothing of Rust's runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn() = note;

/// Blocks every signal for this thread; gives the mask that it had.
pub(super) fn block_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: it writes into `all`, a local of its type.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: it reads the one set and writes into the other; both are locals of their type.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: a set is made of integers, and zeroes, which it began with, are the empty set.
    unsafe { before.assume_init() }
}

pub(super) fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: it reads the set that `mask` borrows, and writes nothing of ours.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Blocks what was blocked at the start, and nothing else.
pub(super) fn restore_mask() {
    let blocked = BLOCKED_AT_START.load(Ordering::Relaxed);
    // SAFETY: the kernel only reads the eight bytes of `blocked`, a local that outlives the call.
    unsafe {
        let none = ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const blocked, none, 8)
    };
}

/// Ignores what was ignored at the start, and nothing else. Handlers would be gone at the exec, but until then a signal
/// for the workload would run ours.
pub(super) fn restore_signals() {
    let ignored = IGNORED_AT_START.load(Ordering::Relaxed);
    for signal in SIGNALS {
        let is_ignored = ignored & 1 << (signal - 1) != 0;
        let handler = if is_ignored { libc::SIG_IGN } else { libc::SIG_DFL };
        let action = KernelAction { handler, flags: 0, restorer: 0, mask: 0 };
        // SAFETY: the kernel only reads `action`, a local of its own layout that outlives the call; neither handler
        // runs code of ours. It refuses SIGKILL and SIGSTOP, which nobody can ignore.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, ptr::null::<KernelAction>(), 8)
        };
    }
}

/// Makes the next exec close the standard descriptors that were closed at the start.
pub(super) fn close_on_exec_what_was_closed() {
    let closed = CLOSED_AT_START.load(Ordering::Relaxed);
    for fd in STANDARD.filter(|fd| closed & 1 << fd != 0) {
        // SAFETY: this fcntl takes integers only.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
