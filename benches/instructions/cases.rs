//! The hot paths whose instructions are counted, each as something that can be done any number of times.

use std::{hint::black_box, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use creance::{
    abi::{self, Abi},
    engine::{FullRing, Recorder},
    event::CaptureBuffer,
    falco::Batch,
    interest::Funnel,
    limits,
    ring::{Heap, Presence, Producer},
    rules::RuleSet,
    triage::{CallMemory, NameHits, Triage},
};

use crate::shapes::{Shape, decoder, parsed, translator};

/// What warms the caches of the code before anything is counted: the first time, functions are looked up, CPUs asked for
/// what they can do, and maps made.
const WARM_UP: u64 = 64;

/// All cases, by the parts of the way of a record.
pub(crate) const NAMES: [&str; 13] = [
    "encode open",
    "encode connect",
    "encode exec",
    "triage absolute dropped",
    "triage relative dropped",
    "triage kept",
    "triage mix",
    "decode open",
    "decode connect",
    "decode exec",
    "translate open",
    "translate connect",
    "translate exec",
];

/// Does what this case is about so many times, after a warm-up that is always the same.
pub(crate) fn run(name: &str, count: u64) -> Result<()> {
    let (part, kind) = name.split_once(' ').context("a case has two words")?;
    match part {
        "encode" => encode(&shape(kind)?, count),
        "triage" => triage(kind, count),
        "decode" => decode(&shape(kind)?, count),
        _ => translate(&shape(kind)?, count),
    }
}

fn shape(kind: &str) -> Result<Shape> {
    Shape::all().into_iter().find(|shape| shape.name == kind).with_context(|| format!("no record of {kind}"))
}

/// Captures into the thread's buffer, and the record into the ring. Nobody reads: the ring has room for all.
fn encode(shape: &Shape, count: u64) -> Result<()> {
    let memory = Heap::new(8 * limits::RING_BYTES_DEFAULT).context("a size of a ring")?;
    let full_ring = FullRing { hold_max: Duration::ZERO, presence: Arc::new(Presence::new(true)) };
    let mut recorder = Recorder::new(Producer::new(Arc::new(memory)), 1, full_ring);
    let mut buffer = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
    for _ in 0..WARM_UP + count {
        shape.fill(&mut buffer);
        let is_written = recorder.record(black_box(&shape.header), &buffer);
        ensure!(is_written, "the ring is full");
    }
    Ok(())
}

/// Rules of the kinds that Falco's own are of: lists of names, directories, beginnings, ends, words within and patterns.
const RULES: &str = r#"
- list: secret_names
  items: [/etc/shadow, /etc/sudoers, /etc/pam.conf, /etc/security/pwquality.conf, /root/.netrc, /root/.pgpass]
- list: key_directories
  items: [/root/.ssh, /etc/ssh, /var/lib/keys]
- macro: open_read
  condition: (evt.type in (open, openat, openat2) and evt.is_open_read = true and fd.typechar = 'f')
- macro: open_write
  condition: (evt.type in (open, openat, openat2) and evt.is_open_write = true and fd.typechar = 'f')
- rule: Secret read
  desc: A secret is read by a program that is not trusted.
  condition: open_read and (fd.name in (secret_names) or fd.directory in (key_directories)) and not proc.name in (sshd, sudo)
  output: read %fd.name
  priority: WARNING
- rule: Sudoers read
  desc: A file of sudo is read.
  condition: open_read and (fd.name startswith /etc/sudoers.d/ or fd.name startswith /etc/pam.d/)
  output: read %fd.name
  priority: WARNING
- rule: Binary written
  desc: A program is written.
  condition: open_write and (fd.directory in (/bin, /sbin, /usr/bin, /usr/sbin, /boot) or fd.name startswith /usr/local/bin/)
  output: written %fd.name
  priority: ERROR
- rule: History read
  desc: The history of a shell is opened.
  condition: open_read and (fd.name endswith _history or fd.name contains /.aws/ or fd.name glob "/home/*/.ssh/*")
  output: read %fd.name
  priority: NOTICE
- rule: Released memory
  desc: A process looks into another.
  condition: open_read and fd.name startswith /proc/ and (fd.name endswith /environ or fd.name endswith /mem)
  output: read %fd.name
  priority: NOTICE
"#;

/// Where relative paths start from.
const BASE: &[u8] = b"/srv/app/releases/42";

const ABSOLUTE: &[&str] = &["/usr/lib/x86_64-linux-gnu/libselinux.so.1"];
const RELATIVE: &[&str] = &["static/css/main.css"];
const KEPT: &[&str] = &["/etc/shadow"];
const MIX: &[&str] = &[
    "/etc/ld.so.cache",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/proc/self/maps",
    "/usr/lib/python3.13/encodings/__pycache__/utf_8.cpython-313.pyc",
    "/dev/null",
    "../include/config.h",
    "/home/alice/.ssh/id_rsa",
    "/var/lib/postgresql/16/main/base/16384/2619",
];

struct Text(&'static str);

impl CallMemory for Text {
    fn text(&mut self, _argument: u8) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }

    fn base(&mut self, _argument: u8) -> Option<&[u8]> {
        Some(BASE)
    }

    fn bytes(&mut self, _argument: u8) -> Option<&[u8]> {
        None
    }

    fn name(&mut self) -> Option<NameHits> {
        None
    }
}

/// The decision about the path of a read-only open, from rules to matcher as in earnest. A time of the mix is all its paths.
fn triage(kind: &str, count: u64) -> Result<()> {
    let (paths, kept) = match kind {
        "absolute dropped" => (ABSOLUTE, 0),
        "relative dropped" => (RELATIVE, 0),
        "kept" => (KEPT, 1),
        _ => (MIX, 1),
    };
    let rules = RuleSet::parse(vec![(PathBuf::from("rules.yaml"), RULES.to_owned())]);
    ensure!(!rules.has_errors(), "{:?}", rules.diagnostics);
    let triage = Triage::compile(&Funnel::of_rules(&rules.rules).interest);
    let openat = abi::number(Abi::NATIVE, "openat").context("every ABI has it")?;
    // Read-only, close-on-exec.
    let arguments = [u64::MAX, 0x7ffd_0000, 0o2_000_000, 0, 0, 0];
    for _ in 0..WARM_UP + count {
        let are_kept = paths.iter().filter(|path| {
            triage.is_kept(Abi::NATIVE, openat, black_box(&arguments), &mut Text(black_box(path)))
        });
        let found = are_kept.count();
        ensure!(found == kept, "{found} paths of {kind} are kept");
    }
    Ok(())
}

/// Bytes to an event, by a decoder that knows the process.
fn decode(shape: &Shape, count: u64) -> Result<()> {
    let bytes = bytes(shape);
    let mut decoder = decoder();
    for _ in 0..WARM_UP + count {
        black_box(decoder.decode(&parsed(&bytes)).arguments().len());
    }
    Ok(())
}

/// Bytes to an event in Falco's layout.
fn translate(shape: &Shape, count: u64) -> Result<()> {
    let bytes = bytes(shape);
    let mut translator = translator();
    let mut batch = Batch::with_capacity(limits::PLUGIN_BATCH_BYTES);
    for _ in 0..WARM_UP + count {
        if batch.is_full() {
            batch.clear();
        }
        translator.translate(&parsed(&bytes), &mut batch);
        black_box(batch.len());
    }
    ensure!(translator.events_refused() == 0, "{:?}", translator.last_error());
    Ok(())
}

fn bytes(shape: &Shape) -> Vec<u8> {
    let mut buffer = CaptureBuffer::with_capacity(limits::RECORD_BYTES_MAX);
    let mut target = vec![0; limits::RECORD_BYTES_MAX];
    shape.encode(&mut buffer, &mut target).to_vec()
}
