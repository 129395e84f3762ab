//! What is done: the trait that the rooms above implement, one for each kind of job.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::running::Running;

/// How the jobs of one kind are done.
///
/// The future is dropped when the lease is lost, and some time after [`Running::cancelled`] if it does not end by itself; a work may
/// also be killed with its process. So it is made to be begun again: from [`Running::checkpoint`], finding what is done already. What
/// it writes elsewhere is to be harmless when it is done twice.
#[async_trait]
pub trait Work: Send + Sync {
    /// Does the job, or a part of it. A panic is a failure of the job.
    async fn run(&self, job: Running) -> Outcome;
}

/// What came of a run. Whatever was saved with [`Running::save`] stays; so does the progress that was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done. The value is for the history.
    Done(Value),
    /// It is given up.
    Failed {
        /// Why, for a person.
        reason: String,
        /// What was done nevertheless, for the history.
        result: Value,
    },
    /// It did not work now. It is tried again, up to [`crate::Kind::attempts`] times in all; then it has failed.
    Retry {
        /// Why, for a person.
        reason: String,
        /// When again; absent: later each time, with jitter.
        after: Option<Duration>,
    },
    /// It has to go on later, and that is no failure: a quota is used up.
    Later {
        /// When.
        after: Duration,
        /// Why, for a person.
        reason: String,
    },
    /// It gives way, because the process stops: it goes on from this checkpoint as soon as somebody has time.
    Yield(Value),
}
