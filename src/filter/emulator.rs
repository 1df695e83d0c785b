//! Runs a filter in user space on a call that nobody made.
//!
//! It is the oracle that the compiler is tested against, and it answers what a filter would say without
//! installing it. It is total: whatever the instructions are, it ends with a verdict or an error. Classic BPF has
//! no backward jump, so a run takes at most as many steps as there are instructions.
//!
//! It knows only the operations that our filters consist of. For any other it reports an error; it must never
//! guess. Both native ABIs are little-endian, and so is the `struct seccomp_data` that is emulated.

use thiserror::Error;

use super::SockFilter;
use super::instruction::{Comparison, Instruction};
use crate::abi::{Abi, SyscallNr};

/// Offset of the number in `struct seccomp_data` (linux/seccomp.h).
pub(super) const NR_OFFSET: u32 = 0;
/// Offset of the architecture.
pub(super) const ARCH_OFFSET: u32 = 4;
/// Offset of the instruction pointer.
pub(super) const INSTRUCTION_POINTER_OFFSET: u32 = 8;
/// Offset of the first of six arguments of eight bytes.
pub(super) const ARGS_OFFSET: u32 = 16;

/// A call as a filter sees it: `struct seccomp_data` (seccomp(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The number.
    pub nr: SyscallNr,
    /// The `AUDIT_ARCH_*` value of the calling convention.
    pub audit_arch: u32,
    /// Where the call was made.
    pub instruction_pointer: u64,
    /// The register arguments.
    pub args: [u64; 6],
}

impl Call {
    /// A call of this ABI, made at address 0. A number of x32 carries its bit 30.
    #[must_use]
    pub const fn new(abi: Abi, nr: SyscallNr, args: [u64; 6]) -> Self {
        Self { nr, audit_arch: abi.audit_arch(), instruction_pointer: 0, args }
    }

    /// The aligned word at an offset of the structure; `None` outside of it.
    fn word(&self, offset: u32) -> Option<u32> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        match offset {
            NR_OFFSET => Some(self.nr.0),
            ARCH_OFFSET => Some(self.audit_arch),
            INSTRUCTION_POINTER_OFFSET..ARGS_OFFSET => {
                Some(half(self.instruction_pointer, offset - INSTRUCTION_POINTER_OFFSET))
            }
            _ => {
                let within = offset - ARGS_OFFSET;
                let argument = self.args.get(usize::try_from(within / 8).ok()?)?;
                Some(half(*argument, within % 8))
            }
        }
    }
}

/// The half of a little-endian 64-bit word that stands at byte 0 or 4.
fn half(word: u64, byte: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    u32::from_le_bytes(if byte == 0 { [a, b, c, d] } else { [e, f, g, h] })
}

/// What a filter said about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The value returned to the kernel: a `SECCOMP_RET_*` action and its 16 bits of data.
    pub value: u32,
    /// Whether only the number and the architecture were loaded on the way.
    ///
    /// If the value is `SECCOMP_RET_ALLOW` besides, then the kernel finds that out when the filter is installed,
    /// and from then on does not run the filter for this number (Linux 5.11, kernel/seccomp.c).
    pub is_by_number: bool,
    /// Instructions that were executed.
    pub steps: usize,
}

impl Verdict {
    /// Whether the call is trapped, which is everything but allowed.
    #[must_use]
    pub const fn is_trap(&self) -> bool {
        self.value & libc::SECCOMP_RET_ACTION_FULL != libc::SECCOMP_RET_ALLOW
    }
}

/// Instructions that are no program. The kernel would refuse it as well, except for an [`EmulateError::Operation`]
/// that only we do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EmulateError {
    /// An operation that a filter of ours never contains.
    #[error("instruction {at} has the operation code {code:#06x}, which is not emulated")]
    Operation {
        /// Index of the instruction.
        at: usize,
        /// Its operation code.
        code: u16,
    },
    /// A load from outside of `struct seccomp_data`, or not aligned to four bytes.
    #[error("instruction {at} loads a word at offset {offset}, which no call has")]
    Offset {
        /// Index of the instruction.
        at: usize,
        /// The offset that it loads from.
        offset: u32,
    },
    /// Execution left the program: it jumped beyond the end, or the last instruction does not return.
    #[error("execution leaves the program of {instructions} instructions without a return")]
    NoReturn {
        /// Length of the program.
        instructions: usize,
    },
}

/// Runs the instructions on a call.
///
/// # Errors
/// [`EmulateError`] if the run reaches an instruction that cannot be executed, or the end.
pub fn emulate(instructions: &[SockFilter], call: &Call) -> Result<Verdict, EmulateError> {
    let mut accumulator = 0;
    let mut is_by_number = true;
    let mut at = 0;
    // The bound never bites: `at` grows with every step.
    for steps in 1..=instructions.len() {
        let Some(raw) = instructions.get(at) else { break };
        let code = raw.code;
        let skip = match Instruction::decode(raw).ok_or(EmulateError::Operation { at, code })? {
            Instruction::Load { offset } => {
                accumulator = call.word(offset).ok_or(EmulateError::Offset { at, offset })?;
                is_by_number &= matches!(offset, NR_OFFSET | ARCH_OFFSET);
                0
            }
            Instruction::And { mask } => {
                accumulator &= mask;
                0
            }
            Instruction::Jump { skip } => skip,
            Instruction::Branch { comparison, constant, skip_if, skip_else } => {
                u32::from(if compare(comparison, accumulator, constant) { skip_if } else { skip_else })
            }
            Instruction::Return { value } => return Ok(Verdict { value, is_by_number, steps }),
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        at = at.saturating_add(1).saturating_add(skip);
    }
    Err(EmulateError::NoReturn { instructions: instructions.len() })
}

const fn compare(comparison: Comparison, accumulator: u32, constant: u32) -> bool {
    match comparison {
        Comparison::Equal => accumulator == constant,
        Comparison::Greater => accumulator > constant,
        Comparison::GreaterOrEqual => accumulator >= constant,
        Comparison::AnyBit => accumulator & constant != 0,
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::prelude::*;

    use super::*;

    const CALL: Call = Call {
        nr: SyscallNr(59),
        audit_arch: 0xc000_003e,
        instruction_pointer: 0x1111_2222_3333_4444,
        args: [0xa0a0_a0a0_0000_0000, 1, 2, 3, 4, 0xffff_ffff_0000_0005],
    };

    fn run(instructions: &[Instruction]) -> Result<Verdict, EmulateError> {
        let raw: Vec<_> = instructions.iter().map(|instruction| instruction.encode()).collect();
        emulate(&raw, &CALL)
    }

    fn loaded(offset: u32) -> u32 {
        // Compares a bit at a time, for lack of an instruction that returns the accumulator.
        (0..32).fold(0, |word, bit| {
            let verdict = run(&[
                Instruction::Load { offset },
                Instruction::Branch {
                    comparison: Comparison::AnyBit,
                    constant: 1 << bit,
                    skip_if: 0,
                    skip_else: 1,
                },
                Instruction::Return { value: 1 << bit },
                Instruction::Return { value: 0 },
            ]);
            word | verdict.unwrap().value
        })
    }

    #[test]
    fn every_word_of_a_call_is_where_the_kernel_puts_it() {
        let words = [
            (offset_of!(libc::seccomp_data, nr), 59),
            (offset_of!(libc::seccomp_data, arch), 0xc000_003e),
            (offset_of!(libc::seccomp_data, instruction_pointer), 0x3333_4444),
            (offset_of!(libc::seccomp_data, instruction_pointer) + 4, 0x1111_2222),
            (offset_of!(libc::seccomp_data, args), 0),
            (offset_of!(libc::seccomp_data, args) + 4, 0xa0a0_a0a0),
            (offset_of!(libc::seccomp_data, args) + 5 * 8, 5),
            (size_of::<libc::seccomp_data>() - 4, 0xffff_ffff),
        ];
        for (offset, word) in words {
            assert_eq!(loaded(u32::try_from(offset).unwrap()), word, "at offset {offset}");
        }
    }

    #[test]
    fn a_load_from_outside_of_the_call_is_an_error() {
        for offset in [2, 13, 64, 65, u32::MAX - 3, u32::MAX] {
            let load = Instruction::Load { offset };
            assert_eq!(run(&[load]), Err(EmulateError::Offset { at: 0, offset }));
        }
    }

    #[test]
    fn a_program_that_runs_off_its_end_is_an_error() {
        assert_eq!(run(&[]), Err(EmulateError::NoReturn { instructions: 0 }));
        assert_eq!(run(&[Instruction::Load { offset: 0 }]), Err(EmulateError::NoReturn { instructions: 1 }));
        let far = Instruction::Jump { skip: u32::MAX };
        assert_eq!(run(&[far, far]), Err(EmulateError::NoReturn { instructions: 2 }));
    }

    #[test]
    fn an_operation_that_no_filter_contains_is_an_error() {
        let store = SockFilter { code: 0x02, jt: 0, jf: 0, k: 0 };
        assert_eq!(emulate(&[store], &CALL), Err(EmulateError::Operation { at: 0, code: 0x02 }));
    }

    #[test]
    fn a_load_of_an_argument_is_noticed_only_where_it_is_executed() {
        let load = Instruction::Load { offset: ARGS_OFFSET };
        let end = Instruction::Return { value: 7 };
        let run = |program: &[Instruction]| run(program).unwrap();
        assert_eq!(run(&[load, end]), Verdict { value: 7, is_by_number: false, steps: 2 });
        let skipped = [Instruction::Jump { skip: 1 }, load, end];
        assert_eq!(run(&skipped), Verdict { value: 7, is_by_number: true, steps: 2 });
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict_or_an_error(
            raw in proptest::collection::vec((any::<u16>(), any::<u8>(), any::<u8>(), any::<u32>()), 0..64),
            known in proptest::collection::vec((0_usize..8, 0_u8..8, 0_u8..8, 0_u32..80), 0..64),
        ) {
            let codes = [0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x45, 0x06];
            let garbage: Vec<_> = raw.into_iter().map(|(code, jt, jf, k)| SockFilter { code, jt, jf, k }).collect();
            let plausible: Vec<_> =
                known.into_iter().map(|(at, jt, jf, k)| SockFilter { code: codes[at], jt, jf, k }).collect();
            for program in [garbage, plausible] {
                if let Ok(verdict) = emulate(&program, &CALL) {
                    prop_assert!(verdict.steps <= program.len());
                }
            }
        }
    }
}
