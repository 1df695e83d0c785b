//! Reading a tracee's memory, in the quickest of three ways that the kernel permits; and writing it, in the one that heeds
//! its protection.
//!
//! process_vm_readv(2) takes one call for several ranges, but the default seccomp profile of Docker refuses it to
//! containers without `CAP_SYS_PTRACE`. Then `/proc/TID/mem` is read, a call a range. Where another
//! user than ours has started the thread's program, both are refused, but not PTRACE_PEEKDATA, a call a word, on a thread
//! that stands still. (Between the change of user and the exec nothing can be read: the process is not dumpable.)
//!
//! A range is only read whole or up to a page that is not there, since the kernel stops at the first element of
//! the vector that it cannot copy. So every range here ends at a page boundary at the latest.

use std::{
    io::{IoSlice, IoSliceMut},
    os::unix::fs::FileExt,
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev},
    unistd,
};

use super::{RemoteAddr, Tid, procfs, ptrace};
use crate::limits;

/// Smallest page of any architecture. A larger real page only costs another element in the vector.
const PAGE_BYTES: u64 = 4096;

/// What PTRACE_PEEKDATA reads at once.
const WORD_BYTES: u64 = size_of::<libc::c_long>() as u64;

/// Strings that one call reads together: no system call has more.
pub const STRINGS_MAX: usize = 4;

/// Why memory could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteReadError {
    /// The thread is no more.
    #[error("reading at {addr}: thread {tid} is gone")]
    Gone {
        /// The thread.
        tid: Tid,
        /// Where the read began.
        addr: RemoteAddr,
    },
    /// The kernel lets us do it in none of the three ways: the thread is not ours to trace, or does not stand still.
    #[error("reading at {addr} in thread {tid} is not permitted")]
    Denied {
        /// The thread.
        tid: Tid,
        /// Where the read began.
        addr: RemoteAddr,
    },
    /// Nothing is mapped there.
    #[error("nothing is mapped at {addr} in thread {tid}")]
    Unmapped {
        /// The thread.
        tid: Tid,
        /// Where the read began.
        addr: RemoteAddr,
    },
}

/// A string found in a tracee's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteString {
    /// Bytes before its NUL, or before the end of what was read.
    pub len: usize,
    /// Whether its NUL was found.
    pub is_terminated: bool,
}

/// Reads `buf.len()` bytes at `addr`, or fewer where a page is missing on the way; tells how many.
///
/// # Errors
/// [`RemoteReadError`] if not even the first byte can be read.
pub fn read_remote(tid: Tid, addr: RemoteAddr, buf: &mut [u8]) -> Result<usize, RemoteReadError> {
    if buf.is_empty() {
        return Ok(0);
    }
    let want = buf.len();
    // 17 pages cover the longest read that anything here asks for.
    let mut ranges = [RemoteIoVec { base: 0, len: 0 }; 17];
    let used = split_at_pages(addr, want, &mut ranges);
    vm_read(tid, addr, buf, ranges.get(..used).unwrap_or_default())
}

/// Writes all of `bytes` at `addr`, where the thread itself could; tells whether it did. If not, some may have been written.
#[must_use]
pub fn write_remote(tid: Tid, addr: RemoteAddr, bytes: &[u8]) -> bool {
    let Ok(base) = usize::try_from(addr.0) else { return false };
    let range = RemoteIoVec { base, len: bytes.len() };
    // The other ways of writing heed no protection.
    let written = process_vm_writev(unistd::Pid::from_raw(tid.0), &[IoSlice::new(bytes)], &[range]);
    written == Ok(bytes.len())
}

/// Reads a NUL-terminated string at `addr` into `buf`, page by page, so that a string at the very end of a mapping
/// is read as well.
///
/// # Errors
/// [`RemoteReadError`] if not even its first byte can be read.
pub fn read_string(tid: Tid, addr: RemoteAddr, buf: &mut [u8]) -> Result<RemoteString, RemoteReadError> {
    let mut len = 0;
    while len < buf.len() {
        let at = addr.plus(len as u64);
        let chunk_len = bytes_left_in_page(at).min(buf.len() - len).min(limits::PATH_BYTES_MAX);
        let Some(chunk) = buf.get_mut(len..).and_then(|rest| rest.get_mut(..chunk_len)) else { break };
        let read = match read_remote(tid, at, chunk) {
            Ok(read) => read,
            Err(error) if len == 0 => return Err(error),
            Err(_) => break,
        };
        let chunk = chunk.get(..read).unwrap_or_default();
        if let Some(end) = chunk.iter().position(|&byte| byte == 0) {
            return Ok(RemoteString { len: len + end, is_terminated: true });
        }
        len += read;
        if read < chunk_len {
            break;
        }
    }
    Ok(RemoteString { len, is_terminated: false })
}

/// Reads the first [`limits::STRING_FIRST_READ_BYTES`] bytes at each of up to [`STRINGS_MAX`] addresses into `buf`, one behind the
/// other and by one system call in nearly all cases; tells how many bytes were read without a gap from the start of `buf` on. An
/// address for which `buf` has no room is left out, and so is one beyond [`STRINGS_MAX`].
#[must_use]
pub fn read_heads(tid: Tid, addrs: impl IntoIterator<Item = RemoteAddr>, buf: &mut [u8]) -> usize {
    let mut ranges = [RemoteIoVec { base: 0, len: 0 }; 2 * STRINGS_MAX];
    let (mut used, mut first) = (0, None);
    let count = buf.len() / limits::STRING_FIRST_READ_BYTES;
    for addr in addrs.into_iter().take(count.min(STRINGS_MAX)) {
        let Some(rest) = ranges.get_mut(used..) else { break };
        used += split_at_pages(addr, limits::STRING_FIRST_READ_BYTES, rest);
        first = first.or(Some(addr));
    }
    let (Some(first), Some(ranges)) = (first, ranges.get(..used)) else { return 0 };
    let len = ranges.iter().map(|range| range.len).sum();
    buf.get_mut(..len).and_then(|buf| vm_read(tid, first, buf, ranges).ok()).unwrap_or(0)
}

/// Splits `len` bytes at `addr` into ranges that each lie within one page; tells how many ranges it made. What
/// does not fit into `ranges` is left out.
fn split_at_pages(addr: RemoteAddr, len: usize, ranges: &mut [RemoteIoVec]) -> usize {
    let (mut at, mut left, mut used) = (addr, len, 0);
    for range in ranges {
        if left == 0 {
            break;
        }
        let piece = bytes_left_in_page(at).min(left);
        // On a 32-bit creance an address beyond its own could not be passed; there is no such build.
        *range = RemoteIoVec { base: usize::try_from(at.0).unwrap_or(0), len: piece };
        at = at.plus(piece as u64);
        left -= piece;
        used += 1;
    }
    used
}

fn bytes_left_in_page(addr: RemoteAddr) -> usize {
    usize::try_from(PAGE_BYTES - addr.0 % PAGE_BYTES).unwrap_or(1)
}

fn vm_read(
    tid: Tid,
    addr: RemoteAddr,
    buf: &mut [u8],
    ranges: &[RemoteIoVec],
) -> Result<usize, RemoteReadError> {
    match process_vm_readv(unistd::Pid::from_raw(tid.0), &mut [IoSliceMut::new(buf)], ranges) {
        Ok(read) => Ok(read),
        Err(Errno::ESRCH) => Err(RemoteReadError::Gone { tid, addr }),
        Err(Errno::EPERM | Errno::ENOSYS) => {
            proc_read(tid, buf, ranges).or_else(|()| peek(tid, addr, buf, ranges))
        }
        Err(_) => Err(RemoteReadError::Unmapped { tid, addr }),
    }
    .and_then(|read| if read == 0 { Err(RemoteReadError::Unmapped { tid, addr }) } else { Ok(read) })
}

/// Reads through `/proc/TID/mem`; an error if it is not ours to open.
fn proc_read(tid: Tid, buf: &mut [u8], ranges: &[RemoteIoVec]) -> Result<usize, ()> {
    let memory = procfs::open(tid, "mem").map_err(|_| ())?;
    Ok(read_ranges(buf, ranges, |at, target| memory.read_at(target, at).unwrap_or(0)))
}

/// Reads through PTRACE_PEEKDATA, a word at a time.
fn peek(
    tid: Tid,
    addr: RemoteAddr,
    buf: &mut [u8],
    ranges: &[RemoteIoVec],
) -> Result<usize, RemoteReadError> {
    let mut is_ours = true;
    let read = read_ranges(buf, ranges, |at, target| {
        let mut read = 0;
        while let Some(rest) = target.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let from = RemoteAddr(at).plus(read as u64);
            // Words at multiples of their size never reach into the next page, which may not be there.
            let skip = from.0 % WORD_BYTES;
            match ptrace::peek(tid, RemoteAddr(from.0 - skip)) {
                Ok(word) => {
                    let word = word.iter().skip(usize::try_from(skip).unwrap_or(0));
                    for (into, byte) in rest.iter_mut().zip(word) {
                        *into = *byte;
                        read += 1;
                    }
                }
                Err(errno) => {
                    is_ours = errno != Errno::ESRCH;
                    break;
                }
            }
        }
        read
    });
    if is_ours { Ok(read) } else { Err(RemoteReadError::Denied { tid, addr }) }
}

/// Fills `buf` from one range after the other by `read`, which tells how many bytes it could read, until one is cut
/// short.
fn read_ranges(
    buf: &mut [u8],
    ranges: &[RemoteIoVec],
    mut read: impl FnMut(u64, &mut [u8]) -> usize,
) -> usize {
    let mut len = 0;
    for range in ranges {
        let Some(target) = buf.get_mut(len..).and_then(|rest| rest.get_mut(..range.len)) else { break };
        let got = read(range.base as u64, target);
        len += got;
        if got < range.len {
            break;
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_tid() -> Tid {
        Tid(unistd::gettid().as_raw())
    }

    fn addr_of(bytes: &[u8]) -> RemoteAddr {
        RemoteAddr(bytes.as_ptr().addr() as u64)
    }

    #[test]
    fn the_heads_of_several_strings_are_read_at_once_up_to_the_first_that_is_not_there() {
        const HEAD: usize = limits::STRING_FIRST_READ_BYTES;
        let [one, other] = [[b'x'; HEAD], [b'y'; HEAD]];
        let mut buf = [0; 3 * HEAD];
        assert_eq!(read_heads(own_tid(), [addr_of(&one), addr_of(&other)], &mut buf), 2 * HEAD);
        assert_eq!(buf, [[b'x'; HEAD], [b'y'; HEAD], [0; HEAD]].as_flattened());
        let with_gap = [addr_of(&other), RemoteAddr(8), addr_of(&one)];
        assert_eq!(read_heads(own_tid(), with_gap, &mut buf), HEAD);
        assert!(buf.starts_with(&other));
        assert_eq!(read_heads(own_tid(), [RemoteAddr(8), addr_of(&one)], &mut buf), 0);
        assert_eq!(
            read_heads(own_tid(), [addr_of(&one); 2], &mut buf[..HEAD]),
            HEAD,
            "as many as there is room for"
        );
    }

    #[test]
    fn a_long_string_is_read_over_page_boundaries() {
        let mut text = vec![b'a'; 3 * 4096];
        text.push(0);
        let mut buf = vec![0; 4 * 4096];
        let string = read_string(own_tid(), addr_of(&text), &mut buf).unwrap();
        assert_eq!(string, RemoteString { len: 3 * 4096, is_terminated: true });
        let string = read_string(own_tid(), addr_of(&text), &mut buf[..100]).unwrap();
        assert_eq!(string, RemoteString { len: 100, is_terminated: false });
    }

    #[test]
    fn proc_mem_reads_what_process_vm_readv_reads() {
        let text: Vec<u8> = (0..3 * 4096u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let mut ranges = [RemoteIoVec { base: 0, len: 0 }; 17];
        let used = split_at_pages(addr_of(&text), text.len(), &mut ranges);
        let mut buf = vec![0; text.len()];
        assert_eq!(proc_read(own_tid(), &mut buf, &ranges[..used]), Ok(text.len()));
        assert_eq!(buf, text);
        ranges[1].base = 8;
        assert_eq!(proc_read(own_tid(), &mut buf, &ranges[..used]), Ok(ranges[0].len), "up to the gap");
    }

    #[test]
    fn an_unmapped_address_is_told() {
        let mut buf = [0; 8];
        let error = read_remote(own_tid(), RemoteAddr(8), &mut buf).unwrap_err();
        assert!(matches!(error, RemoteReadError::Unmapped { .. }), "{error}");
    }
}
