//! Sets of atoms, one bit each, that fit on the stack.
//!
//! It owns the bound on how many atoms triage tells apart; nothing here may allocate. Read `program.rs` to see what the
//! bits are for.

/// Atoms of one call that are told apart. Further ones count as true, which keeps more than needed. Falco's own rules,
/// taken together, need fewer than a hundred for any call.
pub(super) const ATOMS_MAX: usize = 1024;

const WORDS: usize = ATOMS_MAX / 64;

/// The number of an atom within its call: less than [`ATOMS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AtomId(u16);

impl AtomId {
    /// The atom with this number, if there may be so many.
    pub(super) fn of(number: usize) -> Option<Self> {
        u16::try_from(number).ok().filter(|_| number < ATOMS_MAX).map(Self)
    }

    /// The word that its bit is in.
    pub(super) fn word(self) -> usize {
        usize::from(self.0 / 64)
    }

    /// Its bit in that word.
    pub(super) fn mask(self) -> u64 {
        1 << (self.0 % 64)
    }
}

/// A set of atoms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits([u64; WORDS]);

impl Bits {
    /// No atom.
    pub(super) const NONE: Self = Self([0; WORDS]);
    /// Every atom.
    pub(super) const ALL: Self = Self([u64::MAX; WORDS]);

    /// Adds an atom.
    pub(super) fn insert(&mut self, atom: AtomId) {
        if let Some(word) = self.0.get_mut(atom.word()) {
            *word |= atom.mask();
        }
    }

    /// Adds an atom, or takes it out.
    fn set(&mut self, atom: AtomId, is_in: bool) {
        if let Some(word) = self.0.get_mut(atom.word()) {
            *word = if is_in { *word | atom.mask() } else { *word & !atom.mask() };
        }
    }

    /// The atoms of this word.
    pub(super) fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Adds all atoms of another set, as far as the first words go.
    pub(super) fn insert_all(&mut self, other: &Self, words: usize) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0).take(words) {
            *mine |= theirs;
        }
    }

    /// Takes out all atoms of another set.
    pub(super) fn remove_all(&mut self, other: &Self, words: usize) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0).take(words) {
            *mine &= !theirs;
        }
    }

    /// Tells whether it has no atom.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// What is known of the atoms: which of them may hold, and which of them do.
///
/// What never can be known is in both, since a call is kept where it matters. Only what is still to be asked for is in
/// one and not in the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Those that may hold.
    pub(super) upper: Bits,
    /// Those that are taken to hold.
    pub(super) lower: Bits,
}

impl Known {
    /// Nothing has been asked for.
    pub(super) const PENDING: Self = Self { upper: Bits::ALL, lower: Bits::NONE };
    /// Nothing can be known.
    pub(super) const UNKNOWN: Self = Self { upper: Bits::ALL, lower: Bits::ALL };

    /// All is known: these hold.
    pub(super) const fn exactly(bits: Bits) -> Self {
        Self { upper: bits, lower: bits }
    }

    /// What follows if the atoms of a set hold when their test fails.
    pub(super) fn negate(mut self, negated: &Bits, words: usize) -> Self {
        let masks = negated.0.iter();
        for ((upper, lower), mask) in self.upper.0.iter_mut().zip(&mut self.lower.0).zip(masks).take(words) {
            (*upper, *lower) = ((*upper & !mask) | (!*lower & mask), (*lower & !mask) | (!*upper & mask));
        }
        self
    }

    /// Forgets what was known of a set of atoms: then none of them holds, until [`Known::admit`] says so.
    pub(super) fn reset(&mut self, atoms: &Bits, words: usize) {
        self.upper.remove_all(atoms, words);
        self.lower.remove_all(atoms, words);
    }

    /// Adds what holds of a set of atoms by one more way.
    pub(super) fn admit(&mut self, atoms: &Bits, known: &Self, words: usize) {
        let pairs = [(&mut self.upper, &known.upper), (&mut self.lower, &known.lower)];
        for (mine, theirs) in pairs {
            for ((mine, theirs), mask) in mine.0.iter_mut().zip(theirs.0).zip(atoms.0).take(words) {
                *mine |= theirs & mask;
            }
        }
    }

    /// Says of one atom whether it holds. `None` means that it cannot be known.
    pub(super) fn tell(&mut self, atom: AtomId, holds: Option<bool>) {
        for bits in [&mut self.upper, &mut self.lower] {
            bits.set(atom, holds != Some(false));
        }
    }
}
