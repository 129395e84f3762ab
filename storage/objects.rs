//! Small objects by key: read, put, compare and swap, delete, list. Every call is timed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;
use telemetry::{Clock, Metrics};

use crate::error::Error;

/// How often a pointer is read again when another writer was faster.
const SWAP_ATTEMPTS: u32 = 32;
/// What is waited before that; longer each time.
const PAUSE: Duration = Duration::from_millis(2);
/// Writers of pointers share this many turns.
const TURNS: usize = 64;

/// The object store with what every call needs around it.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    turns: Arc<Turns>,
}

/// Who in this process may change a pointer now.
#[derive(Debug)]
struct Turns(Vec<tokio::sync::Mutex<()>>);

impl Turns {
    fn of(&self, key: &Path) -> &tokio::sync::Mutex<()> {
        let hash = key.as_ref().bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
        &self.0[hash % TURNS]
    }
}

impl Objects {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect();
        Self { store, clock, metrics, turns: Arc::new(Turns(turns)) }
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let start = self.clock.monotonic();
        let result = call.await;
        let expected = matches!(
            result,
            Ok(_)
                | Err(object_store::Error::NotFound { .. }
                    | object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. })
        );
        self.metrics.store_call(operation, expected, self.clock.monotonic().saturating_sub(start));
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
        let call = self.store.put_opts(key, bytes.into(), PutMode::Create.into());
        match self.timed("create", call).await {
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

    /// Writes a JSON object whatever was there.
    pub(crate) async fn put_json(&self, key: &Path, value: &impl Serialize) -> Result<(), Error> {
        self.put(key, encode(key, value)?).await
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
            let call = self.store.put_opts(key, encode(key, &wanted)?.into(), mode.into());
            match self.timed("swap", call).await {
                Ok(_) => return Ok(true),
                // Gone, or there, or changed since it was read: look again.
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. }
                    | object_store::Error::NotFound { .. },
                ) => self.clock.sleep(PAUSE * attempt).await,
                Err(source) => return Err(Error::backend(key, source)),
            }
        }
        Err(Error::Contended { key: key.to_string() })
    }

    /// Last path segments and sizes of the objects right under `prefix`, sorted.
    pub(crate) async fn children(&self, prefix: &Path) -> Result<Vec<(String, u64)>, Error> {
        let listed = self.timed("list", self.store.list_with_delimiter(Some(prefix))).await;
        let listed = listed.map_err(|source| Error::backend(prefix, source))?;
        let entries = listed.objects.iter();
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

pub(crate) fn encode(key: &Path, value: &impl Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Bytes::from).map_err(|cause| Error::Corrupt { key: key.to_string(), reason: cause.to_string() })
}

pub(crate) fn parse<T: DeserializeOwned>(key: &Path, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|cause| Error::Corrupt { key: key.to_string(), reason: cause.to_string() })
}
