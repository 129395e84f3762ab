//! Tags: pointers changed by compare-and-swap.

use std::time::SystemTime;

use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::catalog::seconds;
use crate::error::Error;
use crate::keys;
use crate::store::Store;

/// Where a tag points, and how it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// The manifest before that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// How often the tag has moved; the first time is 1.
    pub sequence: u64,
    /// When it was set, in seconds since 1970.
    pub at: u64,
    /// The principal that set it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Where it came from: the host of an upstream; nothing for a push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Store {
    /// Where the tag points.
    pub async fn tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<TagRecord>, Error> {
        let key = keys::tag(name, tag);
        let load = self.objects.read_json(&key);
        self.caches.tags.or_load((name.clone(), tag.clone()), load).await
    }

    /// Points the tag at a manifest that is here. Setting it to where it points already changes nothing but `at`, which tells
    /// when the answer was last known to be right.
    pub async fn set_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        at: SystemTime,
        from: Option<&str>,
    ) -> Result<(), Error> {
        let key = keys::tag(name, tag);
        let updated = self.objects.update(&key, |current: Option<TagRecord>| {
            let (previous, sequence) = match current {
                Some(same) if same.digest == *digest => (same.previous, same.sequence),
                Some(other) => (Some(other.digest), other.sequence + 1),
                None => (None, 1),
            };
            TagRecord { digest: digest.clone(), previous, sequence, at: seconds(at), by: None, from: from.map(str::to_owned) }
        });
        let updated = updated.await;
        self.caches.tags.forget(&(name.clone(), tag.clone()));
        updated
    }

    /// Removes the tag. `false` if it was not there.
    pub async fn remove_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool, Error> {
        if self.tag(name, tag).await?.is_none() {
            return Ok(false);
        }
        let removed = self.objects.delete(&keys::tag(name, tag)).await;
        self.caches.tags.forget(&(name.clone(), tag.clone()));
        removed.map(|()| true)
    }

    /// All tags of a repository in byte order; empty for an unknown one.
    pub async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Error> {
        let names = self.objects.children(&keys::tags(name)).await?;
        Ok(names.iter().filter_map(|tag| Tag::parse(tag).ok()).collect())
    }
}
