//! Which processes a reader of the ring has been told of, and how it is told again after a loss or by another reader.
//!
//! A reader must know a process before a record about it. It learns it by a clone or an exec, but records may be lost,
//! and a reader that takes another's place has not read what came before. The recorder's epoch changes with each such
//! event, and a process that was not told of in the current epoch is told of by a [`RecordKind::Process`](crate::event::RecordKind::Process) first. While
//! the epoch is 0 nothing here is touched: the only cost of a record is that comparison. Read `recorder.rs` first: all of
//! this rests on nothing being written between a loss and [`Recorder::recover`], which is called here alone.
//!
//! ```text
//! before a record about P:
//!   announce the loss, if one goes on; no room: the record will be lost as well
//!   write the ends that were lost, so that no number has two owners
//!   write the programs whose start was lost, each with its untold ancestors first
//!   write P's untold ancestors, eldest first, and P
//! ```
//!
//! What remains: `/proc` shows a process as it is now. Of the thread whose stop is being served that is the moment of the
//! record, but other threads and ancestors run on, so that theirs may be told as they are a little later, and a program
//! that they start meanwhile be named by its ancestor's record just before its own exec record comes.

use std::collections::HashMap;

use super::{process::process_record, recorder::Recorder};
use crate::{
    event::{CaptureBuffer, PROCESS_CLONE_LOST, PROCESS_EXEC_LOST, RecordHeader},
    limits,
    ring::ProducerMemory,
    sys::{Pid, procfs},
    triage::NameHits,
};

/// Where what is told of processes comes from: `/proc`, unless it says otherwise.
pub(crate) trait ProcessSource {
    /// Whether we follow it.
    fn is_tracee(&self, pid: Pid) -> bool;

    /// Its parent; `None` if it is gone.
    fn parent(&self, pid: Pid) -> Option<Pid> {
        procfs::relations(pid.leader()).ok().map(|relations| relations.parent)
    }

    /// Fills the captures of a [`RecordKind::Process`](crate::event::RecordKind::Process) and gives its header; `None` if
    /// it is gone.
    fn record(&self, pid: Pid, bits: u64, captures: &mut CaptureBuffer) -> Option<RecordHeader> {
        process_record(pid, bits, captures)
    }
}

/// What the reader knows of one process.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The last epoch in which it was told of.
    epoch: u32,
    /// It was told of at least once.
    was_told: bool,
    /// The start of the program that it runs was lost.
    is_exec_lost: bool,
}

impl State {
    /// That of a process which was there before the first epoch ended.
    const EARLY: Self = Self { epoch: 0, was_told: true, is_exec_lost: false };
}

/// The name by which readers of the ring know a program: they were told it by the record of its exec, and by none since.
/// What a program calls itself later (prctl(2), `PR_SET_NAME`) nobody tells them, unless they have to be told of the
/// process again: in another epoch ([`Recorder::epoch`]) the name is not certain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToldName {
    pub(crate) hits: NameHits,
    pub(crate) epoch: u32,
}

/// Which processes have been told of.
#[derive(Debug)]
pub(crate) struct Told {
    /// Empty during epoch 0. A process without an entry is [`State::EARLY`]. Bounded by the kernel's own bound on
    /// process ids, `PID_MAX_LIMIT` (proc(5)).
    states: HashMap<Pid, State>,
    lost_exits: Vec<RecordHeader>,
    lost_execs: Vec<Pid>,
    /// Where the record of a process is put together.
    captures: CaptureBuffer,
    /// Those to be told of, the youngest first.
    lineage: Vec<Pid>,
}

impl Told {
    /// A table for captures of at most `captures_bytes`.
    pub(crate) fn new(captures_bytes: usize) -> Self {
        Self {
            states: HashMap::with_capacity(limits::TRACEES_RESERVED),
            lost_exits: Vec::with_capacity(limits::LOST_EXITS_MAX),
            lost_execs: Vec::with_capacity(limits::LOST_EXECS_MAX),
            captures: CaptureBuffer::with_capacity(captures_bytes),
            lineage: Vec::with_capacity(limits::LINEAGE_MAX),
        }
    }

    /// Sees to it that the reader knows a process before a record about it.
    pub(crate) fn tell<M: ProducerMemory>(
        &mut self,
        pid: Pid,
        source: &impl ProcessSource,
        recorder: &mut Recorder<M>,
    ) {
        if recorder.epoch() != 0 {
            self.tell_again(pid, source, recorder);
        }
    }

    /// As [`Self::tell`] for the record of an exec, which tells of its process itself: only its ancestors are told of.
    pub(crate) fn tell_parents<M: ProducerMemory>(
        &mut self,
        pid: Pid,
        source: &impl ProcessSource,
        recorder: &mut Recorder<M>,
    ) {
        if recorder.epoch() == 0 {
            return;
        }
        match source.parent(pid) {
            Some(parent) if source.is_tracee(parent) => self.tell_again(parent, source, recorder),
            _ => {
                self.recover(source, recorder);
            }
        }
    }

    #[cold]
    fn tell_again<M: ProducerMemory>(
        &mut self,
        pid: Pid,
        source: &impl ProcessSource,
        recorder: &mut Recorder<M>,
    ) {
        if self.recover(source, recorder) {
            self.tell_lineage(pid, source, recorder);
        }
    }

    /// Writes the record of a clone by which `creator` made the process `child`; tells whether there was room.
    pub(crate) fn record_clone<M: ProducerMemory>(
        &mut self,
        (creator, child): (Pid, Pid),
        clone: &RecordHeader,
        recorder: &mut Recorder<M>,
    ) -> bool {
        let epoch = recorder.epoch();
        let was_told = recorder.record_bare(clone);
        if epoch == 0 && was_told {
            return true;
        }
        // A child is known by what is known of its creator.
        let is_known = was_told && self.state(creator).epoch == epoch;
        let epoch = if is_known { epoch } else { State::EARLY.epoch };
        self.states.insert(child, State { epoch, was_told, is_exec_lost: false });
        was_told
    }

    /// Writes the record of an exec by which `pid` runs another program; gives the epoch that it is told in, `None` if there
    /// was no room.
    pub(crate) fn record_exec<M: ProducerMemory>(
        &mut self,
        pid: Pid,
        (exec, captures): (&RecordHeader, &CaptureBuffer),
        recorder: &mut Recorder<M>,
    ) -> Option<u32> {
        // Before the record, here and below: a consumer that departs meanwhile may have been the one that read it.
        let epoch = recorder.epoch();
        if !recorder.record(exec, captures) {
            self.states.insert(pid, State { is_exec_lost: true, ..self.state(pid) });
            if self.lost_execs.len() < limits::LOST_EXECS_MAX && !self.lost_execs.contains(&pid) {
                self.lost_execs.push(pid);
            }
            return None;
        }
        if epoch != 0 {
            self.states.insert(pid, State { epoch, was_told: true, is_exec_lost: false });
        }
        Some(epoch)
    }

    /// Writes the record of the end of a thread of `pid`, or keeps it until there is room.
    pub(crate) fn record_exit<M: ProducerMemory>(
        &mut self,
        pid: Pid,
        exit: &RecordHeader,
        source: &impl ProcessSource,
        recorder: &mut Recorder<M>,
    ) {
        let epoch = recorder.epoch();
        // Of a process that has ended `/proc` tells nothing, so that it is not told of again.
        if epoch != 0 {
            self.recover(source, recorder);
        }
        let is_written = recorder.record_bare(exit);
        if epoch == 0 && is_written {
            return;
        }
        let is_process = exit.tid == exit.pid;
        let state = self.state(pid);
        if is_process {
            self.states.remove(&pid);
            self.lost_execs.retain(|&lost| lost != pid);
        }
        // Whoever has not heard of a process need not hear of its end; a consumer that is there may have heard of it beside
        // the ring. Half of the room is for processes alone: a thread ends with its process at the latest.
        let room = if is_process { limits::LOST_EXITS_MAX } else { limits::LOST_EXITS_MAX / 2 };
        let may_be_known = state.was_told || recorder.has_consumer();
        if !is_written && may_be_known && self.lost_exits.len() < room {
            self.lost_exits.push(*exit);
        }
    }

    /// Tells what is still to be told when the workload is over, of which the recorder knows by
    /// [`Recorder::begin_end`].
    pub(crate) fn finish<M: ProducerMemory>(&mut self, recorder: &mut Recorder<M>) {
        if recorder.epoch() != 0 && recorder.recover() {
            self.write_lost_exits(recorder);
        }
    }

    fn state(&self, pid: Pid) -> State {
        self.states.get(&pid).copied().unwrap_or(State::EARLY)
    }

    /// Ends a loss, if there is one and there is room, and tells what was lost and must not wait; tells whether records
    /// can be written.
    fn recover<M: ProducerMemory>(
        &mut self,
        source: &impl ProcessSource,
        recorder: &mut Recorder<M>,
    ) -> bool {
        if !recorder.recover() || !self.write_lost_exits(recorder) {
            return false;
        }
        while let Some(pid) = self.lost_execs.pop() {
            if self.state(pid).is_exec_lost && !self.tell_lineage(pid, source, recorder) {
                self.lost_execs.push(pid);
                return false;
            }
        }
        true
    }

    fn write_lost_exits<M: ProducerMemory>(&mut self, recorder: &mut Recorder<M>) -> bool {
        let written = self.lost_exits.iter().take_while(|exit| recorder.record_bare(exit)).count();
        self.lost_exits.drain(..written);
        self.lost_exits.is_empty()
    }

    /// Writes the records of a process and its ancestors that were not told of in this epoch, eldest first; tells whether
    /// there was room.
    fn tell_lineage<M: ProducerMemory>(
        &mut self,
        pid: Pid,
        source: &impl ProcessSource,
        recorder: &mut Recorder<M>,
    ) -> bool {
        let epoch = recorder.epoch();
        self.lineage.clear();
        let mut next = Some(pid);
        while let Some(pid) = next.filter(|_| self.lineage.len() < limits::LINEAGE_MAX)
            && self.state(pid).epoch != epoch
            // Parents that are not read at one moment may form a circle.
            && !self.lineage.contains(&pid)
            && source.is_tracee(pid)
        {
            self.lineage.push(pid);
            next = source.parent(pid);
        }
        while let Some(pid) = self.lineage.pop() {
            if !self.tell_one(pid, source, recorder) {
                return false;
            }
        }
        true
    }

    /// Writes the record of one process; tells whether there was room. A process that is gone, or whose record no ring of
    /// this size takes, stays untold.
    fn tell_one<M: ProducerMemory>(
        &mut self,
        pid: Pid,
        source: &impl ProcessSource,
        recorder: &mut Recorder<M>,
    ) -> bool {
        let state = self.state(pid);
        let bits = if state.is_exec_lost { PROCESS_EXEC_LOST } else { 0 }
            | if state.was_told { 0 } else { PROCESS_CLONE_LOST };
        let Some(header) = source.record(pid, bits, &mut self.captures) else { return true };
        if !recorder.takes(&self.captures) {
            return true;
        }
        let epoch = recorder.epoch();
        let is_written = recorder.record(&header, &self.captures);
        if is_written {
            self.states.insert(pid, State { epoch, was_told: true, is_exec_lost: false });
        }
        is_written
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, mpsc},
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        engine::FullRing,
        event::{CaptureFlags, CaptureKind, Record, RecordKind},
        ring::{Consumer, Heap, Poll, Presence, Producer, RecordBuffer},
    };

    const RING_BYTES: usize = 4096;

    /// Processes and their parents, and how long the text is that each has.
    struct Family(BTreeMap<i32, i32>, usize);

    impl ProcessSource for Family {
        fn is_tracee(&self, pid: Pid) -> bool {
            self.0.contains_key(&pid.0)
        }

        fn parent(&self, pid: Pid) -> Option<Pid> {
            self.0.get(&pid.0).copied().map(Pid)
        }

        fn record(&self, pid: Pid, bits: u64, captures: &mut CaptureBuffer) -> Option<RecordHeader> {
            self.0.get(&pid.0)?;
            captures.clear();
            let text = vec![b'x'; self.1];
            captures.push(CaptureKind::ProcStatus, 0, CaptureFlags::default(), &text).unwrap();
            Some(RecordHeader { arguments: [bits, 0, 0, 0, 0, 0], ..of(RecordKind::Process, pid.0) })
        }
    }

    /// A record that was read: kind, process, and the first argument.
    type Read = (RecordKind, u32, u64);

    struct Line {
        family: Family,
        told: Told,
        recorder: Recorder<Heap>,
        consumer: Consumer<Heap>,
        presence: Arc<Presence>,
    }

    fn of(kind: RecordKind, pid: i32) -> RecordHeader {
        let pid = pid.cast_unsigned();
        RecordHeader { tid: pid, pid, ..RecordHeader::new(kind, 0) }
    }

    impl Line {
        /// Process 2 is a child of 1, and so on up to 5; 1 is a child of 100, which is no tracee.
        fn new() -> Self {
            Self::holding(Duration::ZERO)
        }

        /// The same, where a stop is held for so long.
        fn holding(hold_max: Duration) -> Self {
            let memory = Arc::new(Heap::new(RING_BYTES).unwrap());
            let presence = Arc::new(Presence::new(true));
            let full_ring = FullRing { hold_max, presence: Arc::clone(&presence) };
            let parents = [(1, 100), (2, 1), (3, 2), (4, 3), (5, 4)].into_iter().collect();
            Self {
                family: Family(parents, 8),
                told: Told::new(8192),
                recorder: Recorder::new(Producer::new(Arc::clone(&memory)), 0, full_ring),
                consumer: Consumer::attach(memory).unwrap(),
                presence,
            }
        }

        fn call(&mut self, pid: i32) {
            self.told.tell(Pid(pid), &self.family, &mut self.recorder);
            self.recorder.record_bare(&of(RecordKind::Syscall, pid));
        }

        fn clone(&mut self, pid: i32, child: i32) {
            self.told.tell(Pid(pid), &self.family, &mut self.recorder);
            self.told.record_clone((Pid(pid), Pid(child)), &of(RecordKind::Clone, pid), &mut self.recorder);
            self.family.0.insert(child, pid);
        }

        fn exec(&mut self, pid: i32) {
            self.told.tell_parents(Pid(pid), &self.family, &mut self.recorder);
            let captures = CaptureBuffer::with_capacity(0);
            self.told.record_exec(Pid(pid), (&of(RecordKind::Exec, pid), &captures), &mut self.recorder);
        }

        fn exit(&mut self, pid: i32) {
            self.family.0.remove(&pid);
            let exit = of(RecordKind::Exit, pid);
            self.told.record_exit(Pid(pid), &exit, &self.family, &mut self.recorder);
        }

        /// Fills the ring until a record is lost.
        fn overflow(&mut self) {
            while self.recorder.record_bare(&of(RecordKind::Syscall, 1)) {}
        }

        fn read(&mut self) -> Vec<Read> {
            let mut buffer = RecordBuffer::new();
            let mut read = Vec::new();
            while self.consumer.poll(&mut buffer) == Ok(Poll::Record) {
                let record = Record::parse(&buffer).unwrap();
                let header = record.header();
                read.push((record.kind(), header.pid, header.arguments[0]));
            }
            read
        }

        /// What was written since a loss that ends now, its announcement left out.
        fn read_after_loss(&mut self) -> Vec<Read> {
            let read = self.read();
            assert_eq!(read.first().map(|read| read.0), Some(RecordKind::Loss));
            read[1..].to_vec()
        }
    }

    fn process(pid: u32) -> Read {
        (RecordKind::Process, pid, 0)
    }

    fn call(pid: u32) -> Read {
        (RecordKind::Syscall, pid, 0)
    }

    #[test]
    fn while_nothing_was_lost_nobody_is_told_of_again() {
        let mut line = Line::new();
        line.clone(5, 6);
        line.exec(6);
        line.call(6);
        line.exit(6);
        let kinds: Vec<_> = line.read().into_iter().map(|read| read.0).collect();
        assert_eq!(kinds, [RecordKind::Clone, RecordKind::Exec, RecordKind::Syscall, RecordKind::Exit]);
        assert!(line.told.states.is_empty());
    }

    #[test]
    fn after_a_loss_a_process_is_told_of_once_and_its_ancestors_before_it() {
        let mut line = Line::new();
        line.overflow();
        line.read();
        line.call(3);
        line.call(3);
        line.call(5);
        let expected = [1, 2, 3].map(process).into_iter().chain([call(3), call(3)]);
        let expected: Vec<_> = expected.chain([process(4), process(5), call(5)]).collect();
        assert_eq!(line.read_after_loss(), expected);
    }

    #[test]
    fn another_consumer_is_told_of_every_process_again() {
        let mut line = Line::new();
        line.call(1);
        line.presence.depart();
        line.call(2);
        line.presence.depart();
        line.call(1);
        assert_eq!(
            line.read(),
            [call(1), process(1), process(2), call(2), process(1), call(1)],
            "and nothing was lost"
        );
    }

    #[test]
    fn a_lost_exec_is_told_as_soon_as_there_is_room_whoever_makes_the_next_record() {
        let mut line = Line::new();
        line.overflow();
        line.exec(2);
        line.read();
        line.call(1);
        let lost = (RecordKind::Process, 2, PROCESS_EXEC_LOST);
        assert_eq!(line.read_after_loss(), [process(1), lost, call(1)]);
        line.presence.depart();
        line.call(2);
        assert_eq!(line.read(), [process(1), process(2), call(2)], "an exec is lost once");
    }

    #[test]
    fn an_exec_tells_of_its_process_and_makes_good_for_a_lost_one() {
        let mut line = Line::new();
        line.overflow();
        line.exec(2);
        line.read();
        // Its record would be found to be lost first: so the room comes between.
        line.told.lost_execs.clear();
        line.exec(2);
        line.call(2);
        assert_eq!(line.read_after_loss(), [process(1), (RecordKind::Exec, 2, 0), call(2)]);
    }

    #[test]
    fn a_process_whose_clone_was_lost_is_told_as_a_new_one() {
        let mut line = Line::new();
        line.overflow();
        line.clone(1, 6);
        line.read();
        line.call(6);
        assert_eq!(
            line.read_after_loss(),
            [process(1), (RecordKind::Process, 6, PROCESS_CLONE_LOST), call(6)]
        );
        line.clone(6, 7);
        line.call(7);
        assert_eq!(line.read(), [(RecordKind::Clone, 6, 0), call(7)], "a clone tells of its child");
    }

    #[test]
    fn lost_ends_are_told_before_anything_else_if_anybody_heard_of_the_process() {
        let mut line = Line::new();
        line.overflow();
        line.exit(5);
        line.exit(4);
        line.presence.depart();
        line.clone(1, 6);
        line.exit(6);
        line.clone(1, 5);
        line.read();
        line.call(5);
        let exit = |pid| (RecordKind::Exit, pid, 0);
        let new = (RecordKind::Process, 5, PROCESS_CLONE_LOST);
        assert_eq!(line.read_after_loss(), [exit(5), exit(4), process(1), new, call(5)]);
    }

    #[test]
    fn ends_beyond_the_bound_are_not_kept() {
        let mut line = Line::new();
        line.overflow();
        for pid in 0..i32::try_from(limits::LOST_EXITS_MAX).unwrap() + 10 {
            line.exit(pid + 1000);
        }
        assert_eq!(line.told.lost_exits.len(), limits::LOST_EXITS_MAX);
        assert_eq!(line.told.lost_exits.capacity(), limits::LOST_EXITS_MAX);
    }

    #[test]
    fn a_process_whose_record_fits_no_ring_stays_untold_and_its_calls_are_told() {
        let mut line = Line::new();
        line.presence.depart();
        line.family.1 = RING_BYTES / 2;
        line.call(1);
        assert_eq!(line.read(), [call(1)]);
        line.family.1 = 8;
        line.call(1);
        assert_eq!(line.read(), [process(1), call(1)]);
    }

    #[test]
    fn the_last_ends_are_told_when_the_workload_is_over() {
        let mut line = Line::new();
        line.overflow();
        line.exit(5);
        line.read();
        line.recorder.begin_end(Instant::now());
        line.told.finish(&mut line.recorder);
        assert_eq!(line.read_after_loss(), [(RecordKind::Exit, 5, 0)]);
    }

    #[test]
    fn a_trickling_consumer_holds_a_stop_within_the_bound_however_many_ends_were_lost() {
        const HOLD_MAX: Duration = Duration::from_millis(60);
        const ENDS: i32 = 40;
        let heard_long_ago = || Instant::now().checked_sub(HOLD_MAX).unwrap();
        let mut line = Line::holding(HOLD_MAX);
        line.recorder.begin_stop(heard_long_ago());
        line.overflow();
        (0..ENDS).for_each(|end| line.exit(1000 + end));
        // From here on there is room for one record in each half of the bound.
        let Line { family, told, recorder, consumer, .. } = &mut line;
        let mut buffer = RecordBuffer::new();
        let mut trickled = Vec::new();
        let mut take = || {
            consumer.poll(&mut buffer).unwrap();
            let record = Record::parse(&buffer).unwrap();
            trickled.push((record.kind(), record.header().pid, record.header().arguments[0]));
        };
        take();
        let held = thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            scope.spawn(move || {
                while is_done.recv_timeout(HOLD_MAX / 2) == Err(mpsc::RecvTimeoutError::Timeout) {
                    take();
                }
            });
            let since = Instant::now();
            recorder.begin_stop(since);
            told.tell(Pid(1), family, recorder);
            recorder.record_bare(&of(RecordKind::Syscall, 1));
            drop(done);
            since.elapsed()
        });
        assert!(held < HOLD_MAX * 5, "{held:?}, and each end waited for half of the bound");
        assert!(!line.told.lost_exits.is_empty(), "some are still to be told");
        let mut read = trickled;
        while !line.told.lost_exits.is_empty() {
            read.extend(line.read());
            line.recorder.begin_stop(heard_long_ago());
            line.call(1);
        }
        read.extend(line.read());
        let ends: Vec<_> = read.iter().filter(|read| read.0 == RecordKind::Exit).map(|read| read.1).collect();
        assert_eq!(ends, (1000..1000 + ENDS.cast_unsigned()).collect::<Vec<_>>(), "each once");
    }

    #[test]
    fn ancestors_in_a_circle_are_told_of_once_each() {
        let mut line = Line::new();
        line.family.0.insert(1, 3);
        line.presence.depart();
        line.call(3);
        let told = line.read();
        assert_eq!(told, [process(1), process(2), process(3), call(3)]);
    }
}
