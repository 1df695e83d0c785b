//! The same tables, asked of the kernel as messages: sock_diag(7).
//!
//! It shows the sockets of creance's own network namespace, which is the tracee's in nearly all cases, in a small part
//! of the time that the text takes: the test `what_a_look_up_costs` measures both. A Unix socket is found by its inode
//! at once, and with a name that nobody can have made up. Our end is connected to the kernel, so that nobody else
//! answers (netlink(7)).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
};

use super::{Address, Entry, Protocol, Table, UNIX_PATH_BYTES, UnixName, has_peer};
use crate::{limits, sys::socket::SocketInfo};

/// What the kernel answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The socket.
    Found(Entry),
    /// No socket of the protocol has this inode, among as many as are looked through.
    Absent,
    /// Nothing that could be used.
    Nothing,
}

/// Asks for the socket of a protocol with this inode.
pub(super) fn find(protocol: Protocol, inode: u64) -> Answer {
    u32::try_from(inode).ok().and_then(|inode| ask(protocol, inode)).unwrap_or(Answer::Nothing)
}

fn ask(protocol: Protocol, inode: u32) -> Option<Answer> {
    let kernel =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
            .ok()?;
    connect(kernel.as_raw_fd(), &NetlinkAddr::new(0, 0)).ok()?;
    send(kernel.as_raw_fd(), request(protocol, inode).as_flattened(), MsgFlags::empty()).ok()?;
    answer(protocol, inode, &kernel)
}

/// Reads messages until one tells of the socket, or the last.
fn answer(protocol: Protocol, inode: u32, kernel: &OwnedFd) -> Option<Answer> {
    let mut buf = [0; limits::SOCKET_MESSAGES_READ_BYTES];
    let mut total = 0;
    while total < limits::SOCKET_TABLE_BYTES_MAX {
        // An answer that is not there at once never comes: the kernel makes it before the call returns.
        let len = recv(kernel.as_raw_fd(), &mut buf, MsgFlags::MSG_DONTWAIT).ok().filter(|&len| len > 0)?;
        total += len;
        let mut rest = buf.get(..len)?;
        while !rest.is_empty() {
            let message;
            (message, rest) = split_message(rest)?;
            if let Some(answer) = protocol.read(message, inode) {
                return Some(answer);
            }
        }
    }
    // The text of the table is longer still, so that it is not looked into.
    Some(Answer::Absent)
}

/// Bytes of a `struct nlmsghdr` (linux/netlink.h).
const MESSAGE_HEADER_BYTES: usize = 16;

/// Any cookie: `INET_DIAG_NOCOOKIE`.
const NO_COOKIE: u32 = u32::MAX;

/// Every state but those of connections that no process has (`TIME_WAIT`, and two of a beginning).
const STATES: u32 = 0xfff & !(1 << 3) & !(1 << 6);

/// The request, as words: a `struct nlmsghdr` and a `struct unix_diag_req` or `struct inet_diag_req_v2`.
#[derive(Debug)]
struct Request {
    words: [[u8; 4]; 18],
    len: usize,
}

impl Request {
    fn as_flattened(&self) -> &[u8] {
        self.words.get(..self.len).unwrap_or_default().as_flattened()
    }
}

fn request(protocol: Protocol, inode: u32) -> Request {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST: u16 = 1;
    const REQUEST_ALL: u16 = REQUEST | 0x300;
    const SHOW_NAME: u32 = 1;
    let mut words = [[0; 4]; 18];
    let [len, kind, _sequence, _port, family, first, second, third, fourth, fifth, ..] = &mut words;
    let byte = |number: i32| u8::try_from(number).unwrap_or(0);
    let (count, flags) = if protocol.table == Table::Unix {
        *family = [byte(libc::AF_UNIX), 0, 0, 0];
        let request = [u32::MAX, inode, SHOW_NAME, NO_COOKIE, NO_COOKIE].map(u32::to_ne_bytes);
        [*first, *second, *third, *fourth, *fifth] = request;
        (10_u8, REQUEST)
    } else {
        *family = [byte(protocol.info.domain), protocol.table.transport(), 0, 0];
        *first = STATES.to_ne_bytes();
        (18, REQUEST_ALL)
    };
    *len = (u32::from(count) * 4).to_ne_bytes();
    let ([low, high], [first, second]) = (SOCK_DIAG_BY_FAMILY.to_ne_bytes(), flags.to_ne_bytes());
    *kind = [low, high, first, second];
    Request { words, len: usize::from(count) }
}

impl Table {
    /// The number of the protocol that its sockets speak: of one over several paths, that of each path.
    const fn transport(self) -> u8 {
        match self {
            Self::Tcp | Self::Tcp6 => 6,
            Self::Udp | Self::Udp6 => 17,
            Self::Unix => 0,
        }
    }
}

/// The first message with its header, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(word(bytes, 0)?).ok().filter(|&len| len >= MESSAGE_HEADER_BYTES)?;
    let message = bytes.get(..len)?;
    Some((message, bytes.get(len.checked_next_multiple_of(4)?..).unwrap_or_default()))
}

impl Protocol {
    /// What a message answers; `None` if it tells of another socket.
    fn read(self, message: &[u8], inode: u32) -> Option<Answer> {
        const ERROR: u16 = 2;
        const DONE: u16 = 3;
        const SOCK_DIAG_BY_FAMILY: u16 = 20;
        let kind = message.get(4..6).and_then(|kind| Some(u16::from_ne_bytes(kind.try_into().ok()?)));
        let body = message.get(MESSAGE_HEADER_BYTES..).unwrap_or_default();
        match kind {
            Some(SOCK_DIAG_BY_FAMILY) => {
                let is_unix = self.table == Table::Unix;
                if word(body, if is_unix { 4 } else { 68 }) != Some(inode) {
                    return None;
                }
                let entry = if is_unix { self.read_unix(body) } else { self.read_inet(body) };
                Some(entry.map_or(Answer::Nothing, Answer::Found))
            }
            // The kernel that has no Unix socket with this inode says so by an error.
            Some(ERROR) if self.table == Table::Unix && word(body, 0) == Some(ENOENT) => Some(Answer::Absent),
            Some(DONE) if word(body, 0) == Some(0) => Some(Answer::Absent),
            _ => Some(Answer::Nothing),
        }
    }

    /// A `struct inet_diag_msg` (linux/inet_diag.h).
    fn read_inet(self, body: &[u8]) -> Option<Entry> {
        let &[_family, state, _timer, _retransmits] = body.first_chunk()?;
        let port = |at: usize| Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?));
        let ip = |at: usize| -> Option<IpAddr> {
            let bytes = body.get(at..)?;
            Some(match self.info.domain {
                libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
                _ => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
            })
        };
        let (local, remote) = (SocketAddr::new(ip(8)?, port(4)?), SocketAddr::new(ip(24)?, port(6)?));
        let peer = has_peer(remote, u32::from(state)).then_some(remote);
        Some(Entry { info: self.info, local: Address::Inet(local), peer })
    }

    /// A `struct unix_diag_msg` (linux/unix_diag.h), and after it the name as an attribute if there is one.
    fn read_unix(self, body: &[u8]) -> Option<Entry> {
        const NAME: u16 = 0;
        let &[_family, kind, ..] = body.first_chunk::<4>()?;
        let mut rest = body.get(16..)?;
        let mut name: &[u8] = b"";
        while let Some((&[first, second, third, fourth], _)) = rest.split_first_chunk::<4>() {
            let len = usize::from(u16::from_ne_bytes([first, second]));
            if u16::from_ne_bytes([third, fourth]) == NAME {
                name = rest.get(4..len)?;
                break;
            }
            rest = rest.get(len.max(4).checked_next_multiple_of(4)?..).unwrap_or_default();
        }
        // A path is told with its NUL.
        let name = match name {
            [0, ..] => name,
            _ => name.split(|&byte| byte == 0).next()?,
        };
        let info = SocketInfo { kind: i32::from(kind), ..self.info };
        let name = UnixName::new(name.get(..name.len().min(UNIX_PATH_BYTES))?)?;
        Some(Entry { info, local: Address::Unix(name), peer: None })
    }
}

/// `-ENOENT`, as a word of a message.
const ENOENT: u32 = libc::ENOENT.wrapping_neg().cast_unsigned();

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_as_long_as_the_kernel_expects() {
        let bytes = |name: &[u8]| request(Protocol::of(name).unwrap(), 7).as_flattened().to_vec();
        let unix = bytes(b"UNIX");
        assert_eq!((unix.len(), word(&unix, 0), word(&unix, 24)), (40, Some(40), Some(7)));
        let tcp = bytes(b"MPTCPv6");
        assert_eq!((tcp.len(), word(&tcp, 0), &tcp[16..18]), (72, Some(72), &[10, 6][..]));
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            kind in prop::option::of(prop::sample::select(&[2_u8, 3, 20][..])),
            inode: u32,
        ) {
            if let (Some(kind), true) = (kind, bytes.len() >= 100) {
                bytes[4..6].copy_from_slice(&u16::from(kind).to_ne_bytes());
                bytes[84..88].copy_from_slice(&inode.to_ne_bytes());
                bytes[20..24].copy_from_slice(&inode.to_ne_bytes());
            }
            for protocol in Protocol::USUAL {
                protocol.read(&bytes, inode);
            }
            let mut rest = &*bytes;
            while let Some((_, after)) = split_message(rest) {
                prop_assert!(after.len() < rest.len());
                rest = after;
            }
        }
    }
}
