//! What creance costs a call that it does not trap: no more than any seccomp filter does, and here is the proof.
//!
//! The bench runs itself as a fixture that makes one cheap system call many times: natively, behind a filter that
//! allows everything, and under creance. The three take turns, so that a change of the machine's speed meets all
//! alike. The second is what a process in a container pays anyway, since the runtime installs a filter of its own.
//! It prints the rows of a Markdown table: the first with a filter that does not trap the call, the second, for
//! contrast, with one that does.

mod figures;
mod printed;

use std::{collections::BTreeMap, env, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use figures::spread;
use printed::printed;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Rounds of runs. Odd, so that the median is a run.
const ROUNDS: usize = 15;

/// Calls of one run that traps none of them.
const UNTRAPPED_CALLS: u32 = 1_000_000;

/// Calls of one run that traps each of them.
const TRAPPED_CALLS: u32 = 10_000;

/// The first argument of the fixture.
const FIXTURE: &str = "fixture";

/// The first argument of the fixture behind a filter that allows everything.
const FILTERED_FIXTURE: &str = "filtered-fixture";

/// What the fixture prints before its figure.
const RESULT: &str = "ns_per_call=";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, mode, calls] = arguments.as_slice()
        && [FIXTURE, FILTERED_FIXTURE].contains(&mode.as_str())
    {
        if mode == FILTERED_FIXTURE {
            install_empty_filter()?;
        }
        return fixture(calls.parse().context("the number of calls")?);
    }
    println!(
        "getppid in ns a call, {ROUNDS} rounds of runs by turns; median (lower quartile to upper quartile)\n"
    );
    println!(
        "| creance's filter | native | empty filter | under creance | creance / native | creance / empty filter |"
    );
    println!("|---|---|---|---|---|---|");
    measure("built in: does not trap it", &[], UNTRAPPED_CALLS)?;
    measure("`--syscalls getppid`: traps it", &["--syscalls", "getppid"], TRAPPED_CALLS)
}

/// Puts this process behind a filter that allows every call.
fn install_empty_filter() -> Result<()> {
    let arch = env::consts::ARCH.try_into().context("the architecture of the filter")?;
    let filter = SeccompFilter::new(BTreeMap::new(), SeccompAction::Allow, SeccompAction::Trap, arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("installing the empty filter")
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

/// Runs the rounds and prints a row of the table.
fn measure(title: &str, flags: &[&str], calls: u32) -> Result<()> {
    let itself = env::current_exe().context("finding the bench's own program")?;
    let calls = calls.to_string();
    let native = |mode: &str| {
        let mut command = Command::new(&itself);
        command.args([mode, &calls]);
        command
    };
    let traced = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_creance"));
        command.args(["run", "--output", "null"]).args(flags).arg("--").arg(&itself).args([FIXTURE, &calls]);
        command
    };
    let run = |mut command: Command| printed(&mut command, RESULT);
    // The first run of each warms caches and is not counted.
    run(native(FIXTURE))?;
    run(native(FILTERED_FIXTURE))?;
    run(traced())?;
    let mut columns: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let (bare, filtered, under) = (run(native(FIXTURE))?, run(native(FILTERED_FIXTURE))?, run(traced())?);
        for (column, figure) in
            columns.iter_mut().zip([bare, filtered, under, under / bare, under / filtered])
        {
            column.push(figure);
        }
    }
    let cells: Vec<String> = columns
        .into_iter()
        .zip([1, 1, 1, 3, 3])
        .map(|(column, digits)| spread(&column, digits))
        .collect::<Result<_>>()?;
    println!("| {title} | {} |", cells.join(" | "));
    Ok(())
}
