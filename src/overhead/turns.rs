//! One row: the same work in every way, by turns, and the figures that come of it.
//!
//! In each round every way has its turn, native too, in an order that rotates; a speed is that of a way against native in the
//! same round, so that a machine that slows down in between does not count. The first round warms caches and is not counted.

use std::{
    ffi::OsString,
    fmt::Display,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{
    figures::{self, Cell, Funnel, Group, Latency, Row, Spread},
    latency,
    quiet::Quiet,
    real,
    runs::{Ended, Watched},
};

/// A way to do the work.
#[derive(Clone, Debug)]
pub struct Way {
    /// What the figures say of it.
    pub told: figures::Way,
    /// The words that stand before the command; none natively.
    pub prefix: Vec<OsString>,
    /// What it watches.
    pub sight: Sight,
}

/// What a way sees of the calls of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing is told of it: native, and tracers of others.
    Untold,
    /// Creance, by a filter.
    Filtered,
    /// Creance, every call.
    All,
}

impl Way {
    /// The way in which nobody watches.
    #[must_use]
    pub fn native() -> Self {
        let told = figures::Way { id: "native".into(), title: "native".into(), prefix: String::new() };
        Self { told, prefix: Vec::new(), sight: Sight::Untold }
    }

    /// A command in this way.
    pub fn words(&self, command: impl IntoIterator<Item = impl Into<OsString>>) -> Vec<OsString> {
        self.prefix.iter().cloned().chain(command.into_iter().map(Into::into)).collect()
    }
}

/// What a row is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What the command line calls it.
    pub id: String,
    /// For people.
    pub title: String,
    /// Its kind.
    pub group: Group,
    /// Runs of each way for latencies alone, where those are not told by every run.
    pub latency_runs: u32,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// How long the work takes.
    Speed,
    /// How long each operation takes.
    Latency,
}

/// One run of the work in one way.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Units of work that were done.
    pub units: u64,
    /// How long they took.
    pub took: Duration,
    /// From the start of the program, with its tracer, to its end.
    pub run: Duration,
    /// What creance told of itself.
    pub watched: Option<Watched>,
    /// CPU seconds of the process that was started, without its children: of the tracer, if there is one.
    pub own_cpu_s: Option<f64>,
    /// Latencies, where the run tells them.
    pub latencies: Option<Histogram<u64>>,
}

/// How many turns there are.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Rounds that count.
    pub rounds: u32,
    /// When no further round begins, from the beginning of the row on; one is always made.
    pub budget: Option<Duration>,
}

impl Turns {
    /// Makes a row. The first way is the native one. A way that fails is not tried again, and the cell says why; where the
    /// native one fails, there is no row.
    pub fn row<E: Display>(
        self,
        subject: Subject,
        ways: &[Way],
        quiet: &mut Quiet,
        mut run: impl FnMut(&Way, Purpose) -> Result<Measured, E>,
    ) -> Row {
        let mut tallies: Vec<Tally> = ways.iter().map(|_| Tally::default()).collect();
        let start = Instant::now();
        for round in 0..=self.rounds {
            if round > 1 && self.budget.is_some_and(|budget| start.elapsed() >= budget) {
                break;
            }
            let mut measured: Vec<Option<Measured>> = ways.iter().map(|_| None).collect();
            for at in order(ways.len(), round) {
                let (Some(way), Some(tally)) = (ways.get(at), tallies.get_mut(at)) else { continue };
                if tally.failed.is_none() {
                    let done = quiet.run(|| run(way, Purpose::Speed));
                    if let Some(place) = measured.get_mut(at) {
                        *place = tally.take(done);
                    }
                }
            }
            if tallies.first().is_none_or(|native| native.failed.is_some()) {
                break;
            }
            // The first round warms caches.
            if round > 0 {
                count(&mut tallies, measured);
            }
        }
        for _ in 0..subject.latency_runs {
            for (way, tally) in ways.iter().zip(&mut tallies) {
                if tally.failed.is_none()
                    && let Some(measured) = tally.take(quiet.run(|| run(way, Purpose::Latency)))
                {
                    tally.add_latencies(&measured);
                }
            }
        }
        row(subject, ways, tallies)
    }
}

impl Row {
    /// A row that could not even be begun.
    #[must_use]
    pub fn skipped(subject: Subject, reason: String) -> Self {
        let native = Tally { failed: Some(reason), ..Tally::default() };
        row(subject, &[], vec![native])
    }
}

/// The order of a round: each way comes first in some round.
fn order(ways: usize, round: u32) -> impl Iterator<Item = usize> {
    let first = usize::try_from(round).unwrap_or_default();
    (0..ways).map(move |turn| (turn + first) % ways)
}

/// Counts a round.
fn count(tallies: &mut [Tally], measured: Vec<Option<Measured>>) {
    let native_us = measured.first().and_then(Option::as_ref).and_then(Measured::unit_us);
    for (tally, measured) in tallies.iter_mut().zip(measured) {
        if let (Some(native_us), Some(measured)) = (native_us, measured) {
            tally.count(native_us, &measured);
        }
    }
}

impl Measured {
    /// Of a program that has ended and did so many units in that time.
    #[must_use]
    pub fn of(took: Duration, units: u64, ended: &Ended) -> Self {
        let watched = Watched::parse(&ended.stderr);
        Self { units, took, run: ended.took, watched, own_cpu_s: ended.own_cpu_s, latencies: None }
    }

    /// How long a unit took, in microseconds; of no units nothing is known.
    #[must_use]
    pub fn unit_us(&self) -> Option<f64> {
        (self.units > 0).then(|| self.took.as_secs_f64() * 1e6 / real(self.units))
    }
}

/// What is known of a way.
#[derive(Default)]
struct Tally {
    unit_us: Vec<f64>,
    speeds: Vec<f64>,
    stops_per_s: Vec<f64>,
    records_per_s: Vec<f64>,
    cpu_s: Vec<f64>,
    peak_kib: Option<u64>,
    latencies: Option<Histogram<u64>>,
    last: Option<Measured>,
    failed: Option<String>,
}

impl Tally {
    fn take<E: Display>(&mut self, done: Result<Measured, E>) -> Option<Measured> {
        done.map_err(|error| self.failed = Some(format!("{error:#}"))).ok()
    }

    fn count(&mut self, native_us: f64, measured: &Measured) {
        if let Some(us) = measured.unit_us() {
            self.unit_us.push(us);
            self.speeds.push(native_us / us);
        }
        let seconds = measured.run.as_secs_f64();
        if let Some(watched) = measured.watched.filter(|_| seconds > 0.0) {
            self.stops_per_s.push(real(watched.stops) / seconds);
            self.records_per_s.push(real(watched.records) / seconds);
            self.peak_kib = self.peak_kib.max(Some(watched.peak_kib));
        }
        let engine = measured.watched.map_or(0.0, |watched| watched.cpu_s);
        self.cpu_s.extend(measured.own_cpu_s.map(|own| own + engine));
        self.add_latencies(measured);
        self.last = Some(measured.clone());
    }

    fn add_latencies(&mut self, measured: &Measured) {
        if let Some(of_run) = &measured.latencies {
            let all = self.latencies.get_or_insert_with(latency::empty);
            latency::counts(of_run).into_iter().for_each(|(ns, count)| latency::add(all, ns, count));
        }
    }

    fn cell(self, way: &Way, native: Option<&Histogram<u64>>) -> Cell {
        let median = |figures: &[f64]| Spread::of(figures).map(|spread| spread.median);
        let latency = native.zip(self.latencies.as_ref()).and_then(|(native, watched)| {
            let (native, watched) = (latency::percentiles(native)?, latency::percentiles(watched)?);
            Some(Latency { native, watched })
        });
        Cell {
            way: way.told.id.clone(),
            speed: Spread::of(&self.speeds),
            stops_per_s: median(&self.stops_per_s),
            records_per_s: median(&self.records_per_s),
            tracer_cpu_s: median(&self.cpu_s),
            tracer_peak_kib: self.peak_kib,
            latency,
            skipped: self.failed,
        }
    }
}

fn row(subject: Subject, ways: &[Way], tallies: Vec<Tally>) -> Row {
    let Subject { id, title, group, .. } = subject;
    let funnel = funnel(ways, &tallies);
    let mut tallies = tallies.into_iter();
    let native = tallies.next().unwrap_or_default();
    let native_us = Spread::of(&native.unit_us);
    let units = native.last.as_ref().map_or(0, |measured| measured.units);
    let skipped = native.failed.or_else(|| native_us.is_none().then(|| "no run of it counted".into()));
    let cells = if skipped.is_some() {
        Vec::new()
    } else {
        let latencies = native.latencies.as_ref();
        ways.iter().skip(1).zip(tallies).map(|(way, tally)| tally.cell(way, latencies)).collect()
    };
    let native_us = native_us.unwrap_or(Spread { lower: 0.0, median: 0.0, upper: 0.0 });
    Row { id, title, group, units, native_us, funnel, cells, skipped }
}

/// What became of the calls of a run: all of them are told by a way that sees all, the others by the first that filters. A run
/// of theirs may have done other units than a native one.
fn funnel(ways: &[Way], tallies: &[Tally]) -> Option<Funnel> {
    let units = tallies.first()?.last.as_ref()?.units;
    let of = |sight: Sight| {
        let (_, tally) =
            ways.iter().zip(tallies).find(|(way, tally)| way.sight == sight && tally.last.is_some())?;
        let last = tally.last.as_ref()?;
        last.watched.map(|watched| (watched, last.units))
    };
    let ((all, units_of_all), (filtered, units_filtered)) = (of(Sight::All)?, of(Sight::Filtered)?);
    let scaled = |count: u64, of: u64| {
        let scaled = u128::from(count) * u128::from(units) / u128::from(of.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    Some(Funnel {
        calls: scaled(all.calls, units_of_all),
        trapped: scaled(filtered.calls, units_filtered),
        kept: scaled(filtered.kept, units_filtered),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(id: &str, sight: Sight) -> Way {
        let told = figures::Way { id: id.into(), title: id.into(), prefix: id.into() };
        Way { told, prefix: vec![id.into()], sight }
    }

    fn subject(latency_runs: u32) -> Subject {
        Subject { id: "row".into(), title: "a row".into(), group: Group::Micro, latency_runs }
    }

    fn measured(ms: u64, calls: u64) -> Measured {
        let watched = Watched { calls, kept: calls / 2, stops: 30, records: 10, cpu_s: 0.5, peak_kib: calls };
        let took = Duration::from_millis(ms);
        let (run, watched) = (took, (calls > 0).then_some(watched));
        Measured { units: 1000, took, run, watched, own_cpu_s: Some(0.1), latencies: None }
    }

    #[test]
    fn a_speed_is_that_of_its_round_and_the_order_rotates() {
        let ways = [Way::native(), way("half", Sight::Filtered), way("all", Sight::All)];
        let mut started = Vec::new();
        let mut quiet = Quiet::new(Duration::ZERO);
        let row = Turns { rounds: 3, budget: None }.row(subject(0), &ways, &mut quiet, |way, _| {
            let turn = u64::try_from(started.len() / 3).unwrap() + 1;
            started.push(way.told.id.clone());
            Ok::<_, &str>(match &*way.told.id {
                "native" => measured(10 * turn, 0),
                "half" => measured(20 * turn, 100),
                _ => measured(100 * turn, 700),
            })
        });
        assert_eq!(started[..6], ["native", "half", "all", "half", "all", "native"]);
        let speeds: Vec<f64> = row.cells.iter().map(|cell| cell.speed.unwrap().median).collect();
        assert_eq!(speeds, [0.5, 0.1]);
        assert_eq!(row.cells[0].speed.map(|speed| (speed.lower, speed.upper)), Some((0.5, 0.5)));
        assert_eq!(row.funnel, Some(Funnel { calls: 700, trapped: 100, kept: 50 }));
        let cell = &row.cells[0];
        assert_eq!(
            (cell.tracer_cpu_s, cell.tracer_peak_kib, cell.stops_per_s),
            (Some(0.6), Some(100), Some(500.0))
        );
        assert_eq!((row.units, row.native_us.median), (1000, 30.0));
    }

    #[test]
    fn a_way_that_fails_is_skipped_with_its_reason_and_the_others_go_on() {
        let ways = [Way::native(), way("bad", Sight::Untold), way("good", Sight::Untold)];
        let mut quiet = Quiet::new(Duration::ZERO);
        let mut tries = 0;
        let row = Turns { rounds: 2, budget: None }.row(subject(1), &ways, &mut quiet, |way, _| {
            tries += u32::from(way.told.id == "bad");
            if way.told.id == "bad" { Err("no such thing") } else { Ok(measured(1, 0)) }
        });
        assert_eq!((tries, row.skipped), (1, None));
        assert_eq!(row.cells[0].skipped.as_deref(), Some("no such thing"));
        assert_eq!((row.cells[0].speed, row.cells[1].speed.map(|speed| speed.median)), (None, Some(1.0)));
    }

    #[test]
    fn a_row_that_cannot_be_made_natively_says_why() {
        let skipped = Row::skipped(subject(0), "there is no wrk".into());
        assert_eq!((skipped.skipped.as_deref(), skipped.units), (Some("there is no wrk"), 0));
        let mut quiet = Quiet::new(Duration::ZERO);
        let failed = |_: &Way, _| Err::<Measured, _>("there is no nginx");
        let row = Turns { rounds: 2, budget: None }.row(subject(0), &[Way::native()], &mut quiet, failed);
        assert_eq!((row.skipped.as_deref(), row.cells.len()), (Some("there is no nginx"), 0));
    }

    #[test]
    fn latencies_of_all_runs_are_told_together() {
        let ways = [Way::native(), way("slow", Sight::Untold)];
        let mut quiet = Quiet::new(Duration::ZERO);
        let row = Turns { rounds: 1, budget: None }.row(subject(2), &ways, &mut quiet, |way, purpose| {
            let mut run = measured(1, 0);
            let mut latencies = latency::empty();
            latency::add(&mut latencies, if way.prefix.is_empty() { 1_000 } else { 9_000 }, 100);
            run.latencies = (purpose == Purpose::Latency).then_some(latencies);
            Ok::<_, &str>(run)
        });
        let latency = row.cells[0].latency.as_ref().unwrap();
        assert!(
            (latency.native.p50 - 1.0).abs() < 0.1 && (latency.watched.p999 - 9.0).abs() < 0.1,
            "{latency:?}"
        );
    }

    #[test]
    fn no_round_begins_when_the_time_is_over() {
        let mut quiet = Quiet::new(Duration::ZERO);
        let mut runs = 0;
        let turns = Turns { rounds: 50, budget: Some(Duration::ZERO) };
        let row = turns.row(subject(0), &[Way::native()], &mut quiet, |_, _| {
            runs += 1;
            Ok::<_, &str>(measured(1, 0))
        });
        assert_eq!((runs, row.skipped), (2, None));
    }
}
