//! Rows of acts: this program does the act, natively or behind a tracer, and tells what it took.

use std::{collections::BTreeMap, ffi::OsString, path::Path, time::Duration};

use super::{
    acts::{Act, Performed},
    figures::{Group, Row},
    latency,
    quiet::Quiet,
    runs::{self, Output, RunError},
    turns::{Measured, Purpose, Subject, Turns, Way},
};

/// How long a run is to take in a slow way.
const RUN_AIM: Duration = Duration::from_secs(3);

/// So many times less is done in the first run of a way, which is not counted.
const FIRST_LESS: u64 = 16;

/// The least units of a run, if so many are asked for.
const FIRST_UNITS_MIN: u64 = 64;

/// Longest run of an act, in any way: one that takes so long is killed.
const RUN_MAX: Duration = Duration::from_secs(120);

/// How an act is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rounds.
    pub turns: Turns,
    /// So many times less than a full run has, at least one unit.
    pub less: u64,
    /// Runs of each way for latencies, where the act has some.
    pub latency_runs: u32,
}

/// Makes the row of an act, which the program `own` does: creance itself. Of a slow way a run does fewer units.
pub fn row(act: Act, own: &Path, ways: &[Way], extent: Extent, quiet: &mut Quiet) -> Row {
    let facts = act.facts();
    let units = (facts.units / extent.less.max(1)).max(1);
    let subject = Subject {
        id: facts.name.into(),
        title: facts.title.into(),
        group: Group::Micro,
        latency_runs: if facts.has_latency { extent.latency_runs } else { 0 },
    };
    let mut paces: BTreeMap<String, f64> = BTreeMap::new();
    extent.turns.row(subject, ways, quiet, |way, purpose| {
        let units = bounded(units, paces.get(&way.told.id).copied());
        let measured = measure((act, units), own, way, purpose)?;
        paces.extend(measured.unit_us().map(|us| (way.told.id.clone(), us)));
        Ok::<_, RunError>(measured)
    })
}

/// Units that take some seconds at most, as long as each took in the last run; the first run of a way is to find that out.
fn bounded(units: u64, unit_us: Option<f64>) -> u64 {
    let first = (units / FIRST_LESS).max(units.min(FIRST_UNITS_MIN));
    let Some(us) = unit_us.filter(|us| *us > 0.0) else { return first };
    let fits =
        Duration::try_from_secs_f64(RUN_AIM.as_secs_f64() / us).map_or(units.into(), |fits| fits.as_micros());
    u64::try_from(fits).unwrap_or(units).clamp(units.min(FIRST_UNITS_MIN), units)
}

fn measure((act, units): (Act, u64), own: &Path, way: &Way, purpose: Purpose) -> Result<Measured, RunError> {
    let count = units.to_string();
    let mut words: Vec<OsString> =
        [own.as_os_str(), "bench".as_ref(), "--act".as_ref(), act.facts().name.as_ref(), "--count".as_ref()]
            .map(Into::into)
            .to_vec();
    words.push(count.into());
    words.extend((purpose == Purpose::Latency).then(|| "--each".into()));
    let ended = runs::run(&way.words(words), Output::Read, RUN_MAX)?.well()?;
    let performed = ended.stdout.lines().find_map(|line| serde_json::from_str::<Performed>(line).ok());
    let performed = performed.ok_or_else(|| ended.no_figure())?;
    let mut measured = Measured::of(Duration::from_nanos(performed.ns), performed.units, &ended);
    if purpose == Purpose::Latency {
        let mut latencies = latency::empty();
        performed.latencies_ns.iter().for_each(|&(ns, count)| latency::add(&mut latencies, ns, count));
        measured.latencies = Some(latencies);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_way_does_fewer_units_but_some() {
        for (units, unit_us, expected) in [
            (65_536, None, 4096),
            (65_536, Some(1.0), 65_536),
            (65_536, Some(300.0), 10_000),
            (65_536, Some(1e12), 64),
            (10, None, 10),
            (10, Some(1e12), 10),
            (1000, Some(0.0), 64),
        ] {
            assert_eq!(bounded(units, unit_us), expected, "{units} {unit_us:?}");
        }
    }
}
