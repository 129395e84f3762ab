//! Upload sessions: a blob that arrives over several requests, perhaps to several processes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oci::{Algorithm, Digest, Hasher, RepositoryName};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::error::Error;
use crate::keys;
use crate::objects::encode;
use crate::session::{Data, Live, Record, State, hash_file, open_data};
use crate::store::Store;
use crate::time::seconds;

/// How long a request waits for another one on the same session: long enough for the server to see that the other's client left.
const PATIENCE: Duration = Duration::from_secs(5);

/// The name of an upload session: unguessable, and safe in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

impl FromStr for UploadId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Exclusive use of a session by one request.
pub struct Upload {
    store: Store,
    id: UploadId,
    live: Arc<Live>,
    state: OwnedMutexGuard<State>,
    mark: (u64, Hasher),
}

/// Why an upload did not become a blob. The session is gone.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
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

impl Store {
    /// Opens a session for a blob of a repository, hashed by `algorithm` unless it is finished under another one.
    pub async fn start_upload(&self, repository: &RepositoryName, algorithm: Algorithm) -> Result<UploadId, Error> {
        let id = UploadId(Uuid::new_v4());
        let state = State::new(self, Hasher::new(algorithm));
        let record = Live::record(repository, &state, seconds(self.objects.clock.now()));
        // First at rest: a session that could not be stored takes no place among the open ones.
        self.save_session(id, &record).await?;
        self.sessions.enter(id.0, Live::new(repository.clone(), state, record.touched));
        Ok(id)
    }

    /// Takes hold of a session. `None` if there is none of that name in that repository; `Contended` if another request does not
    /// let go of it.
    pub async fn upload(&self, repository: &RepositoryName, id: UploadId) -> Result<Option<Upload>, Error> {
        let Some(live) = self.live_session(repository, id).await? else { return Ok(None) };
        let lock = tokio::time::timeout(PATIENCE, Arc::clone(&live.state).lock_owned()).await;
        let Ok(mut state) = lock else {
            return Err(Error::Contended { key: keys::session(id.0).to_string() });
        };
        if state.ended {
            return Ok(None);
        }
        live.touched.store(seconds(self.objects.clock.now()), Ordering::Relaxed);
        state.flush(self, id.0).await?;
        let mark = (state.size, state.hasher.clone());
        Ok(Some(Upload { store: self.clone(), id, live, state, mark }))
    }

    /// Bytes that a session has received, without waiting for a request that is adding to it.
    pub async fn upload_size(&self, repository: &RepositoryName, id: UploadId) -> Result<Option<u64>, Error> {
        let live = self.live_session(repository, id).await?;
        Ok(live.map(|live| live.size.load(Ordering::Acquire)))
    }

    /// Sessions that are open in this process.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.sessions.count()
    }

    /// Ends the sessions that no request has touched for `lifetime`, but none that a request is working on. Gives how many.
    pub async fn expire_uploads(&self, lifetime: Duration) -> Result<usize, Error> {
        let oldest = seconds(self.objects.clock.now()).saturating_sub(lifetime.as_secs());
        let mut ended = 0;
        for name in self.objects.folders(&keys::uploads()).await? {
            let Ok(id) = name.parse::<UploadId>() else { continue };
            match self.expire_upload(id, oldest).await {
                Ok(true) => ended += 1,
                Ok(false) => {}
                // One that cannot be read or removed now is looked at again, and must not keep the others.
                Err(error) => tracing::warn!(upload = %id, error = %telemetry::chain(&error), "an upload could not be looked at"),
            }
        }
        Ok(ended)
    }

    async fn expire_upload(&self, id: UploadId, oldest: u64) -> Result<bool, Error> {
        if let Some(live) = self.sessions.find(id.0) {
            let Ok(mut state) = Arc::clone(&live.state).try_lock_owned() else { return Ok(false) };
            if live.touched.load(Ordering::Relaxed) > oldest {
                return Ok(false);
            }
            state.ended = true;
            self.remove_session(id).await?;
            return Ok(true);
        }
        let touched = match self.objects.read_json::<Record>(&keys::session(id.0)).await {
            Ok(record) => record.map_or(0, |record| record.touched),
            Err(Error::Corrupt { .. }) => 0,
            Err(other) => return Err(other),
        };
        if touched > oldest {
            return Ok(false);
        }
        self.remove_session(id).await?;
        Ok(true)
    }

    async fn live_session(&self, repository: &RepositoryName, id: UploadId) -> Result<Option<Arc<Live>>, Error> {
        let live = match self.sessions.find(id.0) {
            Some(live) => Some(live),
            None => self.take_up_session(id).await?,
        };
        Ok(live.filter(|live| live.repository == *repository))
    }

    /// A session that this process has not touched yet. One at a time, so that a client that asks again and again does not have the
    /// bytes read as often.
    async fn take_up_session(&self, id: UploadId) -> Result<Option<Arc<Live>>, Error> {
        let turn = usize::from(id.0.as_bytes()[0]) % self.sessions.resuming.len();
        let _turn = self.sessions.resuming[turn].lock().await;
        if let Some(live) = self.sessions.find(id.0) {
            return Ok(Some(live));
        }
        let loaded = self.load_session(id).await?;
        Ok(loaded.map(|live| self.sessions.enter(id.0, live)))
    }

    async fn load_session(&self, id: UploadId) -> Result<Option<Live>, Error> {
        let record = match self.objects.read_json::<Record>(&keys::session(id.0)).await {
            Ok(Some(record)) => record,
            // Not synced when it was written: after a power loss it may be anything, and the client starts again.
            Ok(None) | Err(Error::Corrupt { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        State::resume(self, id.0, record).await
    }

    async fn save_session(&self, id: UploadId, record: &Record) -> Result<(), Error> {
        let key = keys::session(id.0);
        match &self.backend.folder {
            Some(folder) => folder.put_unsynced(&key, &encode(&key, record)?).map_err(Error::file("saving an upload")),
            None => self.objects.put_json(&key, record).await,
        }
    }

    async fn remove_session(&self, id: UploadId) -> Result<(), Error> {
        if let Some(folder) = &self.backend.folder {
            let path = folder.path(&keys::upload(id.0));
            // Many gigabytes take their time to go.
            let work = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await;
            match work.map_err(std::io::Error::other).and_then(|removed| removed) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("removing an upload")(source));
                }
                _ => {}
            }
        } else {
            for (part, _) in self.objects.children(&keys::upload(id.0)).await? {
                self.objects.delete(&keys::upload(id.0).join(part)).await?;
            }
        }
        // Last: as long as something of it is at rest, another request could take it up again.
        self.sessions.leave(id.0);
        Ok(())
    }
}

impl Upload {
    /// Bytes received.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state.size
    }

    /// Takes in more bytes.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let appended = self.state.append(&self.store, self.id.0, bytes).await;
        self.live.size.store(self.state.size, Ordering::Release);
        self.live.touched.store(seconds(self.store.objects.clock.now()), Ordering::Relaxed);
        appended
    }

    /// Forgets what this request has added.
    pub fn roll_back(&mut self) -> Result<(), Error> {
        let (size, hasher) = self.mark.clone();
        self.live.size.store(size, Ordering::Release);
        self.state.roll_back(size, hasher)
    }

    /// Stores where the session is, so that it can go on after a restart, and lets go of it. Gives the bytes received.
    pub async fn save(mut self) -> Result<u64, Error> {
        self.state.flush(&self.store, self.id.0).await?;
        self.live.touched.store(seconds(self.store.objects.clock.now()), Ordering::Relaxed);
        let touched = self.live.touched.load(Ordering::Relaxed);
        self.store.save_session(self.id, &Live::record(&self.live.repository, &self.state, touched)).await?;
        if let Data::File { file, .. } = &mut self.state.data {
            // An idle session holds no descriptor.
            *file = None;
        }
        Ok(self.state.size)
    }

    /// Verifies what was received and makes it the blob `digest`, durably. Gives the size. The session ends, also when that fails: its
    /// file may be the blob's already.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn finish(mut self, digest: &Digest) -> Result<u64, FinishError> {
        self.state.flush(&self.store, self.id.0).await?;
        let size = self.state.size;
        self.state.ended = true;
        let kept = match &self.state.data {
            Data::File { .. } => self.keep_file(digest).await,
            Data::Parts { stored, .. } => self.keep_parts(stored.clone(), digest).await,
        };
        let ended = self.end().await;
        kept?;
        ended?;
        Ok(size)
    }

    /// Ends the session and drops what it received.
    pub async fn cancel(self) -> Result<(), Error> {
        self.end().await
    }

    async fn end(mut self) -> Result<(), Error> {
        self.state.ended = true;
        self.store.remove_session(self.id).await
    }

    async fn keep_file(&mut self, digest: &Digest) -> Result<(), FinishError> {
        let size = self.state.size;
        let hasher = self.state.hasher.clone();
        let Data::File { folder, file } = &mut self.state.data else { return Ok(()) };
        let path = folder.path(&keys::upload_data(self.id.0));
        let opened = open_data(folder, file, self.id.0, size)?;
        // From here on the file may be a blob, which no session writes to.
        *file = None;
        let file = opened;
        let actual = if hasher.algorithm() == digest.algorithm() {
            hasher.finish()
        } else {
            let (file, algorithm) = (Arc::clone(&file), digest.algorithm());
            let work = tokio::task::spawn_blocking(move || hash_file(&file, algorithm, size)).await;
            work.map_err(std::io::Error::other).and_then(|found| found).map_err(Error::file("hashing an upload again"))?
        };
        if actual != *digest {
            return Err(FinishError::Digest { actual });
        }
        // A write that failed half way may have left bytes behind the last good one.
        file.set_len(size).map_err(Error::file("finishing an upload"))?;
        Ok(self.store.keep_file(Some(path), file, size, &keys::blob(digest)).await?)
    }

    async fn keep_parts(&self, mut parts: Vec<u64>, digest: &Digest) -> Result<(), FinishError> {
        parts.sort_unstable();
        let mut spool = self.store.spool(digest.algorithm())?;
        for offset in parts {
            let key = keys::upload_part(self.id.0, offset);
            let Some((bytes, _)) = self.store.objects.read(&key).await? else {
                return Err(Error::Corrupt { key: key.to_string(), reason: "a part is missing".to_owned() }.into());
            };
            spool.write(&bytes)?;
        }
        spool.keep(digest).await.map_err(|error| match error {
            crate::spool::KeepError::Digest { actual } => FinishError::Digest { actual },
            crate::spool::KeepError::Store(store) => FinishError::Store(store),
        })
    }
}
