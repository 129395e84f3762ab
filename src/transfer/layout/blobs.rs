//! The blobs of a layout, wherever they lie: each is a part of a file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci::{Algorithm, Digest};

use crate::source::Section;

/// Where the blobs of a layout are.
pub(crate) enum Blobs {
    /// Each in its own file below this folder.
    Folder(PathBuf),
    /// All in one file, at these places.
    Tar { path: PathBuf, file: Arc<File>, places: BTreeMap<Digest, Place> },
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl Blobs {
    /// The folder or file, as errors name it.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Tar { path, .. } => path,
        }
    }

    /// A blob's size in bytes; `None` if it is not there.
    pub(crate) fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match self {
            Self::Folder(root) => match fs::symlink_metadata(blob_path(root, digest)) {
                // A link may lead anywhere.
                Ok(found) => Ok(found.is_file().then_some(found.len())),
                Err(cause) => absent(cause),
            },
            Self::Tar { places, .. } => Ok(places.get(digest).map(|place| place.length)),
        }
    }

    /// A blob, to be read; `None` if it is not there.
    pub(crate) fn section(&self, digest: &Digest) -> io::Result<Option<Section>> {
        match self {
            Self::Folder(root) => {
                let Some(length) = self.size(digest)? else { return Ok(None) };
                match File::open(blob_path(root, digest)) {
                    Ok(file) => Ok(Some(Section { file: Arc::new(file), start: 0, length })),
                    Err(cause) => absent(cause),
                }
            }
            Self::Tar { file, places, .. } => {
                Ok(places.get(digest).map(|place| Section { file: Arc::clone(file), start: place.start, length: place.length }))
            }
        }
    }

    /// The bytes of a small blob.
    pub(crate) fn bytes(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        self.section(digest)?.map(|section| section.bytes()).transpose()
    }

    /// All blobs in order of their digests, with their sizes.
    pub(crate) fn all(&self) -> io::Result<Vec<(Digest, u64)>> {
        match self {
            Self::Folder(root) => {
                let mut all = Vec::new();
                for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                    let folder = root.join("blobs").join(algorithm.as_str());
                    let entries = match fs::read_dir(&folder) {
                        Ok(entries) => entries,
                        Err(cause) if cause.kind() == ErrorKind::NotFound => continue,
                        Err(cause) => return Err(cause),
                    };
                    for entry in entries {
                        let entry = entry?;
                        let name = entry.file_name();
                        let Some(digest) = name.to_str().and_then(|hex| Digest::from_hex(algorithm, hex).ok()) else { continue };
                        let found = entry.metadata()?;
                        if found.is_file() {
                            all.push((digest, found.len()));
                        }
                    }
                }
                all.sort_unstable();
                Ok(all)
            }
            Self::Tar { places, .. } => Ok(places.iter().map(|(digest, place)| (digest.clone(), place.length)).collect()),
        }
    }
}

impl Section {
    /// All of it. The caller has looked at its length.
    pub(crate) fn bytes(&self) -> io::Result<Bytes> {
        let mut buffer = vec![0; usize::try_from(self.length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut buffer, self.start)?;
        Ok(Bytes::from(buffer))
    }
}

/// Where a blob lies in a folder.
pub(crate) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

/// What is not there is no failure.
fn absent<T>(cause: io::Error) -> io::Result<Option<T>> {
    if cause.kind() == ErrorKind::NotFound { Ok(None) } else { Err(cause) }
}
