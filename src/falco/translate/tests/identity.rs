use super::{Captures as _, Feed, call, short};
use crate::{abi::Abi, event::CaptureKind, falco::checker::Seen};

#[test]
fn an_id_that_is_left_as_it_is_is_told_as_it_is() {
    let mut feed = Feed::new();
    let keep = u64::from(u32::MAX);
    let numbers = |event: &Seen<'_>| {
        event.params[1..]
            .iter()
            .map(|data| u32::from_ne_bytes((*data).try_into().unwrap()))
            .collect::<Vec<_>>()
    };
    // The sample runs as real user 1000, with effective and saved user 0.
    assert_eq!(numbers(&feed.one(call("setresuid", &[keep, 7, keep]))), [1000, 7, 0]);
    assert_eq!(numbers(&feed.one(call("setresuid", &[keep, keep, keep]))), [1000, 7, 0]);
    assert_eq!(numbers(&feed.one(call("setreuid", &[keep, 0]).result(-1))), [1000, 0]);
    assert_eq!(numbers(&feed.one(call("setreuid", &[keep, keep]))), [1000, 7]);
    assert_eq!(numbers(&feed.one(call("setuid", &[9]))), [9]);
    // No record told its groups.
    assert_eq!(numbers(&feed.one(call("setresgid", &[keep, keep, 5]))), [u32::MAX, u32::MAX, 5]);
    assert_eq!(numbers(&feed.one(call("setregid", &[1, keep]))), [1, u32::MAX]);
    assert_eq!(numbers(&feed.one(call("setgid", &[3]))), [3]);
    let old = call("setreuid", &[]).number(Abi::I386, "setreuid").arguments(&[0xffff, 0x1_0009]);
    assert_eq!(numbers(&feed.one(old)), [1000, 9]);
}

#[test]
fn calls_on_processes_and_the_kernel_have_their_events() {
    let mut feed = Feed::new();
    assert_eq!(feed.one(call("setsid", &[]).result(1234)).number("res"), 1234);
    assert_eq!(feed.one(call("setpgid", &[0, 7])).number("pgid"), 7);
    let limits = [1024u64, u64::MAX].map(u64::to_ne_bytes).concat();
    let event = feed.one(call("setrlimit", &[7]).capture(CaptureKind::Struct, 1, &limits));
    assert_eq!(["cur", "max", "resource"].map(|name| event.number(name)), [1024, -1, 7]);
    let event = feed.one(call("prlimit64", &[9, 7]).capture(CaptureKind::Struct, 2, &limits));
    assert_eq!(["newcur", "oldcur", "pid"].map(|name| event.number(name)), [1024, -1, 9]);
    let caps = [1u32, 3, 4, 0x100, 0, 0].map(u32::to_ne_bytes).concat();
    let event = feed.one(call("capset", &[]).capture(CaptureKind::Struct, 1, &caps));
    let sets = ["cap_effective", "cap_permitted", "cap_inheritable"];
    assert_eq!(sets.map(|name| event.number(name)), [1 | 0x100 << 32, 3, 4]);
    let event = feed.one(call("prctl", &[36, 1]));
    assert_eq!((event.number("option"), event.number("arg2_int")), (36, 1));
    assert!(feed.tell([call("prctl", &[37, 0x7fff_0000])]).is_empty());
    assert_eq!(feed.one(call("unshare", &[0x1000_0000])).number("flags"), 1 << 20);
    assert_eq!(feed.one(call("setns", &[5, 0x4000_0000])).number("nstype"), 1 << 4);
    assert_eq!(feed.one(call("bpf", &[5]).result(3)).number("cmd"), 5);
    let event = feed.one(call("finit_module", &[5, 1, 2]).text(1, "debug=1"));
    assert_eq!(
        (short(&event), event.text("uargs"), event.number("flags")),
        ("FINIT_MODULE_X", "debug=1".into(), 2)
    );
    assert_eq!(feed.one(call("init_module", &[1, 4096, 2])).number("length"), 4096);
    let event = feed.one(call("ptrace", &[16, 99, 0, 0]));
    assert_eq!((event.number("request"), event.number("pid"), event.param("addr").len()), (11, 99, 9));
    assert_eq!(feed.one(call("ptrace", &[7, 99, 1, 9])).param("data"), [1, 9]);
}
