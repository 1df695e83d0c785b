//! Sockets in the file system that keep messages whole and carry descriptors: `SOCK_SEQPACKET` (unix(7)).
//!
//! No call here waits longer than it was told to: the peer may be stopped or hostile.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag,
            SockType, UnixAddr, accept4, bind, connect, getsockopt, listen, recvmsg, sendmsg, setsockopt,
            shutdown, socket, sockopt,
        },
        stat::{Mode, fchmod},
        time::TimeVal,
    },
};

/// Connections that the kernel keeps before they are accepted. More of them are refused with `EAGAIN`.
const BACKLOG: i32 = 8;

/// Descriptors that one message may bring.
const DESCRIPTORS_MAX: usize = 2;

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
pub struct Listener(OwnedFd);

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
        Ok(Self(fd))
    }

    /// Accepts one connection; `None` if nobody waits for it.
    ///
    /// # Errors
    /// What accept(2) says.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        match accept4(&self.0, SockFlag::SOCK_CLOEXEC) {
            Ok(fd) => Ok(Some(Connection(fd))),
            // The peer may be gone again already.
            Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Refuses whoever connects from now on, and wakes who waits in [`wait`].
    pub fn stop(&self) {
        // It fails only if that has been done before.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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
        let mut slice = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!([i32; DESCRIPTORS_MAX]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut slice, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        // Even of a message that is refused below: whatever came is ours to close.
        for part in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                for number in numbers {
                    // SAFETY: the kernel has just put this descriptor into our table, and tells of it once.
                    #[expect(unsafe_code, reason = "nix gives the numbers alone")]
                    descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
        }
        if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message longer than any that is expected",
            ));
        }
        Ok((message.bytes, descriptors))
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

/// Waits until somebody connects or the peer of `connection` is gone; tells whether the listener still listens.
///
/// # Errors
/// What poll(2) says.
pub fn wait(listener: &Listener, connection: Option<&Connection>) -> io::Result<bool> {
    let listening = PollFd::new(listener.as_fd(), PollFlags::POLLIN);
    // The end of the peer is told without being asked for (poll(2)). A listener stands in for a connection that there
    // is none of.
    let peer = connection.map_or_else(|| listener.as_fd(), Connection::as_fd);
    let mut polled = [listening, PollFd::new(peer, PollFlags::empty())];
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) => {
            let [listening, _] = &polled;
            Ok(!listening.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
        }
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
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
    fn a_message_that_is_too_long_is_refused_and_its_descriptors_closed() {
        let (directory, _listener, client, server) = pair();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        server.send(&[1; 32], &[writer.as_fd()]).unwrap();
        assert_eq!(client.receive(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::InvalidData);
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
            assert!(!waiting.join().unwrap());
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
