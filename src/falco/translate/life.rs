//! The life of processes: clone, exec and exit, and what is told of one that runs already.

use std::sync::Arc;

use super::{
    additions::{self, ExeStat},
    call::{Call, CallKind},
    facts::{Facts, write_cgroups},
    process::{ChildPlace, Process, Program, UNKNOWN_ID},
    processes::{Processes, write_exit},
};
use crate::{
    event::{CaptureKind, PROCESS_CLONE_LOST, PROCESS_EXEC_LOST, PROCESS_OUTSIDER, RecordFlags, RecordKind},
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
    let aside = processes.drop_aside(child);
    if creator != 0 {
        processes.introduce(creator, call.pid, ts, out)?;
    }
    if is_thread {
        let group = if child_pid == 0 { call.pid } else { child_pid };
        processes.introduce_process(group, ts, out)?;
        processes.introduce_thread(child, group, clone_flags, ts, out)?;
    } else {
        let place = processes.get_mut(call.pid).map(|process| process.place_child(creator, clone_flags));
        let process = processes.get(call.pid);
        let parent = match process {
            Some(process) if kernel_flags & CLONE_PARENT != 0 => processes.parent_of(process),
            _ => call.pid,
        };
        let process = match (process, aside) {
            // Of a child that is still there the snapshot tells more than a copy of a creator that it tells of as well.
            (process, Some(aside)) if process.is_none_or(Process::is_doubtful) => aside.with_parent(parent),
            (Some(process), _) => process.child(child, parent, place.unwrap_or(ChildPlace::Same)),
            (None, _) => Process::new(child, parent),
        };
        // Its number may be that of one whose end was lost, and libsinsp takes no clone of a thread that it has heard of
        // a moment ago.
        if processes.end(child, 0, ts, out)? && processes.insert(child, process) {
            processes.introduce_child(child, event, clone_flags, ts, out)?;
        }
    }
    // A creator that died in the call never returned from it.
    if is_from_child {
        return Ok(());
    }
    processes.write_creator(event, (creator, call.pid), clone_flags, child, ts, out)
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
    /// What stands for the control groups of every process, if the container is known.
    pub(super) container: Option<Vec<u8>>,
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
    processes.drop_aside(pid);
    let program = program(&call, &facts, texts);
    let data = |kind| record.capture(kind).map(|capture| capture.data);
    bounded_strings(data(CaptureKind::ProcEnviron).unwrap_or_default(), TEXT_BYTES_MAX, &mut texts.environ);
    learn(processes, pid, &program, &facts, ts, out)?;
    if let Some(process) = processes.get_mut(pid)
        && record.kind() == RecordKind::Exec
    {
        let [former_tid, ..] = record.header().arguments;
        process.keep_only_thread(u32::try_from(former_tid).unwrap_or(pid), pid);
    }
    if tid != pid {
        processes.introduce(tid, pid, ts, out)?;
    }
    if let Some(cwd) = call.cwd() {
        processes.move_to(tid, pid, cwd, ts, out)?;
    }
    let parent = processes.get(pid).map_or(0, |process| processes.told_parent(process));
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
        Some(vpgid) => writer.own_pid(vpgid),
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
    // The path of execveat(2) is its second argument, and may start from the directory in the first.
    let filename = match record.capture(CaptureKind::Path) {
        Some(path) if path.argument > 0 => call.path_at(path.argument),
        Some(path) => Text::bounded(path.data),
        None => Text::MISSING,
    };
    writer.path(filename).finish()
}

/// What a program was started as.
fn program(call: &Call<'_, '_>, facts: &Facts, texts: &mut ExecTexts) -> Arc<Program> {
    let data = |kind| call.record.capture(kind).map(|capture| capture.data);
    let cmdline = data(CaptureKind::ProcCmdline).filter(|text| !text.is_empty());
    let exe = read_argv(cmdline, call, &mut texts.args);
    let cgroup = texts.container.as_deref().or_else(|| data(CaptureKind::ProcCgroup));
    write_cgroups(cgroup.unwrap_or_default(), &mut texts.cgroups);
    Arc::new(Program {
        exe: exe.map(Box::from),
        args: Box::from(texts.args.as_slice()),
        comm: facts.name().map(Box::from),
        cgroups: Box::from(texts.cgroups.as_slice()),
        fd_limit: additions::fd_limit(call.record).map_or(-1, u64::cast_signed),
    })
}

/// A process that runs already. One that Falco does not know is introduced, and of one that it knows the differences are
/// told: what the records tell may have been lost in part.
pub(super) fn process(
    processes: &mut Processes,
    texts: &mut ExecTexts,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let (pid, ts) = (call.pid, call.ts());
    let [bits, ..] = call.record.header().arguments;
    let facts = Facts::of(call.record);
    processes.drop_aside(pid);
    if let Some(known) = processes.get(pid) {
        // A nameless one cannot be given a name without a new program, so that it has to begin again.
        if known.is_nameless || known.is_other(facts.start_ticks, bits & PROCESS_CLONE_LOST != 0) {
            processes.end(pid, 0, ts, out)?;
        }
    }
    if bits & PROCESS_EXEC_LOST != 0 {
        return exec(processes, texts, call, out);
    }
    if processes.get(pid).is_some() {
        return differences(processes, texts, call, &facts, out);
    }
    let process = running(call, &facts, texts);
    if process.parent != 0 {
        processes.introduce_process(process.parent, ts, out)?;
    }
    // Its number may have been a thread's whose end was lost.
    if processes.end(pid, 0, ts, out)? && processes.insert(pid, process) {
        processes.introduce_process(pid, ts, out)?;
    }
    Ok(())
}

/// Keeps a process of a snapshot for when a record names it.
pub(super) fn preload(processes: &mut Processes, texts: &mut ExecTexts, call: Call<'_, '_>) {
    if processes.get(call.pid).is_none() {
        processes.put_aside(call.pid, running(call, &Facts::of(call.record), texts));
    }
}

/// A process that runs already.
fn running(call: Call<'_, '_>, facts: &Facts, texts: &mut ExecTexts) -> Process {
    let [bits, ..] = call.record.header().arguments;
    let parent = facts.parent.filter(|&parent| parent != call.pid).unwrap_or(0);
    let mut process = Process::new(call.pid, parent);
    process.program = program(&call, facts, texts);
    process.is_outsider = bits & PROCESS_OUTSIDER != 0;
    process.cwd = call.cwd().map(Arc::from);
    learn_facts(&mut process, facts);
    process
}

fn learn_facts(process: &mut Process, facts: &Facts) {
    process.settle();
    process.uid = facts.uid.unwrap_or(process.uid);
    process.gid = facts.gid.unwrap_or(process.gid);
    process.capabilities = facts.capabilities.or(process.capabilities);
    process.start_ticks = facts.start_ticks.or(process.start_ticks);
    if let Some((vpid, depth)) = facts.vpid {
        (process.vpid, process.is_nested) = (Some(vpid), depth > 0);
    }
}

/// Tells what Falco believes otherwise of a process that it knows: who it is, and where.
fn differences(
    processes: &mut Processes,
    texts: &mut ExecTexts,
    call: Call<'_, '_>,
    facts: &Facts,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let (pid, tid, ts) = (call.pid, call.tid(), call.ts());
    processes.introduce_process(pid, ts, out)?;
    if let Some(parent) = facts.parent.filter(|&parent| parent != pid) {
        give_to(processes, pid, parent, ts, out)?;
    }
    let Some(process) = processes.get_mut(pid) else { return Ok(()) };
    if process.is_doubtful() {
        // Falco knows it by what it runs by now, and will hear of that exec. Until then its children run what it ran.
        process.program = program(&call, facts, texts);
    }
    let [old_uid, old_gid] = [process.uid, process.gid];
    learn_facts(process, facts);
    let [uid, gid] = [process.uid, process.gid];
    if uid != old_uid {
        let [real, effective, saved] = uid;
        out.event(&table::SETRESUID_X, ts, tid).errno(0).uid(real).uid(effective).uid(saved).finish()?;
    }
    if gid != old_gid {
        let [real, effective, saved] = gid;
        out.event(&table::SETRESGID_X, ts, tid).errno(0).gid(real).gid(effective).gid(saved).finish()?;
    }
    match call.cwd() {
        Some(cwd) => processes.move_to(pid, pid, cwd, ts, out),
        None => Ok(()),
    }
}

/// Takes what a record tells of a process's parent. After a snapshot it may be one that is long gone, while the one that
/// the process has by now is known.
fn give_to(
    processes: &mut Processes,
    pid: u32,
    parent: u32,
    ts: u64,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let Some(old) = processes.get(pid).map(|process| process.parent).filter(|&old| old != parent) else {
        return Ok(());
    };
    if processes.is_kept(parent) {
        processes.introduce_process(parent, ts, out)?;
    }
    if processes.get(parent).is_some() || processes.get(old).is_none() {
        processes.give_to(pid, parent);
    }
    Ok(())
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
        processes.end(pid, 0, ts, out)?;
        processes.insert(pid, Process::new(pid, parent.unwrap_or(0)));
    } else {
        processes.introduce_process(pid, ts, out)?;
        if let Some(parent) = parent {
            give_to(processes, pid, parent, ts, out)?;
        }
    }
    processes.end_threads(pid, ts, out)?;
    let Some(process) = processes.get_mut(pid) else { return Ok(()) };
    process.program = Arc::clone(program);
    learn_facts(process, facts);
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
    let parent = process.map_or(0, |process| processes.told_parent(process));
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

/// A thread has ended: the last event of it. Of one that Falco does not know nothing is told.
pub(super) fn exit(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let tid = call.record.header().tid;
    processes.drop_aside(tid);
    if !processes.may_know(tid) {
        return Ok(());
    }
    let (status, ts) = (call.result() & 0xffff, call.ts());
    if processes.is_known(tid) {
        return processes.end(tid, status, ts, out).map(|_| ());
    }
    write_exit(tid, status, ts, out)
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
