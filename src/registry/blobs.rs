//! Blobs that arrive in one request, and mounts.

use futures_util::StreamExt;
use oci::{ByteStream, Digest, Error, RepositoryName};
use storage::{KeepError, Owner};

use crate::fault;
use crate::registry::Registry;

impl Registry {
    /// Takes a whole blob, verified, durably. `DigestInvalid` and a broken `body` leave nothing.
    pub async fn push_blob(&self, name: &RepositoryName, digest: &Digest, mut body: ByteStream) -> Result<(), Error> {
        let mut spool = self.store.spool(digest.algorithm()).map_err(fault::store("starting a blob"))?;
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            self.check_size(spool.written() + bytes.len() as u64)?;
            spool.write(&bytes).map_err(fault::store("writing a blob"))?;
        }
        spool.keep(digest, self.hosted(name)).await.map_err(|error| match error {
            KeepError::Digest { actual } => mismatch(digest, &actual),
            KeepError::Store(failure) => fault::store("keeping a blob")(failure),
        })
    }

    /// Lets `name` serve a blob that another repository has: `from`, or any where it is absent. `false` if there is none, and then
    /// the client uploads. [distribution-spec, Mounting a blob from another repository]
    pub async fn mount_blob(&self, name: &RepositoryName, digest: &Digest, from: Option<&RepositoryName>) -> Result<bool, Error> {
        let failed = || fault::store("mounting a blob");
        let there = match from {
            Some(from) => self.store.is_member(from, digest).await.map_err(failed())?,
            None => !self.store.members(digest).await.map_err(failed())?.is_empty(),
        };
        if !there || self.store.stat_blob(digest).await.map_err(failed())?.is_none() {
            return Ok(false);
        }
        self.store.add_member(digest, self.hosted(name)).await.map_err(failed())?;
        Ok(true)
    }

    /// A hosted repository, as the owner of what is kept now.
    pub(crate) fn hosted<'a>(&self, name: &'a RepositoryName) -> Owner<'a> {
        Owner { repository: name, cached_from: None, at: self.clock.now() }
    }

    pub(crate) fn check_size(&self, size: u64) -> Result<(), Error> {
        match self.limits.blob_size {
            Some(limit) if size > limit => Err(Error::TooLarge { limit }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn mismatch(expected: &Digest, actual: &Digest) -> Error {
    Error::DigestInvalid { reason: format!("the content has the digest {actual}, not {expected}") }
}
