//! Calls on memory, and those between processes: shared memory, semaphores, message queues.

use super::ArgumentKind::{Fd, Flags, Hex, Mode, Offset, Pid, Signed, Size, Text, Unsigned};
use super::{Argument, FlagSet, Line, Signature, signatures};

pub(super) const CALLS: &[Line] = signatures! {
    // Address space.
    mmap
        (addr: Hex, length: Size, prot: Flags(FlagSet::Protection), flags: Flags(FlagSet::Map), fd: Fd, offset: Hex);
    mmap2
        (addr: Hex, length: Size, prot: Flags(FlagSet::Protection), flags: Flags(FlagSet::Map), fd: Fd, pgoffset: Hex);
    munmap (addr: Hex, length: Size);
    mremap (old_address: Hex, old_size: Size, new_size: Size, flags: Flags(FlagSet::Remap), new_address: Hex);
    mprotect (addr: Hex, size: Size, prot: Flags(FlagSet::Protection));
    pkey_mprotect (addr: Hex, size: Size, prot: Flags(FlagSet::Protection), pkey: Signed);
    pkey_alloc (flags: Hex, access_rights: Hex);
    pkey_free (pkey: Signed);
    mseal (addr: Hex, size: Size, flags: Hex);
    map_shadow_stack (addr: Hex, size: Size, flags: Hex);
    brk (addr: Hex);
    msync (addr: Hex, length: Size, flags: Flags(FlagSet::Sync));
    mincore (addr: Hex, length: Size, vec: Hex);
    madvise (addr: Hex, length: Size, advice: Flags(FlagSet::Advice));
    mlock (addr: Hex, len: Size);
    mlock2 (addr: Hex, len: Size, flags: Flags(FlagSet::Lock));
    munlock (addr: Hex, len: Size);
    mlockall (flags: Flags(FlagSet::LockAll));
    munlockall ();
    remap_file_pages
        (addr: Hex, size: Size, prot: Flags(FlagSet::Protection), pgoff: Size, flags: Flags(FlagSet::Map));
    mbind (addr: Hex, len: Size, mode: Unsigned, nodemask: Hex, maxnode: Size, flags: Hex);
    set_mempolicy (mode: Signed, nodemask: Hex, maxnode: Size);
    get_mempolicy (mode: Hex, nodemask: Hex, maxnode: Size, addr: Hex, flags: Hex);
    set_mempolicy_home_node (addr: Hex, len: Size, home_node: Size, flags: Hex);
    migrate_pages (pid: Pid, maxnode: Size, old_nodes: Hex, new_nodes: Hex);
    move_pages (pid: Pid, count: Size, pages: Hex, nodes: Hex, status: Hex, flags: Hex);
    membarrier (cmd: Signed, flags: Hex, cpu_id: Signed);

    // The memory of another process.
    process_vm_readv (pid: Pid, local_iov: Hex, liovcnt: Size, remote_iov: Hex, riovcnt: Size, flags: Hex);
    process_vm_writev (pid: Pid, local_iov: Hex, liovcnt: Size, remote_iov: Hex, riovcnt: Size, flags: Hex);
    process_madvise (pidfd: Fd, iov: Hex, vlen: Size, advice: Flags(FlagSet::Advice), flags: Hex);
    process_mrelease (pidfd: Fd, flags: Hex);

    // System V.
    shmget (key: Hex, size: Size, shmflg: Hex);
    shmat (shmid: Signed, shmaddr: Hex, shmflg: Hex);
    shmdt (shmaddr: Hex);
    shmctl (shmid: Signed, cmd: Signed, buf: Hex);
    semget (key: Hex, nsems: Signed, semflg: Hex);
    semop (semid: Signed, sops: Hex, nsops: Size);
    semtimedop | semtimedop_time64 (semid: Signed, sops: Hex, nsops: Size, timeout: Hex);
    semctl (semid: Signed, semnum: Signed, cmd: Signed, arg: Hex);
    msgget (key: Hex, msgflg: Hex);
    msgsnd (msqid: Signed, msgp: Hex, msgsz: Size, msgflg: Hex);
    msgrcv (msqid: Signed, msgp: Hex, msgsz: Size, msgtyp: Offset, msgflg: Hex);
    msgctl (msqid: Signed, cmd: Signed, buf: Hex);
    ipc (call: Flags(FlagSet::IpcCall), first: Hex, second: Hex, third: Hex, ptr: Hex, fifth: Hex);

    // POSIX message queues.
    mq_open (name: Text, oflag: Flags(FlagSet::Open), mode: Mode, attr: Hex);
    mq_unlink (name: Text);
    mq_timedsend | mq_timedsend_time64 (mqdes: Fd, msg_ptr: Hex, msg_len: Size, msg_prio: Unsigned, abs_timeout: Hex);
    mq_timedreceive | mq_timedreceive_time64
        (mqdes: Fd, msg_ptr: Hex, msg_len: Size, msg_prio: Hex, abs_timeout: Hex);
    mq_notify (mqdes: Fd, sevp: Hex);
    mq_getsetattr (mqdes: Fd, newattr: Hex, oldattr: Hex);

    // Futexes.
    futex | futex_time64
        (uaddr: Hex, futex_op: Flags(FlagSet::Futex), val: Unsigned, timeout: Hex, uaddr2: Hex, val3: Unsigned);
    futex_waitv (waiters: Hex, nr_futexes: Unsigned, flags: Hex, timeout: Hex, clockid: Flags(FlagSet::Clock));
    futex_wake (uaddr: Hex, mask: Hex, nr: Signed, flags: Hex);
    futex_wait (uaddr: Hex, val: Size, mask: Hex, flags: Hex, timeout: Hex, clockid: Flags(FlagSet::Clock));
    futex_requeue (waiters: Hex, flags: Hex, nr_wake: Signed, nr_requeue: Signed);
    set_robust_list (head: Hex, len: Size);
    get_robust_list (pid: Pid, head_ptr: Hex, len_ptr: Hex);
};
