//! Finds out who shows triage one path or address and the kernel another.
//!
//! Registers stay the tracee's here, and no copy can be put in their place. So a share of the calls that triage drops, drawn
//! at random, is followed to its result all the same, and what it has used is compared with what was read (`truth.rs`);
//! kept calls are followed anyway. Only what another thread or process can change is looked at in this way. A larger share is
//! looked at twice before it is let go: what changes while its thread stands still is somebody else's doing, whoever it is.
//! Who is found out is a *suspect* from then on, with all processes that it makes: each of its calls is followed, what is
//! told is what was used, and a call whose result does not show that says `changeable`.
//!
//! ```text
//! as read      a kept call is told, a drawn one is not
//! other        told as it was, with the flag `mismatch`; the process is a suspect
//! changing     seen by the second look: the same, whatever it has used; `changeable` if that is not known
//! unclear      a link or a rename may explain it: told, if a rule can match what was used, with the flag `changeable`;
//!              a process that showed something harmless is a suspect then
//! ```

use super::shared::Shared;
use crate::{
    abi::{self, ArgumentKind},
    counters::EngineCounters,
    engine::{
        Verdict,
        capture::{Copied, Reader},
        truth::{self, Captured, Truth},
    },
    event::{CaptureBuffer, RecordFlags},
    limits,
    ring::ProducerMemory,
    sys::{Pid, RemoteAddr, Tid, memory::read_remote, procfs, ptrace::Call, random::Draws},
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
    /// What it points to was seen to change.
    Changing,
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

/// How a call is looked at that triage drops by what the reader has read of it. Most are not.
pub(super) fn scrutiny_of_dropped<M: ProducerMemory>(
    shared: &Shared<M>,
    draws: &mut Draws,
    (tid, call): (Tid, &Call),
    reader: &Reader<'_>,
) -> Scrutiny {
    let has_suspects = shared.has_suspects();
    // One that was drawn, and began anew because it would have blocked, is not left to chance again.
    let is_drawn = truth::is_comparable(call)
        && (draws.is_drawn(shared.verify_share) || shared.blocking.times(tid) != 0);
    if has_suspects || is_drawn {
        let pid = process_of(tid);
        if has_suspects && shared.is_suspect(pid) {
            return Scrutiny::Suspect;
        }
        if is_drawn && is_changeable(shared, tid, pid, call) {
            return Scrutiny::Compared;
        }
    }
    let is_looked_at_twice = draws.is_drawn(second_look_share(shared.verify_share));
    if is_looked_at_twice && is_changing(tid, call, reader) { Scrutiny::Changing } else { Scrutiny::No }
}

/// One of so many dropped calls is looked at twice; 0 for none.
fn second_look_share(verify_share: u32) -> u32 {
    verify_share.div_ceil(limits::SECOND_LOOKS)
}

/// Whether what a standing thread's call points to is no longer what was read.
fn is_changing(tid: Tid, call: &Call, reader: &Reader<'_>) -> bool {
    let mut room = [0; limits::PATH_BYTES_MAX];
    reader.copied().any(|(argument, copied)| {
        let Copied::Bytes { bytes, has_nul } = copied else { return false };
        let Some(room) = room.get_mut(..bytes.len() + usize::from(has_nul)) else { return false };
        let address = call.arguments.get(usize::from(argument)).copied().unwrap_or(0);
        let is_as_read = read_remote(tid, RemoteAddr(address), room) == Ok(room.len())
            && room.strip_prefix(bytes).is_some_and(|rest| rest.iter().all(|&byte| byte == 0));
        !is_as_read
    })
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
    let mut found_out = |flags, captures| {
        counters.calls_mismatched += 1;
        shared.suspect(pid);
        Finding { is_recorded: true, flags, captures }
    };
    let truth = truth::compare((tid, pid), call, enter_ns, result, captures);
    match (truth, scrutiny) {
        (Truth::Other(used), _) | (Truth::Unclear(used), Scrutiny::Changing) => {
            found_out(RecordFlags::MISMATCH, Some(used))
        }
        (Truth::AsRead, Scrutiny::Changing) => found_out(RecordFlags::MISMATCH, None),
        (Truth::Unknown, Scrutiny::Changing) => {
            found_out(RecordFlags::MISMATCH.with(RecordFlags::CHANGEABLE), None)
        }
        (Truth::AsRead, _) => Finding::of(is_kept, RecordFlags::default()),
        (Truth::Unclear(_), _) if is_kept => Finding::of(true, RecordFlags::CHANGEABLE),
        (Truth::Unclear(used), _) => {
            let name = shared.book().name(tid);
            let matters = shared.wanted.judge(call, &mut Captured::new(call, &used, name)) == Verdict::Kept;
            if matters {
                shared.suspect(pid);
            }
            Finding { is_recorded: matters, flags: RecordFlags::CHANGEABLE, captures: Some(used) }
        }
        (Truth::Unknown, Scrutiny::Suspect) => Finding::of(true, RecordFlags::CHANGEABLE),
        (Truth::Unknown, _) => Finding::of(is_kept, RecordFlags::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        abi::{Abi, number},
        engine::capture::Seen,
        triage::CallMemory as _,
    };

    /// Whether a second look sees a change, after `change` has done something to the path of a call of this thread.
    fn is_seen(change: impl FnOnce(&mut [u8])) -> bool {
        let mut path = *b"/etc/passwd\0behind";
        let tid = Tid(nix::unistd::gettid().as_raw());
        let arguments = [0, path.as_ptr().addr() as u64, 0, 0, 0, 0];
        let call = Call { abi: Abi::NATIVE, nr: number(Abi::NATIVE, "openat").unwrap(), arguments };
        let mut seen = Seen::new();
        let mut reader = Reader::new(tid, &call, &mut seen);
        assert_eq!(reader.text(1), Some(&b"/etc/passwd"[..]));
        change(&mut path);
        // Else nobody would read what is written there.
        std::hint::black_box(&path);
        is_changing(tid, &call, &reader)
    }

    #[test]
    fn a_second_look_sees_what_has_changed_of_a_path_and_nothing_else() {
        assert!(!is_seen(|_| {}));
        assert!(!is_seen(|path| path[12] = b'B'));
        assert!(is_seen(|path| path[1] = b'E'));
        assert!(is_seen(|path| path[10] = b'D'));
        assert!(is_seen(|path| path[11] = b'/'));
        assert!(is_seen(|path| path[4] = 0));
    }

    #[test]
    fn a_share_of_the_calls_is_looked_at_twice_unless_none_is_compared() {
        let shares = [0, 1, 64, 65, u32::MAX].map(second_look_share);
        assert_eq!(shares, [0, 1, 2, 3, 1 << 27]);
    }
}
