//! Every event of the table: one boundary value at a time, all of one kind at once, and mixtures.

use creance::falco::{
    EncodeError,
    table::{self, Emptiness, EventInfo},
};

use crate::{
    Result,
    random::Random,
    tape::{Birth, Tape},
    values::{
        DEAD, FILE_FD, FIRST, PARENT, SECOND, SOCKET_FD, STRANGER, Value, boundaries, ordinary, shared_bytes,
        write,
    },
};

/// Mixtures of boundary values of each event.
const MIXTURES: usize = 12;

/// Events after which the threads are made anew, so that those behind them find what they are about. Events that change
/// threads need it sooner.
const EVENTS_FRESH_MAX: usize = 32;
/// See [`EVENTS_FRESH_MAX`].
const CHANGES_FRESH_MAX: usize = 8;

/// The error numbers that have names (errno(3)) are below, and so are those that never leave the kernel
/// (linux/errno.h).
const ERRNO_MAX: i64 = 535;

/// An event that libsinsp 0.23 does not know, and would crash on. The translator never tells it.
const UNKNOWN_TO_OLDER: &EventInfo = &table::CLOSE_RANGE_X;

/// A value for each parameter of an event.
type Case = Vec<Value>;

pub(crate) fn every_event_at_its_boundaries(tape: &mut Tape) -> Result<()> {
    let mut random = Random::new(0x5eed);
    for &event in table::ALL.iter().filter(|event| **event != UNKNOWN_TO_OLDER) {
        one_event(tape, event, &mut random)?;
    }
    make_threads(tape)?;
    for error in 1..=ERRNO_MAX {
        tape.tell(&table::CLOSE_X, FIRST, |writer| {
            writer.errno(-error).fd(SOCKET_FD);
        })?;
    }
    for ts_ns in [0, 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        tape.tell_at(ts_ns, &table::SETSID_X, FIRST, |writer| {
            writer.pid(FIRST);
        })?;
    }
    Ok(())
}

fn one_event(tape: &mut Tape, event: &'static EventInfo, random: &mut Random) -> Result<()> {
    let fresh = if changes_threads(event) { CHANGES_FRESH_MAX } else { EVENTS_FRESH_MAX };
    for (number, case) in cases(event, random).iter().enumerate() {
        if number.is_multiple_of(fresh) {
            make_threads(tape)?;
        }
        tell(tape, event, FIRST, case)?;
    }
    let usual: Case = event.params.iter().map(ordinary).collect();
    for tid in [SECOND, DEAD, STRANGER, PARENT, 0, -1, 1, i64::from(i32::MAX), i64::MAX, i64::MIN] {
        tell(tape, event, tid, &usual)?;
    }
    Ok(())
}

fn cases(event: &EventInfo, random: &mut Random) -> Vec<Case> {
    let usual: Case = event.params.iter().map(ordinary).collect();
    let choices: Vec<Vec<Value>> = event.params.iter().map(boundaries).collect();
    let mut cases = vec![usual.clone()];
    for (index, values) in choices.iter().enumerate() {
        cases.extend(values.iter().map(|value| with(&usual, index, value)));
    }
    cases.extend((1..8).map(|group| without(event, &usual, Emptiness::Group(group))));
    cases.push(choices.iter().filter_map(|values| values.first().cloned()).collect());
    cases.push(choices.iter().filter_map(|values| values.last().cloned()).collect());
    for _ in 0..MIXTURES {
        let mut pair = usual.clone();
        for _ in 0..2 {
            let index = random.below(choices.len());
            if let Some(value) = choices.get(index).and_then(|values| random.pick(values)) {
                pair = with(&pair, index, value);
            }
        }
        cases.push(pair);
        cases.push(choices.iter().filter_map(|values| random.pick(values).cloned()).collect());
    }
    cases
}

fn with(case: &[Value], index: usize, value: &Value) -> Case {
    let one = |(at, old): (usize, &Value)| if at == index { value.clone() } else { old.clone() };
    case.iter().enumerate().map(one).collect()
}

/// The same with a whole group of parameters empty.
fn without(event: &EventInfo, case: &[Value], group: Emptiness) -> Case {
    let parameters = event.params.iter().zip(case);
    parameters.map(|(param, old)| if param.emptiness == group { Value::Empty } else { old.clone() }).collect()
}

fn tell(
    tape: &mut Tape,
    event: &'static EventInfo,
    tid: i64,
    case: &[Value],
) -> std::result::Result<(), EncodeError> {
    tape.tell(event, tid, |writer| {
        let mut shared = 0;
        for (param, value) in event.params.iter().zip(case) {
            write(writer, param, value, shared);
            shared = shared_bytes(value);
        }
    })
}

const fn changes_threads(event: &EventInfo) -> bool {
    matches!(event.code, 186 | 223 | 225 | 227 | 293 | 331 | 335)
}

/// A parent, its child with two threads, a socket and a file, and a process that has ended.
fn make_threads(tape: &mut Tape) -> std::result::Result<(), EncodeError> {
    tape.wait_for_new_threads();
    tape.born(Birth::process(PARENT, 0))?;
    tape.born(Birth::process(FIRST, PARENT))?;
    tape.born(Birth::thread(SECOND, FIRST, PARENT))?;
    tape.born(Birth::process(DEAD, FIRST))?;
    tape.exec(FIRST, FIRST, PARENT, b"sh")?;
    tape.socket(FIRST, SOCKET_FD, 2, 1)?;
    tape.open(FIRST, FILE_FD, b"/srv/file")?;
    tape.exit(DEAD, 0)
}
