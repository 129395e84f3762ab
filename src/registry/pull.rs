//! Pulling and listing what is here.

use async_trait::async_trait;
use futures_util::StreamExt;
use oci::{
    Blob, BlobStat, Descriptor, Digest, Discover, Error, Listing, Manifest, ManifestStat, Page, Pull, Reference, ReferrersList,
    RepositoryName, Tag,
};
use storage::ManifestRecord;

use crate::fault;
use crate::registry::{Registry, listing};

impl Registry {
    /// The digest that a reference means here, and what is known of that manifest.
    pub(crate) async fn find(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<(Digest, ManifestRecord)>, Error> {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => match self.store.tag(name, tag).await.map_err(fault::store("reading a tag"))? {
                Some(record) => record.digest,
                None => return Ok(None),
            },
        };
        let record = self.store.manifest(name, &digest).await.map_err(fault::store("reading a manifest"))?;
        Ok(record.map(|record| (digest, record)))
    }

    async fn found(&self, name: &RepositoryName, reference: &Reference) -> Result<(Digest, ManifestRecord), Error> {
        match self.find(name, reference).await? {
            Some(found) => Ok(found),
            None => Err(self.unknown(name, || Error::ManifestUnknown { reference: reference.to_string() }).await),
        }
    }

    /// How a manifest is listed under its subject and what that weighs; `None` if it is gone.
    async fn referrer(&self, name: &RepositoryName, digest: Digest) -> Result<Option<(Descriptor, usize)>, Error> {
        let record = self.store.manifest(name, &digest).await.map_err(fault::store("listing referrers"))?;
        Ok(record.map(|record| {
            let weight = record.weight();
            (record.descriptor(digest), weight)
        }))
    }

    async fn member(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        if self.store.is_member(name, digest).await.map_err(fault::store("looking a blob up"))? {
            return Ok(());
        }
        Err(self.unknown(name, || Error::BlobUnknown { digest: digest.clone() }).await)
    }
}

/// Records that are read at the same time while a listing is put together.
const CONCURRENT_READS: usize = 8;
/// A page of referrers ends here, since annotations can be large. It has at least one entry.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

#[async_trait]
impl Pull for Registry {
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, Error> {
        let (digest, record) = self.found(name, reference).await?;
        Ok(ManifestStat { digest, media_type: record.media_type, size: record.size, warning: None })
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, Error> {
        let (digest, record) = self.found(name, reference).await?;
        let bytes = self.store.blob_bytes(&digest).await.map_err(fault::store("reading a manifest"))?;
        let bytes = bytes.ok_or_else(|| Error::internal("reading a manifest", format!("the bytes of {digest} are missing")))?;
        Ok(Manifest { digest, media_type: record.media_type, bytes, warning: None })
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error> {
        self.member(name, digest).await?;
        let size = self.store.stat_blob(digest).await.map_err(fault::store("looking a blob up"))?;
        let size = size.ok_or_else(|| Error::BlobUnknown { digest: digest.clone() })?;
        Ok(BlobStat { digest: digest.clone(), size: Some(size) })
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error> {
        self.member(name, digest).await?;
        let stored = self.store.blob(digest).await.map_err(fault::store("opening a blob"))?;
        let stored = stored.ok_or_else(|| Error::BlobUnknown { digest: digest.clone() })?;
        Ok(Blob { digest: digest.clone(), size: Some(stored.size), content: stored.content })
    }
}

#[async_trait]
impl Discover for Registry {
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, Error> {
        if self.store.repository(name).await.map_err(fault::store("looking a repository up"))?.is_none() {
            return Err(Error::NameUnknown { name: name.to_string() });
        }
        let slice = self.store.tags_after(name, page.last.as_deref(), self.limits.entries(page)).await;
        Ok(listing(slice.map_err(fault::store("listing tags"))?, Tag::to_string))
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error> {
        let digests = self.store.referrers(name, subject).await.map_err(fault::store("listing referrers"))?;
        let last = query.page.last.as_deref().unwrap_or_default();
        let rest: Vec<_> = digests
            .into_iter()
            .filter(|digest| digest.to_string().as_str() > last)
            .map(|digest| self.referrer(name, digest))
            .collect();
        let mut rest = futures_util::stream::iter(rest).buffered(CONCURRENT_READS);
        let limit = query.page.limit.unwrap_or(self.limits.page).min(self.limits.page);
        let mut listing = Listing { entries: Vec::new(), next: None, warning: None };
        let mut bytes = 0;
        while let Some(found) = rest.next().await {
            let Some((descriptor, weight)) = found? else { continue };
            if query.artifact_type.as_ref().is_some_and(|wanted| descriptor.artifact_type.as_ref() != Some(wanted)) {
                continue;
            }
            if listing.entries.len() >= limit || bytes + weight > PAGE_BYTES && !listing.entries.is_empty() {
                listing.next = listing.entries.last().map(|last: &Descriptor| last.digest.to_string());
                break;
            }
            bytes += weight;
            listing.entries.push(descriptor);
        }
        Ok(listing)
    }
}
