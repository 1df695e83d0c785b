use proptest::prelude::*;

use super::*;
use crate::falco::{
    checker,
    table::{self, ALL},
};

fn batch() -> Batch {
    Batch::with_capacity(64 * 1024)
}

#[test]
fn an_open_has_just_these_bytes() {
    let mut batch = batch();
    let mut writer = batch.event(&table::OPENAT_2_X, 0x0102_0304_0506_0708, 9);
    writer.fd(-2).fd(-100).path_at(Text::exact(b"/etc/shadow")).flags32(1).uint32(0).empties(2);
    assert_eq!(writer.finish(), Ok(()));
    let expected = [
        &0x0102_0304_0506_0708u64.to_ne_bytes()[..],
        &9i64.to_ne_bytes(),
        &(26u32 + 14 + 8 + 8 + 12 + 4 + 4).to_ne_bytes(),
        &307u16.to_ne_bytes(),
        &7u32.to_ne_bytes(),
        &[8u16, 8, 12, 4, 4, 0, 0].map(u16::to_ne_bytes).concat(),
        &(-2i64).to_ne_bytes(),
        &(-100i64).to_ne_bytes(),
        b"/etc/shadow\0",
        &1u32.to_ne_bytes(),
        &0u32.to_ne_bytes(),
    ];
    assert_eq!(batch.as_bytes(), expected.concat());
    assert_eq!((batch.len(), batch.events().count()), (1, 1));
}

/// The error of an event that is written so, which must leave the batch as it was.
fn refused(info: &'static EventInfo, write: impl FnOnce(&mut EventWriter<'_>)) -> EncodeError {
    let mut batch = batch();
    batch.event(&table::SETSID_X, 1, 2).pid(3).finish().unwrap();
    let before = batch.as_bytes().to_vec();
    let mut writer = batch.event(info, 1, 2);
    write(&mut writer);
    let error = writer.finish().unwrap_err();
    assert_eq!((batch.as_bytes(), batch.len()), (&before[..], 1));
    error
}

#[test]
fn an_event_that_breaks_the_table_is_refused_and_taken_back() {
    let (event, parameter) = ("PPME_SYSCALL_CHDIR_X", "path");
    let chdir = |write: fn(&mut EventWriter<'_>)| refused(&table::CHDIR_X, write);
    let error = chdir(|writer| {
        writer.errno(0);
    });
    assert_eq!(error, EncodeError::TooFew { event, wanted: 2, given: 1 });
    let error = chdir(|writer| {
        writer.errno(0).empty().empty();
    });
    assert_eq!(error, EncodeError::TooMany { event, wanted: 2 });
    let error = chdir(|writer| {
        writer.errno(0).path(Text::exact(b"/"));
    });
    let (wanted, given) = (ParamType::CharBuf, ParamType::FsPath);
    assert_eq!(error, EncodeError::WrongType { event, parameter, wanted, given });
    let error = chdir(|writer| {
        writer.empty().empty();
    });
    assert_eq!(error, EncodeError::Empty { event, parameter: "res" });
    let error = chdir(|writer| {
        writer.errno(0).string(Text::exact(b"a\0b"));
    });
    assert_eq!(error, EncodeError::InnerNul { event, parameter });
    let long = [b'x'; TEXT_BYTES_MAX];
    let error = refused(&table::CHDIR_X, |writer| {
        writer.errno(0).string(Text::exact(&long));
    });
    assert_eq!(error, EncodeError::TooLong { event, parameter, len: 4097, max: 4096 });
    assert_eq!(error.to_string(), "PPME_SYSCALL_CHDIR_X.path has 4097 bytes, and 4096 are allowed");
}

#[test]
fn exe_and_args_share_one_bound_and_a_group_is_empty_as_a_whole() {
    let args = [b'x'; TEXT_BYTES_MAX - 1];
    let error = refused(&table::CLONE_20_X, |writer| {
        writer.pid(0).string(Text::exact(b"sh")).bytes(&args);
    });
    assert!(matches!(error, EncodeError::TooLong { parameter: "args", max: 4093, .. }), "{error}");
    let event = "PPME_SYSCALL_OPEN_X";
    let error = refused(&table::OPEN_X, |writer| {
        writer.fd(3).path(Text::exact(b"/")).flags32(1).uint32(0).uint32(7).empty();
    });
    assert_eq!(error, EncodeError::Group { event });
}

#[test]
fn an_event_that_does_not_fit_is_refused_and_the_batch_does_not_grow() {
    let mut batch = Batch::with_capacity(0);
    let path = [b'x'; TEXT_BYTES_MAX - 1];
    let capacity = batch.bytes.capacity();
    let mut written = 0;
    let error = loop {
        match batch.event(&table::CHDIR_X, 1, 2).errno(0).string(Text::exact(&path)).finish() {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, EncodeError::NoRoom { event: "PPME_SYSCALL_CHDIR_X" });
    let fitting = limits::TRANSLATION_BYTES_MAX / (EVENT_HEADER_BYTES + 4 + 8 + TEXT_BYTES_MAX);
    assert_eq!((written, batch.events().count(), batch.bytes.capacity()), (fitting, fitting, capacity));
    assert!(batch.is_full());
    batch.clear();
    assert!(batch.is_empty());
}

#[test]
fn a_thread_is_never_told_as_its_own_reaper() {
    for (reaper, told) in [(2, 0), (3, 3), (0, 0), (-1, -1)] {
        let mut batch = batch();
        let mut writer = batch.event(&table::PROCEXIT_1_E, 1, 2);
        writer.errno(0).errno(0).signal(0).uint8(0).pid(reaper).finish().unwrap();
        assert_eq!(checker::read(batch.as_bytes())[0].number("reaper_tid"), told);
    }
}

#[test]
fn a_value_of_many_types_is_one_of_those_of_its_call() {
    let (event, parameter) = ("PPME_SOCKET_GETSOCKOPT_X", "val");
    let error = refused(&table::GETSOCKOPT_X, |writer| {
        writer.errno(0).fd(3).choice8(1).choice8(4).dynamic(DynValue::PtraceSignal(9));
    });
    let (wanted, given) = (ParamType::DynOption, ParamType::DynPtrace);
    assert_eq!(error, EncodeError::WrongType { event, parameter, wanted, given });
    let values = [
        DynValue::OptionErrno(-111),
        DynValue::OptionUint32(7),
        DynValue::OptionUint64(8),
        DynValue::OptionTime(9),
    ];
    let mut batch = batch();
    for value in values {
        let mut writer = batch.event(&table::GETSOCKOPT_X, 1, 2);
        writer.errno(0).fd(3).choice8(1).choice8(4).dynamic(value).uint32(4).finish().unwrap();
    }
    let read = checker::read(batch.as_bytes());
    assert_eq!(read.iter().map(|event| event.param("val").len()).collect::<Vec<_>>(), [9, 5, 9, 9]);
}

#[test]
fn a_finished_event_takes_nothing_more() {
    let mut batch = batch();
    let mut writer = batch.event(&table::SETSID_X, 1, 2);
    writer.pid(3).finish().unwrap();
    writer.pid(4);
    assert!(writer.finish().is_err());
    assert_eq!(checker::read(batch.as_bytes()).len(), 1);
}

#[test]
fn a_text_is_cut_at_its_first_nul_and_at_its_bound() {
    assert_eq!(Text::bounded(b"a\0b").to_vec(), b"a");
    assert_eq!(Text::bounded(&[b'x'; 5000]).to_vec().len(), 4095);
    assert_eq!(Text::under(b"/srv", b"x/../y\0z").to_vec(), b"/srv/x/../y");
    assert_eq!(Text::under(b"/", b"x").to_vec(), b"/x");
    assert_eq!(Text::under(&[b'/'; 5000], &[b'x'; 5000]).to_vec().len(), 4095);
}

/// A value for one parameter.
#[derive(Debug, Clone)]
struct Value {
    number: u64,
    text: Vec<u8>,
    is_empty: bool,
}

fn write_value(writer: &mut EventWriter<'_>, kind: ParamType, value: &Value) {
    let Value { number, text, is_empty } = value;
    let [low, .., high] = number.to_ne_bytes();
    let word = u32::from_ne_bytes(number.to_ne_bytes()[..4].try_into().unwrap());
    let short = u16::from_ne_bytes([low, high]);
    let signed = number.cast_signed();
    if *is_empty {
        writer.empty();
        return;
    }
    match kind {
        ParamType::Fd => writer.fd(signed),
        ParamType::Errno => writer.errno(signed),
        ParamType::Pid => writer.pid(signed),
        ParamType::Int32 => writer.int32(word.cast_signed()),
        ParamType::Int64 => writer.int64(signed),
        ParamType::Uint8 => writer.uint8(low),
        ParamType::Uint32 => writer.uint32(word),
        ParamType::Uint64 => writer.uint64(*number),
        ParamType::Uid => writer.uid(word),
        ParamType::Gid => writer.gid(word),
        ParamType::Mode => writer.mode(word),
        ParamType::AbsTime => writer.abs_time(*number),
        ParamType::SigType => writer.signal(low),
        ParamType::Flags16 => writer.flags16(short),
        ParamType::Flags32 => writer.flags32(word),
        ParamType::EnumFlags8 => writer.choice8(low),
        ParamType::EnumFlags16 => writer.choice16(short),
        ParamType::EnumFlags32 => writer.choice32(word),
        ParamType::CharBuf => writer.string(Text::exact(text)),
        ParamType::FsPath => writer.path(Text::exact(text)),
        ParamType::FsRelPath => writer.path_at(Text::exact(text)),
        ParamType::ByteBuf => writer.bytes(text),
        ParamType::SockAddr => writer.address(Some(PackedAddress::Unix(text))),
        ParamType::SockTuple => writer.tuple(Some(PackedTuple::Other(low))),
        ParamType::DynPtrace => writer.dynamic(DynValue::PtraceWord(*number)),
        ParamType::DynOption => writer.dynamic(DynValue::OptionUint32(word)),
    };
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z/]{0,9}",
        1 => Just("a\0b".to_owned()),
        1 => (4090..4200usize).prop_map(|len| "x".repeat(len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written, by the table or not: what the encoder accepts, an independent reader accepts as well.
    #[test]
    fn no_event_that_is_accepted_breaks_the_table(
        events in proptest::collection::vec(
            (
                0..ALL.len(),
                any::<(u64, i64)>(),
                proptest::collection::vec(
                    (
                        any::<u64>(),
                        any_text(),
                        proptest::bool::weighted(0.15),
                        proptest::option::weighted(0.02, 0..ALL.len()),
                    ),
                    31..=31,
                ),
                proptest::bool::weighted(0.1),
            ),
            1..8,
        ),
    ) {
        let mut batch = batch();
        let mut accepted = Vec::new();
        for (index, (ts, tid), values, is_short) in events {
            let info = ALL[index];
            let mut writer = batch.event(info, ts, tid);
            let count = info.params.len() - usize::from(is_short);
            for (param, (number, text, is_empty, other)) in info.params.iter().zip(values).take(count) {
                let kind = other.map_or(param.kind, |other| ALL[other].params[0].kind);
                write_value(&mut writer, kind, &Value { number, text: text.into_bytes(), is_empty });
            }
            if writer.finish().is_ok() {
                accepted.push((info, ts, tid));
            }
        }
        let read = checker::read(batch.as_bytes());
        let read: Vec<_> = read.iter().map(|event| (event.info, event.ts, event.tid)).collect();
        prop_assert_eq!(read, accepted);
    }
}
