//! The label sets. Every value comes from a fixed set or from the configuration, never from a client.

use prometheus_client::encoding::EncodeLabelSet;

/// What was looked for in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// A manifest by digest.
    Manifest,
    /// A tag: which digest it means.
    Tag,
    /// A blob.
    Blob,
}

impl CacheKind {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Tag => "tag",
            Self::Blob => "blob",
        }
    }
}

/// What the cache had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// It was there and fresh.
    Hit,
    /// It was not there.
    Miss,
    /// It was there, too old, and served nevertheless because the upstream did not answer.
    Stale,
    /// It was there, too old, and the upstream confirmed it.
    Revalidated,
}

impl CacheResult {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
        }
    }
}

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillOutcome {
    /// Its digest was right and it is stored.
    Kept,
    /// Anything else.
    Failed,
}

impl FillOutcome {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Failed => "failed",
        }
    }
}

/// The name of a method as a label: a client can send any token as its method, and each new one would be a new series forever.
pub(super) fn method_label(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    pub(super) version: &'static str,
    pub(super) revision: &'static str,
    pub(super) profile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    pub(super) route: &'static str,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Route {
    pub(super) route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Cache {
    pub(super) upstream: String,
    pub(super) kind: &'static str,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Upstream {
    pub(super) upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Fill {
    pub(super) upstream: String,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Call {
    pub(super) upstream: String,
    pub(super) method: &'static str,
    pub(super) outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Operation {
    pub(super) operation: &'static str,
}
