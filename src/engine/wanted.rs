//! What of a workload's calls is trapped, and what of that is kept: an interest and the triage that belongs to it.
//!
//! It reads no memory itself and counts nothing. A call of which it says that no rule can match it was judged in the
//! same way whether it is then dropped or only marked: an audit shows what a real run does.

use super::{
    calls::{CLONE_UNTRACED, name_of},
    process::name_in,
};
use crate::{
    abi::Abi,
    counters::EngineCounters,
    event::CaptureBuffer,
    filter::{self, CompileError, Program},
    interest::{Condition, Interest, RegisterTest, SKIPPED, Test, Width},
    sys::ptrace::Call,
    triage::{CallMemory, NameHits, Triage},
};

/// What is wanted of a workload.
#[derive(Debug)]
pub struct Wanted {
    interest: Interest,
    triage: Triage,
    is_audit: bool,
    /// The calls that are trapped for placement.
    placement: Option<Interest>,
    /// The calls that are trapped so that nothing is made behind the tracer's back.
    guarded: Interest,
    /// The calls that are trapped because a process may put a filter on itself by them.
    filtering: Interest,
    /// All three.
    ours: Interest,
}

/// The calls before which a thread must be where the workload has put it. Some show where that is, or set it, and a
/// deadline policy is refused to a thread that does not have all CPUs (sched(7)). After the others we might no longer have
/// the right to put it back.
const PLACEMENT_CALLS: [&str; 9] = [
    "sched_getaffinity",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setscheduler",
    "setuid",
    "setreuid",
    "setresuid",
    "setns",
    "unshare",
];

/// What can make a thread or process that a tracer does not get to see. The flags of clone3 lie in memory.
fn guarded() -> Interest {
    let is_untraced = Condition {
        argument: 0,
        width: Width::Full64,
        test: Test::MaskedEq(CLONE_UNTRACED),
        value: CLONE_UNTRACED,
    };
    let calls = [("clone", RegisterTest::any_of(vec![vec![is_untraced]])), ("clone3", RegisterTest::ALWAYS)];
    #[expect(clippy::expect_used, reason = "the names are constants, and every test looks them up")]
    Interest::of_calls(calls).expect("every name is known")
}

/// What puts a filter on the caller (seccomp(2), `PR_SET_SECCOMP` in prctl(2)).
fn filtering() -> Interest {
    let first = |value: u32| {
        let condition =
            Condition { argument: 0, width: Width::Low32, test: Test::Eq, value: u64::from(value) };
        RegisterTest::any_of(vec![vec![condition]])
    };
    let calls = [
        ("seccomp", first(libc::SECCOMP_SET_MODE_FILTER)),
        ("prctl", first(libc::PR_SET_SECCOMP.cast_unsigned())),
    ];
    #[expect(clippy::expect_used, reason = "the names are constants, and every test looks them up")]
    Interest::of_calls(calls).expect("every name is known")
}

/// What becomes of a call, and at which stage it was decided: the earlier, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Its number does not matter.
    NumberUnwanted,
    /// Its registers do not.
    RegistersUnwanted,
    /// What its registers point to does not.
    Dropped,
    /// It may matter.
    Kept,
}

impl Verdict {
    /// Counts a call that was judged so.
    pub(super) const fn count(self, counters: &mut EngineCounters) {
        counters.calls_trapped += 1;
        match self {
            Self::NumberUnwanted => {
                counters.calls_unwanted += 1;
                counters.calls_number_unwanted += 1;
            }
            Self::RegistersUnwanted => counters.calls_unwanted += 1,
            Self::Dropped => counters.calls_dropped += 1,
            Self::Kept => counters.calls_kept += 1,
        }
    }
}

impl Wanted {
    /// Traps what this interest wants, and keeps what passes its triage.
    #[must_use]
    pub fn new(interest: Interest) -> Self {
        Self {
            triage: Triage::compile(&interest),
            interest,
            is_audit: false,
            placement: None,
            guarded: guarded(),
            filtering: filtering(),
            ours: guarded().and_calls_of(&filtering()),
        }
    }

    /// Traps and records everything, and marks what [`Wanted::new`] would not keep: see
    /// [`crate::event::RecordFlags::IRRELEVANT`].
    #[must_use]
    pub fn audit(interest: Interest) -> Self {
        Self { is_audit: true, ..Self::new(interest) }
    }

    /// Lets the engine choose the CPU of a thread for a while. For that it also traps the calls that would show it, which are
    /// not kept for that reason.
    #[must_use]
    pub fn with_placement(self) -> Self {
        #[expect(clippy::expect_used, reason = "the names are constants, and a test looks them up")]
        let calls = Interest::of_names(&PLACEMENT_CALLS).expect("every name is known");
        Self { ours: self.ours.and_calls_of(&calls), placement: Some(calls), ..self }
    }

    /// Whether the engine may choose the CPU of a thread.
    pub(super) const fn has_placement(&self) -> bool {
        self.placement.is_some()
    }

    /// Whether a call is one of those that are trapped for the tracer's own sake. Of all others it need not ask
    /// [`Self::shows_placement`], [`Self::puts_filter`], or what they make behind its back.
    pub(super) fn is_ours(&self, call: &Call) -> bool {
        self.ours.is_wanted(call.abi, call.nr)
    }

    /// Whether a call would show that choice.
    pub(super) fn shows_placement(&self, call: &Call) -> bool {
        self.placement.as_ref().is_some_and(|calls| calls.is_wanted(call.abi, call.nr))
    }

    /// Whether a call asks for an affinity, and is trapped for placement alone.
    pub(super) fn is_affinity_unwanted(&self, call: &Call) -> bool {
        let is_asked = call.abi == Abi::NATIVE && name_of(call) == Some("sched_getaffinity");
        is_asked && !self.is_audit && !self.interest.is_wanted(call.abi, call.nr)
    }

    /// Whether a call may put a filter on the process that makes it.
    pub(super) fn puts_filter(&self, call: &Call) -> bool {
        self.filtering.is_call_wanted(call.abi, call.nr, &call.arguments)
    }

    /// What is trapped, but for an audit, which traps everything.
    #[must_use]
    pub const fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Whether everything is recorded.
    #[must_use]
    pub const fn is_audit(&self) -> bool {
        self.is_audit
    }

    /// The filter that traps it for a tracer, and with it what could make threads and processes behind the tracer's back, and
    /// what puts filters on them.
    pub(super) fn filter(&self) -> Result<Program, CompileError> {
        let trapped = if self.is_audit {
            Interest::all()
        } else {
            let more = self.placement.iter().chain([&self.guarded, &self.filtering]);
            more.fold(self.interest.clone(), Interest::and_calls_of)
        };
        filter::compile(&trapped, Abi::NATIVE, filter::Action::Trace)
    }

    /// The filter that tells a listener of it, and of what starts programs and makes processes.
    pub(super) fn notifying_filter(&self) -> Result<Program, CompileError> {
        let trapped = self.interest.clone().and_calls_of(&Interest::life_of_processes());
        filter::compile(&trapped, Abi::NATIVE, filter::Action::Notify)
    }

    /// Judges a call that may be trapped although nobody wants it: see [`Self::notifying_filter`].
    pub(super) fn judge_unasked(&self, call: &Call, memory: &mut impl CallMemory) -> Verdict {
        if self.interest.is_call_wanted(call.abi, call.nr, &call.arguments) {
            self.judge(call, memory)
        } else {
            Verdict::NumberUnwanted
        }
    }

    /// Judges a call by its number alone, because nothing else of it is certain.
    pub(super) fn judge_number(&self, call: &Call) -> Verdict {
        let is_wanted = self.interest.is_wanted(call.abi, call.nr);
        if is_wanted { Verdict::Kept } else { Verdict::NumberUnwanted }
    }

    /// Judges a call by its number and its registers; `None` if it passes.
    fn judge_registers(&self, call: &Call) -> Option<Verdict> {
        // The filter has tested the registers of native calls, and passes on all others. What it traps for other reasons it
        // has not.
        if call.abi == Abi::NATIVE && !self.is_audit && !self.is_ours(call) {
            return None;
        }
        if !self.interest.is_wanted(call.abi, call.nr) {
            return Some(Verdict::NumberUnwanted);
        }
        let is_wanted = self.interest.is_call_wanted(call.abi, call.nr, &call.arguments);
        (!is_wanted).then_some(Verdict::RegistersUnwanted)
    }

    /// Judges a call whose thread stands at its entry, or which was recorded there.
    pub fn judge(&self, call: &Call, memory: &mut impl CallMemory) -> Verdict {
        self.judge_registers(call).unwrap_or_else(|| {
            let is_kept = self.triage.is_kept(call.abi, call.nr, &call.arguments, memory);
            if is_kept { Verdict::Kept } else { Verdict::Dropped }
        })
    }

    /// What the name of the program that this exec record tells of says about all its calls, as [`Self::name_hits`].
    pub(super) fn name_hits_in(&self, exec: &CaptureBuffer) -> Option<NameHits> {
        name_in(exec.captures()).and_then(|name| self.name_hits(name))
    }

    /// What a program's name says about all calls that the program makes. `None` if it says nothing certain.
    #[must_use]
    pub fn name_hits(&self, name: &[u8]) -> Option<NameHits> {
        self.triage.name_hits(name)
    }

    /// Whether a call is recorded that was judged so.
    pub(super) fn is_recorded(&self, call: &Call, verdict: Verdict) -> bool {
        verdict == Verdict::Kept || self.is_audit && (call.abi == Abi::NATIVE || call.nr != SKIPPED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    /// What triage must not need to ask.
    struct NoMemory;

    impl CallMemory for NoMemory {
        fn text(&mut self, _argument: u8) -> Option<&[u8]> {
            None
        }

        fn base(&mut self, _argument: u8) -> Option<&[u8]> {
            None
        }

        fn bytes(&mut self, _argument: u8) -> Option<&[u8]> {
            None
        }

        fn name(&mut self) -> Option<NameHits> {
            None
        }
    }

    fn interest() -> Interest {
        let standard = Condition { argument: 1, width: Width::Low32, test: Test::Le, value: 2 };
        let test = RegisterTest::any_of(vec![vec![standard]]);
        Interest::of_calls([("dup3", test), ("chdir", RegisterTest::ALWAYS)]).unwrap()
    }

    fn dup3(abi: Abi, new: u64) -> Call {
        Call { abi, nr: abi::number(abi, "dup3").unwrap(), arguments: [7, new, 0, 0, 0, 0] }
    }

    #[test]
    fn an_audit_judges_registers_as_the_filter_does() {
        let (plain, audit) = (Wanted::new(interest()), Wanted::audit(interest()));
        let judged = |call: &Call| audit.judge(call, &mut NoMemory);
        assert_eq!(judged(&dup3(Abi::NATIVE, 2)), Verdict::Kept);
        assert_eq!(judged(&dup3(Abi::NATIVE, 3)), Verdict::RegistersUnwanted);
        let close = abi::number(Abi::NATIVE, "close").unwrap();
        assert_eq!(judged(&Call { nr: close, ..dup3(Abi::NATIVE, 2) }), Verdict::NumberUnwanted);
        // The filter has let through what is judged without an audit.
        assert_eq!(plain.judge(&dup3(Abi::NATIVE, 3), &mut NoMemory), Verdict::Kept);
        assert!(plain.filter().unwrap().instructions().len() > audit.filter().unwrap().instructions().len());
    }

    #[test]
    fn calls_of_a_foreign_abi_are_judged_in_the_same_way_with_and_without_an_audit() {
        for wanted in [Wanted::new(interest()), Wanted::audit(interest())] {
            assert_eq!(wanted.judge(&dup3(Abi::I386, 2), &mut NoMemory), Verdict::Kept);
            assert_eq!(wanted.judge(&dup3(Abi::I386, 3), &mut NoMemory), Verdict::RegistersUnwanted);
        }
    }

    #[test]
    fn what_is_trapped_for_placement_is_judged_as_if_it_were_not() {
        let setuid = RegisterTest::any_of(vec![vec![Condition {
            argument: 0,
            width: Width::Low32,
            test: Test::Eq,
            value: 0,
        }]]);
        let interest = Interest::of_calls([("setuid", setuid), ("chdir", RegisterTest::ALWAYS)]).unwrap();
        let (plain, placed) = (Wanted::new(interest.clone()), Wanted::new(interest).with_placement());
        let call = |name, first| Call {
            abi: Abi::NATIVE,
            nr: abi::number(Abi::NATIVE, name).unwrap(),
            arguments: [first, 0, 0, 0, 0, 0],
        };
        let passes = |wanted: &Wanted, call: &Call| {
            let Call { abi, nr, arguments } = *call;
            let seen = filter::Call::new(abi, nr, arguments);
            wanted.filter().unwrap().verdict(&seen).unwrap().is_trap()
        };
        for name in PLACEMENT_CALLS {
            assert!(passes(&placed, &call(name, 7)) && placed.shows_placement(&call(name, 7)), "{name}");
            assert!(!passes(&plain, &call(name, 7)) && !plain.shows_placement(&call(name, 7)), "{name}");
            assert!(placed.judge(&call(name, 7), &mut NoMemory) < Verdict::Dropped, "{name}");
        }
        for (name, first) in [("setuid", 0), ("chdir", 7)] {
            assert!(passes(&placed, &call(name, first)), "{name}");
            assert_eq!(placed.judge(&call(name, first), &mut NoMemory), Verdict::Kept, "{name}");
        }
        assert!(!passes(&placed, &call("read", 7)));
    }

    #[test]
    fn what_puts_a_filter_on_its_caller_is_trapped_and_not_kept_for_it() {
        let plain = Wanted::new(interest());
        let calls = [("seccomp", 0, false), ("seccomp", 1, true), ("prctl", 15, false), ("prctl", 22, true)];
        for (name, first, is_known) in calls {
            let nr = abi::number(Abi::NATIVE, name).unwrap();
            let call = Call { abi: Abi::NATIVE, nr, arguments: [first, 1, 0, 0, 0, 0] };
            let seen = filter::Call::new(call.abi, call.nr, call.arguments);
            let is_trapped = plain.filter().unwrap().verdict(&seen).unwrap().is_trap();
            assert_eq!((is_trapped, plain.puts_filter(&call)), (is_known, is_known), "{name} {first}");
            assert_eq!(plain.judge(&call, &mut NoMemory), Verdict::NumberUnwanted, "{name}");
        }
    }

    #[test]
    fn an_audit_records_all_but_a_skipped_call() {
        let (plain, audit) = (Wanted::new(interest()), Wanted::audit(interest()));
        let skipped = Call { nr: SKIPPED, ..dup3(Abi::I386, 2) };
        for verdict in [Verdict::NumberUnwanted, Verdict::RegistersUnwanted, Verdict::Dropped] {
            assert!(!plain.is_recorded(&dup3(Abi::I386, 3), verdict));
            assert!(audit.is_recorded(&dup3(Abi::I386, 3), verdict));
            assert!(!audit.is_recorded(&skipped, verdict));
        }
        assert!(plain.is_recorded(&dup3(Abi::NATIVE, 2), Verdict::Kept));
        assert_eq!(audit.judge(&skipped, &mut NoMemory), Verdict::NumberUnwanted);
    }
}
