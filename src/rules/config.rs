//! Which rule files a `falco.yaml` names.
//!
//! It reads of Falco's configuration only what says which rule files there are, and the files that it includes for
//! that (`config_files`). Paths are taken as they stand: Falco looks relative ones up from its current directory.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use super::{
    ReadError, load,
    source::FileId,
    yaml::{self, Tree, Value},
};

/// What one file of the configuration says.
#[derive(Debug, Default)]
struct Config {
    /// `rules_files`, which may also be called `rules_file`.
    rules: Option<Vec<String>>,
    old_rules: Option<Vec<String>>,
    includes: Vec<Include>,
}

/// An entry of `config_files`.
#[derive(Debug)]
struct Include {
    path: String,
    strategy: Strategy,
}

/// What an included file does with a key that is there already.
#[derive(Debug, Clone, Copy)]
enum Strategy {
    Append,
    Override,
    AddOnly,
}

/// The rule files and directories of them that a `falco.yaml` names and that exist, in order.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let wrong =
        |message: &str| ReadError { path: path.to_path_buf(), source: io::Error::other(message.to_owned()) };
    let mut config = read(path)?;
    for include in std::mem::take(&mut config.includes) {
        if Path::new(&include.path) == path {
            return Err(wrong("it includes itself"));
        }
        for file in files_of_include(Path::new(&include.path))? {
            let included = read(&file)?;
            merge(&mut config.rules, included.rules, include.strategy);
            merge(&mut config.old_rules, included.old_rules, include.strategy);
        }
    }
    let names = match (config.rules, config.old_rules) {
        (Some(_), Some(_)) => return Err(wrong("it has both `rules_files` and `rules_file`")),
        (Some(names), None) | (None, Some(names)) => names,
        (None, None) => return Err(wrong("it has no `rules_files`")),
    };
    let exists = |path: &PathBuf| fs::metadata(path).is_ok();
    let counts = |path: &PathBuf| path.is_dir() || load::is_rule_file(path);
    let files: Vec<_> =
        names.into_iter().map(PathBuf::from).filter(|path| exists(path) && counts(path)).collect();
    if files.is_empty() {
        return Err(wrong("none of its `rules_files` exists"));
    }
    Ok(files)
}

/// The files that an entry of `config_files` stands for: none if there is nothing of this name.
fn files_of_include(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    if path.is_dir() {
        load::files_of_directory(path)
    } else if path.is_file() {
        Ok(vec![path.to_path_buf()])
    } else {
        Ok(Vec::new())
    }
}

fn merge(before: &mut Option<Vec<String>>, included: Option<Vec<String>>, strategy: Strategy) {
    let Some(included) = included else { return };
    match (strategy, before.as_mut()) {
        (Strategy::Append, Some(before)) => before.extend(included),
        (Strategy::AddOnly, Some(_)) => {}
        (Strategy::Override, _) | (_, None) => *before = Some(included),
    }
}

fn read(path: &Path) -> Result<Config, ReadError> {
    let text = load::text_of(path)?;
    let tree = yaml::parse(&text, FileId(0)).map_err(|diagnostic| {
        let before = text.get(..usize::try_from(diagnostic.span.start).unwrap_or(0)).unwrap_or("");
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or("").chars().count();
        let message = format!("{line}:{column}: {}", diagnostic.message);
        ReadError { path: path.to_path_buf(), source: io::Error::new(io::ErrorKind::InvalidData, message) }
    })?;
    Ok(config_of(&tree))
}

fn config_of(tree: &Tree<'_>) -> Config {
    // Falco reads the first document only.
    let Some(root) = tree.documents().next() else { return Config::default() };
    let includes = root.get("config_files").map(elements).unwrap_or_default();
    Config {
        rules: root.get("rules_files").map(texts),
        old_rules: root.get("rules_file").map(texts),
        includes: includes.into_iter().filter_map(include).collect(),
    }
}

/// The elements of a sequence; or the one value that stands in its place.
fn elements(value: Value<'_>) -> Vec<Value<'_>> {
    value.items().map_or_else(|| vec![value], Iterator::collect)
}

fn texts(value: Value<'_>) -> Vec<String> {
    elements(value).into_iter().filter_map(Value::text).map(with_environment).collect()
}

fn include(value: Value<'_>) -> Option<Include> {
    let (path, strategy) = match value.text() {
        Some(path) => (path, "append"),
        None => (value.get("path")?.text()?, value.get("strategy").and_then(Value::text).unwrap_or("append")),
    };
    let strategy = match strategy {
        "override" => Strategy::Override,
        "add-only" => Strategy::AddOnly,
        _ => Strategy::Append,
    };
    Some(Include { path: with_environment(path), strategy })
}

/// The text with `${NAME}` replaced by what the environment says, and `$${` by `${`.
fn with_environment(text: &str) -> String {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        whole.push_str(before);
        rest = from;
        let Some(end) = from.find('}') else { break };
        if let Some(name) = from.get(2..end).filter(|_| from.starts_with("${")) {
            whole.push_str(&env::var(name).unwrap_or_default());
        } else if from.starts_with("$${") {
            whole.push_str(from.get(1..=end).unwrap_or(""));
        } else {
            break;
        }
        rest = from.get(end + 1..).unwrap_or("");
    }
    whole.push_str(rest);
    whole
}
