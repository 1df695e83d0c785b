//! Records for tests, put together as an engine would.

use proptest::prelude::*;

use crate::{
    abi::{self, Abi, SyscallNr},
    event::{
        CaptureBuffer, CaptureFlags, CaptureKind, HEADER_BYTES, RecordFlags, RecordHeader, RecordKind,
        write_record,
    },
    limits,
};

/// A record in the making.
pub(crate) struct Sample {
    pub(crate) header: RecordHeader,
    pub(crate) captures: CaptureBuffer,
}

impl Sample {
    /// A record of process 1234, whose only thread is its first.
    pub(crate) fn new(kind: RecordKind) -> Self {
        let header = RecordHeader {
            sequence: 42,
            exit_ns: 1_700_000_000_123_456_789,
            tid: 1234,
            pid: 1234,
            abi: Abi::X86_64.code(),
            ..RecordHeader::new(kind, 1_700_000_000_123_456_000)
        };
        Self { header, captures: CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX) }
    }

    /// A call on 64-bit x86.
    pub(crate) fn call(name: &str, arguments: &[u64]) -> Self {
        Self::new(RecordKind::Syscall).number(Abi::X86_64, name).arguments(arguments)
    }

    pub(crate) fn number(mut self, abi: Abi, name: &str) -> Self {
        self.header.abi = abi.code();
        self.header.number = abi::number(abi, name).unwrap();
        self
    }

    pub(crate) fn arguments(mut self, arguments: &[u64]) -> Self {
        self.header.arguments[..arguments.len()].copy_from_slice(arguments);
        self
    }

    pub(crate) fn thread(mut self, pid: u32, tid: u32) -> Self {
        (self.header.pid, self.header.tid) = (pid, tid);
        self
    }

    pub(crate) fn result(mut self, result: i64) -> Self {
        self.header.result = result;
        self
    }

    pub(crate) fn flags(mut self, flags: RecordFlags) -> Self {
        self.header.flags = flags.0;
        self
    }

    pub(crate) fn capture(self, kind: CaptureKind, argument: u8, data: &[u8]) -> Self {
        self.capture_with(kind, argument, CaptureFlags::default(), data)
    }

    pub(crate) fn capture_with(
        mut self,
        kind: CaptureKind,
        argument: u8,
        flags: CaptureFlags,
        data: &[u8],
    ) -> Self {
        self.captures.push(kind, argument, flags, data).unwrap();
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES + self.captures.as_bytes().len()];
        write_record(&mut bytes, &self.header, &self.captures).unwrap();
        bytes
    }
}

/// A process that starts `/usr/bin/NAME` with arguments.
pub(crate) fn exec(pid: u32, parent_pid: u32, argv: &[&str]) -> Sample {
    let exe = format!("/usr/bin/{}", argv[0]);
    let status = format!("Name:\t{}\nPid:\t{pid}\nPPid:\t{parent_pid}\nUid:\t1000\t0\t0\t0\n", argv[0]);
    let cmdline: Vec<u8> = argv.iter().flat_map(|argument| [argument.as_bytes(), b"\0"].concat()).collect();
    Sample::new(RecordKind::Exec)
        .number(Abi::X86_64, "execve")
        .thread(pid, pid)
        .arguments(&[u64::from(pid)])
        .capture(CaptureKind::ProcStatus, 0, status.as_bytes())
        .capture(CaptureKind::ProcCmdline, 0, &cmdline)
        .capture(CaptureKind::ProcExe, 0, exe.as_bytes())
        .capture(CaptureKind::ProcCwd, 0, b"/root")
}

/// A process that is told of again: it runs `/usr/bin/NAME`, and was made at `start_ticks`.
pub(crate) fn process(pid: u32, parent_pid: u32, argv: &[&str], start_ticks: u64) -> Sample {
    let stat = format!("{pid} (x) S {parent_pid} 1 1 0 1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start_ticks} 0 0");
    let sample = exec(pid, parent_pid, argv).capture(CaptureKind::ProcStat, 0, stat.as_bytes());
    let mut process = Sample::new(RecordKind::Process).thread(pid, pid);
    process.captures = sample.captures;
    process
}

pub(crate) fn clone(pid: u32, child: u32) -> Sample {
    Sample::new(RecordKind::Clone)
        .number(Abi::X86_64, "clone")
        .thread(pid, pid)
        .arguments(&[0x0120_0011, u64::from(child)])
        .result(i64::from(child))
}

/// Any record that parses: every kind, every ABI, calls of all numbers, captures of any bytes.
pub(crate) fn any_record() -> impl Strategy<Value = Vec<u8>> {
    const KINDS: &[RecordKind] =
        &[RecordKind::Clone, RecordKind::Exec, RecordKind::Exit, RecordKind::Loss, RecordKind::Process];
    let kind = prop_oneof![Just(RecordKind::Syscall), proptest::sample::select(KINDS)];
    let abi = prop_oneof![
        3 => Just(Abi::X86_64),
        1 => proptest::sample::select(&[Abi::I386, Abi::X32, Abi::Aarch64, Abi::Other][..]),
    ];
    let word =
        prop_oneof![0..200u64, any::<u64>(), any::<i32>().prop_map(|low| i64::from(low).cast_unsigned())];
    let data = prop_oneof![
        any::<Vec<u8>>(),
        "[a-z/.\u{1b}\u{202e}\u{85}\n\0 \"=]{0,40}".prop_map(String::into_bytes),
        "Name:\t[a-z\\\\\u{7}(]{0,9}\nPPid:\t[0-3]\nUid:\t0\t[0-9]{1,5}\t0\t0\n".prop_map(String::into_bytes),
    ];
    let capture = (proptest::sample::select(CaptureKind::ALL), 0..6u8, 0..2u8, data);
    (
        (kind, abi, 0..480u32, any::<bool>()),
        (0..4u32, 0..4u32, 0..64u32),
        (any::<[u64; 3]>(), prop_oneof![-4100..4100i64, any::<i64>()], proptest::array::uniform6(word)),
        proptest::collection::vec(capture, 0..8),
    )
        .prop_map(
            |((kind, abi, number, is_x32), (tid, pid, flags), (times, result, arguments), captures)| {
                let mut sample = Sample::new(kind).thread(pid, tid).flags(RecordFlags(flags)).result(result);
                sample.header.abi = abi.code();
                sample.header.number = SyscallNr(number | if is_x32 { abi::X32_SYSCALL_BIT } else { 0 });
                [sample.header.sequence, sample.header.enter_ns, sample.header.exit_ns] = times;
                sample = sample.arguments(&arguments);
                for (kind, argument, flags, data) in captures {
                    sample = sample.capture_with(kind, argument, CaptureFlags(flags), &data);
                }
                sample.bytes()
            },
        )
}
