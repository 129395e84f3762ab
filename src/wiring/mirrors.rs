//! Mirrors between an upstream and a registry: this one, or another.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mirror::{Bound, Mirror, Pins, Target};
use oci::{Digest, Error, Manifest, Pull, Push, RangeSource, RepositoryName, Tag};
use registry::Registry;
use telemetry::Clock;
use transfer::Transfer;
use upstream::Upstream;

/// Nothing is deployed from here yet.
pub(crate) struct NoPins;

#[async_trait]
impl Pins for NoPins {
    async fn is_pinned(&self, _: &RepositoryName, _: &Tag, _: &Digest) -> Result<bool, Error> {
        Ok(false)
    }
}

/// A mirror's two ends. `upstreams` has every host that the configuration names.
pub(crate) fn bound(
    mirror: &Mirror,
    upstreams: &BTreeMap<String, Upstream>,
    registry: &Registry,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Bound> {
    let of = |host: &str| {
        let known = upstreams.get(host).map(Upstream::in_background);
        known.ok_or_else(|| anyhow::anyhow!("the mirror {} names {host}, which is no upstream", mirror.name))
    };
    let source = Arc::new(of(&mirror.upstream)?);
    let target: Arc<dyn Target> = match &mirror.registry {
        None => Arc::new(End { push: registry.clone(), here: Some(registry.clone()) }),
        Some(host) => Arc::new(End { push: of(host)?, here: None }),
    };
    let options = transfer::Options { platforms: mirror.platforms.clone(), seed: seed(), ..transfer::Options::default() };
    let push: Arc<dyn Push> = Arc::<dyn Target>::clone(&target);
    let transfer = Transfer::new(Arc::<Upstream>::clone(&source), push, Arc::clone(clock), options);
    let transfer = match &mirror.registry {
        None => transfer.reading_back(Arc::new(registry.clone()) as Arc<dyn Pull>),
        Some(host) => transfer.reading_back(Arc::new(of(host)?)),
    };
    Ok(Bound { settings: Arc::new(mirror.clone()), source, target, transfer: Arc::new(transfer) })
}

/// Where the chance of waits begins: another one in each process.
pub(crate) fn seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

/// Where a mirror's copies go.
struct End<T> {
    push: T,
    /// This server's own registry, if that is it. Tags of others are not removed.
    here: Option<Registry>,
}

#[async_trait]
impl<T: Push> Target for End<T> {
    async fn remove_tag(&self, name: &RepositoryName, tag: &Tag, only: &Digest) -> Result<bool, Error> {
        match &self.here {
            Some(registry) => registry.remove_tag(name, tag, only).await,
            None => Err(Error::Unsupported { reason: "tags of other registries are not removed".to_owned() }),
        }
    }
}

#[async_trait]
impl<T: Push> Push for End<T> {
    async fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        self.push.has_blob(name, digest).await
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        self.push.has_manifest(name, digest).await
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Error> {
        self.push.tagged(name, tag).await
    }

    async fn mount_blob(&self, name: &RepositoryName, digest: &Digest, from: Option<&RepositoryName>) -> Result<bool, Error> {
        self.push.mount_blob(name, digest, from).await
    }

    async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
        source: Arc<dyn RangeSource>,
    ) -> Result<(), Error> {
        self.push.push_blob(name, digest, size, source).await
    }

    async fn push_manifest(&self, name: &RepositoryName, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        self.push.push_manifest(name, manifest, tags).await
    }
}
