//! Blobs and membership: the bytes once per digest, and which repository may serve them.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, WriteMultipart};
use oci::{Algorithm, ByteStream, Content, Digest, RangeSource, RepositoryName};

use crate::error::Error;
use crate::keys;
use crate::spool::Spool;
use crate::store::Store;

/// Content up to this size goes to a remote store in one call.
const ONE_PUT: u64 = 8 * 1024 * 1024;

/// A blob that is there.
pub struct StoredBlob {
    /// Its size in bytes.
    pub size: u64,
    /// How to come by its bytes.
    pub content: Content,
}

impl Store {
    /// The blob's size, if its bytes are here. Says nothing of who may have it.
    pub async fn stat_blob(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.objects.size(&keys::blob(digest)).await
    }

    /// The blob, if its bytes are here. Says nothing of who may have it.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let key = keys::blob(digest);
        if let Some(folder) = &self.backend.folder {
            return match File::open(folder.path(&key)) {
                Ok(file) => {
                    let size = file.metadata().map_err(Error::file("reading the size of a blob"))?.len();
                    Ok(Some(StoredBlob { size, content: Content::File(Arc::new(file)) }))
                }
                Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(None),
                Err(other) => Err(Error::file("opening a blob")(other)),
            };
        }
        let Some(size) = self.objects.size(&key).await? else { return Ok(None) };
        let source = RemoteBlob { store: Arc::clone(&self.objects.store), key };
        Ok(Some(StoredBlob { size, content: Content::Source(Arc::new(source)) }))
    }

    /// All bytes of a blob that is known to be small (a manifest).
    pub async fn blob_bytes(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        let load = async {
            let read = self.objects.read(&keys::blob(digest)).await?;
            Ok(read.map(|(bytes, _)| bytes))
        };
        self.caches.bytes.or_load(digest.clone(), load).await
    }

    /// Stores bytes whose digest the caller has verified. Nothing is written if they are here already.
    pub async fn put_blob(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        self.objects.create(&keys::blob(digest), bytes).await.map(|_| ())
    }

    /// A place for a blob that comes in as a stream and will be kept under a digest of this algorithm.
    pub fn spool(&self, algorithm: Algorithm) -> Result<Spool, Error> {
        Spool::create(self.clone(), algorithm)
    }

    /// Makes a complete file the object `key`: by renaming where the file lies in the store's own folder (`path`), else by
    /// sending it there.
    pub(crate) async fn keep_file(&self, path: Option<PathBuf>, file: Arc<File>, size: u64, key: &Path) -> Result<(), Error> {
        let start = self.objects.clock.monotonic();
        let kept = match (&self.backend.folder, path) {
            (Some(folder), Some(path)) => {
                let (folder, key) = (folder.clone(), key.clone());
                let work = tokio::task::spawn_blocking(move || folder.adopt(&path, &file, &key));
                work.await.map_err(std::io::Error::other).and_then(|kept| kept).map_err(Error::file("keeping a blob"))
            }
            _ => self.send_file(file, size, key).await,
        };
        self.objects.metrics.store_call("keep", kept.is_ok(), self.objects.clock.monotonic().saturating_sub(start));
        kept
    }

    async fn send_file(&self, file: Arc<File>, size: u64, key: &Path) -> Result<(), Error> {
        let failed = |source| Error::backend(key, source);
        if size <= ONE_PUT {
            let bytes = read_at(file, 0, size).await?;
            return self.objects.store.put(key, bytes.into()).await.map(|_| ()).map_err(failed);
        }
        let mut upload = WriteMultipart::new_with_chunk_size(
            self.objects.store.put_multipart(key).await.map_err(failed)?,
            usize::try_from(ONE_PUT).unwrap_or(usize::MAX),
        );
        let mut offset = 0;
        while offset < size {
            let bytes = read_at(Arc::clone(&file), offset, (size - offset).min(ONE_PUT)).await?;
            offset += bytes.len() as u64;
            upload.wait_for_capacity(2).await.map_err(failed)?;
            upload.put(bytes);
        }
        upload.finish().await.map(|_| ()).map_err(failed)
    }

    /// May this repository serve this blob?
    pub async fn is_member(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let load = async {
            let size = self.objects.size(&keys::member(digest, name)).await?;
            Ok(size.map(|_| ()))
        };
        self.caches.members.or_load((name.clone(), digest.clone()), load).await.map(|found| found.is_some())
    }

    /// Lets the repository serve the blob, whose bytes are here.
    pub async fn add_member(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        if self.is_member(name, digest).await? {
            return Ok(());
        }
        self.objects.create(&keys::member(digest, name), Bytes::new()).await.map(|_| ())
    }

    /// Ends the repository's right to the blob. `false` if it had none. The bytes stay until they are collected.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn remove_member(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        if !self.is_member(name, digest).await? {
            return Ok(false);
        }
        let removed = self.objects.delete(&keys::member(digest, name)).await;
        self.caches.members.forget(&(name.clone(), digest.clone()));
        removed.map(|()| true)
    }

    /// The repositories that may serve the blob.
    pub async fn members(&self, digest: &Digest) -> Result<Vec<RepositoryName>, Error> {
        let names = self.objects.children(&keys::members(digest)).await?;
        Ok(names.iter().filter_map(|(name, _)| keys::unflat(name)).collect())
    }
}

/// A part of a file, off the threads that serve connections.
async fn read_at(file: Arc<File>, offset: u64, length: u64) -> Result<Bytes, Error> {
    use std::os::unix::fs::FileExt;

    let work = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        file.read_exact_at(&mut buffer, offset)?;
        Ok(Bytes::from(buffer))
    });
    work.await.map_err(std::io::Error::other).and_then(|read| read).map_err(Error::file("reading a temporary file"))
}

/// A blob in a store that is asked over the network, or in memory.
struct RemoteBlob {
    store: Arc<dyn ObjectStore>,
    key: Path,
}

#[async_trait]
impl RangeSource for RemoteBlob {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, oci::Error> {
        let range = match end {
            Some(end) if end <= start => return Ok(futures_util::stream::empty().boxed()),
            Some(end) => Some(GetRange::Bounded(start..end)),
            // An offset at the end of an empty object is out of range to some stores.
            None if start == 0 => None,
            None => Some(GetRange::Offset(start)),
        };
        let options = GetOptions { range, ..GetOptions::default() };
        let got = self.store.get_opts(&self.key, options).await.map_err(|cause| oci::Error::internal("opening a blob", cause))?;
        Ok(got.into_stream().map(|bytes| bytes.map_err(|cause| oci::Error::internal("reading a blob", cause))).boxed())
    }
}
