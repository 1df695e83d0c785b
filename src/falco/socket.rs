//! Socket addresses as Falco packs them: a family of one byte, IP addresses in network order, ports in the machine's.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::encode::until_nul;
use crate::decode::SocketAddress;

/// Falco's numbers for families, which are the kernel's.
pub const AF_UNIX: u32 = 1;
/// IPv4.
pub const AF_INET: u32 = 2;
/// IPv6.
pub const AF_INET6: u32 = 10;

/// Longest path of a Unix socket: `UNIX_PATH_MAX` (unix(7)).
const UNIX_PATH_BYTES_MAX: usize = 108;

/// Bytes of a pair of Unix sockets without a path: the family, two kernel addresses, and a NUL.
const UNIX_TUPLE_BYTES_MIN: usize = 18;

/// An address, for a `SockAddr` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedAddress<'a> {
    /// IPv4.
    Inet(SocketAddrV4),
    /// IPv6.
    Inet6(SocketAddrV6),
    /// A path, or a name of the abstract namespace without the NUL before it.
    Unix(&'a [u8]),
}

impl<'a> PackedAddress<'a> {
    /// The address in Falco's terms; `None` for a family that it has no layout for.
    #[must_use]
    pub fn of(address: SocketAddress<'a>) -> Option<Self> {
        match address {
            SocketAddress::Inet(inet) => Some(Self::Inet(inet)),
            SocketAddress::Inet6(inet6) => Some(Self::Inet6(inet6)),
            SocketAddress::Unix(name) | SocketAddress::UnixAbstract(name) => {
                Some(Self::Unix(until_nul(name, UNIX_PATH_BYTES_MAX)))
            }
            SocketAddress::Other(_) => None,
        }
    }

    /// The family, in Falco's numbers.
    #[must_use]
    pub const fn family(&self) -> u32 {
        match self {
            Self::Inet(_) => AF_INET,
            Self::Inet6(_) => AF_INET6,
            Self::Unix(_) => AF_UNIX,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Inet(_) => 7,
            Self::Inet6(_) => 19,
            Self::Unix(path) => 2 + unix_path(path).len(),
        }
    }

    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Inet(address) => {
                bytes.push(2);
                append_inet(*address, bytes);
            }
            Self::Inet6(address) => {
                bytes.push(10);
                append_inet6(*address, bytes);
            }
            Self::Unix(path) => {
                bytes.push(1);
                bytes.extend_from_slice(unix_path(path));
                bytes.push(0);
            }
        }
    }
}

/// Two addresses, for a `SockTuple` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedTuple<'a> {
    /// IPv4: source and destination.
    Inet(SocketAddrV4, SocketAddrV4),
    /// IPv6: source and destination.
    Inet6(SocketAddrV6, SocketAddrV6),
    /// A Unix socket by the path of the side that has one. The drivers tell kernel addresses of both sides as well,
    /// which nobody in user space knows: they are 0.
    Unix(&'a [u8]),
    /// Of another family, or of none (0), nothing more is told. It stands where libsinsp may read the family of a
    /// tuple unasked, so that an empty one would not do. Zeroes follow it: of a connect on what it knows as a Unix
    /// socket, libsinsp reads a tuple of any family as one of a Unix socket, and without them past its end.
    Other(u8),
}

impl<'a> PackedTuple<'a> {
    /// Pairs the two sides of a socket, of which either may be unknown. `None` if both are.
    ///
    /// The family is that of the socket, so an IPv4 address beside an IPv6 one is mapped (ipv6(7)); an unknown side
    /// is all zeroes.
    #[must_use]
    pub fn of(source: Option<SocketAddress<'a>>, destination: Option<SocketAddress<'a>>) -> Option<Self> {
        use SocketAddress::{Inet, Inet6, Other, Unix, UnixAbstract};
        Some(match (source, destination) {
            (Some(Inet6(source)), Some(destination)) => {
                Self::Inet6(source, as_inet6(destination).unwrap_or_else(|| unspecified_like(source)))
            }
            (Some(source), Some(Inet6(destination))) => {
                Self::Inet6(as_inet6(source).unwrap_or_else(|| unspecified_like(destination)), destination)
            }
            (Some(Inet6(source)), None) => Self::Inet6(source, unspecified_like(source)),
            (None, Some(Inet6(destination))) => Self::Inet6(unspecified_like(destination), destination),
            (Some(Inet(source)), Some(Inet(destination))) => Self::Inet(source, destination),
            (Some(Inet(source)), _) => Self::Inet(source, UNSPECIFIED),
            (_, Some(Inet(destination))) => Self::Inet(UNSPECIFIED, destination),
            // The path is that of the side which was bound: the destination of a connect, and of an accept too.
            (_, Some(Unix(path) | UnixAbstract(path))) => Self::Unix(unix_path(path)),
            (Some(Unix(path) | UnixAbstract(path)), _) => Self::Unix(unix_path(path)),
            (Some(Other(family)), _) | (None, Some(Other(family))) => {
                Self::Other(u8::try_from(family).ok().filter(|&family| !has_layout(family)).unwrap_or(0))
            }
            (None, None) => return None,
        })
    }

    /// The family, in Falco's numbers.
    #[must_use]
    pub fn family(&self) -> u32 {
        match self {
            Self::Inet(..) => AF_INET,
            Self::Inet6(..) => AF_INET6,
            Self::Unix(_) => AF_UNIX,
            Self::Other(family) => u32::from(*family),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Inet(..) => 13,
            Self::Inet6(..) => 37,
            Self::Unix(path) => UNIX_TUPLE_BYTES_MIN + unix_path(path).len(),
            Self::Other(_) => UNIX_TUPLE_BYTES_MIN,
        }
    }

    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Inet(source, destination) => {
                bytes.push(2);
                append_inet(*source, bytes);
                append_inet(*destination, bytes);
            }
            Self::Inet6(source, destination) => {
                bytes.push(10);
                append_inet6(*source, bytes);
                append_inet6(*destination, bytes);
            }
            Self::Unix(path) => {
                bytes.push(1);
                bytes.extend_from_slice(&[0; 16]);
                bytes.extend_from_slice(unix_path(path));
                bytes.push(0);
            }
            Self::Other(family) => {
                // A family with a layout would promise the rest of it.
                bytes.push(if has_layout(*family) { 0 } else { *family });
                bytes.extend_from_slice(&[0; UNIX_TUPLE_BYTES_MIN - 1]);
            }
        }
    }
}

const UNSPECIFIED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

const fn has_layout(family: u8) -> bool {
    matches!(family, 1 | 2 | 10)
}

/// No address of either family beside `other`: libsinsp takes a pair for IPv4 only if both sides are mapped.
fn unspecified_like(other: SocketAddrV6) -> SocketAddrV6 {
    let ip = match other.ip().to_ipv4_mapped() {
        Some(_) => Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(),
        None => Ipv6Addr::UNSPECIFIED,
    };
    SocketAddrV6::new(ip, 0, 0, 0)
}

fn as_inet6(address: SocketAddress<'_>) -> Option<SocketAddrV6> {
    match address {
        SocketAddress::Inet6(inet6) => Some(inet6),
        SocketAddress::Inet(inet) => Some(SocketAddrV6::new(inet.ip().to_ipv6_mapped(), inet.port(), 0, 0)),
        _ => None,
    }
}

fn unix_path(path: &[u8]) -> &[u8] {
    until_nul(path, UNIX_PATH_BYTES_MAX)
}

fn append_inet(address: SocketAddrV4, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&address.ip().octets());
    bytes.extend_from_slice(&address.port().to_ne_bytes());
}

fn append_inet6(address: SocketAddrV6, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&address.ip().octets());
    bytes.extend_from_slice(&address.port().to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(text: &str) -> SocketAddress<'static> {
        text.parse().map(SocketAddress::Inet).unwrap_or_else(|_| SocketAddress::Inet6(text.parse().unwrap()))
    }

    fn packed(source: Option<SocketAddress<'_>>, destination: Option<SocketAddress<'_>>) -> Vec<u8> {
        let tuple = PackedTuple::of(source, destination).unwrap();
        let mut bytes = Vec::new();
        tuple.append_to(&mut bytes);
        assert_eq!(bytes.len(), tuple.len());
        bytes
    }

    #[test]
    fn a_pair_has_source_and_destination_with_ports_in_the_order_of_the_machine() {
        let bytes = packed(Some(inet("10.0.0.1:1")), Some(inet("127.0.0.2:443")));
        let [low, high] = 443u16.to_ne_bytes();
        let [one, zero] = 1u16.to_ne_bytes();
        assert_eq!(bytes, [2, 10, 0, 0, 1, one, zero, 127, 0, 0, 2, low, high]);
        let bytes = packed(Some(inet("[::1]:1")), Some(inet("[fe80::2]:443")));
        assert_eq!((bytes.len(), bytes[0], bytes[16], bytes[19]), (37, 10, 1, 0xfe));
    }

    #[test]
    fn an_unknown_side_is_zero_and_a_pair_is_of_one_family() {
        assert_eq!(packed(None, Some(inet("1.2.3.4:5")))[..7], [2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(packed(Some(inet("1.2.3.4:5")), None)[7..], [0; 6]);
        let mapped = packed(Some(inet("[::ffff:1.2.3.4]:5")), Some(inet("5.6.7.8:9")));
        assert_eq!(mapped[29..35], [0xff, 0xff, 5, 6, 7, 8]);
        let mapped = packed(None, Some(inet("[::ffff:1.2.3.4]:5")));
        assert_eq!(mapped[11..17], [0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(PackedTuple::of(None, None), None);
    }

    #[test]
    fn a_unix_pair_ends_in_one_nul_and_another_family_reads_as_one_without_a_path() {
        let bytes = packed(Some(SocketAddress::Unix(b"")), Some(SocketAddress::UnixAbstract(b"a\0b")));
        assert_eq!((bytes.len(), bytes[0], &bytes[17..]), (19, 1, &b"a\0"[..]));
        let other = |family| [&[family], &[0; 17][..]].concat();
        assert_eq!(packed(Some(SocketAddress::Other(16)), None), other(16));
        // An IPv4 address that was cut short is of no family with a layout.
        assert_eq!(packed(Some(SocketAddress::Other(2)), None), other(0));
        assert_eq!(packed(None, Some(SocketAddress::Other(0x110))), other(0));
    }
}
