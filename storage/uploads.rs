//! Upload sessions: a blob that arrives over several requests, perhaps to several processes.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oci::{Algorithm, Digest, Hasher, RepositoryName};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::blobs::{self, Owner};
use crate::commit::Write;
use crate::error::Error;
use crate::keys;
use crate::objects::{Changed, encode, parse};
use crate::session::{Data, InFile, Live, Record, Sent, State, Whose, hash_file, open_data};
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
    /// Where it stood when the request began.
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
    /// Opens a session for a blob of a repository, hashed by `algorithm` unless it is finished under another one. It is that of
    /// [`Origin::by`](crate::Origin): on behalf of anybody else it is not there.
    pub async fn start_upload(&self, repository: &RepositoryName, algorithm: Algorithm) -> Result<UploadId, Error> {
        let id = UploadId(Uuid::new_v4());
        let mut state = State::new(self, Hasher::new(algorithm));
        let touched = seconds(self.objects.clock.now());
        // First at rest: a session that could not be stored takes no place among the open ones.
        let whose = self.whose(repository);
        self.save_session(id, &whose, &mut state, touched).await?;
        self.sessions.enter(id.0, Live::new(whose, state, touched));
        Ok(id)
    }

    fn whose(&self, repository: &RepositoryName) -> Whose {
        Whose { repository: repository.clone(), principal: self.origin.by.clone() }
    }

    /// Takes hold of a session. `None` if there is none of that name in that repository; `Contended` if another request does not
    /// let go of it.
    pub async fn upload(&self, repository: &RepositoryName, id: UploadId) -> Result<Option<Upload>, Error> {
        let taken = self.take_upload(repository, id).await;
        self.noted(taken)
    }

    async fn take_upload(&self, repository: &RepositoryName, id: UploadId) -> Result<Option<Upload>, Error> {
        let Some(live) = self.live_session(repository, id).await? else { return Ok(None) };
        let lock = tokio::time::timeout(PATIENCE, Arc::clone(&live.state).lock_owned()).await;
        let Ok(mut state) = lock else {
            return Err(Error::Contended { key: keys::session(id.0).to_string() });
        };
        if state.ended {
            return Ok(None);
        }
        if !self.catch_up(id, &live, &mut state).await? {
            return Ok(None);
        }
        live.touched.store(seconds(self.objects.clock.now()), Ordering::Relaxed);
        let mark = (state.size, state.hasher.clone());
        Ok(Some(Upload { store: self.clone(), id, live, state, mark }))
    }

    /// Brings a session up to what another process has made of it meanwhile. `false` if it is gone.
    async fn catch_up(&self, id: UploadId, live: &Live, state: &mut State) -> Result<bool, Error> {
        if self.backend.exact {
            return Ok(true);
        }
        let Data::Parts(data) = &state.data else { return Ok(true) };
        let Some(known) = &data.at_rest else { return Ok(true) };
        match self.objects.read_if_changed(&keys::session(id.0), known).await? {
            Changed::Not => Ok(true),
            Changed::Gone => {
                state.ended = true;
                self.sessions.leave(id.0);
                Ok(false)
            }
            Changed::To(bytes, version) => {
                let record = parse::<Record>(&keys::session(id.0), &bytes)?;
                let Some((_, resumed, touched)) = State::resume(self, id.0, record, version).await? else { return Ok(false) };
                live.size.store(resumed.size, Ordering::Release);
                live.touched.store(touched, Ordering::Relaxed);
                *state = resumed;
                Ok(true)
            }
        }
    }

    /// Bytes that a session has received, without waiting for a request that is adding to it.
    pub async fn upload_size(&self, repository: &RepositoryName, id: UploadId) -> Result<Option<u64>, Error> {
        let Some(live) = self.live_session(repository, id).await? else { return Ok(None) };
        if !self.backend.exact
            && let Ok(mut state) = Arc::clone(&live.state).try_lock_owned()
            && !self.catch_up(id, &live, &mut state).await?
        {
            return Ok(None);
        }
        Ok(Some(live.size.load(Ordering::Acquire)))
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
        let at_rest = self.objects.folders(&keys::uploads()).await?;
        let mut ids: HashSet<UploadId> = at_rest.iter().filter_map(|name| name.parse().ok()).collect();
        ids.extend(self.sessions.all().into_iter().map(|(id, _)| UploadId(id)));
        for id in ids {
            match self.expire_upload(id, oldest).await {
                Ok(true) => ended += 1,
                Ok(false) => {}
                // One that cannot be read or removed now is looked at again, and must not keep the others.
                Err(error) => tracing::warn!(upload = %id, error = %telemetry::chain(&error), "an upload could not be looked at"),
            }
        }
        Ok(ended)
    }

    /// Writes sessions to disk whose few bytes are still in memory: those that no request has touched for a second, or all. A session
    /// that is lost before, with the process, begins again.
    pub async fn settle_uploads(&self, all: bool) -> Result<(), Error> {
        let now = seconds(self.objects.clock.now());
        for (id, live) in self.sessions.all() {
            let touched = live.touched.load(Ordering::Relaxed);
            if !all && touched >= now {
                continue;
            }
            let Ok(mut state) = Arc::clone(&live.state).try_lock_owned() else { continue };
            let Data::File(data) = &mut state.data else { return Ok(()) };
            if data.held.is_none() {
                continue;
            }
            let written = data.write_held(id);
            self.noted(written)?;
            self.save_session(UploadId(id), &live.whose, &mut state, touched).await?;
        }
        Ok(())
    }

    async fn expire_upload(&self, id: UploadId, oldest: u64) -> Result<bool, Error> {
        if let Some(live) = self.sessions.find(id.0) {
            let Ok(mut state) = Arc::clone(&live.state).try_lock_owned() else { return Ok(false) };
            if live.touched.load(Ordering::Relaxed) > oldest {
                return Ok(false);
            }
            // Another process may have gone on with it.
            if self.catch_up(id, &live, &mut state).await? && live.touched.load(Ordering::Relaxed) > oldest {
                return Ok(false);
            }
            self.end_session(id, &mut state).await?;
            return Ok(true);
        }
        let (touched, sent) = match self.objects.read_json::<Record>(&keys::session(id.0)).await {
            // A bucket may list a folder in which nothing is left.
            Ok(None) if self.backend.folder.is_none() && self.objects.children(&keys::upload(id.0)).await?.is_empty() => {
                return Ok(false);
            }
            Ok(record) => record.map_or((0, None), |record| (record.touched, record.sent)),
            Err(Error::Corrupt { .. }) => (0, None),
            Err(other) => return Err(other),
        };
        if touched > oldest {
            return Ok(false);
        }
        self.remove_session(id, sent).await?;
        Ok(true)
    }

    async fn live_session(&self, repository: &RepositoryName, id: UploadId) -> Result<Option<Arc<Live>>, Error> {
        let live = match self.sessions.find(id.0) {
            Some(live) => Some(live),
            None => self.take_up_session(id).await?,
        };
        let is_theirs = |live: &Arc<Live>| live.whose.repository == *repository && live.whose.principal == self.origin.by;
        Ok(live.filter(is_theirs))
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
        let key = keys::session(id.0);
        let Some((bytes, version)) = self.objects.read(&key).await? else { return Ok(None) };
        // In a folder it was not synced when it was written: after a power loss it may be anything, and the client starts again.
        let Ok(record) = parse::<Record>(&key, &bytes) else { return Ok(None) };
        let resumed = State::resume(self, id.0, record, version).await?;
        Ok(resumed.map(|(whose, state, touched)| Live::new(whose, state, touched)))
    }

    async fn save_session(&self, id: UploadId, whose: &Whose, state: &mut State, touched: u64) -> Result<(), Error> {
        let record = Live::record(whose, state, touched);
        match &mut state.data {
            Data::Parts(data) => data.save(self, id.0, record).await,
            Data::File(data) if data.held.is_some() => Ok(()),
            Data::File(data) => {
                // An idle session holds no descriptor.
                data.file = None;
                let key = keys::session(id.0);
                let saved = data.folder.put_unsynced(&key, &encode(&key, &record)?).map_err(Error::file("saving an upload"));
                self.noted(saved)
            }
        }
    }

    async fn end_session(&self, id: UploadId, state: &mut State) -> Result<(), Error> {
        state.ended = true;
        if !state.is_at_rest() {
            self.sessions.leave(id.0);
            return Ok(());
        }
        let sent = state.sent();
        self.remove_session(id, sent).await
    }

    async fn remove_session(&self, id: UploadId, sent: Option<Sent>) -> Result<(), Error> {
        if let Some(folder) = self.backend.folder.clone() {
            let path = folder.path(&keys::upload(id.0));
            // Many gigabytes take their time to go.
            let work = tokio::task::spawn_blocking(move || folder.disk().remove_directory(&path)).await;
            match work.map_err(std::io::Error::other).and_then(|removed| removed) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("removing an upload")(source));
                }
                _ => {}
            }
        } else {
            if let Some(sent) = sent {
                self.abort_parts(&keys::upload_data(id.0), &sent.id).await;
            }
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
        let appended = self.store.noted(appended);
        self.live.size.store(self.state.size, Ordering::Release);
        self.live.touched.store(seconds(self.store.objects.clock.now()), Ordering::Relaxed);
        appended
    }

    /// Forgets what this request has added.
    pub async fn roll_back(&mut self) -> Result<(), Error> {
        let (size, hasher) = self.mark.clone();
        match &mut self.state.data {
            Data::File(data) => {
                if let Some(held) = &mut data.held {
                    held.truncate(usize::try_from(size).unwrap_or(usize::MAX));
                }
                if let Some(file) = &data.file {
                    data.folder.disk().set_length(file, size).map_err(Error::file("rolling an upload back"))?;
                }
                self.state.size = size;
                self.state.hasher = hasher;
            }
            Data::Parts(_) => {
                // What is at rest is what there was before.
                let key = keys::session(self.id.0);
                let corrupt = |reason: &str| Error::Corrupt { key: key.to_string(), reason: reason.to_owned() };
                let (bytes, version) = self.store.objects.read(&key).await?.ok_or_else(|| corrupt("it is gone"))?;
                let resumed = State::resume(&self.store, self.id.0, parse(&key, &bytes)?, version).await?;
                let (_, state, _) = resumed.ok_or_else(|| corrupt("its bytes are not there"))?;
                *self.state = state;
            }
        }
        self.live.size.store(self.state.size, Ordering::Release);
        Ok(())
    }

    /// Stores where the session is, so that it can go on after a restart, and lets go of it. Gives the bytes received.
    pub async fn save(mut self) -> Result<u64, Error> {
        let touched = seconds(self.store.objects.clock.now());
        self.live.touched.store(touched, Ordering::Relaxed);
        let saved = self.store.save_session(self.id, &self.live.whose, &mut self.state, touched).await;
        if let Err(Error::Contended { .. }) = saved {
            // Another process has gone on with it: what this one has is worth nothing any more.
            self.state.ended = true;
            self.store.sessions.leave(self.id.0);
        }
        saved.map(|()| self.state.size)
    }

    /// Verifies what was received and makes it the blob `digest` of the repository `owner`, durably. Gives the size. The session ends,
    /// also when that fails: its file may be the blob's already.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn finish(mut self, digest: &Digest, owner: Owner<'_>) -> Result<u64, FinishError> {
        let size = self.state.size;
        self.state.ended = true;
        let kept = match &self.state.data {
            Data::File(_) => self.keep_file(digest, owner).await,
            Data::Parts(_) => self.keep_parts(digest, owner).await,
        };
        let store = self.store.clone();
        let ended = store.noted(self.end().await);
        if let Err(FinishError::Store(failure)) = &kept {
            store.note(failure);
        }
        kept?;
        if let Err(failure) = ended {
            // The blob is there; what is left of the session is swept later.
            tracing::warn!(error = %telemetry::chain(&failure), "an upload that became a blob could not be removed");
        }
        Ok(size)
    }

    /// Ends the session and drops what it received.
    pub async fn cancel(self) -> Result<(), Error> {
        self.end().await
    }

    async fn end(mut self) -> Result<(), Error> {
        self.store.end_session(self.id, &mut self.state).await
    }

    async fn keep_file(&mut self, digest: &Digest, owner: Owner<'_>) -> Result<(), FinishError> {
        let size = self.state.size;
        let hasher = self.state.hasher.clone();
        let Data::File(data) = &mut self.state.data else { return Ok(()) };
        if let Some(held) = data.held.take() {
            let actual = if hasher.algorithm() == digest.algorithm() {
                hasher.finish()
            } else {
                Hasher::digest(digest.algorithm(), held.as_slice())
            };
            if actual != *digest {
                return Err(FinishError::Digest { actual });
            }
            return Ok(self.store.keep_blob(digest, Some(Write::Blob(keys::blob(digest), held.into_bytes())), owner).await?);
        }
        let InFile { folder, file, room, .. } = &mut **data;
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
        if file.metadata().map_err(Error::file("finishing an upload"))?.len() != size {
            folder.disk().set_length(&file, size).map_err(Error::file("finishing an upload"))?;
        }
        room.trim(folder.disk(), &file, size).map_err(Error::file("finishing an upload"))?;
        Ok(self.store.keep_blob(digest, Some(blobs::file(digest, Some(path), file, size)), owner).await?)
    }

    async fn keep_parts(&mut self, digest: &Digest, owner: Owner<'_>) -> Result<(), FinishError> {
        let (size, mut hasher) = (self.state.size, self.state.hasher.clone());
        let store = self.store.clone();
        let Data::Parts(data) = &mut self.state.data else { return Ok(()) };
        let other = hasher.algorithm() != digest.algorithm();
        if data.sent.is_none() {
            let _permit = store.senders.acquire().await;
            let bytes = data.gathered.read().await?;
            let actual = if other { Hasher::digest(digest.algorithm(), &bytes) } else { hasher.finish() };
            if actual != *digest {
                return Err(FinishError::Digest { actual });
            }
            return Ok(store.keep_blob(digest, Some(Write::Put(keys::blob(digest), bytes)), owner).await?);
        }
        if !other && hasher.clone().finish() != *digest {
            return Err(FinishError::Digest { actual: hasher.finish() });
        }
        // Sent already by somebody else: then only the right to it is new.
        if !other && store.stat_blob(digest).await? == Some(size) {
            return Ok(store.keep_blob(digest, None, owner).await?);
        }
        if data.gathered.length() > 0 {
            data.send(&store, self.id.0).await?;
        }
        let key = keys::upload_data(self.id.0);
        if let Some(sent) = data.sent.take() {
            store.complete_parts(&key, &sent.id, sent.parts).await?;
        }
        if other {
            hasher = store.hash_object(&key, digest.algorithm()).await?;
            let actual = hasher.finish();
            if actual != *digest {
                return Err(FinishError::Digest { actual });
            }
        }
        store.copy(&key, &keys::blob(digest), size).await?;
        Ok(store.keep_blob(digest, None, owner).await?)
    }
}
