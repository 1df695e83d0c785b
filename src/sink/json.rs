//! One JSON object an event and line. The keys and their order are promised in `docs/output.md`.
//!
//! JSON holds text only, so bytes that are not UTF-8 are written twice: readable under their own key, with U+FFFD in
//! the place of what is wrong, and exact under `KEY_hex`.

use std::{
    fmt,
    io::{self, Write},
};

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::ser::Formatter;

use super::Sink;
use crate::{
    abi::{self, FlagSet, FlagWords},
    decode::{Argument, Event, EventName, Outcome, Process, SocketAddress, Strings, Value},
    terminal::is_hidden,
};

/// Writes one JSON object an event and line.
#[derive(Debug)]
pub struct Json<W> {
    writer: W,
    line: Vec<u8>,
}

impl<W: Write> Json<W> {
    /// Makes a sink that writes to `writer`, one write a line.
    pub const fn new(writer: W) -> Self {
        Self { writer, line: Vec::new() }
    }
}

impl<W: Write> Sink for Json<W> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.line.clear();
        Object(event).serialize(&mut serde_json::Serializer::with_formatter(&mut self.line, Printable))?;
        self.line.push(b'\n');
        self.writer.write_all(&self.line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Compact JSON whose strings can be printed: serde_json leaves control characters from U+007F on as they are.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| byte < 0x7f) {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if is_hidden(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(character.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// An event as an object. What is not known has no key.
struct Object<'e>(&'e Event<'e>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("seq", &event.sequence())?;
        map.serialize_entry("producer", &event.producer())?;
        match event.name() {
            EventName::Known(name) => map.serialize_entry("type", name)?,
            name @ EventName::Unnamed(_) => map.serialize_entry("type", &Shown(name))?,
        }
        map.serialize_entry("time_ns", &event.exit_ns())?;
        map.serialize_entry("enter_ns", &event.enter_ns())?;
        map.serialize_entry("duration_ns", &event.exit_ns().saturating_sub(event.enter_ns()))?;
        entry_if_known(&mut map, "tid", event.tid())?;
        entry_if_known(&mut map, "pid", event.pid())?;
        if let Some(number) = event.number() {
            map.serialize_entry("abi", event.abi().name())?;
            map.serialize_entry("nr", &number.0)?;
        }
        map.serialize_entry("args", &Arguments(event.arguments()))?;
        if event.arguments().iter().any(|argument| argument.resolved().is_some()) {
            map.serialize_entry("paths", &Paths(event.arguments()))?;
        }
        let address = event.arguments().iter().find_map(|argument| match argument.value {
            Value::Address(address) => Some(address),
            _ => None,
        });
        entry_if_known(&mut map, "addr", address.map(Address))?;
        entry_if_known(&mut map, "local", event.socket_local().map(Address))?;
        entry_if_known(&mut map, "peer", event.socket_peer().map(Address))?;
        match event.outcome() {
            Some(Outcome::Value(value) | Outcome::Fd(value)) => map.serialize_entry("res", &value)?,
            Some(Outcome::Address(address)) => map.serialize_entry("res", &address.cast_signed())?,
            Some(Outcome::Error { number, name }) => {
                map.serialize_entry("res", &-i64::from(number))?;
                entry_if_known(&mut map, "errno", name)?;
            }
            Some(Outcome::Missing) | None => {}
        }
        if event.flag_words().next().is_some() {
            map.serialize_entry("flags", &FlagList(event))?;
        }
        entry_if_known(&mut map, "proc", event.process().map(Proc))?;
        map.end()
    }
}

/// `args`: the arguments by their name.
struct Arguments<'e>(&'e [Argument<'e>]);

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for argument in self.0 {
            argument_entry(&mut map, argument)?;
            if argument.is_truncated {
                map.serialize_entry(&Key(argument.name, "_truncated"), &true)?;
            }
        }
        map.end()
    }
}

fn argument_entry<M: SerializeMap>(map: &mut M, argument: &Argument<'_>) -> Result<(), M::Error> {
    let name = argument.name;
    match argument.value {
        Value::Fd(fd) | Value::DirFd(fd) => map.serialize_entry(name, &fd),
        Value::FdPair(first, second) => map.serialize_entry(name, &[first, second]),
        Value::Path(bytes) | Value::Text(bytes) => bytes_entry(map, name, bytes),
        Value::Strings(strings) => strings_entry(map, name, strings),
        Value::Address(SocketAddress::Inet(inet)) => map.serialize_entry(name, &Shown(inet)),
        Value::Address(SocketAddress::Inet6(inet)) => map.serialize_entry(name, &Shown(inet)),
        Value::Address(SocketAddress::Unix(path)) => bytes_entry(map, name, path),
        Value::Address(SocketAddress::UnixAbstract(path)) => abstract_entry(map, name, path),
        Value::Address(SocketAddress::Other(family)) => {
            map.serialize_entry(name, &Shown(family_name(family)))
        }
        Value::Bytes(bytes) => map.serialize_entry(name, &Hex(bytes)),
        Value::Signed(number) => map.serialize_entry(name, &number),
        Value::Unsigned(number) | Value::Word(number) => map.serialize_entry(name, &number),
        Value::Unread(_) => map.serialize_entry(name, &()),
        Value::Mode(0) => map.serialize_entry(name, "0"),
        Value::Mode(mode) => map.serialize_entry(name, &Shown(format_args!("0{mode:o}"))),
        Value::Flags(words) => map.serialize_entry(name, &Shown(words)),
        Value::Uid(u32::MAX) | Value::Gid(u32::MAX) => map.serialize_entry(name, &-1),
        Value::Uid(id) | Value::Gid(id) => map.serialize_entry(name, &id),
        Value::Signal(signal) => match abi::signal_name(signal) {
            Some(word) => map.serialize_entry(name, word),
            None => map.serialize_entry(name, &Shown(signal)),
        },
        Value::Bool(claim) => map.serialize_entry(name, &claim),
    }
}

/// `paths`: the absolute paths by the name of their argument.
struct Paths<'e>(&'e [Argument<'e>]);

impl Serialize for Paths<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for argument in self.0 {
            if let Some(path) = argument.resolved() {
                bytes_entry(&mut map, argument.name, &path)?;
            }
        }
        map.end()
    }
}

/// A socket address taken apart.
struct Address<'e>(SocketAddress<'e>);

impl Serialize for Address<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("family", &Shown(family_name(self.0.family())))?;
        match self.0 {
            SocketAddress::Inet(inet) => {
                map.serialize_entry("ip", &Shown(inet.ip()))?;
                map.serialize_entry("port", &inet.port())?;
            }
            SocketAddress::Inet6(inet) => {
                map.serialize_entry("ip", &Shown(inet.ip()))?;
                map.serialize_entry("port", &inet.port())?;
            }
            SocketAddress::Unix(path) => bytes_entry(&mut map, "path", path)?,
            SocketAddress::UnixAbstract(name) => abstract_entry(&mut map, "path", name)?,
            SocketAddress::Other(_) => {}
        }
        map.end()
    }
}

/// `proc`: the process.
struct Proc<'e>(&'e Process);

impl Serialize for Proc<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let process = self.0;
        let mut map = serializer.serialize_map(None)?;
        for (key, bytes) in
            [("name", process.name()), ("exe", process.exe()), ("cmdline", process.command_line())]
        {
            if let Some(bytes) = bytes {
                bytes_entry(&mut map, key, bytes)?;
            }
        }
        entry_if_known(&mut map, "ppid", process.parent_pid())?;
        if let Some(name) = process.parent_name() {
            bytes_entry(&mut map, "pname", name)?;
        }
        entry_if_known(&mut map, "uid", process.uid())?;
        entry_if_known(&mut map, "user", process.user())?;
        map.end()
    }
}

/// `flags`: the claims about the record.
struct FlagList<'e>(&'e Event<'e>);

impl Serialize for FlagList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.flag_words())
    }
}

fn family_name(family: u16) -> FlagWords {
    FlagWords::of(FlagSet::Domain, u64::from(family))
}

fn entry_if_known<M: SerializeMap, T: Serialize>(
    map: &mut M,
    key: &str,
    value: Option<T>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(key, &value))
}

fn bytes_entry<M: SerializeMap>(map: &mut M, key: &'static str, bytes: &[u8]) -> Result<(), M::Error> {
    map.serialize_entry(key, &Lossy { prefix: "", bytes })?;
    if std::str::from_utf8(bytes).is_err() {
        map.serialize_entry(&Key(key, "_hex"), &Hex(bytes))?;
    }
    Ok(())
}

/// A name in the abstract namespace of unix(7), which readers know by an `@` before it.
fn abstract_entry<M: SerializeMap>(map: &mut M, key: &'static str, name: &[u8]) -> Result<(), M::Error> {
    map.serialize_entry(key, &Lossy { prefix: "@", bytes: name })?;
    if std::str::from_utf8(name).is_err() {
        map.serialize_entry(&Key(key, "_hex"), &Hex(name))?;
    }
    Ok(())
}

fn strings_entry<M: SerializeMap>(
    map: &mut M,
    key: &'static str,
    strings: Strings<'_>,
) -> Result<(), M::Error> {
    map.serialize_entry(key, &List(strings, |bytes| Lossy { prefix: "", bytes }))?;
    if strings.into_iter().any(|string| std::str::from_utf8(string).is_err()) {
        map.serialize_entry(&Key(key, "_hex"), &List(strings, Hex))?;
    }
    Ok(())
}

/// A list of strings, each written by the function.
struct List<'e, T>(Strings<'e>, fn(&'e [u8]) -> T);

impl<T: Serialize> Serialize for List<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for string in self.0 {
            list.serialize_element(&(self.1)(string))?;
        }
        list.end()
    }
}

/// Bytes as text, with U+FFFD in the place of what is not UTF-8.
struct Lossy<'e> {
    prefix: &'static str,
    bytes: &'e [u8],
}

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.bytes) {
            Ok(text) if self.prefix.is_empty() => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix)?;
        for chunk in self.bytes.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

/// Bytes in hexadecimal, two digits each.
struct Hex<'e>(&'e [u8]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A key made of a name and an ending.
struct Key(&'static str, &'static str);

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}", self.0, self.1))
    }
}

/// A value that is written as a string, as it displays itself.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
