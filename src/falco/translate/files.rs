//! Calls on files, directories and descriptors.

use std::sync::Arc;

use super::{
    call::{AT_FDCWD, Call, CallKind},
    processes::Processes,
};
use crate::{
    event::CaptureKind,
    falco::{
        encode::{Batch, EncodeError, Text},
        flags, table,
    },
};

/// Falco's `O_DIRECTORY`.
const DIRECTORY: u32 = 0x400;

/// A call that opens a file, or tries to.
pub(super) fn open(call: Call<'_, '_>, kind: CallKind, out: &mut Batch) -> Result<(), EncodeError> {
    let (ts, tid, fd, abi) = (call.ts(), call.tid(), call.result(), call.abi());
    match kind {
        CallKind::Open => {
            let (kernel_flags, mode) = (call.uint(1), call.uint(2));
            let mut writer = out.event(&table::OPEN_X, ts, tid);
            writer.fd(fd).path(call.path(0)).flags32(flags::open(abi, kernel_flags));
            writer.uint32(flags::open_mode(abi, kernel_flags, mode)).empties(2).finish()
        }
        CallKind::Openat => {
            let (kernel_flags, mode) = (call.uint(2), call.uint(3));
            let mut writer = out.event(&table::OPENAT_2_X, ts, tid);
            writer.fd(fd).fd(call.long(0)).path_at(call.path_at(1)).flags32(flags::open(abi, kernel_flags));
            writer.uint32(flags::open_mode(abi, kernel_flags, mode)).empties(2).finish()
        }
        CallKind::Openat2 => {
            // struct open_how (openat2(2)): flags, mode and resolve, 64 bits each.
            let [how, mode, resolve] = [0, 8, 16].map(|at| call.field32(2, at));
            let how_flags = how.map_or(0, |how| flags::open(abi, how));
            let mut writer = out.event(&table::OPENAT2_X, ts, tid);
            writer.fd(fd).fd(call.long(0)).path_at(call.path_at(1)).flags32(how_flags);
            writer.uint32(flags::open_mode(abi, how.unwrap_or(0), mode.unwrap_or(0)));
            writer.flags32(flags::resolve(resolve.unwrap_or(0))).empties(2).finish()
        }
        CallKind::Creat => {
            let mut writer = out.event(&table::CREAT_X, ts, tid);
            writer.fd(fd).path(call.path(0)).uint32(flags::mode(call.uint(1)));
            writer.empties(2).flags16(0).finish()
        }
        CallKind::OpenByHandleAt => {
            let mut writer = out.event(&table::OPEN_BY_HANDLE_AT_X, ts, tid);
            writer.fd(fd).fd(call.long(0)).flags32(flags::open(abi, call.uint(2)));
            // libsinsp 0.23 reads device and inode of this one unasked.
            writer.empty().uint32(0).uint64(0).finish()
        }
        _ => {
            let mut writer = out.event(&table::MEMFD_CREATE_X, ts, tid);
            writer.fd(fd).string(call.text(0)).flags32(flags::memfd(call.uint(1))).finish()
        }
    }
}

/// A call on names in directories.
pub(super) fn name(call: Call<'_, '_>, kind: CallKind, out: &mut Batch) -> Result<(), EncodeError> {
    let (ts, tid, result) = (call.ts(), call.tid(), call.result());
    let event = match kind {
        CallKind::Link => &table::LINK_2_X,
        CallKind::Linkat => &table::LINKAT_2_X,
        CallKind::Symlink => &table::SYMLINK_X,
        CallKind::Symlinkat => &table::SYMLINKAT_X,
        CallKind::Unlink => &table::UNLINK_2_X,
        CallKind::Unlinkat => &table::UNLINKAT_2_X,
        CallKind::Rmdir => &table::RMDIR_2_X,
        CallKind::Mkdir => &table::MKDIR_2_X,
        CallKind::Mkdirat => &table::MKDIRAT_X,
        CallKind::Rename => &table::RENAME_X,
        CallKind::Renameat => &table::RENAMEAT_X,
        _ => &table::RENAMEAT2_X,
    };
    let mut writer = out.event(event, ts, tid);
    writer.errno(result);
    match kind {
        CallKind::Link | CallKind::Rename => writer.path(call.path(0)).path(call.path(1)),
        CallKind::Symlink => writer.string(call.text(0)).path(call.path(1)),
        CallKind::Symlinkat => writer.string(call.text(0)).fd(call.long(1)).path_at(call.path_at(2)),
        CallKind::Unlink | CallKind::Rmdir => writer.path(call.path(0)),
        CallKind::Unlinkat => {
            writer.fd(call.long(0)).path_at(call.path_at(1)).flags32(flags::unlink(call.uint(2)))
        }
        CallKind::Mkdir => writer.path(call.path(0)).uint32(call.uint(1)),
        CallKind::Mkdirat => writer.fd(call.long(0)).path_at(call.path_at(1)).uint32(call.uint(2)),
        _ => {
            writer.fd(call.long(0)).path_at(call.path_at(1)).fd(call.long(2)).path_at(call.path_at(3));
            match kind {
                CallKind::Linkat => writer.flags32(flags::link(call.uint(4))),
                // The drivers pass these on as they are.
                CallKind::Renameat2 => writer.flags32(call.uint(4)),
                _ => &mut writer,
            }
        }
    };
    writer.finish()
}

/// A change of permission bits. What `fchmodat2` does is told as `fchmodat`, since Falco has no event for it.
pub(super) fn mode(call: Call<'_, '_>, kind: CallKind, out: &mut Batch) -> Result<(), EncodeError> {
    let (ts, tid, result) = (call.ts(), call.tid(), call.result());
    match kind {
        CallKind::Chmod => {
            let mut writer = out.event(&table::CHMOD_X, ts, tid);
            writer.errno(result).path(call.path(0)).mode(flags::mode(call.uint(1))).finish()
        }
        CallKind::Fchmod => {
            tell_descriptor(call, 0, 0, out)?;
            let mut writer = out.event(&table::FCHMOD_X, ts, tid);
            writer.errno(result).fd(call.long(0)).mode(flags::mode(call.uint(1))).finish()
        }
        _ => {
            let mut writer = out.event(&table::FCHMODAT_X, ts, tid);
            writer.errno(result).fd(call.long(0)).path_at(call.path_at(1));
            writer.mode(flags::mode(call.uint(2))).finish()
        }
    }
}

/// A change of the current directory. libsinsp resolves a relative name against the directory of the thread, which
/// it keeps for the first thread only: so it gets an absolute one.
pub(super) fn chdir(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let path = call.data(CaptureKind::Path, 0);
    let text = match (path, call.cwd()) {
        (Some(path), Some(cwd)) if !path.starts_with(b"/") => Text::under(cwd, path),
        (Some(path), _) => Text::bounded(path),
        (None, _) => Text::MISSING,
    };
    if call.has_succeeded()
        && let Some(process) = processes.get_mut(call.pid)
    {
        // A directory that nobody told leaves Falco with `<NA>`; the next relative path puts that right.
        process.cwd = path.and_then(|_| without_dots(&text.to_vec()));
    }
    let mut writer = out.event(&table::CHDIR_X, call.ts(), call.tid());
    writer.errno(call.result()).string(text).finish()
}

/// An absolute path as libsinsp remembers it, which knows no links: without `.`, `..` and doubled slashes. Otherwise a
/// later record would seem to tell of another directory.
fn without_dots(path: &[u8]) -> Option<Arc<[u8]>> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.strip_prefix(b"/")?.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    Some([b"/", names.join(&b'/').as_slice()].concat().into())
}

/// The same by descriptor, followed by a `chdir` to where it leads: Falco may know the descriptor as another file.
pub(super) fn fchdir(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    tell_descriptor(call, 0, DIRECTORY, out)?;
    let mut writer = out.event(&table::FCHDIR_X, call.ts(), call.tid());
    writer.errno(call.result()).fd(call.long(0)).finish()?;
    if !call.has_succeeded() {
        return Ok(());
    }
    if let Some(process) = processes.get_mut(call.pid) {
        process.cwd = None;
    }
    match call.data(CaptureKind::FdPath, 0).filter(|path| path.starts_with(b"/") && !path.contains(&0)) {
        Some(path) => processes.move_to(call.record.header().tid, call.pid, path, call.ts(), out),
        None => Ok(()),
    }
}

/// Tells Falco what the descriptor in an argument is open on, if the record does. Nobody traps every open and every close,
/// so that Falco may know nothing of it, or take it for a file of before.
///
/// It is told as an `open_by_handle_at`: that makes a descriptor known by an absolute path, and with `open_flags` that say
/// neither read nor write no rule for files that are opened takes it for one.
pub(super) fn tell_descriptor(
    call: Call<'_, '_>,
    index: u8,
    open_flags: u32,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let path = call.data(CaptureKind::FdPath, index).filter(|path| path.starts_with(b"/"));
    let Some(path) = path.filter(|_| call.int(index) >= 0) else { return Ok(()) };
    // The kernel's mark of a file without a name (proc_pid_fd(5)) is none of the name.
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let mut writer = out.event(&table::OPEN_BY_HANDLE_AT_X, call.ts(), call.tid());
    writer.fd(call.long(index)).fd(i64::from(AT_FDCWD)).flags32(open_flags);
    writer.path(Text::bounded(path)).uint32(0).uint64(0).finish()
}

/// A call that changes the file tree of its process.
pub(super) fn tree(call: Call<'_, '_>, kind: CallKind, out: &mut Batch) -> Result<(), EncodeError> {
    let (ts, tid, result) = (call.ts(), call.tid(), call.result());
    match kind {
        CallKind::Chroot => out.event(&table::CHROOT_X, ts, tid).errno(result).path(call.path(0)).finish(),
        CallKind::Mount => {
            let mut writer = out.event(&table::MOUNT_X, ts, tid);
            writer.errno(result).string(call.text(0)).path(call.path(1)).string(call.text(2));
            writer.flags32(flags::mount(call.uint(3))).finish()
        }
        _ => {
            let mut writer = out.event(&table::UMOUNT2_X, ts, tid);
            writer.errno(result).path(call.path(0)).flags32(flags::unmount(call.uint(1))).finish()
        }
    }
}

/// A call that makes a descriptor of no file, or works on one.
pub(super) fn descriptor(call: Call<'_, '_>, kind: CallKind, out: &mut Batch) -> Result<(), EncodeError> {
    let (ts, tid, result) = (call.ts(), call.tid(), call.result());
    let short = |flags: u32| u16::try_from(flags & 0xffff).unwrap_or_default();
    let byte = |value: u32| u8::try_from(value & 0xff).unwrap_or_default();
    match kind {
        CallKind::Close => out.event(&table::CLOSE_X, ts, tid).errno(result).fd(call.long(0)).finish(),
        CallKind::Fcntl => {
            let mut writer = out.event(&table::FCNTL_X, ts, tid);
            writer
                .fd(result)
                .fd(call.long(0))
                .choice8(flags::fcntl(call.uint(1)))
                .uint64(call.word(2))
                .finish()
        }
        CallKind::EpollCreate => {
            out.event(&table::EPOLL_CREATE_X, ts, tid).errno(result).int32(call.int(0)).finish()
        }
        CallKind::EpollCreate1 => out
            .event(&table::EPOLL_CREATE1_X, ts, tid)
            .errno(result)
            .flags32(flags::epoll(call.uint(0)))
            .finish(),
        CallKind::Eventfd => {
            let mut writer = out.event(&table::EVENTFD_X, ts, tid);
            writer.fd(result).uint64(u64::from(call.uint(0))).uint32(0).finish()
        }
        CallKind::Eventfd2 => {
            let mut writer = out.event(&table::EVENTFD2_X, ts, tid);
            let falco_flags = short(flags::descriptor(call.uint(1)));
            writer.fd(result).flags16(falco_flags).uint64(u64::from(call.uint(0))).finish()
        }
        CallKind::InotifyInit => out.event(&table::INOTIFY_INIT_X, ts, tid).fd(result).uint8(0).finish(),
        CallKind::InotifyInit1 => {
            let falco_flags = short(flags::descriptor(call.uint(0)));
            out.event(&table::INOTIFY_INIT1_X, ts, tid).fd(result).flags16(falco_flags).finish()
        }
        CallKind::Signalfd => {
            let mut writer = out.event(&table::SIGNALFD_X, ts, tid);
            writer.fd(result).fd(call.long(0)).uint32(0).uint8(0).finish()
        }
        CallKind::Signalfd4 => {
            let mut writer = out.event(&table::SIGNALFD4_X, ts, tid);
            writer
                .fd(result)
                .flags16(short(flags::descriptor(call.uint(3))))
                .fd(call.long(0))
                .uint32(0)
                .finish()
        }
        CallKind::TimerfdCreate => {
            let mut writer = out.event(&table::TIMERFD_CREATE_X, ts, tid);
            writer.fd(result).uint8(byte(call.uint(0))).uint8(byte(flags::descriptor(call.uint(1)))).finish()
        }
        CallKind::Userfaultfd => {
            // The drivers pass these on as they are.
            out.event(&table::USERFAULTFD_X, ts, tid).errno(result).flags32(call.uint(0)).finish()
        }
        CallKind::PidfdOpen => {
            let mut writer = out.event(&table::PIDFD_OPEN_X, ts, tid);
            writer.fd(result).own_pid(call.long(0)).flags32(flags::pidfd(call.uint(1))).finish()
        }
        CallKind::PidfdGetfd => {
            let mut writer = out.event(&table::PIDFD_GETFD_X, ts, tid);
            writer.fd(result).fd(call.long(0)).fd(call.long(1)).uint32(call.uint(2)).finish()
        }
        _ => io_uring_setup(call, out),
    }
}

/// The parameters are those that the program asked for: the record is taken before the kernel fills in the rest
/// (io_uring_setup(2), `struct io_uring_params`).
fn io_uring_setup(call: Call<'_, '_>, out: &mut Batch) -> Result<(), EncodeError> {
    let [sq_entries, cq_entries, setup, cpu, idle, features] =
        [0, 4, 8, 12, 16, 20].map(|at| call.field32(1, at).unwrap_or(0));
    let mut writer = out.event(&table::IO_URING_SETUP_X, call.ts(), call.tid());
    writer.errno(call.result()).uint32(call.uint(0)).uint32(sq_entries).uint32(cq_entries);
    writer.flags32(flags::io_uring_setup(setup)).uint32(cpu).uint32(idle);
    writer.flags32(flags::io_uring_features(features)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_remembered_without_detours() {
        let told = |path: &str| {
            without_dots(path.as_bytes()).map(|path| String::from_utf8_lossy(&path).into_owned())
        };
        assert_eq!(told("/srv/a/../b/./c//"), Some("/srv/b/c".into()));
        assert_eq!(told("/.."), Some("/".into()));
        assert_eq!(told("/"), Some("/".into()));
        assert_eq!(told("srv"), None);
    }
}
