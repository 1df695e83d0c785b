//! What the translator makes of records that no honest engine writes, but that the format allows.

use std::{fs, path::Path};

use creance::{
    abi::{Abi, SyscallNr, X32_SYSCALL_BIT},
    event::{
        CaptureBuffer, CaptureFlags, CaptureKind, HEADER_BYTES, Record, RecordHeader, RecordKind,
        write_record,
    },
    falco::{Batch, Snapshot, Translator},
    limits,
};

use crate::{Result, random::Random, tape::Tape};

/// Records that look random.
const RECORDS: usize = 10_000;

/// Records after which the tracer dies, and another one begins, which tells first what processes there are.
const TRACER_RECORDS: usize = 1_000;

/// Records of a tracer that are in the ring when the consumer connects.
const BACKLOG_RECORDS: usize = 100;

/// Records before and after the moment at which a consumer starts anew.
const SNAPSHOT_RECORDS: usize = 1_000;

/// The first of the few threads that all records are about, so that they meet.
const FIRST_TID: u32 = 90_000;
/// How many they are.
const TIDS: usize = 12;

/// Ids of different tracers are that far apart.
const ID_OFFSET_SHIFT: u32 = 23;

/// When most records were made, and when what has no time of its own happens.
const NOW_NS: u64 = 1_700_000_000_000_000_000;
const END_NS: u64 = NOW_NS + 1;

/// System call numbers that are tried: all of today's, and some more.
const NUMBERS: usize = 480;

pub(crate) fn translations_of_hostile_records(tape: &mut Tape) -> Result<()> {
    let mut random = Random::new(0xbad);
    for number in 0..RECORDS / TRACER_RECORDS {
        // Each has a PID namespace of its own: libsinsp is not told of the end of what no tracer traced.
        let id_offset = u64::try_from(number)? << ID_OFFSET_SHIFT;
        let mut translator = hostile_tracer(&mut random)?.with_id_offset(id_offset);
        for _ in 0..BACKLOG_RECORDS {
            translate(&mut translator, &hostile_record(&mut random)?, tape)?;
        }
        let caught_up = translator.caught_up();
        fill(caught_up, &mut translator, tape);
        for _ in BACKLOG_RECORDS..TRACER_RECORDS {
            translate(&mut translator, &hostile_record(&mut random)?, tape)?;
        }
        let mut is_done = false;
        while !is_done {
            tape.take(|batch| is_done = translator.end_all(END_NS, batch));
        }
        check(&translator)?;
    }
    let mut translator = Translator::new().with_id_offset(1 << (2 * ID_OFFSET_SHIFT));
    seeds(&mut translator, tape)?;
    check(&translator)
}

/// What a consumer is told that starts anew amidst hostile records.
pub(crate) fn snapshots_of_hostile_records(tape: &mut Tape) -> Result<()> {
    let mut random = Random::new(0xc0de);
    let mut translator = hostile_tracer(&mut random)?;
    let mut unheard = Tape::new();
    for _ in 0..SNAPSHOT_RECORDS {
        translate(&mut translator, &hostile_record(&mut random)?, &mut unheard)?;
    }
    let snapshot = translator.snapshot();
    fill(snapshot, &mut translator, tape);
    for _ in 0..SNAPSHOT_RECORDS {
        translate(&mut translator, &hostile_record(&mut random)?, tape)?;
    }
    check(&translator)
}

/// A translator that a hostile tracer has told of the processes that there are.
fn hostile_tracer(random: &mut Random) -> Result<Translator> {
    let mut translator = Translator::new();
    translator.learn_outsider(FIRST_TID, b"\xff\n%s");
    for _ in 0..random.below(TIDS) {
        let record = hostile_record_of(RecordKind::Process, random)?;
        translator.preload(&Record::parse(&record)?);
    }
    Ok(translator)
}

fn fill(mut snapshot: Snapshot, translator: &mut Translator, tape: &mut Tape) {
    let mut is_done = false;
    while !is_done {
        tape.take(|batch| is_done = snapshot.fill(translator, END_NS, batch));
    }
}

fn check(translator: &Translator) -> Result<()> {
    match translator.last_error() {
        Some(error) => Err(format!("the encoder refused {}: {error}", translator.events_refused()).into()),
        None => Ok(()),
    }
}

fn translate(translator: &mut Translator, record: &[u8], tape: &mut Tape) -> Result<()> {
    let record = Record::parse(record)?;
    tape.take(|batch: &mut Batch| translator.translate(&record, batch));
    Ok(())
}

/// The seeds of the fuzz target `record_decode`: each holds records behind their lengths.
fn seeds(translator: &mut Translator, tape: &mut Tape) -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/record_decode");
    let mut paths: Vec<_> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort_unstable();
    for path in paths {
        let bytes = fs::read(path)?;
        let mut rest = bytes.as_slice();
        while let Some((len, after)) = rest.split_first_chunk() {
            let (record, after) =
                after.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or("a seed is cut short")?;
            translate(translator, record, tape)?;
            rest = after;
        }
    }
    Ok(())
}

fn hostile_record(random: &mut Random) -> Result<Vec<u8>> {
    const KINDS: [RecordKind; 10] = [
        RecordKind::Syscall,
        RecordKind::Syscall,
        RecordKind::Syscall,
        RecordKind::Syscall,
        RecordKind::Syscall,
        RecordKind::Clone,
        RecordKind::Exec,
        RecordKind::Exit,
        RecordKind::Loss,
        RecordKind::Process,
    ];
    hostile_record_of(*random.pick(&KINDS).unwrap_or(&RecordKind::Syscall), random)
}

fn hostile_record_of(kind: RecordKind, random: &mut Random) -> Result<Vec<u8>> {
    const ABIS: [Abi; 8] =
        [Abi::X86_64, Abi::X86_64, Abi::X86_64, Abi::X86_64, Abi::X32, Abi::I386, Abi::Aarch64, Abi::Other];
    let abi = *random.pick(&ABIS).unwrap_or(&Abi::Other);
    let number = u32::try_from(random.below(NUMBERS))? | if abi == Abi::X32 { X32_SYSCALL_BIT } else { 0 };
    let mut header = RecordHeader {
        sequence: random.word(),
        enter_ns: random.word(),
        exit_ns: time(random),
        tid: tid(random)?,
        pid: tid(random)?,
        flags: u32::try_from(random.below(64))?,
        abi: abi.code(),
        number: SyscallNr(number),
        result: result(random)?,
        arguments: [(); 6].map(|()| word(random)),
        ..RecordHeader::new(kind, 0)
    };
    if kind == RecordKind::Clone {
        // libsinsp gives out no event of a process with its own number. It has a low one, so no child gets such.
        let [clone_flags, _, rest @ ..] = header.arguments;
        header.result = i64::from(tid(random)?);
        let [a, b, c, d] = rest;
        header.arguments = [clone_flags, u64::from(tid(random)?), a, b, c, d];
    }
    let mut buffer = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
    if kind == RecordKind::Process {
        // Whether an exec or a clone was lost.
        header.arguments = [random.word() % 4, 0, 0, 0, 0, 0];
        for kind in [CaptureKind::ProcStatus, CaptureKind::ProcStat, CaptureKind::ProcCmdline] {
            buffer.push(kind, 0, CaptureFlags::default(), &data(kind, random)?)?;
        }
    }
    for _ in 0..random.below(10) {
        let kind = *random.pick(CaptureKind::ALL).unwrap_or(&CaptureKind::Path);
        let argument = u8::try_from(random.below(6))?;
        let flags = CaptureFlags(u8::try_from(random.below(16) / 15)?);
        buffer.push(kind, argument, flags, &data(kind, random)?)?;
    }
    let mut bytes = vec![0; HEADER_BYTES + buffer.as_bytes().len()];
    write_record(&mut bytes, &header, &buffer)?;
    Ok(bytes)
}

/// Mostly a time that goes on, now and then any time.
fn time(random: &mut Random) -> u64 {
    match random.below(64) {
        0 => random.word(),
        1 => 0,
        2 => u64::MAX,
        _ => NOW_NS,
    }
}

fn tid(random: &mut Random) -> Result<u32> {
    let near = FIRST_TID + u32::try_from(random.below(TIDS))?;
    let far = [0, 1, u32::MAX, 1 << 31];
    Ok(if random.below(16) == 0 { *random.pick(&far).unwrap_or(&0) } else { near })
}

fn result(random: &mut Random) -> Result<i64> {
    let small = i64::try_from(random.below(12))?;
    Ok(match random.below(8) {
        0 => random.word().cast_signed(),
        1 => -i64::try_from(random.below(4100))?,
        2 => i64::from(tid(random)?),
        3 => -115,
        _ => small,
    })
}

fn word(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.word(),
        1 => 0xffff_ff9c,
        2 => u64::MAX,
        3 => u64::from(FIRST_TID) + random.word() % 12,
        4 => random.word() & random.word() & random.word(),
        _ => random.word() % 16,
    }
}

/// Data that a capture of this kind may have, mostly with some sense, so that they get far.
fn data(kind: CaptureKind, random: &mut Random) -> Result<Vec<u8>> {
    const PATHS: [&[u8]; 8] =
        [b"/etc/shadow", b"x", b"", b"../..", b"/memfd:x (deleted)", b"socket:[7]", b"\xff\n%s", b"/"];
    if random.below(8) == 0 {
        let len = *random.pick(&[0, 1, 7, 300, 4095, 4096]).unwrap_or(&0);
        return Ok(random.bytes(len));
    }
    let path = random.pick(&PATHS).map_or(&b""[..], |path| path);
    Ok(match kind {
        CaptureKind::Sockaddr | CaptureKind::SocketLocal | CaptureKind::SocketPeer => address(random)?,
        CaptureKind::SocketInfo => [2, 1, 6].map(u32::to_ne_bytes).concat(),
        CaptureKind::Argv | CaptureKind::Environ | CaptureKind::ProcCmdline | CaptureKind::ProcEnviron => {
            b"a\0b=c\0\0".repeat(random.below(500))
        }
        CaptureKind::ProcStatus => status(random)?,
        CaptureKind::ProcStat => {
            let [parent, pgid, session] = [tid(random)?, tid(random)?, tid(random)?];
            let start_ticks = random.below(4);
            let rest = format!("-1 0 0 1 2 3 4 0 0 0 0 20 0 1 0 {start_ticks} 0");
            format!("7 (a) b) S {parent} {pgid} {session} {rest}").into_bytes()
        }
        CaptureKind::ProcCgroup => [b"0::/", path, b"\n5:cpu,cpuacct:/", path, b"\n"].concat(),
        CaptureKind::ProcLoginuid => b"4294967295".to_vec(),
        _ => path.repeat(*random.pick(&[1, 1, 1, 1, 1, 1, 300]).unwrap_or(&1)),
    })
}

fn address(random: &mut Random) -> Result<Vec<u8>> {
    let family = *random.pick(&[1, 2, 10, 16, 17, 40, 0]).unwrap_or(&0);
    let len = *random.pick(&[0, 2, 6, 14, 26, 108, 126]).unwrap_or(&0);
    let mut bytes = u16::try_from(family)?.to_ne_bytes().to_vec();
    bytes.extend(if random.below(3) == 0 { vec![0; len] } else { random.bytes(len) });
    if family == 1 && random.below(2) == 0 {
        bytes.extend_from_slice(b"/run/sock");
    }
    Ok(bytes)
}

fn status(random: &mut Random) -> Result<Vec<u8>> {
    let names = ["sh", "", "a\\nb", "a b", "averyveryverylongname"];
    Ok(format!(
        "Name:\t{}\nPPid:\t{}\nTracerPid:\t{}\nUid:\t0\t{}\t0\t0\nGid:\t0\t{}\t0\t0\nNSpid:\t{}\t{}\nNSpgid:\t1\t{}\n\
         VmSize:\t1 kB\nVmRSS:\t4294967295 kB\nVmSwap:\t0 kB\nCapInh:\t0\nCapPrm:\tffffffffffffffff\nCapEff:\t{:x}\n",
        random.pick(&names).unwrap_or(&""),
        tid(random)?,
        random.below(2),
        tid(random)?,
        tid(random)?,
        tid(random)?,
        result(random)?,
        result(random)?,
        random.word(),
    )
    .into_bytes())
}
