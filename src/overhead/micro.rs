//! Rows of acts: this program does the act, natively or behind a tracer, and tells what it took.

use std::{ffi::OsString, path::Path, time::Duration};

use super::{
    acts::{Act, Performed},
    figures::{Group, Row},
    latency,
    quiet::Quiet,
    runs::{self, Output, RunError},
    turns::{Measured, Purpose, Subject, Turns, Way},
};

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

/// Makes the row of an act, which the program `own` does: creance itself.
pub fn row(act: Act, own: &Path, ways: &[Way], extent: Extent, quiet: &mut Quiet) -> Row {
    let facts = act.facts();
    let units = (facts.units / extent.less.max(1)).max(1);
    let subject = Subject {
        id: facts.name.into(),
        title: facts.title.into(),
        group: Group::Micro,
        latency_runs: if facts.has_latency { extent.latency_runs } else { 0 },
    };
    extent.turns.row(subject, ways, quiet, |way, purpose| measure(act, units, own, way, purpose))
}

fn measure(act: Act, units: u64, own: &Path, way: &Way, purpose: Purpose) -> Result<Measured, RunError> {
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
