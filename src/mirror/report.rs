//! What a run did, tag by tag.

use std::collections::BTreeMap;

use oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

/// The record of a run: its job's checkpoint while it runs, and its result afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The run that it is of: one that is done again has the checkpoint of the old one.
    #[serde(default)]
    pub run: String,
    /// Nothing was changed: it says what would be.
    pub dry_run: bool,
    /// The day and time of the run, which its dated tags are named by. [RFC 3339]
    pub stamp: String,
    /// How many tags were selected.
    pub selected: usize,
    /// What was done for each source tag, in their order.
    pub tags: BTreeMap<String, TagReport>,
}

/// What was done for one source tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagReport {
    /// How it ended.
    pub outcome: TagOutcome,
    /// What it is at the upstream.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// The tags that were set here, or would be.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub targets: Vec<Tag>,
    /// Dated tags that were removed because they were too many or too old.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub removed: Vec<Tag>,
    /// Manifests that moved.
    pub manifests: u64,
    /// Blobs that moved.
    pub blobs: u64,
    /// Bytes that moved.
    pub bytes_copied: u64,
    /// Bytes that were here already.
    pub bytes_skipped: u64,
    /// Signatures and the like that moved.
    pub referrers: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Why it failed, or what else is to be said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// How a source tag fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagOutcome {
    /// It is as it was.
    Unchanged,
    /// It was copied, or its tags were set.
    Copied,
    /// It would be, in a run that changes nothing.
    WouldCopy,
    /// It is not at the upstream any more; what was copied stays.
    Gone,
    /// It is not at the upstream any more, and was removed here.
    Removed,
    /// It failed, and trying again may help.
    Failed,
    /// It failed, and trying again will not help.
    Refused,
}

/// What a run did, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Tags that were copied, or would be.
    pub copied: u64,
    /// Tags that were as they should be.
    pub unchanged: u64,
    /// Tags that were removed because they are gone at the upstream.
    pub removed: u64,
    /// Tags that failed.
    pub failed: u64,
    /// Bytes that moved.
    pub bytes_copied: u64,
    /// Bytes that were here already.
    pub bytes_skipped: u64,
}

impl TagReport {
    pub(crate) fn new(outcome: TagOutcome) -> Self {
        Self {
            outcome,
            digest: None,
            targets: Vec::new(),
            removed: Vec::new(),
            manifests: 0,
            blobs: 0,
            bytes_copied: 0,
            bytes_skipped: 0,
            referrers: 0,
            duration_ms: 0,
            error: None,
        }
    }

    pub(crate) fn failed(outcome: TagOutcome, error: impl std::fmt::Display) -> Self {
        Self { error: Some(error.to_string()), ..Self::new(outcome) }
    }
}

impl Report {
    /// What it did, in numbers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for tag in self.tags.values() {
            match tag.outcome {
                TagOutcome::Copied | TagOutcome::WouldCopy => totals.copied += 1,
                TagOutcome::Removed => totals.removed += 1,
                TagOutcome::Unchanged | TagOutcome::Gone => totals.unchanged += 1,
                TagOutcome::Failed | TagOutcome::Refused => totals.failed += 1,
            }
            totals.bytes_copied += tag.bytes_copied;
            totals.bytes_skipped += tag.bytes_skipped;
        }
        totals
    }

    /// Whether a tag is done with, so that a run that goes on need not look at it again.
    pub(crate) fn is_done(&self, tag: &str) -> bool {
        self.tags.get(tag).is_some_and(|tag| tag.outcome != TagOutcome::Failed)
    }

    /// In words: `3 copied, 17 unchanged, 1 failed`.
    #[must_use]
    pub fn summary(&self) -> String {
        let totals = self.totals();
        let what = if self.dry_run { "would be copied" } else { "copied" };
        let failed = if totals.failed > 0 { format!(", {} failed", totals.failed) } else { String::new() };
        let removed = if totals.removed > 0 { format!(", {} removed", totals.removed) } else { String::new() };
        format!("{} {what}, {} unchanged{removed}{failed}", totals.copied, totals.unchanged)
    }
}
