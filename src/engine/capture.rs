//! Copies what a call's arguments point to, while its thread stands still at the entry.
//!
//! What is copied follows from the call's signature alone. Strings of one call are read together by one system
//! call in nearly all cases.

use std::os::fd::OwnedFd;

use crate::{
    abi::{self, Abi, Argument, ArgumentKind},
    event::{CaptureBuffer, CaptureFlags, CaptureKind, RecordFlags},
    limits,
    sys::{
        Pid, RemoteAddr, Tid,
        memory::{self, RemoteString, StringHeads},
        procfs,
        ptrace::Call,
        socket::{self, SocketInfo},
        socket_table::{self, Address, Lookup},
    },
};

/// Copies the memory that the arguments of `call` point to, and where its relative paths start. Tells with the
/// flags what could not be had, and how many arguments could not be read.
pub(crate) fn capture_arguments(tid: Tid, call: &Call, captures: &mut CaptureBuffer) -> (RecordFlags, u64) {
    let Some(signature) = abi::signature_of(call.abi, call.nr) else {
        return (RecordFlags::default(), 0);
    };
    let mut reader = Reader { tid, call, captures, unread: 0 };
    reader.strings(signature.arguments);
    for (index, argument) in (0..).zip(signature.arguments) {
        match argument.kind {
            ArgumentKind::SockaddrIn { length_argument } => {
                let len = reader.int(length_argument).min(limits::SOCKADDR_BYTES_MAX as u64);
                reader.bytes(index, CaptureKind::Sockaddr, len);
            }
            ArgumentKind::MessageIn => reader.message_address(index),
            ArgumentKind::Struct { bytes } => reader.bytes(index, CaptureKind::Struct, u64::from(bytes)),
            ArgumentKind::StructSized { length_argument } => {
                let len = reader.value(length_argument).min(limits::STRUCT_BYTES_MAX as u64);
                reader.bytes(index, CaptureKind::Struct, len);
            }
            ArgumentKind::Argv => reader.argv(index),
            ArgumentKind::FdPath => reader.descriptor(index),
            _ => {}
        }
    }
    let unread = reader.unread;
    let mut flags = RecordFlags::default();
    if unread > 0 {
        flags = flags.with(RecordFlags::MEMORY_UNREADABLE);
    }
    if captures.has_dropped() {
        flags = flags.with(RecordFlags::CAPTURES_DROPPED);
    }
    (flags, unread)
}

/// Copies what the descriptor `fd` of a thread is, if it is a socket, and both its addresses: as the kernel tells them
/// of a duplicate, or else as its tables of sockets do. Tells with the flags what could not be had.
pub(crate) fn capture_socket(tid: Tid, pid: Pid, fd: i32, captures: &mut CaptureBuffer) -> RecordFlags {
    let may_duplicate = !socket_table::is_duplication_refused();
    let is_known = match may_duplicate.then(|| socket::duplicate(pid, fd)) {
        Some(Ok(duplicate)) => {
            capture_duplicate(&duplicate, captures);
            true
        }
        // The refusal may be about this tracee alone, or its leader may be gone.
        Some(Err(_)) | None => capture_listed(tid, fd, captures),
    };
    let mut flags = RecordFlags::default();
    if !is_known {
        flags = flags.with(RecordFlags::SOCKET_UNKNOWN);
    }
    if captures.has_dropped() {
        flags = flags.with(RecordFlags::CAPTURES_DROPPED);
    }
    flags
}

/// Asks the kernel about a duplicate of the descriptor. It answers for every socket; a peer not each of them has.
fn capture_duplicate(socket: &OwnedFd, captures: &mut CaptureBuffer) {
    let Ok(info) = socket::info(socket) else { return };
    push_socket_info(info, captures);
    for (kind, name) in
        [(CaptureKind::SocketLocal, socket::local(socket)), (CaptureKind::SocketPeer, socket::peer(socket))]
    {
        if let Ok(name) = name {
            push_of_socket(kind, name.as_bytes(), captures);
        }
    }
}

/// Looks the socket up in the tables; tells whether all is known of it that is to be known, which of a descriptor that
/// is no socket is nothing.
fn capture_listed(tid: Tid, fd: i32, captures: &mut CaptureBuffer) -> bool {
    let entry = match socket_table::look_up(tid, fd) {
        Lookup::Found(entry) => entry,
        Lookup::NoSocket => return true,
        Lookup::Unknown => return false,
    };
    push_socket_info(entry.info, captures);
    let peer = entry.peer.map(Address::Inet);
    for (kind, address) in [(CaptureKind::SocketLocal, Some(entry.local)), (CaptureKind::SocketPeer, peer)] {
        if let Some(address) = address {
            let mut buf = [0; limits::SOCKADDR_BYTES_MAX];
            let len = address.write_to(&mut buf);
            push_of_socket(kind, buf.get(..len).unwrap_or_default(), captures);
        }
    }
    true
}

fn push_socket_info(info: SocketInfo, captures: &mut CaptureBuffer) {
    let info = [info.domain, info.kind, info.protocol].map(i32::to_ne_bytes);
    push_of_socket(CaptureKind::SocketInfo, info.as_flattened(), captures);
}

/// Pushes a capture. What does not fit is flagged by the buffer itself.
fn push_of_socket(kind: CaptureKind, data: &[u8], captures: &mut CaptureBuffer) {
    let _ = captures.push(kind, 0, CaptureFlags::default(), data);
}

/// The flags of a `clone3` call with its exit signal in the low byte, as `clone` has them; `None` if its
/// `struct clone_args` cannot be read.
pub(crate) fn clone3_flags(tid: Tid, clone_args: RemoteAddr) -> Option<u64> {
    let mut args = [0; 40];
    let read = memory::read_remote(tid, clone_args, &mut args).ok()?;
    let word = |at: usize| Some(u64::from_ne_bytes(args.get(..read)?.get(at..at + 8)?.try_into().ok()?));
    Some(word(0)? | word(32)? & 0xff)
}

struct Reader<'a> {
    tid: Tid,
    call: &'a Call,
    captures: &'a mut CaptureBuffer,
    /// Arguments that could not be read.
    unread: u64,
}

impl Reader<'_> {
    fn value(&self, index: u8) -> u64 {
        self.call.arguments.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// The low 32 bits of an argument: all that the kernel looks at of an `int`.
    fn int(&self, index: u8) -> u64 {
        self.value(index) & u64::from(u32::MAX)
    }

    fn addr(&self, index: u8) -> RemoteAddr {
        RemoteAddr(self.value(index))
    }

    /// Pushes a capture. What does not fit is flagged by the buffer itself.
    fn push(&mut self, kind: CaptureKind, index: u8, flags: CaptureFlags, data: &[u8]) {
        let _ = self.captures.push(kind, index, flags, data);
    }

    /// Every string of the call, and the directory that each relative path starts from.
    fn strings(&mut self, arguments: &[Argument]) {
        let mut wanted = [(0, CaptureKind::Text); memory::STRINGS_MAX];
        let mut addrs = [RemoteAddr(0); memory::STRINGS_MAX];
        let mut count = 0;
        for (index, argument) in (0..).zip(arguments) {
            let kind = match argument.kind {
                ArgumentKind::Path => CaptureKind::Path,
                ArgumentKind::Text => CaptureKind::Text,
                _ => continue,
            };
            // A null pointer is no string; the argument itself shows it.
            let addr = self.addr(index);
            if addr.is_null() {
                continue;
            }
            let (Some(slot), Some(place)) = (wanted.get_mut(count), addrs.get_mut(count)) else { break };
            (*slot, *place) = ((index, kind), addr);
            count += 1;
        }
        let addrs = addrs.get(..count).unwrap_or_default();
        if addrs.is_empty() {
            return;
        }
        let heads = StringHeads::read(self.tid, addrs);
        for (at, &(index, kind)) in wanted.iter().take(count).enumerate() {
            let start = match heads.string(at) {
                Some(text) => {
                    self.push(kind, index, CaptureFlags::default(), text);
                    text.first().copied()
                }
                None => self.long_string(kind, index),
            };
            if kind == CaptureKind::Path && start != Some(b'/') {
                self.base_directory(arguments, index);
            }
        }
    }

    /// A string that the first read did not show whole; gives its first byte.
    fn long_string(&mut self, kind: CaptureKind, index: u8) -> Option<u8> {
        let (tid, addr) = (self.tid, self.addr(index));
        let mut buf = [0; limits::PATH_BYTES_MAX];
        match memory::read_string(tid, addr, &mut buf) {
            Ok(RemoteString { len, is_terminated }) => {
                let flags = if is_terminated { CaptureFlags::default() } else { CaptureFlags::TRUNCATED };
                self.push(kind, index, flags, buf.get(..len).unwrap_or_default());
                buf.get(..len).and_then(<[u8]>::first).copied()
            }
            Err(_) => {
                self.unread += 1;
                // An unreadable path resolves to nothing, so its directory is not asked for.
                Some(b'/')
            }
        }
    }

    /// Where the relative path with this index starts: the `dirfd` before it, or the current directory.
    fn base_directory(&mut self, arguments: &[Argument], index: u8) {
        let dirfd = index.checked_sub(1).filter(|&before| {
            matches!(arguments.get(usize::from(before)), Some(Argument { kind: ArgumentKind::DirFd, .. }))
        });
        match dirfd {
            Some(dirfd) if self.fd(dirfd) != libc::AT_FDCWD => self.descriptor(dirfd),
            _ => {
                let tid = self.tid;
                self.link(CaptureKind::Cwd, index, |buf| procfs::read_link(tid, "cwd", buf));
            }
        }
    }

    /// The path of the descriptor in the argument with this index.
    fn descriptor(&mut self, index: u8) {
        let (tid, fd) = (self.tid, self.fd(index));
        self.link(CaptureKind::FdPath, index, |buf| procfs::read_fd_link(tid, fd, buf));
    }

    fn fd(&self, index: u8) -> i32 {
        u32::try_from(self.int(index)).unwrap_or(u32::MAX).cast_signed()
    }

    fn link(&mut self, kind: CaptureKind, index: u8, read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>) {
        let mut buf = [0; limits::PATH_BYTES_MAX];
        // A descriptor that is not open, or a /proc that is not ours: the path stays unresolved.
        if let Ok(len) = read(&mut buf) {
            self.push(kind, index, CaptureFlags::default(), buf.get(..len).unwrap_or_default());
        }
    }

    /// `len` bytes, or as many of them as there are.
    fn bytes(&mut self, index: u8, kind: CaptureKind, len: u64) {
        self.bytes_at(index, kind, self.addr(index), len);
    }

    fn bytes_at(&mut self, index: u8, kind: CaptureKind, addr: RemoteAddr, len: u64) {
        let tid = self.tid;
        let mut buf = [0; if limits::STRUCT_BYTES_MAX > limits::SOCKADDR_BYTES_MAX {
            limits::STRUCT_BYTES_MAX
        } else {
            limits::SOCKADDR_BYTES_MAX
        }];
        let Some(buf) = usize::try_from(len).ok().and_then(|len| buf.get_mut(..len)) else { return };
        if addr.is_null() || buf.is_empty() {
            return;
        }
        match memory::read_remote(tid, addr, buf) {
            Ok(read) => {
                let flags = if read == buf.len() { CaptureFlags::default() } else { CaptureFlags::TRUNCATED };
                self.push(kind, index, flags, buf.get(..read).unwrap_or_default());
            }
            Err(_) => self.unread += 1,
        }
    }

    /// The socket address that a `struct msghdr` starts with: a pointer and a length.
    fn message_address(&mut self, index: u8) {
        let (tid, message, width) = (self.tid, self.addr(index), self.call.abi.pointer_bytes());
        let mut head = [0; 16];
        if message.is_null() {
            return;
        }
        let Some(wanted) = head.get_mut(..width + 4) else { return };
        if memory::read_remote(tid, message, wanted) != Ok(width + 4) {
            self.unread += 1;
            return;
        }
        let name = read_word(&head, width).map_or(RemoteAddr(0), RemoteAddr);
        let len = head.get(width..).and_then(|rest| read_word(rest, 4)).unwrap_or(0);
        self.bytes_at(index, CaptureKind::Sockaddr, name, len.min(limits::SOCKADDR_BYTES_MAX as u64));
    }

    /// The strings of an argument vector, each ended by a NUL, up to a bound on their bytes and their number.
    fn argv(&mut self, index: u8) {
        let vector = self.addr(index);
        if vector.is_null() {
            return;
        }
        let mut buf = [0; limits::ARGV_BYTES_MAX];
        match read_argv(self.tid, self.call.abi, vector, &mut buf) {
            Some((len, is_whole)) => {
                let flags = if is_whole { CaptureFlags::default() } else { CaptureFlags::TRUNCATED };
                self.push(CaptureKind::Argv, index, flags, buf.get(..len).unwrap_or_default());
            }
            None => self.unread += 1,
        }
    }
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
}
