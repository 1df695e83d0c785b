//! Patterns with `*` and `?`.
//!
//! A match takes time in proportion to the text, whatever the pattern: between its stars every piece is taken where it
//! comes first, and nothing is tried twice.

use memchr::memmem::Finder;

/// A pattern for a whole text.
#[derive(Debug)]
pub(super) struct Glob {
    first: Box<[u8]>,
    /// What comes behind the first star; `None` if there is none.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    inner: Vec<Piece>,
    last: Box<[u8]>,
}

/// A piece that stands between two stars.
#[expect(
    clippy::large_enum_variant,
    reason = "they are few, and looked at one after the other without another pointer"
)]
#[derive(Debug)]
enum Piece {
    Literal(Finder<'static>),
    /// With question marks.
    Pattern(Box<[u8]>),
}

impl Glob {
    /// The pattern that these bytes write. `None` for one with a bracket or a backslash.
    pub(super) fn of(pattern: &[u8]) -> Option<Self> {
        if pattern.iter().any(|byte| matches!(byte, b'[' | b'\\')) {
            return None;
        }
        let mut pieces: Vec<_> = pattern.split(|byte| *byte == b'*').collect();
        let last = if pieces.len() > 1 { pieces.pop() } else { None };
        let first = pieces.first().copied().unwrap_or_default();
        let inner = pieces.iter().skip(1).filter(|piece| !piece.is_empty()).map(|piece| Piece::of(piece));
        let rest = last.map(|last| Rest { inner: inner.collect(), last: last.into() });
        Some(Self { first: first.into(), rest })
    }

    /// Tells whether the whole text matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let Some(rest) = &self.rest else {
            return text.len() == self.first.len() && pairs_match(&self.first, text);
        };
        let Some((first, text)) = text.split_at_checked(self.first.len()) else { return false };
        let inner_len = text.len().checked_sub(rest.last.len());
        let Some((mut text, last)) = inner_len.and_then(|len| text.split_at_checked(len)) else {
            return false;
        };
        pairs_match(&self.first, first)
            && pairs_match(&rest.last, last)
            && rest.inner.iter().all(|piece| {
                let end = piece.first_end(text);
                text = end.and_then(|end| text.get(end..)).unwrap_or_default();
                end.is_some()
            })
    }

    /// A text that is held by every text that matches, if there is one between two stars.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        self.rest.as_ref()?.inner.iter().find_map(|piece| match piece {
            Piece::Literal(finder) => Some(finder.needle()),
            Piece::Pattern(_) => None,
        })
    }

    /// Tells whether some text that ends so may match.
    pub(super) fn may_match_before(&self, tail: &[u8]) -> bool {
        let (last, has_room) = match &self.rest {
            Some(rest) => (&rest.last, true),
            None => (&self.first, tail.len() <= self.first.len()),
        };
        has_room && last.iter().rev().zip(tail.iter().rev()).all(|(pattern, byte)| fits(*pattern, *byte))
    }
}

impl Piece {
    fn of(piece: &[u8]) -> Self {
        if piece.contains(&b'?') {
            Self::Pattern(piece.into())
        } else {
            Self::Literal(Finder::new(piece).into_owned())
        }
    }

    /// Where it ends in a text that it comes in, the first time.
    fn first_end(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Literal(finder) => finder.find(text).map(|start| start + finder.needle().len()),
            Self::Pattern(pattern) => {
                let start = text.windows(pattern.len()).position(|window| pairs_match(pattern, window));
                start.map(|start| start + pattern.len())
            }
        }
    }
}

/// Tells whether each byte fits the one in the same place of the pattern, as far as both go.
fn pairs_match(pattern: &[u8], text: &[u8]) -> bool {
    pattern.iter().zip(text).all(|(pattern, byte)| fits(*pattern, *byte))
}

const fn fits(pattern: u8, byte: u8) -> bool {
    pattern == b'?' || pattern == byte
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// fnmatch(3) without flags, as it is defined.
    fn is_match(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', pattern)), None) => is_match(pattern, text),
            (Some((b'*', fewer)), Some((_, rest))) => is_match(fewer, text) || is_match(pattern, rest),
            (Some((wanted, pattern)), Some((byte, text))) => fits(*wanted, *byte) && is_match(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_what_its_definition_says(pattern in "[ab*?]{0,7}", text in "[ab]{0,8}") {
            let glob = Glob::of(pattern.as_bytes()).unwrap();
            prop_assert_eq!(glob.matches(text.as_bytes()), is_match(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn a_tail_excludes_no_text_that_matches(pattern in "[ab*?]{0,7}", head in "[ab]{0,4}", tail in "[ab]{0,4}") {
            let glob = Glob::of(pattern.as_bytes()).unwrap();
            let is_match = glob.matches((head + &tail).as_bytes());
            prop_assert!(!is_match || glob.may_match_before(tail.as_bytes()));
        }
    }

    #[test]
    fn a_tail_can_exclude_a_match() {
        let keys = Glob::of(b"/home/*/.ssh/*.pub").unwrap();
        assert!(keys.may_match_before(b"id.pub"));
        assert!(keys.may_match_before(b"b"));
        assert!(!keys.may_match_before(b"id"));
        assert!(!Glob::of(b"/a?").unwrap().may_match_before(b"/a/b"));
    }

    #[test]
    fn many_stars_take_no_longer_than_the_text() {
        let pattern = "*a".repeat(400) + "b";
        assert!(!Glob::of(pattern.as_bytes()).unwrap().matches(&[b'a'; 4000]));
    }

    #[test]
    fn brackets_and_backslashes_are_not_decided() {
        assert!(Glob::of(b"/etc/[ps]*").is_none());
        assert!(Glob::of(b"/etc/\\*").is_none());
    }
}
