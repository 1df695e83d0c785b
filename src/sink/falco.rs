//! Falco's own events, as libscap lays them out, one after the other with nothing between them.

use std::io::{self, Write};

use super::Sink;
use crate::{
    decode::Event,
    falco::{Batch, Translator},
};

/// Writes the events that Falco's engine reads.
#[derive(Debug)]
pub struct FalcoEvents<W> {
    writer: W,
    translator: Translator,
    batch: Batch,
}

impl<W: Write> FalcoEvents<W> {
    /// Makes a sink that writes to `writer`, one write a record. `tracer` is the parent of the workload's first process,
    /// `container` the id of its container.
    pub fn new(writer: W, tracer: u32, container: Option<&str>) -> Self {
        let mut translator = Translator::new().with_container(container);
        translator.learn_outsider(tracer, b"creance");
        Self { writer, translator, batch: Batch::with_capacity(0) }
    }
}

impl<W: Write> Sink for FalcoEvents<W> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.batch.clear();
        self.translator.translate(event.record(), &mut self.batch);
        if let Some(error) = self.translator.last_error() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.writer.write_all(self.batch.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
