//! From paths to files, and from files to a rule set.
//!
//! The only place that reads rule files. Which of the files of a directory count, and in which order, is Falco's.

use std::{
    fs,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    ReadError, RuleSet,
    entries::{Entries, Reader},
    exceptions::Budget,
    expand::Expansion,
    items::error,
    source::{Diagnostic, FileId, Sources, Span},
    yaml,
};
use crate::limits::{RULE_FILE_BYTES_MAX, RULE_FILES_MAX, RULES_BYTES_MAX};

/// Whether Falco reads a path of this name as rules: it ends with `.yaml` or `.yml`, and has that nowhere else.
pub(super) fn is_rule_file(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    [&b".yaml"[..], b".yml"].into_iter().any(|ending| {
        memchr::memmem::find(bytes, ending).is_some_and(|found| found + ending.len() == bytes.len())
    })
}

/// The files of a directory that count, in order.
pub(super) fn files_of_directory(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let wrong = |source| ReadError { path: path.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        if file.is_file() {
            files.push(file);
        }
        if files.len() > RULE_FILES_MAX {
            return Err(wrong(io::Error::other(format!("there are more than {RULE_FILES_MAX} files"))));
        }
    }
    files.sort_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
    Ok(files)
}

/// The text of a file. What is no UTF-8 is replaced, as Falco does it.
pub(super) fn text_of(path: &Path) -> Result<String, ReadError> {
    let wrong = |source| ReadError { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let bound = u64::try_from(RULE_FILE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    fs::File::open(path).and_then(|file| file.take(bound).read_to_end(&mut bytes)).map_err(wrong)?;
    if bytes.len() > RULE_FILE_BYTES_MAX {
        let message = format!("the file is larger than {RULE_FILE_BYTES_MAX} bytes");
        return Err(wrong(io::Error::new(io::ErrorKind::FileTooLarge, message)));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The files that these paths stand for, and what they hold.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, ReadError> {
    let mut files = Vec::new();
    let mut bytes = 0_usize;
    for path in paths {
        let wrong = |message: String| ReadError { path: path.clone(), source: io::Error::other(message) };
        let is_directory =
            fs::metadata(path).map_err(|source| ReadError { path: path.clone(), source })?.is_dir();
        let of_path = if is_directory {
            files_of_directory(path)?.into_iter().filter(|file| is_rule_file(file)).collect()
        } else if is_rule_file(path) {
            vec![path.clone()]
        } else {
            return Err(wrong("Falco reads only files whose names end with .yaml or .yml".to_owned()));
        };
        for file in of_path {
            let text = text_of(&file)?;
            bytes = bytes.saturating_add(text.len());
            files.push((file, text));
        }
        if files.len() > RULE_FILES_MAX || bytes > RULES_BYTES_MAX {
            let message =
                format!("there are more than {RULE_FILES_MAX} rule files or {RULES_BYTES_MAX} bytes in them");
            return Err(wrong(message));
        }
    }
    Ok(files)
}

/// The rules of files.
pub(super) fn parse(files: Vec<(PathBuf, String)>) -> RuleSet {
    let mut sources = Sources::default();
    let mut entries = Entries::default();
    let mut expansion = Expansion::default();
    let (mut bytes, mut is_all_read) = (0_usize, true);
    let last = files.len().saturating_sub(1);
    for (index, (path, text)) in files.into_iter().enumerate() {
        bytes = bytes.saturating_add(text.len());
        let is_too_large =
            index >= RULE_FILES_MAX || text.len() > RULE_FILE_BYTES_MAX || bytes > RULES_BYTES_MAX;
        let file = sources.add(path, if is_too_large { String::new() } else { text });
        if is_too_large {
            let span = Span { file, start: 0, end: 0 };
            expansion
                .diagnostics
                .push(error("this file is too large, or one too many: it was not read", span));
            is_all_read = false;
            continue;
        }
        let since = entries.count;
        let text = sources.file(file).map_or("", |source| source.text.as_str());
        if let Err(diagnostic) = read_file(text, file, &mut entries, &mut expansion.diagnostics) {
            expansion.diagnostics.push(diagnostic);
            is_all_read = false;
        }
        if index < last {
            expansion.check(&entries, since);
        }
    }
    let rules = expansion.rules(&entries);
    if is_all_read {
        expansion.tell_unknown(&entries);
    }
    let diagnostics = in_order(expansion.diagnostics, &sources);
    RuleSet { sources, diagnostics, rules }
}

fn read_file(
    text: &str,
    file: FileId,
    entries: &mut Entries,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let tree = yaml::parse(text, file)?;
    let mut reader = Reader { entries, diagnostics, budget: Budget(RULE_FILE_BYTES_MAX) };
    tree.documents().for_each(|document| reader.document(document));
    Ok(())
}

/// The diagnostics by their places, each once, and none outside its file.
fn in_order(mut diagnostics: Vec<Diagnostic>, sources: &Sources) -> Vec<Diagnostic> {
    for diagnostic in &mut diagnostics {
        let text = sources.file(diagnostic.span.file).map_or("", |source| source.text.as_str());
        diagnostic.span = inside(diagnostic.span, text);
    }
    diagnostics.sort_by(|one, other| {
        let key = |of: &Diagnostic| (of.span.file, of.span.start, of.span.end);
        key(one)
            .cmp(&key(other))
            .then(other.severity.cmp(&one.severity))
            .then_with(|| one.message.cmp(&other.message))
    });
    diagnostics.dedup_by(|one, other| one.span == other.span && one.message == other.message);
    diagnostics
}

/// The part of a span that is inside the text, with whole characters.
fn inside(span: Span, text: &str) -> Span {
    let clamp = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let (mut start, mut end) = (clamp(span.start), clamp(span.end.max(span.start)));
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { start: offset(start), end: offset(end), ..span }
}
