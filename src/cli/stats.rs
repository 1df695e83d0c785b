//! `--stats`: what a capture cost, in a table for people.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::pipeline::Report;

/// The table, a line per figure.
pub(super) fn render(report: &Report) -> String {
    let (engine, recorded) = (&report.outcome.counters, &report.outcome.recorded);
    let mut text = String::from("creance: statistics\n");
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<26}{value}");
    };
    line("calls trapped", engine.calls_trapped.to_string());
    line("calls not wanted", engine.calls_unwanted.to_string());
    line("stops", engine.stops.to_string());
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
    line("stop held, us", times(&report.outcome.hold_ns));
    if let Some(filter) = report.outcome.filter {
        let yes = |is: bool| if is { "yes" } else { "no" };
        let note = if filter.no_new_privs { " (setuid programs have no effect in the workload)" } else { "" };
        line("no_new_privs set", format!("{}{note}", yes(filter.no_new_privs)));
        line("listener held", yes(filter.has_listener).to_owned());
    }
    text
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
