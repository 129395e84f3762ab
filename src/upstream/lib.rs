//! A remote registry as seen by us.
//!
//! [`Upstream`] speaks the distribution API to one remote registry and implements [`oci::Pull`] and [`oci::Discover`] over it.
//! Names are the remote's own, without the prefix under which it is cached. It keeps tokens and nothing else: no content, no
//! absences. A request is sent once; only a token that was refused is fetched anew, one time. Resuming and waiting are the
//! business of whoever knows what a transfer is worth.

mod ask;
mod blob;
// Not part of what this room offers: the fuzz target reads headers as the token client does.
#[doc(hidden)]
pub mod challenge;
mod config;
mod listing;
mod manifest;
mod outcome;
mod stream;
mod token;
mod wire;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use oci::{
    Blob, BlobStat, Descriptor, Digest, Discover, Error, Listing, Manifest, ManifestStat, Page, Pull, Reference, ReferrersList,
    RepositoryName, Tag,
};
use telemetry::{Clock, Metrics};

use ask::Remote;

pub use config::{Config, ConfigError, Credentials};

/// A remote registry. Cheap to clone; the clones share connections and tokens.
#[derive(Clone)]
pub struct Upstream {
    remote: Arc<Remote>,
}

impl Upstream {
    /// Makes a client of the configured registry. Nothing is asked of it yet.
    ///
    /// Fails for a URL that cannot be the base of a registry, and for a certificate file that cannot be used.
    pub fn new(config: Config, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, ConfigError> {
        Ok(Self { remote: Arc::new(Remote::new(config, clock, metrics)?) })
    }

    /// What clients call this upstream.
    #[must_use]
    pub fn host(&self) -> &str {
        self.remote.host()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("host", &self.host()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Pull for Upstream {
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, Error> {
        self.remote.resolve(name, reference).await
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, Error> {
        self.remote.manifest(name, reference).await
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error> {
        self.remote.stat_blob(name, digest).await
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error> {
        Arc::clone(&self.remote).blob(name, digest).await
    }
}

#[async_trait]
impl Discover for Upstream {
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, Error> {
        self.remote.tags(name, page).await
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error> {
        self.remote.referrers(name, subject, query).await
    }
}
