//! The registry, as promotions ask for it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use oci::{Digest, Error, Platform, RepositoryName, Tag};

use crate::ledger::Arrival;

/// What is held here.
#[async_trait]
pub trait Content: Send + Sync {
    /// Where a tag points now, and since when; `None` if it is not there.
    async fn tagged(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Arrival>, Error>;

    /// All tags of a repository; none for an unknown one.
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Tag>, Error>;

    /// Looks at an image and at all that it needs. `platforms` must be there; where none are asked for, one at least.
    async fn look(&self, repository: &RepositoryName, digest: &Digest, platforms: &[Platform]) -> Result<Found, Error>;
}

/// What was found of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Why this is nothing that can be deployed: an artifact, a signature.
    pub no_image: Option<String>,
    /// What is missing, in words; empty where all is here.
    pub missing: Vec<String>,
    /// Labels of its configuration, and annotations, which are stronger.
    pub labels: BTreeMap<String, String>,
    /// When it was built, in milliseconds since 1970, where it says so.
    pub created: Option<u64>,
}

/// What signs and scans images, when somebody asks for that before a promotion.
#[async_trait]
pub trait Verdicts: Send + Sync {
    /// May this image be promoted by this rule? `Ok(None)` if so; else why not yet. `Err` if it never may.
    async fn verdict(&self, rule: &str, repository: &RepositoryName, digest: &Digest) -> Result<Option<String>, String>;
}
