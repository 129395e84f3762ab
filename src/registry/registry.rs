//! The registry's value: a store, a clock and rules.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oci::{Error, Listing, Page, RepositoryName};
use storage::{Origin, Slice, Store};
use telemetry::Clock;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::bounds::{Bounds, Usages};
use crate::fault;

/// How much is accepted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a manifest.
    pub manifest_size: u64,
    /// Bytes of a blob; `None` for as much as the storage holds.
    pub blob_size: Option<u64>,
    /// Upload sessions open at the same time.
    pub uploads: usize,
    /// Entries of one page of a listing.
    pub page: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { manifest_size: 8 * 1024 * 1024, blob_size: None, uploads: 10_000, page: 10_000 }
    }
}

impl Limits {
    /// How many entries a page may have.
    pub(crate) fn entries(&self, page: &Page) -> usize {
        page.limit.unwrap_or(self.page).min(self.page)
    }
}

/// A page as clients are given it.
pub(crate) fn listing<T>(slice: Slice<T>, name: impl Fn(&T) -> String) -> Listing<T> {
    let next = if slice.more { slice.entries.last().map(name) } else { None };
    Listing { entries: slice.entries, next, warning: None }
}

/// What is accepted.
#[derive(Clone, Default)]
pub struct Rules {
    /// Take image manifests whose configuration or layers are not here. Indexes are always taken so, since a mirror of some
    /// platforms must keep the original index.
    pub sparse_images: bool,
    /// What repositories may hold, and which tags stay where they are. Which tags those are the store is told as well:
    /// [`Store::with_immutable`].
    pub bounds: Option<Arc<dyn Bounds>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rules").field("sparse_images", &self.sparse_images).finish_non_exhaustive()
    }
}

/// What this server holds. Cheap to clone; all clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) rules: Rules,
    pub(crate) usages: Usages,
    /// What must come to its end.
    pub(crate) tasks: TaskTracker,
}

impl Registry {
    /// A registry over an opened store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: Limits, rules: Rules) -> Self {
        let store = match rules.bounds.clone() {
            Some(bounds) => store.with_immutable(Arc::new(move |name, tag| bounds.is_immutable(name, tag))),
            None => store,
        };
        Self { store, clock, limits, rules, usages: Usages::default(), tasks: TaskTracker::new() }
    }

    /// Makes changes on tasks of this tracker, so that whoever stops the server can wait for them. Only what is pushed by
    /// [`oci::Push`] is changed so; a request's changes are the business of who answers it.
    #[must_use]
    pub fn with_tasks(mut self, tasks: TaskTracker) -> Self {
        self.tasks = tasks;
        self
    }

    /// The same registry, whose changes are this one's.
    #[must_use]
    pub fn on_behalf(&self, origin: Origin) -> Self {
        Self { store: self.store.on_behalf(origin), ..self.clone() }
    }

    /// How much is accepted.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The repositories in byte order. [`_catalog`, Docker's extension]
    pub async fn repositories(&self, page: &Page) -> Result<Listing<RepositoryName>, Error> {
        let slice = self.store.repositories_after(page.last.as_deref(), self.limits.entries(page)).await;
        Ok(listing(slice.map_err(fault::store("listing repositories"))?, RepositoryName::to_string))
    }

    /// Is this a repository that was pushed or built here, and so never asked of an upstream?
    pub async fn is_hosted(&self, name: &RepositoryName) -> Result<bool, Error> {
        let record = self.store.repository(name).await.map_err(fault::store("looking a repository up"))?;
        Ok(record.is_some_and(|record| record.cached_from.is_none()))
    }

    /// What is wrong with the store, as it changes; `None` while it is well.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<&'static str>> {
        self.store.trouble()
    }

    /// Tries a store in trouble again and again. Never returns.
    pub async fn watch_over(&self) {
        self.store.watch_over().await;
    }

    /// Brings upload sessions to rest that are only in memory: those that no request has touched for a second, or all.
    pub async fn settle_uploads(&self, all: bool) -> Result<(), Error> {
        self.store.settle_uploads(all).await.map_err(fault::store("saving uploads"))
    }

    /// Ends upload sessions that nobody has touched for `lifetime`. Gives how many.
    pub async fn expire_uploads(&self, lifetime: Duration) -> Result<usize, Error> {
        self.store.expire_uploads(lifetime).await.map_err(fault::store("expiring uploads"))
    }

    /// The error for something that is not there: `NAME_UNKNOWN` if the repository is not either, else what `known` makes.
    pub(crate) async fn unknown(&self, name: &RepositoryName, known: impl FnOnce() -> Error) -> Error {
        match self.store.repository(name).await {
            Ok(None) => Error::NameUnknown { name: name.to_string() },
            Ok(Some(_)) => known(),
            Err(failure) => fault::store("looking a repository up")(failure),
        }
    }
}
