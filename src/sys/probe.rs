//! What this machine lets us do. Each answer comes from doing it, to a throw-away child or with harmless arguments, and
//! never from a kernel's version: a container's seccomp profile, a security module or a missing capability refuses what
//! the kernel has.
//!
//! Nothing here decides anything (`engine::choice` does), and nothing remains: the child is reaped, and what a filter
//! or `no_new_privs` does to it is its own. Read `child.rs` before you add a probe that needs a process.
#![expect(unsafe_code, reason = "calls with arguments that no wrapper would make")]

mod child;

use std::{collections::BTreeMap, ffi::CStr, fs, io, ptr};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

use super::process;

/// Something that the kernel may let us do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// A process puts a seccomp filter on itself.
    Filter,
    /// It does so without `no_new_privs`, which takes `CAP_SYS_ADMIN`.
    FilterKeepsPrivileges,
    /// The filter comes with a listener. `EBUSY`: a filter over us has one, and the kernel allows no second.
    Listener,
    /// A call is reported to the listener, answered with `CONTINUE`, and made.
    Notification,
    /// A reported call waits for its answer whatever signals come, short of one that kills.
    WaitKillable,
    /// The listener's reader is woken on the caller's own CPU.
    SyncWakeUp,
    /// A child of ours can be traced (PTRACE_SEIZE).
    Seize,
    /// A call that the filter answers with `RET_TRACE` is reported to the tracer.
    Trace,
    /// The tracer is told which call it is (PTRACE_GET_SYSCALL_INFO).
    SyscallInfo,
    /// A process is held by a descriptor.
    PidfdOpen,
    /// A descriptor of a child is duplicated into this process.
    PidfdGetfd,
    /// The descriptor of a process that is gone tells how it ended.
    PidfdExitInfo,
    /// A child's memory is read by process_vm_readv(2).
    ProcessVmReadv,
    /// A child's memory is read through `/proc/PID/mem`.
    ProcMem,
    /// `/proc` shows a child.
    Proc,
    /// `/proc` shows the processes of other users: it is not mounted with `hidepid`.
    ProcOthers,
    /// A file in memory can be sealed.
    MemfdSeals,
    /// clone3(2) is there for the workload.
    Clone3,
    /// io_uring_setup(2) is refused.
    IoUringRefused,
    /// This process has `CAP_SYS_PTRACE`.
    CapSysPtrace,
    /// This process has `CAP_SYS_ADMIN`.
    CapSysAdmin,
}

impl Probe {
    /// Every probe, in the order in which people should read them.
    pub const ALL: [Self; 21] = [
        Self::Filter,
        Self::FilterKeepsPrivileges,
        Self::Listener,
        Self::Notification,
        Self::WaitKillable,
        Self::SyncWakeUp,
        Self::Seize,
        Self::Trace,
        Self::SyscallInfo,
        Self::PidfdOpen,
        Self::PidfdGetfd,
        Self::PidfdExitInfo,
        Self::ProcessVmReadv,
        Self::ProcMem,
        Self::Proc,
        Self::ProcOthers,
        Self::MemfdSeals,
        Self::Clone3,
        Self::IoUringRefused,
        Self::CapSysPtrace,
        Self::CapSysAdmin,
    ];

    /// Its name for programs, what it is in a few words, and the Linux that has it first, where its man page tells.
    #[must_use]
    pub const fn facts(self) -> ProbeFacts {
        let (key, name, since) = match self {
            Self::Filter => ("filter", "seccomp filter", Some("4.17")),
            Self::FilterKeepsPrivileges => {
                ("filter_keeps_privileges", "seccomp filter without no_new_privs", None)
            }
            Self::Listener => ("listener", "seccomp listener", Some("5.0")),
            Self::Notification => {
                ("notification", "seccomp notification that lets a call go on", Some("5.5"))
            }
            Self::WaitKillable => (
                "wait_killable",
                "notification that signals do not interrupt (WAIT_KILLABLE_RECV)",
                Some("5.19"),
            ),
            Self::SyncWakeUp => {
                ("sync_wake_up", "notification on the caller's CPU (SYNC_WAKE_UP)", Some("6.6"))
            }
            Self::Seize => ("seize", "ptrace of an own child (PTRACE_SEIZE)", Some("3.4")),
            Self::Trace => ("trace", "trapped calls reported to ptrace (SECCOMP_RET_TRACE)", Some("3.5")),
            Self::SyscallInfo => ("syscall_info", "PTRACE_GET_SYSCALL_INFO", Some("5.3")),
            Self::PidfdOpen => ("pidfd_open", "pidfd_open", Some("5.3")),
            Self::PidfdGetfd => ("pidfd_getfd", "pidfd_getfd", Some("5.6")),
            Self::PidfdExitInfo => ("pidfd_exit_info", "exit status by pidfd (PIDFD_GET_INFO)", Some("6.15")),
            Self::ProcessVmReadv => ("process_vm_readv", "process_vm_readv of an own child", Some("3.2")),
            Self::ProcMem => ("proc_mem", "/proc/PID/mem of an own child", None),
            Self::Proc => ("proc", "/proc", None),
            Self::ProcOthers => ("proc_others", "/proc of other users' processes", None),
            Self::MemfdSeals => ("memfd_seals", "sealed memfd", Some("3.17")),
            Self::Clone3 => ("clone3", "clone3", Some("5.3")),
            Self::IoUringRefused => ("io_uring_refused", "io_uring is refused", None),
            Self::CapSysPtrace => ("cap_sys_ptrace", "CAP_SYS_PTRACE", None),
            Self::CapSysAdmin => ("cap_sys_admin", "CAP_SYS_ADMIN", None),
        };
        ProbeFacts { key, name, since }
    }
}

/// What there is to know of a [`Probe`] on any machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeFacts {
    /// Its name in JSON.
    pub key: &'static str,
    /// What it is, for people.
    pub name: &'static str,
    /// The first Linux that has it.
    pub since: Option<&'static str>,
}

/// What came of a [`Probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Yes,
    /// It was not, and the kernel said why, if it said anything.
    No(Option<Errno>),
    /// It could not be tried, since what it builds on failed.
    Untried,
}

impl Answer {
    fn of<T, E: Into<io::Error>>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Yes,
            Err(error) => Self::No(error.into().raw_os_error().map(Errno::from_raw)),
        }
    }

    const fn of_bool(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No(None) }
    }

    /// The answer to a call that was made with arguments which the kernel must refuse by one of `expected`, after it
    /// has found that the call itself is permitted.
    fn of_refusal(result: libc::c_long, expected: &[Errno]) -> Self {
        match Errno::result(result) {
            Err(errno) if !expected.contains(&errno) => Self::No(Some(errno)),
            _ => Self::Yes,
        }
    }
}

/// All answers of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(BTreeMap<Probe, Answer>);

impl Probes {
    /// Asks everything: some milliseconds, two seconds at the very most where a child hangs.
    ///
    /// Call it while this thread has no tracees, and before [`super::signal::deny_access`].
    #[must_use]
    pub fn run() -> Self {
        let has = |capability| Answer::of_bool(process::has_capability(capability) == Some(true));
        let mut probes: Self = [
            (Probe::ProcOthers, Answer::of(fs::read("/proc/1/status"))),
            (Probe::MemfdSeals, Answer::of(seal())),
            (Probe::Clone3, clone3()),
            (Probe::IoUringRefused, io_uring_refused()),
            (Probe::CapSysPtrace, has(process::CAP_SYS_PTRACE)),
            (Probe::CapSysAdmin, has(process::CAP_SYS_ADMIN)),
        ]
        .into_iter()
        .collect();
        child::run(&mut probes);
        probes
    }

    /// The answer to one question.
    #[must_use]
    pub fn answer(&self, probe: Probe) -> Answer {
        self.0.get(&probe).copied().unwrap_or(Answer::Untried)
    }

    fn set(&mut self, probe: Probe, answer: Answer) {
        self.0.insert(probe, answer);
    }
}

impl FromIterator<(Probe, Answer)> for Probes {
    fn from_iter<I: IntoIterator<Item = (Probe, Answer)>>(answers: I) -> Self {
        Self(answers.into_iter().collect())
    }
}

/// How this process stands, as far as that explains answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The release of the kernel (uname(2)).
    pub kernel: String,
    /// Its effective user.
    pub uid: u32,
    /// It is the first process of its PID namespace.
    pub is_pid_1: bool,
    /// `kernel.yama.ptrace_scope`; `None` where there is no Yama, or no `/proc/sys`.
    pub ptrace_scope: Option<u8>,
    /// `no_new_privs` was set before us.
    pub has_no_new_privs: bool,
    /// Somebody has put a seccomp filter over us.
    pub has_filter: bool,
}

impl Standing {
    /// Asks.
    #[must_use]
    pub fn find() -> Self {
        let kernel = nix::sys::utsname::uname().map(|names| names.release().to_string_lossy().into_owned());
        let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
        Self {
            kernel: kernel.unwrap_or_default(),
            uid: nix::unistd::geteuid().as_raw(),
            is_pid_1: std::process::id() == 1,
            ptrace_scope: scope.ok().and_then(|text| text.trim().parse().ok()),
            has_no_new_privs: ask_prctl(libc::PR_GET_NO_NEW_PRIVS) == 1,
            has_filter: ask_prctl(libc::PR_GET_SECCOMP) > 0,
        }
    }
}

fn ask_prctl(question: i32) -> i32 {
    // SAFETY: the questions asked here take integers only.
    unsafe { libc::prctl(question, 0, 0, 0, 0) }
}

fn seal() -> nix::Result<()> {
    const NAME: &CStr = c"creance-probe";
    let file = memfd_create(NAME, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL)).map(drop)
}

/// A size below the smallest is `EINVAL` (clone(2)).
fn clone3() -> Answer {
    // SAFETY: with a size of 0 the kernel reads nothing, and makes nothing.
    let result = unsafe { libc::syscall(libc::SYS_clone3, ptr::null::<libc::clone_args>(), 0) };
    Answer::of_refusal(result, &[Errno::EINVAL])
}

/// No parameters are `EFAULT` or `EINVAL`, unless it is refused before (io_uring_setup(2)).
fn io_uring_refused() -> Answer {
    // SAFETY: the kernel finds no parameters at the null pointer, and makes nothing.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0, ptr::null::<libc::c_void>()) };
    let allowed = Answer::of_refusal(result, &[Errno::EFAULT, Errno::EINVAL]);
    Answer::of_bool(allowed != Answer::Yes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_probe_has_a_key_of_its_own() {
        let keys: BTreeSet<_> = Probe::ALL.into_iter().map(|probe| probe.facts().key).collect();
        assert_eq!(keys.len(), Probe::ALL.len());
    }

    #[test]
    fn every_probe_is_answered_and_leaves_nothing() {
        let probes = Probes::run();
        for probe in Probe::ALL {
            assert!(probes.0.contains_key(&probe), "{probe:?}");
        }
        // What builds on another thing is tried if and only if that works.
        for (on, tried) in [
            (Probe::Filter, Probe::FilterKeepsPrivileges),
            (Probe::Filter, Probe::Listener),
            (Probe::Listener, Probe::Notification),
            (Probe::Listener, Probe::SyncWakeUp),
            (Probe::Trace, Probe::SyscallInfo),
            (Probe::PidfdOpen, Probe::PidfdGetfd),
            (Probe::PidfdOpen, Probe::PidfdExitInfo),
        ] {
            let is_tried = probes.answer(tried) != Answer::Untried;
            assert_eq!(is_tried, probes.answer(on) == Answer::Yes, "{on:?}, {tried:?}: {probes:?}");
        }
        // Of this thread alone: other tests have children of theirs.
        // SAFETY: a null status is not written to.
        let left =
            unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD) };
        assert_eq!((left, Errno::last()), (-1, Errno::ECHILD));
    }
}
