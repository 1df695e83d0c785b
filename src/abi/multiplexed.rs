//! The calls of 32-bit x86 that stand for several: socketcall(2) and ipc(2). Which one is meant stands in a register, its
//! arguments in a block of memory or in other registers.
//!
//! Each has a call of its own since Linux 4.3 or 5.1, with a number and a signature, and that is what it is told as. Three
//! lack one: accept(2) is told as accept4(2) without flags, send(2) and recv(2) as sendto(2) and recvfrom(2) without an
//! address. semop(2) and semtimedop(2) stay what they are.

use super::{Abi, SyscallNr};

/// `__NR_socketcall` and `__NR_ipc` (asm/unistd_32.h).
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// The most words that a block of arguments has.
pub const BLOCK_WORDS_MAX: usize = 6;

/// A call that stands for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiplexed {
    /// The call that is meant.
    pub nr: SyscallNr,
    /// Where the block of its arguments lies, and how many words of 32 bits it has; `None` if registers hold all of them.
    pub block: Option<(u64, usize)>,
    arguments: [Source; 6],
}

/// Where an argument comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A word of the block.
    Word(u8),
    /// A register, with its value.
    Value(u64),
}

/// The direct calls of socketcall(2) in the order of its numbers from 1 on (linux/net.h), and the words of their blocks.
const SOCKET_CALLS: [(u32, usize); 20] = [
    (359, 3),
    (361, 3),
    (362, 3),
    (363, 2),
    (364, 3),
    (367, 3),
    (368, 3),
    (360, 4),
    (369, 4),
    (371, 4),
    (369, 6),
    (371, 6),
    (373, 2),
    (366, 5),
    (365, 5),
    (370, 3),
    (372, 3),
    (364, 4),
    (337, 5),
    (345, 4),
];

impl Multiplexed {
    /// What a call stands for, if it is such a one and known.
    #[must_use]
    pub fn of(abi: Abi, nr: SyscallNr, registers: &[u64; 6]) -> Option<Self> {
        let registers = registers.map(|register| register & u64::from(u32::MAX));
        match (abi, nr.0) {
            (Abi::I386, SOCKETCALL) => Self::of_socketcall(registers),
            (Abi::I386, IPC) => Self::of_ipc(registers),
            _ => None,
        }
    }

    fn of_socketcall([call, block, ..]: [u64; 6]) -> Option<Self> {
        let index = usize::try_from(call.checked_sub(1)?).ok()?;
        let &(nr, words) = SOCKET_CALLS.get(index)?;
        let mut arguments = [Source::Value(0); 6];
        for (index, argument) in (0..).zip(arguments.iter_mut().take(words)) {
            *argument = Source::Word(index);
        }
        Some(Self { nr: SyscallNr(nr), block: Some((block, words)), arguments })
    }

    fn of_ipc([call, first, second, third, pointer, fifth]: [u64; 6]) -> Option<Self> {
        let value = Source::Value;
        let (nr, arguments, block): (u32, &[Source], _) = match (call & 0xffff, call >> 16) {
            (2, _) => (393, &[value(first), value(second), value(third)], None),
            (3, _) => {
                (394, &[value(first), value(second), value(third), Source::Word(0)], Some((pointer, 1)))
            }
            (11, _) => (400, &[value(first), value(pointer), value(second), value(third)], None),
            // The oldest version has two of the arguments in memory.
            (12, 0) => (
                401,
                &[value(first), Source::Word(0), value(second), Source::Word(1), value(third)],
                Some((pointer, 2)),
            ),
            (12, _) => {
                (401, &[value(first), value(pointer), value(second), value(fifth), value(third)], None)
            }
            (13, _) => (399, &[value(first), value(second)], None),
            (14, _) => (402, &[value(first), value(second), value(pointer)], None),
            (21, _) => (397, &[value(first), value(pointer), value(second)], None),
            (22, _) => (398, &[value(pointer)], None),
            (23, _) => (395, &[value(first), value(second), value(third)], None),
            (24, _) => (396, &[value(first), value(second), value(pointer)], None),
            _ => return None,
        };
        let mut all = [value(0); 6];
        all.iter_mut().zip(arguments).for_each(|(into, from)| *into = *from);
        Some(Self { nr: SyscallNr(nr), block, arguments: all })
    }

    /// The arguments of the call that is meant, given the words of its block.
    #[must_use]
    pub fn arguments(&self, block: &[u32; BLOCK_WORDS_MAX]) -> [u64; 6] {
        self.arguments.map(|source| match source {
            Source::Word(index) => block.get(usize::from(index)).copied().map_or(0, u64::from),
            Source::Value(value) => value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    fn name(call: Multiplexed) -> &'static str {
        abi::number_name(Abi::I386, call.nr).unwrap()
    }

    #[test]
    fn every_socket_call_is_known_by_the_name_that_it_has_for_itself() {
        let names = [
            "socket",
            "bind",
            "connect",
            "listen",
            "accept4",
            "getsockname",
            "getpeername",
            "socketpair",
            "sendto",
            "recvfrom",
            "sendto",
            "recvfrom",
            "shutdown",
            "setsockopt",
            "getsockopt",
            "sendmsg",
            "recvmsg",
            "accept4",
            "recvmmsg",
            "sendmmsg",
        ];
        for (number, expected) in (1..).zip(names) {
            let call =
                Multiplexed::of(Abi::I386, SyscallNr(102), &[number, 0x1_0000_1000, 0, 0, 0, 0]).unwrap();
            assert_eq!(name(call), expected);
            // A register is 64 bits wide in a 64-bit program, of which the kernel looks at half.
            let (at, words) = call.block.unwrap();
            assert_eq!(at, 0x1000);
            let told = call.arguments(&[1, 2, 3, 4, 5, u32::MAX]);
            let expected = [1, 2, 3, 4, 5, u64::from(u32::MAX)];
            assert_eq!(told[..words], expected[..words]);
            assert!(told[words..].iter().all(|&beyond| beyond == 0));
        }
        for unknown in [0, 21, u64::from(u32::MAX)] {
            assert_eq!(Multiplexed::of(Abi::I386, SyscallNr(102), &[unknown, 8, 0, 0, 0, 0]), None);
        }
    }

    #[test]
    fn ipc_calls_have_their_arguments_where_the_kernel_takes_them_from() {
        let of = |call| Multiplexed::of(Abi::I386, SyscallNr(117), &[call, 11, 22, 33, 44, 55]);
        let block = [7, 8, 0, 0, 0, 0];
        for (call, expected, arguments) in [
            (2, "semget", vec![11, 22, 33]),
            (3, "semctl", vec![11, 22, 33, 7]),
            (11, "msgsnd", vec![11, 44, 22, 33]),
            (12, "msgrcv", vec![11, 7, 22, 8, 33]),
            (12 | 1 << 16, "msgrcv", vec![11, 44, 22, 55, 33]),
            (13, "msgget", vec![11, 22]),
            (14, "msgctl", vec![11, 22, 44]),
            (21, "shmat", vec![11, 44, 22]),
            (22, "shmdt", vec![44]),
            (23, "shmget", vec![11, 22, 33]),
            (24, "shmctl", vec![11, 22, 44]),
        ] {
            let call = of(call).unwrap();
            assert_eq!(name(call), expected);
            assert_eq!(call.arguments(&block)[..arguments.len()], arguments);
            let signature = abi::signature_of(Abi::I386, call.nr).unwrap();
            assert_eq!(signature.arguments.len(), arguments.len(), "{expected}");
        }
        assert_eq!((of(1), of(4), of(99)), (None, None, None));
    }

    #[test]
    fn only_32_bit_x86_has_them() {
        let registers = [1, 8, 0, 0, 0, 0];
        for abi in [Abi::X86_64, Abi::X32, Abi::Aarch64, Abi::Other] {
            assert_eq!(Multiplexed::of(abi, SyscallNr(102), &registers), None);
        }
        assert_eq!(Multiplexed::of(Abi::I386, SyscallNr(5), &registers), None);
    }
}
