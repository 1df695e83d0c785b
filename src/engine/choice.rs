//! Which engine watches a workload, and why: a pure function of what the machine permits and what was asked for.
//!
//! The notify engine is taken only where everything that it needs has been seen to work; ptrace wherever nothing that
//! it needs has been seen to fail. Read `advice.rs` for what each thing is needed for.

use std::fmt;

use super::advice::change;
use crate::sys::probe::{Answer, Probe, Probes};

/// What the notify engine cannot do without.
const NOTIFY_NEEDS: [Probe; 6] = [
    Probe::Filter,
    Probe::Listener,
    Probe::Notification,
    Probe::WaitKillable,
    Probe::Seize,
    Probe::MemfdSeals,
];

/// What the ptrace engine cannot do without.
const PTRACE_NEEDS: [Probe; 5] =
    [Probe::Filter, Probe::Seize, Probe::Trace, Probe::SyscallInfo, Probe::MemfdSeals];

/// What it cannot do without where every call stops because there is no filter.
const UNFILTERED_NEEDS: [Probe; 3] = [Probe::Seize, Probe::SyscallInfo, Probe::MemfdSeals];

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Seccomp notifications, with ptrace for single calls.
    Notify,
    /// ptrace(2) alone.
    Ptrace,
}

impl EngineKind {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Ptrace => "ptrace",
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    /// The engine; `None` for the one that changes nothing for the workload, if it is possible.
    pub engine: Option<EngineKind>,
    /// Every call is trapped and followed to its result, for which the notify engine would attach to its thread each time.
    pub is_audit: bool,
    /// No filter is put on the workload.
    pub is_unfiltered: bool,
    /// The workload may change its user: we run as root, or it may start setuid programs.
    pub may_change_user: bool,
}

/// What stands in the way of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The machine does not permit what it needs.
    Machine(Probe, Answer),
    /// Every call is to be trapped: see [`Requested::is_audit`].
    Audit,
    /// No filter is to be put on, and it is the filter that notifies: see [`Requested::is_unfiltered`].
    Unfiltered,
    /// A signal that comes before a worker has received a call cuts the call short in the kernel, which starts it again
    /// only if the signal's handler was set with `SA_RESTART`: else it fails with EINTR, as it never would natively.
    Signals,
    /// A process that changes its user is another's to trace then, without `CAP_SYS_PTRACE`. One that is attached to
    /// already stays so, but the notify engine attaches for one call.
    Users,
}

/// The engine that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub engine: EngineKind,
    /// Why.
    pub why: Why,
}

/// Why an engine is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It was asked for.
    Asked,
    /// Only this one attaches to what runs already.
    Attached,
    /// What speaks against the other one.
    Instead(Vec<Obstacle>),
}

/// An engine that is impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// Which: the one that was asked for, else the one that needs least.
    pub engine: EngineKind,
    /// What stands in its way.
    pub obstacles: Vec<Obstacle>,
}

/// Chooses.
///
/// # Errors
/// [`Unavailable`] if the engine that was asked for is impossible, or all are.
pub fn choose(probes: &Probes, requested: Requested) -> Result<Choice, Unavailable> {
    let in_the_way = |engine| match engine {
        EngineKind::Notify if requested.is_unfiltered => vec![Obstacle::Unfiltered],
        EngineKind::Notify if requested.is_audit => vec![Obstacle::Audit],
        EngineKind::Ptrace if requested.is_unfiltered => {
            missing(probes, &UNFILTERED_NEEDS, |answer| matches!(answer, Answer::No(_)))
        }
        EngineKind::Notify => missing(probes, &NOTIFY_NEEDS, |answer| answer != Answer::Yes),
        EngineKind::Ptrace => missing(probes, &PTRACE_NEEDS, |answer| matches!(answer, Answer::No(_))),
    };
    let take = |engine, why| match in_the_way(engine) {
        obstacles if obstacles.is_empty() => Ok(Choice { engine, why }),
        obstacles => Err(Unavailable { engine, obstacles }),
    };
    match requested.engine {
        Some(engine) => take(engine, Why::Asked),
        None => {
            let mut obstacles = in_the_way(EngineKind::Notify);
            if obstacles.is_empty() {
                let is_out_of_sight =
                    requested.may_change_user && probes.answer(Probe::CapSysPtrace) != Answer::Yes;
                obstacles.push(if is_out_of_sight { Obstacle::Users } else { Obstacle::Signals });
            }
            take(EngineKind::Ptrace, Why::Instead(obstacles))
                .or_else(|ptrace| take(EngineKind::Notify, Why::Instead(ptrace.obstacles)))
        }
    }
}

/// What of `needs` is missing. What was not tried is not told beside its cause.
fn missing(probes: &Probes, needs: &[Probe], is_missing: impl Fn(Answer) -> bool) -> Vec<Obstacle> {
    let answers = || needs.iter().map(|&probe| (probe, probes.answer(probe)));
    let has_cause = answers().any(|(_, answer)| matches!(answer, Answer::No(_)));
    answers()
        .filter(|&(_, answer)| is_missing(answer) && !(has_cause && answer == Answer::Untried))
        .map(|(probe, answer)| Obstacle::Machine(probe, answer))
        .collect()
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(probe, answer) => {
                let facts = probe.facts();
                write!(f, "no {}", facts.name)?;
                match (facts.since, answer) {
                    (Some(since), Answer::No(Some(errno))) => write!(f, " ({errno:?}; Linux {since})"),
                    (Some(since), _) => write!(f, " (Linux {since})"),
                    (None, Answer::No(Some(errno))) => write!(f, " ({errno:?})"),
                    (None, _) => Ok(()),
                }
            }
            Self::Audit => f.write_str("where every call is followed, a standing tracer is cheaper"),
            Self::Unfiltered => f.write_str("it is the filter that tells it of calls"),
            Self::Signals => f.write_str(
                "a signal whose handler has no SA_RESTART could fail a trapped call under it (EINTR)",
            ),
            Self::Users => f.write_str("without CAP_SYS_PTRACE it loses a process that changes its user"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.engine.name())?;
        match &self.why {
            Why::Asked => f.write_str("asked for"),
            Why::Attached => f.write_str("attached to what ran already"),
            Why::Instead(obstacles) => {
                let other = match self.engine {
                    EngineKind::Notify => EngineKind::Ptrace,
                    EngineKind::Ptrace => EngineKind::Notify,
                };
                write!(f, "not {}: ", other.name())?;
                listed(f, obstacles)
            }
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} engine is impossible here: ", self.engine.name())?;
        listed(f, &self.obstacles)?;
        // One piece of advice: the later obstacles tend to go with the first.
        match self.obstacles.first() {
            Some(Obstacle::Machine(probe, _)) => write!(f, "; {}", change(*probe)),
            Some(Obstacle::Audit) => f.write_str("; use --engine ptrace or leave out --all"),
            Some(Obstacle::Unfiltered) => f.write_str("; use --engine ptrace or leave out --no-filter"),
            Some(Obstacle::Signals | Obstacle::Users) | None => f.write_str("; use --engine auto"),
        }
    }
}

impl std::error::Error for Unavailable {}

fn listed(f: &mut fmt::Formatter<'_>, obstacles: &[Obstacle]) -> fmt::Result {
    for (index, obstacle) in obstacles.iter().enumerate() {
        write!(f, "{}{obstacle}", if index > 0 { ", " } else { "" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    const AUTO: Requested =
        Requested { engine: None, is_audit: false, is_unfiltered: false, may_change_user: false };

    /// A machine that permits everything but these.
    fn machine_without(refused: &[(Probe, Answer)]) -> Probes {
        Probe::ALL.into_iter().map(|probe| (probe, Answer::Yes)).chain(refused.iter().copied()).collect()
    }

    fn auto(refused: &[(Probe, Answer)]) -> Result<EngineKind, EngineKind> {
        choose(&machine_without(refused), AUTO)
            .map(|choice| choice.engine)
            .map_err(|unavailable| unavailable.engine)
    }

    const fn no(probe: Probe) -> (Probe, Answer) {
        (probe, Answer::No(Some(Errno::EPERM)))
    }

    #[test]
    fn the_engine_follows_from_what_is_missing() {
        use EngineKind::{Notify, Ptrace};
        let cases = [
            (vec![], Ok(Ptrace)),
            (vec![no(Probe::FilterKeepsPrivileges), no(Probe::PidfdGetfd)], Ok(Ptrace)),
            (vec![no(Probe::Trace)], Ok(Notify)),
            (vec![no(Probe::WaitKillable)], Ok(Ptrace)),
            (vec![no(Probe::Seize)], Err(Notify)),
            (vec![no(Probe::Filter)], Err(Notify)),
            (vec![no(Probe::WaitKillable), no(Probe::SyscallInfo)], Err(Notify)),
        ];
        for (refused, engine) in cases {
            assert_eq!(auto(&refused), engine, "{refused:?}");
        }
    }

    #[test]
    fn what_speaks_against_notify_is_told() {
        let why = |refused: &[(Probe, Answer)], requested| {
            choose(&machine_without(refused), requested).map(|choice| choice.why)
        };
        assert_eq!(why(&[], AUTO), Ok(Why::Instead(vec![Obstacle::Signals])));
        let rooted = Requested { may_change_user: true, ..AUTO };
        assert_eq!(why(&[], rooted), Ok(Why::Instead(vec![Obstacle::Signals])));
        assert_eq!(why(&[no(Probe::CapSysPtrace)], rooted), Ok(Why::Instead(vec![Obstacle::Users])));
        let asked = Requested { engine: Some(EngineKind::Notify), ..rooted };
        assert_eq!(why(&[no(Probe::CapSysPtrace)], asked), Ok(Why::Asked));
        let choice = choose(&Probes::default(), AUTO).unwrap();
        assert!(matches!(choice.why, Why::Instead(obstacles) if obstacles.len() == NOTIFY_NEEDS.len()));
    }

    #[test]
    fn an_audit_takes_ptrace_and_refuses_notify() {
        let probes = machine_without(&[]);
        let audit = Requested { is_audit: true, ..AUTO };
        let choice = choose(&probes, audit).unwrap();
        assert_eq!((choice.engine, choice.why), (EngineKind::Ptrace, Why::Instead(vec![Obstacle::Audit])));
        let asked = Requested { engine: Some(EngineKind::Notify), ..audit };
        let error = choose(&probes, asked).unwrap_err();
        assert_eq!(error.obstacles, [Obstacle::Audit]);
        assert!(error.to_string().contains("leave out --all"), "{error}");
    }

    #[test]
    fn without_a_filter_none_is_needed_and_notify_is_refused() {
        let probes = machine_without(&[no(Probe::Filter), no(Probe::Listener), no(Probe::Trace)]);
        let unfiltered = Requested { is_unfiltered: true, ..AUTO };
        assert_eq!(choose(&probes, unfiltered).unwrap().engine, EngineKind::Ptrace);
        let asked = Requested { engine: Some(EngineKind::Notify), ..unfiltered };
        let error = choose(&machine_without(&[]), asked).unwrap_err();
        assert_eq!(error.obstacles, [Obstacle::Unfiltered]);
        assert!(error.to_string().contains("leave out --no-filter"), "{error}");
    }

    #[test]
    fn an_engine_that_is_asked_for_is_taken_or_refused_with_all_that_is_missing() {
        let asked = |engine| Requested { engine: Some(engine), ..AUTO };
        let probes = machine_without(&[]);
        for engine in [EngineKind::Notify, EngineKind::Ptrace] {
            let choice = choose(&probes, asked(engine)).unwrap();
            assert_eq!((choice.engine, choice.why), (engine, Why::Asked));
        }
        let error = choose(
            &machine_without(&[
                (Probe::Listener, Answer::No(Some(Errno::EBUSY))),
                (Probe::Notification, Answer::Untried),
                (Probe::WaitKillable, Answer::No(Some(Errno::EINVAL))),
            ]),
            asked(EngineKind::Notify),
        )
        .unwrap_err();
        let text = error.to_string();
        assert_eq!(error.obstacles.len(), 2, "{text}");
        for part in ["notify", "EBUSY", "5.0", "EINVAL", "5.19", "runtime"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.lines().count(), 1);
    }
}
