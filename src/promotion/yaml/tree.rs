//! The values of a text, and where they stand in it.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::Refusal;
use super::scalar::{self, Style};

/// How deep a text may be nested: what is deeper is no configuration.
const DEEPEST: usize = 128;

/// A value of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(usize);

/// A text, parsed.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// The outermost value of each document.
    pub(crate) documents: Vec<Id>,
    /// A document ends with `...`.
    pub(crate) has_end: bool,
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) what: What,
    /// Where its first byte is. Of a collection in block style: that of its first key or item.
    pub(crate) start: usize,
    /// Behind its last byte; `None` where that cannot be said for sure: for scalars of several lines.
    pub(crate) end: Option<usize>,
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 0.
    pub(crate) column: usize,
    /// The number of its anchor, or 0.
    pub(crate) anchor: usize,
    /// Its tag, such as `!!str`.
    pub(crate) tag: Option<String>,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum What {
    Scalar {
        text: String,
        style: Style,
    },
    Map {
        entries: Vec<(Id, Id)>,
        is_flow: bool,
    },
    List {
        items: Vec<Id>,
        is_flow: bool,
    },
    /// Stands for the value with this anchor.
    Alias(usize),
}

impl Tree {
    /// Parses a text of any number of documents.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut reading = Reading::new(text);
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                Refusal::at(error.marker().line(), format!("is not YAML that can be edited safely: {}", error.info()))
            })?;
            reading.event(event, span)?;
        }
        Ok(reading.tree)
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0]
    }

    /// All values, in the order in which they begin.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.nodes.len()).map(Id)
    }

    /// A refusal at the line of a value.
    pub(crate) fn refuse(&self, id: Id, why: impl Into<String>) -> Refusal {
        Refusal::at(self.node(id).line, why)
    }

    /// The entries of a map; `None` if it is something else.
    pub(crate) fn map(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self.node(id).what {
            What::Map { entries, .. } => Some(entries),
            What::Scalar { .. } | What::List { .. } | What::Alias(_) => None,
        }
    }

    /// The items of a list; `None` if it is something else.
    pub(crate) fn list(&self, id: Id) -> Option<&[Id]> {
        match &self.node(id).what {
            What::List { items, .. } => Some(items),
            What::Scalar { .. } | What::Map { .. } | What::Alias(_) => None,
        }
    }

    /// The text of a scalar; `None` if it is something else.
    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match &self.node(id).what {
            What::Scalar { text, .. } => Some(text),
            What::Map { .. } | What::List { .. } | What::Alias(_) => None,
        }
    }

    /// Is nothing written where this value would be, or a word for nothing?
    pub(crate) fn is_null(&self, id: Id) -> bool {
        let node = self.node(id);
        let What::Scalar { text, style: Style::Plain } = &node.what else { return false };
        node.tag.is_none() && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// Where in the map the key is. Refuses a map with the key twice, or one into which others are merged.
    pub(crate) fn find(&self, map: Id, key: &str) -> Result<Option<usize>, Refusal> {
        let Some(entries) = self.map(map) else { return Ok(None) };
        let mut found = None;
        for (index, (name, _)) in entries.iter().enumerate() {
            match self.text(*name) {
                Some("<<") => return Err(self.refuse(*name, "another map is merged into this one; write its values out")),
                Some(text) if text == key => {
                    if found.replace(index).is_some() {
                        return Err(self.refuse(*name, format!("the key {key} is here twice; remove one of them")));
                    }
                }
                Some(_) => {}
                None => return Err(self.refuse(*name, "a key that is no text cannot be compared; write it as one")),
            }
        }
        Ok(found)
    }

    /// The value of a key, as [`Tree::find`].
    pub(crate) fn get(&self, map: Id, key: &str) -> Result<Option<Id>, Refusal> {
        let found = self.find(map, key)?;
        Ok(found.and_then(|index| self.map(map)?.get(index).map(|(_, value)| *value)))
    }

    /// The place of a value that is not written is right behind the colon of its key; the parser may say that it is further on.
    fn place_if_empty(&mut self, key: Id, value: Id, source: &str) {
        let node = self.node(value);
        let is_empty = matches!(&node.what, What::Scalar { text, style: Style::Plain } if text.is_empty());
        if !is_empty || node.anchor != 0 || node.tag.is_some() {
            return;
        }
        let colon = self.node(key).end.and_then(|end| {
            let rest = source.get(end..)?;
            let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            rest[blank..].starts_with(':').then_some(end + blank + 1)
        });
        let node = &mut self.nodes[value.0];
        (node.start, node.end) = (colon.unwrap_or(node.start), colon);
    }

    /// Behind the last byte of a value; `None` as for [`Node::end`].
    pub(crate) fn end(&self, id: Id) -> Option<usize> {
        let node = self.node(id);
        match &node.what {
            What::Map { entries, is_flow: false } => self.end(entries.last()?.1),
            What::List { items, is_flow: false } => self.end(*items.last()?),
            _ => node.end,
        }
    }
}

/// A collection whose end has not come yet.
enum Open {
    Map { id: Id, key: Option<Id> },
    List(Id),
}

struct Reading<'t> {
    text: &'t str,
    tree: Tree,
    open: Vec<Open>,
    /// The byte at which each character begins; empty where all are ASCII.
    bytes: Vec<u32>,
}

impl<'t> Reading<'t> {
    fn new(text: &'t str) -> Self {
        let tree = Tree { nodes: Vec::new(), documents: Vec::new(), has_end: false };
        let starts = text.char_indices().map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX));
        let bytes = if text.is_ascii() { Vec::new() } else { starts.collect() };
        Self { text, tree, open: Vec::new(), bytes }
    }

    /// The byte at which a character begins; the end for those that are not there.
    fn byte(&self, character: usize) -> usize {
        let end = self.text.len();
        if self.bytes.is_empty() {
            return character.min(end);
        }
        self.bytes.get(character).and_then(|byte| usize::try_from(*byte).ok()).unwrap_or(end)
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Refusal> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let start = self.byte(span.start.index());
                let style = Style::from(style);
                let marked = anchor != 0 || tag.is_some();
                let end = if marked { None } else { scalar::end(self.text, start, &text, style) };
                let what = What::Scalar { text: text.into_owned(), style };
                let id = self.node(what, start..start, &span, anchor, tag.map(|tag| tag.to_string()));
                self.tree.nodes[id.0].end = end;
                self.put(id);
            }
            Event::Alias(anchor) => {
                let at = self.byte(span.start.index())..self.byte(span.end.index());
                let id = self.node(What::Alias(anchor), at, &span, 0, None);
                self.put(id);
            }
            Event::MappingStart(anchor, tag) => {
                let what = What::Map { entries: Vec::new(), is_flow: !span.is_empty() };
                let id = self.begin(what, &span, anchor, tag.map(|tag| tag.to_string()))?;
                self.open.push(Open::Map { id, key: None });
            }
            Event::SequenceStart(anchor, tag) => {
                let what = What::List { items: Vec::new(), is_flow: !span.is_empty() };
                let id = self.begin(what, &span, anchor, tag.map(|tag| tag.to_string()))?;
                self.open.push(Open::List(id));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some(Open::Map { id, .. } | Open::List(id)) = self.open.pop() {
                    let end = self.byte(span.end.index());
                    self.tree.nodes[id.0].end = Some(end);
                }
            }
            Event::DocumentEnd => self.tree.has_end |= !span.is_empty(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
        Ok(())
    }

    fn begin(&mut self, what: What, span: &Span, anchor: usize, tag: Option<String>) -> Result<Id, Refusal> {
        if self.open.len() >= DEEPEST {
            return Err(Refusal::at(span.start.line(), format!("is nested more than {DEEPEST} deep")));
        }
        let start = self.byte(span.start.index());
        let id = self.node(what, start..start, span, anchor, tag);
        self.put(id);
        Ok(id)
    }

    fn node(&mut self, what: What, at: Range<usize>, span: &Span, anchor: usize, tag: Option<String>) -> Id {
        let (line, column) = (span.start.line(), span.start.col());
        let node = Node { what, start: at.start, end: Some(at.end), line, column, anchor, tag };
        self.tree.nodes.push(node);
        Id(self.tree.nodes.len() - 1)
    }

    /// Puts a value where it belongs.
    fn put(&mut self, id: Id) {
        match self.open.last_mut() {
            None => self.tree.documents.push(id),
            Some(Open::List(list)) => {
                if let What::List { items, .. } = &mut self.tree.nodes[list.0].what {
                    items.push(id);
                }
            }
            Some(Open::Map { id: map, key }) => match key.take() {
                None => *key = Some(id),
                Some(key) => {
                    self.tree.place_if_empty(key, id, self.text);
                    if let What::Map { entries, .. } = &mut self.tree.nodes[map.0].what {
                        entries.push((key, id));
                    }
                }
            },
        }
    }
}

impl From<ScalarStyle> for Style {
    fn from(style: ScalarStyle) -> Self {
        match style {
            ScalarStyle::Plain => Self::Plain,
            ScalarStyle::SingleQuoted => Self::Single,
            ScalarStyle::DoubleQuoted => Self::Double,
            ScalarStyle::Literal | ScalarStyle::Folded => Self::Block,
        }
    }
}
