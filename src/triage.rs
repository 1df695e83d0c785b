//! Triage: the decision, taken on a standing thread, whether any rule can still match.

use crate::{
    abi::{Abi, SyscallNr},
    interest::Interest,
};

/// What triage may ask about the memory of a standing thread, or about a record's captures of it.
///
/// `None` means that it cannot be known, or not whole: such a call is kept.
pub trait CallMemory {
    /// The text that an argument points to, without its NUL.
    fn text(&mut self, argument: u8) -> Option<&[u8]>;
    /// The absolute path of the directory that the relative path in this argument starts from. It is asked for only
    /// if the answer depends on it, since it costs a system call.
    fn base(&mut self, argument: u8) -> Option<&[u8]>;
    /// The structure or the socket address that an argument points to: as many bytes of it as were read.
    fn bytes(&mut self, argument: u8) -> Option<&[u8]>;
}

/// The memory predicates of an interest, compiled.
#[derive(Debug)]
pub struct Triage {}

impl Triage {
    /// Compiles the predicates of the calls of the native ABI.
    #[must_use]
    pub fn compile(_interest: &Interest) -> Self {
        Self {}
    }

    /// Tells whether a call may matter. A call of a foreign ABI, and one that the interest has no predicates for,
    /// always may.
    pub fn is_kept(
        &self,
        _abi: Abi,
        _nr: SyscallNr,
        _arguments: &[u64; 6],
        _memory: &mut impl CallMemory,
    ) -> bool {
        true
    }
}
