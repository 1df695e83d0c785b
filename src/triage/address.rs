//! Tests of the socket address that a call names.
//!
//! It reads `struct sockaddr` (sockaddr(3type)) as far as bytes were read, and never guesses: what Falco may show in
//! another way than it was written is not known.

use crate::interest::formula::{AF_INET, AF_INET6, AF_UNSPEC, AddressTest, Network};

/// What the kernel takes at least for an address of IPv4, `sizeof(struct sockaddr_in)`.
const INET_BYTES: usize = 16;

/// What the kernel takes at least for one of IPv6: all but the scope (`SIN6_LEN_RFC2133` in linux/in6.h).
const INET6_BYTES: usize = 24;

/// Where IPv4 addresses begin among those of IPv6.
const MAPPED: u128 = 0xffff_0000_0000;

/// Tells whether an address passes a test. `None` if that cannot be known.
pub(super) fn passes(test: &AddressTest, bytes: &[u8]) -> Option<bool> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let internet = match family {
        // It may disconnect a socket, or stand for AF_INET, as the socket likes.
        AF_UNSPEC => return None,
        AF_INET | AF_INET6 => Some(Endpoint::of(family, bytes)?),
        _ => None,
    };
    match test {
        AddressTest::FamilyIn(families) => match internet {
            // Falco shows connections of IPv4 that go over a socket of IPv6 as one or the other.
            Some(endpoint) if family == AF_INET6 && endpoint.is_mapped() => {
                let of_either = [AF_INET, AF_INET6].map(|family| families.contains(&family));
                (of_either[0] == of_either[1]).then_some(of_either[0])
            }
            _ => Some(families.contains(&family)),
        },
        AddressTest::PortIn(ranges) => Some(internet.is_some_and(|endpoint| {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&endpoint.port))
        })),
        AddressTest::HostIn(networks) => match internet {
            // The kernel makes another host of it.
            Some(endpoint) if endpoint.is_unspecified() => None,
            Some(endpoint) => Some(networks.iter().any(|network| has_host(network, endpoint.host))),
            None => Some(false),
        },
    }
}

/// An address of the internet.
#[derive(Clone, Copy)]
struct Endpoint {
    host: u128,
    port: u16,
}

impl Endpoint {
    fn of(family: u16, bytes: &[u8]) -> Option<Self> {
        let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
        let host = if family == AF_INET {
            bytes.get(..INET_BYTES)?;
            MAPPED | u128::from(u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?))
        } else {
            u128::from_be_bytes(*bytes.get(8..INET6_BYTES)?.first_chunk()?)
        };
        Some(Self { host, port })
    }

    const fn is_unspecified(self) -> bool {
        matches!(self.host, 0 | MAPPED)
    }

    /// Whether libsinsp takes it for an address of IPv4.
    const fn is_mapped(self) -> bool {
        self.host == 0 || self.host >> 32 == MAPPED >> 32
    }
}

fn has_host(network: &Network, host: u128) -> bool {
    let ignored = 128_u32.saturating_sub(u32::from(network.prefix_len));
    // All bits are ignored for a prefix of length 0, and no shift goes that far.
    ((network.address ^ host).checked_shr(ignored)).is_none_or(|differing| differing == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(host: [u8; 4], port: u16) -> Vec<u8> {
        [&AF_INET.to_ne_bytes(), &port.to_be_bytes()[..], &host, &[0; 8]].concat()
    }

    fn inet6(host: u128, port: u16) -> Vec<u8> {
        [&AF_INET6.to_ne_bytes(), &port.to_be_bytes()[..], &[0; 4], &host.to_be_bytes(), &[0; 4]].concat()
    }

    fn network(host: [u8; 4], prefix_len: u8) -> AddressTest {
        let address = MAPPED | u128::from(u32::from_be_bytes(host));
        AddressTest::HostIn(vec![Network { address, prefix_len: prefix_len + 96 }])
    }

    #[test]
    fn hosts_are_looked_for_in_networks() {
        let private = network([10, 0, 0, 0], 8);
        assert_eq!(passes(&private, &inet([10, 1, 2, 3], 80)), Some(true));
        assert_eq!(passes(&private, &inet([11, 1, 2, 3], 80)), Some(false));
        assert_eq!(passes(&private, &inet6(MAPPED | 0x0a01_0203, 80)), Some(true));
        assert_eq!(passes(&private, &inet6(1, 80)), Some(false));
        assert_eq!(passes(&network([10, 1, 2, 3], 32), &inet([10, 1, 2, 3], 80)), Some(true));
        let all = AddressTest::HostIn(vec![Network { address: 7, prefix_len: 0 }]);
        assert_eq!(passes(&all, &inet6(1, 80)), Some(true));
    }

    #[test]
    fn ports_are_looked_for_in_ranges() {
        let ports = AddressTest::PortIn(vec![(53, 53), (8000, 8080)]);
        for (port, is_in) in [(52, false), (53, true), (54, false), (8000, true), (8080, true), (8081, false)]
        {
            assert_eq!(passes(&ports, &inet([10, 0, 0, 1], port)), Some(is_in), "{port}");
            assert_eq!(passes(&ports, &inet6(1, port)), Some(is_in), "{port}");
        }
    }

    #[test]
    fn a_local_address_has_neither_host_nor_port() {
        let local = [&1_u16.to_ne_bytes()[..], b"/run/x\0"].concat();
        assert_eq!(passes(&AddressTest::PortIn(vec![(0, u16::MAX)]), &local), Some(false));
        assert_eq!(passes(&network([0; 4], 0), &local), Some(false));
        assert_eq!(passes(&AddressTest::FamilyIn(vec![1]), &local), Some(true));
        assert_eq!(passes(&AddressTest::FamilyIn(vec![AF_INET]), &local), Some(false));
    }

    #[test]
    fn what_is_short_or_has_no_family_is_not_known() {
        let any_port = AddressTest::PortIn(vec![(0, u16::MAX)]);
        let families = AddressTest::FamilyIn(vec![AF_INET, AF_INET6]);
        for test in [&any_port, &families] {
            for (whole, least) in [(inet([10, 0, 0, 1], 80), INET_BYTES), (inet6(1, 80), INET6_BYTES)] {
                for len in 0..=whole.len() {
                    assert_eq!(passes(test, &whole[..len]), (len >= least).then_some(true), "{len}");
                }
            }
            assert_eq!(passes(test, &[0; 16]), None);
        }
    }

    #[test]
    fn what_falco_may_show_otherwise_is_not_known() {
        let any_host = AddressTest::HostIn(vec![Network { address: 0, prefix_len: 0 }]);
        assert_eq!(passes(&any_host, &inet([0; 4], 80)), None);
        assert_eq!(passes(&any_host, &inet6(0, 80)), None);
        assert_eq!(passes(&AddressTest::FamilyIn(vec![AF_INET]), &inet6(MAPPED | 1, 80)), None);
        assert_eq!(passes(&AddressTest::FamilyIn(vec![AF_INET6]), &inet6(MAPPED | 1, 80)), None);
        assert_eq!(passes(&AddressTest::FamilyIn(vec![AF_INET, AF_INET6]), &inet6(0, 80)), Some(true));
        assert_eq!(passes(&AddressTest::FamilyIn(vec![1]), &inet6(0, 80)), Some(false));
        assert_eq!(passes(&AddressTest::FamilyIn(vec![AF_INET6]), &inet6(1, 80)), Some(true));
    }
}
