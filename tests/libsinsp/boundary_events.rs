//! Writes files of raw events, as `creance run --output falco` does, that try what libsinsp makes of boundary values.
//!
//! The argument is a directory. Each file in it is a part: every event of the table with every boundary value, stories
//! that matter to the state which libsinsp keeps, and the translations of hostile records. Standard output gets a line
//! for each: its name and how many events it has. The encoder must take every one of them: an event that it refuses is
//! an error here. The same source always writes the same bytes. `boundaries` feeds them to libsinsp.

#[path = "boundary_events/each.rs"]
mod each;
#[path = "boundary_events/random.rs"]
mod random;
#[path = "boundary_events/records.rs"]
mod records;
#[path = "boundary_events/stories.rs"]
mod stories;
#[path = "boundary_events/tape.rs"]
mod tape;
#[path = "boundary_events/values.rs"]
mod values;

use std::{env, error::Error, fs, path::PathBuf};

use tape::Tape;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What makes the events of one part.
type Part = fn(&mut Tape) -> Result<()>;

const PARTS: [(&str, Part); 5] = [
    ("each", each::every_event_at_its_boundaries),
    ("stories", stories::every_story),
    ("crowd", stories::more_threads_than_libsinsp_remembers),
    ("records", records::translations_of_hostile_records),
    ("snapshot", records::snapshots_of_hostile_records),
];

fn main() -> Result<()> {
    let directory = env::args_os().nth(1).map(PathBuf::from).ok_or("usage: boundary_events DIRECTORY")?;
    for (name, write) in PARTS {
        let mut tape = Tape::new();
        write(&mut tape)?;
        fs::write(directory.join(name), tape.as_bytes())?;
        println!("{name} {}", tape.len());
    }
    Ok(())
}
