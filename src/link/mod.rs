//! The link: how a consumer in another process gets the ring of a tracer.
//!
//! A tracer listens on a socket of its own in a directory that both can see; a consumer follows all sockets in it.
//! It needs neither a common IPC namespace nor a network: a volume that two containers share is enough. Read the
//! protocol below before you edit any file here. Whoever connects may be hostile, and so may whoever listens: no message
//! is trusted, and nobody waits for the other longer than [`crate::limits::LINK_WAIT_MS_MAX`] for one message, and
//! [`crate::limits::LINK_HELLO_MS_MAX`] for all.
//!
//! # Protocol
//! ```text
//! tracer                                             consumer
//! DIR/creance-ID.sock, SOCK_SEQPACKET, mode 0600
//!                                      <-- connect   asks for nothing
//! the peer must be root or our own user, and must not be a process that we trace: else a hello with `refused`
//! one consumer at a time:                            else a hello with `refused`
//! a hello, a JSON object                         --> with two descriptors: the ring and the control memfd
//! each process that runs, as a record            --> one message each
//! an empty record: `end`                         --> maps the ring and reads on where the last consumer left off
//! the end of the connection means the end of the peer; nothing else is ever sent
//! ```
//! The socket gets its name when it is listening, by a rename, so that a name is never there too early. A tracer
//! removes its name when it ends, and at its start those that dead tracers of the same user have left.

mod client;
mod follow;
mod server;
#[cfg(test)]
mod tests;
use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use client::{LinkError, Linked};
pub use follow::{Follower, Found};
pub use server::{Companion, Processes, Server, ServerError, Workload};

use crate::container::ContainerIdentity;

/// What every hello begins with.
const MAGIC: &str = "creance-link";

/// Version of the protocol. It changes with the messages, the wire format of records and the layout of the ring.
const VERSION: u32 = 1;

/// The message after the last process. No record is as short.
const END: &[u8] = b"end";

/// What the names of sockets begin and end with.
const NAME: (&str, &str) = ("creance-", ".sock");

/// The tracer's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    magic: String,
    version: u32,
    /// Why the consumer does not get the ring, if it does not. No descriptors and no processes come with it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// Who the tracer is.
    pub tracer: Tracer,
}

/// A tracer, as it names itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracer {
    /// Tells it from all others that share the directory: 16 hexadecimal digits.
    pub id: String,
    /// Its process, in its own PID namespace.
    pub pid: u32,
    /// That namespace: the inode of `/proc/self/ns/pid`; 0 if it is not known. Ids of different namespaces may be equal.
    pub pid_namespace: u64,
    /// Bytes of the ring's data.
    pub ring_bytes: u64,
    /// The container that the workload runs in.
    pub container: ContainerIdentity,
}

/// No directory can be used for the link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The directory cannot be made.
    #[error("making the directory {}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no default here.
    #[error(
        "/run/creance cannot be used ({source}) and XDG_RUNTIME_DIR is not set: name a directory that creance and Falco share"
    )]
    NoDefault {
        /// What the kernel says.
        source: io::Error,
    },
}

/// The directory for the link: the given one, else `/run/creance`, else `$XDG_RUNTIME_DIR/creance`. It is made, for its
/// owner only, if it is not there.
///
/// # Errors
/// [`DirectoryError`].
pub fn directory(given: Option<&Path>) -> Result<PathBuf, DirectoryError> {
    if let Some(path) = given {
        let path = path.to_path_buf();
        return make(&path).map(|()| path.clone()).map_err(|source| DirectoryError::Make { path, source });
    }
    let path = default_directory();
    make(&path).map(|()| path.clone()).map_err(|source| match env::var_os("XDG_RUNTIME_DIR") {
        Some(_) => DirectoryError::Make { path, source },
        None => DirectoryError::NoDefault { source },
    })
}

/// The directory that both sides use by default: `/run/creance` if it can be written, or made, else
/// `$XDG_RUNTIME_DIR/creance`.
#[must_use]
pub fn default_directory() -> PathBuf {
    default_below(Path::new("/run"), env::var_os("XDG_RUNTIME_DIR").as_deref())
}

fn default_below(run: &Path, runtime: Option<&OsStr>) -> PathBuf {
    let path = run.join("creance");
    let is_ours = check_writable(if path.exists() { &path } else { run }).is_ok();
    match runtime.filter(|runtime| !runtime.is_empty()) {
        Some(runtime) if !is_ours => Path::new(runtime).join("creance"),
        _ => path,
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        // It asks for a directory that cannot be made even where there is one already, on a read-only file system.
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

fn check_writable(path: &Path) -> io::Result<()> {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)?;
    Ok(())
}

/// The name of the socket of the tracer with this id.
fn socket_name(id: &str) -> String {
    let (start, end) = NAME;
    format!("{start}{id}{end}")
}

/// Whether a file of this name is the socket of a tracer.
fn is_socket_name(name: &str) -> bool {
    let (start, end) = NAME;
    let id = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    id.is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
