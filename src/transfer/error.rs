//! What failed, and at which piece of content.

use std::fmt;

use oci::{Digest, Reference, RepositoryName};

/// A piece of content, as an error names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A manifest, by the reference with which it was asked for.
    Manifest(RepositoryName, Reference),
    /// A blob.
    Blob(RepositoryName, Digest),
    /// The list of what refers to a manifest.
    Referrers(RepositoryName, Digest),
}

impl fmt::Display for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(name, Reference::Tag(tag)) => write!(formatter, "the manifest {name}:{tag}"),
            Self::Manifest(name, Reference::Digest(digest)) => write!(formatter, "the manifest {name}@{digest}"),
            Self::Blob(name, digest) => write!(formatter, "the blob {digest} of {name}"),
            Self::Referrers(name, digest) => write!(formatter, "the referrers of {name}@{digest}"),
        }
    }
}

/// Why a copy ended early. What had arrived until then stays in the target, without tags.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source did not give a piece of content, or gave other bytes than its digest says.
    #[error("{piece} could not be read from the source")]
    Source {
        /// What was read.
        piece: Piece,
        /// What the source said.
        #[source]
        cause: oci::Error,
    },
    /// The target did not take a piece of content.
    #[error("{piece} could not be written to the target")]
    Target {
        /// What was written.
        piece: Piece,
        /// What the target said.
        #[source]
        cause: oci::Error,
    },
    /// The index has no image of a platform that is wanted.
    #[error("{piece} has none of the wanted platforms, but {}", listed(.offered))]
    NoPlatform {
        /// The index.
        piece: Piece,
        /// The platforms that it has.
        offered: Vec<oci::Platform>,
    },
    /// More content than any image has: nested too deeply, or too much that refers to it.
    #[error("{piece} is not copied: {reason}")]
    Unreasonable {
        /// Where the limit was met.
        piece: Piece,
        /// Which limit it was.
        reason: String,
    },
}

fn listed(platforms: &[oci::Platform]) -> String {
    if platforms.is_empty() {
        return "none at all".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}

/// A registry limits requests; the copy can go on later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// When to come back, in seconds, if the registry said so.
    pub retry_after: Option<u64>,
}

impl Error {
    /// Was it the quota of a registry, so that the same copy is to be tried again later?
    #[must_use]
    pub fn limited(&self) -> Option<Limited> {
        match self.cause()? {
            oci::Error::TooManyRequests { retry_after, .. } => Some(Limited { retry_after: *retry_after }),
            _ => None,
        }
    }

    /// What the source or the target said.
    #[must_use]
    pub fn cause(&self) -> Option<&oci::Error> {
        match self {
            Self::Source { cause, .. } | Self::Target { cause, .. } => Some(cause),
            Self::NoPlatform { .. } | Self::Unreasonable { .. } => None,
        }
    }

    /// The piece of content at which the copy ended.
    #[must_use]
    pub fn piece(&self) -> &Piece {
        match self {
            Self::Source { piece, .. }
            | Self::Target { piece, .. }
            | Self::NoPlatform { piece, .. }
            | Self::Unreasonable { piece, .. } => piece,
        }
    }
}
