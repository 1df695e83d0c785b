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
    /// Its arguments were read from here.
    pub(super) block: RemoteAddr,
    /// They were read from memory.
    pub(super) has_block: bool,
}

impl Direct {
    /// The call that a thread stands at; `None` if it stands for no other, or its block cannot be read.
    pub(super) fn of(tid: Tid, call: &Call) -> Option<Self> {
        let multiplexed = Multiplexed::of(call.abi, call.nr, &call.arguments)?;
        let mut words = [0; BLOCK_WORDS_MAX];
        let block = multiplexed.block.unwrap_or_default();
        let (at, count) = (RemoteAddr(block.0), block.1);
        if count > 0 {
            let mut bytes = [0; BLOCK_WORDS_MAX * 4];
            let bytes = bytes.get_mut(..count * 4)?;
            if memory::read_remote(tid, at, bytes) != Ok(bytes.len()) {
                return None;
            }
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = bytes.first_chunk().copied().map_or(0, u32::from_le_bytes);
            }
        }
        let arguments = multiplexed.arguments(&words);
        let call = Call { nr: multiplexed.nr, arguments, ..*call };
        Some(Self { call, block: at, has_block: count > 0 })
    }
}
