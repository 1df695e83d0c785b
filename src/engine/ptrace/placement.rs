//! When the tracing thread and a tracee share one CPU: a pure state machine. `pair.rs` carries out what it says.
//!
//! A stop wakes the tracer and then the tracee. On two CPUs each wake has to reach a CPU that has just gone idle, which
//! takes several times as long as all the work of a stop; on one it is a switch. So a tracee that is alone in stopping
//! again and again is stuck to one CPU, together with the tracer.
//!
//! A pair is parted as soon as anything else may want a CPU of its own or could see what was done: another thread stops;
//! the tracee makes a thread or process, starts a program, asks for what would show it, or ends; or it goes quiet, which
//! a look every [`limits::PLACEMENT_LOOK_MS`] finds out. A pair that lasts is parted now and then too, so that the
//! kernel can choose another CPU: it cannot move a thread that has only one.

use std::time::{Duration, Instant};

use crate::{limits, sys::Tid};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Stick the thread, which stands still, and the tracer to its CPU.
    Stick,
    /// Undo that.
    Part,
}

/// What is known of the stops.
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// The thread that stopped last, and when.
    last: Option<(Tid, Instant)>,
    /// Its stops without another's between them, and without a long time.
    run: u32,
    /// In this run it was tried to stick it. What is refused once is not tried again and again.
    is_tried: bool,
    /// The thread that is stuck.
    stuck: Option<Tid>,
    /// There was a stop since the last look.
    is_fresh: bool,
    /// Looks since the pair was stuck.
    looks: u32,
}

impl Placement {
    /// A thread has stopped.
    pub(super) fn stopped(&mut self, tid: Tid, at: Instant) -> Step {
        let gap_max = Duration::from_micros(limits::PLACEMENT_GAP_US_MAX);
        let goes_on = self
            .last
            .is_some_and(|(last, before)| last == tid && at.saturating_duration_since(before) <= gap_max);
        self.last = Some((tid, at));
        if goes_on {
            self.run = self.run.saturating_add(1);
        } else {
            (self.run, self.is_tried) = (1, false);
        }
        self.is_fresh = true;
        if self.stuck.is_some_and(|stuck| stuck != tid) { self.part() } else { Step::Stay }
    }

    /// The thread that has just stopped stands at the entry of a call, which may show where it is placed.
    pub(super) fn entered(&mut self, tid: Tid, is_shown: bool) -> Step {
        if is_shown {
            return self.part();
        }
        let is_hot =
            self.run >= limits::PLACEMENT_STOPS_MIN && self.last.is_some_and(|(last, _)| last == tid);
        if self.stuck.is_some() || self.is_tried || !is_hot {
            return Step::Stay;
        }
        (self.stuck, self.is_tried, self.looks) = (Some(tid), true, 0);
        Step::Stick
    }

    /// The pair could not be stuck.
    pub(super) fn refused(&mut self) {
        self.stuck = None;
    }

    /// A thread makes another, starts a program, or has ended.
    pub(super) fn changed(&mut self, tid: Tid) -> Step {
        if self.stuck == Some(tid) { self.part() } else { Step::Stay }
    }

    /// Some time has passed since the last look.
    pub(super) fn looked(&mut self) -> Step {
        self.looks = self.looks.saturating_add(1);
        let was_fresh = std::mem::take(&mut self.is_fresh);
        if was_fresh && self.looks < limits::PLACEMENT_LOOKS_MAX { Step::Stay } else { self.part() }
    }

    fn part(&mut self) -> Step {
        (self.run, self.is_tried) = (0, false);
        if self.stuck.take().is_some() { Step::Part } else { Step::Stay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Tid = Tid(11);
    const OTHER: Tid = Tid(12);

    /// A placement with a clock of its own.
    struct Trial {
        placement: Placement,
        now: Instant,
    }

    impl Trial {
        fn new() -> Self {
            Self { placement: Placement::default(), now: Instant::now() }
        }

        /// A thread stops at a call that shows nothing, a moment after the last stop.
        fn call(&mut self, tid: Tid) -> Step {
            self.call_after(tid, Duration::from_micros(20))
        }

        fn call_after(&mut self, tid: Tid, gap: Duration) -> Step {
            self.now += gap;
            match self.placement.stopped(tid, self.now) {
                Step::Stay => self.placement.entered(tid, false),
                step => step,
            }
        }

        fn stuck() -> Self {
            let mut trial = Self::new();
            for _ in 1..limits::PLACEMENT_STOPS_MIN {
                assert_eq!(trial.call(ONE), Step::Stay);
            }
            assert_eq!(trial.call(ONE), Step::Stick);
            trial
        }

        /// How many calls it takes until a pair is stuck.
        fn calls_until_stuck(&mut self, tid: Tid) -> Option<u32> {
            (1..1000).find(|_| self.call(tid) == Step::Stick)
        }
    }

    #[test]
    fn a_thread_that_stops_alone_is_stuck_once() {
        let mut trial = Trial::stuck();
        assert_eq!(trial.calls_until_stuck(ONE), None);
    }

    #[test]
    fn another_thread_that_stops_parts_the_pair_and_begins_a_run() {
        let mut trial = Trial::stuck();
        assert_eq!(trial.call(OTHER), Step::Part);
        assert_eq!(trial.call(ONE), Step::Stay, "its old run is over");
        assert_eq!(trial.calls_until_stuck(OTHER), Some(limits::PLACEMENT_STOPS_MIN));
    }

    #[test]
    fn threads_that_take_turns_are_never_stuck() {
        let mut trial = Trial::new();
        for round in 0..1000 {
            for _ in 0..round % limits::PLACEMENT_STOPS_MIN {
                assert_eq!(trial.call(ONE), Step::Stay);
            }
            assert_eq!(trial.call(OTHER), Step::Stay);
        }
    }

    #[test]
    fn a_thread_that_seldom_stops_is_not_stuck() {
        let mut trial = Trial::new();
        let gap = Duration::from_micros(limits::PLACEMENT_GAP_US_MAX + 1);
        for _ in 0..100 {
            assert_eq!(trial.call_after(ONE, gap), Step::Stay);
        }
    }

    #[test]
    fn whatever_could_show_or_spread_it_parts_the_pair() {
        assert_eq!(Trial::stuck().placement.entered(ONE, true), Step::Part);
        assert_eq!(Trial::stuck().placement.changed(ONE), Step::Part);
        assert_eq!(Trial::stuck().placement.changed(OTHER), Step::Stay);
        let mut trial = Trial::stuck();
        trial.placement.changed(ONE);
        assert_eq!(trial.placement.changed(ONE), Step::Stay, "it is parted once");
        assert_eq!(trial.calls_until_stuck(ONE), Some(limits::PLACEMENT_STOPS_MIN));
    }

    #[test]
    fn a_pair_that_goes_quiet_is_parted_at_the_second_look() {
        let mut trial = Trial::stuck();
        assert_eq!([trial.placement.looked(), trial.placement.looked()], [Step::Stay, Step::Part]);
        assert_eq!(trial.placement.looked(), Step::Stay);
    }

    #[test]
    fn a_pair_that_stays_busy_is_parted_after_a_while() {
        let mut trial = Trial::stuck();
        for _ in 1..limits::PLACEMENT_LOOKS_MAX {
            assert_eq!(trial.placement.looked(), Step::Stay);
            assert_eq!(trial.call(ONE), Step::Stay);
        }
        assert_eq!(trial.placement.looked(), Step::Part);
        assert_eq!(trial.calls_until_stuck(ONE), Some(limits::PLACEMENT_STOPS_MIN));
    }

    #[test]
    fn what_is_refused_is_not_tried_again_in_the_same_run() {
        let mut trial = Trial::stuck();
        trial.placement.refused();
        assert_eq!(trial.calls_until_stuck(ONE), None);
        assert_eq!(trial.call(OTHER), Step::Stay);
        assert_eq!(trial.calls_until_stuck(ONE), Some(limits::PLACEMENT_STOPS_MIN));
    }
}
