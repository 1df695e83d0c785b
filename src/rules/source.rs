//! The files that rules come from, places in them, and what is said about a place.

use std::{fmt, path::PathBuf};

/// A file of a [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A stretch of one file: byte offsets, `end` excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

/// One file: its name, as it was given, and its text.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path, for messages.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// All files that were read, in order.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file.
    pub fn add(&mut self, path: PathBuf, text: String) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Source { path, text });
        id
    }

    /// The file with this id.
    #[must_use]
    pub fn file(&self, id: FileId) -> Option<&Source> {
        self.files.get(usize::try_from(id.0).ok()?)
    }
}

/// A text taken out of a file, with the place of each of its bytes there: YAML folds lines and undoes escapes, so that
/// the text alone does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The text.
    pub text: String,
    /// Where each byte of the text stands, and after them the end of the last one.
    pub places: Vec<(FileId, u32)>,
}

impl Located {
    /// The stretch of the file that the bytes `start..end` of the text come from. An `end` in another file than the
    /// `start`, as an appended condition has, ends after one byte.
    #[must_use]
    pub fn span(&self, start: usize, end: usize) -> Span {
        let place = |at: usize| self.places.get(at).or(self.places.last()).copied().unwrap_or((FileId(0), 0));
        let (file, first) = place(start);
        let last = if end > start { place(end - 1) } else { (file, first) };
        let end = if last.0 == file { last.1.max(first) } else { first };
        Span { file, start: first, end: end.saturating_add(1) }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Falco would load the file; the user may not have meant it.
    Warning,
    /// Falco would refuse the file.
    Error,
}

/// What is said about a place in a rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, without the place.
    pub message: String,
    /// The place.
    pub span: Span,
    /// What would be accepted, or what to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The message as a user reads it: `FILE:LINE:COLUMN: error: ...`, the line, a caret under the place, and help.
    #[must_use]
    pub fn display<'a>(&'a self, sources: &'a Sources) -> impl fmt::Display + 'a {
        struct Shown<'a>(&'a Diagnostic, &'a Sources);
        impl fmt::Display for Shown<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let path = self.1.file(self.0.span.file).map(|file| file.path.display());
                if let Some(path) = path {
                    write!(f, "{path}: ")?;
                }
                f.write_str(&self.0.message)
            }
        }
        Shown(self, sources)
    }
}
