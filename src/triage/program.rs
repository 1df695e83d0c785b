//! A formula as a program that decides by jumps.
//!
//! Each step looks at some bits of one word and jumps on what it finds. It mostly takes one step to turn a rule down, and
//! no step is taken twice: jumps only go to steps that were made before, so a program ends after as many steps as it has.

use super::{
    atoms::Tree,
    bits::{AtomId, Bits},
};

/// The end of a program where the formula holds.
const HOLDS: usize = usize::MAX;
/// The end where it does not.
const FAILS: usize = usize::MAX - 1;

/// A compiled formula.
#[derive(Debug)]
pub(super) struct Program {
    /// Those that are jumped to stand before those that jump.
    steps: Vec<Step>,
    entry: usize,
}

#[derive(Debug)]
struct Step {
    word: usize,
    mask: u64,
    /// Whether all of the bits have to be set, or only one.
    is_for_all: bool,
    on_true: usize,
    on_false: usize,
}

impl Program {
    /// Compiles a formula.
    pub(super) fn of(tree: &Tree) -> Self {
        let mut program = Self { steps: Vec::new(), entry: FAILS };
        program.entry = program.compile(tree, HOLDS, FAILS);
        program
    }

    /// Tells whether the formula holds if these atoms do.
    pub(super) fn holds(&self, bits: &Bits) -> bool {
        let mut at = self.entry;
        while let Some(step) = self.steps.get(at) {
            let seen = bits.word(step.word) & step.mask;
            let is_true = if step.is_for_all { seen == step.mask } else { seen != 0 };
            at = if is_true { step.on_true } else { step.on_false };
        }
        at == HOLDS
    }

    /// Adds the steps that jump to one place if the tree holds, to another if not, and returns where they begin.
    fn compile(&mut self, tree: &Tree, on_true: usize, on_false: usize) -> usize {
        match tree {
            Tree::Constant(true) => on_true,
            Tree::Constant(false) => on_false,
            Tree::Atom(atom) => {
                self.add(Step { word: atom.word(), mask: atom.mask(), is_for_all: true, on_true, on_false })
            }
            Tree::All(operands) => {
                let deeper = operands.iter().filter(|operand| !matches!(operand, Tree::Atom(_))).rev();
                let next = deeper.fold(on_true, |next, operand| self.compile(operand, next, on_false));
                let masks = masks_of(operands).into_iter().rev();
                masks.fold(next, |on_true, (word, mask)| {
                    self.add(Step { word, mask, is_for_all: true, on_true, on_false })
                })
            }
            Tree::Any(operands) => {
                let deeper = operands.iter().filter(|operand| !matches!(operand, Tree::Atom(_))).rev();
                let next = deeper.fold(on_false, |next, operand| self.compile(operand, on_true, next));
                let masks = masks_of(operands).into_iter().rev();
                masks.fold(next, |on_false, (word, mask)| {
                    self.add(Step { word, mask, is_for_all: false, on_true, on_false })
                })
            }
        }
    }

    fn add(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }
}

/// The atoms among the operands, by words.
fn masks_of(operands: &[Tree]) -> Vec<(usize, u64)> {
    let mut masks: Vec<(usize, u64)> = Vec::new();
    let atoms = operands.iter().filter_map(|operand| match operand {
        Tree::Atom(atom) => Some(*atom),
        _ => None,
    });
    for (word, bit) in atoms.map(|atom: AtomId| (atom.word(), atom.mask())) {
        match masks.iter_mut().find(|(known, _)| *known == word) {
            Some((_, mask)) => *mask |= bit,
            None => masks.push((word, bit)),
        }
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_true(tree: &Tree, bits: &Bits) -> bool {
        match tree {
            Tree::Constant(value) => *value,
            Tree::Atom(atom) => bits.word(atom.word()) & atom.mask() != 0,
            Tree::All(operands) => operands.iter().all(|operand| is_true(operand, bits)),
            Tree::Any(operands) => operands.iter().any(|operand| is_true(operand, bits)),
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            1 => any::<bool>().prop_map(Tree::Constant),
            9 => (0_usize..200).prop_map(|number| Tree::Atom(AtomId::of(number).unwrap())),
        ];
        leaf.prop_recursive(4, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Tree::All),
                proptest::collection::vec(inner, 0..6).prop_map(Tree::Any),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_program_decides_as_its_formula(tree in trees(), atoms in proptest::collection::vec(0_usize..200, 0..150)) {
            let mut bits = Bits::NONE;
            atoms.into_iter().for_each(|number| bits.insert(AtomId::of(number).unwrap()));
            prop_assert_eq!(Program::of(&tree).holds(&bits), is_true(&tree, &bits));
        }
    }
}
