//! A job as its work sees it.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use telemetry::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::record::{JobId, Level, Line, Record, millis};

/// The lease is lost: somebody else works on the job now, or may soon. The work is about to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease of the job is lost")]
pub struct LeaseLost;

/// A job that is being done, for its [`crate::Work`]. Cheap to clone; all clones are the same job.
#[derive(Clone)]
pub struct Running(Arc<Shared>);

/// What the work and the one who holds the lease for it share.
pub(crate) struct Shared {
    pub(crate) claimed: Record,
    pub(crate) told: Mutex<Told>,
    saves: mpsc::Sender<Save>,
    clock: Arc<dyn Clock>,
    /// Somebody asked to cancel the job.
    pub(crate) cancel: CancellationToken,
    /// The process stops.
    pub(crate) stop: CancellationToken,
    /// Either of them.
    pub(crate) end: CancellationToken,
}

/// What the work told since it was last written.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) progress: Option<Value>,
    pub(crate) lines: Vec<Line>,
    /// As saved; what the record had before that until then.
    pub(crate) checkpoint: Value,
}

/// A checkpoint that is to be written.
pub(crate) struct Save {
    pub(crate) checkpoint: Value,
    pub(crate) done: oneshot::Sender<Result<(), LeaseLost>>,
}

impl Running {
    /// Which job.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.0.claimed.id
    }

    /// What it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.0.claimed.key
    }

    /// What it was given.
    #[must_use]
    pub fn input(&self) -> &Value {
        &self.0.claimed.input
    }

    /// What was saved last, by this run or one before it; null if nothing was.
    #[must_use]
    pub fn checkpoint(&self) -> Value {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).checkpoint.clone()
    }

    /// The stamp that it was submitted with.
    #[must_use]
    pub fn stamp(&self) -> Option<u64> {
        self.0.claimed.stamp
    }

    /// The record as it was when this run began, with when it was due and who asked for it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.0.claimed
    }

    /// 1 at first, and one more after each failure that counts.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.claimed.attempts.saturating_add(1)
    }

    /// Tells how far it is. Cheap: it is written with the next renewal of the lease, and shown by this process at once.
    pub fn progress(&self, progress: Value) {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).progress = Some(progress);
    }

    /// Adds a line to the job's log, of which the last 200 are kept, each cut to 500 bytes. Written as [`Running::progress`]. No secret
    /// belongs here.
    pub fn log(&self, level: Level, text: impl Into<String>) {
        let line = Line::new(millis(self.0.clock.now()), level, text.into());
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).log(line);
    }

    /// Writes from where the job is to go on if this run does not end, durably, with what was told until now.
    ///
    /// Fenced: nothing is written once the lease is somebody else's. If the state fails it is tried again for as long as the lease
    /// holds.
    pub async fn save(&self, checkpoint: Value) -> Result<(), LeaseLost> {
        let (done, saved) = oneshot::channel();
        self.0.saves.send(Save { checkpoint, done }).await.map_err(|_| LeaseLost)?;
        saved.await.map_err(|_| LeaseLost)?
    }

    /// Cancelled when the work is to end: because somebody asked for that ([`Running::is_cancelled`]), or because the process stops,
    /// and then the work may answer [`crate::Outcome::Yield`]. If it does not end within the grace period it is dropped.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.0.end.clone()
    }

    /// Did somebody ask to cancel this job? Whatever the work answers then, but `Done`, makes a cancelled job.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// Does the process stop?
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }
}
