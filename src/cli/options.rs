//! What `creance run` and `creance attach` share: what is captured, and where it goes.

use std::{
    env,
    fs::File,
    io::{self, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{
    rules,
    run::{UsageError, Watch},
    say, stats,
};
use crate::{
    container::{self, ContainerIdentity},
    engine::Wanted,
    interest::{Funnel, Interest},
    limits, link,
    pipeline::{Link, Report},
    rules::ExpandedRule,
    sink::{FalcoEvents, Json, Null, Sink, Text},
};

/// What is captured, and where it goes.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// How events are written
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,

    /// Write events to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// Capture these calls only, by name: openat,connect (default: nearly all that Falco's stable rules react to, and more)
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "all")]
    syscalls: Vec<String>,

    /// Capture every call; with --rules, mark those that no rule can match
    #[arg(long)]
    pub(super) all: bool,

    /// Capture what these Falco rules can react to: a rule file, or a directory of them; may be given again
    #[arg(short, long, value_name = "FILE|DIR", conflicts_with_all = ["syscalls", "falco_config"])]
    rules: Vec<PathBuf>,

    /// Capture what the rule files can react to that this falco.yaml names
    #[arg(long, value_name = "FILE", conflicts_with = "syscalls")]
    falco_config: Option<PathBuf>,

    /// Offer the events to Falco in this directory, instead of writing them (default: /run/creance, else
    /// $XDG_RUNTIME_DIR/creance; without DIR write -- before CMD)
    #[arg(long, value_name = "DIR", num_args = 0..=1, conflicts_with_all = ["output", "output_file"])]
    pub(super) link: Option<Option<PathBuf>>,

    /// What happens when the ring is full: wait for room within a bound, or drop events at once
    #[arg(long, value_enum, default_value_t = OnFull::Block, value_name = "POLICY")]
    on_full: OnFull,

    /// Hold one stop of the workload for at most so many milliseconds when the ring is full
    #[arg(long, value_name = "MS", default_value_t = limits::FULL_RING_HOLD_MS_MAX,
        value_parser = clap::value_parser!(u64).range(..=limits::HOLD_MS_MAX))]
    hold_max: u64,

    /// Size of the ring: a power of two
    #[arg(long, value_name = "BYTES", default_value_t = limits::RING_BYTES_DEFAULT)]
    pub(super) ring_bytes: usize,

    /// The container that Falco is told of (default: found from ECS, Docker, containerd or the control group)
    #[arg(long, value_name = "ID", value_parser = container::parse_id)]
    container_id: Option<String>,

    /// Its name
    #[arg(long, value_name = "NAME", value_parser = container::parse_name)]
    container_name: Option<String>,

    /// Its image
    #[arg(long, value_name = "IMAGE", value_parser = container::parse_image)]
    container_image: Option<String>,

    /// Print statistics to standard error at the end
    #[arg(long)]
    stats: bool,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One readable line per event
    Text,
    /// One JSON object a line (docs/output.md)
    Json,
    /// Events in Falco's own layout, one after the other: what its engine reads
    Falco,
    /// Nothing: only the statistics
    Null,
}

/// What a full ring means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFull {
    /// A stop waits for room, for --hold-max at most; then events are dropped and counted
    Block,
    /// Events are dropped and counted at once
    Drop,
}

impl Options {
    /// How long one stop may be held for room in the ring.
    pub(super) fn hold_max(&self) -> Duration {
        match self.on_full {
            OnFull::Block => Duration::from_millis(self.hold_max),
            OnFull::Drop => Duration::ZERO,
        }
    }

    /// Refuses a ring of a size that cannot be.
    pub(super) fn check_ring(&self) -> Result<(), UsageError> {
        if limits::is_ring_bytes(self.ring_bytes) {
            Ok(())
        } else {
            Err(UsageError::RingBytes(self.ring_bytes))
        }
    }

    /// Says at the end what went wrong without stopping the workload, and the statistics if they are wanted.
    pub(super) fn tell_end(&self, report: &Report, watch: &Watch, is_audit: bool) {
        report_trouble(report);
        if self.stats {
            // A closed standard error is no reason to change the exit status.
            let _ = io::stderr().write_all(stats::render(report, watch, is_audit).as_bytes());
        }
    }

    pub(super) fn open_link(&self) -> anyhow::Result<Link> {
        let given = self.link.as_ref().and_then(Option::as_deref);
        // `--link CMD` would make a directory of the command's name.
        if let Some(name) = given.filter(|path| !path.as_os_str().as_bytes().contains(&b'/')) {
            return Err(UsageError::LinkName(name.to_path_buf()).into());
        }
        let directory = link::directory(given).map_err(UsageError::Link)?;
        Ok(Link::open(&directory, self.ring_bytes, self.container())?)
    }

    fn container(&self) -> ContainerIdentity {
        let given = ContainerIdentity {
            id: self.container_id.clone(),
            name: self.container_name.clone(),
            image: self.container_image.clone(),
        };
        let found = container::find(&given);
        for warning in &found.warnings {
            say(format_args!("{warning}"));
        }
        found.identity
    }

    pub(super) fn wanted(&self) -> anyhow::Result<Wanted> {
        if self.falco_config.is_some() || !self.rules.is_empty() {
            let interest = self.rule_interest()?;
            return Ok(if self.all { Wanted::audit(interest) } else { Wanted::new(interest) });
        }
        Ok(Wanted::new(if self.all {
            Interest::all()
        } else if self.syscalls.is_empty() {
            Interest::built_in()
        } else {
            Interest::of_names(&self.syscalls).map_err(UsageError::UnknownCall)?
        }))
    }

    /// What the given rules can react to. What is wrong with them is said on standard error.
    fn rule_interest(&self) -> anyhow::Result<Interest> {
        let set = rules::read(&self.rules, self.falco_config.as_deref())?;
        let errors = rules::tell_errors(&set);
        if errors > 0 {
            return Err(UsageError::RuleErrors { errors }.into());
        }
        if !set.rules.iter().any(ExpandedRule::looks_at_calls) {
            say(format_args!("no rule is enabled that looks at system calls"));
        }
        let funnel = Funnel::of_rules(&set.rules);
        match set.diagnostics.len() + funnel.warnings.len() {
            0 => {}
            1 => say(format_args!("1 warning about the rules: creance rules check shows it")),
            warnings => {
                say(format_args!("{warnings} warnings about the rules: creance rules check shows them"))
            }
        }
        Ok(funnel.interest)
    }

    pub(super) fn sink(&self, is_resumed: bool) -> Result<Box<dyn Sink>, UsageError> {
        let stderr = io::stderr();
        let is_colourful = self.output_file.is_none()
            && stderr.is_terminal()
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let writer: Box<dyn Write> = match &self.output_file {
            Some(path) => {
                let error = |source| UsageError::OutputFile { path: path.clone(), source };
                let mut options = File::options();
                // What the engine before this one has written stays.
                options.create(true).write(true).truncate(!is_resumed).append(is_resumed);
                let mut file = options.open(path).map_err(error)?;
                if is_resumed && self.output != Output::Falco && has_open_line(path) {
                    file.write_all(b"\n").map_err(error)?;
                }
                Box::new(BufWriter::new(file))
            }
            None => Box::new(BufWriter::new(stderr)),
        };
        Ok(match self.output {
            Output::Text => Box::new(Text::new(writer, is_colourful)),
            Output::Json => Box::new(Json::new(writer)),
            Output::Falco => {
                let container = self.container();
                Box::new(FalcoEvents::new(writer, std::process::id(), container.id.as_deref()))
            }
            Output::Null => Box::new(Null),
        })
    }
}

/// Whether a file ends in the middle of a line, as an engine leaves it that was killed. Of what is no file it is not asked.
fn has_open_line(path: &Path) -> bool {
    let last = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last).map(|()| last)
    };
    path.is_file() && last().is_ok_and(|last: [u8; 1]| last != *b"\n")
}

/// Says what went wrong without stopping the workload.
fn report_trouble(report: &Report) {
    let lost = report.outcome.recorded.records_lost;
    if lost > 0 {
        say(format_args!("{lost} records were lost because events were not taken fast enough"));
    }
    if report.records_unread > 0 {
        say(format_args!("{} records were not read by any consumer", report.records_unread));
    }
    let Some(consumed) = &report.consumed else { return };
    if let Some(error) = &consumed.sink_error {
        say(format_args!("{} events were not written: {error}", consumed.counters.sink_errors));
    }
    if consumed.counters.decode_errors > 0 {
        say(format_args!(
            "{} records could not be decoded: please report this",
            consumed.counters.decode_errors
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_at_the_end_of_a_file_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, expected) in [("", false), ("{}\n", false), ("{}\n{", true), ("\n", false), ("{}", true)] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(has_open_line(file.path()), expected, "{text:?}");
        }
        assert!(!has_open_line(Path::new("/dev/null")) && !has_open_line(Path::new("/no/such/file")));
    }
}
