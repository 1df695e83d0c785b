//! `creance explain` and `creance rules` from outside, with rule files that are written here, and with Falco's own if
//! `CREANCE_FALCO_RULES` has their paths. Nothing is traced.

#[path = "../support/skip.rs"]
mod skip;

mod explain;
mod messages;
mod stock;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use assert_cmd::cargo::cargo_bin_cmd;
use tempfile::TempDir;

/// A program that has ended.
struct Finished {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs creance in a directory.
fn creance(directory: &Path, arguments: &[&str]) -> Finished {
    let Output { status, stdout, stderr } = cargo_bin_cmd!("creance")
        .current_dir(directory)
        .args(arguments)
        .output()
        .expect("creance can be started");
    let text = |bytes| String::from_utf8(bytes).expect("creance writes text");
    Finished { code: status.code().expect("it is not killed"), stdout: text(stdout), stderr: text(stderr) }
}

/// A directory with these files.
fn files(files: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory can be made");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("a file can be written");
    }
    let path = directory.path().to_owned();
    (directory, path)
}
