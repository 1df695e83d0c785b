//! Trouble on creance's own side, and what the workload notices of it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    thread,
};

use crate::support::{
    Event, IMPOSSIBLE, Workload, creance, directory, executable, fifo, fixture, has_program, skip,
};

#[test]
fn a_workload_does_not_outlive_creance() {
    let mut capturing = Workload::shell("echo ready; sleep 20; echo survived").start_capture();
    capturing.signal_when_ready(libc::SIGKILL);
    // Ends when nobody holds the workload's standard output any more.
    let finished = capturing.finish_unread();
    assert_eq!(finished.stdout(), "");
}

#[test]
fn a_workload_dies_with_its_engine_and_the_status_says_so() {
    let script = "kill -9 $PPID; sleep 20; echo survived";
    let run = Workload::new(["bash", "-c", script])
        .flags(["--engine", "notify", "--output", "null"])
        .under_creance();
    if run.status.code() == IMPOSSIBLE {
        return skip(&run.stderr);
    }
    assert_eq!((run.status.code(), run.stdout()), (Some(125), ""), "{}", run.stderr);
    assert!(run.stderr.contains("the workload is killed with it"), "{}", run.stderr);
}

#[test]
fn a_workload_goes_on_under_another_engine_and_the_gap_is_told() {
    let (_held, path) = directory();
    let events = path.join("events");
    // The second engine is there when its first event is.
    let script = r#"
        cat /etc/hostname >/dev/null
        kill -9 $PPID
        before=$(wc -l <"$EVENTS")
        until [ "$(wc -l <"$EVENTS")" -gt "$before" ]; do
            cat /dev/null /etc/passwd >/dev/null
            sleep 0.1
        done
        cat /etc/group >/dev/null
        exit 9"#;
    let flags =
        ["--engine", "notify", "--on-death", "continue", "--output", "json", "--output-file"].map(OsStr::new);
    let run = Workload::new(["bash", "-c", script])
        .variable("EVENTS", &events)
        .flags(flags.into_iter().chain([events.as_os_str()]))
        .under_creance();
    if run.status.code() == IMPOSSIBLE {
        return skip(&run.stderr);
    }
    assert_eq!(run.status.code(), Some(9), "{}", run.stderr);
    assert!(run.stderr.contains("another one is started"), "{}", run.stderr);
    let text = fs::read_to_string(events).unwrap();
    // The first engine may have died in the middle of a line.
    let told: Vec<_> = text.lines().filter(|line| line.ends_with('}')).map(Event::parse).collect();
    let gap = told.iter().position(|event| event.kind() == "drop").expect("the gap is announced");
    assert!(told[gap].number("/args/count") >= Some(1));
    let opened = |path| move |event: &Event| event.is_open() && event.argument("name") == Some(path);
    assert!(told[gap..].iter().any(opened("/etc/group")), "{text}");
    let exit = told.iter().find(|event| event.kind() == "procexit" && event.pid() == told[0].pid());
    assert!(exit.is_some_and(|exit| exit.number("/args/status") == Some(9)), "{exit:?}");
}

#[test]
fn only_the_notify_engine_lets_a_workload_live_on() {
    let run = creance(["run", "--engine", "ptrace", "--on-death", "continue", "--", "echo", "started"]);
    assert_eq!((run.status.code(), run.stdout()), (IMPOSSIBLE, ""));
    assert!(run.stderr.contains("--on-death continue"), "{}", run.stderr);
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

#[test]
fn a_limit_on_file_sizes_does_not_touch_the_workload() {
    let (_held, path) = directory();
    let launcher = path.join("limited");
    executable(&launcher, "#!/bin/sh\nulimit -f 12000\nexec \"$@\"\n");
    let events = path.join("events");
    let flags = ["--output".as_ref(), "json".as_ref(), "--output-file".as_ref(), events.as_os_str()];
    // The limit is 6 MB, in blocks of 512 bytes: the ring fits, and the events do not.
    let words = [fixture("missing").into_os_string(), "25000".into(), "/dev/null".into()];
    let finished = Workload::new(words).launched_by(&launcher).flags(flags).under_creance();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("events were not written"), "{}", finished.stderr);
}

#[test]
fn a_workload_of_the_same_user_cannot_write_our_memory() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    // CAP_SYS_PTRACE (capabilities(7)).
    if u64::from_str_radix(capabilities, 16).unwrap() & 1 << 19 == 0 {
        let finished = Workload::shell(": <>/proc/$PPID/mem").under_creance();
        assert_ne!(finished.status.code(), Some(0), "{}", finished.stderr);
        return;
    }
    // With the capability the test gives it up first.
    if !has_program("setpriv") {
        skip("there is no setpriv to give up CAP_SYS_PTRACE with");
        return;
    }
    let (_held, path) = directory();
    let launcher = path.join("plain");
    let give_up = "setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace";
    executable(&launcher, &format!("#!/bin/sh\nexec {give_up} \"$@\"\n"));
    let script = ": <>/proc/$PPID/mem && echo open";
    let run = |script: &str| Workload::shell(script).launched_by(&launcher).under_creance();
    assert_eq!(run(script).stdout(), "");
    assert_eq!(run(": <>/proc/$$/mem && echo open").stdout(), "open\n");
}
