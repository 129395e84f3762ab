//! Taking the lease of a job.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::board::Seen;
use crate::error::Error;
use crate::holder::Place;
use crate::jobs::Inner;
use crate::record::{JobState, Lease, Level, Record, Slot};

/// When something is to be done about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    Now,
    In(Duration),
    Never,
}

/// What came of an attempt to take a lease.
pub(crate) enum Claim {
    /// It is ours, by a write that began at that time.
    Taken(Place, Seen, Duration),
    /// There is nothing to run any more.
    Settled,
    /// Somebody else was faster.
    Missed,
}

impl Inner {
    /// When may we do something about this slot, which is in no run of ours?
    pub(crate) fn ready(&self, seen: &Seen) -> Ready {
        let Some(record) = &seen.slot.open else { return Ready::Never };
        let left = match (record.state, &record.lease) {
            (JobState::Waiting, _) => Duration::from_millis(record.due.saturating_sub(self.now())),
            (JobState::Running, Some(lease)) if !self.is_dead(lease) => {
                let end = seen.since + Duration::from_millis(lease.duration_ms);
                end.saturating_sub(self.clock.monotonic())
            }
            (JobState::Running | JobState::Done | JobState::Failed | JobState::Cancelled, _) => Duration::ZERO,
        };
        if left.is_zero() { Ready::Now } else { Ready::In(left) }
    }

    /// A lease that nobody can hold: ours, where it is not in a run of ours, and any other where there is nobody else.
    fn is_dead(&self, lease: &Lease) -> bool {
        lease.owner == self.owner || self.state.is_exclusive()
    }

    /// Takes the lease of a job that is ready. What has ended goes to the history, and what is to be cancelled ends.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        address: &Address,
        seen: &Seen,
        kind: &'static str,
        stop: &CancellationToken,
    ) -> Result<Claim, Error> {
        let Some(record) = &seen.slot.open else { return Ok(Claim::Settled) };
        if record.state.is_ended() {
            self.archive(address, seen).await?;
            return Ok(Claim::Settled);
        }
        let record = self.claimed(record);
        let slot = Slot { revision: seen.slot.revision.saturating_add(1), open: Some(record.clone()), ..Slot::clone(&seen.slot) };
        if record.state.is_ended() {
            let Some(ended) = self.swap(address, slot, Some(&seen.version)).await? else { return Ok(Claim::Missed) };
            self.archive(address, &ended).await?;
            self.ended.send_replace(());
            return Ok(Claim::Settled);
        }
        // Before it is written, so that nobody here takes the lease for that of a run that is over.
        let place = Place::take(self, address, kind, record, stop);
        let begun = self.clock.monotonic();
        let taken = self.swap(address, slot, Some(&seen.version)).await?;
        Ok(taken.map_or(Claim::Missed, |seen| Claim::Taken(place, seen, begun)))
    }

    /// The record as it is once we have its lease, or as it ends because somebody asked for that.
    fn claimed(&self, record: &Record) -> Record {
        let (mut record, now) = (record.clone(), self.now());
        let before = record.lease.take();
        if record.cancelled_by.is_some() {
            record.state = JobState::Cancelled;
            record.ended = Some(now);
            return record;
        }
        if record.state == JobState::Running {
            record.lost = record.lost.saturating_add(1);
            let whose = if before.is_some_and(|lease| lease.owner == self.owner) { "this process" } else { "another process" };
            record.log(self.line(Level::Warn, format!("a run of {whose} was lost; begun again")));
        }
        record.state = JobState::Running;
        record.epoch = record.epoch.saturating_add(1);
        record.started.get_or_insert(now);
        let duration_ms = u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX);
        record.lease = Some(Lease { owner: self.owner.clone(), beat: 0, duration_ms });
        record
    }
}
