//! The processes of the workload, kept from clone, exec, process and exit records.
//!
//! Nothing is made up: what no record told is absent. Known gaps: a name that a program gives itself by
//! `prctl(PR_SET_NAME)` is not seen; a process whose parent died keeps that parent's pid and name until its next exec,
//! when the kernel says otherwise.

use std::{collections::HashMap, sync::Arc};

use super::{Strings, Users};
use crate::{
    event::{Capture, CaptureKind, PROCESS_CLONE_LOST, Record, RecordFlags},
    limits,
};

/// `CLONE_PARENT` (linux/sched.h): the child's parent is that of its creator.
const CLONE_PARENT: u64 = 0x8000;

/// What is known of a process.
#[derive(Debug, Clone)]
pub struct Process {
    pid: u32,
    parent_pid: Option<u32>,
    program: Arc<Program>,
    parent_program: Arc<Program>,
    uid: Option<u32>,
    user: Option<Arc<str>>,
}

/// The texts of one program start, shared by all children that run the same program.
#[derive(Debug, Default)]
struct Program {
    name: Option<Box<[u8]>>,
    exe: Option<Box<[u8]>>,
    command_line: Option<Box<[u8]>>,
}

impl Process {
    /// The process id, as the tracer's PID namespace numbers it.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The name of the program, the kernel's `comm`: Falco's `proc.name`.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.program.name.as_deref()
    }

    /// The file that runs: the text of `/proc/PID/exe` at the exec.
    #[must_use]
    pub fn exe(&self) -> Option<&[u8]> {
        self.program.exe.as_deref()
    }

    /// Name and arguments, each after one space: Falco's `proc.cmdline`.
    #[must_use]
    pub fn command_line(&self) -> Option<&[u8]> {
        self.program.command_line.as_deref()
    }

    /// The parent's pid, 0 for one outside of the tracer's PID namespace.
    #[must_use]
    pub const fn parent_pid(&self) -> Option<u32> {
        self.parent_pid
    }

    /// The name that the parent had when this process was made or last started a program.
    #[must_use]
    pub fn parent_name(&self) -> Option<&[u8]> {
        self.parent_program.name.as_deref()
    }

    /// The effective user id, as Falco's `user.uid`.
    #[must_use]
    pub const fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// The name of that user on the machine that decodes.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn new(pid: u32) -> Self {
        let (program, parent_program) = Default::default();
        Self { pid, parent_pid: None, program, parent_program, uid: None, user: None }
    }

    fn become_user(&mut self, uid: u32, users: &Users) {
        self.uid = Some(uid);
        self.user = users.name(uid).cloned();
    }
}

/// The process table.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_pid: HashMap<u32, Process>,
    leaving: Option<u32>,
    unremembered: u64,
}

impl Processes {
    pub(super) fn known(&self, pid: u32) -> Option<&Process> {
        self.by_pid.get(&pid)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// How many processes were not remembered because [`limits::PROCESSES_MAX`] were known.
    pub(super) const fn unremembered(&self) -> u64 {
        self.unremembered
    }

    /// Forgets the process whose exit was the last event. Until then that event still shows it.
    pub(super) fn forget_left(&mut self) {
        if let Some(pid) = self.leaving.take() {
            self.by_pid.remove(&pid);
        }
    }

    pub(super) const fn leave(&mut self, pid: u32) {
        self.leaving = Some(pid);
    }

    /// Learns a child from a clone record: it starts as a copy of its creator.
    pub(super) fn learn_clone(&mut self, record: &Record<'_>) {
        let header = record.header();
        let [flags, child, ..] = header.arguments;
        let Ok(child) = u32::try_from(child) else { return };
        if child == 0 || child == header.pid || record.flags().contains(RecordFlags::THREAD) {
            return;
        }
        let mut process = Process::new(child);
        let creator = self.by_pid.get(&header.pid);
        if let Some(creator) = creator {
            process.program = Arc::clone(&creator.program);
            process.uid = creator.uid;
            process.user.clone_from(&creator.user);
        }
        if flags & CLONE_PARENT != 0 {
            process.parent_pid = creator.and_then(|creator| creator.parent_pid);
            process.parent_program =
                creator.map(|creator| Arc::clone(&creator.parent_program)).unwrap_or_default();
        } else {
            process.parent_pid = Some(header.pid).filter(|&pid| pid != 0);
            process.parent_program = creator.map(|creator| Arc::clone(&creator.program)).unwrap_or_default();
        }
        self.remember(process);
    }

    /// Learns a program start from an exec record and its `/proc` texts.
    pub(super) fn learn_exec(&mut self, record: &Record<'_>, users: &Users) {
        let pid = record.header().pid;
        if pid == 0 {
            return;
        }
        let before = self.by_pid.remove(&pid);
        let mut process = before.unwrap_or_else(|| Process::new(pid));
        let status = record.capture(CaptureKind::ProcStatus);
        let status = Status::parse(status.map(|capture| capture.data).unwrap_or_default());
        let exe = record.capture(CaptureKind::ProcExe).map(|capture| capture.data);
        process.program = Arc::new(Program {
            command_line: status.name.as_deref().map(|name| command_line(name, started_with(record))),
            name: status.name,
            exe: exe.filter(|exe| !exe.is_empty()).map(|exe| kept(exe, limits::PATH_BYTES_MAX)),
        });
        if let Some(parent_pid) = status.parent_pid {
            match self.by_pid.get(&parent_pid) {
                Some(parent) => process.parent_program = Arc::clone(&parent.program),
                None if process.parent_pid == Some(parent_pid) => {}
                None => process.parent_program = Arc::default(),
            }
            process.parent_pid = Some(parent_pid);
        }
        if let Some(uid) = status.uid {
            process.become_user(uid, users);
        }
        self.remember(process);
    }

    /// Learns a process as it is from its `/proc` texts.
    pub(super) fn learn_process(&mut self, record: &Record<'_>, users: &Users) {
        let [bits, ..] = record.header().arguments;
        if bits & PROCESS_CLONE_LOST != 0 {
            // Whatever was known under its number is another's.
            self.by_pid.remove(&record.header().pid);
        }
        self.learn_exec(record, users);
    }

    pub(super) fn learn_uid(&mut self, pid: u32, uid: u32, users: &Users) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.become_user(uid, users);
        }
    }

    fn remember(&mut self, process: Process) {
        if self.by_pid.len() < limits::PROCESSES_MAX || self.by_pid.contains_key(&process.pid) {
            self.by_pid.insert(process.pid, process);
        } else {
            self.unremembered += 1;
        }
    }
}

/// The argument vector of an exec: what the kernel kept of it, else what the call's memory held.
pub(super) fn started_with<'a>(record: &Record<'a>) -> Option<Capture<'a>> {
    let kept = record.capture(CaptureKind::ProcCmdline).filter(|capture| !capture.data.is_empty());
    kept.or_else(|| record.capture(CaptureKind::Argv))
}

fn command_line(name: &[u8], argv: Option<Capture<'_>>) -> Box<[u8]> {
    let argv = argv.map(|capture| capture.data).unwrap_or_default();
    let mut line = name.to_vec();
    for argument in Strings::new(argv.get(..limits::ARGV_BYTES_MAX).unwrap_or(argv)).skip(1) {
        line.push(b' ');
        line.extend_from_slice(argument);
    }
    line.into_boxed_slice()
}

fn kept(bytes: &[u8], bytes_max: usize) -> Box<[u8]> {
    bytes.get(..bytes_max).unwrap_or(bytes).into()
}

/// What is wanted of `/proc/PID/status` (proc_pid_status(5)).
#[derive(Debug, Default)]
struct Status {
    name: Option<Box<[u8]>>,
    parent_pid: Option<u32>,
    /// The effective one, the second of four.
    uid: Option<u32>,
}

impl Status {
    fn parse(text: &[u8]) -> Self {
        let mut status = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            if let Some(name) = line.strip_prefix(b"Name:\t") {
                status.name.get_or_insert_with(|| unescaped_name(name));
            } else if let Some(pid) = line.strip_prefix(b"PPid:\t") {
                status.parent_pid = number(pid);
            } else if let Some(uids) = line.strip_prefix(b"Uid:\t") {
                status.uid = uids.split(|&byte| byte == b'\t').nth(1).and_then(number);
                // The kernel writes Uid after the other two.
                break;
            }
        }
        status
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.trim_ascii().parse().ok()
}

/// The kernel writes a newline in a name as `\n` and a backslash as `\\` (fs/proc/array.c).
pub(crate) fn unescaped_name(name: &[u8]) -> Box<[u8]> {
    let name = name.get(..2 * limits::NAME_BYTES_MAX).unwrap_or(name);
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.push(match bytes.next() {
                Some(b'n') => b'\n',
                Some(other) => other,
                None => b'\\',
            }),
            byte => plain.push(byte),
        }
    }
    plain.truncate(limits::NAME_BYTES_MAX);
    plain.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_gives_the_plain_name_the_parent_and_the_effective_user() {
        let status = Status::parse(
            b"Name:\ta\\nb\\\\c d\nUmask:\t0022\nTgid:\t9\nPPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\n",
        );
        assert_eq!(status.name.as_deref(), Some(&b"a\nb\\c d"[..]));
        assert_eq!((status.parent_pid, status.uid), (Some(7), Some(2)));
    }

    #[test]
    fn a_status_that_makes_no_sense_gives_nothing() {
        for text in [&b""[..], b"Name", b"PPid:\t-1\nUid:\t1", b"PPid:\t99999999999\nUid:\tx\ty\tz"] {
            let status = Status::parse(text);
            assert_eq!((status.name, status.parent_pid, status.uid), (None, None, None));
        }
    }
}
