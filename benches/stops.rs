//! What stops cost: the same work natively, under each engine, under a tracer that does nothing (`tests/fixtures/bare.c`), and
//! under strace, by turns in one run.
//!
//! ```text
//! cargo bench --bench stops [-- [--quick] [--rows NAME,...]]
//! ```
//!
//! The rules are one rule on one path, so that it is known which opens are dropped and which are kept. It prints a
//! Markdown table of ratios to native. A run waits for a quiet machine, and is made again if it was not quiet meanwhile,
//! for a bounded time; what others took of the CPUs is told below the table. A row that the machine cannot make, and strace where it is missing, is left out
//! with the reason.

mod figures;
#[path = "../tests/support/fixture.rs"]
mod fixture;
mod printed;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, iter,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use creance::overhead::{figures::Machine, quiet::Quiet};
use figures::spread;
use printed::printed;
use tempfile::TempDir;

/// Rounds of a row. Odd, so that the median is a run.
const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 3;

/// So many times less work in a quick run.
const QUICK: u32 = 5;

/// From the start on runs wait so long for a quiet machine, and are made again where it was not.
const PATIENCE: Duration = Duration::from_secs(900);

/// The ways to run the work, after native.
const WAYS: [(&str, &[&str]); 5] = [
    ("ptrace, `--placement off`", &["--engine", "ptrace", "--placement", "off"]),
    ("ptrace", &["--engine", "ptrace"]),
    ("notify", &["--engine", "notify"]),
    (BARE, &[]),
    (STRACE, &[]),
];
const BARE: &str = "bare tracer, one CPU";
const STRACE: &str = "strace";

/// The calls that creance traps by the rule, and those that start programs.
const STRACE_CALLS: &str = "trace=open,openat,openat2,execve,execveat";

/// What is run: see `tests/fixtures/stops.c`.
struct Row {
    name: &'static str,
    title: &'static str,
    work: &'static str,
    count: u32,
    argument: Argument,
    /// Of one CPU, in thousandths.
    quota: Option<u32>,
}

enum Argument {
    Text(&'static str),
    /// A path that is there and that no rule is about.
    Dropped,
    /// The path that the rule is about.
    Kept,
}

const fn row(
    (name, title): (&'static str, &'static str),
    (work, count): (&'static str, u32),
    argument: Argument,
) -> Row {
    Row { name, title, work, count, argument, quota: None }
}

const fn quota(names: (&'static str, &'static str), millicpus: u32) -> Row {
    Row { quota: Some(millicpus), ..row(names, ("busy", 10_000), Argument::Dropped) }
}

const ROWS: [Row; 12] = [
    row(("missing", "open of a missing path"), ("open", 10_000), Argument::Text("/nonexistent/missing")),
    row(("dropped", "open of a dropped path"), ("open", 10_000), Argument::Dropped),
    row(("kept", "open of a kept path"), ("open", 5_000), Argument::Kept),
    row(("threads", "a thread"), ("threads", 2_000), Argument::Text("")),
    row(("programs", "fork and exec"), ("programs", 200), Argument::Text("")),
    row(("storm", "open by 4 threads in a storm of signals"), ("storm", 4_000), Argument::Dropped),
    row(("pair", "open and 20 us of computing, by 2 processes"), ("pair", 5_000), Argument::Dropped),
    quota(("quota-0.25", "open and 20 us of computing, 0.25 CPU"), 250),
    quota(("quota-0.5", "the same, 0.5 CPU"), 500),
    quota(("quota-1", "the same, 1 CPU"), 1000),
    row(("idle", "open beside 5,000 idle threads"), ("idle", 2_000), Argument::Dropped),
    row(
        ("launch", "a program that bash starts"),
        ("command", 300),
        Argument::Text("for i in {1..COUNT}; do /bin/true; done"),
    ),
];

fn main() -> Result<()> {
    let given = Given::read()?;
    let bench = Bench::new()?;
    let rounds = if given.is_quick { ROUNDS_QUICK } else { ROUNDS };
    println!("{}; {rounds} rounds by turns; median (lower to upper quartile)\n", Machine::here(&[]).line());
    println!("| | native, us | {} |", WAYS.map(|(title, _)| title).join(" | "));
    println!("|---|{}", "---|".repeat(WAYS.len() + 1));
    let mut quiet = Quiet::new(PATIENCE);
    for row in given.rows() {
        let count = if given.is_quick { row.count / QUICK } else { row.count };
        let cells = match row.quota.map(Quota::new).transpose() {
            Ok(quota) => bench.measure(row, (count, rounds), quota.as_ref(), &mut quiet)?,
            Err(error) => vec![format!("skipped: {error:#}")],
        };
        println!("| {} | {} |", row.title, cells.join(" | "));
    }
    if !quiet.foreign_percent().is_empty() {
        println!(
            "\nShare of the CPUs that others took, in per cent of a run: {}",
            spread(quiet.foreign_percent(), 1)?
        );
    }
    if bench.strace.is_none() {
        println!("\nNo strace in PATH.");
    }
    Ok(())
}

/// What the command line asks for.
struct Given {
    is_quick: bool,
    names: Vec<String>,
}

impl Given {
    fn read() -> Result<Self> {
        let mut given = Self { is_quick: false, names: Vec::new() };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo tells every bench.
                "--bench" => {}
                "--quick" => given.is_quick = true,
                "--rows" => {
                    let names = words.next().context("--rows needs names")?;
                    given.names = names.split(',').map(str::to_owned).collect();
                }
                _ => bail!("not known: {word}"),
            }
        }
        for name in &given.names {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            ensure!(known.contains(&name.as_str()), "no row {name}; there are {}", known.join(","));
        }
        Ok(given)
    }

    fn rows(&self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(|row| self.names.is_empty() || self.names.iter().any(|name| name == row.name))
    }
}

/// What all runs share.
struct Bench {
    fixture: PathBuf,
    bare: PathBuf,
    directory: TempDir,
    strace: Option<PathBuf>,
}

impl Bench {
    fn new() -> Result<Self> {
        let directory = TempDir::new()?;
        let (kept, dropped) = (directory.path().join("kept"), directory.path().join("dropped"));
        fs::write(&kept, "")?;
        fs::write(&dropped, "")?;
        let rule = format!(
            "- rule: One path\n  desc: The path of which every open is kept.\n  \
             condition: evt.type in (open, openat, openat2) and fd.name = {}\n  output: opened\n  priority: INFO\n",
            kept.display()
        );
        fs::write(directory.path().join("rules.yaml"), rule)?;
        let path = env::var_os("PATH").unwrap_or_default();
        let strace =
            env::split_paths(&path).map(|directory| directory.join(STRACE)).find(|path| path.is_file());
        Ok(Self { fixture: fixture::fixture("stops"), bare: fixture::fixture("bare"), directory, strace })
    }

    /// The cells of a row: native, then each way.
    fn measure(
        &self,
        row: &Row,
        (count, rounds): (u32, usize),
        quota: Option<&Quota>,
        quiet: &mut Quiet,
    ) -> Result<Vec<String>> {
        let mut native: Vec<f64> = Vec::new();
        let mut ratios = vec![Vec::new(); WAYS.len()];
        let run = |words: &[&OsStr]| -> Result<f64> {
            let mut command = Quota::command(quota, words);
            let ns = printed(command.args(self.work(row, count)), "ns=")?;
            Ok(ns / 1000.0 / f64::from(count))
        };
        for round in 0..=rounds {
            let bare = quiet.run(|| run(&[]))?;
            // The first round warms caches and is not counted.
            let is_counted = round > 0;
            native.extend(is_counted.then_some(bare));
            for ((title, flags), ratios) in WAYS.iter().zip(&mut ratios) {
                if let Some(words) = self.words(title, flags) {
                    let words: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
                    let ratio = quiet.run(|| run(&words))? / bare;
                    ratios.extend(is_counted.then_some(ratio));
                }
            }
        }
        let ratios = ratios
            .iter_mut()
            .map(|ratios| if ratios.is_empty() { Ok("not measured".to_owned()) } else { spread(ratios, 2) });
        iter::once(spread(&native, 2)).chain(ratios).collect()
    }

    /// What stands before the work; `None` if it is missing here.
    fn words(&self, title: &str, flags: &[&str]) -> Option<Vec<OsString>> {
        if title == STRACE {
            let strace = self.strace.as_ref()?;
            let flags = ["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", STRACE_CALLS, "--"];
            return Some(iter::once(strace.into()).chain(flags.map(Into::into)).collect());
        }
        if title == BARE {
            return Some(vec![self.bare.clone().into()]);
        }
        let rules = self.directory.path().join("rules.yaml");
        let before = [env!("CARGO_BIN_EXE_creance"), "run", "--output", "null", "--rules"].map(Into::into);
        let flags = flags.iter().map(Into::into).chain(iter::once("--".into()));
        Some(before.into_iter().chain(iter::once(rules.into())).chain(flags).collect())
    }

    /// The work itself.
    fn work(&self, row: &Row, count: u32) -> [OsString; 4] {
        let argument = match row.argument {
            Argument::Text(text) => text.replace("COUNT", &count.to_string()).into(),
            Argument::Dropped => self.directory.path().join("dropped").into(),
            Argument::Kept => self.directory.path().join("kept").into(),
        };
        [self.fixture.clone().into(), row.work.into(), count.to_string().into(), argument]
    }
}

/// A control group that bounds the CPU time of what runs in it. Dropping it removes it.
struct Quota(PathBuf);

impl Quota {
    const PERIOD_US: u32 = 100_000;

    fn new(millicpus: u32) -> Result<Self> {
        let quota_us = Self::PERIOD_US / 1000 * millicpus;
        let name = format!("creance-stops-{}", process::id());
        let (unified, cpu) = (Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup/cpu"));
        let is_unified = unified.join("cgroup.controllers").is_file();
        let quota = Self(if is_unified { unified } else { cpu }.join(name));
        if is_unified {
            fs::write(unified.join("cgroup.subtree_control"), "+cpu").context("the controller of CPUs")?;
        }
        fs::create_dir(&quota.0).with_context(|| format!("making {}", quota.0.display()))?;
        let write = |file: &str, text: String| {
            fs::write(quota.0.join(file), text).with_context(|| format!("writing {file}"))
        };
        if is_unified {
            write("cpu.max", format!("{quota_us} {}", Self::PERIOD_US))?;
        } else {
            write("cpu.cfs_period_us", Self::PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", quota_us.to_string())?;
        }
        Ok(quota)
    }

    /// A command of these words, within the quota if there is one, to which more words can be added.
    fn command(quota: Option<&Self>, words: &[&OsStr]) -> Command {
        let mut command = Command::new("/bin/sh");
        let enter = quota.map_or("exec \"$@\"", |_| "echo $$ > \"$0\"/cgroup.procs && exec \"$@\"");
        command.args(["-c", enter]).arg(quota.map_or(Path::new("sh"), |quota| &quota.0)).args(words);
        command
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The last process has been waited for. If it is not gone, an empty group harms nobody.
        let _ = fs::remove_dir(&self.0);
    }
}
