//! Triage: the decision, taken on a standing thread, whether any rule can still match.
//!
//! It owns the predicates of an interest on what the arguments of a call point to, compiled so that a call is judged
//! in the time that its stop leaves: deciding one allocates nothing, formats nothing and takes no lock. It must never
//! drop a call that may matter. So what cannot be known, may be shown by Falco in another way than it is written, or is
//! beyond a bound, counts as whatever keeps the call: a text with bytes that Falco replaces, an empty one, a path that is
//! too long for libsinsp, memory that cannot be read.
//!
//! Links are not followed: Falco compares names, and so does triage.
//!
//! Read [`crate::interest::formula`] first: it says what each predicate means. The judging itself is in `call.rs`.

mod address;
mod atoms;
mod bits;
mod call;
mod glob;
mod matcher;
mod names;
mod needles;
mod path;
mod program;
#[cfg(test)]
mod tests;
mod texts;
mod trie;

pub use self::names::NameHits;
use self::{call::CallTriage, names::NameTests};
use crate::{
    abi::{self, Abi, SyscallNr},
    interest::{Interest, formula::Formula},
    limits::SYSCALL_NUMBERS_MAX,
};

/// What triage may ask about a standing thread and its memory, or about a record's captures of it.
///
/// `None` means that it cannot be known, or not whole: such a call is kept. Asked twice, it answers the same.
pub trait CallMemory {
    /// The text that an argument points to, without its NUL.
    fn text(&mut self, argument: u8) -> Option<&[u8]>;
    /// The directory that the relative path in this argument starts from, as `/proc` tells it, which may be no place in
    /// the file tree. It is asked for only if the answer depends on it, since it costs a system call.
    fn base(&mut self, argument: u8) -> Option<&[u8]>;
    /// The structure or the socket address that an argument points to: as many bytes of it as were read.
    fn bytes(&mut self, argument: u8) -> Option<&[u8]>;
    /// What the name of the program that makes the call passes, if it is certain which name Falco was told of it.
    fn name(&mut self) -> Option<NameHits>;
}

/// The memory predicates of an interest, compiled.
#[derive(Debug)]
pub struct Triage {
    /// By number. Those that have none are kept.
    calls: Vec<Option<Box<CallTriage>>>,
    names: NameTests,
}

impl Triage {
    /// Compiles the predicates of the calls of the native ABI.
    #[must_use]
    pub fn compile(interest: &Interest) -> Self {
        Self::of_formulas(interest.formulas())
    }

    /// Compiles these predicates of calls of the native ABI. A number beyond [`SYSCALL_NUMBERS_MAX`] is no call that any
    /// rule names, and has no predicates.
    #[must_use]
    pub fn of_formulas<'a>(formulas: impl IntoIterator<Item = (SyscallNr, &'a Formula)>) -> Self {
        let mut calls = Vec::new();
        let mut names = NameTests::default();
        for (nr, formula) in formulas.into_iter().filter(|(nr, _)| nr.0 < SYSCALL_NUMBERS_MAX) {
            let Ok(index) = usize::try_from(nr.0) else { continue };
            if calls.len() <= index {
                calls.resize_with(index + 1, || None);
            }
            if let Some(call) = calls.get_mut(index) {
                *call =
                    Some(Box::new(CallTriage::of(abi::number_name(Abi::NATIVE, nr), formula, &mut names)));
            }
        }
        names.compile();
        Self { calls, names }
    }

    /// What a name of a program passes, once for all calls; `None` if Falco may show it in another way.
    #[must_use]
    pub fn name_hits(&self, name: &[u8]) -> Option<NameHits> {
        self.names.hits(name)
    }

    /// Tells whether a call may matter. A call of a foreign ABI, and one that the interest has no predicates for,
    /// always may.
    pub fn is_kept(
        &self,
        abi: Abi,
        nr: SyscallNr,
        arguments: &[u64; 6],
        memory: &mut impl CallMemory,
    ) -> bool {
        if abi != Abi::NATIVE {
            return true;
        }
        let call = usize::try_from(nr.0).ok().and_then(|index| self.calls.get(index)?.as_ref());
        call.is_none_or(|call| call.is_kept(arguments, memory))
    }
}
