//! The listing of a program, for people: one instruction a line, with names in place of what is known to be a
//! number or an architecture. It decides nothing.

use std::fmt;

use super::Program;
use super::emulator::{ARCH_OFFSET, ARGS_OFFSET, INSTRUCTION_POINTER_OFFSET, NR_OFFSET};
use super::instruction::{Comparison, Instruction};
use crate::abi::{self, Abi, SyscallNr};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instructions = self.instructions();
        // The offset that the accumulator was loaded from, on some way to each instruction. Jumps only go
        // forward, so one pass carries it from each instruction to the next ones.
        let mut sources: Vec<Option<u32>> = vec![None; instructions.len()];
        for (at, raw) in instructions.iter().enumerate() {
            let source = sources.get(at).copied().flatten();
            let Some(instruction) = Instruction::decode(raw) else {
                writeln!(f, "{at:4}  ?    {:#06x} {} {} {:#x}", raw.code, raw.jt, raw.jf, raw.k)?;
                continue;
            };
            write!(f, "{at:4}  ")?;
            self.write_instruction(f, at, instruction, source)?;
            let after = if let Instruction::Load { offset } = instruction { Some(offset) } else { source };
            for next in next_of(at, instruction).into_iter().flatten() {
                if let Some(known) = sources.get_mut(next) {
                    *known = after;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Program for {}:", self.native().name())?;
        fmt::Display::fmt(self, f)
    }
}

impl Program {
    fn write_instruction(
        &self,
        f: &mut fmt::Formatter<'_>,
        at: usize,
        instruction: Instruction,
        source: Option<u32>,
    ) -> fmt::Result {
        match instruction {
            Instruction::Load { offset } => writeln!(f, "load {}", source_name(offset)),
            Instruction::And { mask } => writeln!(f, "and  {mask:#x}"),
            Instruction::Jump { skip } => writeln!(f, "jump to {}", target(at, skip)),
            Instruction::Return { value } => writeln!(f, "return {}", action_name(value)),
            Instruction::Branch { comparison, constant, skip_if, skip_else } => {
                let comparison = match comparison {
                    Comparison::Equal => "==",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                    Comparison::AnyBit => "&",
                };
                let (then, otherwise) = (target(at, skip_if.into()), target(at, skip_else.into()));
                let constant = self.constant_name(constant, source);
                writeln!(f, "if {comparison} {constant} then {then} else {otherwise}")
            }
        }
    }

    /// A constant as what it is compared with suggests: the name of a call or an architecture, or a number.
    fn constant_name(&self, constant: u32, source: Option<u32>) -> String {
        let name = match source {
            Some(NR_OFFSET) => abi::number_name(self.native(), SyscallNr(constant)),
            Some(ARCH_OFFSET) => {
                Abi::KNOWN.iter().find(|abi| abi.audit_arch() == constant).map(|abi| abi.name())
            }
            _ => None,
        };
        name.map_or_else(|| format!("{constant:#x}"), |name| format!("{constant:#x} ({name})"))
    }
}

/// Where execution can go from an instruction.
fn next_of(at: usize, instruction: Instruction) -> [Option<usize>; 2] {
    match instruction {
        Instruction::Load { .. } | Instruction::And { .. } => [Some(target(at, 0)), None],
        Instruction::Jump { skip } => [Some(target(at, skip)), None],
        Instruction::Branch { skip_if, skip_else, .. } => {
            [Some(target(at, skip_if.into())), Some(target(at, skip_else.into()))]
        }
        Instruction::Return { .. } => [None, None],
    }
}

fn target(at: usize, skip: u32) -> usize {
    at.saturating_add(1).saturating_add(usize::try_from(skip).unwrap_or(usize::MAX))
}

fn source_name(offset: u32) -> String {
    let half = if offset.is_multiple_of(8) { "low" } else { "high" };
    match offset {
        NR_OFFSET => "nr".to_owned(),
        ARCH_OFFSET => "arch".to_owned(),
        INSTRUCTION_POINTER_OFFSET..ARGS_OFFSET => format!("instruction pointer, {half} half"),
        _ => format!("argument {}, {half} half", (offset - ARGS_OFFSET) / 8),
    }
}

fn action_name(value: u32) -> String {
    let data = value & libc::SECCOMP_RET_DATA;
    match value & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW => "allow".to_owned(),
        libc::SECCOMP_RET_TRACE => format!("trace {data:#x}"),
        libc::SECCOMP_RET_USER_NOTIF => "notify".to_owned(),
        libc::SECCOMP_RET_KILL_PROCESS => "kill process".to_owned(),
        _ => format!("{value:#x}"),
    }
}
