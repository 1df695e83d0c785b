use super::{Captures as _, Feed, call, short};
use crate::{
    decode::samples::{self, Sample},
    event::{CaptureKind, RecordFlags},
};

fn inet(ip: [u8; 4], port: u16) -> Vec<u8> {
    [&2u16.to_ne_bytes()[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
}

fn inet6(last: u8, port: u16) -> Vec<u8> {
    let mut ip = [0; 16];
    ip[15] = last;
    [&10u16.to_ne_bytes()[..], &port.to_be_bytes(), &[0; 4], &ip, &[0; 4]].concat()
}

fn connect(address: &[u8]) -> Sample {
    call("connect", &[5, 1, 16]).capture(CaptureKind::Sockaddr, 1, address)
}

#[test]
fn a_connect_is_told_with_its_own_address_and_its_socket_before_it() {
    let mut feed = Feed::new();
    let sample = || {
        connect(&inet([1, 2, 3, 4], 443))
            .capture(CaptureKind::SocketLocal, 0, &inet([10, 0, 0, 9], 40000))
            .capture(CaptureKind::SocketPeer, 0, &inet([1, 2, 3, 4], 443))
    };
    assert_eq!(feed.tell([sample()]), [("SOCKET_X", 1234), ("CONNECT_X", 1234)]);
    let events = feed.events();
    let socket = &events[0];
    assert_eq!(["fd", "domain", "type", "proto"].map(|name| socket.number(name)), [5, 2, 1, 6]);
    let [low, high] = 40000u16.to_ne_bytes();
    let [to_low, to_high] = 443u16.to_ne_bytes();
    let tuple = [2, 10, 0, 0, 9, low, high, 1, 2, 3, 4, to_low, to_high];
    assert_eq!((events[1].param("tuple"), events[1].number("fd")), (&tuple[..], 5));
    assert_eq!(events[1].param("addr"), [2, 1, 2, 3, 4, to_low, to_high]);
    // Falco knows the socket now, in a new program too, until its number is another file.
    assert_eq!(feed.tell([sample()]), [("CONNECT_X", 1234)]);
    let open = call("open", &[1]).path(0, "/x").result(5);
    assert_eq!(feed.tell([open, sample()]).len(), 3);
    assert_eq!(feed.tell([call("close", &[5]), sample()]).len(), 3);
    feed.tell([samples::exec(1234, 1, &["cat"])]);
    assert_eq!(feed.tell([sample()]), [("CONNECT_X", 1234)]);
}

#[test]
fn a_connect_in_progress_has_the_address_that_it_was_given() {
    let mut feed = Feed::new();
    let event = feed.last(connect(&inet6(7, 80)).result(-115));
    assert_eq!((event.param("tuple").len(), event.param("tuple")[34]), (37, 7));
    assert_eq!(event.param("addr").len(), 19);
    // What failed needs no socket, and one of a family without a layout has a tuple all the same.
    let event = feed.one(connect(&inet([1, 2, 3, 4], 1)).result(-111));
    assert_eq!((event.number("res"), event.param("tuple").len()), (-111, 13));
    let netlink = feed.last(connect(&[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((netlink.param("tuple")[0], netlink.param("addr")), (16, &b""[..]));
    let unix = feed.last(connect(b"\x01\0/run/x.sock"));
    assert_eq!((unix.param("tuple")[0], &unix.param("tuple")[17..]), (1, &b"/run/x.sock\0"[..]));
    // A socket that is told as one family is told anew before a tuple of another.
    assert_eq!(feed.tell([connect(b"\x01\0/y"), connect(&[0; 16])]).len(), 3);
}

#[test]
fn the_type_of_a_socket_is_remembered() {
    let mut feed = Feed::new();
    let socket = call("socket", &[2, (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64, 17]).result(5);
    let event = feed.one(socket);
    assert_eq!(
        ["domain", "type", "proto", "flags"].map(|name| event.number(name)),
        [2, 0o2_000_002, 17, 0x1000]
    );
    assert_eq!(feed.tell([connect(&inet([8, 8, 8, 8], 53))]), [("CONNECT_X", 1234)]);
    let packet = feed.one(call("socket", &[17, 3, 0]).result(-1));
    assert_eq!((packet.number("fd"), packet.number("domain")), (-1, 17));
    // A new consumer does not know it, but its type is still known.
    let mut snapshot = feed.translator.snapshot();
    assert!(snapshot.fill(&mut feed.translator, 1, &mut feed.batch));
    feed.tell([connect(&inet([8, 8, 8, 8], 53))]);
    assert_eq!(feed.events()[0].number("proto"), 17);
    // So it is in a child.
    feed.tell([samples::clone(1234, 1300)]);
    assert_eq!(feed.tell([connect(&inet([8, 8, 8, 8], 53)).thread(1300, 1300)]), [("CONNECT_X", 1300)]);
}

#[test]
fn an_accept_has_the_peer_as_its_source() {
    let mut feed = Feed::new();
    let accept = |name, flags| {
        call(name, &[3, 0, 0, flags])
            .capture(CaptureKind::SocketLocal, 0, &inet([10, 0, 0, 9], 80))
            .capture(CaptureKind::SocketPeer, 0, &inet([1, 2, 3, 4], 5))
            .result(6)
    };
    let event = feed.one(accept("accept", 0));
    assert_eq!((short(&event), &event.param("tuple")[..5]), ("ACCEPT_5_X", &[2, 1, 2, 3, 4][..]));
    let event = feed.one(accept("accept4", 0o2_000_000));
    assert_eq!((short(&event), event.number("flags")), ("ACCEPT4_6_X", 0x1000));
    let event = feed.one(call("accept", &[3]).result(-11));
    assert_eq!((event.number("fd"), event.param("tuple").len()), (-11, 0));
}

#[test]
fn a_dup_of_an_accepted_socket_makes_no_connect_up() {
    let mut feed = Feed::new();
    let ends = |sample: Sample| {
        sample
            .capture(CaptureKind::SocketLocal, 0, &inet([10, 0, 0, 9], 80))
            .capture(CaptureKind::SocketPeer, 0, &inet([1, 2, 3, 4], 5))
            .capture(CaptureKind::SocketInfo, 0, &[2, 1, 6].map(u32::to_ne_bytes).concat())
    };
    feed.tell([ends(call("accept", &[3])).result(6)]);
    assert_eq!(feed.tell([ends(call("dup2", &[6, 0])).result(0)]), [("DUP2_X", 1234)]);
}

#[test]
fn other_calls_on_sockets_have_their_events() {
    let mut feed = Feed::new();
    let bind = call("bind", &[5, 1, 16]).capture(CaptureKind::Sockaddr, 1, &inet([0; 4], 80));
    assert_eq!(feed.tell([bind]), [("SOCKET_X", 1234), ("BIND_X", 1234)]);
    let event = feed.one(call("listen", &[5, 128]));
    assert_eq!((short(&event), event.number("fd"), event.number("backlog")), ("LISTEN_X", 5, 128));
    let event = feed.one(call("shutdown", &[5, 2]));
    assert_eq!((short(&event), event.number("how")), ("SHUTDOWN_X", 2));
    let sendto =
        call("sendto", &[6, 1, 30, 0, 1, 16]).capture(CaptureKind::Sockaddr, 4, &inet([8, 8, 8, 8], 53));
    assert_eq!(feed.tell([sendto.result(30)]), [("SOCKET_X", 1234), ("SENDTO_X", 1234)]);
    let events = feed.events();
    assert_eq!((events[0].number("proto"), events[1].number("size")), (17, 30));
    assert_eq!(events[1].param("tuple")[7..11], [8, 8, 8, 8]);
    let sendmsg = || call("sendmsg", &[6, 1]).capture(CaptureKind::Sockaddr, 1, &inet([8, 8, 4, 4], 53));
    assert_eq!(feed.one(sendmsg().result(7)).number("size"), 7);
    assert_eq!(feed.one(sendmsg().result(-1)).param("tuple").len(), 13);
    for (name, event_name) in [
        ("sendmsg", "SENDMSG_X"),
        ("sendmmsg", "SENDMMSG_X"),
        ("recvfrom", "RECVFROM_X"),
        ("recvmsg", "RECVMSG_X"),
        ("recvmmsg", "RECVMMSG_X"),
    ] {
        let event = feed.one(call(name, &[6]).result(1));
        assert_eq!((short(&event), event.param("tuple")), (event_name, &[0; 18][..]));
    }
}

#[test]
fn a_listen_is_told_with_the_bind_before_it_if_no_record_told_of_that() {
    let mut feed = Feed::new();
    let listen = || call("listen", &[5, 128]).capture(CaptureKind::SocketLocal, 0, &inet([0; 4], 80));
    assert_eq!(feed.tell([listen()]), [("SOCKET_X", 1234), ("BIND_X", 1234), ("LISTEN_X", 1234)]);
    let bind = &feed.events()[1];
    let [low, high] = 80u16.to_ne_bytes();
    assert_eq!((bind.number("fd"), bind.number("res")), (5, 0));
    assert_eq!(bind.param("addr"), [2, 0, 0, 0, 0, low, high]);
    let bind = call("bind", &[5, 1, 16]).capture(CaptureKind::Sockaddr, 1, &inet([0; 4], 81));
    assert_eq!(feed.tell([bind, listen()]), [("BIND_X", 1234), ("LISTEN_X", 1234)]);
    // By now the descriptor may be another socket.
    assert_eq!(feed.tell([listen()]), [("BIND_X", 1234), ("LISTEN_X", 1234)]);
    assert_eq!(feed.tell([listen().result(-98)]), [("LISTEN_X", 1234)]);
    assert_eq!(feed.tell([call("listen", &[5, 128])]), [("LISTEN_X", 1234)], "its address is not known");
}

#[test]
fn a_dup_of_a_connected_socket_is_told_with_the_socket_before_it() {
    let mut feed = Feed::new();
    let event = feed.one(call("dup2", &[7, 1]).result(1));
    assert_eq!((short(&event), event.number("oldfd"), event.number("newfd")), ("DUP2_X", 7, 1));
    assert_eq!(short(&feed.one(call("dup", &[7]).result(8))), "DUP_1_X");
    let event = feed.one(call("dup3", &[7, 1, 0o2_000_000]).result(1));
    assert_eq!((short(&event), event.number("flags")), ("DUP3_X", 0x1000));
    let socket = |old: u64| {
        call("dup2", &[old, 0])
            .capture(CaptureKind::SocketLocal, 0, &inet([10, 0, 0, 9], 40000))
            .capture(CaptureKind::SocketPeer, 0, &inet([1, 2, 3, 4], 443))
            .capture(CaptureKind::SocketInfo, 0, &[2, 1, 6].map(u32::to_ne_bytes).concat())
            .result(0)
    };
    let told = feed.tell([socket(7)]).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(told, ["SOCKET_X", "CONNECT_X", "DUP2_X"]);
    assert_eq!(feed.tell([socket(7)]), [("DUP2_X", 1234)]);
    assert_eq!(feed.tell([socket(0)]), [("DUP2_X", 1234)], "the copy is known as well");
}

#[test]
fn a_descriptor_that_was_a_socket_is_told_to_be_none_before_its_dup() {
    let mut feed = Feed::new();
    let connect = || call("connect", &[5, 1, 16]).capture(CaptureKind::Sockaddr, 1, &inet([1, 2, 3, 4], 443));
    let dup = || call("dup2", &[5, 1]).result(1);
    feed.tell([connect()]);
    assert_eq!(feed.tell([dup().flags(RecordFlags::SOCKET_UNKNOWN)]), [("DUP2_X", 1234)]);
    assert_eq!(feed.tell([dup().result(-9)]), [("DUP2_X", 1234)], "of a dup that failed nothing is known");
    assert_eq!(feed.tell([dup()]), [("CLOSE_X", 1234), ("CLOSE_X", 1234), ("DUP2_X", 1234)]);
    assert_eq!((feed.events()[0].number("fd"), feed.events()[1].number("fd")), (5, 1));
    assert_eq!(feed.tell([dup()]), [("DUP2_X", 1234)], "it is told once");
    assert_eq!(feed.tell([connect()]), [("SOCKET_X", 1234), ("CONNECT_X", 1234)]);
}
