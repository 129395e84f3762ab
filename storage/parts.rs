//! Large content on its way to a bucket: in parts, a few at a time, and gone if it cannot be completed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt};
use oci::{Algorithm, Hasher};

use crate::bucket::Parts;
use crate::error::Error;
use crate::store::Store;

/// Bytes of every part but the last: no store takes less than 5 MiB, some want all to be equal. Content up to this size goes in one
/// call.
pub(crate) const PART: u64 = 8 * 1024 * 1024;
/// Parts of all transfers that may be in memory at the same time.
pub(crate) const SENDERS: usize = 8;
/// Parts of one transfer that are sent at the same time.
const AT_ONCE: usize = 3;
/// Stores take no more parts than this.
const MOST_PARTS: u64 = 10_000;
/// What a store copies in one call.
const COPIED: u64 = 5 * 1024 * 1024 * 1024;

impl Store {
    pub(crate) fn parts(&self) -> Result<&Parts, Error> {
        self.backend
            .parts
            .as_ref()
            .ok_or_else(|| Error::File { what: "sending parts", source: std::io::Error::other("a folder takes files whole") })
    }

    /// Sends a complete file to be the object `key`. What failed half way leaves nothing.
    pub(crate) async fn send_file(&self, file: Arc<File>, size: u64, key: &Path) -> Result<(), Error> {
        if size <= PART {
            let _permit = self.senders.acquire().await;
            return self.objects.put(key, self.noted(read_at(file, 0, size).await)?).await;
        }
        let source = |offset, length| read_at(Arc::clone(&file), offset, length);
        self.send_parts(key, size, source).await
    }

    /// The hash of an object's bytes.
    pub(crate) async fn hash_object(&self, key: &Path, algorithm: Algorithm) -> Result<Hasher, Error> {
        let failed = |source| Error::backend(key, source);
        let got = self.objects.timed("get", self.objects.store.get_opts(key, GetOptions::default())).await.map_err(failed)?;
        let mut stream = got.into_stream();
        let mut hasher = Hasher::new(algorithm);
        while let Some(bytes) = stream.try_next().await.map_err(failed)? {
            hasher.update(&bytes);
        }
        Ok(hasher)
    }

    /// Makes a copy of an object within the bucket.
    pub(crate) async fn copy(&self, from: &Path, to: &Path, size: u64) -> Result<(), Error> {
        if size <= COPIED {
            let copied = self.objects.timed("copy", self.objects.store.copy(from, to)).await;
            return copied.map_err(|source| Error::backend(from, source));
        }
        self.send_parts(to, size, |offset, length| async move {
            let range = Some(GetRange::Bounded(offset..offset + length));
            let options = GetOptions { range, ..GetOptions::default() };
            let read = async { self.objects.store.get_opts(from, options).await?.bytes().await };
            self.objects.timed("get", read).await.map_err(|source| Error::backend(from, source))
        })
        .await
    }

    async fn send_parts<F>(&self, key: &Path, size: u64, source: impl Fn(u64, u64) -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<Bytes, Error>>,
    {
        let id = self.begin_parts(key).await?;
        let sends = (0..size.div_ceil(PART)).map(|number| {
            let read = source(number * PART, PART.min(size - number * PART));
            let id = &id;
            async move {
                let _permit = self.senders.acquire().await;
                self.put_part(key, id, number, read.await?).await
            }
        });
        let sends: Vec<_> = sends.collect();
        let parts: Result<Vec<String>, Error> = stream::iter(sends).buffered(AT_ONCE).try_collect().await;
        let done = match parts {
            Ok(parts) => self.complete_parts(key, &id, parts).await,
            Err(failure) => Err(failure),
        };
        if done.is_err() {
            self.abort_parts(key, &id).await;
        }
        done
    }

    pub(crate) async fn begin_parts(&self, key: &Path) -> Result<MultipartId, Error> {
        let parts = self.parts()?;
        let begun = self.objects.timed("begin", parts.store.create_multipart(&parts.key(key))).await;
        begun.map_err(|source| Error::backend(key, source))
    }

    /// Sends one part; its id is what completes the object.
    pub(crate) async fn put_part(&self, key: &Path, id: &MultipartId, number: u64, bytes: Bytes) -> Result<String, Error> {
        if number >= MOST_PARTS {
            let source =
                std::io::Error::new(std::io::ErrorKind::FileTooLarge, "a blob in a bucket has at most 10,000 parts of 8 MiB");
            return Err(Error::File { what: "sending a part", source });
        }
        let parts = self.parts()?;
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let put = self.objects.timed("part", parts.store.put_part(&parts.key(key), id, number, bytes.into())).await;
        put.map(|part| part.content_id).map_err(|source| Error::backend(key, source))
    }

    pub(crate) async fn complete_parts(&self, key: &Path, id: &MultipartId, ids: Vec<String>) -> Result<(), Error> {
        let parts = self.parts()?;
        let ids = ids.into_iter().map(|content_id| PartId { content_id }).collect();
        let done = self.objects.timed("complete", parts.store.complete_multipart(&parts.key(key), id, ids)).await;
        done.map(|_| ()).map_err(|source| Error::backend(key, source))
    }

    /// Drops the parts of a transfer that will not be completed. What a store keeps of it all the same, its lifecycle rules must remove.
    pub(crate) async fn abort_parts(&self, key: &Path, id: &MultipartId) {
        let Ok(parts) = self.parts() else { return };
        let aborted = self.objects.timed("abort", parts.store.abort_multipart(&parts.key(key), id)).await;
        if let Err(error) = aborted {
            tracing::warn!(%key, error = %telemetry::chain(&error), "parts of an unfinished transfer could not be dropped");
        }
    }
}

/// A part of a file, off the threads that serve connections.
pub(crate) async fn read_at(file: Arc<File>, offset: u64, length: u64) -> Result<Bytes, Error> {
    let work = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        file.read_exact_at(&mut buffer, offset)?;
        Ok(Bytes::from(buffer))
    });
    work.await.map_err(std::io::Error::other).and_then(|read| read).map_err(Error::file("reading a temporary file"))
}
