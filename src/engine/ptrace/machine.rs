//! The life of a tracee as a pure state machine: where it is and what it stopped for decide what is done next.
//! No kernel calls here; `mod.rs` carries the actions out.

use crate::sys::ptrace::{Resume, StopKind};

/// Where a known tracee is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not in a call that we wait for.
    Outside,
    /// In a trapped call whose result is wanted.
    Inside,
}

/// What to do with a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Keep the thread where it is until its creator has told of it: whoever reads the records must know a thread
    /// before it acts.
    Hold,
    /// Look at the trapped call, and let the thread go on into it.
    Enter,
    /// Take the result of the call, and record it.
    Finish,
    /// Record the thread or process that it made.
    Introduce(Resume),
    /// Record the program that it now runs.
    Program,
    /// Let it go on, with this signal (0 for none).
    Deliver(Resume, i32),
    /// Leave it in its group-stop.
    Listen,
}

/// Decides about a stop of a tracee, `None` being one that nobody has told of.
pub(super) const fn decide(phase: Option<Phase>, stop: StopKind) -> Action {
    let Some(phase) = phase else { return Action::Hold };
    // A call that is waited for must still stop at its return.
    let onward = match phase {
        Phase::Outside => Resume::Free,
        Phase::Inside => Resume::ToExit,
    };
    match (phase, stop) {
        (_, StopKind::Seccomp) => Action::Enter,
        (Phase::Inside, StopKind::SyscallExit) => Action::Finish,
        (Phase::Outside, StopKind::SyscallExit) => Action::Deliver(Resume::Free, 0),
        (_, StopKind::Created) => Action::Introduce(onward),
        (_, StopKind::Exec) => Action::Program,
        (_, StopKind::Signal(signal)) => Action::Deliver(onward, signal),
        (_, StopKind::Group(_)) => Action::Listen,
        (_, StopKind::Trap) => Action::Deliver(onward, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPS: [StopKind; 8] = [
        StopKind::Seccomp,
        StopKind::SyscallExit,
        StopKind::Created,
        StopKind::Exec,
        StopKind::Signal(libc::SIGSEGV),
        StopKind::Signal(64),
        StopKind::Group(libc::SIGTSTP),
        StopKind::Trap,
    ];

    #[test]
    fn an_unknown_thread_is_held_whatever_it_stops_for() {
        for stop in STOPS {
            assert_eq!(decide(None, stop), Action::Hold);
        }
    }

    #[test]
    fn a_thread_inside_a_call_never_goes_on_freely() {
        for stop in STOPS {
            let action = decide(Some(Phase::Inside), stop);
            let goes_free =
                matches!(action, Action::Deliver(Resume::Free, _) | Action::Introduce(Resume::Free));
            assert!(!goes_free, "{stop:?} leads to {action:?}");
        }
    }

    #[test]
    fn a_signal_is_delivered_unchanged() {
        for signal in 1..=64 {
            for phase in [Phase::Outside, Phase::Inside] {
                let action = decide(Some(phase), StopKind::Signal(signal));
                assert!(matches!(action, Action::Deliver(_, delivered) if delivered == signal), "{action:?}");
            }
        }
    }

    #[test]
    fn a_group_stop_lasts() {
        for phase in [Phase::Outside, Phase::Inside] {
            assert_eq!(decide(Some(phase), StopKind::Group(libc::SIGSTOP)), Action::Listen);
        }
    }
}
