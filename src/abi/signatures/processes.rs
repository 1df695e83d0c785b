//! Calls on processes and threads: their birth and end, identity, signals, scheduling, tracing, confinement.

use super::ArgumentKind::{
    Argv, DirFd, Envp, Fd, Flags, Gid, Hex, Path, Pid, Signal, Signed, Size, Struct, StructSized, Uid,
    Unsigned,
};
use super::{Argument, FlagSet, Line, Signature, signatures};

pub(super) const CALLS: &[Line] = signatures! {
    // Birth and end.
    execve (filename: Path, argv: Argv, envp: Envp);
    execveat (dirfd: DirFd, pathname: Path, argv: Argv, envp: Envp, flags: Flags(FlagSet::At));
    fork ();
    vfork ();
    clone (flags: Flags(FlagSet::Clone), stack: Hex, parent_tid: Hex, child_tid: Hex, tls: Hex);
    clone3 (cl_args: StructSized { length_argument: 1 }, size: Size);
    exit (status: Signed);
    exit_group (status: Signed);
    wait4 (pid: Pid, wstatus: Hex, options: Flags(FlagSet::Wait), rusage: Hex);
    waitid (idtype: Flags(FlagSet::IdType), id: Pid, infop: Hex, options: Flags(FlagSet::Wait), rusage: Hex);
    waitpid (pid: Pid, wstatus: Hex, options: Flags(FlagSet::Wait));
    pidfd_open (pid: Pid, flags: Flags(FlagSet::Pidfd));
    pidfd_getfd (pid_fd: Fd, target_fd: Fd, flags: Hex);
    pidfd_send_signal (pidfd: Fd, sig: Signal, info: Hex, flags: Hex);
    set_tid_address (tidptr: Hex);
    rseq (rseq: Hex, rseq_len: Unsigned, flags: Hex, sig: Hex);
    rseq_slice_yield ();
    restart_syscall ();
    uretprobe ();
    uprobe ();

    // Identity.
    getpid ();
    getppid ();
    gettid ();
    getpgrp ();
    getpgid (pid: Pid);
    setpgid (pid: Pid, pgid: Pid);
    getsid (pid: Pid);
    setsid ();
    getuid | getuid32 ();
    geteuid | geteuid32 ();
    getgid | getgid32 ();
    getegid | getegid32 ();
    setuid | setuid32 (uid: Uid);
    setgid | setgid32 (gid: Gid);
    setreuid | setreuid32 (ruid: Uid, euid: Uid);
    setregid | setregid32 (rgid: Gid, egid: Gid);
    setresuid | setresuid32 (ruid: Uid, euid: Uid, suid: Uid);
    setresgid | setresgid32 (rgid: Gid, egid: Gid, sgid: Gid);
    getresuid | getresuid32 (ruid: Hex, euid: Hex, suid: Hex);
    getresgid | getresgid32 (rgid: Hex, egid: Hex, sgid: Hex);
    setfsuid | setfsuid32 (fsuid: Uid);
    setfsgid | setfsgid32 (fsgid: Gid);
    getgroups | getgroups32 (size: Signed, list: Hex);
    setgroups | setgroups32 (size: Signed, list: Hex);
    capget (hdrp: Struct { bytes: 8 }, datap: Hex);
    capset (hdrp: Struct { bytes: 8 }, datap: Struct { bytes: 24 });

    // Signals.
    kill (pid: Pid, sig: Signal);
    tkill (tid: Pid, sig: Signal);
    tgkill (tgid: Pid, tid: Pid, sig: Signal);
    rt_sigaction (signum: Signal, act: Hex, oldact: Hex, sigsetsize: Size);
    rt_sigprocmask (how: Flags(FlagSet::MaskHow), set: Hex, oldset: Hex, sigsetsize: Size);
    rt_sigpending (set: Hex, sigsetsize: Size);
    rt_sigsuspend (mask: Hex, sigsetsize: Size);
    rt_sigtimedwait | rt_sigtimedwait_time64 (set: Hex, info: Hex, timeout: Hex, sigsetsize: Size);
    rt_sigqueueinfo (tgid: Pid, sig: Signal, info: Hex);
    rt_tgsigqueueinfo (tgid: Pid, tid: Pid, sig: Signal, info: Hex);
    rt_sigreturn ();
    sigaltstack (ss: Hex, old_ss: Hex);
    pause ();
    signal (signum: Signal, handler: Hex);
    sigaction (signum: Signal, act: Hex, oldact: Hex);
    sigprocmask (how: Flags(FlagSet::MaskHow), set: Hex, oldset: Hex);
    sigpending (set: Hex);
    sigreturn ();
    sgetmask ();
    ssetmask (newmask: Hex);

    // Limits and scheduling.
    getrlimit | ugetrlimit (resource: Flags(FlagSet::Resource), rlim: Hex);
    setrlimit (resource: Flags(FlagSet::Resource), rlim: Struct { bytes: 16 });
    prlimit64
        (pid: Pid, resource: Flags(FlagSet::Resource), new_limit: Struct { bytes: 16 }, old_limit: Hex);
    getrusage (who: Signed, usage: Hex);
    times (buf: Hex);
    nice (inc: Signed);
    getpriority (which: Signed, who: Signed);
    setpriority (which: Signed, who: Signed, prio: Signed);
    ioprio_get (which: Signed, who: Signed);
    ioprio_set (which: Signed, who: Signed, ioprio: Hex);
    sched_yield ();
    sched_setparam (pid: Pid, param: Hex);
    sched_getparam (pid: Pid, param: Hex);
    sched_setscheduler (pid: Pid, policy: Flags(FlagSet::Scheduler), param: Hex);
    sched_getscheduler (pid: Pid);
    sched_get_priority_max (policy: Flags(FlagSet::Scheduler));
    sched_get_priority_min (policy: Flags(FlagSet::Scheduler));
    sched_rr_get_interval | sched_rr_get_interval_time64 (pid: Pid, tp: Hex);
    sched_setaffinity (pid: Pid, cpusetsize: Size, mask: Hex);
    sched_getaffinity (pid: Pid, cpusetsize: Size, mask: Hex);
    sched_setattr (pid: Pid, attr: Hex, flags: Hex);
    sched_getattr (pid: Pid, attr: Hex, size: Unsigned, flags: Hex);
    getcpu (cpu: Hex, node: Hex, tcache: Hex);

    // Tracing and attributes of a process.
    ptrace (request: Flags(FlagSet::Ptrace), pid: Pid, addr: Hex, data: Hex);
    prctl (option: Flags(FlagSet::Prctl), arg2: Hex, arg3: Hex, arg4: Hex, arg5: Hex);
    arch_prctl (code: Hex, addr: Hex);
    personality (persona: Hex);
    kcmp (pid1: Pid, pid2: Pid, type: Signed, idx1: Hex, idx2: Hex);
    perf_event_open (attr: Hex, pid: Pid, cpu: Signed, group_fd: Fd, flags: Hex);
    modify_ldt (func: Signed, ptr: Hex, bytecount: Size);
    set_thread_area (u_info: Hex);
    get_thread_area (u_info: Hex);
    vm86 (fn: Size, v86: Hex);
    vm86old (info: Hex);

    // Confinement.
    unshare (flags: Flags(FlagSet::Namespace));
    setns (fd: Fd, nstype: Flags(FlagSet::Namespace));
    seccomp (operation: Flags(FlagSet::Seccomp), flags: Flags(FlagSet::SeccompFilter), args: Hex);
    landlock_create_ruleset (attr: Hex, size: Size, flags: Hex);
    landlock_add_rule (ruleset_fd: Fd, rule_type: Signed, rule_attr: Hex, flags: Hex);
    landlock_restrict_self (ruleset_fd: Fd, flags: Hex);
    lsm_get_self_attr (attr: Unsigned, ctx: Hex, size: Hex, flags: Hex);
    lsm_set_self_attr (attr: Unsigned, ctx: Hex, size: Size, flags: Hex);
    lsm_list_modules (ids: Hex, size: Hex, flags: Hex);
};
