//! Bundles: chosen images with all that belongs to them in one OCI layout, a tar file or a folder, to be carried over an air gap.
//!
//! A bundle of the same images is the same file, byte for byte, whoever writes it and in whatever order its content arrives. It is read
//! by anything that knows the image layout: `skopeo copy oci-archive:BUNDLE:REPOSITORY:TAG …`. Images of
//! Docker's media types stay what they are; skopeo looks in a layout for those of OCI only.

use std::path::Path;
use std::slice;
use std::sync::Arc;

use oci::{Digest, Push, Reference, RepositoryName};
use telemetry::Clock;

use crate::layout::{self, Folder, Layout};
use crate::options::Options;
use crate::progress::Progress;
use crate::source::Source;
use crate::transfer::{Copied, Transfer};

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
    pub digest: Digest,
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
/// absent. Referrers are in it unless `options` say otherwise. What a sparse index of the source lacks is left out and told in
/// [`Copied::absent`]; an image none of which is there is an error.
///
/// While it is put together its content lies in a hidden folder beside `out`. Gives what was copied for each image, in their order.
pub async fn export(
    source: Arc<dyn Source>,
    images: &[(RepositoryName, Reference)],
    out: &Path,
    format: Format,
    clock: Arc<dyn Clock>,
    options: Options,
    progress: &Progress,
) -> Result<Vec<Copied>, Error> {
    if images.is_empty() {
        return Err(Error::Nothing);
    }
    let beside = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || layout::Error::written(out);
    if format == Format::Folder && out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(layout::Error::form(out, "it is a folder with other things in it").into());
    }
    let spool = tempfile::Builder::new().prefix(".bundle-").tempdir_in(beside).map_err(written())?;
    let folder = Arc::new(Folder::passing(spool.path()).await?);
    let options = Options { sparse: true, ..options };
    let transfer = Transfer::new(source, Arc::<Folder>::clone(&folder), clock, options);
    let mut done = Vec::new();
    for (name, reference) in images {
        done.push(match reference {
            Reference::Tag(tag) => transfer.copy(name, reference, name, slice::from_ref(tag), progress).await?,
            Reference::Digest(digest) => {
                let copied = transfer.copy(name, reference, name, &[], progress).await?;
                folder.name_digest(name, digest).await?;
                copied
            }
        });
    }
    match format {
        Format::Tar => folder.write_tar(out).await?,
        Format::Folder => {
            folder.write_names().await?;
            folder.settle().await?;
            std::fs::rename(spool.keep(), out).map_err(written())?;
        }
    }
    Ok(done)
}

/// Reads a bundle, a tar file or a folder, and pushes its images to `target`. Every digest in it is checked before anything is pushed.
///
/// `rename` says into which repository an image goes; `None` leaves it out, and the answer tells so. [`as_named`] keeps its name.
pub async fn import(
    path: &Path,
    target: Arc<dyn Push>,
    rename: &(dyn Fn(&Image) -> Option<RepositoryName> + Sync),
    clock: Arc<dyn Clock>,
    options: Options,
    progress: &Progress,
) -> Result<Vec<Imported>, Error> {
    let layout = Arc::new(Layout::open(path).await?);
    layout.verify(progress).await?;
    let images = layout.images();
    // What a bundle lacks of an index was lacking where it was written.
    let options = Options { sparse: true, ..options };
    let transfer = Transfer::new(Arc::<Layout>::clone(&layout), target, clock, options);
    let mut done = Vec::new();
    for image in images {
        let Some(to) = rename(&image) else {
            done.push(Imported { image, to: None });
            continue;
        };
        // What has no repository of its own is in any.
        let from = image.repository.as_ref().unwrap_or(&to);
        let tags = match &image.reference {
            Reference::Tag(tag) => slice::from_ref(tag),
            Reference::Digest(_) => &[],
        };
        // By its digest: its tag may be another image's in the repository that it goes to.
        let reference = Reference::Digest(image.digest.clone());
        let copied = transfer.copy(from, &reference, &to, tags, progress).await?;
        done.push(Imported { image, to: Some((to, copied)) });
    }
    Ok(done)
}

/// The name of an image as it is in the bundle: what has no repository there is left out.
#[must_use]
pub fn as_named(image: &Image) -> Option<RepositoryName> {
    image.repository.clone()
}

/// The images of a bundle, in order of their names, without checking its blobs.
pub async fn list(path: &Path) -> Result<Vec<Image>, Error> {
    Ok(Layout::open(path).await?.images())
}
