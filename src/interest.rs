//! What can matter: which system calls of which ABI the loaded rules can possibly react to.
//!
//! An [`Interest`] answers the first two stages of the funnel, the number and the registers. It owns that
//! decision and nothing else: it reads no memory, knows no BPF and does no I/O. The filter compiles the calls of
//! the native ABI from [`Interest::native_calls`]; the tracer asks [`Interest::is_call_wanted`] about the calls of
//! foreign ABIs, all of which reach it.
//!
//! It must never say no where a rule could still match: what it does not know is wanted. So a number without a
//! name is wanted in a foreign ABI (it is recorded as unknown), and every call of an architecture without a
//! table. Natively such a number is not wanted: the kernel answers it ENOSYS, or it is newer than every rule.
//!
//! What stands in for rules is the table in `built_in.rs`. Read its comments before you edit either file.

mod address;
mod built_in;
mod fact;
mod facts;
pub mod formula;
mod funnel;
mod partial;
mod registers;

use std::collections::BTreeMap;

pub use funnel::{CallFunnel, Funnel, RuleShare};
use thiserror::Error;

use self::formula::Formula;
use crate::abi::{self, Abi, SyscallNr, X32_SYSCALL_BIT};
use crate::limits::SYSCALL_NUMBERS_MAX;

/// The number -1, with which a tracer tells the kernel to skip a call (ptrace(2)). It is no call, in any ABI.
pub const SKIPPED: SyscallNr = SyscallNr(u32::MAX);

/// How much of a register a [`Condition`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// The low 32 bits. The kernel ignores the rest of an `int` argument, so whatever stands there must not
    /// decide.
    Low32,
    /// All 64 bits: pointers, and arguments that the kernel declares as `long`.
    Full64,
}

impl Width {
    /// The bits that it covers.
    const fn mask(self) -> u64 {
        match self {
            // A widening cast; `From` is not const.
            Self::Low32 => u32::MAX as u64,
            Self::Full64 => u64::MAX,
        }
    }
}

/// How a [`Condition`] compares a register with its value. All comparisons are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Test {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less than the value.
    Lt,
    /// Less than the value or equal to it.
    Le,
    /// Greater than the value.
    Gt,
    /// Greater than the value or equal to it.
    Ge,
    /// Equal in the bits of this mask; the other bits of both sides are ignored.
    MaskedEq(u64),
}

/// A condition on one register argument of a call, in terms that a seccomp filter can decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Index of the argument, 0 to 5.
    pub argument: u8,
    /// How much of the register counts, on both sides of the comparison.
    pub width: Width,
    /// The comparison: register first, `value` second.
    pub test: Test,
    /// What the register is compared with.
    pub value: u64,
}

impl Condition {
    /// Tells whether the condition holds for these register arguments.
    ///
    /// An argument that no call has (an index above 5) is unknown, and the unknown passes.
    #[must_use]
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let Some(&register) = args.get(usize::from(self.argument)) else {
            return true;
        };
        let seen = self.width.mask();
        let (left, right) = (register & seen, self.value & seen);
        match self.test {
            Test::Eq => left == right,
            Test::Ne => left != right,
            Test::Lt => left < right,
            Test::Le => left <= right,
            Test::Gt => left > right,
            Test::Ge => left >= right,
            Test::MaskedEq(mask) => left & mask == right & mask,
        }
    }
}

/// [`RegisterTest::ALWAYS`], to be borrowed for as long as anybody wants.
static ALWAYS: RegisterTest = RegisterTest::ALWAYS;

/// What the registers of one call must hold for it to be wanted: any of several alternatives, each of which is a
/// conjunction of conditions. Without alternatives every call passes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegisterTest {
    alternatives: Vec<Vec<Condition>>,
}

impl RegisterTest {
    /// The test that every call passes.
    pub const ALWAYS: Self = Self { alternatives: Vec::new() };

    /// The test that a call passes if all conditions of at least one alternative hold.
    ///
    /// No alternatives, or one without conditions, make [`RegisterTest::ALWAYS`].
    #[must_use]
    pub fn any_of(alternatives: Vec<Vec<Condition>>) -> Self {
        if alternatives.iter().any(Vec::is_empty) { Self::ALWAYS } else { Self { alternatives } }
    }

    /// The alternatives, none of which is empty. No alternatives mean that every call passes.
    #[must_use]
    pub fn alternatives(&self) -> &[Vec<Condition>] {
        &self.alternatives
    }

    /// Tells whether every call passes.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.alternatives.is_empty()
    }

    /// Tells whether a call with these register arguments passes.
    #[must_use]
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        self.is_always()
            || self.alternatives.iter().any(|all| all.iter().all(|condition| condition.holds(args)))
    }

    /// Widens the test by another: a call passes if it passes either.
    fn widen(&mut self, other: &Self) {
        if self.is_always() || other.is_always() {
            self.alternatives.clear();
        } else {
            let new = other.alternatives.iter().filter(|all| !self.alternatives.contains(all));
            let new: Vec<_> = new.cloned().collect();
            self.alternatives.extend(new);
        }
    }
}

/// A system call was asked for by a name that no ABI knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no ABI has a system call named {name:?}{}", suggestion(*nearest))]
pub struct UnknownCall {
    /// The name that was asked for.
    pub name: String,
    /// The known name that resembles it most, if one does.
    pub nearest: Option<&'static str>,
}

fn suggestion(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"))
}

/// The calls of the native ABI that the filter has to trap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NativeCalls<'a> {
    /// Every call, whatever its number.
    All,
    /// These numbers, each once and in ascending order, when the registers pass the test.
    Only(Vec<(SyscallNr, &'a RegisterTest)>),
}

/// What can matter to the consumer: see the module's documentation.
#[derive(Debug, Clone)]
pub struct Interest {
    is_all: bool,
    x86_64: Table,
    i386: Table,
    x32: Table,
    aarch64: Table,
    /// What else must hold of some calls of the native ABI: what triage looks at.
    formulas: BTreeMap<SyscallNr, Formula>,
}

impl Interest {
    /// The interest that stands in for Falco's rules: the calls that its stable rules react to, those that its
    /// picture of a process needs, and rare actions on files and the network.
    #[must_use]
    pub fn built_in() -> Self {
        Self::of_table(&built_in::calls())
    }

    /// The interest in every call with one of these names, whatever its arguments.
    ///
    /// # Errors
    /// [`UnknownCall`] for the first name that no ABI knows. A name twice is no error.
    pub fn of_names<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownCall> {
        Self::of_calls(names.iter().map(|name| (name.as_ref(), RegisterTest::ALWAYS)))
    }

    /// The interest in these calls, each when its registers pass the test. A name that stands there twice is
    /// wanted when either test passes.
    ///
    /// # Errors
    /// [`UnknownCall`] for the first name that no ABI knows.
    pub fn of_calls<'a>(
        calls: impl IntoIterator<Item = (&'a str, RegisterTest)>,
    ) -> Result<Self, UnknownCall> {
        let mut tests: BTreeMap<&str, RegisterTest> = BTreeMap::new();
        for (name, test) in calls {
            if !Abi::KNOWN.iter().any(|&abi| abi::number(abi, name).is_some()) {
                return Err(UnknownCall { name: name.to_owned(), nearest: abi::nearest_name(name) });
            }
            tests.entry(name).and_modify(|known| known.widen(&test)).or_insert(test);
        }
        Ok(Self::of_table(&tests))
    }

    /// The same interest, and that in every call that `more` wants.
    #[must_use]
    pub fn and_calls_of(mut self, more: &Self) -> Self {
        self.x86_64.widen(Abi::X86_64, &more.x86_64);
        self.i386.widen(Abi::I386, &more.i386);
        self.x32.widen(Abi::X32, &more.x32);
        self.aarch64.widen(Abi::Aarch64, &more.aarch64);
        self
    }

    /// The interest in the calls of a funnel.
    fn of_funnel(calls: &[CallFunnel]) -> Self {
        let tests = calls.iter().map(|call| (call.name, call.registers.clone())).collect();
        let decided = calls.iter().filter(|call| call.formula != Formula::True);
        let numbered = decided.filter_map(|call| {
            abi::number(Abi::NATIVE, call.name).map(|number| (number, call.formula.clone()))
        });
        Self { formulas: numbered.collect(), ..Self::of_table(&tests) }
    }

    /// The interest in the calls that start a program or make a process, for an engine that nothing else tells of them.
    #[must_use]
    pub fn life_of_processes() -> Self {
        const CLONE_THREAD: u64 = 0x0001_0000;
        let makes_process =
            Condition { argument: 0, width: Width::Full64, test: Test::MaskedEq(CLONE_THREAD), value: 0 };
        // The flags of clone3 lie in memory.
        let always =
            ["execve", "execveat", "fork", "vfork", "clone3"].map(|name| (name, RegisterTest::ALWAYS));
        let clone = ("clone", RegisterTest::any_of(vec![vec![makes_process]]));
        Self::of_table(&always.into_iter().chain([clone]).collect())
    }

    /// The interest in every call of every ABI.
    #[must_use]
    pub fn all() -> Self {
        let table = Table::with_unnamed(true);
        Self {
            is_all: true,
            x86_64: table.clone(),
            i386: table.clone(),
            x32: table.clone(),
            aarch64: table,
            formulas: BTreeMap::new(),
        }
    }

    fn of_table(tests: &BTreeMap<&str, RegisterTest>) -> Self {
        Self {
            is_all: false,
            x86_64: Table::of_names(Abi::X86_64, tests),
            i386: Table::of_names(Abi::I386, tests),
            x32: Table::of_names(Abi::X32, tests),
            aarch64: Table::of_names(Abi::Aarch64, tests),
            formulas: BTreeMap::new(),
        }
    }

    /// Tells whether a call with this number can matter, for some register arguments. Looks up one bit.
    #[must_use]
    pub fn is_wanted(&self, abi: Abi, nr: SyscallNr) -> bool {
        nr != SKIPPED && self.table(abi).is_none_or(|table| table.is_wanted(abi, nr))
    }

    /// Tells whether a call with this number and these register arguments can matter.
    ///
    /// For a call of the native ABI this is what the filter decides. For a foreign one, of which the filter traps
    /// all, the tracer asks here.
    #[must_use]
    pub fn is_call_wanted(&self, abi: Abi, nr: SyscallNr, args: &[u64; 6]) -> bool {
        self.is_wanted(abi, nr)
            && self.table(abi).and_then(|table| table.register_test(nr)).is_none_or(|test| match abi {
                // A 64-bit process may leave anything in the upper halves before `int 0x80`; the kernel ignores
                // them.
                Abi::I386 => test.holds(&args.map(|register| register & u64::from(u32::MAX))),
                _ => test.holds(args),
            })
    }

    /// The calls of the native ABI about which memory may decide, and when each of them may matter, for triage. A
    /// wanted call that is not among them matters whenever its registers pass.
    pub fn formulas(&self) -> impl Iterator<Item = (SyscallNr, &Formula)> {
        self.formulas.iter().map(|(nr, formula)| (*nr, formula))
    }

    /// The wanted calls of `native`, for the filter.
    ///
    /// An ABI that creance has no table for cannot be native and has none.
    #[must_use]
    pub fn native_calls(&self, native: Abi) -> NativeCalls<'_> {
        if self.is_all {
            return NativeCalls::All;
        }
        let Some(table) = self.table(native) else {
            return NativeCalls::Only(Vec::new());
        };
        let named = numbers(native).filter(|&nr| abi::number_name(native, nr).is_some());
        let wanted = named.filter(|&nr| table.is_wanted(native, nr));
        NativeCalls::Only(wanted.map(|nr| (nr, table.register_test(nr).unwrap_or(&ALWAYS))).collect())
    }

    const fn table(&self, abi: Abi) -> Option<&Table> {
        match abi {
            Abi::X86_64 => Some(&self.x86_64),
            Abi::I386 => Some(&self.i386),
            Abi::X32 => Some(&self.x32),
            Abi::Aarch64 => Some(&self.aarch64),
            Abi::Other => None,
        }
    }
}

/// The wanted numbers of one ABI.
#[derive(Debug, Clone)]
struct Table {
    wanted: [u64; (SYSCALL_NUMBERS_MAX / u64::BITS) as usize],
    /// Whether a number outside of the bitset is wanted.
    is_unnamed_wanted: bool,
    /// The wanted numbers that have a register test, ascending.
    conditional: Vec<(SyscallNr, RegisterTest)>,
}

impl Table {
    fn with_unnamed(is_wanted: bool) -> Self {
        let bits = if is_wanted { u64::MAX } else { 0 };
        Self {
            wanted: [bits; (SYSCALL_NUMBERS_MAX / u64::BITS) as usize],
            is_unnamed_wanted: is_wanted,
            conditional: Vec::new(),
        }
    }

    fn of_names(abi: Abi, tests: &BTreeMap<&str, RegisterTest>) -> Self {
        let mut table = Self::with_unnamed(abi != Abi::NATIVE);
        for nr in numbers(abi) {
            let Some(name) = abi::number_name(abi, nr) else { continue };
            let test = register_test_of(abi, name, tests);
            table.set(abi, nr, test.is_some());
            if let Some(test) = test.filter(|test| !test.is_always()) {
                table.conditional.push((nr, test.clone()));
            }
        }
        table
    }

    fn set(&mut self, abi: Abi, nr: SyscallNr, is_wanted: bool) {
        let Some((word, bit)) = bit_of(abi, nr) else { return };
        if let Some(bits) = self.wanted.get_mut(word) {
            *bits = if is_wanted { *bits | bit } else { *bits & !bit };
        }
    }

    /// Adds the calls of another table: one that both have is wanted when either test passes.
    fn widen(&mut self, abi: Abi, more: &Self) {
        for nr in numbers(abi).filter(|&nr| more.is_wanted(abi, nr)) {
            let test = more.register_test(nr).unwrap_or(&ALWAYS);
            let at = self.conditional.binary_search_by_key(&nr, |(nr, _)| *nr);
            if !self.is_wanted(abi, nr) {
                self.set(abi, nr, true);
                let at = at.unwrap_or_else(|at| at);
                self.conditional.insert(at, (nr, test.clone()));
            } else if let Some((_, known)) = at.ok().and_then(|at| self.conditional.get_mut(at)) {
                known.widen(test);
            }
        }
    }

    fn is_wanted(&self, abi: Abi, nr: SyscallNr) -> bool {
        match bit_of(abi, nr).and_then(|(word, bit)| Some(self.wanted.get(word)? & bit)) {
            Some(masked) => masked != 0,
            None => self.is_unnamed_wanted,
        }
    }

    fn register_test(&self, nr: SyscallNr) -> Option<&RegisterTest> {
        let at = self.conditional.binary_search_by_key(&nr, |(nr, _)| *nr).ok()?;
        self.conditional.get(at).map(|(_, test)| test)
    }
}

/// The bit that all numbers of an ABI carry.
const fn base(abi: Abi) -> u32 {
    if matches!(abi, Abi::X32) { X32_SYSCALL_BIT } else { 0 }
}

/// The numbers of an ABI that its bitset covers, ascending.
fn numbers(abi: Abi) -> impl Iterator<Item = SyscallNr> {
    (0..SYSCALL_NUMBERS_MAX).map(move |index| SyscallNr(base(abi) | index))
}

/// Where the bitset keeps a number: the word, and the bit in it. `None` if it does not cover the number.
fn bit_of(abi: Abi, nr: SyscallNr) -> Option<(usize, u64)> {
    let index = nr.0.checked_sub(base(abi))?;
    Some((usize::try_from(index / u64::BITS).ok()?, 1 << (index % u64::BITS)))
}

/// The register test of a named call in `abi`; `None` if the call is not wanted.
fn register_test_of<'a>(
    abi: Abi,
    name: &str,
    tests: &'a BTreeMap<&str, RegisterTest>,
) -> Option<&'a RegisterTest> {
    match (tests.get(name), abi) {
        // Some x32 calls take their arguments as 32 bits and others as 64 (the kernel's syscall_64.tbl), so a
        // register test could be fooled by the upper half. These calls are too rare for a test to be worth it.
        (Some(_), Abi::X32) => Some(&ALWAYS),
        (Some(test), _) => Some(test),
        // An i386 call may be wanted under the name that its like has on 64 bits. The arguments may differ.
        (None, Abi::I386) => tests.keys().any(|wanted| is_i386_kin(name, wanted)).then_some(&ALWAYS),
        (None, _) => None,
    }
}

/// Tells whether the i386 call `name` does what the call `wanted` does on 64 bits.
fn is_i386_kin(name: &str, wanted: &str) -> bool {
    match name {
        // The socket calls of old came through this one; which of them it is stands in a register.
        "socketcall" => SOCKET_CALLS.contains(&wanted),
        "ipc" => IPC_CALLS.contains(&wanted),
        // The other way round: each is told as the call that it stands for, of which accept(2) has none of its own.
        _ if wanted == "socketcall" => SOCKET_CALLS.contains(&name),
        _ if wanted == "ipc" => IPC_CALLS.contains(&name),
        "accept4" => wanted == "accept",
        "sendto" => wanted == "send",
        "recvfrom" => wanted == "recv",
        "umount" => wanted == "umount2",
        "waitpid" => wanted == "wait4",
        "mmap2" => wanted == "mmap",
        "fstatat64" => wanted == "newfstatat",
        "ugetrlimit" => wanted == "getrlimit",
        "_llseek" => wanted == "lseek",
        "_newselect" => wanted == "select",
        "fadvise64_64" => wanted == "fadvise64",
        // Wider user ids (`setuid32`), files (`stat64`) and times (`futex_time64`) came as new calls.
        _ => name.strip_prefix(wanted).is_some_and(|suffix| matches!(suffix, "32" | "64" | "_time64")),
    }
}

/// The calls that `socketcall` multiplexes (socketcall(2), linux/net.h).
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
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

/// The calls that `ipc` multiplexes (ipc(2)).
const IPC_CALLS: [&str; 12] = [
    "semop",
    "semget",
    "semctl",
    "semtimedop",
    "msgsnd",
    "msgrcv",
    "msgget",
    "msgctl",
    "shmat",
    "shmdt",
    "shmget",
    "shmctl",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn nr(abi: Abi, name: &str) -> SyscallNr {
        abi::number(abi, name).unwrap_or_else(|| panic!("{} has no {name}", abi.name()))
    }

    fn is_named_wanted(interest: &Interest, abi: Abi, name: &str) -> bool {
        interest.is_wanted(abi, nr(abi, name))
    }

    const fn foreign() -> Abi {
        match Abi::NATIVE {
            Abi::X86_64 => Abi::Aarch64,
            _ => Abi::X86_64,
        }
    }

    #[test]
    fn every_named_number_lies_within_the_bitset() {
        for abi in Abi::KNOWN {
            let beyond = (SYSCALL_NUMBERS_MAX..4 * SYSCALL_NUMBERS_MAX).map(|nr| SyscallNr(base(abi) | nr));
            assert_eq!(beyond.filter(|&nr| abi::number_name(abi, nr).is_some()).count(), 0);
        }
    }

    #[test]
    fn a_name_may_be_given_twice_or_be_of_one_abi_only() {
        let interest = Interest::of_names(&["openat", "openat", "socketcall"]).unwrap();
        assert!(is_named_wanted(&interest, Abi::NATIVE, "openat"));
        assert!(is_named_wanted(&interest, Abi::I386, "socketcall"));
        // It is told as what it stands for.
        assert!(is_named_wanted(&interest, Abi::I386, "socket"));
        assert!(!is_named_wanted(&interest, Abi::NATIVE, "socket"));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_known_one() {
        let error = Interest::of_names(&["open", "opnat"]).unwrap_err();
        assert_eq!(error.name, "opnat");
        assert_eq!(error.nearest, abi::nearest_name("opnat"));
        assert!(error.to_string().starts_with("no ABI has a system call named \"opnat\""));
        let lost = UnknownCall { name: "x".to_owned(), nearest: None };
        assert_eq!(lost.to_string(), "no ABI has a system call named \"x\"");
        let found = UnknownCall { name: "opnat".to_owned(), nearest: Some("openat") };
        assert!(found.to_string().ends_with("; did you mean \"openat\"?"));
    }

    #[test]
    fn calls_that_are_added_are_wanted_whatever_their_arguments() {
        let more = Interest::of_names(&["dup2", "getppid"]).unwrap();
        let interest = Interest::built_in().and_calls_of(&more);
        for name in ["dup2", "getppid"] {
            assert!(interest.is_call_wanted(Abi::X86_64, nr(Abi::X86_64, name), &[9; 6]), "{name}");
        }
        assert!(!interest.is_call_wanted(Abi::NATIVE, nr(Abi::NATIVE, "dup3"), &[9; 6]));
        assert!(is_named_wanted(&interest, Abi::NATIVE, "openat"));
        assert!(!is_named_wanted(&interest, Abi::NATIVE, "read"));
    }

    #[test]
    fn an_unnamed_number_is_wanted_in_a_foreign_abi_only() {
        let interest = Interest::of_names(&["openat"]).unwrap();
        for index in [SYSCALL_NUMBERS_MAX - 1, SYSCALL_NUMBERS_MAX, 0x3fff_ffff] {
            assert!(!interest.is_wanted(Abi::NATIVE, SyscallNr(index)));
            assert!(interest.is_wanted(foreign(), SyscallNr(index)));
            assert!(interest.is_wanted(Abi::I386, SyscallNr(index)));
            assert!(interest.is_wanted(Abi::X32, SyscallNr(X32_SYSCALL_BIT | index)));
            assert!(interest.is_wanted(Abi::X32, SyscallNr(index)));
        }
        assert!(interest.is_wanted(Abi::Other, SyscallNr(0)));
        assert!(interest.is_call_wanted(Abi::Other, SyscallNr(0), &[0; 6]));
        assert!(!is_named_wanted(&interest, foreign(), "read"));
        assert!(!is_named_wanted(&interest, Abi::X32, "read"));
    }

    #[test]
    fn a_skipped_call_is_wanted_by_no_interest() {
        for interest in [Interest::built_in(), Interest::all()] {
            for abi in [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Other] {
                assert!(!interest.is_wanted(abi, SKIPPED));
                assert!(!interest.is_call_wanted(abi, SKIPPED, &[0; 6]));
            }
        }
    }

    #[test]
    fn all_wants_every_call_of_every_abi() {
        let interest = Interest::all();
        for abi in [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Other] {
            for index in [0, 1, 59, SYSCALL_NUMBERS_MAX, X32_SYSCALL_BIT, X32_SYSCALL_BIT | 520, u32::MAX - 1]
            {
                assert!(interest.is_call_wanted(abi, SyscallNr(index), &[0; 6]));
            }
        }
        assert_eq!(interest.native_calls(Abi::NATIVE), NativeCalls::All);
    }

    #[test]
    fn a_multiplexed_or_widened_i386_call_is_wanted_for_its_like() {
        let interest = Interest::of_names(&["bind", "setuid", "umount2", "futex", "newfstatat"]).unwrap();
        for name in ["socketcall", "setuid32", "umount", "futex_time64", "fstatat64"] {
            assert!(is_named_wanted(&interest, Abi::I386, name), "{name}");
        }
        for name in ["ipc", "setgid32", "stat64", "mmap2"] {
            assert!(!is_named_wanted(&interest, Abi::I386, name), "{name}");
        }
    }

    #[test]
    fn native_calls_are_ascending_and_carry_their_tests() {
        let interest = Interest::built_in();
        for abi in [Abi::X86_64, Abi::Aarch64] {
            let NativeCalls::Only(calls) = interest.native_calls(abi) else { panic!("the table is not all") };
            assert!(calls.is_sorted_by(|(a, _), (b, _)| a < b));
            let test = |name| calls.iter().find(|(of, _)| *of == nr(abi, name)).map(|(_, test)| *test);
            assert_eq!(test("openat"), Some(&RegisterTest::ALWAYS));
            assert_eq!(test("ptrace").map(|test| test.alternatives().len()), Some(7));
            assert_eq!(test("read"), None);
        }
        assert_eq!(interest.native_calls(Abi::Other), NativeCalls::Only(Vec::new()));
    }

    #[test]
    fn foreign_registers_are_read_as_the_kernel_reads_them() {
        let interest = Interest::built_in();
        let garbage_above = [0xdead_beef_0000_0010, 1, 0, 0, 0, 0];
        let is_wanted = |abi| interest.is_call_wanted(abi, nr(abi, "ptrace"), &garbage_above);
        assert!(is_wanted(Abi::I386), "PTRACE_ATTACH in the low half is what counts");
        assert!(is_wanted(Abi::X32), "no register test is trusted");
        assert!(!is_wanted(Abi::X86_64));
    }

    #[test]
    fn the_wider_of_two_tests_for_a_name_counts() {
        let on = |value| {
            RegisterTest::any_of(vec![vec![Condition {
                argument: 0,
                width: Width::Full64,
                test: Test::Eq,
                value,
            }]])
        };
        let openat = nr(Abi::NATIVE, "openat");
        let is_wanted = |tests: &[RegisterTest], first| {
            let interest = Interest::of_calls(tests.iter().map(|test| ("openat", test.clone()))).unwrap();
            interest.is_call_wanted(Abi::NATIVE, openat, &[first, 0, 0, 0, 0, 0])
        };
        assert_eq!([1, 2, 3].map(|first| is_wanted(&[on(1), on(2), on(1)], first)), [true, true, false]);
        assert!(is_wanted(&[on(1), RegisterTest::ALWAYS], 3));
        assert!(is_wanted(&[RegisterTest::ALWAYS, on(1)], 3));
        assert!(RegisterTest::any_of(vec![vec![], on(1).alternatives()[0].clone()]).is_always());
    }

    #[test]
    fn a_condition_on_an_argument_that_no_call_has_passes() {
        let condition = Condition { argument: 6, width: Width::Low32, test: Test::Ne, value: 0 };
        assert!(condition.holds(&[0; 6]));
    }
}
