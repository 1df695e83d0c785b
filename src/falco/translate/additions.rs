//! Captures that are numbers in a row rather than text: sockets, executable files, limits.

use super::facts::Facts;
use crate::event::{CaptureKind, Record};

/// What a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketInfo {
    pub(super) domain: u32,
    pub(super) kind: u32,
    pub(super) protocol: u32,
}

impl SocketInfo {
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        Self::parse(record.capture(CaptureKind::SocketInfo)?.data)
    }

    fn parse(data: &[u8]) -> Option<Self> {
        let ([domain, kind, protocol], _) = words(data)?;
        Some(Self { domain, kind, protocol })
    }
}

/// The executable file of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExeStat {
    pub(super) inode: u64,
    pub(super) ctime_ns: u64,
    pub(super) mtime_ns: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    layer: u32,
}

/// `CAP_DAC_OVERRIDE` (capabilities(7)).
const DAC_OVERRIDE: u64 = 1 << 1;

impl ExeStat {
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        Self::parse(record.capture(CaptureKind::ExeStat)?.data)
    }

    fn parse(data: &[u8]) -> Option<Self> {
        let (inode, rest) = data.split_first_chunk()?;
        let (ctime, rest) = rest.split_first_chunk()?;
        let (mtime, rest) = rest.split_first_chunk()?;
        let [inode, ctime_ns, mtime_ns] = [inode, ctime, mtime].map(|field| u64::from_ne_bytes(*field));
        let ([mode, uid, gid, layer], _) = words(rest)?;
        Some(Self { inode, ctime_ns, mtime_ns, mode, uid, gid, layer })
    }

    /// Falco's flags of the file: 1 writable by who runs it, 2 in the upper layer of an overlay, 8 in a lower one.
    pub(super) fn flags(&self, facts: &Facts) -> u32 {
        let layer = match self.layer {
            1 => 2,
            2 => 8,
            _ => 0,
        };
        layer | u32::from(self.is_writable(facts))
    }

    /// Whether who runs the file may write it, by their effective ids. Supplementary groups are not looked at.
    fn is_writable(&self, facts: &Facts) -> bool {
        let is_permitted = |bit: u32| self.mode & bit != 0;
        let effective = |ids: Option<[u32; 3]>| ids.map(|[_, effective, _]| effective);
        let overrides = facts.capabilities.is_some_and(|[.., effective]| effective & DAC_OVERRIDE != 0);
        overrides
            || match (effective(facts.uid), effective(facts.gid)) {
                (Some(uid), _) if uid == self.uid => is_permitted(0o200),
                (_, Some(gid)) if gid == self.gid => is_permitted(0o020),
                _ => is_permitted(0o002),
            }
    }
}

/// The soft limit of open files of a new program.
pub(super) fn fd_limit(record: &Record<'_>) -> Option<u64> {
    Some(u64::from_ne_bytes(*record.capture(CaptureKind::FdLimit)?.data.first_chunk()?))
}

/// The first `N` numbers of 32 bits, and the rest.
fn words<const N: usize>(data: &[u8]) -> Option<([u32; N], &[u8])> {
    let mut words = [0; N];
    let mut rest = data;
    for word in &mut words {
        let (bytes, after) = rest.split_first_chunk()?;
        (*word, rest) = (u32::from_ne_bytes(*bytes), after);
    }
    Some((words, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_layouts_are_read_and_short_ones_are_nothing() {
        let info = SocketInfo { domain: 2, kind: 1, protocol: 6 };
        assert_eq!(SocketInfo::parse(&bytes(&[2, 1, 6])), Some(info));
        assert_eq!(SocketInfo::parse(&bytes(&[2, 1])), None);
        let mut stat = [7u64, 8, 9].map(u64::to_ne_bytes).concat();
        stat.extend(bytes(&[0o755, 1, 2]));
        assert_eq!(ExeStat::parse(&stat), None);
        stat.extend(bytes(&[1]));
        let exe = ExeStat { inode: 7, ctime_ns: 8, mtime_ns: 9, mode: 0o755, uid: 1, gid: 2, layer: 1 };
        assert_eq!(ExeStat::parse(&stat), Some(exe));
    }

    #[test]
    fn a_file_is_writable_for_whom_its_mode_says() {
        let exe = |mode| ExeStat { inode: 0, ctime_ns: 0, mtime_ns: 0, mode, uid: 7, gid: 8, layer: 0 };
        let who = |uid, gid| {
            let mut facts = Facts::default();
            (facts.uid, facts.gid) = (Some([0, uid, 0]), Some([0, gid, 0]));
            facts
        };
        assert_eq!(exe(0o755).flags(&who(7, 9)), 1);
        assert_eq!(exe(0o575).flags(&who(7, 8)), 0, "the owner is not asked for the group");
        assert_eq!(exe(0o575).flags(&who(9, 8)), 1);
        assert_eq!(exe(0o557).flags(&who(9, 9)), 1);
        let mut root = who(9, 9);
        root.capabilities = Some([0, 0, DAC_OVERRIDE]);
        assert_eq!(exe(0o555).flags(&root), 1);
        assert_eq!(ExeStat { layer: 1, ..exe(0o555) }.flags(&who(9, 9)), 2);
        assert_eq!(ExeStat { layer: 2, ..exe(0o555) }.flags(&who(9, 9)), 8);
    }
}
