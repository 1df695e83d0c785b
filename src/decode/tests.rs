use proptest::prelude::*;

use super::{samples::Sample, *};
use crate::{
    abi::Abi,
    event::{CaptureFlags, CaptureKind, PROCESS_CLONE_LOST, RecordFlags, RecordHeader},
    limits,
};

const AT_FDCWD: u64 = 0xffff_ff9c;

fn decoder() -> Decoder {
    Decoder::with_users(Users::parse(b"root:x:0:\nalice:x:1000:\n"))
}

/// Feeds records and returns nothing: what the decoder learnt is asked afterwards.
fn feed(decoder: &mut Decoder, samples: impl IntoIterator<Item = Sample>) {
    for sample in samples {
        let bytes = sample.bytes();
        decoder.decode(&Record::parse(&bytes).unwrap());
    }
}

fn resolved(sample: Sample, argument: &str) -> Option<String> {
    let bytes = sample.bytes();
    let mut decoder = decoder();
    let event = decoder.decode(&Record::parse(&bytes).unwrap());
    let argument = event.arguments().iter().find(|found| found.name == argument).unwrap();
    argument.resolved().map(|path| String::from_utf8(path.into_owned()).unwrap())
}

fn outcome(sample: Sample) -> Option<Outcome> {
    let bytes = sample.bytes();
    decoder().decode(&Record::parse(&bytes).unwrap()).outcome()
}

fn program(decoder: &Decoder, pid: u32) -> (&[u8], Option<u32>, Option<&[u8]>) {
    let process = decoder.process(pid).unwrap();
    (process.name().unwrap_or_default(), process.parent_pid(), process.parent_name())
}

#[test]
fn a_path_starts_from_its_directory_or_the_current_one() {
    let openat = |dirfd| {
        Sample::call("openat", &[dirfd, 1])
            .capture(CaptureKind::Path, 1, b"../x")
            .capture(CaptureKind::Cwd, 1, b"/home/a")
            .capture(CaptureKind::FdPath, 0, b"/srv/b")
    };
    assert_eq!(resolved(openat(AT_FDCWD), "name").unwrap(), "/home/x");
    assert_eq!(resolved(openat(u64::MAX - 99), "name").unwrap(), "/home/x");
    assert_eq!(resolved(openat(5), "name").unwrap(), "/srv/x");
    let open =
        Sample::call("open", &[1]).capture(CaptureKind::Path, 0, b"x").capture(CaptureKind::Cwd, 0, b"/a");
    assert_eq!(resolved(open, "name").unwrap(), "/a/x");
}

#[test]
fn a_path_that_cannot_be_resolved_stays_as_it_is() {
    let unknown = Sample::call("openat", &[7, 1]).capture(CaptureKind::Path, 1, b"x");
    assert_eq!(resolved(unknown, "name"), None);
    let cut = Sample::call("open", &[1]).capture_with(
        CaptureKind::Path,
        0,
        CaptureFlags::TRUNCATED,
        b"/etc/shadow",
    );
    assert_eq!(resolved(cut, "name"), None);
    let base = Sample::call("open", &[1]).capture(CaptureKind::Path, 0, b"x").capture_with(
        CaptureKind::Cwd,
        0,
        CaptureFlags::TRUNCATED,
        b"/etc",
    );
    assert_eq!(resolved(base, "name"), None);
}

#[test]
fn an_error_is_told_from_a_value_and_a_descriptor() {
    let call = |name, result| outcome(Sample::call(name, &[]).result(result)).unwrap();
    assert_eq!(call("openat", 3), Outcome::Fd(3));
    assert_eq!(call("chdir", 0), Outcome::Value(0));
    assert_eq!(call("openat", -2), Outcome::Error { number: 2, name: Some("ENOENT") });
    assert_eq!(call("openat", -4095), Outcome::Error { number: 4095, name: None });
    assert_eq!(call("mmap", 0x7f00_0000_0000), Outcome::Address(0x7f00_0000_0000));
    assert_eq!(call("lseek", -4096), Outcome::Value(-4096));
    let missing = Sample::call("openat", &[]).flags(RecordFlags::NO_RESULT);
    assert_eq!(outcome(missing), Some(Outcome::Missing));
    assert_eq!(outcome(Sample::new(RecordKind::Exit).result(9)), None);
}

#[test]
fn a_child_starts_as_a_copy_of_its_parent() {
    let mut decoder = decoder();
    feed(&mut decoder, [samples::exec(10, 1, &["bash", "-c", "x"]), samples::clone(10, 11)]);
    assert_eq!(program(&decoder, 11), (&b"bash"[..], Some(10), Some(&b"bash"[..])));
    feed(&mut decoder, [samples::exec(11, 10, &["cat", "/etc/shadow"])]);
    assert_eq!(program(&decoder, 11), (&b"cat"[..], Some(10), Some(&b"bash"[..])));
    let cat = decoder.process(11).unwrap();
    assert_eq!(cat.command_line(), Some(&b"cat /etc/shadow"[..]));
    assert_eq!(cat.exe(), Some(&b"/usr/bin/cat"[..]));
    assert_eq!((cat.uid(), cat.user()), (Some(0), Some("root")));
}

#[test]
fn a_process_that_is_told_of_anew_is_known_by_what_it_is_now() {
    let mut decoder = decoder();
    feed(&mut decoder, [samples::exec(10, 1, &["bash"]), samples::process(11, 10, &["cat"], 5)]);
    assert_eq!(program(&decoder, 11), (&b"cat"[..], Some(10), Some(&b"bash"[..])));
    feed(&mut decoder, [samples::process(11, 1, &["ls"], 5)]);
    assert_eq!(program(&decoder, 11), (&b"ls"[..], Some(1), None));
    // Another process whose clone was lost has nothing of the one before it.
    let empty = Sample::new(RecordKind::Process).thread(11, 11).arguments(&[PROCESS_CLONE_LOST]);
    feed(&mut decoder, [empty]);
    assert_eq!((decoder.process(11).unwrap().name(), decoder.process(11).unwrap().uid()), (None, None));
}

#[test]
fn a_child_that_is_given_to_its_grandparent_has_that_parent() {
    let mut decoder = decoder();
    let clone = samples::clone(11, 12).arguments(&[0x8011, 12]);
    feed(
        &mut decoder,
        [samples::exec(10, 1, &["init"]), samples::clone(10, 11), samples::exec(11, 10, &["sh"]), clone],
    );
    assert_eq!(program(&decoder, 12), (&b"sh"[..], Some(10), Some(&b"init"[..])));
}

#[test]
fn the_kernel_tells_a_new_parent_at_the_next_exec() {
    let mut decoder = decoder();
    feed(
        &mut decoder,
        [samples::exec(10, 1, &["bash"]), samples::clone(10, 11), samples::exec(11, 1, &["cat"])],
    );
    assert_eq!(program(&decoder, 11), (&b"cat"[..], Some(1), None));
}

#[test]
fn a_process_is_shown_at_its_exit_and_then_forgotten() {
    let mut decoder = decoder();
    feed(&mut decoder, [samples::exec(10, 1, &["bash"])]);
    let exit = Sample::new(RecordKind::Exit).thread(10, 10).bytes();
    let event = decoder.decode(&Record::parse(&exit).unwrap());
    assert_eq!(event.name(), EventName::Known("procexit"));
    assert_eq!(event.process().unwrap().name(), Some(&b"bash"[..]));
    feed(&mut decoder, [Sample::call("getpid", &[])]);
    assert!(decoder.process(10).is_none());
}

#[test]
fn a_thread_that_ends_leaves_its_process() {
    let mut decoder = decoder();
    let clone = samples::clone(10, 10).arguments(&[0x1_0000, 10]).flags(RecordFlags::THREAD).result(12);
    feed(&mut decoder, [samples::exec(10, 1, &["bash"]), clone]);
    let exit = Sample::new(RecordKind::Exit).thread(10, 12).bytes();
    assert_eq!(decoder.decode(&Record::parse(&exit).unwrap()).name(), EventName::Known("threadexit"));
    feed(&mut decoder, [Sample::call("getpid", &[])]);
    assert!(decoder.process(10).is_some());
}

#[test]
fn a_process_without_an_exec_record_is_not_made_up() {
    let mut decoder = decoder();
    feed(&mut decoder, [samples::clone(10, 11)]);
    assert!(decoder.process(10).is_none());
    let child = decoder.process(11).unwrap();
    assert_eq!((child.name(), child.parent_pid(), child.uid()), (None, Some(10), None));
    assert_eq!(
        (child.exe(), child.command_line(), child.parent_name(), child.user()),
        (None, None, None, None)
    );
}

#[test]
fn a_change_of_user_counts_if_it_succeeded() {
    let mut decoder = decoder();
    let uid = |decoder: &Decoder| decoder.process(10).unwrap().uid();
    let call = |name, arguments: &[u64]| Sample::call(name, arguments).thread(10, 10);
    feed(&mut decoder, [samples::exec(10, 1, &["sudo"]), call("setuid", &[1000]).result(-1)]);
    assert_eq!(uid(&decoder), Some(0));
    feed(&mut decoder, [call("setuid", &[1000])]);
    assert_eq!(decoder.process(10).unwrap().user(), Some("alice"));
    feed(&mut decoder, [call("setreuid", &[5, 0xffff_ffff])]);
    assert_eq!(uid(&decoder), Some(1000));
    feed(&mut decoder, [call("setresuid", &[0xffff_ffff, 7, 8])]);
    assert_eq!((uid(&decoder), decoder.process(10).unwrap().user()), (Some(7), None));
    let old = |uid| call("setreuid", &[]).number(Abi::I386, "setreuid").arguments(&[0, uid]);
    feed(&mut decoder, [old(0xffff)]);
    assert_eq!(uid(&decoder), Some(7));
    feed(&mut decoder, [old(0x1_0009)]);
    assert_eq!(uid(&decoder), Some(9));
}

#[test]
fn the_command_of_a_program_whose_cmdline_is_gone_is_that_of_the_call() {
    let mut decoder = decoder();
    let exec = Sample::new(RecordKind::Exec)
        .number(Abi::X86_64, "execve")
        .capture(CaptureKind::ProcStatus, 0, b"Name:\tls\nPPid:\t1\n")
        .capture(CaptureKind::ProcCmdline, 0, b"")
        .capture(CaptureKind::Argv, 1, b"ls\0-l\0");
    feed(&mut decoder, [exec]);
    assert_eq!(decoder.process(1234).unwrap().command_line(), Some(&b"ls -l"[..]));
}

#[test]
fn a_full_table_remembers_no_more_and_counts_it() {
    let mut decoder = decoder();
    let mut bytes = samples::clone(10, 0).bytes();
    let child_at = std::mem::offset_of!(RecordHeader, arguments) + 8;
    for child in 0..=u64::try_from(limits::PROCESSES_MAX).unwrap() + 1 {
        bytes[child_at..child_at + 8].copy_from_slice(&(child + 100).to_ne_bytes());
        decoder.decode(&Record::parse(&bytes).unwrap());
    }
    assert_eq!(decoder.processes.len(), limits::PROCESSES_MAX);
    assert_eq!(decoder.processes_unremembered(), 2);
}

proptest! {
    #[test]
    fn no_sequence_of_records_makes_more_processes_than_it_names(
        records in proptest::collection::vec(samples::any_record(), 0..20),
    ) {
        let mut decoder = decoder();
        for bytes in &records {
            let record = Record::parse(bytes).unwrap();
            let event = decoder.decode(&record);
            prop_assert!(event.arguments().len() <= 8);
            for argument in event.arguments() {
                if let Some(path) = argument.resolved() {
                    prop_assert!(path.starts_with(b"/"));
                }
            }
            prop_assert!(decoder.processes.len() <= records.len());
        }
    }
}
