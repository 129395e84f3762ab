//! Small objects by key: read, put, compare and swap, delete, list. Every call is timed.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;
use telemetry::{Clock, Metrics};
use tokio::sync::MutexGuard;

use crate::backend::Backend;
use crate::error::Error;
use crate::health::Health;

/// How often a pointer is read again when another writer was faster.
const SWAP_ATTEMPTS: u32 = 32;
/// What is waited before that; longer each time.
const PAUSE: Duration = Duration::from_millis(2);
/// How often a write on a condition is sent when its connection is cut.
const SENDS: u32 = 3;
/// Writers of pointers share this many turns.
const TURNS: usize = 64;

/// The object store with what every call needs around it.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    /// The store refuses what should not be overwritten. Without that our own turns must do.
    conditional: bool,
    turns: Arc<Turns>,
}

/// Who in this process may change a pointer now.
#[derive(Debug)]
struct Turns(Vec<tokio::sync::Mutex<()>>);

impl Turns {
    fn number(key: &Path) -> usize {
        key.as_ref().bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte))) % TURNS
    }

    fn of(&self, key: &Path) -> &tokio::sync::Mutex<()> {
        &self.0[Self::number(key)]
    }
}

impl Objects {
    pub(crate) fn new(backend: &Backend, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect();
        Self {
            store: Arc::clone(&backend.objects),
            clock,
            metrics,
            health: Health::default(),
            conditional: backend.conditional,
            turns: Arc::new(Turns(turns)),
        }
    }

    /// The right to change these pointers, which other changes in this process wait for.
    pub(crate) async fn turns_of(&self, keys: &[Path]) -> Vec<MutexGuard<'_, ()>> {
        let numbers: BTreeSet<usize> = keys.iter().map(Turns::number).collect();
        let mut turns = Vec::new();
        // Always in the same order, so that two never wait for each other.
        for number in numbers {
            turns.push(self.turns.0[number].lock().await);
        }
        turns
    }

    /// Counts a call that began at `start`, and notes its failure in the health of the store.
    pub(crate) fn note(&self, operation: &'static str, failure: Option<&(dyn StdError + 'static)>, start: Duration) {
        self.metrics.store_call(operation, failure.is_none(), self.clock.monotonic().saturating_sub(start));
        if let Some(failure) = failure {
            self.health.failed(failure);
        }
    }

    pub(crate) async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let start = self.clock.monotonic();
        let result = call.await;
        let failure = result.as_ref().err().filter(|failure| !is_answer(failure));
        self.note(operation, failure.map(|failure| failure as _), start);
        result
    }

    /// The bytes of an object and the version to swap against.
    pub(crate) async fn read(&self, key: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        let call = async {
            let got = self.store.get(key).await?;
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok((got.bytes().await?, version))
        };
        match self.timed("get", call).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::backend(key, source)),
        }
    }

    /// As [`Objects::read`], but only if the object has another version than `known`.
    pub(crate) async fn read_if_changed(&self, key: &Path, known: &UpdateVersion) -> Result<Changed, Error> {
        if known.version.is_some() {
            // Where objects have versions, the same bytes may have been written again, and writes are swapped against the version.
            return match self.timed("head", self.store.head(key)).await {
                Ok(meta) if meta.version == known.version => Ok(Changed::Not),
                Ok(_) => self.read(key).await.map(Changed::from),
                Err(object_store::Error::NotFound { .. }) => Ok(Changed::Gone),
                Err(source) => Err(Error::backend(key, source)),
            };
        }
        let Some(tag) = known.e_tag.clone() else { return self.read(key).await.map(Changed::from) };
        let options = GetOptions { if_none_match: Some(tag), ..GetOptions::default() };
        let call = async {
            let got = self.store.get_opts(key, options).await?;
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok((got.bytes().await?, version))
        };
        match self.timed("get", call).await {
            Ok((bytes, version)) => Ok(Changed::To(bytes, version)),
            Err(object_store::Error::NotModified { .. }) => Ok(Changed::Not),
            Err(object_store::Error::NotFound { .. }) => Ok(Changed::Gone),
            Err(source) => Err(Error::backend(key, source)),
        }
    }

    /// The size of an object.
    pub(crate) async fn size(&self, key: &Path) -> Result<Option<u64>, Error> {
        match self.timed("head", self.store.head(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::backend(key, source)),
        }
    }

    /// Writes an object whatever was there.
    pub(crate) async fn put(&self, key: &Path, bytes: Bytes) -> Result<(), Error> {
        let call = self.store.put_opts(key, bytes.into(), PutOptions::default());
        self.timed("put", call).await.map(|_| ()).map_err(|source| Error::backend(key, source))
    }

    /// Writes an object that must not exist yet. `false` if it does.
    pub(crate) async fn create(&self, key: &Path, bytes: Bytes) -> Result<bool, Error> {
        if !self.conditional {
            let _turn = self.turns.of(key).lock().await;
            if self.size(key).await?.is_some() {
                return Ok(false);
            }
            return self.put(key, bytes).await.map(|()| true);
        }
        match self.timed("create", self.put_guarded(key, bytes, PutMode::Create)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(source) => Err(Error::backend(key, source)),
        }
    }

    /// Removes an object. Absence is no error, and cannot be told: object stores answer the same.
    pub(crate) async fn delete(&self, key: &Path) -> Result<(), Error> {
        match self.timed("delete", self.store.delete(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::backend(key, source)),
        }
    }

    /// A JSON object.
    pub(crate) async fn read_json<T: DeserializeOwned>(&self, key: &Path) -> Result<Option<T>, Error> {
        let Some((bytes, _)) = self.read(key).await? else { return Ok(None) };
        parse(key, &bytes).map(Some)
    }

    /// Changes a JSON pointer by compare-and-swap: `change` sees what is there and says what shall be, or that it shall stay. It is
    /// asked again when another writer was faster. Tells whether anything was written.
    ///
    /// Writers of one process take turns, so that only other processes can be faster.
    pub(crate) async fn update<T, F>(&self, key: &Path, mut change: F) -> Result<bool, Error>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> Option<T>,
    {
        let _turn = self.turns.of(key).lock().await;
        for attempt in 0..SWAP_ATTEMPTS {
            let current = self.read(key).await?;
            let (value, mode) = match current {
                Some((bytes, version)) => (Some(parse(key, &bytes)?), PutMode::Update(version)),
                None => (None, PutMode::Create),
            };
            let Some(wanted) = change(value) else { return Ok(false) };
            let bytes = encode(key, &wanted)?;
            match self.swap(key, bytes, mode).await? {
                Some(_) => return Ok(true),
                // Gone, or there, or changed since it was read: look again.
                None => self.clock.sleep(PAUSE * attempt).await,
            }
        }
        Err(Error::Contended { key: key.to_string() })
    }

    /// Writes an object if it is still as `mode` says. Gives its new version; `None` if it was changed.
    pub(crate) async fn swap(&self, key: &Path, bytes: Bytes, mode: PutMode) -> Result<Option<UpdateVersion>, Error> {
        let mode = if self.conditional { mode } else { PutMode::Overwrite };
        match self.timed("swap", self.put_guarded(key, bytes.clone(), mode)).await {
            Ok(put) => Ok(Some(put.into())),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotFound { .. },
            ) => {
                // Our own write may be what is in the way: its reply was lost, and it was sent again.
                let there = self.read(key).await?;
                Ok(there.filter(|(there, _)| *there == bytes).map(|(_, version)| version))
            }
            Err(source) => Err(Error::backend(key, source)),
        }
    }

    /// As [`Objects::swap`], also where the store keeps no conditions: there writers of this process take turns.
    pub(crate) async fn swap_in_turn(&self, key: &Path, bytes: Bytes, mode: PutMode) -> Result<Option<UpdateVersion>, Error> {
        if self.conditional {
            return self.swap(key, bytes, mode).await;
        }
        let _turn = self.turns.of(key).lock().await;
        let there = self.read(key).await?.map(|(_, version)| version);
        let expected = match &mode {
            PutMode::Update(version) => Some(version),
            PutMode::Create | PutMode::Overwrite => None,
        };
        if there.as_ref() != expected {
            return Ok(None);
        }
        self.swap(key, bytes, mode).await
    }

    /// Writes on a condition. It may be sent again when its connection is cut, whether it was done or not.
    async fn put_guarded(&self, key: &Path, bytes: Bytes, mode: PutMode) -> object_store::Result<PutResult> {
        let mut sent = 0;
        loop {
            sent += 1;
            match self.store.put_opts(key, bytes.clone().into(), mode.clone().into()).await {
                Err(cut) if sent < SENDS && is_cut(&cut) => self.clock.sleep(PAUSE * sent).await,
                result => return result,
            }
        }
    }

    /// Last path segments and sizes of the objects right under `prefix`, sorted.
    pub(crate) async fn children(&self, prefix: &Path) -> Result<Vec<(String, u64)>, Error> {
        let listed = self.timed("list", self.store.list_with_delimiter(Some(prefix))).await;
        let listed = listed.map_err(|source| Error::backend(prefix, source))?;
        // Some stores list a folder as an object of its own.
        let entries = listed.objects.iter().filter(|object| is_child(&object.location, prefix));
        let mut names: Vec<(String, u64)> =
            entries.filter_map(|object| object.location.filename().map(|name| (name.to_owned(), object.size))).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Last path segments of what has objects under it, right under `prefix`, sorted.
    pub(crate) async fn folders(&self, prefix: &Path) -> Result<Vec<String>, Error> {
        let listed = self.timed("list", self.store.list_with_delimiter(Some(prefix))).await;
        let listed = listed.map_err(|source| Error::backend(prefix, source))?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }
}

/// What a conditional look found.
pub(crate) enum Changed {
    /// The version that was known.
    Not,
    /// Another one.
    To(Bytes, UpdateVersion),
    /// Nothing.
    Gone,
}

impl From<Option<(Bytes, UpdateVersion)>> for Changed {
    fn from(found: Option<(Bytes, UpdateVersion)>) -> Self {
        found.map_or(Self::Gone, |(bytes, version)| Self::To(bytes, version))
    }
}

/// Is this the key of something right under `prefix`?
pub(crate) fn is_child(key: &Path, prefix: &Path) -> bool {
    key.prefix_match(prefix).is_some_and(|rest| rest.count() == 1)
}

/// An error that answers a question, and is no trouble of the store.
fn is_answer(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::NotFound { .. }
            | object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::NotModified { .. }
    )
}

/// A request without an answer: it may have been done.
fn is_cut(error: &object_store::Error) -> bool {
    let mut cause = Some(error as &(dyn StdError + 'static));
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return matches!(http.kind(), HttpErrorKind::Interrupted | HttpErrorKind::Timeout);
        }
        cause = error.source();
    }
    false
}

pub(crate) fn encode(key: &Path, value: &impl Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Bytes::from).map_err(|cause| Error::Corrupt { key: key.to_string(), reason: cause.to_string() })
}

pub(crate) fn parse<T: DeserializeOwned>(key: &Path, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|cause| Error::Corrupt { key: key.to_string(), reason: cause.to_string() })
}
