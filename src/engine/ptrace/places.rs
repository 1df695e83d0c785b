//! The mapping of copies in one memory: how a thread comes to make it on a detour, and what is written into its places.
//!
//! ```text
//! places                 copies, whose registers are set back at the exit of the call
//! places with a way back a way back (sys/ptrace/way_back.rs), copies
//! a page                 in which every access fails: for what could not be read
//! ```

use std::ops::Range;

use crate::{
    engine::capture::Copied,
    limits,
    sys::{
        Pid, RemoteAddr,
        copies::{Copies, Mapped, Post, SocketName},
        ptrace::{
            CODE_OFFSET, Detour, HAS_WAY_BACK, PtraceError, Stopped, WAY_BACK_BYTES, WayBack, way_back_code,
        },
    },
};

/// Bytes of a mapping: the places, those with a way back, and a page behind them in which every access fails.
const FAULT_BYTES: usize = 4096;
const WAYS_OFFSET: usize = limits::COPY_SLOTS * limits::COPY_SLOT_BYTES;
const PLACES_BYTES: usize = WAYS_OFFSET + limits::WAY_BACK_SLOTS * limits::WAY_BACK_SLOT_BYTES;
const MAPPING_BYTES: u64 = (PLACES_BYTES + FAULT_BYTES) as u64;

#[derive(Debug)]
pub(super) struct Places {
    at: RemoteAddr,
    copies: Copies,
    free: Vec<u16>,
    ways: Ways,
}

/// The places with a way back.
#[derive(Debug)]
struct Ways {
    /// Something stands against using them.
    is_refused: bool,
    free: Vec<u16>,
    code: Vec<u8>,
    /// In so many places, from the first on, the code stands already.
    written: u16,
}

/// Arguments and the values that they shall have.
#[derive(Debug, Default)]
pub(super) struct Values {
    values: [(u8, u64); limits::COPIES_MAX],
    count: usize,
}

impl Values {
    pub(super) fn push(&mut self, index: u8, value: u64) -> bool {
        let Some(slot) = self.values.get_mut(self.count) else { return false };
        *slot = (index, value);
        self.count += 1;
        true
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        self.values.iter().copied().take(self.count)
    }

    pub(super) fn set(&self, stop: &Stopped) -> Result<(), PtraceError> {
        self.iter().try_for_each(|(index, value)| stop.set_argument(index, value))
    }
}

impl Places {
    /// Has a thread map them on a detour.
    pub(super) fn make(post: &mut Post, pid: Pid, detour: &mut Detour) -> Option<Self> {
        let mut copies = Copies::create(PLACES_BYTES).ok()?;
        let name = post.name();
        let scratch = map_scratch(detour)?;
        let at = receive(detour, scratch, name, || post.send(name, &copies).is_ok());
        let _ = detour.call(libc::SYS_munmap, [scratch.0, SCRATCH_BYTES, 0, 0, 0, 0]);
        copies.close();
        let at = at?;
        // Where the kernel does not know it, the mapping stays as the workload leaves it.
        let _ = detour.call(libc::SYS_mseal, [at.0, MAPPING_BYTES, 0, 0, 0, 0]);
        // Another thread may have put another file under the descriptor. From here on it is what it is.
        let mapped = copies.mapped_at(pid, at)?;
        // The first ones are used first, so that few pages take up memory.
        let free = |count| (0..).take(count).collect::<Vec<u16>>().into_iter().rev().collect();
        let ways = Ways {
            is_refused: mapped != Mapped::ToExecute,
            free: if HAS_WAY_BACK { free(limits::WAY_BACK_SLOTS) } else { Vec::new() },
            code: way_back_code(),
            written: 0,
        };
        Some(Self { at, copies, free: free(limits::COPY_SLOTS), ways })
    }

    pub(super) const fn has_room(&self) -> bool {
        !self.free.is_empty() || !self.ways.free.is_empty()
    }

    /// No thread is sent back any more.
    pub(super) const fn refuse_ways(&mut self) {
        self.ways.is_refused = true;
    }

    /// Writes copies into a place, and tells what the registers shall be. `None` if there is none, or something does not fit.
    pub(super) fn take<'c>(
        &mut self,
        copied: impl Iterator<Item = (u8, Copied<'c>)>,
    ) -> Option<(u16, Values)> {
        let place = self.free.pop()?;
        let start = usize::from(place) * limits::COPY_SLOT_BYTES;
        let values = self.fill(start..start + limits::COPY_SLOT_BYTES, copied);
        if values.is_none() {
            self.give_back(place);
        }
        Some((place, values?))
    }

    pub(super) fn give_back(&mut self, place: u16) {
        self.free.push(place);
    }

    /// The same in a place with a way back, for a call with these arguments, behind which the thread goes on at `next`.
    pub(super) fn take_with_way<'c>(
        &mut self,
        (arguments, next): ([u64; 6], RemoteAddr),
        copied: impl Iterator<Item = (u8, Copied<'c>)>,
    ) -> Option<(u16, WayBack, Values)> {
        if self.ways.is_refused {
            return None;
        }
        let place = self.ways.free.pop()?;
        let start = WAYS_OFFSET + usize::from(place) * limits::WAY_BACK_SLOT_BYTES;
        let way = WayBack::new(self.at.plus(start as u64), arguments, next);
        let filled = self.fill(start + WAY_BACK_BYTES..start + limits::WAY_BACK_SLOT_BYTES, copied);
        // Code that stands there is not written again: CPUs take note of that.
        let has_code = place < self.ways.written || self.copies.write(start + CODE_OFFSET, &self.ways.code);
        let filled = filled.filter(|_| has_code && self.copies.write(start, &way.words()));
        match filled {
            Some(values) => {
                self.ways.written = self.ways.written.max(place + 1);
                Some((place, way, values))
            }
            None => {
                self.give_back_with_way(place);
                None
            }
        }
    }

    pub(super) fn give_back_with_way(&mut self, place: u16) {
        self.ways.free.push(place);
    }

    /// Writes the copies into this range, and tells what the registers shall be. `None` if something does not fit.
    fn fill<'c>(
        &mut self,
        room: Range<usize>,
        copied: impl Iterator<Item = (u8, Copied<'c>)>,
    ) -> Option<Values> {
        let mut values = Values::default();
        let mut free = room.start;
        for (index, copied) in copied {
            let offset = match copied {
                Copied::Unreadable => PLACES_BYTES,
                Copied::Uncertain => return None,
                Copied::Bytes { bytes, has_nul } => {
                    let len = bytes.len() + usize::from(has_nul);
                    if free + len > room.end
                        || !self.copies.write(free, bytes)
                        || has_nul && !self.copies.write(free + bytes.len(), &[0])
                    {
                        return None;
                    }
                    let offset = free;
                    free += len.next_multiple_of(8);
                    offset
                }
            };
            if !values.push(index, self.at.plus(offset as u64).0) {
                return None;
            }
        }
        Some(values)
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
    let at = map_copies(detour, fd);
    let _ = detour.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    at
}

/// Maps a descriptor of copies, to be executed too if that is allowed.
fn map_copies(detour: &mut Detour, fd: u64) -> Option<RemoteAddr> {
    let with_code = HAS_WAY_BACK.then_some(libc::PROT_READ | libc::PROT_EXEC);
    for protection in with_code.into_iter().chain([libc::PROT_READ]) {
        let how = [0, MAPPING_BYTES, flags(protection), flags(libc::MAP_SHARED), fd, 0];
        if let Some(at) = address(detour.call(libc::SYS_mmap, how)?) {
            return Some(at);
        }
    }
    None
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
