//! What the engine has read of a call's arguments is what the kernel uses: a copy lies in memory that the tracee can only
//! read, and for that call the argument's register points there. So no other thread can show the engine one path and the
//! kernel another.
//!
//! ```text
//! the first trapped call of a process that has a racer   the thread makes a detour (sys/ptrace/detour.rs): it gets a
//!                                                        descriptor of the copies' memory, maps it, and seals the mapping
//! every trapped call that looks at memory                read, judge, copy what was read, set the registers, go on to
//!                                                        the exit; there set the registers back
//! ```
//! A racer is whoever shares the thread's memory and can run: another thread, or a process that was made with CLONE_VM.
//! A thread that is alone needs none of it, and its dropped calls cost one stop. A *space* stands for such memory.
//!
//! Since Linux 6.10 mseal(2) keeps the mapping where it is; before, a workload that looks for it can put its own memory in
//! its place. A workload that has put a filter of its own on itself is not sent on a detour, which that filter might
//! kill it for. Before you edit, think of: a thread that dies at any point, a call that is restarted, a fork, an exec.

use std::collections::HashMap;

use crate::{
    engine::capture::Copied,
    limits,
    sys::{
        Pid, RemoteAddr, Tid,
        copies::{Copies, Post, SocketName},
        procfs,
        ptrace::{CAN_SET_ARGUMENTS, Detour, PtraceError, Stopped},
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

/// Bytes of a mapping: the places, and a page behind them in which every access fails.
const FAULT_BYTES: usize = 4096;
const PLACES_BYTES: usize = limits::COPY_SLOTS * limits::COPY_SLOT_BYTES;
const MAPPING_BYTES: u64 = (PLACES_BYTES + FAULT_BYTES) as u64;

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

#[derive(Debug)]
struct Places {
    at: RemoteAddr,
    copies: Copies,
    free: Vec<u16>,
}

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
}

/// What is to be set back at the exit of a call.
#[derive(Debug)]
pub(super) struct Restore {
    arguments: [(u8, u64); limits::COPIES_MAX],
    count: usize,
    place: Option<(SpaceId, u16)>,
}

impl Restore {
    /// One argument, and the value that it had.
    pub(super) fn of(index: u8, value: u64) -> Self {
        let mut restore = Self::new(None);
        restore.push(index, value);
        restore
    }

    const fn new(place: Option<(SpaceId, u16)>) -> Self {
        Self { arguments: [(0, 0); limits::COPIES_MAX], count: 0, place }
    }

    fn push(&mut self, index: u8, value: u64) -> bool {
        let Some(slot) = self.arguments.get_mut(self.count) else { return false };
        *slot = (index, value);
        self.count += 1;
        true
    }

    /// What an argument register held before.
    pub(super) fn before(&self, index: u8) -> Option<u64> {
        let mut arguments = self.arguments.iter().take(self.count);
        arguments.find_map(|&(changed, value)| (changed == index).then_some(value))
    }

    /// Sets the registers back.
    pub(super) fn apply(&self, stop: &Stopped) -> Result<(), PtraceError> {
        let mut arguments = self.arguments.iter().take(self.count);
        arguments.try_for_each(|&(index, value)| stop.set_argument(index, value))
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
}

impl Spaces {
    pub(super) fn new(policy: Substitute) -> Self {
        let policy = if CAN_SET_ARGUMENTS { policy } else { Substitute::Off };
        Self { policy, spaces: HashMap::new(), newest: 0, post: None, filters: None }
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
            Some(Page::There(places)) if !places.free.is_empty() => Need::Ready,
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
        match self.make_places(pid, detour) {
            Some(places) => {
                if let Some(space) = self.spaces.get_mut(&id) {
                    space.page = Page::There(Box::new(places));
                }
            }
            None => self.refuse(id),
        }
    }

    fn make_places(&mut self, pid: Pid, detour: &mut Detour) -> Option<Places> {
        let mut copies = Copies::create(PLACES_BYTES).ok()?;
        if self.post.is_none() {
            self.post = Post::open().ok();
        }
        let post = self.post.as_mut()?;
        let name = post.name();
        let scratch = map_scratch(detour)?;
        let at = receive(detour, scratch, name, || post.send(name, &copies).is_ok());
        let _ = detour.call(libc::SYS_munmap, [scratch.0, SCRATCH_BYTES, 0, 0, 0, 0]);
        copies.close();
        let at = at?;
        // Where the kernel does not know it, the mapping stays as the workload leaves it.
        let _ = detour.call(libc::SYS_mseal, [at.0, MAPPING_BYTES, 0, 0, 0, 0]);
        // Another thread may have put another file under the descriptor. From here on it is what it is.
        copies.is_mapped_at(pid, at).then(|| {
            let free = (0..).take(limits::COPY_SLOTS).collect::<Vec<u16>>();
            Places { at, copies, free: free.into_iter().rev().collect() }
        })
    }

    /// Puts copies of what was read in place of the arguments of a call.
    pub(super) fn replace<'c>(
        &mut self,
        id: SpaceId,
        stop: &Stopped,
        arguments: [u64; 6],
        copied: impl Iterator<Item = (u8, Copied<'c>)>,
    ) -> Result<Replaced, PtraceError> {
        let Some(Space { page: Page::There(places), .. }) = self.spaces.get_mut(&id) else {
            return Ok(Replaced::Refused);
        };
        let Some(place) = places.free.pop() else { return Ok(Replaced::Refused) };
        let mut restore = Restore::new(Some((id, place)));
        let mut values = [0; limits::COPIES_MAX];
        let is_whole = places.fill(place, arguments, copied, &mut restore, &mut values);
        let set = if is_whole {
            let mut pairs = restore.arguments.iter().zip(values).take(restore.count);
            pairs.try_for_each(|(&(index, _), value)| stop.set_argument(index, value))
        } else {
            Ok(())
        };
        if set.is_err() || !is_whole || restore.count == 0 {
            places.free.push(place);
            return set.map(|()| if is_whole { Replaced::Nothing } else { Replaced::Refused });
        }
        Ok(Replaced::Done(restore))
    }

    /// The call is over for which these were.
    pub(super) fn release(&mut self, restore: &Restore) {
        let Some((id, place)) = restore.place else { return };
        if let Some(Space { page: Page::There(places), .. }) = self.spaces.get_mut(&id) {
            places.free.push(place);
        }
    }
}

impl Places {
    /// Writes the copies, and tells what the registers were and shall be. `false` if something does not fit.
    fn fill<'c>(
        &mut self,
        place: u16,
        arguments: [u64; 6],
        copied: impl Iterator<Item = (u8, Copied<'c>)>,
        restore: &mut Restore,
        values: &mut [u64; limits::COPIES_MAX],
    ) -> bool {
        let start = usize::from(place) * limits::COPY_SLOT_BYTES;
        let mut used = 0;
        for (index, copied) in copied {
            let offset = match copied {
                Copied::Unreadable => PLACES_BYTES,
                Copied::Uncertain => return false,
                Copied::Bytes { bytes, has_nul } => {
                    let len = bytes.len() + usize::from(has_nul);
                    if used + len > limits::COPY_SLOT_BYTES
                        || !self.copies.write(start + used, bytes)
                        || has_nul && !self.copies.write(start + used + bytes.len(), &[0])
                    {
                        return false;
                    }
                    let offset = start + used;
                    used += len.next_multiple_of(8);
                    offset
                }
            };
            let Some(slot) = values.get_mut(restore.count) else { return false };
            *slot = self.at.plus(offset as u64).0;
            let before = arguments.get(usize::from(index)).copied().unwrap_or(0);
            if !restore.push(index, before) {
                return false;
            }
        }
        true
    }
}

const SCRATCH_BYTES: u64 = 4096;

/// Memory for the arguments of the calls on a detour.
fn map_scratch(detour: &mut Detour) -> Option<RemoteAddr> {
    let protection = flags(libc::PROT_READ | libc::PROT_WRITE);
    let how = flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    address(detour.call(libc::SYS_mmap, [0, SCRATCH_BYTES, protection, how, u64::MAX, 0])?)
}

/// Gets a descriptor by a socket of this name, which `send` sends to it, and maps it.
fn receive(
    detour: &mut Detour,
    scratch: RemoteAddr,
    name: SocketName,
    send: impl FnOnce() -> bool,
) -> Option<RemoteAddr> {
    let kind = flags(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
    let socket = detour.call(libc::SYS_socket, [flags(libc::AF_UNIX), kind, 0, 0, 0, 0])?;
    let socket = number(socket)?;
    let fd = receive_by(detour, scratch, socket, name, send);
    let _ = detour.call(libc::SYS_close, [socket, 0, 0, 0, 0, 0]);
    let fd = fd?;
    let how = [0, MAPPING_BYTES, flags(libc::PROT_READ), flags(libc::MAP_SHARED), fd, 0];
    let at = detour.call(libc::SYS_mmap, how);
    let _ = detour.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    address(at?)
}

fn receive_by(
    detour: &mut Detour,
    scratch: RemoteAddr,
    socket: u64,
    name: SocketName,
    send: impl FnOnce() -> bool,
) -> Option<u64> {
    if !detour.write(scratch, &name.address()) {
        return None;
    }
    let bound = detour.call(libc::SYS_bind, [socket, scratch.0, SocketName::ADDRESS_BYTES, 0, 0, 0])?;
    if bound != 0 || !send() {
        return None;
    }
    // A `struct msghdr` at 64, its `struct iovec` at 128, whose one byte is at 160, and its control data at 192: a header of
    // 16 bytes and a descriptor (recvmsg(2), cmsg(3)).
    let at = |offset| scratch.plus(offset);
    let message = [0, 0, at(128).0, 1, at(192).0, 24, 0];
    if !detour.write(at(64), &message) || !detour.write(at(128), &[at(160).0, 8]) {
        return None;
    }
    let how = flags(libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
    let received = detour.call(libc::SYS_recvmsg, [socket, at(64).0, how, 0, 0, 0])?;
    let has_fd = received == 1 && detour.read(at(192)) == Some(20);
    detour.read(at(208)).filter(|_| has_fd).map(|word| word & u64::from(u32::MAX))
}

fn flags(bits: i32) -> u64 {
    u64::from(bits.cast_unsigned())
}

fn number(result: i64) -> Option<u64> {
    u64::try_from(result).ok()
}

fn address(result: i64) -> Option<RemoteAddr> {
    number(result).map(RemoteAddr)
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
