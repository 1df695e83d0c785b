//! Trouble on creance's own side, and what the workload notices of it.

use std::{
    fs::File,
    io::{self, Read},
    thread,
};

use crate::support::{Event, Workload, directory, fifo, fixture};

#[test]
fn a_workload_does_not_outlive_creance() {
    let mut capturing = Workload::shell("echo ready; sleep 20; echo survived").start_capture();
    capturing.signal_when_ready(libc::SIGKILL);
    // Ends when nobody holds the workload's standard output any more.
    let finished = capturing.finish_unread();
    assert_eq!(finished.stdout(), "");
}

#[test]
fn an_output_that_nobody_reads_lets_the_workload_finish_and_losses_are_counted() {
    const OPENS: usize = 60_000;
    let (_held, path) = directory();
    let [events, done] = ["events", "done"].map(|name| {
        let path = path.join(name);
        fifo(&path);
        path
    });
    let words =
        [fixture("missing").into_os_string(), OPENS.to_string().into(), done.clone().into_os_string()];
    let reader = {
        let events = events.clone();
        thread::spawn(move || -> io::Result<String> {
            let mut unread = File::open(events)?;
            // The workload opens it when it has made all of its calls.
            File::open(done)?;
            let mut text = String::new();
            unread.read_to_string(&mut text)?;
            Ok(text)
        })
    };
    let flags = ["--output".as_ref(), "json".as_ref(), "--output-file".as_ref(), events.as_os_str()];
    let finished = Workload::new(words).flags(flags).under_creance();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let text = reader.join().unwrap().unwrap();
    let (mut next, mut lost, mut opens) = (0, 0, Vec::new());
    for event in text.lines().map(Event::parse) {
        assert_eq!(event.number("/seq"), Some(next), "{event:?}");
        if event.kind() == "drop" {
            lost += event.number("/args/count").unwrap();
            next += event.number("/args/count").unwrap();
            continue;
        }
        next += 1;
        let name = event.argument("name").and_then(|name| name.strip_prefix("/nonexistent/missing-"));
        opens.extend(name.map(|number| number.parse::<usize>().unwrap()));
    }
    assert!(lost > 0, "{} opens were told", opens.len());
    assert!(finished.stderr.contains(&format!("{lost} records were lost")), "{}", finished.stderr);
    assert!(opens.is_sorted_by(|a, b| a < b));
    assert!(opens.len() + usize::try_from(lost).unwrap() >= OPENS);
}
