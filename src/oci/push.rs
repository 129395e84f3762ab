//! What a registry can be given, whoever keeps it: the specification's category *push*.

use std::sync::Arc;

use async_trait::async_trait;

use crate::content::RangeSource;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::name::RepositoryName;
use crate::reference::Tag;

/// Pushing whole pieces of content: to the local registry, a registry elsewhere, a layout. [distribution-spec, Push]
///
/// Every method may be repeated: content that is there already is taken again without harm.
#[async_trait]
pub trait Push: Send + Sync {
    /// Does this repository serve the blob? An unknown repository serves none.
    async fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error>;

    /// Does this repository hold the manifest? An unknown repository holds none.
    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error>;

    /// Where the tag points; `None` if it is not there.
    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Error>;

    /// Lets the repository serve a blob that `from` serves there, or any other repository where that is `None`. `false` if it
    /// cannot be had so, and then it is to be pushed. The caller has made sure that whoever it copies from serves this blob.
    async fn mount_blob(&self, name: &RepositoryName, digest: &Digest, from: Option<&RepositoryName>) -> Result<bool, Error>;

    /// Takes a blob, verified, durably. `source` is opened at 0 and, where the target lost what came before an error, again where
    /// the target's copy ends. `size` is the length in bytes where it is known.
    ///
    /// `DigestInvalid` if the bytes are others; nothing is kept of them.
    async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
        source: Arc<dyn RangeSource>,
    ) -> Result<(), Error>;

    /// Takes a manifest byte for byte under its digest, and points tags at it, durably. Its blobs are there before; an index may be
    /// without some of its manifests. Without tags it is held under its digest alone.
    async fn push_manifest(&self, name: &RepositoryName, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error>;
}
