//! The classic BPF instructions that a filter of ours consists of, as values.
//!
//! These are exactly the ones that the kernel's own emulation of a filter follows when it looks for numbers that
//! are always allowed (`seccomp_is_const_allow`, Linux 5.11), so a program made of them can profit from it.

use super::SockFilter;

// Operation codes, put together as linux/bpf_common.h says: class | size | mode, and class | operation | source.
const LOAD_WORD_ABSOLUTE: u16 = 0x20;
const AND_CONSTANT: u16 = 0x54;
const JUMP_ALWAYS: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN_CONSTANT: u16 = 0x06;

/// How a branch compares the accumulator with its constant. Unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// One instruction. A jump counts the instructions that it skips, so it can only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Loads the word at this offset of `struct seccomp_data` into the accumulator.
    Load { offset: u32 },
    /// Keeps the bits of the accumulator that the mask has.
    And { mask: u32 },
    /// Skips instructions.
    Jump { skip: u32 },
    /// Skips instructions, how many depending on a comparison.
    Branch { comparison: Comparison, constant: u32, skip_if: u8, skip_else: u8 },
    /// Ends the program with this value for the kernel.
    Return { value: u32 },
}

impl Instruction {
    /// The instruction of a kernel structure; `None` for an operation that a filter of ours never contains.
    pub(super) const fn decode(raw: &SockFilter) -> Option<Self> {
        Some(match raw.code {
            LOAD_WORD_ABSOLUTE => Self::Load { offset: raw.k },
            AND_CONSTANT => Self::And { mask: raw.k },
            JUMP_ALWAYS => Self::Jump { skip: raw.k },
            JUMP_EQUAL => Self::branch(Comparison::Equal, raw),
            JUMP_GREATER => Self::branch(Comparison::Greater, raw),
            JUMP_GREATER_OR_EQUAL => Self::branch(Comparison::GreaterOrEqual, raw),
            JUMP_ANY_BIT => Self::branch(Comparison::AnyBit, raw),
            RETURN_CONSTANT => Self::Return { value: raw.k },
            _ => return None,
        })
    }

    /// The kernel structure of an instruction.
    pub(super) const fn encode(self) -> SockFilter {
        match self {
            Self::Load { offset } => statement(LOAD_WORD_ABSOLUTE, offset),
            Self::And { mask } => statement(AND_CONSTANT, mask),
            Self::Jump { skip } => statement(JUMP_ALWAYS, skip),
            Self::Return { value } => statement(RETURN_CONSTANT, value),
            Self::Branch { comparison, constant, skip_if, skip_else } => {
                let code = match comparison {
                    Comparison::Equal => JUMP_EQUAL,
                    Comparison::Greater => JUMP_GREATER,
                    Comparison::GreaterOrEqual => JUMP_GREATER_OR_EQUAL,
                    Comparison::AnyBit => JUMP_ANY_BIT,
                };
                SockFilter { code, jt: skip_if, jf: skip_else, k: constant }
            }
        }
    }

    const fn branch(comparison: Comparison, raw: &SockFilter) -> Self {
        Self::Branch { comparison, constant: raw.k, skip_if: raw.jt, skip_else: raw.jf }
    }
}

const fn statement(code: u16, k: u32) -> SockFilter {
    SockFilter { code, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_operation_codes_are_the_kernels() {
        let kernel = [
            (LOAD_WORD_ABSOLUTE, libc::BPF_LD | libc::BPF_W | libc::BPF_ABS),
            (AND_CONSTANT, libc::BPF_ALU | libc::BPF_AND | libc::BPF_K),
            (JUMP_ALWAYS, libc::BPF_JMP | libc::BPF_JA),
            (JUMP_EQUAL, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            (JUMP_GREATER, libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K),
            (JUMP_GREATER_OR_EQUAL, libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K),
            (JUMP_ANY_BIT, libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K),
            (RETURN_CONSTANT, libc::BPF_RET | libc::BPF_K),
        ];
        for (ours, theirs) in kernel {
            assert_eq!(u32::from(ours), theirs);
        }
    }

    fn any_instruction() -> impl Strategy<Value = Instruction> {
        let comparison = prop_oneof![
            Just(Comparison::Equal),
            Just(Comparison::Greater),
            Just(Comparison::GreaterOrEqual),
            Just(Comparison::AnyBit),
        ];
        prop_oneof![
            any::<u32>().prop_map(|offset| Instruction::Load { offset }),
            any::<u32>().prop_map(|mask| Instruction::And { mask }),
            any::<u32>().prop_map(|skip| Instruction::Jump { skip }),
            any::<u32>().prop_map(|value| Instruction::Return { value }),
            (comparison, any::<u32>(), any::<u8>(), any::<u8>()).prop_map(
                |(comparison, constant, skip_if, skip_else)| Instruction::Branch {
                    comparison,
                    constant,
                    skip_if,
                    skip_else
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(instruction in any_instruction()) {
            prop_assert_eq!(Instruction::decode(&instruction.encode()), Some(instruction));
        }
    }
}
