//! What the figures of a run say of the machine and of the day.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use super::figures::{Machine, Spread};
use crate::sys::cpu::CpuBudget;

impl Machine {
    /// This machine, on which others took so much of the CPUs.
    #[must_use]
    pub fn here(foreign_percent: &[f64]) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let budget = CpuBudget::of_this_process();
        Self {
            cpu: cpu_name(&read("/proc/cpuinfo")).unwrap_or(std::env::consts::ARCH).to_owned(),
            cpus: u32::try_from(budget.cpus).unwrap_or(u32::MAX),
            quota_millicpus: budget.quota_millicpus,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: memory_kib(&read("/proc/meminfo")).unwrap_or_default() / 1024,
            foreign_percent: Spread::of(foreign_percent),
        }
    }

    /// It in one line: `Linux 6.18.1, 2 x AMD EPYC`.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { cpu, cpus, kernel, memory_mib, .. } = self;
        let quota = self.quota_millicpus.map(|quota| format!(" ({quota} thousandths of a CPU)"));
        format!("Linux {kernel}, {cpus} x {cpu}{}, {memory_mib} MiB", quota.unwrap_or_default())
    }
}

/// arm64 has no such line.
fn cpu_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']))
}

fn memory_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The day, UTC: `2026-11-29`.
#[must_use]
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date of a day since 1970, in the calendar of today. The count is of years that begin in March, so that the day that
/// leap years have more is the last of its year.
fn date(days: u64) -> String {
    const OF_400_YEARS: u64 = 146_097;
    // From March 1st of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / OF_400_YEARS, days % OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days, and so have the next five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", 400 * era + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_786, "2026-11-29"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn this_machine_has_a_kernel_a_cpu_and_memory() {
        let machine = Machine::here(&[3.0]);
        assert!(!machine.kernel.is_empty() && !machine.cpu.is_empty(), "{machine:?}");
        assert!(machine.cpus > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(machine.foreign_percent.is_some(), "{machine:?}");
    }
}
