//! The way back of a thread from a call whose argument registers were replaced: code that gives it its own registers and goes
//! on behind the instruction by which it made the call. So that takes no stop at the exit of the call.
//!
//! ```text
//! words   its six argument registers, the address behind its call instruction, and that of the instruction
//! anew    jmp again                  the kernel begins the call anew, for which it goes back by the length of `syscall`
//! exit    mov rdi, [word]; ...       the kernel returns here: the thread was sent here at the entry of its call
//!         jmp [address behind it]
//! again   the same six
//!         jmp [address of it]
//! ```
//!
//! What the program then finds is what it finds after any call. The code changes no other register, no flag and no stack.
//! `rcx` and `r11`, in which the instruction `syscall` leaves the next address and the flags, hold just that: the kernel gives
//! back all registers as they are (by IRET) where they do not fit the address that it returns to (`do_syscall_64`). And no
//! call is ever made from here: there is no such instruction, and one that is begun anew begins where the program made it.
//!
//! Whoever stops on the way has to be given its own registers before anybody sees them ([`Stopped::leave`]): a handler for a
//! signal looks at where it came from, and the kernel decides *after* such a stop, by the registers that it then finds,
//! whether a call begins anew (`arch_do_signal_or_restart`). A thread that was sent to one place must be sent to no other
//! before it has left, and nobody else to this one: the words are read when it returns. Only x86_64 can do it.

use super::{PtraceError, RemoteAddr, Stopped};

/// Bytes of the words.
const WORDS_BYTES: usize = 64;

/// Bytes that a way back takes up. Copies that follow are in another cache line than the code, so that it is not decoded
/// again whenever they are written, and so are the words.
pub const WAY_BACK_BYTES: usize = 256;

/// Whether threads can be sent on one here.
pub const HAS_WAY_BACK: bool = cfg!(target_arch = "x86_64");

/// A way back at an address of a tracee's memory, for one call of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WayBack {
    at: RemoteAddr,
    arguments: [u64; 6],
    next: RemoteAddr,
}

/// Bytes of the instruction `syscall`.
const CALL_BYTES: u64 = 2;

impl WayBack {
    /// The way back at an address, of a thread whose argument registers hold these and whose next instruction is at `next`, at
    /// the entry of a call of the native ABI.
    #[must_use]
    pub const fn new(at: RemoteAddr, arguments: [u64; 6], next: RemoteAddr) -> Self {
        Self { at, arguments, next }
    }

    const fn call(&self) -> u64 {
        self.next.0.wrapping_sub(CALL_BYTES)
    }

    /// What has to stand at its address, before [`code`] at [`CODE_OFFSET`].
    #[must_use]
    pub fn words(&self) -> [u8; WORDS_BYTES] {
        let mut bytes = [0; WORDS_BYTES];
        let words = self.arguments.into_iter().chain([self.next.0, self.call()]);
        for (into, from) in bytes.iter_mut().zip(words.flat_map(u64::to_ne_bytes)) {
            *into = from;
        }
        bytes
    }
}

/// Where the code stands, from the beginning of a way back on.
pub const CODE_OFFSET: usize = WORDS_BYTES;

/// The code, the same for each.
#[must_use]
pub fn code() -> Vec<u8> {
    let mut code = vec![0xeb, GIVE_BACK_BYTES];
    for last_word in [6, 7] {
        for (word, load) in (0..).zip(LOADS) {
            code.extend(load);
            push_distance(&mut code, word);
        }
        code.extend(JUMP);
        push_distance(&mut code, last_word);
    }
    code
}

/// `mov REGISTER, [rip + DISTANCE]`, in the order of the arguments of a call: rdi, rsi, rdx, r10, r8, r9.
const LOADS: [[u8; 3]; 6] = [
    [0x48, 0x8b, 0x3d],
    [0x48, 0x8b, 0x35],
    [0x48, 0x8b, 0x15],
    [0x4c, 0x8b, 0x15],
    [0x4c, 0x8b, 0x05],
    [0x4c, 0x8b, 0x0d],
];

/// `jmp [rip + DISTANCE]`.
const JUMP: [u8; 2] = [0xff, 0x25];

/// Bytes of six of the first and one of the second: what gives the registers back and goes on.
const GIVE_BACK_BYTES: u8 = 6 * 7 + 6;

/// Appends the distance to a word from the end of the instruction that it completes.
fn push_distance(code: &mut Vec<u8>, word: i32) {
    let end = i32::try_from(CODE_OFFSET + code.len() + 4).unwrap_or(0);
    code.extend((word * 8 - end).to_le_bytes());
}

/// Where the kernel begins a call anew, where it returns to, where a call is then begun anew, and the end, from the beginning
/// of a way back on.
const ANEW: u64 = CODE_OFFSET as u64;
const EXIT: u64 = ANEW + CALL_BYTES;
const AGAIN: u64 = EXIT + GIVE_BACK_BYTES as u64;
const END: u64 = AGAIN + GIVE_BACK_BYTES as u64;

impl WayBack {
    /// Where a thread with its next instruction here would be, had it been on no way back; `None` if it is not on this one.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "nobody is on one there"))]
    fn own_place(&self, next: u64) -> Option<u64> {
        match next.wrapping_sub(self.at.0) {
            EXIT..AGAIN => Some(self.next.0),
            ANEW..EXIT | AGAIN..END => Some(self.call()),
            _ => None,
        }
    }

    /// Whether this address is in it.
    const fn contains(&self, addr: u64) -> bool {
        addr.wrapping_sub(self.at.0) < WAY_BACK_BYTES as u64
    }
}

#[cfg(target_arch = "x86_64")]
impl Stopped {
    /// Sends the thread back this way when the call returns that it stands at the entry of.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn send_back_by(&self, way: &WayBack) -> Result<(), PtraceError> {
        self.poke_user(std::mem::offset_of!(libc::user_regs_struct, rip), way.at.plus(EXIT).0)
    }

    /// Gives a thread its own registers that is on this way back; tells whether it was.
    ///
    /// # Errors
    /// [`PtraceError`]
    pub fn leave(&self, way: &WayBack) -> Result<bool, PtraceError> {
        let registers = self.registers()?;
        let Some(rip) = way.own_place(registers.rip) else { return Ok(false) };
        let [rdi, rsi, rdx, r10, r8, r9] = way.arguments;
        self.set_registers(libc::user_regs_struct { rip, rdi, rsi, rdx, r10, r8, r9, ..registers })?;
        Ok(true)
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Stopped {
    /// Not on this architecture.
    ///
    /// # Errors
    /// Always.
    pub fn send_back_by(&self, _way: &WayBack) -> Result<(), PtraceError> {
        Err(self.refused("PTRACE_POKEUSER", nix::errno::Errno::ENOSYS))
    }

    /// Nobody is on one.
    ///
    /// # Errors
    /// Never.
    pub fn leave(&self, _way: &WayBack) -> Result<bool, PtraceError> {
        Ok(false)
    }
}

impl Stopped {
    /// Whether the signal that is about to be delivered says that this way back could not be gone, or that it was gone in
    /// single steps (sigaction(2), `si_code`). One that was sent does not say so.
    #[must_use]
    pub fn has_stumbled(&self, way: &WayBack) -> bool {
        /// `SEGV_MAPERR` to `SEGV_PKUERR`, `BUS_ADRALN` to `BUS_MCEERR_AR`, `TRAP_BRKPT` and `TRAP_TRACE`.
        const OF_AN_INSTRUCTION: std::ops::RangeInclusive<i32> = 1..=4;
        let Ok(signal) = nix::sys::ptrace::getsiginfo(self.nix_pid()) else { return false };
        if !matches!(signal.si_signo, libc::SIGSEGV | libc::SIGBUS | libc::SIGTRAP)
            || !OF_AN_INSTRUCTION.contains(&signal.si_code)
        {
            return false;
        }
        // SAFETY: signals of these numbers with these codes carry an address.
        let addr = unsafe { signal.si_addr() };
        way.contains(addr.addr() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: WayBack = WayBack::new(RemoteAddr(0x7000), [1, 2, 3, 4, 5, 6], RemoteAddr(0x4002));

    #[test]
    fn the_code_lies_where_it_is_said_to_and_each_instruction_reads_its_own_word() {
        let code = code();
        assert_eq!(code.len() as u64, END - ANEW);
        assert!(CODE_OFFSET + code.len() <= WAY_BACK_BYTES);
        assert_eq!(u64::from(code[1]), AGAIN - EXIT);
        for (start, last) in [(EXIT, 6), (AGAIN, 7)] {
            let mut at = usize::try_from(start).unwrap();
            for (word, opcode) in LOADS.iter().map(|load| &load[..]).chain([&JUMP[..]]).enumerate() {
                let instruction = &code[at - CODE_OFFSET..];
                assert!(instruction.starts_with(opcode), "{at}");
                let distance = &instruction[opcode.len()..opcode.len() + 4];
                at += opcode.len() + 4;
                let distance = i32::from_le_bytes(distance.try_into().unwrap());
                let word = if word == LOADS.len() { last } else { word };
                assert_eq!(i32::try_from(at).unwrap() + distance, i32::try_from(word).unwrap() * 8);
            }
        }
        let words = WAY.words();
        let word = |at: usize| u64::from_ne_bytes(words[at * 8..at * 8 + 8].try_into().unwrap());
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(word), [1, 2, 3, 4, 5, 6, 0x4002, 0x4000]);
    }

    #[test]
    fn whoever_is_on_the_way_would_be_behind_its_call_or_about_to_begin_it_anew() {
        let own = |offset: u64| WAY.own_place(0x7000 + offset);
        assert_eq!((own(ANEW - 1), own(END)), (None, None));
        assert!((ANEW..EXIT).chain(AGAIN..END).all(|offset| own(offset) == Some(0x4000)));
        assert!((EXIT..AGAIN).all(|offset| own(offset) == Some(0x4002)));
        assert!(WAY.own_place(0).is_none() && WAY.own_place(u64::MAX).is_none());
        assert!(
            WAY.contains(0x7000) && WAY.contains(0x70ff) && !WAY.contains(0x7100) && !WAY.contains(0x6fff)
        );
    }
}
