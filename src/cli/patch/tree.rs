//! A file as a small tree that knows where everything stands in it: what the editors need, and nothing of ECS or Kubernetes.
//!
//! It owns the bounds on what a file may make us build. YAML is read by a parser that tells places; JSON by one of our own,
//! after serde_json has said that it is JSON: the YAML parser refuses some of it. It must never panic, whatever the file
//! holds. Aliases are not followed: what they stand for is somewhere else, where an edit would change more than was meant.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::Refusal;
use crate::limits::{YAML_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};

/// What a file holds: documents, in order.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    documents: Vec<usize>,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    /// Bytes of the file. A block of YAML begins with its first key or item, and ends where the last thing in it does.
    start: usize,
    end: usize,
    /// Whether it stands in brackets.
    is_flow: bool,
    /// Whether it has an anchor or a tag.
    has_properties: bool,
}

#[derive(Debug)]
enum Kind {
    Text(String),
    Other,
    List(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
}

/// A node of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    tree: &'a Tree,
    node: &'a Node,
}

impl Tree {
    /// Reads YAML.
    ///
    /// # Errors
    /// What is no YAML, or too much of it.
    pub(super) fn yaml(text: &str) -> Result<Self, Refusal> {
        is_bounded(text)?;
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let base = text.len() - body.len();
        // The parser counts characters.
        let offsets: Vec<usize> = body.char_indices().map(|(at, _)| base + at).collect();
        let offset = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
        let mut builder = Builder::default();
        let mut parser = Parser::new_from_str(body);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                Refusal::at(offset(error.marker().index()), format!("this is no YAML: {}", error.info()))
            })?;
            let start = offset(span.start.index());
            builder.take(event, start, offset(span.end.index()).max(start), text)?;
        }
        Ok(builder.tree)
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// What is no JSON, or too much of it.
    pub(super) fn json(text: &str) -> Result<Self, Refusal> {
        is_bounded(text)?;
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| {
            let line = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let at = line.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
            let message = error.to_string();
            // The place is told once, in our own way.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            // Columns are bytes, and the one that is told may be in the middle of a character.
            let at = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
            Refusal::at(at.unwrap_or(0), format!("this is no JSON: {message}"))
        })?;
        let mut reader = Json { text, at: 0, tree: Self::default() };
        let root = reader.value(0)?;
        reader.tree.documents.push(root);
        Ok(reader.tree)
    }

    /// The roots of the documents.
    pub(super) fn documents(&self) -> impl Iterator<Item = Value<'_>> {
        self.documents.iter().filter_map(|&id| self.value(id))
    }

    fn value(&self, id: usize) -> Option<Value<'_>> {
        self.nodes.get(id).map(|node| Value { tree: self, node })
    }

    fn add(&mut self, node: Node) -> Result<usize, Refusal> {
        if self.nodes.len() >= YAML_NODES_MAX {
            return Err(Refusal::at(node.start, format!("more than {YAML_NODES_MAX} values in one file")));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }
}

fn is_bounded(text: &str) -> Result<(), Refusal> {
    if text.len() > YAML_BYTES_MAX {
        return Err(Refusal::of_all(format!("more than {YAML_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// What has begun and not ended.
struct Open {
    is_mapping: bool,
    is_flow: bool,
    has_properties: bool,
    /// The nodes in it; of a mapping, keys and values in turn.
    children: Vec<usize>,
    start: usize,
}

/// Makes a tree of what the YAML parser tells.
#[derive(Default)]
struct Builder {
    tree: Tree,
    open: Vec<Open>,
    /// Where the last thing that is not a mere end has ended.
    last_end: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, start: usize, end: usize, text: &str) -> Result<(), Refusal> {
        match event {
            Event::Scalar(content, style, anchor, tag) => {
                let has_properties = anchor != 0 || tag.is_some();
                let is_nothing = style == ScalarStyle::Plain && content.is_empty();
                let kind = if is_nothing { Kind::Other } else { Kind::Text(content.into_owned()) };
                // Nothing has no place of its own: it ends with what stands before it.
                let (start, end) = if is_nothing { (self.last_end, self.last_end) } else { (start, end) };
                self.leaf(Node { kind, start, end, is_flow: false, has_properties })
            }
            Event::Alias(_) => {
                self.leaf(Node { kind: Kind::Other, start, end, is_flow: false, has_properties: true })
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(false, anchor != 0 || tag.is_some(), start, end, text)
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(true, anchor != 0 || tag.is_some(), start, end, text)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(end),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {
                self.last_end = self.last_end.max(end);
                Ok(())
            }
        }
    }

    fn begin(
        &mut self,
        is_mapping: bool,
        has_properties: bool,
        start: usize,
        end: usize,
        text: &str,
    ) -> Result<(), Refusal> {
        if self.open.len() >= YAML_DEPTH_MAX {
            return Err(Refusal::at(start, format!("lists and mappings deeper than {YAML_DEPTH_MAX}")));
        }
        let is_flow = text.get(start..end).is_some_and(|text| text.starts_with(['[', '{']));
        self.last_end = self.last_end.max(end);
        self.open.push(Open { is_mapping, is_flow, has_properties, children: Vec::new(), start });
        Ok(())
    }

    fn end(&mut self, end: usize) -> Result<(), Refusal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let kind =
            if open.is_mapping { Kind::Mapping(pairs(&open.children)) } else { Kind::List(open.children) };
        // The end of a block is told where the next thing begins.
        let end = if open.is_flow { end } else { self.last_end };
        self.last_end = end;
        let node =
            Node { kind, start: open.start, end, is_flow: open.is_flow, has_properties: open.has_properties };
        self.place(node)
    }

    fn leaf(&mut self, node: Node) -> Result<(), Refusal> {
        self.last_end = node.end;
        self.place(node)
    }

    fn place(&mut self, node: Node) -> Result<(), Refusal> {
        let id = self.tree.add(node)?;
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.tree.documents.push(id),
        }
        Ok(())
    }
}

fn pairs(children: &[usize]) -> Vec<(usize, usize)> {
    children.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect()
}

/// Reads what is known to be JSON.
struct Json<'t> {
    text: &'t str,
    at: usize,
    tree: Tree,
}

impl Json<'_> {
    fn value(&mut self, depth: usize) -> Result<usize, Refusal> {
        self.skip(" \t\r\n");
        let start = self.at;
        if depth > YAML_DEPTH_MAX {
            return Err(Refusal::at(start, format!("lists and objects deeper than {YAML_DEPTH_MAX}")));
        }
        let (kind, is_flow) = match self.next() {
            Some(b'{') => (Kind::Mapping(pairs(&self.children(depth)?)), true),
            Some(b'[') => (Kind::List(self.children(depth)?), true),
            Some(b'"') => (self.string(), false),
            _ => {
                let rest = self.text.get(start..).unwrap_or("");
                self.at =
                    start + rest.find([',', ':', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
                (Kind::Other, false)
            }
        };
        self.tree.add(Node { kind, start, end: self.at, is_flow, has_properties: false })
    }

    /// The values up to the bracket that closes; keys are values too.
    fn children(&mut self, depth: usize) -> Result<Vec<usize>, Refusal> {
        self.at += 1;
        let mut children = Vec::new();
        loop {
            self.skip(" \t\r\n,:");
            if matches!(self.next(), Some(b'}' | b']') | None) {
                self.at += 1;
                return Ok(children);
            }
            children.push(self.value(depth + 1)?);
        }
    }

    fn string(&mut self) -> Kind {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.next() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        let text = self.text.get(start..self.at).unwrap_or("");
        // Half of a surrogate pair is no text; nothing that is looked for has one.
        serde_json::from_str(text).map_or(Kind::Other, Kind::Text)
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, characters: &str) {
        while self.next().is_some_and(|byte| characters.as_bytes().contains(&byte)) {
            self.at += 1;
        }
    }
}

impl<'a> Value<'a> {
    /// Where it begins in the file.
    pub(super) fn start(self) -> usize {
        self.node.start
    }

    /// Where it ends.
    pub(super) fn end(self) -> usize {
        self.node.end
    }

    /// Whether it stands in brackets.
    pub(super) fn is_flow(self) -> bool {
        self.node.is_flow
    }

    /// Whether it has an anchor or a tag, or stands for something elsewhere.
    pub(super) fn has_properties(self) -> bool {
        self.node.has_properties
    }

    /// The text, of a scalar.
    pub(super) fn text(self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a mapping.
    pub(super) fn is_mapping(self) -> bool {
        matches!(self.node.kind, Kind::Mapping(_))
    }

    /// Whether it is a list.
    pub(super) fn is_list(self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    /// What is in a list; nothing of another node.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        let items = match &self.node.kind {
            Kind::List(items) => items.as_slice(),
            _ => &[],
        };
        items.iter().filter_map(move |&id| self.tree.value(id))
    }

    /// The keys of a mapping and what they stand for; nothing of another node.
    pub(super) fn entries(self) -> impl Iterator<Item = (Self, Self)> {
        let pairs = match &self.node.kind {
            Kind::Mapping(pairs) => pairs.as_slice(),
            _ => &[],
        };
        pairs.iter().filter_map(move |&(key, value)| Some((self.tree.value(key)?, self.tree.value(value)?)))
    }

    /// What a key stands for, of a mapping that has it.
    pub(super) fn get(self, key: &str) -> Option<Self> {
        self.entries().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// The first key that stands in a mapping for the second time.
    pub(super) fn repeated(self) -> Option<Self> {
        let mut seen = HashSet::new();
        self.entries().map(|(key, _)| key).find(|key| key.text().is_some_and(|text| !seen.insert(text)))
    }

    /// What a chain of keys leads to.
    pub(super) fn find(self, keys: &[&str]) -> Option<Self> {
        keys.iter().try_fold(self, |value, key| value.get(key))
    }

    /// The texts of a list, if all of it is text.
    pub(super) fn words(self) -> Option<Vec<&'a str>> {
        self.is_list().then(|| self.items().map(Self::text).collect::<Option<Vec<_>>>())?
    }

    /// The text that a key stands for, or nothing.
    pub(super) fn word(self, key: &str) -> &'a str {
        self.get(key).and_then(Self::text).unwrap_or("")
    }

    /// The item of a list that has this name.
    pub(super) fn named(self, name: &str) -> Option<Self> {
        self.items().find(|item| item.word("name") == name)
    }
}
