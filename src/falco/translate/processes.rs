//! What Falco has been told of the workload's processes and threads, and how it is told of a new one.
//!
//! libsinsp invents an entry for a thread that it has not been told of, out of its own `/proc`, where the same number
//! may be another process. So a thread is introduced before its first event: by the clone event of a child, parents
//! first. A thread without any later event would be purged at the first scan, so that a `chdir` follows. Read this
//! before you add state: it lives as long as the process, times [`limits::PROCESSES_MAX`].

use std::{collections::HashSet, sync::Arc};

use foldhash::HashMap;

use super::additions::SocketInfo;
use crate::{
    falco::{
        encode::{Batch, EncodeError, Text},
        flags,
        table::{self, EventInfo},
    },
    limits,
};

/// A user or group, or a limit, of which nothing is known. Never 0: that is root.
pub(super) const UNKNOWN_ID: u32 = u32::MAX;

/// `ENOENT` (errno(3)).
const ENOENT: i64 = 2;

/// The texts of one program start, shared by all children that run the same program.
#[derive(Debug)]
pub(super) struct Program {
    /// The first of the arguments; `None` where no record told it.
    pub(super) exe: Option<Box<[u8]>>,
    /// The other arguments, each with its NUL.
    pub(super) args: Box<[u8]>,
    pub(super) comm: Option<Box<[u8]>>,
    /// The `cgroups` parameter.
    pub(super) cgroups: Box<[u8]>,
    /// The soft limit of open files, -1 where it is not known.
    pub(super) fd_limit: i64,
}

impl Default for Program {
    fn default() -> Self {
        Self { exe: None, args: Box::default(), comm: None, cgroups: Box::default(), fd_limit: -1 }
    }
}

impl Program {
    pub(super) fn exe(&self) -> Text<'_> {
        self.exe.as_deref().map_or(Text::MISSING, Text::bounded)
    }

    pub(super) fn comm(&self) -> Text<'_> {
        self.comm.as_deref().map_or(Text::MISSING, Text::bounded)
    }
}

/// What Falco has been told of a process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) parent: u32,
    pub(super) program: Arc<Program>,
    /// The current directory that Falco resolves relative names against.
    pub(super) cwd: Option<Arc<[u8]>>,
    /// Real, effective and saved user.
    pub(super) uid: [u32; 3],
    /// Real, effective and saved group.
    pub(super) gid: [u32; 3],
    /// Inheritable, permitted and effective capabilities.
    pub(super) capabilities: Option<[u64; 3]>,
    /// Its number in its own PID namespace.
    pub(super) vpid: Option<i64>,
    /// Whether that namespace is below the tracer's.
    pub(super) is_nested: bool,
    sockets: Vec<ToldSocket>,
    threads: u32,
    /// Tells it from later processes with the same number.
    serial: u64,
    /// That of its parent, if its parent was known.
    parent_serial: Option<u64>,
    /// When it was made, in clock ticks since the machine started, if a record told.
    pub(super) start_ticks: Option<u64>,
    /// No record told what it runs: it has no name.
    pub(super) is_nameless: bool,
    /// What is known of it comes from a snapshot: it may have run another program when the records were made that name
    /// it now.
    is_of_snapshot: bool,
    /// It is none of the workload's: the tracer, or one of its ancestors.
    pub(super) is_outsider: bool,
    is_told: bool,
}

impl Process {
    /// A process of which nothing is known but who made it; 0 for nobody that is known.
    pub(super) fn new(pid: u32, parent: u32) -> Self {
        Self {
            parent,
            program: Arc::default(),
            cwd: None,
            uid: [UNKNOWN_ID; 3],
            gid: [UNKNOWN_ID; 3],
            capabilities: None,
            vpid: Some(i64::from(pid)),
            is_nested: false,
            sockets: Vec::new(),
            threads: 0,
            serial: 0,
            parent_serial: None,
            start_ticks: None,
            is_nameless: true,
            is_of_snapshot: false,
            is_outsider: false,
            is_told: false,
        }
    }

    /// A record told what it is.
    pub(super) const fn settle(&mut self) {
        (self.is_nameless, self.is_of_snapshot) = (false, false);
    }

    /// Whether a child that it made may have been another program than what is known of it.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.is_nameless || self.is_of_snapshot
    }

    /// Whether a record from `/proc`, of a process made at `start_ticks`, is about another process than this one with its
    /// number. Where the time tells nothing, it is if the record of its clone was lost.
    pub(super) fn is_other(&self, start_ticks: Option<u64>, is_clone_lost: bool) -> bool {
        match (self.start_ticks, start_ticks) {
            (Some(known), Some(told)) => known != told,
            _ => is_clone_lost,
        }
    }

    /// Bytes of the texts that introduce it.
    fn text_bytes(&self) -> usize {
        let Program { exe, args, comm, cgroups, .. } = &*self.program;
        let len = |text: Option<&[u8]>| text.map_or(0, <[u8]>::len);
        len(exe.as_deref()) + args.len() + len(comm.as_deref()) + cgroups.len() + len(self.cwd.as_deref())
    }

    /// A child that was just made: a copy.
    pub(super) fn child(&self, pid: u32, parent: u32, clone_flags: u32) -> Self {
        let is_first = clone_flags & flags::CLONE_NEWPID != 0;
        let vpid = if is_first { Some(1) } else { Some(i64::from(pid)).filter(|_| !self.is_nested) };
        Self {
            parent,
            vpid,
            is_nested: self.is_nested || is_first,
            start_ticks: None,
            is_outsider: false,
            ..self.clone()
        }
    }

    /// The same process when it still had this parent.
    pub(super) fn with_parent(self, parent: u32) -> Self {
        Self { parent, ..self }
    }

    /// The numbers of a thread of this process in its own namespace, if both are known.
    fn virtual_ids(&self, tid: u32, pid: u32) -> Option<(i64, i64)> {
        let vpid = self.vpid?;
        if tid == pid { Some((vpid, vpid)) } else { Some((i64::from(tid), vpid)).filter(|_| !self.is_nested) }
    }

    pub(super) fn socket(&self, fd: i32) -> Option<&ToldSocket> {
        self.sockets.iter().find(|socket| socket.fd == fd)
    }

    /// Remembers that Falco knows `fd` as this socket.
    pub(super) fn remember_socket(&mut self, fd: i32, info: SocketInfo) {
        self.forget_socket(fd);
        if self.sockets.len() == limits::SOCKETS_MAX {
            self.sockets.remove(0);
        }
        self.sockets.push(ToldSocket { fd, info, is_told: true });
    }

    /// The descriptor is something else now.
    pub(super) fn forget_socket(&mut self, fd: i32) {
        self.sockets.retain(|socket| socket.fd != fd);
    }

    /// A new consumer: what sockets are is remembered, but Falco does not know it.
    fn untell_sockets(&mut self) {
        for socket in &mut self.sockets {
            socket.is_told = false;
        }
    }
}

/// A socket of which Falco was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToldSocket {
    fd: i32,
    pub(super) info: SocketInfo,
    /// Whether Falco still knows it.
    pub(super) is_told: bool,
}

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

    /// Keeps a process, in the place of one with the same number; tells whether there was room.
    pub(super) fn insert(&mut self, pid: u32, mut process: Process) -> bool {
        self.forget(pid);
        self.forget_thread(pid);
        if self.by_pid.len() >= limits::PROCESSES_MAX {
            self.unremembered += 1;
            return false;
        }
        self.inserted += 1;
        process.serial = self.inserted;
        process.parent_serial = self.serial(process.parent);
        process.threads = 0;
        process.is_told = false;
        self.by_pid.insert(pid, process);
        true
    }

    /// The kernel gave a process another parent.
    pub(super) fn give_to(&mut self, pid: u32, parent: u32) {
        let serial = self.serial(parent);
        if let Some(process) = self.by_pid.get_mut(&pid) {
            (process.parent, process.parent_serial) = (parent, serial);
        }
    }

    fn serial(&self, pid: u32) -> Option<u64> {
        self.by_pid.get(&pid).map(|process| process.serial)
    }

    /// A process is gone, and its threads with it.
    pub(super) fn forget(&mut self, pid: u32) {
        self.forget_threads(pid);
        self.by_pid.remove(&pid);
    }

    /// A thread that is not the first of its process is gone.
    pub(super) fn forget_thread(&mut self, tid: u32) {
        if let Some(process) = self.threads.remove(&tid).and_then(|pid| self.by_pid.get_mut(&pid)) {
            process.threads = process.threads.saturating_sub(1);
        }
    }

    /// A new program has only its first thread. Its descriptors are those of the old one: libsinsp keeps its table too.
    pub(super) fn start_program(&mut self, pid: u32) {
        self.forget_threads(pid);
    }

    fn forget_threads(&mut self, pid: u32) {
        match self.by_pid.get_mut(&pid) {
            Some(process) if process.threads > 0 => {
                process.threads = 0;
                self.threads.retain(|_, group| *group != pid);
            }
            _ => {}
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
        if tid == pid || self.threads.contains_key(&tid) {
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
        if self.get(pid).is_none() && !self.take_aside(pid) && !self.insert(pid, Process::new(pid, 0)) {
            return Ok(());
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
            // These bounds end a circle too, which hostile records could make.
            bytes += process.text_bytes();
            if lineage.len() == limits::LINEAGE_MAX || bytes > limits::LINEAGE_BYTES_MAX {
                break;
            }
            // A parent that has ended is nobody's any more, even if its number is in use again.
            let parent = self.by_pid.get_key_value(&process.parent);
            next = parent.filter(|_| !self.is_orphan(process) && process.parent != pid);
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
        while !self.by_pid.contains_key(&next)
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
        // Its number may have been another thread's or process's whose end was lost.
        self.forget_thread(tid);
        if tid != pid {
            self.forget(tid);
        }
        if self.threads.len() >= limits::PROCESSES_MAX {
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
        let Some(process) = self.by_pid.get_mut(&pid) else { return Ok(()) };
        process.is_told = true;
        write_child(process, event, (pid, pid), clone_flags, ts, out)
    }

    fn write_introduction(
        &self,
        tid: u32,
        pid: u32,
        clone_flags: u32,
        ts: u64,
        out: &mut Batch,
    ) -> Result<(), EncodeError> {
        match self.by_pid.get(&pid) {
            Some(process) => write_child(process, &table::CLONE_20_X, (tid, pid), clone_flags, ts, out),
            None => Ok(()),
        }
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
        let mut order = Vec::with_capacity(self.by_pid.len() + self.threads.len());
        let mut done = HashSet::with_capacity(self.by_pid.len());
        let mut lineage = Vec::new();
        // A parent that has ended is nobody's any more, even if its number is in use again.
        let orphans = self.by_pid.iter().filter(|(_, process)| self.is_orphan(process)).map(|(&pid, _)| pid);
        let orphans: Vec<_> = orphans.collect();
        for pid in orphans {
            self.give_to(pid, 0);
        }
        for &pid in self.by_pid.keys() {
            // Up to the first ancestor that is done, and then down again. `done` also ends a circle, which hostile
            // records could make.
            let mut next = pid;
            while let Some(process) = self.by_pid.get(&next)
                && done.insert(next)
            {
                lineage.push(next);
                next = process.parent;
            }
            while let Some(pid) = lineage.pop() {
                order.push((pid, pid));
            }
        }
        order.extend(self.threads.iter().map(|(&tid, &pid)| (tid, pid)));
        for process in self.by_pid.values_mut() {
            process.untell_sockets();
            process.is_told = false;
        }
        order
    }

    /// Whether Falco may know a thread: if so much is known that some are not remembered, it may know any.
    pub(super) fn may_know(&self, tid: u32) -> bool {
        self.unremembered > 0 || self.by_pid.contains_key(&tid) || self.threads.contains_key(&tid)
    }

    fn is_orphan(&self, process: &Process) -> bool {
        process.parent != 0 && process.parent_serial != self.serial(process.parent)
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

/// The clone event of a new thread, and the `chdir` that keeps it.
fn write_child(
    process: &Process,
    event: &'static EventInfo,
    (tid, pid): (u32, u32),
    clone_flags: u32,
    ts: u64,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let nested =
        if process.is_nested && clone_flags & flags::CLONE_NEWPID == 0 { flags::CHILD_IN_PIDNS } else { 0 };
    write_clone(process, event, (tid, pid), clone_flags | nested, 0, ts, out)?;
    write_chdir(i64::from(tid), process.cwd.as_deref(), ts, out)
}

/// The clone event of thread `tid`: of a new one if `result` is 0, of the one that made `result` otherwise.
pub(super) fn write_clone(
    process: &Process,
    event: &'static EventInfo,
    (tid, pid): (u32, u32),
    clone_flags: u32,
    result: i64,
    ts: u64,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let program = &process.program;
    let [tid_word, pid_word, parent] = [tid, pid, process.parent].map(i64::from);
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

/// A `chdir` to a known directory, or one that failed: it tells no directory, but that the thread lives.
fn write_chdir(tid: i64, cwd: Option<&[u8]>, ts: u64, out: &mut Batch) -> Result<(), EncodeError> {
    let result = if cwd.is_some() { 0 } else { -ENOENT };
    let path = cwd.map_or(Text::MISSING, Text::bounded);
    out.event(&table::CHDIR_X, ts, tid).errno(result).string(path).finish()
}
