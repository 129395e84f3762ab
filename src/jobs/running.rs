//! A job as its work sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use telemetry::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::record::{JobId, Level, Line, Record, add_line, millis};

/// The lease is lost: somebody else works on the job now, or may soon. The work is about to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease of the job is lost")]
pub struct LeaseLost;

/// A job that is being done, for its [`crate::Work`]. Cheap to clone; all clones are the same job.
#[derive(Clone)]
pub struct Running {
    shared: Arc<Shared>,
    saves: mpsc::Sender<Save>,
}

/// What the work and the one who holds the lease for it share.
pub(crate) struct Shared {
    /// As it was when this run began.
    pub(crate) claimed: Record,
    told: Mutex<Told>,
    clock: Arc<dyn Clock>,
    /// Somebody asked to cancel the job.
    cancel: CancellationToken,
    /// The process stops.
    stop: CancellationToken,
    /// Either of them.
    end: CancellationToken,
}

/// What the work told last.
pub(crate) struct Told {
    progress: Value,
    log: Vec<Line>,
    checkpoint: Value,
}

/// A checkpoint that is to be written.
pub(crate) struct Save {
    pub(crate) checkpoint: Value,
    pub(crate) done: oneshot::Sender<Result<(), LeaseLost>>,
}

impl Told {
    /// What is shown before it is written.
    pub(crate) fn write_to(&self, record: &mut Record) {
        record.progress.clone_from(&self.progress);
        record.log.clone_from(&self.log);
    }

    pub(crate) fn log(&mut self, line: Line) {
        add_line(&mut self.log, line);
    }
}

impl Shared {
    pub(crate) fn new(claimed: Record, clock: Arc<dyn Clock>, stop: &CancellationToken) -> Self {
        let told = Told { progress: claimed.progress.clone(), log: claimed.log.clone(), checkpoint: claimed.checkpoint.clone() };
        let (stop, end) = (stop.clone(), stop.child_token());
        Self { claimed, told: Mutex::new(told), clock, cancel: CancellationToken::new(), stop, end }
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asked to cancel the job.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
        self.end.cancel();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Until the work is to end, for whatever cause.
    pub(crate) async fn ending(&self) {
        self.end.cancelled().await;
    }

    /// Until the process stops.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// This checkpoint is written.
    pub(crate) fn saved(&self, checkpoint: Value) {
        self.told().checkpoint = checkpoint;
    }
}

impl Running {
    /// What the work is given, and where its checkpoints come out.
    pub(crate) fn new(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Save>) {
        let (saves, received) = mpsc::channel(1);
        (Self { shared, saves }, received)
    }

    /// Which job.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.shared.claimed.id
    }

    /// What it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.shared.claimed.key
    }

    /// What it was given.
    #[must_use]
    pub fn input(&self) -> &Value {
        &self.shared.claimed.input
    }

    /// What was saved last, by this run or one before it; null if nothing was.
    #[must_use]
    pub fn checkpoint(&self) -> Value {
        self.shared.told().checkpoint.clone()
    }

    /// The stamp that it was submitted with.
    #[must_use]
    pub fn stamp(&self) -> Option<u64> {
        self.shared.claimed.stamp
    }

    /// The record as it was when this run began, with when it was due and who asked for it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.shared.claimed
    }

    /// 1 at first, and one more after each failure that counts.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.shared.claimed.attempts.saturating_add(1)
    }

    /// Tells how far it is. Cheap: it is written with the next renewal of the lease, and shown by this process at once.
    pub fn progress(&self, progress: Value) {
        self.shared.told().progress = progress;
    }

    /// Adds a line to the job's log, of which the last 200 are kept, each cut to 500 bytes. Written as [`Running::progress`]. No
    /// secret belongs here.
    pub fn log(&self, level: Level, text: impl Into<String>) {
        let line = Line::new(millis(self.shared.clock.now()), level, text.into());
        self.shared.told().log(line);
    }

    /// Writes from where the job is to go on if this run does not end, durably, with what was told until now.
    ///
    /// Fenced: nothing is written once the lease is somebody else's. If the state fails it is tried again for as long as the lease
    /// holds.
    pub async fn save(&self, checkpoint: Value) -> Result<(), LeaseLost> {
        let (done, saved) = oneshot::channel();
        self.saves.send(Save { checkpoint, done }).await.map_err(|_| LeaseLost)?;
        saved.await.map_err(|_| LeaseLost)?
    }

    /// Cancelled when the work is to end: because somebody asked for that ([`Running::is_cancelled`]), or because the process stops,
    /// and then the work may answer [`crate::Outcome::Yield`]. If it does not end within the grace period it is dropped.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.shared.end.clone()
    }

    /// Did somebody ask to cancel this job? Whatever the work answers then, but `Done`, makes a cancelled job.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.is_cancelled()
    }

    /// Does the process stop?
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }
}
