//! Under the notify engine, where no copy can be put in place of an argument: who shows one path and opens another is found
//! out, and who does not is never taken for it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::{
    hostile::opens_in,
    support::{Capture, Workload, directory, fixture, has_program, skip},
};

/// Opens of a racing thread.
const OPENS: usize = 2_000;

/// Times that it races.
const ROUNDS: usize = 10;

/// Deceptions after which one is to be found out, in all but one of twenty rounds.
const UNSEEN_MAX: usize = 100;

/// The harmless path is a link, so that it is never clear what it has led to.
const LINK: &str = "link";

/// One open of the fixture `race`: of which file, by the last letter of its path, and what was told of it.
#[derive(Debug)]
struct Open {
    opened: char,
    told: Option<char>,
    is_mismatch: bool,
    is_changeable: bool,
}

/// What the fixture did, if the engine is possible. Only what opens `b` matters to the rule.
fn race(flags: &[&str], more: &[&str]) -> Option<Vec<Open>> {
    let (_held, path) = directory();
    let [a, b] = ["a", "b"].map(|name| path.join(name));
    let inode = |path: &Path| {
        fs::write(path, "").expect("a file can be made");
        fs::metadata(path).expect("it is there").ino()
    };
    let mut inodes = [(inode(&a), 'a'), (inode(&b), 'b')];
    let is_link = more.contains(&LINK);
    if is_link {
        let behind = path.join("c");
        inodes[0].0 = inode(&behind);
        fs::remove_file(&a).expect("it is ours");
        std::os::unix::fs::symlink(&behind, &a).expect("a link can be made");
    }
    let rules = path.join("rules.yaml");
    let condition = format!("evt.type = openat and fd.name = {}", b.display());
    let rule = format!("- rule: b\n  desc: b\n  condition: {condition}\n  output: b\n  priority: INFO\n");
    fs::write(&rules, rule).expect("a file can be made");
    let program = fixture("race");
    let count = OPENS.to_string();
    let words = [program.as_os_str(), count.as_ref(), a.as_os_str(), b.as_os_str()];
    let words = words.into_iter().chain(more.iter().filter(|&&word| word != LINK).map(AsRef::as_ref));
    let capture =
        Workload::new(words).flags(["--engine", "notify", "--rules"]).flags([&rules]).flags(flags).capture();
    if capture.is_impossible() {
        return None;
    }
    assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
    let mut opens = Vec::new();
    let mut times = Vec::new();
    for line in capture.finished.stdout().lines() {
        let (inode, ns) = line.split_once(' ').expect("two numbers");
        let inode = inode.parse().ok();
        let opened = inodes.iter().find(|(known, _)| Some(*known) == inode);
        let opened = opened.expect("it is one of both").1;
        opens.push(Open { opened, told: None, is_mismatch: false, is_changeable: false });
        times.push(ns.parse::<i64>().expect("a number"));
    }
    for event in capture.events.iter().filter(|event| opens_in(event, &path)) {
        let entered = event.number("/enter_ns").expect("a time");
        let before = times.partition_point(|&time| time <= entered);
        let open = before.checked_sub(1).and_then(|at| opens.get_mut(at)).expect("it was made before");
        assert!(open.told.is_none(), "told twice: {event:?}");
        // Behind the link is what the first path names.
        let last = event.path("name").and_then(|name| name.chars().last());
        open.told = last.map(|last| if last == 'c' { 'a' } else { last });
        open.is_mismatch = event.has_flag("mismatch");
        open.is_changeable = event.has_flag("changeable");
    }
    Some(opens)
}

/// Where a race is announced, and how many opens of `b` were not told before; checks that all is right from there on.
fn announced(opens: &[Open]) -> Option<usize> {
    let first = opens.iter().position(|open| open.is_mismatch)?;
    let (before, after) = opens.split_at(first);
    for open in after {
        let is_right = match open.told {
            // Both files are new at first, so that a rename could explain it.
            Some(told) => open.is_changeable || told == open.opened && (told == 'b' || open.is_mismatch),
            None => open.opened == 'a',
        };
        assert!(is_right, "{open:?}");
    }
    let is_right = |open: &Open| open.is_changeable || open.told.is_none_or(|told| told == open.opened);
    assert!(before.iter().all(is_right));
    Some(before.iter().filter(|open| open.opened == 'b' && open.told.is_none()).count())
}

#[test]
fn a_race_is_announced_soon_and_from_then_on_all_is_told_as_it_was() {
    let mut unseen = Vec::new();
    for _ in 0..ROUNDS {
        let Some(opens) = race(&[], &[]) else { return };
        let deceived = opens.iter().filter(|open| open.opened == 'b' && open.told.is_none()).count();
        match announced(&opens) {
            Some(before) => unseen.push(before),
            None => {
                assert!(deceived <= UNSEEN_MAX, "{deceived} opens were not told, and nothing was noticed")
            }
        }
    }
    if unseen.is_empty() {
        return skip("the other thread never ran at the right moment");
    }
    let late = unseen.iter().filter(|&&count| count > UNSEEN_MAX).count();
    assert!(late * 20 <= ROUNDS.max(20), "{unseen:?}");
}

#[test]
fn where_each_call_is_compared_nothing_that_was_opened_is_missed() {
    let mut is_found = false;
    for more in [&[][..], &["process"], &[LINK]] {
        for _ in 0..ROUNDS / 2 {
            let Some(opens) = race(&["--verify-share", "1"], more) else { return };
            let seen = announced(&opens);
            assert!(seen.is_none_or(|before| before == 0));
            let is_told =
                |open: &Open| open.is_changeable || (open.opened == 'b') == (open.told == Some('b'));
            assert!(opens.iter().all(is_told), "{more:?}");
            is_found |= seen.is_some();
        }
    }
    if !is_found {
        skip("the other thread never ran at the right moment");
    }
}

#[test]
fn a_race_is_announced_even_if_its_calls_cannot_be_followed() {
    let mut is_found = false;
    for _ in 0..ROUNDS / 2 {
        // Each is looked at twice.
        let Some(opens) = race(&["--verify-share", "16"], &["traced"]) else { return };
        let Some(first) = opens.iter().position(|open| open.told.is_some()) else { continue };
        is_found = true;
        // The path may also have changed before it was looked at, so that the rule wants what it was.
        let is_announced = |open: &Open| open.is_mismatch || open.told == Some('b');
        assert!(is_announced(&opens[first]), "{:?}", opens[first]);
        let Some(first) = opens.iter().position(|open| open.is_mismatch) else { continue };
        let rest = &opens[first..];
        assert!(rest.iter().all(|open| open.told.is_some()), "{rest:?}");
    }
    if !is_found {
        skip("the other thread never ran at the right moment");
    }
}

/// Runs an honest script, of which at least so many calls are compared: none may be taken for a deception.
fn is_clean(programs: &[&str], compared_min: u64, script: &str) {
    if let Some(missing) = programs.iter().find(|program| !has_program(program)) {
        return skip(&format!("there is no {missing}"));
    }
    let (_held, path) = directory();
    let workload = || {
        let workload = Workload::new(["bash", "-euc", script]).directory(&path);
        workload.flags(["--engine", "notify", "--stats", "--verify-share"])
    };
    let kept = workload().flags(["1"]).capture();
    if kept.is_impossible() {
        return;
    }
    check_clean(&kept);
    assert!(kept.finished.figure("calls compared") >= compared_min);
    // And where each call that is dropped is looked at twice, unless it is compared.
    let (_held, other) = directory();
    let rules = other.join("rules.yaml");
    fs::write(&rules, NOTHING).expect("a file can be made");
    let dropped = workload().flags(["16", "--rules"]).flags([&rules]).capture();
    check_clean(&dropped);
    assert!(dropped.finished.figure("calls dropped by triage") >= compared_min.max(1));
    assert_eq!(dropped.finished.figure("calls mismatched"), 0);
}

/// Rules for which triage looks at nearly all paths, and drops them.
const NOTHING: &str = "\
- rule: none
  desc: none
  condition: >
    (evt.type in (open, openat, openat2, creat) and fd.name = /none) or
    (evt.type in (unlink, unlinkat, mkdir, mkdirat, rmdir) and evt.arg.path = /none) or
    (evt.type in (rename, renameat, renameat2) and evt.arg.newpath = /none) or
    (evt.type in (symlink, symlinkat) and evt.arg.target = /none) or
    (evt.type = connect and evt.rawres >= 0 and fd.sip = 192.0.2.1)
  output: none
  priority: INFO
";

fn check_clean(capture: &Capture) {
    assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
    let flagged: Vec<_> = capture
        .events
        .iter()
        // What another thread replaces at the moment may have been another file.
        .filter(|event| {
            event.has_flag("mismatch")
                || event.has_flag("changeable") && event.argument("name") != Some("shared")
        })
        .map(|event| (event.has_flag("mismatch"), event.kind(), event.argument("name"), event.path("name")))
        .take(20)
        .collect();
    assert!(flagged.is_empty(), "{flagged:?}");
}

#[test]
fn honest_threads_that_open_by_links_and_rename_are_not_taken_for_a_race() {
    is_clean(
        &["python3"],
        100,
        r#"exec python3 - <<'EOF'
import os, socket, tempfile, threading

def work(number):
    name = f"file{number}"
    for turn in range(20):
        with open(name + ".new", "w") as file:
            file.write("x")
        os.rename(name + ".new", name)
        with open(f"shared{number}.new", "w") as file:
            file.write("x")
        os.rename(f"shared{number}.new", "shared")
        with open("shared"):
            pass
        os.symlink(os.path.abspath(name), f"link{number}.new")
        os.rename(f"link{number}.new", f"link{number}")
        for path in (name, f"link{number}", f"./{name}", f"../{os.path.basename(os.getcwd())}/{name}", "/etc/mtab",
                     "/dev/fd/0", "/proc/self/status", "/proc/thread-self/status", "/proc/self/cwd/" + name,
                     "/dev/null", "/dev/tty", "/usr/bin/python3", "/etc/os-release"):
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError:
                pass
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.close(os.open(name, os.O_RDONLY, dir_fd=directory))
        os.close(directory)
        with tempfile.TemporaryFile(dir="."):
            pass
        with tempfile.NamedTemporaryFile(dir="."):
            pass

def talk():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    port = server.getsockname()[1]
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        with socket.create_connection((host, port)):
            server.accept()[0].close()

threads = [threading.Thread(target=work, args=(number,)) for number in range(4)] + [threading.Thread(target=talk)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
EOF"#,
    );
}

#[test]
fn compilers_that_run_side_by_side_are_not_taken_for_a_race() {
    is_clean(
        &["gcc", "make"],
        0,
        r##"
        for number in 1 2 3 4; do
            printf '#include <stdio.h>\nint f(void) { return getchar(); }\n' >$number.c
        done
        printf 'all: 1.o 2.o 3.o 4.o\n%%.o: %%.c\n\tgcc -pipe -c $<\n' >Makefile
        make -j4 >/dev/null"##,
    );
}
