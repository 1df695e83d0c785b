//! Work of one kind in a loop, done by this very program, which times it inside: what starts a tracer is no part of it.
//!
//! An act must leave nothing behind, and takes no program from elsewhere but `/bin/true`, where there is one: a container may
//! hold nothing but creance. A new one has its line in [`Act::facts`] and its loop in one of the files below.

mod files;
mod plain;
mod processes;
mod sockets;

use std::{fmt, io, path::PathBuf, str::FromStr, time::Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::latency;

/// Units that are made before they are waited for, or taken back, together.
const BATCH: u64 = 100;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Creates small files in a directory, then deletes them.
    Files,
    /// Makes threads that do nothing, and joins them.
    Threads,
    /// Forks children that end at once, and waits for them.
    Processes,
    /// Starts programs that do nothing, and waits for them.
    Launch,
    /// Allocates memory of mixed sizes, touches and frees it.
    Allocate,
    /// Opens a file that no rule is about.
    OpenDropped,
    /// Opens a file that rules are about.
    OpenKept,
    /// Connects to a port of the loopback interface.
    Connect,
    /// Accepts connections that are there already.
    Accept,
    /// Sends itself signals, and handles them.
    Signals,
    /// Asks for the parent's id: the cheapest call that nobody watches.
    Getppid,
}

/// What is known of an act.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What the command line calls it.
    pub name: &'static str,
    /// For people: what a unit is.
    pub title: &'static str,
    /// Units of a full run, some tenths of a second on a machine of today.
    pub units: u64,
    /// Whether a unit is one operation that somebody waits for.
    pub has_latency: bool,
}

const fn facts(name: &'static str, title: &'static str, units: u64, has_latency: bool) -> Facts {
    Facts { name, title, units, has_latency }
}

impl Act {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::Files,
        Self::Threads,
        Self::Processes,
        Self::Launch,
        Self::Allocate,
        Self::OpenDropped,
        Self::OpenKept,
        Self::Connect,
        Self::Accept,
        Self::Signals,
        Self::Getppid,
    ];

    /// What is known of it.
    #[must_use]
    pub const fn facts(self) -> Facts {
        match self {
            Self::Files => facts("files", "create, write and delete a file", 65_536, false),
            Self::Threads => facts("threads", "make and join a thread", 10_000, false),
            Self::Processes => facts("processes", "fork, exit and wait", 2_000, false),
            Self::Launch => facts("launch", "start a program and wait", 500, false),
            Self::Allocate => facts("allocate", "allocate, touch and free", 500_000, false),
            Self::OpenDropped => facts("open-dropped", "open of a path that no rule is about", 50_000, true),
            Self::OpenKept => facts("open-kept", "open of /etc/shadow", 20_000, true),
            Self::Connect => facts("connect", "connect over TCP", 5_000, true),
            Self::Accept => facts("accept", "accept over TCP", 5_000, true),
            Self::Signals => facts("signals", "a signal and its handler", 100_000, true),
            Self::Getppid => facts("getppid", "getppid", 4_000_000, false),
        }
    }

    /// Does so many units, one after the other or in batches. With `is_each` every unit is timed too, for its latency.
    ///
    /// # Errors
    /// What the machine refused.
    pub fn perform(self, units: u64, is_each: bool) -> Result<Performed, ActError> {
        let mut timer = Timer::new(units, is_each);
        let failed = |source| ActError { act: self, source };
        match self {
            Self::Files => files::make_and_delete(&mut timer),
            Self::OpenDropped => files::open_dropped(&mut timer),
            Self::OpenKept => files::open_kept(&mut timer),
            Self::Threads => processes::threads(&mut timer),
            Self::Processes => processes::forks(&mut timer),
            Self::Launch => processes::programs(&mut timer),
            Self::Connect => sockets::connect(&mut timer),
            Self::Accept => sockets::accept(&mut timer),
            Self::Allocate => plain::allocate(&mut timer),
            Self::Signals => plain::signals(&mut timer),
            Self::Getppid => plain::getppid(&mut timer),
        }
        .map_err(failed)?;
        Ok(timer.performed())
    }
}

impl FromStr for Act {
    type Err = UnknownAct;

    fn from_str(name: &str) -> Result<Self, UnknownAct> {
        let act = Self::ALL.into_iter().find(|act| act.facts().name == name);
        act.ok_or_else(|| UnknownAct { name: name.to_owned() })
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts().name.fmt(f)
    }
}

/// There is no act of this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no row {name:?}; there are {}", Act::ALL.map(|act| act.facts().name).join(", "))]
pub struct UnknownAct {
    name: String,
}

/// An act could not be done.
#[derive(Debug, thiserror::Error)]
#[error("doing {act}")]
pub struct ActError {
    act: Act,
    source: io::Error,
}

/// What an act took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Performed {
    /// Units that were done.
    pub units: u64,
    /// What all of them took, in nanoseconds.
    pub ns: u64,
    /// Times of single units, where each was timed: nanoseconds, and how many took so long.
    pub latencies_ns: Vec<(u64, u64)>,
}

/// Times an act.
struct Timer {
    /// Units that are still to be done.
    left: u64,
    units: u64,
    ns: u128,
    each: Option<Histogram<u64>>,
}

impl Timer {
    fn new(units: u64, is_each: bool) -> Self {
        Self { left: units, units, ns: 0, each: is_each.then(latency::empty) }
    }

    /// Units that are to be done in all.
    const fn units(&self) -> u64 {
        self.units
    }

    /// Does what belongs to the time, but is no unit.
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.ns += start.elapsed().as_nanos();
        done
    }

    /// Does at most so many of the units that are left; tells how many.
    fn batch(&mut self, most: u64, mut unit: impl FnMut() -> io::Result<()>) -> io::Result<u64> {
        let units = self.left.min(most);
        let start = Instant::now();
        match &mut self.each {
            None => {
                for _ in 0..units {
                    unit()?;
                }
            }
            Some(each) => {
                let mut last = start;
                for _ in 0..units {
                    unit()?;
                    let now = Instant::now();
                    latency::record(each, now.duration_since(last));
                    last = now;
                }
            }
        }
        self.ns += start.elapsed().as_nanos();
        self.left -= units;
        Ok(units)
    }

    fn performed(&self) -> Performed {
        Performed {
            units: self.units - self.left,
            ns: u64::try_from(self.ns).unwrap_or(u64::MAX),
            latencies_ns: self.each.as_ref().map(latency::counts).unwrap_or_default(),
        }
    }
}

/// A directory of one act, which goes with it. It lies in memory where that can be.
struct Room(PathBuf);

impl Room {
    fn new() -> io::Result<Self> {
        let candidates = [PathBuf::from("/dev/shm"), std::env::temp_dir(), "/run".into(), ".".into()];
        let name = format!("creance-bench-{}", std::process::id());
        let mut refused = io::ErrorKind::NotFound.into();
        for candidate in candidates {
            let path = candidate.join(&name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Whatever cannot be removed, the work is done.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_its_act_and_an_unknown_one_is_told_the_known_ones() {
        for act in Act::ALL {
            assert_eq!(act.facts().name.parse(), Ok(act));
        }
        let told = "opne".parse::<Act>().unwrap_err().to_string();
        assert!(told.contains("opne") && told.contains("open-kept"), "{told}");
    }

    #[test]
    fn every_unit_is_done_once_and_timed_if_asked() {
        for (most, is_each) in [(1, false), (7, true), (100, true)] {
            let mut timer = Timer::new(20, is_each);
            let mut done = 0;
            let mut bump = || {
                done += 1;
                Ok(())
            };
            while timer.batch(most, &mut bump).unwrap() > 0 {}
            let performed = timer.performed();
            let timed: u64 = performed.latencies_ns.iter().map(|&(_, count)| count).sum();
            assert_eq!((done, performed.units, timed), (20, 20, if is_each { 20 } else { 0 }));
        }
    }
}
