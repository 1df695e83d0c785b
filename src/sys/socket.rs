//! The addresses of a tracee's socket, asked of the kernel through a duplicate of its descriptor.
//!
//! pidfd_getfd(2), Linux 5.6, needs the right to ptrace the process; container runtimes' default seccomp profiles
//! permit it only with `CAP_SYS_PTRACE`.
#![expect(unsafe_code, reason = "pidfd_getfd(2) has no safe wrapper, and the address is wanted as raw bytes")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::{Pid, signal::PidFd};
use crate::limits;

/// A `struct sockaddr` as the kernel wrote it.
#[derive(Debug, Clone, Copy)]
pub struct Sockaddr {
    bytes: [u8; limits::SOCKADDR_BYTES_MAX],
    len: usize,
}

impl Sockaddr {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Duplicates the descriptor `fd` of a process into this one.
///
/// # Errors
/// What the kernel says: `EPERM` without the right to trace it, `EBADF` when there is no such descriptor.
pub fn duplicate(pid: Pid, fd: i32) -> io::Result<OwnedFd> {
    let process = PidFd::open(pid)?;
    // SAFETY: pidfd_getfd takes three integers and touches no memory.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    let copy = i32::try_from(copy).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The socket's own address: getsockname(2).
///
/// # Errors
/// What the kernel says: `ENOTSOCK` when it is no socket.
pub fn local(socket: &OwnedFd) -> io::Result<Sockaddr> {
    address(socket, libc::getsockname)
}

/// The address of the socket's peer: getpeername(2).
///
/// # Errors
/// What the kernel says: `ENOTCONN` when it has none.
pub fn peer(socket: &OwnedFd) -> io::Result<Sockaddr> {
    address(socket, libc::getpeername)
}

/// What a socket is, as numbers of socket(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketInfo {
    /// `SO_DOMAIN`.
    pub domain: i32,
    /// `SO_TYPE`.
    pub kind: i32,
    /// `SO_PROTOCOL`.
    pub protocol: i32,
}

/// Asks what the socket is: getsockopt(2).
///
/// # Errors
/// What the kernel says: `ENOTSOCK` when it is no socket.
pub fn info(socket: &OwnedFd) -> io::Result<SocketInfo> {
    let [domain, kind, protocol] =
        [libc::SO_DOMAIN, libc::SO_TYPE, libc::SO_PROTOCOL].map(|name| option(socket, name));
    Ok(SocketInfo { domain: domain?, kind: kind?, protocol: protocol? })
}

fn option(socket: &OwnedFd, name: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut len = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`; both are locals that outlive the call.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Whether calls on it never wait: `O_NONBLOCK`.
#[must_use]
pub fn is_nonblocking(socket: &OwnedFd) -> bool {
    let flags = nix::fcntl::fcntl(socket, nix::fcntl::FcntlArg::F_GETFL);
    flags.is_ok_and(|flags| flags & libc::O_NONBLOCK != 0)
}

type AddressCall = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32;

fn address(socket: &OwnedFd, call: AddressCall) -> io::Result<Sockaddr> {
    let mut bytes = [0; limits::SOCKADDR_BYTES_MAX];
    let mut len = libc::socklen_t::try_from(bytes.len()).unwrap_or(0);
    // SAFETY: `call` is getsockname or getpeername: the kernel writes at most `len` bytes, the size of `bytes`, and
    // the real length into `len`; both are locals that outlive the call. Neither has to be aligned for the kernel.
    let done = unsafe { call(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = usize::try_from(len).unwrap_or(0).min(bytes.len());
    Ok(Sockaddr { bytes, len })
}
