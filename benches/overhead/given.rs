//! What the command line and the environment ask for.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use creance::overhead::{
    micro::Extent,
    turns::{Turns, Way},
};

use crate::{
    RULES, names,
    scaling::IDS,
    servers::Load,
    ways::{self, Against, ENGINES, Interest, Rules},
};

/// Rounds of a row. Odd, so that the median is a run.
const ROUNDS: u32 = 7;
const ROUNDS_QUICK: u32 = 3;

/// So many times less work in a quick run.
const QUICK: u64 = 8;

/// How long runs wait for a quiet machine, and are made again where it was not.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long a server is loaded.
const LOAD: Duration = Duration::from_secs(2);
const LOAD_QUICK: Duration = Duration::from_secs(1);

/// What is asked for.
pub(crate) struct Given {
    is_quick: bool,
    rows: Vec<String>,
    engines: Vec<String>,
    interests: Vec<Interest>,
    against: Vec<Against>,
    rounds: Option<u32>,
    patience: Option<u64>,
    curves: Option<Vec<String>>,
    report: Option<PathBuf>,
    render: Option<PathBuf>,
    rules: Rules,
}

impl Given {
    pub(crate) fn read() -> Result<Self> {
        let rules = env::var(RULES).unwrap_or_default();
        let rules = Rules::new(rules.split_whitespace().map(PathBuf::from).collect())?;
        let mut given = Self {
            is_quick: false,
            rows: Vec::new(),
            engines: Vec::new(),
            interests: Vec::new(),
            against: Vec::new(),
            rounds: None,
            patience: None,
            curves: None,
            report: None,
            render: None,
            rules,
        };
        let mut has_against = false;
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                // What cargo tells every bench.
                "--bench" => {}
                "--quick" => given.is_quick = true,
                "--rows" => given.rows = list(&value()?),
                "--engines" => given.engines = list(&value()?),
                "--interests" => {
                    given.interests =
                        list(&value()?).iter().map(|name| name.parse()).collect::<Result<_>>()?;
                }
                "--against" => {
                    has_against = true;
                    given.against.extend(Against::parse(&value()?)?);
                }
                "--rounds" => given.rounds = Some(value()?.parse().context("--rounds")?),
                "--patience" => given.patience = Some(value()?.parse().context("--patience")?),
                "--curves" => given.curves = Some(list(&value()?)),
                "--render" => given.render = Some(value()?.into()),
                "--report" => given.report = Some(value()?.into()),
                _ => bail!("not known: {word}"),
            }
        }
        ensure!(given.render.is_none() || given.report.is_some(), "--render needs --report DIR");
        for name in given.rows.iter().filter(|name| *name != "none") {
            ensure!(names().contains(&name.as_str()), "no row {name}; there are none,{}", names().join(","));
        }
        for name in given.curves.iter().flatten().filter(|name| *name != "none") {
            ensure!(IDS.contains(&name.as_str()), "no curve {name}; there are none,{}", IDS.join(","));
        }
        for name in &given.engines {
            ensure!(ENGINES.contains(&name.as_str()), "no engine {name}; there are {}", ENGINES.join(","));
        }
        if given.engines.is_empty() {
            given.engines = ["auto", "notify"].map(str::to_owned).to_vec();
        }
        if given.interests.is_empty() {
            given.interests = given.rules.interests();
        }
        if !has_against {
            given.against = vec![Against::Strace];
        }
        Ok(given)
    }

    /// The curves that are wanted: all if all rows are.
    pub(crate) fn curves(&self) -> Vec<&str> {
        match &self.curves {
            Some(names) => names.iter().map(String::as_str).filter(|name| *name != "none").collect(),
            None if self.rows.is_empty() => IDS.to_vec(),
            None => Vec::new(),
        }
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.is_quick
    }

    /// The names of the rows that are wanted.
    pub(crate) fn rows(&self) -> Vec<&'static str> {
        let is_wanted = |name: &&str| self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == name);
        names().into_iter().filter(is_wanted).collect()
    }

    /// Native, each engine with the first interest, the first engine with the others, and the tracers of others.
    pub(crate) fn ways(&self) -> Result<Vec<Way>> {
        ways::all(&self.engines, &self.interests, &self.against, &self.rules)
    }

    pub(crate) fn turns(&self) -> Turns {
        let rounds = self.rounds.unwrap_or(if self.is_quick { ROUNDS_QUICK } else { ROUNDS });
        Turns { rounds, budget: None }
    }

    pub(crate) fn extent(&self) -> Extent {
        let (less, latency_runs) = if self.is_quick { (QUICK, 1) } else { (1, 3) };
        Extent { turns: self.turns(), less, latency_runs }
    }

    pub(crate) fn load(&self) -> Load {
        if self.is_quick { Load { time: LOAD_QUICK, less: QUICK } } else { Load { time: LOAD, less: 1 } }
    }

    pub(crate) fn patience(&self) -> Duration {
        let default = if self.is_quick { Duration::ZERO } else { PATIENCE };
        self.patience.map_or(default, Duration::from_secs)
    }

    /// The file of figures of which a report is to be made again: nothing is measured then.
    pub(crate) fn render(&self) -> Option<&Path> {
        self.render.as_deref()
    }

    /// Where the report goes.
    pub(crate) fn report(&self) -> Option<&Path> {
        self.report.as_deref()
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}
