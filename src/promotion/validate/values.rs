//! The values of a YAML text, read as the programs read it that deploy: the last of two keys counts, aliases and merged maps are
//! followed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use crate::yaml::{Id, Style, Tree, What};

/// So many aliases in a row are followed.
const FOLLOWED: usize = 8;
/// So many maps are looked through for one key, where maps are merged into maps.
const MERGED: usize = 64;
/// So many keys of one file are looked at: of a file that people write, far fewer.
const LOOKS: usize = 20_000_000;
/// So many keys that are there twice are told of one file.
const MOST: usize = 100;

/// A text and its values.
pub(super) struct Values<'t> {
    pub(super) tree: &'t Tree,
    anchors: BTreeMap<usize, Id>,
    /// How many lines the text has.
    lines: usize,
    /// How many keys may still be looked at. Without a limit a large map that is merged into many others would take minutes.
    looks: Cell<usize>,
}

/// A text as a value, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) line: usize,
}

impl<'t> Values<'t> {
    pub(super) fn new(tree: &'t Tree, lines: usize) -> Self {
        let anchors = tree.ids().map(|id| (tree.node(id).anchor, id)).filter(|(anchor, _)| *anchor != 0).collect();
        Self { tree, anchors, lines, looks: Cell::new(LOOKS) }
    }

    /// The line of a value, which the file has.
    pub(super) fn line(&self, id: Id) -> usize {
        self.tree.node(id).line.min(self.lines).max(1)
    }

    /// The value itself where this one only stands for it.
    fn follow(&self, mut id: Id) -> Id {
        for _ in 0..FOLLOWED {
            let What::Alias(anchor) = self.tree.node(id).what else { break };
            let Some(next) = self.anchors.get(&anchor) else { break };
            id = *next;
        }
        id
    }

    pub(super) fn map(&self, id: Id) -> Option<&'t [(Id, Id)]> {
        self.tree.map(self.follow(id))
    }

    pub(super) fn list(&self, id: Id) -> Option<&'t [Id]> {
        self.tree.list(self.follow(id))
    }

    /// The text of a scalar, whatever others take it for.
    pub(super) fn text(&self, id: Id) -> Option<&'t str> {
        self.tree.text(self.follow(id))
    }

    pub(super) fn is_null(&self, id: Id) -> bool {
        self.tree.is_null(self.follow(id))
    }

    /// Where the key is in the map, and its value.
    pub(super) fn entry(&self, map: Id, key: &str) -> Option<(Id, Id)> {
        self.entry_of(map, &|name| name == key, &mut { MERGED })
    }

    /// As `entry`, for what Go reads into a struct: it does not care whether letters are small.
    pub(super) fn field(&self, map: Id, key: &str) -> Option<(Id, Id)> {
        self.entry_of(map, &|name| name.eq_ignore_ascii_case(key), &mut { MERGED })
    }

    /// `left` are the maps that may still be looked through: some are merged so often that there is no end to it.
    fn entry_of(&self, map: Id, is_key: &dyn Fn(&str) -> bool, left: &mut usize) -> Option<(Id, Id)> {
        *left = left.checked_sub(1)?;
        let entries = self.map(map)?;
        self.looks.set(self.looks.get().checked_sub(entries.len())?);
        let is = |id: Id| self.text(id).is_some_and(is_key);
        if let Some(own) = entries.iter().rev().find(|(key, _)| is(*key)) {
            return Some(*own);
        }
        let merged = entries.iter().filter(|(key, _)| self.text(*key) == Some("<<"));
        for (_, value) in merged {
            let found = match self.list(*value) {
                Some(maps) => maps.iter().find_map(|map| self.entry_of(*map, is_key, left)),
                None => self.entry_of(*value, is_key, left),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The text under a key; `None` also where there is none.
    pub(super) fn text_at(&self, map: Id, key: &str) -> Option<Named> {
        let (_, value) = self.entry(map, key)?;
        self.named(value)
    }

    pub(super) fn named(&self, value: Id) -> Option<Named> {
        let text = self.text(value).filter(|_| !self.is_null(value))?;
        Some(Named { text: text.to_owned(), line: self.line(value) })
    }

    /// What others take a value for that should be a text: `a number`; `None` if it is a text, or nothing.
    pub(super) fn strange(&self, id: Id) -> Option<&'static str> {
        let node = self.tree.node(self.follow(id));
        match &node.what {
            What::Scalar { text, style: Style::Plain } if node.tag.is_none() => kind_of(text),
            What::Scalar { .. } | What::Alias(_) => None,
            What::Map { .. } => Some("a map"),
            What::List { .. } => Some("a list"),
        }
    }

    /// Keys that a map has twice, and their lines.
    pub(super) fn duplicates(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for map in self.tree.ids() {
            let mut seen = BTreeSet::new();
            for (key, _) in self.tree.map(map).unwrap_or_default() {
                if let Some(text) = self.tree.text(*key)
                    && !seen.insert(text)
                    && found.len() < MOST
                {
                    found.push(Named { text: text.to_owned(), line: self.line(*key) });
                }
            }
        }
        found
    }
}

/// What the YAML of kustomize takes a scalar without quotes for: YAML 1.1 with the octal numbers of 1.2. Dates are texts.
fn kind_of(text: &str) -> Option<&'static str> {
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false"];
    let is_word = |word: &str| {
        let capital = word[..1].to_uppercase() + &word[1..];
        text == word || text == capital || text == word.to_uppercase()
    };
    if words.iter().any(|word| is_word(word)) {
        return Some("true or false");
    }
    is_number(text).then_some("a number")
}

fn is_number(text: &str) -> bool {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return false;
    }
    let text = text.replace('_', "");
    let bare = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(text.as_str(), ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let radix = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)];
    let mut digits = radix.iter().filter_map(|(prefix, radix)| Some((bare.strip_prefix(prefix)?, *radix)));
    if let Some((digits, radix)) = digits.next() {
        return digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) && u64::from_str_radix(digits, radix).is_ok();
    }
    let (mantissa, exponent) = bare.split_once(['e', 'E']).map_or((bare, None), |(before, after)| (before, Some(after)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_exponent = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        !digits.is_empty() && is_digits(digits)
    };
    !(whole.is_empty() && fraction.is_empty()) && is_digits(whole) && is_digits(fraction) && exponent.is_none_or(is_exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kustomize_takes_for_no_text_is_known() {
        let numbers = "20260216 1.10 .inf .nan 0b11 0o17 017 12_34 1_000.5 1e3 +1 -1 0x1f 08 .5 5. 1__2 1_ 1234e56";
        for text in numbers.split(' ') {
            assert_eq!(kind_of(text), Some("a number"), "{text}");
        }
        for text in "true yes on y Y True TRUE Off NO".split(' ') {
            assert_eq!(kind_of(text), Some("true or false"), "{text}");
        }
        for text in "2026-02-16 v1 0xg = 1e 190:20:30 tRUE 0o9 _1 . + - .. 1.2.3 main-abc1234".split(' ') {
            assert_eq!(kind_of(text), None, "{text}");
        }
    }
}
