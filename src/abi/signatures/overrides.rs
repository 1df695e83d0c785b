//! Calls whose arguments differ by ABI.
//!
//! 32-bit x86 passes a 64-bit number in two registers, low half first, and its oldest calls pass the address of a
//! block of arguments.

use super::ArgumentKind::{DirFd, Fd, Flags, Hex, Path, Signed, Size, Struct, Unsigned};
use super::{Argument, FlagSet, Line, Signature, signatures};

pub(super) const I386: &[Line] = signatures! {
    clone (flags: Flags(FlagSet::Clone), stack: Hex, parent_tid: Hex, tls: Hex, child_tid: Hex);
    mmap (arg: Hex);
    select (arg: Hex);
    _newselect (nfds: Signed, readfds: Hex, writefds: Hex, exceptfds: Hex, timeout: Hex);
    umount (name: Path);
    readdir (fd: Fd, dirp: Hex, count: Unsigned);
    _llseek (fd: Fd, offset_high: Size, offset_low: Size, result: Hex, whence: Flags(FlagSet::Whence));
    pread64 (fd: Fd, buf: Hex, count: Size, offset_low: Unsigned, offset_high: Unsigned);
    pwrite64 (fd: Fd, buf: Hex, count: Size, offset_low: Unsigned, offset_high: Unsigned);
    truncate64 (path: Path, length_low: Unsigned, length_high: Unsigned);
    ftruncate64 (fd: Fd, length_low: Unsigned, length_high: Unsigned);
    fallocate
        (fd: Fd, mode: Flags(FlagSet::Fallocate), offset_low: Unsigned, offset_high: Unsigned,
         len_low: Unsigned, len_high: Unsigned);
    fadvise64 (fd: Fd, offset_low: Unsigned, offset_high: Unsigned, len: Size, advice: Signed);
    fadvise64_64
        (fd: Fd, offset_low: Unsigned, offset_high: Unsigned, len_low: Unsigned, len_high: Unsigned, advice: Signed);
    readahead (fd: Fd, offset_low: Unsigned, offset_high: Unsigned, count: Size);
    sync_file_range
        (fd: Fd, offset_low: Unsigned, offset_high: Unsigned, nbytes_low: Unsigned, nbytes_high: Unsigned,
         flags: Hex);
    fanotify_mark (fanotify_fd: Fd, flags: Hex, mask_low: Hex, mask_high: Hex, dirfd: DirFd, pathname: Path);
    lookup_dcookie (cookie_low: Hex, cookie_high: Hex, buffer: Hex, len: Size);
    setrlimit (resource: Flags(FlagSet::Resource), rlim: Struct { bytes: 8 });
    sigsuspend (unused1: Hex, unused2: Hex, mask: Hex);
};

pub(super) const AARCH64: &[Line] = signatures! {
    // CONFIG_CLONE_BACKWARDS, as 32-bit x86 has it.
    clone (flags: Flags(FlagSet::Clone), stack: Hex, parent_tid: Hex, tls: Hex, child_tid: Hex);
};
