//! Whether anybody reads the ring, as the tracer's threads tell each other.
//!
//! A hint and nothing more: it decides whether a full ring is worth waiting for, and when the processes have to be told
//! anew. It must never guard memory.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Whether there is a consumer, and how many there have been before. One thread writes it.
#[derive(Debug, Default)]
pub struct Presence {
    is_there: AtomicBool,
    departures: AtomicU32,
}

impl Presence {
    /// A presence that begins with a consumer, or without one.
    #[must_use]
    pub const fn new(is_there: bool) -> Self {
        Self { is_there: AtomicBool::new(is_there), departures: AtomicU32::new(0) }
    }

    /// A consumer has come.
    pub fn arrive(&self) {
        // Relaxed here and below: nothing else is read on the strength of these words.
        self.is_there.store(true, Ordering::Relaxed);
    }

    /// The consumer is gone, and with it what it knew.
    pub fn depart(&self) {
        self.is_there.store(false, Ordering::Relaxed);
        self.departures.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is a consumer.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    /// How many consumers have gone, modulo 2^32.
    #[must_use]
    pub fn departures(&self) -> u32 {
        self.departures.load(Ordering::Relaxed)
    }
}
