//! `creance doctor`: what this machine permits, what is lost where it does not, and the engine that it gets.
//!
//! It asks and prints; what an answer means is for [`crate::engine`] to say. The keys of its JSON are promised in
//! `docs/doctor.md`: new ones may come, none goes.

use std::{env, fmt::Write, path::Path, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::{print, printable};
use crate::{
    abi::Abi,
    container::{self, ContainerIdentity, Found},
    engine::{
        advice,
        choice::{Choice, Requested, Unavailable, choose},
    },
    sys::{
        cpu::CpuBudget,
        probe::{Answer, Probe, Probes, Standing},
        process,
    },
};

/// The version of the keys.
const VERSION: u32 = 1;

/// Exit status when no engine works here.
const STATUS_NO_ENGINE: u8 = 1;

/// Show what this machine permits, and which engine it gets.
#[derive(Debug, Args)]
#[command(after_help = "The exit status is 0 if a workload can be captured here, and 1 if it cannot.")]
pub(super) struct Doctor {
    /// As one JSON object (docs/doctor.md)
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Asks, and prints.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let probes = Probes::run();
        let findings = Findings {
            standing: Standing::find(),
            container: container::find(&ContainerIdentity::default()),
            hints: hints(),
            budget: CpuBudget::of_this_process(),
            choice: choose(
                &probes,
                Requested {
                    engine: None,
                    is_audit: false,
                    is_unfiltered: false,
                    may_change_user: process::may_change_user(),
                },
            ),
            probes,
        };
        print(&if self.json { findings.json() } else { findings.text() })?;
        Ok(if findings.choice.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(STATUS_NO_ENGINE) })
    }
}

/// All that was found out.
struct Findings {
    standing: Standing,
    container: Found,
    hints: Vec<&'static str>,
    budget: CpuBudget,
    probes: Probes,
    choice: Result<Choice, Unavailable>,
}

/// What suggests where this process runs: files and variables that runtimes and orchestrators leave.
fn hints() -> Vec<&'static str> {
    const FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
    const VARIABLES: [&str; 3] =
        ["KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI_V4", "AWS_EXECUTION_ENV"];
    let files = FILES.into_iter().filter(|file| Path::new(file).exists());
    files.chain(VARIABLES.into_iter().filter(|name| env::var_os(name).is_some())).collect()
}

impl Findings {
    fn text(&self) -> String {
        let mut text = String::from("machine\n");
        for (name, value) in self.machine() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<16}{}", printable(&value));
        }
        text.push_str("\nprobes\n");
        for probe in Probe::ALL {
            let facts = probe.facts();
            let answer = self.probes.answer(probe);
            if answer == Answer::Yes {
                let _ = writeln!(text, "  {:<9}{}", word(answer), facts.name);
                continue;
            }
            let since = facts.since.map(|since| format!(" (Linux {since})")).unwrap_or_default();
            let why = errno_of(answer).map(|errno| format!(": {errno}")).unwrap_or_default();
            let _ = writeln!(text, "  {:<9}{}{since}{why}", word(answer), facts.name);
            let _ = writeln!(text, "           lost: {}", advice::lost(probe));
            let _ = writeln!(text, "         change: {}", advice::change(probe));
        }
        let _ = match &self.choice {
            Ok(choice) => writeln!(text, "\nengine\n  {choice}"),
            Err(unavailable) => writeln!(text, "\nengine\n  none: {unavailable}"),
        };
        text
    }

    fn machine(&self) -> Vec<(&'static str, String)> {
        let standing = &self.standing;
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let scope = standing.ptrace_scope.map_or_else(|| "none".into(), |scope| scope.to_string());
        let mut lines = vec![
            ("kernel", format!("Linux {} {}", standing.kernel, Abi::NATIVE.name())),
            ("runs in", self.container.to_string()),
            ("hints", if self.hints.is_empty() { "none".into() } else { self.hints.join(" ") }),
            ("CPUs", cpus(&self.budget)),
            ("user", standing.uid.to_string()),
            ("PID 1", yes(standing.is_pid_1)),
            ("ptrace_scope", scope),
            ("no_new_privs", yes(standing.has_no_new_privs)),
            ("seccomp filter", yes(standing.has_filter)),
        ];
        lines.extend(self.container.warnings.iter().map(|warning| ("warning", warning.clone())));
        lines
    }

    /// The object, on one line.
    fn json(&self) -> String {
        let standing = &self.standing;
        let probes = Probe::ALL.map(|probe| {
            let (facts, answer) = (probe.facts(), self.probes.answer(probe));
            let is_told = answer != Answer::Yes;
            json!({
                "name": facts.key,
                "answer": word(answer),
                "errno": errno_of(answer),
                "since": facts.since,
                "lost": is_told.then(|| advice::lost(probe)),
                "change": is_told.then(|| advice::change(probe)),
            })
        });
        let object = json!({
            "version": VERSION,
            "machine": {
                "kernel": standing.kernel,
                "abi": Abi::NATIVE.name(),
                "container": self.container.identity,
                "hints": self.hints,
                "cpus": self.budget.cpus,
                "cpu_quota_millicpus": self.budget.quota_millicpus,
                "uid": standing.uid,
                "is_pid_1": standing.is_pid_1,
                "ptrace_scope": standing.ptrace_scope,
                "has_no_new_privs": standing.has_no_new_privs,
                "has_seccomp_filter": standing.has_filter,
                "warnings": self.container.warnings,
            },
            "probes": Value::from(probes.to_vec()),
            "engine": self.choice.as_ref().ok().map(|choice| choice.engine.name()),
            "why": match &self.choice {
                Ok(choice) => choice.to_string(),
                Err(unavailable) => unavailable.to_string(),
            },
        });
        format!("{object}\n")
    }
}

fn cpus(budget: &CpuBudget) -> String {
    let cpus = budget.cpus;
    budget.quota_millicpus.map_or_else(
        || cpus.to_string(),
        |quota| format!("{cpus}, of which control groups leave {}.{:03}", quota / 1000, quota % 1000),
    )
}

fn errno_of(answer: Answer) -> Option<String> {
    match answer {
        Answer::No(errno) => errno.map(|errno| format!("{errno:?}")),
        _ => None,
    }
}

const fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No(_) => "no",
        Answer::Untried => "untried",
    }
}
