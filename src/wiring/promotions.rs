//! The registry, as promotions ask for it; and the branches that they commit to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use mirror::Pins;
use oci::{
    Content as BlobContent, Descriptor, Digest, Discover, Error, ManifestView, Page, Platform, Pull, Push, Reference,
    RepositoryName, Tag,
};
use promotion::forge::{Contents, Forge};
use promotion::rollout::{ArgoCd, Notify, SettingsError};
use promotion::{Arrival, Content, Deployer, Found, Ledgers, Names, Place, PlaceSettings, Promotions, Verdicts};
use registry::Registry;
use telemetry::{Audit, Clock, Metrics};

use crate::config::{self, Config};

/// The largest configuration of an image that is read.
const LARGEST_CONFIGURATION: usize = 4 << 20;
/// Indexes in indexes are followed so far.
const DEPTH: u32 = 3;
/// Media types of what runs; all else is an artifact.
const RUNNABLE: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The promotions of a configuration. `folder` is for what is known of their branches.
pub(crate) fn promotions(
    config: &Config,
    registry: &Registry,
    ledgers: Ledgers,
    folder: &Path,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    audit: &Audit,
) -> Result<Promotions, SettingsError> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut places = BTreeMap::new();
    for promotion in &config.promotions {
        if !places.contains_key(&promotion.rule.branch) {
            let place = place(&config.git, promotion, folder, search.clone(), clock)?;
            places.insert(promotion.rule.branch.clone(), place);
        }
    }
    let mut deployers = BTreeMap::new();
    for promotion in &config.promotions {
        deployers.insert(promotion.rule.name.clone(), deployer(&promotion.deployer, clock)?);
    }
    Ok(Promotions::new(promotion::Parts {
        rules: config.promotions.iter().map(|promotion| promotion.rule.clone()).collect(),
        places,
        deployers,
        ledgers,
        content: Arc::new(Held(registry.clone())),
        verdicts: Arc::new(NoVerdicts),
        clock: Arc::clone(clock),
        metrics: metrics.clone(),
        audit: audit.clone(),
    }))
}

/// What manifests call this server, and what it fetches when it is asked for.
pub(crate) fn names(config: &Config) -> Names {
    let external = config.server.external_url.as_ref().and_then(|url| {
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    });
    let hosts = external.into_iter().chain([config.server.listen.to_string()]).collect();
    let fetched = config.upstreams.iter().map(|upstream| upstream.host.as_str().to_owned()).collect();
    Names { hosts, fetched, ..Names::default() }
}

/// Who is told of commits, and what is watched.
pub(crate) fn deployer(settings: &config::Deployer, clock: &Arc<dyn Clock>) -> Result<Deployer, SettingsError> {
    let notifies = settings.notifies.iter().map(|notify| Notify::new(notify.clone(), clock));
    let argocd = settings.argocd.as_ref().map(|api| ArgoCd::new(api.clone(), clock)).transpose()?;
    let forge = settings.forge.as_ref().map(|forge| Forge::new(forge, clock)).transpose()?;
    Ok(Deployer {
        forge,
        notifies: notifies.collect::<Result<_, _>>()?,
        argocd: argocd.map(Arc::new),
        limit: settings.limit,
        rolls_back: settings.rolls_back,
    })
}

fn place(
    git: &config::Git,
    promotion: &config::Promotion,
    folder: &Path,
    search: OsString,
    clock: &Arc<dyn Clock>,
) -> Result<Place, SettingsError> {
    let forge = promotion.deployer.forge.as_ref().filter(|_| promotion.over_api);
    let forge = forge.map(|forge| Forge::new(forge, clock)).transpose()?;
    let settings = PlaceSettings {
        contents: forge.map(|forge| Contents::new(forge, promotion.remote.branch())),
        remote: promotion.remote.clone(),
        program: git.program.clone(),
        search,
        limit: git.time_limit,
        patience: git.retry_for,
        folder: folder.join(&promotion.rule.branch),
        name: git.name.clone(),
        email: git.email.clone(),
        signing_key: git.signing_key.clone(),
        batch: git.batch,
    };
    Ok(Place::new(settings, Arc::clone(clock), jobs::Random::from_system()))
}

/// Nobody signs or scans yet.
struct NoVerdicts;

#[async_trait]
impl Verdicts for NoVerdicts {
    async fn verdict(&self, _: &str, _: &RepositoryName, _: &Digest) -> Result<Option<String>, String> {
        Ok(None)
    }
}

/// What stands in Git is not to be removed here.
pub(crate) struct Deployed(pub(crate) Promotions);

#[async_trait]
impl Pins for Deployed {
    async fn is_pinned(&self, name: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<bool, Error> {
        let pinned = self.0.is_deployed(name, tag, digest).await;
        pinned.map_err(|error| Error::internal("asking what is deployed", error))
    }
}

/// What is held here.
struct Held(Registry);

#[async_trait]
impl Content for Held {
    async fn tagged(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Arrival>, Error> {
        let record = self.0.tag_record(repository, tag).await?;
        Ok(record.map(|record| Arrival {
            tag: tag.clone(),
            digest: record.digest,
            at: record.at,
            sequence: Some(record.sequence),
            created: None,
        }))
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Tag>, Error> {
        let (mut tags, mut page) = (Vec::new(), Page::default());
        loop {
            let listing = match self.0.tags(repository, &page).await {
                Err(error) if error.is_unknown() => return Ok(tags),
                listing => listing?,
            };
            tags.extend(listing.entries);
            match listing.next {
                Some(last) => page.last = Some(last),
                None => return Ok(tags),
            }
        }
    }

    async fn look(&self, repository: &RepositoryName, digest: &Digest, platforms: &[Platform]) -> Result<Found, Error> {
        let mut look = Look { registry: &self.0, repository, platforms, found: Found::default(), seen: Vec::new(), own: None };
        look.top(digest).await?;
        Ok(look.found)
    }
}

/// A look at an image and at all that it needs.
struct Look<'l> {
    registry: &'l Registry,
    repository: &'l RepositoryName,
    platforms: &'l [Platform],
    found: Found,
    /// What images run on that are here, whole.
    seen: Vec<Platform>,
    /// What the image whose configuration was read runs on.
    own: Option<Platform>,
}

impl Look<'_> {
    /// The manifest, if it is here.
    async fn view(&mut self, digest: &Digest) -> Result<Option<ManifestView>, Error> {
        let manifest = match self.registry.manifest(self.repository, &Reference::Digest(digest.clone())).await {
            Err(error) if error.is_unknown() => return Ok(None),
            manifest => manifest?,
        };
        match ManifestView::parse(&manifest.bytes, Some(&manifest.media_type)) {
            // What an upstream has is kept as it is, also where nobody can read it.
            Err(Error::ManifestInvalid { reason }) => {
                self.found.no_image = Some(format!("has the manifest {digest}, which cannot be understood: {reason}"));
                Ok(None)
            }
            view => view.map(Some),
        }
    }

    async fn top(&mut self, digest: &Digest) -> Result<(), Error> {
        let Some(view) = self.view(digest).await? else {
            if self.found.no_image.is_none() {
                self.found.missing.push(format!("the manifest {digest}"));
            }
            return Ok(());
        };
        if let Some(subject) = &view.subject {
            self.found.no_image = Some(format!("is attached to {} and no image", subject.digest));
            return Ok(());
        }
        match view.kind {
            oci::Kind::Image => {
                self.image(&view, true).await?;
                self.check_alone();
            }
            oci::Kind::Index => {
                if let Some(artifact) = &view.artifact_type {
                    self.found.no_image = Some(format!("is an artifact ({artifact}) and no image"));
                    return Ok(());
                }
                self.index(&view.manifests, DEPTH).await?;
                self.check_platforms(&view.manifests);
            }
        }
        if let Some(annotations) = view.annotations {
            self.found.labels.extend(annotations);
        }
        if let Some(created) = self.found.labels.get("org.opencontainers.image.created").and_then(|text| millis(text)) {
            self.found.created = Some(created);
        }
        Ok(())
    }

    /// Each image of an index. One that is not here is missing only if it is asked for.
    async fn index(&mut self, manifests: &[Descriptor], depth: u32) -> Result<(), Error> {
        for descriptor in manifests {
            if is_attestation(descriptor) {
                continue;
            }
            let Some(view) = self.view(&descriptor.digest).await? else {
                if let Some(platform) = descriptor.platform.as_ref().filter(|offered| self.is_asked_for(offered)) {
                    self.found.missing.push(format!("the image {} for {platform}", descriptor.digest));
                }
                continue;
            };
            let before = self.found.missing.len();
            match view.kind {
                oci::Kind::Image => self.image(&view, self.seen.is_empty()).await?,
                oci::Kind::Index if depth > 0 => Box::pin(self.index(&view.manifests, depth - 1)).await?,
                oci::Kind::Index => {}
            }
            if self.found.missing.len() == before {
                self.seen.extend(descriptor.platform.clone());
            }
        }
        Ok(())
    }

    fn is_asked_for(&self, offered: &Platform) -> bool {
        self.platforms.iter().any(|wanted| wanted.takes(offered))
    }

    fn check_platforms(&mut self, manifests: &[Descriptor]) {
        if !self.found.missing.is_empty() || self.found.no_image.is_some() {
            return;
        }
        for wanted in self.platforms.iter().filter(|wanted| !self.seen.iter().any(|seen| wanted.takes(seen))) {
            self.found.missing.push(format!("an image for {wanted}"));
        }
        let has_some = manifests.iter().any(|descriptor| descriptor.platform.is_none()) || !self.seen.is_empty();
        if self.platforms.is_empty() && !has_some {
            self.found.missing.push("every image of the index".to_owned());
        }
    }

    /// One image; `is_first` if its labels stand for the whole.
    async fn image(&mut self, view: &ManifestView, is_first: bool) -> Result<(), Error> {
        let Some(configuration) = view.blobs.first() else { return Ok(()) };
        if !RUNNABLE.contains(&configuration.media_type.as_str()) {
            self.found.no_image = Some(format!("is an artifact ({}) and no image", configuration.media_type));
            return Ok(());
        }
        let needed = view.blobs.iter().filter(|blob| !oci::media_type::is_nondistributable(&blob.media_type));
        for blob in needed {
            if !self.registry.has_blob(self.repository, &blob.digest).await? {
                self.found.missing.push(format!("the blob {}", blob.digest));
            }
        }
        if is_first && self.found.missing.is_empty() {
            self.read_configuration(&configuration.digest).await?;
        }
        Ok(())
    }

    /// An image that stands alone says itself what it runs on.
    fn check_alone(&mut self) {
        let (Some(own), false) = (self.own.clone(), self.platforms.is_empty()) else { return };
        if let Some(wanted) = self.platforms.iter().find(|wanted| !wanted.takes(&own)) {
            self.found.no_image = Some(format!("is for {own} and not for {wanted}"));
        }
    }

    async fn read_configuration(&mut self, digest: &Digest) -> Result<(), Error> {
        let Some(bytes) = small(self.registry.blob(self.repository, digest).await?).await? else { return Ok(()) };
        let Ok(configuration) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return Ok(()) };
        self.own = serde_json::from_value(configuration.clone()).ok();
        self.found.created = configuration["created"].as_str().and_then(millis);
        let labels = configuration["config"]["Labels"].as_object().into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        self.found.labels.extend(labels);
        Ok(())
    }
}

/// Docker keeps what is said of an image as an image for a platform that nobody has.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
        || descriptor.annotations.as_ref().is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"))
}

/// The bytes of a blob, unless they are too many.
async fn small(blob: oci::Blob) -> Result<Option<Bytes>, Error> {
    let size = blob.size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= LARGEST_CONFIGURATION);
    let Some(size) = size else { return Ok(None) };
    match blob.content {
        BlobContent::Bytes(bytes) => Ok(Some(bytes)),
        BlobContent::File(file) => {
            let read = move || {
                let mut bytes = vec![0; size];
                std::os::unix::fs::FileExt::read_exact_at(&*file, &mut bytes, 0).map(|()| Bytes::from(bytes))
            };
            let read =
                tokio::task::spawn_blocking(read).await.map_err(|error| Error::internal("reading a configuration", error))?;
            read.map(Some).map_err(|error| Error::internal("reading a configuration", error))
        }
        BlobContent::Source(source) => {
            let (mut stream, mut bytes) = (source.open(0, None).await?, BytesMut::with_capacity(size));
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk?);
            }
            Ok(Some(bytes.freeze()))
        }
        BlobContent::Growing(_) => Ok(None),
    }
}

/// A time as text, in milliseconds since 1970. [RFC 3339]
fn millis(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
