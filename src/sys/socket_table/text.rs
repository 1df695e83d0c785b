//! The text of a table of sockets (proc_net(5)).
//!
//! It is never trusted: the path of a Unix socket is the workload's own and may look like any line. Read
//! [`Protocol::find_in`] before you edit.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use super::{Address, Entry, Protocol, Table, UNIX_PATH_BYTES, UnixName, has_peer};
use crate::{limits, sys::socket::SocketInfo};

impl Protocol {
    /// Searches the text of its table.
    ///
    /// The path of a Unix socket may hold a line feed, and so a made-up line with the inode of another socket. That
    /// one has its own line as well, so that two lines of one inode tell nothing, and the whole table is read.
    pub(super) fn find_in(self, mut table: impl Read, inode: u64) -> Option<Entry> {
        let is_forgeable = self.table == Table::Unix;
        let mut buf = [0; limits::SOCKET_TABLE_READ_BYTES];
        let (mut kept, mut total, mut found) = (0, 0, None);
        while total < limits::SOCKET_TABLE_BYTES_MAX {
            let read = match table.read(buf.get_mut(kept..)?) {
                Ok(0) => return found,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            total += read;
            let filled = kept + read;
            let text = buf.get(..filled)?;
            let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            for line in text.get(..end)?.split(|&byte| byte == b'\n') {
                let Some(entry) = self.parse(line, inode) else { continue };
                if !is_forgeable {
                    return Some(entry);
                }
                if found.replace(entry).is_some() {
                    return None;
                }
            }
            kept = filled - end;
            buf.copy_within(end..filled, 0);
            if kept == buf.len() {
                // No line of a table is as long.
                kept = 0;
            }
        }
        None
    }

    /// The socket that a line shows, if that is the one with this inode.
    fn parse(self, line: &[u8], inode: u64) -> Option<Entry> {
        match self.table {
            Table::Unix => self.parse_unix(line, inode),
            Table::Tcp | Table::Udp => self.parse_inet(line, inode, inet),
            Table::Tcp6 | Table::Udp6 => self.parse_inet(line, inode, inet6),
        }
    }

    fn parse_inet(self, line: &[u8], inode: u64, address: Words) -> Option<Entry> {
        let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
        let mut next = || fields.next();
        let (_slot, local, remote, state) = (next()?.strip_suffix(b":")?, next()?, next()?, next()?);
        // The queues, the timer, retransmits, the owner and a timeout stand before the inode.
        if decimal(fields.nth(5)?)? != inode {
            return None;
        }
        let (local, remote) = (address(local)?, address(remote)?);
        let has_peer = has_peer(remote, hex(state, 2)?);
        Some(Entry { info: self.info, local: Address::Inet(local), peer: has_peer.then_some(remote) })
    }

    fn parse_unix(self, line: &[u8], inode: u64) -> Option<Entry> {
        let mut rest = line;
        let mut next = || {
            let start = rest.iter().position(|&byte| byte != b' ')?;
            let (field, after) = split_at_space(rest.get(start..)?);
            rest = after;
            Some(field)
        };
        let (_slot, _references, _protocol) = (next()?.strip_suffix(b":")?, next()?, next()?);
        let (_flags, kind, _state) = (next()?, next()?, next()?);
        if decimal(next()?)? != inode {
            return None;
        }
        let kind = i32::try_from(hex(kind, 4)?).ok()?;
        let name = Address::Unix(unix_name(rest.strip_prefix(b" ").unwrap_or(rest))?);
        Some(Entry { info: SocketInfo { kind, ..self.info }, local: name, peer: None })
    }
}

/// Reads an address and a port as a table shows them.
type Words = fn(&[u8]) -> Option<SocketAddr>;

/// `0100007F:0050`: each word of the address is written as a number, so that its bytes in memory are in network order.
fn inet(text: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = split_port(text)?;
    Some(SocketAddrV4::new(Ipv4Addr::from(hex(ip, 8)?.to_ne_bytes()), port).into())
}

/// The same with four words.
fn inet6(text: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = split_port(text)?;
    let mut bytes = [0; 16];
    let (digits, []) = ip.as_chunks::<8>() else { return None };
    let (words, _) = bytes.as_chunks_mut::<4>();
    if digits.len() != words.len() {
        return None;
    }
    for (word, digits) in words.iter_mut().zip(digits) {
        *word = hex(digits, 8)?.to_ne_bytes();
    }
    Some(SocketAddrV6::new(Ipv6Addr::from(bytes), port, 0, 0).into())
}

fn split_port(text: &[u8]) -> Option<(&[u8], u16)> {
    let (ip, port) = text.split_at_checked(text.iter().position(|&byte| byte == b':')?)?;
    Some((ip, u16::try_from(hex(port.strip_prefix(b":")?, 4)?).ok()?))
}

/// The name of a Unix socket: nothing, a path, or `@` and a name in the abstract namespace.
///
/// Such a name is shown with `@` in the place of each NUL. One that fills `sun_path` was given with all the NULs after
/// its end, so that those are no part of it; inside of it none is told from an `@`. A path that begins with `@` is
/// taken for a name.
fn unix_name(text: &[u8]) -> Option<UnixName> {
    let Some(name) = text.strip_prefix(b"@") else { return UnixName::new(text) };
    let mut len = name.len();
    if text.len() == UNIX_PATH_BYTES {
        len = name.iter().rposition(|&byte| byte != b'@').map_or(0, |last| last + 1);
    }
    let mut bytes = [0; UNIX_PATH_BYTES];
    bytes.get_mut(1..=len)?.copy_from_slice(name.get(..len)?);
    Some(UnixName { bytes, len: len + 1 })
}

/// What stands before the first space, and the rest with that space.
fn split_at_space(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, b""))
}

/// A number of exactly so many digits.
fn hex(text: &[u8], digits: usize) -> Option<u32> {
    let is_number = text.len() == digits && text.iter().all(u8::is_ascii_hexdigit);
    is_number.then(|| u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok())?
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1129 1 0 100 0 0 10 0
   1: 0100007F:9C40 0100007F:0050 01 00000000:00000000 02:00000A5C 00000000  1000        0 1130 2 0 20 4 30 10 -1
   2: 0100007F:9C41 0200007F:0050 02 00000001:00000000 01:00000017 00000001  1000        0 1131 2 0 20 4 30 10 -1
   3: 0100007F:9C42 0200007F:0050 06 00000000:00000000 03:00000A5C 00000000     0        0 0 3 0
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue
  10: 00000000000000000000000001000000:1F90 0000000000000000FFFF00000100007F:01BB 01 0:0 00:00000000 0 0 0 77 1 0
";
    const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path
00000000f76b9eff: 00000002 00000000 00010000 0001 01  4340 /run/a b.sock
0000000000000000: 00000003 00000000 00000000 0001 03     7
00000000448ea710: 00000002 00000000 00000000 0005 01 99999 @x@y
";

    fn find(name: &str, text: &str, inode: u64) -> Option<Entry> {
        Protocol::of(name.as_bytes()).unwrap().find_in(text.as_bytes(), inode)
    }

    fn inet_entry(name: &str, text: &str, inode: u64) -> (String, Option<String>) {
        let Entry { local: Address::Inet(local), peer, .. } = find(name, text, inode).unwrap() else {
            panic!()
        };
        let peer = peer.map(|peer| peer.to_string());
        (local.to_string(), peer)
    }

    fn unix_entry(text: &str, inode: u64) -> (i32, Vec<u8>) {
        let Entry { info, local: Address::Unix(name), peer: None } = find("UNIX", text, inode).unwrap()
        else {
            panic!()
        };
        (info.kind, name.as_bytes().to_vec())
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn each_table_shows_the_socket_of_an_inode() {
        assert_eq!(inet_entry("TCP", TCP, 1129), ("0.0.0.0:2024".into(), None));
        assert_eq!(inet_entry("TCP", TCP, 1130), ("127.0.0.1:40000".into(), Some("127.0.0.1:80".into())));
        // Its connection is being made: getpeername(2) answers ENOTCONN.
        assert_eq!(inet_entry("TCP", TCP, 1131), ("127.0.0.1:40001".into(), None));
        assert_eq!(find("TCP", TCP, 1132), None);
        let peer = Some("[::ffff:127.0.0.1]:443".into());
        assert_eq!(inet_entry("TCPv6", TCP6, 77), ("[::1]:8080".into(), peer));
        assert_eq!(find("MPTCPv6", TCP6, 77).unwrap().info.protocol, libc::IPPROTO_MPTCP);
        assert_eq!(unix_entry(UNIX, 4340), (libc::SOCK_STREAM, b"/run/a b.sock".to_vec()));
        assert_eq!(unix_entry(UNIX, 7), (libc::SOCK_STREAM, vec![]));
        assert_eq!(unix_entry(UNIX, 99999), (libc::SOCK_SEQPACKET, b"\0x@y".to_vec()));
        // A family without a table here.
        assert_eq!(Protocol::of(b"NETLINK"), None);
    }

    #[test]
    fn a_name_that_fills_its_room_ends_before_its_nuls() {
        let line = |name: &str| format!("0: 2 0 00010000 0001 01 5 {name:@<108}\n");
        assert_eq!(unix_entry(&line("@a@b"), 5).1, b"\0a@b");
        assert_eq!(unix_entry(&line(""), 5).1, b"\0");
        assert_eq!(unix_entry("0: 2 0 00010000 0001 01 5 @a@\n", 5).1, b"\0a@");
    }

    #[test]
    fn a_line_that_a_path_made_up_tells_nothing() {
        let forged =
            format!("{UNIX}0: 2 0 00000000 0001 01 8 /tmp/x\n0: 2 0 00000000 0001 01 4340 /forged\n");
        assert_eq!(find("UNIX", &forged, 4340), None);
        assert_eq!(unix_entry(&forged, 7).1, b"");
    }

    #[test]
    fn a_table_is_read_whole_up_to_its_bound() {
        let line = |number: usize, inode: usize| {
            format!("{number:4}: 0100007F:0001 00000000:0000 0A 0:0 00:0 0 0 0 {inode:8} 1 {:60}\n", "")
        };
        let lines = limits::SOCKET_TABLE_BYTES_MAX / line(0, 1).len() + 200;
        let text: String = (1..=lines).map(|inode| line(0, inode)).collect();
        let near = u64::try_from(lines - 220).unwrap();
        assert!(find("TCP", &text, 1).is_some() && find("TCP", &text, near).is_some());
        assert_eq!(find("TCP", &text, u64::try_from(lines).unwrap()), None);
        // A line that is longer than the buffer is passed over.
        let long = format!("{}\n{TCP}", "x".repeat(3 * limits::SOCKET_TABLE_READ_BYTES));
        assert!(find("TCP", &long, 1129).is_some());
    }

    #[test]
    fn the_longest_address_fits() {
        let mut buf = [0xff; limits::SOCKADDR_BYTES_MAX];
        let longest = Address::Unix(UnixName::new(&[b'x'; UNIX_PATH_BYTES]).unwrap());
        assert_eq!((longest.write_to(&mut buf), buf[110]), (111, 0));
        assert_eq!(Address::Unix(UnixName::new(b"").unwrap()).write_to(&mut buf), 2);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..600),
                proptest::collection::vec(
                    proptest::sample::select(&b"0123456789abcdefABCDEF: :\n @/"[..]), 0..600),
                proptest::string::bytes_regex(
                    "( *[0-9]{1,3}: [0-9A-F]{8}(:[0-9A-F]{4})?( [0-9A-F:]{1,9}){4,9} 5\\n){0,9}"
                ).unwrap(),
            ],
            inode in 0..9_u64,
        ) {
            for protocol in Protocol::USUAL {
                protocol.find_in(&*text, inode);
            }
            decimal(&text);
        }

        #[test]
        fn an_address_comes_back_from_its_line(ip: [u8; 16], port: u16, peer_port in 1..=u16::MAX, inode: u64) {
            let words: String =
                ip.as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect();
            let [four, six] = [&words[..8], &words].map(|ip| {
                format!("   1: {ip}:{port:04X} {ip}:{peer_port:04X} 01 0:0 00:0 0 1000 0 {inode} 1 0\n")
            });
            let first: [u8; 4] = *ip.first_chunk().unwrap();
            let expected = |port| SocketAddr::from((first, port));
            let entry = find("UDP", &four, inode).unwrap();
            prop_assert_eq!((entry.local, entry.peer), (Address::Inet(expected(port)), Some(expected(peer_port))));
            let expected = |port| SocketAddr::from((ip, port));
            let entry = find("UDPv6", &six, inode).unwrap();
            prop_assert_eq!((entry.local, entry.peer), (Address::Inet(expected(port)), Some(expected(peer_port))));
        }
    }
}
