//! Holding a lease: renewing it, saving checkpoints, and writing what came of the run.
//!
//! As long as the lease is ours nobody else changes the record, but that somebody may ask to cancel it. So every write is a swap
//! against the version that was written last; when it is refused the record is read, and if it is still ours to write, we go on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::address::Address;
use crate::board::Seen;
use crate::error::Error;
use crate::jobs::Inner;
use crate::options::Kind;
use crate::record::{JobState, Level, Line, Record, Slot};
use crate::running::{LeaseLost, Save, Shared};
use crate::work::Outcome;

pub(crate) struct Keeper {
    inner: Arc<Inner>,
    address: Address,
    shared: Arc<Shared>,
    /// The record as we want it. What is in the slot differs by no more than a cancellation that we have not seen.
    record: Record,
    /// The slot as we know it.
    seen: Seen,
    /// When the last write that succeeded was begun. Nobody can have taken our lease for dead before this and its duration.
    confirmed: Duration,
}

impl Keeper {
    /// The keeper of a lease that was taken by a write that began at `confirmed`.
    pub(crate) fn new(inner: Arc<Inner>, address: Address, shared: Arc<Shared>, seen: Seen, confirmed: Duration) -> Self {
        let record = shared.claimed.clone();
        Self { inner, address, shared, record, seen, confirmed }
    }

    /// Renews the lease and writes checkpoints until the lease is lost: because somebody else has it, or because it could not be
    /// renewed for so long that somebody else may soon. What is left then is for clocks that do not run alike.
    pub(crate) async fn keep(&mut self, saves: &mut mpsc::Receiver<Save>) -> LeaseLost {
        let inner = Arc::clone(&self.inner);
        let lease = inner.options.lease;
        loop {
            let save = tokio::select! {
                Some(save) = saves.recv() => Some(save),
                () = inner.sleep_until(self.confirmed + lease / 3) => None,
            };
            let end = self.confirmed + lease * 5 / 6;
            let (checkpoint, done) = save.map(|save| (save.checkpoint, save.done)).unzip();
            let renewed = tokio::select! {
                // First: a process that stood still must see that its time has passed, and not go on because an old write succeeded.
                biased;
                () = inner.sleep_until(end) => Err(LeaseLost),
                renewed = self.renew(checkpoint) => renewed,
            };
            if let Some(done) = done {
                // A work that has stopped waiting for the answer does not miss it.
                let _ = done.send(renewed);
            }
            if let Err(lost) = renewed {
                return lost;
            }
        }
    }

    /// Writes the record as it is now, again until that is done.
    async fn renew(&mut self, checkpoint: Option<Value>) -> Result<(), LeaseLost> {
        if let Some(checkpoint) = &checkpoint {
            self.record.checkpoint.clone_from(checkpoint);
        }
        loop {
            let begun = self.inner.clock.monotonic();
            self.shared.told().write_to(&mut self.record);
            if let Some(lease) = &mut self.record.lease {
                lease.beat = lease.beat.saturating_add(1);
            }
            match self.swap(&self.record).await {
                Ok(Some(seen)) => {
                    self.adopt(seen)?;
                    self.confirmed = begun;
                    if let Some(checkpoint) = checkpoint {
                        self.shared.saved(checkpoint);
                    }
                    return Ok(());
                }
                Ok(None) => self.refresh().await?,
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// Writes what came of the run, again until that is done. Gives the slot with it, unless somebody else went on from there.
    pub(crate) async fn finish(&mut self, outcome: &Outcome, kind: &Kind) -> Result<Option<Seen>, LeaseLost> {
        let (backoff, now) = (backoff(&self.inner, self.record.attempts, kind), self.inner.now());
        loop {
            let mut record = self.record.clone();
            self.shared.told().write_to(&mut record);
            apply(&mut record, outcome, kind, backoff, now);
            match self.swap(&record).await {
                Ok(Some(seen)) => {
                    self.record = record;
                    return Ok(Some(seen));
                }
                Ok(None) => {
                    let there = self.read().await?;
                    if there.slot.last == Some(record.id) {
                        // It was written though we were not told, and somebody brought it to the history.
                        self.record = record;
                        return Ok(None);
                    }
                    if let Some(open) = there.slot.open.as_ref().filter(|open| self.is_of_this_run(open))
                        && open.state != JobState::Running
                    {
                        // It was written though we were not told: nobody else lets go of our lease.
                        self.record = open.clone();
                        return Ok(Some(there));
                    }
                    self.adopt(there)?;
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// The record as it was written last.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    async fn swap(&self, record: &Record) -> Result<Option<Seen>, Error> {
        let slot = Slot {
            revision: self.seen.slot.revision.saturating_add(1),
            stamp: self.seen.slot.stamp,
            last: self.seen.slot.last,
            open: Some(record.clone()),
        };
        self.inner.swap(&self.address, slot, Some(&self.seen.version)).await
    }

    /// Looks why a write was refused, and goes on from there if the lease is still ours.
    async fn refresh(&mut self) -> Result<(), LeaseLost> {
        let there = self.read().await?;
        self.adopt(there)
    }

    async fn read(&self) -> Result<Seen, LeaseLost> {
        loop {
            match self.inner.look_again(&self.address).await {
                Ok(Some(seen)) => return Ok(seen),
                Ok(None) | Err(Error::Corrupt { .. }) => return Err(LeaseLost),
                Err(error) => self.pause(&error).await,
            }
        }
    }

    fn is_of_this_run(&self, record: &Record) -> bool {
        (record.id, record.epoch) == (self.record.id, self.record.epoch)
    }

    /// Takes what is in the slot for what was written last, if it is this run's.
    fn adopt(&mut self, seen: Seen) -> Result<(), LeaseLost> {
        let open = seen.slot.open.as_ref().filter(|open| self.is_of_this_run(open));
        let Some(open) = open.filter(|open| open.state == JobState::Running) else { return Err(LeaseLost) };
        if self.record.cancelled_by.is_none()
            && let Some(by) = &open.cancelled_by
        {
            self.record.cancelled_by = Some(by.clone());
            self.shared.told().log(self.inner.line(Level::Info, format!("{by} asked to cancel it")));
            self.shared.cancel();
        }
        self.seen = seen;
        Ok(())
    }

    async fn pause(&self, error: &Error) {
        let job = self.record.id;
        tracing::warn!(%job, kind = self.address.kind, key = self.address.key, error = %telemetry::chain(error), "a job cannot be written; trying again");
        self.inner.clock.sleep(self.inner.options.lease / 30).await;
    }
}

/// The wait after one more failure.
fn backoff(inner: &Inner, attempts: u32, kind: &Kind) -> Duration {
    let doubled = kind.backoff.saturating_mul(2_u32.saturating_pow(attempts));
    let longest = doubled.min(kind.longest_backoff);
    inner.options.random.between(longest / 2, longest)
}

/// What a run's outcome makes of the record.
fn apply(record: &mut Record, outcome: &Outcome, kind: &Kind, backoff: Duration, now: u64) {
    let millis = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    record.lease = None;
    record.state = JobState::Waiting;
    match outcome {
        Outcome::Done(result) => {
            record.state = JobState::Done;
            record.result.clone_from(result);
            record.reason = None;
        }
        Outcome::Failed { reason, result } => {
            record.state = JobState::Failed;
            record.result.clone_from(result);
            record.reason = Some(reason.clone());
        }
        Outcome::Retry { reason, after } => {
            record.attempts = record.attempts.saturating_add(1);
            record.reason = Some(reason.clone());
            record.due = now.saturating_add(millis(after.as_ref().unwrap_or(&backoff)));
            if record.attempts >= kind.attempts {
                record.state = JobState::Failed;
            }
            add_note(record, now, Level::Warn, format!("attempt {} failed: {reason}", record.attempts));
        }
        Outcome::Later { after, reason } => {
            record.reason = Some(reason.clone());
            record.due = now.saturating_add(millis(after));
            add_note(record, now, Level::Info, format!("put off: {reason}"));
        }
        Outcome::Yield(checkpoint) => record.checkpoint.clone_from(checkpoint),
    }
    if record.cancelled_by.is_some() && record.state != JobState::Done {
        record.state = JobState::Cancelled;
    }
    if record.state.is_ended() {
        record.ended = Some(now);
    }
}

fn add_note(record: &mut Record, at: u64, level: Level, text: String) {
    record.log(Line::new(at, level, text));
}
