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

    /// Tells whether it has an atom.
    pub(super) fn has(&self, atom: AtomId) -> bool {
        self.word(atom.word()) & atom.mask() != 0
    }

    /// Puts in the atoms of another set that are not there, and takes out those that are, as far as the first words go.
    pub(super) fn toggle_all(&mut self, other: &Self, words: usize) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0).take(words) {
            *mine ^= theirs;
        }
    }

    /// The atoms of this word.
    pub(super) fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Adds all atoms of another set, as far as the first words go.
    pub(super) fn insert_all(&mut self, other: &Self, words: usize) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0).take(words) {
            *mine |= theirs;
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
    /// No atom may hold.
    pub(super) const NONE: Self = Self { upper: Bits::NONE, lower: Bits::NONE };

    /// Turns to what follows if the atoms of a set hold when their test fails.
    pub(super) fn negate(&mut self, negated: &Bits, words: usize) {
        for ((upper, lower), mask) in self.pairs().zip(&negated.0).take(words) {
            (*upper, *lower) = ((*upper & !mask) | (!*lower & mask), (*lower & !mask) | (!*upper & mask));
        }
    }

    /// Says of a set of atoms that those of them hold, and no others, which are in another set too.
    pub(super) fn settle(&mut self, atoms: &Bits, holding: &Bits, words: usize) {
        for (((upper, lower), mask), holds) in self.pairs().zip(&atoms.0).zip(&holding.0).take(words) {
            *upper = (*upper & !mask) | (holds & mask);
            *lower = (*lower & !mask) | (holds & mask);
        }
    }

    /// Adds what is known of a set of atoms by one more way in which they may hold: those that then may, and those that do.
    pub(super) fn admit(&mut self, atoms: &Bits, upper: &Bits, lower: &Bits, words: usize) {
        let theirs = upper.0.iter().zip(&lower.0);
        for (((upper, lower), mask), (may, must)) in self.pairs().zip(&atoms.0).zip(theirs).take(words) {
            *upper |= may & mask;
            *lower |= must & mask;
        }
    }

    /// Says of a set of atoms that nothing more can be known: those hold that are taken to hold, or are in another set.
    pub(super) fn close(&mut self, atoms: &Bits, holding: &Bits, words: usize) {
        for (((upper, lower), mask), holds) in self.pairs().zip(&atoms.0).zip(&holding.0).take(words) {
            *lower |= holds & mask;
            *upper = (*upper & !mask) | (*lower & mask);
        }
    }

    /// Says of one atom whether it holds. `None` means that it cannot be known.
    #[inline]
    pub(super) fn tell(&mut self, atom: AtomId, holds: Option<bool>) {
        let mask = atom.mask();
        for bits in [&mut self.upper, &mut self.lower] {
            let Some(word) = bits.0.get_mut(atom.word()) else { continue };
            *word = if holds == Some(false) { *word & !mask } else { *word | mask };
        }
    }

    fn pairs(&mut self) -> impl Iterator<Item = (&mut u64, &mut u64)> {
        self.upper.0.iter_mut().zip(&mut self.lower.0)
    }
}
