//! What tracing costs: the same work natively and in other ways, by turns, and what is told of it.
//!
//! It starts programs and measures them from outside; it knows nothing of rings and engines. The bench `overhead` and the
//! command `creance bench` are made of it. Start with [`figures`]; [`acts`] is the work in a loop, [`runs`] starts a program
//! and waits for it, [`turns`] makes a row.

pub mod acts;
pub mod figures;
pub mod latency;
pub mod machine;
pub mod micro;
pub mod quiet;
pub mod report;
pub mod runs;
pub mod table;
pub mod turns;

/// A count as a number to divide by. It is exact up to 2^53.
#[must_use]
pub fn real(count: u64) -> f64 {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(half(count >> 32)) * 4_294_967_296.0 + f64::from(half(count))
}

#[cfg(test)]
mod tests {
    use super::real;

    #[test]
    fn counts_are_numbers_to_divide_by() {
        for (count, expected) in
            [(0, 0.0), (7, 7.0), (1 << 32, 4_294_967_296.0), ((1 << 40) + 3, 1_099_511_627_779.0)]
        {
            assert!((real(count) - expected).abs() < 0.5, "{count}");
        }
    }
}
