//! What a funnel makes of a record: the verdict of an engine on the call, taken again from what was recorded of it.
//!
//! It must never know more than the engine did: a text that was cut is unknown here as it was there, and so is the name of
//! a program whose start was not recorded. So one recording of everything serves any number of rules.

use std::collections::HashMap;

use creance::{
    abi::{self, ArgumentKind},
    engine::{self, Verdict, Wanted},
    event::{Capture, CaptureFlags, CaptureKind, Record, RecordFlags, RecordHeader, RecordKind},
    interest::Funnel,
    rules::ExpandedRule,
    sys::ptrace::Call,
    triage::{CallMemory, NameHits},
};

/// The funnel of some rules, as an engine that records everything has it.
pub(crate) fn funnel(rules: &[ExpandedRule]) -> Wanted {
    Wanted::audit(Funnel::of_rules(rules).interest)
}

/// The names of programs, by thread, as records tell them in their order.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<u32, Vec<u8>>);

impl Names {
    /// Takes what a record tells. Each is to be judged before that of a later one is taken.
    pub(crate) fn learn(&mut self, record: &Record<'_>) {
        let RecordHeader { tid, result, arguments: [former, ..], .. } = *record.header();
        let set = |names: &mut HashMap<u32, Vec<u8>>, tid: u32, name: Option<Vec<u8>>| match name {
            Some(name) => names.insert(tid, name),
            None => names.remove(&tid),
        };
        match record.kind() {
            RecordKind::Exec => {
                self.0.retain(|known, _| u64::from(*known) != former);
                set(&mut self.0, tid, engine::name_in(record.captures()).map(<[u8]>::to_vec));
            }
            RecordKind::Clone => {
                let is_from_child = record.flags().contains(RecordFlags::FROM_CHILD);
                let name = self.0.get(&tid).filter(|_| !is_from_child).cloned();
                set(&mut self.0, u32::try_from(result).unwrap_or(0), name);
            }
            RecordKind::Exit => drop(self.0.remove(&tid)),
            // What was told before is not certain any more.
            RecordKind::Loss => self.0.clear(),
            RecordKind::Syscall | RecordKind::Process => {}
        }
    }
}

/// The verdict on the call of this record.
pub(crate) fn judge(wanted: &Wanted, names: &Names, record: &Record<'_>) -> Verdict {
    let RecordHeader { number, arguments, tid, .. } = *record.header();
    let name = names.0.get(&tid).and_then(|name| wanted.name_hits(name));
    wanted.judge(&Call { abi: record.abi(), nr: number, arguments }, &mut RecordMemory { record, name })
}

/// The memory of a call, as its record has it.
struct RecordMemory<'a> {
    record: &'a Record<'a>,
    name: Option<NameHits>,
}

impl RecordMemory<'_> {
    fn kind_of(&self, argument: u8) -> Option<ArgumentKind> {
        let signature = abi::signature_of(self.record.abi(), self.record.header().number)?;
        signature.arguments.get(usize::from(argument)).map(|argument| argument.kind)
    }

    fn whole(&self, kind: CaptureKind, argument: u8) -> Option<&[u8]> {
        let is_whole = |capture: &Capture<'_>| !capture.flags.contains(CaptureFlags::TRUNCATED);
        self.record.capture_of(kind, argument).filter(is_whole).map(|capture| capture.data)
    }

    /// The descriptor of the directory that the path in this argument starts from, if it is one.
    fn directory_of(&self, argument: u8) -> Option<u8> {
        let before =
            argument.checked_sub(1).filter(|&before| self.kind_of(before) == Some(ArgumentKind::DirFd))?;
        let register = self.record.header().arguments.get(usize::from(before)).copied()?;
        let is_cwd = register & u64::from(u32::MAX) == u64::from(libc::AT_FDCWD.cast_unsigned());
        (!is_cwd).then_some(before)
    }
}

impl CallMemory for RecordMemory<'_> {
    fn text(&mut self, argument: u8) -> Option<&[u8]> {
        match self.kind_of(argument)? {
            ArgumentKind::Path => self.whole(CaptureKind::Path, argument),
            ArgumentKind::Text => self.whole(CaptureKind::Text, argument),
            _ => None,
        }
    }

    fn base(&mut self, argument: u8) -> Option<&[u8]> {
        match self.directory_of(argument) {
            Some(before) => self.whole(CaptureKind::FdPath, before),
            None => self.whole(CaptureKind::Cwd, argument),
        }
    }

    fn bytes(&mut self, argument: u8) -> Option<&[u8]> {
        let kind = match self.kind_of(argument)? {
            ArgumentKind::SockaddrIn { .. } | ArgumentKind::MessageIn => CaptureKind::Sockaddr,
            ArgumentKind::Struct { .. } | ArgumentKind::StructSized { .. } => CaptureKind::Struct,
            _ => return None,
        };
        self.record.capture_of(kind, argument).map(|capture| capture.data)
    }

    fn name(&mut self) -> Option<NameHits> {
        self.name
    }
}
