//! Acts that make threads and processes, in batches, so that not each is waited for alone.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use nix::{sys::wait::waitpid, unistd};

use super::{BATCH, Timer};
use crate::sys::forks::{BareThread, child_that_ends};

/// A program that does nothing, where there is one.
const TRUE: &str = "/bin/true";

pub(super) fn threads(timer: &mut Timer) -> io::Result<()> {
    let mut threads = Vec::new();
    loop {
        let make = || {
            threads.push(BareThread::spawn()?);
            Ok(())
        };
        if timer.batch(BATCH, make)? == 0 {
            return Ok(());
        }
        timer.time(|| threads.drain(..).for_each(BareThread::join));
    }
}

pub(super) fn forks(timer: &mut Timer) -> io::Result<()> {
    let mut children = Vec::new();
    loop {
        let make = || {
            children.push(child_that_ends()?);
            Ok(())
        };
        if timer.batch(BATCH, make)? == 0 {
            return Ok(());
        }
        timer.time(|| {
            children.drain(..).try_for_each(|child| waitpid(unistd::Pid::from_raw(child.0), None).map(drop))
        })?;
    }
}

pub(super) fn programs(timer: &mut Timer) -> io::Result<()> {
    let mut command = if Path::new(TRUE).is_file() {
        Command::new(TRUE)
    } else {
        let mut own = Command::new("/proc/self/exe");
        own.args(["bench", "--act", "nothing"]);
        own
    };
    command.stdin(Stdio::null());
    let mut children = Vec::new();
    loop {
        let make = || {
            children.push(command.spawn()?);
            Ok(())
        };
        if timer.batch(BATCH, make)? == 0 {
            return Ok(());
        }
        timer.time(|| children.drain(..).try_for_each(|mut child| child.wait().map(drop)))?;
    }
}
