//! What tracing costs: things in a loop and real programs, natively, under creance in several ways, and under other tracers,
//! by turns in one run (docs/overhead.md).
//!
//! ```text
//! CREANCE_FALCO_RULES='stable.yaml ...' cargo bench --bench overhead -- [--quick] [--rows NAME,...] [--engines NAME,...]
//!     [--interests NAME,...] [--against NAME|NAME=TEMPLATE|none]... [--rounds N] [--patience SECONDS]
//!     [--curves NAME,...|none] [--report DIR]
//! ```
//!
//! It prints a table, and writes the figures and the report into DIR, row by row; `--render FIGURES.json --report DIR` makes a
//! report again from a file of figures. A run waits for a quiet machine for a bounded time; what others took of the CPUs is
//! told. Curves are made if all rows are, or if they are named. A row that the machine cannot make is left out with the
//! reason, and so is a tracer that is missing.

#[path = "../../tests/support/fixture.rs"]
mod fixture;
mod given;
#[path = "../printed.rs"]
mod printed;
mod scaling;
mod scripts;
mod servers;
mod ways;

use std::{env, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result};
use creance::overhead::{
    acts::Act,
    figures::{Figures, Group, Machine, Row},
    machine::today,
    micro,
    quiet::Quiet,
    report,
    runs::are_there,
    table,
    turns::{Subject, Turns, Way},
};
use tempfile::TempDir;

use given::Given;
use scaling::Scaling;
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
        let figures = report::read(file)?;
        return given.report().map_or(Ok(()), |directory| Ok(report::write(&figures, directory)?));
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
        given.report().map_or(Ok(()), |directory| report::write(&figures, directory))?;
    }
    if !given.curves().is_empty() {
        let scaling = Scaling::new(CREANCE, fixture::fixture("stops"), given.is_quick());
        let scaled = scaling.measure(&given.curves())?;
        for reason in scaled.skipped {
            eprintln!("left out: {reason}");
        }
        figures.curves = scaled.curves;
        given.report().map_or(Ok(()), |directory| report::write(&figures, directory))?;
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
