//! Both engines tell the same of a workload, but for what docs/architecture.md says is an engine's own.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::support::{Capture, Event, Workload, creance, directory, fixture, has_program, skip};

/// What an event tells, without what differs from run to run: ids, times, descriptors.
fn told(event: &Event) -> Option<String> {
    let is_thread = event.has_flag("thread") || event.number("/args/child_pid") == event.pid();
    // A thread is told of at its beginning, or with the first record about it.
    if event.kind() == "threadexit" || event.is_clone() && is_thread {
        return None;
    }
    let texts = event.value("/args").and_then(Value::as_object).into_iter().flatten();
    let texts = texts.filter_map(|(name, value)| Some((name, value.as_str()?))).collect::<BTreeMap<_, _>>();
    let name = event.text("/proc/name").unwrap_or_default();
    let status = event.number("/args/status");
    Some(format!("{name}: {} {texts:?} {:?} {:?} {status:?}", event.kind(), event.argv(), event.errno()))
}

/// The same text with the names of temporary files as if they were always the same.
fn without_random_names(mut text: String) -> String {
    const RANDOM_CHARS: usize = 6;
    for marker in ["tmp_obj_", "/tmp/cc", "/place/.git/t"] {
        let places: Vec<_> = text.match_indices(marker).map(|(at, _)| at + marker.len()).collect();
        for place in places {
            let end = place + RANDOM_CHARS;
            if text.get(place..end).is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            {
                text.replace_range(place..end, "RANDOM");
            }
        }
    }
    text
}

/// How often each thing was told.
fn all_told(capture: &Capture) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for told in capture.events.iter().filter_map(told).map(without_random_names) {
        *counts.entry(told).or_default() += 1;
    }
    counts
}

/// Whether this machine permits the notify engine.
fn has_notify() -> bool {
    let tried = creance(["run", "--engine", "notify", "--output", "null", "--", "true"]);
    if !tried.status.success() {
        skip(&tried.stderr);
    }
    tried.status.success()
}

/// Runs a script under each engine, each in a directory of the same name that is empty.
fn compare(script: &str) {
    if !has_program("bash") {
        return skip("there is no bash");
    }
    if !has_notify() {
        return;
    }
    let (_held, path) = directory();
    let place = path.join("place");
    let capture = |engine: &str| {
        fs::create_dir(&place).expect("it can be made");
        let script = format!("cd {}; {script}", place.display());
        // Its handlers are set with SA_RESTART, those of other shells are not.
        let capture = Workload::new(["bash", "-c", &script]).flags(["--engine", engine]).capture();
        fs::remove_dir_all(&place).expect("it can be removed");
        capture
    };
    let [by_notify, by_ptrace] = ["notify", "ptrace"].map(capture);
    assert_eq!(by_notify.code(), by_ptrace.code());
    let (notify, ptrace) = (all_told(&by_notify), all_told(&by_ptrace));
    let differences = |these: &BTreeMap<String, usize>, those: &BTreeMap<String, usize>| {
        let mut differences = these.clone();
        differences.retain(|told, count| those.get(told) != Some(count));
        differences
    };
    let (more, less) = (differences(&notify, &ptrace), differences(&ptrace, &notify));
    assert!(more.is_empty() && less.is_empty(), "notify: {more:#?}\nptrace: {less:#?}");
}

#[test]
fn shell_loops_with_pipes_and_subshells() {
    compare(
        "for i in 1 2 3 4 5; do echo $i | cat | tr 1 2 >out-$i; (cat /etc/hostname; exit $i); done; \
         cat /nonexistent/a; ./missing; sh -c 'kill -9 $$'; rm out-*; exit 3",
    );
}

#[test]
fn python_with_threads_and_subprocesses() {
    if !has_program("python3") {
        return skip("there is no python3");
    }
    compare(
        "cat >work.py <<'EOF'\n\
import subprocess, threading\n\
def work(n):\n    open('/etc/passwd').close()\n    open(f'made-{n}', 'w').close()\n\
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n\
[t.start() for t in threads]\n[t.join() for t in threads]\n\
for n in range(4): subprocess.run(['sh', '-c', f'exit {n}'])\nEOF\n\
         python3 -I -S -B work.py",
    );
}

#[test]
fn git_from_the_first_commit_to_the_status() {
    if !has_program("git") {
        return skip("there is no git");
    }
    compare(
        "export HOME=$PWD GIT_AUTHOR_DATE='2026-01-01 00:00:00' GIT_COMMITTER_DATE='2026-01-01 00:00:00'; \
         git init -q .; echo one >a; git add a; \
         git -c user.name=n -c user.email=e -c gc.auto=0 -c maintenance.auto=false commit -qm first; git status -s",
    );
}

#[test]
fn a_compiler_and_what_it_makes() {
    if !has_program("cc") {
        return skip("there is no cc");
    }
    compare("echo 'int main(void) { return 7; }' >a.c; cc -pipe -o a a.c && ./a");
}

#[test]
fn a_program_that_traces_another_works_and_what_it_follows_is_flagged() {
    if !has_notify() {
        return;
    }
    let words = [fixture("tracer").into_os_string()];
    let native = Workload::new(&words).natively();
    let capture = Workload::new(&words).flags(["--engine", "notify"]).capture();
    assert_eq!(capture.code(), native.status.code().unwrap());
    assert_eq!(capture.finished.stdout(), native.stdout());
    let open = capture.open(Path::new("/etc/hostname"));
    assert!(open.has_flag("unfollowed"), "{open:?}");
}
