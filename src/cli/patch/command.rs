//! The command itself: flags and files, the difference, and what is said on standard error.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use similar::TextDiff;

use super::{Patched, Pattern, Refusal, Request, pods, task_definition};
use crate::{
    cli::{print, printable, say},
    limits::YAML_BYTES_MAX,
};

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// A task definition of ECS, in JSON, also as `aws ecs describe-task-definition` gives it
    Taskdef,
    /// Pods of Kubernetes and what makes them, in YAML
    Pod,
}

/// Add creance to a task definition or a pod
#[derive(Debug, Args)]
#[command(after_help = "\
The file with creance in it goes to standard output; with -o or --in-place into a file, and the difference to standard
output. A file that has creance in it already stays as it is. The exit status is 2 if the file or a flag is not right.
What is added for which pattern, and examples: docs/patch.md.")]
pub(in crate::cli) struct Patch {
    /// What the file is
    #[arg(value_name = "taskdef|pod", hide_possible_values = true)]
    target: Target,

    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How creance is added
    #[arg(short, long, value_enum, default_value = "mountedbinaries")]
    pattern: Pattern,

    /// The container of the workload, where there are several
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,

    /// Only the object of this name, of a file of several
    #[arg(long, value_name = "NAME")]
    object: Option<String>,

    /// What stands before the names of creance's images, as in registry.example/
    #[arg(long, value_name = "PREFIX")]
    image_prefix: Option<String>,

    /// Falco's image, with creance's plugin in it
    #[arg(long, value_name = "IMAGE")]
    falco_image: Option<String>,

    /// The image that brings creance, for mountedbinaries
    #[arg(long, value_name = "IMAGE")]
    binaries_image: Option<String>,

    /// The image that attaches, for sidecarattach
    #[arg(long, value_name = "IMAGE")]
    attach_image: Option<String>,

    /// The workload's image with creance in it, for the patterns that want one
    #[arg(long, value_name = "IMAGE")]
    workload_image: Option<String>,

    /// The entry point of the workload's image, if the file has none; '' if the image has none either
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    entrypoint: Option<String>,

    /// The command of the workload's image, likewise
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    command: Option<String>,

    /// The name of the program to attach to, for sidecarattach
    #[arg(long, value_name = "NAME")]
    program: Option<String>,

    /// Write there
    #[arg(short, long, value_name = "FILE", conflicts_with = "in_place")]
    output: Option<PathBuf>,

    /// Write into the file itself
    #[arg(short, long)]
    in_place: bool,

    /// Show the difference, and nothing else
    #[arg(short, long)]
    diff: bool,
}

/// A file or flags that cannot be worked with: bad input.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct Refused(String);

impl Patch {
    /// Patches; gives the exit status.
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        let is_standard = self.file.as_os_str() == "-";
        let name = if is_standard { "standard input".into() } else { self.file.display().to_string() };
        if is_standard && self.in_place {
            return Err(Refused("--in-place: standard input is no file to write into".into()).into());
        }
        let request = self.request()?;
        let text = self.read().map_err(|error| Refused(format!("{name}: {error}")))?;
        let patched = match self.target {
            Target::Taskdef => task_definition(&text, &request),
            Target::Pod => pods(&text, &request),
        };
        let patched = patched.map_err(|refusal| Refused(printable(&told(&name, &text, &refusal))))?;
        for note in &patched.notes {
            say(format_args!("note: {}", printable(note)));
        }
        if !patched.is_changed {
            say(format_args!("{name}: it has {} in it already: nothing is changed", self.pattern.name()));
        }
        self.write(&name, &text, &patched)?;
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self) -> Result<Request, Refused> {
        let words = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match shlex::split(text) {
                Some(words) => Ok(Some(words)),
                None => {
                    Err(Refused(format!("--{flag}: a quote does not end, or a backslash is the last thing")))
                }
            },
        };
        Ok(Request {
            pattern: self.pattern,
            container: self.container.clone(),
            object: self.object.clone(),
            image_prefix: self.image_prefix.clone(),
            falco_image: self.falco_image.clone(),
            binaries_image: self.binaries_image.clone(),
            attach_image: self.attach_image.clone(),
            workload_image: self.workload_image.clone(),
            entrypoint: words("entrypoint", &self.entrypoint)?,
            command: words("command", &self.command)?,
            program: self.program.clone(),
        })
    }

    /// The text of the file, no more of it than is taken anyway.
    fn read(&self) -> io::Result<String> {
        let limit = u64::try_from(YAML_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let mut text = String::new();
        if self.file.as_os_str() == "-" {
            io::stdin().lock().take(limit).read_to_string(&mut text)?;
        } else {
            fs::File::open(&self.file)?.take(limit).read_to_string(&mut text)?;
        }
        Ok(text)
    }

    fn write(&self, name: &str, before: &str, patched: &Patched) -> anyhow::Result<()> {
        let to = if self.in_place { Some(&self.file) } else { self.output.as_ref() };
        if let Some(path) = to {
            // A file that stays as it is is not touched.
            if !self.in_place || patched.is_changed {
                replace(path, &patched.text).with_context(|| format!("writing {}", path.display()))?;
            }
        } else if !self.diff {
            return print(&patched.text);
        }
        print(&difference(name, before, &patched.text))
    }
}

/// A refusal with its place.
fn told(name: &str, text: &str, refusal: &Refusal) -> String {
    let Some(before) = refusal.at.and_then(|at| text.get(..at)) else {
        return format!("{name}: {refusal}");
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{name}:{line}:{column}: {refusal}")
}

/// The difference in the unified format, empty if there is none.
fn difference(name: &str, before: &str, after: &str) -> String {
    let to = format!("{name} with creance");
    TextDiff::from_lines(before, after).unified_diff().header(name, &to).to_string()
}

/// Puts a text in the place of a file, whole or not at all, with the mode of the old one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // What a link leads to is what is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Some(old) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else {
        return fs::write(&path, text);
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".creance-new");
    let new = path.with_file_name(name);
    let written = fs::write(&new, text)
        .and_then(|()| fs::set_permissions(&new, old.permissions()))
        .and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
