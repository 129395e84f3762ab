//! What a mirror remembers from run to run: what each source tag was, and which dated tags were written for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jobs::{State, StateError};
use oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

/// One object for each mirror, changed by compare-and-swap.
#[derive(Clone)]
pub struct Memories(Arc<dyn State>);

/// A mirror's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// When the mirror was first known, in milliseconds since 1970: earlier times of its schedule are not caught up.
    pub since: u64,
    /// Between which repositories the mirror was when this was learned. For others nothing of it holds.
    #[serde(default)]
    pub ends: String,
    /// When a run last ended well, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<u64>,
    /// What is known of each source tag.
    pub tags: BTreeMap<String, Known>,
}

/// A source tag as it was copied last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What it was.
    pub digest: Digest,
    /// When signatures and the like were last looked for, in milliseconds since 1970.
    pub referrers_at: u64,
    /// It was removed because it is gone at the upstream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_gone: bool,
    /// The dated tags that stand for it, in the order in which they were written.
    pub dated: Vec<Dated>,
    /// Dated tags that were removed, the last ones: their names are not used again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Tag>,
}

/// A dated tag that a run wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated {
    /// The tag.
    pub tag: Tag,
    /// What it stands for.
    pub digest: Digest,
    /// The template that it was made by.
    pub template: String,
    /// When it was written, in milliseconds since 1970.
    pub at: u64,
}

/// A memory that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The store failed.
    #[error("the memory of the mirror {mirror} cannot be read or written")]
    State {
        /// Which mirror's.
        mirror: String,
        /// The cause.
        source: StateError,
    },
    /// It holds something else.
    #[error("the memory of the mirror {mirror} is not what was written")]
    Corrupt {
        /// Which mirror's.
        mirror: String,
        /// The cause.
        source: serde_json::Error,
    },
}

impl Memories {
    /// Memories at rest in `state`, under the mirrors' names.
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        Self(state)
    }

    /// The memory of a mirror; `None` if it has none yet.
    pub async fn of(&self, mirror: &str) -> Result<Option<Memory>, MemoryError> {
        let failed = |source| MemoryError::State { mirror: mirror.to_owned(), source };
        match self.0.read(mirror).await.map_err(failed)? {
            None => Ok(None),
            Some((bytes, _)) => parse(mirror, &bytes).map(Some),
        }
    }

    /// Changes the memory of a mirror. `change` is asked again when somebody else was faster.
    pub async fn update(&self, mirror: &str, mut change: impl FnMut(&mut Memory)) -> Result<(), MemoryError> {
        let failed = |source| MemoryError::State { mirror: mirror.to_owned(), source };
        loop {
            let (mut memory, version) = match self.0.read(mirror).await.map_err(failed)? {
                None => (Memory::default(), None),
                Some((bytes, version)) => (parse(mirror, &bytes)?, Some(version)),
            };
            let before = memory.clone();
            change(&mut memory);
            if memory == before && version.is_some() {
                return Ok(());
            }
            let bytes = serde_json::to_vec(&memory);
            let bytes = bytes.map_err(|source| MemoryError::Corrupt { mirror: mirror.to_owned(), source })?;
            if self.0.swap(mirror, Bytes::from(bytes), version.as_ref()).await.map_err(failed)?.is_some() {
                return Ok(());
            }
        }
    }
}

fn parse(mirror: &str, bytes: &[u8]) -> Result<Memory, MemoryError> {
    serde_json::from_slice(bytes).map_err(|source| MemoryError::Corrupt { mirror: mirror.to_owned(), source })
}

impl std::fmt::Debug for Memories {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Memories").finish_non_exhaustive()
    }
}
