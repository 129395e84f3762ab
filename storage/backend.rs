//! Where a store is, and opening it there.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use telemetry::Clock;

use crate::folder::{Folder, FolderError};
use crate::lock;

/// Where content rests: the value of `storage.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In this process, gone with it.
    Memory,
    /// In a local folder.
    Folder(PathBuf),
}

/// The text is not a location that this version can store at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Object storage of a cloud.
    #[error("{0}: storage is not supported by this version; use file:PATH or memory:")]
    NotYet(String),
    /// Anything else.
    #[error("{0:?} is not a storage URL; use file:PATH or memory:")]
    Unknown(String),
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| LocationError::Unknown(text.to_owned()))?;
        match scheme {
            "memory" if matches!(rest, "" | "//") => Ok(Self::Memory),
            "file" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(LocationError::Unknown(text.to_owned()));
                }
                Ok(Self::Folder(PathBuf::from(path)))
            }
            "s3" | "gs" | "az" => Err(LocationError::NotYet(scheme.to_owned())),
            _ => Err(LocationError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => formatter.write_str("memory:"),
            Self::Folder(path) => write!(formatter, "file:{}", path.display()),
        }
    }
}

/// Why a store could not be opened. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has the folder.
    #[error("the folder {} is in use by another roadstead{holder}; stop that one or set storage.url to another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// ` (process N)` where it is known.
        holder: String,
    },
    /// The folder cannot be written.
    #[error("cannot write to the folder {}: {source}; make it writable for this user or set storage.url to another folder", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder holds something else.
    #[error(
        "the folder {} is not empty and not a store of roadstead: {} is in it; set storage.url to an empty folder",
        path.display(),
        stranger.display()
    )]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        stranger: PathBuf,
    },
    /// What is there was written by another version.
    #[error("the store has layout {found:?}, this version reads layout {expected:?}; use the version of roadstead that wrote it")]
    Layout {
        /// The layout that was found.
        found: String,
        /// The layout of this version.
        expected: &'static str,
    },
    /// The store failed at once.
    #[error(transparent)]
    Store(#[from] crate::error::Error),
}

/// An opened backend.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The same store as a folder, where it is one.
    pub(crate) folder: Option<Folder>,
}

impl Backend {
    pub(crate) fn open(location: &Location, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        match location {
            Location::Memory => Ok(Self { objects: Arc::new(InMemory::new()), folder: None }),
            Location::Folder(path) => {
                let folder = Folder::open(path, clock).map_err(|error| match error {
                    FolderError::Stranger(stranger) => OpenError::NotAStore { path: path.clone(), stranger },
                    FolderError::Io(source) if source.kind() == io::ErrorKind::WouldBlock => {
                        OpenError::InUse { path: path.clone(), holder: lock::holder(path) }
                    }
                    FolderError::Io(source) => OpenError::NotWritable { path: path.clone(), source },
                })?;
                Ok(Self { objects: Arc::new(folder.clone()), folder: Some(folder) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_from_urls() {
        assert_eq!("memory:".parse(), Ok(Location::Memory));
        assert_eq!("file:./data".parse(), Ok(Location::Folder("./data".into())));
        assert_eq!("file:///var/lib/x".parse(), Ok(Location::Folder("/var/lib/x".into())));
        for text in ["", "data", "file:", "file://", "ftp://x", "memory:x"] {
            assert!(matches!(text.parse::<Location>(), Err(LocationError::Unknown(_))), "{text}");
        }
        assert!(matches!("s3://bucket".parse::<Location>(), Err(LocationError::NotYet(_))));
    }
}
