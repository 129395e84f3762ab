//! What can go wrong for those who ask.

use crate::record::JobId;
use crate::state::StateError;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such job, or it is no more in the history.
    #[error("there is no job {id}")]
    Unknown {
        /// The job that was asked for.
        id: JobId,
    },
    /// It is still open.
    #[error("the job {id} has not ended")]
    NotEnded {
        /// The job.
        id: JobId,
    },
    /// It has ended.
    #[error("the job {id} has ended already")]
    Ended {
        /// The job.
        id: JobId,
    },
    /// It has ended well.
    #[error("the job {id} is done")]
    Done {
        /// The job.
        id: JobId,
    },
    /// A kind or key that cannot be one.
    #[error("{text:?} cannot be the {what} of a job")]
    Invalid {
        /// `kind` or `key`.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// Others kept changing it.
    #[error("the jobs of {kind} {key} are being changed by too many at once")]
    Contended {
        /// The kind.
        kind: String,
        /// The key.
        key: String,
    },
    /// What lies in the state is not what was written.
    #[error("the record {key} is corrupt: {reason}")]
    Corrupt {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The state failed. What was asked for may have been done.
    #[error(transparent)]
    State(#[from] StateError),
}
