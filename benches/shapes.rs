//! Records that the benches write and read: an open, a connect and an exec, as engines capture them.

use std::hint::black_box;

use creance::{
    abi::{self, Abi},
    decode::{Decoder, Users},
    event::{
        CaptureBuffer, CaptureFlags, CaptureKind, HEADER_BYTES, Record, RecordHeader, RecordKind,
        write_record,
    },
    falco::{Batch, Translator},
    limits,
};

const OPEN: &[(CaptureKind, u8, &[u8])] = &[
    (CaptureKind::Path, 1, b"/usr/lib/x86_64-linux-gnu/libselinux.so.1"),
    (CaptureKind::Cwd, 1, b"/srv/app"),
];

/// `struct sockaddr_in` of 127.0.0.1, port 40000 and then 443.
const CONNECT: &[(CaptureKind, u8, &[u8])] = &[
    (CaptureKind::Sockaddr, 1, &[2, 0, 1, 187, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    (CaptureKind::SocketInfo, 0, &[2, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0]),
    (CaptureKind::SocketLocal, 0, &[2, 0, 156, 64, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    (CaptureKind::SocketPeer, 0, &[2, 0, 1, 187, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
];

const STATUS: &[u8] =
    b"Name:\tpython3\nUmask:\t0022\nState:\tR (running)\nTgid:\t1234\nNgid:\t0\nPid:\t1234\n\
    PPid:\t1200\nTracerPid:\t7\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nFDSize:\t64\n";

const COMMAND: &[u8] = b"python3\0-m\0http.server\0--bind\0localhost\0";

const EXEC: &[(CaptureKind, u8, &[u8])] = &[
    (CaptureKind::Path, 0, b"/usr/bin/python3"),
    (CaptureKind::Argv, 1, COMMAND),
    (CaptureKind::ProcStatus, 0, STATUS),
    (CaptureKind::ProcCmdline, 0, COMMAND),
    (CaptureKind::ProcEnviron, 0, &[b'e'; 1024]),
    (CaptureKind::ProcCgroup, 0, b"0::/\n"),
    (CaptureKind::ProcLoginuid, 0, b"4294967295"),
    (CaptureKind::ProcExe, 0, b"/usr/bin/python3.11"),
    (CaptureKind::ProcCwd, 0, b"/srv/app"),
];

/// The header and the captures of a kind of record.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) header: RecordHeader,
    captures: &'static [(CaptureKind, u8, &'static [u8])],
}

impl Shape {
    pub(crate) fn all() -> [Self; 3] {
        let open = header(RecordKind::Syscall, "openat", 3, [0xffff_ff9c, 0x7ffd_0000, 0o2_000_000, 0, 0, 0]);
        let connect = header(RecordKind::Syscall, "connect", 0, [3, 0x7ffd_0000, 16, 0, 0, 0]);
        let exec = header(RecordKind::Exec, "execve", 0, [1234, 0, 0, 0, 0, 0]);
        [
            Self { name: "open", header: open, captures: OPEN },
            Self { name: "connect", header: connect, captures: CONNECT },
            Self { name: "exec", header: exec, captures: EXEC },
        ]
    }

    /// Puts the captures into a buffer, as the engine does while the thread stands still.
    pub(crate) fn fill(&self, buffer: &mut CaptureBuffer) {
        buffer.clear();
        for &(kind, argument, data) in self.captures {
            buffer
                .push(kind, argument, CaptureFlags::default(), data)
                .expect("the buffer has the largest size");
        }
    }

    /// Writes the record to the front of `target` and returns its bytes.
    pub(crate) fn encode<'t>(&self, buffer: &mut CaptureBuffer, target: &'t mut [u8]) -> &'t [u8] {
        self.fill(buffer);
        let (record, _) = target.split_at_mut(HEADER_BYTES + buffer.as_bytes().len());
        write_record(record, &self.header, buffer).expect("the target has the right size");
        record
    }
}

fn header(kind: RecordKind, call: &str, result: i64, arguments: [u64; 6]) -> RecordHeader {
    RecordHeader {
        sequence: 42,
        exit_ns: 1_700_000_000_123_460_000,
        tid: 1234,
        pid: 1234,
        abi: Abi::X86_64.code(),
        number: abi::number(Abi::X86_64, call).expect("a call of x86_64"),
        result,
        arguments,
        ..RecordHeader::new(kind, 1_700_000_000_123_456_000)
    }
}

/// The record in these bytes, which the compiler does not know.
pub(crate) fn parsed(bytes: &[u8]) -> Record<'_> {
    Record::parse(black_box(bytes)).expect("a record")
}

/// A decoder that knows the process of the records already, as it nearly always does.
pub(crate) fn decoder() -> Decoder {
    let mut decoder = Decoder::with_users(Users::parse(b"root:x:0:\nalice:x:1000:\n"));
    let mut buffer = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
    let mut target = vec![0; limits::RECORD_BYTES_MAX];
    for shape in Shape::all() {
        decoder.decode(&parsed(shape.encode(&mut buffer, &mut target)));
    }
    decoder
}

/// A translator that has told of the process of the records already.
pub(crate) fn translator() -> Translator {
    let mut translator = Translator::new();
    let mut batch = Batch::with_capacity(limits::PLUGIN_BATCH_BYTES);
    let mut buffer = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
    let mut target = vec![0; limits::RECORD_BYTES_MAX];
    for shape in Shape::all() {
        translator.translate(&parsed(shape.encode(&mut buffer, &mut target)), &mut batch);
    }
    translator
}
