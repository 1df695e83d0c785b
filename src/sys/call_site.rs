//! The instruction by which a thread has made its last call, and the registers with which it makes other ones by it. Only
//! x86_64 is known here; elsewhere no thread stands behind such an instruction.

#[cfg(target_arch = "x86_64")]
mod arch {
    use crate::sys::{RemoteAddr, Tid, memory::read_remote};

    /// The instruction `syscall`.
    const CALL: [u8; 2] = [0x0f, 0x05];

    fn at_call(registers: &libc::user_regs_struct) -> u64 {
        registers.rip.wrapping_sub(CALL.len() as u64)
    }

    /// Whether the instruction before the next one makes a call of the native ABI.
    pub(in crate::sys) fn is_behind_call(tid: Tid, registers: &libc::user_regs_struct) -> bool {
        let mut code = [0; CALL.len()];
        read_remote(tid, RemoteAddr(at_call(registers)), &mut code) == Ok(code.len()) && code == CALL
    }

    /// These registers with the arguments of a call.
    fn with_arguments(registers: &libc::user_regs_struct, arguments: [u64; 6]) -> libc::user_regs_struct {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        libc::user_regs_struct { rdi, rsi, rdx, r10, r8, r9, ..*registers }
    }

    /// The registers of a thread that stands at the entry of a call, to make this one in its place.
    pub(in crate::sys) fn at_entry(
        registers: &libc::user_regs_struct,
        nr: libc::c_long,
        arguments: [u64; 6],
    ) -> libc::user_regs_struct {
        libc::user_regs_struct { orig_rax: nr.cast_unsigned(), ..with_arguments(registers, arguments) }
    }

    /// The registers before a call. `orig_rax` says that the kernel was not entered by a call, so that it begins none again.
    pub(in crate::sys) fn before_call(
        registers: &libc::user_regs_struct,
        nr: libc::c_long,
        arguments: [u64; 6],
    ) -> libc::user_regs_struct {
        let before =
            libc::user_regs_struct { rax: nr.cast_unsigned(), ..with_arguments(registers, arguments) };
        libc::user_regs_struct { rip: at_call(registers), orig_rax: u64::MAX, ..before }
    }

    /// The registers before the call that the thread has made.
    pub(in crate::sys) fn before_own_call(registers: &libc::user_regs_struct) -> libc::user_regs_struct {
        libc::user_regs_struct {
            rax: registers.orig_rax,
            orig_rax: u64::MAX,
            rip: at_call(registers),
            ..*registers
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    use crate::sys::Tid;

    pub(in crate::sys) const fn is_behind_call(_: Tid, _: &libc::user_regs_struct) -> bool {
        false
    }

    pub(in crate::sys) const fn at_entry(
        registers: &libc::user_regs_struct,
        _: libc::c_long,
        _: [u64; 6],
    ) -> libc::user_regs_struct {
        *registers
    }

    pub(in crate::sys) const fn before_call(
        registers: &libc::user_regs_struct,
        _: libc::c_long,
        _: [u64; 6],
    ) -> libc::user_regs_struct {
        *registers
    }

    pub(in crate::sys) const fn before_own_call(
        registers: &libc::user_regs_struct,
    ) -> libc::user_regs_struct {
        *registers
    }
}

pub(super) use arch::{at_entry, before_call, before_own_call, is_behind_call};
