//! The registry that clients pull from: what is here, and behind it the upstreams.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use moka::sync::Cache as Memory;
use oci::{
    Blob, BlobStat, Descriptor, Digest, Discover, Error, Listing, Manifest, ManifestStat, Page, Pull, Reference, ReferrersList,
    RepositoryName, Tag,
};
use telemetry::{Clock, Metrics};
use tokio_util::task::TaskTracker;

use crate::blobs::Fills;
use crate::cache::Cache;
use crate::flight::Flights;
use crate::manifests::{Checked, Looked};
use crate::names::{Names, Upstream};

/// Tags of which it is remembered when they were checked.
const REMEMBERED: u64 = 100_000;

/// A registry that fetches what it does not have. Cheap to clone.
#[derive(Clone)]
pub struct PullThrough(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) names: Arc<Names>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
    /// Manifests that are being fetched.
    pub(crate) manifests: Flights<(RepositoryName, Reference), Manifest>,
    /// Tags that are being looked up at their upstream.
    pub(crate) lookups: Flights<(RepositoryName, Tag), Looked>,
    /// When tags were last checked.
    pub(crate) checked: Memory<(RepositoryName, Tag), Checked>,
    /// Manifests that are being asked for by HEAD.
    pub(crate) heads: Flights<(RepositoryName, Reference), ManifestStat>,
    /// Tags that a HEAD resolved, and when, to digests that nobody has fetched yet.
    pub(crate) resolved: Memory<(RepositoryName, Digest), Vec<(Tag, SystemTime)>>,
    pub(crate) fills: Fills,
}

impl PullThrough {
    /// A registry over `cache` and the upstreams that `names` knows. Its fetches run on `tasks`, so that a shutdown can wait.
    #[must_use]
    pub fn new(names: Arc<Names>, cache: Arc<dyn Cache>, clock: Arc<dyn Clock>, metrics: Metrics, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner {
            names,
            cache,
            clock,
            metrics,
            tasks,
            manifests: Flights::new(),
            lookups: Flights::new(),
            heads: Flights::new(),
            checked: Memory::new(REMEMBERED),
            resolved: Memory::new(REMEMBERED),
            fills: Fills::new(),
        }))
    }

    /// Runs work that outlives the request that started it.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(work);
    }
}

#[async_trait]
impl Pull for PullThrough {
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, Error> {
        match self.0.names.upstream_of(name) {
            Some((upstream, theirs)) => self.resolve_cached(upstream, name, theirs, reference).await,
            None => self.0.cache.resolve(name, reference).await,
        }
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, Error> {
        match self.0.names.upstream_of(name) {
            Some((upstream, theirs)) => self.manifest_cached(upstream, name, theirs, reference).await,
            None => self.0.cache.manifest(name, reference).await,
        }
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error> {
        match self.0.names.upstream_of(name) {
            Some((upstream, theirs)) => self.stat_cached(&upstream, name, &theirs, digest).await,
            None => self.0.cache.stat_blob(name, digest).await,
        }
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error> {
        match self.0.names.upstream_of(name) {
            Some((upstream, theirs)) => self.blob_cached(upstream, name, theirs, digest).await,
            None => self.0.cache.blob(name, digest).await,
        }
    }
}

/// How long a client waits for an upstream when there is a copy to serve instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

#[async_trait]
impl Discover for PullThrough {
    /// The upstream's own listing; the tags that are here when it does not answer.
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, Error> {
        let Some((upstream, theirs)) = self.0.names.upstream_of(name) else {
            return self.0.cache.tags(name, page).await;
        };
        let answer = upstream.remote.tags(&theirs, page);
        match self.0.cache.tags(name, page).await {
            Ok(copy) => match self.bounded(&upstream, answer).await {
                Ok(listing) => Ok(listing),
                Err(failure) => Ok(with_warning(copy, &upstream, &failure)),
            },
            // There is nothing to serve instead, so there is no hurry.
            Err(_) => answer.await,
        }
    }

    /// The upstream's own listing; what is here when it does not answer.
    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error> {
        let Some((upstream, theirs)) = self.0.names.upstream_of(name) else {
            return self.0.cache.referrers(name, subject, query).await;
        };
        let answer = upstream.remote.referrers(&theirs, subject, query);
        match self.0.cache.referrers(name, subject, query).await {
            Ok(copy) if !copy.entries.is_empty() => match self.bounded(&upstream, answer).await {
                Ok(listing) => Ok(listing),
                Err(failure) if failure.is_unknown() => Ok(copy),
                Err(failure) => Ok(with_warning(copy, &upstream, &failure)),
            },
            // Nothing is not what we know, it is what we do not know: whoever looks for a signature must not take it for an answer.
            _ => match answer.await {
                Err(failure) if failure.is_unknown() => Ok(Listing { entries: Vec::new(), next: None, warning: None }),
                answered => answered,
            },
        }
    }
}

impl PullThrough {
    /// An upstream's answer, or a failure after [`PATIENCE`]. Whatever is asked so has a second best answer here.
    pub(crate) async fn bounded<T>(
        &self,
        upstream: &Upstream,
        answer: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        tokio::select! {
            answer = answer => answer,
            () = self.0.clock.sleep(PATIENCE) => Err(Error::Upstream {
                upstream: upstream.host.clone(),
                reason: format!("no answer within {} seconds", PATIENCE.as_secs()),
            }),
        }
    }
}

fn with_warning<T>(mut listing: Listing<T>, upstream: &Upstream, failure: &Error) -> Listing<T> {
    listing.warning = Some(warning(upstream, failure));
    listing
}

/// What a client is told with a copy that could not be checked. Without quotes and line ends: it becomes a header.
pub(crate) fn warning(upstream: &Upstream, failure: &Error) -> String {
    let cause = match failure {
        Error::TooManyRequests { .. } => "limits our requests",
        failure if failure.is_unknown() => "no longer has this",
        _ => "did not answer",
    };
    format!("{} {cause}; this is the copy kept here", upstream.host)
}

impl fmt::Debug for PullThrough {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PullThrough").field("names", &self.0.names).finish_non_exhaustive()
    }
}
