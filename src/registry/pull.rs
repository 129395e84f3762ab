//! Pulling and listing what is here.

use async_trait::async_trait;
use oci::{
    Blob, BlobStat, Descriptor, Digest, Discover, Error, Listing, Manifest, ManifestStat, Page, Pull, Reference, ReferrersList,
    RepositoryName,
};
use storage::ManifestRecord;

use crate::fault;
use crate::registry::Registry;

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

    async fn member(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        if self.store.is_member(name, digest).await.map_err(fault::store("looking a blob up"))? {
            return Ok(());
        }
        Err(self.unknown(name, || Error::BlobUnknown { digest: digest.clone() }).await)
    }
}

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
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<String>, Error> {
        if self.store.repository(name).await.map_err(fault::store("looking a repository up"))?.is_none() {
            return Err(Error::NameUnknown { name: name.to_string() });
        }
        let tags = self.store.tags(name).await.map_err(fault::store("listing tags"))?;
        Ok(Listing::cut(tags.into_iter().map(String::from), page, self.limits.page, String::clone))
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error> {
        let mut descriptors = self.store.referrers(name, subject).await.map_err(fault::store("listing referrers"))?;
        if let Some(wanted) = &query.artifact_type {
            descriptors.retain(|descriptor| descriptor.artifact_type.as_ref() == Some(wanted));
        }
        Ok(Listing::cut(descriptors, &query.page, self.limits.page, |descriptor| descriptor.digest.to_string()))
    }
}
