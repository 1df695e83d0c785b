//! When the tracing thread and its tracees share one CPU: a pure state machine. `pack.rs` carries out what it says.
//!
//! A stop wakes the tracer and then the tracee. On two CPUs each wake has to reach a CPU that has just gone idle, which
//! takes several times as long as all the work of a stop; on one it is a switch. So tracees that stop again and again, and of
//! which one runs at a time, as where a shell waits for its programs, are stuck to one CPU together with the tracer: a pack.
//! Whoever of them stops joins it, and what they make is born into it.
//!
//! A pack is parted as soon as one of them asks for what would show it, or it goes quiet, or several of them want to run at
//! once, which looks every [`limits::PLACEMENT_LOOK_MS`] find out. In the last case another one is not tried for a while. A
//! pack that lasts is parted now and then too, so that the kernel can choose another CPU: it cannot move a thread that has only
//! one.

use std::time::{Duration, Instant};

use crate::limits;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Stick the thread, which stands still, and the tracer to its CPU.
    Stick,
    /// Undo that for everybody.
    Part,
}

/// What is known of the stops.
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// The last stop.
    last: Option<Instant>,
    /// Stops without a long time between them.
    run: u32,
    /// Before this no pack is tried: one was refused, or was crowded, or could have been seen.
    not_before: Option<Instant>,
    is_stuck: bool,
    /// There was a stop since the last look.
    is_fresh: bool,
    /// Looks since the pack was stuck.
    looks: u32,
    /// A bit for each of the last looks at packs, the latest lowest: several wanted to run.
    crowded: u8,
}

impl Placement {
    /// A thread has stopped, which may be stuck if it `is_known`.
    pub(super) fn stopped(&mut self, is_known: bool, at: Instant) -> Step {
        let gap_max = Duration::from_micros(limits::PLACEMENT_GAP_US_MAX);
        let goes_on = self.last.is_some_and(|before| at.saturating_duration_since(before) <= gap_max);
        self.last = Some(at);
        self.run = if goes_on { self.run.saturating_add(1) } else { 1 };
        self.is_fresh = true;
        let may_be_tried = self.not_before.is_none_or(|not_before| at >= not_before);
        if self.is_stuck || !is_known || !self.is_hot() || !may_be_tried {
            return Step::Stay;
        }
        (self.is_stuck, self.not_before, self.looks) = (true, None, 0);
        Step::Stick
    }

    /// Whether stops come thick and fast: who stops then joins a pack. Who stops once in a while would only be in its way.
    pub(super) const fn is_hot(&self) -> bool {
        self.run >= limits::PLACEMENT_STOPS_MIN
    }

    /// A thread is about to make a call that shows where it is placed.
    pub(super) fn shown(&mut self) -> Step {
        // Who asks for its CPUs is often about to use them.
        self.pause(limits::PLACEMENT_SHOWN_PAUSE_MS);
        self.part()
    }

    /// A pack could not be stuck, or has become too large.
    pub(super) fn refused(&mut self) -> Step {
        self.pause(limits::PLACEMENT_PAUSE_MS);
        self.part()
    }

    /// Some time has passed since the last look. Several of the pack run or want to if it `is_crowded`.
    pub(super) fn looked(&mut self, is_crowded: bool) -> Step {
        self.looks = self.looks.saturating_add(1);
        self.crowded = self.crowded << 1 | u8::from(is_crowded);
        if self.crowded.count_ones() >= limits::PLACEMENT_CROWDED_LOOKS_MAX {
            self.crowded = 0;
            return self.refused();
        }
        let was_fresh = std::mem::take(&mut self.is_fresh);
        if was_fresh && self.looks < limits::PLACEMENT_LOOKS_MAX { Step::Stay } else { self.part() }
    }

    fn pause(&mut self, pause_ms: u64) {
        let not_before = self.last.map(|last| last + Duration::from_millis(pause_ms));
        self.not_before = self.not_before.max(not_before);
    }

    fn part(&mut self) -> Step {
        self.run = 0;
        if std::mem::take(&mut self.is_stuck) { Step::Part } else { Step::Stay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        fn call(&mut self) -> Step {
            self.call_after(Duration::from_micros(20))
        }

        fn call_after(&mut self, gap: Duration) -> Step {
            self.now += gap;
            self.placement.stopped(true, self.now)
        }

        fn stuck() -> Self {
            let mut trial = Self::new();
            assert_eq!(trial.calls_until_stuck(), Some(limits::PLACEMENT_STOPS_MIN));
            trial
        }

        /// How many calls it takes until a pack is stuck.
        fn calls_until_stuck(&mut self) -> Option<u32> {
            (1..1000).find(|_| self.call() == Step::Stick)
        }
    }

    #[test]
    fn who_stops_again_and_again_is_stuck_once() {
        let mut trial = Trial::stuck();
        assert_eq!(trial.calls_until_stuck(), None);
    }

    #[test]
    fn who_is_not_known_yet_is_not_stuck() {
        let mut trial = Trial::new();
        for _ in 0..100 {
            assert_eq!(trial.placement.stopped(false, trial.now), Step::Stay);
        }
        assert_eq!(trial.call(), Step::Stick);
    }

    #[test]
    fn who_seldom_stops_is_not_stuck() {
        let mut trial = Trial::new();
        let gap = Duration::from_micros(limits::PLACEMENT_GAP_US_MAX + 1);
        for _ in 0..100 {
            assert_eq!(trial.call_after(gap), Step::Stay);
        }
    }

    #[test]
    fn whatever_could_show_it_parts_the_pack() {
        let mut trial = Trial::stuck();
        assert_eq!(trial.placement.shown(), Step::Part);
        assert_eq!(trial.placement.shown(), Step::Stay, "it is parted once");
        assert_eq!(trial.calls_until_stuck(), None, "who asks for its CPUs is often about to use them");
        trial.now += Duration::from_millis(limits::PLACEMENT_SHOWN_PAUSE_MS);
        assert_eq!(trial.calls_until_stuck(), Some(limits::PLACEMENT_STOPS_MIN));
    }

    #[test]
    fn a_pack_that_goes_quiet_is_parted_at_the_second_look() {
        let mut trial = Trial::stuck();
        assert_eq!([trial.placement.looked(false), trial.placement.looked(false)], [Step::Stay, Step::Part]);
        assert_eq!(trial.placement.looked(false), Step::Stay);
    }

    #[test]
    fn a_pack_that_stays_busy_is_parted_after_a_while() {
        let mut trial = Trial::stuck();
        for _ in 1..limits::PLACEMENT_LOOKS_MAX {
            assert_eq!(trial.placement.looked(false), Step::Stay);
            assert_eq!(trial.call(), Step::Stay);
        }
        assert_eq!(trial.placement.looked(false), Step::Part);
        assert_eq!(trial.calls_until_stuck(), Some(limits::PLACEMENT_STOPS_MIN));
    }

    #[test]
    fn a_pack_of_which_several_want_to_run_is_parted_and_not_tried_for_a_while() {
        let mut trial = Trial::stuck();
        for is_crowded in [false, true].into_iter().chain([false; 8]) {
            assert_eq!((trial.placement.looked(is_crowded), trial.call()), (Step::Stay, Step::Stay));
        }
        assert_eq!([trial.placement.looked(true), trial.placement.looked(true)], [Step::Stay, Step::Part]);
        assert_eq!(trial.calls_until_stuck(), None);
        trial.now += Duration::from_millis(limits::PLACEMENT_PAUSE_MS);
        assert_eq!(trial.calls_until_stuck(), Some(limits::PLACEMENT_STOPS_MIN));
    }

    #[test]
    fn what_is_refused_is_not_tried_for_a_while() {
        let mut trial = Trial::stuck();
        assert_eq!(trial.placement.refused(), Step::Part);
        assert_eq!(trial.calls_until_stuck(), None);
        trial.now += Duration::from_millis(limits::PLACEMENT_PAUSE_MS);
        assert_eq!(trial.calls_until_stuck(), Some(limits::PLACEMENT_STOPS_MIN));
    }
}
