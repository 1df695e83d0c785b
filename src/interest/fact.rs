//! What is known of a field in the events of one call before the call returns, and what follows for a comparison.

use super::formula::{Form, Formula, Part};
use crate::rules::condition::Check;

/// What is known of a field, in every event that Falco is told of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    /// It has no value: every comparison of it is false, `!=` included.
    Absent,
    /// It is exactly this text.
    Text(&'static str),
    /// It is a boolean, true exactly when the formula of `is_true` holds, and false exactly when that of `is_false`
    /// does.
    Bool {
        /// When it is true.
        is_true: Formula,
        /// When it is not.
        is_false: Formula,
    },
    /// It is a path or another text that an argument points to. Its absence cannot be excluded.
    Path {
        /// Index of the argument.
        argument: u8,
        /// As what it is read.
        form: Form,
        /// Which part of it.
        part: Part,
    },
    /// Nothing is known.
    Unknown,
}

impl Fact {
    /// When the comparison of a field with this fact may come out as `is_wanted`.
    pub(super) fn may(&self, _check: &Check, _is_wanted: bool) -> Formula {
        Formula::True
    }
}
