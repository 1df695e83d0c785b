//! Control groups that freeze.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where one is made, the file that freezes it, and what thaws and freezes it: those of version 1, then those of version 2,
/// which are in any hierarchy, also beside those of version 1.
const PLACES: [(&str, &str, [&str; 2]); 3] = [
    ("/sys/fs/cgroup/freezer", "freezer.state", ["THAWED", "FROZEN"]),
    ("/sys/fs/cgroup/unified", "cgroup.freeze", ["0", "1"]),
    ("/sys/fs/cgroup", "cgroup.freeze", ["0", "1"]),
];

/// A control group that can freeze, thawed and removed when it is dropped.
pub(crate) struct Freezer {
    path: PathBuf,
    state: PathBuf,
    words: [&'static str; 2],
}

impl Freezer {
    /// One of each version that there is here.
    pub(crate) fn all(name: &str) -> Vec<Self> {
        PLACES.iter().filter_map(|place| Self::make(name, place)).collect()
    }

    /// One of version 1.
    pub(crate) fn of_version_1(name: &str) -> Option<Self> {
        Self::make(name, &PLACES[0])
    }

    fn make(name: &str, &(parent, file, words): &(&str, &str, [&'static str; 2])) -> Option<Self> {
        let path = Path::new(parent).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let this = Self { state: path.join(file), path, words };
        // Where other file systems are mounted below, anything can be a directory.
        this.state.exists().then_some(this)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn set(&self, is_frozen: bool) {
        let [thawed, frozen] = self.words;
        fs::write(&self.state, if is_frozen { frozen } else { thawed })
            .expect("a group of one's own is frozen");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Nobody is in it any more.
        let _ = fs::write(&self.state, self.words[0]);
        let _ = fs::remove_dir(&self.path);
    }
}
