//! What is to know of single calls by their name, and the reading of their arguments.

use super::{
    Argument, EventName, Outcome, SocketAddress, Strings, Value, process::started_with, value::Arguments,
};
use crate::{
    abi::{self, Abi, ArgumentKind, FlagSet, FlagWords},
    event::{
        Capture, CaptureFlags, CaptureKind, PROCESS_CLONE_LOST, PROCESS_EXEC_LOST, PROCESS_OUTSIDER, Record,
        RecordFlags,
    },
};

/// `AT_FDCWD` (linux/fcntl.h): a path starts from the current directory.
const AT_FDCWD: i32 = -100;

/// The name of a system call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallName(pub(super) &'static str);

impl CallName {
    /// What a result of 0 or more means.
    pub(super) fn success(self, result: i64) -> Outcome {
        match self.0 {
            "open"
            | "openat"
            | "openat2"
            | "creat"
            | "socket"
            | "accept"
            | "accept4"
            | "dup"
            | "dup2"
            | "dup3"
            | "epoll_create"
            | "epoll_create1"
            | "eventfd"
            | "eventfd2"
            | "fanotify_init"
            | "fsmount"
            | "fsopen"
            | "fspick"
            | "inotify_init"
            | "inotify_init1"
            | "io_uring_setup"
            | "landlock_create_ruleset"
            | "memfd_create"
            | "memfd_secret"
            | "mq_open"
            | "open_by_handle_at"
            | "open_tree"
            | "open_tree_attr"
            | "perf_event_open"
            | "pidfd_getfd"
            | "pidfd_open"
            | "signalfd"
            | "signalfd4"
            | "timerfd_create"
            | "userfaultfd" => Outcome::Fd(result),
            "brk" | "mmap" | "mmap2" | "mremap" | "shmat" => Outcome::Address(result.cast_unsigned()),
            _ => Outcome::Value(result),
        }
    }

    /// The effective user id that a successful call of the setuid family leaves behind; `None` if the call is none of
    /// them, failed, or leaves it as it was.
    pub(super) fn new_uid(self, record: &Record<'_>) -> Option<u32> {
        let (argument, is_wide) = match self.0 {
            "setuid" => (0, record.abi() != Abi::I386),
            "setuid32" => (0, true),
            "setreuid" | "setresuid" => (1, record.abi() != Abi::I386),
            "setreuid32" | "setresuid32" => (1, true),
            _ => return None,
        };
        if record.header().result != 0 || record.flags().contains(RecordFlags::NO_RESULT) {
            return None;
        }
        let uid = low_32(*record.header().arguments.get(argument)?);
        // The old calls of 32-bit x86 take 16 bits, and -1 of 16 bits keeps the id (setreuid(2)).
        let (uid, keep) = if is_wide { (uid, u32::MAX) } else { (uid & 0xffff, 0xffff) };
        Some(uid).filter(|&uid| uid != keep)
    }
}

/// The arguments of a trapped call.
pub(super) fn syscall<'a>(record: &Record<'a>, name: EventName) -> Arguments<'a> {
    let mut arguments = Arguments::new();
    let Some(signature) = abi::signature_of(record.abi(), record.header().number) else {
        for (name, word) in RAW_NAMES.into_iter().zip(record.header().arguments) {
            arguments.push(Argument::new(name, Value::Word(word)));
        }
        return arguments;
    };
    let mut dirfd = None;
    for ((index, argument), raw) in (0..).zip(signature.arguments).zip(record.header().arguments) {
        let call = CallArgument { record, index, raw, dirfd };
        // An engine leaves the environment of a call out: that of a new program stands in its exec record.
        if argument.kind == ArgumentKind::Envp && record.capture(CaptureKind::Environ).is_none() {
            continue;
        }
        dirfd = matches!(argument.kind, ArgumentKind::DirFd).then(|| low_32(raw).cast_signed());
        if !call.push_fields(name, &mut arguments) {
            arguments.push(call.read(argument.name, argument.kind));
        }
    }
    arguments
}

/// The arguments of a clone: those that its record tells.
pub(super) fn clone<'a>(record: &Record<'a>) -> Arguments<'a> {
    let [flags, child, ..] = record.header().arguments;
    let mut arguments = Arguments::new();
    if !record.flags().contains(RecordFlags::FROM_CHILD) {
        arguments.push(Argument::new("flags", Value::Flags(FlagWords::of(FlagSet::Clone, flags))));
    }
    arguments.push(Argument::new("child_pid", Value::Unsigned(child)));
    arguments
}

/// The arguments of a program start: the file name if the call was trapped, and the argument vector.
pub(super) fn exec<'a>(record: &Record<'a>) -> Arguments<'a> {
    let mut arguments = Arguments::new();
    if let Some(path) = record.capture(CaptureKind::Path) {
        let base = record.capture(CaptureKind::FdPath).or_else(|| record.capture(CaptureKind::Cwd));
        let base = base.map(|capture| capture.data);
        arguments.push(Argument { base, ..captured("filename", Value::Path(path.data), path) });
    }
    if let Some(argv) = started_with(record) {
        arguments.push(captured("argv", Value::Strings(Strings::new(argv.data)), argv));
    }
    arguments
}

/// The arguments of a process that is told of again: its argument vector, and what of it was lost.
pub(super) fn process<'a>(record: &Record<'a>) -> Arguments<'a> {
    let [bits, ..] = record.header().arguments;
    let mut arguments = Arguments::new();
    if let Some(argv) = started_with(record) {
        arguments.push(captured("argv", Value::Strings(Strings::new(argv.data)), argv));
    }
    let names = [
        (PROCESS_EXEC_LOST, "exec_lost"),
        (PROCESS_CLONE_LOST, "clone_lost"),
        (PROCESS_OUTSIDER, "outsider"),
    ];
    for (bit, name) in names {
        if bits & bit != 0 {
            arguments.push(Argument::new(name, Value::Bool(true)));
        }
    }
    arguments
}

/// The arguments of an exit: the wait status taken apart (wait(2)); none where it is not known.
pub(super) fn exit<'a>(record: &Record<'a>) -> Arguments<'a> {
    let status = low_32(record.header().result.cast_unsigned());
    let mut arguments = Arguments::new();
    if record.flags().contains(RecordFlags::NO_RESULT) {
        return arguments;
    }
    match status & 0x7f {
        0 => arguments.push(Argument::new("status", Value::Unsigned(u64::from(status >> 8 & 0xff)))),
        signal => {
            arguments.push(Argument::new("signal", Value::Signal(signal)));
            arguments.push(Argument::new("core", Value::Bool(status & 0x80 != 0)));
        }
    }
    arguments
}

/// The argument of a loss: how many records are missing.
pub(super) fn loss<'a>(record: &Record<'a>) -> Arguments<'a> {
    let mut arguments = Arguments::new();
    arguments.push(Argument::new("count", Value::Unsigned(record.header().result.cast_unsigned())));
    arguments
}

const RAW_NAMES: [&str; 6] = ["arg0", "arg1", "arg2", "arg3", "arg4", "arg5"];

/// One argument register of a call and what is needed to read it.
struct CallArgument<'r, 'a> {
    record: &'r Record<'a>,
    index: u8,
    raw: u64,
    /// The argument before it, if that is a directory.
    dirfd: Option<i32>,
}

impl<'a> CallArgument<'_, 'a> {
    fn read(&self, name: &'static str, kind: ArgumentKind) -> Argument<'a> {
        let raw = if self.record.abi() == Abi::I386 { u64::from(low_32(self.raw)) } else { self.raw };
        let low = low_32(raw);
        let value = match kind {
            ArgumentKind::Fd | ArgumentKind::FdPath => return self.read_fd(name),
            ArgumentKind::Path => return self.read_path(name),
            ArgumentKind::Text => {
                return self.read_capture(name, CaptureKind::Text, |data| Some(Value::Text(data)));
            }
            ArgumentKind::Argv => return self.read_capture(name, CaptureKind::Argv, strings),
            ArgumentKind::Envp => return self.read_capture(name, CaptureKind::Environ, strings),
            ArgumentKind::SockaddrIn { .. } | ArgumentKind::SockaddrOut | ArgumentKind::MessageIn => {
                return self.read_capture(name, CaptureKind::Sockaddr, address);
            }
            ArgumentKind::FdPairOut => return self.read_capture(name, CaptureKind::Struct, fd_pair),
            ArgumentKind::Struct { .. } | ArgumentKind::StructSized { .. } => {
                return self.read_capture(name, CaptureKind::Struct, |data| Some(Value::Bytes(data)));
            }
            ArgumentKind::DirFd => Value::DirFd(low.cast_signed()),
            ArgumentKind::Flags(set) => Value::Flags(FlagWords::of(set, raw)),
            // The kernel's umode_t has 16 bits.
            ArgumentKind::Mode => Value::Mode(low & 0xffff),
            ArgumentKind::Signed | ArgumentKind::Pid => Value::Signed(i64::from(low.cast_signed())),
            ArgumentKind::Offset if self.record.abi() == Abi::I386 => {
                Value::Signed(i64::from(low.cast_signed()))
            }
            ArgumentKind::Offset => Value::Signed(raw.cast_signed()),
            ArgumentKind::Uid => Value::Uid(low),
            ArgumentKind::Gid => Value::Gid(low),
            ArgumentKind::Signal => Value::Signal(low),
            ArgumentKind::Unsigned => Value::Unsigned(u64::from(low)),
            ArgumentKind::Size => Value::Unsigned(raw),
            ArgumentKind::Hex => Value::Word(raw),
        };
        Argument::new(name, value)
    }

    fn read_fd(&self, name: &'static str) -> Argument<'a> {
        let base = self.record.capture_of(CaptureKind::FdPath, self.index).map(|capture| capture.data);
        Argument { base, ..Argument::new(name, Value::Fd(low_32(self.raw).cast_signed())) }
    }

    fn read_path(&self, name: &'static str) -> Argument<'a> {
        let argument = self.read_capture(name, CaptureKind::Path, |data| Some(Value::Path(data)));
        match argument.value {
            Value::Path(path) if !path.starts_with(b"/") => Argument { base: self.base(), ..argument },
            _ => argument,
        }
    }

    /// The directory that a relative path starts from: that of the descriptor just before it, else the current one.
    fn base(&self) -> Option<&'a [u8]> {
        let capture = match self.dirfd {
            None | Some(AT_FDCWD) => self.record.capture_of(CaptureKind::Cwd, self.index),
            Some(_) => self.record.capture_of(CaptureKind::FdPath, self.index.wrapping_sub(1)),
        };
        capture.filter(|capture| !is_truncated(capture)).map(|capture| capture.data)
    }

    fn read_capture(
        &self,
        name: &'static str,
        kind: CaptureKind,
        value: impl FnOnce(&'a [u8]) -> Option<Value<'a>>,
    ) -> Argument<'a> {
        let capture = self.record.capture_of(kind, self.index);
        match capture.and_then(|capture| Some((value(capture.data)?, capture))) {
            Some((value, capture)) => captured(name, value, capture),
            None => Argument::new(name, Value::Unread(self.raw)),
        }
    }

    /// Pushes the fields of a structure in its place; `false` if this argument is no structure that is known here.
    fn push_fields(&self, call: EventName, arguments: &mut Arguments<'a>) -> bool {
        let is_known = match call {
            EventName::Known("openat2") => self.index == 2,
            EventName::Known("clone3") => self.index == 0,
            _ => false,
        };
        if !is_known {
            return false;
        }
        let Some(capture) = self.record.capture_of(CaptureKind::Struct, self.index) else { return false };
        let mut fields = capture.data.chunks_exact(8).map(|field| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(field);
            u64::from_ne_bytes(bytes)
        });
        let Some(flags) = fields.next() else { return false };
        if call == EventName::Known("clone3") {
            // struct clone_args (clone(2)): the signal stands in a field of its own, the fifth.
            let signal = fields.nth(3).unwrap_or_default();
            arguments
                .push(Argument::new("flags", Value::Flags(FlagWords::of(FlagSet::Clone, flags | signal))));
            return true;
        }
        // struct open_how (openat2(2)).
        arguments.push(Argument::new("flags", Value::Flags(FlagWords::of(FlagSet::Open, flags))));
        let mode = low_32(fields.next().unwrap_or_default()) & 0xffff;
        arguments.push(Argument::new("mode", Value::Mode(mode)));
        arguments.push(Argument::new("resolve", Value::Word(fields.next().unwrap_or_default())));
        true
    }
}

fn captured<'a>(name: &'static str, value: Value<'a>, capture: Capture<'_>) -> Argument<'a> {
    Argument { is_truncated: is_truncated(&capture), ..Argument::new(name, value) }
}

const fn is_truncated(capture: &Capture<'_>) -> bool {
    capture.flags.contains(CaptureFlags::TRUNCATED)
}

#[expect(clippy::unnecessary_wraps, reason = "one of the readers of a capture, others of which can fail")]
const fn strings(data: &[u8]) -> Option<Value<'_>> {
    Some(Value::Strings(Strings::new(data)))
}

fn address(data: &[u8]) -> Option<Value<'_>> {
    SocketAddress::parse(data).map(Value::Address)
}

fn fd_pair(data: &[u8]) -> Option<Value<'_>> {
    let (first, rest) = data.split_first_chunk()?;
    Some(Value::FdPair(i32::from_ne_bytes(*first), i32::from_ne_bytes(*rest.first_chunk()?)))
}

/// The low half of a register, which is all that the kernel looks at for an `int`.
fn low_32(raw: u64) -> u32 {
    u32::try_from(raw & 0xffff_ffff).unwrap_or_default()
}
