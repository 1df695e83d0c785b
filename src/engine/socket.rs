//! Copies what a descriptor of a call is when the call has returned, if it is a socket, while its thread stands still.

use std::os::fd::OwnedFd;

use crate::{
    event::{CaptureBuffer, CaptureFlags, CaptureKind, RecordFlags},
    limits,
    sys::{
        Pid, Tid,
        socket::{self, SocketInfo},
        socket_table::{self, Address, Lookup},
    },
};

/// Copies what the descriptor `fd` of a thread is, if it is a socket, and both its addresses: as the kernel tells them
/// of a duplicate, or else as its tables of sockets do. Tells with the flags what could not be had.
pub(crate) fn capture_socket(tid: Tid, pid: Pid, fd: i32, captures: &mut CaptureBuffer) -> RecordFlags {
    let may_duplicate = !socket_table::is_duplication_refused();
    let is_known = match may_duplicate.then(|| socket::duplicate(pid, fd)) {
        Some(Ok(duplicate)) => {
            capture_duplicate(&duplicate, captures);
            true
        }
        // The refusal may be about this tracee alone, or its leader may be gone.
        Some(Err(_)) | None => capture_listed(tid, fd, captures),
    };
    let mut flags = RecordFlags::default();
    if !is_known {
        flags = flags.with(RecordFlags::SOCKET_UNKNOWN);
    }
    if captures.has_dropped() {
        flags = flags.with(RecordFlags::CAPTURES_DROPPED);
    }
    flags
}

/// Asks the kernel about a duplicate of the descriptor. It answers for every socket; a peer not each of them has.
fn capture_duplicate(socket: &OwnedFd, captures: &mut CaptureBuffer) {
    let Ok(info) = socket::info(socket) else { return };
    push_socket_info(info, captures);
    for (kind, name) in
        [(CaptureKind::SocketLocal, socket::local(socket)), (CaptureKind::SocketPeer, socket::peer(socket))]
    {
        if let Ok(name) = name {
            push_of_socket(kind, name.as_bytes(), captures);
        }
    }
}

/// Looks the socket up in the tables; tells whether all is known of it that is to be known, which of a descriptor that
/// is no socket is nothing.
fn capture_listed(tid: Tid, fd: i32, captures: &mut CaptureBuffer) -> bool {
    let entry = match socket_table::look_up(tid, fd) {
        Lookup::Found(entry) => entry,
        Lookup::NoSocket => return true,
        Lookup::Unknown => return false,
    };
    push_socket_info(entry.info, captures);
    let peer = entry.peer.map(Address::Inet);
    for (kind, address) in [(CaptureKind::SocketLocal, Some(entry.local)), (CaptureKind::SocketPeer, peer)] {
        if let Some(address) = address {
            let mut buf = [0; limits::SOCKADDR_BYTES_MAX];
            let len = address.write_to(&mut buf);
            push_of_socket(kind, buf.get(..len).unwrap_or_default(), captures);
        }
    }
    true
}

fn push_socket_info(info: SocketInfo, captures: &mut CaptureBuffer) {
    let info = [info.domain, info.kind, info.protocol].map(i32::to_ne_bytes);
    push_of_socket(CaptureKind::SocketInfo, info.as_flattened(), captures);
}

/// Pushes a capture. What does not fit is flagged by the buffer itself.
fn push_of_socket(kind: CaptureKind, data: &[u8], captures: &mut CaptureBuffer) {
    let _ = captures.push(kind, 0, CaptureFlags::default(), data);
}
