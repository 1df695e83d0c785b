//! Facts about a process that `/proc` tells by the attributes of its links, or not at all.
#![expect(unsafe_code, reason = "prlimit(2) of another process and statx(2) have no safe wrapper")]

use std::{
    fs::Metadata,
    io,
    mem::MaybeUninit,
    os::unix::fs::MetadataExt,
    ptr,
    time::{Duration, SystemTime},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    statfs::{OVERLAYFS_SUPER_MAGIC, statfs},
    time::TimeValLike,
};

use super::{Pid, Tid, procfs};

/// Whether two threads use the same memory (kcmp(2)); `None` where the kernel does not tell.
#[must_use]
pub fn share_memory(one: Tid, other: Tid) -> Option<bool> {
    /// `KCMP_VM` (linux/kcmp.h).
    const MEMORY: i32 = 1;
    // SAFETY: kcmp takes integers only, of which it ignores the last two for this kind.
    match unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, MEMORY, 0, 0) } {
        0 => Some(true),
        1..=3 => Some(false),
        _ => None,
    }
}

/// The process group of a process, if it leads one that is not ours.
#[must_use]
pub fn group_of_its_own(pid: Pid) -> Option<Pid> {
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.0))).ok()?;
    (group != nix::unistd::getpgrp() && group.as_raw() == pid.0).then_some(pid)
}

/// The file that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExeStat {
    /// Its inode.
    pub inode: u64,
    /// When its inode changed, in nanoseconds since 1970.
    pub ctime_ns: u64,
    /// When its content changed, in nanoseconds since 1970.
    pub mtime_ns: u64,
    /// Its permissions: `st_mode` (inode(7)).
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Where in an overlay file system it lies.
    pub layer: Layer,
}

/// A layer of an overlay file system, which is what the root of a container usually is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// It lies on no overlay, or that cannot be told.
    Unknown,
    /// The upper one: the file was made or changed since the container started.
    Upper,
    /// A lower one: the file belongs to the image.
    Lower,
}

/// Asks about the file that a process runs. It follows `/proc/TID/exe` itself, so that a file that was deleted or
/// replaced since is the right one still.
///
/// # Errors
/// What stat(2) says: `EACCES` when the process is not ours to ask about.
pub fn exe_stat(tid: Tid) -> io::Result<ExeStat> {
    let exe = procfs::metadata(tid, "exe")?;
    Ok(ExeStat {
        inode: exe.ino(),
        ctime_ns: ns(exe.ctime(), exe.ctime_nsec()),
        mtime_ns: ns(exe.mtime(), exe.mtime_nsec()),
        mode: exe.mode(),
        uid: exe.uid(),
        gid: exe.gid(),
        layer: layer(tid, &exe).unwrap_or(Layer::Unknown),
    })
}

/// A file in the upper layer was born there after the root of the mount was, one of a lower layer long before: the root
/// directory of the upper layer is made when the container starts.
fn layer(tid: Tid, exe: &Metadata) -> Option<Layer> {
    let is_overlay = procfs::with_path(tid, "exe", statfs).is_ok_and(|found| {
        found.is_ok_and(|file_system| file_system.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
    });
    if !is_overlay {
        return None;
    }
    let root = procfs::metadata(tid, "root").ok()?;
    // Where the layers are on several file systems, a file has the device of its layer, and only a directory that of the
    // overlay (the kernel's documentation of overlayfs): the mount tells.
    let is_of_root = root.dev() == exe.dev()
        || mount_id(tid, "exe").is_ok_and(|mount| mount_id(tid, "root").ok() == Some(mount));
    if !is_of_root {
        return None;
    }
    let born = |file: &Metadata| file.created().ok();
    let (exe, root): (SystemTime, SystemTime) = (born(exe)?, born(&root)?);
    Some(if exe >= root { Layer::Upper } else { Layer::Lower })
}

/// The mount on which lies what `/proc/TID/NAME` leads to. Linux tells it since 5.8 (statx(2)).
fn mount_id(tid: Tid, name: &str) -> io::Result<u64> {
    let mut path = [0; procfs::PATH_BYTES];
    let path = procfs::format_path(&mut path, tid, &[name])?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `path` ends in a NUL and `found` has the size that the kernel writes; both outlive the call.
    let done =
        unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_MNT_ID, found.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: its fields are integers, for which the zeroes it began with are values as good as the kernel's.
    let found = unsafe { found.assume_init() };
    if found.stx_mask & libc::STATX_MNT_ID == 0 {
        Err(io::ErrorKind::Unsupported.into())
    } else {
        Ok(found.stx_mnt_id)
    }
}

fn ns(seconds: i64, rest: i64) -> u64 {
    let since = |seconds: i64| seconds.checked_mul(1_000_000_000)?.checked_add(rest);
    // A time before 1970 has no place in an event.
    since(seconds).and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0)
}

/// How many files a process may have open: its soft `RLIMIT_NOFILE`.
///
/// # Errors
/// What prlimit(2) says: `EPERM` when the process is another user's.
pub fn fd_limit(pid: Pid) -> io::Result<u64> {
    let mut limit = MaybeUninit::<libc::rlimit64>::zeroed();
    // SAFETY: with a null new limit the kernel only writes the present one into `limit`, which outlives the call.
    let done = unsafe { libc::prlimit64(pid.0, libc::RLIMIT_NOFILE, ptr::null(), limit.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: its two fields are integers, for which the zeroes it began with are values as good as the kernel's.
    Ok(unsafe { limit.assume_init() }.rlim_cur)
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceUsage {
    /// CPU time of all its threads, in the kernel and out of it.
    pub cpu: Duration,
    /// Its largest memory, resident, in KiB.
    pub peak_kib: u64,
}

impl ResourceUsage {
    /// Of this process, without its children (getrusage(2)).
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        let times = [usage.user_time(), usage.system_time()];
        let us = times.map(|time| u64::try_from(time.num_microseconds()).unwrap_or(0)).into_iter().sum();
        Some(Self { cpu: Duration::from_micros(us), peak_kib: usage.max_rss().try_into().unwrap_or(0) })
    }
}

/// Numbers of capabilities (linux/capability.h).
pub const CAP_SETUID: u32 = 7;
/// As above.
pub const CAP_SYS_PTRACE: u32 = 19;
/// As above.
pub const CAP_SYS_ADMIN: u32 = 21;
/// As above.
pub const CAP_SYS_NICE: u32 = 23;

/// Whether this thread has a capability of the first 32 in effect; `None` if the kernel does not tell (capget(2)).
#[must_use]
pub fn has_capability(capability: u32) -> Option<bool> {
    /// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h): two words of each set.
    const VERSION: u32 = 0x2008_0522;
    let mut header = [VERSION, 0];
    // Effective, permitted, inheritable; low words, then high ones.
    let mut sets = [0_u32; 6];
    // SAFETY: `header` is a version and the pid 0, this thread; for that version the kernel writes two structures of
    // three words, which is what `sets` has room for. Both are locals that outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    let [effective, ..] = sets;
    if done != 0 {
        return None;
    }
    Some(effective.checked_shr(capability)? & 1 != 0)
}

/// Whether what this process starts may take another user's id: it has `CAP_SETUID`, or that cannot be told.
#[must_use]
pub fn may_change_user() -> bool {
    has_capability(CAP_SETUID).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_file_that_this_test_runs_is_found() {
        let tid = Tid(nix::unistd::gettid().as_raw());
        let exe = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let found = exe_stat(tid).unwrap();
        assert_eq!((found.inode, found.mode, found.uid), (exe.ino(), exe.mode(), exe.uid()));
        let modified = exe.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(u128::from(found.mtime_ns), modified.as_nanos());
    }

    #[test]
    fn the_limit_of_open_files_is_found() {
        let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(fd_limit(Pid(nix::unistd::getpid().as_raw())).unwrap(), soft);
    }

    #[test]
    fn the_capabilities_are_those_that_proc_tells() {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let effective = u64::from_str_radix(line.trim(), 16).unwrap();
        for capability in 0..32 {
            assert_eq!(has_capability(capability), Some(effective & 1 << capability != 0), "{capability}");
        }
    }
}
