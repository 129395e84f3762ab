//! The specification's errors, and the three that it leaves to HTTP.

use std::error::Error as StdError;

use crate::digest::Digest;

/// A cause that is logged and never shown to a client.
type Source = Box<dyn StdError + Send + Sync>;

/// What can go wrong between a client and a registry. One variant per code of the specification [distribution-spec, Error
/// Codes], in its order, then what HTTP alone expresses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `BLOB_UNKNOWN`.
    #[error("blob unknown to registry: {digest}")]
    BlobUnknown {
        /// The blob that was asked for.
        digest: Digest,
    },
    /// `BLOB_UPLOAD_INVALID`.
    #[error("blob upload invalid: {reason}")]
    BlobUploadInvalid {
        /// What was wrong.
        reason: String,
    },
    /// `BLOB_UPLOAD_UNKNOWN`.
    #[error("blob upload unknown to registry: {id}")]
    BlobUploadUnknown {
        /// The session that was asked for.
        id: String,
    },
    /// `DIGEST_INVALID`: malformed, of an unsupported algorithm, or not that of the content.
    #[error("digest invalid: {reason}")]
    DigestInvalid {
        /// What was wrong.
        reason: String,
    },
    /// `MANIFEST_BLOB_UNKNOWN`.
    #[error("manifest references a manifest or blob unknown to registry: {digest}")]
    ManifestBlobUnknown {
        /// The missing content.
        digest: Digest,
    },
    /// `MANIFEST_INVALID`.
    #[error("manifest invalid: {reason}")]
    ManifestInvalid {
        /// What was wrong.
        reason: String,
    },
    /// `MANIFEST_UNKNOWN`.
    #[error("manifest unknown to registry: {reference}")]
    ManifestUnknown {
        /// The tag or digest that was asked for.
        reference: String,
    },
    /// `NAME_INVALID`.
    #[error("repository name invalid: {reason}")]
    NameInvalid {
        /// What was wrong.
        reason: String,
    },
    /// `NAME_UNKNOWN`.
    #[error("repository name not known to registry: {name}")]
    NameUnknown {
        /// The name that was asked for.
        name: String,
    },
    /// `SIZE_INVALID`: the content is not as long as announced.
    #[error("size invalid: {reason}")]
    SizeInvalid {
        /// What was wrong.
        reason: String,
    },
    /// `UNAUTHORIZED`.
    #[error("authentication required")]
    Unauthorized,
    /// `DENIED`.
    #[error("requested access to the resource is denied: {reason}")]
    Denied {
        /// Why, and what to do instead.
        reason: String,
    },
    /// `UNSUPPORTED`.
    #[error("the operation is unsupported: {reason}")]
    Unsupported {
        /// What is not supported.
        reason: String,
    },
    /// `TOOMANYREQUESTS`.
    #[error("too many requests: {reason}")]
    TooManyRequests {
        /// Whose limit it was.
        reason: String,
        /// When to come back, in seconds.
        retry_after: Option<u64>,
    },
    /// A tag outside the grammar. The specification has no code for it; `MANIFEST_INVALID` is sent.
    #[error("tag invalid: {reason}")]
    TagInvalid {
        /// What was wrong.
        reason: String,
    },
    /// Content larger than the server takes: 413 with `SIZE_INVALID`.
    #[error("content too large: the limit is {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// More tags in one push than the server sets: 414. [distribution-spec, Pushing Manifests with tags]
    #[error("too many tags: at most {limit} can be set at once")]
    TooManyTags {
        /// The limit.
        limit: usize,
    },
    /// A range, or a chunk, that does not fit what is there: 416.
    #[error("range not satisfiable: {size} bytes are there")]
    RangeNotSatisfiable {
        /// Bytes of the content, or received so far.
        size: u64,
    },
    /// The client stopped sending: 408.
    #[error("timed out: {reason}")]
    TimedOut {
        /// What was waited for.
        reason: String,
    },
    /// An upstream registry failed or answered nonsense: 502.
    #[error("the upstream {upstream} did not answer usefully: {reason}")]
    Upstream {
        /// Its configured host.
        upstream: String,
        /// What happened, without secrets.
        reason: String,
    },
    /// The server cannot do this now but may later: 503.
    #[error("temporarily unavailable: {reason}")]
    Unavailable {
        /// Why, in words for the client.
        reason: String,
        /// The cause, for the log.
        source: Option<Source>,
    },
    /// Something that must not happen: 500.
    #[error("internal error: {context}")]
    Internal {
        /// What was being done.
        context: &'static str,
        /// The cause, for the log.
        source: Source,
    },
}

/// A code of the specification as it stands in the JSON body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(&'static str);

impl Code {
    /// The code's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl Error {
    /// The code that is sent for this error.
    #[must_use]
    pub fn code(&self) -> Code {
        Code(match self {
            Self::BlobUnknown { .. } => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid { .. } | Self::RangeNotSatisfiable { .. } | Self::TimedOut { .. } => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown { .. } => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid { .. } => "DIGEST_INVALID",
            Self::ManifestBlobUnknown { .. } => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid { .. } | Self::TagInvalid { .. } | Self::TooManyTags { .. } => "MANIFEST_INVALID",
            Self::ManifestUnknown { .. } => "MANIFEST_UNKNOWN",
            Self::NameInvalid { .. } => "NAME_INVALID",
            Self::NameUnknown { .. } => "NAME_UNKNOWN",
            Self::SizeInvalid { .. } | Self::TooLarge { .. } => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied { .. } => "DENIED",
            Self::Unsupported { .. } => "UNSUPPORTED",
            Self::TooManyRequests { .. } => "TOOMANYREQUESTS",
            Self::Upstream { .. } | Self::Unavailable { .. } => "UNAVAILABLE",
            Self::Internal { .. } => "UNKNOWN",
        })
    }

    /// Is this "not there", as opposed to "failed" or "refused"?
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::BlobUnknown { .. } | Self::ManifestUnknown { .. } | Self::NameUnknown { .. })
    }

    /// An internal error with its cause.
    pub fn internal(context: &'static str, source: impl Into<Source>) -> Self {
        Self::Internal { context, source: source.into() }
    }
}
