//! How costs grow: of a stop by threads, processes and rules; of the ring by producers; of creance's memory and CPU time
//! by processes.
//!
//! Everything is made by turns, a round of all points before the next, so that what the machine does meanwhile meets them
//! all. A curve has the points that this machine can make; for each line that is missing a reason is told.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use creance::{
    overhead::figures::{Curve, Line, Point, Spread},
    ring::{Consumer, Poll, Producer, RecordBuffer},
    sys::shm::Memfd,
};
use tempfile::TempDir;

use crate::printed::printed;

/// The calls that strace is told to trace: those that creance traps by the rules, and those that start programs.
const STRACE_CALLS: &str = "trace=open,openat,openat2,execve,execveat";

/// Beside so many sleepers a stop may cost a hundred times more, so fewer are made.
const MANY: u32 = 1000;

/// Opens of a run, and beside many sleepers.
const OPENS: u32 = 5000;
const OPENS_FEW: u32 = 1000;

/// What is measured, and with what.
pub(crate) struct Scaling {
    /// The program `creance`.
    creance: PathBuf,
    /// The program of `tests/fixtures/stops.c`.
    fixture: PathBuf,
    /// What is called how: the title of a line, and the engine that it is of.
    engines: Vec<(String, String)>,
    /// The title of strace's line, and the program.
    strace: Option<(String, PathBuf)>,
    /// Runs of each point.
    rounds: u32,
    /// Fewer and smaller points.
    is_quick: bool,
}

/// The curves, and what is missing in them.
#[derive(Default)]
pub(crate) struct Scaled {
    pub(crate) curves: Vec<Curve>,
    pub(crate) skipped: Vec<String>,
}

/// All curves by their ids.
pub(crate) const IDS: [&str; 6] = [
    "stop-by-threads",
    "stop-by-processes",
    "stop-by-rules",
    "ring-by-producers",
    "memory-by-processes",
    "idle-cpu",
];

/// Runs of a point. Odd, so that the median is a run.
const ROUNDS: u32 = 7;
const ROUNDS_QUICK: u32 = 3;

impl Scaling {
    /// Both engines, and strace if it is in PATH, each under its own name.
    pub(crate) fn new(creance: &str, fixture: PathBuf, is_quick: bool) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let strace =
            env::split_paths(&path).map(|directory| directory.join("strace")).find(|path| path.is_file());
        Self {
            creance: creance.into(),
            fixture,
            engines: ["ptrace", "notify"].map(|engine| (engine.to_owned(), engine.to_owned())).to_vec(),
            strace: strace.map(|path| ("strace".to_owned(), path)),
            rounds: if is_quick { ROUNDS_QUICK } else { ROUNDS },
            is_quick,
        }
    }

    /// Measures the curves of these ids.
    pub(crate) fn measure(&self, ids: &[&str]) -> Result<Scaled> {
        let mut scaled = Scaled::default();
        for id in ids {
            eprintln!("{id}");
            let curve = match *id {
                "stop-by-threads" => self.stops(id, &BESIDE_THREADS, &mut scaled.skipped)?,
                "stop-by-processes" => self.stops(id, &BESIDE_PROCESSES, &mut scaled.skipped)?,
                "stop-by-rules" => self.stops(id, &WITH_RULES, &mut scaled.skipped)?,
                "ring-by-producers" => self.ring(id)?,
                "memory-by-processes" => self.memory(id, &mut scaled.skipped)?,
                _ => self.idle(id, &mut scaled.skipped)?,
            };
            scaled.curves.push(curve);
        }
        Ok(scaled)
    }

    fn points(&self, all: &[u32]) -> Vec<u32> {
        let most = if self.is_quick { 100 } else { u32::MAX };
        all.iter().copied().filter(|x| *x <= most).collect()
    }

    /// The ways to watch: a title, and the words before the work.
    fn tracers(&self, rules: &Path) -> Vec<(String, Vec<OsString>)> {
        let mut tracers: Vec<(String, Vec<OsString>)> = Vec::new();
        for (title, engine) in &self.engines {
            tracers.push((title.clone(), self.words(engine, rules)));
        }
        if let Some((title, strace)) = &self.strace {
            let flags = ["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", STRACE_CALLS, "--"];
            let words = [strace.into()].into_iter().chain(flags.map(Into::into)).collect();
            tracers.push((title.clone(), words));
        }
        tracers
    }

    fn words(&self, engine: &str, rules: &Path) -> Vec<OsString> {
        let flags = ["run", "--output", "null", "--engine", engine, "--rules"].map(OsString::from);
        let words = [self.creance.clone().into()].into_iter().chain(flags);
        words.chain([rules.into(), "--".into()]).collect()
    }

    /// What an open that triage drops costs more than natively, by what grows.
    fn stops(&self, id: &str, growth: &Growth, skipped: &mut Vec<String>) -> Result<Curve> {
        let directory = TempDir::new()?;
        let dropped = directory.path().join("dropped");
        fs::write(&dropped, "")?;
        let mut lines = Lines::default();
        for round in 0..self.rounds {
            for x in self.points(growth.points) {
                let rules = directory.path().join(format!("{x}.yaml"));
                fs::write(&rules, rules_on_paths(if growth.are_rules { x } else { 1 }))?;
                let count = if x >= MANY && !growth.are_rules { OPENS_FEW } else { OPENS };
                let work = |words: &[OsString]| {
                    let mut words = words.iter().cloned().chain([self.fixture.clone().into()]);
                    let mut command = Command::new(words.next().context("a program")?);
                    command.args(words).args([growth.work, &count.to_string()]);
                    command.arg(&dropped).arg(x.to_string());
                    Ok::<_, anyhow::Error>(printed(&mut command, "ns=")? / 1000.0 / f64::from(count))
                };
                let native = work(&[])?;
                for (title, words) in self.tracers(&rules) {
                    // What is impossible is so in every round: the first tells why.
                    match work(&words) {
                        Ok(us) => lines.add(&title, x, us - native),
                        Err(error) if round == 0 => skipped.push(format!("{id}, {title}, {x}: {error:#}")),
                        Err(_) => {}
                    }
                }
            }
        }
        Ok(lines.curve(id, growth.title, growth.x, "us that a dropped open costs more than natively"))
    }

    /// How many records a second come through the ring.
    fn ring(&self, id: &str) -> Result<Curve> {
        let mut lines = Lines::default();
        let records = if self.is_quick { 200_000 } else { 2_000_000 };
        for _ in 0..self.rounds {
            for producers in [1, 2, 4, 8] {
                let taken = transfer(producers, records)?;
                let millions = f64::from(records) / 1e6 / taken.as_secs_f64();
                lines.add("the ring, in a memfd", producers, millions);
            }
        }
        Ok(lines.curve(
            id,
            "the ring by producers",
            "threads that write records of 192 bytes",
            "million records/s",
        ))
    }

    /// What creance's processes hold while so many processes are watched, and what they may.
    fn memory(&self, id: &str, skipped: &mut Vec<String>) -> Result<Curve> {
        let mut lines = Lines::default();
        let points = self.points(&[10, 100, 1000]);
        self.beside(id, &points, skipped, |title, x, watched| {
            let (peak, shared) = watched.memory_kib()?;
            lines.add(&format!("{title}: peak, resident"), x, peak);
            if let Some(shared) = shared {
                lines.add(&format!("{title}: its share (PSS)"), x, shared);
            }
            Ok(())
        })?;
        for x in points {
            lines.add("the bound: 16 MiB and 2 KiB a process", x, 16.0 * 1024.0 + 2.0 * f64::from(x));
        }
        Ok(lines.curve(id, "memory of creance", "processes of the workload", "KiB"))
    }

    /// The CPU time of creance's processes while nothing happens.
    fn idle(&self, id: &str, skipped: &mut Vec<String>) -> Result<Curve> {
        let mut lines = Lines::default();
        let window = Duration::from_secs(if self.is_quick { 2 } else { 10 });
        self.beside(id, &self.points(&[1, 100]), skipped, |title, x, watched| {
            let before = watched.cpu_ns()?;
            thread::sleep(window);
            let ns = (watched.cpu_ns()? - before).max(0.0);
            lines.add(title, x, ns / 1e6 / window.as_secs_f64());
            Ok(())
        })?;
        Ok(lines.curve(
            id,
            "CPU of creance while all sleep",
            "processes of the workload",
            "ms of CPU a second",
        ))
    }

    /// Has each engine watch so many processes that sleep, and looks at it.
    fn beside(
        &self,
        id: &str,
        points: &[u32],
        skipped: &mut Vec<String>,
        mut look: impl FnMut(&str, u32, &Watched) -> Result<()>,
    ) -> Result<()> {
        let directory = TempDir::new()?;
        let rules = directory.path().join("rules.yaml");
        fs::write(&rules, rules_on_paths(1))?;
        for round in 0..self.rounds {
            for &x in points {
                for (title, engine) in &self.engines {
                    let seen = Watched::start(&self.words(engine, &rules), &self.fixture, x)
                        .and_then(|watched| look(title, x, &watched).and_then(|()| watched.end()));
                    match seen {
                        Err(error) if round == 0 => skipped.push(format!("{id}, {title}, {x}: {error:#}")),
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// What grows beside an open.
struct Growth {
    /// The work of the fixture.
    work: &'static str,
    title: &'static str,
    x: &'static str,
    points: &'static [u32],
    are_rules: bool,
}

const BESIDE_THREADS: Growth = Growth {
    work: "idle",
    title: "a stop beside sleeping threads",
    x: "threads that sleep",
    points: &[1, 10, 100, 1000, 5000],
    are_rules: false,
};

const BESIDE_PROCESSES: Growth = Growth {
    work: "crowd",
    title: "a stop beside sleeping processes",
    x: "processes that sleep",
    points: &[1, 10, 100, 1000],
    are_rules: false,
};

const WITH_RULES: Growth = Growth {
    work: "open",
    title: "a stop by rules",
    x: "rules, each on a path of its own",
    points: &[1, 10, 100, 1000],
    are_rules: true,
};

/// So many rules, none of which is about a path that is opened.
fn rules_on_paths(count: u32) -> String {
    let rule = |number: u32| {
        format!(
            "- rule: Path {number}\n  desc: A path of its own.\n  condition: evt.type in (open, openat, openat2) and \
             fd.name = /nonexistent/directory-{}/path-{number}\n  output: opened\n  priority: INFO\n",
            number % 50
        )
    };
    (0..count).map(rule).collect()
}

/// Lines while they are measured: runs by title and x.
#[derive(Default)]
struct Lines(Vec<(String, BTreeMap<u32, Vec<f64>>)>);

impl Lines {
    fn add(&mut self, title: &str, x: u32, run: f64) {
        let at = self.0.iter().position(|(known, _)| known == title).unwrap_or(self.0.len());
        if at == self.0.len() {
            self.0.push((title.to_owned(), BTreeMap::new()));
        }
        if let Some((_, points)) = self.0.get_mut(at) {
            points.entry(x).or_default().push(run);
        }
    }

    fn curve(self, id: &str, title: &str, x: &str, y: &str) -> Curve {
        let point = |(x, runs): (u32, Vec<f64>)| Some(Point { x: f64::from(x), y: Spread::of(&runs)? });
        let lines = self.0.into_iter();
        let lines = lines
            .map(|(title, points)| Line { title, points: points.into_iter().filter_map(point).collect() });
        let [id, title, x, y] = [id, title, x, y].map(str::to_owned);
        Curve { id, title, x, y, lines: lines.collect() }
    }
}

/// Sends records of 192 bytes from so many threads through a ring to this one.
fn transfer(producers: u32, count: u32) -> Result<Duration> {
    const BYTES: usize = 192;
    let memory = Arc::new(Memfd::create(1 << 20)?);
    let mut consumer = Consumer::attach(Arc::clone(&memory))?;
    let producer = Producer::new(memory);
    let mut record = RecordBuffer::new();
    let begin = Instant::now();
    thread::scope(|scope| {
        for number in 0..producers {
            let share = count / producers + u32::from(number < count % producers);
            let producer = &producer;
            scope.spawn(move || {
                let mut sent = 0;
                while sent < share {
                    match producer.reserve(BYTES) {
                        Ok(mut room) => {
                            room.copy_from_slice(&[1; BYTES]);
                            room.commit();
                            sent += 1;
                        }
                        // With fewer CPUs than threads the reader needs this one.
                        Err(_) => thread::yield_now(),
                    }
                }
            });
        }
        let mut received = 0;
        while received < count {
            match consumer.poll(&mut record) {
                Ok(Poll::Record) => received += 1,
                Ok(Poll::Empty | Poll::Closed) | Err(_) => thread::yield_now(),
            }
        }
    });
    Ok(begin.elapsed())
}

/// A workload of sleeping processes, and creance that watches it.
struct Watched {
    child: Child,
    /// The processes of creance.
    processes: Vec<u32>,
}

impl Watched {
    fn start(words: &[OsString], fixture: &Path, processes: u32) -> Result<Self> {
        let mut command = words.iter();
        let program = command.next().context("a program")?;
        let mut child = Command::new(program)
            .args(command)
            .arg(fixture)
            .args(["stay", &processes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output")?;
        BufReader::new(output).read_line(&mut line)?;
        let mut watched = Self { child, processes: Vec::new() };
        if line != "here\n" {
            let status = watched.child.wait()?;
            anyhow::bail!("ended with {status} before its processes were there");
        }
        watched.processes = programs(Path::new(program), watched.child.id())?;
        ensure!(!watched.processes.is_empty(), "no process of creance is found");
        Ok(watched)
    }

    /// The largest resident memory of all processes together, each of which counts what it shares; and the share of each,
    /// where it may be read.
    fn memory_kib(&self) -> Result<(f64, Option<f64>)> {
        let mut peak = 0.0;
        let mut shares = Some(0.0);
        for pid in &self.processes {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            peak += kib(&status, "VmHWM:").context("no VmHWM in /proc/PID/status")?;
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            shares = shares.zip(kib(&rollup, "Pss:")).map(|(all, share)| all + share);
        }
        Ok((peak, shares))
    }

    /// CPU time of all threads (Documentation/scheduler/sched-stats.rst), in ns.
    fn cpu_ns(&self) -> Result<f64> {
        let mut all = 0.0;
        for pid in &self.processes {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may be gone.
                let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
                all += text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
            }
        }
        Ok(all)
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "ended with {status}");
        Ok(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Ends the workload if a look has failed.
        drop(self.child.stdin.take());
        // It is waited for here, or has been before.
        let _ = self.child.wait();
    }
}

/// A field of a file of /proc that is in KiB.
fn kib(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// This process and its descendants, as far as they run this program.
fn programs(program: &Path, first: u32) -> Result<Vec<u32>> {
    let program = fs::canonicalize(program)?;
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parents
            .extend(parent.and_then(|parent| parent.trim().parse::<u32>().ok()).map(|parent| (pid, parent)));
    }
    let is_descendant = |pid: u32| {
        let mut at = pid;
        while at != first {
            match parents.get(&at) {
                Some(parent) if *parent != at => at = *parent,
                _ => return false,
            }
        }
        true
    };
    let runs = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    Ok(parents.keys().copied().filter(|pid| is_descendant(*pid)).filter(runs).collect())
}
