//! Which of a repository's tags are meant, and which of two is the later one.

use std::cmp::Ordering;
use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use semver::{Version, VersionReq};

use crate::reference::Tag;

/// What a regular expression may take once it is compiled, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// One line of `tags` or `exclude`.
#[derive(Clone)]
pub struct Selector {
    pattern: Pattern,
    /// Only so many of those that match: the last by version, or by name where there are no versions.
    newest: Option<usize>,
}

#[derive(Clone)]
enum Pattern {
    Exact(Tag),
    Glob(GlobMatcher),
    Regex(Regex, String),
    Semver(VersionReq),
}

/// Why a selector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {reason}")]
pub struct SelectorError {
    text: String,
    what: &'static str,
    reason: String,
}

impl SelectorError {
    fn new(text: &str, what: &'static str, reason: impl fmt::Display) -> Self {
        // Some reasons have a picture over several lines; the last one says it.
        let reason = reason.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim().to_owned();
        Self { text: text.to_owned(), what, reason }
    }
}

impl Selector {
    /// This tag.
    pub fn exact(text: &str) -> Result<Self, SelectorError> {
        let tag = Tag::parse(text).map_err(|error| SelectorError::new(text, "a tag", error))?;
        Ok(Pattern::Exact(tag).into())
    }

    /// Tags that look so: `1.*-alpine`, `{a,b}`, `v[0-9]?`.
    pub fn glob(text: &str) -> Result<Self, SelectorError> {
        let glob = GlobBuilder::new(text).build().map_err(|error| SelectorError::new(text, "a glob", error.kind()))?;
        Ok(Pattern::Glob(glob.compile_matcher()).into())
    }

    /// Tags that match from their first letter to their last.
    pub fn regex(text: &str) -> Result<Self, SelectorError> {
        let built = regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(REGEX_SIZE).build();
        let regex = built.map_err(|error| SelectorError::new(text, "a regular expression", error))?;
        Ok(Pattern::Regex(regex, text.to_owned()).into())
    }

    /// Tags that are versions in this range: `>=1.2, <2`. A leading `v` is passed over, and `1.2` is `1.2.0`.
    pub fn semver(text: &str) -> Result<Self, SelectorError> {
        let range = VersionReq::parse(text).map_err(|error| SelectorError::new(text, "a range of versions", error))?;
        Ok(Pattern::Semver(range).into())
    }

    /// Only so many of those that match.
    #[must_use]
    pub fn newest(self, count: usize) -> Self {
        Self { newest: Some(count), ..self }
    }

    /// The one tag that it means, so that no listing is needed.
    #[must_use]
    pub fn as_exact(&self) -> Option<&Tag> {
        match &self.pattern {
            Pattern::Exact(tag) => Some(tag),
            _ => None,
        }
    }

    /// What tells a tag's age: the first group of a regular expression that matched, else the whole tag. `None` if it does not match.
    #[must_use]
    pub fn part<'t>(&self, tag: &'t Tag) -> Option<&'t str> {
        match &self.pattern {
            Pattern::Regex(regex, _) => {
                let captures = regex.captures(tag.as_str())?;
                // The first of all is the whole.
                let groups = captures.iter().flatten().map(|group| group.as_str());
                groups.take(2).last()
            }
            _ => self.matches(tag).then(|| tag.as_str()),
        }
    }

    /// Are these versions in a range?
    #[must_use]
    pub fn is_version(&self) -> bool {
        matches!(self.pattern, Pattern::Semver(_))
    }

    /// Does it select this tag, however many there are?
    #[must_use]
    pub fn matches(&self, tag: &Tag) -> bool {
        match &self.pattern {
            Pattern::Exact(exact) => exact == tag,
            Pattern::Glob(glob) => glob.is_match(tag.as_str()),
            Pattern::Regex(regex, _) => regex.is_match(tag.as_str()),
            Pattern::Semver(range) => version(tag.as_str()).is_some_and(|version| range.matches(&version)),
        }
    }
}

impl From<Pattern> for Selector {
    fn from(pattern: Pattern) -> Self {
        Self { pattern, newest: None }
    }
}

/// The tags among `there` that any of `wanted` selects and none of `excluded` does, in the order of `there`. Exact ones are selected
/// whether they are there or not: that they are missing is to be told.
#[must_use]
pub fn select(there: &[Tag], wanted: &[Selector], excluded: &[Selector]) -> Vec<Tag> {
    let is_excluded = |tag: &Tag| excluded.iter().any(|selector| selector.matches(tag));
    let mut selected: Vec<Tag> = Vec::new();
    for selector in wanted {
        if let Some(tag) = selector.as_exact() {
            selected.push(tag.clone());
            continue;
        }
        let mut matching: Vec<&Tag> = there.iter().filter(|tag| selector.matches(tag) && !is_excluded(tag)).collect();
        if let Some(count) = selector.newest {
            matching.sort_by(|one, other| by_age(one, other));
            matching.drain(..matching.len().saturating_sub(count));
        }
        selected.extend(matching.into_iter().cloned());
    }
    selected.retain(|tag| !is_excluded(tag));
    selected.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    selected.dedup();
    selected
}

/// Oldest first: what is no version before all versions, and by numbers within the name (`build-9` before `build-10`).
fn by_age(one: &Tag, other: &Tag) -> Ordering {
    match (version(one.as_str()), version(other.as_str())) {
        (Some(first), Some(second)) => first.cmp(&second).then_with(|| one.as_str().cmp(other.as_str())),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => natural(one.as_str(), other.as_str()),
    }
}

/// A text as a version: `v1.2.3`, `1.2`, `1`.
#[must_use]
pub fn version(text: &str) -> Option<Version> {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    if !text.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let dots = numbers.matches('.').count();
    let padded = match dots {
        0 => format!("{numbers}.0.0{rest}"),
        1 => format!("{numbers}.0{rest}"),
        _ => text.to_owned(),
    };
    Version::parse(&padded).ok()
}

/// Compares digits as numbers and the rest as text: `build-9` comes before `build-10`.
#[must_use]
pub fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        match (one.is_empty(), other.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let ((first, after_one), (second, after_other)) = (run(one), run(other));
        let is_number = |text: &str| text.starts_with(|letter: char| letter.is_ascii_digit());
        let order = if is_number(first) && is_number(second) {
            let (first, second) = (first.trim_start_matches('0'), second.trim_start_matches('0'));
            first.len().cmp(&second.len()).then_with(|| first.cmp(second))
        } else {
            first.cmp(second)
        };
        if order != Ordering::Equal {
            return order;
        }
        (one, other) = (after_one, after_other);
    }
}

/// The digits, or the letters, that a text begins with, and the rest. Tags are ASCII.
fn run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|letter: char| letter.is_ascii_digit());
    let end = text.find(|letter: char| letter.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Exact(tag) => write!(formatter, "{tag}")?,
            Pattern::Glob(glob) => write!(formatter, "glob {}", glob.glob())?,
            Pattern::Regex(_, text) => write!(formatter, "regex {text}")?,
            Pattern::Semver(range) => write!(formatter, "semver {range}")?,
        }
        match self.newest {
            Some(count) => write!(formatter, " (newest {count})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn selected(wanted: &[Selector], excluded: &[Selector]) -> Vec<String> {
        let there = [
            "1",
            "1.2",
            "1.2.3",
            "1.10.0",
            "2.0.0",
            "2.0.0-rc.1",
            "beta",
            "build-10",
            "build-9",
            "latest",
            "nightly-20260101",
            "v1.3.0",
        ];
        let there: Vec<Tag> = there.iter().map(|text| Tag::parse(text).unwrap()).collect();
        select(&there, wanted, excluded).iter().map(Tag::to_string).collect()
    }

    #[test]
    fn exact_ones_are_selected_even_when_they_are_missing() {
        let wanted = [Selector::exact("latest").unwrap(), Selector::exact("gone").unwrap()];
        assert_eq!(selected(&wanted, &[]), ["gone", "latest"]);
    }

    #[test]
    fn globs_regexes_and_ranges_select_what_matches_whole() {
        assert_eq!(selected(&[Selector::glob("build-*").unwrap()], &[]), ["build-10", "build-9"]);
        assert_eq!(selected(&[Selector::glob("{beta,latest}").unwrap()], &[]), ["beta", "latest"]);
        assert_eq!(selected(&[Selector::regex("1|beta").unwrap()], &[]), ["1", "beta"]);
        assert_eq!(selected(&[Selector::regex("night.*").unwrap()], &[]), ["nightly-20260101"]);
        assert_eq!(selected(&[Selector::semver(">=1.2, <2").unwrap()], &[]), ["1.10.0", "1.2", "1.2.3", "v1.3.0"]);
        assert_eq!(selected(&[Selector::semver(">=2").unwrap()], &[]), ["2.0.0"]);
    }

    #[test]
    fn the_newest_are_those_of_the_highest_version_or_number() {
        assert_eq!(selected(&[Selector::semver("*").unwrap().newest(2)], &[]), ["1.10.0", "2.0.0"]);
        assert_eq!(selected(&[Selector::glob("build-*").unwrap().newest(1)], &[]), ["build-10"]);
        assert_eq!(selected(&[Selector::glob("*").unwrap().newest(0)], &[]), [""; 0]);
    }

    #[test]
    fn what_is_excluded_does_not_count_as_newest_and_each_is_there_once() {
        let wanted = [Selector::semver("*").unwrap().newest(1), Selector::glob("1.*").unwrap(), Selector::glob("1.2*").unwrap()];
        let excluded = [Selector::exact("2.0.0").unwrap(), Selector::glob("1.2").unwrap()];
        assert_eq!(selected(&wanted, &excluded), ["1.10.0", "1.2.3"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        assert!(Selector::exact("a b").unwrap_err().to_string().contains("not a tag"));
        assert!(Selector::glob("[").unwrap_err().to_string().contains("not a glob"));
        assert!(Selector::regex("(").unwrap_err().to_string().contains("not a regular expression"));
        assert!(Selector::regex(&"(a{1000}){1000}".repeat(9)).unwrap_err().to_string().contains("size limit"));
        assert!(Selector::semver("newest").unwrap_err().to_string().contains("not a range"));
    }
}
