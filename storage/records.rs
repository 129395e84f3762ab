//! Small objects of the rooms above, each changed by compare-and-swap: durable work, and what else is neither content nor a pointer to
//! it.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{PutMode, UpdateVersion};

use crate::error::Error;
use crate::objects::{Changed, Objects};
use crate::store::Store;

/// The small objects under one prefix. Keys are `a/b/c`, of letters, digits, `-`, `_`, `.`, `=`. Cheap to clone.
///
/// Nothing is remembered: what is read is what the store has. Changes are durable when they return; after an error they may have been
/// made.
#[derive(Clone, Debug)]
pub struct Records {
    objects: Objects,
    prefix: Path,
    exact: bool,
}

/// The version of a record, to swap against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordVersion(UpdateVersion);

/// What a conditional look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordChange {
    /// The version that was known.
    Unchanged,
    /// Another one.
    To(Bytes, RecordVersion),
    /// Nothing.
    Gone,
}

impl Store {
    /// The records under a prefix, which is to be that of one room alone.
    #[must_use]
    pub fn records(&self, prefix: &str) -> Records {
        Records { objects: self.objects.clone(), prefix: Path::from(prefix), exact: self.backend.exact }
    }
}

impl Records {
    /// The record and its version; `None` if it is not there.
    pub async fn read(&self, key: &str) -> Result<Option<(Bytes, RecordVersion)>, Error> {
        let found = self.objects.read(&self.path(key)).await?;
        Ok(found.map(|(bytes, version)| (bytes, RecordVersion(version))))
    }

    /// As [`Records::read`], but only if the record has another version than `known`.
    pub async fn read_if_changed(&self, key: &str, known: &RecordVersion) -> Result<RecordChange, Error> {
        Ok(match self.objects.read_if_changed(&self.path(key), &known.0).await? {
            Changed::Not => RecordChange::Unchanged,
            Changed::To(bytes, version) => RecordChange::To(bytes, RecordVersion(version)),
            Changed::Gone => RecordChange::Gone,
        })
    }

    /// Writes the record if it has the `expected` version, or if it is not there where none is expected. Gives the new version;
    /// `None` if it is otherwise, unless it already is what was to be written: an answer that was lost cannot be told from somebody
    /// else's same write.
    pub async fn swap(&self, key: &str, bytes: Bytes, expected: Option<&RecordVersion>) -> Result<Option<RecordVersion>, Error> {
        let path = self.path(key);
        let mode = expected.map_or(PutMode::Create, |version| PutMode::Update(version.0.clone()));
        Ok(self.objects.swap_in_turn(&path, bytes, mode).await?.map(RecordVersion))
    }

    /// Removes the record. Absence is no error.
    pub async fn remove(&self, key: &str) -> Result<(), Error> {
        self.objects.delete(&self.path(key)).await
    }

    /// The last segments of the records right under `prefix`, sorted; none for an unknown prefix. What lies deeper is left out.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let children = self.objects.children(&self.path(prefix)).await?;
        Ok(children.into_iter().map(|(segment, _)| segment).collect())
    }

    /// Does nobody but this process write to the store?
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.exact
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}/{key}", self.prefix))
    }
}
