//! Mirrors between an upstream and a registry: this one, or another.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mirror::{Bound, Mirror, Untag};
use oci::{Digest, Error, Pull, Push, RepositoryName, Tag};
use registry::Registry;
use telemetry::Clock;
use transfer::{Source, Transfer};
use upstream::Upstream;

/// A registry that is copied to: pushed to, read from, and, where it is ours, rid of tags.
type Target = (Arc<dyn Push>, Arc<dyn Pull>, Option<Arc<dyn Untag>>);

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
    let from = format!("{}/{}", mirror.upstream, mirror.from);
    let registry = registry.on_behalf(registry::Origin { by: Some(format!("mirror:{}", mirror.name)), from: Some(from) });
    let source: Arc<dyn Source> = Arc::new(of(&mirror.upstream)?);
    let (target, back, untag): Target = match &mirror.registry {
        None => (Arc::new(registry.clone()), Arc::new(registry.clone()), Some(Arc::new(Here(registry)))),
        Some(host) => (Arc::new(of(host)?), Arc::new(of(host)?), None),
    };
    let options = transfer::Options { platforms: mirror.platforms.clone(), seed: seed(), ..transfer::Options::default() };
    let transfer = Transfer::new(Arc::clone(&source), Arc::clone(&target), Arc::clone(clock), options).reading_back(back);
    Ok(Bound { settings: Arc::new(mirror.clone()), source, target, untag, transfer: Arc::new(transfer) })
}

/// Where the chance of waits begins: another one in each process.
pub(crate) fn seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

/// This server's own registry, from which tags are removed.
struct Here(Registry);

#[async_trait]
impl Untag for Here {
    async fn remove_tag(&self, name: &RepositoryName, tag: &Tag, only: &Digest) -> Result<bool, Error> {
        self.0.remove_tag(name, tag, only).await
    }
}
