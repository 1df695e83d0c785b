//! Turns records into events: names, typed arguments, resolved paths, results, and the process behind them.
//!
//! The decoder trusts no byte and never panics: it is what the fuzzer feeds. Its memory is bounded by
//! [`limits::PROCESSES_MAX`](crate::limits::PROCESSES_MAX), and an event that is no clone or exec allocates nothing.
//! It formats nothing either: that is a sink's business. Read `process.rs` before you add state.

mod address;
mod call;
mod event;
mod path;
mod process;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod users;
mod value;

pub use address::SocketAddress;
use call::CallName;
pub use event::{Event, EventName, Outcome};
pub use process::Process;
use process::Processes;
pub(crate) use process::unescaped_name;
pub use users::Users;
pub use value::{Argument, Strings, Value};

use crate::{
    abi,
    event::{Record, RecordKind},
};

/// Decodes the records of one tracer, in the order in which they come.
///
/// It keeps the process table, so that records must not be left out: a clone comes before the first record of its
/// child, and an exit after the last one. After a loss processes are told of again.
#[derive(Debug, Default)]
pub struct Decoder {
    processes: Processes,
    users: Users,
}

impl Decoder {
    /// Makes a decoder that knows no process yet, and the names of this machine's users.
    #[must_use]
    pub fn new() -> Self {
        Self::with_users(Users::load())
    }

    /// Makes a decoder that takes the names of users from `users` and does no I/O.
    #[must_use]
    pub fn with_users(users: Users) -> Self {
        Self { processes: Processes::default(), users }
    }

    /// Decodes one record and learns from it. The event tells its process as it is after the record.
    pub fn decode<'e>(&'e mut self, record: &Record<'e>) -> Event<'e> {
        self.processes.forget_left();
        let pid = record.header().pid;
        let (name, arguments) = match record.kind() {
            RecordKind::Syscall => {
                let name = call_name(record);
                if let EventName::Known(call) = name
                    && let Some(uid) = CallName(call).new_uid(record)
                {
                    self.processes.learn_uid(pid, uid, &self.users);
                }
                (name, call::syscall(record, name))
            }
            RecordKind::Clone => {
                self.processes.learn_clone(record);
                (call_name(record), call::clone(record))
            }
            RecordKind::Exec => {
                self.processes.learn_exec(record, &self.users);
                (call_name(record), call::exec(record))
            }
            RecordKind::Process => {
                self.processes.learn_process(record, &self.users);
                (EventName::Known("process"), call::process(record))
            }
            RecordKind::Exit if record.header().tid == pid => {
                self.processes.leave(pid);
                (EventName::Known("procexit"), call::exit(record))
            }
            RecordKind::Exit => (EventName::Known("threadexit"), call::exit(record)),
            RecordKind::Loss => (EventName::Known("drop"), call::loss(record)),
        };
        Event { record: *record, name, arguments, process: self.processes.known(pid) }
    }

    /// The process with this pid, if a record has told of it.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.known(pid)
    }

    /// How many processes were not remembered because the table was full: their events tell no process.
    #[must_use]
    pub const fn processes_unremembered(&self) -> u64 {
        self.processes.unremembered()
    }
}

/// The name of the call of a record. A clone or an exec whose number has no name is still one.
fn call_name(record: &Record<'_>) -> EventName {
    let number = record.header().number;
    match (abi::number_name(record.abi(), number), record.kind()) {
        (Some(name), _) => EventName::Known(name),
        (None, RecordKind::Clone) => EventName::Known("clone"),
        (None, RecordKind::Exec) => EventName::Known("execve"),
        (None, _) => EventName::Unnamed(number),
    }
}
