//! What was captured: events, and the order that every capture must have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use super::{Finished, IMPOSSIBLE, skip};

/// Calls that open a file by its name.
const OPENS: [&str; 4] = ["open", "openat", "openat2", "creat"];

/// Events by which a process or thread is made.
const CLONES: [&str; 4] = ["clone", "clone3", "fork", "vfork"];

/// Events that start a program.
const EXECS: [&str; 2] = ["execve", "execveat"];

/// A run of a workload under creance.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) finished: Finished,
    pub(crate) events: Vec<Event>,
}

impl Capture {
    /// Reads the events, and checks what must hold for every capture.
    pub(super) fn read(finished: Finished, output: &Path, is_notify: bool) -> Self {
        let text = fs::read_to_string(output).expect("the output is text");
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
        let events = text.lines().map(Event::parse).collect();
        let capture = Self { finished, events };
        capture.check_sequence();
        capture.check_life(is_notify);
        capture
    }

    /// The exit code; fails if a signal ended the workload.
    pub(crate) fn code(&self) -> i32 {
        let Finished { status, stderr, .. } = &self.finished;
        assert!(status.code().is_some(), "{status}; standard error: {stderr}");
        status.code().unwrap_or_default()
    }

    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.kind() == kind)
    }

    /// Whether the machine does not permit the engine that was asked for, so that nothing ran: that is told as a skip.
    pub(crate) fn is_impossible(&self) -> bool {
        let is_impossible = self.finished.status.code() == IMPOSSIBLE && self.events.is_empty();
        if is_impossible {
            skip(&self.finished.stderr);
        }
        is_impossible
    }

    /// The one event of a kind that the claim holds for.
    pub(crate) fn one(&self, kind: &str, claim: impl Fn(&Event) -> bool) -> &Event {
        let is_meant = |event: &&Event| event.kind() == kind && claim(event);
        let found: Vec<_> = self.events.iter().filter(is_meant).collect();
        assert_eq!(found.len(), 1, "not one {kind}: {found:#?} of {}", self.overview());
        found.first().expect("there is one")
    }

    /// Opens of a path, which may be what the program wrote or its absolute form.
    pub(crate) fn opens(&self, path: impl AsRef<Path>) -> Vec<&Event> {
        let path = path.as_ref().to_str().expect("the path is text");
        let is_meant = |event: &&Event| {
            event.is_open() && [event.argument("name"), event.path("name")].contains(&Some(path))
        };
        self.events.iter().filter(is_meant).collect()
    }

    /// The one open of a path.
    pub(crate) fn open(&self, path: impl AsRef<Path>) -> &Event {
        let found = self.opens(&path);
        assert_eq!(found.len(), 1, "not one open of {}: {found:#?}", path.as_ref().display());
        found.first().expect("there is one")
    }

    /// Starts of programs, successful or not.
    pub(crate) fn execs(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| EXECS.contains(&event.kind()))
    }

    /// The start of a program with this command line.
    pub(crate) fn started(&self, argv: &[&str]) -> &Event {
        let found: Vec<_> =
            self.execs().filter(|event| event.result() == Some(0) && event.argv() == argv).collect();
        assert_eq!(found.len(), 1, "not one start of {argv:?}: {}", self.overview());
        found.first().expect("there is one")
    }

    pub(crate) fn clones(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.is_clone())
    }

    /// The end of a process.
    pub(crate) fn exit(&self, pid: i64) -> &Event {
        self.one("procexit", |event| event.pid() == Some(pid))
    }

    /// The process that was started first.
    pub(crate) fn root(&self) -> i64 {
        self.events.first().and_then(Event::pid).expect("there is a first event")
    }

    /// Every process that was made in the workload has the parent that made it, by pid and by name, for as long as
    /// that parent lives.
    pub(crate) fn check_parents(&self) {
        let mut parents = BTreeMap::new();
        let mut names: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        for event in &self.events {
            let pid = event.pid().expect("every event of these workloads has a process");
            if let Some(&parent) = parents.get(&pid) {
                assert_eq!(event.number("/proc/ppid"), Some(parent), "{event:?}");
                let name = event.text("/proc/pname").expect("the parent's name is known");
                assert!(names.get(&parent).is_some_and(|names| names.contains(&name)), "{event:?}");
            }
            names.entry(pid).or_default().push(event.text("/proc/name").expect("the name is known"));
            if event.is_clone() && !event.has_flag("thread") {
                parents.insert(event.result().expect("a clone has a result"), pid);
            }
            if event.kind() == "procexit" {
                // Its children keep showing it until their next exec, when the kernel says otherwise.
                parents.retain(|&child, &mut parent| child != pid && parent != pid);
            }
        }
    }

    /// Nothing is missing.
    fn check_sequence(&self) {
        for (number, event) in (0..).zip(&self.events) {
            assert_eq!(event.number("/seq"), Some(number), "{event:?}");
            assert_ne!(event.kind(), "drop", "records were lost: {event:?}");
        }
    }

    /// A thread is told of before it acts, nothing comes after its end, and everything ends.
    fn check_life(&self, is_notify: bool) {
        // A root that never became the workload tells nothing but why.
        if let [only] = &*self.events
            && EXECS.contains(&only.kind())
            && only.result() < Some(0)
        {
            return;
        }
        let mut alive: BTreeMap<i64, i64> = BTreeMap::new();
        // Under the notify engine the call in which an exec has ended a thread may be told after that exec, once. The ends of
        // the threads come just before it, and how they ended is not known.
        let mut told = BTreeSet::new();
        let (mut ends, mut ended_by_exec) = (BTreeMap::new(), BTreeMap::new());
        let may_be_late = |event: &Event| {
            let is_life = event.is_clone() || EXECS.contains(&event.kind());
            is_notify && event.number("/nr").is_some() && !is_life
        };
        for event in &self.events {
            let (tid, pid) = event.thread();
            if alive.is_empty() {
                assert_eq!(event.number("/seq"), Some(0), "after the end of everything: {event:?}");
                alive.insert(tid, pid);
                told.insert(pid);
            }
            if !["threadexit", "execve", "execveat"].contains(&event.kind()) {
                ends.clear();
            }
            if !alive.contains_key(&tid) && may_be_late(event) && ended_by_exec.remove(&tid) == Some(pid) {
                continue;
            }
            // One whose creator was killed before it could tell of it is told of as a child of who adopted it: creance.
            let is_adopted = event.is_clone() && event.has_flag("from_child") && !told.contains(&pid);
            assert!(is_adopted || alive.get(&tid) == Some(&pid), "not the act of a living thread: {event:?}");
            if event.is_clone() {
                let child = event.result().expect("a clone has a result");
                let child_pid = if event.has_flag("thread") { pid } else { child };
                assert_eq!(alive.insert(child, child_pid), None, "made twice: {event:?}");
                told.insert(child_pid);
            } else if EXECS.contains(&event.kind()) && event.result() == Some(0) {
                // Its other threads are gone, and one that was not the leader has become it.
                alive.retain(|&other, &mut process| process != pid || other == tid);
                ended_by_exec.append(&mut ends);
            } else if ["procexit", "threadexit"].contains(&event.kind()) {
                alive.remove(&tid);
                if event.has_flag("no_result") {
                    ends.insert(tid, pid);
                } else {
                    ends.clear();
                }
                let is_last = !alive.values().any(|&process| process == pid);
                assert_eq!(event.kind() == "procexit", tid == pid, "{event:?}");
                assert!(tid != pid || is_last, "a process ends before its threads: {event:?}, {alive:?}");
            }
        }
        assert!(alive.is_empty(), "without an end: {alive:?}");
    }

    fn overview(&self) -> String {
        let lines: Vec<_> =
            self.events.iter().map(|event| format!("{} {:?}", event.kind(), event.0)).collect();
        lines.join("\n")
    }
}

/// One event, as JSON.
#[derive(Debug)]
pub(crate) struct Event(Value);

impl Event {
    pub(crate) fn parse(line: &str) -> Self {
        Self(serde_json::from_str(line).expect("each line is a JSON object"))
    }

    /// The value behind a JSON pointer.
    pub(crate) fn value(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer)
    }

    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.value(pointer)?.as_str()
    }

    pub(crate) fn number(&self, pointer: &str) -> Option<i64> {
        self.value(pointer)?.as_i64()
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("/type").unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> Option<i64> {
        self.number("/pid")
    }

    /// Thread and process.
    pub(crate) fn thread(&self) -> (i64, i64) {
        (self.number("/tid").unwrap_or_default(), self.pid().unwrap_or_default())
    }

    pub(crate) fn result(&self) -> Option<i64> {
        self.number("/res")
    }

    pub(crate) fn errno(&self) -> Option<&str> {
        self.text("/errno")
    }

    /// An argument that is a string.
    pub(crate) fn argument(&self, name: &str) -> Option<&str> {
        self.text(&format!("/args/{name}"))
    }

    /// The absolute path of an argument.
    pub(crate) fn path(&self, name: &str) -> Option<&str> {
        self.text(&format!("/paths/{name}"))
    }

    /// The argument vector of an exec.
    pub(crate) fn argv(&self) -> Vec<&str> {
        let strings = self.value("/args/argv").and_then(Value::as_array);
        strings.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        let flags = self.value("/flags").and_then(Value::as_array);
        flags.is_some_and(|flags| flags.iter().any(|word| word == flag))
    }

    pub(crate) fn is_open(&self) -> bool {
        OPENS.contains(&self.kind())
    }

    /// Whether it made a process or thread, rather than failed to.
    pub(crate) fn is_clone(&self) -> bool {
        CLONES.contains(&self.kind()) && self.number("/args/child_pid").is_some()
    }
}
