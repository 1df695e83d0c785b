//! Many processes and threads at once: nothing is lost, nothing is told twice, and each one's acts are in order. What
//! holds for every capture (gapless numbers, a clone before the child's acts, the end last) is checked when it is read.

use std::collections::BTreeMap;

use crate::support::{Capture, Event, Workload, directory, fixture};

/// The opens whose last path component is `STEM-I-J`, by thread: `(I, J)` of each, in order, with the event.
fn numbered<'a>(capture: &'a Capture, stem: &str) -> BTreeMap<i64, Vec<(i64, i64, &'a Event)>> {
    let mut by_thread = BTreeMap::<_, Vec<_>>::new();
    for event in capture.events.iter().filter(|event| event.is_open()) {
        let name = event.argument("name").and_then(|name| name.rsplit('/').next());
        let numbers = name.and_then(|name| name.strip_prefix(stem)?.strip_prefix('-')?.split_once('-'));
        let Some((i, j)) = numbers.and_then(|(i, j)| Some((i.parse().ok()?, j.parse().ok()?))) else {
            continue;
        };
        by_thread.entry(event.thread().0).or_default().push((i, j, event));
    }
    by_thread
}

/// Each of `threads` threads made its `opens` opens once and in order.
#[track_caller]
fn assert_numbered(numbered: &BTreeMap<i64, Vec<(i64, i64, &Event)>>, threads: i64, opens: i64) {
    let mut seen: Vec<i64> = Vec::new();
    for of_thread in numbered.values() {
        let i = of_thread.first().map_or(-1, |&(i, ..)| i);
        let got: Vec<_> = of_thread.iter().map(|&(i, j, _)| (i, j)).collect();
        assert_eq!(got, (0..opens).map(|j| (i, j)).collect::<Vec<_>>());
        seen.push(i);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..threads).collect::<Vec<_>>());
}

#[track_caller]
fn check_forks(children: i64, opens: i64, flags: &[&str]) {
    let program = fixture("forks").into_os_string();
    let numbers = [children, opens].map(|number| number.to_string().into());
    let capture = Workload::new([program].into_iter().chain(numbers)).flags(flags).capture();
    assert_eq!(capture.code(), 0);
    let numbered = numbered(&capture, "fork");
    assert_numbered(&numbered, children, opens);
    for (&tid, of_child) in &numbered {
        assert!(of_child.iter().all(|(.., event)| event.errno() == Some("ENOENT")));
        let i = of_child.first().map_or(-1, |&(i, ..)| i);
        assert_eq!(capture.exit(tid).number("/args/status"), Some(i % 256));
    }
    // The return of a clone that was captured as a call is not told beside the clone itself.
    assert_eq!(capture.clones().count(), numbered.len());
    let named = ["clone", "clone3", "fork", "vfork"].map(|name| capture.of(name).count());
    assert_eq!(named.iter().sum::<usize>(), numbered.len());
    assert_eq!(capture.of("procexit").count(), numbered.len() + 1);
    capture.check_parents();
}

#[track_caller]
fn check_threads(threads: i64, opens: i64, signals_us: Option<&str>, flags: &[&str]) {
    let (_held, path) = directory();
    let program = fixture("threads").into_os_string();
    let numbers = [threads, opens].map(|number| number.to_string().into());
    let words = [program].into_iter().chain(numbers).chain([path.into()]).chain(signals_us.map(Into::into));
    let capture = Workload::new(words).flags(flags).capture();
    assert_eq!(capture.code(), 0);
    let numbered = numbered(&capture, "thread");
    assert_numbered(&numbered, threads, opens);
    let root = capture.root();
    for (.., j, event) in numbered.values().flatten() {
        assert_eq!(event.pid(), Some(root));
        assert_eq!(event.errno(), (j % 2 == 1).then_some("ENOENT"));
        assert_eq!(event.result() >= Some(0), j % 2 == 0);
    }
    assert!(capture.clones().all(|event| event.has_flag("thread")));
    assert_eq!(capture.clones().count(), numbered.len());
    assert_eq!(capture.of("threadexit").count(), numbered.len());
    assert_eq!(capture.of("procexit").count(), 1);
}

#[test]
fn two_hundred_processes_at_once_are_each_seen_whole() {
    check_forks(200, 5, &[]);
}

#[test]
fn a_hundred_threads_at_once_are_each_seen_whole() {
    check_threads(100, 50, None, &[]);
}

#[test]
fn threads_are_seen_whole_while_signals_rain_on_them() {
    check_threads(8, 500, Some("200"), &[]);
}

#[test]
fn processes_are_seen_whole_when_every_call_is_captured() {
    check_forks(20, 5, &["--all"]);
}

#[test]
fn threads_are_seen_whole_when_every_call_is_captured() {
    check_threads(10, 10, None, &["--all"]);
}
