//! Whether the machine is quiet: what others take of its CPUs while something is measured.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

/// The share of the CPUs' time that others may take on a quiet machine.
const FOREIGN_MAX: f64 = 0.1;

/// Ticks of both clocks from which on their difference tells something.
const TICKS_MIN: f64 = 10.0;

/// How long it is looked whether the machine is quiet.
const LOOK: Duration = Duration::from_millis(200);

/// Waits for a quiet machine, for a bounded time, and knows what others took.
#[derive(Debug)]
pub struct Quiet {
    until: Instant,
    foreign_percent: Vec<f64>,
}

impl Quiet {
    /// From now on runs wait so long in all for a quiet machine, and are made again where it was not.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        let now = Instant::now();
        Self { until: now.checked_add(patience).unwrap_or(now), foreign_percent: Vec::new() }
    }

    /// Waits until the machine is quiet, runs, and runs anew if it has not been quiet meanwhile. The run has to wait for the
    /// programs that it starts: they are not others. A run that fails is not made again.
    ///
    /// # Errors
    /// That of the run.
    pub fn run<T, E>(&mut self, mut run: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        loop {
            while Instant::now() < self.until && foreign_share(|| thread::sleep(LOOK)).1 > FOREIGN_MAX {}
            let (done, share) = foreign_share(&mut run);
            if done.is_err() || share <= FOREIGN_MAX || Instant::now() >= self.until {
                self.foreign_percent.push(share * 100.0);
                return done;
            }
        }
    }

    /// What others took of the CPUs during the runs that count, in per cent.
    #[must_use]
    pub fn foreign_percent(&self) -> &[f64] {
        &self.foreign_percent
    }
}

/// Does something that starts and awaits programs; tells the share of the CPUs' time that others took meanwhile, as far as
/// the kernel tells.
fn foreign_share<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let (times, own) = (cpu_times(), own_ticks());
    let done = run();
    let (times_after, own_after) = (cpu_times(), own_ticks());
    let busy = (times_after.busy - times.busy) - (own_after - own);
    // A single tick says nothing of a short run.
    (done, (busy / (times_after.all - times.all).max(TICKS_MIN)).max(0.0))
}

/// What this process and the programs that it has awaited have taken of the CPUs, in ticks (USER_HZ is 100 on every
/// architecture of ours).
fn own_ticks() -> f64 {
    let usages = [UsageWho::RUSAGE_CHILDREN, UsageWho::RUSAGE_SELF].map(getrusage).into_iter().flatten();
    let times = usages.flat_map(|usage| [usage.user_time(), usage.system_time()]);
    let micros = times.map(|time| u64::try_from(time.num_microseconds()).unwrap_or(0)).sum();
    Duration::from_micros(micros).as_secs_f64() * 100.0
}

/// Times of all CPUs since the start, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct CpuTimes {
    busy: f64,
    all: f64,
}

fn cpu_times() -> CpuTimes {
    fs::read_to_string("/proc/stat").ok().and_then(|text| parse(&text)).unwrap_or_default()
}

/// The first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
fn parse(stat: &str) -> Option<CpuTimes> {
    let times = stat.lines().next()?.split_whitespace().skip(1).take(8);
    let times = times.map(str::parse).collect::<Result<Vec<f64>, _>>().ok()?;
    let idle: f64 = times.iter().skip(3).take(2).sum();
    let all: f64 = times.iter().sum();
    Some(CpuTimes { busy: all - idle, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_waiting_for_disks_are_not_busy() {
        let stat = "cpu  10 1 20 300 40 2 3 4 50 60\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse(stat), Some(CpuTimes { busy: 40.0, all: 380.0 }));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn without_patience_a_run_is_made_once_and_what_others_took_is_noted() {
        let mut quiet = Quiet::new(Duration::ZERO);
        let mut runs = 0;
        let done: Result<_, ()> = quiet.run(|| {
            runs += 1;
            Ok(runs)
        });
        assert_eq!((done, quiet.foreign_percent().len()), (Ok(1), 1));
    }
}
