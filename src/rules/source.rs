//! The files that rules come from, places in them, and what is said about a place.
//!
//! Neither places nor texts are trusted: whatever they are, what is shown is one line of bounded length, and nothing in
//! it is left to a terminal.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use crate::terminal::is_hidden;

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

    /// The line and the column where a stretch starts, from 1 on; a column is a character. What lies behind the end of
    /// the file is its end; `None` if there is no such file.
    #[must_use]
    pub fn line_column(&self, span: Span) -> Option<(usize, usize)> {
        let text = &self.file(span.file)?.text;
        let before = text.get(..offset(text, span.start))?;
        let line = 1 + before.bytes().filter(|&byte| byte == b'\n').count();
        let column = 1 + before.get(line_start(before)..)?.chars().count();
        Some((line, column))
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
        Shown { diagnostic: self, sources }
    }
}

/// Columns of the line of a file that are shown. A tab counts as one.
const SHOWN_COLUMNS_MAX: usize = 160;

/// Columns that are shown before the place, if the line is cut there.
const LEAD_COLUMNS: usize = 40;

/// What stands for the part of a line that is not shown.
const CUT: &str = "...";

/// What stands before the line, and before what follows it.
const MARGIN: &str = "  ";

struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, message, span, help } = self.diagnostic;
        let file = self.sources.file(span.file);
        if let (Some(file), Some((line, column))) = (file, self.sources.line_column(*span)) {
            printable(&file.path.to_string_lossy(), f)?;
            write!(f, ":{line}:{column}: ")?;
        }
        write!(f, "{severity}: ")?;
        printable(message, f)?;
        if let Some(file) = file {
            excerpt(&file.text, *span, f)?;
        }
        if let Some(help) = help {
            write!(f, "\n{MARGIN}help: ")?;
            printable(help, f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Writes a text that may hold anything.
fn printable(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|c| f.write_char(if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }))
}

/// Writes the line of a place, and under it the caret.
fn excerpt(text: &str, span: Span, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (start, end) = (offset(text, span.start), offset(text, span.end));
    let (before, after) = text.split_at(start);
    let before = before.get(line_start(before)..).unwrap_or_default();
    let after = after.lines().next().unwrap_or_default();
    let marked = text.get(start..end).unwrap_or_default();
    let marked = marked.lines().next().unwrap_or_default().chars().count();

    let (lead, rest) = (before.chars().count(), after.chars().count());
    let (first, shown) = window(lead, lead + rest);
    write!(f, "\n{MARGIN}{}", if first > 0 { CUT } else { "" })?;
    for c in before.chars().chain(after.chars()).skip(first).take(shown) {
        f.write_char(if is_hidden(c) && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })?;
    }
    f.write_str(if first + shown < lead + rest { CUT } else { "" })?;

    write!(f, "\n{MARGIN}{}", if first > 0 { "   " } else { "" })?;
    for c in before.chars().skip(first) {
        f.write_char(if c == '\t' { '\t' } else { ' ' })?;
    }
    let marked = marked.min((first + shown).saturating_sub(lead)).max(1);
    write!(f, "^{:~<width$}", "", width = marked - 1)
}

/// Of a line of `length` characters, how many to leave out and how many to show, so that the one behind `lead` is seen.
const fn window(lead: usize, length: usize) -> (usize, usize) {
    if length <= SHOWN_COLUMNS_MAX {
        return (0, length);
    }
    let shown = SHOWN_COLUMNS_MAX - CUT.len();
    if lead < shown - LEAD_COLUMNS {
        return (0, shown);
    }
    let first = lead - LEAD_COLUMNS;
    if length - first <= shown { (length - shown, shown) } else { (first, shown - CUT.len()) }
}

/// The offset of the character that a byte belongs to, or the end.
fn offset(text: &str, at: u32) -> usize {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Where the last line of a text starts.
fn line_start(text: &str) -> usize {
    text.rfind('\n').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown for the bytes `start..end` of a file.
    fn shown(text: &str, start: u32, end: u32) -> String {
        let mut sources = Sources::default();
        let file = sources.add("rules.yaml".into(), text.to_owned());
        let span = Span { file, start, end };
        let help = Some("try another".to_owned());
        Diagnostic { severity: Severity::Error, message: "no".to_owned(), span, help }
            .display(&sources)
            .to_string()
    }

    #[test]
    fn a_diagnostic_shows_its_place_with_a_caret_and_help() {
        let text = "- rule: a\n  condition: evt.type is open\n  output: b\n";
        let at = u32::try_from(text.find("is").unwrap()).unwrap();
        assert_eq!(
            shown(text, at, at + 7),
            "rules.yaml:2:23: error: no\n  \
             \x20 condition: evt.type is open\n  \
             \x20                     ^~~~~~~\n  \
             help: try another"
        );
    }

    #[test]
    fn a_caret_stands_under_its_place_behind_tabs_and_letters_of_many_bytes() {
        assert_eq!(
            shown("\t\u{e4}\tb c", 4, 5),
            "rules.yaml:1:4: error: no\n  \t\u{e4}\tb c\n  \t \t^\n  help: try another"
        );
        // The second byte of a letter stands for the letter.
        assert!(shown("\u{e4}b", 1, 2).starts_with("rules.yaml:1:1: "));
    }

    #[test]
    fn only_the_first_line_of_a_place_is_marked() {
        assert_eq!(shown("ab\r\ncd", 1, 6), "rules.yaml:1:2: error: no\n  ab\n   ^\n  help: try another");
    }

    #[test]
    fn the_end_of_a_file_can_be_shown() {
        assert_eq!(shown("ab", 2, 3), "rules.yaml:1:3: error: no\n  ab\n    ^\n  help: try another");
        assert_eq!(shown("", 0, 1), "rules.yaml:1:1: error: no\n  \n  ^\n  help: try another");
    }

    #[test]
    fn a_place_that_is_not_there_does_no_harm() {
        assert!(shown("ab\n", u32::MAX, 0).starts_with("rules.yaml:2:1: error: no\n"));
        let span = Span { file: FileId(7), start: 3, end: 2 };
        let diagnostic =
            Diagnostic { severity: Severity::Warning, message: "no".to_owned(), span, help: None };
        assert_eq!(diagnostic.display(&Sources::default()).to_string(), "warning: no");
        assert_eq!(Sources::default().line_column(span), None);
    }

    #[test]
    fn what_would_move_the_cursor_of_a_terminal_is_replaced() {
        let shown = shown("a\u{1b}[2Jb\u{202e}c", 0, 1);
        assert!(shown.contains("a\u{fffd}[2Jb\u{fffd}c"), "{shown}");
        assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'), "{shown}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        for length in [159, 160, 161, 200, 1000] {
            let text: String = (0..length).map(|at| if at % 10 == 0 { '|' } else { 'x' }).collect();
            for at in 0..=length {
                let shown = shown(&text, at, at + 500);
                let lines: Vec<_> = shown.lines().collect();
                let (line, carets) = (lines[1], lines[2]);
                assert!(line.len() <= MARGIN.len() + SHOWN_COLUMNS_MAX, "{shown}");
                assert!(carets.len() <= line.len().max(carets.find('^').unwrap() + 1), "{shown}");
                let under = line.as_bytes().get(carets.find('^').unwrap()).map(|&byte| byte == b'|');
                assert_eq!(under, (at < length).then_some(at % 10 == 0), "{shown}");
                assert_eq!(line.contains(CUT), length > 160, "{shown}");
            }
        }
    }
}
