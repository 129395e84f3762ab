//! Where a store is, and opening it there.

use std::fmt;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use telemetry::{Clock, Metrics};

use crate::bucket::{self, Bucket, Parts, Provider, Transport};
use crate::conditional;
use crate::disk::{Disk, LocalDisk};
use crate::error::Error;
use crate::folder::{Folder, FolderError};
use crate::lock;

/// See [`Surroundings::log_size`]. A start after a crash plays back as much, or a few times that.
const LOG_SIZE: u64 = 2 * 1024 * 1024;

/// Where content rests: the value of `storage.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In this process, gone with it.
    Memory,
    /// In a local folder.
    Folder(PathBuf),
    /// In a bucket of an object store.
    Bucket(Box<Bucket>),
}

/// The text is not a location that this version can store at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A bucket without a name, or with a prefix that is none.
    #[error("{0:?} does not name a bucket; write it as s3://BUCKET or s3://BUCKET/PREFIX")]
    Bucket(String),
    /// Anything else.
    #[error("{0:?} is not a storage URL; use file:PATH, s3://BUCKET/PREFIX, gs://…, az://… or memory:")]
    Unknown(String),
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| LocationError::Unknown(text.to_owned()))?;
        match scheme {
            "memory" if matches!(rest, "" | "//") => Some(Self::Memory),
            "file" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(LocationError::Unknown(text.to_owned()));
                }
                Some(Self::Folder(PathBuf::from(path)))
            }
            "s3" => read_bucket(Provider::S3, rest),
            "gs" => read_bucket(Provider::Gcs, rest),
            "az" => read_bucket(Provider::Azure, rest),
            _ => return Err(LocationError::Unknown(text.to_owned())),
        }
        .ok_or_else(|| LocationError::Bucket(text.to_owned()))
    }
}

fn read_bucket(provider: Provider, rest: &str) -> Option<Location> {
    let (name, prefix) = rest.strip_prefix("//")?.split_once('/').unwrap_or((rest.strip_prefix("//")?, ""));
    let prefix = prefix.trim_end_matches('/');
    let allowed = |text: &str, more: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter));
    let whole = prefix.is_empty() || prefix.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let valid = !name.is_empty() && allowed(name, "-._") && allowed(prefix, "-._/") && whole;
    valid.then(|| Location::Bucket(Box::new(Bucket::new(provider, name, prefix))))
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => formatter.write_str("memory:"),
            Self::Folder(path) => write!(formatter, "file:{}", path.display()),
            Self::Bucket(bucket) => bucket.fmt(formatter),
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
    /// Settings of the bucket that cannot be used.
    #[error("the settings for {location} cannot be used: {reason}")]
    Settings {
        /// The bucket.
        location: String,
        /// Why.
        reason: String,
    },
    /// The bucket cannot be reached, or we may not use it.
    #[error("cannot use {location}: {}; check storage.endpoint, the bucket's name and the credentials", telemetry::chain(source))]
    Unusable {
        /// The bucket.
        location: String,
        /// Why.
        source: Error,
    },
    /// Two servers would lose each other's writes.
    #[error(
        "{location} does not keep its word on conditional writes: {reason}. Two servers on it would lose each other's changes; set \
         storage.single_server = true if this is the only one"
    )]
    Conditional {
        /// The bucket.
        location: String,
        /// What it did.
        reason: &'static str,
    },
    /// The store failed at once.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What a store lives in.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// The way to a bucket; needed for nothing else.
    pub transport: Option<Transport>,
    /// The file layer of a folder.
    pub disk: Arc<dyn Disk>,
    /// Bytes of the redo log of a folder after which what stands in it is brought to its own place.
    pub log_size: u64,
}

impl Surroundings {
    /// Those of a store that is in memory or on this machine.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { clock, metrics, transport: None, disk: Arc::new(LocalDisk), log_size: LOG_SIZE }
    }
}

/// An opened backend.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The same store as a folder, where it is one.
    pub(crate) folder: Option<Folder>,
    /// The same store by parts, where it is no folder.
    pub(crate) parts: Option<Parts>,
    /// Nobody else writes to it: what was read stays right until we change it.
    pub(crate) exact: bool,
    /// It keeps its word on conditional writes.
    pub(crate) conditional: bool,
}

impl Backend {
    pub(crate) async fn open(location: &Location, around: &Surroundings) -> Result<Self, OpenError> {
        match location {
            Location::Memory => {
                let memory = Arc::new(InMemory::new());
                let parts = Parts::new(Arc::clone(&memory) as _, "");
                Ok(Self { objects: memory, folder: None, parts: Some(parts), exact: true, conditional: true })
            }
            Location::Folder(path) => Self::open_folder(path, around),
            Location::Bucket(bucket) => Self::open_bucket(bucket, around).await,
        }
    }

    fn open_folder(path: &FsPath, around: &Surroundings) -> Result<Self, OpenError> {
        let folder = Folder::open(path, Arc::clone(&around.disk), Arc::clone(&around.clock), around.log_size);
        let folder = folder.map_err(|error| match error {
            FolderError::Stranger(stranger) => OpenError::NotAStore { path: path.to_owned(), stranger },
            FolderError::Io(source) if source.kind() == io::ErrorKind::WouldBlock => {
                OpenError::InUse { path: path.to_owned(), holder: lock::holder(path) }
            }
            FolderError::Io(source) => OpenError::NotWritable { path: path.to_owned(), source },
        })?;
        let objects = Arc::new(folder.clone());
        Ok(Self { objects, folder: Some(folder), parts: None, exact: true, conditional: true })
    }

    async fn open_bucket(bucket: &Bucket, around: &Surroundings) -> Result<Self, OpenError> {
        let location = bucket.to_string();
        let settings = |reason: String| OpenError::Settings { location: location.clone(), reason };
        let transport = around.transport.clone().ok_or_else(|| settings("there is no way out of this process".to_owned()))?;
        let opened = bucket::open(bucket, transport).map_err(|cause| settings(telemetry::chain(&cause)))?;
        let broken = conditional::broken(opened.objects.as_ref()).await;
        let broken = broken.map_err(|source| OpenError::Unusable { location: location.clone(), source })?;
        match broken {
            Some(reason) if !bucket.single_server => return Err(OpenError::Conditional { location, reason }),
            Some(reason) => {
                tracing::warn!(storage = location, reason, "no conditional writes: never start a second server on it");
            }
            None => {}
        }
        Ok(Self {
            objects: opened.objects,
            folder: None,
            parts: Some(opened.parts),
            exact: bucket.single_server,
            conditional: broken.is_none(),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
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
        for text in ["s3://images", "s3://images/roadstead", "gs://images/a/b", "az://images"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        for text in ["s3:", "s3://", "s3:images", "s3:///x", "gs://images//x", "az://images/../x", "s3://a b"] {
            assert!(matches!(text.parse::<Location>(), Err(LocationError::Bucket(_))), "{text}");
        }
    }
}
