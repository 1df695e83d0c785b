//! The rule files of Falco itself, which are not shipped here: CREANCE_FALCO_RULES has their paths.

use std::{collections::HashMap, env, fs, io::Write, path::PathBuf};

use super::{RuleSet, all_told, errors_of};
use crate::rules::Severity;

/// The stock files that are given, by their names. Without any, it tells so.
fn stock_files() -> HashMap<String, PathBuf> {
    let paths = env::var("CREANCE_FALCO_RULES").unwrap_or_default();
    let files: HashMap<_, _> = paths
        .split_whitespace()
        .map(PathBuf::from)
        .filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)))
        .collect();
    if files.is_empty() {
        // Past the test harness, which would keep it to itself. Nobody may be there to read it.
        let _ = std::io::stderr().write_all(b"SKIP stock rules: CREANCE_FALCO_RULES names no rule files\n");
    }
    files
}

/// The texts of the stock files, which serve other tests too.
pub(super) fn stock_texts() -> Vec<String> {
    stock_files().into_values().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

#[test]
fn the_stock_files_are_understood_whole() {
    let files = stock_files();
    for (name, rules) in
        [("falco_rules.yaml", 25), ("falco-incubating_rules.yaml", 31), ("falco-sandbox_rules.yaml", 37)]
    {
        let Some(path) = files.get(name) else { continue };
        let read = RuleSet::read(std::slice::from_ref(path)).expect("the file can be read");
        assert_eq!(errors_of(&read), [""; 0]);
        assert_eq!(read.rules.len(), rules, "{name}");
        let warnings = all_told(&read);
        println!("{name}: {} warnings", warnings.len());
        warnings.iter().for_each(|warning| println!("  {warning}"));
    }
}

#[test]
fn the_stock_files_are_understood_together() {
    let files = stock_files();
    let names = ["falco_rules.yaml", "falco-incubating_rules.yaml", "falco-sandbox_rules.yaml"];
    let paths: Vec<_> = names.iter().filter_map(|name| files.get(*name).cloned()).collect();
    let read = RuleSet::read(&paths).expect("the files can be read");
    assert_eq!(errors_of(&read), [""; 0]);
    if paths.len() == names.len() {
        let mut found: Vec<_> = read.rules.iter().map(|rule| rule.name.as_str()).collect();
        found.dedup();
        assert_eq!(found.len(), 25 + 31 + 37, "no rule stands in two of the files");
    }
}

#[test]
fn the_sample_of_local_rules_misses_the_macros_of_older_rules() {
    let files = stock_files();
    let (Some(sample), Some(stable)) =
        (files.get("sample_falco_rules.local.yaml"), files.get("falco_rules.yaml"))
    else {
        return;
    };
    let told = |paths: &[PathBuf]| errors_of(&RuleSet::read(paths).expect("the files can be read"));
    let place = sample.display();
    let missing = format!("{place}:15:74: error: there is no macro `bin_dir`");
    let together = told(&[stable.clone(), sample.clone()]);
    assert_eq!(together, std::slice::from_ref(&missing));
    let open_write = format!("{place}:15:14: error: there is no macro `open_write`");
    assert_eq!(told(std::slice::from_ref(sample)), [open_write, missing]);
    if let Some(sandbox) = files.get("falco-sandbox_rules.yaml") {
        assert_eq!(told(&[sandbox.clone(), sample.clone()]), [""; 0]);
        let late = RuleSet::read(&[sample.clone(), sandbox.clone()]).expect("the files can be read");
        let errors = late.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        let help: Vec<_> = errors.filter_map(|error| error.help.as_deref()).collect();
        assert_eq!(help, ["it is defined in a later file: give that file first with -r"; 2]);
    }
}
