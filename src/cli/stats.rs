//! `--stats`: what a capture cost, in a table for people.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::run::Watch;
use crate::{
    counters::EngineCounters,
    engine::{Stage, choice::EngineKind},
    pipeline::Report,
    sys::process::ResourceUsage,
};

/// The table, a line per figure. An audit shows what share of all calls each stage of the funnel lets through.
pub(super) fn render(report: &Report, watch: &Watch, is_audit: bool) -> String {
    let (engine, recorded) = (&report.outcome.counters, &report.outcome.recorded);
    let mut text = String::from("creance: statistics\n");
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<26}{value}");
    };
    line("engine", watch.choice.to_string());
    if watch.choice.engine == EngineKind::Notify {
        line(
            "workers",
            watch.workers.map_or_else(|| "one for each CPU, at least two".into(), |count| count.to_string()),
        );
    }
    for (name, value) in if is_audit { audited(engine) } else { trapped(engine) } {
        line(name, value);
    }
    line("stops", engine.stops.to_string());
    line("packs stuck to one CPU", engine.packs_stuck.to_string());
    line("tracees created", engine.tracees_created.to_string());
    line("tracees gone in a stop", engine.tracees_gone.to_string());
    line("requests refused", engine.requests_refused.to_string());
    line("arguments not readable", engine.reads_failed.to_string());
    line("records", recorded.records.to_string());
    line("records lost", recorded.records_lost.to_string());
    line("bytes", recorded.bytes.to_string());
    line("waits for ring room", recorded.waits_for_room.to_string());
    match &report.consumed {
        Some(consumed) => {
            line("records not decoded", consumed.counters.decode_errors.to_string());
            line("processes not remembered", consumed.counters.processes_unremembered.to_string());
            line("ring latency, us", times(&consumed.ring_latency_ns));
        }
        // What a consumer elsewhere sees, it tells in its own metrics.
        None => line("records not read", report.records_unread.to_string()),
    }
    for (stage, name) in
        Stage::ALL.into_iter().zip(["dropped call held, us", "kept call held, us", "other stop held, us"])
    {
        line(name, times(report.outcome.holds.of(stage)));
    }
    line("calls not followed", engine.calls_unfollowed.to_string());
    line("calls on copies", engine.calls_replaced.to_string());
    line("calls sent back", engine.calls_sent_back.to_string());
    line("calls changeable", engine.calls_changeable.to_string());
    line("calls compared", engine.calls_compared.to_string());
    line("calls mismatched", engine.calls_mismatched.to_string());
    if let Some(filter) = report.outcome.filter {
        let yes = |is: bool| if is { "yes" } else { "no" };
        let note = if filter.no_new_privs { " (setuid programs have no effect in the workload)" } else { "" };
        line("no_new_privs set", format!("{}{note}", yes(filter.no_new_privs)));
        line("listener held", yes(filter.has_listener).to_owned());
    }
    if let Some(usage) = ResourceUsage::of_this_process() {
        line("CPU time, s", format!("{:.3}", usage.cpu.as_secs_f64()));
        line("peak memory, KiB", usage.peak_kib.to_string());
    }
    text
}

/// The funnel of calls that were trapped.
fn trapped(engine: &EngineCounters) -> [(&'static str, String); 4] {
    [
        ("calls trapped", engine.calls_trapped.to_string()),
        ("calls not wanted", engine.calls_unwanted.to_string()),
        ("calls dropped by triage", engine.calls_dropped.to_string()),
        ("calls kept", engine.calls_kept.to_string()),
    ]
}

/// The funnel of all calls that were made.
fn audited(engine: &EngineCounters) -> [(&'static str, String); 4] {
    let seen = engine.calls_trapped;
    let share = |calls: u64| {
        let hundredths = u128::from(calls) * 10_000 / u128::from(seen.max(1));
        format!("{calls} ({}.{:02} %)", hundredths / 100, hundredths % 100)
    };
    [
        ("calls seen", seen.to_string()),
        ("calls wanted by number", share(seen.saturating_sub(engine.calls_number_unwanted))),
        ("calls wanted by registers", share(seen.saturating_sub(engine.calls_unwanted))),
        ("calls kept by triage", share(engine.calls_kept)),
    ]
}

fn times(histogram: &Histogram<u64>) -> String {
    let us = |ns: u64| format!("{}.{}", ns / 1000, ns % 1000 / 100);
    let quantile = |q| us(histogram.value_at_quantile(q));
    format!(
        "p50 {}  p99 {}  p99.9 {}  max {}",
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        us(histogram.max())
    )
}
