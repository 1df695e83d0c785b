//! How many instructions the hot paths take: counted by callgrind, so that a regression shows where times are too noisy.
//!
//! ```text
//! cargo bench --bench instructions [-- [--write] [NAME...]]
//! ```
//!
//! Each case is done by this program under `valgrind --tool=callgrind` in two processes, [`FEW`] and [`MANY`] times. The
//! difference is that of the times in between: what starts, warms up and ends is in both and falls out, so nothing has to
//! be switched on and off inside. The counts are compared with those in `benches/instructions/`: a case that takes more
//! than [`TOLERANCE`] more fails. `--write` puts the counts there.
//!
//! The profile is that of the release: without link-time optimisation the same paths take a sixth to a half more, and
//! say nothing of what is shipped.

#[path = "instructions/cases.rs"]
mod cases;
mod shapes;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// How often a case is done in its two processes.
const FEW: u64 = 100;
const MANY: u64 = 1100;

/// What a count may be above its baseline, in thousandths.
const TOLERANCE: u64 = 50;

fn main() -> Result<ExitCode> {
    // What cargo tells every bench.
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--case", name, count] => cases::run(name, count.parse()?).map(|()| ExitCode::SUCCESS),
        ["--write"] => gate(&[], true),
        names => gate(names, false),
    }
}

/// Counts the cases of these names, or all, and compares or writes them.
fn gate(names: &[&str], is_writing: bool) -> Result<ExitCode> {
    let names = if names.is_empty() { cases::NAMES.to_vec() } else { names.to_vec() };
    if let Some(name) = names.iter().find(|name| !cases::NAMES.contains(name)) {
        bail!("no case {name:?}; there are: {}", cases::NAMES.join(", "));
    }
    let valgrind = first_line(Command::new("valgrind").arg("--version")).context("valgrind is missing")?;
    let baseline = baseline()?;
    let made_by = format!("{}; {valgrind}", first_line(Command::new("rustc").arg("--version"))?);
    let mut counts = BTreeMap::new();
    let mut worse = Vec::new();
    println!("instructions, counted by {made_by}");
    for name in names {
        let count = (total(name, MANY)? - total(name, FEW)?) / (MANY - FEW);
        let verdict = Verdict::of(count, baseline.counts.get(name).copied());
        println!("{name:<24} {count:>8}  {verdict}");
        worse.extend(matches!(verdict, Verdict::Worse(_)).then_some(name));
        counts.insert(name, count);
    }
    if is_writing {
        return write(&made_by, &counts).map(|()| ExitCode::SUCCESS);
    }
    if worse.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "\nMore instructions than {BASELINES}/{} says, by over {} per cent: {}.\nIf that is meant, count anew with \
         `cargo bench --bench instructions -- --write`, and commit the file with the reason.\nThe file was made by \
         {}. Other versions make other code: if these differ, see whether the change before yours fails too.",
        baseline_name(),
        TOLERANCE / 10,
        worse.join(", "),
        baseline.made_by
    );
    Ok(ExitCode::FAILURE)
}

/// How a count compares. The differences are in per cent of the baseline.
enum Verdict {
    New,
    Same(f64),
    Worse(f64),
    /// So much better that the baseline should follow: until it does, half of the gain may be lost unseen.
    Better(f64),
}

impl Verdict {
    fn of(count: u64, baseline: Option<u64>) -> Self {
        let Some(baseline) = baseline.filter(|baseline| *baseline > 0) else { return Self::New };
        let float = |count: u64| u32::try_from(count).map_or(f64::INFINITY, f64::from);
        let difference = (float(count) / float(baseline) - 1.0) * 100.0;
        match () {
            () if count * 1000 > baseline * (1000 + TOLERANCE) => Self::Worse(difference),
            () if count * 1000 < baseline * (1000 - TOLERANCE) => Self::Better(difference),
            () => Self::Same(difference),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New => write!(formatter, "(no baseline)"),
            Self::Same(difference) => write!(formatter, "{difference:+.1} %"),
            Self::Worse(difference) => write!(formatter, "{difference:+.1} %: MORE"),
            Self::Better(difference) => write!(formatter, "{difference:+.1} %: keep the gain with --write"),
        }
    }
}

/// All instructions of a process that does the case so many times.
fn total(name: &str, count: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(env::current_exe()?).args(["--case", name, &count.to_string()]).stdin(Stdio::null());
    let output = command.output().context("starting valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    // ==PID== Collected : COUNT
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")).context(text.to_string())?;
    collected.1.trim().parse().with_context(|| format!("the count {:?}", collected.1))
}

fn first_line(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// The counts that are committed.
struct Baseline {
    made_by: String,
    counts: BTreeMap<String, u64>,
}

/// Where they are, a file for each architecture.
const BASELINES: &str = "benches/instructions";

fn baseline_name() -> String {
    format!("{}.txt", env::consts::ARCH)
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(BASELINES).join(baseline_name())
}

fn baseline() -> Result<Baseline> {
    let path = baseline_path();
    let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
    let made_by = text.lines().find_map(|line| line.strip_prefix("# by ")).unwrap_or("nobody yet").to_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let counts = lines.map(|line| {
        let (name, count) = line.rsplit_once(' ').with_context(|| format!("the line {line:?}"))?;
        Ok((name.trim_end().to_owned(), count.parse().with_context(|| format!("the line {line:?}"))?))
    });
    Ok(Baseline { made_by, counts: counts.collect::<Result<_>>()? })
}

fn write(made_by: &str, counts: &BTreeMap<&str, u64>) -> Result<()> {
    let mut text = format!(
        "# Instructions of each hot path: cargo bench --bench instructions -- --write\n# by {made_by}\n"
    );
    for (name, count) in counts {
        text.push_str(&format!("{name} {count}\n"));
    }
    let path = baseline_path();
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
