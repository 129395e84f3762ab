//! The store: one value through which everything at rest is read and written.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, RepositoryName, Tag};
use telemetry::{Clock, Metrics};

use crate::backend::{Backend, Location, OpenError};
use crate::cache::ExactCache;
use crate::catalog::RepositoryRecord;
use crate::keys;
use crate::manifests::ManifestRecord;
use crate::objects::Objects;
use crate::session::Sessions;
use crate::tags::TagRecord;

/// The version of the layout that this code reads and writes.
const LAYOUT: &str = "1";
/// Bytes kept in memory of manifests, and of what is known of them.
const BYTES_CAPACITY: u64 = 32 * 1024 * 1024;
/// Entries of each of the other caches.
const ENTRIES: u64 = 10_000;

/// Content at rest. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) objects: Objects,
    pub(crate) backend: Backend,
    pub(crate) caches: Arc<Caches>,
    pub(crate) sessions: Arc<Sessions>,
}

/// What is read again and again. Exact, because a folder and a memory have one server.
pub(crate) struct Caches {
    pub(crate) bytes: ExactCache<Digest, Bytes>,
    pub(crate) manifests: ExactCache<(RepositoryName, Digest), ManifestRecord>,
    pub(crate) tags: ExactCache<(RepositoryName, Tag), TagRecord>,
    pub(crate) members: ExactCache<(RepositoryName, Digest), ()>,
    /// With those that are not there, since every pull at the root asks whether its name is hosted.
    pub(crate) repositories: ExactCache<RepositoryName, Option<RepositoryRecord>>,
}

impl Caches {
    fn new() -> Self {
        Self {
            bytes: ExactCache::new(BYTES_CAPACITY, |_, bytes: &Bytes| u32::try_from(bytes.len() + 256).unwrap_or(u32::MAX)),
            manifests: ExactCache::new(BYTES_CAPACITY, |_, record: &ManifestRecord| {
                u32::try_from(record.weight()).unwrap_or(u32::MAX)
            }),
            tags: ExactCache::new(ENTRIES, |_, _| 1),
            members: ExactCache::new(ENTRIES, |_, ()| 1),
            repositories: ExactCache::new(ENTRIES, |_, _| 1),
        }
    }
}

impl Store {
    /// Opens the store at a location, making it if it is new.
    ///
    /// A folder is locked for this process and cleared of temporary files. The error says what to do.
    pub async fn open(location: &Location, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, OpenError> {
        let backend = Backend::open(location, Arc::clone(&clock))?;
        let objects = Objects::new(Arc::clone(&backend.objects), clock, metrics);
        let store = Self { objects, backend, caches: Arc::new(Caches::new()), sessions: Arc::new(Sessions::default()) };
        store.check_layout().await?;
        Ok(store)
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
