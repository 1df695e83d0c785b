//! What tracing costs: things in a loop and real programs, natively, under creance in several ways, and under other tracers,
//! by turns in one run (docs/overhead.md).
//!
//! ```text
//! CREANCE_FALCO_RULES='stable.yaml ...' cargo bench --bench overhead -- [--quick] [--rows NAME,...] [--engines NAME,...]
//!     [--interests NAME,...] [--against NAME|NAME=TEMPLATE|none]... [--rounds N] [--patience SECONDS] [--report DIR]
//! ```
//!
//! It prints a table, and writes the figures and the report into DIR, row by row; `--render FIGURES.json --report DIR` makes a
//! report again from a file of figures. A run waits for a quiet machine for a bounded time; what others took of the CPUs is
//! told. A row that the machine cannot make is left out with the reason, and so is a tracer that is missing. TEMPLATE is the
//! command of any other tracer, with `{}` at its end for the workload's: `--against pdig='pdig -- {}'`.

mod given;
mod scripts;
mod servers;
mod ways;

use std::{env, fs, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result};
use creance::overhead::{
    acts::Act,
    figures::{Figures, Group, Machine, Row},
    machine::today,
    micro,
    quiet::Quiet,
    runs::are_there,
    table,
    turns::{Subject, Turns, Way},
};
use tempfile::TempDir;

use given::Given;
use scripts::Script;
use servers::Server;

/// The environment of all that is run, but for what cargo adds: that makes every program look for libraries in vain.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")];

/// Where the names of Falco's own rule files are, stable ones first. They are not shipped here.
const RULES: &str = "CREANCE_FALCO_RULES";

fn main() -> Result<()> {
    if env::vars_os().count() > ENVIRONMENT.len() + 1 {
        return start_again();
    }
    let given = Given::read()?;
    if let Some(file) = given.render() {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let figures = serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        return given.report().map_or(Ok(()), |directory| report(&figures, directory));
    }
    let ways = given.ways()?;
    let mut quiet = Quiet::new(given.patience());
    let mut figures = Figures {
        version: env!("CARGO_PKG_VERSION").into(),
        date: today(),
        machine: Machine::here(&[]),
        rounds: given.turns().rounds,
        ways: ways.iter().map(|way| way.told.clone()).collect(),
        rows: Vec::new(),
        curves: Vec::new(),
    };
    for name in given.rows() {
        let row = row(name, &ways, &given, &mut quiet);
        eprintln!("{name}: {}", row.skipped.as_deref().unwrap_or("measured"));
        figures.rows.push(row);
        figures.machine = Machine::here(quiet.foreign_percent());
        // A run may take an hour. What is there stays if it is interrupted.
        given.report().map_or(Ok(()), |directory| report(&figures, directory))?;
    }
    print!("{}", table::text(&figures));
    Ok(())
}

/// Starts this program in an environment that is the same everywhere.
fn start_again() -> Result<()> {
    let rules = env::var_os(RULES).unwrap_or_default();
    let mut again = Command::new(env::current_exe()?);
    again.args(env::args_os().skip(1)).env_clear().envs(ENVIRONMENT).env(RULES, rules);
    Err(again.exec()).context("starting this program again")
}

/// The names of all rows, in the order in which they are shown.
fn names() -> Vec<&'static str> {
    let acts = Act::ALL.map(|act| act.facts().name);
    acts.into_iter()
        .chain(scripts::ALL.map(|script| script.id))
        .chain(servers::ALL.map(|server| server.id))
        .collect()
}

fn row(name: &'static str, ways: &[Way], given: &Given, quiet: &mut Quiet) -> Row {
    if let Ok(act) = name.parse::<Act>() {
        return micro::row(act, Path::new(CREANCE), ways, given.extent(), quiet);
    }
    if let Some(script) = scripts::ALL.iter().find(|script| script.id == name) {
        return of_script(script, ways, given.turns(), quiet);
    }
    let server = servers::ALL.iter().find(|server| server.id == name);
    match server {
        Some(server) => of_server(server, ways, given, quiet),
        None => Row::skipped(subject(name, name), "there is no such row".into()),
    }
}

/// The program under test.
const CREANCE: &str = env!("CARGO_BIN_EXE_creance");

fn of_script(script: &Script, ways: &[Way], turns: Turns, quiet: &mut Quiet) -> Row {
    let made = room().and_then(|room| script.prepare(room.path()).map(|()| room));
    let room = match made {
        Ok(room) => room,
        Err(error) => return Row::skipped(subject(script.id, script.title), format!("{error:#}")),
    };
    turns.row(subject(script.id, script.title), ways, quiet, |way, _| script.run(way, room.path()))
}

fn of_server(server: &Server, ways: &[Way], given: &Given, quiet: &mut Quiet) -> Row {
    let made = room().and_then(|room| server.prepare(room.path()).map(|()| room));
    let room = match made {
        Ok(room) => room,
        Err(error) => return Row::skipped(subject(server.id, server.title), format!("{error:#}")),
    };
    let load = given.load();
    given
        .turns()
        .row(subject(server.id, server.title), ways, quiet, |way, _| server.run(way, room.path(), load))
}

fn subject(id: &str, title: &str) -> Subject {
    Subject { id: id.into(), title: title.into(), group: Group::Macro, latency_runs: 0 }
}

/// A directory for a row, in memory where that can be: a disk would hide what tracing costs.
fn room() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("creance-overhead-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).context("making a directory")
}

/// Fails with the first program of the list that is missing.
fn need(names: &[&str]) -> Result<()> {
    Ok(are_there(names, &env::var_os("PATH").unwrap_or_default())?)
}

/// Writes all that is told of a run.
fn report(figures: &Figures, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("figures.json", serde_json::to_string_pretty(figures)? + "\n")
}
