//! Where events go: lines of text, lines of JSON, Falco's own events, or nowhere.
//!
//! A sink formats; it decides nothing and keeps no state of the workload. Whatever bytes a workload chose for its
//! file names, they cannot forge a line or drive a terminal. The formats are promised in `docs/output.md`.

mod escape;
mod falco;
mod json;
#[cfg(test)]
mod tests;
mod text;

use std::io;

pub use falco::FalcoEvents;
pub use json::Json;
pub use text::Text;

use crate::decode::Event;

/// Takes events, one by one.
pub trait Sink {
    /// Takes one event.
    ///
    /// # Errors
    /// What the writer behind the sink says. The event is lost then, wholly or in part.
    fn event(&mut self, event: &Event<'_>) -> io::Result<()>;

    /// Sends on what is still buffered.
    ///
    /// # Errors
    /// What the writer behind the sink says.
    fn flush(&mut self) -> io::Result<()>;
}

/// Drops every event: to measure what comes before the sink.
#[derive(Debug, Clone, Copy, Default)]
pub struct Null;

impl Sink for Null {
    fn event(&mut self, _event: &Event<'_>) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
