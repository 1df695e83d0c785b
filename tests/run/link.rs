//! A consumer in another process: how it gets the ring, and what the workload notices of one that misbehaves.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Instant,
};

use creance::{event::RecordKind, sys::seqpacket::Connection};

use crate::support::{
    Finished, Workload,
    consumer::{Consumer, Told, check_numbers},
    directory, fifo, fixture, limit,
};

/// Starts a workload whose records are offered in `directory`.
fn offer<const N: usize>(workload: Workload, directory: &Path, flags: [&str; N]) -> JoinHandle<Finished> {
    let workload = workload.flags(["--link".as_ref(), directory.as_os_str()]).flags(flags);
    thread::spawn(move || workload.under_creance())
}

fn succeeded(finished: &Finished) -> bool {
    finished.status.code() == Some(0)
}

fn has_open(told: &[Told], path: &str) -> bool {
    told.iter().any(|one| one.kind == RecordKind::Syscall && one.text == path)
}

#[test]
fn a_workload_that_waits_for_its_consumer_is_seen_from_its_first_call_on() {
    let (_held, path) = directory();
    let flags =
        ["--wait-consumer", "forever", "--container-id", &"ab".repeat(32), "--container-name", "shop"];
    let workload = offer(Workload::shell("cat /etc/passwd >/dev/null; exit 3"), &path, flags);
    let mut consumer = Consumer::connect(&path);
    assert_eq!(consumer.tracer().container.name.as_deref(), Some("shop"));
    assert!(
        consumer.processes().iter().any(|process| process.text == "creance"),
        "{:?}",
        consumer.processes()
    );
    let told = consumer.rest();
    assert_eq!(check_numbers(&told, 0), 0);
    assert!(has_open(&told, "/etc/passwd"), "{told:?}");
    assert_eq!(told.last().map(|last| last.kind), Some(RecordKind::Exit));
    let finished = workload.join().unwrap();
    assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(3), ""));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the socket is removed");
}

#[test]
fn a_workload_whose_consumer_does_not_come_starts_without_it() {
    let (_held, path) = directory();
    let finished = offer(Workload::new(["true"]), &path, ["--wait-consumer", "0", "--stats"]).join().unwrap();
    assert!(succeeded(&finished), "{}", finished.stderr);
    assert!(finished.stderr.contains("no consumer has connected"), "{}", finished.stderr);
    let unread = finished.figure("records not read");
    assert_eq!(unread, finished.figure("records"), "{}", finished.stderr);
}

/// Waits until a tracer listens in the directory; gives its socket.
fn socket_in(directory: &Path) -> PathBuf {
    let since = Instant::now();
    loop {
        let mut entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        if let Some(path) = entries.find(|path| path.extension().is_some_and(|end| end == "sock")) {
            return path;
        }
        assert!(since.elapsed() < limit(), "nobody listens");
        thread::yield_now();
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_consumer() {
    let (_held, path) = directory();
    let flags = ["--link".as_ref(), path.as_os_str(), "--wait-consumer".as_ref(), "forever".as_ref()];
    let running = Workload::new(["echo", "started"]).flags(flags).start_under_creance();
    socket_in(&path);
    running.signal(libc::SIGTERM);
    let finished = running.finish();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&finished.status), Some(libc::SIGTERM));
    assert_eq!(finished.stdout(), "");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the socket is removed");
}

#[test]
fn the_workload_cannot_take_the_place_of_its_consumer() {
    let (_held, path) = directory();
    let script = format!("exec {} {}/creance-*.sock", fixture("intruder").display(), path.display());
    let finished = offer(Workload::shell(&script), &path, []).join().unwrap();
    assert!(succeeded(&finished), "{}", finished.stderr);
    assert!(finished.stdout().contains("the workload may not read"), "{}", finished.stdout());
}

#[test]
fn a_consumer_that_comes_late_gets_what_the_ring_still_holds() {
    let (_held, path) = directory();
    let go = path.join("go");
    fifo(&go);
    let script =
        format!("cat /etc/passwd >/dev/null; read line <{}; cat /etc/group >/dev/null", go.display());
    let link = path.join("link");
    let workload = offer(Workload::shell(&script), &link, []);
    // The workload opens it when it has done its first part.
    let go = fs::File::options().write(true).open(&go).unwrap();
    let mut consumer = Consumer::connect(&link);
    let names: Vec<_> = consumer.processes().into_iter().map(|process| process.text).collect();
    assert!(names.contains(&"creance".into()) && names.contains(&"sh".into()), "{names:?}");
    drop(go);
    let told = consumer.rest();
    assert_eq!(check_numbers(&told, 0), 0);
    assert!(has_open(&told, "/etc/passwd") && has_open(&told, "/etc/group"), "{told:?}");
    assert!(succeeded(&workload.join().unwrap()));
}

#[test]
fn a_consumer_that_is_restarted_reads_on_where_the_last_one_stopped() {
    let (_held, path) = directory();
    let [go, link] = ["go", "link"].map(|name| path.join(name));
    fifo(&go);
    let script =
        format!("cat /etc/passwd >/dev/null; read line <{}; cat /etc/group >/dev/null", go.display());
    let workload = offer(Workload::shell(&script), &link, ["--wait-consumer", "forever"]);
    let mut first = Consumer::connect(&link);
    let mut told = Vec::new();
    while !has_open(&told, "/etc/passwd") {
        told.push(first.next().unwrap());
    }
    drop(first);
    let mut second = Consumer::connect(&link);
    drop(fs::File::options().write(true).open(&go).unwrap());
    let before = told.len();
    told.extend(second.rest());
    assert_eq!(check_numbers(&told, 0), 0);
    assert!(has_open(&told, "/etc/group"));
    // The shell was told of to the first consumer, and is told of again before anything else of it.
    let shell = told.iter().find(|one| one.kind == RecordKind::Exec).unwrap().pid;
    let again = told[before..].iter().position(|one| one.kind == RecordKind::Process && one.pid == shell);
    let next = told[before..].iter().position(|one| one.kind == RecordKind::Clone && one.pid == shell);
    assert!(again.is_some() && again < next, "{:?}", &told[before..]);
    assert!(succeeded(&workload.join().unwrap()));
}

/// A workload that makes more calls than a small ring holds, then waits, then makes one more.
struct Flood {
    _held: tempfile::TempDir,
    link: PathBuf,
    done: PathBuf,
    workload: JoinHandle<Finished>,
}

impl Flood {
    const CALLS: u64 = 5_000;

    fn start<const N: usize>(flags: [&str; N]) -> Self {
        let (held, path) = directory();
        let [done, link] = ["done", "link"].map(|name| path.join(name));
        fifo(&done);
        let script = format!(
            "{} {} {}; cat /etc/group >/dev/null",
            fixture("missing").display(),
            Self::CALLS,
            done.display()
        );
        let flags_of_ring = ["--ring-bytes", "131072", "--stats"];
        let workload = offer(Workload::shell(&script).flags(flags_of_ring), &link, flags);
        Self { _held: held, link, done, workload }
    }

    /// Waits until the calls are made, and lets the workload go on.
    fn await_calls(&self) {
        drop(fs::File::open(&self.done).expect("the workload opens it too"));
    }
}

#[test]
fn a_hung_consumer_holds_the_workload_within_the_bound_and_losses_are_counted_exactly() {
    let flood = Flood::start(["--wait-consumer", "forever", "--hold-max", "50"]);
    let mut consumer = Consumer::connect(&flood.link);
    // It does not read: as if it were stopped.
    flood.await_calls();
    let told = consumer.rest();
    let lost = check_numbers(&told, 0);
    let finished = flood.workload.join().unwrap();
    assert!(succeeded(&finished), "{}", finished.stderr);
    assert!(lost > 0 && lost == finished.figure("records lost"), "{lost}: {}", finished.stderr);
    // Once when the ring had filled up, and perhaps when it did so again while it was being read.
    assert!((1..=3).contains(&finished.figure("waits for ring room")), "{}", finished.stderr);
    // What comes after the loss is right again.
    let loss = told.iter().rposition(|one| one.kind == RecordKind::Loss).unwrap();
    assert!(has_open(&told[loss..], "/etc/group"));
    assert!(
        told[loss..].iter().any(|one| one.kind == RecordKind::Process && one.text == "sh"),
        "{:?}",
        &told[loss..]
    );
}

#[test]
fn without_a_consumer_nothing_is_waited_for() {
    let flood = Flood::start([]);
    flood.await_calls();
    let finished = flood.workload.join().unwrap();
    assert!(succeeded(&finished), "{}", finished.stderr);
    assert_eq!(finished.figure("waits for ring room"), 0);
    let (records, lost, unread) =
        (finished.figure("records"), finished.figure("records lost"), finished.figure("records not read"));
    assert!(lost > 0 && unread == records, "{}", finished.stderr);
    assert!(records + lost > Flood::CALLS);
}

#[test]
fn with_drop_a_consumer_that_does_not_read_is_never_waited_for() {
    let flood = Flood::start(["--wait-consumer", "forever", "--on-full", "drop"]);
    let mut consumer = Consumer::connect(&flood.link);
    flood.await_calls();
    let lost = check_numbers(&consumer.rest(), 0);
    let finished = flood.workload.join().unwrap();
    assert!(succeeded(&finished), "{}", finished.stderr);
    assert_eq!((finished.figure("waits for ring room"), finished.figure("records lost")), (0, lost));
}

#[test]
fn a_consumer_that_scribbles_over_its_page_harms_itself_alone() {
    let flood = Flood::start(["--wait-consumer", "forever", "--hold-max", "50"]);
    // It takes the descriptors as a consumer would, and writes what it likes.
    let socket = socket_in(&flood.link);
    let connection = Connection::open(&socket, limit()).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let (_, descriptors) = connection.receive(&mut buffer).unwrap();
    let [ring, control] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
    let control = fs::File::from(control);
    let scribbling = thread::spawn(move || {
        let mut seed = 1_u64;
        loop {
            let page: Vec<u8> = (0..512)
                .flat_map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    seed.to_ne_bytes()
                })
                .collect();
            std::os::unix::fs::FileExt::write_all_at(&control, &page, 0).unwrap();
            if connection.is_hung_up() {
                break;
            }
        }
    });
    let ring = fs::File::from(ring);
    let refused = std::os::unix::fs::FileExt::write_all_at(&ring, b"x", 0).map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::PermissionDenied), "the data is read-only");
    flood.await_calls();
    let finished = flood.workload.join().unwrap();
    assert!(succeeded(&finished), "{}", finished.stderr);
    scribbling.join().unwrap();
}

#[test]
fn two_tracers_share_a_directory() {
    let (_held, path) = directory();
    let flags = ["--wait-consumer", "forever"];
    let workloads = ["/etc/passwd", "/etc/group"]
        .map(|file| offer(Workload::shell(&format!("cat {file} >/dev/null")), &path, flags));
    let follower = creance::link::Follower::start(path, |_, _, _| {}).unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(Consumer::of(follower.wait(limit()).unwrap()).rest());
    }
    assert!(told.iter().all(|told| check_numbers(told, 0) == 0));
    for file in ["/etc/passwd", "/etc/group"] {
        assert_eq!(told.iter().filter(|told| has_open(told, file)).count(), 1);
    }
    for workload in workloads {
        assert!(succeeded(&workload.join().unwrap()));
    }
}

#[test]
fn bad_input_for_the_link_starts_nothing() {
    let (_held, path) = directory();
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    let file = file.join("link").display().to_string();
    let long = format!("{}/{}", path.display(), "x".repeat(120));
    for (flags, status, wanted) in [
        (vec!["--link", "bash"], 2, "a directory has a slash in it"),
        (vec!["--link", &file], 2, "making the directory"),
        (vec!["--link", &long], 125, "File name too long"),
        (vec!["--wait-consumer", "5"], 2, "--link"),
        (vec!["--link", "/tmp/x", "--wait-consumer", "soon"], 2, "a number of seconds or 'forever'"),
        (vec!["--link", "/tmp/x", "--output", "json"], 2, "cannot be used with"),
        (vec!["--ring-bytes", "100000"], 2, "a power of two"),
        (vec!["--container-id", "shop"], 2, "--container-id"),
    ] {
        let finished = Workload::new(["echo", "started"]).flags(&flags).under_creance();
        assert_eq!(finished.status.code(), Some(status), "{flags:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(wanted), "{flags:?}: {}", finished.stderr);
        assert_eq!((finished.stdout(), finished.stderr.lines().count()), ("", 1), "{}", finished.stderr);
    }
}
