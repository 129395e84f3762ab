//! How far a copy is, for whoever looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a copy that is under way, or of several. Cheap to clone; all clones are the same counts.
///
/// What is known grows while the graph is read, so that done and known are equal only at the end. A copy that
/// is tried again counts what it skips once more: it is given counts of its own.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    blobs_known: AtomicU64,
    blobs_done: AtomicU64,
    bytes_known: AtomicU64,
    bytes_done: AtomicU64,
    manifests_done: AtomicU64,
    bytes_verified: AtomicU64,
}

/// What [`Progress`] says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Blobs of the manifests that were read so far.
    pub blobs_known: u64,
    /// Those of them that are in the target.
    pub blobs_done: u64,
    /// Bytes of the blobs of the manifests that were read so far.
    pub bytes_known: u64,
    /// Those of them that are in the target or on their way into it.
    pub bytes_done: u64,
    /// Manifests that are in the target.
    pub manifests_done: u64,
    /// Bytes of a bundle whose digests were checked before anything is imported.
    pub bytes_verified: u64,
}

impl Progress {
    /// Nothing known, nothing done.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counts now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Seen {
            blobs_known: read(&self.0.blobs_known),
            blobs_done: read(&self.0.blobs_done),
            bytes_known: read(&self.0.bytes_known),
            bytes_done: read(&self.0.bytes_done),
            manifests_done: read(&self.0.manifests_done),
            bytes_verified: read(&self.0.bytes_verified),
        }
    }

    pub(crate) fn blob_known(&self, size: u64) {
        self.0.blobs_known.fetch_add(1, Ordering::Relaxed);
        self.0.bytes_known.fetch_add(size, Ordering::Relaxed);
    }

    pub(crate) fn blob_done(&self) {
        self.0.blobs_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bytes_done(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn manifest_done(&self) {
        self.0.manifests_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bytes_verified(&self, bytes: u64) {
        self.0.bytes_verified.fetch_add(bytes, Ordering::Relaxed);
    }
}
