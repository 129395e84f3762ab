//! Deletion of tags, manifests and blobs. The bytes stay until they are collected.

use futures_util::StreamExt;
use oci::{Digest, Error, Reference, RepositoryName, Tag};

use crate::fault;
use crate::registry::Registry;

/// Tags that are looked at at the same time.
const CONCURRENT_REMOVALS: usize = 16;

impl Registry {
    /// Removes a tag and nothing else. `ManifestUnknown` if it is not there. [distribution-spec, Deleting tags]
    pub async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), Error> {
        if self.store.remove_tag(name, tag, None).await.map_err(fault::store("deleting a tag"))? {
            return Ok(());
        }
        Err(self.unknown(name, || Error::ManifestUnknown { reference: tag.to_string() }).await)
    }

    /// Removes a tag if it points at `only`. `false` if it does not, or is not there. Comes to its end although who waits for it leaves.
    pub async fn remove_tag(&self, name: &RepositoryName, tag: &Tag, only: &Digest) -> Result<bool, Error> {
        let (registry, name, tag, only) = (self.clone(), name.clone(), tag.clone(), only.clone());
        let removal = async move {
            let removed = registry.store.remove_tag(&name, &tag, Some(&only)).await;
            removed.map_err(fault::store("removing a tag"))
        };
        self.to_the_end(removal).await
    }

    /// Removes a manifest and every tag that points at it. `ManifestUnknown` if it is not there. [distribution-spec, Deleting
    /// Manifests]
    pub async fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let failed = || fault::store("deleting a manifest");
        if self.find(name, &Reference::Digest(digest.clone())).await?.is_none() {
            return Err(self.unknown(name, || Error::ManifestUnknown { reference: digest.to_string() }).await);
        }
        let tags = self.store.tags(name).await.map_err(failed())?;
        self.check_immutable(name, &tags, digest).await?;
        // Each only if it still points here: one that was moved meanwhile is somebody's acknowledged push.
        let removals: Vec<_> = tags.iter().map(|tag| self.store.remove_tag(name, tag, Some(digest))).collect();
        let mut removals = futures_util::stream::iter(removals).buffer_unordered(CONCURRENT_REMOVALS);
        while let Some(removed) = removals.next().await {
            removed.map_err(failed())?;
        }
        let bytes = self.store.blob_bytes(digest).await.map_err(failed())?;
        self.store.remove_manifest(name, digest).await.map_err(failed())?;
        self.release(name, digest, bytes.as_deref()).await;
        Ok(())
    }

    /// Refuses before anything is removed, if a tag points here that stays where it is.
    async fn check_immutable(&self, name: &RepositoryName, tags: &[Tag], digest: &Digest) -> Result<(), Error> {
        let Some(bounds) = &self.rules.bounds else { return Ok(()) };
        for tag in tags.iter().filter(|tag| bounds.is_immutable(name, tag)) {
            let there = self.store.tag(name, tag).await.map_err(fault::store("looking a tag up"))?;
            if there.is_some_and(|there| there.digest == *digest) {
                return Err(Error::Denied {
                    reason: format!("the tag {tag} of {name} is immutable, and points at this manifest"),
                });
            }
        }
        Ok(())
    }

    /// Takes a blob out of a repository. `BlobUnknown` if it is not in it. [distribution-spec, Deleting Blobs]
    pub async fn delete_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        if self.store.remove_member(name, digest).await.map_err(fault::store("deleting a blob"))? {
            return Ok(());
        }
        Err(self.unknown(name, || Error::BlobUnknown { digest: digest.clone() }).await)
    }
}
