//! The id in a `/proc/PID/cgroup` text. It names the very container where the cgroup namespace is that of the machine;
//! in a namespace of its own the container sees `/`, which says nothing.

use std::str;

/// What runtimes write before an id, where a directory is not named by the id alone. The longer of two that begin alike
/// comes first. A monitor such as `libpod-conmon-ID` is none of its container's processes and no match.
const PREFIXES: [&str; 6] = ["docker-", "cri-containerd-", "crio-", "libpod-payload-", "libpod-", "nerdctl-"];

/// Finds the id of the innermost container in the text of a `/proc/PID/cgroup` (cgroups(7)).
pub(super) fn id_in(text: &[u8]) -> Option<String> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        // HIERARCHY:CONTROLLERS:PATH, where only the path may have colons of its own.
        let path = line.splitn(3, |&byte| byte == b':').nth(2)?;
        path.rsplit(|&byte| byte == b'/').find_map(|directory| id_of(str::from_utf8(directory).ok()?))
    })
}

/// The id that a directory is named by: `ID`, `PREFIX-ID`, `PREFIX-ID.scope`, `SLICE:PREFIX:ID`, or ECS's
/// `TASK-NUMBER`.
fn id_of(directory: &str) -> Option<String> {
    let name = directory.strip_suffix(".scope").unwrap_or(directory);
    let name = name.rsplit_once(':').map_or(name, |(_, id)| id);
    let id = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    super::full_id(id).or_else(|| super::ecs_id(id))
}
