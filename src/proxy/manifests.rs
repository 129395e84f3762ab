//! Manifests of upstreams: by digest for ever, by tag until the tag is to be checked again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oci::{Digest, Error, Manifest, ManifestStat, Reference, RepositoryName, Tag};
use telemetry::{CacheKind, CacheResult, chain};

use crate::names::Upstream;
use crate::pull_through::{PATIENCE, PullThrough, warning};

/// How soon an upstream that failed is asked again for the same tag.
const RETRY: Duration = Duration::from_secs(15);

/// Tags of one digest that are remembered from HEADs.
const TAGS_PER_DIGEST: usize = 8;

/// When a tag need not be checked until.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    until: Duration,
    warning: Option<String>,
}

/// What an upstream said of a tag that is cached.
#[derive(Clone, Debug)]
pub(crate) enum Looked {
    /// It points here, and that manifest is kept.
    At(Digest),
    /// The upstream could not be asked.
    Failed(String),
}

/// A cached tag and how far to trust it.
struct Copy {
    digest: Digest,
    warning: Option<String>,
}

impl PullThrough {
    pub(crate) async fn manifest_cached(
        &self,
        upstream: Arc<Upstream>,
        name: &RepositoryName,
        theirs: RepositoryName,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        match self.copy_of(&upstream, name, &theirs, reference).await? {
            Some(copy) => {
                let manifest = self.0.cache.manifest(name, &Reference::Digest(copy.digest)).await?;
                Ok(Manifest { warning: copy.warning, ..manifest })
            }
            None => self.fetch(upstream, name, theirs, reference).await,
        }
    }

    /// A HEAD of what is not here is a HEAD upstream, which no quota counts. The tag is kept with its manifest: at once if that is here,
    /// else when somebody fetches it by its digest, as clients do next.
    pub(crate) async fn resolve_cached(
        &self,
        upstream: Arc<Upstream>,
        name: &RepositoryName,
        theirs: RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestStat, Error> {
        if let Some(copy) = self.copy_of(&upstream, name, &theirs, reference).await? {
            let stat = self.0.cache.resolve(name, &Reference::Digest(copy.digest)).await?;
            return Ok(ManifestStat { warning: copy.warning, ..stat });
        }
        let (passenger, pilot) = self.0.heads.board(&(name.clone(), reference.clone()));
        if let Some(pilot) = pilot {
            let (this, name, reference) = (self.clone(), name.clone(), reference.clone());
            self.run(async move {
                let at = this.0.clock.now();
                let answer = upstream.remote.resolve(&theirs, &reference).await;
                if let (Ok(stat), Reference::Tag(tag)) = (&answer, &reference) {
                    this.remember(&upstream, &name, tag, &stat.digest, at).await;
                }
                pilot.land(answer);
            });
        }
        passenger.arrive().await
    }

    async fn remember(&self, upstream: &Upstream, name: &RepositoryName, tag: &Tag, digest: &Digest, at: SystemTime) {
        match self.is_here(name, digest).await {
            Ok(true) => self.keep_tags(upstream, name, digest, vec![(tag.clone(), at)]).await,
            Ok(false) => {
                let key = (name.clone(), digest.clone());
                let mut tags = self.0.resolved.get(&key).unwrap_or_default();
                tags.retain(|(known, _)| known != tag);
                tags.truncate(TAGS_PER_DIGEST - 1);
                tags.insert(0, (tag.clone(), at));
                self.0.resolved.insert(key, tags);
            }
            Err(failure) => tracing::error!(repository = %name, %digest, error = %chain(&failure), "a tag could not be kept"),
        }
    }

    /// Points tags at a manifest that is here. Nobody waits for it, so a failure is only told.
    async fn keep_tags(&self, upstream: &Upstream, name: &RepositoryName, digest: &Digest, tags: Vec<(Tag, SystemTime)>) {
        for (tag, at) in tags {
            if let Err(failure) = self.0.cache.keep_tag(name, &tag, digest, at, &upstream.host).await {
                tracing::error!(repository = %name, %tag, %digest, error = %chain(&failure), "a tag could not be kept");
            }
        }
    }

    /// The digest of the copy that answers this reference, if there is one to serve.
    async fn copy_of(
        &self,
        upstream: &Arc<Upstream>,
        name: &RepositoryName,
        theirs: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Copy>, Error> {
        let (digest, at, tag) = match reference {
            Reference::Digest(digest) => {
                let here = self.is_here(name, digest).await?;
                self.note(upstream, CacheKind::Manifest, if here { CacheResult::Hit } else { CacheResult::Miss });
                return Ok(here.then(|| Copy { digest: digest.clone(), warning: None }));
            }
            Reference::Tag(tag) => match self.0.cache.cached_tag(name, tag).await? {
                Some((digest, at)) if self.is_here(name, &digest).await? => (digest, at, tag),
                _ => {
                    self.note(upstream, CacheKind::Tag, CacheResult::Miss);
                    return Ok(None);
                }
            },
        };
        // A time to come is that of a clock that was wrong: no reason to trust it until then.
        if self.0.clock.now().duration_since(at).is_ok_and(|age| age < upstream.tag_lifetime) {
            self.note(upstream, CacheKind::Tag, CacheResult::Hit);
            return Ok(Some(Copy { digest, warning: None }));
        }
        if let Some(checked) = self.0.checked.get(&(name.clone(), tag.clone()))
            && self.0.clock.monotonic() < checked.until
        {
            let result = if checked.warning.is_some() { CacheResult::Stale } else { CacheResult::Hit };
            self.note(upstream, CacheKind::Tag, result);
            return Ok(Some(Copy { digest, warning: checked.warning }));
        }
        self.check_again(upstream, name, theirs, tag, digest).await.map(Some)
    }

    /// Asks the upstream where the tag points now; the copy is served if it does not say in time.
    async fn check_again(
        &self,
        upstream: &Arc<Upstream>,
        name: &RepositoryName,
        theirs: &RepositoryName,
        tag: &Tag,
        digest: Digest,
    ) -> Result<Copy, Error> {
        let (passenger, pilot) = self.0.lookups.board(&(name.clone(), tag.clone()));
        if let Some(pilot) = pilot {
            let (this, upstream) = (self.clone(), Arc::clone(upstream));
            let (name, theirs, tag, digest) = (name.clone(), theirs.clone(), tag.clone(), digest.clone());
            self.run(async move {
                let looked = this.look_up(&upstream, &name, &theirs, &tag, &digest).await;
                pilot.land(Ok(looked));
            });
        }
        let looked = tokio::select! {
            looked = passenger.arrive() => looked?,
            () = self.0.clock.sleep(PATIENCE) => self.slow(upstream, name, tag),
        };
        match looked {
            Looked::At(current) => {
                let result = if current == digest { CacheResult::Revalidated } else { CacheResult::Miss };
                self.note(upstream, CacheKind::Tag, result);
                Ok(Copy { digest: current, warning: None })
            }
            Looked::Failed(warning) => {
                self.note(upstream, CacheKind::Tag, CacheResult::Stale);
                Ok(Copy { digest, warning: Some(warning) })
            }
        }
    }

    /// The upstream takes its time: nobody else shall wait for it too. What it says in the end replaces this.
    fn slow(&self, upstream: &Upstream, name: &RepositoryName, tag: &Tag) -> Looked {
        let warning = format!("{} has not answered yet; this is the copy kept here", upstream.host);
        let until = self.0.clock.monotonic() + RETRY;
        let checked = Checked { until, warning: Some(warning.clone()) };
        self.0
            .checked
            .entry((name.clone(), tag.clone()))
            .or_insert_with_if(|| checked, |old| old.until <= self.0.clock.monotonic());
        Looked::Failed(warning)
    }

    async fn look_up(
        &self,
        upstream: &Arc<Upstream>,
        name: &RepositoryName,
        theirs: &RepositoryName,
        tag: &Tag,
        known: &Digest,
    ) -> Looked {
        let answer = self.current(upstream, name, theirs, tag, known).await;
        let (looked, checked) = match answer {
            Ok(digest) => {
                let until = self.0.clock.monotonic() + upstream.tag_lifetime;
                (Looked::At(digest), Checked { until, warning: None })
            }
            Err(failure) => {
                tracing::warn!(upstream = upstream.host, repository = %name, %tag, error = %chain(&failure), "serving the copy of a tag");
                let wait = match failure {
                    Error::TooManyRequests { retry_after: Some(seconds), .. } => Duration::from_secs(seconds.clamp(1, 3600)),
                    _ => RETRY.min(upstream.tag_lifetime),
                };
                let warning = warning(upstream, &failure);
                let until = self.0.clock.monotonic() + wait;
                (Looked::Failed(warning.clone()), Checked { until, warning: Some(warning) })
            }
        };
        self.0.checked.insert((name.clone(), tag.clone()), checked);
        looked
    }

    /// Where the upstream says that the tag points; that manifest is kept when this returns.
    async fn current(
        &self,
        upstream: &Arc<Upstream>,
        name: &RepositoryName,
        theirs: &RepositoryName,
        tag: &Tag,
        known: &Digest,
    ) -> Result<Digest, Error> {
        let at = self.0.clock.now();
        let stat = upstream.remote.resolve(theirs, &Reference::Tag(tag.clone())).await?;
        if stat.digest == *known {
            return Ok(stat.digest);
        }
        if !self.is_here(name, &stat.digest).await? {
            let by_digest = Reference::Digest(stat.digest.clone());
            let manifest = upstream.remote.manifest(theirs, &by_digest).await?;
            self.0.cache.keep_manifest(name, &manifest, &upstream.host).await?;
        }
        self.0.cache.keep_tag(name, tag, &stat.digest, at, &upstream.host).await?;
        Ok(stat.digest)
    }

    /// Fetches a manifest once for all who ask, and keeps it. It is served as soon as it is verified; the keeping goes on behind.
    async fn fetch(
        &self,
        upstream: Arc<Upstream>,
        name: &RepositoryName,
        theirs: RepositoryName,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        let (passenger, pilot) = self.0.manifests.board(&(name.clone(), reference.clone()));
        if let Some(pilot) = pilot {
            let (this, name, reference) = (self.clone(), name.clone(), reference.clone());
            self.run(async move {
                let at = this.0.clock.now();
                let manifest = match upstream.remote.manifest(&theirs, &reference).await {
                    Ok(manifest) => manifest,
                    Err(error) => {
                        if !error.is_unknown() {
                            tracing::warn!(upstream = upstream.host, repository = %name, %reference, error = %chain(&error), "a manifest could not be fetched");
                        }
                        return pilot.land(Err(error));
                    }
                };
                pilot.land(Ok(manifest.clone()));
                let digest = &manifest.digest;
                if let Err(error) = this.0.cache.keep_manifest(&name, &manifest, &upstream.host).await {
                    tracing::error!(upstream = upstream.host, repository = %name, %digest, error = %chain(&error), "a manifest could not be kept");
                    return;
                }
                let tags = match reference {
                    Reference::Tag(tag) => vec![(tag, at)],
                    Reference::Digest(_) => this.0.resolved.remove(&(name.clone(), digest.clone())).unwrap_or_default(),
                };
                this.keep_tags(&upstream, &name, digest, tags).await;
            });
        }
        passenger.arrive().await
    }

    async fn is_here(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        match self.0.cache.resolve(name, &Reference::Digest(digest.clone())).await {
            Ok(_) => Ok(true),
            Err(unknown) if unknown.is_unknown() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) fn note(&self, upstream: &Upstream, kind: CacheKind, result: CacheResult) {
        self.0.metrics.cache(&upstream.host, kind, result);
    }
}
