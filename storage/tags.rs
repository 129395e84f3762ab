//! Tags: pointers changed by compare-and-swap.
//!
//! A tag that is removed is swapped for a tombstone, since object stores cannot delete on a condition: a removal must not take with
//! it what another writer has just set. Tombstones are told apart in a listing by their size, and stay until they are collected.

use std::time::SystemTime;

use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::keys;
use crate::store::Store;
use crate::time::millis;

/// Every pointer with a digest is longer than this, every tombstone shorter.
const TOMBSTONE: u64 = 64;

/// Where a tag points, and how it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// The manifest before that one.
    pub previous: Option<Digest>,
    /// How often the tag has moved; the first time is 1.
    pub sequence: u64,
    /// When it was set or last known to be right, in milliseconds since 1970.
    pub at: u64,
    /// The principal that set it, where there is one.
    pub by: Option<String>,
    /// Where it came from: the host of an upstream; nothing for a push.
    pub from: Option<String>,
}

/// A tag at rest.
#[derive(Serialize, Deserialize)]
struct Pointer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Digest>,
    sequence: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Pointer {
    fn tombstone(sequence: u64) -> Self {
        Self { digest: None, previous: None, sequence, at: 0, by: None, from: None }
    }

    fn record(self) -> Option<TagRecord> {
        let Self { digest, previous, sequence, at, by, from } = self;
        Some(TagRecord { digest: digest?, previous, sequence, at, by, from })
    }

    /// The pointer after `self` that leads to `digest`.
    fn next(current: Option<Self>, digest: &Digest, at: SystemTime, from: Option<&str>) -> Self {
        let (previous, sequence) = match current {
            Some(same) if same.digest.as_ref() == Some(digest) => (same.previous, same.sequence),
            Some(other) => (other.digest, other.sequence + 1),
            None => (None, 1),
        };
        Self { digest: Some(digest.clone()), previous, sequence, at: millis(at), by: None, from: from.map(str::to_owned) }
    }
}

impl Store {
    /// Where the tag points.
    pub async fn tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<TagRecord>, Error> {
        let key = keys::tag(name, tag);
        let load = async {
            let pointer = self.objects.read_json::<Pointer>(&key).await?;
            Ok(pointer.and_then(Pointer::record))
        };
        self.caches.tags.or_load((name.clone(), tag.clone()), load).await
    }

    /// Points the tag at a manifest that is here, for a push. Setting it to where it points already changes nothing but `at`.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn set_tag(&self, name: &RepositoryName, tag: &Tag, digest: &Digest, at: SystemTime) -> Result<(), Error> {
        let changed = self.change_tag(name, tag, |current| Some(Pointer::next(current, digest, at, None))).await;
        changed.map(|_| ())
    }

    /// Points the tag at a manifest that is here and that the upstream `from` named at the time `at`. What the tag was known to be at
    /// a later time stays.
    ///
    /// Must run to its end, as [`Store::set_tag`].
    pub async fn set_cached_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        at: SystemTime,
        from: &str,
    ) -> Result<(), Error> {
        let change = |current: Option<Pointer>| match current {
            Some(newer) if newer.digest.is_some() && newer.at >= millis(at) => None,
            other => Some(Pointer::next(other, digest, at, Some(from))),
        };
        self.change_tag(name, tag, change).await.map(|_| ())
    }

    /// Removes the tag; with `only`, if that is where it points. `false` if there is nothing to remove.
    ///
    /// Must run to its end, as [`Store::set_tag`].
    pub async fn remove_tag(&self, name: &RepositoryName, tag: &Tag, only: Option<&Digest>) -> Result<bool, Error> {
        self.change_tag(name, tag, |current| {
            let current = current?;
            let digest = current.digest.as_ref()?;
            let meant = only.is_none_or(|only| only == digest);
            meant.then(|| Pointer::tombstone(current.sequence + 1))
        })
        .await
    }

    async fn change_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        change: impl FnMut(Option<Pointer>) -> Option<Pointer>,
    ) -> Result<bool, Error> {
        let changed = self.objects.update(&keys::tag(name, tag), change).await;
        self.caches.tags.forget(&(name.clone(), tag.clone()));
        changed
    }

    /// All tags of a repository in byte order; empty for an unknown one.
    pub async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Error> {
        let objects = self.objects.children(&keys::tags(name)).await?;
        let there = objects.iter().filter(|(_, size)| *size > TOMBSTONE);
        Ok(there.filter_map(|(tag, _)| Tag::parse(tag).ok()).collect())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn tombstones_and_pointers_are_told_apart_by_size() {
        let tombstone = serde_json::to_vec(&Pointer::tombstone(u64::MAX)).unwrap();
        assert!(tombstone.len() as u64 <= TOMBSTONE);
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let pointer = Pointer::next(None, &digest, SystemTime::UNIX_EPOCH, None);
        assert!(serde_json::to_vec(&pointer).unwrap().len() as u64 > TOMBSTONE);
    }
}
