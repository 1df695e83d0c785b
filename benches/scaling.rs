//! The curves of the overhead report by themselves: how costs grow.
//!
//! ```text
//! cargo bench --bench scaling [-- [--quick] [CURVE...]]
//! ```
//!
//! It prints a line for each point: the median and the quartiles of its runs.

#[path = "../tests/support/fixture.rs"]
mod fixture;
#[path = "overhead/scaling.rs"]
mod scaling;

use std::env;

use anyhow::{Result, ensure};
use scaling::{IDS, Scaling};

fn main() -> Result<()> {
    let mut is_quick = false;
    let mut ids: Vec<String> = Vec::new();
    for word in env::args().skip(1) {
        match word.as_str() {
            // What cargo tells every bench.
            "--bench" => {}
            "--quick" => is_quick = true,
            _ => {
                ensure!(IDS.contains(&word.as_str()), "no curve {word}; there are {}", IDS.join(", "));
                ids.push(word);
            }
        }
    }
    let ids: Vec<&str> = if ids.is_empty() { IDS.to_vec() } else { ids.iter().map(String::as_str).collect() };
    let scaling = Scaling::new(env!("CARGO_BIN_EXE_creance"), fixture::fixture("stops"), is_quick);
    let scaled = scaling.measure(&ids)?;
    for curve in &scaled.curves {
        println!("{}, {}: {} by {}", curve.id, curve.title, curve.y, curve.x);
        for line in &curve.lines {
            for point in &line.points {
                let (x, y) = (point.x, point.y);
                println!("  {:<40} {x:>6} {:>10.2} ({:.2} to {:.2})", line.title, y.median, y.lower, y.upper);
            }
        }
    }
    for reason in &scaled.skipped {
        println!("skipped: {reason}");
    }
    Ok(())
}
