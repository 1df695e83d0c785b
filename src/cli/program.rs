//! Finds the program of a command, as execvp(3) does, before anything is started.

use std::{
    env,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

/// Where execvp(3) looks when `PATH` is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command cannot be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotRunnable {
    /// There is no such file.
    #[error("{0}: command not found")]
    NotFound(String),
    /// It is there, but it is no program that we may run.
    #[error("{0}: not a program that may be run here (a directory, or no execute permission)")]
    NotExecutable(String),
}

impl NotRunnable {
    /// The exit status that shells give.
    pub(super) const fn status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) => 126,
        }
    }
}

/// Finds the file of a command: by its path if it has a slash, else in the directories of `PATH`.
pub(super) fn find(command: &OsStr) -> Result<PathBuf, NotRunnable> {
    let candidates: Vec<PathBuf> = if command.is_empty() {
        Vec::new()
    } else if command.as_bytes().contains(&b'/') {
        vec![command.into()]
    } else {
        let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        env::split_paths(&path).map(|directory| directory.join(command)).collect()
    };
    if let Some(program) = candidates.iter().find(|candidate| is_program(candidate)) {
        return Ok(program.clone());
    }
    let name = command.to_string_lossy().into_owned();
    let is_there = candidates.iter().any(|candidate| candidate.exists());
    Err(if is_there { NotRunnable::NotExecutable(name) } else { NotRunnable::NotFound(name) })
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_up_in_path() {
        assert!(find(OsStr::new("sh")).unwrap().is_absolute());
        assert_eq!(find(OsStr::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn what_is_missing_and_what_is_no_program_are_told_apart() {
        for (command, status) in
            [("/no/such", 127), ("no-such-command", 127), ("", 127), ("/etc/passwd", 126), ("/", 126)]
        {
            assert_eq!(find(OsStr::new(command)).unwrap_err().status(), status, "{command}");
        }
    }
}
