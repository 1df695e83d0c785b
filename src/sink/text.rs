//! One readable line an event.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use super::{
    Sink,
    escape::{push_quoted, push_word},
};
use crate::{
    abi::{self, Abi, FlagSet, FlagWords},
    decode::{Argument, Event, EventName, Outcome, Process, SocketAddress, Strings, Value},
    event::{RecordFlags, RecordKind},
    limits,
};

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// Writes one line an event, for people. The time is UTC.
#[derive(Debug)]
pub struct Text<W> {
    writer: W,
    line: Vec<u8>,
    colour: bool,
}

impl<W: Write> Text<W> {
    /// Makes a sink that writes to `writer`, one write a line. `colour` adds ANSI colours.
    pub const fn new(writer: W, colour: bool) -> Self {
        Self { writer, line: Vec::new(), colour }
    }
}

impl<W: Write> Sink for Text<W> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.line.clear();
        Line { out: &mut self.line, colour: self.colour }.push_event(event)?;
        self.writer.write_all(&self.line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A line in the making.
struct Line<'l> {
    out: &'l mut Vec<u8>,
    colour: bool,
}

impl Line<'_> {
    fn push_event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.push_time(event.exit_ns())?;
        self.push_thread(event)?;
        self.push_name(event)?;
        for argument in event.arguments() {
            self.push_argument(argument)?;
        }
        for (name, address) in [("local", event.socket_local()), ("peer", event.socket_peer())] {
            if let Some(address) = address {
                write!(self.out, " {name}=")?;
                self.push_address(address)?;
            }
        }
        if let (RecordKind::Exec | RecordKind::Process, Some(process)) = (event.kind(), event.process()) {
            self.push_process(process)?;
        }
        self.push_flags(event)?;
        if let Some(outcome) = event.outcome() {
            self.push_outcome(outcome)?;
        }
        self.out.push(b'\n');
        Ok(())
    }

    fn push_time(&mut self, ns: u64) -> io::Result<()> {
        let (seconds, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(self.out, "{hour:02}:{minute:02}:{second:02}.{ns:09} ")
    }

    /// `bash(1234)`, `python3(1234/1240)` for another thread than the first, `?(1234)` without a name, `-` for none.
    fn push_thread(&mut self, event: &Event<'_>) -> io::Result<()> {
        let name = event.process().and_then(Process::name);
        self.paint(DIM, |line| match (event.pid(), event.tid()) {
            (None, None) => line.out.write_all(b"-"),
            (None, Some(tid)) => write!(line.out, "?(?/{tid})"),
            (Some(pid), tid) => {
                line.push_optional(name);
                match tid.filter(|&tid| tid != pid) {
                    Some(tid) => write!(line.out, "({pid}/{tid})"),
                    None => write!(line.out, "({pid})"),
                }
            }
        })
    }

    fn push_name(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.out.push(b' ');
        self.paint(BOLD, |line| match event.name() {
            EventName::Known(name) => line.out.write_all(name.as_bytes()),
            name @ EventName::Unnamed(_) => write!(line.out, "{name}"),
        })?;
        match event.abi() {
            abi @ (Abi::I386 | Abi::X32 | Abi::Other) if event.number().is_some() => {
                write!(self.out, "[{}]", abi.name())
            }
            _ => Ok(()),
        }
    }

    fn push_argument(&mut self, argument: &Argument<'_>) -> io::Result<()> {
        write!(self.out, " {}=", argument.name)?;
        self.push_value(argument.value)?;
        if argument.is_truncated {
            self.out.extend_from_slice(b"...");
        }
        match (argument.value, argument.resolved()) {
            (Value::Path(path), Some(resolved)) if *resolved != *path => {
                self.out.extend_from_slice(b" resolved=");
                push_word(self.out, &resolved);
            }
            (Value::Fd(_), Some(resolved)) => {
                self.out.extend_from_slice(b" resolved=");
                push_word(self.out, &resolved);
            }
            _ => {}
        }
        Ok(())
    }

    fn push_value(&mut self, value: Value<'_>) -> io::Result<()> {
        match value {
            Value::Fd(fd) => write!(self.out, "{fd}"),
            Value::DirFd(-100) => self.out.write_all(b"AT_FDCWD"),
            Value::DirFd(fd) => write!(self.out, "{fd}"),
            Value::FdPair(first, second) => write!(self.out, "[{first},{second}]"),
            Value::Path(bytes) | Value::Text(bytes) => {
                push_word(self.out, bytes);
                Ok(())
            }
            Value::Strings(strings) => {
                self.push_strings(strings);
                Ok(())
            }
            Value::Address(address) => self.push_address(address),
            Value::Bytes(bytes) => self.push_hex(bytes),
            Value::Signed(number) => write!(self.out, "{number}"),
            Value::Unsigned(number) => write!(self.out, "{number}"),
            Value::Unread(0) => self.out.write_all(b"NULL"),
            Value::Word(word) | Value::Unread(word) => write!(self.out, "{word:#x}"),
            Value::Mode(0) => self.out.write_all(b"0"),
            Value::Mode(mode) => write!(self.out, "0{mode:o}"),
            Value::Flags(words) => write!(self.out, "{words}"),
            Value::Uid(u32::MAX) | Value::Gid(u32::MAX) => self.out.write_all(b"-1"),
            Value::Uid(id) | Value::Gid(id) => write!(self.out, "{id}"),
            Value::Signal(signal) => match abi::signal_name(signal) {
                Some(name) => self.out.write_all(name.as_bytes()),
                None => write!(self.out, "{signal}"),
            },
            Value::Bool(claim) => write!(self.out, "{claim}"),
        }
    }

    /// `["cat","/etc/shadow"]`, cut with `...` after [`limits::TEXT_STRINGS_BYTES_MAX`].
    fn push_strings(&mut self, strings: Strings<'_>) {
        let mut left = limits::TEXT_STRINGS_BYTES_MAX;
        self.out.push(b'[');
        for (index, string) in strings.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            // An empty string takes bytes of the line as well.
            let Some(after) = left.checked_sub(string.len() + 3) else {
                push_quoted(self.out, string.get(..left).unwrap_or(string));
                self.out.extend_from_slice(b"...");
                break;
            };
            push_quoted(self.out, string);
            left = after;
        }
        self.out.push(b']');
    }

    fn push_address(&mut self, address: SocketAddress<'_>) -> io::Result<()> {
        match address {
            SocketAddress::Inet(inet) => write!(self.out, "{inet}"),
            SocketAddress::Inet6(inet) => write!(self.out, "[{}]:{}", IpAddr::V6(*inet.ip()), inet.port()),
            SocketAddress::Unix(path) => {
                push_word(self.out, path);
                Ok(())
            }
            SocketAddress::UnixAbstract(name) => {
                self.out.push(b'@');
                push_word(self.out, name);
                Ok(())
            }
            SocketAddress::Other(family) => {
                write!(self.out, "{}", FlagWords::of(FlagSet::Domain, u64::from(family)))
            }
        }
    }

    fn push_hex(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(b"0x");
        for byte in bytes.iter().take(limits::TEXT_STRUCT_BYTES_MAX) {
            write!(self.out, "{byte:02x}")?;
        }
        if bytes.len() > limits::TEXT_STRUCT_BYTES_MAX {
            self.out.extend_from_slice(b"...");
        }
        Ok(())
    }

    /// The file, parent and user of a program that was started, or of a process that is told of again.
    fn push_process(&mut self, process: &Process) -> io::Result<()> {
        if let Some(exe) = process.exe() {
            self.out.extend_from_slice(b" exe=");
            push_word(self.out, exe);
        }
        if let Some(parent_pid) = process.parent_pid() {
            self.out.extend_from_slice(b" parent=");
            match process.parent_name() {
                Some(name) => {
                    push_word(self.out, name);
                    write!(self.out, "({parent_pid})")?;
                }
                None => write!(self.out, "{parent_pid}")?,
            }
        }
        if let Some(uid) = process.uid() {
            self.out.extend_from_slice(b" user=");
            self.push_optional(process.user().map(str::as_bytes));
            write!(self.out, "({uid})")?;
        }
        Ok(())
    }

    /// What a reader should know of how the record came about. That a result is missing shows as `= ?`, that a
    /// thread was made in the clone flags.
    fn push_flags(&mut self, event: &Event<'_>) -> io::Result<()> {
        const SHOWN: RecordFlags = RecordFlags::MEMORY_UNREADABLE
            .with(RecordFlags::FROM_CHILD)
            .with(RecordFlags::CAPTURES_DROPPED)
            .with(RecordFlags::SOCKET_UNKNOWN)
            .with(RecordFlags::IRRELEVANT);
        if event.flags().0 & SHOWN.0 == 0 {
            return Ok(());
        }
        for word in event.flag_words().filter(|word| !matches!(*word, "no_result" | "thread")) {
            write!(self.out, " <{word}>")?;
        }
        Ok(())
    }

    fn push_outcome(&mut self, outcome: Outcome) -> io::Result<()> {
        self.out.extend_from_slice(b" = ");
        match outcome {
            Outcome::Value(value) | Outcome::Fd(value) => write!(self.out, "{value}"),
            Outcome::Address(address) => write!(self.out, "{address:#x}"),
            Outcome::Missing => self.out.write_all(b"?"),
            Outcome::Error { number, name } => self.paint(RED, |line| {
                write!(line.out, "-{number}")?;
                name.map_or(Ok(()), |name| write!(line.out, " {name}"))
            }),
        }
    }

    fn push_optional(&mut self, name: Option<&[u8]>) {
        match name {
            Some(name) => push_word(self.out, name),
            None => self.out.push(b'?'),
        }
    }

    fn paint(&mut self, colour: &str, push: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if !self.colour {
            return push(self);
        }
        self.out.extend_from_slice(colour.as_bytes());
        push(self)?;
        self.out.extend_from_slice(RESET.as_bytes());
        Ok(())
    }
}
