//! Calls that stand for others (socketcall, ipc) as the calls that they stand for.
//!
//! The block of their arguments lies in memory, which the kernel reads again. Where somebody else can change it meanwhile,
//! nothing is decided by what stands there.

use crate::{
    abi::{BLOCK_WORDS_MAX, Multiplexed},
    sys::{RemoteAddr, Tid, memory, ptrace::Call},
};

/// A call as the one that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Direct {
    pub(super) call: Call,
    /// Its arguments lie in memory, here.
    pub(super) block: Option<RemoteAddr>,
    /// They could not be read: all of them are told as 0. The kernel may be able to, if somebody maps that memory just now.
    pub(super) is_unread: bool,
}

impl Direct {
    /// The call that a thread stands at; `None` if it stands for no other.
    pub(super) fn of(tid: Tid, call: &Call) -> Option<Self> {
        let multiplexed = Multiplexed::of(call.abi, call.nr, &call.arguments)?;
        let words = match multiplexed.block {
            Some((at, count)) => read_words(tid, RemoteAddr(at), count),
            None => Some([0; BLOCK_WORDS_MAX]),
        };
        let arguments = multiplexed.arguments(&words.unwrap_or_default());
        Some(Self {
            call: Call { nr: multiplexed.nr, arguments, ..*call },
            block: multiplexed.block.map(|(at, _)| RemoteAddr(at)),
            is_unread: words.is_none(),
        })
    }
}

fn read_words(tid: Tid, at: RemoteAddr, count: usize) -> Option<[u32; BLOCK_WORDS_MAX]> {
    let mut bytes = [0; BLOCK_WORDS_MAX * 4];
    let bytes = bytes.get_mut(..count * 4)?;
    if memory::read_remote(tid, at, bytes) != Ok(bytes.len()) {
        return None;
    }
    let mut words = [0; BLOCK_WORDS_MAX];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes(*bytes.first_chunk()?);
    }
    Some(words)
}
