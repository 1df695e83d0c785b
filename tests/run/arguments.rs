//! The arguments of calls: paths, addresses, ids and flags.

use std::{
    ffi::OsStr,
    io,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use creance::sys::probe::Probe;
use serde_json::{Value, json};

use crate::support::{Capture, Workload, directory, fixture, is_permitted};

/// Some call of this kind has an argument that was written so and means this path.
#[track_caller]
fn assert_path(capture: &Capture, kind: &str, argument: &str, written: &str, meant: &Path) {
    let found = capture.of(kind).any(|event| {
        event.argument(argument) == Some(written)
            && event.path(argument) == meant.to_str()
            && event.result() >= Some(0)
    });
    let seen: Vec<_> = capture.of(kind).collect();
    assert!(found, "no {kind} with {argument}={written} that means {}: {seen:#?}", meant.display());
}

#[test]
fn paths_are_told_as_written_and_as_meant() {
    let program = fixture("files");
    let (_held, path) = directory();
    let capture = Workload::new([&program]).directory(&path).capture();
    assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
    let (one, at) = (path.join("one"), |name| path.join(name));
    let calls = [
        ("mkdirat", "path", "one", one.clone()),
        ("mkdirat", "path", "two", one.join("two")),
        ("openat", "name", "two/../file", one.join("file")),
        ("fchmodat", "filename", "file", one.join("file")),
        ("chdir", "path", "one/two", one.join("two")),
        ("openat", "name", "by-chdir", one.join("two/by-chdir")),
        ("openat", "name", "by-fchdir", one.join("by-fchdir")),
        ("chdir", "path", "..", path.clone()),
        ("linkat", "oldpath", "file", one.join("file")),
        ("linkat", "newpath", "hard", at("hard")),
        ("symlinkat", "linkpath", "soft", one.join("soft")),
        ("renameat2", "oldpath", "soft", one.join("soft")),
        ("renameat2", "newpath", "softer", at("softer")),
        ("unlinkat", "name", "hard", at("hard")),
        ("unlinkat", "name", "two/by-chdir", one.join("two/by-chdir")),
        ("unlinkat", "name", "two", one.join("two")),
    ];
    for (kind, argument, written, meant) in calls {
        assert_path(&capture, kind, argument, written, &meant);
    }
    #[cfg(target_arch = "x86_64")]
    {
        assert_path(&capture, "rename", "oldpath", "hard", &at("hard"));
        assert_path(&capture, "rename", "newpath", "./harder", &at("harder"));
        assert_path(&capture, "rmdir", "path", "one/three", &one.join("three"));
    }
    // Descriptors that a call is about are told by their path.
    assert_eq!(capture.one("fchdir", |_| true).path("fd"), one.to_str());
    assert_eq!(capture.one("fchmod", |_| true).path("fd"), one.join("file").to_str());
}

#[test]
fn flags_and_modes_are_told_in_words() {
    let program = fixture("files");
    let (_held, path) = directory();
    let capture = Workload::new([&program]).directory(&path).capture();
    let made = capture.one("openat", |open| open.argument("name") == Some("two/../file"));
    assert_eq!(made.argument("flags"), Some("O_WRONLY|O_CREAT|O_EXCL"));
    assert_eq!(made.argument("mode"), Some("0640"));
    assert_eq!(
        capture.one("mkdirat", |call| call.argument("path") == Some("one")).argument("mode"),
        Some("0750")
    );
    assert_eq!(capture.one("fchmod", |_| true).argument("mode"), Some("04755"));
    assert_eq!(capture.one("fchmodat", |_| true).argument("mode"), Some("0600"));
    let removed = capture.one("unlinkat", |call| call.argument("name") == Some("two"));
    assert_eq!(removed.argument("flags"), Some("AT_REMOVEDIR"));
    assert_eq!(capture.one("renameat2", |_| true).argument("flags"), Some("RENAME_NOREPLACE"));
    assert_eq!(capture.one("symlinkat", |_| true).argument("target"), Some("../target of it"));
    let anonymous = capture.one("memfd_create", |_| true);
    assert_eq!(anonymous.argument("name"), Some("a name"));
    assert_eq!(anonymous.argument("flags"), Some("MFD_CLOEXEC"));
    assert!(anonymous.result() > Some(2));
    // Its flags lie in memory.
    let how = capture.one("openat2", |_| true);
    assert_eq!((how.argument("name"), how.argument("flags")), (Some("file"), Some("O_RDONLY")));
    assert_eq!((how.argument("mode"), how.number("/args/resolve")), (Some("0"), Some(4)));
    assert_eq!(how.path("name"), path.join("one/file").to_str());
}

/// Opens paths that are hard to read from outside. Memory that the program itself may not read is left out where creance has to
/// read through `/proc/PID/mem`, which shows that as well.
pub(crate) fn hard_paths() -> Workload {
    let mut words = vec![fixture("memory").into_os_string()];
    words.extend((!is_permitted(Probe::ProcessVmReadv)).then(|| "readable".into()));
    Workload::new(words)
}

#[test]
fn paths_that_are_hard_to_read_are_told_as_they_are() {
    let capture = hard_paths().capture();
    assert_eq!(capture.code(), 0);
    for path in
        ["/nonexistent/end-of-page", "/nonexistent/across-pages", "/nonexistent/new\nline\tand \u{1b}[31m"]
    {
        let open = capture.one("openat", |open| open.argument("name") == Some(path));
        assert_eq!(open.errno(), Some("ENOENT"));
        assert_eq!(open.path("name"), Some(path));
        assert!(open.value("/flags").is_none());
    }
    let longest = capture.one("openat", |open| open.path("name") == Some("/nonexistent-longest"));
    assert_eq!(longest.argument("name").map(str::len), Some(4095));
    assert_eq!(longest.value("/args/name_truncated"), None);
    let too_long = capture.one("openat", |open| open.errno() == Some("ENAMETOOLONG"));
    assert_eq!(too_long.value("/args/name_truncated"), Some(&Value::Bool(true)));
    assert!(too_long.argument("name").is_some_and(|name| name.len() >= 4095));
    assert_eq!(too_long.path("name"), None);

    let invalid = capture.one("openat", |open| open.value("/args/name_hex").is_some());
    assert_eq!(invalid.argument("name"), Some("/nonexistent/\u{fffd}\u{fffd} invalid"));
    let bytes = b"/nonexistent/\xff\xfe invalid";
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(invalid.argument("name_hex"), Some(&*hex));
    assert_eq!(capture.one("openat", |open| open.argument("name") == Some("")).errno(), Some("ENOENT"));
}

#[test]
fn memory_that_cannot_be_read_is_told() {
    let capture = hard_paths().capture();
    let faults: Vec<_> = capture.of("openat").filter(|open| open.errno() == Some("EFAULT")).collect();
    let told: Vec<_> = faults
        .iter()
        .map(|open| (open.argument("name"), open.has_flag("memory_unreadable"), open.path("name")))
        .collect();
    // A null pointer is no memory that could not be read: the program gave none.
    let (unreadable, null) = ((None, true, None), (None, false, None));
    let mut meant = vec![(Some("////////"), false, None), unreadable, null];
    meant.extend(is_permitted(Probe::ProcessVmReadv).then_some(unreadable));
    assert_eq!(told, meant);
    // There was more of the first than could be read.
    assert_eq!(faults[0].value("/args/name_truncated"), Some(&Value::Bool(true)));
    assert!(faults[1..].iter().all(|open| open.value("/args/name") == Some(&Value::Null)));
}

#[test]
fn both_ends_of_a_connection_are_told() {
    let (_held, path) = directory();
    let socket = path.join("socket");
    let _local = UnixListener::bind(&socket).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepted = listener.local_addr().unwrap().port();
    let refused = refused_port().unwrap();
    let program = fixture("sockets");
    let ports = [refused, accepted].map(|port| port.to_string());
    let words = [program.as_os_str(), ports[0].as_ref(), ports[1].as_ref(), socket.as_os_str()];
    let capture = Workload::new(words).capture();
    assert_eq!(capture.code(), 0);
    let numbers: Vec<i64> = capture
        .finished
        .stdout()
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    let address = |port: u16| json!({"family": "AF_INET", "ip": "127.0.0.1", "port": port});
    let tcp = |port: u16| {
        let found = capture.of("connect").find(|call| call.value("/addr") == Some(&address(port)));
        found.unwrap_or_else(|| panic!("no connect to port {port}"))
    };

    let call = tcp(refused);
    assert_eq!(
        (call.errno(), call.argument("addr")),
        (Some("ECONNREFUSED"), Some(&*format!("127.0.0.1:{refused}")))
    );
    assert_eq!(call.value("/peer"), None);
    let call = tcp(accepted);
    assert_eq!(call.result(), Some(0));
    assert_eq!(call.value("/peer"), Some(&address(accepted)));
    assert_eq!(call.text("/local/ip"), Some("127.0.0.1"));
    assert_eq!(call.number("/local/port"), Some(numbers[0]));
    let call = capture.one("connect", |call| call.text("/addr/family") == Some("AF_UNIX"));
    assert_eq!((call.text("/addr/path"), call.result()), (socket.to_str(), Some(0)));

    let call = capture.one("accept4", |_| true);
    assert!(call.result() > Some(2));
    assert_eq!(call.number("/local/port"), Some(numbers[1]));
    assert_eq!(call.text("/peer/ip"), Some("127.0.0.1"));
    // Only a datagram with an address tells where it goes.
    let call = capture.one("sendto", |_| true);
    assert_eq!(call.argument("dest_addr"), Some(&*format!("127.0.0.1:{refused}")));
    assert_eq!(call.result(), Some(1));
}

/// A port of the loopback interface that nobody listens on: it was ours a moment ago.
fn refused_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[test]
fn only_standard_descriptors_are_worth_a_dup() {
    let (_held, path) = directory();
    let socket: PathBuf = path.join("socket");
    let _local = UnixListener::bind(&socket).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepted = listener.local_addr().unwrap().port().to_string();
    let refused = refused_port().unwrap().to_string();
    let program = fixture("sockets");
    let words = [program.as_os_str(), OsStr::new(&refused), OsStr::new(&accepted), socket.as_os_str()];
    let capture = Workload::new(words).capture();
    assert_eq!(capture.code(), 0);
    let call = capture.one("dup3", |_| true);
    assert_eq!((call.number("/args/newfd"), call.result()), (Some(0), Some(0)));
}

#[test]
fn changes_of_user_and_group_are_told() {
    let (_held, path) = directory();
    let capture = Workload::new([fixture("ids")]).directory(&path).capture();
    assert_eq!(capture.code(), 0);
    let uid = i64::from(nix::unistd::getuid().as_raw());
    let gid = i64::from(nix::unistd::getgid().as_raw());
    let arguments = [
        ("setuid", json!({"uid": uid})),
        ("setgid", json!({"gid": gid})),
        ("setreuid", json!({"ruid": -1, "euid": uid})),
        ("setregid", json!({"rgid": gid, "egid": -1})),
        ("setresuid", json!({"ruid": -1, "euid": -1, "suid": uid})),
        ("setresgid", json!({"rgid": gid, "egid": gid, "sgid": gid})),
    ];
    for (kind, expected) in arguments {
        let call = capture.one(kind, |_| true);
        assert_eq!(call.value("/args"), Some(&expected), "{kind}");
        assert_eq!(call.result(), Some(0));
        assert_eq!(call.number("/proc/uid"), Some(uid));
    }
}

#[test]
fn a_workload_cannot_have_another_tracer() {
    let capture = Workload::new([fixture("ids")]).flags(["--engine", "ptrace"]).capture();
    // The documented limit of tracing by ptrace.
    assert_eq!(capture.finished.stdout(), "EPERM\n");
    let call = capture.one("ptrace", |_| true);
    assert_eq!((call.argument("request"), call.errno()), (Some("PTRACE_TRACEME"), Some("EPERM")));
}
