//! Follows one call to its result: the thread is attached to for as long as that takes, by the thread of ours that
//! follows it, to which the kernel ties the attachment.
//!
//! ```text
//! soon:   SEIZE, INTERRUPT, let go  ->  the call returns early if it would block, the thread stops, its result is read
//! block:  SEIZE, INTERRUPT, "begin anew"  ->  it stops before the call; PTRACE_SYSCALL, to its entry and to its exit.
//!         In between it is notified again, and is let go by whoever hears of it
//! fork:   SEIZE, let go  ->  the event names the child; both stop
//! ```
//!
//! The first way is the cheap one. A call that would block is cut short by it and answers `-ERESTART*`, which the kernel
//! turns into a new start: then it is notified anew, and followed in the second way. That interrupts nothing, since the
//! call has not begun when its thread stops; so it serves for all calls to which an interruption could be shown. A fork
//! that is interrupted would never get done.

use super::shared::Shared;
use crate::{
    ring::ProducerMemory,
    sys::{
        Tid,
        notify::Notification,
        ptrace::{self, PtraceError, Resume, StopKind, Stopped, Waited, Watch},
    },
};

/// Where a followed call ended.
#[derive(Debug)]
pub(super) enum End {
    /// It returned; the thread stands still, and gets this signal (0 for none) when it is let go.
    Returned(Stopped, i64, i32),
    /// It started a program.
    Program(Stopped),
    /// It was cut short by us and begins anew: this was not the end of it.
    CutShort,
    /// The thread is gone.
    Gone,
}

/// The thread cannot be attached to.
#[derive(Debug)]
pub(super) struct Denied;

/// What the kernel answers itself for a call that is to begin anew: -ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND and
/// -ERESTART_RESTARTBLOCK (linux/errno.h).
const fn begins_anew(result: i64) -> bool {
    matches!(result, -514..=-512 | -516)
}

/// How an attached thread that stopped for this goes on when it is let go: the signal.
const fn signal_of(kind: StopKind) -> i32 {
    match kind {
        StopKind::Signal(signal) => signal,
        _ => 0,
    }
}

/// Whether the thread was there to be attached to. One that ends just now is refused as well, and no longer in the call.
fn is_there<M: ProducerMemory>(
    shared: &Shared<M>,
    notification: &Notification,
    attached: Result<(), PtraceError>,
) -> Result<bool, Denied> {
    match attached {
        Ok(()) => Ok(true),
        Err(PtraceError::Gone { .. } | PtraceError::Stale { .. }) => Ok(false),
        Err(PtraceError::Refused { .. }) if !shared.listener.is_waiting(notification.id) => Ok(false),
        Err(PtraceError::Refused { .. }) => Err(Denied),
    }
}

/// Attaches to the thread and lets it go into the call, to stop when that has ended. `watch` is [`Watch::Result`] or
/// [`Watch::Exec`].
pub(super) fn follow<M: ProducerMemory>(
    shared: &Shared<M>,
    notification: &Notification,
    watch: Watch,
) -> Result<End, Denied> {
    let tid = notification.tid;
    if !is_there(shared, notification, ptrace::seize_for(tid, watch).and_then(|()| ptrace::interrupt(tid)))? {
        return Ok(End::Gone);
    }
    shared.listener.let_go(notification.id);
    let Some((stop, kind)) = wait_patiently(shared, tid) else { return Ok(End::Gone) };
    if kind == StopKind::Exec {
        return Ok(End::Program(stop));
    }
    match stop.last_call() {
        // Cut short by us, and nobody else: it begins anew.
        Ok((_, result)) if begins_anew(result) && kind == StopKind::Trap => {
            shared.blocking.add(tid);
            let _ = stop.detach(0);
            Ok(End::CutShort)
        }
        Ok((_, result)) => Ok(End::Returned(stop, result, signal_of(kind))),
        Err(_) => Ok(End::Gone),
    }
}

/// Attaches to the thread before the call and follows it through, however long that takes.
pub(super) fn follow_through<M: ProducerMemory>(
    shared: &Shared<M>,
    notification: &Notification,
) -> Result<End, Denied> {
    let tid = notification.tid;
    if !is_there(
        shared,
        notification,
        ptrace::seize_for(tid, Watch::Result).and_then(|()| ptrace::interrupt(tid)),
    )? {
        return Ok(End::Gone);
    }
    shared.listener.stop_before(notification.id);
    let Some((stop, kind)) = wait_patiently(shared, tid) else { return Ok(End::Gone) };
    if kind != StopKind::Trap {
        // A signal or a group-stop comes first. The call begins anew after it, and is notified anew.
        shared.false_starts.add(tid);
        let _ = stop.detach(signal_of(kind));
        return Ok(End::CutShort);
    }
    shared.restarting.add(tid);
    let end = run_through(shared, tid, stop);
    shared.restarting.remove(tid);
    if !matches!(end, Some((_, StopKind::Signal(_) | StopKind::Group(_)))) {
        shared.false_starts.remove(tid);
    }
    Ok(match end {
        // Interrupted by a signal it has -ERESTARTSYS here: whether it begins anew, the kernel knows.
        Some((stop, StopKind::SyscallExit)) => match stop.call_result() {
            Ok(result) => End::Returned(stop, result, 0),
            Err(_) => End::Gone,
        },
        Some((stop, kind)) => {
            shared.false_starts.add(tid);
            let _ = stop.detach(signal_of(kind));
            End::CutShort
        }
        None => End::Gone,
    })
}

/// Lets a thread that stands before its call go through it, to the stop at its exit or to any other that comes first.
///
/// A signal that came since the call was made must interrupt the call, not come before it: up to the entry of the call
/// all are blocked.
fn run_through<M: ProducerMemory>(
    shared: &Shared<M>,
    tid: Tid,
    stop: Stopped,
) -> Option<(Stopped, StopKind)> {
    let mask = stop.replace_signal_mask(u64::MAX).ok()?;
    stop.resume(Resume::ToExit, 0).ok()?;
    let (stop, kind) = wait_patiently(shared, tid)?;
    stop.replace_signal_mask(mask).ok()?;
    if kind != StopKind::SyscallExit || !stop.is_at_entry().ok()? {
        return Some((stop, kind));
    }
    stop.resume(Resume::ToExit, 0).ok()?;
    wait_patiently(shared, tid)
}

/// A fork, and how it ended.
#[derive(Debug)]
pub(super) enum Fork {
    /// Both stand still; the child only if it is not gone already.
    Made { parent: Stopped, child: Tid, child_stop: Option<Stopped> },
    /// It failed, or begins anew after a signal, which the thread gets when it is let go.
    Failed(Stopped, i32),
    /// The thread is gone.
    Gone,
}

/// Attaches to a thread and lets it make a process. Gives also a call that the caller has to look at instead of others.
pub(super) fn follow_fork<M: ProducerMemory>(
    shared: &Shared<M>,
    notification: &Notification,
) -> Result<(Fork, Option<Notification>), Denied> {
    let tid = notification.tid;
    if !is_there(shared, notification, ptrace::seize_for(tid, Watch::Fork))? {
        return Ok((Fork::Gone, None));
    }
    shared.forks.begin(tid);
    shared.listener.let_go(notification.id);
    let fork = await_fork(shared, tid);
    Ok((fork, shared.forks.end(tid)))
}

fn await_fork<M: ProducerMemory>(shared: &Shared<M>, tid: Tid) -> Fork {
    let mut parent: Option<(Stopped, Tid)> = None;
    let mut others: Vec<(Tid, Option<Stopped>)> = Vec::new();
    loop {
        match ptrace::wait_attached() {
            Ok(Some(Waited::Stopped(stop, kind))) if stop.tid() == tid => {
                if kind != StopKind::Created {
                    return Fork::Failed(stop, signal_of(kind));
                }
                match stop.event_message() {
                    Ok(child) => parent = Some((stop, child)),
                    Err(_) => return Fork::Gone,
                }
            }
            Ok(Some(Waited::Stopped(stop, _))) => others.push((stop.tid(), Some(stop))),
            Ok(Some(Waited::Ended(ended, status))) => {
                shared.note_end(ended, status);
                if ended == tid {
                    return Fork::Gone;
                }
                others.push((ended, None));
            }
            Ok(Some(Waited::NoTracees)) => return Fork::Gone,
            // We are watched, and it takes too long, or there is a next call: the fork has failed without a word. Or
            // another thread has started a program and taken its id, of which nobody tells us while a child of it is ours.
            Ok(None) if parent.is_none() => {
                if ptrace::interrupt(tid).is_err() {
                    return Fork::Gone;
                }
                if let Some(next) = shared.forks.take_next(tid) {
                    shared.listener.stop_before(next.id);
                }
            }
            Ok(None) => {}
            Err(_) => return Fork::Gone,
        }
        if let Some((_, child)) = &parent
            && let Some(at) = others.iter().position(|(other, _)| other == child)
            && let Some((parent, child)) = parent.take()
        {
            let (_, child_stop) = others.swap_remove(at);
            return Fork::Made { parent, child, child_stop };
        }
    }
}

/// Waits until the thread stops, whatever signals come; `None` if it is gone.
fn wait_patiently<M: ProducerMemory>(shared: &Shared<M>, tid: Tid) -> Option<(Stopped, StopKind)> {
    loop {
        match ptrace::wait_attached().ok()? {
            // A thread that starts a program takes the id of its leader.
            Some(Waited::Stopped(stop, StopKind::Exec)) => return Some((stop, StopKind::Exec)),
            Some(Waited::Stopped(stop, kind)) if stop.tid() == tid => return Some((stop, kind)),
            Some(Waited::Ended(ended, status)) => {
                shared.note_end(ended, status);
                if ended == tid {
                    return None;
                }
            }
            Some(Waited::NoTracees) => return None,
            Some(Waited::Stopped(..)) | None => {}
        }
    }
}
