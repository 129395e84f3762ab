//! The copier as its callers see it.

use std::sync::Arc;

use oci::{Digest, Pull, Push, Reference, RepositoryName, Tag};
use telemetry::Clock;

use crate::error::Error;
use crate::options::Options;
use crate::progress::Progress;
use crate::source::Source;

/// Copies graphs of content from one source to one target. Copies of one value share its limits, and a blob that several of them need
/// at the same time is copied once.
pub struct Transfer {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) target: Arc<dyn Push>,
    /// The target, to be read from.
    pub(crate) back: Option<Arc<dyn Pull>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
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
        Self { source, target, back: None, clock, options }
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
    ) -> Result<Copied, Error>;

    /// Copies what refers to `subject`, or to a manifest that it lists, and was attached since it was copied itself. The subject is
    /// in both places; the tags that clients without the referrers API use are copied too.
    pub async fn copy_referrers(
        &self,
        from: &RepositoryName,
        subject: &Digest,
        to: &RepositoryName,
        progress: &Progress,
    ) -> Result<Copied, Error>;
}
