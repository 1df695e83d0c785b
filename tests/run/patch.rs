//! `creance patch` from outside: where the file goes, what is said, and the status.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::{CREANCE, Finished, creance, directory};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deployments/samples").join(name)
}

fn patch(target: &str, file: &Path, flags: &[&str]) -> Finished {
    let words = ["patch".as_ref(), target.as_ref(), file.as_os_str()].into_iter();
    creance(
        words
            .chain(["--image-prefix", "registry.example/"].map(AsRef::as_ref))
            .chain(flags.iter().map(AsRef::as_ref)),
    )
}

#[test]
fn the_patched_file_goes_to_standard_output_and_notes_to_standard_error() {
    for (target, name) in [("taskdef", "plain.json"), ("pod", "plain.yaml")] {
        let finished = patch(target, &sample(name), &[]);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        assert!(finished.stdout().contains("registry.example/creance-binaries:"), "{}", finished.stdout());
        assert!(
            finished.stderr.lines().all(|line| line.starts_with("creance: note: ")),
            "{}",
            finished.stderr
        );
    }
}

#[test]
fn in_place_keeps_the_mode_and_what_a_link_leads_to_and_shows_the_difference_once() {
    let (_held, path) = directory();
    let [file, link] = ["pod.yaml", "link.yaml"].map(|name| path.join(name));
    fs::copy(sample("plain.yaml"), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("pod.yaml", &link).unwrap();
    let finished = patch("pod", &link, &["--in-place"]);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let head = format!("--- {0}\n+++ {0} with creance\n@@ ", link.display());
    assert!(finished.stdout().starts_with(&head), "{}", finished.stdout());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);

    let patched = fs::read_to_string(&file).unwrap();
    let again = patch("pod", &link, &["--in-place"]);
    assert_eq!((again.status.code(), again.stdout()), (Some(0), ""));
    assert!(again.stderr.contains("nothing is changed"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), patched);
}

#[test]
fn an_output_file_is_what_standard_output_would_be() {
    let (_held, path) = directory();
    let file = path.join("task.json");
    let whole = patch("taskdef", &sample("plain.json"), &[]);
    let finished = patch("taskdef", &sample("plain.json"), &["-o", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), whole.stdout());
    let difference = patch("taskdef", &sample("plain.json"), &["--diff"]);
    assert!(difference.stdout().starts_with("--- "), "{}", difference.stdout());
    assert_eq!(difference.stdout(), finished.stdout());
}

#[test]
fn standard_input_is_read() {
    let input = fs::File::open(sample("plain.yaml")).unwrap();
    let output = Command::new(CREANCE)
        .args(["patch", "pod", "-", "--image-prefix", "registry.example/"])
        .stdin(Stdio::from(input))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), patch("pod", &sample("plain.yaml"), &[]).stdout());
}

#[test]
fn what_is_refused_is_one_line_with_its_place_and_writes_nothing() {
    let (_held, path) = directory();
    let [broken, output] = ["broken.yaml", "output"].map(|name| path.join(name));
    fs::write(&broken, "kind: Pod\nspec: {containers: []}\n\u{1b}").unwrap();
    let cases = [
        (sample("several.yaml"), &[][..], "several.yaml:23:9: which container"),
        (broken, &[], "broken.yaml:3:2: "),
        (path.join("none"), &[], "none: "),
        (sample("plain.yaml"), &["--entrypoint", "'"], "--entrypoint: "),
        (sample("plain.yaml"), &["--pattern", "sidecarattach"], "sidecarptrace"),
        (sample("plain.yaml"), &["--pattern", "nonsense"], "nonsense"),
    ];
    for (file, flags, told) in cases {
        let flags: Vec<_> =
            ["-o", output.to_str().unwrap()].into_iter().chain(flags.iter().copied()).collect();
        let finished = patch("pod", &file, &flags);
        assert_eq!((finished.status.code(), finished.stdout()), (Some(2), ""), "{told}");
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(told) && !finished.stderr.contains('\u{1b}'), "{}", finished.stderr);
        assert!(!output.exists());
    }
}
