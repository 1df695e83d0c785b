//! The consumer's side of one link: connects, checks what it is given, and maps the ring.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{END, Hello, MAGIC, Tracer, VERSION, socket_name};
use crate::{
    event::Record,
    limits,
    ring::{AttachError, Consumer},
    sys::{
        seqpacket::Connection,
        shm::{MapReaderError, MemfdReader},
    },
};

const WAIT: Duration = Duration::from_millis(limits::LINK_WAIT_MS_MAX);

/// A tracer's ring could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody listens there any more.
    #[error("no tracer listens there any more")]
    Dead,
    /// The kernel refuses a step.
    #[error("{step}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The first message is no hello.
    #[error("its first message is not that of a tracer: {reason}")]
    NoHello {
        /// What is wrong with it.
        reason: String,
    },
    /// The tracer is of another version.
    #[error(
        "it speaks version {found} of the link, and this build speaks {VERSION}: use one release of creance for both"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// The tracer does not want us.
    #[error("it refuses: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
    },
    /// The memory that came with the hello is not that of a ring.
    #[error("mapping its ring")]
    Map(#[source] MapReaderError),
    /// The ring cannot be read.
    #[error("reading its ring")]
    Attach(#[source] AttachError),
}

/// A tracer whose ring is mapped.
pub struct Linked {
    /// Who it is.
    pub tracer: Tracer,
    /// The processes that ran when we connected: records of [`crate::event::RecordKind::Process`].
    pub processes: Vec<Box<[u8]>>,
    /// Reads the ring from where the last consumer left off.
    pub consumer: Consumer<MemfdReader>,
    /// Whether it had left off at a place that makes no sense, so that all records before now are given up.
    pub was_reset: bool,
    /// Ends with the tracer.
    pub connection: Connection,
}

impl Linked {
    /// Connects to the tracer that listens at `path`.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn open(path: &Path) -> Result<Self, LinkError> {
        let kernel = |step| move |source| LinkError::Kernel { step, source };
        let deadline = Instant::now() + Duration::from_millis(limits::LINK_HELLO_MS_MAX);
        let connection = Connection::open(path, WAIT).map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => LinkError::Dead,
            _ => LinkError::Kernel { step: "connecting", source },
        })?;
        let mut buffer = vec![0; limits::RECORD_BYTES_MAX];
        let (len, descriptors) = connection.receive(&mut buffer).map_err(kernel("waiting for its hello"))?;
        let hello = read_hello(buffer.get(..len).unwrap_or_default())?;
        // Others go by the id: in logs, and when they meet the tracer again.
        if path.file_name().and_then(OsStr::to_str) != Some(&socket_name(&hello.tracer.id)) {
            return Err(LinkError::NoHello { reason: "its id is not that of its socket".into() });
        }
        let Ok([ring, control]) = <[_; 2]>::try_from(descriptors) else {
            return Err(LinkError::NoHello { reason: "no ring comes with it".into() });
        };
        let memory = Arc::new(MemfdReader::map_reader(ring, control).map_err(LinkError::Map)?);
        let processes = receive_processes(&connection, &mut buffer, deadline)
            .map_err(kernel("waiting for its processes"))?;
        let (consumer, was_reset) = match Consumer::attach(Arc::clone(&memory)) {
            Err(AttachError::TailOutOfRange { .. }) => (Consumer::attach_at_head(memory), true),
            attached => (attached, false),
        };
        let consumer = consumer.map_err(LinkError::Attach)?;
        Ok(Self { tracer: hello.tracer, processes, consumer, was_reset, connection })
    }
}

pub(super) fn read_hello(message: &[u8]) -> Result<Hello, LinkError> {
    // The version first: the rest may look different in another one.
    #[derive(serde::Deserialize)]
    struct Head {
        magic: String,
        version: u32,
    }
    let junk = |error: serde_json::Error| LinkError::NoHello { reason: error.to_string() };
    let head: Head = serde_json::from_slice(message).map_err(junk)?;
    if head.magic != MAGIC {
        return Err(LinkError::NoHello { reason: format!("its magic is {:?}", head.magic) });
    }
    if head.version != VERSION {
        return Err(LinkError::Version { found: head.version });
    }
    let hello: Hello = serde_json::from_slice(message).map_err(junk)?;
    match hello.refused {
        Some(reason) => Err(LinkError::Refused { reason }),
        None => Ok(hello),
    }
}

/// Receives records until the end of them. What is no record is left out, and so is what is too much.
fn receive_processes(
    connection: &Connection,
    buffer: &mut [u8],
    deadline: Instant,
) -> io::Result<Vec<Box<[u8]>>> {
    let mut processes = Vec::new();
    let mut bytes = 0;
    loop {
        connection.set_timeout_until(deadline, WAIT)?;
        let (len, _) = connection.receive(buffer)?;
        let message = buffer.get(..len).unwrap_or_default();
        if message == END {
            return Ok(processes);
        }
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes += len;
        if bytes <= limits::LINK_PROCESSES_BYTES_MAX && Record::parse(message).is_ok() {
            processes.push(Box::from(message));
        }
    }
}
