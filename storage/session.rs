//! The state of an upload session, in memory and at rest.
//!
//! In a folder the bytes are one growing file; elsewhere they are the parts of one object, and a tail that is too short for a part.
//! The record at rest holds the hash state, so that a session goes on in another process. In a folder it is written after each
//! request without a sync: whoever takes a session up hashes the file again and goes on only if it agrees, so a machine that lost
//! power cannot slip other bytes in. In a bucket it is changed by compare-and-swap: two processes never go on from the same place.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object_store::{PutMode, UpdateVersion};
use oci::{Digest, HashState, Hasher, RepositoryName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::Room;
use crate::error::Error;
use crate::folder::Folder;
use crate::gathered::Gathered;
use crate::held::{Held, Memory};
use crate::keys;
use crate::objects::encode;
use crate::parts::PART;
use crate::store::Store;

/// A tail up to this size is in the record itself.
const IN_RECORD: u64 = 16 * 1024;

/// The sessions that this process has touched.
#[derive(Default)]
pub(crate) struct Sessions {
    live: Mutex<HashMap<Uuid, Arc<Live>>>,
    pub(crate) memory: Memory,
    /// Held while sessions of another process are taken up, which may read all of their bytes.
    pub(crate) resuming: [tokio::sync::Mutex<()>; 16],
}

/// Whose a session is: requests for this repository alone may go on with it, and of whoever began it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whose {
    pub(crate) repository: RepositoryName,
    /// The principal, where one is known.
    #[serde(default, rename = "by", skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<String>,
}

/// A session in memory. What is asked without waiting for a running request stands outside the lock.
pub(crate) struct Live {
    pub(crate) whose: Whose,
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
    File(Box<InFile>),
    Parts(Box<InParts>),
}

/// An upload to a folder.
pub(crate) struct InFile {
    pub(crate) folder: Folder,
    pub(crate) file: Option<Arc<File>>,
    pub(crate) room: Room,
    /// All of its bytes, as long as they are few and the session is young: most blobs that are pushed so are small, and their session
    /// is over before anything of it would be on disk.
    pub(crate) held: Option<Held>,
    /// Something of it may be on disk.
    pub(crate) at_rest: bool,
}

/// An upload to a bucket.
#[derive(Default)]
pub(crate) struct InParts {
    /// What was sent.
    pub(crate) sent: Option<Sent>,
    /// What was not.
    pub(crate) gathered: Gathered,
    /// The record at rest that agrees with what this process knows, or did when the request began.
    pub(crate) at_rest: Option<UpdateVersion>,
    /// The tail object that the record at rest speaks of, by the size of the upload then.
    pub(crate) tail_at_rest: Option<u64>,
}

/// Parts of an object that is not complete.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) parts: Vec<String>,
}

/// The bytes after the last part.
#[derive(Serialize, Deserialize)]
enum Tail {
    /// In base64.
    #[serde(rename = "bytes")]
    Here(String),
    /// In an object of their own, named by this size of the upload.
    #[serde(rename = "object")]
    Object(u64),
}

/// A session at rest.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    whose: Whose,
    size: u64,
    hash: HashState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sent: Option<Sent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tail: Option<Tail>,
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

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(Uuid, Arc<Live>)> {
        let sessions = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().map(|(id, live)| (*id, Arc::clone(live))).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Live {
    pub(crate) fn new(whose: Whose, state: State, touched: u64) -> Self {
        Self {
            whose,
            size: AtomicU64::new(state.size),
            touched: AtomicU64::new(touched),
            state: Arc::new(tokio::sync::Mutex::new(state)),
        }
    }

    /// The record of a session without its tail, if it has one.
    pub(crate) fn record(whose: &Whose, state: &State, touched: u64) -> Record {
        let sent = match &state.data {
            Data::File(_) => None,
            Data::Parts(data) => data.sent.clone(),
        };
        Record { whose: whose.clone(), size: state.size, hash: state.hasher.state(), sent, tail: None, touched }
    }
}

impl State {
    pub(crate) fn new(store: &Store, hasher: Hasher) -> Self {
        let data = match &store.backend.folder {
            Some(folder) => Data::File(Box::new(InFile {
                folder: folder.clone(),
                file: None,
                room: Room::default(),
                held: Some(store.sessions.memory.hold()),
                at_rest: false,
            })),
            None => Data::Parts(Box::default()),
        };
        Self { size: 0, hasher, data, ended: false }
    }

    /// Takes in more bytes. In a folder nothing waits between the write and the hash, so that a request that is dropped anywhere
    /// leaves both at the same place.
    pub(crate) async fn append(&mut self, store: &Store, id: Uuid, mut bytes: &[u8]) -> Result<(), Error> {
        if let Data::File(data) = &mut self.data {
            data.append(id, bytes, self.size)?;
            self.hasher.update(bytes);
            self.size += bytes.len() as u64;
            return Ok(());
        }
        while let Data::Parts(data) = &mut self.data {
            if data.gathered.length() >= PART {
                data.send(store, id).await?;
            }
            if bytes.is_empty() {
                break;
            }
            let room = usize::try_from(PART - data.gathered.length()).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            data.gathered.push(now)?;
            self.hasher.update(now);
            self.size += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// May something of the session be at rest?
    pub(crate) fn is_at_rest(&self) -> bool {
        match &self.data {
            Data::File(data) => data.at_rest,
            Data::Parts(_) => true,
        }
    }

    /// Parts that are in the bucket and belong to no object yet.
    pub(crate) fn sent(&mut self) -> Option<Sent> {
        match &mut self.data {
            Data::File(_) => None,
            Data::Parts(data) => data.sent.take(),
        }
    }

    /// Takes up a session of another process. `None` if its bytes are not those that the record speaks of.
    pub(crate) async fn resume(
        store: &Store,
        id: Uuid,
        record: Record,
        version: UpdateVersion,
    ) -> Result<Option<(Whose, Self, u64)>, Error> {
        let Some(hasher) = Hasher::resume(&record.hash) else { return Ok(None) };
        let mut state = Self::new(store, hasher.clone());
        state.size = record.size;
        match &mut state.data {
            Data::Parts(data) => {
                data.at_rest = Some(version);
                let whole = data.load(store, id, record.sent, record.tail, record.size).await?;
                if !whole {
                    return Ok(None);
                }
            }
            Data::File(data) => {
                let InFile { folder, file, held, at_rest, .. } = &mut **data;
                (*held, *at_rest) = (None, true);
                let opened = match open_data(folder, file, id, record.size) {
                    Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    opened => opened?,
                };
                if !is_as_hashed(folder, opened, hasher, record.size).await? {
                    return Ok(None);
                }
            }
        }
        Ok(Some((record.whose, state, record.touched)))
    }
}

impl InFile {
    /// Takes in more bytes, of which there are `size` already.
    fn append(&mut self, id: Uuid, bytes: &[u8], size: u64) -> Result<(), Error> {
        if self.held.as_mut().is_some_and(|held| held.push(bytes)) {
            return Ok(());
        }
        self.write_held(id)?;
        self.at_rest = true;
        let file = open_data(&self.folder, &mut self.file, id, size)?;
        self.room.make(self.folder.disk(), &file, size, size + bytes.len() as u64);
        // At the offset where the hash is: what a failed write left there is written over.
        self.folder.disk().write_at(&file, bytes, size).map_err(Error::file("writing an upload"))
    }

    /// Writes to the file what was held in memory.
    pub(crate) fn write_held(&mut self, id: Uuid) -> Result<(), Error> {
        let Some(held) = &self.held else { return Ok(()) };
        self.at_rest = true;
        let file = open_data(&self.folder, &mut self.file, id, 0)?;
        self.folder.disk().write_at(&file, held.as_slice(), 0).map_err(Error::file("writing an upload"))?;
        self.held = None;
        Ok(())
    }
}

impl InParts {
    /// Sends what was gathered as a part. Dropped while it waits, it is done again with the same number.
    pub(crate) async fn send(&mut self, store: &Store, id: Uuid) -> Result<(), Error> {
        let key = keys::upload_data(id);
        let sent = match &mut self.sent {
            Some(sent) => sent,
            None => self.sent.insert(Sent { id: store.begin_parts(&key).await?, parts: Vec::new() }),
        };
        let _permit = store.senders.acquire().await;
        let bytes = self.gathered.read().await?;
        let part = store.put_part(&key, &sent.id, sent.parts.len() as u64, bytes).await?;
        sent.parts.push(part);
        self.gathered.clear();
        Ok(())
    }

    /// Puts the session at rest, if no other process has done so since it was read.
    pub(crate) async fn save(&mut self, store: &Store, id: Uuid, mut record: Record) -> Result<(), Error> {
        let key = keys::session(id);
        let length = self.gathered.length();
        let before = self.tail_at_rest;
        let mut tail_at_rest = None;
        if length > IN_RECORD {
            let _permit = store.senders.acquire().await;
            store.objects.put(&keys::upload_tail(id, record.size), self.gathered.read().await?).await?;
            tail_at_rest = Some(record.size);
            record.tail = Some(Tail::Object(record.size));
        } else if length > 0 {
            record.tail = Some(Tail::Here(STANDARD.encode(self.gathered.read().await?)));
        }
        let mode = self.at_rest.clone().map_or(PutMode::Create, PutMode::Update);
        let Some(version) = store.objects.swap(&key, encode(&key, &record)?, mode).await? else {
            return Err(Error::Contended { key: key.to_string() });
        };
        self.at_rest = Some(version);
        self.tail_at_rest = tail_at_rest;
        if let Some(size) = before.filter(|_| before != tail_at_rest) {
            store.objects.delete(&keys::upload_tail(id, size)).await?;
        }
        Ok(())
    }

    /// Gathers the tail of a session at rest. `false` if it is not as long as it should be.
    async fn load(&mut self, store: &Store, id: Uuid, sent: Option<Sent>, tail: Option<Tail>, size: u64) -> Result<bool, Error> {
        match tail {
            None => {}
            Some(Tail::Here(text)) => {
                let Ok(bytes) = STANDARD.decode(text) else { return Ok(false) };
                self.gathered.push(&bytes)?;
            }
            Some(Tail::Object(at)) => {
                let Some((bytes, _)) = store.objects.read(&keys::upload_tail(id, at)).await? else { return Ok(false) };
                self.gathered.push(&bytes)?;
                self.tail_at_rest = Some(at);
            }
        }
        let parts = sent.as_ref().map_or(0, |sent| sent.parts.len() as u64);
        self.sent = sent;
        Ok(parts * PART + self.gathered.length() == size)
    }
}

/// Are the first `size` bytes of the file those of the hash? What follows them is cut off.
async fn is_as_hashed(folder: &Folder, file: Arc<File>, hasher: Hasher, size: u64) -> Result<bool, Error> {
    let folder = folder.clone();
    let work = tokio::task::spawn_blocking(move || {
        let found = hash_file(&file, hasher.algorithm(), size)?;
        folder.disk().set_length(&file, size)?;
        Ok(found == hasher.finish())
    });
    match work.await.map_err(std::io::Error::other).and_then(|same| same) {
        Ok(same) => Ok(same),
        Err(short) if short.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(other) => Err(Error::file("reading an upload again")(other)),
    }
}

/// The file with the bytes of a session, of which `size` have been written. Made only for the first of them: one that is missing
/// later was taken away, and must not be taken for an empty one.
pub(crate) fn open_data(folder: &Folder, file: &mut Option<Arc<File>>, id: Uuid, size: u64) -> Result<Arc<File>, Error> {
    if let Some(file) = file {
        return Ok(Arc::clone(file));
    }
    let key = keys::upload_data(id);
    let opened = if size == 0 { folder.open_unsynced(&key) } else { folder.disk().open(&folder.path(&key), false) };
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
