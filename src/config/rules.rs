//! `[[limit]]`, `[[repository]]` and `[audit]`: how much somebody may ask, what repositories may hold, what is written down of it.

use api::{Limit, Per};
use auth::{Pattern, Who};
use oci::{RepositoryName, Tag};
use telemetry::AuditPlace;

use super::access::pattern;
use super::reader::Section;
use super::value;

/// A file of the audit is put aside at this size.
const ROTATE: u64 = 100 << 20;
/// So many files put aside are kept.
const KEEP: usize = 10;

/// One `[[repository]]`.
#[derive(Debug, Clone)]
pub struct RepositoryRule {
    /// For which repositories it is.
    pub names: Vec<Pattern>,
    /// Tags that stay where they are.
    pub immutable: Vec<Pattern>,
    /// Bytes that each of them may hold.
    pub max_size: Option<u64>,
    /// Tags that each of them may have.
    pub max_tags: Option<usize>,
}

/// All `[[repository]]` of a file.
#[derive(Debug, Clone, Default)]
pub struct RepositoryRules(Vec<RepositoryRule>);

impl RepositoryRules {
    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, name: &RepositoryName) -> impl Iterator<Item = &RepositoryRule> {
        self.0.iter().filter(|rule| rule.names.iter().any(|pattern| pattern.matches(name.as_str())))
    }
}

impl registry::Bounds for RepositoryRules {
    /// Of several rules for a repository each has to hold.
    fn quota(&self, name: &RepositoryName) -> registry::Quota {
        let (mut size, mut tags) = (None, None);
        for rule in self.of(name) {
            size = [size, rule.max_size].into_iter().flatten().min();
            tags = [tags, rule.max_tags].into_iter().flatten().min();
        }
        registry::Quota { size, tags }
    }

    fn is_immutable(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.of(name).any(|rule| rule.immutable.iter().any(|pattern| pattern.matches(tag.as_str())))
    }
}

pub(super) fn repositories(root: &mut Section<'_, '_>) -> RepositoryRules {
    let mut rules = Vec::new();
    for mut section in root.sections("repository").unwrap_or_default() {
        let names = section.list("names", pattern);
        let rule = RepositoryRule {
            names: names.unwrap_or_default(),
            immutable: section.list("immutable", pattern).unwrap_or_default(),
            max_size: section.optional("max_size", value::size),
            max_tags: section.optional("max_tags", value::count),
        };
        if section.given("names").is_none() {
            section.missing("names", None, "is missing; write for which repositories it is, such as [\"micro/**\"]");
        }
        if ["immutable", "max_size", "max_tags"].iter().all(|key| section.given(key).is_none()) {
            section.missing("immutable", None, "is missing, and so are max_size and max_tags: the table says nothing");
        }
        section.finish();
        rules.push(rule);
    }
    RepositoryRules(rules)
}

pub(super) fn limits(root: &mut Section<'_, '_>) -> Vec<Limit> {
    let mut limits = Vec::new();
    for mut section in root.sections("limit").unwrap_or_default() {
        let who = section.list("who", |value| Who::parse(value.text()?).map_err(|error| error.to_string()));
        let per = section.value("per", Per::Principal, |value| match value.text()? {
            "principal" => Ok(Per::Principal),
            "address" => Ok(Per::Address),
            other => Err(format!("{other:?} is nothing that can be counted by; write \"principal\" or \"address\"")),
        });
        let limit = Limit {
            // `anonymous` is everybody.
            who: who.unwrap_or_else(|| vec![Who::Anonymous]),
            per,
            requests_per_second: section.optional("requests_per_second", value::rate),
            uploads: section.optional("uploads", value::count),
            bytes_per_hour: section.optional("bytes_per_hour", value::size),
        };
        if ["requests_per_second", "uploads", "bytes_per_hour"].iter().all(|key| section.given(key).is_none()) {
            let text = "is missing, and so are uploads and bytes_per_hour: the table limits nothing";
            section.missing("requests_per_second", None, text);
        }
        section.finish();
        limits.push(limit);
    }
    limits
}

pub(super) fn audit(mut section: Section<'_, '_>) -> Option<AuditPlace> {
    let path = section.optional("file", value::path);
    let rotate = section.value("rotate", ROTATE, value::size);
    let keep = section.value("keep", KEEP, value::count);
    let by_itself = section.value("rotated", true, value::boolean);
    for key in ["rotate", "keep", "rotated"] {
        if section.given("file").is_none() && section.given(key).is_some() {
            section.missing("file", section.given(key), "is missing; name the file, or \"-\" for standard output");
        }
    }
    section.finish();
    let path = path?;
    if path.as_os_str() == "-" {
        return Some(AuditPlace::Output);
    }
    Some(AuditPlace::File { path, rotate: by_itself.then_some(rotate), keep })
}
