//! A blob on its way in: bytes go to a temporary file and through the hash as they arrive, and the file can be read meanwhile.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use oci::{Algorithm, Digest, Hasher};

use crate::blobs::{self, Owner};
use crate::disk::{Disk, LocalDisk, Room};
use crate::error::Error;
use crate::folder::Folder;
use crate::store::Store;

/// Bytes that are not a blob yet. Dropped, they are gone.
pub struct Spool {
    store: Store,
    file: Arc<File>,
    path: Option<TemporaryPath>,
    hasher: Hasher,
    written: u64,
    room: Room,
}

/// Why a spool did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The bytes have another digest.
    #[error("the content has the digest {actual}")]
    Digest {
        /// Their digest.
        actual: Digest,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Removes the file unless it was adopted.
#[derive(Debug)]
struct TemporaryPath {
    folder: Folder,
    path: PathBuf,
}

impl Drop for TemporaryPath {
    fn drop(&mut self) {
        // Absent after it was adopted; what cannot be removed is cleared at the next start. A large file takes its time to go.
        let (folder, path) = (self.folder.clone(), std::mem::take(&mut self.path));
        let remove = move || drop(folder.disk().remove(&path));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Spool {
    pub(crate) fn create(store: Store, algorithm: Algorithm) -> Result<Self, Error> {
        let what = Error::file("creating a temporary file");
        let (file, path) = match &store.backend.folder {
            Some(folder) => {
                let path = folder.temporary_path();
                let file = folder.disk().create(&path).map_err(what)?;
                (file, Some(TemporaryPath { folder: folder.clone(), path }))
            }
            None => (tempfile::tempfile().map_err(what)?, None),
        };
        Ok(Self { store, file: Arc::new(file), path, hasher: Hasher::new(algorithm), written: 0, room: Room::default() })
    }

    /// Takes in more bytes: [`Spool::append`], then [`Spool::hash`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.append(bytes)?;
        self.hash(bytes);
        Ok(())
    }

    /// Writes more bytes to the file, where they can be read. They must go through [`Spool::hash`] as well.
    ///
    /// In place: the page cache takes them at memory speed, and handing them to another thread costs more.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let disk: &dyn Disk = match &self.path {
            Some(path) => path.folder.disk(),
            None => &LocalDisk,
        };
        self.room.make(disk, &self.file, self.written, self.written + bytes.len() as u64);
        let written = disk.write_at(&self.file, bytes, self.written).map_err(Error::file("writing a temporary file"));
        self.store.noted(written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Hashes bytes that were written, in their order.
    pub fn hash(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Bytes taken in so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The file, for readers of what was written so far. It stays readable after [`Spool::keep`] and after a drop.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Are these the bytes? If not, the digest that they have.
    pub fn verify(&self, digest: &Digest) -> Result<(), Digest> {
        let actual = self.hasher.clone().finish();
        if actual == *digest { Ok(()) } else { Err(actual) }
    }

    /// Verifies the bytes and makes them the blob `digest` of a repository, durably. The spool was made for the digest's algorithm.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn keep(mut self, digest: &Digest, owner: Owner<'_>) -> Result<(), KeepError> {
        self.verify(digest).map_err(|actual| KeepError::Digest { actual })?;
        if let Some(path) = &self.path {
            let trimmed = self.room.trim(path.folder.disk(), &self.file, self.written);
            self.store.noted(trimmed.map_err(Error::file("finishing a temporary file")))?;
        }
        let path = self.path.as_ref().map(|path| path.path.clone());
        let content = blobs::file(digest, path, self.file, self.written);
        Ok(self.store.keep_blob(digest, Some(content), owner).await?)
    }
}
