//! All jobs: submitting, showing, cancelling and running them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use telemetry::{Clock, Metrics};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::address::{Address, is_kind};
use crate::board::Board;
use crate::error::Error;
use crate::options::{Kind, Options};
use crate::record::{JobId, Line, Record, millis};
use crate::running::Shared;
use crate::state::State;
use crate::submit::{NewJob, Submitted};
use crate::watch::Watch;
use crate::work::Work;

/// The jobs of a state. Cheap to clone; all clones are the same. A process makes one of these for a state.
#[derive(Clone)]
pub struct Jobs(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) state: Arc<dyn State>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) options: Options,
    /// Who we are in leases.
    pub(crate) owner: String,
    kinds: RwLock<BTreeMap<&'static str, Registered>>,
    pub(crate) board: Board,
    /// Those whose lease is ours.
    pub(crate) running: Mutex<HashMap<Address, Arc<Shared>>>,
    /// There may be something to do.
    pub(crate) wake: Notify,
    /// Changes whenever a job of this process has ended or was put back.
    pub(crate) ended: watch::Sender<()>,
}

/// How jobs of a kind are done.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) kind: Kind,
    pub(crate) work: Arc<dyn Work>,
}

impl Jobs {
    /// The jobs of `state`, as this process sees and runs them.
    #[must_use]
    pub fn new(state: Arc<dyn State>, clock: Arc<dyn Clock>, metrics: Metrics, options: Options) -> Self {
        let owner = options.random.id(clock.now()).to_string();
        Self(Arc::new(Inner {
            state,
            clock,
            metrics,
            options,
            owner,
            kinds: RwLock::default(),
            board: Board::default(),
            running: Mutex::default(),
            wake: Notify::new(),
            ended: watch::Sender::new(()),
        }))
    }

    /// Says how the jobs of a kind are done; what was said before of it holds no more. What is of no registered kind is neither
    /// run nor found nor submitted, so that all kinds are to be registered before anything else is called.
    ///
    /// # Panics
    /// If `kind` has other characters than lower case letters, digits and `-`, or more than 40.
    pub fn register(&self, kind: &'static str, how: Kind, work: Arc<dyn Work>) {
        assert!(is_kind(kind), "{kind:?} cannot be the kind of a job");
        let registered = Registered { kind: how, work };
        self.0.kinds.write().unwrap_or_else(PoisonError::into_inner).insert(kind, registered);
    }

    /// Asks for a job. Durable once it returns; [`Jobs::run`] of this process hears of it at once.
    ///
    /// `Error::Invalid` for a kind that is not registered and for a key that cannot be one. After any other error, or when it is
    /// dropped, the job may have been submitted.
    pub async fn submit(&self, job: NewJob) -> Result<Submitted, Error> {
        self.0.submit(job).await
    }

    /// Every job that has not ended, the one that is due first before the others.
    pub async fn open(&self) -> Result<Vec<Record>, Error> {
        let seen = self.0.look_at_all().await?;
        let open = seen.iter().filter_map(|(address, seen)| Some(self.0.live(address, seen.slot.open.as_ref()?)));
        let mut open: Vec<Record> = open.filter(|record| !record.state.is_ended()).collect();
        open.sort_by_key(|record| (record.due, record.id));
        Ok(open)
    }

    /// The job that is open there, if one is.
    pub async fn open_at(&self, kind: &str, key: &str) -> Result<Option<Record>, Error> {
        let address = Address::new(kind, key)?;
        let seen = self.0.look(&address).await?;
        let open = seen.as_ref().and_then(|seen| seen.slot.open.as_ref()).filter(|record| !record.state.is_ended());
        Ok(open.map(|record| self.0.live(&address, record)))
    }

    /// The job, open or in the history. `None` if there is none, or no more.
    pub async fn job(&self, id: JobId) -> Result<Option<Record>, Error> {
        if let Some((address, seen)) = self.0.find_open(id).await? {
            return Ok(seen.slot.open.as_ref().map(|record| self.0.live(&address, record)));
        }
        Ok(self.0.find_ended(id).await?.map(|(_, record)| record))
    }

    /// The last `limit` jobs that ended there, the latest first.
    pub async fn history(&self, kind: &str, key: &str, limit: usize) -> Result<Vec<Record>, Error> {
        self.0.history(&Address::new(kind, key)?, limit).await
    }

    /// The keys of a kind that ever had a job, in no particular order.
    pub async fn keys(&self, kind: &str) -> Result<Vec<String>, Error> {
        let addresses = self.0.addresses(kind).await?;
        Ok(addresses.into_iter().map(|address| address.key).collect())
    }

    /// Ends the job; `by` says who asks. One that is waiting has ended when this returns. One that is running is told, wherever it
    /// runs, and has [`Options::grace`] to end. Gives the job as it is now.
    ///
    /// `Error::Ended` if it has ended, `Error::Unknown` if there is none.
    pub async fn cancel(&self, id: JobId, by: &str) -> Result<Record, Error> {
        self.0.cancel(id, by).await
    }

    /// Submits a job that failed or was cancelled once more, due at once, with the input and stamp of the old one and from its last
    /// checkpoint; `by` says who asks. Never `Submitted::Past`.
    ///
    /// `Error::NotEnded` if it is open, `Error::Done` if it ended well, `Error::Unknown` if there is none.
    pub async fn retry(&self, id: JobId, by: &str) -> Result<Submitted, Error> {
        self.0.retry(id, by).await
    }

    /// Follows the job that is open there now.
    #[must_use]
    pub fn watch(&self, kind: &str, key: &str) -> Watch {
        Watch::new(Arc::clone(&self.0), Address::new(kind, key))
    }

    /// Runs jobs of the registered kinds until `stop`; then those that run are told, and this returns when they have ended or their
    /// grace period is over. Dropped, it drops them. To be called once.
    pub async fn run(&self, stop: CancellationToken) {
        crate::runner::run(&self.0, stop).await;
    }
}

impl Inner {
    /// The registered kinds.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.kinds.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    pub(crate) fn registered(&self, kind: &str) -> Option<(&'static str, Registered)> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.get_key_value(kind).map(|(kind, registered)| (*kind, registered.clone()))
    }

    pub(crate) fn now(&self) -> u64 {
        millis(self.clock.now())
    }

    /// Until our monotonic clock is there.
    pub(crate) async fn sleep_until(&self, moment: Duration) {
        self.clock.sleep(moment.saturating_sub(self.clock.monotonic())).await;
    }

    /// The record with what its work has told since it was written, where it runs here.
    pub(crate) fn live(&self, address: &Address, record: &Record) -> Record {
        let mut record = record.clone();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        let same = |shared: &Arc<Shared>| (shared.claimed.id, shared.claimed.epoch) == (record.id, record.epoch);
        if let Some(shared) = running.filter(same).filter(|_| record.lease.is_some()) {
            shared.told().write_to(&mut record);
        }
        record
    }

    pub(crate) fn line(&self, level: crate::record::Level, text: String) -> Line {
        Line::new(self.now(), level, text)
    }
}
