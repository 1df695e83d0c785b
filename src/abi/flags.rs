//! Words for the values of flag and choice arguments, for signals and for errors, as the kernel numbers them.
//!
//! The values are those of the native ABI: `O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT` and `O_LARGEFILE` differ between
//! x86 and Arm. They are never Falco's own (PPM) values. A set is a list of words in the order in which they are
//! tried: a word of several bits must stand before the words that are part of it.

use std::fmt;

/// A word and the values that it stands for: those with exactly `bits` under `mask`.
#[derive(Debug, Clone, Copy)]
struct Word {
    mask: u64,
    bits: u64,
    text: &'static str,
}

impl Word {
    /// A flag, which stands beside others.
    const fn flag(bits: u64, text: &'static str) -> Self {
        Self { mask: bits, bits, text }
    }

    /// One of the values of the field under `mask`.
    const fn choice(mask: u64, bits: u64, text: &'static str) -> Self {
        Self { mask, bits, text }
    }
}

/// The part of a register that the kernel looks at for an argument of type `int` or `unsigned int`.
const LOW_32: u64 = 0xffff_ffff;

/// All of a register, for an argument of type `unsigned long`.
const ALL_64: u64 = u64::MAX;

/// Flags that libc names, with the kernel's value, on every system that creance builds for.
macro_rules! flags {
    ($($name:ident)+) => { &[$(Word::flag(libc::$name as u64, stringify!($name))),+] };
}

/// Choices that libc names in the same way, of the field under the given mask.
macro_rules! choices {
    ($mask:expr; $($name:ident)+) => { &[$(Word::choice($mask, libc::$name as u64, stringify!($name))),+] };
}

/// Flags that libc lacks, or that not every libc has with the kernel's value: these are the kernel's headers'.
macro_rules! more_flags {
    ($($name:ident = $bits:expr),+ $(,)?) => { &[$(Word::flag($bits, stringify!($name))),+] };
}

/// Choices from the kernel's headers, of the field under the given mask.
macro_rules! more_choices {
    ($mask:expr; $($name:ident = $bits:expr),+ $(,)?) => {
        &[$(Word::choice($mask, $bits, stringify!($name))),+]
    };
}

/// Defines [`FlagSet`]: for each set, the part of the register that counts and its words.
macro_rules! flag_sets {
    ($($(#[$doc:meta])+ $set:ident($width:expr): $($words:expr),+;)+) => {
        /// A set of words for an argument: flags that are or-ed together, choices of which one applies, or both.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FlagSet {
            $($(#[$doc])+ $set),+
        }

        impl FlagSet {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$set),+];

            const fn width(self) -> u64 {
                match self {
                    $(Self::$set => $width),+
                }
            }

            const fn words(self) -> &'static [&'static [Word]] {
                match self {
                    $(Self::$set => {
                        const WORDS: &[&[Word]] = &[$($words),+];
                        WORDS
                    })+
                }
            }
        }
    };
}

flag_sets! {
    /// Flags of open(2) and openat2(2). The access mode is a choice: 0 is `O_RDONLY`.
    Open(LOW_32): choices!(3; O_RDONLY O_WRONLY O_RDWR),
        flags!(O_TMPFILE O_SYNC O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DSYNC O_ASYNC O_DIRECT
            O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH),
        // glibc says 0 on 64-bit machines, where it need not be given; musl and others give it all the same.
        more_flags!(O_LARGEFILE = if cfg!(target_arch = "aarch64") { 0o400_000 } else { 0o100_000 });
    /// Flags of a call that opens by the rules of its own and takes only few of open(2)'s: pipe2(2), dup3(2).
    Descriptor(LOW_32): flags!(O_CLOEXEC O_NONBLOCK O_DIRECT);
    /// `AT_*` flags of linkat(2), statx(2), fchownat(2), execveat(2) and their like.
    At(LOW_32): more_flags!(AT_SYMLINK_NOFOLLOW = 0x100, AT_SYMLINK_FOLLOW = 0x400,
        AT_NO_AUTOMOUNT = 0x800, AT_EMPTY_PATH = 0x1000, AT_STATX_FORCE_SYNC = 0x2000,
        AT_STATX_DONT_SYNC = 0x4000, AT_RECURSIVE = 0x8000, AT_EXECVE_CHECK = 0x1_0000);
    /// Flags of unlinkat(2).
    Unlink(LOW_32): flags!(AT_REMOVEDIR);
    /// Flags of faccessat2(2).
    AccessAt(LOW_32): flags!(AT_EACCESS AT_SYMLINK_NOFOLLOW AT_EMPTY_PATH);
    /// Mode of access(2).
    Access(LOW_32): more_choices!(LOW_32; F_OK = 0), flags!(R_OK W_OK X_OK);
    /// Flags of clone(2) and clone3(2), with the signal of the child's exit in the low byte.
    Clone(ALL_64): CLONE_FLAGS, more_flags!(CLONE_CLEAR_SIGHAND = 1 << 32, CLONE_INTO_CGROUP = 1 << 33), SIGNALS;
    /// Namespaces and shared state for unshare(2) and setns(2).
    Namespace(LOW_32): more_flags!(CLONE_NEWTIME = 0x80), CLONE_FLAGS;
    /// Socket domain: `AF_*`.
    Domain(LOW_32): choices!(LOW_32; AF_UNSPEC AF_UNIX AF_INET AF_AX25 AF_IPX AF_APPLETALK AF_NETROM AF_BRIDGE
        AF_ATMPVC AF_X25 AF_INET6 AF_ROSE AF_KEY AF_NETLINK AF_PACKET AF_RDS AF_PPPOX AF_LLC AF_CAN AF_TIPC
        AF_BLUETOOTH AF_RXRPC AF_ISDN AF_PHONET AF_IEEE802154 AF_ALG),
        more_choices!(LOW_32; AF_NFC = 39, AF_VSOCK = 40, AF_KCM = 41, AF_QIPCRTR = 42, AF_SMC = 43, AF_XDP = 44,
            AF_MCTP = 45);
    /// Type of a socket, with its flags.
    SocketType(LOW_32): choices!(0xf; SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET SOCK_DCCP),
        more_choices!(0xf; SOCK_PACKET = 10), flags!(SOCK_CLOEXEC SOCK_NONBLOCK);
    /// Flags of accept4(2).
    Accept(LOW_32): flags!(SOCK_CLOEXEC SOCK_NONBLOCK);
    /// Level of setsockopt(2).
    SocketLevel(LOW_32): more_choices!(LOW_32; SOL_IP = 0, SOL_SOCKET = 1, SOL_TCP = 6, SOL_UDP = 17,
        SOL_IPV6 = 41, SOL_ICMPV6 = 58, SOL_SCTP = 132, SOL_RAW = 255, SOL_PACKET = 263, SOL_NETLINK = 270,
        SOL_TLS = 282, SOL_ALG = 279, SOL_XDP = 283, SOL_VSOCK = 287);
    /// Flags of sendto(2), recvfrom(2) and their like.
    Message(LOW_32): flags!(MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL
        MSG_CONFIRM MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_WAITFORONE MSG_FASTOPEN MSG_CMSG_CLOEXEC),
        more_flags!(MSG_ZEROCOPY = 0x400_0000);
    /// Which half shutdown(2) closes.
    Shutdown(LOW_32): choices!(LOW_32; SHUT_RD SHUT_WR SHUT_RDWR);
    /// Protection of mmap(2) and mprotect(2).
    Protection(ALL_64): more_choices!(ALL_64; PROT_NONE = 0),
        flags!(PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP), more_flags!(PROT_SEM = 8);
    /// Flags of mmap(2).
    Map(ALL_64): more_choices!(0xf; MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_SHARED_VALIDATE = 3),
        flags!(MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE MAP_LOCKED MAP_NORESERVE
            MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_HUGETLB MAP_SYNC),
        more_flags!(MAP_FIXED_NOREPLACE = 0x10_0000),
        more_choices!(0x3f << 26; MAP_HUGE_64KB = 16 << 26, MAP_HUGE_2MB = 21 << 26, MAP_HUGE_1GB = 30 << 26),
        // Bit 6 means nothing to Arm.
        if cfg!(target_arch = "x86_64") { more_flags!(MAP_32BIT = 0x40) } else { &[] };
    /// Flags of mremap(2).
    Remap(ALL_64): more_flags!(MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2, MREMAP_DONTUNMAP = 4);
    /// Flags of msync(2).
    Sync(LOW_32): flags!(MS_ASYNC MS_INVALIDATE MS_SYNC);
    /// Flags of mlockall(2).
    LockAll(LOW_32): flags!(MCL_CURRENT MCL_FUTURE), more_flags!(MCL_ONFAULT = 4);
    /// Flags of mlock2(2).
    Lock(LOW_32): more_flags!(MLOCK_ONFAULT = 1);
    /// Advice of madvise(2).
    Advice(LOW_32): choices!(LOW_32; MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE
        MADV_REMOVE MADV_DONTFORK MADV_DOFORK MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE MADV_NOHUGEPAGE
        MADV_DONTDUMP MADV_DODUMP MADV_HWPOISON),
        more_choices!(LOW_32; MADV_WIPEONFORK = 18, MADV_KEEPONFORK = 19, MADV_COLD = 20, MADV_PAGEOUT = 21,
            MADV_POPULATE_READ = 22, MADV_POPULATE_WRITE = 23, MADV_DONTNEED_LOCKED = 24, MADV_COLLAPSE = 25);
    /// Flags of memfd_create(2).
    Memfd(LOW_32): more_flags!(MFD_CLOEXEC = 1, MFD_ALLOW_SEALING = 2, MFD_HUGETLB = 4, MFD_NOEXEC_SEAL = 8,
        MFD_EXEC = 16);
    /// Flags of renameat2(2).
    Rename(LOW_32): more_flags!(RENAME_NOREPLACE = 1, RENAME_EXCHANGE = 2, RENAME_WHITEOUT = 4);
    /// Flags of mount(2). The magic number of old programs in the upper half is a choice.
    Mount(ALL_64): more_choices!(0xffff_0000; MS_MGC_VAL = 0xc0ed_0000),
        flags!(MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_SYNCHRONOUS MS_REMOUNT MS_MANDLOCK MS_DIRSYNC MS_NOATIME
            MS_NODIRATIME MS_BIND MS_MOVE MS_REC MS_SILENT MS_POSIXACL MS_UNBINDABLE MS_PRIVATE MS_SLAVE MS_SHARED
            MS_RELATIME MS_I_VERSION MS_STRICTATIME),
        more_flags!(MS_NOSYMFOLLOW = 0x100, MS_LAZYTIME = 1 << 25);
    /// Flags of umount2(2).
    Unmount(LOW_32): more_flags!(MNT_FORCE = 1, MNT_DETACH = 2, MNT_EXPIRE = 4, UMOUNT_NOFOLLOW = 8);
    /// Flags of open_tree(2).
    OpenTree(LOW_32): more_flags!(OPEN_TREE_CLONE = 1, OPEN_TREE_CLOEXEC = 0o200_0000,
        AT_SYMLINK_NOFOLLOW = 0x100, AT_NO_AUTOMOUNT = 0x800, AT_EMPTY_PATH = 0x1000, AT_RECURSIVE = 0x8000);
    /// Flags of move_mount(2).
    MoveMount(LOW_32): more_flags!(MOVE_MOUNT_F_SYMLINKS = 1, MOVE_MOUNT_F_AUTOMOUNTS = 2,
        MOVE_MOUNT_F_EMPTY_PATH = 4, MOVE_MOUNT_T_SYMLINKS = 0x10, MOVE_MOUNT_T_AUTOMOUNTS = 0x20,
        MOVE_MOUNT_T_EMPTY_PATH = 0x40, MOVE_MOUNT_SET_GROUP = 0x100, MOVE_MOUNT_BENEATH = 0x200);
    /// Request of ptrace(2).
    Ptrace(ALL_64): more_choices!(ALL_64; PTRACE_TRACEME = 0, PTRACE_PEEKTEXT = 1, PTRACE_PEEKDATA = 2,
        PTRACE_PEEKUSER = 3, PTRACE_POKETEXT = 4, PTRACE_POKEDATA = 5, PTRACE_POKEUSER = 6, PTRACE_CONT = 7,
        PTRACE_KILL = 8, PTRACE_SINGLESTEP = 9, PTRACE_GETREGS = 12, PTRACE_SETREGS = 13, PTRACE_GETFPREGS = 14,
        PTRACE_SETFPREGS = 15, PTRACE_ATTACH = 16, PTRACE_DETACH = 17, PTRACE_GETFPXREGS = 18,
        PTRACE_SETFPXREGS = 19, PTRACE_SYSCALL = 24, PTRACE_GET_THREAD_AREA = 25, PTRACE_SET_THREAD_AREA = 26,
        PTRACE_ARCH_PRCTL = 30, PTRACE_SYSEMU = 31, PTRACE_SYSEMU_SINGLESTEP = 32, PTRACE_SINGLEBLOCK = 33,
        PTRACE_SETOPTIONS = 0x4200, PTRACE_GETEVENTMSG = 0x4201, PTRACE_GETSIGINFO = 0x4202,
        PTRACE_SETSIGINFO = 0x4203, PTRACE_GETREGSET = 0x4204, PTRACE_SETREGSET = 0x4205, PTRACE_SEIZE = 0x4206,
        PTRACE_INTERRUPT = 0x4207, PTRACE_LISTEN = 0x4208, PTRACE_PEEKSIGINFO = 0x4209,
        PTRACE_GETSIGMASK = 0x420a, PTRACE_SETSIGMASK = 0x420b, PTRACE_SECCOMP_GET_FILTER = 0x420c,
        PTRACE_SECCOMP_GET_METADATA = 0x420d, PTRACE_GET_SYSCALL_INFO = 0x420e,
        PTRACE_GET_RSEQ_CONFIGURATION = 0x420f, PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG = 0x4210,
        PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG = 0x4211, PTRACE_SET_SYSCALL_INFO = 0x4212);
    /// Command of bpf(2).
    Bpf(LOW_32): more_choices!(LOW_32; BPF_MAP_CREATE = 0, BPF_MAP_LOOKUP_ELEM = 1, BPF_MAP_UPDATE_ELEM = 2,
        BPF_MAP_DELETE_ELEM = 3, BPF_MAP_GET_NEXT_KEY = 4, BPF_PROG_LOAD = 5, BPF_OBJ_PIN = 6, BPF_OBJ_GET = 7,
        BPF_PROG_ATTACH = 8, BPF_PROG_DETACH = 9, BPF_PROG_TEST_RUN = 10, BPF_PROG_GET_NEXT_ID = 11,
        BPF_MAP_GET_NEXT_ID = 12, BPF_PROG_GET_FD_BY_ID = 13, BPF_MAP_GET_FD_BY_ID = 14,
        BPF_OBJ_GET_INFO_BY_FD = 15, BPF_PROG_QUERY = 16, BPF_RAW_TRACEPOINT_OPEN = 17, BPF_BTF_LOAD = 18,
        BPF_BTF_GET_FD_BY_ID = 19, BPF_TASK_FD_QUERY = 20, BPF_MAP_LOOKUP_AND_DELETE_ELEM = 21,
        BPF_MAP_FREEZE = 22, BPF_BTF_GET_NEXT_ID = 23, BPF_MAP_LOOKUP_BATCH = 24,
        BPF_MAP_LOOKUP_AND_DELETE_BATCH = 25, BPF_MAP_UPDATE_BATCH = 26, BPF_MAP_DELETE_BATCH = 27,
        BPF_LINK_CREATE = 28, BPF_LINK_UPDATE = 29, BPF_LINK_GET_FD_BY_ID = 30, BPF_LINK_GET_NEXT_ID = 31,
        BPF_ENABLE_STATS = 32, BPF_ITER_CREATE = 33, BPF_LINK_DETACH = 34, BPF_PROG_BIND_MAP = 35,
        BPF_TOKEN_CREATE = 36, BPF_PROG_STREAM_READ_BY_FD = 37);
    /// Option of prctl(2).
    Prctl(LOW_32): more_choices!(LOW_32; PR_SET_PDEATHSIG = 1, PR_GET_PDEATHSIG = 2, PR_GET_DUMPABLE = 3,
        PR_SET_DUMPABLE = 4, PR_GET_KEEPCAPS = 7, PR_SET_KEEPCAPS = 8, PR_SET_NAME = 15, PR_GET_NAME = 16,
        PR_GET_SECCOMP = 21, PR_SET_SECCOMP = 22, PR_CAPBSET_READ = 23, PR_CAPBSET_DROP = 24, PR_GET_TSC = 25,
        PR_SET_TSC = 26, PR_GET_SECUREBITS = 27, PR_SET_SECUREBITS = 28, PR_SET_TIMERSLACK = 29,
        PR_GET_TIMERSLACK = 30, PR_TASK_PERF_EVENTS_DISABLE = 31, PR_TASK_PERF_EVENTS_ENABLE = 32,
        PR_MCE_KILL = 33, PR_MCE_KILL_GET = 34, PR_SET_MM = 35, PR_SET_CHILD_SUBREAPER = 36,
        PR_GET_CHILD_SUBREAPER = 37, PR_SET_NO_NEW_PRIVS = 38, PR_GET_NO_NEW_PRIVS = 39,
        PR_GET_TID_ADDRESS = 40, PR_SET_THP_DISABLE = 41, PR_GET_THP_DISABLE = 42, PR_CAP_AMBIENT = 47,
        PR_GET_SPECULATION_CTRL = 52, PR_SET_SPECULATION_CTRL = 53, PR_SET_IO_FLUSHER = 57,
        PR_GET_IO_FLUSHER = 58, PR_SET_SYSCALL_USER_DISPATCH = 59, PR_SCHED_CORE = 62, PR_SET_MDWE = 65,
        PR_GET_MDWE = 66, PR_SET_VMA = 0x5356_4d41, PR_SET_PTRACER = 0x5961_6d61);
    /// Command of fcntl(2). The 64-bit locks are those of `fcntl64` on 32-bit machines.
    Fcntl(LOW_32): more_choices!(LOW_32; F_DUPFD = 0, F_GETFD = 1, F_SETFD = 2, F_GETFL = 3, F_SETFL = 4,
        F_GETLK = 5, F_SETLK = 6, F_SETLKW = 7, F_SETOWN = 8, F_GETOWN = 9, F_SETSIG = 10, F_GETSIG = 11,
        F_GETLK64 = 12, F_SETLK64 = 13, F_SETLKW64 = 14, F_SETOWN_EX = 15, F_GETOWN_EX = 16, F_OFD_GETLK = 36,
        F_OFD_SETLK = 37, F_OFD_SETLKW = 38, F_SETLEASE = 1024, F_GETLEASE = 1025, F_NOTIFY = 1026,
        F_DUPFD_QUERY = 1027, F_CREATED_QUERY = 1028, F_CANCELLK = 1029, F_DUPFD_CLOEXEC = 1030,
        F_SETPIPE_SZ = 1031, F_GETPIPE_SZ = 1032, F_ADD_SEALS = 1033, F_GET_SEALS = 1034,
        F_GET_RW_HINT = 1035, F_SET_RW_HINT = 1036, F_GET_FILE_RW_HINT = 1037, F_SET_FILE_RW_HINT = 1038);
    /// Operation of flock(2).
    Flock(LOW_32): flags!(LOCK_SH LOCK_EX LOCK_UN LOCK_NB);
    /// Origin of lseek(2).
    Whence(LOW_32): choices!(LOW_32; SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE);
    /// Mode of fallocate(2).
    Fallocate(LOW_32): more_flags!(FALLOC_FL_KEEP_SIZE = 1, FALLOC_FL_PUNCH_HOLE = 2,
        FALLOC_FL_COLLAPSE_RANGE = 8, FALLOC_FL_ZERO_RANGE = 0x10, FALLOC_FL_INSERT_RANGE = 0x20,
        FALLOC_FL_UNSHARE_RANGE = 0x40);
    /// Flags of splice(2), tee(2) and vmsplice(2).
    Splice(LOW_32): more_flags!(SPLICE_F_MOVE = 1, SPLICE_F_NONBLOCK = 2, SPLICE_F_MORE = 4, SPLICE_F_GIFT = 8);
    /// Flags of setxattr(2).
    Xattr(LOW_32): more_flags!(XATTR_CREATE = 1, XATTR_REPLACE = 2);
    /// Options of wait4(2) and waitid(2).
    Wait(LOW_32): more_flags!(WNOHANG = 1, WUNTRACED = 2, WEXITED = 4, WCONTINUED = 8, WNOWAIT = 0x100_0000,
        __WNOTHREAD = 0x2000_0000, __WALL = 0x4000_0000, __WCLONE = 0x8000_0000);
    /// What the id of waitid(2) is.
    IdType(LOW_32): more_choices!(LOW_32; P_ALL = 0, P_PID = 1, P_PGID = 2, P_PIDFD = 3);
    /// Operation of futex(2), with its flags.
    Futex(LOW_32): more_choices!(0x7f; FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_FD = 2, FUTEX_REQUEUE = 3,
        FUTEX_CMP_REQUEUE = 4, FUTEX_WAKE_OP = 5, FUTEX_LOCK_PI = 6, FUTEX_UNLOCK_PI = 7, FUTEX_TRYLOCK_PI = 8,
        FUTEX_WAIT_BITSET = 9, FUTEX_WAKE_BITSET = 10, FUTEX_WAIT_REQUEUE_PI = 11, FUTEX_CMP_REQUEUE_PI = 12,
        FUTEX_LOCK_PI2 = 13), more_flags!(FUTEX_PRIVATE_FLAG = 128, FUTEX_CLOCK_REALTIME = 256);
    /// Flags of close_range(2).
    CloseRange(LOW_32): more_flags!(CLOSE_RANGE_UNSHARE = 2, CLOSE_RANGE_CLOEXEC = 4);
    /// Flags of finit_module(2).
    Module(LOW_32): more_flags!(MODULE_INIT_IGNORE_MODVERSIONS = 1, MODULE_INIT_IGNORE_VERMAGIC = 2,
        MODULE_INIT_COMPRESSED_FILE = 4);
    /// Flags of pidfd_open(2).
    Pidfd(LOW_32): more_flags!(PIDFD_NONBLOCK = 0o4000, PIDFD_THREAD = 0o200);
    /// Flags of epoll_create1(2).
    EpollCreate(LOW_32): flags!(EPOLL_CLOEXEC);
    /// Operation of epoll_ctl(2).
    EpollControl(LOW_32): choices!(LOW_32; EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD);
    /// Flags of eventfd2(2).
    Eventfd(LOW_32): flags!(EFD_SEMAPHORE EFD_CLOEXEC EFD_NONBLOCK);
    /// Flags of signalfd4(2).
    Signalfd(LOW_32): flags!(SFD_CLOEXEC SFD_NONBLOCK);
    /// Flags of timerfd_create(2).
    Timerfd(LOW_32): flags!(TFD_CLOEXEC TFD_NONBLOCK);
    /// Flags of inotify_init1(2).
    Inotify(LOW_32): flags!(IN_CLOEXEC IN_NONBLOCK);
    /// Flags of userfaultfd(2).
    Userfaultfd(LOW_32): more_flags!(UFFD_USER_MODE_ONLY = 1), flags!(O_CLOEXEC O_NONBLOCK);
    /// Flags of getrandom(2).
    Random(LOW_32): more_flags!(GRND_NONBLOCK = 1, GRND_RANDOM = 2, GRND_INSECURE = 4);
    /// Resource of setrlimit(2).
    Resource(LOW_32): more_choices!(LOW_32; RLIMIT_CPU = 0, RLIMIT_FSIZE = 1, RLIMIT_DATA = 2, RLIMIT_STACK = 3,
        RLIMIT_CORE = 4, RLIMIT_RSS = 5, RLIMIT_NPROC = 6, RLIMIT_NOFILE = 7, RLIMIT_MEMLOCK = 8, RLIMIT_AS = 9,
        RLIMIT_LOCKS = 10, RLIMIT_SIGPENDING = 11, RLIMIT_MSGQUEUE = 12, RLIMIT_NICE = 13, RLIMIT_RTPRIO = 14,
        RLIMIT_RTTIME = 15);
    /// Clock of clock_gettime(2) and timerfd_create(2).
    Clock(LOW_32): more_choices!(LOW_32; CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_PROCESS_CPUTIME_ID = 2,
        CLOCK_THREAD_CPUTIME_ID = 3, CLOCK_MONOTONIC_RAW = 4, CLOCK_REALTIME_COARSE = 5,
        CLOCK_MONOTONIC_COARSE = 6, CLOCK_BOOTTIME = 7, CLOCK_REALTIME_ALARM = 8, CLOCK_BOOTTIME_ALARM = 9,
        CLOCK_TAI = 11);
    /// How rt_sigprocmask(2) changes the mask.
    MaskHow(LOW_32): choices!(LOW_32; SIG_BLOCK SIG_UNBLOCK SIG_SETMASK);
    /// Policy of sched_setscheduler(2).
    Scheduler(LOW_32): more_choices!(0xffff; SCHED_OTHER = 0, SCHED_FIFO = 1, SCHED_RR = 2, SCHED_BATCH = 3,
        SCHED_IDLE = 5, SCHED_DEADLINE = 6, SCHED_EXT = 7), more_flags!(SCHED_RESET_ON_FORK = 0x4000_0000);
    /// Operation of seccomp(2).
    Seccomp(LOW_32): more_choices!(LOW_32; SECCOMP_SET_MODE_STRICT = 0, SECCOMP_SET_MODE_FILTER = 1,
        SECCOMP_GET_ACTION_AVAIL = 2, SECCOMP_GET_NOTIF_SIZES = 3);
    /// Flags of seccomp(2) with `SECCOMP_SET_MODE_FILTER`.
    SeccompFilter(LOW_32): more_flags!(SECCOMP_FILTER_FLAG_TSYNC = 1, SECCOMP_FILTER_FLAG_LOG = 2,
        SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4, SECCOMP_FILTER_FLAG_NEW_LISTENER = 8,
        SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 0x10, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20);
    /// Call of the `socketcall` of 32-bit x86.
    SocketCall(LOW_32): more_choices!(LOW_32; SYS_SOCKET = 1, SYS_BIND = 2, SYS_CONNECT = 3, SYS_LISTEN = 4,
        SYS_ACCEPT = 5, SYS_GETSOCKNAME = 6, SYS_GETPEERNAME = 7, SYS_SOCKETPAIR = 8, SYS_SEND = 9, SYS_RECV = 10,
        SYS_SENDTO = 11, SYS_RECVFROM = 12, SYS_SHUTDOWN = 13, SYS_SETSOCKOPT = 14, SYS_GETSOCKOPT = 15,
        SYS_SENDMSG = 16, SYS_RECVMSG = 17, SYS_ACCEPT4 = 18, SYS_RECVMMSG = 19, SYS_SENDMMSG = 20);
    /// Call of the `ipc` of 32-bit x86, its version in the upper half aside.
    IpcCall(LOW_32): more_choices!(0xffff; SEMOP = 1, SEMGET = 2, SEMCTL = 3, SEMTIMEDOP = 4, MSGSND = 11,
        MSGRCV = 12, MSGGET = 13, MSGCTL = 14, SHMAT = 21, SHMDT = 22, SHMGET = 23, SHMCTL = 24);
}

/// The flags of clone(2) above the low byte, which unshare(2) and setns(2) share.
const CLONE_FLAGS: &[Word] = more_flags!(
    CLONE_VM = 0x100,
    CLONE_FS = 0x200,
    CLONE_FILES = 0x400,
    CLONE_SIGHAND = 0x800,
    CLONE_PIDFD = 0x1000,
    CLONE_PTRACE = 0x2000,
    CLONE_VFORK = 0x4000,
    CLONE_PARENT = 0x8000,
    CLONE_THREAD = 0x1_0000,
    CLONE_NEWNS = 0x2_0000,
    CLONE_SYSVSEM = 0x4_0000,
    CLONE_SETTLS = 0x8_0000,
    CLONE_PARENT_SETTID = 0x10_0000,
    CLONE_CHILD_CLEARTID = 0x20_0000,
    CLONE_DETACHED = 0x40_0000,
    CLONE_UNTRACED = 0x80_0000,
    CLONE_CHILD_SETTID = 0x100_0000,
    CLONE_NEWCGROUP = 0x200_0000,
    CLONE_NEWUTS = 0x400_0000,
    CLONE_NEWIPC = 0x800_0000,
    CLONE_NEWUSER = 0x1000_0000,
    CLONE_NEWPID = 0x2000_0000,
    CLONE_NEWNET = 0x4000_0000,
    CLONE_IO = 0x8000_0000,
);

/// The signals that have a name of their own, in order from 1. They are the same on x86 and Arm.
const SIGNALS: &[Word] = more_choices!(0xff;
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8,
    SIGKILL = 9, SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15,
    SIGSTKFLT = 16, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22,
    SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25, SIGVTALRM = 26, SIGPROF = 27, SIGWINCH = 28, SIGIO = 29,
    SIGPWR = 30, SIGSYS = 31
);

/// The words of one value, for display: `O_RDONLY|O_CLOEXEC`. What no word stands for is added in hexadecimal:
/// `O_RDONLY|0x4000000`. A value without words is `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagWords {
    set: FlagSet,
    value: u64,
}

impl FlagWords {
    /// The words of `set` for `value`, a whole argument register. Where the kernel takes an `int`, the upper half of
    /// the register is left out, as the kernel leaves it out.
    #[must_use]
    pub const fn of(set: FlagSet, value: u64) -> Self {
        Self { set, value: value & set.width() }
    }
}

impl fmt::Display for FlagWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bits that a word has taken are spoken for, so that O_SYNC does not also say O_DSYNC.
        let mut taken = 0;
        let mut separator = "";
        for word in self.set.words().iter().copied().flatten() {
            if self.value & word.mask == word.bits && taken & word.mask == 0 {
                taken |= word.mask;
                write!(f, "{separator}{}", word.text)?;
                separator = "|";
            }
        }
        match self.value & !taken {
            0 if separator.is_empty() => f.write_str("0"),
            0 => Ok(()),
            rest => write!(f, "{separator}{rest:#x}"),
        }
    }
}

/// The name of a signal, `SIGKILL` for 9; `None` for 0 and for real-time signals, which have numbers only.
#[must_use]
pub fn signal_name(signal: u32) -> Option<&'static str> {
    let index = usize::try_from(signal.checked_sub(1)?).ok()?;
    SIGNALS.get(index).map(|word| word.text)
}

/// The name of an error, `ENOENT` for 2, or `None` for an unknown one.
///
/// The errors that never leave the kernel have names too: a tracer sees `ERESTARTSYS` (512), `ERESTARTNOINTR` (513),
/// `ERESTARTNOHAND` (514) and `ERESTART_RESTARTBLOCK` (516) where a signal has interrupted a call (ptrace(2)).
#[must_use]
pub fn errno_name(errno: u32) -> Option<&'static str> {
    syscalls::Errno::new(i32::try_from(errno).ok()?).name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(set: FlagSet, value: u64) -> String {
        FlagWords::of(set, value).to_string()
    }

    #[test]
    fn the_access_mode_of_open_is_always_named() {
        assert_eq!(words(FlagSet::Open, 0), "O_RDONLY");
        assert_eq!(words(FlagSet::Open, 0o2_000_000), "O_RDONLY|O_CLOEXEC");
        assert_eq!(words(FlagSet::Open, 0o1101), "O_WRONLY|O_CREAT|O_TRUNC");
        assert_eq!(words(FlagSet::Open, 3), "0x3");
    }

    #[test]
    fn a_word_of_several_bits_stands_for_its_parts() {
        assert_eq!(words(FlagSet::Open, 0o4_010_002), "O_RDWR|O_SYNC");
        assert_eq!(words(FlagSet::Open, 0o0_010_002), "O_RDWR|O_DSYNC");
        let tmpfile = u64::try_from(libc::O_TMPFILE).unwrap();
        let directory = u64::try_from(libc::O_DIRECTORY).unwrap();
        assert_eq!(words(FlagSet::Open, tmpfile | 2), "O_RDWR|O_TMPFILE");
        assert_eq!(words(FlagSet::Open, directory), "O_RDONLY|O_DIRECTORY");
    }

    #[test]
    fn what_has_no_word_is_added_in_hexadecimal() {
        assert_eq!(words(FlagSet::Open, 0x400_0000), "O_RDONLY|0x4000000");
        assert_eq!(words(FlagSet::Bpf, 999), "0x3e7");
        assert_eq!(words(FlagSet::At, 0), "0");
        assert_eq!(words(FlagSet::Protection, 0), "PROT_NONE");
        assert_eq!(words(FlagSet::Protection, 0x10), "0x10");
    }

    #[test]
    fn an_int_argument_counts_by_its_low_half_only() {
        assert_eq!(words(FlagSet::Open, 0xffff_ffff_0000_0001), "O_WRONLY");
        assert_eq!(words(FlagSet::Domain, 0x1_0000_0002), "AF_INET");
        assert_eq!(words(FlagSet::Ptrace, 0x1_0000_0010), "0x100000010");
    }

    #[test]
    fn choices_and_flags_stand_side_by_side() {
        assert_eq!(words(FlagSet::SocketType, 0o2_000_001), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(words(FlagSet::Clone, 0x120_0011), "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD");
        assert_eq!(words(FlagSet::Namespace, 0x1000_0080), "CLONE_NEWTIME|CLONE_NEWUSER");
        assert_eq!(words(FlagSet::Map, 0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(words(FlagSet::Mount, 0xc0ed_0001), "MS_MGC_VAL|MS_RDONLY");
        assert_eq!(words(FlagSet::Futex, 128), "FUTEX_WAIT|FUTEX_PRIVATE_FLAG");
        assert_eq!(words(FlagSet::Access, 0), "F_OK");
        assert_eq!(words(FlagSet::Access, 5), "R_OK|X_OK");
    }

    #[test]
    fn values_from_the_kernel_headers_agree_with_libc_where_it_has_them() {
        let pairs: [(FlagSet, i64, &str); 21] = [
            (FlagSet::At, libc::AT_EMPTY_PATH.into(), "AT_EMPTY_PATH"),
            (FlagSet::At, libc::AT_SYMLINK_FOLLOW.into(), "AT_SYMLINK_FOLLOW"),
            (FlagSet::Clone, libc::CLONE_NEWUSER.into(), "CLONE_NEWUSER"),
            (FlagSet::Clone, libc::CLONE_UNTRACED.into(), "CLONE_UNTRACED"),
            (FlagSet::Clone, libc::SIGSYS.into(), "SIGSYS"),
            (FlagSet::Clock, libc::CLOCK_TAI.into(), "CLOCK_TAI"),
            (FlagSet::Fcntl, libc::F_ADD_SEALS.into(), "F_ADD_SEALS"),
            (FlagSet::Fcntl, libc::F_DUPFD_CLOEXEC.into(), "F_DUPFD_CLOEXEC"),
            (FlagSet::Fcntl, libc::F_OFD_SETLK.into(), "F_OFD_SETLK"),
            (FlagSet::Memfd, libc::MFD_ALLOW_SEALING.into(), "MFD_ALLOW_SEALING"),
            (FlagSet::Pidfd, libc::PIDFD_NONBLOCK.into(), "PIDFD_NONBLOCK"),
            (FlagSet::Prctl, libc::PR_CAP_AMBIENT.into(), "PR_CAP_AMBIENT"),
            (FlagSet::Prctl, libc::PR_SET_CHILD_SUBREAPER.into(), "PR_SET_CHILD_SUBREAPER"),
            (FlagSet::Prctl, libc::PR_SET_VMA.into(), "PR_SET_VMA"),
            (FlagSet::Ptrace, libc::PTRACE_SEIZE.into(), "PTRACE_SEIZE"),
            (FlagSet::Ptrace, libc::PTRACE_GET_SYSCALL_INFO.into(), "PTRACE_GET_SYSCALL_INFO"),
            (FlagSet::Resource, libc::RLIMIT_RTTIME.into(), "RLIMIT_RTTIME"),
            (FlagSet::SocketLevel, libc::SOL_PACKET.into(), "SOL_PACKET"),
            (FlagSet::SocketLevel, libc::SOL_NETLINK.into(), "SOL_NETLINK"),
            (FlagSet::Unmount, libc::UMOUNT_NOFOLLOW.into(), "UMOUNT_NOFOLLOW"),
            (FlagSet::Wait, libc::__WALL.into(), "__WALL"),
        ];
        for (set, value, name) in pairs {
            assert_eq!(words(set, u64::try_from(value).unwrap()), name);
        }
    }

    #[test]
    fn every_word_can_be_said_and_stands_within_its_register() {
        for set in FlagSet::ALL {
            for word in set.words().iter().copied().flatten() {
                assert_eq!(word.bits & !word.mask, 0, "{set:?} {}", word.text);
                assert_eq!(word.mask & !set.width(), 0, "{set:?} {}", word.text);
                let said = words(*set, word.bits);
                assert!(said.split('|').any(|part| part == word.text), "{set:?} {} says {said}", word.text);
            }
        }
    }

    proptest! {
        #[test]
        fn words_and_the_rest_make_up_the_value(index in 0..FlagSet::ALL.len(), value: u64) {
            let set = FlagSet::ALL[index];
            let said = words(set, value);
            let mut bits = 0;
            for part in said.split('|') {
                bits |= match part.strip_prefix("0x") {
                    Some(rest) => u64::from_str_radix(rest, 16).unwrap(),
                    None if part == "0" => 0,
                    None => set.words().iter().copied().flatten().find(|w| w.text == part).unwrap().bits,
                };
            }
            prop_assert_eq!(bits, value & set.width());
        }
    }

    #[test]
    fn signals_and_errors_have_their_names() {
        assert_eq!(signal_name(9), Some("SIGKILL"));
        assert_eq!(signal_name(17), Some("SIGCHLD"));
        assert_eq!(signal_name(31), Some("SIGSYS"));
        for nothing in [0, 32, 64, u32::MAX] {
            assert_eq!(signal_name(nothing), None);
        }
        for (index, word) in SIGNALS.iter().enumerate() {
            assert_eq!(usize::try_from(word.bits), Ok(index + 1));
        }
        assert_eq!(errno_name(2), Some("ENOENT"));
        assert_eq!(errno_name(11), Some("EAGAIN"));
        assert_eq!(errno_name(38), Some("ENOSYS"));
        assert_eq!(errno_name(512), Some("ERESTARTSYS"));
        assert_eq!(errno_name(513), Some("ERESTARTNOINTR"));
        assert_eq!(errno_name(514), Some("ERESTARTNOHAND"));
        assert_eq!(errno_name(516), Some("ERESTART_RESTARTBLOCK"));
        for nothing in [0, 4096, u32::MAX] {
            assert_eq!(errno_name(nothing), None);
        }
    }
}
