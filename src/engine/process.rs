//! The `/proc` texts of a process, taken raw at its exec.

use crate::{
    event::{CaptureBuffer, CaptureFlags, CaptureKind},
    limits,
    sys::{Tid, procfs},
};

/// Texts that an exec record holds, by their name under `/proc/PID`.
const TEXTS: [(CaptureKind, &str); 6] = [
    (CaptureKind::ProcStatus, "status"),
    (CaptureKind::ProcStat, "stat"),
    (CaptureKind::ProcCmdline, "cmdline"),
    (CaptureKind::ProcEnviron, "environ"),
    (CaptureKind::ProcCgroup, "cgroup"),
    (CaptureKind::ProcLoginuid, "loginuid"),
];

/// Links that an exec record holds.
const LINKS: [(CaptureKind, &str); 2] = [(CaptureKind::ProcExe, "exe"), (CaptureKind::ProcCwd, "cwd")];

/// Bytes that these captures take at most, headers included.
pub(crate) const CAPTURE_BYTES_MAX: usize = (TEXTS.len() + LINKS.len()) * (limits::PROC_TEXT_BYTES_MAX + 16);

/// Appends what `/proc` tells of a process. A text that cannot be read is left out: the decoder does without.
pub(crate) fn capture_process(tid: Tid, captures: &mut CaptureBuffer) {
    for (kind, name) in TEXTS {
        let mut text = [0; limits::PROC_TEXT_BYTES_MAX];
        if let Ok((len, was_cut)) = procfs::read_text(tid, name, &mut text) {
            push(captures, kind, was_cut, text.get(..len).unwrap_or_default());
        }
    }
    for (kind, name) in LINKS {
        let mut text = [0; limits::PATH_BYTES_MAX];
        if let Ok(len) = procfs::read_link(tid, name, &mut text) {
            push(captures, kind, len == text.len(), text.get(..len).unwrap_or_default());
        }
    }
}

fn push(captures: &mut CaptureBuffer, kind: CaptureKind, was_cut: bool, data: &[u8]) {
    let flags = if was_cut { CaptureFlags::TRUNCATED } else { CaptureFlags::default() };
    // What does not fit is flagged by the buffer itself.
    let _ = captures.push(kind, 0, flags, data);
}
