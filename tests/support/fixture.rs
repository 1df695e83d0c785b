//! The programs under `tests/fixtures`, compiled when a test first asks for them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

type Built = Arc<OnceLock<Result<PathBuf, String>>>;

static FIXTURES: Mutex<BTreeMap<String, Built>> = Mutex::new(BTreeMap::new());

/// The compiled fixture of this name.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let built = fixture_with(name, "", &[]);
    assert!(built.is_ok(), "{built:?}");
    built.unwrap_or_default()
}

/// A fixture that is compiled with flags that not every machine knows. `variant` tells it from others of its name. The
/// error is what the compiler says.
pub(crate) fn fixture_with(name: &str, variant: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let file = format!("{name}{variant}");
    let built = {
        let mut fixtures = FIXTURES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fixtures.entry(file.clone()).or_default())
    };
    built.get_or_init(|| compile(name, &file, flags)).clone()
}

/// Compiles to a name of its own and renames: another test process may be running the program that is there.
fn compile(name: &str, file: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.c"));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures");
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let unfinished = directory.join(format!("{file}.{}", process::id()));
    let output = Command::new("cc")
        .args(["-O1", "-Wall", "-pthread"])
        .args(flags)
        .arg("-o")
        .args([&unfinished, &source])
        .output()
        .map_err(|error| format!("cc: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let program = directory.join(file);
    fs::rename(&unfinished, &program).map_err(|error| error.to_string())?;
    Ok(program)
}
