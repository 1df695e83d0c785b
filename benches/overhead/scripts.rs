//! Programs that end by themselves, as lines of bash: what makes ready is run natively, what is timed tells its own time, so
//! that what starts a tracer is no part of it.

use std::{ffi::OsString, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use creance::overhead::{
    runs::{self, Output},
    turns::{Measured, Way},
};

use crate::need;

/// A row.
pub(crate) struct Script {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    needs: &'static [&'static str],
    /// What the time is divided by.
    units: u64,
    /// Makes the directory ready, once.
    prepare: &'static str,
    /// Makes it ready for the next run.
    before: &'static str,
    /// What is timed.
    work: &'static str,
}

/// All of them.
pub(crate) const ALL: [Script; 7] = [
    Script {
        id: "shell",
        title: "a program that a shell loop starts",
        needs: &[],
        units: 2000,
        prepare: "",
        before: "",
        work: "for ((turn = 0; turn < 2000; turn++)); do /bin/true; done",
    },
    Script {
        id: "git",
        title: "git status (4 times) and git clone (twice), 2,000 files",
        needs: &["git"],
        units: 1,
        prepare: "git init --quiet repository; cd repository; git config user.email a@example.org; git config user.name a; \
                  for ((d = 0; d < 40; d++)); do mkdir d$d; for ((f = 0; f < 50; f++)); do echo $d $f >d$d/f$f; done; done; \
                  git add .; git commit --quiet --message first",
        before: "rm -rf copy1 copy2",
        work: "for turn in 1 2 3 4; do git -C repository status --short; done; \
               git clone --quiet --no-local repository copy1; git clone --quiet repository copy2",
    },
    Script {
        id: "find-tar",
        title: "find in and tar of a tree, a file of 5,000",
        needs: &["find", "tar"],
        units: 5000,
        prepare: "mkdir tree; for ((d = 0; d < 100; d++)); do mkdir tree/d$d; \
                  for ((f = 0; f < 50; f++)); do echo \"$d $f\" >tree/d$d/f$f; done; done",
        before: "rm -f tree.tar",
        work: "find tree -name 'no such name'; find tree -size +1M; tar -cf tree.tar tree",
    },
    Script {
        id: "sqlite",
        title: "an insert into sqlite, each a transaction",
        needs: &["sqlite3"],
        units: 3000,
        prepare: "for ((turn = 0; turn < 3000; turn++)); do echo \"insert into t values ($turn, 'some text $turn');\"; done >inserts",
        before: "rm -f base*; sqlite3 base 'create table t (a integer primary key, b text)'",
        work: "sqlite3 base <inserts",
    },
    Script {
        id: "python",
        title: "start of python",
        needs: &["python3"],
        units: 50,
        prepare: "",
        before: "",
        work: "for ((turn = 0; turn < 50; turn++)); do python3 -c 'import json, os, re'; done",
    },
    Script {
        id: "gcc",
        title: "a build of 20 C files",
        needs: &["gcc"],
        units: 1,
        prepare: "for ((f = 0; f < 20; f++)); do { echo '#include <stdio.h>'; echo '#include <stdlib.h>'; \
                  echo '#include <string.h>'; for ((n = 0; n < 30; n++)); do \
                  echo \"int f${f}_$n(const char *s) { int sum = $n; for (; *s; s++) sum = sum * 31 + *s; \
                  if (sum < 0) printf(\\\"%d\\\\n\\\", sum); return sum; }\"; done; } >f$f.c; done; \
                  echo 'int main(void) { return 0; }' >main.c",
        before: "rm -f *.o program",
        work: "for file in *.c; do gcc -O2 -c \"$file\"; done; gcc -o program *.o",
    },
    Script {
        id: "sample",
        title: "a round of the sample workload",
        needs: &["busybox", "curl"],
        units: 20,
        prepare: "mkdir bin; echo hello >index.html; echo $((20000 + RANDOM % 10000)) >port",
        before: "",
        work: "busybox httpd -f -p 127.0.0.1:$(<port) & \
               until { : </dev/tcp/127.0.0.1/$(<port); } 2>/dev/null; do sleep 0.01; done; \
               \"$SAMPLE\" --rounds 20 --sleep 0 --bin-dir bin --url http://127.0.0.1:$(<port)/; kill %1",
    },
];

/// `SAMPLE` of the scripts.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/containerimages/workload/workload.sh");

/// Longest run.
const RUN_MAX: Duration = Duration::from_secs(120);

impl Script {
    /// Makes the directory ready.
    pub(crate) fn prepare(&self, room: &Path) -> Result<()> {
        need(&["bash"])?;
        need(self.needs)?;
        bash(&Way::native(), room, self.prepare).map(drop)
    }

    /// One run.
    pub(crate) fn run(&self, way: &Way, room: &Path) -> Result<Measured> {
        bash(&Way::native(), room, self.before)?;
        let timed = format!(
            "t0=${{EPOCHREALTIME/./}}; {{ {}; }} >/dev/null; echo us=$((${{EPOCHREALTIME/./}} - t0))",
            self.work
        );
        let ended = bash(way, room, &timed)?;
        let us = ended
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("us="))
            .with_context(|| ended.no_figure())?;
        let us = us.parse().context("reading the time")?;
        ensure!(us > 0, "no time has passed");
        Ok(Measured::of(Duration::from_micros(us), self.units, &ended))
    }
}

/// Lines of bash in a directory that is their home too.
fn bash(way: &Way, room: &Path, lines: &str) -> Result<runs::Ended> {
    let script =
        format!("set -euo pipefail; cd \"$1\"; export HOME=$1 SAMPLE=$2 GIT_CONFIG_NOSYSTEM=1; {lines}");
    let words = ["/bin/bash", "-c", &script, "bash"].map(OsString::from);
    let words = words.into_iter().chain([room.into(), SAMPLE.into()]);
    Ok(runs::run(&way.words(words), Output::Read, RUN_MAX)?.well()?)
}
