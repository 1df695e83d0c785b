//! Calls on sockets.

use super::ArgumentKind::{
    Fd, FdPairOut, Flags, Hex, MessageIn, Signed, Size, SockaddrIn, SockaddrOut, Unsigned,
};
use super::{Argument, FlagSet, Line, Signature, signatures};

pub(super) const CALLS: &[Line] = signatures! {
    socket (domain: Flags(FlagSet::Domain), type: Flags(FlagSet::SocketType), proto: Signed);
    socketpair (domain: Flags(FlagSet::Domain), type: Flags(FlagSet::SocketType), proto: Signed, sv: FdPairOut);
    bind (fd: Fd, addr: SockaddrIn { length_argument: 2 }, addrlen: Signed);
    connect (fd: Fd, addr: SockaddrIn { length_argument: 2 }, addrlen: Signed);
    listen (fd: Fd, backlog: Signed);
    // Falco's `fd` of these two is the result.
    accept (sockfd: Fd, addr: SockaddrOut, addrlen: Hex);
    accept4 (sockfd: Fd, addr: SockaddrOut, addrlen: Hex, flags: Flags(FlagSet::Accept));
    getsockname (sockfd: Fd, addr: SockaddrOut, addrlen: Hex);
    getpeername (sockfd: Fd, addr: SockaddrOut, addrlen: Hex);
    sendto
        (fd: Fd, data: Hex, size: Size, flags: Flags(FlagSet::Message),
         dest_addr: SockaddrIn { length_argument: 5 }, addrlen: Signed);
    recvfrom (fd: Fd, data: Hex, size: Size, flags: Flags(FlagSet::Message), src_addr: SockaddrOut, addrlen: Hex);
    sendmsg (fd: Fd, msg: MessageIn, flags: Flags(FlagSet::Message));
    sendmmsg (fd: Fd, msgvec: MessageIn, vlen: Unsigned, flags: Flags(FlagSet::Message));
    recvmsg (fd: Fd, msg: Hex, flags: Flags(FlagSet::Message));
    recvmmsg | recvmmsg_time64
        (fd: Fd, msgvec: Hex, vlen: Unsigned, flags: Flags(FlagSet::Message), timeout: Hex);
    getsockopt (fd: Fd, level: Flags(FlagSet::SocketLevel), optname: Signed, val: Hex, optlen: Hex);
    setsockopt (fd: Fd, level: Flags(FlagSet::SocketLevel), optname: Signed, val: Hex, optlen: Signed);
    shutdown (fd: Fd, how: Flags(FlagSet::Shutdown));
    socketcall (call: Flags(FlagSet::SocketCall), args: Hex);
};
