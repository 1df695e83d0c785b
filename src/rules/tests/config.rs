//! Which files are read.

use std::{fs, path::PathBuf};

use crate::rules::{RuleSet, files_of_config};

const RULE: &str = "- rule: r\n  desc: d\n  condition: evt.num = 1\n  output: o\n  priority: info\n";

/// A directory with files in it: their names and what they hold.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory"))
            .expect("a directory can be made");
        fs::write(path, text.replace("DIR", directory.path().to_str().unwrap()))
            .expect("a file can be written");
    }
    directory
}

/// The names of files below a directory.
fn names(directory: &tempfile::TempDir, files: &[PathBuf]) -> Vec<String> {
    let below = files.iter().map(|path| path.strip_prefix(directory.path()).unwrap_or(path));
    below.map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn of_a_directory_its_yaml_files_are_read_by_name() {
    let rules = directory(&[
        ("b.yaml", "- list: b\n  items: []\n"),
        ("a.yml", "- list: a\n  items: []\n"),
        ("notes.txt", "no rules"),
        ("old.yaml.bak", "no rules"),
        ("c.yaml/inner.yaml", "no rules"),
    ]);
    let read = RuleSet::read(&[rules.path().to_path_buf()]).expect("the directory can be read");
    let unused: Vec<_> = read.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(unused, ["nothing uses the list `a`", "nothing uses the list `b`"]);
}

#[test]
fn a_file_that_falco_would_pass_over_is_an_error() {
    let rules = directory(&[("rules.txt", RULE)]);
    let error = RuleSet::read(&[rules.path().join("rules.txt")]).expect_err("the name is wrong");
    assert_eq!(error.source.to_string(), "Falco reads only files whose names end with .yaml or .yml");
    let error = RuleSet::read(&[rules.path().join("none.yaml")]).expect_err("there is no such file");
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_file_that_is_no_text_is_read_as_far_as_it_is_one() {
    let rules = directory(&[]);
    let path = rules.path().join("rules.yaml");
    fs::write(&path, [b"# \xff\xfe\n", RULE.as_bytes()].concat()).expect("a file can be written");
    assert_eq!(RuleSet::read(&[path]).expect("the file can be read").rules.len(), 1);
}

#[test]
fn a_file_beyond_the_bound_is_an_error() {
    let rules = directory(&[]);
    let path = rules.path().join("rules.yaml");
    let file = fs::File::create(&path).expect("a file can be made");
    file.set_len(1 << 40).expect("a sparse file can be made");
    let error = RuleSet::read(&[path]).expect_err("the file is too large");
    assert!(error.source.to_string().contains("larger than"), "{}", error.source);
    let parsed = RuleSet::parse(vec![(PathBuf::from("large.yaml"), "#".repeat(5 * 1024 * 1024))]);
    assert!(parsed.has_errors());
}

#[test]
fn a_configuration_names_the_files_that_exist() {
    let files = directory(&[
        (
            "falco.yaml",
            "rules_files:\n  - DIR/a.yaml\n  - DIR/gone.yaml\n  - DIR/rules.d\n  - DIR/b.txt\njson_output: true\n",
        ),
        ("a.yaml", RULE),
        ("b.txt", RULE),
        ("rules.d/c.yaml", ""),
    ]);
    let found = files_of_config(&files.path().join("falco.yaml")).expect("the configuration can be read");
    assert_eq!(names(&files, &found), ["a.yaml", "rules.d"]);
    assert_eq!(RuleSet::read(&found).expect("the files can be read").rules.len(), 1);
}

#[test]
fn the_old_name_of_the_key_works_alone() {
    let files = directory(&[
        ("old.yaml", "rules_file: DIR/a.yaml\n"),
        ("both.yaml", "rules_file: [DIR/a.yaml]\nrules_files: [DIR/a.yaml]\n"),
        ("none.yaml", "json_output: true\n"),
        ("lost.yaml", "rules_files: [DIR/gone.yaml]\n"),
        ("broken.yaml", "a: 1\nrules_files: [\n"),
        ("a.yaml", RULE),
    ]);
    let found = files_of_config(&files.path().join("old.yaml")).expect("the configuration can be read");
    assert_eq!(names(&files, &found), ["a.yaml"]);
    let error =
        |name| files_of_config(&files.path().join(name)).expect_err("it names no rules").source.to_string();
    assert_eq!(error("both.yaml"), "it has both `rules_files` and `rules_file`");
    assert_eq!(error("none.yaml"), "it has no `rules_files`");
    assert_eq!(error("lost.yaml"), "none of its `rules_files` exists");
    assert!(error("broken.yaml").starts_with("3:1: this is no YAML"), "{}", error("broken.yaml"));
}

#[test]
fn included_configurations_append_override_or_only_add() {
    let files = directory(&[
        ("falco.yaml", "config_files: [DIR/config.d]\nrules_files: [DIR/a.yaml]\n"),
        ("config.d/1.yaml", "rules_files: [DIR/b.yaml]\n"),
        ("config.d/2.yaml", "json_output: true\n"),
        (
            "override.yaml",
            "config_files: [{path: DIR/config.d/1.yaml, strategy: override}, DIR/gone]\nrules_files: [DIR/a.yaml]\n",
        ),
        (
            "add.yaml",
            "config_files:\n  - {path: DIR/config.d/1.yaml, strategy: add-only}\nrules_files: [DIR/a.yaml]\n",
        ),
        ("a.yaml", RULE),
        ("b.yaml", RULE),
    ]);
    let found = |name| names(&files, &files_of_config(&files.path().join(name)).expect("it can be read"));
    assert_eq!(found("falco.yaml"), ["a.yaml", "b.yaml"]);
    assert_eq!(found("override.yaml"), ["b.yaml"]);
    assert_eq!(found("add.yaml"), ["a.yaml"]);
}

#[test]
fn names_in_braces_come_from_the_environment() {
    let files = directory(&[
        ("falco.yaml", "rules_files: ['${CREANCE_NO_SUCH_NAME}DIR/a.yaml', '$${x}', 'DIR/$b.yaml']\n"),
        ("a.yaml", RULE),
        ("$b.yaml", RULE),
    ]);
    let found = files_of_config(&files.path().join("falco.yaml")).expect("the configuration can be read");
    assert_eq!(names(&files, &found), ["a.yaml", "$b.yaml"]);
}
