//! The two clocks: wall-clock time for records, monotonic time for how long a stop is held.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time (`CLOCK_REALTIME`) in nanoseconds since 1970; 0 for a clock set before that.
#[must_use]
pub fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
