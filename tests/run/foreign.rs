//! Calls through other ABIs than the machine's own, and other ways around the filter.

use crate::support::{Capture, Event, Workload, directory, fixture, fixture_with, skip};

#[test]
fn a_32_bit_call_of_a_64_bit_program_is_seen_and_works() {
    let program = fixture("foreign");
    let words = [program.as_os_str(), "i386".as_ref()];
    let native = Workload::new(words).natively();
    if !native.status.success() {
        return skip("the kernel takes no 32-bit calls");
    }
    for flags in [&[][..], &["--all"], &["--syscalls", "open"]] {
        let capture = Workload::new(words).flags(flags).capture();
        assert_eq!(capture.code(), 0);
        assert_eq!(capture.finished.stdout(), native.stdout());
        let missing = capture.open("/nonexistent/int80");
        assert_eq!(
            (missing.kind(), missing.text("/abi"), missing.number("/nr")),
            ("open", Some("i386"), Some(5))
        );
        assert_eq!((missing.result(), missing.errno()), (Some(-2), Some("ENOENT")));
        let opened = capture.one("open", |open| open.argument("name") == Some("/dev/null"));
        assert_eq!(opened.text("/abi"), Some("i386"));
        assert!(opened.result() > Some(2));
        // The number of the native execve is another call there.
        assert!(
            capture
                .events
                .iter()
                .all(|event| event.kind() != "execve" || event.text("/abi") == Some("x86_64"))
        );
    }
}

#[test]
fn a_call_that_nobody_wants_is_not_recorded_in_another_abi_either() {
    let program = fixture("foreign");
    let words = [program.as_os_str(), "i386".as_ref()];
    if !Workload::new(words).natively().status.success() {
        return skip("the kernel takes no 32-bit calls");
    }
    let capture = Workload::new(words).capture();
    assert_eq!(capture.of("getpid").count(), 0);
    let capture = Workload::new(words).flags(["--syscalls", "getpid"]).capture();
    assert_eq!(
        capture.one("getpid", |call| call.text("/abi") == Some("i386")).result(),
        Some(capture.root())
    );
}

/// The calls that are trapped for rules on sockets, and one of ipc(2).
const MULTIPLEXED: &str = "socket,bind,listen,connect,accept,sendto,recvfrom,msgget,msgctl";

/// The 32-bit calls of this name.
fn foreign<'c>(capture: &'c Capture, name: &'c str) -> Vec<&'c Event> {
    capture.of(name).filter(|call| call.text("/abi") == Some("i386")).collect()
}

#[test]
fn a_call_that_stands_for_another_is_told_as_that_one() {
    let program = fixture("multiplexed");
    let native = Workload::new([&program]).natively();
    if !native.status.success() {
        return skip("the kernel takes no 32-bit calls");
    }
    for flags in [["--syscalls", MULTIPLEXED], ["--syscalls", "socketcall,ipc"]] {
        let capture = Workload::new([&program]).flags(flags).capture();
        assert_eq!(capture.code(), 0);
        assert_eq!(capture.finished.stdout(), native.stdout());
        let of = |name| foreign(&capture, name);
        let [server, client, unread] = of("socket")[..] else { panic!("{:?}", of("socket")) };
        assert_eq!(
            (server.argument("domain"), server.argument("type")),
            (Some("AF_INET"), Some("SOCK_STREAM"))
        );
        let connect = of("connect")[0];
        assert_eq!(connect.number("/args/fd"), client.result());
        assert_eq!(connect.text("/peer/ip"), Some("127.0.0.1"));
        assert!(connect.number("/peer/port") > Some(0));
        assert_eq!(connect.number("/peer/port"), connect.number("/addr/port"));
        assert_eq!(of("bind")[0].number("/args/fd"), server.result());
        assert_eq!(of("listen")[0].number("/args/backlog"), Some(7));
        assert_eq!(of("accept4")[0].number("/args/sockfd"), server.result());
        assert_eq!(of("sendto")[0].number("/args/size"), Some(4));
        assert_eq!(of("recvfrom")[0].result(), Some(4));
        assert_eq!(of("msgctl")[0].number("/args/msqid"), of("msgget")[0].result());
        assert!(capture.events.iter().all(|event| !event.has_flag("changeable")));
        assert!(unread.has_flag("memory_unreadable"));
        assert_eq!(unread.errno(), Some("EFAULT"));
        // What stands for nothing stays as it is.
        assert_eq!(of("socketcall").len(), 1, "{:?}", of("socketcall"));
    }
}

/// Sockets that a racing thread makes.
const SOCKETS: usize = 1_000;

#[test]
fn a_block_of_arguments_that_another_thread_changes_decides_nothing() {
    let program = fixture("multiplexed");
    let count = SOCKETS.to_string();
    let words = [program.as_os_str(), "race".as_ref(), count.as_ref()];
    if !Workload::new(words).natively().status.success() {
        return skip("the kernel takes no 32-bit calls");
    }
    let (_held, path) = directory();
    let rules = path.join("rules.yaml");
    let rule = "- rule: netlink\n  desc: n\n  condition: evt.type = socket and evt.arg.domain = AF_NETLINK\n  \
                output: n\n  priority: INFO\n";
    std::fs::write(&rules, rule).unwrap();
    let capture = Workload::new(words).flags(["--rules"]).flags([&rules]).capture();
    assert_eq!(capture.code(), 0);
    let made = capture.finished.stdout().lines().filter(|line| line.starts_with("16 ")).count();
    let told = foreign(&capture, "socket");
    assert!(made <= told.len() && told.len() == SOCKETS, "{made} of {}", told.len());
    assert!(told.iter().all(|call| call.has_flag("changeable")));
}

#[test]
fn an_x32_call_is_seen_and_answered_as_natively() {
    let program = fixture("foreign");
    let words = [program.as_os_str(), "x32".as_ref()];
    let native = Workload::new(words).natively();
    // The pid differs where the kernel knows x32.
    let is_unknown = native.stdout() == "missing -38\nown pid -38\n";
    assert!(is_unknown || native.stdout() == "missing -2\nown pid 1\n", "{}", native.stdout());
    let capture = Workload::new(words).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(capture.finished.stdout(), native.stdout());
    let open = capture.open("/nonexistent/x32");
    assert_eq!((open.kind(), open.text("/abi")), ("openat", Some("x32")));
    assert_eq!(open.number("/nr"), Some(0x4000_0000 + 257));
    assert_eq!(open.errno(), Some(if is_unknown { "ENOSYS" } else { "ENOENT" }));
}

#[test]
fn a_32_bit_program_is_seen() {
    let flags =
        ["-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector"];
    let Ok(program) = fixture_with("i386", "", &flags) else {
        return skip("cc cannot make 32-bit programs");
    };
    if Workload::new([&program]).natively().status.code() != Some(libc::ENOENT) {
        return skip("the kernel runs no 32-bit programs");
    }
    let capture = Workload::new([&program]).capture();
    assert_eq!(capture.code(), libc::ENOENT);
    assert_eq!(capture.started(&[program.to_str().unwrap()]).text("/proc/exe"), program.to_str());
    let open = capture.open("/nonexistent/i386");
    assert_eq!((open.text("/abi"), open.errno()), (Some("i386"), Some("ENOENT")));
}

#[test]
fn a_workload_cannot_take_trapped_calls_away_with_a_listener_of_its_own() {
    let program = fixture("listener");
    let native = Workload::new([&program]).natively();
    if native.stdout() != "listener\nfilter\n" {
        return skip("no seccomp listener can be had here");
    }
    let capture = Workload::new([&program]).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(capture.finished.stdout(), "EBUSY\nfilter\n");
    assert_eq!(capture.open("/nonexistent/after-listener").errno(), Some("ENOENT"));
}
