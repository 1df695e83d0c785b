//! The first instructions of every filter: what is not a call of the native ABI never reaches the body.
//!
//! seccompiler's programs kill a process that makes a call of another architecture. A 32-bit program inside the
//! workload must live, and must not escape the tracer either, so its calls are answered here, as are the x32
//! calls that hide behind x86_64's own architecture value. Only the number and the architecture are loaded here:
//! see the module above for why nothing else may be.

use super::SockFilter;
use super::emulator::{ARCH_OFFSET, NR_OFFSET};
use super::instruction::{Comparison, Instruction};
use crate::abi::{Abi, X32_SYSCALL_BIT};
use crate::interest::SKIPPED;

/// The prelude for `native`. `foreign` and `allow` are what the kernel is told about a foreign call, and about a
/// call that a tracer skipped.
pub(super) fn prelude(native: Abi, foreign: u32, allow: u32) -> Vec<SockFilter> {
    let mut instructions = vec![
        Instruction::Load { offset: ARCH_OFFSET },
        branch(Comparison::Equal, native.audit_arch(), 1, 0),
        Instruction::Return { value: foreign },
        Instruction::Load { offset: NR_OFFSET },
        // -1 has the x32 bit too, so it must be asked first.
        branch(Comparison::Equal, SKIPPED.0, 0, 1),
        Instruction::Return { value: allow },
    ];
    if native == Abi::X86_64 {
        instructions.push(branch(Comparison::AnyBit, X32_SYSCALL_BIT, 0, 1));
        instructions.push(Instruction::Return { value: foreign });
    }
    instructions.into_iter().map(Instruction::encode).collect()
}

const fn branch(comparison: Comparison, constant: u32, skip_if: u8, skip_else: u8) -> Instruction {
    Instruction::Branch { comparison, constant, skip_if, skip_else }
}
