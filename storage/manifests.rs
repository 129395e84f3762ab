//! What is known of each manifest of a repository, and what refers to what.

use std::time::SystemTime;

use bytes::Bytes;
use oci::{Annotations, Descriptor, Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::keys;
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
            annotations: self.annotations,
        }
    }
}

impl Store {
    /// What is known of a manifest, if the repository has it.
    pub async fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<ManifestRecord>, Error> {
        let key = keys::manifest(name, digest);
        let load = self.objects.read_json(&key);
        self.caches.manifests.or_load((name.clone(), digest.clone()), load).await
    }

    /// Enters a manifest, whose bytes are here, into a repository and lists it under its subject.
    ///
    /// The entry under the subject comes first and counts only with the record, so that no crash leaves a manifest that is there
    /// but not listed. Must run to its end: on a task that no client can cancel.
    pub async fn put_manifest(&self, name: &RepositoryName, digest: &Digest, record: &ManifestRecord) -> Result<(), Error> {
        if let Some(subject) = &record.subject {
            self.objects.create(&keys::referrer(name, subject, digest), Bytes::new()).await?;
        }
        let written = self.objects.put_json(&keys::manifest(name, digest), record).await;
        self.caches.manifests.forget(&(name.clone(), digest.clone()));
        written
    }

    /// Takes a manifest out of a repository. `false` if it was not there.
    ///
    /// Its entry under a subject stays and counts no more: to remove it could take it from a push of the same manifest that comes
    /// meanwhile. Must run to its end: on a task that no client can cancel.
    pub async fn remove_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        if self.manifest(name, digest).await?.is_none() {
            return Ok(false);
        }
        let removed = self.objects.delete(&keys::manifest(name, digest)).await;
        self.caches.manifests.forget(&(name.clone(), digest.clone()));
        removed.map(|()| true)
    }

    /// Digests of what was ever pushed with this subject, in order; some may be gone.
    pub async fn referrers(&self, name: &RepositoryName, subject: &Digest) -> Result<Vec<Digest>, Error> {
        let entries = self.objects.children(&keys::referrers(name, subject)).await?;
        Ok(entries.iter().filter_map(|(entry, _)| Digest::parse(entry).ok()).collect())
    }
}
