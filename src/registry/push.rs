//! Pushing by what copies: mirrors, imports, builds.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci::{ByteStream, Digest, Error, Manifest, Push, RangeSource, Reference, RepositoryName, Tag};
use tokio::sync::mpsc;

use crate::fault;
use crate::manifests::ManifestPush;
use crate::registry::Registry;

/// Pieces of a blob on their way to the task that writes them.
const PIECES: usize = 4;

/// A step of a blob's way. Without an end it has been left, and what came is not the whole.
enum Piece {
    Bytes(Result<Bytes, Error>),
    End,
}

impl Registry {
    /// Makes a change on a task of its own, so that it comes to its end although who waits for it leaves.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let made = self.tasks.spawn(change).await;
        made.unwrap_or_else(|cause| Err(Error::internal("changing what is held", cause)))
    }
}

#[async_trait]
impl Push for Registry {
    async fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let failed = || fault::store("looking a blob up");
        // A crash may leave the right to a blob without its bytes.
        Ok(self.store.is_member(name, digest).await.map_err(failed())?
            && self.store.stat_blob(digest).await.map_err(failed())?.is_some())
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        Ok(self.find(name, &Reference::Digest(digest.clone())).await?.is_some())
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Error> {
        let record = self.store.tag(name, tag).await.map_err(fault::store("reading a tag"))?;
        Ok(record.map(|record| record.digest))
    }

    async fn mount_blob(&self, name: &RepositoryName, digest: &Digest, from: Option<&RepositoryName>) -> Result<bool, Error> {
        let (registry, name, digest, from) = (self.clone(), name.clone(), digest.clone(), from.cloned());
        self.to_the_end(async move { registry.mount_blob(&name, &digest, from.as_ref(), &|_| true).await }).await
    }

    async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        _size: Option<u64>,
        source: Arc<dyn RangeSource>,
    ) -> Result<(), Error> {
        let mut bytes = source.open(0, None).await?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let (registry, name, digest) = (self.clone(), name.clone(), digest.clone());
        let push = self.to_the_end(async move { registry.push_blob(&name, &digest, whole(receiver)).await });
        // If this is dropped, the task sees that no more comes, and gives the blob up; after the end it keeps it.
        let send = async move {
            while let Some(piece) = bytes.next().await {
                if sender.send(Piece::Bytes(piece)).await.is_err() {
                    return;
                }
            }
            // Where nobody takes it the push has failed, which is what is told.
            let _ = sender.send(Piece::End).await;
        };
        let ((), pushed) = futures_util::join!(send, push);
        pushed
    }

    async fn push_manifest(&self, name: &RepositoryName, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        let push = ManifestPush {
            reference: Reference::Digest(manifest.digest.clone()),
            tags: tags.to_vec(),
            content_type: Some(manifest.media_type.clone()),
            bytes: manifest.bytes.clone(),
        };
        let (registry, name) = (self.clone(), name.clone());
        self.to_the_end(async move { registry.push_manifest(&name, push).await.map(|_| ()) }).await
    }
}

/// The bytes that come up to the end; an error if they stop before it.
fn whole(receiver: mpsc::Receiver<Piece>) -> ByteStream {
    Box::pin(stream::try_unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Piece::Bytes(bytes)) => bytes.map(|bytes| Some((bytes, receiver))),
            Some(Piece::End) => Ok(None),
            None => Err(Error::Unavailable { reason: "whoever copied the blob has left".to_owned(), source: None }),
        }
    }))
}
