//! `creance bench`: what it prints, what it refuses, and what each act does. No time is judged.

use std::{ffi::OsStr, fs};

use creance::overhead::{
    acts::{Act, Performed},
    figures::Figures,
};

use crate::support::{Finished, Workload, creance, directory, skip};

/// An act without a tracer, each unit timed or not.
fn perform(act: Act, units: u64, flags: &[&str]) -> Finished {
    let count = units.to_string();
    let words = ["bench", "--act", act.facts().name, "--count", &count];
    creance(words.iter().chain(flags))
}

/// Whether there are sockets of the internet here.
fn has_loopback() -> bool {
    std::net::TcpListener::bind("127.0.0.1:0").is_ok()
}

#[test]
fn every_act_does_its_units_and_prints_what_they_took() {
    for act in Act::ALL {
        if matches!(act, Act::Connect | Act::Accept) && !has_loopback() {
            continue;
        }
        for (units, flags) in [(1, &["--each"][..]), (230, &[]), (230, &["--each"])] {
            let finished = perform(act, units, flags);
            assert!(finished.status.success(), "{act}: {}", finished.stderr);
            let performed: Performed = serde_json::from_str(finished.stdout()).unwrap();
            let timed: u64 = performed.latencies_ns.iter().map(|&(_, count)| count).sum();
            assert_eq!((performed.units, timed), (units, if flags.is_empty() { 0 } else { units }), "{act}");
            assert!(performed.ns > 0, "{act}");
        }
    }
}

#[test]
fn the_table_has_a_line_for_each_row_and_columns_that_can_be_told_apart() {
    let finished = creance(["bench", "--quick", "--rows", "getppid,files"]);
    assert!(finished.status.success(), "{}", finished.stderr);
    let (head, table) = finished.stdout().split_once("\n\n").expect("an empty line is before the table");
    assert!(head.starts_with("creance ") && head.contains("Linux "), "{head}");
    let lines: Vec<Vec<&str>> = table.lines().map(columns).collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(lines[0][..4], ["row", "native us", "speed, auto", "added us"], "{table}");
    for (line, name) in lines[1..].iter().zip(["getppid", "files"]) {
        assert_eq!((line[0], line.len()), (name, lines[0].len()), "{table}");
        for spread in &line[1..3] {
            let figures: Vec<f64> = spread
                .split(['(', ')', ' '])
                .filter(|word| !word.is_empty() && *word != "to")
                .map(|word| word.parse().unwrap())
                .collect();
            assert!(
                matches!(*figures, [median, lower, upper] if lower <= median && median <= upper),
                "{spread}"
            );
        }
        line[3].parse::<f64>().unwrap();
        line[4].parse::<f64>().unwrap();
    }
}

/// Columns are two blanks apart at least.
fn columns(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect()
}

#[test]
fn the_figures_in_the_file_are_all_that_was_measured() {
    let (_held, path) = directory();
    let file = path.join("figures.json");
    let rules = path.join("rules.yaml");
    let rule = "- rule: One\n  desc: One.\n  condition: evt.type = openat and fd.name = /etc/shadow\n  output: o\n  priority: INFO\n";
    fs::write(&rules, rule).unwrap();
    let words: [&OsStr; 8] = [
        "bench".as_ref(),
        "--quick".as_ref(),
        "--rows".as_ref(),
        "open-kept,open-dropped".as_ref(),
        "--rules".as_ref(),
        rules.as_os_str(),
        "--json".as_ref(),
        file.as_os_str(),
    ];
    let finished = creance(words);
    assert!(finished.status.success(), "{}", finished.stderr);
    let text = fs::read_to_string(file).unwrap();
    let figures: Figures = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::from_str::<Figures>(&serde_json::to_string(&figures).unwrap()).unwrap(), figures);
    let rows: Vec<&str> = figures.rows.iter().map(|row| &*row.id).collect();
    assert_eq!(rows, ["open-kept", "open-dropped"]);
    for row in &figures.rows {
        let cell = row.cells.first().expect("creance is the second way");
        assert_eq!((&*cell.way, &cell.skipped), ("auto", &None));
        assert!(cell.speed.is_some() && cell.tracer_cpu_s.is_some() && cell.latency.is_some(), "{row:?}");
        assert!(
            cell.stops_per_s.is_some_and(|stops| stops > 0.0) && cell.tracer_peak_kib > Some(0),
            "{row:?}"
        );
    }
    // The rule is about one of the paths.
    let records = figures.rows.iter().filter_map(|row| row.cells.first()?.records_per_s);
    assert!(records.is_sorted_by(|kept, dropped| kept > dropped), "{text}");
}

#[test]
fn a_command_of_the_user_is_measured_too() {
    let finished = creance(["bench", "--quick", "--", "sh", "-c", "echo unseen; exit 0"]);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(
        !finished.stdout().contains("unseen\n") && finished.stdout().contains("\ncommand "),
        "{}",
        finished.stdout()
    );
}

#[test]
fn a_command_that_fails_has_no_row_and_the_reason_is_told() {
    let finished = creance(["bench", "--quick", "--", "sh", "-c", "echo no good >&2; exit 3"]);
    assert_eq!(finished.status.code(), Some(125));
    assert!(finished.stdout().ends_with("command: sh: exit status: 3: no good\n"), "{}", finished.stdout());
}

#[test]
fn bad_flags_of_a_benchmark_are_told_on_one_line_and_measure_nothing() {
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--rows", "getpid"], 2, "getppid"),
        (&["--rows", "files", "--", "true"], 2, "--rows"),
        (&["--json", "/nonexistent/directory/figures.json"], 2, "/nonexistent/directory/figures.json"),
        (&["--rules", "/nonexistent/rules.yaml"], 2, "/nonexistent/rules.yaml"),
        (&["--engine", "none"], 2, "--engine"),
        (&["--count", "3"], 2, "--act"),
        (&["--act", "nonsense"], 2, "nonsense"),
        (&["--", "/nonexistent/command"], 127, "/nonexistent/command"),
    ];
    for (flags, status, named) in cases {
        let finished = creance(["bench"].iter().chain(flags));
        assert_eq!((finished.status.code(), &*finished.stdout), (Some(status), &b""[..]), "{flags:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{flags:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(named), "{flags:?}: {}", finished.stderr);
    }
}

#[test]
fn an_engine_that_cannot_be_is_a_mistake_and_no_missing_figure() {
    // Under a tracer that holds a listener no other one can watch by notifications.
    let outer = Workload::new([
        crate::support::CREANCE,
        "bench",
        "--quick",
        "--rows",
        "getppid",
        "--engine",
        "notify",
    ]);
    let finished = outer.flags(["--output", "null"]).under_creance();
    if finished.status.success() {
        skip("a listener can be had within another one");
        return;
    }
    assert_eq!((finished.status.code(), &*finished.stdout), (Some(2), &b""[..]), "{}", finished.stderr);
    assert!(finished.stderr.starts_with("creance: --engine notify"), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
}

#[test]
fn a_signal_ends_a_benchmark_of_files_and_leaves_none() {
    // It writes until it is told to end; the first file tells that it does.
    let (_held, path) = directory();
    let script = "\"$0\" bench --act files --count 2000000 & own=$!\n\
                  for room in /dev/shm \"$TMPDIR\"; do echo \"$room/creance-bench-$own\"; done >\"$1\"\n\
                  while read -r room; do rooms=\"$rooms $room\"; done <\"$1\"\n\
                  until for room in $rooms; do test -e \"$room/1\" && break; done; do kill -0 $own || break; done\n\
                  kill -TERM $own; wait $own; status=$?\n\
                  for room in $rooms; do test ! -e \"$room\" || exit 99; done; exit $status";
    let file = path.join("rooms");
    let words =
        ["sh".as_ref(), "-c".as_ref(), script.as_ref(), crate::support::CREANCE.as_ref(), file.as_os_str()];
    let finished = Workload::new(words).variable("TMPDIR", &path).natively();
    assert_eq!(finished.status.code(), Some(125), "{}", finished.stderr);
    assert!(finished.stderr.contains("doing files: a signal has asked for the end"), "{}", finished.stderr);
}
