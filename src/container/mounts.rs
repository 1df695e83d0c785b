//! What the mounts of a container tell of it, from a `/proc/PID/mountinfo` text (proc_pid_mountinfo(5)).
//!
//! Runtimes keep a container's `hostname`, `hosts` and `resolv.conf` in a directory named by its id, and mount them
//! over those under `/etc`. Know before you trust that id: containers that share a network are given the files of the
//! one that owns it, and in a Kubernetes pod that is the sandbox.

use std::str;

/// What a text of mounts says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// The owner of the files under `/etc`.
    pub(super) id: Option<String>,
    /// Whether that is the sandbox of a pod.
    pub(super) is_in_pod: bool,
    /// What Kubernetes calls the container.
    pub(super) name: Option<String>,
}

const OWNED_FILES: [&[u8]; 3] = [b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf"];

/// Reads the text of a `/proc/PID/mountinfo`. Lines that are not well formed are passed over.
pub(super) fn read(text: &[u8]) -> Mounts {
    let mut mounts = Mounts::default();
    for line in text.split(|&byte| byte == b'\n') {
        // ID PARENT MAJOR:MINOR ROOT MOUNT_POINT ..., where ROOT is the path in the file system that was mounted.
        let mut fields = line.split(|&byte| byte == b' ').skip(3);
        let (Some(root), Some(mount_point)) = (fields.next(), fields.next()) else { continue };
        let Ok(root) = str::from_utf8(root) else { continue };
        if OWNED_FILES.contains(&mount_point)
            && let Some((id, is_sandbox)) = owner_of(root)
        {
            mounts.is_in_pod |= is_sandbox;
            mounts.id.get_or_insert(id);
        }
        if let Some(name) = name_in_pod(root) {
            mounts.is_in_pod = true;
            mounts.name = mounts.name.take().or(name);
        }
    }
    mounts
}

/// The id in the path of a file that a runtime keeps for a container, and whether it names the sandbox of a pod.
///
/// Docker has `containers/ID/`, nerdctl `containers/NAMESPACE/ID/`, Podman and CRI-O `overlay-containers/ID/` (or
/// another storage driver's), containerd's CRI plugin `sandboxes/ID/`. Other directories are named by 64 digits too,
/// such as those of volumes and layers.
fn owner_of(path: &str) -> Option<(String, bool)> {
    let mut above = [""; 2];
    for directory in path.split('/') {
        let is_sandbox = above[1] == "sandboxes";
        if (is_sandbox || above.contains(&"containers") || above[1].ends_with("-containers"))
            && let Some(id) = super::full_id(directory)
        {
            return Some((id, is_sandbox));
        }
        above = [above[1], directory];
    }
    None
}

/// Whether the path is one that the kubelet keeps for a pod, and the name of the container if it tells that:
/// `pods/UID/etc-hosts` does not, `pods/UID/containers/NAME/INSTANCE`, where the message of its end is written, does.
fn name_in_pod(path: &str) -> Option<Option<String>> {
    let mut directories = path.split('/').skip_while(|&directory| directory != "pods").skip(1);
    directories.next().filter(|uid| is_pod_uid(uid))?;
    let name = directories.next().filter(|&kind| kind == "containers").and_then(|_| directories.next());
    Some(name.and_then(|name| super::parse_name(name).ok()))
}

/// The uid of a pod is a UUID; that of a static pod has no dashes.
fn is_pod_uid(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_lengths = |lengths: &[usize]| text.split('-').map(str::len).eq(lengths.iter().copied());
    text.split('-').all(is_hex) && (has_lengths(&[8, 4, 4, 4, 12]) || has_lengths(&[32]))
}
