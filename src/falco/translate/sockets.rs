//! Calls on sockets.
//!
//! Falco takes nothing from a `connect` on a descriptor that it does not know as a socket, and most are made where
//! nobody traps. So a `socket` event is made up before a call that needs one, unless Falco was told of that socket:
//! of the type that an earlier record told, or else a stream.

use super::{
    additions::SocketInfo,
    call::{Call, CallKind},
    processes::Processes,
};
use crate::{
    decode::SocketAddress,
    event::{CaptureKind, RecordFlags},
    falco::{
        encode::{Batch, EncodeError},
        flags,
        socket::{AF_INET, AF_INET6, PackedAddress, PackedTuple},
        table,
    },
};

/// `EINPROGRESS` (errno(3)): the connection is being made, which counts as success for Falco.
const EINPROGRESS: i64 = 115;

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
/// The bits of a socket's type that are no flags (socket(2)).
const SOCK_TYPE_MASK: u32 = 0xf;

const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;

pub(super) fn socket(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let info = SocketInfo { domain: flags::family(call.uint(0)), kind: call.uint(1), protocol: call.uint(2) };
    if let (Ok(fd), Some(process)) = (i32::try_from(call.result()), processes.get_mut(call.pid))
        && fd >= 0
    {
        process.remember_socket(fd, SocketInfo { kind: info.kind & SOCK_TYPE_MASK, ..info });
    }
    write_socket(call, call.result(), info, out)
}

pub(super) fn connect(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let sockaddr = call.data(CaptureKind::Sockaddr, 1).and_then(SocketAddress::parse);
    let tuple = outbound(call, sockaddr);
    // A failed connect changes nothing in Falco, so that its socket need not be known.
    if call.has_succeeded() || call.result() == -EINPROGRESS {
        tell_socket(processes, call, call.int(0), tuple.family(), SOCK_STREAM, out)?;
    }
    let mut writer = out.event(&table::CONNECT_X, call.ts(), call.tid());
    writer.errno(call.result()).tuple(Some(tuple)).fd(call.long(0));
    writer.address(sockaddr.and_then(PackedAddress::of)).finish()
}

pub(super) fn bind(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let address =
        call.data(CaptureKind::Sockaddr, 1).and_then(SocketAddress::parse).and_then(PackedAddress::of);
    if let Some(address) = address.filter(|_| call.has_succeeded()) {
        tell_socket(processes, call, call.int(0), address.family(), SOCK_STREAM, out)?;
        if let Some(process) = processes.get_mut(call.pid) {
            process.note_bound(call.int(0));
        }
    }
    write_bind(call, call.result(), address, out)
}

/// A socket that is listened at was bound before, and Falco is told so if no record did: it shows that address.
pub(super) fn listen(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let local = local(call).map(|local| u32::from(local.family()));
    let family = local.or_else(|| SocketInfo::of(call.record).map(|info| info.domain));
    if let Some(family) = family.filter(|_| call.has_succeeded()) {
        tell_socket(processes, call, call.int(0), family, SOCK_STREAM, out)?;
        let is_bound = processes.get_mut(call.pid).is_some_and(|process| process.take_bound(call.int(0)));
        if let Some(address) = self::local(call).and_then(PackedAddress::of).filter(|_| !is_bound) {
            write_bind(call, 0, Some(address), out)?;
        }
    }
    let mut writer = out.event(&table::LISTEN_X, call.ts(), call.tid());
    writer.errno(call.result()).fd(call.long(0)).int32(call.int(1)).finish()
}

/// An accept makes its socket known itself: the peer is the source.
pub(super) fn accept(
    processes: &mut Processes,
    call: Call<'_, '_>,
    kind: CallKind,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let tuple = PackedTuple::of(peer(call), local(call)).filter(|_| call.has_succeeded());
    if let (Ok(fd), Some(process)) = (i32::try_from(call.result()), processes.get_mut(call.pid)) {
        match tuple {
            Some(tuple) => process.remember_socket(fd, usual(tuple.family(), SOCK_STREAM)),
            None => process.forget_socket(fd),
        }
    }
    let is_accept4 = kind == CallKind::Accept4;
    let event = if is_accept4 { &table::ACCEPT4_6_X } else { &table::ACCEPT_5_X };
    let mut writer = out.event(event, call.ts(), call.tid());
    // How full the queue is no record tells.
    writer.fd(call.result()).tuple(tuple).uint8(0).uint32(0).uint32(0);
    if is_accept4 {
        writer.int32(flags::socket(call.uint(3)).cast_signed());
    }
    writer.finish()
}

/// A message that is sent. What it says is not recorded.
pub(super) fn send(
    processes: &mut Processes,
    call: Call<'_, '_>,
    kind: CallKind,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let (ts, tid, result, fd) = (call.ts(), call.tid(), call.result(), call.long(0));
    let argument = if kind == CallKind::Sendto { 4 } else { 1 };
    let sockaddr = call.data(CaptureKind::Sockaddr, argument).and_then(SocketAddress::parse);
    let tuple = outbound(call, sockaddr);
    if call.has_succeeded() && sockaddr.is_some_and(|address| PackedAddress::of(address).is_some()) {
        tell_socket(processes, call, call.int(0), tuple.family(), SOCK_DGRAM, out)?;
    }
    let sent = u32::try_from(result).unwrap_or(0);
    match kind {
        CallKind::Sendto => {
            let mut writer = out.event(&table::SENDTO_X, ts, tid);
            writer.errno(result).bytes(b"").fd(fd).uint32(call.uint(2)).tuple(Some(tuple)).finish()
        }
        CallKind::Sendmsg => {
            let mut writer = out.event(&table::SENDMSG_X, ts, tid);
            writer.errno(result).bytes(b"").fd(fd).uint32(sent).tuple(Some(tuple)).finish()
        }
        _ => {
            let mut writer = out.event(&table::SENDMMSG_X, ts, tid);
            writer.errno(result).fd(fd).uint32(0).bytes(b"").tuple(Some(tuple)).finish()
        }
    }
}

/// A message that is received. Neither what it says nor where it came from is recorded.
pub(super) fn receive(call: Call<'_, '_>, kind: CallKind, out: &mut Batch) -> Result<(), EncodeError> {
    let (ts, tid, result, fd) = (call.ts(), call.tid(), call.result(), call.long(0));
    let tuple = Some(PackedTuple::of(peer(call), local(call)).unwrap_or(PackedTuple::Other(0)));
    let received = u32::try_from(result).unwrap_or(0);
    match kind {
        CallKind::Recvfrom => {
            let mut writer = out.event(&table::RECVFROM_X, ts, tid);
            writer.errno(result).bytes(b"").tuple(tuple).fd(fd).uint32(call.uint(2)).finish()
        }
        CallKind::Recvmsg => {
            let mut writer = out.event(&table::RECVMSG_X, ts, tid);
            writer.errno(result).uint32(received).bytes(b"").tuple(tuple).bytes(b"").fd(fd).finish()
        }
        _ => {
            let mut writer = out.event(&table::RECVMMSG_X, ts, tid);
            writer.errno(result).fd(fd).uint32(0).bytes(b"").tuple(tuple).bytes(b"").finish()
        }
    }
}

pub(super) fn shutdown(call: Call<'_, '_>, out: &mut Batch) -> Result<(), EncodeError> {
    let mut writer = out.event(&table::SHUTDOWN_X, call.ts(), call.tid());
    writer.errno(call.result()).fd(call.long(0)).choice8(flags::shutdown(call.uint(1))).finish()
}

/// A descriptor becomes another one. If the record tells that it is a connected socket, Falco is told so first: a
/// rule asks for sockets that become standard input or output.
pub(super) fn dup(
    processes: &mut Processes,
    call: Call<'_, '_>,
    kind: CallKind,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let (ts, tid, result, old) = (call.ts(), call.tid(), call.result(), call.int(0));
    if call.has_succeeded()
        && let Some(tuple) = PackedTuple::of(local(call), peer(call))
    {
        let was_told = tell_socket(processes, call, old, tuple.family(), SOCK_STREAM, out)?;
        if let Some(peer) = peer(call).filter(|_| !was_told) {
            let mut writer = out.event(&table::CONNECT_X, ts, tid);
            writer
                .errno(0)
                .tuple(Some(tuple))
                .fd(i64::from(old))
                .address(PackedAddress::of(peer))
                .finish()?;
        }
    }
    if call.has_succeeded() {
        // From a descriptor that it does not know libsinsp takes nothing over.
        let new = i32::try_from(result).unwrap_or(old);
        for fd in [old, new] {
            tell_no_socket(processes, call, fd, out)?;
        }
    }
    if let (Ok(new), Some(process)) = (i32::try_from(result), processes.get_mut(call.pid))
        && new >= 0
        && new != old
    {
        match process.socket(old).copied() {
            Some(socket) if socket.is_told => process.remember_socket(new, socket.info),
            _ => process.forget_socket(new),
        }
    }
    match kind {
        CallKind::Dup => out.event(&table::DUP_1_X, ts, tid).fd(result).fd(i64::from(old)).finish(),
        CallKind::Dup2 => {
            out.event(&table::DUP2_X, ts, tid).fd(result).fd(i64::from(old)).fd(call.long(1)).finish()
        }
        _ => {
            let mut writer = out.event(&table::DUP3_X, ts, tid);
            writer.fd(result).fd(i64::from(old)).fd(call.long(1)).flags32(flags::dup3(call.uint(2))).finish()
        }
    }
}

/// The socket's own address and the other side's: the kernel's word on it if the record has that, else the address
/// that the program gave.
fn outbound<'a>(call: Call<'_, 'a>, sockaddr: Option<SocketAddress<'a>>) -> PackedTuple<'a> {
    let remote = peer(call).filter(|peer| PackedAddress::of(*peer).is_some()).or(sockaddr);
    PackedTuple::of(local(call), remote).unwrap_or(PackedTuple::Other(0))
}

fn local<'a>(call: Call<'_, 'a>) -> Option<SocketAddress<'a>> {
    SocketAddress::parse(call.record.capture(CaptureKind::SocketLocal)?.data)
}

fn peer<'a>(call: Call<'_, 'a>) -> Option<SocketAddress<'a>> {
    SocketAddress::parse(call.record.capture(CaptureKind::SocketPeer)?.data)
}

/// Tells Falco that `fd` is a socket of this family, if it does not know yet; gives whether it knew.
///
/// The family is that of the tuple which follows: libsinsp reads a tuple by the type that it knows the socket as.
fn tell_socket(
    processes: &mut Processes,
    call: Call<'_, '_>,
    fd: i32,
    family: u32,
    usual_kind: u32,
    out: &mut Batch,
) -> Result<bool, EncodeError> {
    let Some(process) = processes.get_mut(call.pid) else {
        write_socket(call, i64::from(fd), usual(family, usual_kind), out)?;
        return Ok(false);
    };
    let known = process.socket(fd).filter(|known| known.info.domain == family);
    if known.is_some_and(|known| known.is_told) {
        return Ok(true);
    }
    let recorded = SocketInfo::of(call.record).filter(|info| info.domain == family);
    let info =
        recorded.or_else(|| known.map(|known| known.info)).unwrap_or_else(|| usual(family, usual_kind));
    process.remember_socket(fd, info);
    write_socket(call, i64::from(fd), info, out)?;
    Ok(false)
}

/// Tells Falco that `fd` is not the socket any more that it was told of, if the record of a dup says that none was
/// duplicated: it has been closed, and is now a file or a pipe that nobody told of.
fn tell_no_socket(
    processes: &mut Processes,
    call: Call<'_, '_>,
    fd: i32,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let is_unknown = call.record.flags().contains(RecordFlags::SOCKET_UNKNOWN);
    if is_unknown || SocketInfo::of(call.record).is_some() {
        return Ok(());
    }
    match processes.get_mut(call.pid) {
        Some(process) if process.socket(fd).is_some_and(|socket| socket.is_told) => {
            process.forget_socket(fd);
            out.event(&table::CLOSE_X, call.ts(), call.tid()).errno(0).fd(i64::from(fd)).finish()
        }
        _ => Ok(()),
    }
}

/// What a socket of a family is most likely to be.
const fn usual(family: u32, kind: u32) -> SocketInfo {
    let protocol = match (family, kind) {
        (AF_INET | AF_INET6, SOCK_DGRAM) => IPPROTO_UDP,
        (AF_INET | AF_INET6, _) => IPPROTO_TCP,
        _ => 0,
    };
    SocketInfo { domain: family, kind, protocol }
}

fn write_bind(
    call: Call<'_, '_>,
    result: i64,
    address: Option<PackedAddress<'_>>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let mut writer = out.event(&table::BIND_X, call.ts(), call.tid());
    writer.errno(result).address(address).fd(call.long(0)).finish()
}

fn write_socket(call: Call<'_, '_>, fd: i64, info: SocketInfo, out: &mut Batch) -> Result<(), EncodeError> {
    let mut writer = out.event(&table::SOCKET_X, call.ts(), call.tid());
    writer.fd(fd).choice32(info.domain).uint32(info.kind).uint32(info.protocol);
    writer.flags32(flags::socket(info.kind)).finish()
}
