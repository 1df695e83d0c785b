//! The life of processes: clone, exec and exit.

use std::sync::Arc;

use super::{
    additions::{self, ExeStat},
    call::{Call, CallKind},
    facts::{Facts, write_cgroups},
    processes::{Process, Processes, Program, UNKNOWN_ID, write_clone},
};
use crate::{
    event::{CaptureKind, RecordFlags},
    falco::{
        encode::{Batch, EncodeError, TEXT_BYTES_MAX, Text, until_nul},
        flags,
        table::{self, EventInfo},
    },
};

/// `CLONE_PARENT` (linux/sched.h): the child's parent is that of its creator.
const CLONE_PARENT: u64 = 0x8000;

/// Falco's flag for a program that runs from a memfd.
const EXE_FROM_MEMFD: u32 = 1 << 2;

/// A new thread or process: the event of the child, then that of its creator.
pub(super) fn clone(
    processes: &mut Processes,
    call: Call<'_, '_>,
    kind: CallKind,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let header = call.record.header();
    let [kernel_flags, child_pid, ..] = header.arguments;
    let (Ok(child), Ok(child_pid)) = (u32::try_from(header.result), u32::try_from(child_pid)) else {
        return Ok(());
    };
    let is_thread = call.record.flags().contains(RecordFlags::THREAD);
    let is_from_child = call.record.flags().contains(RecordFlags::FROM_CHILD);
    let creator = header.tid;
    if child == 0 || child == creator {
        return Ok(());
    }
    let (ts, event) = (call.ts(), clone_event(kind));
    let clone_flags = flags::clone(u32::try_from(kernel_flags & 0xffff_ff00).unwrap_or_default());
    let clone_flags = clone_flags & !flags::CLONE_THREAD | if is_thread { flags::CLONE_THREAD } else { 0 };
    if creator != 0 {
        processes.introduce(creator, call.pid, ts, out)?;
    }
    if is_thread {
        let group = if child_pid == 0 { call.pid } else { child_pid };
        processes.introduce_process(group, ts, out)?;
        processes.introduce_thread(child, group, clone_flags, ts, out)?;
    } else {
        let creator = processes.get(call.pid);
        let parent = match creator {
            Some(creator) if kernel_flags & CLONE_PARENT != 0 => creator.parent,
            _ => call.pid,
        };
        let process = match creator {
            Some(creator) => creator.child(child, parent, clone_flags),
            None => Process::new(child, parent),
        };
        processes.insert(child, process);
        processes.introduce_child(child, event, clone_flags, ts, out)?;
    }
    match processes.get(call.pid) {
        // A creator that died in the call never returned from it.
        Some(process) if !is_from_child => {
            write_clone(process, event, (creator, call.pid), clone_flags, i64::from(child), ts, out)
        }
        _ => Ok(()),
    }
}

/// The event of a call that makes threads. A record may not tell which it was.
fn clone_event(kind: CallKind) -> &'static EventInfo {
    match kind {
        CallKind::Fork => &table::FORK_20_X,
        CallKind::Vfork => &table::VFORK_20_X,
        CallKind::Clone3 => &table::CLONE3_X,
        _ => &table::CLONE_20_X,
    }
}

/// The texts that an exec event is put together from, kept between events so that no event allocates them anew.
#[derive(Debug, Default)]
pub(super) struct ExecTexts {
    args: Vec<u8>,
    environ: Vec<u8>,
    cgroups: Vec<u8>,
}

/// A process runs a new program. A process that is new to Falco, as the first one is, is introduced before.
pub(super) fn exec(
    processes: &mut Processes,
    texts: &mut ExecTexts,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let (record, pid, ts) = (call.record, call.pid, call.ts());
    let tid = record.header().tid;
    let facts = Facts::of(record);
    let data = |kind| record.capture(kind).map(|capture| capture.data);
    let exe =
        read_argv(data(CaptureKind::ProcCmdline).filter(|text| !text.is_empty()), &call, &mut texts.args);
    bounded_strings(data(CaptureKind::ProcEnviron).unwrap_or_default(), TEXT_BYTES_MAX, &mut texts.environ);
    write_cgroups(data(CaptureKind::ProcCgroup).unwrap_or_default(), &mut texts.cgroups);
    let program = Arc::new(Program {
        exe: exe.map(Box::from),
        args: Box::from(texts.args.as_slice()),
        comm: facts.name().map(Box::from),
        cgroups: Box::from(texts.cgroups.as_slice()),
        fd_limit: additions::fd_limit(record).map_or(-1, u64::cast_signed),
    });
    learn(processes, pid, &program, &facts, ts, out)?;
    if tid != pid {
        processes.introduce(tid, pid, ts, out)?;
    }
    if let Some(cwd) = call.cwd() {
        processes.move_to(tid, pid, cwd, ts, out)?;
    }
    let known = processes.get(pid);
    let parent = facts.parent.or_else(|| known.map(|process| process.parent)).unwrap_or(0);
    let image =
        data(CaptureKind::ProcExe).map(|exe| exe.strip_prefix(b"/").filter(|_| is_memfd(exe)).unwrap_or(exe));
    let exe_stat = ExeStat::of(record);

    let mut writer = out.event(&table::EXECVE_19_X, ts, call.tid());
    writer.errno(0).string(program.exe()).bytes(&program.args);
    writer.pid(call.tid()).pid(i64::from(pid)).pid(i64::from(parent)).empty();
    writer.uint64(program.fd_limit.cast_unsigned());
    match facts.usage() {
        Some(([major, minor], [size, resident, swapped])) => {
            writer.uint64(major).uint64(minor).uint32(size).uint32(resident).uint32(swapped)
        }
        None => writer.empties(5),
    };
    writer.string(program.comm()).bytes(&program.cgroups).bytes(&texts.environ);
    match facts.tty {
        Some(tty) => writer.uint32(tty),
        None => writer.empty(),
    };
    match facts.vpgid.or(facts.pgid) {
        Some(vpgid) => writer.pid(vpgid),
        None => writer.empty(),
    };
    writer.uid(facts.loginuid.unwrap_or(UNKNOWN_ID));
    let memfd = if image.is_some_and(|image| image.starts_with(b"memfd:")) { EXE_FROM_MEMFD } else { 0 };
    writer.flags32(memfd | exe_stat.map_or(0, |exe| exe.flags(&facts)));
    match facts.capabilities.map(|sets| sets.map(flags::capabilities)) {
        Some([inheritable, permitted, effective]) => {
            writer.uint64(inheritable).uint64(permitted).uint64(effective)
        }
        None => writer.empties(3),
    };
    match exe_stat {
        Some(exe) => writer.uint64(exe.inode).abs_time(exe.ctime_ns).abs_time(exe.mtime_ns),
        None => writer.empties(3),
    };
    match facts.uid {
        Some([_, effective, _]) => writer.uid(effective),
        None => writer.empty(),
    };
    writer.path(image.map_or(Text::MISSING, Text::bounded));
    match facts.pgid {
        Some(pgid) => writer.pid(pgid),
        None => writer.empty(),
    };
    match facts.gid {
        Some([_, effective, _]) => writer.gid(effective),
        None => writer.empty(),
    };
    let filename = record.capture(CaptureKind::Path).map_or(Text::MISSING, |path| Text::bounded(path.data));
    writer.path(filename).finish()
}

/// Takes what an exec tells of its process, and introduces the process if Falco does not know it yet.
fn learn(
    processes: &mut Processes,
    pid: u32,
    program: &Arc<Program>,
    facts: &Facts,
    ts: u64,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let parent = facts.parent.filter(|&parent| parent != pid);
    let is_new = processes.get(pid).is_none();
    if is_new {
        if let Some(parent) = parent.filter(|&parent| parent != 0) {
            processes.introduce_process(parent, ts, out)?;
        }
        processes.insert(pid, Process::new(pid, parent.unwrap_or(0)));
    } else if let Some(parent) = parent
        && processes.get(pid).is_some_and(|process| process.parent != parent)
    {
        processes.give_to(pid, parent);
    }
    processes.start_program(pid);
    let Some(process) = processes.get_mut(pid) else { return Ok(()) };
    process.program = Arc::clone(program);
    process.uid = facts.uid.unwrap_or(process.uid);
    process.gid = facts.gid.unwrap_or(process.gid);
    process.capabilities = facts.capabilities.or(process.capabilities);
    if let Some((vpid, depth)) = facts.vpid {
        (process.vpid, process.is_nested) = (Some(vpid), depth > 0);
    }
    if is_new { processes.introduce_child(pid, &table::CLONE_20_X, 0, ts, out) } else { Ok(()) }
}

/// An exec that failed: the arguments of the call, and who made it.
pub(super) fn failed_exec(
    processes: &Processes,
    texts: &mut ExecTexts,
    call: Call<'_, '_>,
    kind: CallKind,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    // A success is told by a record of its own.
    if call.has_succeeded() {
        return Ok(());
    }
    let exe = read_argv(None, &call, &mut texts.args);
    let process = processes.get(call.pid);
    let parent = process.map_or(0, |process| process.parent);
    let is_at = kind == CallKind::Execveat;
    let event = if is_at { &table::EXECVEAT_X } else { &table::EXECVE_19_X };

    let mut writer = out.event(event, call.ts(), call.tid());
    writer.errno(call.result()).string(exe.map_or(Text::MISSING, Text::bounded)).bytes(&texts.args);
    writer.pid(call.tid()).pid(i64::from(call.pid)).pid(i64::from(parent)).empty();
    writer.uint64(process.map_or(-1, |process| process.program.fd_limit).cast_unsigned()).empties(5);
    writer.string(process.map_or(Text::MISSING, |process| process.program.comm()));
    writer.bytes(process.map_or(&[], |process| &process.program.cgroups)).empties(5);
    match process.and_then(|process| process.capabilities).map(|sets| sets.map(flags::capabilities)) {
        Some([inheritable, permitted, effective]) => {
            writer.uint64(inheritable).uint64(permitted).uint64(effective)
        }
        None => writer.empties(3),
    };
    writer.empties(3).uid(process.map_or(UNKNOWN_ID, |process| process.uid[1])).empties(2);
    writer.gid(process.map_or(UNKNOWN_ID, |process| process.gid[1]));
    if !is_at {
        writer.path(call.path(0));
    }
    writer.finish()
}

/// A thread has ended: the last event of it.
pub(super) fn exit(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let tid = call.record.header().tid;
    let status = call.result() & 0xffff;
    let low = |value: i64| u8::try_from(value & 0x7f).unwrap_or_default();
    let mut writer = out.event(&table::PROCEXIT_1_E, call.ts(), call.tid());
    writer.errno(status).errno(status >> 8 & 0xff).signal(low(status)).uint8(u8::from(status & 0x80 != 0));
    // The reaper of its children is not known: 0 leaves the search to libsinsp.
    let done = writer.pid(0).finish();
    if tid == call.pid {
        processes.forget(tid);
    } else {
        processes.forget_thread(tid);
    }
    done
}

/// Writes the arguments after the first into `args`, each with its NUL, and gives the first: those that the kernel
/// kept, or else those of the call.
fn read_argv<'a>(kept: Option<&'a [u8]>, call: &Call<'_, 'a>, args: &mut Vec<u8>) -> Option<&'a [u8]> {
    let of_call = || call.record.capture(CaptureKind::Argv).map(|capture| capture.data);
    args.clear();
    let strings = kept.or_else(of_call)?;
    let exe = until_nul(strings, TEXT_BYTES_MAX - 1);
    let rest = strings.get(exe.len() + 1..).unwrap_or_default();
    bounded_strings(rest, TEXT_BYTES_MAX - exe.len() - 1, args);
    Some(exe)
}

/// Copies strings up to a bound, so that the last one ends in a NUL all the same.
fn bounded_strings(strings: &[u8], len_max: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(strings.get(..len_max).unwrap_or(strings));
    if out.last().is_some_and(|&last| last != 0) {
        if out.len() == len_max {
            out.pop();
        }
        out.push(0);
    }
}

fn is_memfd(exe: &[u8]) -> bool {
    exe.starts_with(b"/memfd:")
}
