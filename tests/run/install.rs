//! What a sidecar of binaries does: it copies them where others find them, and sleeps.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{CREANCE, creance, directory, executable, limit};

#[test]
fn a_copy_runs_and_replaces_an_older_one() {
    let (_held, path) = directory();
    let to = path.join("new/directory");
    for _ in 0..2 {
        let finished = creance(["install".as_ref(), to.as_os_str()]);
        assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""));
    }
    let copy = Command::new(to.join("creance")).arg("--version").output().unwrap();
    assert!(copy.stdout.starts_with(b"creance "), "{copy:?}");
    let names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with("-new")), "{names:?}");
}

#[test]
fn a_directory_is_copied_with_its_modes_and_links() {
    let (_held, path) = directory();
    let [from, to] = ["from", "to"].map(|name| path.join(name));
    fs::create_dir_all(from.join("lib")).unwrap();
    executable(&from.join("tool"), "#!/bin/sh\n");
    fs::write(from.join("lib/text"), "text").unwrap();
    symlink("lib/text", from.join("link")).unwrap();
    for _ in 0..2 {
        let finished = creance(["install".as_ref(), "--from".as_ref(), from.as_os_str(), to.as_os_str()]);
        assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""));
    }
    assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "text");
    assert_eq!(fs::read_link(to.join("link")).unwrap().to_str(), Some("lib/text"));
    assert_eq!(fs::metadata(to.join("tool")).unwrap().permissions().mode() & 0o111, 0o111);
}

#[test]
fn files_are_written_as_the_environment_has_them() {
    let (_held, path) = directory();
    let to = path.join("new");
    let install = |files: &[&str]| {
        let mut command = Command::new(CREANCE);
        command.arg("install").args(files).arg(&to).env("RULES", "- rule: x\n  desc: \"=\"").env("EMPTY", "");
        command.env_remove("UNSET").output().unwrap()
    };
    for _ in 0..2 {
        let output = install(&["--file", "rules.yaml=RULES", "--file", "empty=EMPTY"]);
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
    assert_eq!(fs::read_to_string(to.join("rules.yaml")).unwrap(), "- rule: x\n  desc: \"=\"");
    assert_eq!(fs::read_to_string(to.join("empty")).unwrap(), "");
    // Nothing else is copied then.
    assert_eq!(fs::read_dir(&to).unwrap().count(), 2);

    for (file, status, told) in [
        ("other=UNSET", 125, "UNSET"),
        ("rules.yaml", 2, "no ="),
        ("../rules.yaml=RULES", 2, "without a directory"),
        ("..=RULES", 2, "without a directory"),
        ("rules.yaml=", 2, "environment variable"),
    ] {
        let output = install(&["--file", file]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{error}");
        assert!(error.contains(told), "{error}");
    }
    assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
}

#[test]
fn what_cannot_be_copied_is_named() {
    let (_held, path) = directory();
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    for arguments in [
        vec!["install".as_ref(), "--from".as_ref(), "/no/such".as_ref(), path.as_os_str()],
        vec!["install".as_ref(), file.as_os_str()],
    ] {
        let finished = creance(&arguments);
        assert_eq!(finished.status.code(), Some(125));
        let named = arguments.iter().any(|argument| finished.stderr.contains(argument.to_str().unwrap()));
        assert!(named && finished.stderr.lines().count() == 1, "{}", finished.stderr);
    }
}

#[test]
fn a_pause_lasts_until_it_is_told_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = Command::new(CREANCE).arg("pause").stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        let waiting = format!("{} ", libc::SYS_rt_sigtimedwait);
        let since = Instant::now();
        while !fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap().starts_with(&waiting) {
            assert!(since.elapsed() < limit(), "it does not wait for signals");
            std::thread::yield_now();
        }
        kill(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
