//! What Falco has been told of the workload's processes and threads, and how it is told of a new one.
//!
//! libsinsp invents an entry for a thread that it has not been told of, out of its own `/proc`, where the same number
//! may be another process. So a thread is introduced before its first event: by the clone event of a child, parents
//! first. A thread without any later event would be purged at the first scan, so that a `chdir` follows. Read this
//! before you add state: it lives as long as the process, times [`limits::PROCESSES_MAX`].
//!
//! # No process is its own ancestor
//!
//! libsinsp follows the parents of a process up to four thousand million times (`get_ancestor_process` in its
//! `thread_manager.cpp`), so that a circle hangs it. Records may say anything; these rules keep it from one:
//!
//! - Falco is told no parent but one that it knows, and knew before the child: [`Processes::told_parent`]. What it finds
//!   for the children of a process that ends is one of that process's own ancestors.
//! - A number is told anew only after its end, and the end of a process only after those of its threads:
//!   [`Processes::end`]. libsinsp would keep a process that has a thread left, with the old children below the new one.
//! - A process gets no other parent that descends from it: [`Processes::give_to`].
//! - Process 1 has no parent. libsinsp would go on to look for one that has ended under its number.

use std::{collections::HashSet, sync::Arc};

use foldhash::HashMap;

use super::process::Process;
use crate::{
    falco::{
        encode::{Batch, EncodeError, Text},
        flags,
        table::{self, EventInfo},
    },
    limits,
};

/// The first process of a PID namespace, whose parent is 0 there.
const INIT: u32 = 1;

/// `ENOENT` (errno(3)).
const ENOENT: i64 = 2;

/// All processes and threads that Falco knows, or will know before its next event of them.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_pid: HashMap<u32, Process>,
    /// Threads that are not the first of their process, and that process.
    threads: HashMap<u32, u32>,
    /// Processes as they are at present, used when a record names one that is not known: what the records tell comes
    /// first, since they may be older.
    aside: HashMap<u32, Process>,
    inserted: u64,
    unremembered: u64,
}

impl Processes {
    pub(super) fn get(&self, pid: u32) -> Option<&Process> {
        self.by_pid.get(&pid)
    }

    pub(super) fn get_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.by_pid.get_mut(&pid)
    }

    /// The process of a thread whose record does not tell it.
    pub(super) fn group_of(&self, tid: u32) -> u32 {
        self.threads.get(&tid).copied().unwrap_or(tid)
    }

    /// How many processes and threads were not remembered because the table was full.
    pub(super) const fn unremembered(&self) -> u64 {
        self.unremembered
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_pid.len() + self.threads.len()
    }

    /// Whether Falco knows a thread.
    pub(super) fn is_known(&self, tid: u32) -> bool {
        self.by_pid.contains_key(&tid) || self.threads.contains_key(&tid)
    }

    /// Keeps a process whose number is nobody's ([`Self::end`]); tells whether there was room.
    pub(super) fn insert(&mut self, pid: u32, mut process: Process) -> bool {
        if self.is_known(pid) || self.by_pid.len() >= limits::PROCESSES_MAX {
            self.unremembered += 1;
            return false;
        }
        self.inserted += 1;
        process.serial = self.inserted;
        process.parent = if pid == INIT { 0 } else { process.parent };
        process.parent_serial = self.serial(process.parent);
        process.threads = 0;
        process.is_told = false;
        self.by_pid.insert(pid, process);
        true
    }

    /// The kernel gave a process another parent. One that descends from the process cannot be true: it has none then.
    pub(super) fn give_to(&mut self, pid: u32, parent: u32) {
        let parent = if pid == INIT || self.is_at_or_below(parent, pid) { 0 } else { parent };
        let serial = self.serial(parent);
        if let Some(process) = self.by_pid.get_mut(&pid) {
            (process.parent, process.parent_serial) = (parent, serial);
        }
    }

    /// Whether a process is another one, or descends from it as far as is known; also if it has too many ancestors to tell.
    fn is_at_or_below(&self, pid: u32, ancestor: u32) -> bool {
        let mut next = pid;
        for _ in 0..limits::ANCESTORS_MAX {
            if next == ancestor {
                return true;
            }
            match self.by_pid.get(&next) {
                Some(process) => next = self.parent_of(process),
                None => return false,
            }
        }
        true
    }

    /// The parent of a process, 0 if it has ended. Then its number may be another's.
    pub(super) fn parent_of(&self, process: &Process) -> u32 {
        if process.parent_serial == self.serial(process.parent) { process.parent } else { 0 }
    }

    /// What Falco is told for the parent of a process: 0 unless Falco knows it, and knew it before the process.
    pub(super) fn told_parent(&self, process: &Process) -> u32 {
        let parent = self.by_pid.get(&process.parent).filter(|parent| {
            parent.is_told && parent.serial < process.serial && process.parent_serial == Some(parent.serial)
        });
        parent.map_or(0, |_| process.parent)
    }

    fn serial(&self, pid: u32) -> Option<u64> {
        self.by_pid.get(&pid).map(|process| process.serial)
    }

    /// Tells Falco that a thread has ended, and forgets it; of a process its other threads first. Nothing is told of a
    /// number that nobody has. False if a process has more threads than can be told of at once: then some are left,
    /// and the process with them.
    pub(super) fn end(
        &mut self,
        tid: u32,
        status: i64,
        ts: u64,
        out: &mut Batch,
    ) -> Result<bool, EncodeError> {
        if self.threads.contains_key(&tid) {
            self.forget_thread(tid);
            write_exit(tid, status, ts, out)?;
        }
        if self.by_pid.contains_key(&tid) {
            if !self.end_threads(tid, ts, out)? {
                return Ok(false);
            }
            if self.by_pid.remove(&tid).is_some_and(|process| process.is_told) {
                write_exit(tid, status, ts, out)?;
            }
        }
        Ok(true)
    }

    /// Ends the threads of a process except its first, at most [`limits::THREADS_ENDED_MAX`]; tells whether none are left.
    /// A new program has only its first thread. Its descriptors are those of the old one: libsinsp keeps its table too.
    pub(super) fn end_threads(&mut self, pid: u32, ts: u64, out: &mut Batch) -> Result<bool, EncodeError> {
        let count = self.by_pid.get(&pid).map_or(0, |process| process.threads);
        if count == 0 {
            return Ok(true);
        }
        let of_group = self.threads.iter().filter(|(_, group)| **group == pid).map(|(&tid, _)| tid);
        let tids: Vec<_> = of_group.take(limits::THREADS_ENDED_MAX).collect();
        for &tid in &tids {
            self.forget_thread(tid);
            write_exit(tid, 0, ts, out)?;
        }
        Ok(usize::try_from(count).is_ok_and(|count| count <= tids.len()))
    }

    /// A thread that is not the first of its process is gone.
    fn forget_thread(&mut self, tid: u32) {
        if let Some(process) = self.threads.remove(&tid).and_then(|pid| self.by_pid.get_mut(&pid)) {
            process.threads = process.threads.saturating_sub(1);
        }
    }

    /// Sees to it that Falco knows a thread and its process before an event of theirs.
    pub(super) fn introduce(
        &mut self,
        tid: u32,
        pid: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        self.introduce_process(pid, ts, out)?;
        if tid == pid || self.threads.get(&tid) == Some(&pid) {
            return Ok(());
        }
        self.introduce_thread(tid, pid, flags::CLONE_THREAD, ts, out)
    }

    /// Sees to it that Falco knows a process. One that no record told of has no name and no parent.
    pub(super) fn introduce_process(
        &mut self,
        pid: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        if self.get(pid).is_some_and(|process| process.is_told) {
            return Ok(());
        }
        // No process has the number 0, and to libsinsp it is the parent of whoever has none.
        if pid == 0 {
            return Ok(());
        }
        if self.get(pid).is_none() {
            // Its number may have been a thread's whose end was lost.
            self.end(pid, 0, ts, out)?;
            if !self.take_aside(pid) && !self.insert(pid, Process::new(pid, 0)) {
                return Ok(());
            }
        }
        for pid in self.untold_lineage(pid).into_iter().rev() {
            if let Some(process) = self.by_pid.get_mut(&pid) {
                process.is_told = true;
            }
            self.write_introduction(pid, pid, 0, ts, out)?;
        }
        Ok(())
    }

    /// A process and its ancestors that are known, but not to Falco, the youngest first.
    fn untold_lineage(&self, pid: u32) -> Vec<u32> {
        let mut lineage = Vec::new();
        let mut bytes = 0;
        let mut next = self.by_pid.get_key_value(&pid);
        while let Some((&pid, process)) = next.filter(|(_, process)| !process.is_told) {
            lineage.push(pid);
            bytes += process.text_bytes();
            if lineage.len() == limits::LINEAGE_MAX || bytes > limits::LINEAGE_BYTES_MAX {
                break;
            }
            next = self.by_pid.get_key_value(&self.parent_of(process));
        }
        lineage
    }

    /// Keeps a process as it is at present, for when a record names it and it is not known.
    pub(super) fn put_aside(&mut self, pid: u32, mut process: Process) {
        process.is_of_snapshot = true;
        if self.aside.len() < limits::PROCESSES_MAX {
            self.aside.insert(pid, process);
        } else {
            self.unremembered += 1;
        }
    }

    /// Whether something is kept of a process.
    pub(super) fn is_kept(&self, pid: u32) -> bool {
        self.aside.contains_key(&pid)
    }

    /// A record tells of the process by itself: gives what was kept of it.
    pub(super) fn drop_aside(&mut self, pid: u32) -> Option<Process> {
        if self.aside.is_empty() { None } else { self.aside.remove(&pid) }
    }

    /// Makes known what was kept of a process and of its ancestors; tells whether something was.
    fn take_aside(&mut self, pid: u32) -> bool {
        let mut lineage = Vec::new();
        let mut next = pid;
        while !self.is_known(next)
            && let Some(process) = self.aside.remove(&next)
        {
            let parent = process.parent;
            lineage.push((next, process));
            next = parent;
        }
        let is_found = !lineage.is_empty();
        for (pid, process) in lineage.into_iter().rev() {
            self.insert(pid, process);
        }
        is_found && self.by_pid.contains_key(&pid)
    }

    /// Makes everything known that was kept; gives what Falco has to be told of, parents before children.
    pub(super) fn take_all_aside(&mut self) -> Vec<(u32, u32)> {
        let pids: Vec<_> = self.aside.keys().copied().collect();
        for &pid in &pids {
            self.take_aside(pid);
        }
        // Telling one tells its ancestors first.
        pids.into_iter().map(|pid| (pid, pid)).collect()
    }

    /// Some of the threads and processes of the workload, at most `count`: threads before processes.
    pub(super) fn some(&self, count: usize) -> Vec<u32> {
        let processes = self.by_pid.iter().filter(|(_, process)| !process.is_outsider).map(|(pid, _)| pid);
        self.threads.keys().chain(processes).copied().take(count).collect()
    }

    /// Introduces a thread that is not the first of its process.
    pub(super) fn introduce_thread(
        &mut self,
        tid: u32,
        pid: u32,
        clone_flags: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        if tid == pid {
            return Ok(());
        }
        // Its number may have been another thread's or process's whose end was lost.
        if !self.end(tid, 0, ts, out)? || self.threads.len() >= limits::PROCESSES_MAX {
            self.unremembered += 1;
            return Ok(());
        }
        let Some(process) = self.by_pid.get_mut(&pid) else { return Ok(()) };
        process.threads += 1;
        self.threads.insert(tid, pid);
        self.write_introduction(tid, pid, clone_flags | flags::CLONE_THREAD, ts, out)
    }

    /// Introduces a process that a record told of: it was inserted, and its parent is known.
    pub(super) fn introduce_child(
        &mut self,
        pid: u32,
        event: &'static EventInfo,
        clone_flags: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.is_told = true;
        }
        self.write_child(event, (pid, pid), clone_flags, ts, out)
    }

    fn write_introduction(
        &self,
        tid: u32,
        pid: u32,
        clone_flags: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        self.write_child(&table::CLONE_20_X, (tid, pid), clone_flags, ts, out)
    }

    /// The clone event of a new thread, and the `chdir` that keeps it.
    fn write_child(
        &self,
        event: &'static EventInfo,
        (tid, pid): (u32, u32),
        clone_flags: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        let Some(process) = self.by_pid.get(&pid) else { return Ok(()) };
        let is_inside = process.is_nested && clone_flags & flags::CLONE_NEWPID == 0;
        let nested = if is_inside { flags::CHILD_IN_PIDNS } else { 0 };
        self.write_clone(event, (tid, pid), clone_flags | nested, 0, ts, out)?;
        write_chdir(i64::from(tid), process.cwd.as_deref(), ts, out)
    }

    /// The clone event of a thread that made another one, if both ends of it are still there.
    pub(super) fn write_creator(
        &self,
        event: &'static EventInfo,
        (tid, pid): (u32, u32),
        clone_flags: u32,
        child: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        if !self.is_known(tid) {
            return Ok(());
        }
        self.write_clone(event, (tid, pid), clone_flags, i64::from(child), ts, out)
    }

    /// The clone event of thread `tid`: of a new one if `result` is 0, of the one that made `result` otherwise.
    fn write_clone(
        &self,
        event: &'static EventInfo,
        (tid, pid): (u32, u32),
        clone_flags: u32,
        result: i64,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        let Some(process) = self.by_pid.get(&pid) else { return Ok(()) };
        let program = &process.program;
        let [tid_word, pid_word, parent] = [tid, pid, self.told_parent(process)].map(i64::from);
        let mut writer = out.event(event, ts, tid_word);
        writer.pid(result).string(program.exe()).bytes(&program.args);
        // libsinsp takes the directory from the parent, and page faults and memory are not known at a clone.
        writer.pid(tid_word).pid(pid_word).pid(parent).empty().int64(program.fd_limit).empties(5);
        writer.string(program.comm()).bytes(&program.cgroups).flags32(clone_flags);
        writer.uint32(process.uid[1]).uint32(process.gid[1]);
        match process.virtual_ids(tid, pid) {
            Some((vtid, vpid)) => writer.own_pid(vtid).own_pid(vpid),
            None => writer.empties(2),
        };
        writer.empty().finish()
    }

    /// Tells Falco where a process is, if it believes otherwise.
    pub(super) fn move_to(
        &mut self,
        tid: u32,
        pid: u32,
        cwd: &[u8],
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        match self.by_pid.get_mut(&pid) {
            Some(process) if process.cwd.as_deref() != Some(cwd) => {
                process.cwd = Some(Arc::from(cwd));
                write_chdir(i64::from(tid), Some(cwd), ts, out)
            }
            _ => Ok(()),
        }
    }

    /// Everything that a new consumer has to be told of, parents before children, and the first thread of a process
    /// before its others.
    pub(super) fn in_order(&mut self) -> Vec<(u32, u32)> {
        let mut order = Vec::with_capacity(self.by_pid.len());
        let mut done = HashSet::with_capacity(self.by_pid.len());
        let mut lineage = Vec::new();
        for &pid in self.by_pid.keys() {
            // Up to the first ancestor that is done, and then down again.
            let mut next = pid;
            while let Some(process) = self.by_pid.get(&next)
                && done.insert(next)
            {
                let parent = self.parent_of(process);
                lineage.push((next, parent));
                next = parent;
            }
            while let Some((pid, parent)) = lineage.pop() {
                order.push((pid, parent));
            }
        }
        for &(pid, parent) in &order {
            // It is in this order that the new consumer gets to know them.
            self.inserted += 1;
            let (serial, parent_serial) = (self.inserted, self.serial(parent));
            if let Some(process) = self.by_pid.get_mut(&pid) {
                process.untell_sockets();
                process.is_told = false;
                (process.serial, process.parent, process.parent_serial) = (serial, parent, parent_serial);
            }
        }
        let processes = order.into_iter().map(|(pid, _)| (pid, pid));
        processes.chain(self.threads.iter().map(|(&tid, &pid)| (tid, pid))).collect()
    }

    /// Whether Falco may know a thread: if so much is known that some are not remembered, it may know any.
    pub(super) fn may_know(&self, tid: u32) -> bool {
        self.unremembered > 0 || self.is_known(tid)
    }

    /// Tells a new consumer of a thread; of nothing if it has ended since.
    pub(super) fn introduce_again(
        &mut self,
        tid: u32,
        pid: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        if tid == pid {
            if self.by_pid.contains_key(&pid) { self.introduce_process(pid, ts, out) } else { Ok(()) }
        } else if self.threads.get(&tid) == Some(&pid) {
            self.write_introduction(tid, pid, flags::CLONE_THREAD, ts, out)
        } else {
            Ok(())
        }
    }
}

/// A `chdir` to a known directory, or one that failed: it tells no directory, but that the thread lives.
fn write_chdir(tid: i64, cwd: Option<&[u8]>, ts: u64, out: &mut Batch) -> Result<(), EncodeError> {
    let result = if cwd.is_some() { 0 } else { -ENOENT };
    let path = cwd.map_or(Text::MISSING, Text::bounded);
    out.event(&table::CHDIR_X, ts, tid).errno(result).string(path).finish()
}

/// The last event of a thread, with its wait status (wait(2)).
pub(super) fn write_exit(tid: u32, status: i64, ts: u64, out: &mut Batch) -> Result<(), EncodeError> {
    let low = |value: i64| u8::try_from(value & 0x7f).unwrap_or_default();
    let mut writer = out.event(&table::PROCEXIT_1_E, ts, i64::from(tid));
    writer.errno(status).errno(status >> 8 & 0xff).signal(low(status)).uint8(u8::from(status & 0x80 != 0));
    // The reaper of its children is not known: 0 leaves the search to libsinsp.
    writer.pid(0).finish()
}
