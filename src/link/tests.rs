//! Both ends of the link, and what one end makes of another that is hostile.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::{client::read_hello, *};
use crate::{
    decode::samples,
    limits,
    ring::{Poll, Presence, Producer, RecordBuffer},
    sys::{
        seqpacket::{Connection, Listener},
        shm::Memfd,
    },
};

const RING_BYTES: usize = limits::RING_BYTES_MIN;
const SOON: Duration = Duration::from_secs(20);

/// A tracer that serves a ring.
struct Stand {
    directory: tempfile::TempDir,
    producer: Producer<Memfd>,
    presence: Arc<Presence>,
    server: Server,
}

impl Stand {
    fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap())
    }

    fn in_directory(directory: tempfile::TempDir) -> Self {
        let memory = Arc::new(Memfd::create(RING_BYTES).unwrap());
        let presence = Arc::new(Presence::new(false));
        let container = ContainerIdentity { name: Some("shop".into()), ..ContainerIdentity::default() };
        let server = Server::start(
            directory.path(),
            Arc::clone(&memory),
            container,
            Arc::clone(&presence),
            Workload::new(
                |tell| {
                    tell(&samples::exec(1, 0, &["init"]).bytes())?;
                    tell(b"no record at all")?;
                    tell(&samples::exec(7, 1, &["bash"]).bytes())
                },
                |_| false,
            ),
        );
        Self { directory, producer: Producer::new(memory), presence, server: server.unwrap() }
    }

    fn connect(&self) -> Result<Linked, LinkError> {
        Linked::open(self.server.path())
    }

    fn write(&self, text: &[u8]) {
        let mut reservation = self.producer.reserve(text.len()).unwrap();
        reservation.copy_from_slice(text);
        reservation.commit();
    }

    /// Waits until the server has noticed that a consumer has come or gone.
    fn await_presence(&self, is_there: bool) {
        let since = std::time::Instant::now();
        while self.presence.is_there() != is_there {
            assert!(since.elapsed() < SOON, "the server does not notice");
            thread::yield_now();
        }
    }
}

fn read(linked: &mut Linked) -> Vec<u8> {
    let mut buffer = RecordBuffer::new();
    assert_eq!(linked.consumer.poll(&mut buffer), Ok(Poll::Record));
    buffer.to_vec()
}

fn refusal(outcome: Result<Linked, LinkError>) -> String {
    match outcome {
        Err(LinkError::Refused { reason }) => reason,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[test]
fn a_consumer_gets_the_identity_the_processes_and_the_ring() {
    let stand = Stand::new();
    stand.write(b"early");
    let mut linked = stand.connect().unwrap();
    stand.await_presence(true);
    assert_eq!(linked.tracer.container.name.as_deref(), Some("shop"));
    assert_eq!((linked.tracer.pid, linked.tracer.ring_bytes), (std::process::id(), RING_BYTES as u64));
    assert_eq!(linked.processes.len(), 2, "what is no record is left out");
    stand.write(b"late");
    assert_eq!(read(&mut linked), b"early");
    assert_eq!(read(&mut linked), b"late");
    assert_eq!((linked.was_reset, linked.connection.is_hung_up()), (false, false));
}

#[test]
fn one_consumer_at_a_time_and_the_next_reads_on() {
    let stand = Stand::new();
    for text in [b"one", b"two"] {
        stand.write(text);
    }
    let mut first = stand.connect().unwrap();
    assert_eq!(read(&mut first), b"one");
    assert_eq!(refusal(stand.connect()), "another consumer is connected");
    drop(first);
    let mut second = stand.connect().unwrap();
    assert_eq!(read(&mut second), b"two");
    stand.await_presence(true);
    assert_eq!(stand.presence.departures(), 1);
}

#[test]
fn a_position_that_makes_no_sense_is_given_up() {
    let stand = Stand::new();
    stand.write(b"one");
    drop(stand.connect().unwrap());
    let control = stand.producer.memory().control_fd().try_clone_to_owned().unwrap();
    let page = vec![0xa5; 4096];
    std::os::unix::fs::FileExt::write_all_at(&File::from(control), &page, 0).unwrap();
    stand.await_presence(false);
    let mut linked = stand.connect().unwrap();
    assert!(linked.was_reset);
    stand.write(b"two");
    assert_eq!(read(&mut linked), b"two");
}

#[test]
fn the_end_of_a_tracer_is_seen_and_its_ring_can_still_be_read() {
    let stand = Stand::new();
    let mut linked = stand.connect().unwrap();
    stand.write(b"last");
    let Stand { directory, server, .. } = stand;
    let path = server.path().to_path_buf();
    drop(server);
    assert!(linked.connection.is_hung_up());
    assert!(!path.exists() && matches!(Linked::open(&path), Err(LinkError::Dead)));
    assert_eq!(read(&mut linked), b"last");
    drop(directory);
}

#[test]
fn sockets_of_dead_tracers_are_removed_and_those_of_living_ones_stay() {
    let first = Stand::new();
    let dead = first.directory.path().join("creance-0123456789abcdef.sock");
    drop(Listener::bind(&dead).unwrap());
    let others = first.directory.path().join("other.sock");
    drop(Listener::bind(&others).unwrap());
    let memory = Arc::new(Memfd::create(RING_BYTES).unwrap());
    let presence = Arc::new(Presence::new(false));
    let identity = ContainerIdentity::default();
    let second = Server::start(
        first.directory.path(),
        memory,
        identity,
        presence,
        Workload::new(|_| Ok(()), |_| false),
    );
    let _second = second.unwrap();
    assert!(first.server.path().exists() && others.exists());
    assert!(!dead.exists());
    assert!(first.connect().is_ok());
}

/// What [`Linked::open`] makes of a peer that does this.
fn open_with(peer: impl FnOnce(&Connection) + Send) -> LinkError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(socket_name("0123456789abcdef"));
    let listener = Listener::bind(&path).unwrap();
    let (done, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let connection = loop {
                if let Some(connection) = listener.accept().unwrap() {
                    break connection;
                }
                thread::yield_now();
            };
            peer(&connection);
            // Its end comes after the answer, so that the answer stands for what was sent.
            let _ = wait.recv_timeout(SOON);
        });
        let error = Linked::open(&path).err().expect("such a peer is refused");
        drop(done);
        error
    })
}

fn hello(version: u32) -> Vec<u8> {
    let tracer = Tracer {
        id: "0123456789abcdef".into(),
        pid: 1,
        pid_namespace: 1,
        ring_bytes: 4096,
        container: ContainerIdentity::default(),
    };
    serde_json::to_vec(&Hello { magic: MAGIC.into(), version, refused: None, tracer }).unwrap()
}

#[test]
fn a_hostile_tracer_gets_a_reason_and_no_more_time_than_the_bound() {
    let send =
        |message: Vec<u8>| open_with(move |connection: &Connection| connection.send(&message, &[]).unwrap());
    assert!(matches!(send(b"GET / HTTP/1.1".to_vec()), LinkError::NoHello { .. }));
    assert!(matches!(send(hello(7)), LinkError::Version { found: 7 }));
    let other = String::from_utf8(hello(VERSION)).unwrap().replace("0123456789abcdef", "\\u001b[2J");
    assert!(matches!(send(other.into_bytes()), LinkError::NoHello { reason } if reason.contains("its id")));
    assert!(matches!(send(hello(VERSION)), LinkError::NoHello { reason } if reason.contains("no ring")));
    let silent = open_with(|_| {});
    assert!(matches!(silent, LinkError::Kernel { step: "waiting for its hello", .. }));
    let file = tempfile::tempfile().unwrap();
    let no_ring = open_with(|connection| connection.send(&hello(VERSION), &[file.as_fd(); 2]).unwrap());
    assert!(matches!(no_ring, LinkError::Map(_)));
    let memory = Memfd::create(RING_BYTES).unwrap();
    let ring: [BorrowedFd<'_>; 2] = [memory.ring_fd(), memory.control_fd()];
    let endless = open_with(|connection| connection.send(&hello(VERSION), &ring).unwrap());
    assert!(matches!(endless, LinkError::Kernel { step: "waiting for its processes", .. }));
}

#[test]
fn a_peer_that_drips_is_given_up() {
    let memory = Memfd::create(RING_BYTES).unwrap();
    let ring: [BorrowedFd<'_>; 2] = [memory.ring_fd(), memory.control_fd()];
    let since = std::time::Instant::now();
    let dripping = open_with(|connection| {
        connection.send(&hello(VERSION), &ring).unwrap();
        while connection.send(b"x", &[]).is_ok() {
            thread::sleep(Duration::from_millis(limits::LINK_WAIT_MS_MAX / 4));
        }
    });
    assert!(matches!(dripping, LinkError::Kernel { step: "waiting for its processes", .. }));
    assert!(since.elapsed() < SOON);
}

#[test]
fn both_sides_have_the_same_default() {
    let run = tempfile::tempdir().unwrap();
    let runtime = Some(OsStr::new("/run/user/7"));
    let own = run.path().join("creance");
    assert_eq!(default_below(run.path(), runtime), own, "it can be made");
    fs::create_dir(&own).unwrap();
    assert_eq!(default_below(run.path(), runtime), own, "it is there");
    let absent = run.path().join("absent");
    assert_eq!(default_below(&absent, runtime), Path::new("/run/user/7/creance"));
    assert_eq!(default_below(&absent, None), absent.join("creance"));
}

#[test]
fn a_follower_finds_tracers_and_finds_them_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_path_buf();
    let follower = Follower::start(path.join("made later"), |_, error, _| panic!("{error}")).unwrap();
    assert!(follower.take().is_none());
    drop(follower);

    let stand = Stand::in_directory(directory);
    let follower = Follower::start(path, |_, _, _| {}).unwrap();
    let found = follower.wait(SOON).unwrap();
    stand.await_presence(true);
    assert!(follower.wait(Duration::from_millis(3 * limits::LINK_SCAN_MS)).is_none(), "it is connected");
    drop(found);
    let again = follower.wait(SOON).unwrap();
    assert_eq!(again.linked.tracer.id.len(), 16);
}

#[test]
fn names_of_sockets_are_told_from_others() {
    assert!(is_socket_name("creance-0123456789abcdef.sock"));
    for name in ["creance-.sock", "creance-0123456789abcdeg.sock", ".creance-0123456789abcdef", "other.sock"]
    {
        assert!(!is_socket_name(name), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_hello_or_an_error(bytes in any::<Vec<u8>>()) {
        prop_assert!(read_hello(&bytes).is_err());
    }

    #[test]
    fn a_damaged_hello_is_read_or_refused(at in 0..200_usize, byte in any::<u8>()) {
        let mut message = hello(VERSION);
        let len = message.len();
        message[at % len] = byte;
        let _ = read_hello(&message);
    }
}
