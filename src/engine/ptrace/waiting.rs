//! How the engine hears of its tracees. waitpid(2) tells of the newest first, so whoever is served at once may be back before an
//! older one is heard, for ever: after a few that were served so, everybody who has something to tell is heard before anybody
//! is served.
//!
//! A wait for any tracee walks all of them, the newest first, before it sleeps and when it wakes (some 23 ns a thread). So
//! while there are many, the engine sleeps until a hint names a thread ([`hint`]) and asks that thread, and those that
//! stopped lately, since hints get lost. A walk follows once in a while, and before a long sleep, so that nobody waits
//! longer than a bound that grows with what a walk costs. Hints are no proof: what is true, only waitpid(2) says.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::{
    limits,
    sys::{
        Tid,
        hint::{self, Alarm},
        ptrace::{self, StopKind, Waited},
    },
};

/// What was heard, and when.
pub(super) type Round = Vec<(Waited, Instant)>;

/// How many tracees there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) count: usize,
    /// A new one is held until its creator has told of it: it is looked again after so long.
    pub(super) held_poll: Option<Duration>,
    /// A signal calls the engine away (signal::Kick), so that no wait may go on after one.
    pub(super) may_be_called: bool,
}

/// A thread that stopped lately.
#[derive(Debug)]
struct Hot {
    tid: Tid,
    /// Times that it was asked in vain since.
    misses: u32,
}

/// The tracing thread's ears.
#[derive(Debug)]
pub(super) struct Waiting {
    /// A single thread can be asked without a walk over all.
    can_ask_one: bool,
    /// How many were served at once since everybody was heard.
    served_at_once: u32,
    /// Ends a wait for hints when a walk is due. `None` if hints are not used.
    alarm: Option<Alarm>,
    hot: Vec<Hot>,
    /// The last walk heard nothing, and nothing has been heard since.
    is_settled: bool,
    /// The last walk heard somebody, whose hint may have been lost.
    is_missing: bool,
    /// What a walk costs that hears nothing.
    walk: Duration,
    /// When the next walk is due.
    due: Instant,
}

impl Waiting {
    /// For the calling thread, which traces.
    pub(super) fn new() -> Self {
        hint::set_blocked(false);
        Self {
            can_ask_one: hint::is_of_use(),
            served_at_once: 0,
            alarm: None,
            hot: Vec::with_capacity(limits::HOT_TRACEES_MAX),
            is_settled: false,
            is_missing: false,
            walk: Duration::ZERO,
            due: Instant::now(),
        }
    }

    /// Waits until somebody has something to tell, or until a held thread may be overdue. `false` if no tracee is left.
    pub(super) fn hear(&mut self, crowd: Crowd, round: &mut Round) -> io::Result<bool> {
        let is_crowded = self.alarm.is_some();
        let threshold = if is_crowded { limits::CROWD_TRACEES_MIN / 2 } else { limits::CROWD_TRACEES_MIN };
        if is_crowded != (self.can_ask_one && crowd.count >= threshold) {
            self.change_way();
        }
        if self.alarm.is_some() { self.hear_crowd(crowd, round) } else { self.hear_few(crowd, round) }
    }

    /// Begins to use hints, or ends that.
    fn change_way(&mut self) {
        self.due = Instant::now();
        if self.alarm.take().is_some() {
            hint::forget();
            hint::set_blocked(false);
            return;
        }
        match Alarm::new() {
            Ok(alarm) => {
                self.alarm = Some(alarm);
                hint::ask_for();
            }
            // They are all walked, then, as where there are few.
            Err(_) => self.can_ask_one = false,
        }
    }

    fn hear_crowd(&mut self, crowd: Crowd, round: &mut Round) -> io::Result<bool> {
        if crowd.held_poll.is_some() {
            self.due = self.due.min(Instant::now() + self.interval(crowd));
        }
        while round.is_empty() {
            if Instant::now() >= self.due {
                if !self.walk(crowd, round)? {
                    return Ok(false);
                }
            } else {
                let hint = self.hint()?;
                hint.map_or(Ok(()), |tid| self.ask(tid, round))?;
                self.unsettle(crowd);
                if hint.is_none() && crowd.may_be_called {
                    break;
                }
            }
            // A thread that nobody tells of must be let go in time.
            if crowd.held_poll.is_some() {
                break;
            }
        }
        for (waited, _) in round.iter() {
            self.note(waited);
        }
        Ok(true)
    }

    /// Waits for a hint, or until a walk is due.
    fn hint(&mut self) -> io::Result<Option<Tid>> {
        let Some(alarm) = &mut self.alarm else { return Ok(None) };
        alarm.set(self.due)?;
        Ok(alarm.wait())
    }

    /// A wait has ended before a walk was due. While that was pending which ended it, be it a hint or a SIGCHLD of somebody
    /// else's, the hint of another thread was lost, if there was one: so there is no long sleep, even if nobody was heard.
    fn unsettle(&mut self, crowd: Crowd) {
        if !self.is_settled {
            return;
        }
        let now = Instant::now();
        if now < self.due {
            self.is_settled = false;
            self.due = self.due.min(now + self.interval(crowd));
        }
    }

    /// How long after a walk the next one is due.
    fn interval(&self, crowd: Crowd) -> Duration {
        if let Some(poll) = crowd.held_poll {
            poll.max(self.walk)
        } else if self.is_settled {
            Duration::from_millis(limits::SETTLED_WALK_MS)
        } else if self.hot.len() < 2 && !self.is_missing {
            // Nobody's hint is in the way of another's, and each walk and each setting of the alarm costs.
            Duration::from_micros(limits::CROWD_WALK_US_MAX)
        } else {
            let [min, max] =
                [limits::CROWD_WALK_US_MIN, limits::CROWD_WALK_US_MAX].map(Duration::from_micros);
            (self.walk * limits::CROWD_WALK_SHARE).clamp(min, max)
        }
    }

    /// Hears everybody.
    fn walk(&mut self, crowd: Crowd, round: &mut Round) -> io::Result<bool> {
        // What stops after this is hinted at anew, so that a walk that hears nothing permits a long sleep.
        hint::forget();
        loop {
            let start = Instant::now();
            match ptrace::poll()? {
                Some(Waited::NoTracees) => return Ok(!round.is_empty()),
                Some(waited) => push(round, waited),
                None => {
                    self.walk = start.elapsed();
                    break;
                }
            }
        }
        self.is_missing = !round.is_empty();
        self.is_settled = round.is_empty() && crowd.held_poll.is_none();
        self.due = Instant::now() + self.interval(crowd);
        Ok(true)
    }

    /// Asks the thread that a hint names, and those whose hints it may have kept away.
    fn ask(&mut self, tid: Tid, round: &mut Round) -> io::Result<()> {
        if let Some(waited) = ptrace::poll_one(tid)? {
            push(round, waited);
        }
        for hot in &mut self.hot {
            if hot.tid == tid {
                continue;
            }
            match ptrace::poll_one(hot.tid)? {
                Some(waited) => push(round, waited),
                None => hot.misses += 1,
            }
        }
        self.hot.retain(|hot| hot.misses < limits::HOT_TRACEE_MISSES_MAX);
        Ok(())
    }

    /// Sleeps until anybody has something to tell, and once in a while hears all. A walk costs little.
    fn hear_few(&mut self, crowd: Crowd, round: &mut Round) -> io::Result<bool> {
        let first = match crowd {
            Crowd { held_poll: Some(_), .. } => ptrace::poll(),
            Crowd { may_be_called: true, .. } => ptrace::wait_or_signal(),
            Crowd { .. } => ptrace::wait().map(Some),
        };
        match first? {
            Some(Waited::NoTracees) => return Ok(false),
            Some(first) => push(round, first),
            None => crowd.held_poll.map_or((), thread::sleep),
        }
        if crowd.count > 1 && self.served_at_once < limits::SERVED_AT_ONCE_MAX {
            self.served_at_once += 1;
            return Ok(true);
        }
        self.served_at_once = 0;
        // Nobody is made to wait here, and each thread can be heard once, so this ends.
        while !round.is_empty() && crowd.count > 1 {
            match ptrace::poll()? {
                None | Some(Waited::NoTracees) => break,
                Some(waited) => push(round, waited),
            }
        }
        Ok(true)
    }

    /// A thread has been heard.
    fn note(&mut self, waited: &Waited) {
        let Waited::Stopped(stop, _) = waited else { return };
        let tid = stop.tid();
        if let Some(hot) = self.hot.iter_mut().find(|hot| hot.tid == tid) {
            hot.misses = 0;
            return;
        }
        if self.hot.len() >= limits::HOT_TRACEES_MAX {
            // The coldest makes room.
            let coldest = (0..).zip(&self.hot).max_by_key(|(_, hot)| hot.misses).map_or(0, |(at, _)| at);
            self.hot.swap_remove(coldest);
        }
        self.hot.push(Hot { tid, misses: 0 });
    }
}

fn push(round: &mut Round, waited: Waited) {
    give_up_stale(round, &waited);
    round.push((waited, Instant::now()));
}

/// An exec kills the old leader and takes its id: what the leader had stopped for is no longer there.
fn give_up_stale(round: &mut Round, newest: &Waited) {
    let Waited::Stopped(exec, StopKind::Exec) = newest else { return };
    let old_leader = round
        .iter()
        .position(|(waited, _)| matches!(waited, Waited::Stopped(stop, _) if stop.tid() == exec.tid()));
    if let Some((Waited::Stopped(stop, _), _)) = old_leader.map(|at| round.remove(at)) {
        stop.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWD: Crowd = Crowd { count: limits::CROWD_TRACEES_MIN, held_poll: None, may_be_called: false };
    const HOUR: Duration = Duration::from_hours(1);

    fn settled(due: Instant) -> Waiting {
        Waiting { is_settled: true, due, ..Waiting::new() }
    }

    #[test]
    fn whatever_ends_a_long_sleep_has_a_walk_follow_soon() {
        let mut waiting = settled(Instant::now() + HOUR);
        waiting.unsettle(CROWD);
        assert!(!waiting.is_settled);
        assert!(waiting.due <= Instant::now() + Duration::from_micros(limits::CROWD_WALK_US_MAX));
        // And is not put off by what comes next.
        let due = waiting.due;
        waiting.unsettle(CROWD);
        assert_eq!(waiting.due, due);
    }

    #[test]
    fn a_walk_that_is_due_is_not_put_off() {
        let due = Instant::now();
        let mut waiting = settled(due);
        waiting.unsettle(CROWD);
        assert_eq!((waiting.is_settled, waiting.due), (true, due));
    }
}
