//! Lists, put into the text of a condition in the way of Falco.
//!
//! Falco replaces names of lists in the text, before it parses it, one list after another in the order of their first
//! definitions. So a name is replaced wherever it stands between blanks, brackets, commas or `=`, even in quotes; and
//! what an earlier list put in is replaced by a later list, but not the other way round. All of this decides what a
//! rule says, and is kept. The size of what comes out is bounded, and so is the work.

use std::{borrow::Cow, collections::HashMap};

use super::{
    entries::{List, Named},
    source::{FileId, Located, Span},
};
use crate::limits::{CONDITION_BYTES_MAX, LIST_DEPTH_MAX, RULES_BYTES_MAX, SUBSTITUTIONS_MAX};

/// A text that is being put together from pieces of files.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    places: Vec<(FileId, u32)>,
}

impl Text {
    /// Adds the bytes `start..end` of a text.
    pub(super) fn push(&mut self, piece: &Located, start: usize, end: usize) {
        let (Some(text), Some(places)) = (piece.text.get(start..end), piece.places.get(start..end)) else {
            return;
        };
        self.text.push_str(text);
        self.places.extend_from_slice(places);
    }

    /// Adds a whole text.
    pub(super) fn push_all(&mut self, piece: &Located) {
        self.push(piece, 0, piece.text.len());
    }

    /// Adds what stands in no file, with the place of what it belongs to.
    pub(super) fn push_str(&mut self, text: &str, place: (FileId, u32)) {
        self.text.push_str(text);
        self.places.resize(self.text.len(), place);
    }

    /// Adds a blank that belongs to what is before it.
    fn push_blank(&mut self) {
        if let Some(&place) = self.places.last() {
            self.push_str(" ", place);
        }
    }

    fn pop(&mut self) {
        self.text.pop();
        self.places.truncate(self.text.len());
    }

    fn trim_blanks(&mut self) {
        self.text.truncate(self.text.trim_end_matches(is_blank).len());
        self.places.truncate(self.text.len());
    }

    /// The text, which ends at a place.
    pub(super) fn finish(mut self, end: (FileId, u32)) -> Located {
        self.places.push(end);
        Located { text: self.text, places: self.places }
    }
}

/// The place of the first byte of a text, or where it would be.
pub(super) fn first_place(text: &Located) -> (FileId, u32) {
    text.places.first().copied().unwrap_or((FileId(0), 0))
}

/// The place after the last byte of a text.
pub(super) fn last_place(text: &Located) -> (FileId, u32) {
    text.places.last().copied().unwrap_or((FileId(0), 0))
}

/// Adds one value as Falco does: in quotes if there is a blank in it and it is not quoted already.
pub(super) fn push_quoted(into: &mut Text, value: &Located) {
    let needs_quotes = value.text.contains(' ') && !value.text.starts_with(['"', '\'']);
    if needs_quotes {
        into.push_str("\"", first_place(value));
    }
    into.push_all(value);
    if needs_quotes {
        into.push_str("\"", last_place(value));
    }
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'(' | b')' | b',' | b'=')
}

/// More comes out of a condition, or of all of them, than there may.
#[derive(Debug)]
pub(super) struct TooLarge;

/// A list that holds the name of an earlier one, which Falco leaves as a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftName {
    /// The name.
    pub(super) name: String,
    /// Where it stands in the list.
    pub(super) span: Span,
}

/// More of them are not told of.
const LEFT_NAMES_MAX: usize = 32;

/// One list, ready to be put in.
#[derive(Debug)]
struct Ready {
    /// Its items, between commas.
    items: Located,
    /// Whether a name of a list stands among them.
    has_names: bool,
    is_used: bool,
}

/// All lists, ready to be put in.
#[derive(Debug)]
pub(super) struct Lists {
    lists: Vec<Ready>,
    by_name: HashMap<String, usize>,
    /// Bytes that may still come out of conditions.
    bytes_left: usize,
    /// Names that were left where a list was meant, perhaps.
    left: Vec<LeftName>,
}

/// The work on one condition.
struct Scan {
    out: Text,
    substitutions: usize,
}

impl Lists {
    /// Makes lists ready. A list in a list is put in if it was defined before the other was last changed, as its own
    /// items, one level deep: the rest happens in the conditions.
    pub(super) fn new(lists: &Named<List>) -> Result<Self, (TooLarge, Span)> {
        let mut ready = Vec::new();
        let mut used = Vec::new();
        let mut bytes_left = RULES_BYTES_MAX;
        for list in lists.all() {
            let mut text = Text::default();
            for item in &list.items {
                let inner = lists.find(&item.text).filter(|inner| inner.index < list.visibility);
                used.extend(inner.and_then(|inner| lists.position(&inner.name)));
                let items = inner.map_or(std::slice::from_ref(item), |inner| &inner.items);
                for item in items {
                    if !text.text.is_empty() {
                        text.push_str(", ", first_place(item));
                    }
                    push_quoted(&mut text, item);
                }
                if text.text.len() > bytes_left {
                    return Err((TooLarge, list.span));
                }
            }
            bytes_left -= text.text.len();
            let end = text.places.last().copied().unwrap_or((list.span.file, list.span.start));
            ready.push(Ready { items: text.finish(end), has_names: false, is_used: false });
        }
        for position in used {
            if let Some(list) = ready.get_mut(position) {
                list.is_used = true;
            }
        }
        let by_name = lists.all().enumerate().map(|(position, list)| (list.name.clone(), position)).collect();
        let mut lists = Self { lists: ready, by_name, bytes_left, left: Vec::new() };
        lists.find_names();
        Ok(lists)
    }

    fn find_names(&mut self) {
        for list in &mut self.lists {
            let mut runs = Runs { text: &list.items.text, at: 0 };
            list.has_names = runs.any(|(start, end)| {
                list.items.text.get(start..end).is_some_and(|run| self.by_name.contains_key(run))
            });
        }
    }

    /// The condition with the lists in it.
    ///
    /// # Errors
    /// If more comes out than there may.
    pub(super) fn substitute<'c>(&mut self, condition: &'c Located) -> Result<Cow<'c, Located>, TooLarge> {
        let mut runs = Runs { text: &condition.text, at: 0 };
        let is_named = runs.any(|(start, end)| {
            condition.text.get(start..end).is_some_and(|run| self.by_name.contains_key(run))
        });
        if !is_named {
            return Ok(Cow::Borrowed(condition));
        }
        let mut scan = Scan { out: Text::default(), substitutions: 0 };
        self.put_into(&mut scan, condition, 0, 0)?;
        self.bytes_left = self.bytes_left.checked_sub(scan.out.text.len()).ok_or(TooLarge)?;
        Ok(Cow::Owned(scan.out.finish(last_place(condition))))
    }

    /// Copies `source` with the lists from `first` on put in. Tells whether an empty list at its end still has to take
    /// a comma with it.
    fn put_into(
        &mut self,
        scan: &mut Scan,
        source: &Located,
        first: usize,
        depth: usize,
    ) -> Result<bool, TooLarge> {
        let mut runs = Runs { text: &source.text, at: 0 };
        let mut copied = 0;
        let mut owes_comma = false;
        while let Some((start, end)) = runs.next() {
            let Some(position) = self.list_at(source, start, end, first) else { continue };
            scan.out.push(source, copied, start);
            let rest = source.text.get(end..).unwrap_or("");
            let mut after = end + (rest.len() - rest.trim_start_matches(is_blank).len());
            owes_comma = self.put_list(scan, position, depth)?;
            if owes_comma && source.text.get(after..).is_some_and(|rest| rest.starts_with(',')) {
                after += 1;
                owes_comma = false;
            }
            owes_comma &= after == source.text.len();
            (copied, runs.at) = (after, after);
        }
        scan.out.push(source, copied, source.text.len());
        Ok(owes_comma && copied == source.text.len())
    }

    /// Puts one list in, and tells whether it was empty and has found no comma in front of it.
    fn put_list(&mut self, scan: &mut Scan, position: usize, depth: usize) -> Result<bool, TooLarge> {
        scan.substitutions += 1;
        let length = self.lists.get(position).map_or(0, |list| list.items.text.len());
        if depth >= LIST_DEPTH_MAX
            || scan.substitutions > SUBSTITUTIONS_MAX
            || scan.out.text.len() + length > CONDITION_BYTES_MAX
        {
            return Err(TooLarge);
        }
        scan.out.trim_blanks();
        let Some(list) = self.lists.get_mut(position) else { return Ok(false) };
        list.is_used = true;
        if list.items.text.is_empty() {
            let has_comma = scan.out.text.ends_with(',');
            if has_comma {
                scan.out.pop();
            }
            scan.out.push_blank();
            return Ok(!has_comma);
        }
        scan.out.push_blank();
        let owes_comma = if list.has_names {
            // Taken out for as long as it is read: it comes before all that are put in meanwhile.
            let items =
                std::mem::replace(&mut list.items, Located { text: String::new(), places: Vec::new() });
            let result = self.put_into(scan, &items, position + 1, depth + 1);
            if let Some(list) = self.lists.get_mut(position) {
                list.items = items;
            }
            result?
        } else {
            scan.out.push_all(&list.items);
            false
        };
        scan.out.push_blank();
        Ok(owes_comma)
    }

    /// The list that a run of the source names, if it is one of those from `first` on.
    fn list_at(&mut self, source: &Located, start: usize, end: usize, first: usize) -> Option<usize> {
        let run = source.text.get(start..end)?;
        let position = *self.by_name.get(run)?;
        if position >= first {
            return Some(position);
        }
        // A list may well hold a word that is also its own name.
        if position + 1 < first && self.left.len() < LEFT_NAMES_MAX {
            let left = LeftName { name: run.to_owned(), span: source.span(start, end) };
            if !self.left.contains(&left) {
                self.left.push(left);
            }
        }
        None
    }

    /// Whether a condition or another list has the name of this one in it.
    pub(super) fn is_used(&self, position: usize) -> bool {
        self.lists.get(position).is_some_and(|list| list.is_used)
    }

    /// The names of lists that were left as words in what was put in.
    pub(super) fn left_names(&self) -> &[LeftName] {
        &self.left
    }
}

/// The stretches of a text between delimiters.
struct Runs<'t> {
    text: &'t str,
    at: usize,
}

impl Iterator for Runs<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let bytes = self.text.as_bytes();
        let start = self.at + bytes.get(self.at..)?.iter().position(|&byte| !is_delimiter(byte))?;
        let rest = bytes.get(start..)?;
        let end = start + rest.iter().position(|&byte| is_delimiter(byte)).unwrap_or(rest.len());
        self.at = end;
        Some((start, end))
    }
}
