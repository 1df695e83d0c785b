//! Random records of calls, as an engine writes them: registers with whatever a program may leave in their upper halves,
//! and captures as they belong to the arguments. Much in them is what the random conditions ask for, or nearly so.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use creance::{
    abi::{self, Abi, ArgumentKind, FlagSet, SyscallNr},
    event::{CaptureBuffer, CaptureFlags, CaptureKind, RecordFlags, RecordHeader, RecordKind},
    limits,
};

use crate::{
    conditions::{ADDRESSES, PORTS, PROGRAMS, REST},
    random::Random,
    texts::{self, one},
};

/// The calls that conditions have several kinds of, the frequent ones several times.
const CALLS: &[&str] = &[
    "open",
    "open",
    "openat",
    "openat",
    "openat",
    "openat",
    "openat2",
    "openat2",
    "creat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "connect",
    "connect",
    "connect",
    "sendto",
    "sendto",
    "sendmsg",
    "bind",
];

/// Calls that no condition names.
const UNNAMED: &[&str] = &["close", "read"];

/// Values of single arguments that conditions know a word for.
const VALUES: &[(&str, u8, &[u64])] = &[
    ("ptrace", 0, &[0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 15, 16, 0x4206, 1 << 32]),
    ("socket", 0, &[1, 2, 10, 16, 17, 40]),
    ("socket", 1, &[1, 2, 3, 0x8_0001, 0x802]),
    ("bpf", 0, &[0, 1, 5, 36]),
    ("unshare", 0, &[0x2_0000, 0x1000_0000, 0x4000_0000, 0x1002_0000, 0]),
    ("setns", 1, &[0x2_0000, 0x1000_0000, 0]),
    ("mount", 3, &[0, 4096, 32, 1]),
    ("unlinkat", 2, &[0, 0x200]),
    ("linkat", 4, &[0, 0x400, 0x1000]),
    ("renameat2", 4, &[0, 1, 2]),
    ("memfd_create", 1, &[0, 1, 2, 3]),
    ("setuid", 0, &[0, 1000, 0xffff_ffff]),
    ("setresuid", 0, &[0, 1000, 0xffff_ffff]),
    ("setresuid", 1, &[0, 1000, 0xffff_ffff]),
    ("prctl", 0, &[0, 1, 2, 3, 36, 38]),
    ("mprotect", 2, &[0, 1, 3, 5, 7]),
];

/// Bits of the flags of an open, which x86_64 and i386 share but for `O_LARGEFILE` (fcntl.h).
const OPEN_FLAGS: [u64; 10] =
    [0o100, 0o200, 0o1000, 0o2000, 0o20_0000, 0o200_0000, 0o2020_0000, 0o1000_0000, 0o4000, 0o10_0000];

const ENOENT: i64 = 2;
const EFAULT: i64 = 14;
const EINVAL: i64 = 22;
const EINPROGRESS: i64 = 115;
const ERRORS: [i64; 7] = [ENOENT, 1, 13, 17, 22, 40, 111];

const FIRST_PID: u32 = 70_000;
const PIDS: usize = 6;
const NOW_NS: u64 = 1_700_000_000_000_000_000;

/// A record that is put together.
pub(crate) struct Made {
    pub(crate) header: RecordHeader,
    pub(crate) captures: CaptureBuffer,
}

/// Names of programs that no condition compares with, as `/proc` has them.
const ODD_PROGRAMS: [&str; 4] = ["p1\\n", "caf\u{e9}", "p1 x", "p2:3"];

/// A record of a random call, or now and then of a program that starts or a process that is made.
pub(crate) fn record(random: &mut Random, sequence: u64) -> Result<Made> {
    if random.below(30) == 0 { Ok(life(random, sequence)) } else { call(random, sequence) }
}

fn pid(random: &mut Random) -> u32 {
    FIRST_PID + u32::try_from(random.below(PIDS)).unwrap_or(0)
}

/// The record of an exec or of a clone.
fn life(random: &mut Random, sequence: u64) -> Made {
    let (pid, child) = (pid(random), pid(random));
    let mut captures = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
    let header = RecordHeader { tid: pid, pid, ..header(sequence) };
    if random.below(3) == 0 && child != pid {
        let flags = if random.below(4) == 0 { RecordFlags::FROM_CHILD } else { RecordFlags::default() };
        let arguments = [17, u64::from(child), 0, 0, 0, 0];
        let (kind, result) = (RecordKind::Clone.code(), i64::from(child));
        return Made { header: RecordHeader { kind, result, flags: flags.0, arguments, ..header }, captures };
    }
    if random.below(8) > 0 {
        let name = if random.below(6) == 0 { one(random, &ODD_PROGRAMS) } else { one(random, &PROGRAMS) };
        let status = format!("Name:\t{name}\nPPid:\t69000\n");
        // It fits: there is nothing else.
        let _ = captures.push(CaptureKind::ProcStatus, 0, CaptureFlags::default(), status.as_bytes());
    }
    let arguments = [u64::from(pid), 0, 0, 0, 0, 0];
    Made { header: RecordHeader { kind: RecordKind::Exec.code(), arguments, ..header }, captures }
}

/// The header of a native record, with nothing in it but the time.
fn header(sequence: u64) -> RecordHeader {
    let ts = NOW_NS + sequence * 1_000_000;
    RecordHeader {
        kind: 0,
        sequence,
        exit_ns: ts + 1000,
        abi: Abi::X86_64.code(),
        ..RecordHeader::new(RecordKind::Syscall, ts)
    }
}

fn call(random: &mut Random, sequence: u64) -> Result<Made> {
    let name = one(random, &[CALLS, REST, UNNAMED].concat());
    let foreign = if random.below(24) == 0 { abi::number(Abi::I386, name) } else { None };
    let (abi, number) = match foreign {
        Some(number) => (Abi::I386, number),
        None => (Abi::X86_64, abi::number(Abi::X86_64, name).context("a call of x86_64")?),
    };
    let mut call = Call::new(random, abi, number, name);
    for (index, argument) in (0..).zip(call.arguments) {
        call.argument(index, argument.kind);
    }
    call.bases();
    let result = call.result();
    call.sockets(result);
    let Call { registers, flags, captures, .. } = call;
    let pid = pid(random);
    let header = RecordHeader {
        kind: RecordKind::Syscall.code(),
        tid: pid,
        pid,
        flags: flags.0,
        abi: abi.code(),
        number,
        result,
        arguments: registers,
        ..header(sequence)
    };
    Ok(Made { header, captures })
}

/// A call on its way to a record.
struct Call<'a> {
    random: &'a mut Random,
    name: &'static str,
    arguments: &'static [abi::Argument],
    registers: [u64; 6],
    flags: RecordFlags,
    captures: CaptureBuffer,
    /// The directory of each relative path, by its argument.
    relative: Vec<(u8, String)>,
    sockaddr: Option<Vec<u8>>,
}

impl<'a> Call<'a> {
    fn new(random: &'a mut Random, abi: Abi, number: SyscallNr, name: &'static str) -> Self {
        let arguments = abi::signature_of(abi, number).map_or(&[][..], |signature| signature.arguments);
        Self {
            random,
            name,
            arguments,
            registers: [0; 6],
            flags: RecordFlags::default(),
            captures: CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX),
            relative: Vec::new(),
            sockaddr: None,
        }
    }

    fn set(&mut self, index: u8, value: u64) {
        if let Some(register) = self.registers.get_mut(usize::from(index)) {
            *register = value;
        }
    }

    /// An `int`, whose upper half the kernel ignores.
    fn set_int(&mut self, index: u8, value: u64) {
        let above = if self.random.below(10) == 0 { 0xdead_beef << 32 } else { 0 };
        self.set(index, value & 0xffff_ffff | above);
    }

    /// Captures what does not depend on another argument. Of what does not fit an engine says so, too.
    fn push(&mut self, kind: CaptureKind, index: u8, data: &[u8]) {
        if self.captures.push(kind, index, CaptureFlags::default(), data).is_err() {
            self.flags = self.flags.with(RecordFlags::CAPTURES_DROPPED);
        }
    }

    fn argument(&mut self, index: u8, kind: ArgumentKind) {
        let known = VALUES.iter().find(|(name, at, _)| (*name, *at) == (self.name, index));
        if let Some((_, _, values)) = known {
            let value = one(self.random, values);
            // The request of ptrace is a long: all of it counts.
            return if value > 0xffff_ffff { self.set(index, value) } else { self.set_int(index, value) };
        }
        match kind {
            ArgumentKind::Path | ArgumentKind::Text => self.string(index, kind),
            ArgumentKind::DirFd => {
                let fd = if self.random.below(3) > 0 { 0xffff_ff9c } else { self.random.word() % 8 };
                self.set_int(index, fd);
            }
            ArgumentKind::Fd => {
                let fd = self.random.word() % 8;
                self.set_int(index, fd);
            }
            ArgumentKind::FdPath => {
                let fd = self.random.word() % 8;
                self.set_int(index, fd);
                let path = self.place();
                self.push(CaptureKind::FdPath, index, path.as_bytes());
            }
            ArgumentKind::Flags(FlagSet::Open) => {
                let flags = self.open_flags();
                self.set_int(index, flags);
            }
            ArgumentKind::Mode => {
                let mode = one(
                    self.random,
                    &[0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o6711, 0o7777, 0, 0o600, 0o4000],
                );
                self.set_int(index, mode);
            }
            ArgumentKind::SockaddrIn { .. } | ArgumentKind::MessageIn => self.address(index),
            ArgumentKind::Struct { bytes } => {
                self.set(index, 0x7f00_0000_1000);
                let filling = self.random.bytes(usize::from(bytes));
                self.push(CaptureKind::Struct, index, &filling);
            }
            ArgumentKind::StructSized { .. } => {
                let how = [self.open_flags(), 0o4644 * (self.random.word() & 1), self.random.word() & 0x1f];
                self.set(index, 0x7f00_0000_2000);
                if self.random.below(20) > 0 {
                    self.push(CaptureKind::Struct, index, how.map(u64::to_le_bytes).as_flattened());
                } else {
                    self.flags = self.flags.with(RecordFlags::MEMORY_UNREADABLE);
                }
            }
            _ => {
                let value = one(self.random, &[0, 1, 2, 3, 5, 16, 17, 1000, 0x8_0000, 0xffff_ffff]);
                self.set_int(index, value);
            }
        }
    }

    fn open_flags(&mut self) -> u64 {
        let mut flags = one(self.random, &[0, 0, 0, 1, 2, 3]);
        while self.random.below(2) == 0 {
            flags |= one(self.random, &OPEN_FLAGS);
        }
        flags
    }

    fn string(&mut self, index: u8, kind: ArgumentKind) {
        if self.random.below(40) == 0 {
            return self.set(index, 0);
        }
        self.set(index, 0x7f00_0000_0000 + u64::from(index) * 4096);
        if self.random.below(40) == 0 {
            self.flags = self.flags.with(RecordFlags::MEMORY_UNREADABLE);
            return;
        }
        let (text, base) = texts::written(self.random);
        if kind == ArgumentKind::Text {
            return self.push(CaptureKind::Text, index, &text);
        }
        self.push(CaptureKind::Path, index, &text);
        if !text.starts_with(b"/") {
            self.relative.push((index, base));
        }
    }

    /// Where relative paths start. An engine looks a descriptor up once, and the current directory for each path.
    fn bases(&mut self) {
        let cwd = self.relative.first().map(|(_, base)| base.clone()).unwrap_or_default();
        for (index, base) in std::mem::take(&mut self.relative) {
            if self.random.below(30) == 0 {
                continue;
            }
            let is_dirfd = |before: &u8| {
                self.arguments
                    .get(usize::from(*before))
                    .is_some_and(|before| before.kind == ArgumentKind::DirFd)
            };
            let register =
                |before: u8| self.registers.get(usize::from(before)).map(|word| word & 0xffff_ffff);
            let dirfd =
                index.checked_sub(1).filter(is_dirfd).filter(|&before| register(before) != Some(0xffff_ff9c));
            let odd = one(self.random, &["/tmp (deleted)", "pipe:[7]", "", "(unreachable)/x"]);
            let is_odd = self.random.below(30) == 0;
            match dirfd {
                Some(before) => {
                    self.push(CaptureKind::FdPath, before, if is_odd { odd } else { &base }.as_bytes());
                }
                // A thread has one current directory.
                None => self.push(CaptureKind::Cwd, index, if is_odd { odd } else { &cwd }.as_bytes()),
            }
        }
    }

    /// What a descriptor is open on.
    fn place(&mut self) -> String {
        match self.random.below(6) {
            0 => "socket:[4711]".to_owned(),
            1 => format!("{} (deleted)", texts::path(self.random)),
            _ => texts::path(self.random),
        }
    }

    fn address(&mut self, index: u8) {
        if self.random.below(6) == 0 {
            return self.set(index, 0);
        }
        self.set(index, 0x7f00_0000_3000);
        let mut bytes = sockaddr(self.random);
        if self.random.below(30) == 0 {
            bytes.truncate(self.random.below(bytes.len()));
        }
        if !bytes.is_empty() {
            self.push(CaptureKind::Sockaddr, index, &bytes);
        }
        self.sockaddr = Some(bytes);
    }

    fn result(&mut self) -> i64 {
        let makes_descriptor = [
            "open",
            "openat",
            "openat2",
            "creat",
            "open_by_handle_at",
            "dup",
            "socket",
            "accept4",
            "memfd_create",
            "io_uring_setup",
            "userfaultfd",
        ];
        if self.random.below(3) == 0 {
            let error = if self.name == "connect" && self.random.below(2) == 0 {
                EINPROGRESS
            } else {
                one(self.random, &ERRORS)
            };
            return -error;
        }
        // The kernel takes no address that is cut short (ip(7), ipv6(7)).
        let is_cut = |bytes: &Vec<u8>| match bytes.as_slice() {
            [2, 0, rest @ ..] => rest.len() < 14,
            [10, 0, rest @ ..] => rest.len() < 22,
            rest => rest.len() < 2,
        };
        if self.sockaddr.as_ref().is_some_and(is_cut) {
            return -EINVAL;
        }
        let is_unreadable = self.flags.contains(RecordFlags::MEMORY_UNREADABLE);
        let lacks_path = self.arguments.iter().zip(self.registers).any(|(argument, register)| {
            argument.kind == ArgumentKind::Path && register == 0 && !matches!(self.name, "mount" | "quotactl")
        });
        if is_unreadable || lacks_path {
            return -EFAULT;
        }
        let new = i64::try_from(self.registers.get(1).copied().unwrap_or(0) % 8).unwrap_or(0);
        match self.name {
            "dup2" | "dup3" => new,
            name if makes_descriptor.contains(&name) => 3 + i64::try_from(self.random.below(9)).unwrap_or(0),
            "sendto" | "sendmsg" | "read" => 5,
            _ => 0,
        }
    }

    /// What the kernel says of the socket after the call.
    fn sockets(&mut self, result: i64) {
        let is_about_socket =
            ["connect", "sendto", "sendmsg", "dup", "dup2", "dup3", "listen", "accept4", "bind"];
        let has_failed = result < 0 && result != -EINPROGRESS;
        if !is_about_socket.contains(&self.name) || has_failed || self.random.below(4) == 0 {
            return;
        }
        let given = self.sockaddr.clone().filter(|bytes| bytes.len() >= 2);
        let is_given = given.is_some();
        let far = given.unwrap_or_else(|| sockaddr(self.random));
        let [low, high] = far.first_chunk().copied().unwrap_or([2, 0]);
        let family = u16::from_ne_bytes([low, high]);
        let near = match family {
            2 => inet(Ipv4Addr::new(10, 1, 2, 3), 40_000),
            10 => inet6([0; 16], 40_000),
            _ => family.to_ne_bytes().to_vec(),
        };
        let kind = if self.name == "connect" { one(self.random, &[1, 2]) } else { 2 };
        let info = [i32::from(family), kind, 0].map(i32::to_ne_bytes);
        self.push(CaptureKind::SocketInfo, 0, info.as_flattened());
        self.push(CaptureKind::SocketLocal, 0, &near);
        let peer = match self.name {
            // connect(2) to no address in particular reaches this machine.
            "connect" if is_given && far.get(4..8) == Some(&[0; 4]) && family == 2 => {
                let port = far.get(2..4).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
                Some(inet(Ipv4Addr::LOCALHOST, port))
            }
            "connect" => Some(far),
            "bind" | "listen" => None,
            // A datagram may go elsewhere than to where its socket is connected.
            "sendto" | "sendmsg" if is_given => {
                (self.random.below(4) == 0).then(|| sockaddr_of(self.random, family))
            }
            _ => Some(far),
        };
        if let Some(peer) = peer {
            self.push(CaptureKind::SocketPeer, 0, &peer);
        }
    }
}

fn sockaddr(random: &mut Random) -> Vec<u8> {
    let family = one(random, &[2, 2, 2, 2, 10, 10, 1, 1, 16, 0]);
    sockaddr_of(random, family)
}

fn sockaddr_of(random: &mut Random, family: u16) -> Vec<u8> {
    let port = one(random, &PORTS);
    let host = one(random, &ADDRESSES).parse().unwrap_or(Ipv4Addr::LOCALHOST);
    match family {
        2 => inet(host, port),
        10 => {
            let mapped = host.to_ipv6_mapped().octets();
            let plain = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            let address = if random.below(3) == 0 { mapped } else { plain };
            inet6(address, port)
        }
        1 => [&1_u16.to_ne_bytes()[..], one(random, &["/run/s", "/tmp/x", ""]).as_bytes(), &[0]].concat(),
        other => [&other.to_ne_bytes()[..], &[0; 14]].concat(),
    }
}

fn inet(host: Ipv4Addr, port: u16) -> Vec<u8> {
    [&2_u16.to_ne_bytes()[..], &port.to_be_bytes(), &host.octets(), &[0; 8]].concat()
}

fn inet6(host: [u8; 16], port: u16) -> Vec<u8> {
    [&10_u16.to_ne_bytes()[..], &port.to_be_bytes(), &[0; 4], &host, &[0; 4]].concat()
}
