//! Captures that later minor versions of the wire format add. They are found by their code, and done without where
//! the engine does not take them.

use crate::event::Record;

/// What a socket is: three `i32`, domain, type and protocol (`SO_DOMAIN`, `SO_TYPE`, `SO_PROTOCOL`, socket(7)).
const SOCKET_INFO: u16 = 40;

/// The executable file: `u64` inode, change time and modification time in nanoseconds since 1970, then `u32` flags in
/// Falco's numbering (1 writable by the user, 2 upper layer of an overlay, 8 lower layer) and a `u32` of 0.
const EXE_STAT: u16 = 41;

/// The soft limit of open files: one `u64` (`RLIMIT_NOFILE`, getrlimit(2)).
const FD_LIMIT: u16 = 42;

/// What a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketInfo {
    pub(super) domain: u32,
    pub(super) kind: u32,
    pub(super) protocol: u32,
}

impl SocketInfo {
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        Self::parse(capture(record, SOCKET_INFO)?)
    }

    fn parse(data: &[u8]) -> Option<Self> {
        let (domain, rest) = data.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let protocol = rest.first_chunk()?;
        let [domain, kind, protocol] = [domain, kind, protocol].map(|field| u32::from_ne_bytes(*field));
        Some(Self { domain, kind, protocol })
    }
}

/// The executable file of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExeStat {
    pub(super) inode: u64,
    pub(super) ctime_ns: u64,
    pub(super) mtime_ns: u64,
    pub(super) flags: u32,
}

impl ExeStat {
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        Self::parse(capture(record, EXE_STAT)?)
    }

    fn parse(data: &[u8]) -> Option<Self> {
        let (inode, rest) = data.split_first_chunk()?;
        let (ctime, rest) = rest.split_first_chunk()?;
        let (mtime, rest) = rest.split_first_chunk()?;
        let flags = u32::from_ne_bytes(*rest.first_chunk()?) & 0b1011;
        let [inode, ctime_ns, mtime_ns] = [inode, ctime, mtime].map(|field| u64::from_ne_bytes(*field));
        Some(Self { inode, ctime_ns, mtime_ns, flags })
    }
}

/// The soft limit of open files of a new program.
pub(super) fn fd_limit(record: &Record<'_>) -> Option<u64> {
    Some(u64::from_ne_bytes(*capture(record, FD_LIMIT)?.first_chunk()?))
}

fn capture<'a>(record: &Record<'a>, code: u16) -> Option<&'a [u8]> {
    record.captures().find(|capture| capture.kind.code() == code).map(|capture| capture.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_read_and_short_ones_are_nothing() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let info = SocketInfo { domain: 2, kind: 1, protocol: 6 };
        assert_eq!(SocketInfo::parse(&words(&[2, 1, 6])), Some(info));
        assert_eq!(SocketInfo::parse(&words(&[2, 1])), None);
        let mut stat = [7u64, 8, 9].map(u64::to_ne_bytes).concat();
        assert_eq!(ExeStat::parse(&stat), None);
        stat.extend(words(&[0xff, 0]));
        let exe = ExeStat { inode: 7, ctime_ns: 8, mtime_ns: 9, flags: 0b1011 };
        assert_eq!(ExeStat::parse(&stat), Some(exe));
    }
}
