//! What the plugin counts, for Falco's metrics. They may be read while a batch is made, and outlive a capture.

use std::sync::atomic::{AtomicU64, Ordering};

use falco_plugin::base::{Metric, MetricLabel, MetricType, MetricValue};

/// Defines the counters, each with its name in Falco's metrics.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident, $kind:ident;)+) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $($(#[$doc])+ pub(super) $name: Counter,)+
        }

        impl Counters {
            pub(super) fn metrics(&self) -> Vec<Metric> {
                vec![$({
                    let name = const { crate::plugin::counters::name(concat!(stringify!($name), "\0")) };
                    let label = MetricLabel::new(name, MetricType::$kind);
                    label.with_value(MetricValue::U64(self.$name.value()))
                },)+]
            }
        }
    };
}

counters! {
    /// Records read from all rings.
    records, Monotonic;
    /// Events made of them, introductions of processes included.
    events, Monotonic;
    /// Records that tracers announced as lost, for want of room in a ring.
    records_lost, Monotonic;
    /// Records that are missing without an announcement: given up because a ring made no sense.
    records_skipped, Monotonic;
    /// Records that could not be decoded.
    decode_errors, Monotonic;
    /// Events that the encoder refused. There should be none.
    events_refused, Monotonic;
    /// Processes and threads that were not remembered because too many were known.
    processes_unremembered, Monotonic;
    /// Tracers whose ring is being read.
    tracers_connected, NonMonotonic;
    /// Tracers that were ever connected, each time counted.
    tracers_seen, Monotonic;
    /// Tracers that could not be connected to, each try counted.
    links_failed, Monotonic;
    /// Rings that made no sense at some position, and were read on from their head.
    rings_reset, Monotonic;
    /// From the moment that a record's result was known until it was read, in nanoseconds: 99 % of them were faster.
    ring_latency_p99_ns, NonMonotonic;
}

/// A C string of a text that ends in a NUL.
const fn name(text: &'static str) -> &'static std::ffi::CStr {
    match std::ffi::CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => c"",
    }
}

/// One number, written by the thread that makes batches. Relaxed: it stands for itself alone.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_name() {
        assert_eq!(name("records\0"), c"records");
        assert_eq!(Counters::default().metrics().len(), 12);
    }
}
