//! Socket addresses, out of the raw bytes of a `struct sockaddr`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A socket address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketAddress<'a> {
    /// An IPv4 address and port (ip(7)).
    Inet(SocketAddrV4),
    /// An IPv6 address and port (ipv6(7)).
    Inet6(SocketAddrV6),
    /// A path in the file tree; empty for an unnamed socket (unix(7)).
    Unix(&'a [u8]),
    /// A name in the abstract namespace, without the NUL before it and those after it.
    UnixAbstract(&'a [u8]),
    /// Another family, or one of the above that is too short: its `AF_*` number.
    Other(u16),
}

impl<'a> SocketAddress<'a> {
    /// Reads a `struct sockaddr` of any family; `None` if not even the family is there.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first_chunk()?;
        let family = u16::from_ne_bytes(*family);
        let address = match family {
            AF_UNIX => Some(unix(rest)),
            AF_INET => inet(rest),
            AF_INET6 => inet6(rest),
            _ => None,
        };
        Some(address.unwrap_or(Self::Other(family)))
    }

    /// The `AF_*` number.
    #[must_use]
    pub const fn family(&self) -> u16 {
        match self {
            Self::Inet(_) => AF_INET,
            Self::Inet6(_) => AF_INET6,
            Self::Unix(_) | Self::UnixAbstract(_) => AF_UNIX,
            Self::Other(family) => *family,
        }
    }
}

fn inet(rest: &[u8]) -> Option<SocketAddress<'_>> {
    let (port, rest) = rest.split_first_chunk()?;
    let ip: &[u8; 4] = rest.first_chunk()?;
    Some(SocketAddress::Inet(SocketAddrV4::new(Ipv4Addr::from(*ip), u16::from_be_bytes(*port))))
}

fn inet6(rest: &[u8]) -> Option<SocketAddress<'_>> {
    let (port, rest) = rest.split_first_chunk()?;
    let (_flow_info, rest) = rest.split_first_chunk::<4>()?;
    let ip: &[u8; 16] = rest.first_chunk()?;
    // The scope is left out, so that the address reads alike for every interface.
    Some(SocketAddress::Inet6(SocketAddrV6::new(Ipv6Addr::from(*ip), u16::from_be_bytes(*port), 0, 0)))
}

fn unix(rest: &[u8]) -> SocketAddress<'_> {
    match rest.split_first() {
        Some((0, name)) => {
            // Many programs pass a whole sockaddr_un, so that the name is all NULs after its last byte. A socket
            // without any name looks the same and is unnamed.
            let end = name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            match name.get(..end).unwrap_or_default() {
                b"" => SocketAddress::Unix(b""),
                name => SocketAddress::UnixAbstract(name),
            }
        }
        _ => SocketAddress::Unix(rest.split(|&byte| byte == 0).next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(family: u16, rest: &[u8]) -> Vec<u8> {
        [&family.to_ne_bytes(), rest].concat()
    }

    #[test]
    fn each_family_is_read_from_its_bytes() {
        let bytes = address(2, &[0, 80, 127, 0, 0, 1, 9, 9]);
        let SocketAddress::Inet(inet) = SocketAddress::parse(&bytes).unwrap() else { panic!() };
        assert_eq!(inet.to_string(), "127.0.0.1:80");
        let mut six = vec![0x1f, 0x90, 0, 0, 0, 0];
        six.extend(Ipv6Addr::LOCALHOST.octets());
        let bytes = address(10, &six);
        let SocketAddress::Inet6(inet) = SocketAddress::parse(&bytes).unwrap() else { panic!() };
        assert_eq!(inet.to_string(), "[::1]:8080");
        let bytes = address(1, b"/run/x.sock\0junk");
        assert_eq!(SocketAddress::parse(&bytes), Some(SocketAddress::Unix(b"/run/x.sock")));
        let bytes = address(1, b"\0a\0b\0\0");
        assert_eq!(SocketAddress::parse(&bytes), Some(SocketAddress::UnixAbstract(b"a\0b")));
        assert_eq!(SocketAddress::parse(&address(1, b"")), Some(SocketAddress::Unix(b"")));
        assert_eq!(SocketAddress::parse(&address(1, b"\0\0\0")), Some(SocketAddress::Unix(b"")));
        assert_eq!(SocketAddress::parse(&address(16, b"\0\0")), Some(SocketAddress::Other(16)));
    }

    #[test]
    fn a_short_address_is_its_family_or_nothing() {
        assert_eq!(SocketAddress::parse(&address(2, &[0, 80, 127])), Some(SocketAddress::Other(2)));
        assert_eq!(SocketAddress::parse(&address(10, &[0; 21])), Some(SocketAddress::Other(10)));
        assert_eq!(SocketAddress::parse(&[2]), None);
    }
}
