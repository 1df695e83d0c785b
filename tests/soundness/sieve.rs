//! What a funnel makes of a record: the verdict of an engine on the call, taken again from what was recorded of it.
//!
//! It must never know more than the engine did: a text that was cut is unknown here as it was there. So one recording
//! of everything serves any number of rules.

use creance::{
    abi::{self, ArgumentKind},
    engine::{Verdict, Wanted},
    event::{Capture, CaptureFlags, CaptureKind, Record, RecordHeader},
    interest::Funnel,
    rules::ExpandedRule,
    sys::ptrace::Call,
    triage::CallMemory,
};

/// The funnel of some rules, as an engine that records everything has it.
pub(crate) fn funnel(rules: &[ExpandedRule]) -> Wanted {
    Wanted::audit(Funnel::of_rules(rules).interest)
}

/// The verdict on the call of this record.
pub(crate) fn judge(wanted: &Wanted, record: &Record<'_>) -> Verdict {
    let RecordHeader { number, arguments, .. } = *record.header();
    wanted.judge(&Call { abi: record.abi(), nr: number, arguments }, &mut RecordMemory(record))
}

/// The memory of a call, as its record has it.
struct RecordMemory<'a>(&'a Record<'a>);

impl RecordMemory<'_> {
    fn kind_of(&self, argument: u8) -> Option<ArgumentKind> {
        let signature = abi::signature_of(self.0.abi(), self.0.header().number)?;
        signature.arguments.get(usize::from(argument)).map(|argument| argument.kind)
    }

    fn whole(&self, kind: CaptureKind, argument: u8) -> Option<&[u8]> {
        let is_whole = |capture: &Capture<'_>| !capture.flags.contains(CaptureFlags::TRUNCATED);
        self.0.capture_of(kind, argument).filter(is_whole).map(|capture| capture.data)
    }

    /// The descriptor of the directory that the path in this argument starts from, if it is one.
    fn directory_of(&self, argument: u8) -> Option<u8> {
        let before =
            argument.checked_sub(1).filter(|&before| self.kind_of(before) == Some(ArgumentKind::DirFd))?;
        let register = self.0.header().arguments.get(usize::from(before)).copied()?;
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
        self.0.capture_of(kind, argument).map(|capture| capture.data)
    }
}
