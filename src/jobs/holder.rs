//! One run of a job: its work, and the lease that is kept for it meanwhile.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use telemetry::JobOutcome;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::board::Seen;
use crate::jobs::{Inner, Registered};
use crate::keeper::Keeper;
use crate::record::{JobState, Record};
use crate::running::{Running, Shared};
use crate::work::Outcome;

/// The place of a job among those that run here. Dropped, it is free.
pub(crate) struct Place {
    pub(crate) inner: Arc<Inner>,
    pub(crate) address: Address,
    pub(crate) kind: &'static str,
    pub(crate) shared: Arc<Shared>,
}

impl Place {
    pub(crate) fn take(
        inner: &Arc<Inner>,
        address: &Address,
        kind: &'static str,
        claimed: Record,
        stop: &CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared::new(claimed, Arc::clone(&inner.clock), stop));
        let (inner, address) = (Arc::clone(inner), address.clone());
        inner.running.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone(), Arc::clone(&shared));
        inner.metrics.job_started(kind);
        Self { inner, address, kind, shared }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
        self.inner.metrics.job_stopped(self.kind);
        self.inner.ended.send_replace(());
        self.inner.wake.notify_one();
    }
}

/// How a run ended.
enum End {
    Lost,
    /// It did not end by itself when it had to.
    Overdue,
    With(Outcome),
}

/// Does a job whose lease was taken by a write that began at `begun`, and writes what came of it.
pub(crate) async fn hold(place: Place, registered: Registered, seen: Seen, begun: Duration) {
    let (inner, address, shared) = (&place.inner, &place.address, &place.shared);
    let (id, kind, key) = (shared.claimed.id, place.kind, address.key.as_str());
    tracing::info!(job = %id, kind, key, attempt = shared.claimed.attempts + 1, "a job begins");
    let start = inner.clock.monotonic();
    let mut keeper = Keeper::new(Arc::clone(inner), address.clone(), Arc::clone(shared), seen, begun);
    let end = run(&place, &registered, &mut keeper).await;
    let (outcome, ended) = finish(&place, &registered, &mut keeper, end).await;
    let duration = inner.clock.monotonic().saturating_sub(start);
    inner.metrics.job_ended(kind, outcome, duration);
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let reason = keeper.record().reason.as_deref();
    match outcome {
        JobOutcome::Failed => tracing::error!(job = %id, kind, key, duration_ms, reason, "a job failed"),
        JobOutcome::Lost => tracing::warn!(job = %id, kind, key, duration_ms, "the lease of a job was lost, and its run dropped"),
        JobOutcome::Left => tracing::warn!(job = %id, kind, key, duration_ms, "a job did not end in time, and is left to others"),
        JobOutcome::Done | JobOutcome::Cancelled | JobOutcome::Waiting => {
            tracing::info!(job = %id, kind, key, duration_ms, reason, outcome = outcome.label(), "a run of a job ended");
        }
    }
    // Whoever follows it need not wait for the history.
    inner.ended.send_replace(());
    if let Some(seen) = ended
        && let Err(error) = inner.archive(address, &seen).await
    {
        // Whoever finds it there tries again.
        tracing::warn!(job = %id, error = %telemetry::chain(&error), "a job that ended is not in the history yet");
    }
}

/// Lets the work run as long as it may.
async fn run(place: &Place, registered: &Registered, keeper: &mut Keeper) -> End {
    let (job, mut saves) = Running::new(Arc::clone(&place.shared));
    let work = AssertUnwindSafe(registered.work.run(job)).catch_unwind();
    let overdue = async {
        place.shared.ending().await;
        place.inner.clock.sleep(place.inner.options.grace).await;
    };
    // The lease first: a work must not go on when it is lost.
    tokio::select! {
        biased;
        _ = keeper.keep(&mut saves) => End::Lost,
        outcome = work => End::With(outcome.unwrap_or_else(|panic| panicked(panic.as_ref()))),
        () = overdue => End::Overdue,
    }
}

/// Writes what came of the run. Gives the slot with it, if that is for us to bring to the history.
async fn finish(place: &Place, registered: &Registered, keeper: &mut Keeper, end: End) -> (JobOutcome, Option<Seen>) {
    let outcome = match end {
        End::Lost => return (JobOutcome::Lost, None),
        End::With(outcome) => outcome,
        End::Overdue if place.shared.is_cancelled() => {
            let reason = format!("it was cancelled and did not end within {:?}", place.inner.options.grace);
            Outcome::Failed { reason, result: Value::Null }
        }
        End::Overdue => return (JobOutcome::Left, None),
    };
    let given_up = async {
        place.shared.stopping().await;
        place.inner.clock.sleep(place.inner.options.grace).await;
    };
    let written = tokio::select! {
        biased;
        written = keeper.finish(&outcome, &registered.kind) => written,
        () = given_up => return (JobOutcome::Left, None),
    };
    let Ok(ended) = written else { return (JobOutcome::Lost, None) };
    let outcome = match keeper.record().state {
        JobState::Done => JobOutcome::Done,
        JobState::Failed => JobOutcome::Failed,
        JobState::Cancelled => JobOutcome::Cancelled,
        JobState::Waiting | JobState::Running => JobOutcome::Waiting,
    };
    (outcome, ended)
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Outcome::Failed { reason: format!("its work panicked: {}", text.unwrap_or("without a word")), result: Value::Null }
}
