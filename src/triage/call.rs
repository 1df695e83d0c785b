//! The predicates of one call, and the order in which what they need is asked for.
//!
//! Registers first, which cost nothing; then what the arguments point to, one after the other; then the name of the
//! program, of which there are many tests that few calls need; last the directories that relative paths start from. After
//! each the formula is evaluated twice: with all that is still open taken as true, and as false. If it fails the first time
//! or holds the second, nothing more is asked.

use super::{
    CallMemory, address,
    atoms::{Atoms, Claim},
    bits::{AtomId, Known},
    names::{NameTest, NameTests},
    program::Program,
    texts::{Progress, TextArgument},
};
use crate::interest::{
    Condition, Width,
    formula::{AddressTest, Formula},
};

/// The predicates of one call, compiled.
#[derive(Debug)]
pub(super) struct CallTriage {
    program: Program,
    registers: Vec<(Condition, AtomId)>,
    /// Tests of the name of the program, and whether each has to fail.
    names: Vec<(Option<NameTest>, bool, AtomId)>,
    texts: Vec<TextArgument>,
    structures: Vec<ByteArgument>,
    /// Whether registers alone may be reason enough to drop it.
    is_dropped_by_registers: bool,
    /// Whether they may be to keep it.
    is_kept_by_registers: bool,
}

/// The atoms about the bytes of one argument.
#[derive(Debug)]
struct ByteArgument {
    argument: u8,
    words: Vec<(u8, Condition, AtomId)>,
    addresses: Vec<(AddressTest, bool, AtomId)>,
}

/// Arguments that a call has at most.
const CALL_ARGUMENTS: usize = 6;

impl CallTriage {
    /// Compiles the formula of the call with this name.
    pub(super) fn of(name: Option<&str>, formula: &Formula, name_tests: &mut NameTests) -> Self {
        let mut atoms = Atoms::default();
        let tree = atoms.number(formula);
        let claims = atoms.into_claims();
        let words = claims.last().map_or(0, |(_, last)| last.word() + 1);
        let mut arguments: Vec<_> =
            claims.iter().filter_map(|(claim, _)| claim.argument_in_memory()).collect();
        arguments.sort_unstable();
        arguments.dedup();
        let registers = claims.iter().filter_map(|(claim, atom)| match claim {
            Claim::Register(condition) => Some((*condition, *atom)),
            _ => None,
        });
        let registers: Vec<_> = registers.collect();
        let names = claims.iter().filter_map(|(claim, atom)| match claim {
            Claim::Name { tests, is_negated } => Some((name_tests.number(tests), *is_negated, *atom)),
            _ => None,
        });
        let names: Vec<_> = names.collect();
        let texts = arguments.iter().filter_map(|argument| TextArgument::of(*argument, &claims, words));
        let mut texts: Vec<_> = texts.collect();
        let structures = arguments.iter().filter_map(|argument| ByteArgument::of(*argument, &claims));
        let commonness = |atom: AtomId| {
            let claim = claims.binary_search_by_key(&atom, |(_, known)| *known).ok();
            claim.and_then(|index| claims.get(index)).map_or(0, |(claim, _)| claim.commonness())
        };
        let program = Program::of(&tree, &commonness);
        let [with_none, with_all] = [false, true].map(|holds| {
            let mut known = Known::PENDING;
            registers.iter().for_each(|(_, atom)| known.tell(*atom, Some(holds)));
            known
        });
        let is_dropped_by_registers = !program.holds(&with_none.upper);
        let is_kept_by_registers = program.holds(&with_all.lower);
        for text in &mut texts {
            let mut known = Known::PENDING;
            text.read_too_long(&mut known);
            text.let_tail_drop(!program.holds(&known.upper));
            // Of these two it is the directory that libsinsp joins their paths with, even absolute ones.
            if matches!(name, Some("open" | "creat")) {
                text.measure_with_cwd();
            }
        }
        Self {
            registers,
            names,
            texts,
            structures: structures.collect(),
            is_dropped_by_registers,
            is_kept_by_registers,
            program,
        }
    }

    /// Tells whether the call may matter.
    pub(super) fn is_kept(&self, registers: &[u64; CALL_ARGUMENTS], memory: &mut impl CallMemory) -> bool {
        let mut known = Known::PENDING;
        for (condition, atom) in &self.registers {
            known.tell(*atom, Some(condition.holds(registers)));
        }
        if self.is_dropped_by_registers && !self.program.holds(&known.upper) {
            return false;
        }
        if self.is_kept_by_registers && self.program.holds(&known.lower) {
            return true;
        }
        self.ask_memory(memory, &mut known).unwrap_or_else(|| self.program.holds(&known.upper))
    }

    /// Asks until the answer is certain.
    fn ask_memory(&self, memory: &mut impl CallMemory, known: &mut Known) -> Option<bool> {
        let mut needs_base = [false; CALL_ARGUMENTS];
        for (text, needs_base) in self.texts.iter().zip(&mut needs_base) {
            let is_alone = self.texts.len() == 1 && self.structures.is_empty() && self.names.is_empty();
            let is_open = |known: &Known| is_alone && self.answer(known).is_none();
            let progress = text.read(memory, known, is_open);
            *needs_base = progress != Progress::Done;
            if progress == Progress::NeedsBaseAnyway {
                continue;
            }
            if let Some(answer) = self.answer(known) {
                return Some(answer);
            }
        }
        for structure in &self.structures {
            structure.read(memory, known);
            if let Some(answer) = self.answer(known) {
                return Some(answer);
            }
        }
        if !self.names.is_empty() {
            let hits = memory.name();
            for (test, is_negated, atom) in &self.names {
                known.tell(*atom, hits.zip(*test).map(|(hits, test)| hits.has(test) != *is_negated));
            }
            if let Some(answer) = self.answer(known) {
                return Some(answer);
            }
        }
        for (text, _) in self.texts.iter().zip(needs_base).filter(|(_, needs_base)| *needs_base) {
            text.read_with_base(memory, known);
            if let Some(answer) = self.answer(known) {
                return Some(answer);
            }
        }
        None
    }

    /// The answer, if it does not depend on what is still to be asked for.
    fn answer(&self, known: &Known) -> Option<bool> {
        if !self.program.holds(&known.upper) {
            Some(false)
        } else if self.program.holds(&known.lower) {
            Some(true)
        } else {
            None
        }
    }
}

impl ByteArgument {
    fn of(argument: u8, claims: &[(Claim, AtomId)]) -> Option<Self> {
        let mut this = Self { argument, words: Vec::new(), addresses: Vec::new() };
        for (claim, atom) in claims.iter().filter(|(claim, _)| claim.argument_in_memory() == Some(argument)) {
            match claim {
                Claim::Word { offset, condition } => this.words.push((*offset, *condition, *atom)),
                Claim::Address { test, is_negated, .. } => {
                    this.addresses.push((test.clone(), *is_negated, *atom));
                }
                Claim::Register(_) | Claim::Text { .. } | Claim::Name { .. } => {}
            }
        }
        (!this.words.is_empty() || !this.addresses.is_empty()).then_some(this)
    }

    fn read(&self, memory: &mut impl CallMemory, known: &mut Known) {
        let bytes = memory.bytes(self.argument).unwrap_or_default();
        for (offset, condition, atom) in &self.words {
            let word = word_at(bytes, *offset, condition.width);
            known.tell(*atom, word.map(|word| holds_of(condition, word)));
        }
        for (test, is_negated, atom) in &self.addresses {
            known.tell(*atom, address::passes(test, bytes).map(|passes| passes != *is_negated));
        }
    }
}

/// The number that starts at an offset, as the processor reads it.
fn word_at(bytes: &[u8], offset: u8, width: Width) -> Option<u64> {
    let bytes = bytes.get(usize::from(offset)..)?;
    match width {
        Width::Low32 => Some(u32::from_ne_bytes(*bytes.first_chunk()?).into()),
        Width::Full64 => Some(u64::from_ne_bytes(*bytes.first_chunk()?)),
    }
}

/// Tells whether a condition holds of a number that stands in memory.
fn holds_of(condition: &Condition, word: u64) -> bool {
    Condition { argument: 0, ..*condition }.holds(&[word, 0, 0, 0, 0, 0])
}
