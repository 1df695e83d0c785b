//! What control groups leave a process of CPU time: pure readers of their texts (cgroups(7)).
//!
//! A quota holds for a group and all groups in it, so the tightest one on the way up counts. What is above the mount
//! point of the hierarchy is not seen: in a container that is what lies outside of it.

use std::path::{Component, Path, PathBuf};

use crate::limits;

/// How a hierarchy tells its quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// `cpu.cfs_quota_us` and `cpu.cfs_period_us`, in microseconds.
    V1,
    /// `cpu.max`, both in one.
    V2,
}

/// A directory of a group that this process belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    path: PathBuf,
    version: Version,
}

impl Directory {
    /// The group's own quota in thousandths of one CPU, by the texts of its files.
    pub(super) fn quota(&self, read: impl Fn(&str) -> String) -> Option<u32> {
        let text = |name: &str| self.path.join(name).to_str().map(&read).unwrap_or_default();
        match self.version {
            Version::V1 => millicpus(text("cpu.cfs_quota_us").trim(), text("cpu.cfs_period_us").trim()),
            Version::V2 => {
                let text = text("cpu.max");
                let (quota, period) = text.trim().split_once(' ')?;
                millicpus(quota, period)
            }
        }
    }
}

/// Thousandths of one CPU; `None` for `max` and `-1`, which bound nothing, and for what is no quota. The kernel takes
/// none below 1 ms, so a bound of zero cannot be.
fn millicpus(quota: &str, period: &str) -> Option<u32> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    let millicpus = quota.checked_mul(1000)?.checked_div(period)?;
    Some(u32::try_from(millicpus).unwrap_or(u32::MAX).max(1))
}

/// The groups of this process that may have a quota, with their ancestors as far as they are mounted, by the texts of
/// `/proc/self/cgroup` and `/proc/self/mountinfo`.
pub(super) fn directories(cgroup: &str, mountinfo: &str) -> Vec<Directory> {
    let mut directories = Vec::new();
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        let Some(group) = group_of(cgroup, mount.version) else { continue };
        let within = within(&mount.root, Path::new(group));
        let above = within.ancestors().take(limits::CGROUP_DEPTH_MAX);
        directories
            .extend(above.map(|part| Directory { path: mount.point.join(part), version: mount.version }));
    }
    directories
}

/// The path of the process's group in a hierarchy: a line of `/proc/self/cgroup` is `ID:CONTROLLERS:PATH`.
fn group_of(cgroup: &str, version: Version) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_meant = match version {
            Version::V1 => controllers.split(',').any(|controller| controller == "cpu"),
            Version::V2 => id == "0" && controllers.is_empty(),
        };
        is_meant.then_some(path)
    })
}

/// Where a group lies below a mount point that shows the hierarchy from `root` on. A group that is not below `root`, as a
/// container sees its own without a namespace for control groups, is taken for the mount point itself.
fn within(root: &Path, group: &Path) -> PathBuf {
    let below = group.strip_prefix(root).unwrap_or(Path::new(""));
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain { below.to_path_buf() } else { PathBuf::new() }
}

/// A mounted hierarchy that may have quotas.
struct Mount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Reads a line of a mountinfo: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE SUPER_OPTIONS`
    /// (proc_pid_mountinfo(5)).
    fn parse(line: &str) -> Option<Self> {
        let (own, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        let version = match file_system.next()? {
            "cgroup2" => Version::V2,
            "cgroup" if file_system.nth(1)?.split(',').any(|option| option == "cpu") => Version::V1,
            _ => return None,
        };
        let mut own = own.split(' ').skip(3);
        let (root, point) = (own.next()?, own.next()?);
        Some(Self { version, root: unescape(root)?.into(), point: unescape(point)?.into() })
    }
}

/// Undoes the kernel's escapes, which are a backslash and three octal digits. `None` if it is no text then.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3)?;
        bytes.push(u8::from_str_radix(digits, 8).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
    const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn paths(cgroup: &str, mountinfo: &str) -> Vec<String> {
        let directories = directories(cgroup, mountinfo);
        directories.iter().map(|directory| directory.path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_group_is_followed_up_to_where_it_is_mounted() {
        assert_eq!(
            paths("0::/a.slice/b.scope\n", V2),
            ["/sys/fs/cgroup/a.slice/b.scope", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup/"]
        );
        assert_eq!(
            paths("4:cpuset:/x\n3:cpu,cpuacct:/docker\n0::/\n", V1),
            ["/sys/fs/cgroup/cpu,cpuacct/docker", "/sys/fs/cgroup/cpu,cpuacct/"]
        );
    }

    #[test]
    fn in_a_namespace_the_mount_point_is_the_group() {
        assert_eq!(paths("0::/\n", V2), ["/sys/fs/cgroup/"]);
        // Mounted from the container's group on, which /proc shows in full, or as what lies elsewhere.
        let bound = V2.replace(" / /sys", " /docker/7f /sys");
        assert_eq!(paths("0::/docker/7f\n", &bound), ["/sys/fs/cgroup/"]);
        assert_eq!(paths("0::/docker/7f/job\n", &bound), ["/sys/fs/cgroup/job", "/sys/fs/cgroup/"]);
        assert_eq!(paths("0::/../other\n", &bound), ["/sys/fs/cgroup/"]);
        assert_eq!(paths("0::/../other\n", V2), ["/sys/fs/cgroup/"]);
    }

    #[test]
    fn both_versions_may_be_mounted_at_once_and_points_may_have_spaces() {
        let both = format!("{V1}{}", V2.replace("/sys/fs/cgroup ", "/mnt/a\\040b "));
        assert_eq!(paths("3:cpu,cpuacct:/\n0::/\n", &both), ["/sys/fs/cgroup/cpu,cpuacct/", "/mnt/a b/"]);
        assert!(
            paths("3:cpu:/\n0::/\n", "what\never - cgroup\n\\\n7 7 0:0 /\\0 /x - cgroup2 x rw\n").is_empty()
        );
        assert!(paths("", V2).is_empty());
    }

    #[test]
    fn quotas_are_read_in_both_forms() {
        let of = |version, texts: &[(&str, &str)]| {
            let directory = Directory { path: PathBuf::from("/g"), version };
            directory.quota(|path| {
                let found = texts.iter().find(|(name, _)| path == format!("/g/{name}"));
                found.map(|(_, text)| (*text).to_owned()).unwrap_or_default()
            })
        };
        let v1 = |quota| of(Version::V1, &[("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", "100000\n")]);
        let v2 = |max| of(Version::V2, &[("cpu.max", max)]);
        assert_eq!(
            ["25000\n", "150000\n", "-1\n", "", "0\n"].map(v1),
            [Some(250), Some(1500), None, None, Some(1)]
        );
        assert_eq!(
            ["25000 100000\n", "max 100000\n", "", "7\n", "5 0\n", "18446744073709551615 1\n"].map(v2),
            [Some(250), None, None, None, None, None]
        );
    }
}
