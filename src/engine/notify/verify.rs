//! Finds out who shows triage one path or address and the kernel another.
//!
//! Registers stay the tracee's here, and no copy can be put in their place. So a share of the calls that triage drops, drawn
//! at random, is followed to its result all the same, and what it has used is compared with what was read (`truth.rs`);
//! kept calls are followed anyway. Only what another thread or process can change is looked at in this way. Who is found out
//! is a *suspect* from then on, with all processes that it makes: each of its calls is followed, what is told is what was
//! used, and a call whose result does not show that says `changeable`.
//!
//! ```text
//! as read      a kept call is told, a drawn one is not
//! other        told as it was, with the flag `mismatch`; the process is a suspect
//! unclear      a link or a rename may explain it: told, if a rule can match what was used, with the flag `changeable`;
//!              a process that showed something harmless is a suspect then
//! ```

use super::shared::Shared;
use crate::{
    abi::{self, ArgumentKind},
    counters::EngineCounters,
    engine::{
        Verdict,
        truth::{self, Captured, Truth},
    },
    event::{CaptureBuffer, RecordFlags},
    ring::ProducerMemory,
    sys::{Pid, RemoteAddr, Tid, procfs, ptrace::Call, random::Draws},
};

/// How a call is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scrutiny {
    /// Nobody else could have changed what was read.
    No,
    /// Somebody could, and what it has used is compared.
    Compared,
    /// It is one of a suspect.
    Suspect,
}

/// What is written of a call that was followed.
#[derive(Debug)]
pub(super) struct Finding {
    /// Whether it has a record.
    pub(super) is_recorded: bool,
    /// What its record says besides.
    pub(super) flags: RecordFlags,
    /// What it has used, in the place of what was read.
    pub(super) captures: Option<CaptureBuffer>,
}

impl Finding {
    const fn of(is_recorded: bool, flags: RecordFlags) -> Self {
        Self { is_recorded, flags, captures: None }
    }
}

/// How a call is looked at that triage drops. Most are not.
pub(super) fn scrutiny_of_dropped<M: ProducerMemory>(
    shared: &Shared<M>,
    draws: &mut Draws,
    tid: Tid,
    call: &Call,
) -> Scrutiny {
    let has_suspects = shared.has_suspects();
    // One that was drawn, and began anew because it would have blocked, is not left to chance again.
    let is_drawn = truth::is_comparable(call)
        && (draws.is_drawn(shared.verify_share) || shared.blocking.times(tid) != 0);
    if !has_suspects && !is_drawn {
        return Scrutiny::No;
    }
    let pid = process_of(tid);
    if has_suspects && shared.is_suspect(pid) {
        return Scrutiny::Suspect;
    }
    if is_drawn && is_changeable(shared, tid, pid, call) { Scrutiny::Compared } else { Scrutiny::No }
}

/// How a call is looked at that is kept.
pub(super) fn scrutiny_of_kept<M: ProducerMemory>(
    shared: &Shared<M>,
    draws: &mut Draws,
    (tid, pid): (Tid, Pid),
    call: &Call,
) -> Scrutiny {
    if shared.is_suspect(pid) {
        return Scrutiny::Suspect;
    }
    let is_compared = shared.verify_share != 0 && truth::is_comparable(call);
    let is_seen = || procfs::has_other_threads(tid) || shared.book().shares_memory(pid);
    // To look at its maps takes longer than the call.
    let is_found =
        |draws: &mut Draws| draws.is_drawn(shared.verify_share) && is_changeable(shared, tid, pid, call);
    if is_compared && (is_seen() || is_found(draws)) { Scrutiny::Compared } else { Scrutiny::No }
}

fn process_of(tid: Tid) -> Pid {
    procfs::relations(tid).map_or(Pid(tid.0), |relations| relations.process)
}

/// Whether somebody else can change what a call points to.
fn is_changeable<M: ProducerMemory>(shared: &Shared<M>, tid: Tid, pid: Pid, call: &Call) -> bool {
    procfs::has_other_threads(tid)
        || shared.book().shares_memory(pid)
        || pointers(call).any(|address| procfs::is_open_to_others(tid, address))
}

/// Whether somebody else can change the block of arguments that lies there.
pub(super) fn is_block_changeable<M: ProducerMemory>(
    shared: &Shared<M>,
    tid: Tid,
    block: RemoteAddr,
) -> bool {
    procfs::has_other_threads(tid)
        || shared.book().shares_memory(process_of(tid))
        || procfs::is_open_to_others(tid, block)
}

/// Where the paths and addresses of a call are.
fn pointers(call: &Call) -> impl Iterator<Item = RemoteAddr> {
    let arguments = abi::signature_of(call.abi, call.nr).map_or(&[][..], |signature| signature.arguments);
    let is_meant = |kind| matches!(kind, ArgumentKind::Path | ArgumentKind::SockaddrIn { .. });
    let pairs = arguments.iter().zip(call.arguments);
    pairs.filter(move |(argument, _)| is_meant(argument.kind)).map(|(_, value)| RemoteAddr(value))
}

/// What was found of a call that has returned; its thread stands still.
pub(super) fn finding<M: ProducerMemory>(
    shared: &Shared<M>,
    (tid, pid): (Tid, Pid),
    (call, verdict): (&Call, Verdict),
    scrutiny: Scrutiny,
    (enter_ns, result): (u64, i64),
    (captures, counters): (&CaptureBuffer, &mut EngineCounters),
) -> Finding {
    let is_kept = verdict == Verdict::Kept;
    if scrutiny == Scrutiny::No {
        return Finding::of(is_kept, RecordFlags::default());
    }
    counters.calls_compared += 1;
    match truth::compare((tid, pid), call, enter_ns, result, captures) {
        Truth::AsRead => Finding::of(is_kept, RecordFlags::default()),
        Truth::Other(used) => {
            counters.calls_mismatched += 1;
            shared.suspect(pid);
            Finding { is_recorded: true, flags: RecordFlags::MISMATCH, captures: Some(used) }
        }
        Truth::Unclear(_) if is_kept => Finding::of(true, RecordFlags::CHANGEABLE),
        Truth::Unclear(used) => {
            let name = shared.book().name(tid);
            let matters = shared.wanted.judge(call, &mut Captured::new(call, &used, name)) == Verdict::Kept;
            if matters {
                shared.suspect(pid);
            }
            Finding { is_recorded: matters, flags: RecordFlags::CHANGEABLE, captures: Some(used) }
        }
        Truth::Unknown if scrutiny == Scrutiny::Suspect => Finding::of(true, RecordFlags::CHANGEABLE),
        Truth::Unknown => Finding::of(is_kept, RecordFlags::default()),
    }
}
