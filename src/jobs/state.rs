//! Where records lie, as this room sees it: small objects that change by compare-and-swap.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// Small objects by key, under one prefix that is ours alone. A key is `a/b/c`: its segments have letters, digits, `-`, `_`, `.`, `=`.
///
/// A call that gives an error may have been done.
#[async_trait]
pub trait State: Send + Sync {
    /// The object and the version to swap against; `None` if it is not there.
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StateError>;

    /// As [`State::read`], but the object is only fetched if it has another version than `known`.
    async fn read_if_changed(&self, key: &str, known: &Version) -> Result<Changed, StateError> {
        let _ = known;
        Ok(self.read(key).await?.map_or(Changed::Gone, |(bytes, version)| Changed::To(bytes, version)))
    }

    /// Writes the object if it has the `expected` version, or is not there where none is expected. Gives the new version; `None` if
    /// another writer was faster. Durable once it returns.
    async fn swap(&self, key: &str, bytes: Bytes, expected: Option<&Version>) -> Result<Option<Version>, StateError>;

    /// Removes the object. Absence is no error.
    async fn remove(&self, key: &str) -> Result<(), StateError>;

    /// The last segments of the objects right under `prefix`, sorted; none for an unknown prefix. What lies deeper is not listed.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StateError>;

    /// Nobody but this process uses the state: what was read stays right until we change it, and a lease of another owner is that
    /// of a process that has ended.
    fn is_exclusive(&self) -> bool;
}

/// What a conditional look found.
#[derive(Debug)]
pub enum Changed {
    /// The version that was known.
    Not,
    /// Another one.
    To(Bytes, Version),
    /// Nothing.
    Gone,
}

/// The version of an object: whatever the state tells versions by, seen by nobody else.
#[derive(Clone)]
pub struct Version(Arc<dyn Any + Send + Sync>);

impl Version {
    /// Wraps what the state tells versions by.
    #[must_use]
    pub fn new<T: Any + Send + Sync>(version: T) -> Self {
        Self(Arc::new(version))
    }

    /// What was wrapped, if it was a `T`.
    #[must_use]
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Version").finish_non_exhaustive()
    }
}

/// The state failed. What was asked for may have been done.
#[derive(Debug, thiserror::Error)]
#[error("the state of jobs failed on {key}")]
pub struct StateError {
    /// The key that was worked on.
    pub key: String,
    /// Why.
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

impl StateError {
    /// A failure on `key`.
    pub fn new(key: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { key: key.to_owned(), source: source.into() }
    }
}
