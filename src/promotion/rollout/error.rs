//! What can go wrong between us and those who deploy, and whether it helps to ask again.

use std::time::Duration;

use http::StatusCode;

/// Why somebody was not told, or what he says is not known. No text holds a secret; a URL may be one, so only its host is named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// No whole answer came.
    #[error("{to} gave no answer: {cause}")]
    Unanswered {
        /// Who was asked.
        to: String,
        /// What happened to the request.
        cause: outbound::Error,
    },
    /// It took too long. What was asked for may be done nevertheless.
    #[error("{to} gave no answer within {} s", limit.as_secs())]
    Overdue {
        /// Who was asked.
        to: String,
        /// How long he had.
        limit: Duration,
    },
    /// Not now.
    #[error("{to} answers {status}, which may pass{}", after_colon(said))]
    Busy {
        /// Who was asked.
        to: String,
        /// 408, 425, 429 or a 5xx.
        status: StatusCode,
        /// When he wants to be asked again, if he says so.
        after: Option<Duration>,
        /// What else he says, cut short.
        said: String,
    },
    /// Never like this.
    #[error("{to} answers {status}: {advice}{}", after_colon(said))]
    Refused {
        /// Who was asked.
        to: String,
        /// A status that asking again does not change.
        status: StatusCode,
        /// What to look at.
        advice: &'static str,
        /// What else he says, cut short.
        said: String,
    },
    /// An answer that cannot be read.
    #[error("{to} answers what cannot be read: {reason}")]
    Strange {
        /// Who was asked.
        to: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RolloutError {
    /// Whether the same request can do better later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered { cause, .. } => {
                !matches!(cause.kind(), outbound::ErrorKind::Forbidden | outbound::ErrorKind::TooLarge)
            }
            // A proxy that is being restarted says strange things, too.
            Self::Overdue { .. } | Self::Busy { .. } | Self::Strange { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    /// When to ask again, where the answer says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { after, .. } => *after,
            _ => None,
        }
    }
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" (it says: {said})") }
}

/// Why nobody can be told with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] outbound::SetupError),
    /// An address that is none.
    #[error("{what} has to begin with https:// or http:// and name a host")]
    Address {
        /// Which.
        what: &'static str,
    },
    /// A name or a password in a URL ends up in logs.
    #[error("{what} has a name or a password in it; give secrets in a file")]
    Password {
        /// Which.
        what: &'static str,
    },
    /// A secret that cannot be one.
    #[error("the {what} is empty, or has characters that cannot be sent; look at its file")]
    Secret {
        /// Which.
        what: &'static str,
    },
    /// A repository that Argo CD could not know.
    #[error("{0:?} is no URL of a repository; give it as in the application's repoURL")]
    Repository(String),
    /// A name that no application has.
    #[error("{0:?} cannot be the name of an application")]
    Application(String),
}

/// Why a notification cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not the JSON that is expected.
    #[error("the report is not the JSON object that is expected: {0}")]
    Json(#[from] serde_json::Error),
    /// Something that it has to say is empty.
    #[error("the report has no {0}; look at the template of the notification")]
    Missing(&'static str),
}
