//! The addresses of a tracee's socket, found in the kernel's tables of sockets.
//!
//! It is for where the kernel cannot be asked about the socket itself ([`super::socket`]): the descriptor's link names
//! the socket's inode, an attribute of it names its protocol, and that protocol's table has an entry with this inode.
//! The table is asked for as messages (`diag`), or else read as text under `/proc/TID/net` (`text`), which shows the
//! tracee's own network namespace. The thread stands still meanwhile, so that what is read is bounded.
#![expect(unsafe_code, reason = "getxattr(2) has no safe wrapper")]

mod diag;
mod text;

use std::{
    io::Write,
    net::SocketAddr,
    os::{fd::AsRawFd, linux::fs::MetadataExt},
    sync::OnceLock,
};

use self::{diag::Answer, text::decimal};
use super::{Pid, Tid, procfs, signal::PidFd, socket, socket::SocketInfo};
use crate::limits;

/// Whether pidfd_getfd(2) is refused whatever it is asked for: by a seccomp filter, or by a kernel before 5.6.
///
/// It is asked once, for a descriptor of our own. The kernel's own `EPERM` is about one tracee alone, and a process
/// may always look at itself (ptrace(2), "Ptrace access mode checking").
#[must_use]
pub fn is_duplication_refused() -> bool {
    static IS_REFUSED: OnceLock<bool> = OnceLock::new();
    *IS_REFUSED.get_or_init(|| {
        let own = Pid(nix::unistd::getpid().as_raw());
        // Any other error passes: a process that is out of descriptors now may have some later.
        PidFd::open(own).and_then(|process| socket::duplicate(own, process.as_raw_fd())).is_err_and(|error| {
            matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES))
        })
    })
}

/// What became of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The descriptor is no socket.
    NoSocket,
    /// The socket, as its table shows it.
    Found(Entry),
    /// It is a socket whose addresses could not be had, or it could not be told what it is.
    Unknown,
}

/// A socket, as its table shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is. The domain is that of its protocol.
    pub info: SocketInfo,
    /// Its own address.
    pub local: Address,
    /// The address of its peer, where getpeername(2) would tell one. The table of Unix sockets tells none: the other
    /// end of a connection that nobody has accepted has no inode to be found by.
    pub peer: Option<SocketAddr>,
}

/// An address out of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6. Flow and scope of the latter are in no table.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(UnixName),
}

/// The name of a Unix socket: the bytes of `sun_path` that count (unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixName {
    bytes: [u8; UNIX_PATH_BYTES],
    len: usize,
}

/// Bytes of `sun_path`.
const UNIX_PATH_BYTES: usize = 108;

impl Address {
    /// Writes the `struct sockaddr` that the kernel would give, and tells its length.
    #[must_use]
    pub fn write_to(&self, buf: &mut [u8; limits::SOCKADDR_BYTES_MAX]) -> usize {
        let mut rest = &mut buf[..];
        let before = rest.len();
        let mut put = |bytes: &[u8]| {
            // Every address fits: a test writes the longest.
            let _ = rest.write_all(bytes);
        };
        match self {
            Self::Inet(SocketAddr::V4(inet)) => {
                put(&family(libc::AF_INET));
                put(&inet.port().to_be_bytes());
                put(&inet.ip().octets());
                put(&[0; 8]);
            }
            Self::Inet(SocketAddr::V6(inet)) => {
                put(&family(libc::AF_INET6));
                put(&inet.port().to_be_bytes());
                put(&[0; 4]);
                put(&inet.ip().octets());
                put(&[0; 4]);
            }
            Self::Unix(name) => {
                put(&family(libc::AF_UNIX));
                let name = name.as_bytes();
                put(name);
                // A path ends with a NUL, which a name in the abstract namespace begins with.
                if !matches!(name, [] | [0, ..]) {
                    put(&[0]);
                }
            }
        }
        before - rest.len()
    }
}

impl UnixName {
    fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; UNIX_PATH_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { bytes, len: name.len() })
    }

    /// Its bytes: none for an unnamed socket, a NUL first for a name in the abstract namespace.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn family(number: i32) -> [u8; 2] {
    u16::try_from(number).unwrap_or(0).to_ne_bytes()
}

/// Looks up what the descriptor `fd` of a thread is, and if it is a socket, its addresses.
#[must_use]
pub fn look_up(tid: Tid, fd: i32) -> Lookup {
    let mut link = [0; 64];
    let Ok(len) = procfs::read_fd_link(tid, fd, &mut link) else { return Lookup::Unknown };
    let Some(inode) = link.get(..len).and_then(inode_of) else { return Lookup::NoSocket };
    let mut name = [0; 32];
    let found = match protocol_name(tid, fd, &mut name) {
        Some(name) => Protocol::of(name).and_then(|protocol| protocol.find(tid, inode)),
        // Without the attribute every table is looked into.
        None => Protocol::USUAL.iter().find_map(|protocol| protocol.find(tid, inode)),
    };
    found.map_or(Lookup::Unknown, Lookup::Found)
}

/// The inode in a link such as `socket:[1234]`.
fn inode_of(link: &[u8]) -> Option<u64> {
    decimal(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// The name of the protocol of a socket: its attribute `system.sockprotoname`, which sockets have since Linux 3.7.
fn protocol_name(tid: Tid, fd: i32, buf: &mut [u8; 32]) -> Option<&[u8]> {
    let mut path = [0; procfs::PATH_BYTES];
    let path = procfs::format_path(&mut path, tid, &["fd/", itoa::Buffer::new().format(fd)]).ok()?;
    let name = c"system.sockprotoname";
    // SAFETY: `path` and `name` end with a NUL; the kernel writes at most `buf.len()` bytes into `buf`, which we hold
    // mutably until the call returns.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    let name = buf.get(..usize::try_from(len).ok()?)?;
    name.split(|&byte| byte == 0).next().filter(|name| !name.is_empty())
}

/// A protocol, and the table that shows its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Protocol {
    table: Table,
    info: SocketInfo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Tcp,
    Tcp6,
    Udp,
    Udp6,
    Unix,
}

impl Protocol {
    /// In the order in which they are searched for a socket of which nothing is known.
    const USUAL: [Self; 5] = [
        Self::new(Table::Tcp, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP),
        Self::new(Table::Udp, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        Self::new(Table::Unix, libc::AF_UNIX, 0, 0),
        Self::new(Table::Tcp6, libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP),
        Self::new(Table::Udp6, libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
    ];

    const fn new(table: Table, domain: i32, kind: i32, protocol: i32) -> Self {
        Self { table, info: SocketInfo { domain, kind, protocol } }
    }

    /// The protocol that the kernel calls so (the `name` of its `struct proto`); `None` where no table is known.
    fn of(name: &[u8]) -> Option<Self> {
        let [tcp, udp, unix, tcp6, udp6] = Self::USUAL;
        let multipath =
            |tcp: Self| Self { info: SocketInfo { protocol: libc::IPPROTO_MPTCP, ..tcp.info }, ..tcp };
        Some(match name {
            b"TCP" => tcp,
            b"TCPv6" => tcp6,
            // Its subflows stand in the table of TCP with the inode of the whole.
            b"MPTCP" => multipath(tcp),
            b"MPTCPv6" => multipath(tcp6),
            b"UDP" => udp,
            b"UDPv6" => udp6,
            // Stream sockets have a name of their own since Linux 5.15.
            b"UNIX" | b"UNIX-STREAM" => unix,
            _ => return None,
        })
    }

    fn find(self, tid: Tid, inode: u64) -> Option<Entry> {
        match diag::find(self, inode) {
            Answer::Found(entry) => Some(entry),
            // The sockets of our own namespace are all that it was asked for.
            Answer::Absent if is_in_own_network(tid) => None,
            Answer::Absent | Answer::Nothing => {
                let table = procfs::open(tid, self.table.path()).ok()?;
                self.find_in(table, inode)
            }
        }
    }
}

impl Table {
    const fn path(self) -> &'static str {
        match self {
            Self::Tcp => "net/tcp",
            Self::Tcp6 => "net/tcp6",
            Self::Udp => "net/udp",
            Self::Udp6 => "net/udp6",
            Self::Unix => "net/unix",
        }
    }
}

/// Whether getpeername(2) tells a peer of a socket in a state (net/tcp_states.h): it does once a connection is made,
/// and of a datagram socket that was given one.
fn has_peer(remote: SocketAddr, state: u32) -> bool {
    const SYN_SENT: u32 = 2;
    const CLOSE: u32 = 7;
    remote.port() != 0 && ![SYN_SENT, CLOSE].contains(&state)
}

/// Whether a thread is in the network namespace that creance is in.
fn is_in_own_network(tid: Tid) -> bool {
    let own = Tid(nix::unistd::gettid().as_raw());
    let [ours, its] = [own, tid].map(|tid| procfs::metadata(tid, "ns/net").ok());
    ours.zip(its).is_some_and(|(ours, its)| (ours.st_dev(), ours.st_ino()) == (its.st_dev(), its.st_ino()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream, UdpSocket},
        os::{
            fd::{AsFd, OwnedFd},
            linux::net::SocketAddrExt,
            unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream},
        },
        time::Instant,
    };

    use super::*;

    fn look_up_own(socket: impl AsFd) -> Lookup {
        look_up(Tid(nix::unistd::gettid().as_raw()), socket.as_fd().as_raw_fd())
    }

    fn bytes_of(address: Address) -> Vec<u8> {
        let mut buf = [0; limits::SOCKADDR_BYTES_MAX];
        let len = address.write_to(&mut buf);
        buf[..len].to_vec()
    }

    /// What the kernel's messages and the text of the table tell of a socket, if they do.
    fn told(socket: impl AsFd) -> [Option<Entry>; 2] {
        let (tid, fd) = (Tid(nix::unistd::gettid().as_raw()), socket.as_fd().as_raw_fd());
        let mut name = [0; 32];
        let protocol = Protocol::of(protocol_name(tid, fd, &mut name).unwrap()).unwrap();
        let inode = nix::sys::stat::fstat(socket.as_fd()).unwrap().st_ino;
        let table = procfs::open(tid, protocol.table.path()).unwrap();
        let message = match diag::find(protocol, inode) {
            Answer::Found(entry) => Some(entry),
            Answer::Absent => None,
            Answer::Nothing => {
                println!("skipped: this machine has no sock_diag for {protocol:?}");
                return [protocol.find_in(table, inode); 2];
            }
        };
        [message, protocol.find_in(table, inode)]
    }

    /// Compares what the tables tell of a socket with what the kernel tells of it.
    #[track_caller]
    fn assert_as_the_kernel_says(socket: impl AsFd, tells_peer: bool) {
        let [message, text] = told(&socket).map(Option::unwrap);
        assert_eq!(look_up_own(&socket), Lookup::Found(message));
        let socket: OwnedFd = socket.as_fd().try_clone_to_owned().unwrap();
        for entry in [message, text] {
            assert_eq!(Ok(entry.info), socket::info(&socket).map_err(|error| error.to_string()));
            assert_eq!(bytes_of(entry.local), socket::local(&socket).unwrap().as_bytes());
            if tells_peer {
                let peer = socket::peer(&socket).ok();
                assert_eq!(
                    entry.peer.map(|peer| bytes_of(Address::Inet(peer))),
                    peer.map(|peer| peer.as_bytes().to_vec())
                );
            }
        }
    }

    #[test]
    fn internet_sockets_are_as_the_kernel_says() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                println!("skipped: this machine has no {ip}");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let udp = UdpSocket::bind((ip, 0)).unwrap();
            let connected = UdpSocket::bind((ip, 0)).unwrap();
            connected.connect(udp.local_addr().unwrap()).unwrap();
            for socket in [listener.as_fd(), client.as_fd(), accepted.as_fd(), udp.as_fd(), connected.as_fd()]
            {
                assert_as_the_kernel_says(socket, true);
            }
        }
    }

    #[test]
    fn unix_sockets_are_as_the_kernel_says() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("a socket")).unwrap();
        let client = UnixStream::connect_addr(&listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let name = format!("creance test {}", nix::unistd::getpid());
        let named = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(name).unwrap()).unwrap();
        for socket in [listener.as_fd(), client.as_fd(), accepted.as_fd(), named.as_fd()] {
            assert_as_the_kernel_says(socket, false);
        }
    }

    #[test]
    fn what_is_no_socket_and_what_is_not_there_are_told_apart() {
        assert_eq!(look_up_own(File::open("/proc/self/stat").unwrap()), Lookup::NoSocket);
        assert_eq!(look_up(Tid(nix::unistd::gettid().as_raw()), -1), Lookup::Unknown);
        assert_eq!(look_up(Tid(-1), 0), Lookup::Unknown);
    }

    /// Of a socket that is neither bound nor connected there is no line.
    #[test]
    fn a_socket_without_a_line_is_unknown() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let tcp = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        assert_eq!(look_up_own(tcp), Lookup::Unknown);
    }

    /// Prints how long one look-up takes while others have sockets open. Run it with `--ignored --nocapture`, and
    /// built for release.
    #[test]
    #[ignore = "it measures"]
    fn what_a_look_up_costs() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            [OwnedFd::from(client), listener.accept().unwrap().0.into()]
        };
        let datagram = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let pair = || UnixStream::pair().map(|(left, right)| [left, right].map(OwnedFd::from)).unwrap();
        for count in [10, 5_000] {
            let tcp: Vec<_> = (0..count / 2).flat_map(|_| connection()).collect();
            measure("tcp", &tcp);
            drop(tcp);
            measure("udp", &(0..count).map(|_| datagram()).collect::<Vec<_>>());
            measure("unix", &(0..count / 2).flat_map(|_| pair()).collect::<Vec<_>>());
        }
    }

    fn measure(name: &str, sockets: &[OwnedFd]) {
        let tid = Tid(nix::unistd::gettid().as_raw());
        let sample = || sockets.iter().step_by((sockets.len() / 100).max(1)).chain(sockets);
        let median = |act: &dyn Fn(&OwnedFd)| {
            let mut times: Vec<_> = sample()
                .take(200)
                .map(|socket| {
                    let since = Instant::now();
                    act(socket);
                    since.elapsed().as_nanos() / 100
                })
                .collect();
            times.sort_unstable();
            let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
            format!("{}.{} us (at most {}.{})", median / 10, median % 10, last / 10, last % 10)
        };
        let own = Pid(nix::unistd::getpid().as_raw());
        let duplicate = |socket: &OwnedFd| {
            let copy = socket::duplicate(own, socket.as_raw_fd()).unwrap();
            let _ = (socket::info(&copy), socket::local(&copy), socket::peer(&copy));
        };
        let table = |socket: &OwnedFd| {
            let mut name = [0; 32];
            let protocol = Protocol::of(protocol_name(tid, socket.as_raw_fd(), &mut name).unwrap()).unwrap();
            let inode = nix::sys::stat::fstat(socket).unwrap().st_ino;
            protocol.find_in(procfs::open(tid, protocol.table.path()).unwrap(), inode).unwrap();
        };
        let look_up = |socket: &OwnedFd| assert!(matches!(look_up_own(socket), Lookup::Found(_)));
        println!("{name}, {} open: duplicate {}", sockets.len(), median(&duplicate));
        println!("{name}, {} open: look-up   {}", sockets.len(), median(&look_up));
        println!("{name}, {} open: text only {}", sockets.len(), median(&table));
    }
}
