//! What a request does to the objects of a folder.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;

use crate::files::{Files, Staged, entity_tag};

/// What a request does to one object.
pub(crate) enum Op {
    /// Writes it, if it is as the condition says.
    Put(Path, Bytes, When),
    /// Gives a blob a file that is on disk already. It is done before the others, for a blob may be there before anything says so.
    Adopt(Path, PathBuf, Arc<File>),
    /// Gives a blob its bytes, which are on disk already in a file without a name, and how many they are. As [`Op::Adopt`].
    Place(Path, Staged, u64),
    /// Removes it.
    Remove(Path),
}

/// What must hold of an object before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Nothing.
    Always,
    /// If it is there, it stays as it is, and that is as good.
    Missing,
    /// The same, if it has the same length.
    NotWhole,
    /// It is not there.
    Absent,
    /// It has this entity tag.
    Is(Option<String>),
}

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is there.
    Exists(Path),
    /// It is not as the condition says.
    Changed(Path),
    /// It is not there.
    Absent(Path),
    /// The disk says no.
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The entity tag of the object that was written, if it was one alone.
pub(crate) type Done = Result<Option<String>, Refusal>;

impl Op {
    pub(crate) fn key(&self) -> &Path {
        match self {
            Self::Put(key, ..) | Self::Adopt(key, ..) | Self::Place(key, ..) | Self::Remove(key) => key,
        }
    }

    /// Does what must hold hold now?
    pub(crate) fn check(&self, files: &Files) -> Result<(), Refusal> {
        let path = || files.path(self.key());
        match self {
            Self::Put(key, _, When::Absent) if path().exists() => Err(Refusal::Exists(key.clone())),
            Self::Put(key, _, When::Is(tag)) if entity_tag(&path()).ok() != *tag => Err(Refusal::Changed(key.clone())),
            Self::Remove(key) if !path().exists() => Err(Refusal::Absent(key.clone())),
            _ => Ok(()),
        }
    }
}
