//! Whether a file that a thread has opened is the one that a path names which was read from its memory.
//!
//! Texts differ for good reasons: links are followed, `/proc/self` is each reader's own, files are renamed while we look.
//! So what the path names now is looked up and compared as a file, and where that may have changed meanwhile there is no
//! answer. Before you edit, think of: another root or mount namespace, a directory that was swapped by a rename, a name
//! that is gone, `/proc`.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

use super::{Pid, Tid, procfs};
use crate::limits;

/// What a descriptor is open on, as text.
#[derive(Debug)]
pub struct Opened {
    text: [u8; limits::PATH_BYTES_MAX],
    len: usize,
}

/// What the kernel writes behind the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

impl Opened {
    /// What the descriptor `fd` of a thread is open on; `None` if there is no such descriptor, or no telling.
    #[must_use]
    pub fn read(tid: Tid, fd: i32) -> Option<Self> {
        let mut text = [0; limits::PATH_BYTES_MAX];
        let len = procfs::read_fd_link(tid, fd, &mut text).ok()?;
        Some(Self { text, len })
    }

    /// The path, if it is open on something in the file tree; the last one, if that has no name any more.
    #[must_use]
    pub fn path(&self) -> Option<&[u8]> {
        let text = self.text.get(..self.len).filter(|text| text.starts_with(b"/"))?;
        Some(text.strip_suffix(DELETED).unwrap_or(text))
    }
}

/// A path that a thread was asked about, as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The path, as it stood in memory.
    pub path: &'a [u8],
    /// Where it starts, if it is relative and that is known.
    pub start: Option<Start<'a>>,
    /// A file without a name was asked for in that directory (`O_TMPFILE`).
    pub is_unnamed: bool,
    /// When the path was read.
    pub since: SystemTime,
}

/// The directory that a relative path starts from.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The descriptor, or `None` for the current directory.
    pub fd: Option<i32>,
    /// What `/proc` told of it.
    pub text: &'a [u8],
}

/// Whether two are the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// They are.
    Same,
    /// They are not, and nothing but a change of the path explains that.
    Different,
    /// It cannot be told: the path leads over links to something else now, or something was moved lately.
    Unclear,
}

/// How much later than it happened a change of a file may be dated: file systems use the time of the last tick.
const TICKS: Duration = Duration::from_millis(20);

/// Components of a path that are looked at.
const COMPONENTS_MAX: usize = 64;

/// Compares what a descriptor `fd` is open on, of a thread that stands still, with what it was asked to open.
#[must_use]
pub fn compare((tid, pid): (Tid, Pid), fd: i32, opened: &Opened, asked: &Asked<'_>) -> Likeness {
    let Some(path) = opened.path() else {
        // A pipe, a socket or a device of no file system: no path names what could matter there.
        return Likeness::Same;
    };
    if is_text_of(path, asked) {
        return Likeness::Same;
    }
    let Ok(Ok(file)) = procfs::with_path(tid, &format!("fd/{fd}"), |path| path.metadata()) else {
        return Likeness::Unclear;
    };
    if asked.is_unnamed {
        return if file.nlink() == 0 { Likeness::Same } else { Likeness::Unclear };
    }
    let is_in_proc = [path, asked.path, asked.start.map_or(b"", |start| start.text)]
        .iter()
        .any(|path| path.starts_with(b"/proc/") || *path == b"/proc");
    match named(tid, asked, &file).unwrap_or(Likeness::Unclear) {
        Likeness::Same => Likeness::Same,
        _ if is_own((tid, pid), asked.path, &file) => Likeness::Same,
        Likeness::Different if is_in_proc || is_of_its_own_making(&file) => Likeness::Unclear,
        likeness => likeness,
    }
}

/// Whether the file's path is just what was asked for.
fn is_text_of(path: &[u8], asked: &Asked<'_>) -> bool {
    if asked.path.starts_with(b"/") {
        return path == asked.path;
    }
    let Some(start) = asked.start else { return false };
    let rest = path.strip_prefix(start.text).map(|rest| rest.strip_prefix(b"/").unwrap_or(rest));
    !asked.path.is_empty() && start.text.starts_with(b"/") && rest == Some(asked.path)
}

/// A device may give another file than itself when it is opened.
fn is_of_its_own_making(file: &Metadata) -> bool {
    file.file_type().is_char_device()
}

/// Whether it is what the thread has under a name that means something else to each process.
fn is_own((tid, pid): (Tid, Pid), path: &[u8], file: &Metadata) -> bool {
    let Ok(path) = std::str::from_utf8(path) else { return false };
    let own_task = format!("task/{tid}/");
    let (before, name) = match path {
        "/dev/stdin" => ("", "fd/0"),
        "/dev/stdout" => ("", "fd/1"),
        "/dev/stderr" => ("", "fd/2"),
        "/etc/mtab" => ("", "mounts"),
        _ => {
            let under = |prefix| path.strip_prefix(prefix);
            match under("/proc/self/").or_else(|| under("/dev/").filter(|name| name.starts_with("fd/"))) {
                Some(name) => ("", name),
                None => match under("/proc/thread-self/") {
                    Some(name) => (&*own_task, name),
                    None => return false,
                },
            }
        }
    };
    let is_it = |path: &Path| path.metadata().is_ok_and(|named| is_same(&named, file));
    procfs::with_path(pid.leader(), &format!("{before}{name}"), is_it).unwrap_or(false)
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Compares a file with what the path names now for the thread.
fn named(tid: Tid, asked: &Asked<'_>, file: &Metadata) -> Option<Likeness> {
    let is_absolute = asked.path.starts_with(b"/");
    let start = if is_absolute { open(tid, "root") } else { start(tid, asked.start?) }?;
    // Links to absolute paths mean the thread's own root. A relative path may leave its directory, and then its links to
    // absolute paths mean ours: that can only make two out of what is the same.
    let how = if is_absolute { ResolveFlag::RESOLVE_IN_ROOT } else { ResolveFlag::RESOLVE_NO_MAGICLINKS };
    let look = |path: &[u8], more: ResolveFlag| {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(how | more);
        // openat2(2): EAGAIN, where it steps back to a parent (`..`) and cannot be sure that nothing was moved. A file system in
        // user space takes its time, so that happens there more often than not while others rename.
        let found = (0..limits::LOOKS_AGAIN_MAX)
            .map(|_| openat2(start.as_fd(), OsStr::from_bytes(path), how))
            .find(|found| !matches!(found, Err(Errno::EAGAIN)))
            .unwrap_or(Err(Errno::EAGAIN))?;
        File::from(found).metadata().map_err(|_| Errno::EIO)
    };
    let found = look(asked.path, ResolveFlag::empty());
    if found.as_ref().is_ok_and(|found| is_same(found, file)) {
        return Some(Likeness::Same);
    }
    // From here on it is told apart only by what cannot have been moved in between.
    let without_links = ResolveFlag::RESOLVE_NO_SYMLINKS;
    let before = asked.since.checked_sub(TICKS)?;
    if !is_absolute && asked.path.split(|&byte| byte == b'/').any(|part| part == b"..") {
        return None;
    }
    let mut parent = start.metadata().ok()?;
    let ends = asked.path.iter().enumerate().filter(|&(at, &byte)| byte == b'/' && at > 0).map(|(at, _)| at);
    for (count, end) in ends.enumerate() {
        let directory = look(asked.path.get(..end)?, without_links).ok()?;
        if count >= COMPONENTS_MAX || was_moved(&directory, before) {
            return None;
        }
        parent = directory;
    }
    match look(asked.path, without_links) {
        Ok(found) if is_same(&found, file) => Some(Likeness::Same),
        Ok(found) => (!is_new(&found, before)).then_some(Likeness::Different),
        Err(Errno::ENOENT) => (!is_new(&parent, before)).then_some(Likeness::Different),
        Err(_) => None,
    }
}

fn open(tid: Tid, name: &str) -> Option<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened =
        procfs::with_path(tid, name, |path| nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()));
    opened.ok()?.ok().map(File::from)
}

/// The directory that a relative path started from, if it is that still.
fn start(tid: Tid, start: Start<'_>) -> Option<File> {
    let name = start.fd.map_or_else(|| "cwd".to_owned(), |fd| format!("fd/{fd}"));
    let directory = open(tid, &name)?;
    let mut text = [0; limits::PATH_BYTES_MAX];
    let len = procfs::read_link(tid, &name, &mut text).ok()?;
    (text.get(..len) == Some(start.text)).then_some(directory)
}

/// Whether a directory may have got its name since then: a rename dates the change of what is renamed, but not that of its
/// contents.
fn was_moved(directory: &Metadata, before: SystemTime) -> bool {
    let changed = (directory.ctime(), directory.ctime_nsec());
    is_since(changed, before) && changed != (directory.mtime(), directory.mtime_nsec())
}

/// Whether a file may have got its name since then, or a directory an entry.
fn is_new(file: &Metadata, before: SystemTime) -> bool {
    is_since((file.ctime(), file.ctime_nsec()), before)
}

fn is_since((seconds, nanos): (i64, i64), before: SystemTime) -> bool {
    let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = u64::try_from(seconds).unwrap_or(0);
    (at, nanos) >= (before.as_secs(), i64::from(before.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsRawFd as _,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    /// Compares a file with a path that was read then.
    fn compared(file: &File, path: &Path, start: Option<Start<'_>>, since: SystemTime) -> Likeness {
        let own = (Tid(nix::unistd::gettid().as_raw()), Pid(nix::unistd::getpid().as_raw()));
        let path = path.as_os_str().as_bytes();
        let asked = Asked { path, start, is_unnamed: false, since };
        let opened = Opened::read(own.0, file.as_raw_fd()).unwrap();
        compare(own, file.as_raw_fd(), &opened, &asked)
    }

    #[test]
    fn a_file_is_the_one_that_a_path_names_by_any_way_and_no_other() {
        let before = SystemTime::now();
        let later = before + Duration::from_secs(3600);
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let [a, b, link, gone] = ["a", "b", "link", "gone"].map(|name| path.join(name));
        std::fs::write(&a, "").unwrap();
        std::fs::write(&b, "").unwrap();
        std::os::unix::fs::symlink(&a, &link).unwrap();
        let (file, place) = (File::open(&a).unwrap(), File::open(&path).unwrap());
        let start = Start { fd: Some(place.as_raw_fd()), text: path.as_os_str().as_bytes() };
        let dots = path.join("../").join(path.file_name().unwrap()).join("./a");
        for named in [&a, &link, &dots] {
            assert_eq!(compared(&file, named, None, before), Likeness::Same, "{}", named.display());
        }
        for named in ["a", "./a", "link"] {
            assert_eq!(compared(&file, Path::new(named), Some(start), before), Likeness::Same, "{named}");
        }
        // Nothing was moved for long.
        for named in [&b, &gone] {
            assert_eq!(compared(&file, named, None, later), Likeness::Different, "{}", named.display());
        }
        assert_eq!(compared(&file, Path::new("b"), Some(start), later), Likeness::Different);
        // It was, or may have been.
        for named in [&b, &gone] {
            assert_eq!(compared(&file, named, None, before), Likeness::Unclear, "{}", named.display());
        }
        let other = File::open(&b).unwrap();
        assert_eq!(compared(&other, &link, None, later), Likeness::Unclear);
        let elsewhere = Start { text: b"/elsewhere", ..start };
        assert_eq!(compared(&file, Path::new("b"), Some(elsewhere), later), Likeness::Unclear);
        let status = File::open("/proc/self/status").unwrap();
        assert_eq!(compared(&status, Path::new("/proc/self/status"), None, before), Likeness::Same);
        assert_eq!(compared(&file, Path::new("/proc/self/status"), None, later), Likeness::Unclear);
    }

    #[test]
    fn renames_of_other_files_do_not_make_it_unclear() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let [a, below, link, moved] = ["a", "below", "below/link", "moved"].map(|name| path.join(name));
        std::fs::write(&a, "").unwrap();
        std::fs::write(&moved, "").unwrap();
        std::fs::create_dir(&below).unwrap();
        std::os::unix::fs::symlink("../a", &link).unwrap();
        let file = File::open(&a).unwrap();
        let is_over = AtomicBool::new(false);
        let found: Vec<_> = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut one, mut other) = (moved.clone(), path.join("other"));
                while !is_over.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::mem::swap(&mut one, &mut other);
                }
            });
            let found = (0..1000).map(|_| compared(&file, &link, None, SystemTime::now())).collect();
            is_over.store(true, Ordering::Relaxed);
            found
        });
        assert_eq!(found.iter().filter(|&&likeness| likeness != Likeness::Same).count(), 0);
    }
}
