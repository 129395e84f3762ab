//! The store: one value through which everything at rest is read and written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oci::{Digest, RepositoryName, Tag};
use telemetry::{Clock, Metrics};
use tokio::sync::Semaphore;

use crate::backend::{Backend, Location, OpenError, Surroundings};
use crate::blobs::Held;
use crate::cache::ExactCache;
use crate::catalog::RepositoryRecord;
use crate::journal::{Journal, Origin};
use crate::keys;
use crate::listing::Index;
use crate::manifests::ManifestRecord;
use crate::objects::Objects;
use crate::parts::SENDERS;
use crate::session::Sessions;
use crate::tags::TagRecord;

/// The version of the layout that this code reads and writes.
const LAYOUT: &str = "2";
/// Bytes kept in memory of small blobs, and of what is known of manifests. An open file counts as [`FILE_WEIGHT`].
const BYTES_CAPACITY: u64 = 32 * 1024 * 1024;
/// So that some 250 files are held open at most.
const FILE_WEIGHT: u32 = 128 * 1024;
/// Entries of each of the other caches.
const ENTRIES: u64 = 50_000;
/// Tags of all repositories whose tags are indexed in memory, and repositories in the index of the catalog.
const INDEXED: u64 = 500_000;
/// How long something is remembered of a store that others write to: they may have removed it.
const SHARED_LIFETIME: Duration = Duration::from_secs(5);

/// Content at rest. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) objects: Objects,
    pub(crate) backend: Backend,
    pub(crate) caches: Arc<Caches>,
    pub(crate) sessions: Arc<Sessions>,
    /// Parts that may be in memory on their way to a bucket.
    pub(crate) senders: Arc<Semaphore>,
    /// Where changes of tags are handed to whoever acts on them.
    pub(crate) journal: Option<Arc<Journal>>,
    /// Whose the changes are.
    pub(crate) origin: Arc<Origin>,
    /// Which tags stay where they are, once they are there.
    pub(crate) immutable: Option<Arc<Immutable>>,
}

/// Does this tag stay where it is?
pub type Immutable = dyn Fn(&RepositoryName, &Tag) -> bool + Send + Sync;

/// What is read again and again: exact where this process is the only writer, else young.
pub(crate) struct Caches {
    /// Small blobs, whole, and large ones as open files.
    pub(crate) blobs: ExactCache<Digest, Held>,
    pub(crate) manifests: ExactCache<(RepositoryName, Digest), ManifestRecord>,
    /// Used only where it is exact.
    pub(crate) tags: ExactCache<(RepositoryName, Tag), TagRecord>,
    pub(crate) members: ExactCache<(RepositoryName, Digest), ()>,
    /// With those that are not there, since every pull at the root asks whether its name is hosted.
    pub(crate) repositories: ExactCache<RepositoryName, Option<RepositoryRecord>>,
    /// Used only where it is exact.
    pub(crate) tag_lists: ExactCache<RepositoryName, Index<Tag>>,
    /// Used only where it is exact.
    pub(crate) catalog: ExactCache<(), Index<RepositoryName>>,
}

impl Caches {
    fn new(exact: bool) -> Self {
        let lifetime = (!exact).then_some(SHARED_LIFETIME);
        Self {
            // Bytes that have this digest are never wrong; who may have them is asked elsewhere.
            blobs: ExactCache::new(BYTES_CAPACITY, None, |_, held: &Held| match held {
                Held::Bytes(bytes) => u32::try_from(bytes.len() + 256).unwrap_or(u32::MAX),
                Held::File(..) => FILE_WEIGHT,
            }),
            manifests: ExactCache::new(BYTES_CAPACITY, lifetime, |_, record: &ManifestRecord| {
                u32::try_from(record.weight()).unwrap_or(u32::MAX)
            }),
            tags: ExactCache::new(ENTRIES, None, |_, _| 1),
            members: ExactCache::new(ENTRIES, lifetime, |_, ()| 1),
            repositories: ExactCache::new(ENTRIES, lifetime, |_, _| 1),
            tag_lists: ExactCache::new(INDEXED, None, |_, index: &Index<Tag>| index.weight()),
            catalog: ExactCache::new(INDEXED, None, |(), index: &Index<RepositoryName>| index.weight()),
        }
    }
}

impl Store {
    /// Opens the store at a location in memory or on this machine, making it if it is new. As [`Store::open_in`].
    pub async fn open(location: &Location, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, OpenError> {
        Self::open_in(location, Surroundings::new(clock, metrics)).await
    }

    /// Opens the store at a location, making it if it is new.
    ///
    /// A folder is locked for this process and cleared of temporary files. A bucket is asked whether it keeps its word on conditional
    /// writes. The error says what to do.
    pub async fn open_in(location: &Location, around: Surroundings) -> Result<Self, OpenError> {
        let backend = Backend::open(location, &around).await?;
        let objects = Objects::new(&backend, around.clock, around.metrics);
        let caches = Arc::new(Caches::new(backend.exact));
        let senders = Arc::new(Semaphore::new(SENDERS));
        let sessions = Arc::new(Sessions::default());
        let store = Self { objects, backend, caches, sessions, senders, journal: None, origin: Arc::default(), immutable: None };
        store.check_layout().await?;
        Ok(store)
    }

    /// The same store, which neither moves nor removes these tags once they are there, for whoever pushes or deletes. What is cached
    /// follows its upstream all the same.
    #[must_use]
    pub fn with_immutable(mut self, immutable: Arc<Immutable>) -> Self {
        self.immutable = Some(immutable);
        self
    }

    async fn check_layout(&self) -> Result<(), OpenError> {
        let key = keys::layout();
        if self.objects.create(&key, Bytes::from_static(LAYOUT.as_bytes())).await? {
            return Ok(());
        }
        let found = self.objects.read(&key).await?.map(|(bytes, _)| bytes).unwrap_or_default();
        if found.as_ref() == LAYOUT.as_bytes() {
            return Ok(());
        }
        Err(OpenError::Layout { found: String::from_utf8_lossy(&found).chars().take(20).collect(), expected: LAYOUT })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Store").field("objects", &self.objects.store).finish_non_exhaustive()
    }
}
