//! A blob on its way in: bytes go to a temporary file and through the hash as they arrive, and the file can be read meanwhile.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use oci::{Algorithm, Digest, Hasher};

use crate::error::Error;
use crate::keys;
use crate::store::Store;

/// Bytes that are not a blob yet. Dropped, they are gone.
pub struct Spool {
    store: Store,
    file: Arc<File>,
    path: Option<TemporaryPath>,
    hasher: Hasher,
    written: u64,
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
struct TemporaryPath(PathBuf);

impl Drop for TemporaryPath {
    fn drop(&mut self) {
        // Absent after it was adopted; what cannot be removed is cleared at the next start. A large file takes its time to go.
        let path = std::mem::take(&mut self.0);
        let remove = move || drop(std::fs::remove_file(path));
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
                let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(what)?;
                (file, Some(TemporaryPath(path)))
            }
            None => (tempfile::tempfile().map_err(what)?, None),
        };
        Ok(Self { store, file: Arc::new(file), path, hasher: Hasher::new(algorithm), written: 0 })
    }

    /// Takes in more bytes.
    ///
    /// Written and hashed in place: the page cache takes them at memory speed, and handing them to another thread costs more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        (&*self.file).write_all(bytes).map_err(Error::file("writing a temporary file"))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
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

    /// Verifies the bytes and makes them the blob `digest`, durably. The spool was made for the digest's algorithm.
    pub async fn keep(self, digest: &Digest) -> Result<(), KeepError> {
        let actual = self.hasher.finish();
        if actual != *digest {
            return Err(KeepError::Digest { actual });
        }
        let path = self.path.as_ref().map(|path| path.0.clone());
        self.store.keep_file(path, self.file, self.written, &keys::blob(digest)).await?;
        Ok(())
    }
}
