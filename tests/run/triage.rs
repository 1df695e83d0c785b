//! What rules make of a workload: which calls are trapped, which of those are dropped, and what an audit says of them.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{Capture, Event, Workload, creance, directory, fixture};

/// The text of a rule file whose one rule is about opens of these paths.
fn opens_of(paths: &[&Path]) -> String {
    let names: Vec<_> = paths.iter().map(|path| path.to_str().expect("the path is text")).collect();
    let condition = format!("evt.type in (open, openat, openat2) and fd.name in ({})", names.join(", "));
    format!("- rule: opened\n  desc: a test\n  condition: {condition}\n  output: opened\n  priority: INFO\n")
}

/// What a call is known by in two runs of the same program.
fn identity(event: &Event) -> (String, Option<Value>, Option<String>) {
    let argument = |name| event.value(&format!("/args/{name}")).cloned();
    // The file name of an exec is known only where the call is trapped, and not needed.
    let name = ["name", "path", "pathname", "oldpath", "linkpath", "argv"].into_iter().find_map(argument);
    (event.kind().to_owned(), name, event.errno().map(ToOwned::to_owned))
}

fn identities<'a>(
    events: impl IntoIterator<Item = &'a Event>,
) -> Vec<(String, Option<Value>, Option<String>)> {
    events.into_iter().map(identity).collect()
}

#[test]
fn a_dropped_open_costs_one_stop_and_no_record() {
    let (_held, path) = directory();
    let wanted = path.join("wanted");
    let rules = rule_file(&path, &opens_of(&[&wanted]));
    let run = |others: usize| {
        let mut words = vec![fixture("open").into_os_string(), wanted.clone().into_os_string()];
        words.extend(std::iter::repeat_n(path.join("other").into_os_string(), others));
        let flags = ["-r".as_ref(), rules.as_os_str(), "--stats".as_ref()];
        Workload::new(words).flags(flags).capture()
    };
    let (few, many) = (run(10), run(60));
    for capture in [&few, &many] {
        assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
        assert_eq!(capture.open(&wanted).errno(), Some("ENOENT"));
        assert_eq!(capture.opens(path.join("other")).len(), 0);
    }
    for name in ["stops", "calls trapped", "calls dropped by triage"] {
        assert_eq!(many.finished.figure(name), few.finished.figure(name) + 50, "{name}");
    }
    for name in ["records", "calls kept", "calls not wanted"] {
        assert_eq!(many.finished.figure(name), few.finished.figure(name), "{name}");
    }
}

/// Writes a rule file into a directory.
fn rule_file(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("rules.yaml");
    fs::write(&file, text).expect("the file can be written");
    file
}

/// What lies in a directory.
fn names_in(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).expect("the directory can be read").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// Runs the fixture that works on files in an empty directory, with a rule about opens of two files of it.
fn files(flags: &[&str]) -> Capture {
    let (_held, place) = directory();
    let (_workplace, path) = directory();
    let rules = opens_of(&[&path.join("one/file"), &path.join("one/two/by-chdir")]);
    let rules = rule_file(&place, &rules);
    let flags = flags.iter().map(AsRef::as_ref).chain(["--rules".as_ref(), rules.as_os_str()]);
    let capture = Workload::new([fixture("files")]).directory(&path).flags(flags).capture();
    assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
    let (_other, elsewhere) = directory();
    Workload::new([fixture("files")]).directory(&elsewhere).natively();
    let left = |path: &Path| [names_in(path), names_in(&path.join("one"))];
    assert_eq!(left(&path), left(&elsewhere), "the program did what it does without creance");
    capture
}

#[test]
fn a_relative_path_is_decided_by_where_it_starts_from() {
    let capture = files(&[]);
    let opens: Vec<_> = capture.events.iter().filter(|event| event.is_open()).map(identity).collect();
    let names: Vec<_> = opens.iter().map(|(_, name, _)| name.as_ref().and_then(Value::as_str)).collect();
    // The second of `file` is an openat2, below the same descriptor.
    let mut expected = vec![Some("two/../file"), Some("file"), Some("by-chdir")];
    if capture.of("openat2").any(|open| open.errno() == Some("ENOSYS")) {
        expected.remove(1);
    }
    assert_eq!(names, expected);
}

#[test]
fn an_audit_records_everything_and_marks_exactly_what_is_dropped_otherwise() {
    let (plain, audit) = (files(&[]), files(&["--all"]));
    let relevant: Vec<_> = audit.events.iter().filter(|event| !event.has_flag("irrelevant")).collect();
    // The rule names no paths but those of its own run, in a directory of its own.
    assert_eq!(identities(relevant.iter().copied()), identities(&plain.events));
    let irrelevant: Vec<_> = audit.events.iter().filter(|event| event.has_flag("irrelevant")).collect();
    for kind in ["read", "openat", "mmap", "fchmod", "close"] {
        assert!(irrelevant.iter().any(|event| event.kind() == kind), "{kind}: {irrelevant:#?}");
    }
    assert!(plain.events.iter().all(|event| !event.has_flag("irrelevant")));
}

#[test]
fn programs_and_processes_are_never_irrelevant() {
    let (_held, path) = directory();
    let rules = rule_file(&path, &opens_of(&[Path::new("/nonexistent/file")]));
    let capture =
        Workload::shell("cat /dev/null; true").flags(["--all".as_ref(), "-r".as_ref(), rules.as_os_str()]);
    let capture = capture.capture();
    assert_eq!(capture.code(), 0);
    let is_life = |event: &&Event| {
        event.is_clone()
            || event.kind() == "procexit"
            || event.kind() == "execve" && event.result() == Some(0)
    };
    assert!(capture.events.iter().filter(is_life).count() >= 4);
    assert!(capture.events.iter().filter(is_life).all(|event| !event.has_flag("irrelevant")));
}

#[test]
fn an_audit_counts_the_funnel() {
    let (_held, path) = directory();
    let rules = rule_file(&path, &opens_of(&[Path::new("/nonexistent/file")]));
    let words = [fixture("open").into_os_string(), "/nonexistent/file".into()];
    let flags = ["--all".as_ref(), "-r".as_ref(), rules.as_os_str(), "--stats".as_ref()];
    let capture = Workload::new(words).flags(flags).capture();
    let count = |name| capture.finished.figure(name);
    let stages =
        ["calls seen", "calls wanted by number", "calls wanted by registers", "calls kept by triage"];
    let counts = stages.map(count);
    assert!(counts.is_sorted_by(|wider, narrower| wider >= narrower), "{counts:?}");
    assert!(counts[0] > counts[1] && counts[2] > counts[3] && counts[3] > 0, "{counts:?}");
    assert!(capture.finished.stderr.contains(" %)"), "{}", capture.finished.stderr);
    assert!(!capture.open("/nonexistent/file").has_flag("irrelevant"));
}

#[test]
fn a_path_that_cannot_be_read_is_kept() {
    let (_held, path) = directory();
    let rules = rule_file(&path, &opens_of(&[Path::new("/nonexistent/file")]));
    let flags = ["-r".as_ref(), rules.as_os_str()];
    let capture = Workload::new([fixture("memory")]).flags(flags).capture();
    assert_eq!(capture.code(), 0);
    let errors: Vec<_> = capture.of("openat").filter_map(Event::errno).collect();
    // Four have no whole path in memory, and one has more than the kernel takes.
    let count = |name: &str| errors.iter().filter(|errno| **errno == name).count();
    assert_eq!((count("EFAULT"), count("ENAMETOOLONG")), (4, 1), "{errors:?}");
    assert_eq!(capture.opens("/nonexistent/end-of-page").len(), 0);
}

#[test]
fn a_program_is_known_by_the_name_that_it_was_started_by() {
    let (_held, path) = directory();
    let script = path.join("a-script");
    fs::write(&script, format!("#!{} x\n", fixture("names").display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let opened = |condition: &str, program: &Path| {
        let condition = format!("evt.type in (open, openat) and {condition}");
        let text = opens_of(&[]).replace("evt.type in (open, openat, openat2) and fd.name in ()", &condition);
        let rules = rule_file(&path, &text);
        // The first program is another one: a child that has not yet run its own is called as its creator.
        let command = format!("{} {}; true", program.display(), path.display());
        let capture = Workload::shell(&command).flags(["-r".as_ref(), rules.as_os_str()]).capture();
        assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
        let names = ["as-started", "by-other-name", "by-thread", "by-child"];
        names.map(|name| capture.opens(path.join(name)).len())
    };
    let names = fixture("names");
    assert_eq!(opened("proc.name = names", &names), [1; 4]);
    assert_eq!(opened("proc.name startswith nam and not proc.name in (other, thread)", &names), [1; 4]);
    // The notify engine does not know which program a thread runs that it has not told of: the first call is kept.
    let is_nothing = |opens| [[0; 4], [0, 0, 1, 0]].contains(&opens);
    assert!(is_nothing(opened("proc.name in (other, thread, sh, dash)", &names)));
    assert!(is_nothing(opened("not proc.name in (a, names)", &names)));
    assert_eq!(opened("proc.name = a-script", &script), [1; 4]);
    assert!(is_nothing(opened("proc.name != a-script", &script)));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_of_another_abi_is_kept_whatever_its_path() {
    let (_held, path) = directory();
    let rules = rule_file(&path, &opens_of(&[Path::new("/nonexistent/file")]));
    let words = [fixture("foreign").into_os_string(), "i386".into()];
    if !Workload::new(&words).natively().status.success() {
        return crate::support::skip("the kernel takes no 32-bit calls");
    }
    let capture = Workload::new(words).flags(["-r".as_ref(), rules.as_os_str()]).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(capture.open("/nonexistent/int80").text("/abi"), Some("i386"));
}

#[test]
fn rules_may_be_a_directory_or_those_of_a_falco_yaml() {
    let (_held, path) = directory();
    let (rules, config) = (path.join("rules.d"), path.join("falco.yaml"));
    fs::create_dir(&rules).unwrap();
    for name in ["a", "b"] {
        let text = opens_of(&[&path.join(name)]).replace("rule: opened", &format!("rule: {name}"));
        fs::write(rules.join(format!("{name}.yaml")), text).unwrap();
    }
    fs::write(&config, format!("rules_files:\n  - {}\n", rules.display())).unwrap();
    let words = || {
        let opened = ["a", "b", "c"].map(|name| path.join(name).into_os_string());
        [fixture("open").into_os_string()].into_iter().chain(opened)
    };
    for flags in [["--rules".as_ref(), rules.as_os_str()], ["--falco-config".as_ref(), config.as_os_str()]] {
        let capture = Workload::new(words()).flags(flags).capture();
        assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
        let counts = ["a", "b", "c"].map(|name| capture.opens(path.join(name)).len());
        assert_eq!(counts, [1, 1, 0], "{flags:?}");
    }
}

#[test]
fn rules_with_errors_are_told_and_start_nothing() {
    let (_held, path) = directory();
    let started = path.join("started");
    let run = |flags: &[&str]| {
        let flags = flags.iter().map(AsRef::as_ref);
        let words = ["--".as_ref(), "touch".as_ref(), started.as_os_str()];
        let finished = creance(["run".as_ref()].into_iter().chain(flags).chain(words));
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(!started.exists());
        finished.stderr
    };
    let rules = rule_file(&path, &opens_of(&[Path::new("/x")]).replace("fd.name in", "fd.name inn"));
    let file = rules.to_str().unwrap();
    let told = run(&["-r", file]);
    assert!(told.contains(file) && told.lines().last().unwrap().contains("1 error"), "{told}");
    let missing = path.join("missing.yaml");
    for flag in ["-r", "--falco-config"] {
        let told = run(&[flag, missing.to_str().unwrap()]);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("missing.yaml") && told.contains("No such file"), "{told}");
    }
    for other in [["--syscalls", "openat"], ["--falco-config", file]] {
        let told = run(&[&["-r", file][..], &other].concat());
        assert!(told.contains("cannot be used with"), "{told}");
    }
}
