//! Workloads that try to be seen doing something else than what they do, or not to be seen at all.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use creance::sys::probe::Probe;

use crate::{
    arguments::hard_paths,
    support::{Capture, Event, Workload, directory, fixture, is_permitted, skip},
};

/// Opens of a racing thread. Without copies some hundred of them are told wrongly where there are two CPUs.
const OPENS: usize = 2_000;

/// Times that a race is run until it is lost.
const ROUNDS: usize = 5;

/// Whether it opens what stands in a directory.
pub(crate) fn opens_in(event: &Event, directory: &Path) -> bool {
    event.is_open() && event.path("name").is_some_and(|name| Path::new(name).parent() == Some(directory))
}

/// What the fixture `race` opened, each as the last letter of its path, and what was told of it.
struct Race {
    opened: Vec<char>,
    told: Vec<char>,
    capture: Capture,
}

impl Race {
    fn run(path: &Path, flags: &[&str], more: &[&str]) -> Self {
        let [a, b] = ["a", "b"].map(|name| path.join(name));
        let inode = |path: &Path| {
            fs::write(path, "").expect("a file can be made");
            fs::metadata(path).expect("it is there").ino()
        };
        let (ino_a, ino_b) = (inode(&a), inode(&b));
        let program = fixture("race");
        let count = OPENS.to_string();
        let words = [program.as_os_str(), count.as_ref(), a.as_os_str(), b.as_os_str()];
        let words = words.into_iter().chain(more.iter().map(AsRef::as_ref));
        let engine = ["--engine", "ptrace"];
        let capture = Workload::new(words).flags(engine).flags(flags).capture();
        assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
        let lines = capture.finished.stdout().lines();
        let opened = lines.map(|line| {
            let inode = line.split(' ').next().and_then(|inode| inode.parse::<u64>().ok());
            assert!([Some(ino_a), Some(ino_b)].contains(&inode), "neither of both: {line}");
            if inode == Some(ino_a) { 'a' } else { 'b' }
        });
        let opened: Vec<_> = opened.collect();
        let told = capture.events.iter().filter(|event| opens_in(event, path));
        let told = told.filter_map(|event| event.path("name")?.chars().last());
        let told = told.collect();
        Self { opened, told, capture }
    }

    fn changeable(&self) -> usize {
        self.capture.events.iter().filter(|event| event.has_flag("changeable")).count()
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_told_of_a_path_that_another_thread_changes_is_what_was_opened() {
    let (_held, path) = directory();
    for more in [&[][..], &["--no-filter"]] {
        let flags: Vec<_> = ["--syscalls", "openat"].iter().chain(more).copied().collect();
        let race = Race::run(&path, &flags, &[]);
        assert_eq!(race.opened.len(), OPENS);
        assert!(race.opened == race.told, "something else was told than was opened: {more:?}");
        assert_eq!(race.changeable(), 0);
    }
}

#[test]
fn without_copies_the_race_is_lost_and_a_call_that_is_told_is_told_as_it_was_all_the_same() {
    let (_held, path) = directory();
    let is_lost = (0..ROUNDS).any(|_| {
        let race = Race::run(&path, &["--syscalls", "openat", "--substitute", "off"], &[]);
        assert_eq!(race.told.len(), OPENS);
        let opens = race.capture.events.iter().filter(|event| opens_in(event, &path));
        for ((opened, told), open) in race.opened.iter().zip(&race.told).zip(opens) {
            // Both files are new at first, so that a rename could explain it.
            assert!(opened == told || open.has_flag("changeable"), "{open:?}");
        }
        race.capture.events.iter().any(|event| event.has_flag("mismatch"))
    });
    if !is_lost {
        skip("the other thread never ran at the right moment");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_of_another_abi_whose_path_is_changed_says_that_it_may_be_and_is_told_as_it_was() {
    let (_held, path) = directory();
    if fixture_natively(&path, "i386").is_none() {
        return skip("the kernel takes no 32-bit calls");
    }
    let race = Race::run(&path, &["--syscalls", "open"], &["i386"]);
    assert_eq!((race.told.len(), race.changeable()), (OPENS, OPENS));
    // Both files are new at first, so that a rename could explain a difference.
    assert_eq!(race.opened[OPENS / 2..], race.told[OPENS / 2..]);
}

/// Whether the fixture can race in this way; `None` if it fails.
fn fixture_natively(path: &Path, way: &str) -> Option<()> {
    let [a, b] = ["a", "b"].map(|name| path.join(name));
    let program = fixture("race");
    let words = [program.as_os_str(), "1".as_ref(), a.as_os_str(), b.as_os_str(), way.as_ref()];
    let native = Workload::new(words).natively();
    (native.status.success()).then_some(())
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_is_dropped_only_if_what_was_opened_does_not_matter() {
    let (_held, path) = directory();
    let rules = path.join("rules.yaml");
    let rule = format!(
        "- rule: b\n  desc: b\n  condition: evt.type = openat and fd.name = {}\n  output: b\n  priority: INFO\n",
        path.join("b").display()
    );
    fs::write(&rules, rule).unwrap();
    let race = Race::run(&path, &["--rules", rules.to_str().unwrap()], &[]);
    let matter = race.opened.iter().filter(|&&name| name == 'b').count();
    assert_eq!(race.told.len(), matter);
    assert!(race.told.iter().all(|&name| name == 'b'));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_program_that_a_filter_of_its_own_would_kill_is_left_alone_and_its_calls_say_so() {
    let (_held, path) = directory();
    let race = Race::run(&path, &["--syscalls", "openat"], &["filtered"]);
    assert_eq!(race.told.len(), OPENS);
    assert!(race.changeable() >= OPENS, "{}", race.changeable());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_workload_cannot_change_the_copies_or_put_something_else_in_their_place() {
    let (_held, path) = directory();
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    let program = fixture("sealed");
    let capture = Workload::new([program.as_os_str(), file.as_os_str()])
        .flags(["--engine", "ptrace", "--syscalls", "openat"])
        .capture();
    assert_eq!(capture.code(), 0);
    match capture.finished.stdout() {
        "sealed\n" => {}
        "unsealed\n" => skip("the kernel knows no mseal(2)"),
        other => panic!("it could: {other}"),
    }
}

#[test]
fn paths_that_are_hard_to_read_mean_the_same_to_the_kernel_when_they_are_copied() {
    let capture = hard_paths()
        .flags(["--engine", "ptrace", "--substitute", "always", "--syscalls", "openat"])
        .capture();
    assert_eq!(capture.code(), 0);
}

#[test]
fn programs_do_the_same_when_all_their_arguments_are_copied() {
    let script = "cd /; ls -d etc /nonexistent; x=$(cat /proc/self/comm); echo $x; (exec true); /nonexistent/x; echo $?";
    let native = Workload::shell(script).natively();
    let capture =
        Workload::shell(script).flags(["--engine", "ptrace", "--substitute", "always", "--all"]).capture();
    assert_eq!(capture.finished.stdout(), native.stdout());
    assert_eq!(capture.code(), native.status.code().unwrap());
    let starts = capture.of("execve").filter(|exec| exec.result() == Some(0)).count();
    assert!(starts >= 4, "{starts}");
}

fn untraced(way: &str, path: &Path) -> Capture {
    let program = fixture("untraced");
    Workload::new([program.as_os_str(), way.as_ref(), path.as_os_str()])
        .flags(["--engine", "ptrace"])
        .capture()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_process_that_asks_not_to_be_traced_is_traced_and_its_record_says_that_it_asked() {
    let (_held, path) = directory();
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    let capture = untraced("clone", &file);
    assert_eq!((capture.code(), capture.finished.stdout()), (0, "opened\n"));
    let clone = capture.one("clone", |clone| clone.is_clone());
    assert!(clone.argument("flags").is_some_and(|flags| flags.contains("CLONE_UNTRACED")), "{clone:?}");
    let open = capture.open(&file);
    assert_eq!(open.pid(), clone.result());
    assert_eq!(capture.exit(open.pid().unwrap()).number("/args/status"), Some(0));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_clone3_that_asks_not_to_be_traced_is_answered_as_if_there_were_none() {
    if !is_permitted(Probe::Clone3) {
        return skip("clone3(2) is refused before it can be trapped");
    }
    let (_held, path) = directory();
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    let capture = untraced("clone3", &file);
    assert_eq!((capture.code(), capture.finished.stdout()), (0, "errno 38\n"));
    let clone = capture.one("clone3", |_| true);
    assert_eq!(clone.errno(), Some("ENOSYS"));
    assert_eq!(capture.of("procexit").count(), 1);
}
