//! The Rust side of the proof that the funnel is sound. `tests/libsinsp/soundness` runs it, and has the other side.
//!
//! ```text
//! soundness record DIR -- PROGRAM [ARGUMENT...]       runs a workload, everything recorded: DIR/records
//! soundness random DIR SEED RULES RECORDS             makes rules and records: DIR/rules.yaml, DIR/records
//! soundness judge DIR RULES.yaml...                   translates the records, and says what the funnel keeps
//! soundness show DIR INDEX                            tells one record
//! ```
//!
//! `judge` writes `DIR/events`, Falco's events of all records, and beside it `DIR/verdicts`, a line for each event: the
//! index of its record, the name of its call (`-` for what is none), whether the funnel of all rules keeps it, and for
//! each rule whether the funnel of that rule alone does, the bits of a hexadecimal number. The names of the rules stand
//! in `DIR/names`, a line for each bit, the lowest first. `DIR/events-kept` and `DIR/verdicts-kept` are of the records
//! alone that the funnel of all rules keeps: what a Falco sees behind creance. With a call's name in
//! `CREANCE_SOUNDNESS_BLIND` it says that the funnel drops every such call.

mod capture;
mod conditions;
#[path = "../libsinsp/boundary_events/random.rs"]
mod random;
mod records;
mod sieve;
mod tape;
mod texts;

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use creance::{
    abi,
    engine::{Verdict, Wanted},
    event::{Record, RecordKind},
    falco::{Batch, Translator},
    interest::{Funnel, Interest},
    rules::{ExpandedRule, RuleSet, Severity},
    sink::Sink as _,
};
use random::Random;
use serde_json::json;
use tape::{Tape, TapeWriter};

fn main() -> Result<()> {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let Some((mode, rest)) = words.split_first() else { bail!("see the top of tests/soundness/tool.rs") };
    let (directory, rest) = rest.split_first().context("a directory")?;
    let directory = Path::new(directory);
    match mode.to_str() {
        Some("record") => {
            record(directory, rest.strip_prefix(&["--".into()]).context("-- before the command")?)
        }
        Some("random") => {
            let number = |at: usize| rest.get(at)?.to_str()?.parse::<u64>().ok();
            let [seed, rules, records] =
                [number(0), number(1), number(2)].map(|number| number.context("a number"));
            make_random(directory, seed?, rules?, records?)
        }
        Some("judge") => judge(directory, &rest.iter().map(PathBuf::from).collect::<Vec<_>>()),
        Some("show") => {
            let wanted = rest.first().and_then(|word| word.to_str()?.parse().ok()).context("an index")?;
            let tape = Tape::read(&directory.join("records"))?;
            println!("{}", shown(&tape.records().nth(wanted).context("no such record")??));
            Ok(())
        }
        _ => bail!("no such mode: {}", mode.display()),
    }
}

fn record(directory: &Path, command: &[OsString]) -> Result<()> {
    let mut tape = TapeWriter::create(&directory.join("records"))?;
    let report = capture::capture(command, Wanted::new(Interest::all()), &mut tape, |_| {})?;
    tape.flush()?;
    println!("{}", json!({ "calls": report.outcome.counters.calls_trapped }));
    Ok(())
}

fn make_random(directory: &Path, seed: u64, rules: u64, records: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let rule = |number: u64, random: &mut Random| {
        let condition = conditions::condition(random);
        json!({ "rule": format!("r{number}"), "desc": "random", "condition": condition, "output": "x", "priority": "INFO" })
    };
    // JSON is YAML.
    let rules: Vec<_> = (0..rules).map(|number| rule(number, &mut random)).collect();
    fs::write(directory.join("rules.yaml"), serde_json::to_vec(&rules)?)?;
    let mut tape = TapeWriter::create(&directory.join("records"))?;
    for sequence in 0..records {
        let made = records::record(&mut random, sequence)?;
        tape.write(&made.header, &made.captures)?;
    }
    tape.finish()?;
    Ok(())
}

/// Translates records to events, and writes them with their verdicts.
struct Out {
    events: BufWriter<File>,
    verdicts: BufWriter<File>,
    translator: Translator,
    batch: Batch,
}

impl Out {
    fn create(directory: &Path, suffix: &str) -> Result<Self> {
        let file = |name: &str| File::create(directory.join(format!("{name}{suffix}"))).map(BufWriter::new);
        let mut translator = Translator::new();
        translator.learn_outsider(std::process::id(), b"creance");
        Ok(Self {
            events: file("events")?,
            verdicts: file("verdicts")?,
            translator,
            batch: Batch::with_capacity(0),
        })
    }

    fn take(&mut self, record: &Record<'_>, verdict: &str) -> Result<()> {
        self.batch.clear();
        self.translator.translate(record, &mut self.batch);
        ensure!(self.translator.events_refused() == 0, "refused: {:?}", self.translator.last_error());
        self.events.write_all(self.batch.as_bytes())?;
        for _ in self.batch.events() {
            writeln!(self.verdicts, "{verdict}")?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.events.flush()?;
        Ok(self.verdicts.flush()?)
    }
}

fn judge(directory: &Path, paths: &[PathBuf]) -> Result<()> {
    let rules = rules_of(paths)?;
    let all = sieve::funnel(&rules);
    let alone: Vec<Wanted> = rules.iter().map(|rule| sieve::funnel(std::slice::from_ref(rule))).collect();
    let names: Vec<_> = rules.iter().map(|rule| format!("{}\n", rule.name)).collect();
    fs::write(directory.join("names"), names.concat())?;
    let tape = Tape::read(&directory.join("records"))?;
    let blind = env::var("CREANCE_SOUNDNESS_BLIND").ok();
    let blind = blind.as_deref();
    let mut names_told = sieve::Names::default();
    let (mut everything, mut kept) = (Out::create(directory, "")?, Out::create(directory, "-kept")?);
    let (mut calls, mut calls_kept, mut disagreements) = (0_u64, 0_u64, 0_u64);
    let (mut cases_by_number, mut cases_kept) = (0_u64, 0_u64);
    for (index, record) in tape.records().enumerate() {
        let record = record?;
        names_told.learn(&record);
        let is_kept = judged(&all, &names_told, &record, blind) == Verdict::Kept;
        let verdicts: Vec<Verdict> =
            alone.iter().map(|one| judged(one, &names_told, &record, blind)).collect();
        let bits: Vec<bool> = verdicts.iter().map(|&verdict| verdict == Verdict::Kept).collect();
        if record.kind() == RecordKind::Syscall {
            calls += 1;
            calls_kept += u64::from(is_kept);
            for verdict in verdicts {
                cases_by_number += u64::from(verdict > Verdict::NumberUnwanted);
                cases_kept += u64::from(verdict == Verdict::Kept);
            }
        }
        // One rule's funnel must never keep what the funnel of all drops: it would be dropped for that rule as well.
        disagreements += u64::from(!is_kept && bits.contains(&true));
        let verdict = format!("{index} {} {} {}", call_name(&record), u8::from(is_kept), hexadecimal(&bits));
        everything.take(&record, &verdict)?;
        if is_kept {
            kept.take(&record, &verdict)?;
        }
    }
    everything.finish()?;
    kept.finish()?;
    let told = json!({
        "calls": calls, "calls_kept": calls_kept, "cases_by_number": cases_by_number, "cases_kept": cases_kept, "rules": rules.len(),
        "disagreements": disagreements,
        "unnamed": rules.iter().filter(|rule| names_no_call(rule)).map(|rule| &rule.name).collect::<Vec<_>>(),
    });
    println!("{told}");
    Ok(())
}

/// The verdict on the call of this record. A record of another kind is always kept.
fn judged(wanted: &Wanted, names: &sieve::Names, record: &Record<'_>, blind: Option<&str>) -> Verdict {
    match record.kind() {
        RecordKind::Syscall if blind == Some(&call_name(record)) => Verdict::NumberUnwanted,
        RecordKind::Syscall => sieve::judge(wanted, names, record),
        _ => Verdict::Kept,
    }
}

/// Whether a rule asks for every call, of which no funnel gives it all.
fn names_no_call(rule: &ExpandedRule) -> bool {
    let funnel = Funnel::of_rules(std::slice::from_ref(rule));
    funnel.warnings.iter().any(|warning| warning.message.contains("names no evt.type"))
}

/// The rules of some files, all of them enabled. Each file stands for itself: a macro of one says nothing in another.
fn rules_of(paths: &[PathBuf]) -> Result<Vec<ExpandedRule>> {
    let mut rules = Vec::new();
    for path in paths {
        let set = RuleSet::read(std::slice::from_ref(path)).context("reading the rules")?;
        let error = set.diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error);
        ensure!(
            error.is_none(),
            "{}",
            error.map_or_else(String::new, |one| one.display(&set.sources).to_string())
        );
        rules.extend(set.rules.into_iter().filter(|rule| rule.source == "syscall"));
    }
    for rule in &mut rules {
        rule.is_enabled = true;
    }
    Ok(rules)
}

fn call_name(record: &Record<'_>) -> String {
    let header = record.header();
    let name = (record.kind() == RecordKind::Syscall).then(|| abi::number_name(record.abi(), header.number));
    name.flatten().map_or_else(|| "-".to_owned(), str::to_owned)
}

/// The bits as a number in hexadecimal, the first one lowest.
fn hexadecimal(bits: &[bool]) -> String {
    let mut text = String::new();
    for four in bits.chunks(4).rev() {
        let digit = four.iter().rev().fold(0, |digit, &bit| digit << 1 | u8::from(bit));
        // Writing to a string cannot fail.
        let _ = write!(text, "{digit:x}");
    }
    text
}

/// A record in one line.
fn shown(record: &Record<'_>) -> String {
    let header = record.header();
    let captures = record
        .captures()
        .map(|capture| format!(" {:?}[{}]={}", capture.kind, capture.argument, capture.data.escape_ascii()));
    let arguments = header.arguments.map(|register| format!("{register:#x}")).join(", ");
    format!(
        "{:?} {} {}({arguments}) = {} tid {} flags {:#x}{}",
        record.kind(),
        record.abi().name(),
        call_name(record),
        header.result,
        header.tid,
        header.flags,
        captures.collect::<String>()
    )
}
