//! What the pull-through needs of the place where content is kept.

use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use oci::{Algorithm, Digest, Discover, Error, Manifest, Pull, RepositoryName, Tag};

/// The registry that holds hosted and cached content side by side.
#[async_trait]
pub trait Cache: Pull + Discover {
    /// Was this repository pushed or built here?
    async fn is_hosted(&self, name: &RepositoryName) -> Result<bool, Error>;

    /// Where a cached tag points, and when that was last known to be right.
    async fn cached_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<(Digest, SystemTime)>, Error>;

    /// Keeps a manifest that `upstream` has and whose digest is verified.
    async fn keep_manifest(&self, name: &RepositoryName, manifest: &Manifest, upstream: &str) -> Result<(), Error>;

    /// Points a cached tag at a manifest that is here, as `upstream` said at the time `at`. What was learned later stays.
    async fn keep_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        at: SystemTime,
        upstream: &str,
    ) -> Result<(), Error>;

    /// Are the bytes of a blob here, whoever may have them?
    async fn has_bytes(&self, digest: &Digest) -> Result<bool, Error>;

    /// Lets a cached repository serve bytes that are here. `false` if they are not.
    async fn adopt_blob(&self, name: &RepositoryName, digest: &Digest, upstream: &str) -> Result<bool, Error>;

    /// A place for a blob that an upstream sends.
    fn spool(&self, algorithm: Algorithm) -> Result<Box<dyn FillSpool>, Error>;
}

/// A blob on its way in, readable while it grows.
#[async_trait]
pub trait FillSpool: Send {
    /// Writes more bytes to the file, where they can be read. They go through [`FillSpool::hash`] as well.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// Hashes bytes that were appended, in their order.
    fn hash(&mut self, bytes: &[u8]);

    /// Bytes taken in.
    fn written(&self) -> u64;

    /// The file with the bytes written so far; readable for as long as it is held.
    fn file(&self) -> Arc<File>;

    /// Are these the bytes? `DigestInvalid` if they are others.
    fn verify(&self, digest: &Digest) -> Result<(), Error>;

    /// Verifies the bytes and makes them a blob of the cached repository, durably. `DigestInvalid` if they are others.
    async fn keep(self: Box<Self>, name: &RepositoryName, digest: &Digest, upstream: &str) -> Result<(), Error>;
}
