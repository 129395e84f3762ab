//! The ways to a branch: git, or the API of its forge.

use crate::forge::Contents;
use crate::git::{Cache, Commit, File, GitError, Pushed, Signature, Tip};

/// A way to a branch. One caller at a time.
#[derive(Debug)]
pub enum Backing {
    /// Git, over a copy of the tip here.
    Git(Cache),
    /// The API of the forge.
    Contents(Contents),
}

impl From<Cache> for Backing {
    fn from(cache: Cache) -> Self {
        Self::Git(cache)
    }
}

impl Backing {
    /// The last commit of the branch.
    pub async fn fetch(&self) -> Result<Tip, GitError> {
        match self {
            Self::Git(cache) => cache.fetch().await,
            Self::Contents(contents) => Ok(contents.fetch().await?),
        }
    }

    /// A file of a commit; `None` if there is none.
    pub async fn read(&self, tip: &Tip, path: &str) -> Result<Option<File>, GitError> {
        match self {
            Self::Git(cache) => cache.read(tip, path).await,
            Self::Contents(contents) => contents.read(tip, path).await,
        }
    }

    /// Git, where it is that: with it a whole repository can be looked at.
    pub(crate) fn git(&self) -> Option<&Cache> {
        match self {
            Self::Git(cache) => Some(cache),
            Self::Contents(_) => None,
        }
    }

    /// Makes a commit on the tip and brings it to the branch, if that stands where it stood.
    pub(crate) async fn land(
        &self,
        tip: &Tip,
        files: &[File],
        message: &str,
        by: &Signature,
    ) -> Result<(Commit, Pushed), GitError> {
        match self {
            Self::Git(cache) => {
                let commit = cache.commit(tip, files, message, by).await?;
                let pushed = cache.push(&commit, tip).await?;
                Ok((commit, pushed))
            }
            Self::Contents(contents) => contents.land(tip, files, message, by).await,
        }
    }

    /// Makes a commit on the tip at a branch of our own, whatever that was. `Err` with the server's reason if it is not allowed.
    pub(crate) async fn propose(
        &self,
        tip: &Tip,
        files: &[File],
        message: &str,
        by: &Signature,
        branch: &str,
    ) -> Result<Result<Commit, String>, GitError> {
        match self {
            Self::Git(cache) => {
                let commit = cache.commit(tip, files, message, by).await?;
                Ok(cache.publish(&commit, branch).await?.map(|()| commit))
            }
            Self::Contents(contents) => Ok(Ok(contents.propose(tip, files, message, by, branch).await?)),
        }
    }

    /// Is a revision our commit, or one after it?
    pub(crate) async fn has_followed(&self, commit: &str, revision: &str) -> Result<bool, GitError> {
        match self {
            Self::Git(cache) => cache.has_followed(commit, revision).await,
            Self::Contents(contents) => Ok(contents.has_followed(commit, revision).await?),
        }
    }
}
