//! What is told of a funnel: stages, costs and warnings of rules that are made for it.

use serde_json::Value;

use crate::{creance, files};

const RULES: &str = "\
- rule: Key is read
  desc: a path decides
  condition: evt.type in (openat, openat2) and evt.is_open_read = true and fd.name startswith /keys/
  output: o
  priority: INFO
- rule: Anything is written
  desc: no path decides
  condition: evt.type = openat and evt.is_open_write = true
  output: o
  priority: INFO
- rule: Raw socket
  desc: a register decides
  condition: evt.type = socket and evt.arg.domain = AF_PACKET
  output: o (dir=%proc.cwd)
  priority: INFO
- rule: Impossible
  desc: it never matches
  condition: evt.type = bind and evt.type = listen
  output: o
  priority: INFO
- rule: Sleeping
  desc: it is off
  condition: evt.type = unlink and fs.path.name startswith /keys/
  output: o
  priority: INFO
  enabled: false
- rule: Child
  desc: it needs no trap
  condition: evt.type = clone
  output: o
  priority: INFO
";

fn explain(flags: &[&str]) -> String {
    let (_held, directory) = files(&[("rules.yaml", RULES)]);
    let run = creance(&directory, &[&["explain", "-r", "rules.yaml"], flags].concat());
    assert_eq!((run.code, &*run.stderr), (0, ""));
    run.stdout
}

/// The row of a call in the table.
fn row<'a>(text: &'a str, call: &str) -> Vec<&'a str> {
    let is_row = |line: &&str| line.split(' ').next() == Some(call);
    let line = text.lines().find(is_row).unwrap_or_default();
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn the_table_tells_when_a_call_is_trapped_and_where_it_is_dropped() {
    let text = explain(&[]);
    assert_eq!(row(&text, "openat"), ["openat", "always", "memory", "2: Key is read; Anything is written"]);
    assert_eq!(row(&text, "openat2"), ["openat2", "always", "memory", "1: Key is read"]);
    assert_eq!(row(&text, "socket"), ["socket", "domain & 0xff is AF_PACKET", "registers", "1: Raw socket"]);
    assert!(text.contains("\n  chdir, fchdir: the working directory (proc.cwd)\n"), "{text}");
    for absent in ["unlink", "clone", "listen"] {
        assert!(!text.lines().any(|line| line.starts_with(absent)), "{absent}: {text}");
    }
}

#[test]
fn paths_are_told_in_words() {
    let text = explain(&[]);
    assert!(text.contains("\n  openat2\n    path starts with /keys/\n"), "{text}");
    assert!(text.contains("(kept all the same when flags & 3 is any of [O_WRONLY, O_RDWR])"), "{text}");
}

#[test]
fn what_costs_much_and_what_never_matches_is_told_with_its_place() {
    let text = explain(&[]);
    assert!(text.contains("\n  Anything is written: openat (by numbers)\n"), "{text}");
    for warning in [
        "rules.yaml:6:9: warning: rule \"Anything is written\" looks at no path of openat",
        "rules.yaml:16:9: warning: rule \"Impossible\" can never match",
    ] {
        assert!(text.contains(warning), "{warning} is not in {text}");
    }
    // What needs no trap can match all the same, and what is off is of no account.
    assert!(!text.contains("\"Child\"") && !text.contains("\"Sleeping\""), "{text}");
}

#[test]
fn a_rule_costs_much_whose_flags_lie_in_memory_and_none_that_looks_at_a_path_or_a_name() {
    let rule = |condition: &str| {
        let condition = format!("evt.type in (openat, openat2) and {condition}");
        format!("- rule: r\n  desc: x\n  condition: {condition}\n  output: o\n  priority: INFO\n")
    };
    let warned = |condition: &str| {
        let (_held, directory) = files(&[("rules.yaml", &rule(condition))]);
        creance(&directory, &["explain", "-r", "rules.yaml"])
            .stdout
            .contains("looks at no path of openat, openat2")
    };
    assert!(warned("evt.is_open_write = true"));
    assert!(warned("evt.is_open_write = true and not proc.name in (a, b)"));
    assert!(!warned("evt.is_open_write = true and proc.name in (a, b)"));
    assert!(!warned("evt.is_open_write = true and fd.name startswith /keys/"));
}

#[test]
fn the_last_line_counts() {
    let text = explain(&[]);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("5 rules enabled of 6: "), "{last}");
    assert!(last.contains("narrowed by registers") && last.contains("by memory"), "{last}");
    assert!(last.ends_with("only for the picture of processes"), "{last}");
}

#[test]
fn a_disabled_rule_is_explained_as_if_it_were_enabled() {
    let text = explain(&["--rule", "Sleeping"]);
    assert!(text.starts_with("Sleeping (rules.yaml:21)\n"), "{text}");
    assert!(text.contains("may match if  path starts with /keys/\n"), "{text}");
    assert!(text.contains("the rule is disabled, and explained as if it were not; it has a share in 1 call"));
    let child = explain(&["--rule", "Child"]);
    assert!(child.contains("no share in any call: what it asks for is told without a trap"), "{child}");
}

#[test]
fn the_filter_is_listed_on_demand_and_always_in_json() {
    assert!(!explain(&[]).contains("seccomp filter"));
    let text = explain(&["--bpf"]);
    let object: Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    let listing = object["filter"]["listing"].as_array().unwrap();
    assert_eq!(
        Some(listing.len()),
        object["filter"]["instructions"].as_u64().and_then(|count| count.try_into().ok())
    );
    for line in listing {
        assert!(text.contains(line.as_str().unwrap()), "{line}");
    }
}

#[test]
fn the_json_tells_what_the_text_does() {
    let object: Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    let calls = object["calls"].as_array().unwrap();
    let call = |name: &str| calls.iter().find(|call| call["name"] == name).unwrap();
    assert_eq!(call("socket")["trapped_when"], "domain & 0xff is AF_PACKET");
    assert_eq!(call("socket")["dropped_at"][0], "registers");
    assert_eq!(call("chdir")["state"], "the working directory (proc.cwd)");
    assert_eq!(call("openat")["rules"][1]["kept"], "by_numbers");
    let warnings = object["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning["place"]["line"] == 16), "{warnings:#?}");
    assert_eq!(object["summary"]["rules_enabled"], 5);
}

#[test]
fn without_rules_the_built_in_table_is_explained() {
    let (_held, directory) = files(&[]);
    let run = creance(&directory, &["explain"]);
    assert_eq!((run.code, &*run.stderr), (0, ""));
    assert_eq!(row(&run.stdout, "dup3"), ["dup3", "newfd <= 2", "registers"]);
    assert_eq!(row(&run.stdout, "openat"), ["openat", "always", "never"]);
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("the built-in table, no rules: ") && last.ends_with(" 0 by memory"), "{last}");
}
