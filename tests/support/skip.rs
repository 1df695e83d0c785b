//! What a machine cannot do.

use std::{
    env,
    fs::File,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    thread,
};

/// Tells that this machine cannot do a test: on standard error past the test harness, which would keep it to itself,
/// and in the file that `CREANCE_TEST_SKIPS` names, as `TEST: REASON` on one line.
pub(crate) fn skip(reason: &str) {
    let current = thread::current();
    let reason = reason.trim_end().replace('\n', " ");
    let line = format!("{}: {reason}\n", current.name().unwrap_or("?"));
    // Nobody may be there to read it.
    let _ = io::stderr().write_all(format!("SKIP {line}").as_bytes());
    if let Some(path) = env::var_os("CREANCE_TEST_SKIPS").filter(|path| !path.as_bytes().is_empty()) {
        let mut file = File::options().append(true).create(true).open(path).expect("the list can be written");
        file.write_all(line.as_bytes()).expect("the list can be written");
    }
}
