//! Spreads as text, for the benches that print tables.

use anyhow::{Context, Result};
use creance::overhead::figures::Spread;

/// Median and quartiles of runs, as text.
pub(crate) fn spread(runs: &[f64], digits: usize) -> Result<String> {
    let Spread { lower, median, upper } = Spread::of(runs).context("no runs")?;
    Ok(format!("{median:.digits$} ({lower:.digits$} to {upper:.digits$})"))
}
