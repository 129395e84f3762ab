//! Keeping content on behalf of an upstream: the side of the registry that the pull-through writes to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oci::{Algorithm, Digest, Error, Manifest, ManifestView, RepositoryName, Tag};
use storage::{KeepError, Spool};

use crate::blobs::mismatch;
use crate::fault;
use crate::registry::Registry;

impl Registry {
    /// Where a cached tag points, and when that was last known to be right.
    pub async fn cached_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<(Digest, SystemTime)>, Error> {
        let record = self.store.tag(name, tag).await.map_err(fault::store("reading a tag"))?;
        Ok(record.map(|record| (record.digest, UNIX_EPOCH + Duration::from_secs(record.at))))
    }

    /// Keeps a manifest that `upstream` has, whose digest the caller has verified, and points `tag` at it.
    ///
    /// Its blobs and children are not asked for: they come when a client asks.
    pub async fn keep_manifest(
        &self,
        name: &RepositoryName,
        tag: Option<&Tag>,
        manifest: &Manifest,
        upstream: &str,
    ) -> Result<(), Error> {
        let view = ManifestView::parse(&manifest.bytes, Some(&manifest.media_type))?;
        let tags: Vec<Tag> = tag.into_iter().cloned().collect();
        self.keep(name, &manifest.digest, view, manifest.bytes.clone(), &tags, Some(upstream)).await
    }

    /// Notes that a cached tag is right as of now, and points it at a manifest that is here.
    pub async fn confirm_tag(&self, name: &RepositoryName, tag: &Tag, digest: &Digest, upstream: &str) -> Result<(), Error> {
        let set = self.store.set_tag(name, tag, digest, self.clock.now(), Some(upstream)).await;
        set.map_err(fault::store("confirming a tag"))
    }

    /// A place for a blob that an upstream sends.
    pub fn spool(&self, algorithm: Algorithm) -> Result<Spool, Error> {
        self.store.spool(algorithm).map_err(fault::store("starting a fill"))
    }

    /// Takes bytes into a spool.
    pub fn write_spool(spool: &mut Spool, bytes: &[u8]) -> Result<(), Error> {
        spool.write(bytes).map_err(fault::store("writing a fill"))
    }

    /// Are the bytes of a blob here, whoever may have them?
    pub async fn has_bytes(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.store.stat_blob(digest).await.map_err(fault::store("looking a blob up"))?.is_some())
    }

    /// Verifies what was spooled and makes it a blob of the cached repository, durably.
    pub async fn keep_blob(&self, name: &RepositoryName, digest: &Digest, spool: Spool, upstream: &str) -> Result<(), Error> {
        let failed = || fault::store("keeping a fill");
        spool.keep(digest).await.map_err(|error| match error {
            KeepError::Digest { actual } => mismatch(digest, &actual),
            KeepError::Store(failure) => fault::store("keeping a fill")(failure),
        })?;
        self.store.add_repository(name, Some(upstream), self.clock.now()).await.map_err(failed())?;
        self.store.add_member(name, digest).await.map_err(failed())
    }

    /// Lets a cached repository serve a blob whose bytes another repository brought here already. `false` if they are not here.
    ///
    /// The caller has made sure that the upstream serves this blob in that repository.
    pub async fn adopt_blob(&self, name: &RepositoryName, digest: &Digest, upstream: &str) -> Result<bool, Error> {
        let failed = || fault::store("entering a blob");
        if self.store.stat_blob(digest).await.map_err(failed())?.is_none() {
            return Ok(false);
        }
        self.store.add_repository(name, Some(upstream), self.clock.now()).await.map_err(failed())?;
        self.store.add_member(name, digest).await.map_err(failed())?;
        Ok(true)
    }
}
