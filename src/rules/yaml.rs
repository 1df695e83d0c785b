//! YAML as a small tree that knows the place of everything in the file.
//!
//! It owns the bounds on what a file may make us build: depth and number of nodes. An alias is the node that it names,
//! shared and never copied, so that a short file cannot grow. It must never panic, whatever the file holds, and knows
//! nothing of rules. Where the same key stands twice in a mapping the first one counts, as in yaml-cpp, which Falco uses.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::source::{Diagnostic, FileId, Located, Severity, Span};
use crate::limits::{YAML_ATTEMPTS_MAX, YAML_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};

/// What a file holds: documents, in order.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    /// The text that places are looked up in.
    text: &'t str,
    nodes: Vec<Node>,
    documents: Vec<usize>,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    span: Span,
}

#[derive(Debug)]
enum Kind {
    Null,
    Scalar(String, ScalarStyle),
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
}

/// A node of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    tree: &'a Tree<'a>,
    node: &'a Node,
}

/// Reads a file.
///
/// # Errors
/// What is no YAML, or too much of it.
pub(super) fn parse(text: &str, file: FileId) -> Result<Tree<'_>, Diagnostic> {
    let mut shifted = BTreeSet::new();
    for _ in 0..YAML_ATTEMPTS_MAX {
        let input = Input::new(text, file, &shifted);
        let mut builder = Builder::new(text);
        let Err((diagnostic, is_indentation)) = read(&input, &mut builder) else { return Ok(builder.tree) };
        let before = shifted.len();
        if is_indentation {
            shifted.extend(lines_to_shift(text, diagnostic.span, &builder));
        }
        if shifted.len() == before || text.len() + shifted.len() * SHIFT > YAML_BYTES_MAX {
            return Err(diagnostic);
        }
    }
    let span = Span { file, start: 0, end: 0 };
    Err(problem("brackets and quotes in too many places whose lines are not indented", span))
}

/// Reads the input, and tells of an error whether it is about indentation.
fn read(input: &Input<'_>, builder: &mut Builder<'_>) -> Result<(), (Diagnostic, bool)> {
    let mut parser = Parser::new_from_str(&input.text);
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| (input.error(&error), error.info().starts_with("invalid indentation")))?;
        builder.take(event, input.span(&span)).map_err(|diagnostic| (diagnostic, false))?;
    }
    Ok(())
}

/// The lines whose indentation yaml-cpp does not look at, where saphyr takes offence at it.
///
/// YAML wants what stands in `[]`, `{}` and quotes to be indented deeper than what it belongs to, the last bracket
/// included. yaml-cpp does not care, and Falco's own files make use of it. Where this is seen once it is likely again,
/// so that the keys further down that have an open bracket at the end of their line are looked at as well: reading a
/// file again costs more.
fn lines_to_shift(text: &str, wrong: Span, builder: &Builder<'_>) -> Vec<usize> {
    let offset = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    let mut flows = builder.open.iter().map(|open| offset(open.start.end).saturating_sub(1));
    let is_bracket = |at: &usize| text.get(*at..).is_some_and(|rest| rest.starts_with(['[', '{']));
    let mut lines = Vec::new();
    let mut next = Some(flows.find(is_bracket).unwrap_or_else(|| offset(wrong.start)));
    while let Some(start) = next {
        let end = lines_inside(text, start, &mut lines).max(start + 1);
        next = open_bracket(text, end);
    }
    lines
}

/// The next bracket behind a key that is the last thing of its line.
fn open_bracket(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    for line in text.get(from..)?.split_inclusive('\n') {
        at += line.len();
        let key = line.trim_end_matches(['\r', '\n']);
        if key.ends_with(": [") || key.ends_with(": {") {
            return Some(at - line.len() + key.len() - 1);
        }
    }
    None
}

/// Adds the starts of the lines inside the bracket or quote that starts here, and returns where it ends.
fn lines_inside(text: &str, start: usize, lines: &mut Vec<usize>) -> usize {
    let (mut depth, mut quote) = (0_usize, None);
    let mut chars = text.get(start..).unwrap_or("").char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\n', _) => lines.push(start + at + 1),
            ('\\', Some('"')) => _ = chars.next_if(|&(_, next)| next != '\n'),
            ('\'', Some('\'')) if chars.next_if(|&(_, next)| next == '\'').is_some() => {}
            (_, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(c),
            ('#', None) => while chars.next_if(|&(_, next)| next != '\n').is_some() {},
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && quote.is_none() && c != '\n' {
            return start + at + c.len_utf8();
        }
    }
    text.len()
}

/// A file as saphyr is given it, and the way back from saphyr's places, which count characters, to offsets in the file.
struct Input<'t> {
    file: FileId,
    text: Cow<'t, str>,
    /// Bytes of the file before the text.
    base: usize,
    /// The offset of each character; none where it is its index after the base.
    offsets: Option<Vec<usize>>,
    end: usize,
}

impl<'t> Input<'t> {
    /// The file, with a lot of blanks put in front of some of its lines.
    fn new(text: &'t str, file: FileId, shifted: &BTreeSet<usize>) -> Self {
        // A byte order mark is none of the text.
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let base = text.len() - body.len();
        if shifted.is_empty() {
            let offsets = (!body.is_ascii()).then(|| body.char_indices().map(|(at, _)| base + at).collect());
            return Self { file, text: Cow::Borrowed(body), base, offsets, end: text.len() };
        }
        let (mut widened, mut offsets) = (String::new(), Vec::with_capacity(text.len()));
        let mut copied = base;
        for &end in shifted.iter().chain([&text.len()]) {
            let piece = text.get(copied..end).unwrap_or("");
            widened.push_str(piece);
            offsets.extend(piece.char_indices().map(|(at, _)| copied + at));
            copied = end;
            // A blank line stays one.
            if text.get(end..).is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['\r', '\n'])) {
                widened.push_str(&" ".repeat(SHIFT));
                offsets.resize(offsets.len() + SHIFT, end);
            }
        }
        Self { file, text: Cow::Owned(widened), base, offsets: Some(offsets), end: text.len() }
    }

    fn offset(&self, index: usize) -> u32 {
        let offset = match &self.offsets {
            None => self.end.min(self.base + index),
            Some(offsets) => offsets.get(index).copied().unwrap_or(self.end),
        };
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    fn span(&self, span: &saphyr_parser::Span) -> Span {
        let start = self.offset(span.start.index());
        Span { file: self.file, start, end: self.offset(span.end.index()).max(start) }
    }

    fn error(&self, error: &ScanError) -> Diagnostic {
        let start = self.offset(error.marker().index());
        let span = Span { file: self.file, start, end: start.saturating_add(1) };
        problem(format!("this is no YAML: {}", error.info()), span)
    }
}

/// How far a line is shifted: deeper than anything that it may belong to.
const SHIFT: usize = 64;

fn problem(message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic { severity: Severity::Error, message: message.into(), span, help: None }
}

/// A sequence or mapping that has not ended yet.
struct Open {
    is_mapping: bool,
    /// The nodes in it; of a mapping, keys and values in turn.
    children: Vec<usize>,
    anchor: usize,
    start: Span,
}

struct Builder<'t> {
    tree: Tree<'t>,
    open: Vec<Open>,
    /// The nodes that have a name and have ended, so that none can hold itself.
    anchors: HashMap<usize, usize>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        let tree = Tree { text, nodes: Vec::new(), documents: Vec::new() };
        Self { tree, open: Vec::new(), anchors: HashMap::new() }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = Node { kind: scalar(text, style, tag.as_deref()), span };
                self.add(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.start(false, anchor, span),
            Event::MappingStart(anchor, _) => self.start(true, anchor, span),
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(&node) => {
                    self.place(node);
                    Ok(())
                }
                None => Err(problem("an alias in the node that it names", span)),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn start(&mut self, is_mapping: bool, anchor: usize, start: Span) -> Result<(), Diagnostic> {
        if self.open.len() >= YAML_DEPTH_MAX {
            return Err(problem(format!("lists and mappings deeper than {YAML_DEPTH_MAX}"), start));
        }
        self.open.push(Open { is_mapping, children: Vec::new(), anchor, start });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), Diagnostic> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let kind = if open.is_mapping {
            let pairs =
                open.children.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
            Kind::Mapping(pairs.collect())
        } else {
            Kind::Sequence(open.children)
        };
        let span = Span { end: span.end.max(open.start.end), ..open.start };
        self.add(Node { kind, span }, open.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if self.tree.nodes.len() >= YAML_NODES_MAX {
            return Err(problem(format!("more than {YAML_NODES_MAX} values in one file"), node.span));
        }
        let id = self.tree.nodes.len();
        self.tree.nodes.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.place(id);
        Ok(())
    }

    fn place(&mut self, id: usize) {
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.tree.documents.push(id),
        }
    }
}

/// What yaml-cpp takes a scalar for.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    let is_null = matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
    if is_null && style == ScalarStyle::Plain && tag.is_none() {
        Kind::Null
    } else {
        Kind::Scalar(text.into_owned(), style)
    }
}

impl Tree<'_> {
    /// The roots of the documents.
    pub(super) fn documents(&self) -> impl Iterator<Item = Value<'_>> {
        self.documents.iter().filter_map(|&id| self.value(id))
    }

    fn value(&self, id: usize) -> Option<Value<'_>> {
        self.nodes.get(id).map(|node| Value { tree: self, node })
    }
}

impl<'a> Value<'a> {
    /// Its place. Of a block scalar, that of the text under the `|` or `>`.
    pub(super) fn span(self) -> Span {
        self.node.span
    }

    /// The start of it, for what is said of a list or mapping as a whole.
    pub(super) fn start(self) -> Span {
        let start = self.node.span.start;
        Span { end: self.node.span.end.min(start.saturating_add(1)), ..self.node.span }
    }

    /// Whether nothing stands there.
    pub(super) fn is_null(self) -> bool {
        matches!(self.node.kind, Kind::Null)
    }

    /// The text, of a scalar.
    pub(super) fn text(self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// What is in it, of a sequence.
    pub(super) fn items(self) -> Option<impl Iterator<Item = Value<'a>>> {
        match &self.node.kind {
            Kind::Sequence(items) => Some(items.iter().filter_map(move |&id| self.tree.value(id))),
            _ => None,
        }
    }

    /// The keys and what they stand for, of a mapping.
    pub(super) fn entries(self) -> Option<impl Iterator<Item = (Value<'a>, Value<'a>)>> {
        match &self.node.kind {
            Kind::Mapping(pairs) => Some(
                pairs
                    .iter()
                    .filter_map(move |&(key, value)| Some((self.tree.value(key)?, self.tree.value(value)?))),
            ),
            _ => None,
        }
    }

    /// What a key stands for, of a mapping that has it.
    pub(super) fn get(self, key: &str) -> Option<Value<'a>> {
        self.entries()?.find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// The text with the place of each of its bytes. It is empty if this is no scalar.
    pub(super) fn located(self) -> Located {
        let span = self.node.span;
        let file = span.file;
        let Kind::Scalar(text, style) = &self.node.kind else {
            return Located { text: String::new(), places: vec![(file, span.start)] };
        };
        let start = usize::try_from(span.start).unwrap_or(usize::MAX);
        let mut raw = Raw { rest: self.tree.text.get(start..).unwrap_or(""), at: span.start, style: *style };
        raw.skip_properties();
        let mut places = Vec::with_capacity(text.len() + 1);
        for c in text.chars() {
            let place = raw.find(c);
            // The bytes of a character stand one after another if it is written as itself.
            let is_itself = raw.is_last_unit_itself(place, c);
            for byte in 0..c.len_utf8() {
                let offset = if is_itself { u32::try_from(byte).unwrap_or(0) } else { 0 };
                places.push((file, place.saturating_add(offset)));
            }
        }
        places.push((file, raw.at));
        Located { text: text.clone(), places }
    }
}

/// The raw text of a scalar, from which the places of the decoded one are found again.
///
/// The decoded text is followed character by character. All that YAML leaves out or changes is blank (indentation,
/// folded line ends), a quote, or an escape, so that a character that is not blank is the next one in the raw text.
struct Raw<'t> {
    rest: &'t str,
    at: u32,
    style: ScalarStyle,
}

/// What stands at one place of the raw text.
enum Unit {
    /// A character, written with so many bytes.
    Char(char, usize),
    /// An escaped line end: no character.
    Nothing(usize),
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

impl Raw<'_> {
    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
        self.at = self.at.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Skips a tag, an anchor and the opening quote.
    fn skip_properties(&mut self) {
        while self.rest.starts_with(['&', '!']) {
            let property = self.rest.find(is_blank).unwrap_or(self.rest.len());
            self.advance(property);
            let blanks = self.rest.len() - self.rest.trim_start_matches(is_blank).len();
            self.advance(blanks);
        }
        if matches!(self.style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted)
            && self.rest.starts_with(['\'', '"'])
        {
            self.advance(1);
        }
    }

    /// The place of the next character, which is `c`.
    fn find(&mut self, c: char) -> u32 {
        while let Some(unit) = self.unit() {
            match unit {
                Unit::Nothing(bytes) => self.advance(bytes),
                Unit::Char(found, bytes) if found == c || (is_blank(found) && is_blank(c)) => {
                    let place = self.at;
                    self.advance(bytes);
                    return place;
                }
                // Left out, since `c` is none: indentation, or blanks where lines were folded.
                Unit::Char(found, bytes) if is_blank(found) && !is_blank(c) => self.advance(bytes),
                // A line end that stands in front of the text, or at its end where the file ends without one.
                Unit::Char(..) => return self.at,
            }
        }
        self.at
    }

    fn is_last_unit_itself(&self, place: u32, c: char) -> bool {
        usize::try_from(self.at.saturating_sub(place)).is_ok_and(|bytes| bytes == c.len_utf8())
    }

    fn unit(&self) -> Option<Unit> {
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        match (self.style, first) {
            (ScalarStyle::SingleQuoted, '\'') => Some(Unit::Char('\'', 2)),
            (ScalarStyle::DoubleQuoted, '\\') => Some(escaped(chars.as_str())),
            _ => Some(Unit::Char(first, first.len_utf8())),
        }
    }
}

/// What an escape stands for, whose text after the backslash starts here.
fn escaped(text: &str) -> Unit {
    let Some(letter) = text.chars().next() else { return Unit::Nothing(1) };
    let hexadecimal = |digits: usize| {
        let code = text.get(1..=digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        Unit::Char(code.and_then(char::from_u32).unwrap_or('\u{fffd}'), 2 + digits)
    };
    let c = match letter {
        '\n' => return Unit::Nothing(2),
        '\r' => return Unit::Nothing(if text.starts_with("\r\n") { 3 } else { 2 }),
        'x' => return hexadecimal(2),
        'u' => return hexadecimal(4),
        'U' => return hexadecimal(8),
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        't' => '\t',
        'n' => '\n',
        'v' => '\u{b}',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        other => other,
    };
    Unit::Char(c, 1 + letter.len_utf8())
}
