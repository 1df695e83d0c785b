//! Sockets in the file system that keep messages whole and carry descriptors: `SOCK_SEQPACKET` (unix(7)).
//!
//! No call here waits longer than it was told to: the peer may be stopped or hostile.
#![expect(unsafe_code, reason = "the safe wrapper of recvmsg(2) loses descriptors of a message that was cut")]

use std::{
    io::{self, IoSlice},
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, Backlog, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr,
            accept4, bind, connect, getsockopt, listen, sendmsg, setsockopt, shutdown, socket, socketpair,
            sockopt,
        },
        stat::{Mode, fchmod},
        time::TimeVal,
    },
};

/// Connections that the kernel keeps before they are accepted. More of them are refused with `EAGAIN`.
const BACKLOG: i32 = 8;

/// Words of control data that one message may bring: a header of 16 bytes and two descriptors. The kernel puts no more
/// descriptors into our table than there is room for.
const CONTROL_WORDS: usize = 3;

/// Who is at the other end, at the time of its connect(2) or listen(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The process, in our PID namespace; 0 if it is in none that we can see.
    pub pid: i32,
    /// Its effective user, in our user namespace.
    pub uid: u32,
}

/// A socket that others can connect to by its path.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    is_stopped: AtomicBool,
}

impl Listener {
    /// Makes a socket at `path`, which only its owner and root may connect to, and listens.
    ///
    /// # Errors
    /// What the kernel says: `EADDRINUSE` if the path exists, `ENAMETOOLONG` beyond 107 bytes.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        let fd = new_socket(SockFlag::SOCK_NONBLOCK)?;
        // Linux gives the file the mode of the socket, less the umask.
        fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
        bind(fd.as_raw_fd(), &address)?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(Self { fd, is_stopped: AtomicBool::new(false) })
    }

    /// Accepts one connection; `None` if nobody waits for it.
    ///
    /// # Errors
    /// What accept(2) says.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        match accept4(&self.fd, SockFlag::SOCK_CLOEXEC) {
            Ok(fd) => Ok(Some(Connection(fd))),
            // The peer may be gone again already.
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Refuses whoever connects from now on, and wakes who waits in [`wait`].
    pub fn stop(&self) {
        // Relaxed: nothing else depends on it.
        self.is_stopped.store(true, Ordering::Relaxed);
        // It fails only if that has been done before.
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Connects to the socket at `path`. This and every later wait for the peer is bounded by `timeout`.
    ///
    /// # Errors
    /// What connect(2) says: `ECONNREFUSED` if nobody listens any more, `EAGAIN` if too many wait for too long.
    pub fn open(path: &Path, timeout: Duration) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        let connection = Self(new_socket(SockFlag::empty())?);
        connection.set_timeout(timeout)?;
        connect(connection.0.as_raw_fd(), &address)?;
        Ok(connection)
    }

    /// The two ends of a new connection.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), Self(other)))
    }

    /// Whether somebody listens at `path`, without connecting to it: a socket of another type is refused for its type
    /// if the path is served, and for want of a server if it is not (connect(2)).
    #[must_use]
    pub fn is_served(path: &Path) -> bool {
        let probe = || -> nix::Result<()> {
            let address = UnixAddr::new(path)?;
            let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            connect(fd.as_raw_fd(), &address)
        };
        probe() != Err(Errno::ECONNREFUSED)
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn peer(&self) -> io::Result<Peer> {
        let credentials = getsockopt(&self.0, sockopt::PeerCredentials)?;
        Ok(Peer { pid: credentials.pid(), uid: credentials.uid() })
    }

    /// Bounds every later wait for the peer to take or to send a message.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let timeout = TimeVal::new(millis / 1000, millis % 1000 * 1000);
        setsockopt(&self.0, sockopt::SendTimeout, &timeout)?;
        setsockopt(&self.0, sockopt::ReceiveTimeout, &timeout)?;
        Ok(())
    }

    /// Bounds the next wait for the peer by `timeout` and by a deadline.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; what setsockopt(2) says.
    pub fn set_timeout_until(&self, deadline: Instant, timeout: Duration) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would be none (socket(7)).
        if left < Duration::from_millis(1) {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            self.set_timeout(timeout.min(left))
        }
    }

    /// Sends one message and descriptors with it.
    ///
    /// # Errors
    /// What sendmsg(2) says: `EPIPE` if the peer is gone, `EAGAIN` if it does not read in time.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let slice = [IoSlice::new(message)];
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &slice, control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// Receives one message into `buffer`; gives its length and the descriptors that came with it. A length of 0 is the
    /// end of the connection.
    ///
    /// # Errors
    /// What recvmsg(2) says: `EAGAIN` if no message comes in time; `InvalidData` for a message longer than `buffer` or
    /// one with too many descriptors.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut control = [0_u64; CONTROL_WORDS];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all fields of a `msghdr` are integers and pointers, for which zeroes are values.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the header points to `part`, and through it to `buffer`, and to `control`, each with its length; the
        // kernel writes no further, and all of them outlive the call.
        let len = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        // Even of a message that is refused below: whatever came is ours to close. A library that gives up on a
        // truncated message would leave it open.
        let descriptors = descriptors_of(&header);
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message longer than any that is expected",
            ));
        }
        Ok((len, descriptors))
    }

    /// Another descriptor of the same end.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Whether the peer is gone. What it has sent before may still be there.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        // The kernel tells of these events without being asked (poll(2)).
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1..))
            && polled.iter().filter_map(PollFd::revents).any(|events| events.intersects(gone))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until somebody connects, the peer of `connection` is gone, or the listener is stopped.
///
/// # Errors
/// What poll(2) says.
pub fn wait(listener: &Listener, connection: Option<&Connection>) -> io::Result<()> {
    let listening = PollFd::new(listener.as_fd(), PollFlags::POLLIN);
    // The end of the peer is told without being asked for (poll(2)). A listener stands in for a connection that there
    // is none of.
    let peer = connection.map_or_else(|| listener.as_fd(), Connection::as_fd);
    let mut polled = [listening, PollFd::new(peer, PollFlags::empty())];
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes the descriptors that the kernel has put into our table with a message.
fn descriptors_of(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the control buffer is as long as the header says, and the kernel has filled it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: it is not null, so it points to a whole header within the control buffer, which is aligned for it.
        let part = unsafe { *next };
        if (part.cmsg_level, part.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: it points to a header, behind which the data begins.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: CMSG_LEN only computes.
            let before = unsafe { libc::CMSG_LEN(0) };
            let count = part.cmsg_len.saturating_sub(before as usize) / size_of::<i32>();
            for at in 0..count {
                // SAFETY: the kernel has written `count` numbers there.
                let number = unsafe { data.cast::<i32>().add(at) };
                // SAFETY: as above; it need not be aligned.
                let number = unsafe { number.read_unaligned() };
                // SAFETY: the kernel has just put this descriptor into our table, and tells of it once.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: `next` is one of the headers of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    descriptors
}

fn new_socket(flags: SockFlag) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(20);

    fn pair() -> (tempfile::TempDir, Listener, Connection, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        let client = Connection::open(&path, TIMEOUT).unwrap();
        let server = listener.accept().unwrap().unwrap();
        server.set_timeout(TIMEOUT).unwrap();
        (directory, listener, client, server)
    }

    #[test]
    fn messages_and_descriptors_arrive_whole() {
        let (directory, _listener, client, server) = pair();
        let file = std::fs::File::create(directory.path().join("file")).unwrap();
        server.send(b"one", &[file.as_fd(), file.as_fd()]).unwrap();
        server.send(b"two", &[]).unwrap();
        let mut buffer = [0; 16];
        let (len, descriptors) = client.receive(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], descriptors.len()), (&b"one"[..], 2));
        let (len, descriptors) = client.receive(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], descriptors.len()), (&b"two"[..], 0));
        assert_eq!(server.peer().unwrap().pid, nix::unistd::getpid().as_raw());
    }

    #[test]
    fn nobody_waits_longer_than_told() {
        let (_directory, _listener, client, server) = pair();
        assert_eq!(client.receive(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let full = (0..1_000_000).find_map(|_| server.send(&[0; 4096], &[]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_message_that_is_refused_leaves_no_descriptor_open() {
        let (directory, _listener, client, server) = pair();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        server.send(&[1; 32], &[writer.as_fd()]).unwrap();
        server.send(b"too many", &[writer.as_fd(); 7]).unwrap();
        for _ in 0..2 {
            assert_eq!(client.receive(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        drop((writer, directory));
        assert_eq!(nix::unistd::read(&reader, &mut [0; 1]), Ok(0), "no writer is left");
    }

    #[test]
    fn an_end_is_seen_by_the_other() {
        let (_directory, _listener, client, server) = pair();
        assert!(!server.is_hung_up());
        drop(client);
        assert!(server.is_hung_up());
        assert_eq!(server.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_path_that_nobody_serves_any_more_is_told_from_one_that_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        assert!(Connection::is_served(&path));
        assert!(listener.accept().unwrap().is_none(), "the probe is no connection");
        drop(listener);
        assert!(!Connection::is_served(&path));
        assert!(Connection::open(&path, TIMEOUT).is_err());
    }

    #[test]
    fn a_stopped_listener_wakes_who_waits() {
        let (_directory, listener, _client, server) = pair();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&listener, Some(&server)).unwrap());
            listener.stop();
            waiting.join().unwrap();
            assert!(listener.is_stopped());
        });
    }

    #[test]
    fn only_the_owner_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = Listener::bind(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
