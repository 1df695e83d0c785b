//! What the threads of the notify engine share under one lock: the processes of the workload, what readers have been
//! told of them, and the recorder.
//!
//! Nobody is attached to, so nothing tells of threads: a thread is told of when the first record of it is written, and
//! whether an id still means the same thread is asked of the kernel each time. Processes are told of by their forks, and
//! their ends by pidfds, which lie in one epoll set.

use std::{collections::HashMap, os::fd::AsFd, sync::Arc, thread, time::Duration};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::{
    engine::{
        Population, Recorder,
        calls::unseen_clone_record,
        process::{self, exit_record, process_and_parent, process_record},
        told::{ProcessSource, Told, ToldName},
    },
    event::{CaptureBuffer, PROCESS_EXEC_LOST, RecordHeader},
    limits,
    ring::ProducerMemory,
    sys::{
        Pid, Tid, procfs,
        signal::{self, PidFd},
    },
    triage::NameHits,
};

/// A process of the workload.
#[derive(Debug)]
struct Process {
    /// `None` where the kernel gave none: its end is noticed with that of the workload, or when its id is another's.
    pidfd: Option<PidFd>,
    /// The threads that have been told of, without the leader.
    threads: Vec<Tid>,
    /// Calls of it that are being followed.
    in_flight: u32,
    /// It has ended, but a record of a call in flight is still to be written.
    has_ended: bool,
    /// The wait status (wait(2)), once it is known.
    status: Option<i32>,
    /// It may have started a program while nobody could look.
    is_program_unseen: bool,
    /// The name by which readers know its program, and each of its threads.
    name: Option<ToldName>,
    /// Another process shares its memory, or may.
    shares_memory: bool,
    /// The process in whose memory it runs, and which waits for it in vfork(2).
    awaited_by: Option<Pid>,
    /// It, or one that made it, has used something else than what it had shown.
    is_suspect: bool,
}

impl Process {
    fn owns_its_id(&self) -> bool {
        !self.has_ended && self.pidfd.as_ref().is_none_or(PidFd::owns_its_id)
    }
}

/// The processes and those of their threads that have been told of.
#[derive(Debug)]
struct People {
    processes: HashMap<Pid, Process>,
    threads: HashMap<Tid, Pid>,
    population: Population,
}

impl ProcessSource for People {
    fn is_tracee(&self, pid: Pid) -> bool {
        self.processes.contains_key(&pid)
    }
}

/// How a process has ended that somebody is waiting for just now: the kernel tells of it when that is done.
fn status_of_reaped(pidfd: &PidFd) -> Option<i32> {
    const LOOKS: usize = 10;
    const PAUSE: Duration = Duration::from_micros(50);
    for _ in 0..LOOKS {
        // A kernel that cannot tell cannot tell later.
        if let Some(status) = pidfd.status_after_wait().ok()? {
            return Some(status);
        }
        thread::sleep(PAUSE);
    }
    None
}

/// See the module.
pub(super) struct Book<M: ProducerMemory> {
    pub(super) recorder: Recorder<M>,
    told: Told,
    people: People,
    ends: Arc<Epoll>,
    /// The captures of a process that is told of out of turn.
    captures: CaptureBuffer,
    /// Threads and processes that were told of.
    pub(super) created: u64,
    /// Processes of which each call is followed.
    suspects: usize,
}

/// What a new process has of its creator's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nothing.
    Nothing,
    /// All of it, while its creator waits.
    Awaited,
    /// All of it, or that is not known.
    Memory,
}

impl<M: ProducerMemory> Book<M> {
    /// A book of no processes, which puts their pidfds into this epoll set, with their pids as data.
    pub(super) fn new(recorder: Recorder<M>, population: Population, ends: Arc<Epoll>) -> Self {
        Self {
            recorder,
            told: Told::new(process::CAPTURE_BYTES_MAX),
            people: People { processes: HashMap::new(), threads: HashMap::new(), population },
            ends,
            captures: CaptureBuffer::with_capacity(process::CAPTURE_BYTES_MAX),
            created: 0,
            suspects: 0,
        }
    }

    /// The processes that have not ended.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.people.processes.keys().copied().collect()
    }

    /// Whether somebody is left whose end the epoll set tells.
    pub(super) fn hears_of_ends(&self) -> bool {
        self.people.processes.values().any(|process| !process.has_ended && process.pidfd.is_some())
    }

    /// Makes a process known without telling of it.
    pub(super) fn admit(&mut self, pid: Pid) {
        let pidfd = PidFd::open(pid).ok();
        if let Some(pidfd) = &pidfd {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(pid.as_u32()));
            // Without it the end is noticed later.
            let _ = self.ends.add(pidfd.as_fd(), event);
        }
        let process = Process {
            pidfd,
            threads: Vec::new(),
            in_flight: 0,
            has_ended: false,
            status: None,
            is_program_unseen: false,
            name: None,
            shares_memory: false,
            awaited_by: None,
            is_suspect: false,
        };
        self.people.population.add(pid);
        if self.people.processes.insert(pid, process).is_none() {
            self.created += 1;
        }
    }

    /// Makes a process known that runs already, and tells of it.
    pub(super) fn adopt(&mut self, pid: Pid) {
        self.admit(pid);
        self.note_sharing(pid);
        self.recorder.recover();
        self.record_process(pid, 0);
    }

    fn record_process(&mut self, pid: Pid, bits: u64) {
        if let Some(header) = process_record(pid, bits, &mut self.captures) {
            self.recorder.record(&header, &self.captures);
        }
    }

    /// Kills every process that is known.
    pub(super) fn kill(&self) {
        for process in self.people.processes.values() {
            if let Some(pidfd) = &process.pidfd {
                // Whoever is gone needs it no more.
                let _ = pidfd.send(libc::SIGKILL);
            }
        }
    }

    /// The process of a thread that waits in a call, of which a record will be written: it and the thread are told of
    /// before, and its end after [`Self::leave`]. `None` if the thread is gone.
    pub(super) fn enter(&mut self, tid: Tid) -> Option<Pid> {
        let pid = self.process_of(tid)?;
        if let Some(process) = self.people.processes.get_mut(&pid) {
            process.in_flight += 1;
        }
        Some(pid)
    }

    /// The record has been written.
    pub(super) fn leave(&mut self, pid: Pid) {
        let Some(process) = self.people.processes.get_mut(&pid) else { return };
        process.in_flight = process.in_flight.saturating_sub(1);
        if process.in_flight == 0 && process.has_ended {
            self.close(pid);
        }
    }

    fn process_of(&mut self, tid: Tid) -> Option<Pid> {
        let as_process = Pid(tid.0);
        if let Some(process) = self.people.processes.get(&as_process) {
            if process.owns_its_id() {
                self.tell_unseen_program(as_process);
                return Some(as_process);
            }
            self.end(as_process, None);
        }
        if let Some(&pid) = self.people.threads.get(&tid) {
            let is_known = self.people.processes.get(&pid).is_some_and(Process::owns_its_id);
            if is_known && signal::has_thread(pid, tid) {
                self.tell_unseen_program(pid);
                return Some(pid);
            }
            self.end_thread(tid, pid);
        }
        let (pid, parent) = process_and_parent(tid);
        // Of one that is gone its process is not known either, and it must not be told as one.
        if parent == Pid(0) && !signal::exists(tid) {
            return None;
        }
        if self.people.processes.get(&pid).is_some_and(|process| !process.owns_its_id()) {
            self.end(pid, None);
        }
        // It may have ended since its call came, with its process, whose end has been told.
        if !signal::has_thread(pid, tid) || tid == pid.leader() && procfs::awaits_wait(pid) {
            return None;
        }
        if !self.people.processes.contains_key(&pid) {
            self.introduce_unseen(parent, (pid.leader(), pid));
        }
        if tid != pid.leader() {
            self.introduce_unseen(pid, (tid, pid));
            self.people.threads.insert(tid, pid);
            if let Some(process) = self.people.processes.get_mut(&pid) {
                process.threads.push(tid);
            }
        }
        Some(pid)
    }

    /// Tells of a thread or process whose creation nobody saw.
    fn introduce_unseen(&mut self, creator: Pid, (tid, pid): (Tid, Pid)) {
        let record = unseen_clone_record(creator, (tid, pid));
        self.tell(creator);
        if pid.leader() == tid {
            self.admit(pid);
            self.note_sharing(pid);
            self.inherit_suspicion(creator, pid);
            self.told.record_clone((creator, pid), &record, &mut self.recorder);
        } else {
            self.created += 1;
            self.recorder.record_bare(&record);
        }
    }

    /// Sees to it that readers know a process before the record that follows.
    fn tell(&mut self, pid: Pid) {
        self.told.tell(pid, &self.people, &mut self.recorder);
    }

    /// Tells which program a process runs that may have started it unseen.
    fn tell_unseen_program(&mut self, pid: Pid) {
        let Some(process) = self.people.processes.get_mut(&pid) else { return };
        if !std::mem::take(&mut process.is_program_unseen) {
            return;
        }
        self.tell(pid);
        self.record_process(pid, PROCESS_EXEC_LOST);
    }

    /// A process may start a program now, and nobody can look.
    pub(super) fn note_unseen_program(&mut self, pid: Pid) {
        if let Some(process) = self.people.processes.get_mut(&pid) {
            process.is_program_unseen = true;
        }
    }

    /// Writes the record of a call of a process that [`Self::enter`] gave.
    pub(super) fn record_call(&mut self, record: &RecordHeader, pid: Pid, captures: &CaptureBuffer) {
        self.tell(pid);
        self.recorder.record(record, captures);
    }

    /// Writes the record by which `creator` made the process `child`, which stands still and shares its memory as is told.
    pub(super) fn record_fork(
        &mut self,
        (creator, child): (Pid, Pid),
        sharing: Sharing,
        record: &RecordHeader,
    ) {
        self.tell(creator);
        // Its id was that of a process whose end nobody has noticed yet.
        self.end(child, None);
        self.admit(child);
        self.inherit_suspicion(creator, child);
        match sharing {
            Sharing::Nothing => {}
            Sharing::Awaited => self.note_awaited(creator, child),
            Sharing::Memory => [creator, child].into_iter().for_each(|pid| self.note_sharing(pid)),
        }
        if self.told.record_clone((creator, child), record, &mut self.recorder) {
            // A child is called as its creator is until it runs another program.
            let name = self.people.processes.get(&creator).and_then(|creator| creator.name);
            self.set_name(child, name);
        }
    }

    /// Another process shares the memory of this one, and of those that wait for it there.
    fn note_sharing(&mut self, pid: Pid) {
        let mut next = Some(pid);
        for _ in 0..limits::SHARING_CHAIN_MAX {
            let Some(process) = next.and_then(|pid| self.people.processes.get_mut(&pid)) else { return };
            process.shares_memory = true;
            next = process.awaited_by;
        }
    }

    /// A process runs in the memory of its creator, which waits for it.
    fn note_awaited(&mut self, creator: Pid, child: Pid) {
        let shares_memory = self.people.processes.get(&creator).is_none_or(|creator| creator.shares_memory);
        if let Some(child) = self.people.processes.get_mut(&child) {
            child.shares_memory = shares_memory;
            child.awaited_by = Some(creator);
        }
    }

    fn inherit_suspicion(&mut self, creator: Pid, child: Pid) {
        if self.is_suspect(creator) {
            self.suspect(child);
        }
    }

    /// A process has used something else than what it had shown: from now on each of its calls is followed.
    pub(super) fn suspect(&mut self, pid: Pid) {
        if let Some(process) = self.people.processes.get_mut(&pid)
            && !std::mem::replace(&mut process.is_suspect, true)
        {
            self.suspects += 1;
        }
    }

    /// Whether each call of a process is followed.
    pub(super) fn is_suspect(&self, pid: Pid) -> bool {
        self.people.processes.get(&pid).is_some_and(|process| process.is_suspect)
    }

    /// How many such processes there are.
    pub(super) const fn suspects(&self) -> usize {
        self.suspects
    }

    /// Whether another process may share the memory of this one.
    pub(super) fn shares_memory(&self, pid: Pid) -> bool {
        self.people.processes.get(&pid).is_none_or(|process| process.shares_memory)
    }

    fn set_name(&mut self, pid: Pid, name: Option<ToldName>) {
        // While there are so many that a reader may not remember all of them, no name is certain.
        let is_certain = self.people.processes.len() < limits::PROCESSES_MAX / 2;
        if let Some(process) = self.people.processes.get_mut(&pid) {
            process.name = name.filter(|_| is_certain);
        }
    }

    /// What the name of the program passes that a thread runs, if it is certain which one readers know.
    pub(super) fn name(&self, tid: Tid) -> Option<NameHits> {
        let people = &self.people;
        let pid = people.threads.get(&tid).copied().unwrap_or(Pid(tid.0));
        let process = people.processes.get(&pid).filter(|process| process.owns_its_id())?;
        let is_its_own = pid.leader() == tid || signal::has_thread(pid, tid);
        let name = process.name.filter(|name| name.epoch == self.recorder.epoch())?;
        (is_its_own && !process.is_program_unseen).then_some(name.hits)
    }

    /// Writes the record of a program that `pid` runs now, whose name passes `hits`. Its other threads have ended by that.
    pub(super) fn record_exec(
        &mut self,
        pid: Pid,
        (record, captures): (&RecordHeader, &CaptureBuffer),
        hits: Option<NameHits>,
    ) {
        self.told.tell_parents(pid, &self.people, &mut self.recorder);
        let threads = self.people.processes.get_mut(&pid).map(|process| std::mem::take(&mut process.threads));
        for tid in threads.unwrap_or_default() {
            self.end_thread(tid, pid);
        }
        let told_in = self.told.record_exec(pid, (record, captures), &mut self.recorder);
        self.set_name(pid, hits.zip(told_in).map(|(hits, epoch)| ToldName { hits, epoch }));
        if let Some(process) = self.people.processes.get_mut(&pid) {
            // It has new memory.
            process.shares_memory = false;
            process.awaited_by = None;
        }
    }

    /// A process has ended, with this wait status (wait(2)) if it is known. Its record waits for those of its calls.
    pub(super) fn end(&mut self, pid: Pid, status: Option<i32>) {
        let Some(process) = self.people.processes.get_mut(&pid) else { return };
        let status = process.status.or(status);
        process.status = status.or_else(|| process.pidfd.as_ref().and_then(status_of_reaped));
        if process.in_flight == 0 {
            self.close(pid);
        } else {
            process.has_ended = true;
            // It is readable from now on.
            if let Some(pidfd) = process.pidfd.take() {
                let _ = self.ends.delete(pidfd.as_fd());
            }
        }
    }

    /// A thread has ended with this wait status, which whoever was attached to it is told first.
    pub(super) fn note_status(&mut self, tid: Tid, status: i32) {
        if let Some(process) = self.people.processes.get_mut(&Pid(tid.0)) {
            process.status = Some(status);
        }
    }

    fn close(&mut self, pid: Pid) {
        let Some(process) = self.people.processes.remove(&pid) else { return };
        self.suspects -= usize::from(process.is_suspect);
        self.people.population.remove(pid);
        for tid in process.threads {
            self.end_thread(tid, pid);
        }
        self.record_end(pid.leader(), pid, process.status);
    }

    fn end_thread(&mut self, tid: Tid, pid: Pid) {
        if self.people.threads.remove(&tid).is_some() {
            if let Some(process) = self.people.processes.get_mut(&pid) {
                process.threads.retain(|&thread| thread != tid);
            }
            self.record_end(tid, pid, None);
        }
    }

    fn record_end(&mut self, tid: Tid, pid: Pid, status: Option<i32>) {
        let exit = exit_record(tid, pid, status);
        self.told.record_exit(pid, &exit, &self.people, &mut self.recorder);
    }

    /// Forgets a process that never became the workload.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.people.processes.remove(&pid);
        self.people.population.remove(pid);
    }

    /// Tells what is still to be told when the workload is over.
    pub(super) fn finish(&mut self) {
        self.told.finish(&mut self.recorder);
    }
}
