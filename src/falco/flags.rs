//! Falco's own numbers for flags and choices: the `PPM_*` values of `driver/ppm_events_public.h` of falcosecurity/libs.
//!
//! Each conversion gives what the kernel drivers give for the same argument, quirks included, since rules were written
//! against those. Flags without a number there are left out, as there.

use crate::abi::Abi;

/// Adds up the numbers of all pairs of (kernel, Falco) of which some bit of the kernel's is set.
fn convert(flags: u32, pairs: &[(u32, u32)]) -> u32 {
    pairs.iter().filter(|(kernel, _)| flags & kernel != 0).fold(0, |falco, (_, number)| falco | number)
}

/// Falco's `O_CLOEXEC`.
pub const O_CLOEXEC: u32 = 1 << 12;
const O_NONBLOCK: u32 = 1 << 6;

/// Kernel values of open(2)'s flags that are the same in all ABIs (asm-generic/fcntl.h).
const KERNEL_O_CREAT: u32 = 0o100;
const KERNEL_O_NONBLOCK: u32 = 0o4000;
const KERNEL_O_CLOEXEC: u32 = 0o2_000_000;
/// The bit that `O_TMPFILE` has besides that of `O_DIRECTORY`.
const KERNEL_TMPFILE_BIT: u32 = 0o20_000_000;

/// `O_DIRECTORY`, `O_DIRECT` and `O_LARGEFILE` of an ABI: Arm numbers them otherwise (asm/fcntl.h).
const fn abi_open_flags(abi: Abi) -> [u32; 3] {
    match abi {
        Abi::Aarch64 => [0o40_000, 0o200_000, 0o400_000],
        _ => [0o200_000, 0o40_000, 0o100_000],
    }
}

/// Flags of open(2).
#[must_use]
pub fn open(abi: Abi, flags: u32) -> u32 {
    let [directory, direct, large_file] = abi_open_flags(abi);
    let access = match flags & 3 {
        1 => 2,
        2 => 3,
        _ => 1,
    };
    // O_TMPFILE includes O_DIRECTORY, and O_SYNC includes O_DSYNC. The drivers ask for any bit of these, so that
    // O_DIRECTORY alone shows as O_TMPFILE too.
    access
        | convert(
            flags,
            &[
                (KERNEL_O_CREAT, 1 << 2),
                (0o2000, 1 << 3),
                (0o10_000, 1 << 4),
                (0o200, 1 << 5),
                (KERNEL_O_NONBLOCK, O_NONBLOCK),
                (0o4_010_000, 1 << 7),
                (0o1000, 1 << 8),
                (direct, 1 << 9),
                (directory, 1 << 10),
                (large_file, 1 << 11),
                (KERNEL_O_CLOEXEC, O_CLOEXEC),
                (KERNEL_TMPFILE_BIT | directory, 1 << 13),
            ],
        )
}

/// Mode of open(2): it counts only where the flags may make a file.
#[must_use]
pub const fn open_mode(abi: Abi, flags: u32, mode: u32) -> u32 {
    let [directory, ..] = abi_open_flags(abi);
    if flags & (KERNEL_O_CREAT | KERNEL_TMPFILE_BIT | directory) == 0 { 0 } else { self::mode(mode) }
}

/// Permission bits, of chmod(2) for one. Falco numbers them as the kernel does.
#[must_use]
pub const fn mode(mode: u32) -> u32 {
    mode & 0o7777
}

/// `RESOLVE_*` of openat2(2).
#[must_use]
pub fn resolve(flags: u32) -> u32 {
    convert(flags, &[(1, 1 << 4), (2, 1 << 2), (4, 1 << 3), (8, 1 << 0), (0x10, 1 << 1), (0x20, 1 << 5)])
}

/// Flags of clone(2), unshare(2) and setns(2).
#[must_use]
pub fn clone(flags: u32) -> u32 {
    convert(
        flags,
        &[
            (0x0000_0400, 1 << 0), // CLONE_FILES
            (0x0000_0200, 1 << 1), // CLONE_FS
            (0x8000_0000, 1 << 2), // CLONE_IO
            (0x0800_0000, 1 << 3), // CLONE_NEWIPC
            (0x4000_0000, 1 << 4), // CLONE_NEWNET
            (0x0002_0000, 1 << 5), // CLONE_NEWNS
            (0x2000_0000, CLONE_NEWPID),
            (0x0400_0000, 1 << 7),  // CLONE_NEWUTS
            (0x0000_8000, 1 << 8),  // CLONE_PARENT
            (0x0010_0000, 1 << 9),  // CLONE_PARENT_SETTID
            (0x0000_2000, 1 << 10), // CLONE_PTRACE
            (0x0000_0800, 1 << 11), // CLONE_SIGHAND
            (0x0004_0000, 1 << 12), // CLONE_SYSVSEM
            (0x0001_0000, CLONE_THREAD),
            (0x0080_0000, 1 << 14), // CLONE_UNTRACED
            (0x0000_0100, 1 << 15), // CLONE_VM
            (0x1000_0000, CLONE_NEWUSER),
            (0x0020_0000, 1 << 23), // CLONE_CHILD_CLEARTID
            (0x0100_0000, 1 << 24), // CLONE_CHILD_SETTID
            (0x0008_0000, 1 << 25), // CLONE_SETTLS
            (0x0000_4000, 1 << 27), // CLONE_VFORK
            (0x0200_0000, 1 << 28), // CLONE_NEWCGROUP
        ],
    )
}

/// Falco's `CLONE_NEWPID`.
pub const CLONE_NEWPID: u32 = 1 << 6;
/// Falco's `CLONE_THREAD`.
pub const CLONE_THREAD: u32 = 1 << 13;
/// Falco's `CLONE_NEWUSER`.
pub const CLONE_NEWUSER: u32 = 1 << 20;
/// Falco's own flag for a child in another PID namespace than the machine's first.
pub const CHILD_IN_PIDNS: u32 = 1 << 29;

/// Socket family: the kernel's numbers up to `AF_NFC`; others Falco does not know.
#[must_use]
pub const fn family(domain: u32) -> u32 {
    // The drivers look at the low byte alone.
    match domain & 0xff {
        family @ (0..=26 | 29..=39) => family,
        _ => 0,
    }
}

/// The flags beside the type of a socket, and of accept4(2).
#[must_use]
pub fn socket(flags: u32) -> u32 {
    convert(flags, &[(KERNEL_O_NONBLOCK, O_NONBLOCK), (KERNEL_O_CLOEXEC, O_CLOEXEC)])
}

/// Flags of pipe2(2).
#[must_use]
pub fn pipe(abi: Abi, flags: u32) -> u32 {
    let [_, direct, _] = abi_open_flags(abi);
    descriptor(flags) | if flags & direct == 0 || negative(flags) { 0 } else { 1 << 9 }
}

/// Flags of eventfd2(2), signalfd4(2), inotify_init1(2) and timerfd_create(2).
#[must_use]
pub fn descriptor(flags: u32) -> u32 {
    if negative(flags) { 0 } else { socket(flags) }
}

const fn negative(flags: u32) -> bool {
    flags.cast_signed() < 0
}

/// Flags of dup3(2).
#[must_use]
pub const fn dup3(flags: u32) -> u32 {
    if flags & KERNEL_O_CLOEXEC == 0 { 0 } else { O_CLOEXEC }
}

/// Flags of epoll_create1(2).
#[must_use]
pub const fn epoll(flags: u32) -> u32 {
    if flags & KERNEL_O_CLOEXEC == 0 { 0 } else { 1 }
}

/// Flags of pidfd_open(2).
#[must_use]
pub const fn pidfd(flags: u32) -> u32 {
    if flags & KERNEL_O_NONBLOCK == 0 { 0 } else { 1 }
}

/// Flags of unlinkat(2): `AT_REMOVEDIR`.
#[must_use]
pub const fn unlink(flags: u32) -> u32 {
    flags & 0x200
}

/// Flags of linkat(2): `AT_SYMLINK_FOLLOW` and `AT_EMPTY_PATH`.
#[must_use]
pub const fn link(flags: u32) -> u32 {
    flags & (0x400 | 0x1000)
}

/// Flags of memfd_create(2).
#[must_use]
pub const fn memfd(flags: u32) -> u32 {
    flags & 7
}

/// Flags of umount2(2).
#[must_use]
pub const fn unmount(flags: u32) -> u32 {
    flags & 0xf
}

/// Flags of mount(2), without the magic number that old programs put into the upper half.
#[must_use]
pub const fn mount(flags: u32) -> u32 {
    if flags & 0xffff_0000 == 0xc0ed_0000 { flags & 0xffff } else { flags }
}

/// Flags of finit_module(2).
#[must_use]
pub const fn module(flags: u32) -> u32 {
    flags & 7
}

/// Flags of io_uring_setup(2). Falco knows those of Linux 5.10, and one number of another set among them.
#[must_use]
pub fn io_uring_setup(flags: u32) -> u32 {
    // IORING_SQ_NEED_WAKEUP is no setup flag, but has the value of IORING_SETUP_IOPOLL: the drivers set both.
    convert(
        flags,
        &[
            (1 << 0, 1 << 0 | 1 << 2),
            (1 << 1, 1 << 1),
            (1 << 2, 1 << 3),
            (1 << 3, 1 << 4),
            (1 << 4, 1 << 5),
            (1 << 5, 1 << 6),
            (1 << 6, 1 << 7),
        ],
    )
}

/// `features` of io_uring_setup(2): the same bits, those of Linux 5.13.
#[must_use]
pub const fn io_uring_features(features: u32) -> u32 {
    features & 0x7ff
}

/// Command of fcntl(2); 0 for one that Falco does not know.
#[must_use]
pub const fn fcntl(command: u32) -> u8 {
    match command {
        0 => 1,     // F_DUPFD
        1 => 2,     // F_GETFD
        2 => 3,     // F_SETFD
        3 => 4,     // F_GETFL
        4 => 5,     // F_SETFL
        5 => 6,     // F_GETLK
        6 => 8,     // F_SETLK
        7 => 9,     // F_SETLKW
        8 => 10,    // F_SETOWN
        9 => 12,    // F_GETOWN
        10 => 13,   // F_SETSIG
        11 => 15,   // F_GETSIG
        15 => 21,   // F_SETOWN_EX
        16 => 22,   // F_GETOWN_EX
        36 => 30,   // F_OFD_GETLK
        37 => 31,   // F_OFD_SETLK
        38 => 32,   // F_OFD_SETLKW
        1024 => 23, // F_SETLEASE
        1025 => 24, // F_GETLEASE
        1026 => 27, // F_NOTIFY
        1029 => 25, // F_CANCELLK
        1030 => 26, // F_DUPFD_CLOEXEC
        1031 => 28, // F_SETPIPE_SZ
        1032 => 29, // F_GETPIPE_SZ
        _ => 0,
    }
}

/// Resource of setrlimit(2); 255 for one that Falco does not know.
#[must_use]
pub fn resource(resource: u32) -> u8 {
    u8::try_from(resource).ok().filter(|&resource| resource <= 15).unwrap_or(u8::MAX)
}

/// `how` of shutdown(2); 255 for one that Falco does not know.
#[must_use]
pub fn shutdown(how: u32) -> u8 {
    u8::try_from(how).ok().filter(|&how| how <= 2).unwrap_or(u8::MAX)
}

/// Capabilities: Falco numbers them as the kernel does, up to `CAP_CHECKPOINT_RESTORE` (40).
#[must_use]
pub const fn capabilities(bits: u64) -> u64 {
    bits & ((1 << 41) - 1)
}

/// Request of ptrace(2); 0 for one that Falco does not know. The kernel's type is `long`: all 64 bits count.
#[must_use]
pub const fn ptrace(abi: Abi, request: u64) -> u16 {
    let is_x86 = matches!(abi, Abi::X86_64 | Abi::I386 | Abi::X32);
    match request {
        0 => 1,             // PTRACE_TRACEME
        1 => 2,             // PTRACE_PEEKTEXT
        2 => 3,             // PTRACE_PEEKDATA
        3 => 4,             // PTRACE_PEEKUSR
        4 => 5,             // PTRACE_POKETEXT
        5 => 6,             // PTRACE_POKEDATA
        6 => 7,             // PTRACE_POKEUSR
        7 => 8,             // PTRACE_CONT
        8 => 9,             // PTRACE_KILL
        9 => 10,            // PTRACE_SINGLESTEP
        16 => 11,           // PTRACE_ATTACH
        17 => 12,           // PTRACE_DETACH
        24 => 13,           // PTRACE_SYSCALL
        0x4200 => 14,       // PTRACE_SETOPTIONS
        0x4201 => 15,       // PTRACE_GETEVENTMSG
        0x4202 => 16,       // PTRACE_GETSIGINFO
        0x4203 => 17,       // PTRACE_SETSIGINFO
        0x4204 => 18,       // PTRACE_GETREGSET
        0x4205 => 19,       // PTRACE_SETREGSET
        0x4206 => 20,       // PTRACE_SEIZE
        0x4207 => 21,       // PTRACE_INTERRUPT
        0x4208 => 22,       // PTRACE_LISTEN
        0x4209 => 23,       // PTRACE_PEEKSIGINFO
        0x420a => 24,       // PTRACE_GETSIGMASK
        0x420b => 25,       // PTRACE_SETSIGMASK
        12 if is_x86 => 26, // PTRACE_GETREGS
        13 if is_x86 => 27, // PTRACE_SETREGS
        14 if is_x86 => 28, // PTRACE_GETFPREGS
        15 if is_x86 => 29, // PTRACE_SETFPREGS
        18 if is_x86 => 30, // PTRACE_GETFPXREGS
        19 if is_x86 => 31, // PTRACE_SETFPXREGS
        21 if is_x86 => 32, // PTRACE_OLDSETOPTIONS
        25 if is_x86 => 33, // PTRACE_GET_THREAD_AREA
        26 if is_x86 => 34, // PTRACE_SET_THREAD_AREA
        30 if is_x86 => 35, // PTRACE_ARCH_PRCTL
        31 => 36,           // PTRACE_SYSEMU
        32 => 37,           // PTRACE_SYSEMU_SINGLESTEP
        33 if is_x86 => 38, // PTRACE_SINGLEBLOCK
        _ => 0,
    }
}

/// Whether the `data` of this request of ptrace(2), in Falco's numbers, is a signal to deliver.
#[must_use]
pub const fn is_ptrace_signal(request: u16) -> bool {
    matches!(request, 8 | 10 | 12 | 13)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(flag: i32) -> u32 {
        flag.cast_unsigned()
    }

    #[test]
    fn the_flags_of_open_are_falcos() {
        let open = |flags| open(Abi::NATIVE, kernel(flags));
        assert_eq!([libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, 3].map(open), [1, 2, 3, 1]);
        assert_eq!(open(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC), 2 | 4 | 0x100);
        assert_eq!(open(libc::O_APPEND | libc::O_CLOEXEC | libc::O_EXCL), 1 | 8 | 0x1000 | 0x20);
        assert_eq!(open(libc::O_DIRECT | libc::O_NONBLOCK), 1 | 0x200 | 0x40);
        // The quirks of the drivers.
        assert_eq!(open(libc::O_DIRECTORY), 1 | 0x400 | 0x2000);
        assert_eq!(open(libc::O_DSYNC), 1 | 0x10 | 0x80);
        assert_eq!(super::open(Abi::Aarch64, 0o40_000), 1 | 0x400 | 0x2000);
        assert_eq!(super::open(Abi::X86_64, 0o40_000), 1 | 0x200);
    }

    #[test]
    fn a_mode_counts_where_a_file_may_be_made() {
        assert_eq!(open_mode(Abi::X86_64, kernel(libc::O_CREAT), 0o10_4755), 0o4755);
        assert_eq!(open_mode(Abi::X86_64, kernel(libc::O_RDWR), 0o777), 0);
        assert_eq!(mode(0o10_0644), 0o644);
    }

    #[test]
    fn the_flags_of_clone_are_falcos() {
        assert_eq!(clone(kernel(libc::CLONE_FILES | libc::CLONE_FS | libc::SIGCHLD)), 0b11);
        assert_eq!(clone(kernel(libc::CLONE_THREAD)), CLONE_THREAD);
        assert_eq!(clone(kernel(libc::CLONE_NEWUSER | libc::CLONE_NEWPID)), CLONE_NEWUSER | CLONE_NEWPID);
        assert_eq!(
            clone(kernel(libc::CLONE_IO | libc::CLONE_VFORK | libc::CLONE_VM)),
            1 << 2 | 1 << 27 | 1 << 15
        );
        assert_eq!(clone(0xff), 0, "the exit signal is no flag");
    }

    #[test]
    fn the_requests_of_ptrace_that_rules_ask_for_are_falcos() {
        let requests = [0, 4, 5, 13, 16, 0x4205, 0x4206].map(|request| ptrace(Abi::X86_64, request));
        assert_eq!(requests, [1, 5, 6, 27, 11, 19, 20]);
        assert_eq!((ptrace(Abi::X86_64, 1 << 32), ptrace(Abi::Aarch64, 13)), (0, 0));
        assert!(is_ptrace_signal(ptrace(Abi::X86_64, 17)) && !is_ptrace_signal(1));
    }

    #[test]
    fn other_flags_are_falcos() {
        assert_eq!(family(kernel(libc::AF_PACKET)), 17);
        assert_eq!([kernel(libc::AF_VSOCK), 27, 28].map(family), [0; 3]);
        assert_eq!(socket(kernel(libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)), 0x1040);
        assert_eq!((dup3(kernel(libc::O_CLOEXEC)), dup3(kernel(libc::O_NONBLOCK))), (0x1000, 0));
        assert_eq!((unlink(0x1200), link(0x1500), memfd(0xf), unmount(0x1f)), (0x200, 0x1400, 7, 0xf));
        assert_eq!((mount(0xc0ed_0001), mount(0x1001)), (1, 0x1001));
        assert_eq!((resolve(0x1), resolve(0x8), resolve(0x10)), (1 << 4, 1, 2));
        assert_eq!([fcntl(0), fcntl(1030), fcntl(99)], [1, 26, 0]);
        assert_eq!([resource(7), resource(16), shutdown(2), shutdown(3)], [7, 255, 2, 255]);
        assert_eq!((descriptor(u32::MAX), descriptor(kernel(libc::O_CLOEXEC))), (0, 0x1000));
        assert_eq!(
            (pipe(Abi::NATIVE, kernel(libc::O_DIRECT)), epoll(0o2_000_000), pidfd(0o4000)),
            (0x200, 1, 1)
        );
        assert_eq!((io_uring_setup(1), io_uring_setup(0x40), io_uring_features(u32::MAX)), (5, 0x80, 0x7ff));
        assert_eq!((module(0xff), capabilities(u64::MAX)), (7, (1 << 41) - 1));
    }
}
