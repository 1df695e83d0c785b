//! A consumer on a ring of arbitrary bytes: control words, stamps and data as a hostile peer may leave them.
//!
//! It must never panic or read out of bounds, and must come to an end: no more records than granules, and an error
//! that stays. `Forged::from_bytes` describes the input; the seeds are rings as producers leave them.

#![no_main]

use creance::ring::{Consumer, Forged, Memory, Poll, RecordBuffer};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let memory = Arc::new(Forged::from_bytes(data));
    let geometry = memory.geometry();
    let attached = Consumer::attach(Arc::clone(&memory)).or_else(|_| Consumer::attach_at_head(memory));
    // Refused only when even the head is no place for a record.
    let Ok(mut consumer) = attached else { return };
    let mut record = RecordBuffer::new();
    for _ in 0..=geometry.granules() {
        let before = consumer.position();
        match consumer.poll(&mut record) {
            Ok(Poll::Record) => {
                assert!(record.len() <= geometry.record_bytes_max());
                let moved = consumer.position().wrapping_sub(before);
                assert!(moved >= record.len() as u64 && moved.is_multiple_of(64));
            }
            Ok(Poll::Empty | Poll::Closed) => return,
            Err(error) => return assert_eq!(consumer.poll(&mut record), Err(error)),
        }
    }
    panic!("a ring of {} granules holds more records than that", geometry.granules());
});
