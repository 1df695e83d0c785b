//! The two clocks: wall-clock time for records, monotonic time for how long a stop is held.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Wall-clock time (`CLOCK_REALTIME`) in nanoseconds since 1970; 0 for a clock set before that.
#[must_use]
pub fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall-clock time of a moment that has passed, as [`wall_ns`] would have told it if the clock was not set since, or
/// somewhat earlier.
#[must_use]
pub fn wall_ns_at(moment: Instant) -> u64 {
    // In this order: whatever comes between the two makes it earlier, never later than it was.
    let now_ns = wall_ns();
    let ago = u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX);
    now_ns.saturating_sub(ago)
}

/// Monotonic time (`CLOCK_MONOTONIC`) in nanoseconds, by which processes of one machine can compare moments.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
