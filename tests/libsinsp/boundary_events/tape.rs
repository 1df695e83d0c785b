//! The events of one part, one after the other, and the events that several parts need.

use std::ffi::CStr;

use creance::falco::{
    Batch, EncodeError,
    encode::{EventWriter, Text},
    table::{self, EventInfo},
};

/// Bytes from which on a batch is taken over.
const BATCH_BYTES: usize = 64 * 1024;

/// When the first event happens: nanoseconds since 1970.
const START_NS: u64 = 1_700_000_000_000_000_000;

/// `AT_FDCWD` (linux/fcntl.h).
pub(crate) const AT_FDCWD: i64 = -100;

/// libsinsp takes a second clone event of a thread within two seconds for that of the other side
/// (`CLONE_STALE_TIME_NS`, `userspace/libsinsp/settings.h`).
const CLONE_STALE_NS: u64 = 3_000_000_000;

/// Who a new thread is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth {
    pub(crate) tid: i64,
    pub(crate) pid: i64,
    pub(crate) parent: i64,
    /// In Falco's numbers.
    pub(crate) flags: u32,
    /// Thread and process in their own PID namespace, where they have one.
    pub(crate) inner: Option<(i64, i64)>,
}

impl Birth {
    /// The first thread of a process.
    pub(crate) const fn process(pid: i64, parent: i64) -> Self {
        Self { tid: pid, pid, parent, flags: 0, inner: None }
    }

    /// Another thread of a process.
    pub(crate) const fn thread(tid: i64, pid: i64, parent: i64) -> Self {
        Self { tid, pid, parent, flags: creance::falco::flags::CLONE_THREAD, inner: None }
    }
}

/// Events in the making.
#[derive(Debug)]
pub(crate) struct Tape {
    batch: Batch,
    bytes: Vec<u8>,
    count: usize,
    now_ns: u64,
}

impl Tape {
    pub(crate) fn new() -> Self {
        Self { batch: Batch::with_capacity(BATCH_BYTES), bytes: Vec::new(), count: 0, now_ns: START_NS }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many events there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Lets time pass.
    pub(crate) const fn wait_ns(&mut self, ns: u64) {
        self.now_ns = self.now_ns.saturating_add(ns);
    }

    /// Lets so much time pass that a thread which is made again is a new one.
    pub(crate) const fn wait_for_new_threads(&mut self) {
        self.wait_ns(CLONE_STALE_NS);
    }

    /// Appends whatever `write` appends to a batch.
    pub(crate) fn take(&mut self, write: impl FnOnce(&mut Batch)) {
        write(&mut self.batch);
        self.count += self.batch.len();
        self.bytes.extend_from_slice(self.batch.as_bytes());
        self.batch.clear();
    }

    /// Appends an event that happens a little later than the one before.
    pub(crate) fn tell(
        &mut self,
        event: &'static EventInfo,
        tid: i64,
        write: impl FnOnce(&mut EventWriter<'_>),
    ) -> Result<(), EncodeError> {
        self.wait_ns(1000);
        self.tell_at(self.now_ns, event, tid, write)
    }

    /// Appends an event that happens at a time of its own.
    pub(crate) fn tell_at(
        &mut self,
        ts_ns: u64,
        event: &'static EventInfo,
        tid: i64,
        write: impl FnOnce(&mut EventWriter<'_>),
    ) -> Result<(), EncodeError> {
        let mut result = Ok(());
        self.take(|batch| {
            let mut writer = batch.event(event, ts_ns, tid);
            write(&mut writer);
            result = writer.finish();
        });
        result
    }

    /// Appends an event of no thread.
    pub(crate) fn tell_async(&mut self, name: &CStr, data: &[u8]) -> Result<(), EncodeError> {
        let mut result = Ok(());
        let now_ns = self.now_ns;
        self.take(|batch| result = batch.async_event(now_ns, name, data));
        result
    }

    /// The clone event of thread `teller`: of the new thread itself, or of the thread that made it, with `result`.
    pub(crate) fn clone(
        &mut self,
        event: &'static EventInfo,
        teller: Birth,
        result: i64,
    ) -> Result<(), EncodeError> {
        let Birth { tid, pid, parent, flags, inner } = teller;
        self.tell(event, tid, |writer| {
            writer.pid(result).string(Text::exact(b"sh")).bytes(b"-c\0x\0").pid(tid).pid(pid).pid(parent);
            writer.empty().int64(1024).empties(5).string(Text::exact(b"sh")).bytes(b"").flags32(flags);
            writer.uint32(0).uint32(0);
            match inner {
                Some((vtid, vpid)) => writer.pid(vtid).pid(vpid),
                None => writer.empties(2),
            };
            writer.empty();
        })
    }

    /// A new thread, as its own clone event tells it, and the `chdir` that keeps it.
    pub(crate) fn born(&mut self, birth: Birth) -> Result<(), EncodeError> {
        self.clone(&table::CLONE_20_X, birth, 0)?;
        self.chdir(birth.tid, b"/srv")
    }

    /// A program start by thread `tid`, which is `tid` of process `pid` after it.
    pub(crate) fn exec(&mut self, tid: i64, pid: i64, parent: i64, name: &[u8]) -> Result<(), EncodeError> {
        self.tell(&table::EXECVE_19_X, tid, |writer| {
            writer.errno(0).string(Text::bounded(name)).bytes(b"-l\0").pid(tid).pid(pid).pid(parent).empty();
            writer.uint64(1024).empties(5).string(Text::bounded(name)).bytes(b"").bytes(b"HOME=/\0");
            writer.uint32(0).pid(pid).uid(0).flags32(0).uint64(0).uint64(0).uint64(0);
            writer.uint64(7).abs_time(8).abs_time(9).uid(0).path(Text::under(b"/usr/bin", name));
            writer.pid(pid).gid(0).path(Text::bounded(name));
        })
    }

    pub(crate) fn exit(&mut self, tid: i64, reaper: i64) -> Result<(), EncodeError> {
        self.tell(&table::PROCEXIT_1_E, tid, |writer| {
            writer.errno(0).errno(0).signal(0).uint8(0).pid(reaper);
        })
    }

    pub(crate) fn chdir(&mut self, tid: i64, path: &[u8]) -> Result<(), EncodeError> {
        self.tell(&table::CHDIR_X, tid, |writer| {
            writer.errno(0).string(Text::bounded(path));
        })
    }

    pub(crate) fn open(&mut self, tid: i64, fd: i64, path: &[u8]) -> Result<(), EncodeError> {
        self.tell(&table::OPENAT_2_X, tid, |writer| {
            writer.fd(fd).fd(AT_FDCWD).path_at(Text::bounded(path)).flags32(1).uint32(0).uint32(7).uint64(8);
        })
    }

    pub(crate) fn socket(&mut self, tid: i64, fd: i64, family: u32, kind: u32) -> Result<(), EncodeError> {
        self.tell(&table::SOCKET_X, tid, |writer| {
            writer.fd(fd).choice32(family).uint32(kind).uint32(0).flags32(0);
        })
    }
}
