//! The addresses of sockets are what the kernel says, whether it can be asked about them or not.

use std::{path::Path, ptr};

use creance::sys::probe::Probe;

use crate::support::{Capture, Event, Workload, directory, fixture, fixture_with, is_permitted, skip};

/// A call and the addresses of its socket, written as the fixture `addresses` writes them.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    call: String,
    local: String,
    peer: String,
}

impl Told {
    /// Reads a line of the fixture.
    fn parse(line: &str) -> Self {
        let mut fields = line.split('|');
        let [call, local, peer] = [(); 3].map(|()| fields.next().expect("a line has three fields"));
        // The NULs after a name are no part of it.
        let [local, peer] = [local, peer].map(|name| name.trim_end_matches('\0').to_owned());
        Self { call: call.to_owned(), local, peer }
    }

    fn of(event: &Event) -> Self {
        let address = |side: &str| {
            let path = event.text(&format!("/{side}/path"));
            let ip = event.text(&format!("/{side}/ip")).map(|ip| {
                let port = event.number(&format!("/{side}/port")).expect("an address has a port");
                format!("{ip} {port}")
            });
            let is_told = event.value(&format!("/{side}")).is_some();
            path.map(str::to_owned).or(ip).unwrap_or_else(|| if is_told { "" } else { "-" }.to_owned())
        };
        Self { call: event.kind().to_owned(), local: address("local"), peer: address("peer") }
    }

    fn is_internet(&self) -> bool {
        self.local.contains(['.', ':']) && self.local.contains(' ')
    }
}

/// What creance tells of the fixture's calls, and what the fixture tells.
fn run(workload: impl FnOnce(Workload) -> Workload) -> (Capture, Vec<Told>, Vec<Told>) {
    let (_held, path) = directory();
    let capture = workload(Workload::new([fixture("addresses")]).directory(&path)).capture();
    assert_eq!(capture.code(), 0, "{}", capture.finished.stderr);
    let meant = capture.finished.stdout().lines().map(Told::parse).collect();
    let calls = ["connect", "accept4", "sendto", "dup2"];
    let told = capture.events.iter().filter(|event| calls.contains(&event.kind())).map(Told::of).collect();
    (capture, told, meant)
}

/// The moves to standard input that come last: of a socket without addresses, and of a directory.
fn last_moves(capture: &Capture) -> [&Event; 2] {
    let moves: Vec<_> = capture.of("dup2").collect();
    *moves.last_chunk().expect("there are two such moves")
}

#[test]
fn addresses_are_what_the_kernel_says() {
    if !is_permitted(Probe::PidfdGetfd) {
        return skip("sockets cannot be duplicated");
    }
    let (capture, told, meant) = run(|workload| workload);
    assert_eq!(told[..told.len() - 2], meant);
    assert!(meant.iter().any(|told| told.call == "connect" && told.peer == "-"), "one is in the making");
    assert!(capture.events.iter().all(|event| !event.has_flag("socket_unknown")));
    let [socket, directory] = last_moves(&capture).map(Told::of);
    assert_eq!((&*socket.local, &*directory.local), ("0.0.0.0 0", "-"));
}

/// Runs the fixture where creance cannot duplicate its sockets: `launcher` sees to that.
fn assert_same_without_duplicates(launcher: &Path) {
    let (capture, told, meant) = run(|workload| workload.launched_by(launcher));
    assert_eq!(told.len(), meant.len() + 2);
    for (told, meant) in told.iter().zip(&meant) {
        assert_eq!((&told.call, &told.local), (&meant.call, &meant.local));
        // No table tells the peer of a Unix socket.
        assert_eq!(told.peer, if meant.is_internet() { &*meant.peer } else { "-" }, "{meant:?}");
    }
    let unknown: Vec<_> = capture.events.iter().filter(|event| event.has_flag("socket_unknown")).collect();
    let [socket, _directory] = last_moves(&capture);
    assert!(matches!(unknown[..], [only] if ptr::eq(only, socket)), "{unknown:?}");
}

#[test]
fn addresses_are_the_same_where_sockets_cannot_be_duplicated() {
    assert_same_without_duplicates(&fixture("without_getfd"));
}

#[test]
fn addresses_are_the_same_where_only_the_text_of_the_tables_can_be_had() {
    let launcher = fixture_with("without_getfd", "-and-netlink", &["-DWITHOUT_NETLINK"]);
    assert_same_without_duplicates(&launcher.expect("the fixture compiles"));
}
