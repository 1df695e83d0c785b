//! One call, from its entry to its exit: what the engine does at both stops.
//!
//! What is read of it at the entry decides, and the kernel has to use just that: see `substitute.rs` before you let a call go
//! on whose arguments were looked at.

use std::time::Instant;

use super::{
    super::{
        Stage,
        calls::{CLONE_UNTRACED, is_exec, is_fork, is_untraced_clone, name_of, socket_of},
        capture::{Reader, has_copyable},
        direct::Direct,
        recorder::{Recorder, call_header},
        socket::capture_socket,
        truth::{self, Truth},
        wanted::Verdict,
    },
    PtraceEngine,
    machine::Phase,
    substitute::{Need, Replaced, Restore},
    tracees::PendingCall,
};
use crate::{
    abi::Abi,
    event::{RecordFlags, RecordHeader},
    ring::ProducerMemory,
    sys::{
        Pid, RemoteAddr, Tid, clock,
        ptrace::{Call, Detour, Ended, NotBegun, PtraceError, Resume, StopKind, Stopped},
    },
};

impl PtraceEngine {
    /// The filter trapped a call, or every call stops. `next` is where the thread goes on behind it, if it is the filter's stop.
    pub(super) fn enter(
        &mut self,
        stop: Stopped,
        (call, next): (&Call, Option<RemoteAddr>),
        since: Instant,
        epoch: u32,
    ) -> Result<(), PtraceError> {
        let tid = stop.tid();
        let is_ours = self.wanted.is_ours(call);
        if let Some(pack) = &self.pack
            && (is_ours || next.is_none())
        {
            let is_shown = self.wanted.shows_placement(call);
            let is_unasked = is_shown && !self.is_launching && !self.stops_at_every_call(tid);
            if is_unasked && self.wanted.is_affinity_unwanted(call) && pack.answer(&stop, call) {
                Verdict::NumberUnwanted.count(&mut self.counters);
                return self.resume(stop, (Resume::Free, 0), Stage::Dropped, since);
            }
            pack.entered(tid, is_shown);
        }
        // Until the root has become the workload only its exec is the workload's, and that always matters.
        if self.is_launching && !is_exec(call) {
            return self.resume(stop, (Resume::Free, 0), Stage::Dropped, since);
        }
        let space = self.tracees.space(tid);
        if is_ours && self.wanted.puts_filter(call) {
            self.tracees.spaces.note_filter(space);
        }
        let direct = Direct::of(tid, call);
        let call = direct.as_ref().map_or(call, |direct| &direct.call);
        // The kernel reads the block of its arguments again.
        let is_block_changeable =
            direct.is_some_and(|direct| direct.block.is_some()) && self.tracees.spaces.has_racer(space);
        let is_block_unread = direct.is_some_and(|direct| direct.is_unread);
        let is_looked_at = !self.is_launching && has_copyable(call);
        let mut need = if is_looked_at { self.tracees.spaces.need(space) } else { Need::No };
        let mut stop = stop;
        if need != Need::No && call.abi != Abi::NATIVE {
            // A copy would lie where its pointers do not reach.
            need = Need::Refused;
        }
        if need == Need::Detour {
            match self.detour(stop, since) {
                Some(stays) => stop = stays,
                None => return Ok(()),
            }
            need = Need::Refused;
        }
        let is_unfiltered = self.stops_at_every_call(tid);
        let hits = self.tracees.name(tid, epoch).map(|name| name.hits);
        let name = || hits;
        let mut reader = Reader::new(tid, call, &mut self.seen).with_name(&name);
        // What is attached to keeps its registers: creance may leave it at any moment.
        let is_clone3 = is_ours && name_of(call) == Some("clone3");
        let is_untraced = is_ours && self.attachment.is_none() && is_untraced_clone(call, || reader.word(0));
        if is_clone3 {
            self.tracees.note_clone3(tid, reader.clone3_flags());
        }
        let verdict = if self.is_launching {
            Verdict::Kept
        } else if is_unfiltered && !self.wanted.is_audit() {
            self.wanted.judge_unasked(call, &mut reader)
        } else {
            self.wanted.judge(call, &mut reader)
        };
        let is_block_certain = !is_block_changeable && !is_block_unread;
        let verdict = if !is_block_certain { self.wanted.judge_number(call) } else { verdict };
        // Its flags cannot be changed where they lie in memory.
        let is_refused = is_untraced && (call.abi == Abi::I386 || is_clone3);
        let is_recorded = self.wanted.is_recorded(call, verdict) || is_refused;
        let pending = is_recorded.then(|| {
            let mut captures = self.tracees.take_buffer();
            let mut flags = reader.capture(&mut captures);
            if is_block_unread {
                flags = flags.with(RecordFlags::MEMORY_UNREADABLE);
            }
            let is_relevant = verdict == Verdict::Kept || is_refused;
            let flags = if is_relevant { flags } else { flags.with(RecordFlags::IRRELEVANT) };
            let enter_ns = clock::wall_ns_at(since);
            PendingCall { call: *call, enter_ns, flags, is_told: false, is_compared: false, captures }
        });
        self.counters.reads_failed += reader.unread();
        verdict.count(&mut self.counters);
        if is_refused {
            // A library that gets this answer does without the call.
            stop.answer_call(i64::from(-libc::ENOSYS))?;
            need = Need::No;
        }
        let replaced = match need {
            Need::Ready => {
                // What is made begins where its creator is, and must begin at a place of the program's own.
                let is_sent_back = !is_recorded && !is_unfiltered && !is_fork(call) && !is_exec(call);
                let next = next.filter(|_| is_sent_back);
                self.tracees.spaces.replace(space, &stop, (call.arguments, next), reader.copied())?
            }
            Need::Refused if reader.copied().next().is_some() => Replaced::Refused,
            _ => Replaced::Nothing,
        };
        let is_changeable = is_block_changeable || matches!(replaced, Replaced::Refused);
        self.counters.calls_changeable += u64::from(is_changeable);
        if let Replaced::Done(restore) = replaced {
            self.counters.calls_replaced += 1;
            self.tracees.set_restore(tid, restore);
        } else if let Replaced::SentBack(on_way) = replaced {
            self.counters.calls_replaced += 1;
            self.counters.calls_sent_back += 1;
            self.tracees.set_on_way(tid, on_way);
        } else if is_untraced && !is_refused {
            let [flags, ..] = call.arguments;
            stop.set_argument(0, flags & !CLONE_UNTRACED)?;
            self.tracees.set_restore(tid, Restore::of(0, flags));
        }
        let stage = if is_recorded { Stage::Kept } else { Stage::Dropped };
        if let Some(mut pending) = pending {
            if is_changeable {
                pending.flags = pending.flags.with(RecordFlags::CHANGEABLE);
            }
            let is_unguarded = is_changeable || self.tracees.spaces.is_unguarded(space);
            pending.is_compared = is_unguarded && truth::is_comparable(call);
            self.tracees.enter(tid, pending);
        }
        let is_inside = self.tracees.phase(tid) == Some(Phase::Inside);
        let how = if is_inside { Resume::ToExit } else { Resume::Free };
        self.resume(stop, (how, 0), stage, since)
    }

    /// Sends a thread for memory that copies of its arguments can be put in: it then makes its call anew. Gives the stop
    /// back if that cannot be.
    fn detour(&mut self, stop: Stopped, since: Instant) -> Option<Stopped> {
        let tid = stop.tid();
        let (space, pid) = (self.tracees.space(tid), self.tracees.pid(tid));
        let begun =
            if self.tracees.spaces.may_detour(tid) { Detour::begin(stop) } else { Err(NotBegun(stop)) };
        match begun {
            Ok(mut detour) => {
                self.tracees.spaces.map(space, pid, &mut detour);
                let onward = if self.stops_at_every_call(tid) { Resume::ToExit } else { Resume::Free };
                match detour.end(onward) {
                    Ended::Back => {}
                    Ended::Lost(waited) => self.unserved.push(waited),
                    Ended::Late(late) => drop(self.late.insert(tid, late)),
                }
                self.holds.note(Stage::Life, since);
                None
            }
            Err(NotBegun(stop)) => {
                self.tracees.spaces.refuse(space);
                Some(stop)
            }
        }
    }

    /// A thread stops that has not come back from its detour in time. Gives the stop back if it says more than that.
    pub(super) fn bring_back(&mut self, stop: Stopped, kind: StopKind) -> Option<Stopped> {
        let tid = stop.tid();
        let Some(late) = self.late.remove(&tid) else { return Some(stop) };
        if kind == StopKind::Exec {
            // It is another thread, which has taken its id.
            return Some(stop);
        }
        let how = if late.set_back(&stop, kind) {
            if self.stops_at_every_call(tid) { Resume::ToExit } else { Resume::Free }
        } else {
            self.late.insert(tid, late);
            Resume::ToExit
        };
        if !matches!(kind, StopKind::Seccomp | StopKind::SyscallExit) {
            return Some(stop);
        }
        // If it is gone, its end will be reported.
        let _ = stop.resume(how, 0);
        None
    }

    /// A thread stops that was sent back from a call on its own: from here on it has what is its own, and has left. Gives the
    /// stop back, unless the thread has stopped for that way back only.
    pub(super) fn leave_way(&mut self, stop: Stopped, kind: StopKind) -> Option<Stopped> {
        let Some(on_way) = self.tracees.take_on_way(stop.tid()) else { return Some(stop) };
        if matches!(kind, StopKind::Seccomp | StopKind::Exec) {
            // No call is made from there, and a new program is somewhere else.
            return Some(stop);
        }
        // If it is gone, its end will be reported.
        let was_there = stop.leave(on_way.way()).is_ok_and(|was_there| was_there);
        if was_there && matches!(kind, StopKind::Signal(_)) && stop.has_stumbled(on_way.way()) {
            // Single steps trap where nothing is wrong.
            self.tracees.spaces.stumbled(&on_way, kind == StopKind::Signal(libc::SIGTRAP));
            let _ = stop.resume(Resume::Free, 0);
            return None;
        }
        Some(stop)
    }

    /// A call has returned.
    pub(super) fn finish<M: ProducerMemory>(
        &mut self,
        stop: Stopped,
        since: Instant,
        recorder: &mut Recorder<M>,
    ) -> Result<(), PtraceError> {
        let tid = stop.tid();
        // If the thread is gone, its pending call is closed at its end.
        let result = stop.call_result()?;
        if let Some(restore) = self.tracees.take_restore(tid) {
            restore.apply(&stop)?;
        }
        let (pid, Some(mut pending)) = self.tracees.leave(tid) else {
            return self.resume(stop, (Resume::Free, 0), Stage::Kept, since);
        };
        if pending.is_told {
            self.tracees.give_back(pending.captures);
            return self.resume(stop, (Resume::Free, 0), Stage::Kept, since);
        }
        if let Some(fd) = socket_of(&pending.call, result) {
            pending.flags = pending.flags.with(capture_socket(tid, pid, fd, &mut pending.captures));
        }
        if pending.is_compared {
            self.compare(tid, pid, &mut pending, result);
        }
        self.tell(pid, recorder);
        let header = RecordHeader { exit_ns: clock::wall_ns(), result, ..pending.header(tid, pid) };
        let resumed = self.resume(stop, (Resume::Free, 0), Stage::Kept, since);
        recorder.record(&header, &pending.captures);
        self.tracees.give_back(pending.captures);
        resumed
    }

    /// Compares what a call has used with what was read, while its thread stands still; its record shows what it used.
    fn compare(&mut self, tid: Tid, pid: Pid, pending: &mut PendingCall, result: i64) {
        self.counters.calls_compared += 1;
        match truth::compare((tid, pid), &pending.call, pending.enter_ns, result, &pending.captures) {
            Truth::AsRead | Truth::Unknown => {}
            Truth::Unclear(_) => pending.flags = pending.flags.with(RecordFlags::CHANGEABLE),
            Truth::Other(used) => {
                self.counters.calls_mismatched += 1;
                pending.flags = pending.flags.with(RecordFlags::MISMATCH);
                self.tracees.give_back(std::mem::replace(&mut pending.captures, used));
            }
        }
    }

    /// Records a call that never returned.
    pub(super) fn close_unreturned<M: ProducerMemory>(
        &mut self,
        tid: Tid,
        pid: Pid,
        pending: PendingCall,
        recorder: &mut Recorder<M>,
    ) {
        let mut record = RecordHeader { exit_ns: clock::wall_ns(), ..pending.header(tid, pid) };
        record.flags |= RecordFlags::NO_RESULT.0;
        recorder.record(&record, &pending.captures);
        self.tracees.give_back(pending.captures);
    }
}

impl PendingCall {
    /// The header of the call's record, with what is known at its entry.
    pub(super) fn header(&self, tid: Tid, pid: Pid) -> RecordHeader {
        call_header(self.enter_ns, &self.call, (tid, pid), self.flags)
    }
}
