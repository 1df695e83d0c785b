//! The figure that a program prints of itself, for benches that time whole programs.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Runs the program and reads the figure that it prints behind this label.
pub(crate) fn printed(command: &mut Command, label: &str) -> Result<f64> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = text.lines().find_map(|line| line.strip_prefix(label));
    let said = || {
        let error = String::from_utf8_lossy(&output.stderr);
        format!("ended with {}: {}", output.status, error.lines().next().unwrap_or("no word"))
    };
    let figure = figure.filter(|_| output.status.success()).with_context(said)?;
    figure.parse().with_context(|| format!("reading the figure {figure:?}"))
}
