//! The arguments of an event: a name of Falco's, a typed value, and the place that a path means.
//!
//! Everything borrows from the record. Nothing is formatted here: how a value is written is a sink's business.

use std::borrow::Cow;

use super::{SocketAddress, path};
use crate::abi::FlagWords;

/// Arguments of one event at most: a call has six, and a structure may stand for up to three of them.
const ARGUMENTS_MAX: usize = 8;

/// The value of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A file descriptor.
    Fd(i32),
    /// A file descriptor of a directory that a path starts from, or `AT_FDCWD` (-100).
    DirFd(i32),
    /// The two descriptors that a call made.
    FdPair(i32, i32),
    /// A path as the program wrote it. [`Argument::resolved`] makes it absolute.
    Path(&'a [u8]),
    /// Another string.
    Text(&'a [u8]),
    /// An argument vector or environment.
    Strings(Strings<'a>),
    /// A socket address.
    Address(SocketAddress<'a>),
    /// A structure that has no reading here.
    Bytes(&'a [u8]),
    /// A signed number.
    Signed(i64),
    /// An unsigned number, a size or a count.
    Unsigned(u64),
    /// A pointer or another opaque word, best read in hexadecimal.
    Word(u64),
    /// A pointer to memory that the record does not hold: it was not asked for, could not be read or did not fit.
    Unread(u64),
    /// Permission bits (and the file type for mknod(2)).
    Mode(u32),
    /// Flags or one choice, in words.
    Flags(FlagWords),
    /// A user id; -1 (4294967295) means no change.
    Uid(u32),
    /// A group id; -1 (4294967295) means no change.
    Gid(u32),
    /// A signal number.
    Signal(u32),
    /// A claim.
    Bool(bool),
}

/// One argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument<'a> {
    /// Its name: Falco's where Falco has an event for the call, else that of the man page, else `arg0` to `arg5`.
    pub name: &'static str,
    /// Its value.
    pub value: Value<'a>,
    /// Whether the original was longer than what the record holds.
    pub is_truncated: bool,
    /// The directory that a relative path starts from, or the file that a descriptor names.
    pub(super) base: Option<&'a [u8]>,
}

impl<'a> Argument<'a> {
    const NONE: Self = Self::new("", Value::Unsigned(0));

    pub(super) const fn new(name: &'static str, value: Value<'a>) -> Self {
        Self { name, value, is_truncated: false, base: None }
    }

    /// The absolute path that the argument means: a [`Value::Path`] made absolute lexically, or the file behind a
    /// [`Value::Fd`] if the record tells it.
    ///
    /// `None` for all other values, a truncated path, and a relative one whose directory is not known. It allocates
    /// only where a path has to be put together.
    #[must_use]
    pub fn resolved(&self) -> Option<Cow<'a, [u8]>> {
        match self.value {
            Value::Path(path) if !self.is_truncated => path::resolve(self.base, path),
            Value::Fd(_) => path::resolve(self.base, b""),
            _ => None,
        }
    }
}

/// The arguments of one event, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments<'a> {
    items: [Argument<'a>; ARGUMENTS_MAX],
    len: usize,
}

impl<'a> Arguments<'a> {
    pub(super) const fn new() -> Self {
        Self { items: [Argument::NONE; ARGUMENTS_MAX], len: 0 }
    }

    /// Appends an argument. No event has more than [`ARGUMENTS_MAX`]; were there one, it would be left out.
    pub(super) fn push(&mut self, argument: Argument<'a>) {
        if let Some(free) = self.items.get_mut(self.len) {
            *free = argument;
            self.len += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[Argument<'a>] {
        self.items.get(..self.len).unwrap_or_default()
    }
}

/// Strings that are each ended by a NUL, such as an argument vector. The last NUL may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strings<'a> {
    rest: &'a [u8],
}

impl<'a> Strings<'a> {
    /// Iterates over the strings in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|&byte| byte == 0).unwrap_or(self.rest.len());
        let string = self.rest.get(..end).unwrap_or_default();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_nuls() {
        let strings = |bytes| Strings::new(bytes).collect::<Vec<_>>();
        assert_eq!(strings(b"a\0\0bc\0"), [&b"a"[..], b"", b"bc"]);
        assert_eq!(strings(b"a\0cut"), [&b"a"[..], b"cut"]);
        assert!(strings(b"").is_empty());
    }
}
