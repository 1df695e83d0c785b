//! Copies what a call's arguments point to, while its thread stands still at the entry.
//!
//! What is copied follows from the call's signature alone. Strings of one call are read together by one system
//! call in nearly all cases. Triage asks before the rest is read, and what it asked for is not read again: a
//! [`Reader`] keeps all that it has read in a [`Seen`], and a record's captures are put together from there, in an
//! order that does not depend on what was asked for first.

use std::{io, ops::Range};

use crate::{
    abi::{self, Abi, Argument, ArgumentKind},
    event::{CaptureBuffer, CaptureFlags, CaptureKind, RecordFlags},
    limits,
    sys::{
        RemoteAddr, Tid,
        memory::{self, RemoteString},
        procfs,
        ptrace::Call,
    },
    triage::{CallMemory, NameHits},
};

/// The flags of a `clone3` call with its exit signal in the low byte, as `clone` has them; `None` if its
/// `struct clone_args` cannot be read.
pub(crate) fn clone3_flags(tid: Tid, clone_args: RemoteAddr) -> Option<u64> {
    let mut args = [0; 40];
    let read = memory::read_remote(tid, clone_args, &mut args).ok()?;
    flags_in_clone_args(args.get(..read)?)
}

fn flags_in_clone_args(args: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u64::from_ne_bytes(args.get(at..at + 8)?.try_into().ok()?));
    Some(word(0)? | word(32)? & 0xff)
}

/// What the kernel is to find where an argument points to, for all that was read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied<'a> {
    /// These bytes, and a NUL.
    Bytes { bytes: &'a [u8], has_nul: bool },
    /// Nothing that could be read.
    Unreadable,
    /// What was read is not all that the kernel may look at.
    Uncertain,
}

/// Whether a call has arguments that point to what could be replaced by a copy, if it is one of the native ABI: see
/// [`Reader::copied`].
pub(crate) fn has_copyable(call: &Call) -> bool {
    let arguments = abi::signature_of(call.abi, call.nr).map_or(&[][..], |signature| signature.arguments);
    arguments.iter().zip(call.arguments).any(|(argument, value)| value != 0 && is_copyable(argument.kind))
}

const fn is_copyable(kind: ArgumentKind) -> bool {
    matches!(
        kind,
        ArgumentKind::Path
            | ArgumentKind::Text
            | ArgumentKind::SockaddrIn { .. }
            | ArgumentKind::StructSized { .. }
    )
}

/// What has been read of one call. The engine has one, for no two threads are looked at together.
#[derive(Debug)]
pub(crate) struct Seen {
    bytes: Box<[u8]>,
    /// How many of the bytes are in use.
    len: usize,
    things: Vec<Thing>,
}

/// One thing that was looked for: a text, a structure, a link.
#[derive(Debug, Clone)]
struct Thing {
    kind: CaptureKind,
    argument: u8,
    flags: CaptureFlags,
    /// Where its bytes are; `None` if it could not be had.
    range: Option<Range<usize>>,
}

/// Things of one call: each argument can be one, and have a directory that it starts from.
const THINGS_MAX: usize = 12;

/// Bytes of all of them, and of the first bytes of strings.
const BYTES_MAX: usize =
    THINGS_MAX * limits::PATH_BYTES_MAX + memory::STRINGS_MAX * limits::STRING_FIRST_READ_BYTES;

impl Seen {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BYTES_MAX].into_boxed_slice(), len: 0, things: Vec::with_capacity(THINGS_MAX) }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.things.clear();
    }

    fn find(&self, kind: CaptureKind, argument: u8) -> Option<&Thing> {
        self.things.iter().find(|thing| thing.kind == kind && thing.argument == argument)
    }

    /// The bytes of a thing, if it could be had.
    fn data(&self, thing: &Thing) -> Option<&[u8]> {
        self.bytes.get(thing.range.clone()?)
    }

    /// Reads the first bytes of strings into the free bytes: tells where they lie, one head behind the other.
    fn read_heads(&mut self, tid: Tid, addrs: impl ExactSizeIterator<Item = RemoteAddr>) -> Range<usize> {
        let (start, wanted) = (self.len, addrs.len() * limits::STRING_FIRST_READ_BYTES);
        let room = self.bytes.get_mut(start..start + wanted).unwrap_or_default();
        self.len += memory::read_heads(tid, addrs, room);
        start..self.len
    }

    /// Keeps the string that lies there, if it ends there.
    fn keep_string(&mut self, kind: CaptureKind, argument: u8, head: Range<usize>) -> bool {
        let bytes = self.bytes.get(head.clone()).unwrap_or_default();
        let Some(len) = memchr::memchr(0, bytes) else { return false };
        let range = Some(head.start..head.start + len);
        self.things.push(Thing { kind, argument, flags: CaptureFlags::default(), range });
        true
    }

    /// Keeps what `read` writes into at most `room` bytes; it tells how many it used.
    fn keep(
        &mut self,
        kind: CaptureKind,
        argument: u8,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Option<(usize, CaptureFlags)>,
    ) {
        let (start, end) = (self.len, self.bytes.len().min(self.len + room));
        let read = self.bytes.get_mut(start..end).and_then(read);
        let (len, flags) = read.unwrap_or_default();
        let range = read.is_some().then(|| start..start + len.min(end - start));
        self.len = range.as_ref().map_or(start, |range| range.end);
        self.things.push(Thing { kind, argument, flags, range });
    }
}

/// Reads what the arguments of one call point to, and where its relative paths start: each thing when it is first asked
/// for, and only once.
pub(crate) struct Reader<'a> {
    tid: Tid,
    call: &'a Call,
    arguments: &'static [Argument],
    seen: &'a mut Seen,
    /// Tells what the name of the program passes, if it is known.
    name: Option<&'a dyn Fn() -> Option<NameHits>>,
    has_read_strings: bool,
    /// Arguments that could not be read.
    unread: u64,
}

impl<'a> Reader<'a> {
    /// A reader of the call that the thread stands at.
    pub(crate) fn new(tid: Tid, call: &'a Call, seen: &'a mut Seen) -> Self {
        seen.clear();
        let arguments = abi::signature_of(call.abi, call.nr).map_or(&[][..], |signature| signature.arguments);
        Self { tid, call, arguments, seen, name: None, has_read_strings: false, unread: 0 }
    }

    /// The same, of a program whose name passes what `name` tells when it is asked.
    pub(crate) fn with_name(self, name: &'a dyn Fn() -> Option<NameHits>) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The arguments that something was read for, with what the kernel is to find there. What a message, an argument
    /// vector or an unsized structure leads to is not among them: it is not replaced.
    pub(crate) fn copied(&self) -> impl Iterator<Item = (u8, Copied<'_>)> + Clone {
        self.seen.things.iter().filter_map(|thing| {
            let kind = self.kind_of(thing.argument).filter(|&kind| is_copyable(kind))?;
            let is_argument = matches!(
                thing.kind,
                CaptureKind::Path | CaptureKind::Text | CaptureKind::Sockaddr | CaptureKind::Struct
            );
            // A null pointer stays what it is.
            (is_argument && self.value(thing.argument) != 0)
                .then(|| (thing.argument, self.copied_thing(kind, thing)))
        })
    }

    fn copied_thing(&self, kind: ArgumentKind, thing: &Thing) -> Copied<'_> {
        let Some(bytes) = self.seen.data(thing) else { return Copied::Unreadable };
        let is_cut = thing.flags.contains(CaptureFlags::TRUNCATED);
        match kind {
            ArgumentKind::Path | ArgumentKind::Text if !is_cut => Copied::Bytes { bytes, has_nul: true },
            // Cut where nothing is mapped, or at our bound, which is that of the kernel for a path.
            ArgumentKind::Path | ArgumentKind::Text if bytes.len() < limits::PATH_BYTES_MAX => {
                Copied::Unreadable
            }
            ArgumentKind::Path => Copied::Bytes { bytes, has_nul: false },
            ArgumentKind::StructSized { length_argument }
                if self.value(length_argument) > limits::STRUCT_BYTES_MAX as u64 =>
            {
                Copied::Uncertain
            }
            ArgumentKind::SockaddrIn { .. } | ArgumentKind::StructSized { .. } if is_cut => {
                Copied::Unreadable
            }
            ArgumentKind::SockaddrIn { .. } | ArgumentKind::StructSized { .. } => {
                Copied::Bytes { bytes, has_nul: false }
            }
            _ => Copied::Uncertain,
        }
    }

    /// The first eight bytes of the structure with this index.
    pub(crate) fn word(&mut self, index: u8) -> Option<u64> {
        read_word(self.bytes(index)?, 8)
    }

    /// The flags of a `clone3` call, as [`clone3_flags`] gives them.
    pub(crate) fn clone3_flags(&mut self) -> Option<u64> {
        flags_in_clone_args(self.bytes(0)?)
    }

    /// How many arguments could not be read so far.
    pub(crate) const fn unread(&self) -> u64 {
        self.unread
    }

    /// Copies all that belongs into the call's record, and tells with the flags what could not be had.
    pub(crate) fn capture(&mut self, captures: &mut CaptureBuffer) -> RecordFlags {
        self.capture_strings(captures);
        for (index, argument) in (0..).zip(self.arguments) {
            if argument.kind == ArgumentKind::FdPath {
                self.look_up_descriptor(index);
                self.push(CaptureKind::FdPath, index, captures);
            } else if argument.kind == ArgumentKind::Argv {
                self.read_argv(index);
                self.push(CaptureKind::Argv, index, captures);
            } else if let Some(kind) = self.read_bytes(index) {
                self.push(kind, index, captures);
            }
        }
        let mut flags = RecordFlags::default();
        if self.unread > 0 {
            flags = flags.with(RecordFlags::MEMORY_UNREADABLE);
        }
        if captures.has_dropped() {
            flags = flags.with(RecordFlags::CAPTURES_DROPPED);
        }
        flags
    }

    /// Every string, and behind each relative path the directory that it starts from.
    fn capture_strings(&mut self, captures: &mut CaptureBuffer) {
        self.read_strings();
        for (index, argument) in (0..).zip(self.arguments) {
            let Some(kind) = string_kind(argument.kind) else { continue };
            let Some(thing) = self.seen.find(kind, index) else { continue };
            // An unreadable path resolves to nothing, so its directory is not asked for.
            let is_relative = kind == CaptureKind::Path
                && self.seen.data(thing).is_some_and(|path| !path.starts_with(b"/"));
            self.push(kind, index, captures);
            if is_relative {
                let (kind, index) = self.look_up_base(index);
                self.push(kind, index, captures);
            }
        }
    }

    /// Pushes a thing that was read. What does not fit is flagged by the buffer itself.
    fn push(&self, kind: CaptureKind, index: u8, captures: &mut CaptureBuffer) {
        let Some(thing) = self.seen.find(kind, index) else { return };
        if let Some(data) = self.seen.data(thing) {
            let _ = captures.push(kind, index, thing.flags, data);
        }
    }

    fn value(&self, index: u8) -> u64 {
        self.call.arguments.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// The low 32 bits of an argument: all that the kernel looks at of an `int`.
    fn int(&self, index: u8) -> u64 {
        self.value(index) & u64::from(u32::MAX)
    }

    fn fd(&self, index: u8) -> i32 {
        u32::try_from(self.int(index)).unwrap_or(u32::MAX).cast_signed()
    }

    fn addr(&self, index: u8) -> RemoteAddr {
        RemoteAddr(self.value(index))
    }

    fn kind_of(&self, index: u8) -> Option<ArgumentKind> {
        self.arguments.get(usize::from(index)).map(|argument| argument.kind)
    }

    /// Every string of the call.
    fn read_strings(&mut self) {
        if std::mem::replace(&mut self.has_read_strings, true) {
            return;
        }
        let mut wanted = [(0, CaptureKind::Text, RemoteAddr(0)); memory::STRINGS_MAX];
        let mut count = 0;
        for (index, argument) in (0..).zip(self.arguments) {
            let Some(kind) = string_kind(argument.kind) else { continue };
            // A null pointer is no string; the argument itself shows it.
            let addr = self.addr(index);
            if addr.is_null() {
                continue;
            }
            let Some(slot) = wanted.get_mut(count) else { break };
            *slot = (index, kind, addr);
            count += 1;
        }
        let wanted = wanted.get(..count).unwrap_or_default();
        let mut heads = self.seen.read_heads(self.tid, wanted.iter().map(|(.., addr)| *addr));
        for &(index, kind, _) in wanted {
            let head = heads.start..heads.end.min(heads.start + limits::STRING_FIRST_READ_BYTES);
            heads.start = head.end;
            if !self.seen.keep_string(kind, index, head) {
                self.read_long_string(kind, index);
            }
        }
    }

    /// A string that the first read did not show whole.
    fn read_long_string(&mut self, kind: CaptureKind, index: u8) {
        let (tid, addr) = (self.tid, self.addr(index));
        let mut is_unread = false;
        self.seen.keep(kind, index, limits::PATH_BYTES_MAX, |room| {
            let read = memory::read_string(tid, addr, room);
            is_unread = read.is_err();
            let RemoteString { len, is_terminated } = read.ok()?;
            Some((len, whole_if(is_terminated)))
        });
        self.unread += u64::from(is_unread);
    }

    /// Where the relative path with this index starts: the `dirfd` before it, or the current directory. Tells as what it
    /// is kept.
    fn look_up_base(&mut self, index: u8) -> (CaptureKind, u8) {
        let dirfd = index.checked_sub(1).filter(|&before| self.kind_of(before) == Some(ArgumentKind::DirFd));
        match dirfd {
            Some(dirfd) if self.fd(dirfd) != libc::AT_FDCWD => {
                self.look_up_descriptor(dirfd);
                (CaptureKind::FdPath, dirfd)
            }
            _ => {
                let tid = self.tid;
                self.look_up_link(CaptureKind::Cwd, index, |room| procfs::read_link(tid, "cwd", room));
                (CaptureKind::Cwd, index)
            }
        }
    }

    /// The path of the descriptor in the argument with this index.
    fn look_up_descriptor(&mut self, index: u8) {
        let (tid, fd) = (self.tid, self.fd(index));
        self.look_up_link(CaptureKind::FdPath, index, |room| procfs::read_fd_link(tid, fd, room));
    }

    fn look_up_link(
        &mut self,
        kind: CaptureKind,
        index: u8,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) {
        if self.seen.find(kind, index).is_none() {
            // A descriptor that is not open, or a /proc that is not ours: the path stays unresolved.
            self.seen.keep(kind, index, limits::PATH_BYTES_MAX, |room| {
                Some((read(room).ok()?, CaptureFlags::default()))
            });
        }
    }

    /// The structure or the socket address that an argument points to. Tells as what it is kept; `None` if the argument
    /// is no such thing.
    fn read_bytes(&mut self, index: u8) -> Option<CaptureKind> {
        let (kind, place) = match self.kind_of(index)? {
            ArgumentKind::SockaddrIn { length_argument } => {
                let len = self.int(length_argument).min(limits::SOCKADDR_BYTES_MAX as u64);
                (CaptureKind::Sockaddr, Place::At(self.addr(index), len))
            }
            ArgumentKind::MessageIn => (CaptureKind::Sockaddr, Place::InMessage),
            ArgumentKind::Struct { bytes } => {
                (CaptureKind::Struct, Place::At(self.addr(index), u64::from(bytes)))
            }
            ArgumentKind::StructSized { length_argument } => {
                let len = self.value(length_argument).min(limits::STRUCT_BYTES_MAX as u64);
                (CaptureKind::Struct, Place::At(self.addr(index), len))
            }
            _ => return None,
        };
        if self.seen.find(kind, index).is_none() {
            let (addr, len) = match place {
                Place::At(addr, len) => (addr, len),
                Place::InMessage => self.message_address(index),
            };
            self.read_bytes_at(kind, index, addr, len);
        }
        Some(kind)
    }

    /// `len` bytes, or as many of them as there are.
    fn read_bytes_at(&mut self, kind: CaptureKind, index: u8, addr: RemoteAddr, len: u64) {
        let tid = self.tid;
        let room = if addr.is_null() { 0 } else { usize::try_from(len).unwrap_or(0) };
        let mut is_unread = false;
        self.seen.keep(kind, index, room, |room| {
            if room.is_empty() {
                return None;
            }
            let read = memory::read_remote(tid, addr, room);
            is_unread = read.is_err();
            let read = read.ok()?;
            Some((read, whole_if(read == room.len())))
        });
        self.unread += u64::from(is_unread);
    }

    /// The socket address that a `struct msghdr` starts with: a pointer and a length. A null pointer where there is none.
    fn message_address(&mut self, index: u8) -> (RemoteAddr, u64) {
        let (tid, message, width) = (self.tid, self.addr(index), self.call.abi.pointer_bytes());
        let nowhere = (RemoteAddr(0), 0);
        let mut head = [0; 16];
        if message.is_null() {
            return nowhere;
        }
        let Some(wanted) = head.get_mut(..width + 4) else { return nowhere };
        if memory::read_remote(tid, message, wanted) != Ok(width + 4) {
            self.unread += 1;
            return nowhere;
        }
        let name = read_word(&head, width).map_or(RemoteAddr(0), RemoteAddr);
        let len = head.get(width..).and_then(|rest| read_word(rest, 4)).unwrap_or(0);
        (name, len.min(limits::SOCKADDR_BYTES_MAX as u64))
    }

    /// The strings of an argument vector, each ended by a NUL, up to a bound on their bytes and their number.
    fn read_argv(&mut self, index: u8) {
        let (tid, abi, vector) = (self.tid, self.call.abi, self.addr(index));
        if vector.is_null() {
            return;
        }
        let mut is_unread = false;
        self.seen.keep(CaptureKind::Argv, index, limits::ARGV_BYTES_MAX, |room| {
            let read = read_argv(tid, abi, vector, room);
            is_unread = read.is_none();
            read.map(|(len, is_whole)| (len, whole_if(is_whole)))
        });
        self.unread += u64::from(is_unread);
    }
}

impl CallMemory for Reader<'_> {
    fn text(&mut self, argument: u8) -> Option<&[u8]> {
        self.read_strings();
        let thing = self.seen.find(string_kind(self.kind_of(argument)?)?, argument)?;
        if thing.flags.contains(CaptureFlags::TRUNCATED) { None } else { self.seen.data(thing) }
    }

    fn base(&mut self, argument: u8) -> Option<&[u8]> {
        let (kind, index) = self.look_up_base(argument);
        self.seen.data(self.seen.find(kind, index)?)
    }

    fn bytes(&mut self, argument: u8) -> Option<&[u8]> {
        let kind = self.read_bytes(argument)?;
        self.seen.data(self.seen.find(kind, argument)?)
    }

    fn name(&mut self) -> Option<NameHits> {
        self.name.and_then(|name| name())
    }
}

/// Where a structure or a socket address is.
enum Place {
    /// At this address, so many bytes.
    At(RemoteAddr, u64),
    /// Where the message says.
    InMessage,
}

const fn string_kind(kind: ArgumentKind) -> Option<CaptureKind> {
    match kind {
        ArgumentKind::Path => Some(CaptureKind::Path),
        ArgumentKind::Text => Some(CaptureKind::Text),
        _ => None,
    }
}

const fn whole_if(is_whole: bool) -> CaptureFlags {
    if is_whole { CaptureFlags(0) } else { CaptureFlags::TRUNCATED }
}

/// The little-endian number of `width` bytes, 4 or 8, that `bytes` start with.
fn read_word(bytes: &[u8], width: usize) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..width)?.copy_from_slice(bytes.get(..width)?);
    Some(u64::from_le_bytes(word))
}

/// Reads the strings of an argument vector into `buf`; tells how many bytes they take and whether all are there.
/// `None` if the vector itself cannot be read.
fn read_argv(tid: Tid, abi: Abi, vector: RemoteAddr, buf: &mut [u8]) -> Option<(usize, bool)> {
    const POINTERS_AT_ONCE: usize = 32;
    let width = abi.pointer_bytes();
    let mut len = 0;
    let mut at = vector;
    for _ in 0..limits::ARGV_COUNT_MAX / POINTERS_AT_ONCE {
        let mut pointers = [0; POINTERS_AT_ONCE * 8];
        let wanted = pointers.get_mut(..POINTERS_AT_ONCE * width)?;
        let Ok(read) = memory::read_remote(tid, at, wanted) else {
            return (at != vector).then_some((len, false));
        };
        for pointer in wanted.get(..read)?.chunks_exact(width) {
            let addr = RemoteAddr(read_word(pointer, width)?);
            if addr.is_null() {
                return Some((len, true));
            }
            let Ok(string) = memory::read_string(tid, addr, buf.get_mut(len..)?) else {
                return Some((len, false));
            };
            len += string.len;
            if !string.is_terminated {
                return Some((len, false));
            }
            // Its NUL was read with it, so there is room for it.
            *buf.get_mut(len)? = 0;
            len += 1;
        }
        if read < POINTERS_AT_ONCE * width {
            return Some((len, false));
        }
        at = at.plus(read as u64);
    }
    Some((len, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        abi::SyscallNr,
        engine::recorder::call_header,
        event::{self, HEADER_BYTES, Record},
        sys::Pid,
    };

    fn own_tid() -> Tid {
        Tid(nix::unistd::gettid().as_raw())
    }

    #[test]
    fn an_argument_vector_is_read_with_its_nuls() {
        let strings = [&b"cat\0"[..], b"/etc/shadow\0", b"\0"];
        let mut vector: Vec<u64> = strings.iter().map(|string| string.as_ptr().addr() as u64).collect();
        vector.push(0);
        let vector = RemoteAddr(vector.as_ptr().addr() as u64);
        let mut buf = [0; 64];
        let (len, is_whole) = read_argv(own_tid(), Abi::NATIVE, vector, &mut buf).unwrap();
        assert_eq!((&buf[..len], is_whole), (&b"cat\0/etc/shadow\0\0"[..], true));
        let (len, is_whole) = read_argv(own_tid(), Abi::NATIVE, vector, &mut buf[..10]).unwrap();
        assert_eq!((&buf[..len], is_whole), (&b"cat\0/etc/s"[..], false));
        assert_eq!(read_argv(own_tid(), Abi::NATIVE, RemoteAddr(8), &mut buf), None);
    }

    fn call(name: &str, arguments: [u64; 6]) -> Call {
        Call { abi: Abi::NATIVE, nr: abi::number(Abi::NATIVE, name).unwrap(), arguments }
    }

    fn address(bytes: &[u8]) -> u64 {
        bytes.as_ptr().addr() as u64
    }

    /// The captures of a call of this thread, after `ask` has asked what triage may ask.
    fn captured(call: &Call, ask: impl FnOnce(&mut Reader<'_>)) -> Vec<(CaptureKind, u8, Vec<u8>)> {
        let mut seen = Seen::new();
        let mut reader = Reader::new(own_tid(), call, &mut seen);
        ask(&mut reader);
        let mut captures = CaptureBuffer::with_capacity(limits::CALL_CAPTURE_BYTES);
        assert_eq!(reader.capture(&mut captures), RecordFlags::default());
        let mut record = vec![0; HEADER_BYTES + captures.as_bytes().len()];
        event::write_record(
            &mut record,
            &call_header(0, call, (Tid(0), Pid(0)), RecordFlags::default()),
            &captures,
        )
        .unwrap();
        let record = Record::parse(&record).unwrap();
        record.captures().map(|capture| (capture.kind, capture.argument, capture.data.to_vec())).collect()
    }

    #[test]
    fn what_triage_asks_first_changes_nothing_in_the_record() {
        let directory = std::fs::File::open("/proc/self").unwrap();
        let fd = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&directory)).unwrap();
        let (old, new) = (b"a/b\0", b"c\0");
        let at_cwd = u64::from(libc::AT_FDCWD.cast_unsigned());
        let rename = call("renameat2", [at_cwd, address(old), fd, address(new), 0, 0]);
        let unasked = captured(&rename, |_| {});
        let kinds: Vec<_> = unasked.iter().map(|(kind, argument, _)| (*kind, *argument)).collect();
        let (path, cwd, fd_path) = (CaptureKind::Path, CaptureKind::Cwd, CaptureKind::FdPath);
        assert_eq!(kinds, [(path, 1), (cwd, 1), (path, 3), (fd_path, 2)]);
        let asked = captured(&rename, |reader| {
            let cwd = std::env::current_dir().unwrap();
            let directory = std::fs::read_link("/proc/self").unwrap();
            assert_eq!(reader.base(3), Some(format!("/proc/{}", directory.display()).as_bytes()));
            assert_eq!(reader.text(3), Some(&b"c"[..]));
            assert_eq!(reader.text(1), Some(&b"a/b"[..]));
            assert_eq!(reader.base(1), Some(cwd.as_os_str().as_encoded_bytes()));
            assert_eq!(reader.text(0), None);
            assert_eq!(reader.text(9), None);
            assert_eq!(reader.bytes(1), None);
        });
        assert_eq!(asked, unasked);
    }

    #[test]
    fn structures_and_addresses_can_be_asked_for() {
        let how = [7u64, 0, 4].map(u64::to_ne_bytes).concat();
        let openat2 = call("openat2", [0, address(b"/x\0"), address(&how), 24, 0, 0]);
        let asked = captured(&openat2, |reader| assert_eq!(reader.bytes(2), Some(&how[..])));
        assert_eq!(asked, [(CaptureKind::Path, 1, b"/x".to_vec()), (CaptureKind::Struct, 2, how)]);
        let name = [2u8, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let connect = call("connect", [3, address(&name), 16, 0, 0, 0]);
        captured(&connect, |reader| assert_eq!(reader.bytes(1), Some(&name[..])));
        let message = [address(&name), 16].map(u64::to_ne_bytes).concat();
        let sendmsg = call("sendmsg", [3, address(&message), 0, 0, 0, 0]);
        captured(&sendmsg, |reader| assert_eq!(reader.bytes(1), Some(&name[..])));
        let connected = [0u64, 0].map(u64::to_ne_bytes).concat();
        let sendmsg = call("sendmsg", [3, address(&connected), 0, 0, 0, 0]);
        captured(&sendmsg, |reader| assert_eq!(reader.bytes(1), None));
    }

    #[test]
    fn what_is_not_known_whole_is_not_told_to_triage() {
        let long = vec![b'x'; limits::PATH_BYTES_MAX + 1];
        let mut seen = Seen::new();
        let open = |path| call("openat", [u64::MAX, path, 0, 0, 0, 0]);
        for path in [address(&long), 8, 0] {
            let open = open(path);
            let mut reader = Reader::new(own_tid(), &open, &mut seen);
            assert_eq!(reader.text(1), None);
            // -1 is no descriptor.
            assert_eq!(reader.base(1), None);
            assert_eq!(reader.unread(), u64::from(path == 8));
        }
        let unknown = Call { nr: SyscallNr(1023), ..open(8) };
        assert_eq!(Reader::new(own_tid(), &unknown, &mut seen).text(1), None);
    }
}
