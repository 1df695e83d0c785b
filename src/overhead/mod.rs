//! What tracing costs: the same work natively and in other ways, by turns, and what is told of it.
//!
//! It starts programs and measures them from outside; it knows nothing of rings and engines. The bench `overhead` and the
//! command `creance bench` are made of it. Start with [`figures`].

pub mod figures;
pub mod report;
