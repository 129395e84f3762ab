//! A walk through a TOML document that notes what it is asked for and collects what is wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Kind, Place, Problem};
use super::value::Value;
use super::{ConfigErrors, Flag, KEYS, spelling};

const PREFIX: &str = "ROADSTEAD_";
/// Tables of which a file can have several.
const LISTED: [&str; 10] = [
    "upstream.",
    "mirror.",
    "promotion.",
    "hook.",
    "trigger.",
    "access.",
    "server.tls.also.",
    "auth.oidc.",
    "limit.",
    "repository.",
];

/// A file, the environment and the command line, read as one; and the problems found so far.
pub(super) struct Document<'t> {
    text: &'t str,
    environment: &'t BTreeMap<String, String>,
    files: &'t dyn Fn(&Path) -> io::Result<Vec<u8>>,
    overrides: BTreeMap<&'static str, Override>,
    problems: RefCell<Vec<Problem>>,
}

/// A value from outside the file, and what its source is called.
struct Override {
    source: String,
    value: String,
}

impl<'t> Document<'t> {
    pub(super) fn new(
        text: &'t str,
        environment: &'t BTreeMap<String, String>,
        files: &'t dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Self {
        let mut document = Self { text, environment, files, overrides: BTreeMap::new(), problems: RefCell::new(Vec::new()) };
        document.override_by_environment();
        document
    }

    /// Takes what the command line says, which is stronger than the environment.
    pub(super) fn override_by(&mut self, flags: &[Flag]) {
        for flag in flags {
            let replacement = Override { source: flag.name.to_owned(), value: flag.value.clone() };
            self.overrides.insert(flag.key, replacement);
        }
    }

    /// Takes `ROADSTEAD_SERVER__LISTEN` and its like. A variable without `__` is not meant for a key: a cluster sets some of
    /// its own, such as `ROADSTEAD_PORT` and `ROADSTEAD_SERVICE_HOST`.
    fn override_by_environment(&mut self) {
        let known: BTreeMap<String, &'static str> = KEYS
            .iter()
            .filter(|key| !LISTED.iter().any(|table| key.starts_with(table)))
            .map(|key| (format!("{PREFIX}{}", key.to_uppercase().replace('.', "__")), *key))
            .collect();
        for (name, value) in self.environment {
            if !name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains("__")) {
                continue;
            }
            if let Some(key) = known.get(name) {
                self.overrides.insert(key, Override { source: name.clone(), value: value.clone() });
                continue;
            }
            let table = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase).unwrap_or_default().replace("__", ".");
            let advice = if LISTED.iter().any(|listed| table.starts_with(listed)) {
                "what a file can have several of is set in the file only; remove the variable".to_owned()
            } else if let Some(near) = spelling::nearest(name, known.keys().map(String::as_str)) {
                format!("sets no key that is known; did you mean `{near}`?")
            } else {
                "sets no key that is known; remove it, or see docs/config.md for the names".to_owned()
            };
            self.report(Place::Named(name.escape_debug().to_string()), "", advice, Kind::Present);
        }
    }

    /// The line of a byte of the file.
    pub(super) fn place(&self, offset: usize) -> Place {
        let newlines = self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        // What is missing at the end of a file is missing on its last line, not on the one after.
        Place::Line((newlines + 1).min(self.text.lines().count().max(1)))
    }

    pub(super) fn report_syntax(&self, place: Place, message: &str) {
        let text = format!("is not TOML: {message}; check the quotes, brackets and equals signs of this line");
        self.report(place, "", text, Kind::Syntax);
    }

    fn report(&self, place: Place, key: &str, text: String, kind: Kind) {
        // What a file holds is repeated, and a line of it must not be taken for one of ours, or for a terminal's command.
        let escaped = |letter: char| letter.escape_default().to_string();
        let shown = |letter: char| if letter.is_control() { escaped(letter) } else { letter.to_string() };
        let text = if text.contains(char::is_control) { text.chars().map(shown).collect() } else { text };
        self.problems.borrow_mut().push(Problem { place, key: key.to_owned(), text, kind });
    }

    /// The whole of another file.
    pub(super) fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        (self.files)(path)
    }

    /// A variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    pub(super) fn root<'d>(&'d self, table: &'t DeTable<'t>) -> Section<'d, 't> {
        Section { document: self, name: "", place: Place::Whole, table: Some(table), asked: BTreeSet::new() }
    }

    /// The value that was read, if nothing was wrong.
    pub(super) fn into_result<T>(self, file: &str, value: T) -> Result<T, ConfigErrors> {
        let mut problems = self.problems.take();
        let broken = self.broken_lines(&problems);
        if !broken.is_empty() {
            // What the parser guessed on a broken line is not held against the user, and neither is what it may have lost.
            let mut seen = BTreeSet::new();
            problems.retain(|problem| match problem.kind {
                Kind::Syntax => seen.insert(problem.place.clone()),
                Kind::Present => !broken.contains(&problem.place),
                Kind::Absent => false,
            });
        }
        if problems.is_empty() { Ok(value) } else { Err(ConfigErrors::new(file, problems)) }
    }

    /// The lines that are not TOML; and all the lines of a table whose header is not.
    fn broken_lines(&self, problems: &[Problem]) -> BTreeSet<Place> {
        let mut broken = BTreeSet::new();
        for problem in problems.iter().filter(|problem| problem.kind == Kind::Syntax) {
            broken.insert(problem.place.clone());
            let Place::Line(line) = problem.place else { continue };
            let is_header = |line: &str| line.trim_start().starts_with('[');
            let mut rest = self.text.lines().enumerate().skip(line - 1);
            if rest.next().is_some_and(|(_, header)| is_header(header)) {
                broken.extend(rest.take_while(|(_, line)| !is_header(line)).map(|(index, _)| Place::Line(index + 1)));
            }
        }
        broken
    }
}

/// One table of the document: what it holds, and what it was asked for.
pub(super) struct Section<'d, 't> {
    document: &'d Document<'t>,
    name: &'static str,
    place: Place,
    table: Option<&'t DeTable<'t>>,
    asked: BTreeSet<&'static str>,
}

impl<'d, 't> Section<'d, 't> {
    pub(super) const fn document(&self) -> &'d Document<'t> {
        self.document
    }

    /// The value of a key, if it is given and right. What is wrong with it is reported.
    pub(super) fn optional<T>(&mut self, key: &'static str, parse: impl FnOnce(&Value<'_>) -> Result<T, String>) -> Option<T> {
        self.asked.insert(key);
        let (place, value) = self.find(key)?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(text) => {
                self.document.report(place, &self.dotted(key), text, Kind::Present);
                None
            }
        }
    }

    /// Like [`optional`](Self::optional), with a value for a key that is not given.
    pub(super) fn value<T>(&mut self, key: &'static str, default: T, parse: impl FnOnce(&Value<'_>) -> Result<T, String>) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// A list; each element that is wrong is reported on its own line, and then nothing more is concluded from the others.
    pub(super) fn list<T>(&mut self, key: &'static str, parse: impl Fn(&Value<'_>) -> Result<T, String>) -> Option<Vec<T>> {
        self.asked.insert(key);
        let (place, value) = self.find(key)?;
        let Value::Toml(DeValue::Array(array)) = value else {
            let text = format!("is {}; write a list: [\"…\"]", value.kind());
            self.document.report(place, &self.dotted(key), text, Kind::Present);
            return None;
        };
        let (mut parsed, mut is_right) = (Vec::new(), true);
        for element in array {
            match parse(&Value::Toml(element.get_ref())) {
                Ok(element) => parsed.push(element),
                Err(text) => {
                    is_right = false;
                    let place = self.document.place(element.span().start);
                    self.document.report(place, &self.dotted(key), text, Kind::Present);
                }
            }
        }
        is_right.then_some(parsed)
    }

    /// The table of that name; an empty one if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'d, 't> {
        self.asked.insert(key);
        let name = self.known_name(key);
        let Some((place, value)) = self.entry(key) else {
            return Section { document: self.document, name, place: Place::Whole, table: None, asked: BTreeSet::new() };
        };
        let table = value.as_table();
        if table.is_none() {
            let kind = Value::Toml(value).kind();
            let text = format!("is {kind}; write it as one table, `[{name}]`, with its keys below");
            self.document.report(place.clone(), name, text, Kind::Present);
        }
        Section { document: self.document, name, place, table, asked: BTreeSet::new() }
    }

    /// The tables of that name, as `[[key]]` gives them; `None` if there is none and no empty list either.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'d, 't>>> {
        self.asked.insert(key);
        let name = self.known_name(key);
        let (place, value) = self.entry(key)?;
        let document = self.document;
        let section = |place, table| Section { document, name, place, table: Some(table), asked: BTreeSet::new() };
        let advice = format!("write each as a table of its own, `[[{name}]]`, with its keys below");
        let DeValue::Array(array) = value else {
            document.report(place.clone(), name, format!("is {}; {advice}", Value::Toml(value).kind()), Kind::Present);
            return Some(value.as_table().map(|table| section(place, table)).into_iter().collect());
        };
        let mut sections = Vec::new();
        for element in array {
            let place = document.place(element.span().start);
            match element.get_ref() {
                DeValue::Table(table) => sections.push(section(place, table)),
                other => {
                    let text = format!("is a list with {}; {advice}", Value::Toml(other).kind());
                    document.report(place, name, text, Kind::Present);
                }
            }
        }
        Some(sections)
    }

    /// Where a key is given, right or wrong.
    pub(super) fn given(&self, key: &str) -> Option<Place> {
        self.find(key).map(|(place, _)| place)
    }

    /// Is there no such table?
    pub(super) const fn is_absent(&self) -> bool {
        self.table.is_none()
    }

    /// Where the table begins.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Reports a key that is wrong together with others.
    pub(super) fn wrong(&self, key: &str, text: String) {
        let place = self.given(key).unwrap_or_else(|| self.place.clone());
        self.document.report(place, &self.dotted(key), text, Kind::Present);
    }

    /// Reports that `key` is missing, at the line of `because` (or of the table).
    pub(super) fn missing(&self, key: &str, because: Option<Place>, text: &str) {
        let place = because.unwrap_or_else(|| self.place.clone());
        self.document.report(place, &self.dotted(key), text.to_owned(), Kind::Absent);
    }

    /// Reports every key that was never asked for.
    pub(super) fn finish(self) {
        debug_assert_eq!(self.asked, self.known(), "KEYS is what the reader asks for in {:?}", self.name);
        for (key, _) in self.table.into_iter().flatten() {
            let spelled = key.get_ref().as_ref();
            if !self.asked.contains(spelled) {
                let text = format!("is not known here; {}", self.advice(spelled));
                let shown: String = spelled.escape_debug().collect();
                self.document.report(self.document.place(key.span().start), &self.dotted(&shown), text, Kind::Present);
            }
        }
    }

    /// What to write in the place of an unknown key.
    fn advice(&self, spelled: &str) -> String {
        if let Some(near) = spelling::nearest(spelled, self.asked.iter().copied()) {
            return format!("did you mean `{near}`?");
        }
        let elsewhere = KEYS.iter().filter_map(|key| key.rsplit_once('.')).find(|(_, last)| *last == spelled);
        if let Some((section, last)) = elsewhere {
            return format!("did you mean `{last}` in `[{section}]`?");
        }
        let known: Vec<String> = self.asked.iter().map(|key| format!("`{key}`")).collect();
        format!("remove it, or use one of {}", known.join(", "))
    }

    /// What [`KEYS`] lists directly below this table.
    fn known(&self) -> BTreeSet<&'static str> {
        KEYS.iter()
            .filter_map(|key| match self.name {
                "" => Some(*key),
                name => key.strip_prefix(name)?.strip_prefix('.'),
            })
            .filter_map(|rest| rest.split('.').next())
            .collect()
    }

    /// A key's value: from the command line or the environment, else from the file.
    fn find(&self, key: &str) -> Option<(Place, Value<'d>)> {
        if let Some(found) = self.document.overrides.get(self.dotted(key).as_str()) {
            return Some((Place::Named(found.source.clone()), Value::Word(&found.value)));
        }
        let (_, value): (_, &'t Spanned<DeValue<'t>>) = self.table?.get_key_value(key)?;
        Some((self.document.place(value.span().start), Value::Toml(value.get_ref())))
    }

    /// What the file has under a key; the place is the key's own, for a table can span many lines.
    fn entry(&self, key: &str) -> Option<(Place, &'t DeValue<'t>)> {
        let (key, value) = self.table?.get_key_value(key)?;
        Some((self.document.place(key.span().start), value.get_ref()))
    }

    /// The dotted name of a section below this one, which [`KEYS`] has as the beginning of a key.
    fn known_name(&self, key: &'static str) -> &'static str {
        let dotted = self.dotted(key);
        KEYS.iter().find(|known| known.starts_with(&format!("{dotted}."))).map_or(key, |known| &known[..dotted.len()])
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}
