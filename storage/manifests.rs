//! What is known of each manifest of a repository, and what refers to what.

use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci::{Algorithm, Annotations, Descriptor, Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::catalog::seconds;
use crate::error::Error;
use crate::keys;
use crate::store::Store;

/// Records read at the same time while a listing is put together.
const CONCURRENT_READS: usize = 16;

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

    fn descriptor(self, digest: Digest) -> Descriptor {
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
    /// but not listed.
    pub async fn put_manifest(&self, name: &RepositoryName, digest: &Digest, record: &ManifestRecord) -> Result<(), Error> {
        if let Some(subject) = &record.subject {
            self.objects.create(&keys::referrer(name, subject, digest), Bytes::new()).await?;
        }
        let written = self.objects.put_json(&keys::manifest(name, digest), record).await;
        self.caches.manifests.forget(&(name.clone(), digest.clone()));
        written
    }

    /// Takes a manifest out of a repository, and out of the listing of its subject. `false` if it was not there.
    pub async fn remove_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let Some(record) = self.manifest(name, digest).await? else { return Ok(false) };
        let removed = self.objects.delete(&keys::manifest(name, digest)).await;
        self.caches.manifests.forget(&(name.clone(), digest.clone()));
        if let Some(subject) = &record.subject {
            self.objects.delete(&keys::referrer(name, subject, digest)).await?;
        }
        removed.map(|()| true)
    }

    /// Digests of the repository's manifests, in no order that means anything.
    pub async fn manifests(&self, name: &RepositoryName) -> Result<Vec<Digest>, Error> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let names = self.objects.children(&keys::manifests(name, algorithm)).await?;
            digests.extend(names.iter().filter_map(|hex| Digest::from_hex(algorithm, hex).ok()));
        }
        Ok(digests)
    }

    /// What refers to a subject, in order of the digests.
    pub async fn referrers(&self, name: &RepositoryName, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let entries = self.objects.children(&keys::referrers(name, subject)).await?;
        let digests = entries.iter().filter_map(|entry| Digest::parse(entry).ok());
        let reads = digests.map(|digest| async move {
            let record = self.manifest(name, &digest).await?;
            Ok::<_, Error>(record.map(|record| record.descriptor(digest)))
        });
        // Collected first: a lazy map over borrowed state keeps the future from being sent between threads.
        let reads: Vec<_> = reads.collect();
        let found: Vec<Option<Descriptor>> = futures_util::stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}
