//! What the benches that time whole programs share: the figure that a program prints of itself, and the spread of many.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Runs the program and reads the figure that it prints behind this label.
pub(crate) fn printed(command: &mut Command, label: &str) -> Result<f64> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(figure) = text.lines().find_map(|line| line.strip_prefix(label)) else {
        bail!("{command:?} printed no figure: {text:?}");
    };
    figure.parse().with_context(|| format!("reading the figure {figure:?}"))
}

/// Median and quartiles, the nearest runs.
pub(crate) fn spread(figures: &mut [f64], digits: usize) -> Result<String> {
    figures.sort_by(f64::total_cmp);
    let at = |quarter: usize| figures.get(figures.len() * quarter / 4).copied().context("no runs");
    Ok(format!("{:.digits$} ({:.digits$} to {:.digits$})", at(2)?, at(1)?, at(3)?))
}
