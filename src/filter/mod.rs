//! From an interest to a seccomp filter: the program with which the kernel decides, before anybody is woken,
//! whether a call is trapped.
//!
//! A [`Program`] is a short prelude of our own (`prelude.rs`), which sends every foreign call to the tracer, and
//! a body by seccompiler, which decides about the calls of the native ABI. The compiler does no I/O and installs
//! nothing, and it compiles for either native ABI on any machine.
//!
//! Two things must stay as they are:
//! - **A call that is not trapped runs no instruction.** Since Linux 5.11 the kernel tries a new filter once for
//!   each number, with nothing but the number and the architecture known, and never again runs it for the numbers
//!   that are certain to be allowed (`seccomp_cache_prepare`, kernel/seccomp.c). Such a call costs what it costs
//!   under a filter of one instruction. So the way to "allow" for a number that is not wanted may load nothing
//!   else; a test holds that.
//! - **No call is killed or refused.** The filter allows or traps, whatever the architecture.
//!
//! On older kernels the body is a linear chain, two instructions for each wanted number that is not the one
//! called. Before you edit, read `seccomp_run_filters` and `seccomp_is_const_allow` in the kernel.

mod emulator;
mod instruction;
mod listing;
mod prelude;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use thiserror::Error;

pub use emulator::{Call, EmulateError, Verdict, emulate};
/// One instruction, in the layout that seccomp(2) takes: `struct sock_filter` (linux/filter.h).
pub use libc::sock_filter as SockFilter;

use crate::abi::{self, Abi, SyscallNr};
use crate::interest::{Condition, Interest, NativeCalls, RegisterTest, Test, Width};
use crate::limits;

/// The data of a trap by a call of the native ABI: what `PTRACE_GETEVENTMSG` reports at its stop.
///
/// A filter that the workload installs itself may answer with any data, so a stop with other data is no error,
/// and this data is no proof.
pub const TRACE_DATA_NATIVE: u16 = 0xce01;

/// The data of a trap by a call of a foreign ABI.
pub const TRACE_DATA_FOREIGN: u16 = 0xce02;

/// What happens to a call that is trapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The tracer sees a seccomp stop: `SECCOMP_RET_TRACE` with [`TRACE_DATA_NATIVE`] or [`TRACE_DATA_FOREIGN`].
    Trace,
    /// The listener gets a notification, which names the ABI itself: `SECCOMP_RET_USER_NOTIF`.
    Notify,
}

impl Action {
    /// What the filter returns to the kernel for a trapped call.
    const fn value(self, trace_data: u16) -> u32 {
        match self {
            // A widening cast; `From` is not const.
            Self::Trace => libc::SECCOMP_RET_TRACE | trace_data as u32,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// An interest could not be compiled.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The native ABI is not one that creance runs on.
    #[error("no filter can be compiled for {} as the native ABI", abi.name())]
    NotNative {
        /// The ABI that was asked for.
        abi: Abi,
    },
    /// A condition is on an argument that no call has.
    #[error("system call {} has a condition on argument {argument}; the last one is 5", nr.0)]
    Argument {
        /// The call that the condition is for.
        nr: SyscallNr,
        /// The index of the argument.
        argument: u8,
    },
    /// The program is longer than the kernel takes.
    #[error("the filter has {instructions} instructions, and the kernel takes {max}", max = limits::FILTER_INSTRUCTIONS_MAX)]
    TooLong {
        /// Its length.
        instructions: usize,
    },
    /// seccompiler refused the rules for a reason that ours should never give it.
    #[error("compiling the body of the filter for {}", native.name())]
    Body {
        /// The native ABI.
        native: Abi,
        /// The reason.
        source: BackendError,
    },
}

/// A seccomp filter. Its `Display` lists it, one instruction a line.
#[derive(Clone)]
pub struct Program {
    native: Abi,
    instructions: Vec<SockFilter>,
}

impl Program {
    /// The instructions, as seccomp(2) takes them: at least one and at most [`limits::FILTER_INSTRUCTIONS_MAX`].
    #[must_use]
    pub fn instructions(&self) -> &[SockFilter] {
        &self.instructions
    }

    /// The ABI whose calls the body decides about.
    #[must_use]
    pub const fn native(&self) -> Abi {
        self.native
    }

    /// What the program says about a call, without asking the kernel.
    ///
    /// # Errors
    /// None for a program of [`compile`], which tests hold; the instructions are run like any others.
    pub fn verdict(&self, call: &Call) -> Result<Verdict, EmulateError> {
        emulate(&self.instructions, call)
    }
}

/// Compiles the filter that traps what `interest` wants of the calls of `native`, and every foreign call.
///
/// # Errors
/// [`CompileError`] if `native` cannot be native, if a condition is on an argument that no call has, or if the
/// program is too long.
pub fn compile(interest: &Interest, native: Abi, action: Action) -> Result<Program, CompileError> {
    let target = match native {
        Abi::X86_64 => TargetArch::x86_64,
        Abi::Aarch64 => TargetArch::aarch64,
        abi => return Err(CompileError::NotNative { abi }),
    };
    let mut instructions =
        prelude::prelude(native, action.value(TRACE_DATA_FOREIGN), libc::SECCOMP_RET_ALLOW);
    instructions.extend(body(interest, native, target, action)?);
    if instructions.len() > limits::FILTER_INSTRUCTIONS_MAX {
        return Err(CompileError::TooLong { instructions: instructions.len() });
    }
    Ok(Program { native, instructions })
}

/// Calls that busy programs make most often of those that rules are about, the most frequent first: their numbers are
/// compared before all others.
const HOT_CALLS: [&str; 12] = [
    "openat", "sendto", "recvfrom", "sendmsg", "recvmsg", "open", "accept4", "connect", "socket", "dup2",
    "unlink", "execve",
];

/// The instructions that decide about a call of the native ABI.
fn body(
    interest: &Interest,
    native: Abi,
    target: TargetArch,
    action: Action,
) -> Result<Vec<SockFilter>, CompileError> {
    let trap = || SeccompAction::Trace(u32::from(TRACE_DATA_NATIVE));
    let compiled = |calls: &[(SyscallNr, &RegisterTest)], other, action| {
        let rules = calls.iter().map(|&(nr, test)| Ok((i64::from(nr.0), rules_of(native, nr, test)?)));
        SeccompFilter::new(rules.collect::<Result<_, _>>()?, other, action, target)
            .and_then(BpfProgram::try_from)
            .map_err(|source| body_error(native, source))
    };
    let program = match interest.native_calls(native) {
        NativeCalls::All => compiled(&[], trap(), SeccompAction::Allow)?,
        NativeCalls::Only(mut calls) => {
            let mut program = BpfProgram::new();
            // seccompiler compares numbers in ascending order, so each of these is a program of its own.
            for hot in HOT_CALLS.iter().filter_map(|name| abi::number(native, name)) {
                if let Some(at) = calls.iter().position(|(nr, _)| *nr == hot) {
                    append(&mut program, compiled(&[calls.remove(at)], SeccompAction::Allow, trap())?);
                }
            }
            append(&mut program, compiled(&calls, SeccompAction::Allow, trap())?);
            program
        }
    };
    Ok(program.into_iter().map(|instruction| in_terms_of(action, &instruction)).collect())
}

/// Appends a program of seccompiler's to another, so that it decides about the numbers that the first one does not name.
///
/// The last instruction of a program is reached only if no number was equal, and answers for those. It goes, and so do
/// the instructions that start the second program: a check of the architecture, and the load of the number, which
/// nothing but the arguments of a call that *is* named has replaced.
fn append(program: &mut BpfProgram, next: BpfProgram) {
    const ARCHITECTURE_CHECK: usize = 3;
    const LOAD_OF_NUMBER: usize = 1;
    let is_empty = next.len() == ARCHITECTURE_CHECK + 1;
    if program.is_empty() {
        *program = next;
    } else if !is_empty {
        program.pop();
        program.extend(next.into_iter().skip(ARCHITECTURE_CHECK + LOAD_OF_NUMBER));
    }
}

/// seccompiler's rules for one call: one for each alternative, and none if every call passes.
fn rules_of(native: Abi, nr: SyscallNr, test: &RegisterTest) -> Result<Vec<SeccompRule>, CompileError> {
    let rule = |all: &Vec<Condition>| {
        let conditions = all.iter().map(|condition| match condition_of(condition) {
            Err(BackendError::InvalidArgumentNumber) => {
                Err(CompileError::Argument { nr, argument: condition.argument })
            }
            other => other.map_err(|source| body_error(native, source)),
        });
        SeccompRule::new(conditions.collect::<Result<_, _>>()?).map_err(|source| body_error(native, source))
    };
    test.alternatives().iter().map(rule).collect()
}

fn condition_of(condition: &Condition) -> Result<SeccompCondition, BackendError> {
    let length = match condition.width {
        Width::Low32 => SeccompCmpArgLen::Dword,
        Width::Full64 => SeccompCmpArgLen::Qword,
    };
    let operator = match condition.test {
        Test::Eq => SeccompCmpOp::Eq,
        Test::Ne => SeccompCmpOp::Ne,
        Test::Lt => SeccompCmpOp::Lt,
        Test::Le => SeccompCmpOp::Le,
        Test::Gt => SeccompCmpOp::Gt,
        Test::Ge => SeccompCmpOp::Ge,
        Test::MaskedEq(mask) => SeccompCmpOp::MaskedEq(mask),
    };
    SeccompCondition::new(condition.argument, length, operator, condition.value)
}

fn body_error(native: Abi, source: BackendError) -> CompileError {
    match source {
        BackendError::FilterTooLarge(instructions) => CompileError::TooLong { instructions },
        source => CompileError::Body { native, source },
    }
}

/// The same instruction in the kernel's type, with its trap, if it is one, in terms of `action`.
///
/// seccompiler has no action for a notification, so the body is compiled to trace.
fn in_terms_of(action: Action, instruction: &seccompiler::sock_filter) -> SockFilter {
    let raw = SockFilter { code: instruction.code, jt: instruction.jt, jf: instruction.jf, k: instruction.k };
    match instruction::Instruction::decode(&raw) {
        Some(instruction::Instruction::Return { value })
            if value == Action::Trace.value(TRACE_DATA_NATIVE) =>
        {
            instruction::Instruction::Return { value: action.value(TRACE_DATA_NATIVE) }.encode()
        }
        _ => raw,
    }
}

#[cfg(test)]
mod tests;
