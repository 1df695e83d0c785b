//! Edits of a text: they are noted by places of the text as it was, and made all at once.
//!
//! Nothing else of the text changes. Pieces that are inserted are written here with two blanks for each level, one entry
//! or item a line, and take on the indentation and the line ends of the file. What cannot be edited so that everything
//! around it keeps its meaning is refused with its place: nothing is guessed.

use std::cmp::Reverse;

use super::{Refusal, tree::Value};

/// Edits that are to be made.
#[derive(Debug)]
pub(super) struct Edits<'t> {
    text: &'t str,
    edits: Vec<Edit>,
}

/// What is taken out, and what is put there.
#[derive(Debug)]
struct Edit {
    start: usize,
    end: usize,
    /// Of what is inserted at one place the deepest comes first, since what it belongs to has to end after it.
    depth: usize,
    with: String,
}

impl<'t> Edits<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// Puts something in the place of a piece of the text, which may be empty.
    pub(super) fn replace(&mut self, start: usize, end: usize, with: String) {
        self.edits.push(Edit { start, end, depth: 0, with });
    }

    /// Inserts something.
    fn insert(&mut self, at: usize, depth: usize, with: String) {
        self.edits.push(Edit { start: at, end: at, depth, with });
    }

    /// The text with all edits made. What was inserted at one place at one depth stands in the order in
    /// which it was asked for.
    ///
    /// # Errors
    /// Two edits of the same piece.
    pub(super) fn apply(mut self) -> Result<String, Refusal> {
        self.edits.sort_by_key(|edit| (edit.start, edit.end, Reverse(edit.depth)));
        let crlf = self.text.split_once('\n').is_some_and(|(line, _)| line.ends_with('\r'));
        let (mut out, mut copied) = (String::with_capacity(self.text.len()), 0);
        for Edit { start, end, with, .. } in &self.edits {
            let Some(kept) = self.text.get(copied..*start) else {
                return Err(Refusal::at(*start, "two changes meet here".into()));
            };
            out.push_str(kept);
            if crlf {
                out.push_str(&with.replace("\r\n", "\n").replace('\n', "\r\n"));
            } else {
                out.push_str(with);
            }
            copied = *end;
        }
        out.push_str(self.text.get(copied..).unwrap_or(""));
        Ok(out)
    }
}

/// The start of the line in which a place is.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// What stands before a place in its line.
fn before(text: &str, at: usize) -> &str {
    text.get(line_start(text, at)..at).unwrap_or("")
}

/// What stands behind a place in its line, without the line's end.
fn behind(text: &str, at: usize) -> &str {
    text.get(at..).and_then(|rest| rest.lines().next()).unwrap_or("")
}

/// A string as JSON, which is YAML as well.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Edits of JSON.
#[derive(Debug)]
pub(super) struct Json<'t> {
    edits: Edits<'t>,
    text: &'t str,
    /// A level of indentation.
    unit: &'t str,
}

impl<'t> Json<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        // The first line that is indented tells how.
        let mut indented = text.lines().skip(1).map(|line| {
            let rest = line.trim_start_matches([' ', '\t']);
            line.get(..line.len() - rest.len()).unwrap_or("")
        });
        let unit = indented.find(|blanks| !blanks.is_empty()).unwrap_or("  ");
        Self { edits: Edits::new(text), text, unit }
    }

    /// Adds an entry, as `"key": value`, behind the first of these keys that is there, or else as the last one.
    pub(super) fn add_entry(&mut self, object: Value<'_>, after: &[&str], piece: &str) {
        let anchor = after
            .iter()
            .find_map(|key| object.get(key))
            .or_else(|| object.entries().last().map(|(_, value)| value));
        self.insert(object, anchor, &[piece.to_owned()]);
    }

    /// Adds items at the end of a list.
    pub(super) fn append(&mut self, list: Value<'_>, pieces: &[String]) {
        self.insert(list, list.items().last(), pieces);
    }

    fn insert(&mut self, container: Value<'_>, anchor: Option<Value<'_>>, pieces: &[String]) {
        let first = container.entries().map(|(key, _)| key).chain(container.items()).next();
        let indentation = self.indentation(container, first);
        let pieces = pieces.iter().map(|piece| match &indentation {
            Some(blanks) => format!("\n{blanks}{}", indented(piece, blanks, self.unit)),
            None => one_line(piece),
        });
        let pieces: Vec<_> = pieces.collect();
        if let Some(anchor) = anchor {
            let comma = if indentation.is_some() { "," } else { ", " };
            let text = pieces.iter().map(|piece| format!("{comma}{piece}")).collect();
            self.edits.replace(anchor.end(), anchor.end(), text);
        } else {
            let separator = if indentation.is_some() { "," } else { ", " };
            let end = match indentation {
                Some(blanks) => format!("\n{}", blanks.strip_suffix(self.unit).unwrap_or("")),
                None => String::new(),
            };
            let text = format!("{}{end}", pieces.join(separator));
            self.edits.replace(container.start() + 1, container.end().saturating_sub(1), text);
        }
    }

    /// Puts words in front of a list.
    pub(super) fn prepend(&mut self, list: Value<'_>, words: &[String]) {
        let Some(first) = list.items().next() else {
            return self.append(list, &words.iter().map(|word| quoted(word)).collect::<Vec<_>>());
        };
        let separator =
            self.indentation(list, Some(first)).map_or_else(|| ", ".into(), |blanks| format!(",\n{blanks}"));
        let text = words.iter().map(|word| format!("{}{separator}", quoted(word))).collect();
        self.edits.replace(first.start(), first.start(), text);
    }

    /// Puts another text in the place of a value.
    pub(super) fn replace(&mut self, value: Value<'_>, text: String) {
        self.edits.replace(value.start(), value.end(), text);
    }

    /// Takes one entry out.
    pub(super) fn remove(&mut self, object: Value<'_>, name: &str) {
        let entries: Vec<_> = object.entries().collect();
        let Some(at) = entries.iter().position(|(key, _)| key.text() == Some(name)) else { return };
        let (start, end) =
            match (at.checked_sub(1).and_then(|at| entries.get(at)), entries.get(at), entries.get(at + 1)) {
                // Up to the next key, so that the comma goes along.
                (_, Some((key, _)), Some((next, _))) => (key.start(), next.start()),
                (Some((_, previous)), Some((_, value)), None) => (previous.end(), value.end()),
                _ => (object.start() + 1, object.end().saturating_sub(1)),
            };
        self.edits.replace(start, end, String::new());
    }

    /// The indentation of what is in a container, or nothing where all of it is on one line.
    fn indentation(&self, container: Value<'_>, first: Option<Value<'_>>) -> Option<String> {
        if let Some(first) = first {
            let blanks = before(self.text, first.start());
            return blanks.trim().is_empty().then(|| blanks.to_owned());
        }
        let line = before(self.text, container.start());
        let blanks = line.get(..line.len() - line.trim_start().len()).unwrap_or("");
        // Something of the same line means nothing where the whole file is one line.
        self.text.trim_end().contains('\n').then(|| format!("{blanks}{}", self.unit))
    }

    /// The text with all edits made.
    ///
    /// # Errors
    /// As of [`Edits::apply`].
    pub(super) fn apply(self) -> Result<String, Refusal> {
        self.edits.apply()
    }
}

/// A piece whose lines but the first are indented by `blanks`, and whose own levels of two blanks become `unit`.
fn indented(piece: &str, blanks: &str, unit: &str) -> String {
    let lines = piece.lines().enumerate().map(|(number, line)| {
        let content = line.trim_start_matches(' ');
        let levels = (line.len() - content.len()) / 2;
        match number {
            0 => line.to_owned(),
            _ => format!("{blanks}{}{content}", unit.repeat(levels)),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn one_line(piece: &str) -> String {
    let lines: Vec<_> = piece.lines().map(str::trim).collect();
    lines.join(" ")
}

/// Edits of YAML.
#[derive(Debug)]
pub(super) struct Yaml<'t> {
    edits: Edits<'t>,
    text: &'t str,
    /// Documents that are to be added behind everything else.
    documents: Vec<String>,
}

impl<'t> Yaml<'t> {
    /// A text whose last line has an end.
    pub(super) fn new(text: &'t str) -> Self {
        Self { edits: Edits::new(text), text, documents: Vec::new() }
    }

    /// Adds an entry, as `key: value`, behind the first of these keys that is there, or else as the last one.
    ///
    /// # Errors
    /// A mapping that cannot be edited.
    pub(super) fn add_entry(
        &mut self,
        mapping: Value<'_>,
        after: &[&str],
        piece: &str,
    ) -> Result<(), Refusal> {
        let column = self.column_of(mapping)?;
        let anchor = after.iter().find_map(|key| mapping.get(key)).unwrap_or(mapping);
        let at = self.line_after(anchor)?;
        self.edits.insert(at, 2 * column, shifted(piece, column));
        Ok(())
    }

    /// Adds an item, as `- value`, at the end of a list.
    ///
    /// # Errors
    /// A list that cannot be edited.
    pub(super) fn append(&mut self, list: Value<'_>, piece: &str) -> Result<(), Refusal> {
        let column = self.dash_of(list)?;
        let at = self.line_after(list)?;
        // The dashes of a list may stand below its key, and the next key in the same column.
        self.edits.insert(at, 2 * column + 1, shifted(piece, column));
        Ok(())
    }

    /// Puts words in front of a list.
    ///
    /// # Errors
    /// A list that cannot be edited.
    pub(super) fn prepend(&mut self, list: Value<'_>, words: &[String]) -> Result<(), Refusal> {
        if list.has_properties() {
            return Err(named(list));
        }
        if list.is_flow() {
            let end = if list.items().next().is_some() { ", " } else { "" };
            let text = words.iter().map(|word| plain_or_quoted(word)).collect::<Vec<_>>().join(", ");
            self.edits.replace(list.start() + 1, list.start() + 1, format!("{text}{end}"));
            return Ok(());
        }
        let column = self.dash_of(list)?;
        let first = list.items().next().map_or(list.start(), Value::start);
        let at = line_start(self.text, first);
        let text =
            words.iter().map(|word| shifted(&format!("- {}", plain_or_quoted(word)), column)).collect();
        self.edits.replace(at, at, text);
        Ok(())
    }

    /// Puts a word in the place of another.
    ///
    /// # Errors
    /// A word that has an anchor, or stands for one.
    pub(super) fn replace(&mut self, value: Value<'_>, word: &str) -> Result<(), Refusal> {
        if value.has_properties() {
            return Err(named(value));
        }
        self.edits.replace(value.start(), value.end(), plain_or_quoted(word));
        Ok(())
    }

    /// Adds a document at the end.
    pub(super) fn add_document(&mut self, piece: &str) {
        self.documents.push(format!("---\n{piece}\n"));
    }

    /// How much deeper the dashes of a list stand than its key.
    ///
    /// # Errors
    /// A list or a mapping that cannot be edited.
    pub(super) fn step(&self, mapping: Value<'_>, list: Value<'_>) -> Result<usize, Refusal> {
        Ok(self.dash_of(list)?.saturating_sub(self.column_of(mapping)?))
    }

    /// The column of the keys of a block mapping.
    fn column_of(&self, mapping: Value<'_>) -> Result<usize, Refusal> {
        is_block(mapping)?;
        if let Some((merge, _)) = mapping.entries().find(|(key, _)| key.text() == Some("<<")) {
            return Err(Refusal::at(merge.start(), "this merges what stands elsewhere: write it out".into()));
        }
        let first = mapping.entries().next().map_or(mapping.start(), |(key, _)| key.start());
        let line = before(self.text, first);
        // Dashes of lists that begin in the same line.
        if !line.chars().all(|c| matches!(c, ' ' | '-')) {
            return Err(Refusal::at(
                first,
                "tabs or a key stand before this in its line: begin a new one".into(),
            ));
        }
        Ok(line.len())
    }

    /// The column of the dashes of a block list.
    fn dash_of(&self, list: Value<'_>) -> Result<usize, Refusal> {
        is_block(list)?;
        let first = list.items().next().map_or(list.start(), Value::start);
        let line = before(self.text, first).trim_end_matches(' ');
        match line.strip_suffix('-') {
            Some(blanks) if blanks.chars().all(|c| c == ' ') => Ok(blanks.len()),
            _ => Err(Refusal::at(
                first,
                "this item cannot be told by its dash: begin it in the line of the dash".into(),
            )),
        }
    }

    /// The start of the line after a value, behind which nothing else may stand in its line.
    fn line_after(&self, value: Value<'_>) -> Result<usize, Refusal> {
        let end = value.end();
        // A block of text ends where the next thing begins.
        let head = before(self.text, end);
        if !head.is_empty() && head.trim().is_empty() || end == line_start(self.text, end) {
            return Ok(line_start(self.text, end));
        }
        let rest = behind(self.text, end);
        let rest = rest.trim_start();
        let rest = rest.strip_prefix([':', '-']).unwrap_or(rest).trim_start();
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(Refusal::at(end, "something else follows in this line: begin a new one".into()));
        }
        let newline = self.text.get(end..).and_then(|rest| rest.find('\n'));
        Ok(newline.map_or(self.text.len(), |newline| end + newline + 1))
    }

    /// The text with all edits made.
    ///
    /// # Errors
    /// As of [`Edits::apply`].
    pub(super) fn apply(mut self) -> Result<String, Refusal> {
        let end = self.text.len();
        self.edits.replace(end, end, self.documents.concat());
        self.edits.apply()
    }
}

/// # Errors
/// What is in brackets, has a name, or stands for something elsewhere.
fn is_block(value: Value<'_>) -> Result<(), Refusal> {
    if value.has_properties() {
        return Err(named(value));
    }
    if value.is_flow() || !(value.is_list() || value.is_mapping()) {
        let message =
            "only what is written as a block, one entry or item a line, can be added to: write it so".into();
        return Err(Refusal::at(value.start(), message));
    }
    Ok(())
}

fn named(value: Value<'_>) -> Refusal {
    Refusal::at(
        value.start(),
        "an anchor, an alias or a tag, which may mean other places too: write it out".into(),
    )
}

/// The lines of a piece, each with a line end, moved to a column.
fn shifted(piece: &str, column: usize) -> String {
    let blanks = " ".repeat(column);
    piece
        .lines()
        .map(|line| if line.is_empty() { "\n".into() } else { format!("{blanks}{line}\n") })
        .collect()
}

/// A word as YAML: as it is if nobody can take it for something else. Numbers, in any notation, and dates begin with a digit, a
/// sign or a dot.
pub(super) fn plain_or_quoted(word: &str) -> String {
    let is_plain_start = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_');
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@' | '=' | '+' | ':');
    let body = word.strip_prefix("--").unwrap_or(word);
    let is_safe = body.starts_with(is_plain_start)
        && body.chars().all(is_plain)
        && !body.ends_with(':')
        && !["y", "n", "yes", "no", "on", "off", "true", "false", "null"]
            .contains(&word.to_ascii_lowercase().as_str());
    if is_safe { word.into() } else { quoted(word) }
}
