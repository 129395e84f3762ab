//! Keeping content on behalf of an upstream: the side of the registry that the pull-through writes to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oci::{Algorithm, Digest, Error, Manifest, ManifestView, RepositoryName, Tag};
use storage::{KeepError, ManifestPut, ManifestRecord, Owner, Spool, TagRecord};

use crate::blobs::mismatch;
use crate::fault;
use crate::registry::Registry;

impl Registry {
    /// Where a tag points, and how it came to; `None` if it is not there.
    pub async fn tag_record(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<TagRecord>, Error> {
        self.store.tag(name, tag).await.map_err(fault::store("reading a tag"))
    }

    /// Where a cached tag points, and when that was last known to be right.
    pub async fn cached_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<(Digest, SystemTime)>, Error> {
        let record = self.store.tag(name, tag).await.map_err(fault::store("reading a tag"))?;
        Ok(record.map(|record| (record.digest, UNIX_EPOCH + Duration::from_millis(record.at))))
    }

    /// Keeps a manifest that `upstream` has, whose digest the caller has verified.
    ///
    /// Its blobs and children are not asked for: they come when a client asks. What a push would be refused for is kept as it is, since
    /// it is the upstream's to say what it serves.
    pub async fn keep_manifest(&self, name: &RepositoryName, manifest: &Manifest, upstream: &str) -> Result<(), Error> {
        let record = match ManifestView::parse(&manifest.bytes, Some(&manifest.media_type)) {
            Ok(view) => self.record(view, manifest.bytes.len()),
            Err(_) => ManifestRecord::new(manifest.media_type.clone(), manifest.bytes.len() as u64, self.clock.now()),
        };
        let put = ManifestPut {
            digest: &manifest.digest,
            bytes: manifest.bytes.clone(),
            record: &record,
            tags: &[],
            cached_from: Some(upstream),
            at: self.clock.now(),
        };
        self.store.put_manifest(name, put).await.map_err(fault::store("keeping a manifest"))
    }

    /// Points a cached tag at a manifest that is here, as `upstream` said at the time `at`. What was learned later stays.
    pub async fn keep_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        at: SystemTime,
        upstream: &str,
    ) -> Result<(), Error> {
        let set = self.store.set_cached_tag(name, tag, digest, at, upstream).await;
        set.map_err(fault::store("keeping a tag"))
    }

    /// A place for a blob that an upstream sends.
    pub fn spool(&self, algorithm: Algorithm) -> Result<Spool, Error> {
        self.store.spool(algorithm).map_err(fault::store("starting a fill"))
    }

    /// Writes bytes to a spool, where they can be read; they are to be hashed as well. `TooLarge` beyond the limit for blobs.
    pub fn append_spool(&self, spool: &mut Spool, bytes: &[u8]) -> Result<(), Error> {
        self.check_size(spool.written() + bytes.len() as u64)?;
        spool.append(bytes).map_err(fault::store("writing a fill"))
    }

    /// Are these the bytes? `DigestInvalid` if they are others.
    pub fn verify_spool(&self, spool: &Spool, digest: &Digest) -> Result<(), Error> {
        spool.verify(digest).map_err(|actual| mismatch(digest, &actual))
    }

    /// Are the bytes of a blob here, whoever may have them?
    pub async fn has_bytes(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.store.stat_blob(digest).await.map_err(fault::store("looking a blob up"))?.is_some())
    }

    /// Verifies what was spooled and makes it a blob of the cached repository, durably.
    pub async fn keep_blob(&self, name: &RepositoryName, digest: &Digest, spool: Spool, upstream: &str) -> Result<(), Error> {
        spool.keep(digest, self.cached(name, upstream)).await.map_err(|error| match error {
            KeepError::Digest { actual } => mismatch(digest, &actual),
            KeepError::Store(failure) => fault::store("keeping a fill")(failure),
        })
    }

    /// Lets a cached repository serve a blob whose bytes another repository brought here already. `false` if they are not here.
    ///
    /// The caller has made sure that the upstream serves this blob in that repository.
    pub async fn adopt_blob(&self, name: &RepositoryName, digest: &Digest, upstream: &str) -> Result<bool, Error> {
        let failed = || fault::store("entering a blob");
        if self.store.stat_blob(digest).await.map_err(failed())?.is_none() {
            return Ok(false);
        }
        self.store.add_member(digest, self.cached(name, upstream)).await.map_err(failed())?;
        Ok(true)
    }

    /// A repository that caches one of `upstream`, as the owner of what is kept now.
    fn cached<'a>(&self, name: &'a RepositoryName, upstream: &'a str) -> Owner<'a> {
        Owner { repository: name, cached_from: Some(upstream), at: self.clock.now() }
    }
}
