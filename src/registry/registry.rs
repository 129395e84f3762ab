//! The registry's value: a store, a clock and rules.

use std::sync::Arc;
use std::time::Duration;

use oci::{Error, Listing, Page, RepositoryName};
use storage::Store;
use telemetry::Clock;

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
        Self { manifest_size: 8 * 1024 * 1024, blob_size: None, uploads: 10_000, page: 1000 }
    }
}

/// What is accepted.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Take image manifests whose configuration or layers are not here. Indexes are always taken so, since a mirror of some
    /// platforms must keep the original index.
    pub sparse_images: bool,
}

/// What this server holds. Cheap to clone; all clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) rules: Rules,
}

impl Registry {
    /// A registry over an opened store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: Limits, rules: Rules) -> Self {
        Self { store, clock, limits, rules }
    }

    /// How much is accepted.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The repositories in byte order. [`_catalog`, Docker's extension]
    pub async fn repositories(&self, page: &Page) -> Result<Listing<RepositoryName>, Error> {
        let names = self.store.repositories().await.map_err(fault::store("listing repositories"))?;
        Ok(Listing::cut(names, page, self.limits.page, RepositoryName::to_string))
    }

    /// Is this a repository that was pushed or built here, and so never asked of an upstream?
    pub async fn is_hosted(&self, name: &RepositoryName) -> Result<bool, Error> {
        let record = self.store.repository(name).await.map_err(fault::store("looking a repository up"))?;
        Ok(record.is_some_and(|record| record.cached_from.is_none()))
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
