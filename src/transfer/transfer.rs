//! The copier as its callers see it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Digest, Manifest, ManifestStat, ManifestView, Pull, Push, Reference, RepositoryName, Tag};
use telemetry::Clock;
use tokio::sync::Semaphore;

use crate::error::{Error, Piece};
use crate::graph::{Copy, Node, Placed};
use crate::locks::Locks;
use crate::options::Options;
use crate::platforms;
use crate::progress::Progress;
use crate::retry::Patience;
use crate::source::Source;

/// So many blobs are remembered with a repository that they can be mounted from.
const REMEMBERED: usize = 100_000;

/// Copies graphs of content from one source to one target. Copies of one value share its limits, and a blob that several of them need
/// at the same time is copied once.
pub struct Transfer {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) target: Arc<dyn Push>,
    /// The target, to be read from.
    pub(crate) back: Option<Arc<dyn Pull>>,
    pub(crate) options: Options,
    pub(crate) patience: Arc<Patience>,
    /// Blobs that may be on their way at the same time.
    pub(crate) places: Semaphore,
    pub(crate) blobs: Locks<Digest>,
    pub(crate) manifests: Locks<(RepositoryName, Digest)>,
    /// A repository of the target that serves a blob.
    known: Mutex<HashMap<Digest, RepositoryName>>,
}

/// What a copy did. What was there already is counted as skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The digest that the reference meant.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Manifests that were pushed, referrers included.
    pub manifests: u64,
    /// Manifests that were there.
    pub manifests_skipped: u64,
    /// Blobs whose bytes were moved.
    pub blobs_copied: u64,
    /// Blobs that the target had in another repository.
    pub blobs_mounted: u64,
    /// Blobs that the repository had.
    pub blobs_skipped: u64,
    /// Bytes of the blobs that were copied.
    pub bytes_copied: u64,
    /// Bytes of the blobs that were mounted or skipped, as their descriptors say.
    pub bytes_skipped: u64,
    /// Referrers that were found, new or not; signatures under tags are counted too.
    pub referrers: u64,
    /// Manifests that an index lists and the source lacks; only with [`Options::sparse`].
    pub absent: Vec<Digest>,
    /// Tags that did not point where they point now.
    pub tags_moved: Vec<Tag>,
    /// The index of only the chosen images, if one was asked for and something was left out of it.
    pub trimmed: Option<Digest>,
}

impl Transfer {
    /// A copier. Nothing is asked of either end yet.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, target: Arc<dyn Push>, clock: Arc<dyn Clock>, options: Options) -> Self {
        Self {
            source,
            target,
            back: None,
            patience: Arc::new(Patience::new(clock, &options)),
            places: Semaphore::new(options.blobs_at_once.max(1)),
            options,
            blobs: Locks::new(),
            manifests: Locks::new(),
            known: Mutex::default(),
        }
    }

    /// Reads manifests that the target has from there, by `back`, which is the same target: then an image that has not changed costs
    /// the source one HEAD, and its blobs are looked for in the target one by one. Without it a manifest of an image that the target
    /// has is taken for whole, and an index that it has is read from the source.
    #[must_use]
    pub fn reading_back(mut self, back: Arc<dyn Pull>) -> Self {
        self.back = Some(back);
        self
    }

    /// Copies what `reference` means in `from` and points `tags` at it in `to`. Bytes are never changed. The tags move last, all
    /// together, once everything that belongs to the image is there; without tags it is held under its digest alone.
    ///
    /// May be dropped at any time and called again: what has arrived is not copied twice.
    pub async fn copy(
        &self,
        from: &RepositoryName,
        reference: &Reference,
        to: &RepositoryName,
        tags: &[Tag],
        progress: &Progress,
    ) -> Result<Copied, Error> {
        self.copy_trimmed(from, reference, to, tags, &[], progress).await
    }

    /// As [`Transfer::copy`], and points `trimmed` at an index of only the platforms that were chosen, made by leaving the others out
    /// of the original. Where nothing is to be left out these tags point at the original.
    pub async fn copy_trimmed(
        &self,
        from: &RepositoryName,
        reference: &Reference,
        to: &RepositoryName,
        tags: &[Tag],
        trimmed: &[Tag],
        progress: &Progress,
    ) -> Result<Copied, Error> {
        let copy = Copy::new(self, from, to, progress);
        let found = self.patience.ask(|| self.source.resolve(from, reference)).await;
        let piece = || Piece::Manifest(from.clone(), reference.clone());
        let stat = found.map_err(|cause| copy.source(piece(), cause))?;
        let mut moving = copy.moving(tags, &stat.digest).await?;
        // With its tags at once where nothing comes between them; that is one request less.
        let at_once: &[Tag] = if self.options.referrers || !trimmed.is_empty() { &[] } else { &moving };
        let root = Node { digest: &stat.digest, media_type: &stat.media_type, depth: 0, lenient: false, tags: at_once };
        let placed = copy.node(root).await?;
        if self.options.referrers {
            copy.referrers().await?;
        }
        let tagged = placed.pushed && !at_once.is_empty();
        let manifest = placed.manifest;
        let smaller = match trimmed {
            [] => None,
            tags => self.trim(&copy, &stat, manifest.as_ref(), tags, &mut moving).await?,
        };
        if !tagged && !moving.is_empty() {
            let manifest = match manifest {
                Some(manifest) => manifest,
                None => copy.read(&stat.digest, true).await?,
            };
            copy.push(&manifest, &moving).await?;
        }
        Ok(copied(stat, copy, moving, smaller))
    }

    /// Copies what refers to `subject`, or to a manifest that it lists, and was attached since it was copied itself. The subject is
    /// in both places; the tags that clients without the referrers API use are copied too.
    pub async fn copy_referrers(
        &self,
        from: &RepositoryName,
        subject: &Digest,
        to: &RepositoryName,
        progress: &Progress,
    ) -> Result<Copied, Error> {
        let copy = Copy::new(self, from, to, progress);
        let there = self.patience.ask(|| self.target.has_manifest(to, subject)).await;
        let there = there.map_err(|cause| copy.target(copy.piece(subject), cause))?;
        let manifest = copy.read(subject, there).await?;
        let stat = manifest.stat();
        let root = Node { digest: subject, media_type: &stat.media_type, depth: 0, lenient: false, tags: &[] };
        let Placed { .. } = copy.node(root).await?;
        copy.referrers().await?;
        Ok(copied(stat, copy, Vec::new(), None))
    }

    /// Pushes the index of only the chosen images. Where that is the original, its tags are among those that move to it.
    async fn trim(
        &self,
        copy: &Copy<'_>,
        stat: &ManifestStat,
        manifest: Option<&Manifest>,
        tags: &[Tag],
        moving: &mut Vec<Tag>,
    ) -> Result<Option<Digest>, Error> {
        let smaller = manifest.and_then(|manifest| self.trimmed(manifest));
        let Some(smaller) = smaller else {
            moving.extend(copy.moving(tags, &stat.digest).await?);
            return Ok(None);
        };
        let tags = copy.moving(tags, &smaller.digest).await?;
        if !tags.is_empty() {
            copy.push(&smaller, &tags).await?;
        }
        Ok(Some(smaller.digest))
    }

    fn trimmed(&self, manifest: &Manifest) -> Option<Manifest> {
        let view = ManifestView::parse(&manifest.bytes, Some(&manifest.media_type)).ok()?;
        let chosen = platforms::chosen(&view.manifests, &self.options.platforms).ok()?;
        platforms::trimmed(manifest, &chosen)
    }

    /// Remembers that a repository of the target serves a blob.
    pub(crate) fn placed(&self, digest: &Digest, name: &RepositoryName) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.insert(digest.clone(), name.clone());
        }
    }

    /// A repository of the target that serves a blob, if one is remembered.
    pub(crate) fn place_of(&self, digest: &Digest) -> Option<RepositoryName> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transfer").field("options", &self.options).finish_non_exhaustive()
    }
}

fn copied(stat: ManifestStat, copy: Copy<'_>, tags_moved: Vec<Tag>, trimmed: Option<Digest>) -> Copied {
    let tally = copy.into_tally();
    Copied {
        digest: stat.digest,
        media_type: stat.media_type,
        size: stat.size,
        manifests: tally.manifests,
        manifests_skipped: tally.manifests_skipped,
        blobs_copied: tally.blobs_copied,
        blobs_mounted: tally.blobs_mounted,
        blobs_skipped: tally.blobs_skipped,
        bytes_copied: tally.bytes_copied,
        bytes_skipped: tally.bytes_skipped,
        referrers: tally.referrers,
        absent: tally.absent.into_iter().collect(),
        tags_moved,
        trimmed,
    }
}
