//! The tracer's side: listens, looks at who connects, and hands out the ring.
//!
//! It runs on a thread of its own and never touches the engine: a consumer that hangs in the middle of the hello delays
//! the next consumer, and nobody else.

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{END, Hello, MAGIC, Tracer, VERSION, is_socket_name, socket_name};
use crate::{
    container::ContainerIdentity,
    limits,
    ring::Presence,
    sys::{
        Pid, procfs,
        seqpacket::{self, Connection, Listener},
        shm::Memfd,
    },
};

const WAIT: Duration = Duration::from_millis(limits::LINK_WAIT_MS_MAX);
const HELLO: Duration = Duration::from_millis(limits::LINK_HELLO_MS_MAX);
const RETRY: Duration = Duration::from_millis(limits::LINK_RETRY_MS);

/// A socket for consumers could not be made.
#[derive(Debug, thiserror::Error)]
#[error("listening in {}", directory.display())]
pub struct ServerError {
    /// The directory of the socket.
    pub directory: PathBuf,
    /// What the kernel says.
    pub source: io::Error,
}

/// Serves a ring to one consumer at a time, until it is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    listener: Arc<Listener>,
    thread: Option<JoinHandle<()>>,
}

/// Tells every process that runs, as records in the wire format, to the function that it is given, until that fails.
pub type Processes = dyn Fn(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> + Send;

/// A consumer that this process has started itself: it descends from us, and is none of the workload all the same. All
/// clones are one.
#[derive(Debug, Clone, Default)]
pub struct Companion(Arc<AtomicI32>);

impl Companion {
    /// Says which process it is now, if there is one. It must not have been waited for.
    pub fn set(&self, pid: Option<Pid>) {
        // Relaxed: nothing else is told with it.
        self.0.store(pid.map_or(0, |pid| pid.0), Ordering::Relaxed);
    }

    /// Which process it is, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        Some(Pid(self.0.load(Ordering::Relaxed))).filter(|pid| pid.0 != 0)
    }
}

/// What a server asks about the workload.
pub struct Workload {
    processes: Box<Processes>,
    has: Box<dyn Fn(Pid) -> bool + Send>,
    companion: Companion,
}

impl Workload {
    /// `processes` tells which there are, of it and around it; `has` whether one is of it.
    pub fn new(
        processes: impl Fn(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> + Send + 'static,
        has: impl Fn(Pid) -> bool + Send + 'static,
    ) -> Self {
        Self { processes: Box::new(processes), has: Box::new(has), companion: Companion::default() }
    }

    /// The same, with a consumer that is no process of the workload.
    #[must_use]
    pub fn with_companion(self, companion: Companion) -> Self {
        Self { companion, ..self }
    }
}

impl Server {
    /// Listens in `directory`. Whoever connects gets the ring in `memory` and the processes of the `workload`; `presence` tells whether
    /// there is a consumer.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(
        directory: &Path,
        memory: Arc<Memfd>,
        container: ContainerIdentity,
        presence: Arc<Presence>,
        workload: Workload,
    ) -> Result<Self, ServerError> {
        let failed = |source| ServerError { directory: directory.to_path_buf(), source };
        let id = format!("{:016x}", RandomState::new().build_hasher().finish());
        let hello = Hello {
            magic: MAGIC.into(),
            version: VERSION,
            refused: None,
            tracer: Tracer {
                id: id.clone(),
                pid: process::id(),
                pid_namespace: procfs::pid_namespace(),
                ring_bytes: memory.regions().ring_bytes() as u64,
                container,
            },
        };
        remove_dead(directory);
        let path = directory.join(socket_name(&id));
        // As long as the name itself, so that a path which is too long is refused here.
        let early = directory.join(format!(".creance-{id}.new"));
        let listener = Arc::new(Listener::bind(&early).map_err(failed)?);
        // The socket has its mode from us, less the umask.
        let owner = fs::Permissions::from_mode(0o600);
        if let Err(error) = fs::set_permissions(&early, owner).and_then(|()| fs::rename(&early, &path)) {
            // What is left there, the next tracer does not find either.
            let _ = fs::remove_file(&early);
            return Err(failed(error));
        }
        let acceptor = Acceptor { listener: Arc::clone(&listener), memory, presence, workload, hello };
        let spawned = thread::Builder::new().name("link".into()).spawn(move || acceptor.serve());
        let mut server = Self { path, listener, thread: None };
        server.thread = Some(spawned.map_err(failed)?);
        Ok(server)
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.path);
        self.listener.stop();
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did, there would be nothing left to do for it.
            let _ = thread.join();
        }
    }
}

/// Removes the sockets of tracers that were killed. Those of other users may have a server that we cannot see.
fn remove_dead(directory: &Path) {
    let own = nix::unistd::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(directory) else { return };
    let sockets = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_socket_name));
    for entry in sockets.take(limits::LINK_ENTRIES_MAX) {
        let is_ours = entry.metadata().is_ok_and(|file| file.file_type().is_socket() && file.uid() == own);
        if is_ours && !Connection::is_served(&entry.path()) {
            // Another tracer may be doing the same.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Who does the work, on a thread of its own.
struct Acceptor {
    listener: Arc<Listener>,
    memory: Arc<Memfd>,
    presence: Arc<Presence>,
    workload: Workload,
    hello: Hello,
}

impl Acceptor {
    fn serve(&self) {
        let mut consumer: Option<Connection> = None;
        while !self.listener.is_stopped() {
            let connection =
                seqpacket::wait(&self.listener, consumer.as_ref()).and_then(|()| self.listener.accept());
            if consumer.as_ref().is_some_and(Connection::is_hung_up) {
                consumer = None;
                self.presence.depart();
            }
            match connection {
                Ok(Some(connection)) => {
                    if let Some(connection) = self.welcome(connection, consumer.is_some()) {
                        consumer = Some(connection);
                        self.presence.arrive();
                    }
                }
                Ok(None) => {}
                // No descriptor or memory is left for now, and whoever connects waits on.
                Err(_) => thread::sleep(RETRY),
            }
        }
        if consumer.is_some() {
            self.presence.depart();
        }
    }

    /// Gives whoever has connected what it may have; keeps the connection of a consumer.
    fn welcome(&self, connection: Connection, has_consumer: bool) -> Option<Connection> {
        let deadline = Instant::now() + HELLO;
        // A peer that does not listen is as good as gone.
        let send = |message: &[u8], descriptors: &[BorrowedFd<'_>]| {
            if self.listener.is_stopped() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            connection.set_timeout_until(deadline, WAIT)?;
            connection.send(message, descriptors)
        };
        let refused = match refusal(&connection, &self.workload) {
            None if has_consumer => Some("another consumer is connected".into()),
            refused => refused,
        };
        if refused.is_some() {
            let hello = Hello { refused, ..self.hello.clone() };
            let _ = send(&serde_json::to_vec(&hello).ok()?, &[]);
            return None;
        }
        let hello = serde_json::to_vec(&self.hello).ok()?;
        send(&hello, &[self.memory.ring_fd().as_fd(), self.memory.control_fd().as_fd()]).ok()?;
        (self.workload.processes)(&mut |record| send(record, &[])).ok()?;
        send(END, &[]).ok()?;
        Some(connection)
    }
}

/// Why a peer does not get the ring, if it does not.
fn refusal(connection: &Connection, workload: &Workload) -> Option<String> {
    let peer = match connection.peer() {
        Ok(peer) => peer,
        Err(error) => return Some(format!("who you are is not known: {error}")),
    };
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid != 0 && peer.uid != own {
        return Some(format!("user {} may not read what user {own} traces", peer.uid));
    }
    // The workload is often of our own user, and would hide from Falco by taking its place. A peer in a namespace
    // that we cannot see has no id here, and is nobody that we trace.
    let is_workload = peer.pid != 0 && is_workload(Pid(peer.pid), workload, peer.uid == own);
    is_workload.then(|| "the workload may not read what is recorded of it".into())
}

/// Whether a process is one of the workload, or descends from one that is or from us: a child made with CLONE_UNTRACED
/// may not be known. The companion and its children are none. One of another user may be hidden from us, but then it is
/// none of ours either (proc(5), hidepid).
fn is_workload(pid: Pid, workload: &Workload, is_visible: bool) -> bool {
    let own = Pid(process::id().cast_signed());
    let mut next = pid;
    for _ in 0..limits::LINEAGE_MAX {
        if workload.companion.pid() == Some(next) {
            return false;
        }
        if (workload.has)(next) {
            return true;
        }
        match procfs::relations(next.leader()) {
            Ok(relations) if relations.parent == own => return true,
            Ok(relations) if relations.parent.0 == 0 => return false,
            Ok(relations) => next = relations.parent,
            // It has just ended: nobody who means well does so now.
            Err(_) => return next == pid && is_visible,
        }
    }
    false
}
