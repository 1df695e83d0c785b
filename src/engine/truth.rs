//! What a call has really used, against what was read of its arguments before: where no copy could be put in their place,
//! another thread can have changed them in between.
//!
//! Only a result shows it: the file that a new descriptor is open on, the peer of a socket. A thread that also swaps the
//! descriptor before we look deceives this; what it shows as different has been different.

use std::time::{Duration, SystemTime};

use super::calls::{low_int, name_of};
use crate::{
    abi::{self, ArgumentKind},
    event::{Capture, CaptureBuffer, CaptureFlags, CaptureKind},
    limits,
    sys::{
        Pid, Tid,
        opened::{self, Asked, Likeness, Opened, Start},
        ptrace::Call,
    },
    triage::{CallMemory, NameHits},
};

/// What came of comparing.
#[derive(Debug)]
pub(super) enum Truth {
    /// It used what was read, or there is nothing that would show what it used.
    AsRead,
    /// It used something else, which these captures show in the place of what was read.
    Other(CaptureBuffer),
    /// It may have: these captures show what it used.
    Unclear(CaptureBuffer),
    /// Nothing shows what it used.
    Unknown,
}

/// The argument that is the path of a call which opens a file.
pub(super) fn opened_path(call: &Call) -> Option<u8> {
    match name_of(call)? {
        "open" | "creat" => Some(0),
        "openat" | "openat2" => Some(1),
        _ => None,
    }
}

/// The argument that is the address of a call which connects a socket.
fn connected_address(call: &Call) -> Option<u8> {
    (name_of(call) == Some("connect")).then_some(1)
}

/// Whether the result of a call shows what it has used.
pub(super) fn is_comparable(call: &Call) -> bool {
    opened_path(call).is_some() || connected_address(call).is_some()
}

/// Compares what was captured of a call with what it has used; its thread stands still at its return.
pub(super) fn compare(
    (tid, pid): (Tid, Pid),
    call: &Call,
    enter_ns: u64,
    result: i64,
    captures: &CaptureBuffer,
) -> Truth {
    if let Some(argument) = opened_path(call) {
        return match i32::try_from(result).ok().filter(|&fd| fd >= 0) {
            Some(fd) => compare_path((tid, pid), (call, argument), enter_ns, fd, captures),
            None => Truth::Unknown,
        };
    }
    match connected_address(call) {
        Some(argument) => compare_address(argument, captures),
        None => Truth::Unknown,
    }
}

fn find(captures: &CaptureBuffer, kind: CaptureKind, argument: u8) -> Option<Capture<'_>> {
    captures.captures().find(|capture| capture.kind == kind && capture.argument == argument)
}

fn compare_path(
    thread: (Tid, Pid),
    (call, argument): (&Call, u8),
    enter_ns: u64,
    fd: i32,
    captures: &CaptureBuffer,
) -> Truth {
    let Some(opened) = Opened::read(thread.0, fd) else { return Truth::Unknown };
    let Some(path) = find(captures, CaptureKind::Path, argument) else {
        // It could not be read, and the kernel could.
        return replaced(captures, CaptureKind::Path, argument, opened.path())
            .map_or(Truth::Unknown, Truth::Unclear);
    };
    let dirfd = argument.checked_sub(1);
    let start = match dirfd.and_then(|dirfd| Some((dirfd, find(captures, CaptureKind::FdPath, dirfd)?))) {
        Some((dirfd, text)) => {
            let fd = call.arguments.get(usize::from(dirfd)).map(|&fd| low_int(fd));
            Some(Start { fd, text: text.data })
        }
        None => find(captures, CaptureKind::Cwd, argument).map(|text| Start { fd: None, text: text.data }),
    };
    let asked = Asked {
        path: path.data,
        start,
        is_unnamed: open_flags(call, captures) & O_TMPFILE == O_TMPFILE,
        since: SystemTime::UNIX_EPOCH + Duration::from_nanos(enter_ns),
    };
    let likeness = opened::compare(thread, fd, &opened, &asked);
    let truth = || replaced(captures, CaptureKind::Path, argument, opened.path());
    match likeness {
        Likeness::Same => Truth::AsRead,
        Likeness::Different => truth().map_or(Truth::Unknown, Truth::Other),
        Likeness::Unclear => truth().map_or(Truth::Unknown, Truth::Unclear),
    }
}

const O_TMPFILE: u64 = libc::O_TMPFILE.cast_unsigned() as u64;

/// The flags of a call that opens a file.
fn open_flags(call: &Call, captures: &CaptureBuffer) -> u64 {
    let [_, second, third, ..] = call.arguments;
    match name_of(call) {
        Some("open") => second,
        Some("openat") => third,
        Some("openat2") => {
            let how = find(captures, CaptureKind::Struct, 2);
            how.and_then(|how| how.data.first_chunk().copied()).map_or(0, u64::from_ne_bytes)
        }
        _ => 0,
    }
}

/// The captures with other data for one of them, and without where its path started.
fn replaced(
    captures: &CaptureBuffer,
    kind: CaptureKind,
    argument: u8,
    data: Option<&[u8]>,
) -> Option<CaptureBuffer> {
    let mut other = CaptureBuffer::with_capacity(limits::CALL_CAPTURE_BYTES);
    // What does not fit is flagged by the buffer itself.
    let _ = other.push(kind, argument, CaptureFlags::default(), data?);
    for capture in captures.captures() {
        if (capture.kind, capture.argument) != (kind, argument) {
            let _ = other.push(capture.kind, capture.argument, capture.flags, capture.data);
        }
    }
    Some(other)
}

fn compare_address(argument: u8, captures: &CaptureBuffer) -> Truth {
    let mut of_socket = captures.captures().filter(|capture| capture.kind == CaptureKind::SocketPeer);
    let Some((asked, peer)) = find(captures, CaptureKind::Sockaddr, argument).zip(of_socket.next()) else {
        return Truth::Unknown;
    };
    match is_same_address(asked.data, peer.data) {
        Some(true) => Truth::AsRead,
        Some(false) => {
            let other = replaced(captures, CaptureKind::Sockaddr, argument, Some(peer.data));
            other.map_or(Truth::Unknown, Truth::Other)
        }
        None => Truth::Unknown,
    }
}

/// Whether a socket that was connected to one address has the other as its peer; `None` where that does not follow from
/// them. To connect to the address of zeroes is to connect to the machine itself (ip(7)).
fn is_same_address(asked: &[u8], peer: &[u8]) -> Option<bool> {
    let family = |address: &[u8]| Some(i32::from(u16::from_ne_bytes(*address.first_chunk()?)));
    let (asked_family, peer_family) = (family(asked)?, family(peer)?);
    let (port, address) = match asked_family {
        libc::AF_INET => (2..4, 4..8),
        libc::AF_INET6 => (2..4, 8..24),
        _ => return None,
    };
    if asked_family != peer_family {
        return Some(false);
    }
    if asked.get(port.clone())? != peer.get(port)? {
        return Some(false);
    }
    let (asked, peer) = (asked.get(address.clone())?, peer.get(address)?);
    if asked.iter().all(|&byte| byte == 0) {
        return is_loopback(peer).then_some(true);
    }
    Some(asked == peer)
}

fn is_loopback(address: &[u8]) -> bool {
    let start = address.split_last();
    address.len() == 4 && address.starts_with(&[127])
        || start.is_some_and(|(&last, rest)| last == 1 && rest.iter().all(|&byte| byte == 0))
}

/// What was captured of a call, for triage.
pub(super) struct Captured<'a> {
    call: &'a Call,
    captures: &'a CaptureBuffer,
    name: Option<NameHits>,
}

impl<'a> Captured<'a> {
    /// Of this call, by a program whose name passes this, if that is known.
    pub(super) const fn new(call: &'a Call, captures: &'a CaptureBuffer, name: Option<NameHits>) -> Self {
        Self { call, captures, name }
    }

    fn whole(&self, kind: CaptureKind, argument: u8) -> Option<&[u8]> {
        let found = find(self.captures, kind, argument)?;
        (!found.flags.contains(CaptureFlags::TRUNCATED)).then_some(found.data)
    }

    fn kind_of(&self, argument: u8) -> Option<ArgumentKind> {
        let signature = abi::signature_of(self.call.abi, self.call.nr)?;
        signature.arguments.get(usize::from(argument)).map(|argument| argument.kind)
    }
}

impl CallMemory for Captured<'_> {
    fn text(&mut self, argument: u8) -> Option<&[u8]> {
        match self.kind_of(argument)? {
            ArgumentKind::Path => self.whole(CaptureKind::Path, argument),
            ArgumentKind::Text => self.whole(CaptureKind::Text, argument),
            _ => None,
        }
    }

    fn base(&mut self, argument: u8) -> Option<&[u8]> {
        let before = argument.checked_sub(1).and_then(|dirfd| self.whole(CaptureKind::FdPath, dirfd));
        // An absolute path is only measured with it.
        before.or_else(|| self.whole(CaptureKind::Cwd, argument)).or(Some(b"/"))
    }

    fn bytes(&mut self, argument: u8) -> Option<&[u8]> {
        let kind = match self.kind_of(argument)? {
            ArgumentKind::SockaddrIn { .. } | ArgumentKind::MessageIn => CaptureKind::Sockaddr,
            ArgumentKind::Struct { .. } | ArgumentKind::StructSized { .. } => CaptureKind::Struct,
            _ => return None,
        };
        find(self.captures, kind, argument).map(|found| found.data)
    }

    fn name(&mut self) -> Option<NameHits> {
        self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(port: u16, address: [u8; 4]) -> Vec<u8> {
        let family = u16::try_from(libc::AF_INET).unwrap().to_ne_bytes();
        [&family[..], &port.to_be_bytes(), &address, &[0; 8]].concat()
    }

    #[test]
    fn addresses_are_compared_as_the_kernel_means_them() {
        let asked = inet(80, [10, 0, 0, 1]);
        assert_eq!(is_same_address(&asked, &asked), Some(true));
        assert_eq!(is_same_address(&asked, &inet(81, [10, 0, 0, 1])), Some(false));
        assert_eq!(is_same_address(&asked, &inet(80, [10, 0, 0, 2])), Some(false));
        assert_eq!(is_same_address(&inet(80, [0; 4]), &inet(80, [127, 0, 0, 1])), Some(true));
        assert_eq!(is_same_address(&inet(80, [0; 4]), &inet(80, [10, 0, 0, 1])), None);
        // To leave its peer (AF_UNSPEC), and names of a file that may be relative.
        assert_eq!(is_same_address(&[0, 0], &asked), None);
        assert_eq!(is_same_address(b"\x01\0/run/socket\0", b"\x01\0/run/socket\0"), None);
        assert_eq!(is_same_address(&[], &asked), None);
        assert_eq!(is_same_address(asked.get(..4).unwrap(), &asked), None);
    }
}
