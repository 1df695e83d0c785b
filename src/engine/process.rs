//! The `/proc` texts of a process, taken raw: at its exec, or when it has to be told of again.

use std::ops::Range;

use super::calls::EXECVE;
use crate::{
    event::{CaptureBuffer, CaptureFlags, CaptureKind, Captures, RecordFlags, RecordHeader, RecordKind},
    limits,
    sys::{
        Pid, RemoteAddr, Tid, clock, memory,
        process::{self, ExeStat, Layer},
        procfs::{self, ProgramStrings},
    },
};

/// Texts that the record of a program holds, by their name under `/proc/PID`.
const TEXTS: [(CaptureKind, &str); 6] = [
    (CaptureKind::ProcStatus, "status"),
    (CaptureKind::ProcStat, "stat"),
    (CaptureKind::ProcCmdline, "cmdline"),
    (CaptureKind::ProcEnviron, "environ"),
    (CaptureKind::ProcCgroup, "cgroup"),
    (CaptureKind::ProcLoginuid, "loginuid"),
];

/// Links that it holds.
const LINKS: [(CaptureKind, &str); 2] = [(CaptureKind::ProcExe, "exe"), (CaptureKind::ProcCwd, "cwd")];

/// Bytes that these captures take at most, headers included.
pub(crate) const CAPTURE_BYTES_MAX: usize =
    (TEXTS.len() + LINKS.len()) * (limits::PROC_TEXT_BYTES_MAX + 16) + EXE_STAT_BYTES + 64;

/// Bytes of a [`CaptureKind::ExeStat`].
const EXE_STAT_BYTES: usize = 40;

/// Puts the captures of a [`RecordKind::Process`] into `captures`, and gives its header; `None` if the process is gone.
pub(crate) fn process_record(pid: Pid, bits: u64, captures: &mut CaptureBuffer) -> Option<RecordHeader> {
    captures.clear();
    let now_ns = clock::wall_ns();
    capture_process(pid.leader(), Strings::ByName, captures);
    let flags = if captures.has_dropped() { RecordFlags::CAPTURES_DROPPED } else { RecordFlags::default() };
    (captures.count() > 0).then(|| RecordHeader {
        tid: pid.as_u32(),
        pid: pid.as_u32(),
        flags: flags.0,
        arguments: [bits, 0, 0, 0, 0, 0],
        ..RecordHeader::new(RecordKind::Process, now_ns)
    })
}

/// Appends the captures of a [`RecordKind::Exec`] to those of its call, and gives its header: `tid` of `pid`, whose id was
/// `former` before, runs another program. Nothing is known of the call if it was not trapped.
pub(crate) fn exec_record(
    call: Option<RecordHeader>,
    (former, tid, pid): (Tid, Tid, Pid),
    captures: &mut CaptureBuffer,
) -> RecordHeader {
    let now_ns = clock::wall_ns();
    capture_process(tid, Strings::InMemory, captures);
    let unseen = RecordHeader { number: EXECVE, ..RecordHeader::new(RecordKind::Exec, now_ns) };
    let record = call.unwrap_or(unseen);
    // A program that starts always matters: what is known of processes comes from it.
    let mut flags = RecordFlags(record.flags).without(RecordFlags::IRRELEVANT);
    if captures.has_dropped() {
        flags = flags.with(RecordFlags::CAPTURES_DROPPED);
    }
    RecordHeader {
        kind: RecordKind::Exec.code(),
        exit_ns: now_ns,
        tid: tid.as_u32(),
        pid: pid.as_u32(),
        flags: flags.0,
        arguments: [u64::from(former.as_u32()), 0, 0, 0, 0, 0],
        ..record
    }
}

/// The record of the end of a thread of `pid`, with its wait status (wait(2)) if that is known.
pub(crate) fn exit_record(tid: Tid, pid: Pid, status: Option<i32>) -> RecordHeader {
    let flags = if status.is_some() { RecordFlags::default() } else { RecordFlags::NO_RESULT };
    RecordHeader {
        tid: tid.as_u32(),
        pid: pid.as_u32(),
        flags: flags.0,
        result: i64::from(status.unwrap_or(0)),
        ..RecordHeader::new(RecordKind::Exit, clock::wall_ns())
    }
}

/// The process of a thread, and the parent of that. Without `/proc` nothing is known but the thread itself.
pub(crate) fn process_and_parent(tid: Tid) -> (Pid, Pid) {
    procfs::relations(tid).map_or((Pid(tid.0), Pid(0)), |relations| (relations.process, relations.parent))
}

/// The process of a thread, and the one that made it as far as `/proc` tells: the same, or for a first thread the parent.
pub(crate) fn process_and_creator(tid: Tid) -> (Pid, Pid) {
    let (pid, parent) = process_and_parent(tid);
    (pid, if pid.leader() == tid { parent } else { pid })
}

/// The name of the program that a record of its start tells; `None` if it does not stand there just as it is
/// (proc_pid_status(5)).
#[must_use]
pub fn name_in(mut captures: Captures<'_>) -> Option<&[u8]> {
    let status = captures.find(|capture| capture.kind == CaptureKind::ProcStatus)?.data;
    let name = status.strip_prefix(b"Name:\t")?.split(|&byte| byte == b'\n').next()?;
    let is_plain = name.first().is_some_and(|first| !first.is_ascii_whitespace()) && !name.contains(&b'\\');
    is_plain.then_some(name)
}

/// Where the arguments and the environment of a program are read.
#[derive(Clone, Copy)]
enum Strings {
    /// Under `/proc`, which heeds that the program may have written a title over them.
    ByName,
    /// Where the kernel has just put them: one system call in the place of four.
    InMemory,
}

/// Appends what `/proc` tells of a process. A text that cannot be read is left out: the decoder does without.
fn capture_process(tid: Tid, strings: Strings, captures: &mut CaptureBuffer) {
    let mut placed = None;
    for (kind, name) in TEXTS {
        let mut text = [0; limits::PROC_TEXT_BYTES_MAX];
        let range = placed.as_ref().and_then(|placed: &ProgramStrings| match kind {
            CaptureKind::ProcCmdline => Some(&placed.arguments),
            CaptureKind::ProcEnviron => Some(&placed.environment),
            _ => None,
        });
        let read = range.and_then(|range| read_range(tid, range, &mut text));
        let read = read.map_or_else(|| procfs::read_text(tid, name, &mut text).ok(), Some);
        let Some((len, was_cut)) = read else { continue };
        let text = text.get(..len).unwrap_or_default();
        if kind == CaptureKind::ProcStat && matches!(strings, Strings::InMemory) {
            placed = procfs::program_strings(text);
        }
        push(captures, kind, was_cut, text);
    }
    for (kind, name) in LINKS {
        let mut text = [0; limits::PATH_BYTES_MAX];
        if let Ok(len) = procfs::read_link(tid, name, &mut text) {
            push(captures, kind, len == text.len(), text.get(..len).unwrap_or_default());
        }
    }
    if let Ok(exe) = process::exe_stat(tid) {
        push(captures, CaptureKind::ExeStat, false, &exe_stat_bytes(&exe));
    }
    // Both at an exec and where it is told of again the thread is the leader of its process.
    if let Ok(limit) = process::fd_limit(Pid(tid.0)) {
        push(captures, CaptureKind::FdLimit, false, &limit.to_ne_bytes());
    }
}

/// Reads what lies there, as far as there is room: how many bytes, and whether there is more. `None` if it cannot be read
/// whole.
fn read_range(tid: Tid, range: &Range<u64>, text: &mut [u8]) -> Option<(usize, bool)> {
    let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
    let text = if len < text.len() { text.get_mut(..len)? } else { text };
    let read = memory::read_remote(tid, RemoteAddr(range.start), text).ok()?;
    (read == text.len()).then_some((read, read < len))
}

fn exe_stat_bytes(exe: &ExeStat) -> [u8; EXE_STAT_BYTES] {
    let layer = match exe.layer {
        Layer::Unknown => 0,
        Layer::Upper => 1,
        Layer::Lower => 2,
    };
    let mut bytes = [0; EXE_STAT_BYTES];
    let wide = [exe.inode, exe.ctime_ns, exe.mtime_ns].map(u64::to_ne_bytes);
    let narrow = [exe.mode, exe.uid, exe.gid, layer].map(u32::to_ne_bytes);
    let fields = wide.as_flattened().iter().chain(narrow.as_flattened());
    bytes.iter_mut().zip(fields).for_each(|(into, byte)| *into = *byte);
    bytes
}

fn push(captures: &mut CaptureBuffer, kind: CaptureKind, was_cut: bool, data: &[u8]) {
    let flags = if was_cut { CaptureFlags::TRUNCATED } else { CaptureFlags::default() };
    // What does not fit is flagged by the buffer itself.
    let _ = captures.push(kind, 0, flags, data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_where_it_stands_as_it_is() {
        let name = |status: &[u8]| {
            let mut captures = CaptureBuffer::with_capacity(256);
            push(&mut captures, CaptureKind::ProcStat, false, b"7 (other) S");
            push(&mut captures, CaptureKind::ProcStatus, false, status);
            name_in(captures.captures()).map(<[u8]>::to_vec)
        };
        assert_eq!(name(b"Name:\tnginx: a b\nUmask:\t0\n"), Some(b"nginx: a b".to_vec()));
        for status in
            ["", "Name:\t", "Name:\t\nUmask:\t0\n", "Name:\ta\\nb\n", "Name:\t a\n", "Umask:\t0\nName:\ta\n"]
        {
            assert_eq!(name(status.as_bytes()), None, "{status}");
        }
        assert_eq!(name_in(CaptureBuffer::with_capacity(0).captures()), None);
    }
}
