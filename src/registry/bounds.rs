//! What a repository may hold at most, and which of its tags stay where they are.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use futures_util::StreamExt;
use oci::{Digest, Error, ManifestView, RepositoryName, Tag};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::fault;
use crate::registry::Registry;

/// Repositories whose use is remembered.
const REMEMBERED: usize = 1_000;
/// Manifests that are read together.
const AT_ONCE: usize = 16;

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

/// What repositories hold that have a quota, as far as this process knows; of each one request at a time changes it. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Usages(Arc<std::sync::Mutex<HashMap<RepositoryName, Turn>>>);

/// The right to change what is known of one repository.
type Turn = Arc<Mutex<Option<Usage>>>;

impl Usages {
    fn turn(&self, name: &RepositoryName) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= REMEMBERED && !turns.contains_key(name) {
            // What is forgotten is added up again. The turns stay, or two requests would have one each.
            for turn in turns.values() {
                if let Ok(mut usage) = turn.try_lock() {
                    *usage = None;
                }
            }
        }
        Arc::clone(turns.entry(name.clone()).or_default())
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
    /// Of manifests and of what they name: bytes, and how many manifests need it.
    held: HashMap<Digest, (u64, usize)>,
    total: u64,
}

impl Usage {
    /// What a manifest would add.
    fn needed(&self, digest: &Digest, size: u64, view: &ManifestView) -> u64 {
        let new = parts(digest, size, view).into_iter().filter(|(digest, _)| !self.held.contains_key(*digest));
        new.map(|(_, size)| size).fold(0, u64::saturating_add)
    }

    fn take(&mut self, digest: &Digest, size: u64, view: &ManifestView) {
        if self.held.contains_key(digest) {
            return;
        }
        for (digest, size) in parts(digest, size, view) {
            let (_, needed_by) = self.held.entry(digest.clone()).or_insert_with(|| {
                self.total = self.total.saturating_add(size);
                (size, 0)
            });
            *needed_by += 1;
        }
    }

    fn release(&mut self, digest: &Digest, view: &ManifestView) {
        if !self.held.contains_key(digest) {
            return;
        }
        for (digest, _) in parts(digest, 0, view) {
            let Some((size, needed_by)) = self.held.get_mut(digest) else { continue };
            *needed_by = needed_by.saturating_sub(1);
            if *needed_by == 0 {
                self.total = self.total.saturating_sub(*size);
                self.held.remove(digest);
            }
        }
    }
}

/// A manifest and what it names, each once.
fn parts<'m>(digest: &'m Digest, size: u64, view: &'m ManifestView) -> HashMap<&'m Digest, u64> {
    let mut parts: HashMap<&Digest, u64> = view.blobs.iter().map(|blob| (&blob.digest, blob.size)).collect();
    parts.insert(digest, size);
    parts
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
        self.check_sizes(view).await?;
        let mut usage = self.usages.turn(name).lock_owned().await;
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

    /// A quota goes by what manifests say; so they have to say what is true.
    async fn check_sizes(&self, view: &ManifestView) -> Result<(), Error> {
        for blob in &view.blobs {
            let there = self.store.stat_blob(&blob.digest).await.map_err(fault::store("looking a blob up"))?;
            if let Some(size) = there.filter(|size| *size != blob.size) {
                let reason = format!("{} has {size} bytes, and the manifest says {}", blob.digest, blob.size);
                return Err(Error::ManifestInvalid { reason });
            }
        }
        Ok(())
    }

    /// What a repository holds, read from the store.
    async fn usage_of(&self, name: &RepositoryName) -> Result<Usage, Error> {
        let failed = || fault::store("adding up what a repository holds");
        let digests = self.store.manifests(name).await.map_err(failed())?;
        let read = |digest: Digest| async move { (self.store.blob_bytes(&digest).await, digest) };
        let mut read = futures_util::stream::iter(digests.into_iter().map(read)).buffer_unordered(AT_ONCE);
        let mut usage = Usage::default();
        while let Some((bytes, digest)) = read.next().await {
            let Some(bytes) = bytes.map_err(failed())? else { continue };
            // One that was taken before there were these rules may be anything.
            if let Ok(view) = ManifestView::parse(&bytes, None) {
                usage.take(&digest, bytes.len() as u64, &view);
            }
        }
        Ok(usage)
    }

    /// What was removed makes room.
    pub(crate) async fn release(&self, name: &RepositoryName, digest: &Digest, bytes: Option<&[u8]>) {
        if self.rules.bounds.as_ref().is_none_or(|bounds| bounds.quota(name).size.is_none()) {
            return;
        }
        let mut usage = self.usages.turn(name).lock_owned().await;
        match bytes.and_then(|bytes| ManifestView::parse(bytes, None).ok()) {
            Some(view) => usage.iter_mut().for_each(|usage| usage.release(digest, &view)),
            // It is added up again.
            None => *usage = None,
        }
    }
}
