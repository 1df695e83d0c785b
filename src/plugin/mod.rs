//! The source plugin for Falco, `libcreance.so`.
//!
//! It has no event source of its own: its events are Falco's system call events, and Falco's own rules see them. A wrong
//! event ends Falco, and so does any error of [`SourcePluginInstance::next_batch`] but a timeout; so what comes
//! from a tracer is counted and left out where it makes no sense. Nothing exclusive is taken before
//! [`SourcePlugin::open`]: on a reload Falco makes a second plugin for a trial while the first one works.

mod counters;
mod settings;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    ffi::{CStr, CString},
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use falco_plugin::{
    FailureReason,
    base::{Metric, Plugin},
    event::events::{EventToBytes, RawEvent},
    source::{EventBatch, EventInput, SourcePlugin, SourcePluginInstance},
    tables::TablesInput,
};

use self::{counters::Counters, settings::Settings, streams::Streams};
use crate::{falco::Batch, limits};

/// How long Falco is kept waiting for events.
const WAIT: Duration = Duration::from_millis(limits::CONSUMER_SLEEP_MS_MAX);

/// The plugin, which lives as long as Falco's configuration does.
pub(crate) struct Creance {
    settings: Settings,
    counters: Arc<Counters>,
}

impl Plugin for Creance {
    const NAME: &'static CStr = c"creance";
    const PLUGIN_VERSION: &'static CStr = VERSION;
    const DESCRIPTION: &'static CStr = c"System calls captured from user space by creance";
    const CONTACT: &'static CStr = c"the issues of the creance project";

    type ConfigType = String;

    fn new(_tables: Option<&TablesInput>, config: String) -> anyhow::Result<Self> {
        let settings = Settings::default().read(&config).context("creance: init_config")?;
        Ok(Self { settings, counters: Arc::default() })
    }

    fn get_metrics(&mut self) -> impl IntoIterator<Item = Metric> {
        self.counters.metrics()
    }
}

/// The version of the crate as a C string.
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

impl SourcePlugin for Creance {
    type Instance = Capture;

    const EVENT_SOURCE: &'static CStr = c"";
    const PLUGIN_ID: u32 = 0;

    type Event<'a> = RawEvent<'a>;

    fn open(&mut self, params: Option<&str>) -> anyhow::Result<Capture> {
        let settings = self.settings.read(params.unwrap_or_default()).context("creance: open_params")?;
        let streams = Streams::open(settings.link(), Arc::clone(&self.counters))
            .context("creance: making the thread that looks for tracers")?;
        log::info!("creance: looking for tracers in {}", settings.link().display());
        Ok(Capture { streams, batch: Batch::with_capacity(limits::PLUGIN_BATCH_BYTES) })
    }

    fn event_to_string(&mut self, event: &EventInput<RawEvent<'_>>) -> anyhow::Result<CString> {
        Ok(CString::new(format!("event of type {}", event.event()?.event_type))?)
    }
}

/// One capture, from `open` until Falco closes it.
pub(crate) struct Capture {
    streams: Streams,
    batch: Batch,
}

impl SourcePluginInstance for Capture {
    type Plugin = Creance;

    fn next_batch(&mut self, _plugin: &mut Creance, batch: &mut EventBatch) -> anyhow::Result<()> {
        let until = Instant::now() + WAIT;
        self.batch.clear();
        loop {
            self.streams.fill(&mut self.batch);
            let left = until.saturating_duration_since(Instant::now());
            if !self.batch.is_empty() {
                break;
            }
            if left.is_zero() {
                return Err(anyhow::Error::new(FailureReason::Timeout));
            }
            self.streams.wait(left);
        }
        batch.reserve(self.batch.len());
        for event in self.batch.events() {
            batch.add(Padded(event))?;
        }
        Ok(())
    }
}

/// An event with a byte behind it: Falco reads the family of a socket tuple even if the tuple is empty.
struct Padded<'a>(&'a [u8]);

impl EventToBytes for Padded<'_> {
    fn binary_size(&self) -> usize {
        self.0.len() + 1
    }

    fn write<W: Write>(&self, mut writer: W) -> io::Result<()> {
        writer.write_all(self.0)?;
        writer.write_all(&[0])
    }
}

/// What Falco looks up by name in the library.
#[cfg(not(test))]
mod exported {
    use falco_plugin::{plugin, source_plugin};

    use super::Creance;

    plugin!(Creance);
    source_plugin!(Creance);
}
