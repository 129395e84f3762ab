//! Pushing manifests.

use bytes::Bytes;
use oci::{Algorithm, Digest, Error, Hasher, ManifestView, Reference, RepositoryName, Tag};
use storage::{ManifestPut, ManifestRecord};

use crate::fault;
use crate::registry::Registry;

/// A manifest as it was sent.
#[derive(Clone, Debug)]
pub struct ManifestPush {
    /// The path's reference.
    pub reference: Reference,
    /// Further tags for a push by digest. [distribution-spec, Pushing Manifests with tags]
    pub tags: Vec<Tag>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The body.
    pub bytes: Bytes,
}

/// A manifest that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedManifest {
    /// Its digest, of the algorithm that it was pushed with.
    pub digest: Digest,
    /// Its subject, which the reply names in `OCI-Subject`.
    pub subject: Option<Digest>,
    /// The tags of the query that point at it now.
    pub tags: Vec<Tag>,
}

impl Registry {
    /// Takes a manifest into a repository and points tags at it, durably.
    ///
    /// `ManifestInvalid`, `DigestInvalid` or `ManifestBlobUnknown` leave nothing visible. Must run to its end: on a task that no client
    /// can cancel.
    pub async fn push_manifest(&self, name: &RepositoryName, push: ManifestPush) -> Result<PushedManifest, Error> {
        if push.bytes.len() as u64 > self.limits.manifest_size {
            return Err(Error::TooLarge { limit: self.limits.manifest_size });
        }
        let view = ManifestView::parse(&push.bytes, push.content_type.as_deref())?;
        let digest = verified_digest(&push)?;
        self.check_blobs(name, &view).await?;
        let subject = view.subject.as_ref().map(|subject| subject.digest.clone());
        let mut tags = push.tags.clone();
        if let Reference::Tag(tag) = &push.reference {
            tags.push(tag.clone());
        }
        let place = self.place_for(name, &digest, push.bytes.len(), &view, &tags).await?;
        let now = self.clock.now();
        let record = self.record(view.clone(), push.bytes.len());
        let put = ManifestPut { digest: &digest, bytes: push.bytes, record: &record, tags: &tags, cached_from: None, at: now };
        self.store.put_manifest(name, put).await.map_err(fault::store("storing a manifest"))?;
        if let Some(place) = place {
            place.take(&digest, &view);
        }
        Ok(PushedManifest { digest, subject, tags: push.tags })
    }

    /// What is kept of a manifest beside its bytes.
    pub(crate) fn record(&self, view: ManifestView, size: usize) -> ManifestRecord {
        let mut record = ManifestRecord::new(view.media_type, size as u64, self.clock.now());
        record.artifact_type = view.artifact_type;
        if let Some(subject) = view.subject {
            record.subject = Some(subject.digest);
            record.annotations = view.annotations;
        }
        record
    }

    /// An image whose configuration or layers are not here could be pushed but never pulled. Layers that registries need not hold
    /// and the manifests of an index may be missing, as may a subject. [distribution-spec, Pushing Manifests]
    async fn check_blobs(&self, name: &RepositoryName, view: &ManifestView) -> Result<(), Error> {
        if self.rules.sparse_images {
            return Ok(());
        }
        for blob in view.blobs.iter().filter(|blob| !oci::media_type::is_nondistributable(&blob.media_type)) {
            let failed = || fault::store("looking a blob up");
            // A crash may leave the right to a blob without its bytes.
            let there = self.store.is_member(name, &blob.digest).await.map_err(failed())?
                && self.store.stat_blob(&blob.digest).await.map_err(failed())?.is_some();
            if !there {
                return Err(Error::ManifestBlobUnknown { digest: blob.digest.clone() });
            }
        }
        Ok(())
    }
}

fn verified_digest(push: &ManifestPush) -> Result<Digest, Error> {
    match &push.reference {
        Reference::Tag(_) => Ok(Hasher::digest(Algorithm::Sha256, &push.bytes)),
        Reference::Digest(expected) => {
            let actual = Hasher::digest(expected.algorithm(), &push.bytes);
            if actual == *expected {
                return Ok(actual);
            }
            Err(Error::DigestInvalid { reason: format!("the content has the digest {actual}, not {expected}") })
        }
    }
}
