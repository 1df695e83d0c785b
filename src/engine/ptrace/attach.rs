//! Attaching to processes that run already, and detaching from them.
//!
//! ```text
//! launch     PTRACE_SEIZE every thread, and look again until none is new. From then on a thread that is made is attached
//!            to by the kernel, but for one: that whose creator was in the middle of making it
//! run        tell the readers of the processes as they are, then interrupt every thread
//! first stop a thread has left the kernel, so what it was making is there to be seen. When all have had theirs, look once
//!            more, until nobody is new
//! filter     only then, if it is wanted at all: a filter reports to a tracer, and without one a call fails with ENOSYS
//! detach     interrupt every thread, and detach from it where it then stands
//! ```
//!
//! Without a filter a thread stops at the entry and the exit of every call (PTRACE_SYSCALL), and what the filter would
//! have decided is decided here.
//!
//! To interrupt a thread must change nothing for it. The kernel begins a call again by itself that was waiting, but for
//! some that fail with EINTR (signal(7), "Interruption of system calls and library functions by stop signals"): those are
//! begun again by [`inject::begin_again`].

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{
    PtraceEngine, Substitute,
    target::{AttachError, Note, Target, Unfiltered, check, seize_leader, traced},
    tracees::Tracees,
};
use crate::{
    abi::Abi,
    engine::{
        EngineError, LaunchError, Recorder, Setup, Stage,
        calls::{name_of, unseen_clone_record},
        process::{CAPTURE_BYTES_MAX, exit_record, process_record},
        snapshot,
        told::ToldName,
        wanted::Wanted,
    },
    event::{CaptureBuffer, PROCESS_OUTSIDER},
    limits,
    ring::ProducerMemory,
    sys::{
        Pid, Tid, cpu,
        inject::{self, Filtered, Guest, Lost, NotHere},
        procfs,
        ptrace::{self, PtraceError, Resume, StopKind, Stopped, Waited},
    },
};

/// Calls that fail with EINTR whenever they are interrupted, even if no handler has run, in which case nothing of what they
/// were asked for has been done: the kernel begins them again only if it is told so.
const FAIL_IF_INTERRUPTED: [&str; 24] = [
    "accept",
    "accept4",
    "connect",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "io_getevents",
    "io_pgetevents",
    "io_uring_enter",
    "pread64",
    "pwrite64",
    "read",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "rt_sigtimedwait",
    "semop",
    "semtimedop",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "write",
    "writev",
];

/// What is known of the processes that were attached to.
#[derive(Debug)]
pub(super) struct Attachment {
    target: Target,
    /// Threads of which the first stop is awaited.
    awaited: HashSet<Tid>,
    /// Nobody can have been missed: each thread has had its first stop, and a look after that found no other.
    is_complete: bool,
    /// The processes whose threads are looked for.
    looked_at: Vec<Pid>,
    /// Those that could not be attached to.
    left_out: HashSet<Pid>,
    /// Those on which the filter is, and how many filters they have.
    filtered: HashMap<Pid, Option<u32>>,
    /// Those on which it cannot be.
    unfiltered: HashSet<Pid>,
    filter: Vec<libc::sock_filter>,
    /// Everybody was detached from.
    is_let_go: bool,
}

impl Attachment {
    /// Whether each call of this process stops.
    pub(super) fn stops_at_every_call(&self, pid: Pid) -> bool {
        !self.filtered.contains_key(&pid)
    }

    /// `creator` has made the process `child`, which has not run yet. It has the filter too, unless its creator was just
    /// making it as the filter was put on.
    pub(super) fn born(&mut self, creator: Pid, child: Pid) {
        let Some(&filters) = self.filtered.get(&creator) else { return };
        if filters.is_none() || procfs::filter_count(child.leader()) >= filters {
            self.filtered.insert(child, filters);
        }
    }

    /// A process has ended.
    fn forget(&mut self, pid: Pid) {
        self.filtered.remove(&pid);
        self.unfiltered.remove(&pid);
    }

    /// Whether the filter is to be put on this process, and may be now.
    fn wants_filter(&self, pid: Pid) -> bool {
        self.target.with_filter
            && self.is_complete
            && !self.filtered.contains_key(&pid)
            && !self.unfiltered.contains(&pid)
    }

    fn note(&self, note: Note) {
        // If nobody takes them, they are of no interest.
        let _ = self.target.notes.try_send(note);
    }
}

impl PtraceEngine {
    /// Attaches to a process that runs. It goes on running until [`super::Engine::run`].
    ///
    /// # Errors
    /// [`LaunchError`]; whatever was attached to is let go when the calling thread ends.
    pub fn attach(target: Target, wanted: Wanted, setup: Setup) -> Result<Self, LaunchError> {
        let program = wanted.filter().map_err(LaunchError::Filter)?;
        let root = target.pid;
        let birth = check(root)?;
        target.release.hear().map_err(|error| AttachError::Signal(Arc::new(error)))?;
        let mut attachment = Attachment {
            awaited: HashSet::new(),
            is_complete: false,
            looked_at: vec![root],
            left_out: HashSet::new(),
            filtered: HashMap::new(),
            unfiltered: HashSet::new(),
            filter: program.instructions().to_vec(),
            is_let_go: false,
            target,
        };
        let mut tracees = Tracees::new(setup.population, Substitute::Off);
        seize_leader(root)?;
        if procfs::birth(root.leader()).is_none_or(|now| now.start_ticks != birth) {
            // Its number is another's by now.
            return Err(AttachError::Ended(root).into());
        }
        let mut threads = vec![(root.leader(), root)];
        tracees.introduce(root.leader(), root);
        for _ in 0..limits::ATTACH_LOOKS_MAX {
            let new = attachment.seize_new(&mut tracees);
            if new.is_empty() {
                break;
            }
            threads.extend(new);
        }
        attachment.awaited.extend(threads.iter().map(|(tid, _)| *tid));
        Ok(Self::new(root, None, Some(attachment), wanted, tracees))
    }

    /// Tells the readers of what is there, and interrupts it, so that it is followed from now on.
    pub(super) fn begin_attached<M: ProducerMemory>(&mut self, recorder: &mut Recorder<M>) {
        let Some(attachment) = &self.attachment else { return };
        let threads: Vec<_> = attachment.awaited.iter().copied().collect();
        self.introduce_found(&threads, recorder);
        for tid in threads {
            self.interrupt_first(tid);
        }
    }

    /// A thread whose end will be reported has no first stop.
    fn interrupt_first(&mut self, tid: Tid) {
        if ptrace::interrupt(tid).is_err()
            && let Some(attachment) = &mut self.attachment
        {
            attachment.awaited.remove(&tid);
        }
    }

    /// Writes records of processes, parents first, and of their other threads.
    fn introduce_found<M: ProducerMemory>(&mut self, threads: &[Tid], recorder: &mut Recorder<M>) {
        let pids: HashSet<_> = threads.iter().map(|&tid| self.tracees.pid(tid)).collect();
        let is_followed = |pid: Pid| self.tracees.phase(pid.leader()).is_some();
        let (outsiders, order) = snapshot::lineage(pids.into_iter(), is_followed);
        let mut captures = CaptureBuffer::with_capacity(CAPTURE_BYTES_MAX);
        for pid in outsiders {
            if let Some(header) = process_record(pid, PROCESS_OUTSIDER, &mut captures) {
                recorder.record(&header, &captures);
            }
        }
        for pid in order {
            let Some(header) = process_record(pid, 0, &mut captures) else { continue };
            let epoch = recorder.epoch();
            let was_told = recorder.record(&header, &captures);
            let hits = self.wanted.name_hits_in(&captures).filter(|_| was_told);
            let name = hits.map(|hits| ToldName { hits, epoch });
            for &tid in threads {
                if self.tracees.pid(tid) != pid {
                    continue;
                }
                if tid != pid.leader() {
                    recorder.record_bare(&unseen_clone_record(pid, (tid, pid)));
                }
                self.tracees.set_name(tid, name);
            }
        }
    }

    /// Sees to what has to be done at stops because of the attachment; gives what is left to serve.
    pub(super) fn attend<M: ProducerMemory>(
        &mut self,
        stop: Stopped,
        kind: StopKind,
        recorder: &mut Recorder<M>,
    ) -> Option<Waited> {
        let Some(attachment) = &mut self.attachment else { return Some(Waited::Stopped(stop, kind)) };
        let tid = stop.tid();
        let is_first = match kind {
            StopKind::Trap | StopKind::Group(_) => attachment.awaited.remove(&tid),
            StopKind::Exec => {
                if let Ok(former) = stop.event_message() {
                    attachment.awaited.remove(&former);
                }
                attachment.awaited.remove(&tid) || attachment.target.with_filter
            }
            _ => {
                // Any stop does for the kernel (`ptrace_stop`, "any trap clears pending STOP trap"), but not for us.
                if attachment.awaited.contains(&tid) {
                    let _ = ptrace::interrupt(tid);
                }
                false
            }
        };
        if is_first {
            if kind == StopKind::Trap {
                undo_interruption(&stop);
            }
            if attachment.target.with_filter {
                // A thread that is gone needs nothing.
                let _ = stop.die_with_us();
            }
        }
        self.look_again(recorder);
        let pid = self.tracees.pid(tid);
        let is_known = self.tracees.phase(tid).is_some();
        let attachment = self.attachment.as_ref()?;
        if attachment.stops_at_every_call(pid) {
            stop.keep_its_calls();
        }
        if !is_known || !attachment.wants_filter(pid) {
            return Some(Waited::Stopped(stop, kind));
        }
        match kind {
            StopKind::Trap | StopKind::Group(_) => self.put_filter(stop, kind, pid),
            StopKind::SyscallExit => {
                // It has just come out of a call: that is the place, once it has been interrupted.
                if stop.call_at_entry() == Ok(None) {
                    let _ = ptrace::interrupt(tid);
                }
                Some(Waited::Stopped(stop, kind))
            }
            _ => Some(Waited::Stopped(stop, kind)),
        }
    }

    /// A thread that was attached to has ended.
    pub(super) fn attended_end<M: ProducerMemory>(&mut self, tid: Tid, recorder: &mut Recorder<M>) {
        let Some(attachment) = &mut self.attachment else { return };
        attachment.awaited.remove(&tid);
        if self.tracees.phase(tid).is_none() {
            attachment.forget(Pid(tid.0));
        }
        self.look_again(recorder);
    }

    /// Looks for threads that were missed, once all that are known have had their first stop.
    fn look_again<M: ProducerMemory>(&mut self, recorder: &mut Recorder<M>) {
        let Some(attachment) = &mut self.attachment else { return };
        if attachment.is_complete || !attachment.awaited.is_empty() {
            return;
        }
        let new: Vec<_> = attachment.seize_new(&mut self.tracees).into_iter().map(|(tid, _)| tid).collect();
        if new.is_empty() {
            attachment.is_complete = true;
            let (processes, threads) = self.tracees.counts();
            attachment.note(Note::Attached { processes, threads });
        }
        attachment.awaited.extend(&new);
        self.introduce_found(&new, recorder);
        for tid in new {
            self.interrupt_first(tid);
        }
    }

    /// Has a thread that stands still put the filter on its process; gives what is left to serve.
    fn put_filter(&mut self, stop: Stopped, kind: StopKind, pid: Pid) -> Option<Waited> {
        let attachment = self.attachment.as_mut()?;
        let tid = stop.tid();
        if has_filters_of_its_own(tid) {
            attachment.refuse_filter(pid, Unfiltered::HasFilters);
            return Some(Waited::Stopped(stop, kind));
        }
        if !attachment.target.release.bind() {
            return Some(Waited::Stopped(stop, kind));
        }
        let before = procfs::filter_count(tid);
        let guest = match Guest::begin(stop) {
            Ok(guest) => guest,
            Err((stop, why)) => {
                match why {
                    Ok(NotHere::Foreign) => attachment.refuse_filter(pid, Unfiltered::Foreign),
                    // At another stop.
                    Ok(NotHere::NoCall) | Err(_) => attachment.unbind(),
                }
                return Some(Waited::Stopped(stop, kind));
            }
        };
        let done = guest.put_filter(&attachment.filter);
        match done.and_then(|(guest, filtered)| Ok((guest.end()?, filtered))) {
            Ok(((stop, kind), filtered)) => {
                attachment.note_filtered(pid, tid, filtered);
                Some(Waited::Stopped(stop, kind))
            }
            Err(lost) => {
                // Another thread shows what has become of it.
                if procfs::filter_count(pid.leader()) > before {
                    attachment.note_filtered(pid, pid.leader(), Filtered::Yes { no_new_privs: false });
                } else {
                    attachment.unbind();
                }
                match lost {
                    Lost::Waited(waited) => Some(waited),
                    // Its end will be reported.
                    Lost::Request(PtraceError::Gone { .. }) => None,
                    Lost::Request(error) => {
                        attachment.refuse_filter(pid, Unfiltered::Request(error));
                        None
                    }
                    Lost::Wait(_) => {
                        attachment.refuse_filter(pid, Unfiltered::Disturbed);
                        None
                    }
                }
            }
        }
    }

    /// Whether somebody has asked to detach, and that is possible.
    pub(super) fn is_let_go(&self) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.target.release.is_granted())
    }

    /// Detaches from every thread, which goes on as if nobody had been there.
    pub(super) fn detach<M: ProducerMemory>(
        &mut self,
        recorder: &mut Recorder<M>,
    ) -> Result<(), EngineError> {
        let mut detached = 0;
        if let Some(pack) = &self.pack {
            // What they make when they are let go would inherit their CPU, and nobody would see it.
            pack.part();
        }
        for tid in self.tracees.tids() {
            // The end of one that is gone is still to be reported.
            let _ = ptrace::interrupt(tid);
        }
        for held in self.tracees.take_held() {
            if let Some(pack) = &self.pack {
                pack.introduced(None, held.stop.tid());
            }
            detached += usize::from(let_go(held.stop, held.kind));
        }
        loop {
            match ptrace::wait_or_signal().map_err(EngineError::Wait)? {
                Some(Waited::NoTracees) => break,
                Some(Waited::Ended(tid, status)) => self.end(tid, status, recorder),
                Some(Waited::Stopped(stop, kind)) => {
                    recorder.begin_stop(Instant::now());
                    detached += usize::from(self.detach_from(stop, kind, recorder));
                }
                None => {}
            }
        }
        if let Some(attachment) = &mut self.attachment {
            attachment.is_let_go = true;
            attachment.note(Note::Detached(detached));
        }
        Ok(())
    }

    /// Lets a thread go, or go on to where that can be done; tells whether it was let go.
    fn detach_from<M: ProducerMemory>(
        &mut self,
        stop: Stopped,
        kind: StopKind,
        recorder: &mut Recorder<M>,
    ) -> bool {
        let (tid, now) = (stop.tid(), Instant::now());
        if !matches!(kind, StopKind::Trap | StopKind::Group(_) | StopKind::Signal(_)) {
            // This stop has come in the place of the one that was asked for. A thread that is gone needs nothing.
            let _ = ptrace::interrupt(tid);
        }
        let went_on = match kind {
            StopKind::Trap | StopKind::Group(_) | StopKind::Signal(_) => {
                if kind == StopKind::Trap {
                    undo_interruption(&stop);
                }
                self.close_in_flight(tid, recorder);
                if let Some(pack) = self.pack.as_ref().filter(|_| self.tracees.phase(tid).is_none()) {
                    pack.introduced(None, tid);
                }
                return let_go(stop, kind);
            }
            StopKind::Created => self.introduce(stop, Resume::Free, now, recorder),
            StopKind::Exec => self.program(stop, now, recorder),
            StopKind::SyscallExit => match stop.call_at_entry() {
                Ok(None) if !is_cut_short(&stop) => self.finish(stop, now, recorder),
                Ok(None) => {
                    self.close_in_flight(tid, recorder);
                    stop.resume(Resume::Free, 0)
                }
                Ok(Some(_)) | Err(_) => stop.resume(Resume::Free, 0),
            },
            StopKind::Seccomp => self.resume(stop, (Resume::Free, 0), Stage::Life, now),
        };
        if matches!(went_on, Err(PtraceError::Gone { .. } | PtraceError::Stale { .. })) {
            self.counters.tracees_gone += 1;
        }
        false
    }

    /// Records a call that goes on, but of which nobody will see the result.
    fn close_in_flight<M: ProducerMemory>(&mut self, tid: Tid, recorder: &mut Recorder<M>) {
        if let (pid, Some(pending)) = self.tracees.leave(tid) {
            if pending.is_told {
                self.tracees.give_back(pending.captures);
            } else {
                self.close_unreturned(tid, pid, pending, recorder);
            }
        }
    }

    /// What is left to tell when no thread is left.
    pub(super) fn end_attached<M: ProducerMemory>(&mut self, recorder: &mut Recorder<M>) {
        let Some(attachment) = &self.attachment else { return };
        attachment.target.release.over();
        if attachment.is_let_go {
            return;
        }
        // The first thread of a process that had ended before was never attached to.
        for tid in self.tracees.tids() {
            let pid = self.tracees.pid(tid);
            self.tracees.remove(tid, 0);
            recorder.record_bare(&exit_record(tid, pid, None));
        }
    }
}

impl Attachment {
    /// Attaches to each thread that is not attached to; gives those that were new.
    fn seize_new(&mut self, tracees: &mut Tracees) -> Vec<(Tid, Pid)> {
        let mut new = Vec::new();
        if self.target.with_children {
            for pid in procfs::descendants(self.target.pid) {
                let is_known = self.looked_at.contains(&pid) || self.left_out.contains(&pid);
                if is_known
                    || tracees.phase(pid.leader()).is_some()
                    || self.looked_at.len() >= limits::ATTACHED_PROCESSES_MAX
                {
                    continue;
                }
                match seize_leader(pid) {
                    Ok(()) => {
                        self.looked_at.push(pid);
                        tracees.introduce(pid.leader(), pid);
                        new.push((pid.leader(), pid));
                    }
                    // The kernel has attached us to it, and its creator will tell.
                    Err(_) if is_ours(pid.leader()) => {}
                    Err(AttachError::Ended(_)) => {}
                    Err(error) => {
                        self.left_out.insert(pid);
                        self.note(Note::LeftOut(error));
                    }
                }
            }
        }
        for &pid in &self.looked_at {
            for tid in procfs::threads(pid) {
                if tracees.phase(tid).is_some() {
                    continue;
                }
                match ptrace::seize_to_let_go(tid) {
                    Ok(()) => {
                        tracees.introduce(tid, pid);
                        new.push((tid, pid));
                    }
                    // It has ended, or the kernel has attached us to it: then its creator will tell.
                    Err(_) => {
                        if let Some(error) = traced(tid, pid)
                            && self.left_out.insert(Pid(tid.0))
                        {
                            self.note(Note::LeftOut(error));
                        }
                    }
                }
            }
        }
        new
    }

    fn refuse_filter(&mut self, pid: Pid, why: Unfiltered) {
        self.unfiltered.insert(pid);
        self.note(Note::Unfiltered(pid, why));
        self.unbind();
    }

    /// Detaching is possible as long as no process has the filter.
    fn unbind(&self) {
        if self.filtered.is_empty() {
            self.target.release.unbind();
        }
    }

    fn note_filtered(&mut self, pid: Pid, tid: Tid, filtered: Filtered) {
        match filtered {
            Filtered::Yes { no_new_privs } => {
                self.filtered.insert(pid, procfs::filter_count(tid));
                self.note(Note::Filtered { pid, no_new_privs });
            }
            Filtered::Differs(thread) => self.refuse_filter(pid, Unfiltered::Differs(thread)),
            Filtered::Refused(call, errno) => self.refuse_filter(pid, Unfiltered::Refused(call, errno)),
        }
    }
}

/// Detaches from a thread that stands still; tells whether it was there.
fn let_go(stop: Stopped, kind: StopKind) -> bool {
    let signal = if let StopKind::Signal(signal) = kind { signal } else { 0 };
    stop.detach(signal).is_ok()
}

/// Whether the calling thread traces this thread.
fn is_ours(tid: Tid) -> bool {
    procfs::status_number(tid, "TracerPid") == Some(i64::from(cpu::current_thread().0))
}

/// Whether a thread has filters that we have not, or may make next to no calls (seccomp(2), strict mode).
fn has_filters_of_its_own(tid: Tid) -> bool {
    let own = cpu::current_thread();
    let mode = |tid| procfs::status_number(tid, "Seccomp");
    mode(tid) == Some(1) || procfs::filter_count(tid) > procfs::filter_count(own) || (mode(tid) > mode(own))
}

/// Whether the call from which a thread has come out was waiting for something and was interrupted, so that it begins
/// again: signal(7), and linux/errno.h for the results that no program sees.
fn is_cut_short(stop: &Stopped) -> bool {
    /// From `ERESTARTSYS` to `ERESTART_RESTARTBLOCK`, without `ENOIOCTLCMD`.
    const BEGINS_AGAIN: [i64; 4] = [-512, -513, -514, -516];
    let result = stop.last_call().map_or(0, |(_, result)| result);
    BEGINS_AGAIN.contains(&result) || fails_if_interrupted(stop)
}

fn fails_if_interrupted(stop: &Stopped) -> bool {
    let is_failed = stop.last_call().is_ok_and(|(_, result)| result == -i64::from(libc::EINTR));
    // The registers hold no call if the thread was not in one: no name has that number.
    is_failed
        && stop.call_in_registers().is_ok_and(|call| {
            call.abi == Abi::NATIVE && name_of(&call).is_some_and(|name| FAIL_IF_INTERRUPTED.contains(&name))
        })
}

/// Lets a call begin again that has failed because we interrupted it.
fn undo_interruption(stop: &Stopped) {
    if fails_if_interrupted(stop) {
        // A thread that is gone needs nothing.
        let _ = inject::begin_again(stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    #[test]
    fn calls_that_are_begun_again_are_known() {
        for name in FAIL_IF_INTERRUPTED {
            let is_known = abi::number(Abi::NATIVE, name).is_some();
            assert!(is_known || cfg!(not(target_arch = "x86_64")), "{name}");
        }
    }
}
