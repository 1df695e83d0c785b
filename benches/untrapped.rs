//! What creance costs a call that it does not trap: by design nothing, and here is the proof.
//!
//! The bench runs itself as a fixture that makes one cheap system call many times, natively and under creance, by
//! turns, so that a change of the machine's speed meets both alike. It prints the rows of a Markdown table: the
//! first with a filter that does not trap the call, the second, for contrast, with one that does.

use std::{
    env,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

/// Runs of each kind. Odd, so that the median is a run.
const PAIRS: usize = 15;

/// Calls of one run that traps none of them.
const UNTRAPPED_CALLS: u32 = 2_000_000;

/// Calls of one run that traps each of them.
const TRAPPED_CALLS: u32 = 10_000;

/// The first argument of the fixture.
const FIXTURE: &str = "fixture";

/// What the fixture prints before its figure.
const RESULT: &str = "ns_per_call=";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, mode, calls] = arguments.as_slice()
        && mode == FIXTURE
    {
        return fixture(calls.parse().context("the number of calls")?);
    }
    println!("getppid, {PAIRS} pairs of runs by turns; median (lower quartile to upper quartile)\n");
    println!("| filter | native, ns a call | under creance, ns a call | ratio of a pair |");
    println!("|---|---|---|---|");
    measure("built in: does not trap it", &[], UNTRAPPED_CALLS)?;
    measure("`--syscalls getppid`: traps it", &["--syscalls", "getppid"], TRAPPED_CALLS)
}

/// Makes the calls and prints what one took. getppid(2) is never answered by libc or the vDSO.
fn fixture(calls: u32) -> Result<()> {
    ensure!(calls > 0, "at least one call");
    let start = Instant::now();
    for _ in 0..calls {
        std::hint::black_box(nix::unistd::getppid());
    }
    println!("{RESULT}{}", start.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
    Ok(())
}

/// Runs the pairs and prints a row of the table.
fn measure(title: &str, flags: &[&str], calls: u32) -> Result<()> {
    let itself = env::current_exe().context("finding the bench's own program")?;
    let calls = calls.to_string();
    let native = || {
        let mut command = Command::new(&itself);
        command.args([FIXTURE, &calls]);
        command
    };
    let traced = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_creance"));
        command.args(["run", "--output", "null"]).args(flags).arg("--").arg(&itself).args([FIXTURE, &calls]);
        command
    };
    // The first run of each warms caches and is not counted.
    run(native())?;
    run(traced())?;
    let mut native_ns = Vec::with_capacity(PAIRS);
    let mut traced_ns = Vec::with_capacity(PAIRS);
    let mut ratios = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        let (without, with) = (run(native())?, run(traced())?);
        native_ns.push(without);
        traced_ns.push(with);
        ratios.push(with / without);
    }
    println!("| {title} | {} | {} | {} |", spread(native_ns, 1)?, spread(traced_ns, 1)?, spread(ratios, 3)?);
    Ok(())
}

/// Runs the fixture and reads its figure.
fn run(mut command: Command) -> Result<f64> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = text.lines().find_map(|line| line.strip_prefix(RESULT));
    let Some(figure) = figure else {
        bail!("{command:?} printed no figure: {text:?}");
    };
    figure.parse().with_context(|| format!("reading the figure {figure:?}"))
}

/// Median and quartiles, the nearest runs.
fn spread(mut figures: Vec<f64>, digits: usize) -> Result<String> {
    figures.sort_by(f64::total_cmp);
    let at = |quarter: usize| figures.get(figures.len() * quarter / 4).copied().context("no runs");
    Ok(format!("{:.digits$} ({:.digits$} to {:.digits$})", at(2)?, at(1)?, at(3)?))
}
