//! One copy: the graph below a manifest, children before what lists them.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use oci::{
    Descriptor, Digest, Error as OciError, Hasher, Kind, Manifest, ManifestView, Reference, RepositoryName, Tag, media_type,
};

use crate::error::{Error, Piece};
use crate::platforms;
use crate::progress::Progress;
use crate::transfer::Transfer;

/// So deep may indexes lie in one another.
const DEEPEST: usize = 8;
/// So many manifests may belong to one copy, referrers included.
const MOST: usize = 20_000;

/// One call of a transfer: what is copied from where to where, and what was done so far.
pub(crate) struct Copy<'a> {
    pub(crate) transfer: &'a Transfer,
    pub(crate) from: &'a RepositoryName,
    pub(crate) to: &'a RepositoryName,
    pub(crate) progress: &'a Progress,
    tally: Mutex<Tally>,
}

/// What was done so far.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) manifests: u64,
    pub(crate) manifests_skipped: u64,
    pub(crate) blobs_copied: u64,
    pub(crate) blobs_mounted: u64,
    pub(crate) blobs_skipped: u64,
    pub(crate) bytes_copied: u64,
    pub(crate) bytes_skipped: u64,
    pub(crate) referrers: u64,
    pub(crate) absent: BTreeSet<Digest>,
    /// Every manifest of this copy.
    seen: HashSet<Digest>,
    /// Those whose referrers have not been looked for.
    fresh: Vec<Digest>,
}

/// A manifest that is to be in the target, with all below it.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) digest: &'a Digest,
    pub(crate) media_type: &'a str,
    /// How many indexes lie above it.
    pub(crate) depth: usize,
    /// What its index lists and the source lacks is left out, even if that is everything.
    pub(crate) lenient: bool,
    /// Only these tags are set when it is pushed.
    pub(crate) tags: &'a [Tag],
}

/// What became of a node.
pub(crate) struct Placed {
    /// Its bytes, if they had to be read.
    pub(crate) manifest: Option<Manifest>,
    /// It was not there, and was pushed with the tags of its node.
    pub(crate) pushed: bool,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(transfer: &'a Transfer, from: &'a RepositoryName, to: &'a RepositoryName, progress: &'a Progress) -> Self {
        Self { transfer, from, to, progress, tally: Mutex::default() }
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tally at the end.
    pub(crate) fn into_tally(self) -> Tally {
        self.tally.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The manifests that were met since the last call.
    pub(crate) fn take_fresh(&self) -> Vec<Digest> {
        std::mem::take(&mut self.tally().fresh)
    }

    /// Has this copy met the manifest before?
    pub(crate) fn has_seen(&self, digest: &Digest) -> bool {
        self.tally().seen.contains(digest)
    }

    /// Sees to it that the target holds a manifest and all below it. Boxed, since indexes lie in indexes.
    pub(crate) fn node<'b>(&'b self, node: Node<'b>) -> BoxFuture<'b, Result<Placed, Error>> {
        self.place(node).boxed()
    }

    async fn place(&self, node: Node<'_>) -> Result<Placed, Error> {
        let transfer = self.transfer;
        // Another copy of the same image may be under way; whoever comes second finds everything there.
        let _one = transfer.manifests.lock(&(self.to.clone(), node.digest.clone())).await;
        let has = || transfer.target.has_manifest(self.to, node.digest);
        let there = transfer.patience.ask(has).await.map_err(|cause| self.target(self.piece(node.digest), cause))?;
        let is_image = matches!(node.media_type, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST);
        if there && is_image && transfer.back.is_none() {
            self.met(node.digest, there)?;
            return Ok(Placed { manifest: None, pushed: false });
        }
        let manifest = self.read(node.digest, there).await?;
        let parsed = ManifestView::parse(&manifest.bytes, Some(&manifest.media_type));
        let view = parsed.map_err(|cause| self.source(self.piece(node.digest), cause))?;
        match view.kind {
            Kind::Image => self.image(&view).await?,
            Kind::Index => self.index(&view, node).await?,
        }
        if !there {
            self.push(&manifest, node.tags).await?;
        }
        self.met(node.digest, there)?;
        Ok(Placed { manifest: Some(manifest), pushed: !there })
    }

    /// Counts a manifest that is in the target now.
    fn met(&self, digest: &Digest, there: bool) -> Result<(), Error> {
        let mut tally = self.tally();
        if !tally.seen.insert(digest.clone()) {
            return Ok(());
        }
        if tally.seen.len() > MOST {
            let reason = format!("more than {MOST} manifests belong to it");
            return Err(Error::Unreasonable { piece: self.piece(digest), reason });
        }
        tally.fresh.push(digest.clone());
        if there {
            tally.manifests_skipped += 1;
        } else {
            tally.manifests += 1;
        }
        self.progress.manifest_done();
        Ok(())
    }

    async fn image(&self, view: &ManifestView) -> Result<(), Error> {
        let mut listed = HashSet::new();
        let blobs: Vec<&Descriptor> = view
            .blobs
            .iter()
            .filter(|blob| !media_type::is_nondistributable(&blob.media_type) && listed.insert(&blob.digest))
            .collect();
        for blob in &blobs {
            self.progress.blob_known(blob.size);
        }
        let copies: Vec<_> = blobs.into_iter().map(|blob| self.blob(blob).boxed()).collect();
        stream::iter(copies).buffer_unordered(self.transfer.options.blobs_at_once.max(1)).try_collect().await
    }

    async fn index(&self, view: &ManifestView, node: Node<'_>) -> Result<(), Error> {
        if node.depth >= DEEPEST {
            let reason = format!("more than {DEEPEST} indexes lie in one another");
            return Err(Error::Unreasonable { piece: self.piece(node.digest), reason });
        }
        let chosen = platforms::chosen(&view.manifests, &self.transfer.options.platforms).map_err(|offered| {
            let piece = self.piece(node.digest);
            Error::NoPlatform { piece, offered }
        })?;
        let mut listed = HashSet::new();
        let children: Vec<&Descriptor> = chosen.into_iter().filter(|child| listed.insert(&child.digest)).collect();
        let copies: Vec<_> = children.iter().map(|child| self.child(child, node).boxed()).collect();
        let copies = stream::iter(copies).buffer_unordered(self.transfer.options.manifests_at_once.max(1));
        let there: Vec<bool> = copies.try_collect().await?;
        if there.contains(&true) || there.is_empty() || node.lenient {
            return Ok(());
        }
        let reference = children.first().map_or_else(String::new, |child| child.digest.to_string());
        Err(self.source(self.piece(node.digest), OciError::ManifestUnknown { reference }))
    }

    /// Is the manifest there now? Else the source lacks it, and that may be.
    async fn child(&self, child: &Descriptor, parent: Node<'_>) -> Result<bool, Error> {
        let node = Node {
            digest: &child.digest,
            media_type: &child.media_type,
            depth: parent.depth + 1,
            lenient: parent.lenient,
            tags: &[],
        };
        match self.node(node).await {
            Ok(_) => Ok(true),
            Err(Error::Source { piece, cause })
                if cause.is_unknown()
                    && piece == self.piece(&child.digest)
                    && (parent.lenient || self.transfer.options.sparse) =>
            {
                tracing::debug!(repository = %self.from, digest = %child.digest, "the source lacks a manifest that an index lists");
                self.tally().absent.insert(child.digest.clone());
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }

    /// A manifest, from the target if it is there and can be read there, verified.
    pub(crate) async fn read(&self, digest: &Digest, there: bool) -> Result<Manifest, Error> {
        let (transfer, reference) = (self.transfer, Reference::Digest(digest.clone()));
        if let Some(back) = transfer.back.as_ref().filter(|_| there)
            && let Ok(manifest) = back.manifest(self.to, &reference).await
            && Hasher::digest(digest.algorithm(), &manifest.bytes) == *digest
        {
            return Ok(manifest);
        }
        let read = transfer.patience.ask(|| transfer.source.manifest(self.from, &reference)).await;
        let mut manifest = read.map_err(|cause| self.source(self.piece(digest), cause))?;
        let actual = Hasher::digest(digest.algorithm(), &manifest.bytes);
        if actual != *digest {
            let reason = format!("the content has the digest {actual}, not {digest}");
            return Err(self.source(self.piece(digest), OciError::DigestInvalid { reason }));
        }
        manifest.digest = digest.clone();
        Ok(manifest)
    }

    pub(crate) async fn push(&self, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        let push = || self.transfer.target.push_manifest(self.to, manifest, tags);
        let pushed = self.transfer.patience.ask(push).await;
        pushed.map_err(|cause| self.target(Piece::Manifest(self.to.clone(), Reference::Digest(manifest.digest.clone())), cause))
    }

    /// The tags that do not point at this digest in the target.
    pub(crate) async fn moving(&self, tags: &[Tag], digest: &Digest) -> Result<Vec<Tag>, Error> {
        let mut moving = Vec::new();
        for tag in tags {
            let found = self.transfer.patience.ask(|| self.transfer.target.tagged(self.to, tag)).await;
            let piece = || Piece::Manifest(self.to.clone(), Reference::Tag(tag.clone()));
            if found.map_err(|cause| self.target(piece(), cause))?.as_ref() != Some(digest) {
                moving.push(tag.clone());
            }
        }
        Ok(moving)
    }

    /// The manifest of the source with this digest, as errors name it.
    pub(crate) fn piece(&self, digest: &Digest) -> Piece {
        Piece::Manifest(self.from.clone(), Reference::Digest(digest.clone()))
    }

    #[expect(clippy::unused_self, reason = "it reads as the other end's does")]
    pub(crate) fn source(&self, piece: Piece, cause: OciError) -> Error {
        Error::Source { piece, cause }
    }

    #[expect(clippy::unused_self, reason = "it reads as the other end's does")]
    pub(crate) fn target(&self, piece: Piece, cause: OciError) -> Error {
        Error::Target { piece, cause }
    }
}
