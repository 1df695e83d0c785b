//! What the engine has read of a call's arguments is what the kernel uses: a copy lies in memory that the tracee can only
//! read, and for that call the argument's register points there. So no other thread can show the engine one path and the
//! kernel another.
//!
//! ```text
//! the first trapped call of a process that has a racer   the thread makes a detour (sys/ptrace/detour.rs): it gets a
//!                                                        descriptor of the copies' memory, maps it, and seals the mapping
//! every trapped call that looks at memory                read, judge, copy what was read, set the registers, go on;
//!                                                        at the exit set the registers back
//! ```
//! A dropped call needs no stop at its exit for that: its thread is sent back by code that lies with its copies and gives it its
//! registers (sys/ptrace/way_back.rs). It keeps that place until it stops again or is no more: only then is it known to have
//! left. Stops at exits are left to calls whose results are wanted, to those that make threads and programs, where nothing in
//! the mapping can be executed, where a filter of the workload's may look at where calls come from, and where places run out.
//!
//! A racer is whoever shares the thread's memory and can run: another thread, or a process that was made with CLONE_VM.
//! A thread that is alone needs none of it, and its dropped calls cost one stop. A *space* stands for such memory.
//!
//! Since Linux 6.10 mseal(2) keeps the mapping where it is; before, a workload that looks for it can put its own memory in
//! its place. A workload that has put a filter of its own on itself is not sent on a detour, which that filter might
//! kill it for. Before you edit, think of: a thread that dies at any point, a call that is restarted, a fork, an exec.

use foldhash::{HashMap, HashMapExt};

use super::places::{Places, Values};
use crate::{
    engine::capture::Copied,
    sys::{
        Pid, RemoteAddr, Tid,
        copies::Post,
        procfs,
        ptrace::{CAN_SET_ARGUMENTS, Detour, PtraceError, Stopped, WayBack},
    },
};

/// For which calls arguments are replaced by copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Substitute {
    /// Those of threads that share their memory with others.
    #[default]
    Auto,
    /// All.
    Always,
    /// None.
    Off,
}

/// Memory that threads share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct SpaceId(u64);

#[derive(Debug, Default)]
struct Space {
    threads: usize,
    /// Threads that wait in vfork(2) until their child is gone from here.
    suspended: usize,
    /// It is not known who else shares it.
    is_uncertain: bool,
    /// A filter of the workload's may look at where a call comes from.
    has_filter: bool,
    page: Page,
}

impl Space {
    const fn has_racer(&self) -> bool {
        self.is_uncertain || self.threads > self.suspended + 1
    }
}

/// The mapping of the copies in a space.
#[derive(Debug, Default)]
enum Page {
    #[default]
    Absent,
    There(Box<Places>),
    /// It could not be made: so many times.
    Refused(u32),
}

/// Times that it is tried to make a mapping: the first failure may be for want of a descriptor.
const TRIES_MAX: u32 = 4;

/// Whether arguments of a call are to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nobody can change them.
    No,
    /// They are, and can be.
    Ready,
    /// They are, and the thread has to make a detour first.
    Detour,
    /// They are, but cannot be.
    Refused,
}

/// What came of replacing the arguments of a call.
#[derive(Debug)]
pub(super) enum Replaced {
    /// Nothing was read of it.
    Nothing,
    /// It cannot be, and nothing has been changed.
    Refused,
    /// It has been. This sets the registers back.
    Done(Restore),
    /// It has been, and the thread sets them back by itself.
    SentBack(OnWayBack),
}

/// A thread that was sent back on its own, and may be there still.
#[derive(Debug)]
pub(super) struct OnWayBack {
    way: WayBack,
    place: (SpaceId, u16),
}

impl OnWayBack {
    pub(super) const fn way(&self) -> &WayBack {
        &self.way
    }
}

/// What is to be set back at the exit of a call.
#[derive(Debug)]
pub(super) struct Restore {
    arguments: Values,
    place: Option<(SpaceId, u16)>,
}

impl Restore {
    /// One argument, and the value that it had.
    pub(super) fn of(index: u8, value: u64) -> Self {
        let mut arguments = Values::default();
        arguments.push(index, value);
        Self { arguments, place: None }
    }

    /// All of these, of a call with these arguments.
    fn all(values: &Values, arguments: [u64; 6], place: (SpaceId, u16)) -> Self {
        let mut before = Values::default();
        for (index, _) in values.iter() {
            before.push(index, arguments.get(usize::from(index)).copied().unwrap_or(0));
        }
        Self { arguments: before, place: Some(place) }
    }

    /// What an argument register held before.
    pub(super) fn before(&self, index: u8) -> Option<u64> {
        self.arguments.iter().find_map(|(changed, value)| (changed == index).then_some(value))
    }

    /// Sets the registers back.
    pub(super) fn apply(&self, stop: &Stopped) -> Result<(), PtraceError> {
        self.arguments.set(stop)
    }
}

/// All spaces.
#[derive(Debug)]
pub(super) struct Spaces {
    policy: Substitute,
    spaces: HashMap<SpaceId, Space>,
    newest: u64,
    post: Option<Post>,
    /// How many filters the root has: ours and what was there before.
    filters: Option<u32>,
    /// How many threads were sent back and may not have left.
    sent_back: usize,
}

impl Spaces {
    pub(super) fn new(policy: Substitute) -> Self {
        let policy = if CAN_SET_ARGUMENTS { policy } else { Substitute::Off };
        Self { policy, spaces: HashMap::new(), newest: 0, post: None, filters: None, sent_back: 0 }
    }

    /// Notes how many filters every process of the workload has that puts none on itself.
    pub(super) fn note_filters(&mut self, root: Pid) {
        self.filters = procfs::filter_count(root.leader());
    }

    /// A thread with memory of its own.
    pub(super) fn add(&mut self) -> SpaceId {
        self.newest += 1;
        let id = SpaceId(self.newest);
        self.spaces.insert(id, Space { threads: 1, ..Space::default() });
        id
    }

    /// Another thread shares this memory.
    pub(super) fn join(&mut self, id: SpaceId) {
        if let Some(space) = self.spaces.get_mut(&id) {
            space.threads += 1;
        }
    }

    /// A thread is gone from this memory.
    pub(super) fn leave(&mut self, id: SpaceId) {
        let Some(space) = self.spaces.get_mut(&id) else { return };
        space.threads = space.threads.saturating_sub(1);
        if space.threads == 0 {
            self.spaces.remove(&id);
        }
    }

    /// A thread waits until its child is gone from here, or does no more.
    pub(super) fn suspend(&mut self, id: SpaceId, is_suspended: bool) {
        if let Some(space) = self.spaces.get_mut(&id) {
            space.suspended =
                if is_suspended { space.suspended + 1 } else { space.suspended.saturating_sub(1) };
        }
    }

    /// Whether more than one thread uses this memory.
    pub(super) fn is_shared(&self, id: SpaceId) -> bool {
        self.spaces.get(&id).is_some_and(|space| space.threads > 1)
    }

    /// It is not known who shares this memory.
    pub(super) fn note_uncertain(&mut self, id: SpaceId) {
        if let Some(space) = self.spaces.get_mut(&id) {
            space.is_uncertain = true;
        }
    }

    /// A thread of this memory puts a filter on itself or on all of them.
    pub(super) fn note_filter(&mut self, id: SpaceId) {
        if let Some(space) = self.spaces.get_mut(&id) {
            space.has_filter = true;
        }
    }

    /// Whether somebody may change the memory of a thread that stands still.
    pub(super) fn has_racer(&self, id: SpaceId) -> bool {
        match self.policy {
            Substitute::Off => false,
            Substitute::Always => true,
            Substitute::Auto => self.spaces.get(&id).is_some_and(Space::has_racer),
        }
    }

    /// Whether somebody may change this memory, and no copies are made.
    pub(super) fn is_unguarded(&self, id: SpaceId) -> bool {
        self.policy == Substitute::Off && self.spaces.get(&id).is_some_and(Space::has_racer)
    }

    /// Whether the arguments of a call in this memory are to be replaced.
    pub(super) fn need(&self, id: SpaceId) -> Need {
        if !self.has_racer(id) {
            return Need::No;
        }
        match self.spaces.get(&id).map(|space| &space.page) {
            Some(Page::There(places)) if places.has_room() => Need::Ready,
            Some(Page::Absent) => Need::Detour,
            Some(&Page::Refused(tries)) if tries < TRIES_MAX => Need::Detour,
            _ => Need::Refused,
        }
    }

    /// Notes that a thread of this memory cannot be sent on a detour.
    pub(super) fn refuse(&mut self, id: SpaceId) {
        if let Some(space) = self.spaces.get_mut(&id) {
            let tries = if let Page::Refused(tries) = space.page { tries } else { 0 };
            space.page = Page::Refused(tries + 1);
        }
    }

    /// Whether a thread of this memory may make calls that the workload did not mean to make.
    pub(super) fn may_detour(&self, tid: Tid) -> bool {
        self.filters.is_some() && procfs::filter_count(tid) == self.filters
    }

    /// Maps memory for copies on a detour.
    pub(super) fn map(&mut self, id: SpaceId, pid: Pid, detour: &mut Detour) {
        if self.post.is_none() {
            self.post = Post::open().ok();
        }
        match self.post.as_mut().and_then(|post| Places::make(post, pid, detour)) {
            Some(places) => {
                if let Some(space) = self.spaces.get_mut(&id) {
                    space.page = Page::There(Box::new(places));
                }
            }
            None => self.refuse(id),
        }
    }

    /// Puts copies of what was read in place of the arguments of a call. With `next`, where the thread goes on behind it, it
    /// sets them back by itself if that can be.
    pub(super) fn replace<'c>(
        &mut self,
        id: SpaceId,
        stop: &Stopped,
        (arguments, next): ([u64; 6], Option<RemoteAddr>),
        copied: impl Iterator<Item = (u8, Copied<'c>)> + Clone,
    ) -> Result<Replaced, PtraceError> {
        if copied.clone().next().is_none() {
            return Ok(Replaced::Nothing);
        }
        let Some(Space { page: Page::There(places), has_filter, .. }) = self.spaces.get_mut(&id) else {
            return Ok(Replaced::Refused);
        };
        if let Some(next) = next.filter(|_| !*has_filter)
            && let Some((place, way, values)) = places.take_with_way((arguments, next), copied.clone())
        {
            if let Err(error) = values.set(stop).and_then(|()| stop.send_back_by(&way)) {
                places.give_back_with_way(place);
                return Err(error);
            }
            self.sent_back += 1;
            return Ok(Replaced::SentBack(OnWayBack { way, place: (id, place) }));
        }
        let Some((place, values)) = places.take(copied) else { return Ok(Replaced::Refused) };
        if let Err(error) = values.set(stop) {
            places.give_back(place);
            return Err(error);
        }
        Ok(Replaced::Done(Restore::all(&values, arguments, (id, place))))
    }

    /// The call is over for which these were.
    pub(super) fn release(&mut self, restore: &Restore) {
        let Some((id, place)) = restore.place else { return };
        if let Some(Space { page: Page::There(places), .. }) = self.spaces.get_mut(&id) {
            places.give_back(place);
        }
    }

    /// Whether a thread may be on its way back.
    pub(super) const fn has_sent_back(&self) -> bool {
        self.sent_back > 0
    }

    /// A thread has left its way back.
    pub(super) fn leave_way(&mut self, on_way: &OnWayBack) {
        self.sent_back = self.sent_back.saturating_sub(1);
        let (id, place) = on_way.place;
        if let Some(Space { page: Page::There(places), .. }) = self.spaces.get_mut(&id) {
            places.give_back_with_way(place);
        }
    }

    /// A thread stumbled on its way back: nobody is sent on one any more. If it was not as it had been made, then somebody has
    /// laid hands on the mapping, and nothing else is put there either.
    pub(super) fn stumbled(&mut self, on_way: &OnWayBack, is_as_made: bool) {
        let (id, _) = on_way.place;
        let Some(space) = self.spaces.get_mut(&id) else { return };
        match &mut space.page {
            Page::There(places) if is_as_made => places.refuse_ways(),
            page => *page = Page::Refused(TRIES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_alone_has_no_racer_and_a_waiting_parent_is_none() {
        let mut spaces = Spaces::new(Substitute::Auto);
        let id = spaces.add();
        assert!(!spaces.has_racer(id) && spaces.need(id) == Need::No);
        spaces.join(id);
        spaces.suspend(id, true);
        assert!(!spaces.has_racer(id), "the parent waits for its child");
        spaces.join(id);
        assert!(spaces.has_racer(id));
        spaces.leave(id);
        spaces.suspend(id, false);
        assert!(spaces.has_racer(id));
        spaces.leave(id);
        assert!(!spaces.has_racer(id));
        spaces.note_uncertain(id);
        assert!(spaces.has_racer(id));
        spaces.leave(id);
        assert!(spaces.spaces.is_empty());
    }

    #[test]
    fn the_policy_decides_before_the_threads_do() {
        for (policy, has_racer) in [(Substitute::Always, true), (Substitute::Off, false)] {
            let mut spaces = Spaces::new(policy);
            let id = spaces.add();
            assert_eq!(spaces.has_racer(id), has_racer && CAN_SET_ARGUMENTS);
            spaces.join(id);
            assert_eq!(spaces.has_racer(id), has_racer && CAN_SET_ARGUMENTS);
        }
    }

    #[test]
    fn what_is_refused_often_is_tried_no_more() {
        let mut spaces = Spaces::new(Substitute::Always);
        let id = spaces.add();
        for _ in 0..TRIES_MAX {
            assert!(spaces.need(id) == Need::Detour || !CAN_SET_ARGUMENTS);
            spaces.refuse(id);
        }
        assert!(spaces.need(id) == Need::Refused || !CAN_SET_ARGUMENTS);
    }
}
