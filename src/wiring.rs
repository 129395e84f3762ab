//! Where rooms of the same height meet: each is given the others as its own traits.

pub(crate) mod acme;
pub(crate) mod hooks;
pub(crate) mod identity;
mod mirrors;
mod promotions;
mod records;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::Either;
use oci::{
    Algorithm, Blob, BlobStat, Descriptor, Digest, Discover, Error, Listing, Manifest, ManifestStat, Page, Pull, Reference,
    ReferrersList, RepositoryName, Tag,
};
use proxy::FillSpool;
use registry::{Registry, Spool};
use storage::{Location, Transport};
use telemetry::{Clock, Metrics};

use crate::config;

pub(crate) use mirrors::{bound, seed};
pub(crate) use promotions::{Deployed, deployer, names, promotions};
pub(crate) use records::{Kept, kept};

/// The upstreams of the configuration, by their hosts.
pub(crate) fn upstreams(
    configured: &[config::Upstream],
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<BTreeMap<String, upstream::Upstream>, upstream::ConfigError> {
    let remote = |entry: &config::Upstream| Ok((entry.host.clone(), remote_of(entry, clock, metrics)?));
    configured.iter().map(remote).collect()
}

fn remote_of(
    entry: &config::Upstream,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<upstream::Upstream, upstream::ConfigError> {
    let credentials = entry.credentials.as_ref().map(|credentials| upstream::Credentials {
        username: credentials.username.clone(),
        password: credentials.password.clone(),
    });
    let settings = upstream::Config {
        host: entry.host.clone(),
        url: entry.url.clone(),
        ca: entry.ca.clone(),
        credentials,
        realms: entry.realms.clone(),
        idle_timeout: entry.idle_timeout,
        reserve: entry.reserve,
        requests_per_second: entry.requests_per_second,
    };
    upstream::Upstream::new(settings, Arc::clone(clock), metrics.clone())
}

/// An upstream as names are routed to it.
pub(crate) fn routed(entry: &config::Upstream, remote: upstream::Upstream) -> proxy::Upstream {
    let patterns = entry.root.clone();
    let root = move |name: &RepositoryName| patterns.iter().any(|pattern| pattern.matches(name.as_str()));
    proxy::Upstream {
        host: entry.host.clone(),
        name: entry.name.to_string(),
        root: entry.default.then(|| Box::new(root) as _),
        remote: Arc::new(remote),
        tag_lifetime: entry.tag_lifetime,
    }
}

/// How long a bucket may be silent. Longer than for others: while a part is on its way there, nothing comes back.
const BUCKET_SILENCE: Duration = Duration::from_mins(2);

/// The way to the bucket of the configuration, if content is kept in one.
pub(crate) fn transport(storage: &config::Storage) -> anyhow::Result<Option<Transport>> {
    let Location::Bucket(bucket) = &storage.location else { return Ok(None) };
    // Without an endpoint it is one of the provider's, under a public name.
    let origin = bucket.endpoint.as_deref().unwrap_or("https://bucket.invalid").parse()?;
    let mut settings = outbound::Config::new(&origin);
    settings.idle_timeout = BUCKET_SILENCE;
    settings.ca.extend(storage.ca.clone());
    Ok(Some(Transport::new(outbound::Client::new(&settings)?.into_inner())))
}

/// The routing of names, as the API asks for it.
pub(crate) struct ApiNames(pub(crate) Arc<proxy::Names>);

impl api::Names for ApiNames {
    fn resolve<'a>(&'a self, name: &'a RepositoryName, namespace: Option<&'a str>) -> api::Resolving<'a> {
        match self.0.resolve_at_once(name, namespace) {
            Some(resolved) => Either::Left(std::future::ready(resolved.map(for_api))),
            None => Either::Right(Box::pin(async move { self.0.resolve(name, namespace).await.map(for_api) })),
        }
    }

    fn check_push(&self, name: &RepositoryName) -> Result<(), Error> {
        self.0.check_push(name)
    }
}

fn for_api(resolved: proxy::Resolved) -> api::Resolved {
    match resolved {
        proxy::Resolved::Hosted => api::Resolved::Hosted,
        proxy::Resolved::Cached { repository, namespace } => api::Resolved::Cached { repository, namespace },
    }
}

/// The registry, as the pull-through asks for it.
pub(crate) struct RegistryCache(pub(crate) Registry);

#[async_trait]
impl Pull for RegistryCache {
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, Error> {
        self.0.resolve(name, reference).await
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, Error> {
        self.0.manifest(name, reference).await
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error> {
        self.0.stat_blob(name, digest).await
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error> {
        self.0.blob(name, digest).await
    }
}

#[async_trait]
impl Discover for RegistryCache {
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, Error> {
        self.0.tags(name, page).await
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error> {
        self.0.referrers(name, subject, query).await
    }
}

#[async_trait]
impl proxy::Cache for RegistryCache {
    async fn is_hosted(&self, name: &RepositoryName) -> Result<bool, Error> {
        self.0.is_hosted(name).await
    }

    async fn cached_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<(Digest, SystemTime)>, Error> {
        self.0.cached_tag(name, tag).await
    }

    async fn keep_manifest(&self, name: &RepositoryName, manifest: &Manifest, upstream: &str) -> Result<(), Error> {
        self.0.keep_manifest(name, manifest, upstream).await
    }

    async fn keep_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        at: SystemTime,
        upstream: &str,
    ) -> Result<(), Error> {
        self.0.keep_tag(name, tag, digest, at, upstream).await
    }

    async fn has_bytes(&self, digest: &Digest) -> Result<bool, Error> {
        self.0.has_bytes(digest).await
    }

    async fn adopt_blob(&self, name: &RepositoryName, digest: &Digest, upstream: &str) -> Result<bool, Error> {
        self.0.adopt_blob(name, digest, upstream).await
    }

    fn spool(&self, algorithm: Algorithm) -> Result<Box<dyn FillSpool>, Error> {
        let spool = self.0.spool(algorithm)?;
        Ok(Box::new(RegistrySpool { registry: self.0.clone(), spool }))
    }
}

/// A blob on its way into the registry, as a fill asks for it.
struct RegistrySpool {
    registry: Registry,
    spool: Spool,
}

#[async_trait]
impl FillSpool for RegistrySpool {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.registry.append_spool(&mut self.spool, bytes)
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.spool.hash(bytes);
    }

    fn verify(&self, digest: &Digest) -> Result<(), Error> {
        self.registry.verify_spool(&self.spool, digest)
    }

    fn written(&self) -> u64 {
        self.spool.written()
    }

    fn file(&self) -> Arc<File> {
        self.spool.file()
    }

    async fn keep(self: Box<Self>, name: &RepositoryName, digest: &Digest, upstream: &str) -> Result<(), Error> {
        let Self { registry, spool } = *self;
        registry.keep_blob(name, digest, spool, upstream).await
    }
}
