//! Why a delivery is not taken: one text for the operator's log, one for whoever sent it.

use http::StatusCode;

/// A delivery that is not taken. Its text is for the operator's log; the sender is told [`Refusal::answer`] and no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its method.
    #[error("the method {method} is not one of a delivery")]
    Method {
        /// The method.
        method: String,
    },
    /// What it says that its body is.
    #[error("the content type {content_type:?} is neither JSON nor a form")]
    ContentType {
        /// What it says, cut.
        content_type: String,
    },
    /// Its body has more than [`crate::BODY_LIMIT`] bytes.
    #[error("the body has {size} bytes, the limit is {limit}", limit = crate::BODY_LIMIT)]
    TooLarge {
        /// How many.
        size: usize,
    },
    /// It is not shown that whoever sent it knows the secret.
    #[error("the delivery is not authentic: {reason}")]
    Unauthentic {
        /// What is missing or wrong.
        reason: &'static str,
    },
    /// It is authentic, and not to be understood.
    #[error("the delivery cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthentic { .. } => StatusCode::UNAUTHORIZED,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// What the sender is told. The same for every cause of a status, so that nothing is learned from it.
    #[must_use]
    pub fn answer(&self) -> &'static str {
        match self {
            Self::Method { .. } => "method not allowed",
            Self::ContentType { .. } => "unsupported media type",
            Self::TooLarge { .. } => "payload too large",
            Self::Unauthentic { .. } => "unauthorized",
            Self::Malformed { .. } => "bad request",
        }
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: reason.into() }
    }
}
