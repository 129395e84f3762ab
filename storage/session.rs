//! The state of an upload session, in memory and at rest.
//!
//! In a folder the bytes are one growing file; elsewhere they are part objects. The record at rest holds the hash state, so that
//! a session goes on in another process. It is written after each request without a sync: whoever takes a session up from a
//! folder hashes the file again and goes on only if it agrees, so a machine that lost power cannot slip other bytes in.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use oci::{Digest, HashState, Hasher, RepositoryName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;
use crate::folder::Folder;
use crate::keys;
use crate::store::Store;

/// Bytes gathered before a part object is written.
const PART: usize = 5 * 1024 * 1024;

/// The sessions that this process has touched.
#[derive(Default)]
pub(crate) struct Sessions {
    live: Mutex<HashMap<Uuid, Arc<Live>>>,
    /// Held while sessions of another process are taken up, which may read all of their bytes.
    pub(crate) resuming: [tokio::sync::Mutex<()>; 16],
}

/// A session in memory. What is asked without waiting for a running request stands outside the lock.
pub(crate) struct Live {
    pub(crate) repository: RepositoryName,
    pub(crate) size: AtomicU64,
    pub(crate) touched: AtomicU64,
    pub(crate) state: Arc<tokio::sync::Mutex<State>>,
}

/// What only one request at a time may change.
pub(crate) struct State {
    pub(crate) size: u64,
    pub(crate) hasher: Hasher,
    pub(crate) data: Data,
    /// Finished or cancelled while somebody waited for the lock.
    pub(crate) ended: bool,
}

pub(crate) enum Data {
    File { folder: Folder, file: Option<Arc<File>> },
    Parts { stored: Vec<u64>, gathered: BytesMut },
}

/// A session at rest.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    repository: RepositoryName,
    size: u64,
    hash: HashState,
    #[serde(default)]
    parts: Vec<u64>,
    pub(crate) touched: u64,
}

impl Sessions {
    pub(crate) fn find(&self, id: Uuid) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }

    /// Enters a session; if another request was faster, its entry wins.
    pub(crate) fn enter(&self, id: Uuid, live: Live) -> Arc<Live> {
        let mut sessions = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sessions.entry(id).or_insert_with(|| Arc::new(live)))
    }

    pub(crate) fn leave(&self, id: Uuid) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(crate) fn count(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Live {
    pub(crate) fn new(repository: RepositoryName, state: State, touched: u64) -> Self {
        Self {
            repository,
            size: AtomicU64::new(state.size),
            touched: AtomicU64::new(touched),
            state: Arc::new(tokio::sync::Mutex::new(state)),
        }
    }

    pub(crate) fn record(repository: &RepositoryName, state: &State, touched: u64) -> Record {
        let parts = match &state.data {
            Data::File { .. } => Vec::new(),
            Data::Parts { stored, .. } => stored.clone(),
        };
        Record { repository: repository.clone(), size: state.size, hash: state.hasher.state(), parts, touched }
    }
}

impl State {
    pub(crate) fn new(store: &Store, hasher: Hasher) -> Self {
        let data = match &store.backend.folder {
            Some(folder) => Data::File { folder: folder.clone(), file: None },
            None => Data::Parts { stored: Vec::new(), gathered: BytesMut::new() },
        };
        Self { size: 0, hasher, data, ended: false }
    }

    /// Takes in more bytes. In a folder nothing waits between the write and the hash, so that a request that is dropped anywhere
    /// leaves both at the same place.
    pub(crate) async fn append(&mut self, store: &Store, id: Uuid, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.data {
            Data::File { folder, file } => {
                let file = open_data(folder, file, id, self.size)?;
                // At the offset where the hash is: what a failed write left there is written over.
                file.write_all_at(bytes, self.size).map_err(Error::file("writing an upload"))?;
            }
            Data::Parts { gathered, .. } => gathered.extend_from_slice(bytes),
        }
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if matches!(&self.data, Data::Parts { gathered, .. } if gathered.len() >= PART) {
            self.flush(store, id).await?;
        }
        Ok(())
    }

    /// Writes what was gathered as a part. Dropped while it waits, it is done again with the same key.
    pub(crate) async fn flush(&mut self, store: &Store, id: Uuid) -> Result<(), Error> {
        let Data::Parts { stored, gathered } = &mut self.data else { return Ok(()) };
        if gathered.is_empty() {
            return Ok(());
        }
        let offset = self.size - gathered.len() as u64;
        store.objects.put(&keys::upload_part(id, offset), Bytes::copy_from_slice(gathered)).await?;
        stored.push(offset);
        gathered.clear();
        Ok(())
    }

    /// Back to an earlier state; nothing was gathered then.
    pub(crate) fn roll_back(&mut self, size: u64, hasher: Hasher) -> Result<(), Error> {
        match &mut self.data {
            Data::File { file: Some(file), .. } => file.set_len(size).map_err(Error::file("rolling an upload back"))?,
            Data::File { file: None, .. } => {}
            Data::Parts { stored, gathered } => {
                stored.retain(|offset| *offset < size);
                gathered.clear();
            }
        }
        self.size = size;
        self.hasher = hasher;
        Ok(())
    }

    /// Takes up a session of another process. `None` if its bytes are not those that the record speaks of.
    pub(crate) async fn resume(store: &Store, id: Uuid, record: Record) -> Result<Option<Live>, Error> {
        let Some(hasher) = Hasher::resume(&record.hash) else { return Ok(None) };
        let mut state = Self::new(store, hasher.clone());
        state.size = record.size;
        match &mut state.data {
            Data::Parts { stored, .. } => *stored = record.parts,
            Data::File { folder, file } => {
                let size = record.size;
                let opened = match open_data(folder, file, id, size) {
                    Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    opened => opened?,
                };
                let work = tokio::task::spawn_blocking(move || {
                    let found = hash_file(&opened, hasher.algorithm(), size)?;
                    opened.set_len(size)?;
                    Ok(found == hasher.finish())
                });
                match work.await.map_err(std::io::Error::other).and_then(|same| same) {
                    Ok(true) => {}
                    Ok(false) => return Ok(None),
                    Err(short) if short.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(other) => return Err(Error::file("reading an upload again")(other)),
                }
            }
        }
        Ok(Some(Live::new(record.repository, state, record.touched)))
    }
}

/// The file with the bytes of a session, of which `size` have been written. Made only for the first of them: one that is missing
/// later was taken away, and must not be taken for an empty one.
pub(crate) fn open_data(folder: &Folder, file: &mut Option<Arc<File>>, id: Uuid, size: u64) -> Result<Arc<File>, Error> {
    if let Some(file) = file {
        return Ok(Arc::clone(file));
    }
    let path = folder.path(&keys::upload_data(id));
    let opened = File::options().read(true).write(true).create(size == 0).truncate(false).open(path);
    let opened = Arc::new(opened.map_err(Error::file("opening an upload"))?);
    *file = Some(Arc::clone(&opened));
    Ok(opened)
}

/// The digest of the first `size` bytes.
pub(crate) fn hash_file(file: &File, algorithm: oci::Algorithm, size: u64) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0;
    while offset < size {
        let wanted = usize::try_from(size - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact_at(&mut buffer[..wanted], offset)?;
        hasher.update(&buffer[..wanted]);
        offset += wanted as u64;
    }
    Ok(hasher.finish())
}
