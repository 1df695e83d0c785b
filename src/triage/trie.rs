//! Literals that a text is compared with from its start, or from its end, all in one walk.
//!
//! The walk ends at the first byte that no literal has in that place, which for most paths is after a few bytes: that is
//! why this is faster than an automaton that reads the whole text. Nothing but [`Trie::of`] may allocate.

use std::ops::Range;

use super::bits::{AtomId, Bits};

/// Where the walk has to be at the end of a literal for it to be a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// Anywhere.
    Anywhere,
    /// At the end of the text.
    End,
    /// At the end of the text or before a slash.
    EndOfComponent,
}

/// A literal, where it must end, and the atom whose test it passes.
pub(super) type Literal = (Box<[u8]>, At, AtomId);

/// A tree of literals. Those with a common start share it.
#[derive(Debug, Default)]
pub(super) struct Trie {
    /// The root comes first, if there are any literals, and the children of a node stand side by side.
    nodes: Vec<Node>,
    /// The first byte that leads to each node. That of the root means nothing.
    firsts: Vec<u8>,
    /// The further bytes that lead to the nodes.
    labels: Vec<u8>,
    hits: Vec<(At, AtomId)>,
}

#[derive(Debug, Default)]
struct Node {
    label: Range<usize>,
    children: Range<usize>,
    hits: Range<usize>,
}

impl Trie {
    /// The tree of these literals.
    pub(super) fn of(mut literals: Vec<Literal>) -> Self {
        let mut trie = Self::default();
        if literals.is_empty() {
            return trie;
        }
        literals.sort_unstable();
        literals.dedup();
        trie.add_node(0, &[]);
        let mut open = std::collections::VecDeque::from([(0, literals.as_slice(), 0)]);
        while let Some((node, literals, depth)) = open.pop_front() {
            // Sorted, those that end here come before those that go on.
            let ending = literals.partition_point(|(bytes, ..)| bytes.len() == depth);
            let (ending, going_on) = literals.split_at(ending);
            let (hits, children) = (trie.hits.len(), trie.nodes.len());
            trie.hits.extend(ending.iter().map(|(_, at, atom)| (*at, *atom)));
            for group in going_on.chunk_by(|(one, ..), (other, ..)| one.get(depth) == other.get(depth)) {
                let common = common_len(group);
                let way = group.first().and_then(|(bytes, ..)| bytes.get(depth..common)).unwrap_or_default();
                let Some((first, label)) = way.split_first() else { continue };
                open.push_back((trie.add_node(*first, label), group, common));
            }
            let ranges = (hits..trie.hits.len(), children..trie.nodes.len());
            if let Some(node) = trie.nodes.get_mut(node) {
                (node.hits, node.children) = ranges;
            }
        }
        trie
    }

    fn add_node(&mut self, first: u8, label: &[u8]) -> usize {
        let start = self.labels.len();
        self.labels.extend(label);
        self.firsts.push(first);
        self.nodes.push(Node { label: start..self.labels.len(), ..Node::default() });
        self.nodes.len() - 1
    }

    /// Adds the atoms of all literals that a text has, in the direction in which its bytes come.
    #[inline]
    pub(super) fn hits(&self, mut bytes: impl Iterator<Item = u8>, hits: &mut Bits) {
        let mut node = self.nodes.first();
        let mut next = bytes.next();
        while let Some(here) = node {
            for (at, atom) in self.hits.get(here.hits.clone()).unwrap_or_default() {
                let is_hit = match at {
                    At::Anywhere => true,
                    At::End => next.is_none(),
                    At::EndOfComponent => next.is_none_or(|byte| byte == b'/'),
                };
                if is_hit {
                    hits.insert(*atom);
                }
            }
            let Some(first) = next else { return };
            let firsts = self.firsts.get(here.children.clone()).unwrap_or_default();
            let Some(child) = firsts.iter().position(|byte| *byte == first) else { return };
            node = self.nodes.get(here.children.start + child);
            let label = node.and_then(|node| self.labels.get(node.label.clone())).unwrap_or_default();
            if !label.iter().all(|byte| bytes.next() == Some(*byte)) {
                return;
            }
            next = bytes.next();
        }
    }
}

/// How many bytes all of these, which are sorted, have in common.
fn common_len(sorted: &[Literal]) -> usize {
    let (Some((first, ..)), Some((last, ..))) = (sorted.first(), sorted.last()) else { return 0 };
    first.iter().zip(last).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_hit_where_it_must_end() {
        let literal = |text: &str, at, atom| (text.as_bytes().into(), at, AtomId::of(atom).unwrap());
        let trie = Trie::of(vec![
            literal("/etc", At::Anywhere, 0),
            literal("/etc", At::End, 1),
            literal("/etc", At::EndOfComponent, 2),
            literal("/etc/shadow", At::End, 3),
            literal("/etc/shadow-", At::End, 4),
            literal("/root", At::EndOfComponent, 5),
            literal("/", At::End, 6),
        ]);
        for (text, expected) in [
            ("/etc", 0b111),
            ("/etcetera", 0b1),
            ("/etc/", 0b101),
            ("/etc/shadow", 0b1101),
            ("/etc/shadow-", 0b1_0101),
            ("/etc/shadow--", 0b101),
            ("/roo", 0),
            ("/root/x", 0b10_0000),
            ("/", 0b100_0000),
            ("", 0),
        ] {
            let mut hits = Bits::NONE;
            trie.hits(text.bytes(), &mut hits);
            assert_eq!(hits.word(0), expected, "{text}");
        }
    }

    #[test]
    fn a_tree_without_literals_has_no_hits() {
        for trie in [Trie::of(Vec::new()), Trie::default()] {
            let mut hits = Bits::NONE;
            trie.hits(b"/etc".iter().copied(), &mut hits);
            assert!(hits.is_empty());
        }
    }
}
