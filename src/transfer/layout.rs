//! The image layout of the specification, in a folder or a tar file, as source and as target. [image-spec, Image Layout]
//!
//! A layout is one pool of content: every repository that it names serves all of it. Its names stand in `index.json` as annotations:
//! `org.opencontainers.image.ref.name`, which the tools of others select by, and `io.containerd.image.name`, both the full
//! `repository:tag` in what is written here. What is not named there, neither itself nor below something named, stands there without a
//! name, referrers above all: they are found again by their subjects.
//!
//! Layouts of strangers are read with bounds on everything, nothing of them is ever unpacked to a path that they choose, and every
//! manifest is checked against its digest before it is believed. [`Layout::verify`] checks all the rest.

mod blobs;
mod catalog;
mod folder;
mod index;
mod read;
mod tar_file;
mod verify;

use std::io;
use std::path::PathBuf;

use oci::Digest;

pub use folder::Folder;
pub use read::Layout;

/// The file that says that a folder is a layout.
pub(crate) const MARK: &str = "oci-layout";
/// The file of names.
pub(crate) const INDEX: &str = "index.json";
/// The largest manifest that is read, in bytes, as in the registry.
pub(crate) const LARGEST_MANIFEST: u64 = 8 * 1024 * 1024;
/// The largest `index.json` that is read: some tens of thousands of names.
pub(crate) const LARGEST_INDEX: u64 = 32 * 1024 * 1024;
/// The most manifests of one layout.
pub(crate) const MOST_MANIFESTS: usize = 100_000;
/// The most entries of a tar file.
pub(crate) const MOST_ENTRIES: usize = 1_000_000;

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no layout, or it is none that can be read.
    #[error("{} is not an OCI layout that can be read: {reason}", .path.display())]
    Form {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Content is missing, is not what its digest says, or is not as long as is said of it.
    #[error("{} is damaged: the blob {digest} {reason}", .path.display())]
    Damaged {
        /// The folder or file.
        path: PathBuf,
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder or file could not be read or written.
    #[error("{} could not be {doing}", .path.display())]
    File {
        /// The folder or file.
        path: PathBuf,
        /// What was being done: read, written.
        doing: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl Error {
    pub(crate) fn form(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Form { path: path.into(), reason: reason.into() }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, digest: &Digest, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), digest: digest.clone(), reason: reason.into() }
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, doing: "read", cause }
    }

    pub(crate) fn written(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, doing: "written", cause }
    }
}

/// Work on files, where no task waits behind it.
pub(crate) async fn blocking<T: Send + 'static>(
    path: &std::path::Path,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(cause) => Err(Error::File { path: path.to_owned(), doing: "read", cause: io::Error::other(cause) }),
    }
}
