//! Asking for a job, for its end, and for it once more.

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::address::Address;
use crate::board::Seen;
use crate::error::Error;
use crate::jobs::Inner;
use crate::record::{JobId, JobState, Level, Record, Slot, millis};

/// How often a slot is looked at again when another writer was faster.
const ATTEMPTS: u32 = 32;
/// What is waited before that; longer each time.
const PAUSE: Duration = Duration::from_millis(2);

/// A job that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// What kind of work: one that is registered.
    pub kind: String,
    /// What it is about: at most one job of a kind is open per key. At most 200 bytes, of which those that are not letters, digits,
    /// `-`, `_` or `.` count three times.
    pub key: String,
    /// For its work.
    pub input: Value,
    /// Not begun before.
    pub due: SystemTime,
    /// For what is to happen once, whoever asks for it: a job is only made if none was made there with this stamp or a higher one.
    /// A schedule gives the time that it is for, in milliseconds since 1970.
    pub stamp: Option<u64>,
    /// Who asks.
    pub by: Option<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// This job was made.
    New(JobId),
    /// This one is open already and none was made. The stamp is not used up.
    Open(JobId),
    /// One was made with this stamp or a higher one before.
    Past,
}

/// No replica's clock is further ahead than this.
const STAMPS_AHEAD: Duration = Duration::from_hours(24);

impl Inner {
    pub(crate) async fn submit(&self, job: NewJob) -> Result<Submitted, Error> {
        let address = Address::new(&job.kind, &job.key)?;
        if self.registered(&job.kind).is_none() {
            return Err(Error::Invalid { what: "kind", text: job.kind });
        }
        let record = self.record(&address, job);
        let only = record.stamp;
        self.occupy(&address, record, only).await
    }

    fn record(&self, address: &Address, job: NewJob) -> Record {
        let now = self.clock.now();
        Record {
            id: self.options.random.id(now),
            kind: address.kind.clone(),
            key: address.key.clone(),
            state: JobState::Waiting,
            input: job.input,
            checkpoint: Value::Null,
            progress: Value::Null,
            result: Value::Null,
            reason: None,
            by: job.by,
            cancelled_by: None,
            stamp: job.stamp,
            retry_of: None,
            due: millis(job.due),
            created: millis(now),
            started: None,
            ended: None,
            attempts: 0,
            epoch: 0,
            lost: 0,
            lease: None,
            log: Vec::new(),
        }
    }

    /// Puts a new job into its slot if none is open there, and none was with the stamp `only` or a higher one.
    async fn occupy(&self, address: &Address, record: Record, only: Option<u64>) -> Result<Submitted, Error> {
        for attempt in 0..ATTEMPTS {
            let seen = self.look(address).await?;
            let before = seen.as_ref().map(|seen| Slot::clone(&seen.slot)).unwrap_or_default();
            // Our own write, whose answer was lost.
            let ours = before.last == Some(record.id) || before.open.as_ref().is_some_and(|open| open.id == record.id);
            if ours {
                self.wake.notify_one();
                return Ok(Submitted::New(record.id));
            }
            // A stamp that is a time far ahead comes from a clock that was wrong once, and must not silence a schedule until then.
            let ahead = millis(self.clock.now() + STAMPS_AHEAD);
            let stamp = before.stamp.filter(|stamp| *stamp <= ahead);
            if only.is_some() && stamp >= only {
                return Ok(Submitted::Past);
            }
            if let (Some(open), Some(seen)) = (&before.open, &seen) {
                if !open.state.is_ended() {
                    return Ok(Submitted::Open(open.id));
                }
                self.archive(address, seen).await?;
                continue;
            }
            let stamp = stamp.max(record.stamp);
            let slot = Slot { revision: before.revision.saturating_add(1), stamp, last: before.last, open: Some(record.clone()) };
            if self.swap(address, slot, seen.as_ref().map(|seen| &seen.version)).await?.is_some() {
                tracing::info!(job = %record.id, kind = address.kind, key = address.key, by = record.by, "a job was submitted");
                self.wake.notify_one();
                return Ok(Submitted::New(record.id));
            }
            self.clock.sleep(PAUSE * attempt).await;
        }
        Err(contended(address))
    }

    pub(crate) async fn cancel(&self, id: JobId, by: &str) -> Result<Record, Error> {
        let mut changing = None;
        for attempt in 0..ATTEMPTS {
            let Some((address, seen)) = self.find_open(id).await? else {
                let ended = self.find_ended(id).await?.is_some();
                return Err(if ended { Error::Ended { id } } else { Error::Unknown { id } });
            };
            if let Some(record) = self.cancel_in(&address, &seen, by).await? {
                return Ok(record);
            }
            changing = Some(address);
            self.clock.sleep(PAUSE * attempt).await;
        }
        Err(changing.map_or(Error::Unknown { id }, |address| contended(&address)))
    }

    /// Cancels the job in this slot. `None` if the slot has changed.
    async fn cancel_in(&self, address: &Address, seen: &Seen, by: &str) -> Result<Option<Record>, Error> {
        let mut slot = Slot::clone(&seen.slot);
        slot.revision = slot.revision.saturating_add(1);
        let Some(record) = &mut slot.open else { return Ok(None) };
        if record.state.is_ended() {
            return Err(Error::Ended { id: record.id });
        }
        if record.state == JobState::Running && record.cancelled_by.is_some() {
            self.tell(address, record);
            return Ok(Some(self.live(address, record)));
        }
        record.cancelled_by.get_or_insert_with(|| by.to_owned());
        if record.state == JobState::Waiting {
            record.log(self.line(Level::Info, format!("{by} cancelled it")));
            record.state = JobState::Cancelled;
            record.ended = Some(self.now());
        }
        let record = record.clone();
        let Some(seen) = self.swap(address, slot, Some(&seen.version)).await? else { return Ok(None) };
        tracing::info!(job = %record.id, kind = address.kind, key = address.key, by, "a job was cancelled");
        if record.state.is_ended() {
            self.ended.send_replace(());
            self.archive(address, &seen).await?;
        } else {
            self.tell(address, &record);
        }
        Ok(Some(self.live(address, &record)))
    }

    /// Tells a job that runs here that it is cancelled. Others hear of it when they renew their lease.
    fn tell(&self, address: &Address, record: &Record) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        if let Some(shared) = running.filter(|shared| shared.claimed.id == record.id) {
            shared.cancel();
        }
        // It may be nobody's any more.
        self.wake.notify_one();
    }

    pub(crate) async fn retry(&self, id: JobId, by: &str) -> Result<Submitted, Error> {
        if let Some((address, seen)) = self.find_open(id).await? {
            if seen.slot.open.as_ref().is_some_and(|record| !record.state.is_ended()) {
                return Err(Error::NotEnded { id });
            }
            self.archive(&address, &seen).await?;
        }
        let Some((address, old)) = self.find_ended(id).await? else { return Err(Error::Unknown { id }) };
        if old.state == JobState::Done {
            return Err(Error::Done { id });
        }
        let (stamp, by, due) = (old.stamp, Some(by.to_owned()), self.clock.now());
        let job = NewJob { kind: old.kind, key: old.key, input: old.input, due, stamp, by };
        let record = Record { retry_of: Some(id), checkpoint: old.checkpoint, ..self.record(&address, job) };
        self.occupy(&address, record, None).await
    }
}

fn contended(address: &Address) -> Error {
    Error::Contended { kind: address.kind.clone(), key: address.key.clone() }
}
