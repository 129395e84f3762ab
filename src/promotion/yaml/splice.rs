//! Changes as splices of the text, in the style of what stands around them.

use std::ops::Range;

use super::Refusal;
use super::change::{Change, New};
use super::scalar::{self, Style};
use super::tree::{Id, Node, Tree, What};

/// Makes the changes in the text. Whether they did what was meant is for the guard.
pub(crate) fn splice(text: &str, tree: &Tree, changes: &[Change]) -> Result<String, Refusal> {
    let source = Source { text, tree, newline: if text.contains("\r\n") { "\r\n" } else { "\n" } };
    let mut splices = Vec::new();
    for change in changes {
        splices.push(source.one(change)?);
    }
    // Stable: what is added at one place stays in its order. An addition before a removal that begins there.
    splices.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut after, mut from) = (String::with_capacity(text.len() + 256), 0);
    for (range, new) in splices {
        let Some(kept) = text.get(from..range.start) else {
            return Err(Refusal::whole("two of the changes meet in one place"));
        };
        after.push_str(kept);
        after.push_str(&new);
        from = range.end;
    }
    after.push_str(&text[from..]);
    Ok(after)
}

type Splice = (Range<usize>, String);

struct Source<'t> {
    text: &'t str,
    tree: &'t Tree,
    newline: &'static str,
}

impl Source<'_> {
    fn one(&self, change: &Change) -> Result<Splice, Refusal> {
        match change {
            Change::Set { scalar, text } => self.set(*scalar, text),
            Change::Fill { null, value } => self.fill(*null, value),
            Change::Add { map, after, key, value } => self.add(*map, *after, key, value),
            Change::AddLast { map, key, value } => self.add_last(*map, key, value),
            Change::Append { list, item } => self.append(*list, item),
            Change::Remove { map, index } => self.remove(*map, *index),
        }
    }

    fn set(&self, scalar: Id, text: &str) -> Result<Splice, Refusal> {
        let node = self.tree.node(scalar);
        let What::Scalar { text: old, style } = &node.what else {
            return Err(self.tree.refuse(scalar, "is a map or a list where a text should be"));
        };
        if *style == Style::Block {
            return Err(self.tree.refuse(scalar, "is written as a block (| or >), which is not edited; write it on one line"));
        }
        if node.anchor != 0 || node.tag.is_some() {
            return Err(self.tree.refuse(scalar, "has an anchor or a tag, and may be used elsewhere; write it without"));
        }
        let Some(end) = node.end else {
            return Err(self.tree.refuse(scalar, "is written on several lines; write it on one"));
        };
        let written = scalar::write(text, *style);
        // Where nothing stands there may be no blank either.
        let blank = if old.is_empty() && *style == Style::Plain && !self.is_behind_blank(node.start) { " " } else { "" };
        Ok((node.start..end, format!("{blank}{written}")))
    }

    fn is_behind_blank(&self, at: usize) -> bool {
        self.text[..at].ends_with([' ', '\t'])
    }

    /// The end of the line in which a byte is, before its line break.
    fn line_end(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let end = at + rest.find('\n').unwrap_or(rest.len());
        if self.text[..end].ends_with('\r') && end > at { end - 1 } else { end }
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Behind a value; refused where that is not sure.
    fn behind(&self, id: Id) -> Result<usize, Refusal> {
        self.tree.end(id).ok_or_else(|| {
            self.tree.refuse(id, "is a value of several lines, or has an anchor or a tag: nothing can be added behind it safely")
        })
    }

    fn fill(&self, null: Id, value: &New) -> Result<Splice, Refusal> {
        let node = self.tree.node(null);
        let (Some(end), true) = (node.end, node.anchor == 0) else {
            return Err(self.tree.refuse(null, "cannot be filled safely"));
        };
        let is_word = end > node.start;
        if is_word || self.is_in_flow(null) {
            return Ok((node.start..end, format!("{}{}", if is_word { "" } else { " " }, flow(value))));
        }
        let at = self.line_end(end);
        let lines = self.block(value, self.list_column(), 2);
        Ok((at..at, format!("{}{lines}", self.newline)))
    }

    /// Is this the value of a map in flow style?
    fn is_in_flow(&self, id: Id) -> bool {
        self.tree.ids().any(|map| match &self.tree.node(map).what {
            What::Map { entries, is_flow: true } => entries.iter().any(|(_, value)| *value == id),
            _ => false,
        })
    }

    fn add(&self, map: Id, after: usize, key: &str, value: &New) -> Result<Splice, Refusal> {
        let What::Map { entries, is_flow } = &self.tree.node(map).what else {
            return Err(self.tree.refuse(map, "is no map to which a key could be added"));
        };
        let Some((first, (_, before))) = entries.first().zip(entries.get(after)) else {
            return Err(self.tree.refuse(map, "is an empty map"));
        };
        let behind = self.behind(*before)?;
        if *is_flow {
            return Ok((behind..behind, format!(", {key}: {}", flow(value))));
        }
        let column = self.tree.node(first.0).column;
        let at = self.line_end(behind);
        let lines = self.entry(key, value, column);
        Ok((at..at, format!("{}{}{lines}", self.newline, " ".repeat(column))))
    }

    fn add_last(&self, map: Id, key: &str, value: &New) -> Result<Splice, Refusal> {
        let What::Map { entries, is_flow } = &self.tree.node(map).what else {
            return Err(self.tree.refuse(map, "is no map to which a key could be added"));
        };
        let (Some((first, _)), false) = (entries.first(), *is_flow) else {
            return match entries.len().checked_sub(1) {
                Some(last) => self.add(map, last, key, value),
                None => Err(self.tree.refuse(map, "is an empty map; write its first key by hand")),
            };
        };
        if self.tree.has_end {
            return Err(self.tree.refuse(map, "ends with `...`, before which nothing is added; remove that line"));
        }
        let lines = self.entry(key, value, self.tree.node(*first).column);
        let at = self.text.len();
        let new = if self.text.ends_with('\n') { format!("{lines}{}", self.newline) } else { format!("{}{lines}", self.newline) };
        Ok((at..at, new))
    }

    fn append(&self, list: Id, new: &New) -> Result<Splice, Refusal> {
        let node = self.tree.node(list);
        let What::List { items, is_flow } = &node.what else {
            return Err(self.tree.refuse(list, "is no list"));
        };
        let Some(before) = items.last() else {
            // `[` and `]` with nothing between them.
            return Ok((node.start + 1..node.start + 1, flow(new)));
        };
        let behind = self.behind(*before)?;
        if *is_flow {
            return Ok((behind..behind, format!(", {}", flow(new))));
        }
        let dash = self.dash(self.tree.node(*before));
        let Some((column, gap)) = dash else {
            return Err(self.tree.refuse(*before, "the dash of this item is not on its line; write it there"));
        };
        let at = self.line_end(behind);
        Ok((at..at, format!("{}{}", self.newline, self.item(new, column, gap))))
    }

    /// The column of the dash before an item, and how far behind it the item begins.
    fn dash(&self, item: &Node) -> Option<(usize, usize)> {
        let before = &self.text[self.line_start(item.start)..item.start];
        let gap = before.len() - before.trim_end_matches(' ').len();
        before.trim_end_matches(' ').ends_with('-').then(|| (item.column.saturating_sub(gap + 1), gap + 1))
    }

    /// The column of dashes where a list of the outermost map begins: as in the others of this text.
    fn list_column(&self) -> usize {
        let lists = self.tree.documents.iter().filter_map(|document| self.tree.map(*document)).flatten();
        let mut columns = lists.filter_map(|(_, value)| match &self.tree.node(*value).what {
            What::List { items, is_flow: false } => self.dash(self.tree.node(*items.first()?)).map(|(column, _)| column),
            _ => None,
        });
        columns.next().unwrap_or(0)
    }

    fn remove(&self, map: Id, index: usize) -> Result<Splice, Refusal> {
        let What::Map { entries, is_flow } = &self.tree.node(map).what else {
            return Err(self.tree.refuse(map, "is no map"));
        };
        let Some((key, value)) = entries.get(index) else { return Err(self.tree.refuse(map, "has no such key")) };
        let Some((_, before)) = index.checked_sub(1).and_then(|before| entries.get(before)) else {
            return Err(self.tree.refuse(*key, "is the first key of its map, which is not removed; put another before it"));
        };
        let (start, end) = (self.behind(*before)?, self.behind(*value)?);
        if *is_flow {
            return Ok((start..end, String::new()));
        }
        let line = self.line_start(self.tree.node(*key).start);
        let is_alone = self.text[line..self.tree.node(*key).start].chars().all(|character| character == ' ');
        let (true, true) = (is_alone, line > start) else {
            return Err(self.tree.refuse(*key, "is not on a line of its own, and is not removed; write it on one"));
        };
        // With the line break before it, so that the last line keeps the end that it has.
        let from = self.text[..line].strip_suffix(self.newline).map_or(line, str::len);
        Ok((from..self.line_end(end), String::new()))
    }

    /// `key: value`, its first line without indentation.
    fn entry(&self, key: &str, value: &New, column: usize) -> String {
        match value {
            New::Text(text, style) => format!("{key}: {}", scalar::write(text, *style)),
            New::Map(_) => {
                let inner = column + 2;
                format!("{key}:{}{}{}", self.newline, " ".repeat(inner), self.block(value, inner, 2))
            }
            New::List(_) => {
                let dashes = if column == 0 { self.list_column() } else { column };
                format!("{key}:{}{}", self.newline, self.block(value, dashes, 2))
            }
        }
    }

    /// A collection in block style. Of a map the first line is without indentation.
    fn block(&self, value: &New, column: usize, gap: usize) -> String {
        match value {
            New::Text(text, style) => scalar::write(text, *style),
            New::Map(entries) => {
                let lines: Vec<String> = entries.iter().map(|(key, value)| self.entry(key, value, column)).collect();
                lines.join(&format!("{}{}", self.newline, " ".repeat(column)))
            }
            New::List(items) => {
                let lines: Vec<String> = items.iter().map(|item| self.item(item, column, gap)).collect();
                lines.join(self.newline)
            }
        }
    }

    /// An item with its dash at this column.
    fn item(&self, item: &New, column: usize, gap: usize) -> String {
        format!("{}-{}{}", " ".repeat(column), " ".repeat(gap - 1), self.block(item, column + gap, gap))
    }
}

/// A value on one line.
fn flow(value: &New) -> String {
    match value {
        New::Text(text, style) => scalar::write(text, *style),
        New::Map(entries) => {
            let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        New::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
    }
}
