//! What is lost where the machine does not permit something, and what to change: for `creance doctor`, and for the
//! error that refuses an engine.
//!
//! Every text completes a line of its own, so it begins small and has no full stop.

use crate::sys::probe::Probe;

/// What does not work without it.
#[must_use]
pub const fn lost(probe: Probe) -> &'static str {
    match probe {
        Probe::Filter => "everything: no call can be trapped",
        Probe::FilterKeepsPrivileges => {
            "no_new_privs is set: setuid programs (sudo, ping) run without their privileges in the workload"
        }
        Probe::Listener => {
            "the notify engine; and where nobody else holds one, the workload can take trapped calls away by its own"
        }
        Probe::Notification | Probe::WaitKillable => "the notify engine",
        Probe::SyncWakeUp => "the notify engine answers a call later, by a wake-up of another CPU",
        Probe::Seize => "everything: results of calls and processes cannot be seen",
        Probe::Trace | Probe::SyscallInfo => "the ptrace engine",
        Probe::PidfdOpen => "signals sent to creance do not reach the workload",
        Probe::PidfdGetfd => "addresses of sockets are looked up in the kernel's tables, which takes longer",
        Probe::PidfdExitInfo => {
            "the notify engine does not know of every process how it ended; nothing in the ptrace engine"
        }
        Probe::ProcessVmReadv => {
            "memory is read through /proc/PID/mem: one more system call for each argument"
        }
        Probe::ProcMem => "nothing while process_vm_readv works; else arguments are read a word at a time",
        Probe::Proc => "names, users and directories of processes",
        Probe::ProcOthers => "names and users of processes that have changed their user",
        Probe::MemfdSeals => "the ring, and so everything",
        Probe::Clone3 => "nothing: C libraries fall back to clone",
        Probe::IoUringRefused => {
            "a hostile workload can open and connect unseen by io_uring (its setup is shown)"
        }
        Probe::CapSysPtrace => {
            "paths and addresses of a process that changes its user and does not exec afterwards"
        }
        Probe::CapSysAdmin => "nothing beyond filters without no_new_privs",
    }
}

/// What to change to have it.
#[must_use]
pub const fn change(probe: Probe) -> &'static str {
    match probe {
        Probe::Filter => {
            "permit seccomp(2) in the container's seccomp profile, on a kernel with CONFIG_SECCOMP_FILTER"
        }
        Probe::FilterKeepsPrivileges => {
            "add CAP_SYS_ADMIN, if the workload needs setuid programs (or CAP_SYS_PTRACE, and --no-filter)"
        }
        Probe::Listener => {
            "EBUSY means that the container's runtime holds one: remove SCMP_ACT_NOTIFY from its seccomp profile; else take \
             a newer kernel"
        }
        Probe::Notification | Probe::SyscallInfo | Probe::PidfdOpen | Probe::MemfdSeals => {
            "take a newer kernel, and a seccomp profile that permits it"
        }
        Probe::WaitKillable | Probe::SyncWakeUp | Probe::PidfdExitInfo => "take a newer kernel",
        Probe::Seize | Probe::Trace => {
            "permit ptrace(2) in the container's seccomp profile, and set kernel.yama.ptrace_scope to 1 or 0"
        }
        Probe::PidfdGetfd | Probe::ProcessVmReadv => {
            "add CAP_SYS_PTRACE (in ECS: linuxParameters.capabilities.add), or permit it in the seccomp profile"
        }
        Probe::ProcMem => "set kernel.yama.ptrace_scope to 1 or 0, and mount /proc writable by its owner",
        Probe::Proc => "mount /proc in the container",
        Probe::ProcOthers => "mount /proc without hidepid, or add CAP_SYS_PTRACE",
        Probe::Clone3 => "nothing",
        Probe::IoUringRefused => {
            "set kernel.io_uring_disabled to 2, or refuse io_uring_setup in the seccomp profile"
        }
        Probe::CapSysPtrace => {
            "add it, if the workload changes its user (in ECS: linuxParameters.capabilities.add)"
        }
        Probe::CapSysAdmin => "add it, if the workload needs setuid programs",
    }
}
