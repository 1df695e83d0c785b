//! Writes events in the layout that Falco reads, one after the other into a bounded buffer.
//!
//! Every parameter is checked against the table as it is written: its place, its type, whether it may be empty, its
//! bounds. A wrong event ends Falco, so one that fails a check is taken back whole and told as an error. An event is
//! `ts: u64 | tid: i64 | len: u32 | type: u16 | nparams: u32` without gaps, then a `u16` length for each parameter,
//! then their data (`struct ppm_evt_hdr`, `driver/ppm_events_public.h` of falcosecurity/libs).

use std::ffi::CStr;

use memchr::memchr;

use super::{
    socket::{PackedAddress, PackedTuple},
    table::{self, Emptiness, EventInfo, Param, ParamType},
};
use crate::limits;

/// Bytes of an event before its lengths.
pub const EVENT_HEADER_BYTES: usize = 26;

/// Bytes of a string or a path, its NUL included, and of a list of strings. An exec's `exe` and `args` share one
/// such bound: all three are those of Falco's own drivers.
pub const TEXT_BYTES_MAX: usize = limits::PATH_BYTES_MAX;

/// An event broke a rule of the table. It was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// There are more parameters than the table has.
    #[error("{event} has {wanted} parameters, and one more was given")]
    TooMany {
        /// The event.
        event: &'static str,
        /// How many the table has.
        wanted: usize,
    },
    /// There are fewer parameters than the table has.
    #[error("{event} has {wanted} parameters, and only {given} were given")]
    TooFew {
        /// The event.
        event: &'static str,
        /// How many the table has.
        wanted: usize,
        /// How many were given.
        given: usize,
    },
    /// A parameter has another type in the table.
    #[error("{event}.{parameter} is a {wanted:?}, and a {given:?} was given")]
    WrongType {
        /// The event.
        event: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// Its type in the table.
        wanted: ParamType,
        /// The type given.
        given: ParamType,
    },
    /// A parameter is empty that may not be.
    #[error("{event}.{parameter} may not be empty")]
    Empty {
        /// The event.
        event: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// Some parameters of a group are empty, others are not.
    #[error("{event} has a group of parameters of which some are empty and some are not")]
    Group {
        /// The event.
        event: &'static str,
    },
    /// A string has a NUL inside.
    #[error("{event}.{parameter} has a NUL inside")]
    InnerNul {
        /// The event.
        event: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// A parameter is too long.
    #[error("{event}.{parameter} has {len} bytes, and {max} are allowed")]
    TooLong {
        /// The event.
        event: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// Its length.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The batch has no room left.
    #[error("{event} does not fit into the batch")]
    NoRoom {
        /// The event.
        event: &'static str,
    },
}

/// A string, put together from a directory and a name if need be, without its NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    directory: &'a [u8],
    separator: &'static [u8],
    name: &'a [u8],
    state: TextState,
}

/// What is known of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextState {
    /// There is none.
    Missing,
    /// Nothing: a NUL has to be looked for.
    Unchecked,
    /// It was cut at its first NUL, if it had one.
    Bounded,
}

impl<'a> Text<'a> {
    /// A string of which nothing is known: an empty parameter, which Falco shows as `<NA>`.
    pub const MISSING: Self = Self { directory: b"", separator: b"", name: b"", state: TextState::Missing };

    /// The string just as it is: the encoder refuses one with a NUL inside or over the bound.
    #[must_use]
    pub const fn exact(bytes: &'a [u8]) -> Self {
        Self { directory: b"", separator: b"", name: bytes, state: TextState::Unchecked }
    }

    /// The string up to its first NUL or the bound, so that no encoder can refuse it.
    #[must_use]
    pub fn bounded(bytes: &'a [u8]) -> Self {
        Self { state: TextState::Bounded, ..Self::exact(until_nul(bytes, TEXT_BYTES_MAX - 1)) }
    }

    /// A name in a directory, `DIRECTORY/NAME`, bounded as a whole: the end is what is cut, since a prefix is what
    /// most rules look at.
    #[must_use]
    pub fn under(directory: &'a [u8], name: &'a [u8]) -> Self {
        let directory = until_nul(directory, TEXT_BYTES_MAX - 2);
        let separator: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
        let room = TEXT_BYTES_MAX - 1 - directory.len() - separator.len();
        Self { directory, separator, name: until_nul(name, room), state: TextState::Bounded }
    }

    const fn len(&self) -> usize {
        self.directory.len() + self.separator.len() + self.name.len()
    }

    fn has_nul(&self) -> bool {
        self.state == TextState::Unchecked && memchr(0, self.name).is_some()
    }

    fn append_to(&self, bytes: &mut Vec<u8>) {
        for part in [self.directory, self.separator, self.name] {
            bytes.extend_from_slice(part);
        }
    }

    /// Copies the string.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.append_to(&mut bytes);
        bytes
    }
}

/// The bytes before the first NUL, at most `len_max` of them.
pub(super) fn until_nul(bytes: &[u8], len_max: usize) -> &[u8] {
    let bytes = bytes.get(..len_max).unwrap_or(bytes);
    memchr(0, bytes).and_then(|len| bytes.get(..len)).unwrap_or(bytes)
}

/// A value whose type depends on the call: the tables are `driver/dynamic_params_table.c` of falcosecurity/libs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynValue {
    /// An argument of ptrace(2) as a word.
    PtraceWord(u64),
    /// The signal that ptrace(2) delivers.
    PtraceSignal(u8),
    /// The error of a socket (`SO_ERROR`, socket(7)): 0 or a negative error.
    OptionErrno(i64),
    /// An option of a socket that is a number.
    OptionUint32(u32),
    /// An option of a socket that is a large number.
    OptionUint64(u64),
    /// An option of a socket that is a time, in nanoseconds.
    OptionTime(u64),
}

/// Events, one after the other, in one buffer that does not grow.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Bytes of finished events. What lies beyond is an event in the making, or one that was taken back.
    finished: usize,
    count: usize,
    full_at: usize,
    /// What is added to the thread and process ids of the tracer's PID namespace.
    id_offset: i64,
}

impl Batch {
    /// Makes an empty batch that counts as full from `bytes` on. It has room for the events of one more record
    /// beyond, so that a translation never finds it without room.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let room = bytes.saturating_add(limits::TRANSLATION_BYTES_MAX);
        Self { bytes: Vec::with_capacity(room), finished: 0, count: 0, full_at: bytes, id_offset: 0 }
    }

    /// Adds `offset` to all thread and process ids of the events that follow: Falco has one table of threads, while tracers
    /// in different PID namespaces may number theirs alike.
    pub fn set_id_offset(&mut self, offset: u64) {
        self.id_offset = i64::try_from(offset).unwrap_or(i64::MAX);
    }

    /// An id as Falco is told it. What is no thread (0 or an error) has none.
    const fn shifted(&self, id: i64) -> i64 {
        if id > 0 { id.saturating_add(self.id_offset) } else { id }
    }

    /// Forgets all events, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.finished = 0;
        self.count = 0;
    }

    /// Whether it is time to hand the events on. Translating one more record into a batch that is not full always
    /// finds room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.finished >= self.full_at
    }

    /// Whether there is no event.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many events there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// All events, one after the other.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.finished).unwrap_or_default()
    }

    /// Iterates over the events, each with its header.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events { rest: self.as_bytes() }
    }

    /// Appends an asynchronous event of the system call source, for plugins that know its name. Its parameters have lengths
    /// of 32 bits, unlike those of all other events.
    ///
    /// # Errors
    /// [`EncodeError::NoRoom`].
    pub fn async_event(&mut self, ts_ns: u64, name: &CStr, data: &[u8]) -> Result<(), EncodeError> {
        const EVENT: &str = "PPME_ASYNCEVENT_E";
        const CODE: u16 = 402;
        const PARAMETERS: u32 = 3;
        // The first is the id of the plugin that made it, 0 for the source of system calls.
        let parameters = [&[0; 4][..], name.to_bytes_with_nul(), data];
        let len = EVENT_HEADER_BYTES + parameters.iter().map(|parameter| 4 + parameter.len()).sum::<usize>();
        let (Ok(len_word), true) = (u32::try_from(len), self.finished + len <= self.bytes.capacity()) else {
            return Err(EncodeError::NoRoom { event: EVENT });
        };
        self.bytes.truncate(self.finished);
        let mut push = |bytes: &[u8]| self.bytes.extend_from_slice(bytes);
        push(&ts_ns.to_ne_bytes());
        push(&0_i64.to_ne_bytes());
        push(&len_word.to_ne_bytes());
        push(&CODE.to_ne_bytes());
        push(&PARAMETERS.to_ne_bytes());
        for parameter in parameters {
            push(&u32::try_from(parameter.len()).unwrap_or(u32::MAX).to_ne_bytes());
        }
        parameters.into_iter().for_each(push);
        self.finished = self.bytes.len();
        self.count += 1;
        Ok(())
    }

    /// Begins an event of a thread, as the tracer's PID namespace numbers it. It counts once [`EventWriter::finish`] has
    /// succeeded, and is gone otherwise.
    pub fn event(&mut self, info: &'static EventInfo, ts_ns: u64, tid: i64) -> EventWriter<'_> {
        self.bytes.truncate(self.finished);
        let start = self.finished;
        let tid = self.shifted(tid);
        let mut writer = EventWriter { batch: self, info, start, next: 0, empty: 0, full: 0, error: None };
        let count = u32::try_from(info.params.len()).unwrap_or(u32::MAX);
        if writer.has_room(EVENT_HEADER_BYTES + 2 * info.params.len()) {
            let bytes = &mut writer.batch.bytes;
            bytes.extend_from_slice(&ts_ns.to_ne_bytes());
            bytes.extend_from_slice(&tid.to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&info.code.to_ne_bytes());
            bytes.extend_from_slice(&count.to_ne_bytes());
            bytes.resize(bytes.len() + 2 * info.params.len(), 0);
        }
        writer
    }
}

/// Iterates over the events of a batch.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Events<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let len = self.rest.get(16..20)?.first_chunk()?;
        let (event, rest) = self.rest.split_at_checked(usize::try_from(u32::from_ne_bytes(*len)).ok()?)?;
        self.rest = rest;
        Some(event)
    }
}

/// Writes the parameters of one event, in the order of the table. The first error stays, and [`Self::finish`] tells
/// it.
#[derive(Debug)]
pub struct EventWriter<'b> {
    batch: &'b mut Batch,
    info: &'static EventInfo,
    start: usize,
    /// The index of the next parameter.
    next: usize,
    /// Groups, as bits, of which a parameter was empty.
    empty: u8,
    /// Groups of which a parameter was not.
    full: u8,
    error: Option<EncodeError>,
}

/// Defines the methods for numbers: `method: Type(number);`.
macro_rules! numbers {
    ($($(#[$doc:meta])+ $method:ident: $kind:ident($number:ty);)+) => {$(
        $(#[$doc])+
        pub fn $method(&mut self, value: $number) -> &mut Self {
            self.push(ParamType::$kind, &value.to_ne_bytes())
        }
    )+};
}

impl EventWriter<'_> {
    numbers! {
        /// A file descriptor or a negative error.
        fd: Fd(i64);
        /// 0 or a negative error.
        errno: Errno(i64);
        /// A thread or process as a process in its own PID namespace numbers it, or a negative error.
        own_pid: Pid(i64);
        /// A signed number.
        int32: Int32(i32);
        /// A signed number.
        int64: Int64(i64);
        /// An unsigned number.
        uint8: Uint8(u8);
        /// An unsigned number.
        uint32: Uint32(u32);
        /// An unsigned number.
        uint64: Uint64(u64);
        /// A user.
        uid: Uid(u32);
        /// A group.
        gid: Gid(u32);
        /// Permission bits.
        mode: Mode(u32);
        /// Nanoseconds since 1970.
        abs_time: AbsTime(u64);
        /// A signal.
        signal: SigType(u8);
        /// Flags.
        flags16: Flags16(u16);
        /// Flags.
        flags32: Flags32(u32);
        /// A choice.
        choice8: EnumFlags8(u8);
        /// A choice.
        choice16: EnumFlags16(u16);
        /// A choice.
        choice32: EnumFlags32(u32);
    }

    /// A thread or process as the tracer's PID namespace numbers it, or a negative error.
    pub fn pid(&mut self, id: i64) -> &mut Self {
        let id = self.batch.shifted(id);
        self.own_pid(id)
    }

    /// A string.
    pub fn string(&mut self, text: Text<'_>) -> &mut Self {
        self.push_text(ParamType::CharBuf, text)
    }

    /// A path from the current directory.
    pub fn path(&mut self, text: Text<'_>) -> &mut Self {
        self.push_text(ParamType::FsPath, text)
    }

    /// A path from a directory descriptor.
    pub fn path_at(&mut self, text: Text<'_>) -> &mut Self {
        self.push_text(ParamType::FsRelPath, text)
    }

    /// Bytes, at most [`TEXT_BYTES_MAX`]; no bytes are an empty parameter.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.push(ParamType::ByteBuf, bytes)
    }

    /// A socket address; `None` is an empty parameter.
    pub fn address(&mut self, address: Option<PackedAddress<'_>>) -> &mut Self {
        self.push_with(ParamType::SockAddr, address.map_or(0, |address| address.len()), |bytes| {
            if let Some(address) = address {
                address.append_to(bytes);
            }
        })
    }

    /// A pair of socket addresses; `None` is an empty parameter.
    pub fn tuple(&mut self, tuple: Option<PackedTuple<'_>>) -> &mut Self {
        self.push_with(ParamType::SockTuple, tuple.map_or(0, |tuple| tuple.len()), |bytes| {
            if let Some(tuple) = tuple {
                tuple.append_to(bytes);
            }
        })
    }

    /// A value whose type depends on the call.
    pub fn dynamic(&mut self, value: DynValue) -> &mut Self {
        match value {
            DynValue::PtraceWord(word) => self.push_dynamic(ParamType::DynPtrace, 0, &word.to_ne_bytes()),
            DynValue::PtraceSignal(signal) => self.push_dynamic(ParamType::DynPtrace, 1, &[signal]),
            DynValue::OptionErrno(errno) => self.push_dynamic(ParamType::DynOption, 1, &errno.to_ne_bytes()),
            DynValue::OptionUint32(word) => self.push_dynamic(ParamType::DynOption, 2, &word.to_ne_bytes()),
            DynValue::OptionUint64(word) => self.push_dynamic(ParamType::DynOption, 3, &word.to_ne_bytes()),
            DynValue::OptionTime(ns) => self.push_dynamic(ParamType::DynOption, 4, &ns.to_ne_bytes()),
        }
    }

    /// An empty parameter, of whatever type the table has: nothing is known of it.
    pub fn empty(&mut self) -> &mut Self {
        let kind = self.info.params.get(self.next).map_or(ParamType::ByteBuf, |param| param.kind);
        self.push(kind, b"")
    }

    /// `count` empty parameters.
    pub fn empties(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.empty();
        }
        self
    }

    /// Ends the event.
    ///
    /// # Errors
    /// The first rule that the event broke; the batch is as it was before it then.
    pub fn finish(&mut self) -> Result<(), EncodeError> {
        let (event, wanted, given) = (self.info.name, self.info.params.len(), self.next);
        if self.error.is_none() && given < wanted {
            self.error = Some(EncodeError::TooFew { event, wanted, given });
        }
        if self.error.is_none() && self.empty & self.full != 0 {
            self.error = Some(EncodeError::Group { event });
        }
        self.forget_own_reaper();
        let end = self.batch.bytes.len();
        let len = u32::try_from(end - self.start).unwrap_or(u32::MAX).to_ne_bytes();
        match (self.error, self.batch.bytes.get_mut(self.start + 16..self.start + 20)) {
            (None, Some(field)) => {
                field.copy_from_slice(&len);
                self.batch.finished = end;
                self.batch.count += 1;
                // Whatever is pushed from here on is too much.
                self.start = end;
                self.error = Some(EncodeError::TooMany { event, wanted });
                Ok(())
            }
            (error, _) => {
                self.batch.bytes.truncate(self.batch.finished);
                Err(error.unwrap_or(EncodeError::NoRoom { event }))
            }
        }
    }

    /// A thread that is told as the reaper of its own children makes libsinsp throw, which ends Falco. 0 is told
    /// instead, which leaves the search for the reaper to libsinsp.
    fn forget_own_reaper(&mut self) {
        if self.info.code == table::PROCEXIT_1_E.code
            && let Some(event) = self.batch.bytes.get_mut(self.start..)
            && let Some(tid) = event.get(8..16).and_then(<[u8]>::first_chunk::<8>).copied()
            && let Some(reaper) = event.last_chunk_mut()
            && *reaper == tid
        {
            *reaper = [0; 8];
        }
    }

    fn push_text(&mut self, given: ParamType, text: Text<'_>) -> &mut Self {
        if text.state == TextState::Missing {
            return self.push(given, b"");
        }
        if text.has_nul() {
            let parameter = self.info.params.get(self.next).map_or("", |param| param.name);
            self.error.get_or_insert(EncodeError::InnerNul { event: self.info.name, parameter });
        }
        self.push_with(given, text.len() + 1, |bytes| {
            text.append_to(bytes);
            bytes.push(0);
        })
    }

    /// `index` tells which of its types the value has.
    fn push_dynamic(&mut self, given: ParamType, index: u8, value: &[u8]) -> &mut Self {
        self.push_with(given, 1 + value.len(), |bytes| {
            bytes.push(index);
            bytes.extend_from_slice(value);
        })
    }

    fn push(&mut self, given: ParamType, data: &[u8]) -> &mut Self {
        self.push_with(given, data.len(), |bytes| bytes.extend_from_slice(data))
    }

    fn push_with(&mut self, given: ParamType, len: usize, append: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        if self.error.is_none() {
            match self.check(given, len) {
                Ok(len_bytes) => {
                    let at = self.start + EVENT_HEADER_BYTES + 2 * self.next;
                    if let Some(field) = self.batch.bytes.get_mut(at..at + 2) {
                        field.copy_from_slice(&len_bytes);
                    }
                    append(&mut self.batch.bytes);
                    self.next += 1;
                }
                Err(error) => self.error = Some(error),
            }
        }
        self
    }

    /// Checks the next parameter against the table; gives its length in wire form.
    fn check(&mut self, given: ParamType, len: usize) -> Result<[u8; 2], EncodeError> {
        let (event, params) = (self.info.name, self.info.params);
        let Some(&Param { name: parameter, kind: wanted, emptiness }) = params.get(self.next) else {
            return Err(EncodeError::TooMany { event, wanted: params.len() });
        };
        if given != wanted {
            return Err(EncodeError::WrongType { event, parameter, wanted, given });
        }
        match emptiness {
            Emptiness::Never if len == 0 => return Err(EncodeError::Empty { event, parameter }),
            Emptiness::Group(group) if len == 0 => self.empty |= 1 << (group & 7),
            Emptiness::Group(group) => self.full |= 1 << (group & 7),
            Emptiness::Never | Emptiness::Alone => {}
        }
        let shared = if given == ParamType::ByteBuf && parameter == "args" { self.len_before() } else { 0 };
        let max = TEXT_BYTES_MAX.saturating_sub(shared);
        match u16::try_from(len) {
            Ok(short) if len <= max => {
                if self.has_room(len) {
                    Ok(short.to_ne_bytes())
                } else {
                    Err(EncodeError::NoRoom { event })
                }
            }
            _ => Err(EncodeError::TooLong { event, parameter, len, max }),
        }
    }

    /// The length of the parameter before the next one: `exe`, with which `args` shares its bound.
    fn len_before(&self) -> usize {
        let at = self.start + EVENT_HEADER_BYTES + 2 * self.next;
        let field = self.batch.bytes.get(at.saturating_sub(2)..at).and_then(<[u8]>::first_chunk);
        field.map_or(0, |field| usize::from(u16::from_ne_bytes(*field)))
    }

    fn has_room(&mut self, len: usize) -> bool {
        let room = self.batch.full_at.saturating_add(limits::TRANSLATION_BYTES_MAX);
        let fits = self.batch.bytes.len().saturating_add(len) <= room;
        if !fits {
            self.error.get_or_insert(EncodeError::NoRoom { event: self.info.name });
        }
        fits
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
