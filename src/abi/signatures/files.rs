//! Calls on files, directories, descriptors and file systems.

use super::ArgumentKind::{
    DirFd, Fd, FdPairOut, FdPath, Flags, Gid, Hex, Mode, Offset, Path, Signed, Size, Struct, StructSized,
    Text, Uid, Unsigned,
};
use super::{Argument, FlagSet, Line, Signature, signatures};

pub(super) const CALLS: &[Line] = signatures! {
    // Opening.
    open (name: Path, flags: Flags(FlagSet::Open), mode: Mode);
    openat (dirfd: DirFd, name: Path, flags: Flags(FlagSet::Open), mode: Mode);
    openat2 (dirfd: DirFd, name: Path, how: StructSized { length_argument: 3 }, size: Size);
    creat (name: Path, mode: Mode);
    open_by_handle_at (mountfd: Fd, handle: Hex, flags: Flags(FlagSet::Open));
    name_to_handle_at (dirfd: DirFd, pathname: Path, handle: Hex, mount_id: Hex, flags: Flags(FlagSet::At));
    memfd_create (name: Text, flags: Flags(FlagSet::Memfd));
    memfd_secret (flags: Flags(FlagSet::Descriptor));

    // Names in directories.
    link (oldpath: Path, newpath: Path);
    linkat (olddir: DirFd, oldpath: Path, newdir: DirFd, newpath: Path, flags: Flags(FlagSet::At));
    symlink (target: Text, linkpath: Path);
    symlinkat (target: Text, linkdirfd: DirFd, linkpath: Path);
    unlink (path: Path);
    unlinkat (dirfd: DirFd, name: Path, flags: Flags(FlagSet::Unlink));
    rename (oldpath: Path, newpath: Path);
    renameat (olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path);
    renameat2 (olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: Flags(FlagSet::Rename));
    mkdir (path: Path, mode: Mode);
    mkdirat (dirfd: DirFd, path: Path, mode: Mode);
    rmdir (path: Path);
    mknod (pathname: Path, mode: Mode, dev: Hex);
    mknodat (dirfd: DirFd, pathname: Path, mode: Mode, dev: Hex);
    chdir (path: Path);
    fchdir (fd: FdPath);
    chroot (path: Path);
    pivot_root (new_root: Path, put_old: Path);
    getcwd (buf: Hex, size: Size);
    getdents | getdents64 (fd: Fd, dirp: Hex, count: Unsigned);
    readlink (pathname: Path, buf: Hex, bufsiz: Signed);
    readlinkat (dirfd: DirFd, pathname: Path, buf: Hex, bufsiz: Signed);

    // Owner, mode, times and other attributes.
    chmod (filename: Path, mode: Mode);
    fchmod (fd: FdPath, mode: Mode);
    fchmodat (dirfd: DirFd, filename: Path, mode: Mode);
    fchmodat2 (dirfd: DirFd, filename: Path, mode: Mode, flags: Flags(FlagSet::At));
    chown | lchown | chown32 | lchown32 (pathname: Path, owner: Uid, group: Gid);
    fchown | fchown32 (fd: FdPath, owner: Uid, group: Gid);
    fchownat (dirfd: DirFd, pathname: Path, owner: Uid, group: Gid, flags: Flags(FlagSet::At));
    access (pathname: Path, mode: Flags(FlagSet::Access));
    faccessat (dirfd: DirFd, pathname: Path, mode: Flags(FlagSet::Access));
    faccessat2 (dirfd: DirFd, pathname: Path, mode: Flags(FlagSet::Access), flags: Flags(FlagSet::AccessAt));
    umask (mask: Mode);
    stat | lstat | oldstat | oldlstat | stat64 | lstat64 (pathname: Path, statbuf: Hex);
    fstat | oldfstat | fstat64 (fd: Fd, statbuf: Hex);
    newfstatat | fstatat64 (dirfd: DirFd, pathname: Path, statbuf: Hex, flags: Flags(FlagSet::At));
    statx (dirfd: DirFd, pathname: Path, flags: Flags(FlagSet::At), mask: Hex, statxbuf: Hex);
    utime (filename: Path, times: Hex);
    utimes (filename: Path, times: Hex);
    futimesat (dirfd: DirFd, pathname: Path, times: Hex);
    utimensat | utimensat_time64 (dirfd: DirFd, pathname: Path, times: Hex, flags: Flags(FlagSet::At));
    setxattr | lsetxattr (path: Path, name: Text, value: Hex, size: Size, flags: Flags(FlagSet::Xattr));
    fsetxattr (fd: Fd, name: Text, value: Hex, size: Size, flags: Flags(FlagSet::Xattr));
    getxattr | lgetxattr (path: Path, name: Text, value: Hex, size: Size);
    fgetxattr (fd: Fd, name: Text, value: Hex, size: Size);
    listxattr | llistxattr (path: Path, list: Hex, size: Size);
    flistxattr (fd: Fd, list: Hex, size: Size);
    removexattr | lremovexattr (path: Path, name: Text);
    fremovexattr (fd: Fd, name: Text);
    setxattrat (dirfd: DirFd, path: Path, at_flags: Flags(FlagSet::At), name: Text, args: Hex, size: Size);
    getxattrat (dirfd: DirFd, path: Path, at_flags: Flags(FlagSet::At), name: Text, args: Hex, size: Size);
    listxattrat (dirfd: DirFd, path: Path, at_flags: Flags(FlagSet::At), list: Hex, size: Size);
    removexattrat (dirfd: DirFd, path: Path, at_flags: Flags(FlagSet::At), name: Text);
    file_getattr (dirfd: DirFd, path: Path, attr: Hex, size: Size, at_flags: Flags(FlagSet::At));
    file_setattr (dirfd: DirFd, path: Path, attr: Hex, size: Size, at_flags: Flags(FlagSet::At));

    // Reading and writing.
    read (fd: Fd, buf: Hex, count: Size);
    write (fd: Fd, buf: Hex, count: Size);
    pread64 (fd: Fd, buf: Hex, count: Size, offset: Offset);
    pwrite64 (fd: Fd, buf: Hex, count: Size, offset: Offset);
    readv (fd: Fd, iov: Hex, iovcnt: Size);
    writev (fd: Fd, iov: Hex, iovcnt: Size);
    preadv (fd: Fd, iov: Hex, iovcnt: Size, pos_l: Size, pos_h: Size);
    pwritev (fd: Fd, iov: Hex, iovcnt: Size, pos_l: Size, pos_h: Size);
    preadv2 (fd: Fd, iov: Hex, iovcnt: Size, pos_l: Size, pos_h: Size, flags: Hex);
    pwritev2 (fd: Fd, iov: Hex, iovcnt: Size, pos_l: Size, pos_h: Size, flags: Hex);
    lseek (fd: Fd, offset: Offset, whence: Flags(FlagSet::Whence));
    sendfile | sendfile64 (out_fd: Fd, in_fd: Fd, offset: Hex, count: Size);
    splice (fd_in: Fd, off_in: Hex, fd_out: Fd, off_out: Hex, len: Size, flags: Flags(FlagSet::Splice));
    tee (fd_in: Fd, fd_out: Fd, len: Size, flags: Flags(FlagSet::Splice));
    vmsplice (fd: Fd, iov: Hex, nr_segs: Size, flags: Flags(FlagSet::Splice));
    copy_file_range (fd_in: Fd, off_in: Hex, fd_out: Fd, off_out: Hex, size: Size, flags: Hex);
    truncate (path: Path, length: Offset);
    ftruncate (fd: Fd, length: Offset);
    fallocate (fd: Fd, mode: Flags(FlagSet::Fallocate), offset: Offset, len: Offset);
    fadvise64 (fd: Fd, offset: Offset, len: Size, advice: Signed);
    readahead (fd: Fd, offset: Offset, count: Size);
    cachestat (fd: Fd, range: Hex, cstat: Hex, flags: Hex);
    sync ();
    syncfs (fd: Fd);
    fsync (fd: Fd);
    fdatasync (fd: Fd);
    sync_file_range (fd: Fd, offset: Offset, nbytes: Offset, flags: Hex);
    flock (fd: Fd, operation: Flags(FlagSet::Flock));

    // Descriptors.
    close (fd: Fd);
    close_range (first: Unsigned, last: Unsigned, flags: Flags(FlagSet::CloseRange));
    dup (oldfd: Fd);
    dup2 (oldfd: Fd, newfd: Fd);
    dup3 (oldfd: Fd, newfd: Fd, flags: Flags(FlagSet::Descriptor));
    fcntl | fcntl64 (fd: Fd, cmd: Flags(FlagSet::Fcntl), arg: Hex);
    ioctl (fd: Fd, request: Hex, argp: Hex);
    pipe (pipefd: FdPairOut);
    pipe2 (pipefd: FdPairOut, flags: Flags(FlagSet::Descriptor));
    eventfd (initval: Unsigned);
    eventfd2 (initval: Unsigned, flags: Flags(FlagSet::Eventfd));
    signalfd (fd: Fd, mask: Hex, sizemask: Size);
    signalfd4 (fd: Fd, mask: Hex, sizemask: Size, flags: Flags(FlagSet::Signalfd));
    timerfd_create (clockid: Flags(FlagSet::Clock), flags: Flags(FlagSet::Timerfd));
    timerfd_settime | timerfd_settime64 (fd: Fd, flags: Hex, new_value: Hex, old_value: Hex);
    timerfd_gettime | timerfd_gettime64 (fd: Fd, curr_value: Hex);
    userfaultfd (flags: Flags(FlagSet::Userfaultfd));

    // Waiting for descriptors.
    poll (fds: Hex, nfds: Unsigned, timeout: Signed);
    ppoll | ppoll_time64 (fds: Hex, nfds: Unsigned, tmo_p: Hex, sigmask: Hex, sigsetsize: Size);
    select (nfds: Signed, readfds: Hex, writefds: Hex, exceptfds: Hex, timeout: Hex);
    pselect6 | pselect6_time64
        (nfds: Signed, readfds: Hex, writefds: Hex, exceptfds: Hex, timeout: Hex, sigmask: Hex);
    epoll_create (size: Signed);
    epoll_create1 (flags: Flags(FlagSet::EpollCreate));
    epoll_ctl (epfd: Fd, op: Flags(FlagSet::EpollControl), fd: Fd, event: Hex);
    epoll_wait (epfd: Fd, events: Hex, maxevents: Signed, timeout: Signed);
    epoll_pwait (epfd: Fd, events: Hex, maxevents: Signed, timeout: Signed, sigmask: Hex, sigsetsize: Size);
    epoll_pwait2 (epfd: Fd, events: Hex, maxevents: Signed, timeout: Hex, sigmask: Hex, sigsetsize: Size);
    inotify_init ();
    inotify_init1 (flags: Flags(FlagSet::Inotify));
    inotify_add_watch (fd: Fd, pathname: Path, mask: Hex);
    inotify_rm_watch (fd: Fd, wd: Signed);
    fanotify_init (flags: Hex, event_f_flags: Flags(FlagSet::Open));
    fanotify_mark (fanotify_fd: Fd, flags: Hex, mask: Hex, dirfd: DirFd, pathname: Path);

    // Asynchronous input and output.
    io_setup (nr_events: Unsigned, ctx_idp: Hex);
    io_destroy (ctx_id: Hex);
    io_submit (ctx_id: Hex, nr: Offset, iocbpp: Hex);
    io_cancel (ctx_id: Hex, iocb: Hex, result: Hex);
    io_getevents (ctx_id: Hex, min_nr: Offset, nr: Offset, events: Hex, timeout: Hex);
    io_pgetevents | io_pgetevents_time64
        (ctx_id: Hex, min_nr: Offset, nr: Offset, events: Hex, timeout: Hex, sigmask: Hex);
    io_uring_setup (entries: Unsigned, params: Struct { bytes: 120 });
    io_uring_enter (fd: Fd, to_submit: Unsigned, min_complete: Unsigned, flags: Hex, argp: Hex, argsz: Size);
    io_uring_register (fd: Fd, opcode: Unsigned, arg: Hex, nr_args: Unsigned);

    // File systems.
    mount (dev: Text, dir: Path, type: Text, flags: Flags(FlagSet::Mount), data: Hex);
    umount2 (name: Path, flags: Flags(FlagSet::Unmount));
    open_tree (dirfd: DirFd, path: Path, flags: Flags(FlagSet::OpenTree));
    open_tree_attr (dirfd: DirFd, path: Path, flags: Flags(FlagSet::OpenTree), attr: Hex, size: Size);
    move_mount (from_dirfd: DirFd, from_path: Path, to_dirfd: DirFd, to_path: Path, flags: Flags(FlagSet::MoveMount));
    mount_setattr (dirfd: DirFd, path: Path, flags: Flags(FlagSet::At), attr: Hex, size: Size);
    fsopen (fsname: Text, flags: Hex);
    fsconfig (fd: Fd, cmd: Unsigned, key: Text, value: Hex, aux: Signed);
    fsmount (fsfd: Fd, flags: Hex, attr_flags: Hex);
    fspick (dirfd: DirFd, path: Path, flags: Hex);
    statmount (req: Hex, buf: Hex, bufsize: Size, flags: Hex);
    listmount (req: Hex, mnt_ids: Hex, nr_mnt_ids: Size, flags: Hex);
    listns (req: Hex, ns_ids: Hex, nr_ns_ids: Size, flags: Hex);
    statfs (path: Path, buf: Hex);
    fstatfs (fd: Fd, buf: Hex);
    statfs64 (path: Path, size: Size, buf: Hex);
    fstatfs64 (fd: Fd, size: Size, buf: Hex);
    ustat (dev: Hex, ubuf: Hex);
    sysfs (option: Signed, arg1: Hex, arg2: Hex);
    swapon (path: Path, swapflags: Hex);
    swapoff (path: Path);
    quotactl (cmd: Hex, special: Path, id: Signed, addr: Hex);
    quotactl_fd (fd: Fd, cmd: Hex, id: Signed, addr: Hex);
    acct (filename: Path);
    lookup_dcookie (cookie: Hex, buffer: Hex, len: Size);
};
