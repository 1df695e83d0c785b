//! Follows the sockets in a directory: connects to tracers that appear, and again to those that are lost.
//!
//! It has a thread of its own, since a tracer may be slow to answer while the rings of others want to be read.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{LinkError, Linked, is_socket_name};
use crate::limits;

const SCAN_INTERVAL: Duration = Duration::from_millis(limits::LINK_SCAN_MS);

/// How long a tracer that could not be had is left alone.
const RETRY_INTERVAL: Duration = Duration::from_millis(limits::LINK_RETRY_MS);

/// A tracer that was found. While this lives it is not looked for again.
pub struct Found {
    /// The link to it.
    pub linked: Linked,
    _alive: Arc<()>,
}

/// Finds tracers until it is dropped.
#[derive(Debug)]
pub struct Follower {
    found: mpsc::Receiver<Found>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Begins to follow the sockets in `directory`, which need not be there yet. `complain` gets the path of a socket that
    /// does not give its ring, the reason, and whether that is another than the last time.
    ///
    /// # Errors
    /// The thread could not be made.
    pub fn start(
        directory: PathBuf,
        complain: impl Fn(&Path, &LinkError, bool) + Send + 'static,
    ) -> io::Result<Self> {
        // One at a time: the next tracer is connected when the last one is being read from.
        let (sender, found) = mpsc::sync_channel(0);
        let is_over = Arc::new(AtomicBool::new(false));
        let discovery =
            Discovery { directory, sockets: HashMap::new(), is_over: Arc::clone(&is_over), sender };
        let thread = thread::Builder::new().name("link".into()).spawn(move || discovery.follow(&complain))?;
        Ok(Self { found, is_over, thread: Some(thread) })
    }

    /// A tracer that has been found since the last call.
    #[must_use]
    pub fn take(&self) -> Option<Found> {
        self.found.try_recv().ok()
    }

    /// Waits for a tracer to be found.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Found> {
        self.found.recv_timeout(timeout).ok()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Relaxed: nothing else depends on it.
        self.is_over.store(true, Ordering::Relaxed);
        // A sender that waits for us gives up when nobody can receive any more.
        (_, self.found) = mpsc::sync_channel(0);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic, and if it did, there would be nothing left to do for it.
            let _ = thread.join();
        }
    }
}

/// What is known of a socket.
#[derive(Debug)]
struct Socket {
    /// Alive while somebody reads the tracer's ring.
    link: Weak<()>,
    retry_at: Instant,
    complaint: String,
}

struct Discovery {
    directory: PathBuf,
    sockets: HashMap<String, Socket>,
    is_over: Arc<AtomicBool>,
    sender: mpsc::SyncSender<Found>,
}

impl Discovery {
    fn follow(mut self, complain: &dyn Fn(&Path, &LinkError, bool)) {
        while !self.is_over.load(Ordering::Relaxed) {
            self.scan(complain);
            thread::park_timeout(SCAN_INTERVAL);
        }
    }

    fn scan(&mut self, complain: &dyn Fn(&Path, &LinkError, bool)) {
        let names = self.names();
        self.sockets.retain(|name, socket| socket.link.strong_count() > 0 || names.contains(name));
        for name in names {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let now = Instant::now();
            let is_due = self
                .sockets
                .get(&name)
                .is_none_or(|socket| socket.link.strong_count() == 0 && socket.retry_at <= now);
            if is_due && self.sockets.len() < limits::LINK_ENTRIES_MAX {
                self.connect(name, complain);
            }
        }
    }

    /// The sockets in the directory. One that is not there, or not ours to read, has none.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|file| file.is_socket()));
        let names = sockets.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_socket_name(name)).take(limits::LINK_ENTRIES_MAX).collect()
    }

    fn connect(&mut self, name: String, complain: &dyn Fn(&Path, &LinkError, bool)) {
        let path = self.directory.join(&name);
        let socket = self.sockets.entry(name).or_insert_with(|| Socket {
            link: Weak::new(),
            retry_at: Instant::now(),
            complaint: String::new(),
        });
        socket.retry_at = Instant::now() + RETRY_INTERVAL;
        match Linked::open(&path) {
            Ok(linked) => {
                let alive = Arc::new(());
                socket.link = Arc::downgrade(&alive);
                socket.complaint.clear();
                // Whoever does not receive is gone, and so are we.
                let _ = self.sender.send(Found { linked, _alive: alive });
            }
            Err(LinkError::Dead) => {}
            Err(error) => {
                let complaint = format!("{error:?}");
                complain(&path, &error, complaint != socket.complaint);
                socket.complaint = complaint;
            }
        }
    }
}
