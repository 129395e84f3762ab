//! Several objects written by one request: their bytes are synced together, and each appears only after those it depends on.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;

use crate::error::Error;
use crate::folder::Folder;
use crate::op::{Op, Refusal, When};
use crate::store::Store;

/// An object to be written.
pub(crate) enum Write {
    /// One that is written by whoever comes first: what is there already stays.
    Keep(Path, Bytes),
    /// The bytes of a blob, whose key says what is in it.
    Blob(Path, Bytes),
    /// One that takes the place of what is there.
    Put(Path, Bytes),
    /// One without content, whose being there is what it says.
    Mark(Path),
    /// A complete file, content-addressed: of the store's own folder, at `path`, or of a scratch folder.
    File { key: Path, path: Option<PathBuf>, file: Arc<File>, size: u64 },
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
                Write::Keep(key, bytes) | Write::Blob(key, bytes) | Write::Put(key, bytes) => {
                    self.objects.put(&key, bytes).await?;
                }
                Write::Mark(key) => self.objects.put(&key, Bytes::new()).await?,
                Write::File { key, file, size, .. } => self.send_file(file, size, &key).await?,
            }
        }
        Ok(())
    }
}

/// What each write does to the folder; the bytes of large files are on disk when it returns.
async fn ops(folder: &Folder, steps: Vec<Vec<Write>>) -> io::Result<Vec<Op>> {
    let mut ops = Vec::new();
    for write in steps.into_iter().flatten() {
        ops.push(match write {
            Write::Keep(key, bytes) => Op::Put(key, bytes, When::Missing),
            Write::Blob(key, bytes) => folder.put_blob(key, bytes).await?,
            Write::Put(key, bytes) => Op::Put(key, bytes, When::Always),
            Write::Mark(key) => Op::Put(key, Bytes::new(), When::Missing),
            Write::File { key, path, file, .. } => {
                let path = path.ok_or_else(|| io::Error::other("the file is not in the folder"))?;
                let (folder, synced) = (folder.clone(), Arc::clone(&file));
                let sync = tokio::task::spawn_blocking(move || folder.disk().sync(&synced));
                sync.await.map_err(io::Error::other)??;
                Op::Adopt(key, path, file)
            }
        });
    }
    Ok(ops)
}

async fn commit_to_folder(folder: &Folder, steps: Vec<Vec<Write>>) -> io::Result<()> {
    match folder.write(ops(folder, steps).await?).await {
        Ok(_) => Ok(()),
        Err(Refusal::Io(failure)) => Err(failure),
        Err(other) => Err(io::Error::other(format!("{other:?}"))),
    }
}
