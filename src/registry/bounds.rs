//! What a repository may hold at most, and which of its tags stay where they are.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use moka::sync::Cache;
use oci::{Digest, Error, ManifestView, RepositoryName, Tag};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::fault;
use crate::registry::Registry;

/// Repositories whose use is remembered.
const REMEMBERED: u64 = 1_000;

/// What somebody who configures a server says of repositories.
pub trait Bounds: Send + Sync {
    /// What this repository may hold.
    fn quota(&self, name: &RepositoryName) -> Quota;

    /// Once this tag is there it is neither moved nor removed.
    fn is_immutable(&self, name: &RepositoryName, tag: &Tag) -> bool;
}

/// What a repository may hold at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of its manifests and of what they name, each once.
    pub size: Option<u64>,
    /// Tags.
    pub tags: Option<usize>,
}

impl Quota {
    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What repositories hold that have a quota, as far as this process knows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Usages(Cache<RepositoryName, Arc<Mutex<Option<Usage>>>>);

impl Default for Usages {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(REMEMBERED).build())
    }
}

impl fmt::Debug for Usages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Usages")
    }
}

/// What one repository holds.
#[derive(Default)]
pub(crate) struct Usage {
    /// Bytes by digest, of manifests and of what they name.
    sizes: HashMap<Digest, u64>,
    total: u64,
}

impl Usage {
    fn add(&mut self, digest: &Digest, size: u64) {
        if self.sizes.insert(digest.clone(), size).is_none() {
            self.total = self.total.saturating_add(size);
        }
    }

    /// What a manifest would add.
    fn needed(&self, digest: &Digest, size: u64, view: &ManifestView) -> u64 {
        let mut new: HashMap<&Digest, u64> = view.blobs.iter().map(|blob| (&blob.digest, blob.size)).collect();
        new.insert(digest, size);
        let needed = new.into_iter().filter(|(digest, _)| !self.sizes.contains_key(*digest)).map(|(_, size)| size);
        needed.fold(0, u64::saturating_add)
    }

    fn take(&mut self, digest: &Digest, size: u64, view: &ManifestView) {
        self.add(digest, size);
        for blob in &view.blobs {
            self.add(&blob.digest, blob.size);
        }
    }
}

/// A place that was found for a manifest. Until it is let go of, no other is taken into the repository by this process.
pub(crate) struct Place {
    usage: OwnedMutexGuard<Option<Usage>>,
    size: u64,
}

impl Place {
    /// The manifest is there now.
    pub(crate) fn take(mut self, digest: &Digest, view: &ManifestView) {
        let size = self.size;
        if let Some(usage) = self.usage.as_mut() {
            usage.take(digest, size, view);
        }
    }
}

impl Registry {
    /// Finds a place for a manifest and its tags; `None` where there is no quota. `Denied` where there is no room.
    pub(crate) async fn place_for(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: usize,
        view: &ManifestView,
        tags: &[Tag],
    ) -> Result<Option<Place>, Error> {
        let Some(quota) = self.rules.bounds.as_ref().map(|bounds| bounds.quota(name)).filter(|quota| !quota.is_none()) else {
            return Ok(None);
        };
        let turn = self.usages.0.get_with(name.clone(), Arc::default);
        let mut usage = turn.lock_owned().await;
        if let Some(most) = quota.tags {
            let there = self.store.tags(name).await.map_err(fault::store("counting tags"))?;
            let mut new: Vec<&Tag> = tags.iter().filter(|tag| !there.contains(tag)).collect();
            new.sort_unstable();
            new.dedup();
            if !new.is_empty() && there.len() + new.len() > most {
                let reason = format!("{name} has {} tags and may have {most}; delete some that nobody needs", there.len());
                return Err(Error::Denied { reason });
            }
        }
        let size = size as u64;
        if let Some(most) = quota.size {
            if usage.is_none() {
                *usage = Some(self.usage_of(name).await?);
            }
            let (used, needed) = usage.as_ref().map_or((0, 0), |usage| (usage.total, usage.needed(digest, size, view)));
            if needed > 0 && used.saturating_add(needed) > most {
                let reason = format!("{name} holds {used} bytes and may hold {most}; this would add {needed}");
                return Err(Error::Denied { reason });
            }
        }
        Ok(Some(Place { usage, size }))
    }

    /// What a repository holds, read from the store.
    async fn usage_of(&self, name: &RepositoryName) -> Result<Usage, Error> {
        let failed = || fault::store("adding up what a repository holds");
        let mut usage = Usage::default();
        for digest in self.store.manifests(name).await.map_err(failed())? {
            let Some(bytes) = self.store.blob_bytes(&digest).await.map_err(failed())? else { continue };
            // One that was taken before there were these rules may be anything.
            if let Ok(view) = ManifestView::parse(&bytes, None) {
                usage.take(&digest, bytes.len() as u64, &view);
            }
        }
        Ok(usage)
    }

    /// What was removed makes room: it is added up again.
    pub(crate) fn forget_usage(&self, name: &RepositoryName) {
        self.usages.0.invalidate(name);
    }
}
