//! Acts on files, in a directory of their own.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use super::{Room, Timer};
use crate::sys::inbox::Inbox;

/// What is written into each file.
const CONTENT: [u8; 32] = [b'x'; 32];

/// Files between two looks whether we are to end.
const LOOK: u64 = 256;

/// Signals that ask for the end. They are taken, so that thousands of files do not stay behind.
const ENDS: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// Creates and writes all files, then deletes all: a unit is one file.
pub(super) fn make_and_delete(timer: &mut Timer) -> io::Result<()> {
    let signals = Inbox::open(ENDS)?;
    let room = Room::new()?;
    let all = timer.units();
    let path = |number: u64| room.0.join(number.to_string());
    let mut made = 0;
    let create = |number: &mut u64| {
        File::create(path(*number))?.write_all(&CONTENT)?;
        *number += 1;
        Ok(())
    };
    while timer.batch(LOOK, || create(&mut made))? > 0 {
        end_if_asked(&signals)?;
    }
    let mut deleted = 0;
    while deleted < all {
        let last = all.min(deleted + LOOK);
        timer.time(|| (deleted..last).try_for_each(|number| fs::remove_file(path(number))))?;
        deleted = last;
        end_if_asked(&signals)?;
    }
    Ok(())
}

fn end_if_asked(signals: &Inbox) -> io::Result<()> {
    match signals.take() {
        Some(_) => Err(io::Error::new(io::ErrorKind::Interrupted, "a signal has asked for the end")),
        None => Ok(()),
    }
}

/// Opens and closes one file.
pub(super) fn open_dropped(timer: &mut Timer) -> io::Result<()> {
    let room = Room::new()?;
    let path = room.0.join("file");
    fs::write(&path, CONTENT)?;
    timer.batch(u64::MAX, || File::open(&path).map(drop)).map(drop)
}

/// Tries to open a file that may be missing or not ours to read: it is the path that rules are about.
pub(super) fn open_kept(timer: &mut Timer) -> io::Result<()> {
    let path = PathBuf::from("/etc/shadow");
    timer
        .batch(u64::MAX, || {
            drop(File::open(&path));
            Ok(())
        })
        .map(drop)
}
