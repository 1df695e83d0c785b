//! The boundary values of each type of parameter.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use creance::falco::{
    encode::{DynValue, EventWriter, TEXT_BYTES_MAX, Text},
    socket::{PackedAddress, PackedTuple},
    table::{Emptiness, Param, ParamType},
};

use crate::tape::AT_FDCWD;

/// Longest path of a Unix socket: `UNIX_PATH_MAX` (unix(7)).
const UNIX_PATH_BYTES_MAX: usize = 108;

/// Threads that the stories around each event know: the first of a process, another one of it, one that has ended, and
/// one that nobody knows.
pub(crate) const FIRST: i64 = 70_000;
/// See [`FIRST`].
pub(crate) const SECOND: i64 = 70_001;
/// See [`FIRST`].
pub(crate) const DEAD: i64 = 70_002;
/// See [`FIRST`].
pub(crate) const STRANGER: i64 = 79_999;
/// The parent of the process of [`FIRST`].
pub(crate) const PARENT: i64 = 69_999;

/// Descriptors of [`FIRST`]: a socket and a file.
pub(crate) const SOCKET_FD: i64 = 3;
/// See [`SOCKET_FD`].
pub(crate) const FILE_FD: i64 = 4;

/// Numbers that are tried of a choice: each that Falco has a name for is below.
const CHOICES: i64 = 80;

/// A value of a parameter.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Empty,
    Number(i64),
    Bytes(Vec<u8>),
    Address(PackedAddress<'static>),
    Tuple(PackedTuple<'static>),
    Dynamic(DynValue),
}

impl Value {
    pub(crate) const fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            _ => false,
        }
    }
}

/// Writes the next parameter. `shared` bytes of the bound of an argument list are its program's name.
pub(crate) fn write(writer: &mut EventWriter<'_>, param: &Param, value: &Value, shared: usize) {
    match (value, param.kind) {
        (Value::Empty, _) => writer.empty(),
        (Value::Number(number), kind) => write_number(writer, kind, *number),
        (Value::Bytes(text), ParamType::CharBuf) => writer.string(Text::exact(text)),
        (Value::Bytes(text), ParamType::FsPath) => writer.path(Text::exact(text)),
        (Value::Bytes(text), ParamType::FsRelPath) => writer.path_at(Text::exact(text)),
        (Value::Bytes(bytes), _) if param.name == "args" => {
            writer.bytes(bytes.get(..TEXT_BYTES_MAX - shared).unwrap_or(bytes))
        }
        (Value::Bytes(bytes), _) => writer.bytes(bytes),
        (Value::Address(address), _) => writer.address(Some(*address)),
        (Value::Tuple(tuple), _) => writer.tuple(Some(*tuple)),
        (Value::Dynamic(value), _) => writer.dynamic(*value),
    };
}

/// Bytes of the bound of an argument list that a program's name of this value takes.
pub(crate) const fn shared_bytes(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => bytes.len() + 1,
        _ => 0,
    }
}

/// Writes the low bits of a number.
fn write_number<'w, 'b>(
    writer: &'w mut EventWriter<'b>,
    kind: ParamType,
    number: i64,
) -> &'w mut EventWriter<'b> {
    let [a, b, c, d, ..] = number.to_le_bytes();
    let (short, word) = (u16::from_le_bytes([a, b]), u32::from_le_bytes([a, b, c, d]));
    match kind {
        ParamType::Fd => writer.fd(number),
        ParamType::Errno => writer.errno(number),
        ParamType::Pid => writer.pid(number),
        ParamType::Int32 => writer.int32(word.cast_signed()),
        ParamType::Int64 => writer.int64(number),
        ParamType::Uint8 => writer.uint8(a),
        ParamType::Uint32 => writer.uint32(word),
        ParamType::Uint64 => writer.uint64(number.cast_unsigned()),
        ParamType::Uid => writer.uid(word),
        ParamType::Gid => writer.gid(word),
        ParamType::Mode => writer.mode(word),
        ParamType::AbsTime => writer.abs_time(number.cast_unsigned()),
        ParamType::SigType => writer.signal(a),
        ParamType::Flags16 => writer.flags16(short),
        ParamType::Flags32 => writer.flags32(word),
        ParamType::EnumFlags8 => writer.choice8(a),
        ParamType::EnumFlags16 => writer.choice16(short),
        ParamType::EnumFlags32 => writer.choice32(word),
        // These have no numbers.
        _ => writer.empty(),
    }
}

/// What a parameter is when nothing is tried on it.
pub(crate) fn ordinary(param: &Param) -> Value {
    match (param.name, param.kind) {
        ("tid" | "pid" | "vtid" | "vpid" | "pgid" | "vpgid", ParamType::Pid) => Value::Number(FIRST),
        ("ptid", _) => Value::Number(PARENT),
        ("dirfd" | "olddirfd" | "newdirfd" | "linkdirfd" | "olddir" | "newdir", _) => Value::Number(AT_FDCWD),
        ("fd2" | "newfd", _) => Value::Number(FILE_FD),
        (_, ParamType::Fd) => Value::Number(SOCKET_FD),
        ("domain", _) => Value::Number(2),
        ("type", ParamType::Uint32) => Value::Number(1),
        (_, ParamType::CharBuf | ParamType::FsPath | ParamType::FsRelPath) => {
            Value::Bytes(b"/srv/ordinary".to_vec())
        }
        (_, ParamType::ByteBuf) => Value::Bytes(b"one\0two\0".to_vec()),
        (_, ParamType::SockAddr) => Value::Address(PackedAddress::Inet(SERVER)),
        (_, ParamType::SockTuple) => Value::Tuple(PackedTuple::Inet(CLIENT, SERVER)),
        (_, ParamType::DynPtrace) => Value::Dynamic(DynValue::PtraceWord(0)),
        (_, ParamType::DynOption) => Value::Dynamic(DynValue::OptionErrno(0)),
        _ => Value::Number(0),
    }
}

/// The boundary values of a parameter that it may have without regard to the others.
pub(crate) fn boundaries(param: &Param) -> Vec<Value> {
    let mut values = match param.kind {
        ParamType::Fd | ParamType::Pid | ParamType::Errno => results(),
        ParamType::CharBuf | ParamType::FsPath | ParamType::FsRelPath => texts(),
        ParamType::ByteBuf => buffers(),
        ParamType::SockAddr => addresses(),
        ParamType::SockTuple => tuples(),
        ParamType::DynPtrace => ptrace_values(),
        ParamType::DynOption => option_values(),
        kind => numbers(kind),
    };
    match param.emptiness {
        Emptiness::Alone => values.push(Value::Empty),
        // That of a group is tried on the whole group.
        Emptiness::Never | Emptiness::Group(_) => values.retain(|value| !value.is_empty()),
    }
    values
}

/// Descriptors, threads, results: those that mean something here, errors, and the ends of the types.
fn results() -> Vec<Value> {
    /// `EPERM`, `EINTR`, `EAGAIN`, `EINPROGRESS`; one without a name; `ERESTARTSYS`; the last error and what follows.
    const ERRORS: [i64; 8] = [-1, -4, -11, -115, -500, -512, -4095, -4096];
    let ends = [i32::MIN, i32::MAX].map(i64::from);
    let known = [0, 1, 2, SOCKET_FD, FILE_FD, 1023, AT_FDCWD, FIRST, SECOND, DEAD, STRANGER, PARENT];
    let far = [i64::MIN, i64::MAX, ends[1] + 1, ends[0] - 1, i64::from(u32::MAX)];
    known.iter().chain(&ERRORS).chain(&ends).chain(&far).copied().map(Value::Number).collect()
}

/// The ends of the types of all widths, each bit, and all bits; low numbers of a choice.
fn numbers(kind: ParamType) -> Vec<Value> {
    let is_choice = matches!(
        kind,
        ParamType::EnumFlags8 | ParamType::EnumFlags16 | ParamType::EnumFlags32 | ParamType::SigType
    );
    let bits = match kind {
        ParamType::Uint8 | ParamType::SigType | ParamType::EnumFlags8 => 8,
        ParamType::Flags16 | ParamType::EnumFlags16 => 16,
        ParamType::Int64 | ParamType::Uint64 | ParamType::AbsTime => 64,
        _ => 32,
    };
    let each_bit = (0..bits).map(|bit| 1i64 << bit);
    // All bits but the highest: the highest positive number.
    let below = i64::MAX >> (64 - bits);
    let choices = if is_choice { 0..CHOICES } else { 0..0 };
    [0, -1, below].into_iter().chain(each_bit).chain(choices).map(Value::Number).collect()
}

fn texts() -> Vec<Value> {
    let longest = TEXT_BYTES_MAX - 1;
    let path = |text: &[u8]| text.iter().copied().cycle().take(longest).collect::<Vec<u8>>();
    let short: [&[u8]; 20] = [
        b"",
        b"x",
        b"/",
        b"//",
        b".",
        b"..",
        b"/..",
        b"./",
        b"a/../../..",
        b" ",
        b"\n",
        b"%",
        b"%s%n%d %*",
        b"\xff\xfe/\xc3\x28",
        b"\x1b]0;title\x07",
        b"memfd:x (deleted)",
        b"/a (deleted)",
        b"*",
        b"<NA>",
        b"~",
    ];
    let every_byte: Vec<u8> = (1..=255).collect();
    let long =
        [path(b"x"), path(b"/"), path(b"/.."), path(b"../"), path(b"/x"), path(b"\xff"), path(b"\n%s")];
    let almost_longest = [&b"/"[..], &path(b"y")].concat().into_iter().take(longest - 1).collect();
    let short = short.iter().map(|text| text.to_vec());
    short.chain([every_byte, almost_longest]).chain(long).map(Value::Bytes).collect()
}

/// Lists of strings, and bytes that are none.
fn buffers() -> Vec<Value> {
    let full = |text: &[u8]| text.iter().copied().cycle().take(TEXT_BYTES_MAX).collect::<Vec<u8>>();
    let every_byte: Vec<u8> = (0..=255).collect();
    let short: [&[u8]; 10] = [
        b"",
        b"\0",
        b"x",
        b"x\0",
        b"\0\0x",
        b"=\0=\0",
        b"A=\0B\0=C\0",
        b"\xff\xfe\0\xc3",
        b"%s\0\n\0",
        b"cpu=/a\0memory=\0=\0/\0",
    ];
    let long = [full(b"\0"), full(b"a\0"), full(b"x"), full(b"A=b\0"), full(b"\xff"), full(&every_byte)];
    short
        .iter()
        .map(|bytes| bytes.to_vec())
        .chain([every_byte.clone()])
        .chain(long)
        .map(Value::Bytes)
        .collect()
}

const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 40_000);
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 443);
const LONGEST_UNIX_PATH: [u8; UNIX_PATH_BYTES_MAX] = [b'u'; UNIX_PATH_BYTES_MAX];

fn v4() -> [SocketAddrV4; 4] {
    let zero = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    [CLIENT, SERVER, zero, SocketAddrV4::new(Ipv4Addr::BROADCAST, u16::MAX)]
}

fn v6() -> [SocketAddrV6; 5] {
    let mapped = Ipv4Addr::new(127, 0, 0, 1).to_ipv6_mapped();
    let all = Ipv6Addr::from(u128::MAX);
    [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, mapped, Ipv6Addr::from(0xfe80 << 112 | 1), all]
        .map(|ip| SocketAddrV6::new(ip, u16::MAX, u32::MAX, u32::MAX))
}

/// Paths and names; the abstract ones have no NUL before them here.
const UNIX: [&[u8]; 5] = [b"", b"/run/sock", b"abstract", b"\xff\n%s", &LONGEST_UNIX_PATH];

fn addresses() -> Vec<Value> {
    let v4 = v4().map(PackedAddress::Inet);
    let v6 = v6().map(PackedAddress::Inet6);
    v4.into_iter().chain(v6).chain(UNIX.map(PackedAddress::Unix)).map(Value::Address).collect()
}

fn tuples() -> Vec<Value> {
    let v4 = v4().into_iter().flat_map(|source| v4().map(|target| PackedTuple::Inet(source, target)));
    let v6 = v6().into_iter().flat_map(|source| v6().map(|target| PackedTuple::Inet6(source, target)));
    let other = [0, 1, 2, 3, 10, 16, 17, 40, 255].map(PackedTuple::Other);
    v4.chain(v6).chain(UNIX.map(PackedTuple::Unix)).chain(other).map(Value::Tuple).collect()
}

const WORDS: [u64; 5] = [0, 1, u64::MAX, 1 << 63, 1 << 47];

fn ptrace_values() -> Vec<Value> {
    let signals = [0, 1, 9, 64, 255].map(DynValue::PtraceSignal);
    WORDS.map(DynValue::PtraceWord).into_iter().chain(signals).map(Value::Dynamic).collect()
}

fn option_values() -> Vec<Value> {
    let errors = WORDS.map(u64::cast_signed).map(DynValue::OptionErrno);
    let numbers = [0, 1, u32::MAX, 1 << 31].map(DynValue::OptionUint32);
    let large = WORDS.map(DynValue::OptionUint64).into_iter().chain(WORDS.map(DynValue::OptionTime));
    errors.into_iter().chain(numbers).chain(large).map(Value::Dynamic).collect()
}
