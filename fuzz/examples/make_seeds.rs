//! Writes the seeds of the fuzz target `record_decode`, with creance's own writer, so that they follow the wire format.
//!
//! It replaces the files that it knows and leaves all others alone; the same source always writes the same bytes.

use std::{error::Error, fs, path::Path};

use creance::{
    abi::{self, Abi, SyscallNr},
    event::{
        CaptureBuffer, CaptureFlags, CaptureKind, HEADER_BYTES, PROCESS_CLONE_LOST, PROCESS_EXEC_LOST,
        RecordFlags, RecordHeader, RecordKind, write_record,
    },
    limits,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A capture: what it is, of which argument, and the bytes.
type Data<'a> = (CaptureKind, u8, &'a [u8]);

const PARENT: u32 = 1000;
const CHILD: u32 = 1001;

fn main() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/record_decode");
    fs::create_dir_all(&directory)?;
    let seeds = [
        ("a_shell_runs_cat", a_shell_runs_cat()?),
        ("files", files()?),
        ("sockets", sockets()?),
        ("foreign_abis", foreign_abis()?),
        ("threads_and_ids", threads_and_ids()?),
        ("losses_and_no_result", losses_and_no_result()?),
        ("processes_that_run_already", processes_that_run_already()?),
        ("hostile_names", hostile_names()?),
    ];
    for (name, records) in seeds {
        fs::write(directory.join(name), framed(&records)?)?;
    }
    Ok(())
}

/// Puts records into one input of the target.
fn framed(records: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut input = Vec::new();
    for record in records {
        input.extend_from_slice(&u16::try_from(record.len())?.to_le_bytes());
        input.extend_from_slice(record);
    }
    Ok(input)
}

/// A header of the thread that all records begin from.
fn header(kind: RecordKind, abi: Abi, name: &str) -> Result<RecordHeader> {
    let number = if name.is_empty() {
        SyscallNr(0)
    } else {
        abi::number(abi, name).ok_or_else(|| format!("{} has no call {name}", abi.name()))?
    };
    Ok(RecordHeader {
        exit_ns: 1_700_000_000_000_001_234,
        tid: PARENT,
        pid: PARENT,
        abi: abi.code(),
        number,
        ..RecordHeader::new(kind, 1_700_000_000_000_000_000)
    })
}

fn record(header: RecordHeader, captures: &[Data<'_>]) -> Result<Vec<u8>> {
    let mut buffer = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
    for &(kind, argument, data) in captures {
        buffer.push(kind, argument, CaptureFlags::default(), data)?;
    }
    let mut bytes = vec![0; HEADER_BYTES + buffer.as_bytes().len()];
    write_record(&mut bytes, &header, &buffer)?;
    Ok(bytes)
}

/// A call on 64-bit x86 by the first process.
fn call(name: &str, arguments: [u64; 6], result: i64, captures: &[Data<'_>]) -> Result<Vec<u8>> {
    let header = header(RecordKind::Syscall, Abi::X86_64, name)?;
    record(RecordHeader { arguments, result, ..header }, captures)
}

/// The first process makes a child, which starts cat, opens a file and ends.
fn a_shell_runs_cat() -> Result<Vec<Vec<u8>>> {
    let status = b"Name:\tcat\nTgid:\t1001\nPid:\t1001\nPPid:\t1000\nUid:\t1000\t0\t0\t0\n";
    let child = |header: RecordHeader| RecordHeader { tid: CHILD, pid: CHILD, ..header };
    let clone = RecordHeader {
        result: i64::from(CHILD),
        arguments: [0x0120_0011, u64::from(CHILD), 0, 0, 0, 0],
        ..header(RecordKind::Clone, Abi::X86_64, "clone")?
    };
    let exec = RecordHeader {
        arguments: [u64::from(CHILD), 0, 0, 0, 0, 0],
        ..child(header(RecordKind::Exec, Abi::X86_64, "execve")?)
    };
    let open = RecordHeader {
        arguments: [AT_FDCWD, 0x7fff_0000, 0, 0, 0, 0],
        result: 3,
        ..child(header(RecordKind::Syscall, Abi::X86_64, "openat")?)
    };
    let exit = RecordHeader { result: 9, ..child(header(RecordKind::Exit, Abi::X86_64, "")?) };
    Ok(vec![
        record(clone, &[])?,
        record(
            exec,
            &[
                (CaptureKind::Path, 0, b"/usr/bin/cat"),
                (CaptureKind::Argv, 1, b"cat\0/etc/shadow\0"),
                (CaptureKind::ProcStatus, 0, status),
                (CaptureKind::ProcStat, 0, b"1001 (cat) R 1000 1001 1000 34816 1001 4194304"),
                (CaptureKind::ProcCmdline, 0, b"cat\0/etc/shadow\0"),
                (CaptureKind::ProcEnviron, 0, b"HOME=/root\0PATH=/usr/bin\0"),
                (CaptureKind::ProcCgroup, 0, b"0::/\n"),
                (CaptureKind::ProcLoginuid, 0, b"4294967295"),
                (CaptureKind::ProcExe, 0, b"/usr/bin/cat"),
                (CaptureKind::ProcCwd, 0, b"/root"),
            ],
        )?,
        record(open, &[(CaptureKind::Path, 1, b"../etc/shadow"), (CaptureKind::Cwd, 1, b"/root")])?,
        record(exit, &[])?,
    ])
}

const AT_FDCWD: u64 = 0xffff_ff9c;

/// Paths of every kind: relative to a directory, two in one call, empty, a structure with flags.
fn files() -> Result<Vec<Vec<u8>>> {
    let how = [[0x41, 0, 0, 0, 0, 0, 0, 0], [0xa4, 1, 0, 0, 0, 0, 0, 0], [0; 8]].concat();
    Ok(vec![
        call(
            "openat",
            [5, 0x1000, 0x80241, 0o644, 0, 0],
            6,
            &[(CaptureKind::FdPath, 0, b"/srv"), (CaptureKind::Path, 1, b"./a/../b")],
        )?,
        call(
            "openat2",
            [AT_FDCWD, 0x1000, 0x2000, 24, 0, 0],
            -2,
            &[(CaptureKind::Path, 1, b"new"), (CaptureKind::Cwd, 1, b"/tmp"), (CaptureKind::Struct, 2, &how)],
        )?,
        call(
            "renameat2",
            [AT_FDCWD, 0x1000, 7, 0x2000, 1, 0],
            0,
            &[
                (CaptureKind::Path, 1, b"old"),
                (CaptureKind::Cwd, 1, b"/home/user"),
                (CaptureKind::Path, 3, b"../new"),
                (CaptureKind::FdPath, 2, b"/etc"),
            ],
        )?,
        call(
            "symlinkat",
            [0x1000, AT_FDCWD, 0x2000, 0, 0, 0],
            0,
            &[(CaptureKind::Text, 0, b"/etc/shadow"), (CaptureKind::Path, 2, b"/tmp/link")],
        )?,
        call(
            "execveat",
            [3, 0x1000, 0x2000, 0x3000, 0x1000, 0],
            -13,
            &[
                (CaptureKind::Path, 1, b""),
                (CaptureKind::FdPath, 0, b"/memfd:x (deleted)"),
                (CaptureKind::Argv, 2, b"x\0-y\0\0"),
            ],
        )?,
        call("fchmodat", [AT_FDCWD, 0x1000, 0o4755, 0, 0, 0], 0, &[(CaptureKind::Path, 1, b"/usr/bin/sh")])?,
        call(
            "chdir",
            [0x1000, 0, 0, 0, 0, 0],
            0,
            &[(CaptureKind::Path, 0, b".."), (CaptureKind::Cwd, 0, b"/a/b")],
        )?,
    ])
}

/// Addresses of each family, asked for and told.
fn sockets() -> Result<Vec<Vec<u8>>> {
    let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let local = [2, 0, 0x9c, 0x40, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut v6 = [0; 28];
    v6[..4].copy_from_slice(&[10, 0, 0, 80]);
    v6[23] = 1;
    let connect = |length| [3, 0x1000, length, 0, 0, 0];
    Ok(vec![
        call("socket", [2, 0x80801, 6, 0, 0, 0], 3, &[])?,
        call(
            "connect",
            connect(16),
            -115,
            &[
                (CaptureKind::Sockaddr, 1, &v4),
                (CaptureKind::SocketLocal, 0, &local),
                (CaptureKind::SocketPeer, 0, &v4),
            ],
        )?,
        call("connect", connect(28), 0, &[(CaptureKind::Sockaddr, 1, &v6)])?,
        call("connect", connect(11), 0, &[(CaptureKind::Sockaddr, 1, b"\x01\0/run/sock")])?,
        call("bind", connect(8), 0, &[(CaptureKind::Sockaddr, 1, b"\x01\0\0hidden")])?,
        call("bind", connect(12), 0, &[(CaptureKind::Sockaddr, 1, b"\x10\0\0\0\x01\0\0\0\0\0\0\0")])?,
        call("sendto", [3, 0x1000, 5, 0, 0x2000, 16], 5, &[(CaptureKind::Sockaddr, 4, &v4)])?,
        call(
            "accept4",
            [3, 0x1000, 0x2000, 0x80000, 0, 0],
            4,
            &[(CaptureKind::SocketLocal, 0, &v4), (CaptureKind::SocketPeer, 0, &local)],
        )?,
    ])
}

/// The same call under each ABI, and numbers that nobody knows.
fn foreign_abis() -> Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    for abi in Abi::KNOWN {
        let header = header(RecordKind::Syscall, abi, "openat")?;
        let arguments = [AT_FDCWD, 0x1000, 0o1101, 0o600, 0, 0];
        records.push(record(
            RecordHeader { arguments, result: -1, ..header },
            &[(CaptureKind::Path, 1, b"/etc/passwd")],
        )?);
    }
    for (abi, number) in
        [(Abi::I386, 102), (Abi::Other, 5), (Abi::X86_64, 0x4000_ffff), (Abi::Aarch64, u32::MAX)]
    {
        let header = header(RecordKind::Syscall, abi, "")?;
        records.push(record(RecordHeader { number: SyscallNr(number), arguments: [3; 6], ..header }, &[])?);
    }
    Ok(records)
}

/// A thread, what changes who a process is, and the end of the thread.
fn threads_and_ids() -> Result<Vec<Vec<u8>>> {
    let clone = RecordHeader {
        result: i64::from(CHILD),
        flags: RecordFlags::THREAD.with(RecordFlags::FROM_CHILD).0,
        arguments: [0x003d_0f00, u64::from(PARENT), 0, 0, 0, 0],
        ..header(RecordKind::Clone, Abi::X86_64, "clone3")?
    };
    let exit = RecordHeader { tid: CHILD, result: 0x100, ..header(RecordKind::Exit, Abi::X86_64, "")? };
    Ok(vec![
        record(clone, &[])?,
        call("setuid", [0, 0, 0, 0, 0, 0], 0, &[])?,
        call("setresuid", [u64::MAX, 33, 0xffff_ffff, 0, 0, 0], 0, &[])?,
        call("ptrace", [16, 1, 0, 0, 0, 0], -1, &[])?,
        call("unshare", [0x1000_0000, 0, 0, 0, 0, 0], 0, &[])?,
        record(exit, &[])?,
    ])
}

/// What was lost, what has no result, and what could not be read.
fn losses_and_no_result() -> Result<Vec<Vec<u8>>> {
    let loss = RecordHeader { result: 7, sequence: 1, ..header(RecordKind::Loss, Abi::X86_64, "")? };
    let gone = RecordHeader {
        flags: RecordFlags::NO_RESULT
            .with(RecordFlags::MEMORY_UNREADABLE)
            .with(RecordFlags::CAPTURES_DROPPED)
            .0,
        sequence: 8,
        ..header(RecordKind::Syscall, Abi::X86_64, "openat")?
    };
    Ok(vec![record(loss, &[])?, record(gone, &[])?])
}

/// A process that is told of as it runs, after a loss, and with a parent that descends from it.
fn processes_that_run_already() -> Result<Vec<Vec<u8>>> {
    let process = |pid: u32, parent: u32, lost: u64| {
        let header = RecordHeader {
            tid: pid,
            pid,
            arguments: [lost, 0, 0, 0, 0, 0],
            ..header(RecordKind::Process, Abi::X86_64, "")?
        };
        let status =
            format!("Name:\tcat\nPPid:\t{parent}\nTracerPid:\t1\nUid:\t7\t7\t7\t7\nNSpid:\t{pid}\t1\n");
        let stat = format!("{pid} (cat) S {parent} 1 1 0 1 0 0 0 0 0 0 0 0 0 20 0 1 0 77 0 0");
        record(
            header,
            &[
                (CaptureKind::ProcStatus, 0, status.as_bytes()),
                (CaptureKind::ProcStat, 0, stat.as_bytes()),
                (CaptureKind::ProcCmdline, 0, b"cat\0/etc/shadow\0"),
                (CaptureKind::ProcExe, 0, b"/usr/bin/cat"),
                (CaptureKind::ProcCwd, 0, b"/root"),
            ],
        )
    };
    Ok(vec![
        process(PARENT, 0, 0)?,
        process(CHILD, PARENT, PROCESS_EXEC_LOST | PROCESS_CLONE_LOST)?,
        process(PARENT, CHILD, PROCESS_EXEC_LOST)?,
        process(CHILD, CHILD, PROCESS_CLONE_LOST)?,
    ])
}

/// Names that are no UTF-8, try to drive a terminal, or forge a line.
fn hostile_names() -> Result<Vec<Vec<u8>>> {
    let open = |name: &[u8]| call("open", [0x1000, 0, 0, 0, 0, 0], 3, &[(CaptureKind::Path, 0, name)]);
    Ok(vec![
        open(b"\xff\xfe/\xc3\x28")?,
        open(b"/tmp/\x1b]0;title\x07\n1234 openat")?,
        open("/tmp/\u{202e}txt.exe\u{85}".as_bytes())?,
        open(b"/tmp/a b\"c'\\d=\te")?,
        open(&[b'/'; 300])?,
    ])
}
