use proptest::prelude::*;

use super::*;
use crate::{
    abi::Abi,
    decode::{
        Decoder, Users,
        samples::{self, Sample},
    },
    event::{CaptureFlags, CaptureKind, PROCESS_EXEC_LOST, Record, RecordFlags, RecordKind},
};

const AT_FDCWD: u64 = 0xffff_ff9c;

/// Feeds records of a tree that `bash` (10) began, and tells what each sink wrote for the last one.
fn written(samples: impl IntoIterator<Item = Vec<u8>>, colour: bool) -> (String, String) {
    let mut decoder = Decoder::with_users(Users::parse(b"root:x:0:\n"));
    let bash = samples::exec(10, 1, &["bash"]).bytes();
    let (mut text, mut json) = (Vec::new(), Vec::new());
    for bytes in [bash].into_iter().chain(samples) {
        text.clear();
        json.clear();
        let record = Record::parse(&bytes).unwrap();
        let event = decoder.decode(&record);
        Text::new(&mut text, colour).event(&event).unwrap();
        Json::new(&mut json).event(&event).unwrap();
    }
    (String::from_utf8(text).unwrap(), String::from_utf8(json).unwrap())
}

/// The line for one record of `bash`, without the time before it.
fn text(sample: Sample) -> String {
    let (text, _) = written([sample.bytes()], false);
    text.strip_prefix("22:13:20.123456789 ").unwrap().strip_suffix('\n').unwrap().to_owned()
}

/// The object for one record of `bash`, without the keys that tell when.
fn json(sample: Sample) -> String {
    let (_, json) = written([sample.bytes()], false);
    let when = r#"{"seq":42,"producer":0,"#;
    let times = r#""time_ns":1700000000123456789,"enter_ns":1700000000123456000,"duration_ns":789,"#;
    json.strip_prefix(when).unwrap().replacen(times, "", 1).trim_end().to_owned()
}

fn call(name: &str, arguments: &[u64]) -> Sample {
    Sample::call(name, arguments).thread(10, 10)
}

const BASH: &str =
    r#""proc":{"name":"bash","exe":"/usr/bin/bash","cmdline":"bash","ppid":1,"uid":0,"user":"root"}}"#;

#[test]
fn an_open_shows_its_path_and_what_it_resolves_to() {
    let open = || {
        call("openat", &[AT_FDCWD, 0x7000, 0o2_000_000])
            .capture(CaptureKind::Path, 1, b"../etc/shadow")
            .capture(CaptureKind::Cwd, 1, b"/root")
            .result(3)
    };
    assert_eq!(
        text(open()),
        "bash(10) openat dirfd=AT_FDCWD name=../etc/shadow resolved=/etc/shadow flags=O_RDONLY|O_CLOEXEC mode=0 = 3"
    );
    assert_eq!(
        json(open()),
        r#""type":"openat","tid":10,"pid":10,"abi":"x86_64","nr":257,"args":{"dirfd":-100,"name":"../etc/shadow","#
            .to_owned()
            + r#""flags":"O_RDONLY|O_CLOEXEC","mode":"0"},"paths":{"name":"/etc/shadow"},"res":3,"#
            + BASH
    );
}

#[test]
fn a_failure_shows_its_number_and_name() {
    let open = || {
        call("open", &[0x7000, 0o101, 0o644]).capture(CaptureKind::Path, 0, b"/a").result(-2).thread(10, 12)
    };
    assert_eq!(text(open()), "bash(10/12) open name=/a flags=O_WRONLY|O_CREAT mode=0644 = -2 ENOENT");
    assert_eq!(
        json(open()),
        r#""type":"open","tid":12,"pid":10,"abi":"x86_64","nr":2,"args":{"name":"/a","flags":"O_WRONLY|O_CREAT","#
            .to_owned()
            + r#""mode":"0644"},"paths":{"name":"/a"},"res":-2,"errno":"ENOENT","#
            + BASH
    );
    assert_eq!(text(call("setsid", &[]).result(-4000)), "bash(10) setsid = -4000");
}

#[test]
fn the_structure_of_openat2_shows_as_its_fields() {
    let how: Vec<u8> = [0o2_u64, 0o600, 8].iter().flat_map(|field| field.to_ne_bytes()).collect();
    let open = call("openat2", &[5, 1, 2, 24])
        .capture(CaptureKind::Path, 1, b"x")
        .capture(CaptureKind::FdPath, 0, b"/srv")
        .capture(CaptureKind::Struct, 2, &how)
        .result(4);
    assert_eq!(
        text(open),
        "bash(10) openat2 dirfd=5 name=x resolved=/srv/x flags=O_RDWR mode=0600 resolve=0x8 size=24 = 4"
    );
}

#[test]
fn a_connect_shows_the_address_and_both_ends() {
    let connect = || {
        call("connect", &[3, 1, 16])
            .capture(CaptureKind::Sockaddr, 1, &[2, 0, 0, 80, 127, 0, 0, 1])
            .capture(CaptureKind::SocketLocal, 0, &[2, 0, 0x80, 0, 127, 0, 0, 1])
            .result(-115)
    };
    assert_eq!(
        text(connect()),
        "bash(10) connect fd=3 addr=127.0.0.1:80 addrlen=16 local=127.0.0.1:32768 = -115 EINPROGRESS"
    );
    assert_eq!(
        json(connect()),
        r#""type":"connect","tid":10,"pid":10,"abi":"x86_64","nr":42,"#.to_owned()
            + r#""args":{"fd":3,"addr":"127.0.0.1:80","addrlen":16},"#
            + r#""addr":{"family":"AF_INET","ip":"127.0.0.1","port":80},"#
            + r#""local":{"family":"AF_INET","ip":"127.0.0.1","port":32768},"res":-115,"errno":"EINPROGRESS","#
            + BASH
    );
}

#[test]
fn each_family_of_addresses_has_its_form() {
    let connect = |address: &[u8]| call("connect", &[3, 1, 0]).capture(CaptureKind::Sockaddr, 1, address);
    let mut six = vec![10, 0, 0x1f, 0x90, 0, 0, 0, 0];
    six.extend([0; 15]);
    six.push(1);
    six.extend([0; 4]);
    assert_eq!(text(connect(&six)), "bash(10) connect fd=3 addr=[::1]:8080 addrlen=0 = 0");
    assert_eq!(text(connect(b"\x01\0/run/a b\0")), r#"bash(10) connect fd=3 addr="/run/a b" addrlen=0 = 0"#);
    assert_eq!(text(connect(b"\x01\0\0bus\0\0")), "bash(10) connect fd=3 addr=@bus addrlen=0 = 0");
    assert_eq!(text(connect(b"\x01\0")), r#"bash(10) connect fd=3 addr="" addrlen=0 = 0"#);
    assert_eq!(text(connect(b"\x10\0\0\0")), "bash(10) connect fd=3 addr=AF_NETLINK addrlen=0 = 0");
    let json = json(connect(b"\x01\0\0b\xff"));
    let path = "\"addr\":{\"family\":\"AF_UNIX\",\"path\":\"@b\u{fffd}\",\"path_hex\":\"62ff\"}";
    assert!(json.contains(path), "{json}");
}

#[test]
fn an_accept_shows_its_peer() {
    let accept = call("accept4", &[3, 0, 0, 0o2_000_000])
        .capture(CaptureKind::SocketPeer, 0, &[2, 0, 0x80, 1, 10, 0, 0, 2])
        .result(4);
    assert_eq!(
        text(accept),
        "bash(10) accept4 sockfd=3 addr=NULL addrlen=0x0 flags=SOCK_CLOEXEC peer=10.0.0.2:32769 = 4"
    );
}

#[test]
fn a_program_start_shows_its_command_parent_and_user() {
    let exec = || {
        samples::exec(11, 10, &["cat", "/etc/shadow"]).capture(CaptureKind::Path, 0, b"./cat").capture(
            CaptureKind::Cwd,
            0,
            b"/usr/bin",
        )
    };
    assert_eq!(
        text(exec()),
        r#"cat(11) execve filename=./cat resolved=/usr/bin/cat argv=["cat","/etc/shadow"] exe=/usr/bin/cat "#
            .to_owned()
            + "parent=bash(10) user=root(0) = 0"
    );
    assert_eq!(
        json(exec()),
        r#""type":"execve","tid":11,"pid":11,"abi":"x86_64","nr":59,"args":{"filename":"./cat","#.to_owned()
            + r#""argv":["cat","/etc/shadow"]},"paths":{"filename":"/usr/bin/cat"},"res":0,"proc":{"name":"cat","#
            + r#""exe":"/usr/bin/cat","cmdline":"cat /etc/shadow","ppid":10,"pname":"bash","uid":0,"user":"root"}}"#
    );
}

#[test]
fn an_exec_that_fails_shows_what_was_asked_for() {
    let exec = call("execve", &[1, 2, 3])
        .capture(CaptureKind::Path, 0, b"/bin/x")
        .capture(CaptureKind::Argv, 1, b"x\0-a b\0")
        .result(-13);
    assert_eq!(text(exec), r#"bash(10) execve filename=/bin/x argv=["x","-a b"] = -13 EACCES"#);
}

#[test]
fn a_clone_shows_its_flags_and_child() {
    assert_eq!(
        text(samples::clone(10, 11)),
        "bash(10) clone flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD child_pid=11 = 11"
    );
    let from_child = samples::clone(10, 11).flags(RecordFlags::FROM_CHILD);
    assert_eq!(text(from_child), "bash(10) clone child_pid=11 <from_child> = 11");
    let thread = samples::clone(10, 10).flags(RecordFlags::THREAD).result(12);
    assert!(json(thread).contains(r#""args":{"flags":"CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD","child_pid":10},"res":12,"flags":["thread"],"#));
}

#[test]
fn an_exit_shows_its_status_or_signal() {
    let exit = |tid, status| Sample::new(RecordKind::Exit).thread(10, tid).result(status);
    assert_eq!(text(exit(10, 0)), "bash(10) procexit status=0");
    assert_eq!(text(exit(10, 3 << 8)), "bash(10) procexit status=3");
    assert_eq!(text(exit(10, 9)), "bash(10) procexit signal=SIGKILL core=false");
    assert_eq!(text(exit(12, 0x80 | 11)), "bash(10/12) threadexit signal=SIGSEGV core=true");
    assert_eq!(
        json(exit(10, 9)),
        r#""type":"procexit","tid":10,"pid":10,"args":{"signal":"SIGKILL","core":false},"#.to_owned() + BASH
    );
    let unknown = || exit(10, 0).flags(RecordFlags::NO_RESULT);
    assert_eq!(text(unknown()), "bash(10) procexit");
    assert!(json(unknown()).contains(r#""args":{},"flags":["no_result"],"#));
}

#[test]
fn a_loss_shows_how_many_records_are_missing() {
    let loss = || Sample::new(RecordKind::Loss).thread(0, 0).result(17);
    assert_eq!(text(loss()), "- drop count=17");
    assert_eq!(json(loss()), r#""type":"drop","args":{"count":17}}"#);
}

#[test]
fn a_process_that_is_told_of_anew_shows_what_it_is_and_what_was_lost() {
    let process = |bits| samples::process(11, 10, &["cat", "x"], 5).arguments(&[bits]);
    assert_eq!(
        text(process(0)),
        r#"cat(11) process argv=["cat","x"] exe=/usr/bin/cat parent=bash(10) user=root(0)"#
    );
    assert!(text(process(3)).contains(r#"argv=["cat","x"] exec_lost=true clone_lost=true exe="#));
    let json = json(process(PROCESS_EXEC_LOST));
    assert!(json.starts_with(
        r#""type":"process","tid":11,"pid":11,"args":{"argv":["cat","x"],"exec_lost":true},"proc":"#
    ));
    assert!(json.contains(
        r#""proc":{"name":"cat","exe":"/usr/bin/cat","cmdline":"cat x","ppid":10,"pname":"bash","#
    ));
}

#[test]
fn a_call_that_did_not_return_has_no_result() {
    let open = || call("exit_group", &[1]).flags(RecordFlags::NO_RESULT);
    assert_eq!(text(open()), "bash(10) exit_group status=1 = ?");
    assert!(json(open()).contains(r#""args":{"status":1},"flags":["no_result"],"#));
}

#[test]
fn a_foreign_call_shows_its_abi_and_an_unknown_one_its_number() {
    let foreign = call("open", &[]).number(Abi::I386, "chdir").capture(CaptureKind::Path, 0, b"/");
    assert_eq!(text(foreign), "bash(10) chdir[i386] path=/ = 0");
    let mut unknown = call("open", &[1, 2]);
    unknown.header.number.0 = 9999;
    assert_eq!(
        text(unknown),
        "bash(10) syscall_9999 arg0=0x1 arg1=0x2 arg2=0x0 arg3=0x0 arg4=0x0 arg5=0x0 = 0"
    );
}

#[test]
fn a_socket_whose_addresses_could_not_be_had_says_so() {
    let unknown = || call("listen", &[3, 5]).flags(RecordFlags::SOCKET_UNKNOWN);
    assert_eq!(text(unknown()), "bash(10) listen fd=3 backlog=5 <socket_unknown> = 0");
    assert!(json(unknown()).contains(r#""flags":["socket_unknown"]"#));
    let irrelevant = || call("listen", &[3, 5]).flags(RecordFlags::IRRELEVANT);
    assert_eq!(text(irrelevant()), "bash(10) listen fd=3 backlog=5 <irrelevant> = 0");
    assert!(json(irrelevant()).contains(r#""flags":["irrelevant"]"#));
}

#[test]
fn memory_that_was_not_read_is_told_from_memory_that_is_empty() {
    let unread = || call("chdir", &[0x7fff_0000]).flags(RecordFlags::MEMORY_UNREADABLE).result(-14);
    assert_eq!(text(unread()), "bash(10) chdir path=0x7fff0000 <memory_unreadable> = -14 EFAULT");
    assert!(
        json(unread())
            .contains(r#""args":{"path":null},"res":-14,"errno":"EFAULT","flags":["memory_unreadable"]"#)
    );
    let empty = call("chdir", &[0x7fff_0000]).capture(CaptureKind::Path, 0, b"").result(-2);
    assert_eq!(text(empty), r#"bash(10) chdir path="" = -2 ENOENT"#);
    let cut = || call("chdir", &[1]).capture_with(CaptureKind::Path, 0, CaptureFlags::TRUNCATED, b"/aa");
    assert_eq!(text(cut()), "bash(10) chdir path=/aa... = 0");
    assert!(json(cut()).contains(r#""args":{"path":"/aa","path_truncated":true},"res":0"#));
}

#[test]
fn numbers_ids_and_signals_read_as_people_write_them() {
    assert_eq!(
        text(call("setresuid", &[0xffff_ffff, 1000, 0])),
        "bash(10) setresuid ruid=-1 euid=1000 suid=0 = 0"
    );
    assert_eq!(text(call("kill", &[0xffff_ffff, 9])), "bash(10) kill pid=-1 sig=SIGKILL = 0");
    assert_eq!(text(call("kill", &[1, 40])), "bash(10) kill pid=1 sig=40 = 0");
    let map = call("brk", &[0]).result(0x5555_0000);
    assert_eq!(text(map), "bash(10) brk addr=0x0 = 0x55550000");
    let pair = i64::from_ne_bytes([5, 0, 0, 0, 6, 0, 0, 0]).to_ne_bytes();
    let pipe = || call("pipe2", &[1, 0o2_000_000]).capture(CaptureKind::Struct, 0, &pair);
    assert_eq!(text(pipe()), "bash(10) pipe2 pipefd=[5,6] flags=O_CLOEXEC = 0");
    assert!(json(pipe()).contains(r#""args":{"pipefd":[5,6],"flags":"O_CLOEXEC"}"#));
}

#[test]
fn a_hostile_name_can_neither_forge_a_line_nor_drive_a_terminal() {
    let open = || call("chdir", &[1]).capture(CaptureKind::Path, 0, b"/x = 0\n\x1b[2J\xc2\x9b\xff");
    assert_eq!(text(open()), r#"bash(10) chdir path="/x = 0\n\x1b[2J\u{9b}\xff" = 0"#);
    let json = json(open());
    assert!(json.contains(r#""path":"/x = 0\n\u001b[2J\u009b"#), "{json}");
    assert!(json.contains(r#""path_hex":"2f78203d20300a1b5b324ac29bff"}"#), "{json}");
}

#[test]
fn arguments_that_are_not_text_are_told_exactly() {
    let exec = call("execve", &[1, 2, 3]).capture(CaptureKind::Argv, 1, b"a\0\xffb\0");
    let json = json(exec);
    assert!(json.contains("\"argv\":[\"a\",\"\u{fffd}b\"],\"argv_hex\":[\"61\",\"ff62\"]}"), "{json}");
}

#[test]
fn a_long_command_is_cut_in_text_only() {
    let long = "y".repeat(2000);
    let exec = || {
        let argv = [b"x\0", long.as_bytes(), b"\0"].concat();
        call("execve", &[]).capture(CaptureKind::Argv, 1, &argv)
    };
    let line = text(exec());
    assert!(line.contains(r#"y"...] = 0"#) && line.len() < 1200, "{line}");
    assert!(json(exec()).contains(&long));
    let many = call("execve", &[]).capture(CaptureKind::Argv, 1, &[0; 3000]);
    assert!(text(many).len() < 1200);
}

#[test]
fn the_example_in_the_docs_is_what_the_sinks_write() {
    let bash = samples::exec(1234, 1, &["bash"]).bytes();
    let cat = samples::exec(1236, 1234, &["cat", "../etc/shadow"]).bytes();
    let mut open = call("openat", &[AT_FDCWD, 0x7000]).thread(1236, 1236).result(3);
    open.header.sequence = 7;
    let open = open.capture(CaptureKind::Path, 1, b"../etc/shadow").capture(CaptureKind::Cwd, 1, b"/root");
    let (text, json) = written([bash, cat, open.bytes()], false);
    let docs = include_str!("../../docs/output.md");
    assert!(docs.contains(&json), "{json}");
    let (_, text) = text.split_once(' ').unwrap();
    assert!(docs.contains(text), "{text}");
}

#[test]
fn colours_are_given_only_when_asked_for() {
    let open = call("chdir", &[1]).capture(CaptureKind::Path, 0, b"/x").result(-2).bytes();
    let (text, _) = written([open], true);
    assert_eq!(
        text,
        "22:13:20.123456789 \x1b[2mbash(10)\x1b[0m \x1b[1mchdir\x1b[0m path=/x = \x1b[31m-2 ENOENT\x1b[0m\n"
    );
}

proptest! {
    #[test]
    fn any_record_is_one_line_of_text_without_control_characters(
        records in proptest::collection::vec(samples::any_record(), 1..8),
    ) {
        let (text, _) = written(records.clone(), false);
        let line = text.strip_suffix('\n').unwrap();
        prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
        let (mut colourful, _) = written(records, true);
        for colour in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m"] {
            colourful = colourful.replace(colour, "");
        }
        prop_assert_eq!(colourful, text);
    }

    #[test]
    fn any_record_is_one_json_object_that_can_be_read_back(
        records in proptest::collection::vec(samples::any_record(), 1..8),
    ) {
        let (_, json) = written(records, false);
        let line = json.strip_suffix('\n').unwrap();
        prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        prop_assert!(value.as_object().unwrap().contains_key("type"));
    }
}
