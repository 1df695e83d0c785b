//! How many of all calls each stage of the funnel lets through, for real programs: one command that prints the tables of
//! `docs/benchmarks.md`.
//!
//! ```text
//! CREANCE_FALCO_RULES='stable.yaml incubating.yaml sandbox.yaml' cargo bench --bench traprate [-- NAME...]
//! cargo bench --bench traprate -- --rules FILE... [-- NAME...]
//! ```
//!
//! Every call of a workload (`tests/support/workloads`) is recorded, and each record is judged as the engine would have
//! judged the call: first by the rules of the first file alone, then by those of all files. A server is watched without
//! its load. Nothing is timed.

#[path = "../tests/soundness/capture.rs"]
mod capture;
#[path = "../tests/soundness/sieve.rs"]
mod sieve;

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use creance::{
    abi::{self, Abi},
    decode::Event,
    engine::{Verdict, Wanted},
    event::{Record, RecordKind},
    interest::{Interest, NativeCalls},
    rules::RuleSet,
    sink::Sink,
    sys::signal::PidFd,
};
use tempfile::TempDir;

/// The calls that libsinsp asks for whatever the rules say, to know what the descriptors and the processes are: its
/// `sinsp_state_sc_set` (userspace/libsinsp/events/sinsp_events_ppm_sc.cpp, libs of Falco 0.44). Falco's live engines
/// trap these and the calls of the rules.
const STATE_CALLS: &[&str] = &[
    "open",
    "close",
    "pipe",
    "dup",
    "dup2",
    "socket",
    "connect",
    "accept",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "shutdown",
    "bind",
    "socketpair",
    "getsockopt",
    "clone",
    "fork",
    "vfork",
    "execve",
    "fcntl",
    "chdir",
    "fchdir",
    "creat",
    "setuid",
    "setgid",
    "setsid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "capset",
    "prctl",
    "setrlimit",
    "chroot",
    "mount",
    "umount2",
    "epoll_create",
    "inotify_init",
    "openat",
    "signalfd",
    "timerfd_create",
    "eventfd",
    "accept4",
    "signalfd4",
    "eventfd2",
    "epoll_create1",
    "dup3",
    "pipe2",
    "inotify_init1",
    "recvmmsg",
    "prlimit64",
    "open_by_handle_at",
    "sendmmsg",
    "memfd_create",
    "execveat",
    "userfaultfd",
    "io_uring_setup",
    "pidfd_open",
    "clone3",
    "close_range",
    "openat2",
    "pidfd_getfd",
];

/// How a workload is started.
const ENVIRONMENT: [&str; 4] =
    ["/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"];

/// Status of `workloads` where a program is missing, and where a workload is no server.
const MISSING: i32 = 77;
const NO_LOAD: i32 = 76;

/// The workloads of the table.
const WORKLOADS: [&str; 8] =
    ["nginx-static", "nginx-proxy", "redis", "postgres", "shell-loop", "gcc", "grep", "python-http"];

fn main() -> Result<()> {
    let given = Given::read()?;
    let mut sets =
        vec![Rules::read("the rules of the first file", given.rules.get(..1).unwrap_or_default())?];
    if given.rules.len() > 1 {
        sets.push(Rules::read("the rules of all files", &given.rules)?);
    }
    let mut rows: Vec<(String, Result<Counted, String>)> = Vec::new();
    for name in &given.workloads {
        eprintln!("{name}");
        rows.push((name.clone(), measure(name, &sets)?));
    }
    for (at, set) in sets.iter().enumerate() {
        println!("{}: {} enabled, about {} calls\n", set.title, set.enabled, set.calls);
        println!("| workload | calls | Falco's live set | by number | after registers | after triage |");
        println!("|---|---|---|---|---|---|");
        for (name, row) in &rows {
            match row {
                Ok(counted) => println!("| {name} | {} |", counted.cells(at).join(" | ")),
                Err(reason) => println!("| {name} | skipped: {reason} | | | | |"),
            }
        }
        println!();
    }
    Ok(())
}

/// What the command line and the environment ask for.
struct Given {
    rules: Vec<PathBuf>,
    workloads: Vec<String>,
}

impl Given {
    fn read() -> Result<Self> {
        let mut given = Self { rules: Vec::new(), workloads: Vec::new() };
        let mut is_rule = false;
        for word in env::args().skip(1) {
            match word.as_str() {
                "--rules" => is_rule = true,
                "--" => is_rule = false,
                // What cargo tells every bench.
                "--bench" => {}
                _ if is_rule => given.rules.push(word.into()),
                _ => given.workloads.push(word),
            }
        }
        if given.rules.is_empty() {
            let paths = env::var("CREANCE_FALCO_RULES").unwrap_or_default();
            given.rules = paths.split_whitespace().map(PathBuf::from).collect();
        }
        ensure!(!given.rules.is_empty(), "no rules: give --rules FILE..., or set CREANCE_FALCO_RULES");
        if given.workloads.is_empty() {
            given.workloads = WORKLOADS.map(str::to_owned).to_vec();
        }
        Ok(given)
    }
}

/// A set of rules, as Falco loads it.
struct Rules {
    title: &'static str,
    enabled: usize,
    calls: usize,
    funnel: Wanted,
    /// The names of the calls that a live engine of Falco would trap.
    live: BTreeSet<&'static str>,
}

impl Rules {
    fn read(title: &'static str, paths: &[PathBuf]) -> Result<Self> {
        let set = RuleSet::read(paths)?;
        if let Some(error) = set.diagnostics.iter().find(|_| set.has_errors()) {
            bail!("{}", error.display(&set.sources));
        }
        let funnel = sieve::funnel(&set.rules);
        let NativeCalls::Only(calls) = funnel.interest().native_calls(Abi::NATIVE) else {
            bail!("all calls")
        };
        let names = calls.iter().filter_map(|(number, _)| abi::number_name(Abi::NATIVE, *number));
        let live = names.chain(STATE_CALLS.iter().copied()).collect();
        let enabled = set.rules.iter().filter(|rule| rule.is_enabled).count();
        let calls = calls.len();
        Ok(Self { title, enabled, calls, live, funnel })
    }
}

/// What became of the calls of one workload.
struct Counted {
    calls: u64,
    /// By set of rules: in the live set, by number, after registers, after triage.
    passed: Vec<[u64; 4]>,
}

impl Counted {
    fn cells(&self, set: usize) -> Vec<String> {
        let share = |count: u64| {
            let hundredths = u128::from(count) * 10_000 / u128::from(self.calls.max(1));
            format!("{}.{:02} %", hundredths / 100, hundredths % 100)
        };
        let passed = self.passed.get(set).copied().unwrap_or_default();
        std::iter::once(self.calls.to_string()).chain(passed.map(share)).collect()
    }
}

/// Counts what is decoded.
struct Counting<'a> {
    sets: &'a [Rules],
    counted: Counted,
    names: sieve::Names,
}

impl Sink for Counting<'_> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        let record = event.record();
        self.names.learn(record);
        if matches!(record.kind(), RecordKind::Syscall | RecordKind::Clone | RecordKind::Exec) {
            self.counted.calls += 1;
            for (set, passed) in self.sets.iter().zip(&mut self.counted.passed) {
                for (count, is_passed) in passed.iter_mut().zip(set.passes(&self.names, record)) {
                    *count += u64::from(is_passed);
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Rules {
    /// Whether the call is in the live set, and how far it comes in the funnel.
    fn passes(&self, names: &sieve::Names, record: &Record<'_>) -> [bool; 4] {
        let name = abi::number_name(record.abi(), record.header().number);
        let verdict = match (record.kind(), sieve::judge(&self.funnel, names, record)) {
            // What its registers and its memory held is not in the record of an exec.
            (RecordKind::Exec, Verdict::RegistersUnwanted | Verdict::Dropped) => Verdict::Kept,
            (_, verdict) => verdict,
        };
        [
            name.is_some_and(|name| self.live.contains(name)),
            verdict > Verdict::NumberUnwanted,
            verdict > Verdict::RegistersUnwanted,
            verdict > Verdict::Dropped,
        ]
    }
}

/// Runs a workload; the inner error is why it is skipped.
fn measure(name: &str, sets: &[Rules]) -> Result<Result<Counted, String>> {
    let directory = TempDir::new()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    let prepared = workloads("prepare", name, directory.path())?;
    if prepared.status.code() == Some(MISSING) {
        return Ok(Err(String::from_utf8_lossy(&prepared.stderr).trim().to_owned()));
    }
    ensure!(prepared.status.success(), "preparing {name}: {}", String::from_utf8_lossy(&prepared.stderr));
    // An environment of its own: what cargo adds for libraries would make every program look for them in vain.
    let mut command: Vec<OsString> = ENVIRONMENT.map(OsString::from).to_vec();
    command.extend(["/bin/bash".into(), script().into(), "run".into(), name.into(), directory.path().into()]);
    let counted = Counted { calls: 0, passed: vec![[0; 4]; sets.len()] };
    let mut counting = Counting { sets, counted, names: sieve::Names::default() };
    let mut loading = None;
    let (name, path) = (name.to_owned(), directory.path().to_owned());
    capture::capture(&command, Wanted::new(Interest::all()), &mut counting, |root| {
        // Opened before it runs: the number cannot have been given to another process.
        let server = PidFd::open(root);
        loading = Some(thread::spawn(move || -> Result<()> {
            let done = workloads("load", &name, &path)?;
            if done.status.code() == Some(NO_LOAD) {
                return Ok(());
            }
            // Whatever became of the load, the server has to end.
            server?.send(libc::SIGTERM)?;
            ensure!(done.status.success(), "loading {name}: {}", String::from_utf8_lossy(&done.stderr));
            Ok(())
        }));
    })?;
    let loaded = loading.context("the workload has started")?.join();
    loaded.ok().context("the thread of the load panicked")??;
    Ok(Ok(counting.counted))
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/workloads")
}

fn workloads(verb: &str, name: &str, directory: &Path) -> Result<Output> {
    let mut command = Command::new(script());
    command.args([verb, name]).arg(directory).stdin(Stdio::null());
    command.output().with_context(|| format!("starting {command:?}"))
}
