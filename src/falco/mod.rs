//! What is needed to feed Falco: records in, events in Falco's own layout out.
//!
//! Pure: no I/O and no clock. [`table`] has the events and their parameters, [`encode`] writes them and checks each
//! against the table, [`translate`] decides which events a record stands for. A wrong event ends Falco, so read the
//! top of `encode.rs` before you change how one is written, and that of `translate.rs` before you change which.

pub mod encode;
pub mod flags;
pub mod socket;
pub mod table;
pub mod translate;

#[cfg(test)]
pub(crate) mod checker;

pub use encode::{Batch, EncodeError};
pub use translate::{Snapshot, Translator};
