//! Memory that we write and a tracee can only read, for copies of its arguments.
//!
//! It is a memfd whose seals (fcntl(2), `F_SEAL_FUTURE_WRITE`, Linux 5.1) leave our own mapping writable and deny every other
//! one, also by mprotect(2), by a descriptor that is opened anew, and by `/proc/PID/mem`. A descriptor of it reaches the
//! tracee by a socket of the tracee's own (unix(7)), since nobody can open what is ours.
#![expect(unsafe_code, reason = "a mapping is a range of addresses")]

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, BufReader, IoSlice, Read},
    num::NonZeroUsize,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    ptr::NonNull,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
        socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket},
    },
};

use super::{Pid, RemoteAddr, procfs};
use crate::limits;

/// Memory of this size, until it is dropped.
#[derive(Debug)]
pub struct Copies {
    /// `None` once nobody is to get a descriptor any more.
    file: Option<File>,
    start: NonNull<u8>,
    bytes: usize,
    inode: u64,
}

// SAFETY: the mapping belongs to the process, not to the thread that made it, and only `write` looks at it, which takes it
// mutably.
unsafe impl Send for Copies {}

impl Copies {
    /// Makes it, sealed. A page takes up memory when it is first written.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(bytes: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let name = c"creance-arguments";
        let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
        file.set_len(bytes as u64)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses an address where nothing is mapped, so no memory of ours changes.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0) }?.cast();
        let inode = file.metadata()?.ino();
        let copies = Self { file: Some(file), start, bytes, inode };
        let seals = SealFlag::F_SEAL_FUTURE_WRITE
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_SEAL;
        let file = copies.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(copies)
    }

    /// Writes `bytes` at `offset`; tells whether there is room.
    #[must_use]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let has_room = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.bytes);
        if has_room {
            // SAFETY: it was just looked at that the sum does not pass the end of the mapping.
            let at = unsafe { self.start.add(offset) };
            // SAFETY: the range lies within our mapping, which is writable; `bytes`, which is borrowed, is no part of it,
            // since nobody borrows from it. That others may read it meanwhile is theirs to bear.
            unsafe { at.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        has_room
    }

    /// Closes the descriptor: no more can be sent. What is mapped stays.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// How a process has it mapped at this address, from its beginning: from `/proc/PID/maps`. `None` if it has not, or not
    /// only to read.
    #[must_use]
    pub fn mapped_at(&self, pid: Pid, addr: RemoteAddr) -> Option<Mapped> {
        let maps = procfs::open(pid.leader(), "maps").ok()?;
        let lines = BufReader::new(maps.take(limits::MAPS_BYTES_MAX)).split(b'\n');
        let start = format!("{:08x}-", addr.0);
        lines.map_while(Result::ok).filter(|line| line.starts_with(start.as_bytes())).find_map(|line| {
            let line = String::from_utf8_lossy(&line);
            let mut fields = line.split_ascii_whitespace().skip(1);
            let mapped = match fields.next() {
                Some("r--s") => Mapped::ToRead,
                Some("r-xs") => Mapped::ToExecute,
                _ => return None,
            };
            let is_start = fields.next().is_some_and(|offset| offset.bytes().all(|digit| digit == b'0'));
            let inode = fields.nth(1).and_then(|inode| inode.parse().ok());
            (is_start && inode == Some(self.inode)).then_some(mapped)
        })
    }
}

/// How memory is mapped that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapped {
    /// It can be read.
    ToRead,
    /// What stands there can be executed as well.
    ToExecute,
}

impl Drop for Copies {
    fn drop(&mut self) {
        // SAFETY: the range is one that `mmap` has given us, and nobody else was told of it. Unmapping it cannot fail.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

/// Sends descriptors to sockets of tracees, whose names in the abstract namespace (unix(7)) nobody can guess.
#[derive(Debug)]
pub struct Post {
    socket: OwnedFd,
    random: RandomState,
    sent: u64,
}

/// Bytes of such a name.
const NAME_BYTES: usize = 21;

/// The name of a socket, unlike every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketName([u8; NAME_BYTES]);

impl SocketName {
    /// Bytes of its `struct sockaddr_un`.
    pub const ADDRESS_BYTES: u64 = 24;

    /// Its `struct sockaddr_un`, as it lies in memory.
    #[must_use]
    pub fn address(&self) -> [u64; 3] {
        let mut bytes = [0; 24];
        let family = u16::try_from(libc::AF_UNIX).unwrap_or(1).to_ne_bytes();
        // A NUL before the name makes it an abstract one.
        for (into, from) in bytes.iter_mut().zip(family.into_iter().chain([0]).chain(self.0)) {
            *into = from;
        }
        [0, 8, 16].map(|at: usize| {
            let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).unwrap_or_default();
            u64::from_ne_bytes(word)
        })
    }
}

impl Post {
    /// A socket to send from.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        Ok(Self { socket, random: RandomState::new(), sent: 0 })
    }

    /// A name for the next socket.
    pub fn name(&mut self) -> SocketName {
        self.sent += 1;
        let mut name = *b"creance-0000000000000";
        let mut random = self.random.hash_one(self.sent);
        for digit in name.iter_mut().skip(8) {
            *digit = b"0123456789abcdefghijklmnopqrstuv".get((random & 31) as usize).copied().unwrap_or(b'0');
            random >>= 5;
        }
        SocketName(name)
    }

    /// Sends a descriptor of `copies`, with a message of one byte.
    ///
    /// # Errors
    /// What sendmsg(2) says: `ECONNREFUSED` if there is no such socket.
    pub fn send(&self, to: SocketName, copies: &Copies) -> io::Result<()> {
        let address = UnixAddr::new_abstract(&to.0)?;
        let fds = [copies.file.as_ref().ok_or(io::ErrorKind::NotFound)?.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(b"c")],
            &control,
            MsgFlags::MSG_DONTWAIT,
            Some(&address),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_write_it() {
        let mut copies = Copies::create(8192).unwrap();
        assert!(copies.write(8190, b"ab") && !copies.write(8191, b"ab") && !copies.write(usize::MAX, b"ab"));
        let length = NonZeroUsize::new(8192).unwrap();
        let map = |protection| {
            // SAFETY: as in `create`.
            unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, copies.file.as_ref().unwrap(), 0) }
        };
        assert!(map(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).is_err());
        let seen = map(ProtFlags::PROT_READ).unwrap();
        // SAFETY: the range is one that `mmap` has just given us, and nobody uses it.
        let changed = unsafe { nix::sys::mman::mprotect(seen, 8192, ProtFlags::PROT_WRITE) };
        assert!(changed.is_err());
        let addr = RemoteAddr(seen.as_ptr().addr() as u64);
        let own = Pid(nix::unistd::getpid().as_raw());
        assert_eq!(copies.mapped_at(own, addr), Some(Mapped::ToRead));
        let writable = RemoteAddr(copies.start.as_ptr().addr() as u64);
        assert_eq!(copies.mapped_at(own, writable), None, "it is writable");
        assert_eq!(Copies::create(8192).unwrap().mapped_at(own, addr), None, "it is another one");
        match map(ProtFlags::PROT_READ | ProtFlags::PROT_EXEC) {
            Ok(code) => {
                let addr = RemoteAddr(code.as_ptr().addr() as u64);
                assert_eq!(copies.mapped_at(own, addr), Some(Mapped::ToExecute));
            }
            Err(errno) => println!("skipped: memory of a file cannot be executed here: {errno}"),
        }
    }

    #[test]
    fn a_name_is_an_address_in_the_abstract_namespace() {
        let mut post = Post::open().unwrap();
        let (one, other) = (post.name(), post.name());
        assert_ne!(one, other);
        let bytes: Vec<u8> = one.address().into_iter().flat_map(u64::to_ne_bytes).collect();
        assert_eq!((&bytes[..3], &bytes[3..]), (&[1, 0, 0][..], &one.0[..]));
    }
}
