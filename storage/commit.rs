//! Several objects written by one request: their bytes are synced together, and each appears only after those it depends on.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use object_store::path::Path;

use crate::error::Error;
use crate::folder::{Folder, Staged};
use crate::store::Store;

/// An object to be written.
pub(crate) enum Write {
    /// One whose key says what is in it: what is there already stays.
    Keep(Path, Bytes),
    /// One that takes the place of what is there.
    Put(Path, Bytes),
    /// One without content, whose being there is what it says.
    Mark(Path),
    /// A complete file, content-addressed: of the store's own folder, at `path`, or of a scratch folder.
    File { key: Path, path: Option<PathBuf>, file: Arc<File>, size: u64 },
}

impl Write {
    fn key(&self) -> &Path {
        match self {
            Self::Keep(key, _) | Self::Put(key, _) | Self::Mark(key) | Self::File { key, .. } => key,
        }
    }
}

impl Store {
    /// Writes objects in steps: nothing of a step can be seen, or survive a crash, without the steps before it. Durable when it
    /// returns.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub(crate) async fn commit(&self, steps: Vec<Vec<Write>>) -> Result<(), Error> {
        let start = self.objects.clock.monotonic();
        let done = match &self.backend.folder {
            Some(folder) => commit_to_folder(folder, steps).await.map_err(Error::file("writing to the folder")),
            None => self.commit_to_objects(steps).await,
        };
        self.objects.note("commit", done.as_ref().err().map(|error| error as &dyn std::error::Error), start);
        done
    }

    async fn commit_to_objects(&self, steps: Vec<Vec<Write>>) -> Result<(), Error> {
        for write in steps.into_iter().flatten() {
            match write {
                // Bytes that are the same whoever writes them: no question need be asked first.
                Write::Keep(key, bytes) | Write::Put(key, bytes) => self.objects.put(&key, bytes).await?,
                Write::Mark(key) => self.objects.put(&key, Bytes::new()).await?,
                Write::File { key, file, size, .. } => self.send_file(file, size, &key).await?,
            }
        }
        Ok(())
    }
}

/// A write whose bytes are on disk.
enum Ready {
    Place(Path, Staged),
    Mark(Path),
    Adopt { key: Path, path: PathBuf, file: Arc<File> },
    There(Path),
}

async fn commit_to_folder(folder: &Folder, steps: Vec<Vec<Write>>) -> io::Result<()> {
    let keys: Vec<Path> = steps.iter().flatten().map(|write| write.key().clone()).collect();
    let with_bytes = steps.iter().flatten().filter(|write| !matches!(write, Write::Mark(_))).count();
    if with_bytes <= 1 {
        let folder = folder.clone();
        return blocking(move || {
            let ways = folder.make_ways(&keys)?;
            let stage = |write| stage(&folder, write);
            let steps: Vec<Vec<Ready>> =
                steps.into_iter().map(|step| step.into_iter().map(stage).collect()).collect::<io::Result<_>>()?;
            folder.sync_ways(&ways)?;
            place(&folder, steps)
        })
        .await;
    }
    let maker = folder.clone();
    let ways = blocking(move || maker.make_ways(&keys)).await?;
    // At the same time: the file system then writes its journal once for all of them.
    let staged = steps.into_iter().map(|step| {
        try_join_all(step.into_iter().map(|write| {
            let folder = folder.clone();
            blocking(move || stage(&folder, write))
        }))
    });
    let steps = try_join_all(staged).await?;
    let folder = folder.clone();
    blocking(move || {
        folder.sync_ways(&ways)?;
        place(&folder, steps)
    })
    .await
}

fn stage(folder: &Folder, write: Write) -> io::Result<Ready> {
    Ok(match write {
        Write::Keep(key, _) if folder.exists(&key) => Ready::There(key),
        Write::Keep(key, bytes) | Write::Put(key, bytes) => Ready::Place(key, folder.stage(&bytes.into())?),
        Write::Mark(key) => Ready::Mark(key),
        Write::File { key, path, file, .. } => {
            folder.disk().sync(&file)?;
            let path = path.ok_or_else(|| io::Error::other("the file is not in the folder"))?;
            Ready::Adopt { key, path, file }
        }
    })
}

fn place(folder: &Folder, steps: Vec<Vec<Ready>>) -> io::Result<()> {
    for step in steps {
        let mut keys = Vec::new();
        for ready in step {
            let key = match ready {
                Ready::Place(key, staged) => {
                    folder.place(staged, &key)?;
                    key
                }
                Ready::Mark(key) => {
                    folder.touch(&key)?;
                    key
                }
                Ready::Adopt { key, path, file } => {
                    folder.adopt(&path, &file, &key)?;
                    key
                }
                // Its writer may have died before the sync.
                Ready::There(key) => key,
            };
            keys.push(key);
        }
        for key in keys {
            folder.sync_entry(&key)?;
        }
    }
    Ok(())
}

/// File work may wait for the disk: never on a thread that serves connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
