//! `creance install`: copies creance into a directory, mostly a volume that another container mounts; or writes files there
//! that came by the environment, which is how a task of ECS gets them from a parameter store.
//!
//! Each file is written under another name and then renamed, so that whoever looks finds the old one or the whole new one.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::limits;

/// The plugin, which is copied along if it lies beside the executable.
const PLUGIN: &str = "libcreance.so";

/// Copy creance, and its plugin if it lies beside it, into a directory; or write files there
#[derive(Debug, Args)]
pub(super) struct Install {
    /// Copy all that is in this directory instead
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,

    /// Write the value of an environment variable into a file of this name instead; may be given again
    #[arg(long, value_name = "NAME=VARIABLE", value_parser = TextFile::parse, conflicts_with = "from")]
    file: Vec<TextFile>,

    /// Where to: made if it is not there
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

/// A file whose text an environment variable has.
#[derive(Debug, Clone)]
struct TextFile {
    name: String,
    variable: String,
}

impl TextFile {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, variable) = text.split_once('=').ok_or("it has no =, as in rules.yaml=RULES")?;
        if matches!(name, "" | "." | "..") || name.contains('/') {
            return Err("before = there is no name of a file, without a directory".into());
        }
        if variable.is_empty() {
            return Err("after = there is no name of an environment variable".into());
        }
        Ok(Self { name: name.into(), variable: variable.into() })
    }

    /// Its text, as it is.
    fn text(&self) -> anyhow::Result<OsString> {
        env::var_os(&self.variable).with_context(|| {
            format!("there is no environment variable {}, as --file {} wants", self.variable, self.name)
        })
    }
}

impl Install {
    /// Copies, or writes.
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        fs::create_dir_all(&self.to).with_context(|| format!("making {}", self.to.display()))?;
        if !self.file.is_empty() {
            for file in &self.file {
                let text = file.text()?;
                replace(&self.to.join(&file.name), |new| fs::write(new, text.as_bytes()))?;
            }
        } else if let Some(from) = &self.from {
            let mut left = limits::INSTALL_ENTRIES_MAX;
            copy_directory(from, &self.to, &mut left)?;
        } else {
            let own = env::current_exe().context("finding the own executable")?;
            copy(&own, &self.to.join("creance"))?;
            let plugin = own.with_file_name(PLUGIN);
            if plugin.is_file() {
                copy(&plugin, &self.to.join(PLUGIN))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Copies what is in a directory, `left` entries at most.
fn copy_directory(from: &Path, to: &Path, left: &mut usize) -> anyhow::Result<()> {
    let reading = || format!("reading {}", from.display());
    for entry in fs::read_dir(from).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let Some(fewer) = left.checked_sub(1) else {
            bail!("{}: more than {} entries", from.display(), limits::INSTALL_ENTRIES_MAX);
        };
        *left = fewer;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().with_context(reading)?;
        if kind.is_dir() {
            let made = fs::create_dir(&target).or_else(|error| {
                if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
            });
            made.with_context(|| format!("making {}", target.display()))?;
            copy_directory(&path, &target, left)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&path).with_context(reading)?;
            replace(&target, |new| symlink(&link, new))?;
        } else {
            copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Copies a file with its mode.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    replace(to, |new| fs::copy(from, new).map(drop)).with_context(|| format!("copying {}", from.display()))
}

/// Puts what `make` makes in the place of a file.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".creance-new");
    let new = path.with_file_name(name);
    // One may be left of a copy that was cut short.
    let _ = fs::remove_file(&new);
    let made = make(&new).and_then(|()| fs::rename(&new, path));
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made.with_context(|| format!("writing {}", path.display()))
}
