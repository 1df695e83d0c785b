//! Falco's own rule files, which are not shipped here: `CREANCE_FALCO_RULES` has their paths.

use std::{env, path::Path};

use serde_json::Value;

use crate::{creance, skip::skip};

/// The paths; `None` if there are none.
fn stock_files() -> Option<Vec<String>> {
    let paths = env::var("CREANCE_FALCO_RULES").unwrap_or_default();
    let paths: Vec<_> = paths.split_whitespace().map(str::to_owned).collect();
    if paths.is_empty() {
        skip("CREANCE_FALCO_RULES names no rule files");
        return None;
    }
    Some(paths)
}

#[test]
fn the_stock_files_are_explained_without_errors() {
    let Some(files) = stock_files() else { return };
    let flags = files.iter().flat_map(|file| ["-r", file]);
    let arguments: Vec<_> = ["explain", "--json"].into_iter().chain(flags).collect();
    let run = creance(Path::new("/"), &arguments);
    assert_eq!((run.code, &*run.stderr), (0, ""));
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    let summary = &object["summary"];
    for count in ["rules_enabled", "calls", "calls_narrowed_by_registers", "calls_narrowed_by_memory"] {
        assert!(summary[count].as_u64() > Some(0), "{count}: {summary}");
    }
    let calls = object["calls"].as_array().unwrap();
    let openat = calls.iter().find(|call| call["name"] == "openat").unwrap();
    assert_eq!(openat["dropped_at"], serde_json::json!(["memory"]));
}

#[test]
fn the_stock_files_pass_the_check_and_every_rule_is_shown() {
    let Some(files) = stock_files() else { return };
    let with = |words: &[&str]| {
        let files = files.iter().map(String::as_str);
        let arguments: Vec<_> = words.iter().copied().chain(files).collect();
        creance(Path::new("/"), &arguments)
    };
    let check = with(&["rules", "check"]);
    assert_eq!(check.code, 0, "{}", check.stdout);
    let last = check.stdout.lines().last().unwrap();
    assert!(last.contains(" rules, 0 errors, "), "{last}");
    let expand = with(&["rules", "expand"]);
    let shown = expand.stdout.lines().filter(|line| line.starts_with("# ")).count();
    assert_eq!(last.split(' ').next().unwrap().parse(), Ok(shown));
}
