//! Starts a child that waits until it is seized, puts the filter on itself and becomes the workload.
//!
//! Between clone and exec the child may only make plain system calls: another thread may have held any lock at
//! the moment of the clone. Whatever the child needs is therefore built before, and its answer goes into a page
//! that both share.
//!
//! The child shares our descriptor table (`CLONE_FILES`) until its exec, which unshares it and closes what is
//! close-on-exec (execve(2)). So the listener that it makes appears in our table by itself, and no call that the
//! filter may trap has to carry it over. We keep it open: while a filter with a listener exists nobody can add
//! another listener (seccomp(2), `EBUSY`), so the workload cannot take trapped calls away from us.
#![expect(unsafe_code, reason = "the code between clone and exec is made of raw system calls")]

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
    sync::atomic::{AtomicI32, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::{
    Pid, futex,
    inherited::{block_signals, close_on_exec_what_was_closed, restore_mask, restore_signals, set_mask},
    page::SharedPage,
    signal,
};
use crate::limits;

/// What the child shall become. Everything is built before the clone.
#[derive(Debug)]
pub struct Image {
    program: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Image {
    /// A program by its path, its arguments (the first is its own name) and its environment (`NAME=value`).
    #[must_use]
    pub const fn new(program: CString, argv: Vec<CString>, envp: Vec<CString>) -> Self {
        Self { program, argv, envp }
    }
}

/// What the listener of the filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// It is held, and nothing comes from it: the filter reports to a tracer.
    Held,
    /// It is what the filter reports to: without it there is no workload.
    Answering,
}

/// How the filter was put on the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterState {
    /// `no_new_privs` had to be set, since `CAP_SYS_ADMIN` is missing: setuid programs and file capabilities have
    /// no effect in the workload.
    pub no_new_privs: bool,
    /// We hold the filter's listener.
    pub has_listener: bool,
}

/// Where the child failed before it became the workload, with an errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildFailure {
    /// Putting the filter on.
    Filter(i32),
    /// execve(2).
    Exec(i32),
}

const STAGE_START: i32 = 0;
const STAGE_FILTERED: i32 = 1;
const STAGE_FILTER_FAILED: i32 = 2;
const STAGE_EXEC_FAILED: i32 = 3;

const GATE_SHUT: u32 = 0;
const GATE_OPEN: u32 = 1;

/// The page that the child answers into. Zeroes are its start. All fields but `gate` and `stage` are Relaxed: the
/// Release of `stage` publishes them.
#[derive(Debug)]
#[repr(C)]
struct Answer {
    gate: AtomicU32,
    stage: AtomicI32,
    errno: AtomicI32,
    no_new_privs: AtomicI32,
    /// The listener's descriptor + 1; 0 for none.
    listener: AtomicI32,
}

/// A child between clone and exec. Dropping it does not end it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    answer: SharedPage<Answer>,
}

impl Child {
    /// Clones the child. Without instructions it puts no filter on itself. It has the signal mask and the dispositions that this process began with,
    /// waits until [`Self::open_gate`], and is killed if the calling thread ends before.
    ///
    /// # Errors
    /// What mmap(2) or clone(2) says.
    pub fn spawn(image: &Image, filter: &[libc::sock_filter], listening: Listening) -> io::Result<Self> {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&image.argv), pointers(&image.envp));
        // SAFETY: zeroes are an answer at its start, and all its fields are atomics.
        let answer = unsafe { SharedPage::<Answer>::map() }?;
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: filter.as_ptr().cast_mut(),
        };
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        close_on_exec_what_was_closed();
        // Our handlers must not run in the child: they would take the workload's signals for ours.
        let mask = block_signals();
        // SAFETY: without CLONE_VM this is a fork: the child runs on a copy of this stack, and below it makes
        // nothing but plain system calls until it execs or exits.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if pid == 0 {
            restore_signals();
            restore_mask();
            become_workload(&image.program, &argv, &envp, (&program, listening), &answer)
        }
        let error = io::Error::last_os_error();
        set_mask(&mask);
        match i32::try_from(pid) {
            Ok(pid) if pid > 0 => Ok(Self { pid: Pid(pid), answer }),
            _ => Err(error),
        }
    }

    /// The child's process.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets the child go on: it has been seized.
    pub fn open_gate(&self) {
        let answer = &self.answer;
        // Release: pairs with the Acquire in `become_workload`.
        answer.gate.store(GATE_OPEN, Ordering::Release);
        // A wake that fails leaves the child to its deadline.
        let _ = futex::wake_one(&answer.gate);
    }

    /// Why the child ended without becoming the workload; `None` if it did become it.
    #[must_use]
    pub fn failure(&self) -> Option<ChildFailure> {
        let answer = &self.answer;
        // Acquire: pairs with the Release of the child's last store.
        let stage = answer.stage.load(Ordering::Acquire);
        let errno = answer.errno.load(Ordering::Relaxed);
        match stage {
            STAGE_FILTER_FAILED => Some(ChildFailure::Filter(errno)),
            STAGE_EXEC_FAILED => Some(ChildFailure::Exec(errno)),
            _ => None,
        }
    }

    /// How the filter was put on; `None` before that.
    #[must_use]
    pub fn filter_state(&self) -> Option<FilterState> {
        let answer = &self.answer;
        // Acquire: pairs with the Release of STAGE_FILTERED.
        if answer.stage.load(Ordering::Acquire) == STAGE_START {
            return None;
        }
        Some(FilterState {
            no_new_privs: answer.no_new_privs.load(Ordering::Relaxed) != 0,
            has_listener: answer.listener.load(Ordering::Relaxed) != 0,
        })
    }

    /// Takes the listener over, once the filter is on: see [`Self::filter_state`]. Until the child's exec or end it must
    /// not be dropped, since the descriptor is in a table that both share.
    #[must_use]
    pub fn take_listener(&self) -> Option<OwnedFd> {
        // Relaxed: the child's store came before its Release of STAGE_FILTERED, which the caller has seen, or the kernel
        // has reported its exec or end to us.
        let fd = self.answer.listener.swap(0, Ordering::Relaxed) - 1;
        // SAFETY: the child made this descriptor in the table that we share until its exec, it told us its number once,
        // and the swap hands it out once. The child itself does not use it.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// The environment of this process as it is, with what is no `NAME=value`.
#[must_use]
pub fn environment() -> Vec<CString> {
    let mut strings = Vec::new();
    // SAFETY: nobody in this program changes the environment, so the vector and its strings stay as they are.
    let mut at = unsafe { environ };
    while !at.is_null() {
        // SAFETY: the vector ends with a null pointer, which has not been passed yet.
        let string = unsafe { *at };
        if string.is_null() {
            break;
        }
        // SAFETY: what is not the null pointer points to a string with its NUL.
        strings.push(unsafe { CStr::from_ptr(string) }.to_owned());
        // SAFETY: this was not the null pointer, so the vector goes on.
        at = unsafe { at.add(1) };
    }
    strings
}

/// Makes a program end with the thread that starts it (prctl(2), `PR_SET_PDEATHSIG`), and take signals as if we had
/// ignored none.
pub fn end_with_us(command: &mut Command) {
    let parent = Pid(nix::unistd::getpid().as_raw());
    let prepare = move || {
        signal::reset(libc::SIGXFSZ);
        signal::die_with(parent, libc::SIGTERM);
        Ok(())
    };
    // SAFETY: between fork and exec it makes plain system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// The child's whole life before exec. Nothing here may allocate, lock or panic.
fn become_workload(
    path: &CStr,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    (filter, listening): (&libc::sock_fprog, Listening),
    answer: &Answer,
) -> ! {
    signal::set_parent_death_signal(libc::SIGKILL);
    let deadline = Instant::now() + Duration::from_millis(limits::LAUNCH_MS_MAX);
    // Acquire: pairs with the Release in `open_gate`.
    while answer.gate.load(Ordering::Acquire) == GATE_SHUT {
        if Instant::now() > deadline {
            exit_now();
        }
        // Whatever ended the sleep, the loop looks again.
        let _ = futex::wait(&answer.gate, GATE_SHUT, Duration::from_millis(limits::LAUNCH_MS_MAX));
    }
    signal::set_parent_death_signal(0);
    if filter.len > 0
        && let Err(errno) = install(filter, listening, answer)
    {
        answer.errno.store(errno, Ordering::Relaxed);
        // Release: pairs with the Acquire in `failure`.
        answer.stage.store(STAGE_FILTER_FAILED, Ordering::Release);
        exit_now();
    }
    // Release: pairs with the Acquire in `filter_state`.
    answer.stage.store(STAGE_FILTERED, Ordering::Release);
    // SAFETY: `path` ends with a NUL; both vectors end with a null pointer and point to strings that live in this
    // copy of the address space.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    answer.errno.store(errno_now(), Ordering::Relaxed);
    // Release: pairs with the Acquire in `failure`.
    answer.stage.store(STAGE_EXEC_FAILED, Ordering::Release);
    exit_now()
}

/// Puts the filter on, with the listener if the kernel gives one, and with `no_new_privs` only if it must be.
fn install(filter: &libc::sock_fprog, listening: Listening, answer: &Answer) -> Result<(), i32> {
    // Without SPEC_ALLOW kernels before 5.16 slow the whole workload down by their mitigation of speculative store
    // bypass (seccomp(2), Linux 4.17).
    let spec_allow = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let mut flags = spec_allow
        | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | match listening {
            Listening::Held => 0,
            // Linux 5.19: from the moment that a notification has been received only a fatal signal takes its thread away.
            Listening::Answering => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        };
    // Three tries suffice: each error below is answered once.
    for _ in 0..3 {
        // SAFETY: `filter` points to a program of `len` instructions that the kernel copies before it returns.
        let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, filter) };
        if fd >= 0 {
            if flags != spec_allow {
                answer.listener.store(i32::try_from(fd).unwrap_or(-1).saturating_add(1), Ordering::Relaxed);
            }
            return Ok(());
        }
        match errno_now() {
            libc::EACCES => {
                // SAFETY: this prctl takes integers only.
                unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
                answer.no_new_privs.store(1, Ordering::Relaxed);
            }
            // A container runtime holds a listener over us, so the workload cannot get one either.
            libc::EBUSY if listening == Listening::Held => flags = spec_allow,
            errno => return Err(errno),
        }
    }
    Err(errno_now())
}

fn errno_now() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn exit_now() -> ! {
    // SAFETY: _exit runs no handlers and never returns.
    unsafe { libc::_exit(127) }
}
