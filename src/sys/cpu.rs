//! Which CPUs a thread may use and where it runs (sched_setaffinity(2)); and how much CPU this process may really use.
//!
//! Nothing here decides where a thread should run.

mod quota;

use std::{fs::File, io, io::Read, thread};

pub use nix::sched::CpuSet;
use nix::{
    errno::Errno,
    sched::{sched_getaffinity, sched_getcpu, sched_setaffinity},
};

use super::{Tid, procfs};
use crate::limits;

/// How much CPU this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuBudget {
    /// The CPUs that the calling thread may run on: its affinity, which its cpuset bounds.
    pub cpus: usize,
    /// The time that the tightest control group leaves it, in thousandths of one CPU's; `None` if none bounds it, or none
    /// that can be seen.
    pub quota_millicpus: Option<u32>,
}

impl CpuBudget {
    /// Asks the kernel. What it does not tell is taken as not bounded.
    #[must_use]
    pub fn of_this_process() -> Self {
        let cpus = affinity(current_thread()).map(|set| count(&set));
        let cpus = cpus.unwrap_or_else(|_| thread::available_parallelism().map_or(1, Into::into));
        let read = |name: &str| {
            let mut text = String::new();
            let file = File::open(name).map(|file| file.take(limits::CONTAINER_TEXT_BYTES_MAX));
            // A text that is cut or no UTF-8 still tells something, or nothing.
            let _ = file.and_then(|mut file| file.read_to_string(&mut text));
            text
        };
        let directories = quota::directories(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let quotas = directories.iter().filter_map(|directory| directory.quota(read));
        Self { cpus: cpus.max(1), quota_millicpus: quotas.min() }
    }

    /// How many threads can be busy at once: at least one.
    #[must_use]
    pub fn parallelism(&self) -> usize {
        let whole = |millicpus: u32| usize::try_from(millicpus.div_ceil(1000)).unwrap_or(usize::MAX);
        self.quota_millicpus.map_or(self.cpus, |quota| self.cpus.min(whole(quota))).max(1)
    }
}

/// The calling thread.
#[must_use]
pub fn current_thread() -> Tid {
    Tid(nix::unistd::gettid().as_raw())
}

/// The CPU that the calling thread runs on. It may be another one by now, unless the thread has only this.
///
/// # Errors
/// `ENOSYS` where the kernel does not tell (getcpu(2)).
pub fn current_cpu() -> Result<usize, Errno> {
    sched_getcpu()
}

/// The CPU that a thread runs on, or ran on last if it stands still: from `/proc/TID/task/TID/stat`.
///
/// # Errors
/// As [`procfs::read_text`]; `InvalidData` if the text lacks the field.
pub fn last_cpu(tid: Tid) -> io::Result<usize> {
    let mut text = [0; limits::PROC_STAT_BYTES_MAX];
    let (len, _) = procfs::read_own_text(tid, "stat", &mut text)?;
    text.get(..len).and_then(processor).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The CPUs that a thread may run on: those of its affinity that are in its cpuset.
///
/// # Errors
/// `ESRCH` if it is gone, `EINVAL` on a machine with more CPUs than a [`CpuSet`] takes.
pub fn affinity(tid: Tid) -> Result<CpuSet, Errno> {
    sched_getaffinity(nix::unistd::Pid::from_raw(tid.0))
}

/// Sets the affinity of a thread. The kernel bounds it by the thread's cpuset.
///
/// # Errors
/// `ESRCH` if it is gone, `EPERM` if it is another user's and we lack `CAP_SYS_NICE`, `EINVAL` if none of these CPUs is
/// in its cpuset.
pub fn set_affinity(tid: Tid, cpus: &CpuSet) -> Result<(), Errno> {
    sched_setaffinity(nix::unistd::Pid::from_raw(tid.0), cpus)
}

/// What sched_getaffinity(2) would write for a thread that may run on `cpus`, into a buffer of so many bytes. How much that is
/// is the kernel's own affair, so it is asked, about the calling thread.
///
/// # Errors
/// `EINVAL` if the kernel takes no buffer of that size.
#[expect(unsafe_code, reason = "what the library makes of the result is not what the kernel says")]
pub fn affinity_bytes(cpus: &CpuSet, buffer_bytes: u32) -> Result<Vec<u8>, Errno> {
    // A larger one would not be filled, but the kernel takes whole words only.
    let word_bytes = size_of::<libc::c_ulong>();
    let mut bytes = vec![0_u8; limits::AFFINITY_BYTES_MAX + word_bytes];
    let len = usize::try_from(buffer_bytes).unwrap_or(usize::MAX);
    let len = len.min(limits::AFFINITY_BYTES_MAX + len % word_bytes);
    // SAFETY: the kernel writes at most `len` bytes, which `bytes` has.
    let written = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, len, bytes.as_mut_ptr()) };
    bytes.truncate(usize::try_from(Errno::result(written)?).unwrap_or(0));
    for (index, byte) in bytes.iter_mut().enumerate() {
        let is_set = |bit| cpus.is_set(8 * index + bit) == Ok(true);
        *byte = (0..8).map(|bit| u8::from(is_set(bit)) << bit).sum();
    }
    Ok(bytes)
}

/// The set of one CPU.
///
/// # Errors
/// `EINVAL` if it is beyond what a [`CpuSet`] takes.
pub fn only(cpu: usize) -> Result<CpuSet, Errno> {
    let mut set = CpuSet::new();
    set.set(cpu).map(|()| set)
}

/// The set of all CPUs that there can be: as an affinity it leaves a thread to its cpuset, as if none were set.
#[must_use]
pub fn all() -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        // Every number below the count can be set.
        let _ = set.set(cpu);
    }
    set
}

/// How many CPUs are in the set.
#[must_use]
pub fn count(set: &CpuSet) -> usize {
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).count()
}

/// The field `processor` of a `/proc/TID/stat`: the 39th (proc_pid_stat(5)).
fn processor(stat: &[u8]) -> Option<usize> {
    procfs::after_name(stat)?.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_on_a_cpu_of_its_affinity_and_is_where_it_is_put() {
        thread::spawn(|| {
            let tid = current_thread();
            let before = affinity(tid).unwrap();
            let cpu = current_cpu().unwrap();
            assert_eq!(before.is_set(cpu), Ok(true));
            set_affinity(tid, &only(cpu).unwrap()).unwrap();
            assert_eq!((affinity(tid), current_cpu()), (only(cpu), Ok(cpu)));
            assert_eq!(last_cpu(tid).unwrap(), cpu);
            set_affinity(tid, &all()).unwrap();
            assert!(count(&affinity(tid).unwrap()) >= count(&before));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_processor_is_found_behind_any_name() {
        let stat = |name: &str| {
            let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
            format!("7 ({name}) R {}\n", numbers.join(" "))
        };
        for name in ["sh", "a b c", ") R 1 2", "((", ""] {
            assert_eq!(processor(stat(name).as_bytes()), Some(39), "{name}");
        }
        assert_eq!(processor(b"7 (sh) R 1 2 3\n"), None);
        assert_eq!(processor(b""), None);
    }

    #[test]
    fn a_quota_is_rounded_up_to_threads_and_bounded_by_the_cpus() {
        let parallelism = |cpus, quota_millicpus| CpuBudget { cpus, quota_millicpus }.parallelism();
        assert_eq!(parallelism(8, None), 8);
        assert_eq!([1, 250, 1000, 1001, 9000].map(|quota| parallelism(8, Some(quota))), [1, 1, 1, 2, 8]);
        assert_eq!(parallelism(0, Some(0)), 1);
    }

    #[test]
    fn this_process_has_a_budget() {
        let budget = CpuBudget::of_this_process();
        assert!((1..=budget.cpus).contains(&budget.parallelism()), "{budget:?}");
    }
}
