//! What is known of each manifest of a repository, and what refers to what.

use std::time::SystemTime;

use bytes::Bytes;
use oci::{Algorithm, Annotations, Descriptor, Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::commit::Write;
use crate::error::Error;
use crate::keys;
use crate::objects::encode;
use crate::store::Store;
use crate::time::seconds;

/// A manifest that a repository has. Its bytes are the blob of the same digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Media type that it was pushed with.
    pub media_type: String,
    /// Size in bytes.
    pub size: u64,
    /// The manifest that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// As [`oci::ManifestView::artifact_type`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its annotations, kept only where it has a subject and so is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// When it was pushed or cached, in seconds since 1970.
    pub pushed_at: u64,
}

/// A manifest to be taken into a repository.
#[derive(Clone, Debug)]
pub struct ManifestPut<'a> {
    /// Its digest, which the caller has verified.
    pub digest: &'a Digest,
    /// Its bytes.
    pub bytes: Bytes,
    /// What is to be known of it.
    pub record: &'a ManifestRecord,
    /// The tags that shall point at it.
    pub tags: &'a [Tag],
    /// The host of the upstream whose repository this caches, if it does.
    pub cached_from: Option<&'a str>,
    /// Now.
    pub at: SystemTime,
}

impl ManifestRecord {
    /// A record of a manifest with this media type and size, pushed now.
    #[must_use]
    pub fn new(media_type: String, size: u64, now: SystemTime) -> Self {
        Self { media_type, size, subject: None, artifact_type: None, annotations: None, pushed_at: seconds(now) }
    }

    /// Bytes that it takes in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let annotations = self.annotations.iter().flatten().map(|(key, value)| key.len() + value.len() + 64).sum::<usize>();
        512 + annotations
    }

    /// How the manifest is listed under its subject.
    #[must_use]
    pub fn descriptor(self, digest: Digest) -> Descriptor {
        Descriptor {
            media_type: self.media_type,
            digest,
            size: self.size,
            artifact_type: self.artifact_type,
            platform: None,
            annotations: self.annotations,
        }
    }
}

impl Store {
    /// What is known of a manifest, if the repository has it.
    pub async fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<ManifestRecord>, Error> {
        // A key takes longer to make than a value to find.
        let load = async { self.objects.read_json(&keys::manifest(name, digest)).await };
        self.caches.manifests.or_load((name.clone(), digest.clone()), load).await
    }

    /// Takes a manifest into a repository and points tags at it, durably.
    ///
    /// In this order: bytes, entry of the repository and entry under the subject (which counts only with the record); the record;
    /// the tags. No crash leaves one of them visible without those before it. Must run to its end: on a task that no client can
    /// cancel.
    pub async fn put_manifest(&self, name: &RepositoryName, put: ManifestPut<'_>) -> Result<(), Error> {
        let ManifestPut { digest, bytes, record, tags, cached_from, at } = put;
        let key = keys::manifest(name, digest);
        let mut first = vec![Write::Blob(keys::blob(digest), bytes)];
        if let Some(subject) = &record.subject {
            first.push(Write::Mark(keys::referrer(name, subject, digest)));
        }
        let repository = self.new_repository(name, cached_from, at).await?;
        let is_new = repository.is_some();
        first.extend(repository.map(|(key, bytes)| Write::Keep(key, bytes)));
        let mut steps = vec![first, vec![Write::Put(key.clone(), encode(&key, record)?)]];
        let mut moves = None;
        if self.backend.exact && !tags.is_empty() {
            let prepared = moves.insert(self.move_tags(name, tags, digest, at).await?);
            steps.push(std::mem::take(&mut prepared.writes));
        }
        if moves.is_none() {
            // Before anything is visible. Whoever is faster between this and the tag itself is met there.
            self.check_stays(name, tags, digest).await?;
        }
        let written = self.commit(steps).await;
        self.caches.manifests.forget(&(name.clone(), digest.clone()));
        if is_new {
            self.repository_added(name, written.is_ok());
        }
        if let Some(moves) = moves {
            self.tags_moved(moves, written.is_ok());
            return written;
        }
        written?;
        for tag in tags {
            self.set_tag(name, tag, digest, at).await?;
        }
        Ok(())
    }

    /// Digests of the manifests of a repository, in order.
    pub async fn manifests(&self, name: &RepositoryName) -> Result<Vec<Digest>, Error> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = keys::manifests(name, algorithm);
            let entries = self.objects.children(&folder).await?;
            digests.extend(entries.iter().filter_map(|(hex, _)| Digest::parse(&format!("{algorithm}:{hex}")).ok()));
        }
        Ok(digests)
    }

    /// Takes a manifest out of a repository. `false` if it was not there.
    ///
    /// Its entry under a subject stays and counts no more: to remove it could take it from a push of the same manifest that comes
    /// meanwhile. Must run to its end: on a task that no client can cancel.
    pub async fn remove_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let key = keys::manifest(name, digest);
        if self.objects.size(&key).await?.is_none() {
            return Ok(false);
        }
        let removed = self.objects.delete(&key).await;
        self.caches.manifests.forget(&(name.clone(), digest.clone()));
        removed.map(|()| true)
    }

    /// Digests of what was ever pushed with this subject, in order; some may be gone.
    pub async fn referrers(&self, name: &RepositoryName, subject: &Digest) -> Result<Vec<Digest>, Error> {
        let entries = self.objects.children(&keys::referrers(name, subject)).await?;
        Ok(entries.iter().filter_map(|(entry, _)| Digest::parse(entry).ok()).collect())
    }
}
