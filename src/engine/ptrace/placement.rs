//! When the tracing thread and its tracees share one CPU: a pure state machine. `pack.rs` carries out what it says.
//!
//! A stop wakes the tracer and then the tracee. On two CPUs each wake has to reach a CPU that has just gone idle, which
//! takes several times as long as all the work of a stop; on one it is a switch. So tracees that stop again and again, and of
//! which one runs at a time, as where a shell waits for its programs, are stuck to one CPU together with the tracer: a pack.
//! Whoever of them stops joins it, and what they make is born into it.
//!
//! A pack is parted as soon as one of them asks for what would show it, or it goes quiet, or several of them want to run at
//! once, which looks every [`limits::PLACEMENT_LOOK_MS`] find out. While they do little between two stops, they may still be better
//! off on one CPU, which depends on what waking another costs on this machine. That is tried out: their stops are counted for a
//! moment without a pack, and compared with those in it. If there were fewer, several are kept together for a while, as long as
//! they go on to stop so often, unless one of them, which does more between its stops than the others, got on much better
//! without. A pack that lasts is parted now and then too, so that the kernel can choose another CPU: it cannot move a thread that
//! has only one.

use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::{limits, sys::Tid};

const TRIAL: Duration = Duration::from_millis(limits::PLACEMENT_TRIAL_MS);

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
    /// The stops since the last look.
    recent: Option<Pace>,
    /// The stops of the pack while there was little to do between them, or of the trial that follows it.
    pace: Option<Pace>,
    /// The pace that a pack had which was parted because several wanted to run: how it goes without one is being tried.
    crowded_pace: Option<Pace>,
    /// The stops of each thread, in the same times: while there was little to do in the pack, and in the trial.
    by_thread: HashMap<Tid, ByThread>,
    /// Packs that were parted for that and left so, one after the other.
    crowds: u32,
    /// Until then several that want to run are kept together: without a pack they were slower.
    is_kept_until: Option<Instant>,
    /// Looks since the pack was stuck.
    looks: u32,
    /// A bit for each of the last looks at packs, the latest lowest: several wanted to run.
    crowded: u8,
}

/// How many stops there were in what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    stops: u32,
    since: Instant,
    took: Duration,
}

/// The stops of one thread.
#[derive(Debug, Default)]
struct ByThread {
    stuck: u32,
    free: u32,
}

impl Pace {
    const fn from(since: Instant) -> Self {
        Self { stops: 0, since, took: Duration::ZERO }
    }

    fn stop(&mut self, at: Instant) {
        self.stops = self.stops.saturating_add(1);
        self.took = at.saturating_duration_since(self.since);
    }

    /// The same, of all the time until then.
    fn until(self, at: Instant) -> Self {
        Self { took: at.saturating_duration_since(self.since), ..self }
    }

    /// Whether there was little to do between two stops, until then.
    fn is_dense(&self, at: Instant) -> bool {
        let gap_max = Duration::from_micros(limits::PLACEMENT_DENSE_GAP_US_MAX);
        at.saturating_duration_since(self.since) <= self.stops * gap_max
    }

    /// Whether this one is more than so many percent of another.
    fn is_above(&self, other: &Self, percent: u64) -> bool {
        let [mine, theirs] =
            [(self, other), (other, self)].map(|(one, two)| u128::from(one.stops) * two.took.as_nanos());
        mine * 100 > theirs * u128::from(percent)
    }
}

impl Placement {
    /// A thread has stopped, which may be stuck if it `is_known`.
    pub(super) fn stopped(&mut self, tid: Tid, is_known: bool, at: Instant) -> Step {
        let gap_max = Duration::from_micros(limits::PLACEMENT_GAP_US_MAX);
        let goes_on = self.last.is_some_and(|before| at.saturating_duration_since(before) <= gap_max);
        self.last = Some(at);
        self.run = if goes_on { self.run.saturating_add(1) } else { 1 };
        for pace in [&mut self.recent, &mut self.pace].into_iter().flatten() {
            pace.stop(at);
        }
        if self.is_stuck {
            self.by_thread.entry(tid).or_default().stuck += 1;
        } else if self.crowded_pace.is_some() {
            self.by_thread.entry(tid).or_default().free += 1;
            self.end_trial(at);
        }
        let may_be_tried = self.not_before.is_none_or(|not_before| at >= not_before);
        if self.is_stuck || !is_known || !self.is_hot() || !may_be_tried {
            return Step::Stay;
        }
        (self.is_stuck, self.not_before, self.looks) = (true, None, 0);
        (self.recent, self.pace) = (Some(Pace { stops: 1, ..Pace::from(at) }), Some(Pace::from(at)));
        self.by_thread.clear();
        Step::Stick
    }

    /// Whether stops come thick and fast: who stops then joins a pack. Who stops once in a while would only be in its way.
    pub(super) const fn is_hot(&self) -> bool {
        self.run >= limits::PLACEMENT_STOPS_MIN
    }

    /// A thread is about to make a call that shows where it is placed.
    pub(super) fn shown(&mut self) -> Step {
        // Who asks for its CPUs is often about to use them.
        self.is_kept_until = None;
        self.refuse_for(limits::PLACEMENT_SHOWN_PAUSE_MS)
    }

    /// A pack could not be stuck, or has become too large.
    pub(super) fn refused(&mut self) -> Step {
        self.refuse_for(limits::PLACEMENT_PAUSE_MS)
    }

    fn refuse_for(&mut self, pause_ms: u64) -> Step {
        if let Some(last) = self.last {
            self.pause(last, pause_ms);
        }
        self.part()
    }

    /// Whether it matters that several want to run.
    pub(super) fn may_part_crowd(&self, at: Instant) -> bool {
        let is_kept = self.is_kept_until.is_some_and(|until| at < until);
        !is_kept || !self.is_dense(at)
    }

    fn is_dense(&self, at: Instant) -> bool {
        self.recent.is_some_and(|recent| recent.is_dense(at))
    }

    /// It was looked at the pack at this time. Several of it run or want to if it `is_crowded`.
    pub(super) fn looked(&mut self, is_crowded: bool, at: Instant) -> Step {
        self.looks = self.looks.saturating_add(1);
        self.crowded = self.crowded << 1 | u8::from(is_crowded);
        let is_dense = self.is_dense(at);
        let recent = self.recent.replace(Pace::from(at));
        if !is_dense {
            self.pace = Some(Pace::from(at));
            self.by_thread.clear();
        }
        let is_often_crowded = self.crowded.count_ones() >= limits::PLACEMENT_CROWDED_LOOKS_MAX;
        let pace = self.pace.map(|pace| pace.until(at)).filter(|_| is_dense);
        // What is to be compared has to have lasted.
        if is_often_crowded && pace.is_none_or(|pace| pace.took >= TRIAL) {
            self.crowded = 0;
            (self.crowded_pace, self.pace) = (pace, Some(Pace::from(at)));
            let pause_ms = if is_dense { limits::PLACEMENT_TRIAL_MS } else { self.next_pause_ms() };
            self.pause(at, pause_ms);
            return self.part();
        }
        let had_stops = recent.is_some_and(|recent| recent.stops > 0);
        let has_lasted = self.looks >= limits::PLACEMENT_LOOKS_MAX;
        if had_stops && !has_lasted {
            return Step::Stay;
        }
        if has_lasted {
            self.crowds = 0;
        }
        self.part()
    }

    /// How long no pack is tried after one of which several wanted to run: the longer, the more of them there were.
    fn next_pause_ms(&mut self) -> u64 {
        let pause_ms = limits::PLACEMENT_CROWD_PAUSE_MS << self.crowds.min(16);
        self.crowds = self.crowds.saturating_add(1);
        pause_ms.min(limits::PLACEMENT_PAUSE_MS)
    }

    /// Compares how it goes without a pack, if that was tried long enough.
    fn end_trial(&mut self, at: Instant) {
        let Some(free) = self.pace.filter(|pace| pace.took >= TRIAL) else { return };
        let Some(stuck) = self.crowded_pace.take() else { return };
        let is_held_back = self.by_thread.values().any(|thread| {
            thread.stuck > 0
                && thread.free >= limits::PLACEMENT_STOPS_MIN
                && Pace { stops: thread.free, ..free }
                    .is_above(&Pace { stops: thread.stuck, ..stuck }, limits::PLACEMENT_LOSS_PERCENT_MAX)
        });
        let is_faster = stuck.is_above(&free, limits::PLACEMENT_GAIN_PERCENT_MIN);
        // Who has done something else meanwhile has shown nothing.
        if free.took < 2 * TRIAL && is_faster && !is_held_back {
            self.crowds = 0;
            self.is_kept_until = Some(at + Duration::from_millis(limits::PLACEMENT_PAUSE_MS));
        } else {
            let pause_ms = self.next_pause_ms();
            self.pause(at, pause_ms);
        }
    }

    /// No pack is tried for so long from then on.
    fn pause(&mut self, from: Instant, pause_ms: u64) {
        self.not_before = self.not_before.max(Some(from + Duration::from_millis(pause_ms)));
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
            self.placement.stopped(Tid(1), true, self.now)
        }

        fn look(&mut self, is_crowded: bool) -> Step {
            self.placement.looked(is_crowded, self.now)
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
            assert_eq!(trial.placement.stopped(Tid(1), false, trial.now), Step::Stay);
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
        assert_eq!([trial.look(false), trial.look(false)], [Step::Stay, Step::Part]);
        assert_eq!(trial.look(false), Step::Stay);
    }

    #[test]
    fn a_pack_that_stays_busy_is_parted_after_a_while() {
        let mut trial = Trial::stuck();
        for _ in 1..limits::PLACEMENT_LOOKS_MAX {
            assert_eq!(trial.look(false), Step::Stay);
            assert_eq!(trial.call(), Step::Stay);
        }
        assert_eq!(trial.look(false), Step::Part);
        assert_eq!(trial.calls_until_stuck(), Some(limits::PLACEMENT_STOPS_MIN));
    }

    /// A pack that stops with such gaps, of which several want to run, and which is parted for it.
    fn crowded(gap: Duration) -> Trial {
        let mut trial = Trial::stuck();
        let looks = [false, true].into_iter().chain([false; 8]).chain([true; 2]);
        let steps = looks.map(|is_crowded| {
            let end = trial.now + Duration::from_millis(limits::PLACEMENT_LOOK_MS);
            while trial.now < end {
                assert_eq!(trial.call_after(gap), Step::Stay);
            }
            trial.look(is_crowded)
        });
        let steps: Vec<_> = steps.collect();
        assert_eq!(steps.iter().position(|step| *step == Step::Part), Some(11));
        trial
    }

    /// Stops with such gaps until one sticks or so much time has passed: how long it took.
    fn stuck_after(trial: &mut Trial, gap: Duration, max: Duration) -> Option<Duration> {
        let start = trial.now;
        while trial.now - start < max {
            if trial.call_after(gap) == Step::Stick {
                return Some(trial.now - start);
            }
        }
        None
    }

    #[test]
    fn several_that_want_to_run_are_let_go_for_a_while_if_they_are_as_quick_without_a_pack() {
        let [us, pause, tried] = [
            Duration::from_micros(20),
            Duration::from_millis(limits::PLACEMENT_CROWD_PAUSE_MS),
            Duration::from_millis(limits::PLACEMENT_TRIAL_MS),
        ];
        let mut trial = crowded(us);
        assert_eq!(stuck_after(&mut trial, us, pause), None);
        assert!(stuck_after(&mut trial, us, 2 * tried).is_some());
        assert!(trial.placement.may_part_crowd(trial.now));
    }

    #[test]
    fn several_that_want_to_run_are_kept_together_for_a_while_if_they_are_slower_without_a_pack() {
        let mut trial = crowded(Duration::from_micros(20));
        let tried = Duration::from_millis(limits::PLACEMENT_TRIAL_MS);
        let took = stuck_after(&mut trial, Duration::from_micros(40), 2 * tried);
        assert!(took.is_some_and(|took| took >= tried), "{took:?}");
        trial.call();
        assert!(!trial.placement.may_part_crowd(trial.now));
        trial.now += Duration::from_micros(2 * limits::PLACEMENT_DENSE_GAP_US_MAX);
        assert!(trial.placement.may_part_crowd(trial.now), "they stop less often");
        trial.look(false);
        for _ in 0..2 * limits::PLACEMENT_PAUSE_MS * 1000 / limits::PLACEMENT_DENSE_GAP_US_MAX {
            trial.call_after(Duration::from_micros(limits::PLACEMENT_DENSE_GAP_US_MAX));
        }
        assert!(trial.placement.may_part_crowd(trial.now), "it was long ago");
    }

    #[test]
    fn several_that_want_to_run_are_let_go_if_one_of_them_is_held_back_by_the_others() {
        for (free, is_kept) in [(1, true), (3, false)] {
            let mut trial = Trial::stuck();
            let us = Duration::from_micros(20);
            let look = |trial: &mut Trial, stops| {
                (0..stops).for_each(|_| {
                    trial.placement.stopped(Tid(2), true, trial.now);
                });
                let end = trial.now + Duration::from_millis(limits::PLACEMENT_LOOK_MS);
                while trial.now < end && trial.call_after(us) == Step::Stay {}
                trial.look(true)
            };
            while look(&mut trial, 10) == Step::Stay {}
            // The first is at half its speed, the other as quick as before or three times as quick.
            let us = 2 * us;
            let tried = trial.now + Duration::from_millis(limits::PLACEMENT_TRIAL_MS);
            while trial.now < tried {
                for call in 0..100 {
                    if call < 8 * free {
                        trial.placement.stopped(Tid(2), true, trial.now);
                    }
                    trial.call_after(us);
                }
            }
            trial.call_after(us);
            assert_eq!(!trial.placement.may_part_crowd(trial.now), is_kept, "{free}");
        }
    }

    #[test]
    fn several_that_want_to_run_and_seldom_stop_are_let_go_without_a_trial_and_each_time_for_longer() {
        let gap = 2 * Duration::from_micros(limits::PLACEMENT_DENSE_GAP_US_MAX);
        let mut trial = crowded(gap);
        let mut pause_ms = limits::PLACEMENT_CROWD_PAUSE_MS;
        for _ in 0..6 {
            let pause = Duration::from_millis(pause_ms.min(limits::PLACEMENT_PAUSE_MS));
            let took = stuck_after(&mut trial, gap, 2 * pause);
            assert!(took.is_some_and(|took| took >= pause - gap && took <= pause + 10 * gap), "{took:?}");
            for is_parted in [false, true] {
                trial.call_after(gap);
                assert_eq!(trial.look(true) == Step::Part, is_parted);
            }
            pause_ms *= 2;
        }
        trial.now += Duration::from_millis(limits::PLACEMENT_PAUSE_MS);
        trial.calls_until_stuck();
        while trial.look(false) == Step::Stay {
            trial.call_after(gap);
        }
        assert!(trial.calls_until_stuck().is_some(), "one that lasted has shown something else");
        for _ in 0..2 {
            trial.now += gap * limits::PLACEMENT_STOPS_MIN;
            trial.look(true);
        }
        let pause = Duration::from_millis(limits::PLACEMENT_CROWD_PAUSE_MS);
        assert!(stuck_after(&mut trial, gap, 2 * pause).is_some());
    }

    #[test]
    fn who_does_something_else_during_the_trial_is_let_go() {
        let mut trial = crowded(Duration::from_micros(20));
        trial.now += Duration::from_millis(3 * limits::PLACEMENT_TRIAL_MS);
        let pause = Duration::from_millis(limits::PLACEMENT_CROWD_PAUSE_MS);
        assert_eq!(
            stuck_after(&mut trial, Duration::from_micros(20), pause - Duration::from_micros(100)),
            None
        );
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
