//! What replicas share: small objects in their common store.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use telemetry::Clock;

use super::error::Error;

/// What tells one content of an object from the next.
#[derive(Clone)]
pub struct Version(Arc<dyn Any + Send + Sync>);

impl Version {
    /// Whatever the records go by.
    pub fn new(version: impl Any + Send + Sync) -> Self {
        Self(Arc::new(version))
    }

    /// The same again.
    #[must_use]
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Version")
    }
}

/// No store needs longer, unless it does not answer at all.
const LIMIT: Duration = Duration::from_secs(15);
/// How often a change is tried where others are faster.
const TRIES: usize = 8;

/// Small objects that outlive the process, changed by compare-and-swap. They hold private keys: nobody but the replicas may
/// read them.
#[async_trait]
pub trait Records: Send + Sync {
    /// The object, and what its version is told by; `None` if it is not there.
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, RecordsError>;

    /// Writes it if it has this version, or is not there where none is given. `false` if another writer was faster.
    async fn swap(&self, key: &str, bytes: Bytes, version: Option<Version>) -> Result<bool, RecordsError>;
}

/// The records cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("what is kept of certificates cannot be reached: {0}; check the store")]
pub struct RecordsError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The records as what is in them, with a limit on time.
#[derive(Clone)]
pub(crate) struct Shelf {
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
}

impl Shelf {
    pub(crate) fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>) -> Self {
        Self { records, clock }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// The record as it is now, and its version.
    pub(crate) async fn read<T: Record>(&self, key: &str) -> Result<Option<(T, Version)>, Error> {
        let found = self.in_time(self.records.read(key)).await?;
        // The parser's errors can quote what they found, which may be a piece of a key.
        let parse = |(bytes, version): (Bytes, Version)| match serde_json::from_slice(&bytes) {
            Ok(record) => Ok((record, version)),
            Err(_) => Err(Error::Damaged { record: key.to_owned(), then: T::WITHOUT }),
        };
        found.map(parse).transpose()
    }

    pub(crate) async fn swap<T: Record>(&self, key: &str, record: &T, version: Option<Version>) -> Result<bool, Error> {
        let bytes = serde_json::to_vec(record).map_err(|cause| Error::Making(cause.to_string()))?;
        self.in_time(self.records.swap(key, bytes.into(), version)).await
    }

    /// Changes the record, or makes it, however often others change it in between.
    pub(crate) async fn change<T: Record + Default>(&self, key: &str, change: impl Fn(&mut T) + Send + Sync) -> Result<T, Error> {
        for _ in 0..TRIES {
            let (mut record, version) = self.read::<T>(key).await?.map_or((T::default(), None), |(old, at)| (old, Some(at)));
            change(&mut record);
            if self.swap(key, &record, version).await? {
                return Ok(record);
            }
        }
        Err(Error::Busy { record: key.to_owned() })
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, RecordsError>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => Ok(done?),
            () = self.clock.sleep(LIMIT) => Err(RecordsError("the store does not answer".into()).into()),
        }
    }
}

/// What one object holds.
pub(crate) trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// What happens once it is removed.
    const WITHOUT: &'static str;
}
