//! Comparisons of the ends of a connection, of which one is the socket address that an argument points to.
//!
//! libsinsp compares an IPv4 address with IPv4 values only and an IPv6 one with IPv6 values only; an IPv4 address that is
//! mapped into IPv6 it takes for IPv4. What a value means that is neither an address nor a network is not decided here.

use std::net::IpAddr;

use super::{
    fact::{numbers, words},
    formula::{AF_INET, AF_INET6, AddressTest, Atom, Formula, Network},
};
use crate::rules::condition::{Check, Operator};

const HOST_BITS_V4: u8 = 32;
const HOST_BITS_V6: u8 = 128;

/// A test of the socket address that an argument points to.
pub(super) const fn atom(argument: u8, test: AddressTest, is_negated: bool) -> Formula {
    Formula::Atom(Atom::Address { argument, test, is_negated })
}

/// A comparison with the host of the address alone.
pub(super) fn host(argument: u8, check: &Check, is_wanted: bool) -> Option<Formula> {
    let networks = networks(words(check)?)?;
    match (check.operator, is_wanted) {
        (Operator::Eq | Operator::In | Operator::Intersects, true) | (Operator::Ne, false) => {
            Some(inside(argument, &networks))
        }
        (Operator::Eq | Operator::In | Operator::Intersects, false) | (Operator::Ne, true) => {
            Some(outside(argument, &networks))
        }
        _ => None,
    }
}

/// A comparison with the hosts of both ends: `=` holds if it does for one of them, `!=` if it does for both.
pub(super) fn either_host(argument: u8, check: &Check, is_wanted: bool) -> Option<Formula> {
    match (check.operator, is_wanted) {
        // Of several networks libsinsp looks at the first alone.
        (Operator::Eq | Operator::In, false) | (Operator::Ne, true) => {
            Some(outside(argument, &networks(words(check)?.into_iter().take(1).collect())?))
        }
        // The other end may be it.
        _ => None,
    }
}

/// A comparison with the port of the address alone.
pub(super) fn port(argument: u8, check: &Check, is_wanted: bool) -> Option<Formula> {
    let ports: Vec<_> = ports(check)?;
    let last = ports.last().copied();
    let range = |first: Option<u16>, last: Option<u16>| first.zip(last).into_iter().collect::<Vec<_>>();
    let (ranges, is_negative) = match check.operator {
        Operator::Eq | Operator::In | Operator::Intersects => {
            (ports.iter().map(|&port| (port, port)).collect(), false)
        }
        Operator::Ne => (range(last, last), true),
        Operator::Lt => (range(Some(0), last?.checked_sub(1)), false),
        Operator::Le => (range(Some(0), last), false),
        Operator::Gt => (range(last?.checked_add(1), Some(u16::MAX)), false),
        Operator::Ge => (range(last, Some(u16::MAX)), false),
        _ => return None,
    };
    Some(atom(argument, AddressTest::PortIn(ranges), is_negative == is_wanted))
}

/// A comparison with the ports of both ends.
pub(super) fn either_port(argument: u8, check: &Check, is_wanted: bool) -> Option<Formula> {
    let is_of_both = match check.operator {
        Operator::Eq | Operator::In => !is_wanted,
        Operator::Ne => is_wanted,
        _ => false,
    };
    // The other end may be it.
    if is_of_both { port(argument, check, is_wanted) } else { None }
}

fn ports(check: &Check) -> Option<Vec<u16>> {
    numbers(check)?.into_iter().map(|number| u16::try_from(number).ok()).collect()
}

/// That the host is in one of the networks.
fn inside(argument: u8, networks: &[Network]) -> Formula {
    if networks.is_empty() {
        return Formula::False;
    }
    atom(argument, AddressTest::HostIn(networks.to_vec()), false)
}

/// That the host is in none of the networks of its own family.
fn outside(argument: u8, networks: &[Network]) -> Formula {
    let of_family = |family, is_v4| {
        let of_it: Vec<_> = networks.iter().filter(|network| is_mapped(network) == is_v4).copied().collect();
        let is_of_it = atom(argument, AddressTest::FamilyIn(vec![family]), false);
        match of_it.is_empty() {
            true => is_of_it,
            false => Formula::all([is_of_it, atom(argument, AddressTest::HostIn(of_it), true)]),
        }
    };
    Formula::any([of_family(AF_INET, true), of_family(AF_INET6, false)])
}

const fn is_mapped(network: &Network) -> bool {
    network.prefix_len >= HOST_BITS_V6 - HOST_BITS_V4 && network.address >> HOST_BITS_V4 == 0xffff
}

/// The networks that words stand for: a lone address is one of its own. `None` if any of them is neither.
fn networks(words: Vec<&str>) -> Option<Vec<Network>> {
    words.into_iter().map(network).collect()
}

fn network(word: &str) -> Option<Network> {
    let (host, prefix_len) = match word.split_once('/') {
        Some((host, prefix_len)) => (host, Some(prefix_len)),
        None => (word, None),
    };
    let is_plain = |digits: &str| digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let (address, host_bits, unused) = match host.parse().ok()? {
        IpAddr::V4(host) => (u128::from(host.to_ipv6_mapped()), HOST_BITS_V4, HOST_BITS_V6 - HOST_BITS_V4),
        // libsinsp takes these for IPv6 in a value and for IPv4 in an event.
        IpAddr::V6(host) if host.to_ipv4_mapped().is_some() || host.is_unspecified() => return None,
        IpAddr::V6(host) => (u128::from(host), HOST_BITS_V6, 0),
    };
    let prefix_len = match prefix_len {
        Some(digits) => digits.parse().ok().filter(|_| is_plain(digits)).filter(|&len| len <= host_bits)?,
        None => host_bits,
    };
    Some(Network { address, prefix_len: prefix_len + unused })
}
