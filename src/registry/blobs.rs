//! Blobs that arrive in one request, and mounts.

use futures_util::StreamExt;
use oci::{ByteStream, Digest, Error, Hasher, RepositoryName};
use storage::{Held, KeepError, Owner};

use crate::fault;
use crate::registry::Registry;

impl Registry {
    /// Takes a whole blob, verified, durably. `DigestInvalid` and a broken `body` leave nothing.
    pub async fn push_blob(&self, name: &RepositoryName, digest: &Digest, mut body: ByteStream) -> Result<(), Error> {
        let mut held = self.store.hold();
        let mut next = None;
        while next.is_none()
            && let Some(bytes) = body.next().await
        {
            let bytes = bytes?;
            self.check_size(held.as_slice().len() as u64 + bytes.len() as u64)?;
            next = (!held.push(&bytes)).then_some(bytes);
        }
        let Some(mut next) = next else { return self.keep_held(name, digest, held).await };
        let mut spool = self.store.spool(digest.algorithm()).map_err(fault::store("starting a blob"))?;
        spool.write(held.as_slice()).map_err(fault::store("writing a blob"))?;
        drop(held);
        loop {
            self.check_size(spool.written() + next.len() as u64)?;
            spool.write(&next).map_err(fault::store("writing a blob"))?;
            let Some(bytes) = body.next().await else { break };
            next = bytes?;
        }
        spool.keep(digest, self.hosted(name)).await.map_err(|error| match error {
            KeepError::Digest { actual } => mismatch(digest, &actual),
            KeepError::Store(failure) => fault::store("keeping a blob")(failure),
        })
    }

    /// A blob that is so small that it was not written anywhere yet.
    async fn keep_held(&self, name: &RepositoryName, digest: &Digest, held: Held) -> Result<(), Error> {
        let actual = Hasher::digest(digest.algorithm(), held.as_slice());
        if actual != *digest {
            return Err(mismatch(digest, &actual));
        }
        let kept = self.store.put_blob(digest, held.into_bytes(), self.hosted(name)).await;
        kept.map_err(fault::store("keeping a blob"))
    }

    /// Lets `name` serve a blob that another repository has: `from`, or any where it is absent, but none that `may_pull` does not
    /// allow. `false` if there is none, and then the client uploads. [distribution-spec, Mounting a blob from another repository]
    pub async fn mount_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        may_pull: &(dyn Fn(&RepositoryName) -> bool + Sync),
    ) -> Result<bool, Error> {
        if self.mountable_from(digest, from, may_pull).await?.is_none() {
            return Ok(false);
        }
        self.store.add_member(digest, self.hosted(name)).await.map_err(fault::store("mounting a blob"))?;
        Ok(true)
    }

    /// The repository that a blob can be mounted from: `from`, or any that has it where that is absent, and that `may_pull` allows.
    pub async fn mountable_from(
        &self,
        digest: &Digest,
        from: Option<&RepositoryName>,
        may_pull: &(dyn Fn(&RepositoryName) -> bool + Sync),
    ) -> Result<Option<RepositoryName>, Error> {
        let failed = || fault::store("mounting a blob");
        let found = match from {
            Some(from) => {
                let has_it = may_pull(from) && self.store.is_member(from, digest).await.map_err(failed())?;
                has_it.then(|| from.clone())
            }
            None => self.store.members(digest).await.map_err(failed())?.into_iter().find(|name| may_pull(name)),
        };
        if found.is_some() && self.store.stat_blob(digest).await.map_err(failed())?.is_none() {
            return Ok(None);
        }
        Ok(found)
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
