//! What a user is told of rule files: of a file that rests on others, of rules that cost much, and of bad input.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use assert_cmd::cargo::cargo_bin;

use crate::{creance, files};

/// Local rules as people write them: one names no calls, one rests on a macro of another file, and one still asks for
/// the direction of events.
const LOCAL: &str = "\
- rule: Shell at work
  desc: somebody uses a shell
  condition: proc.name = zsh
  output: A shell is used (user=%user.name)
  priority: NOTICE

- rule: Program replaced
  desc: a program file is written
  condition: evt.type = openat and evt.is_open_write = true and in_program_dir
  output: A program is written (file=%fd.name)
  priority: ERROR

- rule: Calls home
  desc: a connection is made
  condition: evt.type = connect and evt.dir=< and proc.name = zsh
  output: A connection (to=%fd.name)
  priority: NOTICE
";

/// The file that the second rule rests on.
const BASE: &str = "\
- macro: in_program_dir
  condition: fd.directory in (/opt/bin, /opt/sbin)
";

#[test]
fn a_local_file_alone_is_told_of_what_it_misses_and_what_it_costs() {
    let (_held, directory) = files(&[("local.yaml", LOCAL)]);
    let run = creance(&directory, &["rules", "check", "local.yaml"]);
    assert_eq!((run.code, &*run.stderr), (2, ""));
    insta::assert_snapshot!(run.stdout, @r#"
    local.yaml:1:9: warning: rule "Shell at work" names no evt.type, so Falco evaluates it at every call; creance gives it program starts, and the calls that are captured for other rules
      - rule: Shell at work
              ^~~~~~~~~~~~~
      help: name the calls that it is about, for example: evt.type in (execve, execveat) and ...
    local.yaml:9:65: error: there is no macro `in_program_dir`
        condition: evt.type = openat and evt.is_open_write = true and in_program_dir
                                                                      ^~~~~~~~~~~~~~
      help: is it defined in another rule file? give that file first with -r
    local.yaml:15:37: warning: `evt.dir` says nothing any more: there are no enter events
        condition: evt.type = connect and evt.dir=< and proc.name = zsh
                                          ^~~~~~~
      help: `evt.dir = <` always holds and `evt.dir = >` never does: leave it out
    2 rules, 1 error, 2 warnings
    "#);
}

#[test]
fn a_local_file_behind_what_it_rests_on_has_warnings_only() {
    let (_held, directory) = files(&[("base.yaml", BASE), ("local.yaml", LOCAL)]);
    let run = creance(&directory, &["rules", "check", "base.yaml", "local.yaml"]);
    assert_eq!((run.code, &*run.stderr), (0, ""));
    assert!(run.stdout.ends_with("\n3 rules, 0 errors, 2 warnings\n"), "{}", run.stdout);
    assert!(!run.stdout.contains("error:"), "{}", run.stdout);
}

#[test]
fn the_order_of_files_is_a_matter_of_the_message() {
    let (_held, directory) = files(&[("base.yaml", BASE), ("local.yaml", LOCAL)]);
    let run = creance(&directory, &["rules", "check", "local.yaml", "base.yaml"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stdout.contains("local.yaml:9:65: error: there is no macro `in_program_dir`"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("help: it is defined in a later file: give that file first"),
        "{}",
        run.stdout
    );
}

#[test]
fn rules_with_errors_are_not_explained() {
    let (_held, directory) = files(&[("local.yaml", LOCAL)]);
    for flags in [&["explain", "-r", "local.yaml"][..], &["explain", "-r", "local.yaml", "--json"]] {
        let run = creance(&directory, flags);
        assert_eq!((run.code, &*run.stdout), (2, ""));
        assert!(run.stderr.starts_with("local.yaml:9:65: error: "), "{}", run.stderr);
        assert!(run.stderr.ends_with("\ncreance: the rules have 1 error\n"), "{}", run.stderr);
    }
}

#[test]
fn rules_are_shown_in_full_and_errors_apart() {
    let (_held, directory) = files(&[("base.yaml", BASE), ("local.yaml", LOCAL)]);
    let run = creance(&directory, &["rules", "expand", "base.yaml", "local.yaml"]);
    assert_eq!((run.code, &*run.stderr), (0, ""));
    assert_eq!(
        run.stdout,
        "# Shell at work (local.yaml:1)\n\
         proc.name = zsh\n\
         \n\
         # Program replaced (local.yaml:7)\n\
         evt.type = openat and evt.is_open_write = true and fd.directory in (/opt/bin, /opt/sbin)\n\
         \n\
         # Calls home (local.yaml:13)\n\
         evt.type = connect and evt.dir = < and proc.name = zsh\n"
    );
    let run = creance(&directory, &["rules", "expand", "local.yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("local.yaml:9:65: error: "), "{}", run.stderr);
    let names: Vec<_> = run.stdout.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(names, ["# Shell at work (local.yaml:1)", "# Calls home (local.yaml:13)"]);
}

#[test]
fn one_rule_is_shown_by_its_name() {
    let (_held, directory) = files(&[("base.yaml", BASE), ("local.yaml", LOCAL)]);
    let run = creance(&directory, &["rules", "expand", "base.yaml", "local.yaml", "--rule", "Shell at work"]);
    assert_eq!((run.code, &*run.stdout), (0, "# Shell at work (local.yaml:1)\nproc.name = zsh\n"));
    let run = creance(&directory, &["rules", "expand", "local.yaml", "--rule", "Program replaced"]);
    assert_eq!((run.code, &*run.stdout), (2, ""));
    assert!(run.stderr.ends_with("\ncreance: the rules have 1 error\n"), "{}", run.stderr);
}

#[test]
fn a_disabled_rule_and_one_of_another_source_are_marked() {
    let text = "\
- rule: Off
  desc: d
  condition: evt.type = open
  output: o
  priority: INFO
  enabled: false
- rule: Elsewhere
  desc: d
  condition: ka.verb = create
  output: o
  priority: INFO
  source: k8s_audit
";
    let (_held, directory) = files(&[("rules.yaml", text)]);
    let run = creance(&directory, &["rules", "expand", "rules.yaml"]);
    assert_eq!(
        run.stdout,
        "# Off (rules.yaml:1, disabled)\nevt.type = open\n\n\
         # Elsewhere (rules.yaml:7, source k8s_audit)\nka.verb = create\n"
    );
}

#[test]
fn a_directory_and_a_configuration_of_falco_name_rule_files() {
    let (_held, directory) = files(&[
        ("base.yaml", BASE),
        ("local.yaml", LOCAL),
        ("falco.cfg", "rules_files:\n  - base.yaml\n  - local.yaml\n"),
    ]);
    let config = format!(
        "rules_files:\n  - {0}/base.yaml\n  - {0}/local.yaml\n  - {0}/missing.yaml\n",
        directory.display()
    );
    std::fs::write(directory.join("falco.cfg"), config).unwrap();
    for arguments in [&["rules", "check", "."][..], &["rules", "check", "--falco-config", "falco.cfg"]] {
        let run = creance(&directory, arguments);
        assert!(run.stdout.ends_with("\n3 rules, 0 errors, 2 warnings\n"), "{arguments:?}: {}", run.stdout);
    }
    for arguments in [&["explain", "-r", "."][..], &["explain", "--falco-config", "falco.cfg"]] {
        let run = creance(&directory, arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
        assert!(run.stdout.contains("\n3 rules enabled of 3: "), "{arguments:?}: {}", run.stdout);
    }
}

#[test]
fn bad_input_is_one_line_and_status_2() {
    let (_held, directory) = files(&[("rules.yaml", "- list: l\n  items: [a]\n")]);
    let cases: [(&[&str], &str); 9] = [
        (&["explain", "-r", "missing.yaml"], "missing.yaml: No such file or directory"),
        (&["explain", "--falco-config", "missing.yaml"], "missing.yaml: No such file or directory"),
        (&["explain", "-r", "rules.yaml", "--falco-config", "x"], "cannot be used with"),
        (&["explain", "--rule", "x"], "--rule needs rules"),
        (&["explain", "-r", "rules.yaml", "--rule", "x"], "there is no rule of this name"),
        (&["rules", "check"], "required arguments"),
        (&["rules", "check", "missing.yaml"], "missing.yaml: No such file or directory"),
        (&["rules", "expand", "missing.yaml"], "missing.yaml: No such file or directory"),
        (&["rules", "expand", "rules.yaml", "--rule", "x"], "there is no rule of this name"),
    ];
    for (arguments, message) in cases {
        let run = creance(&directory, arguments);
        assert_eq!((run.code, &*run.stdout), (2, ""), "{arguments:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("creance: "), "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn the_nearest_name_is_offered_for_a_rule_that_is_not_there() {
    let (_held, directory) = files(&[("local.yaml", LOCAL), ("base.yaml", BASE)]);
    let run =
        creance(&directory, &["explain", "-r", "base.yaml", "-r", "local.yaml", "--rule", "shell at wrok"]);
    assert!(run.stderr.contains("did you mean \"Shell at work\"?"), "{}", run.stderr);
}

#[test]
fn a_name_cannot_move_the_cursor_of_a_terminal_or_break_a_line() {
    let text =
        "- rule: \"a\\e[2J\\nb\"\n  desc: d\n  condition: evt.type = bind\n  output: o\n  priority: INFO\n";
    let (_held, directory) = files(&[("rules.yaml", text)]);
    for arguments in [
        &["explain", "-r", "rules.yaml", "-v"][..],
        &["rules", "expand", "rules.yaml"],
        &["rules", "check", "rules.yaml"],
        &["explain", "-r", "rules.yaml", "--json"],
    ] {
        let run = creance(&directory, arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
        assert!(!run.stdout.contains('\u{1b}'), "{arguments:?}: {:?}", run.stdout);
    }
    let run = creance(&directory, &["rules", "expand", "rules.yaml"]);
    assert_eq!(run.stdout.lines().count(), 2, "{:?}", run.stdout);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (_held, directory) = files(&[]);
    let mut child = Command::new(cargo_bin("creance"))
        .args(["explain", "--bpf", "--verbose"])
        .current_dir(&directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is closed before or while it writes, depending on who is faster; both must end well.
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let finished = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&finished.stderr), "");
    assert_eq!(finished.status.code(), Some(0));
}

#[test]
fn a_full_disk_is_told_on_one_line() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return crate::skip::skip("there is no /dev/full");
    };
    let finished = Command::new(cargo_bin("creance")).arg("explain").stdout(full).output().unwrap();
    assert_eq!(finished.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&finished.stderr);
    assert!(stderr.starts_with("creance: writing to standard output: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
