//! Turns records into the events that Falco needs, in the order in which it needs them.
//!
//! Only exit events: Falco needs no others. State that Falco lacks is made up just before the event that needs it: a
//! thread is introduced before its first event, the current directory is told before a relative name, a socket before
//! its connect, a bind before its listen. The order of a clone is child, then creator; an exit comes last. It trusts no record, allocates
//! nothing for an event that changes no state, and knows nothing of rules.
//!
//! What no record tells, and what Falco is told instead, is listed in `docs/falco.md`: keep it true when you change what is
//! written here.
//!
//! # Processes that no clone told of
//!
//! A process record in the ring tells of a process after a loss, or to a consumer that came late: one that Falco does not
//! know is introduced, of another the differences are told; and if the exec was lost by which it runs its program, that
//! exec is told, late. A snapshot that came beside the ring ([`Translator::preload`]) is younger than what the ring still
//! holds, so it waits aside: a process in it becomes known when a record names it, unless a record of its own clone, exec or
//! exit comes first, or when all that was in the ring has been read ([`Translator::caught_up`]). If a number was given to
//! another process in the meantime, records of the first one are told as the second's; no record tells them apart.

mod additions;
mod call;
mod facts;
mod files;
mod identity;
mod life;
mod process;
mod processes;
mod sockets;
#[cfg(test)]
mod tests;

use self::{
    call::{Call, CallKind, CallKinds},
    life::ExecTexts,
    process::{Process, Program},
    processes::Processes,
};
use super::{
    encode::{Batch, EncodeError, until_nul},
    table,
};
use crate::{
    container,
    event::{Record, RecordFlags, RecordKind},
    limits,
};

/// Threads and processes that are looked up at once to be ended.
const ENDS_PER_LOOK: usize = 1024;

/// Translates the records of one tracer, in the order in which they come, for one Falco.
///
/// It remembers what Falco has been told, so that no record may be left out, and nothing of what it wrote may be lost
/// on the way. A consumer that starts anew gets a [`Translator::snapshot`] first.
#[derive(Debug)]
pub struct Translator {
    kinds: CallKinds,
    processes: Processes,
    exec_texts: ExecTexts,
    id_offset: u64,
    events_refused: u64,
    last_error: Option<EncodeError>,
}

impl Default for Translator {
    fn default() -> Self {
        Self::new()
    }
}

impl Translator {
    /// Makes a translator for a Falco that knows no process yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            kinds: CallKinds::new(),
            processes: Processes::default(),
            exec_texts: ExecTexts::default(),
            id_offset: 0,
            events_refused: 0,
            last_error: None,
        }
    }

    /// Adds `offset` to all thread and process ids in events ([`Batch::set_id_offset`]): for a tracer whose PID namespace is
    /// not that of the others which feed the same Falco.
    #[must_use]
    pub const fn with_id_offset(mut self, offset: u64) -> Self {
        self.id_offset = offset;
        self
    }

    /// Tells of all processes as of the container with this id (64 hexadecimal digits), whatever their control groups are
    /// called: in a namespace of its own, a container has no name there that Falco could know.
    #[must_use]
    pub fn with_container(mut self, id: Option<&str>) -> Self {
        self.exec_texts.container = id.map(container::cgroups_of);
        self
    }

    /// Names a process that no record will tell of: the tracer, which is the parent of the workload's first process.
    /// Falco hears of it when a child of it first appears. Without this call it has no name there.
    pub fn learn_outsider(&mut self, pid: u32, name: &[u8]) {
        let name = Some(Box::from(until_nul(name, limits::NAME_BYTES_MAX)));
        let program = Program { exe: name.clone(), comm: name, ..Program::default() };
        if pid != 0 && !self.processes.is_known(pid) {
            let mut process = Process::new(pid, 0);
            process.program = program.into();
            process.is_outsider = true;
            process.settle();
            self.processes.insert(pid, process);
        }
    }

    /// Appends the events that a record stands for, none to about six. A batch that is not full always has room for
    /// them ([`Batch::is_full`]).
    pub fn translate(&mut self, record: &Record<'_>, out: &mut Batch) {
        out.set_id_offset(self.id_offset);
        let done = self.events_of(record, out);
        self.note(done);
    }

    /// Appends the event of a loss that no record announced, of `lost` records before `ts_ns`.
    pub fn tell_loss(&mut self, lost: u64, ts_ns: u64, out: &mut Batch) {
        let done = write_loss(lost, ts_ns, out);
        self.note(done);
    }

    /// Takes a [`RecordKind::Process`] of a snapshot that did not come through the ring; other records are not looked at.
    pub fn preload(&mut self, record: &Record<'_>) {
        let pid = record.header().pid;
        if record.kind() == RecordKind::Process && pid != 0 {
            let call = Call { record, pid, result: record.header().result };
            life::preload(&mut self.processes, &mut self.exec_texts, call);
        }
    }

    /// Everything has been translated that was in the ring when the consumer connected: what is left of the preloaded
    /// processes becomes known, and is to be introduced.
    pub fn caught_up(&mut self) -> Snapshot {
        Snapshot { threads: self.processes.take_all_aside().into_iter() }
    }

    /// Begins to introduce everything that is known to a consumer that knows nothing: parents before children. No
    /// record should be translated before the snapshot is through.
    pub fn snapshot(&mut self) -> Snapshot {
        Snapshot { threads: self.processes.in_order().into_iter() }
    }

    /// Appends the ends, dated `now_ns`, of all threads and processes of a workload whose tracer died without a word, until
    /// all are told or the batch is full; tells whether all are.
    pub fn end_all(&mut self, now_ns: u64, out: &mut Batch) -> bool {
        out.set_id_offset(self.id_offset);
        while !out.is_full() {
            let some = self.processes.some(ENDS_PER_LOOK);
            if some.is_empty() {
                return true;
            }
            for tid in some {
                if out.is_full() {
                    return false;
                }
                let done = self.processes.end(tid, 0, now_ns, out).map(|_| ());
                self.note(done);
            }
        }
        false
    }

    fn note(&mut self, done: Result<(), EncodeError>) {
        if let Err(error) = done {
            self.events_refused += 1;
            self.last_error = Some(error);
        }
    }

    /// How many events the encoder refused, because they would have broken a rule of the table. There should be none.
    #[must_use]
    pub const fn events_refused(&self) -> u64 {
        self.events_refused
    }

    /// Why it refused the last of them.
    #[must_use]
    pub const fn last_error(&self) -> Option<EncodeError> {
        self.last_error
    }

    /// How many processes and threads were not remembered because the table was full.
    #[must_use]
    pub const fn unremembered(&self) -> u64 {
        self.processes.unremembered()
    }

    fn events_of(&mut self, record: &Record<'_>, out: &mut Batch) -> Result<(), EncodeError> {
        let header = record.header();
        if record.kind() == RecordKind::Loss {
            return write_loss(header.result.cast_unsigned(), header.exit_ns, out);
        }
        if header.tid == 0 && record.kind() != RecordKind::Clone {
            return Ok(());
        }
        let pid = if header.pid == 0 { self.processes.group_of(header.tid) } else { header.pid };
        let call = Call { record, pid, result: header.result };
        match record.kind() {
            RecordKind::Syscall if record.flags().contains(RecordFlags::UNFOLLOWED) => {
                match self.kinds.of(record).assumed_result() {
                    Some(result) => self.syscall(Call { result, ..call }, out),
                    None => Ok(()),
                }
            }
            // Nobody learns the result of a call that did not return, so that Falco's drivers tell nothing either.
            RecordKind::Syscall if record.flags().contains(RecordFlags::NO_RESULT) => Ok(()),
            RecordKind::Syscall => self.syscall(call, out),
            RecordKind::Clone => life::clone(&mut self.processes, call, self.kinds.of(record), out),
            RecordKind::Exec => life::exec(&mut self.processes, &mut self.exec_texts, call, out),
            RecordKind::Exit => life::exit(&mut self.processes, call, out),
            RecordKind::Process => life::process(&mut self.processes, &mut self.exec_texts, call, out),
            RecordKind::Loss => Ok(()),
        }
    }

    fn syscall(&mut self, call: Call<'_, '_>, out: &mut Batch) -> Result<(), EncodeError> {
        let kind = self.kinds.of(call.record);
        if kind == CallKind::Other {
            return Ok(());
        }
        let processes = &mut self.processes;
        let tid = call.record.header().tid;
        processes.introduce(tid, call.pid, call.ts(), out)?;
        if let Some(cwd) = call.cwd() {
            processes.move_to(tid, call.pid, cwd, call.ts(), out)?;
        }
        match kind {
            CallKind::Open
            | CallKind::Openat
            | CallKind::Openat2
            | CallKind::Creat
            | CallKind::OpenByHandleAt
            | CallKind::Memfd => {
                forget_result(processes, call);
                files::open(call, kind, out)
            }
            CallKind::Link
            | CallKind::Linkat
            | CallKind::Symlink
            | CallKind::Symlinkat
            | CallKind::Unlink
            | CallKind::Unlinkat
            | CallKind::Rmdir
            | CallKind::Mkdir
            | CallKind::Mkdirat
            | CallKind::Rename
            | CallKind::Renameat
            | CallKind::Renameat2 => files::name(call, kind, out),
            CallKind::Chmod | CallKind::Fchmod | CallKind::Fchmodat => files::mode(call, kind, out),
            CallKind::Chdir => files::chdir(processes, call, out),
            CallKind::Fchdir => files::fchdir(processes, call, out),
            CallKind::Chroot | CallKind::Mount | CallKind::Umount2 => files::tree(call, kind, out),
            CallKind::Close | CallKind::Fcntl => {
                if kind == CallKind::Close
                    && let Some(process) = processes.get_mut(call.pid)
                {
                    process.forget_socket(call.int(0));
                }
                files::descriptor(call, kind, out)
            }
            CallKind::EpollCreate
            | CallKind::EpollCreate1
            | CallKind::Eventfd
            | CallKind::Eventfd2
            | CallKind::InotifyInit
            | CallKind::InotifyInit1
            | CallKind::Signalfd
            | CallKind::Signalfd4
            | CallKind::TimerfdCreate
            | CallKind::Userfaultfd
            | CallKind::IoUringSetup
            | CallKind::PidfdOpen
            | CallKind::PidfdGetfd => {
                forget_result(processes, call);
                files::descriptor(call, kind, out)
            }
            CallKind::Dup | CallKind::Dup2 | CallKind::Dup3 => sockets::dup(processes, call, kind, out),
            CallKind::Socket => sockets::socket(processes, call, out),
            CallKind::Bind => sockets::bind(processes, call, out),
            CallKind::Connect => sockets::connect(processes, call, out),
            CallKind::Listen => sockets::listen(processes, call, out),
            CallKind::Accept | CallKind::Accept4 => sockets::accept(processes, call, kind, out),
            CallKind::Sendto | CallKind::Sendmsg | CallKind::Sendmmsg => {
                sockets::send(processes, call, kind, out)
            }
            CallKind::Recvfrom | CallKind::Recvmsg | CallKind::Recvmmsg => sockets::receive(call, kind, out),
            CallKind::Shutdown => sockets::shutdown(call, out),
            CallKind::Setuid
            | CallKind::Setgid
            | CallKind::Setreuid
            | CallKind::Setregid
            | CallKind::Setresuid
            | CallKind::Setresgid => identity::ids(processes, call, kind, out),
            CallKind::Capset => identity::capset(processes, call, out),
            CallKind::Prctl => identity::prctl(call, out),
            CallKind::Setsid | CallKind::Setpgid | CallKind::Setrlimit | CallKind::Prlimit => {
                identity::process(call, kind, out)
            }
            CallKind::Unshare
            | CallKind::Setns
            | CallKind::Ptrace
            | CallKind::Bpf
            | CallKind::InitModule
            | CallKind::FinitModule => identity::kernel(processes, call, kind, out),
            CallKind::Execve | CallKind::Execveat => {
                life::failed_exec(processes, &mut self.exec_texts, call, kind, out)
            }
            // Clones that failed change nothing in Falco, and the others have records of their own.
            CallKind::Clone | CallKind::Clone3 | CallKind::Fork | CallKind::Vfork | CallKind::Other => Ok(()),
        }
    }
}

/// Tells that records were lost. The parameter is a rate of sampling to the drivers; Falco shows it, and nothing else looks
/// at it.
fn write_loss(lost: u64, ts_ns: u64, out: &mut Batch) -> Result<(), EncodeError> {
    let lost = u32::try_from(lost).unwrap_or(u32::MAX);
    out.event(&table::DROP_E, ts_ns, 0).uint32(lost).finish()
}

/// The descriptor that a call returned is no socket any more.
fn forget_result(processes: &mut Processes, call: Call<'_, '_>) {
    if let (Ok(fd), Some(process)) = (i32::try_from(call.result()), processes.get_mut(call.pid)) {
        process.forget_socket(fd);
    }
}

/// What a new consumer has still to be told of.
#[derive(Debug)]
pub struct Snapshot {
    threads: std::vec::IntoIter<(u32, u32)>,
}

impl Snapshot {
    /// Appends introductions, dated `now_ns`, until all are told or the batch is full; tells whether all are. What a
    /// program was started as (its file, its environment, its terminal, its login user) Falco learns only from the
    /// next exec: a made-up one would set off the rules for new programs.
    pub fn fill(&mut self, translator: &mut Translator, now_ns: u64, out: &mut Batch) -> bool {
        out.set_id_offset(translator.id_offset);
        while !out.is_full() {
            let Some((tid, pid)) = self.threads.next() else { return true };
            let done = translator.processes.introduce_again(tid, pid, now_ns, out);
            translator.note(done);
        }
        self.threads.as_slice().is_empty()
    }
}
