//! What the arguments of a call are: their names and how to read them.
//!
//! The tables under `signatures/` have one call a line, by name, for all ABIs; `overrides.rs` has the calls whose
//! arguments differ by ABI. An argument has Falco's name where Falco's event for the call has a parameter for it,
//! else that of the man page. [`signature_of`] is on the path of every stop and event: keep it one look-up.

mod files;
mod memory;
mod overrides;
mod processes;
mod sockets;
mod system;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::numbers::{number_name, numbers};
use super::{Abi, FlagSet, SyscallNr, X32_SYSCALL_BIT};

/// What the arguments of a call are, in the order of the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The arguments, six at most. Registers beyond them mean nothing.
    pub arguments: &'static [Argument],
}

/// One argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// Falco's name for it, or that of the man page.
    pub name: &'static str,
    /// What the register holds.
    pub kind: ArgumentKind,
}

/// What an argument register holds, and so what of the tracee's memory is worth a read at the entry of the call.
///
/// Kinds that say "an `int`" count by the low 32 bits of the register: the kernel ignores the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentKind {
    /// A file descriptor, an `int`.
    Fd,
    /// A file descriptor that the call is about, so that its path is worth having: fchdir, fchmod. An `int`.
    FdPath,
    /// The descriptor of the directory that the [`ArgumentKind::Path`] right after it starts from, or `AT_FDCWD`
    /// (-100) for the working directory. An `int`.
    DirFd,
    /// Address of a path, which ends in NUL. It is resolved against the [`ArgumentKind::DirFd`] right before it;
    /// where there is none, against the working directory. May be null where the man page says so.
    Path,
    /// Address of a text that ends in NUL and is not resolved: the target of a symbolic link, the name of a memfd.
    Text,
    /// Flags or a choice, for [`super::FlagWords`], which knows the width.
    Flags(FlagSet),
    /// Permission bits of a file, an `unsigned short`, printed in octal.
    Mode,
    /// A signed number, an `int`.
    Signed,
    /// An unsigned number, an `unsigned int`.
    Unsigned,
    /// A signed number as wide as the register: `off_t`, `long`.
    Offset,
    /// A number of bytes or of things, as wide as the register: `size_t`.
    Size,
    /// A pointer that is not followed or an opaque value, as wide as the register, printed in hexadecimal.
    Hex,
    /// A process, thread or process group, an `int`.
    Pid,
    /// A user; -1 often means "leave as it is". An `int`, or a `short` in 32-bit x86's oldest calls.
    Uid,
    /// A group, as [`ArgumentKind::Uid`].
    Gid,
    /// A signal, an `int`.
    Signal,
    /// Address of a socket address that the kernel reads. It may be null in sendto(2).
    SockaddrIn {
        /// Index of the argument that is the length of the address in bytes, an `int`.
        length_argument: u8,
    },
    /// Address where the kernel writes a socket address: nothing to read at the entry.
    SockaddrOut,
    /// Address of a `struct msghdr` (or of an array of `struct mmsghdr`, which begin with one), in the layout of the
    /// ABI. Its first two fields are the address and the length of a socket address; the address may be null.
    MessageIn,
    /// Address of the null-terminated array of argument strings of an exec.
    Argv,
    /// Address of the null-terminated array of environment strings of an exec.
    Envp,
    /// Address of a structure that the kernel reads, and whose size is fixed.
    Struct {
        /// Its size on this ABI.
        bytes: u16,
    },
    /// Address of a structure that the kernel reads, and whose size the caller states: `open_how`, `clone_args`.
    StructSized {
        /// Index of the argument that is the size in bytes, a `size_t`.
        length_argument: u8,
    },
    /// Address where the kernel writes two file descriptors: nothing to read at the entry.
    FdPairOut,
}

/// A line of the tables: the names that share a signature.
type Line = (&'static [&'static str], Signature);

/// Writes a table: `name | other_name (argument: Kind, ...);`, a call a line.
macro_rules! signatures {
    ($($($call:ident)|+ ($($argument:ident: $kind:expr),*);)*) => {
        &[$((
            &[$(stringify!($call)),+],
            Signature { arguments: &[$(Argument { name: stringify!($argument), kind: $kind }),*] },
        )),*]
    };
}
use signatures;

/// What the arguments of call `nr` of `abi` are; `None` for a number without a call and for calls that no kernel in
/// use implements.
///
/// The first look-up builds the tables, which allocates: make one at start-up. After that it is an index.
#[must_use]
pub fn signature_of(abi: Abi, nr: SyscallNr) -> Option<&'static Signature> {
    let (table, index) = match abi {
        Abi::X86_64 => (&TABLES.x86_64, nr.0),
        Abi::I386 => (&TABLES.i386, nr.0),
        Abi::X32 if nr.0 & X32_SYSCALL_BIT != 0 => (&TABLES.x32, nr.0 & !X32_SYSCALL_BIT),
        Abi::Aarch64 => (&TABLES.aarch64, nr.0),
        Abi::X32 | Abi::Other => return None,
    };
    *table.get(usize::try_from(index).ok()?)?
}

/// What the arguments of the call `name` are where it is made through `abi`; `None` if no table has the name.
///
/// It does not ask whether `abi` has the call. It hashes the name: quick, but [`signature_of`] is quicker.
#[must_use]
pub fn signature(abi: Abi, name: &str) -> Option<&'static Signature> {
    overridden(abi, name).or_else(|| BY_NAME.get(name).copied())
}

/// The signature of each number, per ABI.
struct Tables {
    x86_64: Box<[Option<&'static Signature>]>,
    i386: Box<[Option<&'static Signature>]>,
    x32: Box<[Option<&'static Signature>]>,
    aarch64: Box<[Option<&'static Signature>]>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let by_number =
        |abi| numbers(abi).map(|nr| number_name(abi, nr).and_then(|name| signature(abi, name))).collect();
    Tables {
        x86_64: by_number(Abi::X86_64),
        i386: by_number(Abi::I386),
        x32: by_number(Abi::X32),
        aarch64: by_number(Abi::Aarch64),
    }
});

static BY_NAME: LazyLock<HashMap<&'static str, &'static Signature>> = LazyLock::new(|| {
    let lines = COMMON.iter().copied().flatten();
    lines.flat_map(|(names, signature)| names.iter().map(move |name| (*name, signature))).collect()
});

/// The tables that serve every ABI.
const COMMON: [&[Line]; 5] = [files::CALLS, memory::CALLS, processes::CALLS, sockets::CALLS, system::CALLS];

/// The table of what differs on `abi`.
const fn overrides(abi: Abi) -> &'static [Line] {
    match abi {
        Abi::I386 => overrides::I386,
        Abi::Aarch64 => overrides::AARCH64,
        Abi::X86_64 | Abi::X32 | Abi::Other => &[],
    }
}

fn overridden(abi: Abi, name: &str) -> Option<&'static Signature> {
    overrides(abi).iter().find(|(names, _)| names.contains(&name)).map(|(_, signature)| signature)
}

#[cfg(test)]
mod tests;
