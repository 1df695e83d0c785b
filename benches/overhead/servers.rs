//! Servers under load, over the loopback interface. The server alone is watched, not what loads it. Each ends with its run, by
//! its process.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use creance::{
    overhead::{
        latency,
        runs::{self, Ended, Output, Running},
        turns::{Measured, Way},
    },
    sys::{Pid, signal::PidFd},
};
use hdrhistogram::Histogram;

use crate::need;

/// How servers are made ready and started is the same in tests and benchmarks.
const WORKLOADS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/workloads");

/// Longest run of a server, and of what loads it.
const RUN_MAX: Duration = Duration::from_secs(60);

/// How long a server may take until it listens, and how often it is asked.
const LISTEN_MAX: Duration = Duration::from_secs(20);
const LISTEN_LOOK: Duration = Duration::from_millis(10);

/// How much load there is.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Where it is given as a time.
    pub(crate) time: Duration,
    /// Where it is a count: so many times less than in a full run.
    pub(crate) less: u64,
}

/// A row.
pub(crate) struct Server {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    needs: &'static [&'static str],
    port: u16,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Static,
    /// With the server behind it, which nobody watches.
    Proxy,
    Redis,
    Postgres,
}

/// All of them. The ports are those of the workloads.
pub(crate) const ALL: [Server; 4] = [
    Server {
        id: "nginx-static",
        title: "nginx, a file of 4 KiB",
        needs: &["nginx", "wrk"],
        port: 18080,
        kind: Kind::Static,
    },
    Server {
        id: "nginx-proxy",
        title: "nginx, the same by proxy",
        needs: &["nginx", "wrk"],
        port: 18081,
        kind: Kind::Proxy,
    },
    Server {
        id: "redis",
        title: "redis, set and get",
        needs: &["redis-server", "redis-benchmark", "redis-cli"],
        port: 18379,
        kind: Kind::Redis,
    },
    Server {
        id: "postgres",
        title: "postgres, a transaction of pgbench",
        needs: &["pgbench", "pg_isready", "setpriv"],
        port: 18432,
        kind: Kind::Postgres,
    },
];

/// The port of the server behind the proxy.
const ORIGIN: u16 = 18082;

/// What wrk runs at its end: all latencies, not the few that it prints by itself.
const WRK: &str = "done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('units=%d us=%d errors=%d\\n', summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
  for i = 1, #latency do
    local us, count = latency(i)
    if count > 0 then io.write(string.format('latency=%d %d\\n', us, count)) end
  end
end
";

/// What a load tells.
struct Loaded {
    units: u64,
    took: Duration,
    latencies: Histogram<u64>,
}

impl Server {
    /// Makes the directory ready.
    pub(crate) fn prepare(&self, room: &Path) -> Result<()> {
        need(self.needs)?;
        let output = Command::new(WORKLOADS).args(["prepare", self.workload()]).arg(room).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        fs::write(room.join("wrk.lua"), WRK)?;
        if self.kind == Kind::Postgres {
            self.serve(&Way::native(), room, |server| {
                server.client(&["pgbench", "--initialize", "--quiet", "--scale=4"], &["postgres"]).map(drop)
            })?;
        }
        Ok(())
    }

    fn workload(&self) -> &'static str {
        match self.kind {
            Kind::Static => "nginx-static",
            Kind::Proxy => "nginx-proxy",
            Kind::Redis => "redis",
            Kind::Postgres => "postgres",
        }
    }

    /// One run.
    pub(crate) fn run(&self, way: &Way, room: &Path, load: Load) -> Result<Measured> {
        let origin = (self.kind == Kind::Proxy).then(|| Origin::start(room)).transpose()?;
        let served = self.serve(way, room, |server| server.load(room, load));
        origin.map_or(Ok(()), Origin::end)?;
        let (loaded, ended) = served?;
        let mut measured = Measured::of(loaded.took, loaded.units, &ended);
        measured.latencies = Some(loaded.latencies);
        Ok(measured)
    }

    /// Starts the server, does something with it, and ends it.
    fn serve<T>(&self, way: &Way, room: &Path, work: impl FnOnce(&Self) -> Result<T>) -> Result<(T, Ended)> {
        let script: [OsString; 4] = ["/bin/bash", WORKLOADS, "run", self.workload()].map(Into::into);
        let words = way.words(script.into_iter().chain([room.as_os_str().to_owned()]));
        let running = Running::start(&words, None, Output::Dropped, RUN_MAX)?;
        let worked = self.answers().and_then(|()| work(self));
        let stopped = self.pid(room).and_then(|pid| {
            let signal = if self.kind == Kind::Postgres { libc::SIGINT } else { libc::SIGTERM };
            PidFd::open(pid).and_then(|server| server.send(signal)).context("ending the server")
        });
        if stopped.is_err() {
            running.ask_to_end();
        }
        let ended = running.end()?;
        match worked {
            Ok(worked) => Ok((worked, ended)),
            Err(error) => Err(match ended.well() {
                Ok(_) => error,
                Err(reason) => error.context(reason),
            }),
        }
    }

    /// Waits until it answers. postgres listens before it does.
    fn answers(&self) -> Result<()> {
        listens(self.port)?;
        let start = Instant::now();
        while self.kind == Kind::Postgres && self.client(&["pg_isready", "--quiet"], &[]).is_err() {
            ensure!(start.elapsed() < LISTEN_MAX, "postgres does not get ready");
            thread::sleep(LISTEN_LOOK);
        }
        Ok(())
    }

    /// The server's own process, not that of its tracer.
    fn pid(&self, room: &Path) -> Result<Pid> {
        let text = match self.kind {
            Kind::Static => fs::read_to_string(room.join("static.pid"))?,
            Kind::Proxy => fs::read_to_string(room.join("proxy.pid"))?,
            Kind::Postgres => fs::read_to_string(room.join("data/postmaster.pid"))?,
            Kind::Redis => {
                let port = self.port.to_string();
                let output = Command::new("redis-cli").args(["-p", &port, "info", "server"]).output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let line = text.lines().find_map(|line| line.strip_prefix("process_id:"));
                line.context("redis tells no process")?.to_owned()
            }
        };
        Ok(Pid(text.lines().next().unwrap_or_default().trim().parse().context("reading a pid")?))
    }

    /// A client of postgres.
    fn client(&self, before: &[&str], after: &[&str]) -> Result<Ended> {
        let port = format!("--port={}", self.port);
        let at = ["--host=127.0.0.1", &port, "--username=creance"];
        client(before.iter().chain(&at).chain(after).map(OsString::from))
    }

    fn load(&self, room: &Path, load: Load) -> Result<Loaded> {
        match self.kind {
            Kind::Static | Kind::Proxy => {
                let url = format!("http://127.0.0.1:{}/page", self.port);
                let time = format!("-d{}s", load.time.as_secs().max(1));
                let script = room.join("wrk.lua").into_os_string();
                let words = ["wrk", "-t1", "-c16", &time, "-s"].map(OsString::from).into_iter();
                by_wrk(&client(words.chain([script, url.into()]))?.stdout)
            }
            Kind::Redis => {
                let (port, count) = (self.port.to_string(), (200_000 / load.less).to_string());
                let words = ["redis-benchmark", "-p", &port, "-n", &count, "-c", "16", "-t", "set,get"];
                by_redis(&client(words.map(OsString::from))?.stdout)
            }
            Kind::Postgres => self.by_pgbench(room, load),
        }
    }

    fn by_pgbench(&self, room: &Path, load: Load) -> Result<Loaded> {
        let count = format!("--transactions={}", 1000 / load.less);
        let prefix = room.join("transactions").into_os_string();
        let prefix = prefix.to_str().context("a path that is text")?;
        let log = format!("--log-prefix={prefix}");
        let words = ["pgbench", "--client=4", "--no-vacuum", "--log", &log, &count];
        let text = self.client(&words, &["postgres"])?.stdout;
        let rate: f64 = between(&text, "tps = ", " ").context("pgbench tells no rate")?.parse()?;
        ensure!(rate > 0.0, "pgbench has done nothing");
        let mut latencies = latency::empty();
        let mut units = 0;
        for file in logs(room)? {
            for line in fs::read_to_string(&file)?.lines() {
                let us: u64 = line.split(' ').nth(2).context("a line of pgbench's log")?.parse()?;
                latency::add(&mut latencies, us.saturating_mul(1000), 1);
                units += 1;
            }
            fs::remove_file(file)?;
        }
        let took = Duration::try_from_secs_f64(creance::overhead::real(units) / rate)?;
        Ok(Loaded { units, took, latencies })
    }
}

/// The logs of pgbench in a directory.
fn logs(room: &Path) -> Result<Vec<PathBuf>> {
    let paths =
        fs::read_dir(room)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    let is_log = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("transactions."))
    };
    Ok(paths.into_iter().filter(is_log).collect())
}

/// Runs what loads a server, or asks it for something.
fn client(words: impl IntoIterator<Item = OsString>) -> Result<Ended> {
    let words: Vec<OsString> = words.into_iter().collect();
    Ok(runs::run(&words, Output::Read, RUN_MAX)?.well()?)
}

/// The server behind the proxy.
struct Origin(Running);

impl Origin {
    fn start(room: &Path) -> Result<Self> {
        let path = |name: &str| room.join(name).into_os_string();
        let words = ["nginx".into(), "-c".into(), path("origin.conf"), "-e".into(), path("origin.err")];
        let words: Vec<OsString> = words.into_iter().chain(["-g", "daemon off;"].map(Into::into)).collect();
        let origin = Self(Running::start(&words, None, Output::Dropped, RUN_MAX)?);
        match listens(ORIGIN) {
            Ok(()) => Ok(origin),
            Err(error) => {
                origin.end()?;
                Err(error)
            }
        }
    }

    fn end(self) -> Result<()> {
        self.0.ask_to_end();
        Ok(self.0.end().map(drop)?)
    }
}

/// Waits until somebody listens on a port.
fn listens(port: u16) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if start.elapsed() > LISTEN_MAX {
            bail!("nobody listens on port {port}");
        }
        thread::sleep(LISTEN_LOOK);
    }
    Ok(())
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split(after).next()
}

/// Reads what [`WRK`] prints.
fn by_wrk(text: &str) -> Result<Loaded> {
    let figure = |name: &str| -> Result<u64> {
        let figure = between(text, name, " ").with_context(|| format!("wrk tells no {name}"))?;
        figure.lines().next().unwrap_or_default().parse().with_context(|| format!("reading {name}{figure}"))
    };
    let (units, us, errors) = (figure("units=")?, figure("us=")?, figure("errors=")?);
    ensure!(units > 0 && errors == 0, "{units} answers and {errors} errors");
    let mut latencies = latency::empty();
    for line in text.lines().filter_map(|line| line.strip_prefix("latency=")) {
        let (us, count) = line.split_once(' ').context("a latency of wrk")?;
        latency::add(&mut latencies, us.parse::<u64>()?.saturating_mul(1000), count.parse()?);
    }
    Ok(Loaded { units, took: Duration::from_micros(us), latencies })
}

/// Reads the distributions that redis-benchmark prints of each test, and what each took.
fn by_redis(text: &str) -> Result<Loaded> {
    let mut loaded = Loaded { units: 0, took: Duration::ZERO, latencies: latency::empty() };
    // It draws over its lines.
    let text = text.replace('\r', "\n");
    for test in text.split("Latency by percentile distribution:").skip(1) {
        let mut so_far = 0;
        for line in test.lines().skip(1).take_while(|line| !line.is_empty()) {
            let ms: f64 = between(line, "<= ", " ").context("a latency of redis-benchmark")?.parse()?;
            let count: u64 = between(line, "cumulative count ", ")").context("its count")?.parse()?;
            let ns = Duration::try_from_secs_f64(ms / 1000.0)?.as_nanos();
            latency::add(&mut loaded.latencies, u64::try_from(ns)?, count.saturating_sub(so_far));
            so_far = so_far.max(count);
        }
        let rate: f64 =
            between(test, "throughput summary: ", " ").context("no rate of redis-benchmark")?.parse()?;
        ensure!(rate > 0.0 && so_far > 0, "redis-benchmark has done nothing");
        loaded.units += so_far;
        loaded.took += Duration::try_from_secs_f64(creance::overhead::real(so_far) / rate)?;
    }
    ensure!(loaded.units > 0, "redis-benchmark tells nothing");
    Ok(loaded)
}
