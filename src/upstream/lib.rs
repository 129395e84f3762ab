//! A remote registry as seen by us.
//!
//! [`Upstream`] speaks the distribution API to one remote registry and implements [`oci::Pull`], [`oci::Discover`] and
//! [`oci::Push`] over it. Names are the remote's own, without the prefix under which it is cached. It keeps tokens and what the
//! registry says of its limits, and nothing else: no content, no absences. A pull's request is sent once; only a token that was
//! refused is fetched anew, one time. Resuming a pull and waiting are the business of whoever knows what a transfer is worth. A
//! push of a blob is resumed here, for only the session knows where its copy ends.
//!
//! The **budget** of the upstream is kept for every caller: the registry is left alone while it has asked for that, and background
//! work is slowed down and stopped before it takes the quota that people need.

mod ask;
mod blob;
mod budget;
// Not part of what this room offers: the fuzz target reads headers as the token client does.
#[doc(hidden)]
pub mod challenge;
mod config;
mod listing;
mod manifest;
mod outcome;
mod payload;
mod push;
mod put;
mod quota;
mod session;
mod stream;
mod token;
mod wire;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use oci::{
    Blob, BlobStat, Descriptor, Digest, Discover, Error, Listing, Manifest, ManifestStat, Page, Pull, Push, RangeSource,
    Reference, ReferrersList, RepositoryName, Tag,
};
use telemetry::{Clock, Metrics};

use ask::{Access, Remote};

pub use config::{Config, ConfigError, Credentials};
pub use quota::Quota;

/// A remote registry. Cheap to clone; the clones share connections, tokens and the budget.
///
/// Every call gives [`Error::TooManyRequests`] with what is left of the time while the registry wants to be left alone: after a
/// 429 for as long as its `Retry-After` said, half a minute if it said nothing, an hour at most. Only the bytes of blobs are asked
/// for nevertheless: no quota counts them, and whoever fetches them waits by himself.
#[derive(Clone)]
pub struct Upstream {
    remote: Remote,
}

impl Upstream {
    /// Makes a client of the configured registry. Nothing is asked of it yet.
    ///
    /// Fails for a URL that cannot be the base of a registry, and for a certificate file that cannot be used.
    pub fn new(config: Config, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, ConfigError> {
        Ok(Self { remote: Remote::new(config, clock, metrics)? })
    }

    /// The same registry for work that nobody waits for: mirrors, checks.
    ///
    /// Its calls wait for their turn, [`Config::requests_per_second`]; what others ask at the same time counts too. Pulls of
    /// manifests and listings are refused with [`Error::TooManyRequests`], without asking the registry, while the quota that is left
    /// is at or below [`Config::reserve`]; `retry_after` says when to look again, which is not later than the next window. Blobs and
    /// pushes are not refused there, since no quota counts them: what a manifest was paid for can be fetched. Before the first
    /// manifest, and when what is known of the quota has become old, a manifest is asked for by HEAD, which is free.
    ///
    /// While the registry wants to be left alone nothing is asked in the background, blobs included, and `retry_after` is a little
    /// longer than what it said, differently each time.
    #[must_use]
    pub fn in_background(&self) -> Self {
        Self { remote: self.remote.in_background() }
    }

    /// What the registry last said of its quota; `None` if it has none or has not been asked.
    #[must_use]
    pub fn quota(&self) -> Option<Quota> {
        self.remote.quota()
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
        self.remote.resolve(name, reference, Access::Pull).await
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, Error> {
        self.remote.manifest(name, reference, Access::Pull).await
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error> {
        self.remote.stat_blob(name, digest).await
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error> {
        self.remote.blob(name, digest).await
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

/// Pushes to the remote registry; its account needs the right to. A push is durable when the registry has said 201.
///
/// `Denied` if the registry or its token realm does not let us push, `NameUnknown` where it makes no repositories by itself,
/// `ManifestBlobUnknown` and `ManifestInvalid` as it says.
#[async_trait]
impl Push for Upstream {
    async fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        self.remote.has_blob(name, digest).await
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        self.remote.has_manifest(name, digest).await
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Error> {
        self.remote.tagged(name, tag).await
    }

    /// The session that a registry opens where it does not mount is kept for the push of this blob that follows.
    async fn mount_blob(&self, name: &RepositoryName, digest: &Digest, from: Option<&RepositoryName>) -> Result<bool, Error> {
        self.remote.mount_blob(name, digest, from).await
    }

    /// Up to a MiB goes in one request, more as a stream; in chunks where the registry takes no longer bodies. When the exchange with
    /// the registry breaks off, the session is asked how far it came and `source` is opened there; from the start in a new session
    /// where it is lost. It is given up after five attempts that brought nothing. An error of `source` is returned as it is, at once.
    async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
        source: Arc<dyn RangeSource>,
    ) -> Result<(), Error> {
        self.remote.push_blob(name, digest, size, source).await
    }

    /// Where the registry does not list referrers by itself, a manifest with a `subject` is also written into the index under the
    /// fallback tag, as the specification asks of clients. [distribution-spec, Pushing Manifests with Subject]
    async fn push_manifest(&self, name: &RepositoryName, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        self.remote.push_manifest(name, manifest, tags).await
    }
}
