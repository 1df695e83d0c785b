//! What a reader that was too slow is told afterwards.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    thread,
    time::{Duration, Instant},
};

use creance::limits;

use crate::support::{
    Event, Workload,
    consumer::{Consumer, check_numbers},
    directory, executable, fifo, fixture,
};

/// Reads nothing until the workload says that it has made `late` while the ring was full; from then on everything. The
/// workload goes on when it is told of anew.
#[test]
fn a_program_that_started_while_records_were_lost_is_told_with_its_name_and_parent() {
    const OPENS: &str = "60000";
    let (_held, path) = directory();
    let [events, full, seen, late] = ["events", "full", "seen", "late"].map(|name| path.join(name));
    fifo(&events);
    fifo(&full);
    // Each look for the file `seen` is an open that fails.
    let script = "#!/bin/sh\n: >\"$1\"\nuntil true <\"$2\"; do :; done 2>/dev/null\ncat /dev/null\n: last\n";
    executable(&late, script);
    let reader = {
        let (events, full, seen) = (events.clone(), full.clone(), seen.clone());
        thread::spawn(move || {
            let unread = File::open(events).unwrap();
            File::open(full).unwrap();
            let mut read = Vec::new();
            for line in BufReader::new(unread).lines() {
                let event = Event::parse(&line.unwrap());
                if event.kind() == "process" && event.argv().first() == Some(&"/bin/sh") {
                    fs::write(&seen, "").unwrap();
                }
                read.push(event);
            }
            read
        })
    };
    let flags = ["--output".as_ref(), "json".as_ref(), "--output-file".as_ref(), events.as_os_str()];
    // Held once until the bound, this fills the ring; whatever `late` does then is lost.
    let words = ["sh", "-c", "\"$1\" \"$2\" /dev/null; \"$3\" \"$4\" \"$5\"; exit 7", "sh"].map(Into::into);
    let arguments =
        [fixture("missing").into_os_string(), OPENS.into(), late.into(), full.into(), seen.into()];
    let finished = Workload::new(words.into_iter().chain(arguments)).flags(flags).under_creance();
    assert_eq!(finished.status.code(), Some(7), "{}", finished.stderr);
    let read = reader.join().unwrap();
    let drop = read.iter().position(|event| event.kind() == "drop").expect("records were lost");
    let (before, after) = read.split_at(drop);
    let root = before[0].pid();
    assert!(before.iter().all(|event| event.text("/proc/name") != Some("late")), "it started too early");
    let told = after.iter().find(|event| event.text("/proc/name") == Some("late")).expect("it is told of");
    assert_eq!(told.kind(), "process", "before anything that it does: {told:?}");
    assert_eq!(told.value("/args/exec_lost").and_then(|lost| lost.as_bool()), Some(true));
    assert_eq!((told.number("/proc/ppid"), told.text("/proc/pname")), (root, Some("sh")));
    let parent = after.iter().position(|event| event.kind() == "process" && event.pid() == root);
    assert!(parent < after.iter().position(|event| event.pid() == told.pid()), "the parent comes first");
    // The child of a program that was told late, and its end.
    let cat = after.iter().find(|event| event.kind() == "execve" && event.argv() == ["cat", "/dev/null"]);
    let cat = cat.expect("the child is seen");
    assert_eq!((cat.number("/proc/ppid"), cat.text("/proc/pname")), (told.pid(), Some("late")));
    assert!(after.iter().any(|event| event.kind() == "procexit" && event.pid() == told.pid()));
    let nameless: Vec<_> = after
        .iter()
        .filter(|event| event.kind() != "drop" && event.text("/proc/name").is_none())
        .filter(|event| event.kind() != "procexit" && event.kind() != "threadexit")
        .collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    // The exit of the program that filled the ring was lost, and is told later.
    let missing = before.iter().find(|event| event.text("/proc/name") == Some("missing")).unwrap().pid();
    let end = after.iter().find(|event| event.kind() == "procexit" && event.pid() == missing);
    assert!(end.is_some(), "an end that was lost is told when there is room");
}

/// The ring is full and ends of processes are still to be told when the workload is over.
#[test]
fn a_hung_consumer_keeps_the_end_of_a_workload_for_one_bound() {
    const OPENS: &str = "5000";
    let (_held, path) = directory();
    let [full, link] = ["full", "link"].map(|name| path.join(name));
    fifo(&full);
    let flags = ["--wait-consumer", "forever", "--ring-bytes", "131072", "--hold-max", "50", "--stats"];
    let workload = Workload::new([fixture("missing").as_os_str(), OPENS.as_ref(), full.as_os_str()])
        .flags(flags)
        .flags(["--link".as_ref(), link.as_os_str()]);
    let workload = thread::spawn(move || workload.under_creance());
    let mut consumer = Consumer::connect(&link);
    // Before the open: whoever comes back from it late would take the wait for a shorter one.
    let since = Instant::now();
    File::open(full).expect("the workload opens it too");
    let finished = workload.join().unwrap();
    let kept = since.elapsed();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let bound = Duration::from_millis(limits::LINK_DRAIN_MS_MAX);
    assert!((bound..bound * 3 / 2).contains(&kept), "{kept:?}");
    assert_eq!(finished.figure("waits for ring room"), 1, "{}", finished.stderr);
    check_numbers(&consumer.rest(), 0);
}
