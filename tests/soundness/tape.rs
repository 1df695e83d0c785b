//! Files of records: one after the other, just as they stand in the ring.
//!
//! A record begins with its length, so that nothing stands between two of them. Whoever reads a file checks every record
//! anew.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use creance::{
    decode::Event,
    event::{CaptureBuffer, HEADER_BYTES, Record, RecordHeader, write_record},
    limits,
    sink::Sink,
};

/// Writes records to a file. As a sink it takes every record that is decoded.
pub(crate) struct TapeWriter {
    file: BufWriter<File>,
    captures: CaptureBuffer,
}

impl TapeWriter {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        let captures = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
        Ok(Self { file: BufWriter::new(file), captures })
    }

    /// Writes a record that is put together from a header and captures.
    pub(crate) fn write(&mut self, header: &RecordHeader, captures: &CaptureBuffer) -> io::Result<()> {
        let mut bytes = vec![0; HEADER_BYTES + captures.as_bytes().len()];
        write_record(&mut bytes, header, captures).map_err(io::Error::other)?;
        self.file.write_all(&bytes)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for TapeWriter {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        let record = event.record();
        let mut captures = std::mem::replace(&mut self.captures, CaptureBuffer::with_capacity(0));
        captures.clear();
        for one in record.captures() {
            captures.push(one.kind, one.argument, one.flags, one.data).map_err(io::Error::other)?;
        }
        let written = self.write(record.header(), &captures);
        self.captures = captures;
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The records of a file.
pub(crate) struct Tape {
    bytes: Vec<u8>,
}

impl Tape {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { bytes })
    }

    /// The records in their order.
    pub(crate) fn records(&self) -> impl Iterator<Item = Result<Record<'_>>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let len = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
            let (bytes, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = behind;
            Some(Record::parse(bytes).context("a record of the file"))
        })
    }
}
