//! Bundles: chosen images with all that belongs to them in one OCI layout, a tar file or a folder, to be carried over an air gap.
//!
//! A bundle of the same images is the same file, byte for byte, whoever writes it and in whatever order its content arrives. It is read
//! by anything that knows the image layout: `skopeo copy oci-archive:BUNDLE:REPOSITORY:TAG …`.

use std::path::Path;
use std::sync::Arc;

use oci::{Push, Reference, RepositoryName, Tag};
use telemetry::Clock;

use crate::layout;
use crate::options::Options;
use crate::progress::Progress;
use crate::source::Source;
use crate::transfer::Copied;

/// The form of a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One tar file, not compressed: most layers are.
    #[default]
    Tar,
    /// A folder.
    Folder,
}

/// An image as a bundle names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The repository; `None` in a layout by others that says a tag only, or nothing.
    pub repository: Option<RepositoryName>,
    /// Its tag, or its digest if it has none.
    pub reference: Reference,
    /// Its digest.
    pub digest: oci::Digest,
}

/// What an import did with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The image.
    pub image: Image,
    /// Where it is now, and what was copied for that; `None` if it was left out.
    pub to: Option<(RepositoryName, Copied)>,
}

/// Why there is no bundle, or nothing was imported from it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle cannot be read or written, or is damaged: the text names the blob.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// Content could not be read from the source or pushed to the target.
    #[error(transparent)]
    Transfer(#[from] crate::Error),
    /// No image was chosen.
    #[error("no image was chosen")]
    Nothing,
}

/// Writes a bundle of `images` to `out`, which appears whole or not at all; a file that is there is replaced, a folder must be empty or
/// absent. Referrers are in it unless `options` say otherwise. What a sparse index of the source lacks is left out.
pub async fn export(
    source: Arc<dyn Source>,
    images: &[(RepositoryName, Reference)],
    out: &Path,
    format: Format,
    clock: Arc<dyn Clock>,
    options: Options,
    progress: &Progress,
) -> Result<Vec<Copied>, Error>;

/// Reads a bundle, a tar file or a folder, and pushes its images to `target`. Every digest in it is checked before anything is pushed.
///
/// `rename` says into which repository an image goes; `None` leaves it out. [`as_named`] keeps its name.
pub async fn import(
    path: &Path,
    target: Arc<dyn Push>,
    rename: &(dyn Fn(&Image) -> Option<RepositoryName> + Sync),
    clock: Arc<dyn Clock>,
    options: Options,
    progress: &Progress,
) -> Result<Vec<Imported>, Error>;

/// The images of a bundle, in order of their names, without checking its content.
pub async fn list(path: &Path) -> Result<Vec<Image>, Error>;
