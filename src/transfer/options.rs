//! What is copied, and how patiently.

use std::time::Duration;

use oci::Platform;

/// How a [`crate::Transfer`] copies.
#[derive(Clone, Debug)]
pub struct Options {
    /// The images of an index that are copied; empty for all. The index itself stays as it is, byte for byte. What carries no platform
    /// is always copied, and an image that stands alone too.
    pub platforms: Vec<Platform>,
    /// Whether signatures, SBOMs and other referrers are copied: those of the referrers API, and those under the tags
    /// `sha256-<hex>`, `sha256-<hex>.sig`, `.att` and `.sbom`.
    pub referrers: bool,
    /// An index is taken although the source lacks some of its manifests, as a mirror of some platforms does. At least one must be
    /// there. Otherwise a manifest that the source lacks is an error.
    pub sparse: bool,
    /// Blobs that are copied at the same time, over all copies of one transfer.
    pub blobs_at_once: usize,
    /// Manifests of one index that are copied at the same time.
    pub manifests_at_once: usize,
    /// Attempts at one piece of content that bring nothing before it is given up.
    pub retries: u32,
    /// The wait before the second attempt. It doubles with each that brings nothing, up to [`Options::longest_backoff`], and chance
    /// takes up to half of it away.
    pub backoff: Duration,
    /// The longest wait between two attempts.
    pub longest_backoff: Duration,
    /// Where the chance in the waits begins, so that many servers do not come back at the same moment.
    pub seed: u64,
}

impl Default for Options {
    /// All platforms, with referrers; four blobs at once, five attempts.
    fn default() -> Self {
        Self {
            platforms: Vec::new(),
            referrers: true,
            sparse: false,
            blobs_at_once: 4,
            manifests_at_once: 4,
            retries: 5,
            backoff: Duration::from_millis(250),
            longest_backoff: Duration::from_secs(30),
            seed: 0,
        }
    }
}
