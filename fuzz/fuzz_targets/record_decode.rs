//! Feeds arbitrary bytes to the decoder and to every sink.
//!
//! The input is a row of records, each after its length in two bytes, low byte first: several of them, because the
//! decoder remembers processes from one to the next. A record that does not parse is tried once more with its version,
//! length and reserved field set right, so that a mutation behind them is not wasted.

#![no_main]

use creance::{
    decode::{Decoder, Users},
    event::{ALIGNMENT, HEADER_BYTES, Record, VERSION},
    sink::{Json, Null, Sink, Text},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut decoder = Decoder::with_users(Users::parse(b"root:x:0:0::/root:/bin/sh\nalice:x:1000:\n"));
    let mut rest = input;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        match Record::parse(bytes) {
            Ok(record) => show(&mut decoder, &record),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                if let Ok(record) = Record::parse(&mended(bytes)) {
                    show(&mut decoder, &record);
                }
            }
        }
    }
});

fn show(decoder: &mut Decoder, record: &Record<'_>) {
    let event = decoder.decode(record);
    for argument in event.arguments() {
        let path = argument.resolved();
        assert!(path.is_none_or(|path| path.starts_with(b"/")), "a resolved path is absolute");
    }
    let (mut text, mut colourful, mut json) = (Vec::new(), Vec::new(), Vec::new());
    Text::new(&mut text, false).event(&event).expect("a Vec takes every byte");
    Text::new(&mut colourful, true).event(&event).expect("a Vec takes every byte");
    Json::new(&mut json).event(&event).expect("a Vec takes every byte");
    Null.event(&event).expect("nothing is written");
    for line in [&text, &json] {
        let line = std::str::from_utf8(line).expect("a line is UTF-8");
        let line = line.strip_suffix('\n').expect("a line ends");
        assert!(!line.chars().any(char::is_control), "an event is one line that drives no terminal");
    }
    assert!(colourful.len() > text.len(), "colours only add");
}

/// A copy of `bytes` with the fields of the header that a mutation can only get wrong set right.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - bytes.len() % ALIGNMENT].to_vec();
    if bytes.len() >= HEADER_BYTES {
        let length = u32::try_from(bytes.len()).expect("a length of two bytes");
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[52..56].fill(0);
    }
    bytes
}
