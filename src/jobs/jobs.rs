//! All jobs: submitting, showing, cancelling and running them.

use std::sync::Arc;

use telemetry::{Clock, Metrics};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::options::{Kind, Options};
use crate::record::{JobId, Record};
use crate::state::State;
use crate::submit::{NewJob, Submitted};
use crate::watch::Watch;
use crate::work::Work;

/// The jobs of a state. Cheap to clone; all clones are the same. A process makes one of these for a state.
#[derive(Clone)]
pub struct Jobs(pub(crate) Arc<Inner>);

impl Jobs {
    /// The jobs of `state`, as this process sees and runs them.
    pub fn new(state: Arc<dyn State>, clock: Arc<dyn Clock>, metrics: Metrics, options: Options) -> Self;

    /// Says how the jobs of a kind are done. `kind` has lower case letters, digits and `-`. To be called before [`Jobs::run`]; what is of no
    /// registered kind is neither run nor listed.
    pub fn register(&self, kind: &'static str, how: Kind, work: Arc<dyn Work>);

    /// Asks for a job. Durable once it returns; [`Jobs::run`] of this process hears of it at once.
    ///
    /// After an error it may have been submitted or not.
    pub async fn submit(&self, job: NewJob) -> Result<Submitted, Error>;

    /// Every job that has not ended, the one that is due first before the others.
    pub async fn open(&self) -> Result<Vec<Record>, Error>;

    /// The job, open or in the history. `None` if there is none, or no more.
    pub async fn job(&self, id: JobId) -> Result<Option<Record>, Error>;

    /// The job that is open there.
    pub async fn open_at(&self, kind: &str, key: &str) -> Result<Option<Record>, Error>;

    /// The last `limit` jobs that ended there, the latest first.
    pub async fn history(&self, kind: &str, key: &str, limit: usize) -> Result<Vec<Record>, Error>;

    /// The keys of a kind that ever had a job, sorted.
    pub async fn keys(&self, kind: &str) -> Result<Vec<String>, Error>;

    /// Ends the job. One that is waiting has ended when this returns; one that is running is told, wherever it runs. `Error::Unknown` if it is
    /// neither; `by` says who asks.
    pub async fn cancel(&self, id: JobId, by: Option<&str>) -> Result<Record, Error>;

    /// Submits a job that failed or was cancelled once more, due at once, with the input, the stamp and the last checkpoint of the old one.
    /// `Error::NotEnded` or `Error::Done` for others.
    pub async fn retry(&self, id: JobId, by: Option<&str>) -> Result<Submitted, Error>;

    /// Follows the job that is open there.
    pub fn watch(&self, kind: &str, key: &str) -> Watch;

    /// Runs jobs of the registered kinds until `stop`; then those that run are told, and this returns when they have ended or their grace
    /// period is over. Dropped, it drops them.
    pub async fn run(&self, stop: CancellationToken);
}
