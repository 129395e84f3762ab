//! Blobs and membership: the bytes once per digest, and which repository may serve them.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectStore};
use oci::{Algorithm, Content, Digest, RepositoryName};

use crate::commit::Write;
use crate::error::Error;
use crate::folder::Folder;
use crate::held::Held as HeldBytes;
use crate::keys;
use crate::remote::RemoteBlob;
use crate::spool::Spool;
use crate::store::Store;

/// Blobs up to this size are kept in memory when they are read.
const SMALL: u64 = 32 * 1024;

/// A blob that is there.
pub struct StoredBlob {
    /// Its size in bytes.
    pub size: u64,
    /// How to come by its bytes.
    pub content: Content,
}

/// A blob that was read before.
#[derive(Clone)]
pub(crate) enum Held {
    /// All of it.
    Bytes(Bytes),
    /// Its file, and how long that is.
    File(Arc<File>, u64),
}

/// The repository that a blob is kept for.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its name.
    pub repository: &'a RepositoryName,
    /// The host of the upstream that it caches, if it does.
    pub cached_from: Option<&'a str>,
    /// Now.
    pub at: SystemTime,
}

impl Held {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// Opens the blob at `path`, off the threads that serve connections.
    async fn open(path: PathBuf) -> std::io::Result<Option<Self>> {
        let work = move || {
            let file = match File::open(path) {
                Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            let size = file.metadata()?.len();
            if size > SMALL {
                return Ok(Some(Self::File(Arc::new(file), size)));
            }
            read_all(&file, size).map(|bytes| Some(Self::Bytes(bytes)))
        };
        tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
    }
}

fn read_all(file: &File, size: u64) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(size).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

impl Store {
    /// The blob's size, if its bytes are here. Says nothing of who may have it.
    pub async fn stat_blob(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        match &self.backend.folder {
            Some(folder) => Ok(self.held(folder, digest).await?.map(|held| held.size())),
            // Whether a client need not send a blob is answered from the truth, never from memory.
            None => self.objects.size(&keys::blob(digest)).await,
        }
    }

    /// The blob, if its bytes are here. Says nothing of who may have it.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let held = match &self.backend.folder {
            Some(folder) => self.held(folder, digest).await?,
            None => match self.caches.blobs.find(digest) {
                Some(held) => Some(held),
                None => return self.remote_blob(digest).await,
            },
        };
        Ok(held.map(|held| match held {
            Held::Bytes(bytes) => StoredBlob { size: bytes.len() as u64, content: Content::Bytes(bytes) },
            Held::File(file, size) => StoredBlob { size, content: Content::File(file) },
        }))
    }

    /// All bytes of a blob that is known to be small (a manifest).
    pub async fn blob_bytes(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        if let Some(Held::Bytes(bytes)) = self.caches.blobs.find(digest) {
            return Ok(Some(bytes));
        }
        if let Some(folder) = &self.backend.folder {
            let (file, size) = match self.held(folder, digest).await? {
                None => return Ok(None),
                Some(Held::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Held::File(file, size)) => (file, size),
            };
            let work = tokio::task::spawn_blocking(move || read_all(&file, size)).await;
            let read = work.map_err(std::io::Error::other).and_then(|read| read).map_err(Error::file("reading a blob"));
            let bytes = self.noted(read)?;
            self.caches.blobs.keep(digest.clone(), Held::Bytes(bytes.clone()));
            return Ok(Some(bytes));
        }
        let Some((bytes, _)) = self.objects.read(&keys::blob(digest)).await? else { return Ok(None) };
        self.caches.blobs.keep(digest.clone(), Held::Bytes(bytes.clone()));
        Ok(Some(bytes))
    }

    async fn held(&self, folder: &Folder, digest: &Digest) -> Result<Option<Held>, Error> {
        if let Some(held) = self.caches.blobs.find(digest) {
            return Ok(Some(held));
        }
        let load = async {
            let opened = Held::open(folder.path(&keys::blob(digest))).await;
            self.noted(opened.map_err(Error::file("opening a blob")))
        };
        self.caches.blobs.or_load(digest.clone(), load).await
    }

    /// One call for all: what comes with the size is what most clients want, the whole.
    async fn remote_blob(&self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let key = keys::blob(digest);
        let got: GetResult = match self.objects.timed("get", self.objects.store.get_opts(&key, GetOptions::default())).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(Error::backend(&key, source)),
        };
        let size = got.meta.size;
        if size > SMALL {
            let content = Content::Source(Arc::new(RemoteBlob::new(self.objects.clone(), key, got)));
            return Ok(Some(StoredBlob { size, content }));
        }
        let bytes = got.bytes().await.map_err(|source| Error::backend(&key, source))?;
        self.caches.blobs.keep(digest.clone(), Held::Bytes(bytes.clone()));
        Ok(Some(StoredBlob { size, content: Content::Bytes(bytes) }))
    }

    /// A place for a blob that comes in as a stream and will be kept under a digest of this algorithm.
    pub fn spool(&self, algorithm: Algorithm) -> Result<Spool, Error> {
        let spool = Spool::create(self.clone(), algorithm);
        self.noted(spool)
    }

    /// A place in memory for a blob that comes in as a stream and may be small.
    #[must_use]
    pub fn hold(&self) -> HeldBytes {
        self.sessions.memory.hold()
    }

    /// Makes bytes a blob of a repository, durably. The caller has verified that they have this digest.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn put_blob(&self, digest: &Digest, bytes: Bytes, owner: Owner<'_>) -> Result<(), Error> {
        self.keep_blob(digest, Some(Write::Blob(keys::blob(digest), bytes)), owner).await
    }

    /// Makes verified bytes a blob of a repository, durably; without `content`, bytes that are there.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub(crate) async fn keep_blob(&self, digest: &Digest, content: Option<Write>, owner: Owner<'_>) -> Result<(), Error> {
        let Owner { repository, cached_from, at } = owner;
        let entry = self.new_repository(repository, cached_from, at).await?;
        let is_new = entry.is_some();
        let first = content.into_iter().chain(entry.map(|(key, bytes)| Write::Keep(key, bytes))).collect();
        let mut steps = vec![first];
        // A folder looks for itself, where it looks at the rest.
        if self.backend.folder.is_some() || !self.is_member(repository, digest).await? {
            steps.push(vec![Write::Mark(keys::member(digest, repository))]);
        }
        let kept = self.commit(steps).await;
        // A damaged one may have been replaced.
        self.caches.blobs.forget(digest);
        if is_new {
            self.repository_added(repository, kept.is_ok());
        }
        kept
    }

    /// May this repository serve this blob?
    pub async fn is_member(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let load = async {
            let size = self.objects.size(&keys::member(digest, name)).await?;
            Ok(size.map(|_| ()))
        };
        self.caches.members.or_load((name.clone(), digest.clone()), load).await.map(|found| found.is_some())
    }

    /// Lets the repository serve the blob, whose bytes are here. Must run to its end: on a task that no client can cancel.
    pub async fn add_member(&self, digest: &Digest, owner: Owner<'_>) -> Result<(), Error> {
        let Owner { repository, cached_from, at } = owner;
        self.add_repository(repository, cached_from, at).await?;
        if self.is_member(repository, digest).await? {
            return Ok(());
        }
        self.commit(vec![vec![Write::Mark(keys::member(digest, repository))]]).await
    }

    /// Ends the repository's right to the blob. `false` if it had none. The bytes stay until they are collected.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn remove_member(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let key = keys::member(digest, name);
        if self.objects.size(&key).await?.is_none() {
            return Ok(false);
        }
        let removed = self.objects.delete(&key).await;
        self.caches.members.forget(&(name.clone(), digest.clone()));
        removed.map(|()| true)
    }

    /// The repositories that may serve the blob.
    pub async fn members(&self, digest: &Digest) -> Result<Vec<RepositoryName>, Error> {
        let names = self.objects.children(&keys::members(digest)).await?;
        Ok(names.iter().filter_map(|(name, _)| keys::unflat(name)).collect())
    }
}

/// The blob's key, for those who write it by other ways.
pub(crate) fn file(digest: &Digest, path: Option<PathBuf>, file: Arc<File>, size: u64) -> Write {
    let key: Path = keys::blob(digest);
    Write::File { key, path, file, size }
}
