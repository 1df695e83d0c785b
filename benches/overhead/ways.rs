//! The ways in which work is done: native, under creance, under another tracer.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use creance::overhead::{
    figures,
    turns::{Sight, Way},
};
use serde_json::Value;

use crate::{CREANCE, need};

/// What `creance run --engine` takes.
pub(crate) const ENGINES: [&str; 3] = ["auto", "notify", "ptrace"];

/// What is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// What the first rule file can react to.
    Stable,
    /// What all rule files can react to.
    AllFiles,
    /// What creance captures if it is told nothing.
    BuiltIn,
    /// Every call.
    All,
}

impl Interest {
    const ALL: [Self; 4] = [Self::Stable, Self::AllFiles, Self::BuiltIn, Self::All];

    const fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::AllFiles => "all-files",
            Self::BuiltIn => "built-in",
            Self::All => "all",
        }
    }
}

impl FromStr for Interest {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.map(Self::name).join(",");
        let found = Self::ALL.into_iter().find(|interest| interest.name() == name);
        found.with_context(|| format!("no interest {name}; there are {known}"))
    }
}

/// Rule files, the stable ones first.
pub(crate) struct Rules(Vec<PathBuf>);

impl Rules {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Result<Self> {
        let paths = paths.iter().map(|path| path.canonicalize().with_context(|| path.display().to_string()));
        paths.collect::<Result<_>>().map(Self)
    }

    /// What is measured if nothing else is asked for. Without rule files the built-in set stands in for them.
    pub(crate) fn interests(&self) -> Vec<Interest> {
        match self.0.len() {
            0 => vec![Interest::BuiltIn, Interest::All],
            1 => vec![Interest::Stable, Interest::All],
            _ => vec![Interest::Stable, Interest::AllFiles, Interest::All],
        }
    }

    /// The flags for an interest, and them as they are shown, without the paths of this machine.
    fn flags(&self, interest: Interest) -> Result<(Vec<OsString>, String)> {
        let files = match interest {
            Interest::Stable => self.0.get(..1),
            Interest::AllFiles => self.0.get(..).filter(|files| !files.is_empty()),
            Interest::BuiltIn => return Ok((Vec::new(), String::new())),
            Interest::All => return Ok((vec!["--all".into()], " --all".into())),
        };
        let files = files.with_context(|| {
            format!("--interests {}: {} names no rule files", interest.name(), crate::RULES)
        })?;
        let flags = files.iter().flat_map(|file| ["--rules".into(), file.clone().into_os_string()]).collect();
        let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
        let shown = files.iter().filter_map(name).map(|name| format!(" --rules {name}")).collect();
        Ok((flags, shown))
    }
}

/// A tracer of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// `strace --seccomp-bpf` on the calls that creance's filter traps.
    Strace,
    /// `perf trace` on them.
    PerfTrace,
    /// Any other, by a command in which `{}` stands for the workload's.
    Template { name: String, template: String },
}

impl Against {
    /// Names, or one name and its template.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>> {
        if let Some((name, template)) = text.split_once('=') {
            ensure!(
                template.split_whitespace().any(|word| word == "{}"),
                "--against {name}: no {{}} in {template:?}"
            );
            return Ok(vec![Self::Template { name: name.into(), template: template.into() }]);
        }
        let one = |name| match name {
            "strace" => Ok(Some(Self::Strace)),
            "perf-trace" => Ok(Some(Self::PerfTrace)),
            "none" => Ok(None),
            _ => bail!("--against {name}: not strace, perf-trace, none or NAME=TEMPLATE"),
        };
        text.split(',').map(one).filter_map(Result::transpose).collect()
    }

    fn way(&self, calls: &BTreeSet<String>) -> Result<Way> {
        let names =
            |mark: &str| calls.iter().map(|call| format!("{mark}{call}")).collect::<Vec<_>>().join(",");
        let (id, words) = match self {
            // A call that is marked may be unknown to strace.
            Self::Strace => {
                let words = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e"].map(str::to_owned);
                ("strace", words.into_iter().chain([format!("trace={}", names("?")), "--".into()]).collect())
            }
            Self::PerfTrace => {
                let words = ["perf", "trace", "-o", "/dev/null", "-e"].map(str::to_owned);
                ("perf-trace", words.into_iter().chain([names(""), "--".into()]).collect())
            }
            Self::Template { name, template } => {
                let words: Vec<_> = template.split_whitespace().map(str::to_owned).collect();
                ensure!(
                    words.last().is_some_and(|last| last == "{}"),
                    "--against {name}: {{}} is not the last word"
                );
                (name.as_str(), words.into_iter().filter(|word| word != "{}").collect::<Vec<_>>())
            }
        };
        if let Some(program) = words.first().filter(|program| !program.contains('/')) {
            need(&[program]).with_context(|| format!("--against {id}"))?;
        }
        let shown = words.iter().map(|word| if word.contains("execve,") { "CALLS" } else { word });
        let told = figures::Way {
            id: id.into(),
            title: format!("{id}, the same calls"),
            prefix: shown.collect::<Vec<_>>().join(" "),
        };
        let title = if matches!(self, Self::Template { .. }) { id.to_owned() } else { told.title.clone() };
        let told = figures::Way { title, ..told };
        Ok(Way { told, prefix: words.into_iter().map(Into::into).collect(), sight: Sight::Untold })
    }
}

/// Native, each engine with the first interest, the first engine with the others, and the tracers of others.
pub(crate) fn all(
    engines: &[String],
    interests: &[Interest],
    against: &[Against],
    rules: &Rules,
) -> Result<Vec<Way>> {
    let (first, others) = interests.split_first().context("no interest")?;
    let mut ways = vec![Way::native()];
    for engine in engines {
        ways.push(watched(engine, engine.clone(), *first, rules)?);
    }
    let engine = engines.first().context("no engine")?;
    for interest in others {
        ways.push(watched(engine, format!("{engine}-{}", interest.name()), *interest, rules)?);
    }
    let calls = trapped(*first, rules)?;
    for tracer in against {
        match tracer.way(&calls) {
            Ok(way) => ways.push(way),
            Err(error) => eprintln!("left out: {error:#}"),
        }
    }
    Ok(ways)
}

fn watched(engine: &str, id: String, interest: Interest, rules: &Rules) -> Result<Way> {
    let (flags, shown) = rules.flags(interest)?;
    let before = ["run", "--output", "null", "--stats", "--engine", engine];
    let prefix = [CREANCE].into_iter().chain(before).map(Into::into).chain(flags).chain(["--".into()]);
    let of = match interest {
        Interest::Stable => "stable rules",
        Interest::AllFiles => "all rule files",
        Interest::BuiltIn => "built-in set",
        Interest::All => "every call",
    };
    let chosen = if engine == "auto" { format!(" ({})", chosen()?) } else { String::new() };
    let told = figures::Way {
        id,
        title: format!("{engine}{chosen}, {of}"),
        prefix: format!("creance {}{shown} --", before.join(" ")),
    };
    let sight = if interest == Interest::All { Sight::All } else { Sight::Filtered };
    Ok(Way { told, prefix: prefix.collect(), sight })
}

/// The names of the calls that the filter traps.
fn trapped(interest: Interest, rules: &Rules) -> Result<BTreeSet<String>> {
    let (flags, _) = rules.flags(if interest == Interest::All { Interest::BuiltIn } else { interest })?;
    let explained = told("explain", flags)?;
    let calls = explained.get("calls").and_then(Value::as_array).context("no calls are explained")?;
    Ok(calls.iter().filter_map(|call| call.get("name")?.as_str().map(str::to_owned)).collect())
}

/// The engine that creance chooses here.
fn chosen() -> Result<String> {
    let machine = told("doctor", Vec::new())?;
    Ok(machine.get("engine").and_then(Value::as_str).context("creance finds no engine")?.to_owned())
}

/// What a command of creance tells as JSON.
fn told(command: &str, flags: Vec<OsString>) -> Result<Value> {
    let output = Command::new(Path::new(CREANCE)).args([command, "--json"]).args(flags).output()?;
    let failed = || format!("creance {command}: {}", String::from_utf8_lossy(&output.stderr).trim());
    ensure!(output.status.success(), failed());
    serde_json::from_slice(&output.stdout).with_context(failed)
}
