//! Texts and links under `/proc`, read into the caller's buffer without allocating.
#![expect(unsafe_code, reason = "readlink(2) into a borrowed buffer has no safe wrapper")]

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::{self, File, Metadata},
    io::{self, BufRead, BufReader, Read},
    iter,
    ops::Range,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use super::{Pid, RemoteAddr, Tid};
use crate::limits;

/// Opens the file `/proc/ID/NAME` for reading.
///
/// # Errors
/// What open(2) says: `ENOENT` when the thread is gone, `EACCES` when it is not ours to read.
pub fn open(tid: Tid, name: &str) -> io::Result<File> {
    with_path(tid, name, |path| File::open(path))?
}

/// The attributes of what `/proc/ID/NAME` leads to.
///
/// # Errors
/// What stat(2) says.
pub fn metadata(tid: Tid, name: &str) -> io::Result<Metadata> {
    with_path(tid, name, |path| fs::metadata(path))?
}

/// Calls `act` with the path `/proc/ID/NAME`.
///
/// # Errors
/// `InvalidInput` if it does not fit, else none.
pub fn with_path<T>(tid: Tid, name: &str, act: impl FnOnce(&Path) -> T) -> io::Result<T> {
    let mut path = [0; PATH_BYTES];
    let path = format_path(&mut path, tid, &[name])?;
    Ok(act(Path::new(OsStr::from_bytes(path.to_bytes()))))
}

/// Reads the text `/proc/ID/NAME` into `buf`; tells how many bytes it took and whether there was more.
///
/// # Errors
/// What open(2) or read(2) says: `ENOENT` when the thread is gone, `EACCES` when it is not ours to read.
pub fn read_text(tid: Tid, name: &str, buf: &mut [u8]) -> io::Result<(usize, bool)> {
    read_whole(open(tid, name)?, buf)
}

/// As [`read_text`], of the text `/proc/ID/task/ID/NAME`, which tells of the thread alone: the kernel need not add up what all
/// threads of its process did.
///
/// # Errors
/// As [`read_text`].
pub fn read_own_text(tid: Tid, name: &str, buf: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut path = [0; PATH_BYTES];
    let path = format_path(&mut path, tid, &["task/", itoa::Buffer::new().format(tid.0), "/", name])?;
    read_whole(File::open(OsStr::from_bytes(path.to_bytes()))?, buf)
}

/// Such a text is one record (`seq_read_iter`) or lies in memory: the kernel gives as much as there is room for, so that it is over
/// if there was more room.
fn read_whole(mut file: File, buf: &mut [u8]) -> io::Result<(usize, bool)> {
    let len = file.read(buf)?;
    Ok((len, len == buf.len() && file.read(&mut [0])? > 0))
}

/// Reads the link `/proc/ID/NAME` into `buf`; tells how many bytes it took. A text that fills `buf` may have been
/// cut.
///
/// # Errors
/// What readlink(2) says.
pub fn read_link(tid: Tid, name: &str, buf: &mut [u8]) -> io::Result<usize> {
    let mut path = [0; PATH_BYTES];
    link(format_path(&mut path, tid, &[name])?, buf)
}

/// Reads where the descriptor `fd` of a thread points to: the link `/proc/TID/fd/FD`.
///
/// # Errors
/// What readlink(2) says: `ENOENT` when there is no such descriptor.
pub fn read_fd_link(tid: Tid, fd: i32, buf: &mut [u8]) -> io::Result<usize> {
    let mut path = [0; PATH_BYTES];
    link(format_path(&mut path, tid, &["fd/", itoa::Buffer::new().format(fd)])?, buf)
}

/// How a thread stands to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relations {
    /// Its process.
    pub process: Pid,
    /// The parent of its process; 0 if that is in none of the namespaces that we see.
    pub parent: Pid,
}

/// How a thread stands to others, from `/proc/TID/status`.
///
/// # Errors
/// As [`read_text`]; `InvalidData` if the text lacks a line.
pub fn relations(tid: Tid) -> io::Result<Relations> {
    let mut text = [0; 1024];
    let (len, _) = read_text(tid, "status", &mut text)?;
    let text = text.get(..len).unwrap_or_default();
    let pid = |name| number_in_status(text, name)?.try_into().ok().map(Pid);
    let relations = || Some(Relations { process: pid("Tgid")?, parent: pid("PPid")? });
    relations().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A number that stands alone in a line of `/proc/TID/status`, or the first of its line: `None` if there is no such line.
#[must_use]
pub fn status_number(tid: Tid, name: &str) -> Option<i64> {
    let mut text = [0; limits::PROC_TEXT_BYTES_MAX];
    let (len, _) = read_text(tid, "status", &mut text).ok()?;
    number_in_status(text.get(..len)?, name)
}

fn number_in_status(text: &[u8], name: &str) -> Option<i64> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// How many seccomp filters a thread has: since Linux 5.9 (proc_pid_status(5)). `None` where it is not told.
#[must_use]
pub fn filter_count(tid: Tid) -> Option<u32> {
    status_number(tid, "Seccomp_filters")?.try_into().ok()
}

/// The state of a thread, as one letter (proc(5)); `None` if it is gone. From `/proc/TID/task/TID/stat`.
#[must_use]
pub fn state(tid: Tid) -> Option<u8> {
    let mut text = [0; limits::PROC_STAT_BYTES_MAX];
    let (len, _) = read_own_text(tid, "stat", &mut text).ok()?;
    after_name(text.get(..len)?)?.bytes().next()
}

/// The number of the call that a thread sleeps or stands still in, by the ABI that it was made by; -1 if it is in none. `None` if it
/// runs, is gone, or is not ours to ask. From `/proc/TID/syscall`.
#[must_use]
pub fn call_number(tid: Tid) -> Option<i64> {
    let mut text = [0; limits::PROC_STAT_BYTES_MAX];
    let (len, _) = read_own_text(tid, "syscall", &mut text).ok()?;
    std::str::from_utf8(text.get(..len)?).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// What `/proc/PID/stat` tells of a process that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// When it was made, in ticks since the machine started: with its number this names one process for ever.
    pub start_ticks: u64,
    /// It is a thread of the kernel.
    pub is_kernel_thread: bool,
    /// It has ended, and nobody has waited for it yet.
    pub has_ended: bool,
}

/// What `/proc/TID/stat` tells of a thread; `None` if it is gone.
#[must_use]
pub fn birth(tid: Tid) -> Option<Birth> {
    /// `PF_KTHREAD` (linux/sched.h).
    const KERNEL_THREAD: u64 = 0x0020_0000;
    // The state is field 3, the flags 9, the start 22 (proc_pid_stat(5)).
    let mut text = [0; limits::PROC_STAT_BYTES_MAX];
    let fields: Vec<_> = stat_after_name(tid, &mut text)?.split_ascii_whitespace().collect();
    Some(Birth {
        start_ticks: fields.get(19)?.parse().ok()?,
        is_kernel_thread: fields.get(6)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        has_ended: fields.first()?.starts_with(['Z', 'X']),
    })
}

/// Whether a thread is not the only one of its process: `/proc/TID/task` has a link for each (proc(5)). A process that cannot
/// be asked has others.
#[must_use]
pub fn has_other_threads(tid: Tid) -> bool {
    // Two links are those of any directory.
    metadata(tid, "task").map_or(true, |tasks| tasks.nlink() > 3)
}

/// Whether other processes may change memory of a thread: it is shared, or shows a file (`/proc/TID/maps`), which a private
/// mapping does too until it is written to. What cannot be read may be changed.
#[must_use]
pub fn is_open_to_others(tid: Tid, address: RemoteAddr) -> bool {
    let Ok(maps) = open(tid, "maps") else { return true };
    let lines = BufReader::new(maps).lines().take(limits::MAPS_MAX);
    let mut found = lines.map_while(Result::ok).filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let is_there = (number(start)?..number(end)?).contains(&address.0);
        // The inode is the fourth of what is left (proc_pid_maps(5)).
        let has_file = rest.split_ascii_whitespace().nth(3) != Some("0");
        is_there.then(|| rest.as_bytes().get(3) == Some(&b's') || has_file)
    });
    found.next().unwrap_or(false)
}

/// The threads of a process; none if it is gone.
#[must_use]
pub fn threads(pid: Pid) -> Vec<Tid> {
    let Ok(Ok(entries)) = with_path(pid.leader(), "task", |path| fs::read_dir(path)) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Tid)).collect()
}

/// The wait status (wait(2)) of a process that has ended and that nobody has waited for yet; `None` of any other, and
/// where the kernel keeps it from us. From `/proc/PID/stat`.
#[must_use]
pub fn status_before_wait(pid: Pid) -> Option<i32> {
    match shown_status(pid)? {
        // proc_pid_stat(5): who may not trace the process is shown 0, whatever it is.
        0 if is_kept_from_us(pid) => None,
        // If it is gone meanwhile, the question was about nobody.
        0 => shown_status(pid),
        status => Some(status),
    }
}

/// Whether a process has ended and nobody has waited for it yet.
#[must_use]
pub fn awaits_wait(pid: Pid) -> bool {
    shown_status(pid).is_some()
}

fn shown_status(pid: Pid) -> Option<i32> {
    let mut text = [0; limits::PROC_STAT_BYTES_MAX];
    let after_name = stat_after_name(pid.leader(), &mut text)?;
    let status = after_name.trim_end().rsplit(' ').next()?.parse().ok()?;
    after_name.starts_with(['Z', 'X']).then_some(status)
}

/// Whether the kernel shows us of a process only what it shows to everybody. That of one that has ended it refuses in another
/// way: it has no directory any more.
fn is_kept_from_us(pid: Pid) -> bool {
    let cwd = read_link(pid.leader(), "cwd", &mut [0; 1]);
    cwd.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// CPU seconds that a process has used, without its children; told also of one that has ended and was not waited for. The
/// kernel counts them in hundredths, whatever its own tick (USER_HZ).
#[must_use]
pub fn cpu_seconds(pid: Pid) -> Option<f64> {
    let mut text = [0; limits::PROC_STAT_BYTES_MAX];
    let after_name = stat_after_name(pid.leader(), &mut text)?;
    // The fields `utime` and `stime`: the 14th and 15th (proc_pid_stat(5)), where the state is the 3rd.
    let ticks = after_name.split_ascii_whitespace().skip(14 - 3).take(2).map(str::parse::<u32>);
    Some(ticks.map(|ticks| ticks.map(f64::from)).sum::<Result<f64, _>>().ok()? / 100.0)
}

/// What stands in `/proc/TID/stat` behind the name; `None` if the thread is gone.
fn stat_after_name(tid: Tid, text: &mut [u8; limits::PROC_STAT_BYTES_MAX]) -> Option<&str> {
    let (len, _) = read_text(tid, "stat", text).ok()?;
    after_name(text.get(..len)?)
}

/// What stands in the text of a `/proc/TID/stat` behind the name, which is in brackets and may hold anything: from the third
/// value on.
pub(super) fn after_name(stat: &[u8]) -> Option<&str> {
    let after_name = stat.get(stat.iter().rposition(|&byte| byte == b')')? + 2..)?;
    std::str::from_utf8(after_name).ok()
}

/// Where in its memory the arguments and the environment of a program lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramStrings {
    /// The arguments, each with its NUL.
    pub arguments: Range<u64>,
    /// The environment, each entry with its NUL.
    pub environment: Range<u64>,
}

/// Reads them from the text of `/proc/PID/stat` (proc_pid_stat(5): `arg_start` is the 48th value, the state the third);
/// `None` where the kernel keeps them from us.
#[must_use]
pub fn program_strings(stat: &[u8]) -> Option<ProgramStrings> {
    let mut values = after_name(stat)?.split_ascii_whitespace().skip(48 - 3).map(str::parse);
    let mut next = || values.next()?.ok();
    let found = ProgramStrings { arguments: next()?..next()?, environment: next()?..next()? };
    (found.arguments.start != 0).then_some(found)
}

/// The processes that `/proc` shows; none where it cannot be read.
pub fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid))
}

/// The descendants of a process, as far as `/proc` shows them; those that have ended are not among them.
#[must_use]
pub fn descendants(of: Pid) -> Vec<Pid> {
    let parents: HashMap<_, _> = processes()
        .filter(|&pid| !awaits_wait(pid))
        .filter_map(|pid| Some((pid, relations(pid.leader()).ok()?.parent)))
        .collect();
    let descends = |pid: &Pid| {
        let lineage = iter::successors(Some(*pid), |pid| parents.get(pid).copied());
        lineage.skip(1).take(limits::PROCESSES_MAX).any(|ancestor| ancestor == of)
    };
    parents.keys().copied().filter(descends).collect()
}

/// The children of this process's first thread, those that have ended as well: whom that has made itself, and all orphans
/// that this process has adopted, which the kernel gives to it. None on a kernel without `CONFIG_PROC_CHILDREN`
/// (`proc_pid_task(5)`).
#[must_use]
pub fn adopted() -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::getpid()));
    children
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok().map(Pid))
        .collect()
}

/// The PID namespace of this process: the inode of `/proc/self/ns/pid`; 0 if it cannot be read.
#[must_use]
pub fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

/// Room for the longest path made here: `/proc/2147483647/task/2147483647`.
pub(super) const PATH_BYTES: usize = 64;

/// Makes the path `/proc/ID/NAME` in `buf`, with the name in pieces. A call may need it, so it does without `core::fmt`.
///
/// # Errors
/// `InvalidInput` if it does not fit.
pub(super) fn format_path<'a>(
    buf: &'a mut [u8; PATH_BYTES],
    tid: Tid,
    name: &[&str],
) -> io::Result<&'a CStr> {
    let mut digits = itoa::Buffer::new();
    let mut len = 0;
    for piece in ["/proc/", digits.format(tid.0), "/"].iter().chain(name) {
        // The last byte stays the NUL that the path ends with.
        let room = buf[..PATH_BYTES - 1].get_mut(len..len + piece.len());
        room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(piece.as_bytes());
        len += piece.len();
    }
    CStr::from_bytes_until_nul(buf).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn link(path: &CStr, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `path` ends with a NUL; the kernel writes at most `buf.len()` bytes into `buf`, which we hold
    // mutably until the call returns, and adds no NUL.
    let len = unsafe { libc::readlink(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_a_thread_sleeps_in_is_told_by_its_number() {
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            tell.send(Tid(nix::unistd::gettid().as_raw())).unwrap();
            let _ = ends.recv();
        });
        let tid = told.recv().unwrap();
        while call_number(tid) != Some(libc::SYS_futex) {
            std::thread::yield_now();
        }
        drop(end);
        sleeper.join().unwrap();
        assert_eq!(call_number(tid), None, "it is gone");
        // Of the calling thread alone it tells although that runs.
        assert_eq!(call_number(Tid(nix::unistd::gettid().as_raw())), Some(libc::SYS_read));
    }

    #[test]
    fn a_text_longer_than_the_buffer_is_told() {
        let tid = Tid(nix::unistd::gettid().as_raw());
        let mut buf = [0; 16];
        assert_eq!(read_text(tid, "status", &mut buf).unwrap(), (16, true));
        assert!(buf.starts_with(b"Name:"));
        let mut buf = [0; 8192];
        let (len, more) = read_text(tid, "status", &mut buf).unwrap();
        assert!(len > 100 && !more);
    }

    #[test]
    fn own_thread_group_is_found() {
        let tid = Tid(nix::unistd::gettid().as_raw());
        let pid = Pid(nix::unistd::getpid().as_raw());
        let relations = relations(tid).unwrap();
        assert_eq!((relations.process, relations.parent), (pid, Pid(nix::unistd::getppid().as_raw())));
    }

    #[test]
    fn the_arguments_of_this_test_lie_where_stat_says() {
        let arguments = fs::read("/proc/self/cmdline").unwrap();
        let found = program_strings(&fs::read("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(found.arguments.end - found.arguments.start, arguments.len() as u64);
        assert!(found.arguments.end <= found.environment.start);
        for stat in ["", "1 (a) S", "1 (a ) b) S 1", &format!("1 (a) S{}", " 0".repeat(49))] {
            assert_eq!(program_strings(stat.as_bytes()), None, "{stat}");
        }
    }

    #[test]
    fn memory_that_others_can_change_is_told_from_the_rest() {
        let tid = Tid(nix::unistd::gettid().as_raw());
        let own = Box::new(7_u64);
        assert!(!is_open_to_others(tid, RemoteAddr(std::ptr::from_ref(&*own).addr() as u64)));
        assert!(!is_open_to_others(tid, RemoteAddr(8)));
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let is_open = |line: &&str| {
            line.split(' ').nth(1).is_some_and(|how| how.ends_with('s')) || line.contains(".so")
        };
        assert!(maps.lines().any(|line| is_open(&line)));
        for line in maps.lines().filter(is_open) {
            let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
            // Another test may have taken its mapping away.
            let is_gone = || fs::read_to_string("/proc/self/maps").unwrap().lines().all(|left| left != line);
            assert!(is_open_to_others(tid, RemoteAddr(start)) || is_gone(), "{line}");
        }
    }

    #[test]
    fn a_thread_that_is_not_alone_is_told() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || ended.recv());
        assert!(has_other_threads(Tid(nix::unistd::gettid().as_raw())));
        drop(end);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn own_process_is_among_those_that_are_shown() {
        let pid = Pid(nix::unistd::getpid().as_raw());
        assert!(processes().any(|shown| shown == pid));
    }
}
