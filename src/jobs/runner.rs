//! The loop of a process that does jobs: it sees what is ready, takes it, and waits until something may be.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::board::Seen;
use crate::claim::{Claim, Ready};
use crate::error::Error;
use crate::holder::hold;
use crate::jobs::Inner;

/// Slots in which no job is open are looked at in one of so many polls: whoever submits one runs it, if it does not die over that.
const IDLE: u32 = 6;

/// What the loop remembers from one turn to the next.
struct Turns {
    /// Polls since all slots were looked at.
    polls: u32,
    /// When the next poll is, on our monotonic clock.
    next: Duration,
    /// Until then nothing is begun: the state failed just now.
    rest: Duration,
}

pub(crate) async fn run(inner: &Arc<Inner>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut turns = Turns { polls: IDLE, next: Duration::ZERO, rest: Duration::ZERO };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            seen = look(inner, &mut turns) => {
                if let Err(error) = seen {
                    tracing::warn!(error = %telemetry::chain(&error), "jobs cannot be looked at; trying again");
                }
            }
        }
        let mut wake = turns.next;
        if inner.clock.monotonic() >= turns.rest {
            match start(inner, &mut tasks, &stop).await {
                Started::Missed => continue,
                Started::All(wait) => wake = wake.min(inner.clock.monotonic().saturating_add(wait)),
                Started::Failed => turns.rest = inner.clock.monotonic() + inner.options.poll / 5,
            }
        }
        if turns.rest > inner.clock.monotonic() {
            wake = wake.min(turns.rest);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => told(ended),
            () = inner.wake.notified() => {}
            () = inner.sleep_until(wake) => {}
        }
        while let Some(ended) = tasks.try_join_next() {
            told(ended);
        }
    }
    while let Some(ended) = tasks.join_next().await {
        told(ended);
    }
}

fn told(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a run of a job ended in a defect of ours");
    }
}

/// Learns what others did, if it is time for that, and what became of what we tried.
async fn look(inner: &Inner, turns: &mut Turns) -> Result<(), Error> {
    let now = inner.clock.monotonic();
    if now >= turns.next {
        let poll = inner.options.poll;
        turns.next = now + inner.options.random.between(poll * 4 / 5, poll * 6 / 5);
        turns.polls += 1;
        if turns.polls > IDLE {
            // Also where nobody else writes, since that is no more than somebody's promise.
            inner.board.doubt_all();
            inner.look_at_all().await?;
            turns.polls = 0;
        } else if !inner.state.is_exclusive() {
            let occupied = inner.board.occupied().into_iter().map(|(address, _)| address);
            inner.look_at(occupied.filter(|address| !is_running(inner, address)).collect()).await?;
        }
    }
    inner.look_at(inner.board.unsure()).await.map(|_| ())
}

fn is_running(inner: &Inner, address: &Address) -> bool {
    inner.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(address)
}

enum Started {
    /// All that could be; there will be something in that time if nothing happens before.
    All(Duration),
    /// Others were faster: it has to be looked again.
    Missed,
    /// The state failed.
    Failed,
}

/// Begins what is ready, as much as may run at once: first what is due first.
async fn start(inner: &Arc<Inner>, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Started {
    let mut running: HashMap<String, usize> = HashMap::new();
    for address in inner.running.lock().unwrap_or_else(PoisonError::into_inner).keys() {
        *running.entry(address.kind.clone()).or_default() += 1;
    }
    let (mut ready, wait) = ready(inner);
    ready.sort_by_key(|(_, seen)| seen.slot.open.as_ref().map(|record| (record.due, record.id)));
    let mut missed = false;
    for (address, seen) in ready {
        let Some((kind, registered)) = inner.registered(&address.kind) else { continue };
        let ended = seen.slot.open.as_ref().is_some_and(|record| record.state.is_ended());
        let of_kind = running.get(kind).copied().unwrap_or(0);
        let full = running.values().sum::<usize>() >= inner.options.concurrency || of_kind >= registered.kind.at_once;
        if (full && !ended) || stop.is_cancelled() {
            continue;
        }
        match inner.claim(&address, &seen, kind, stop).await {
            Ok(Claim::Taken(place, seen, begun)) => {
                *running.entry(kind.to_owned()).or_default() += 1;
                tasks.spawn(hold(place, registered, seen, begun));
            }
            Ok(Claim::Settled) => {}
            Ok(Claim::Missed) => missed = true,
            Err(error) => {
                tracing::warn!(kind, key = address.key, error = %telemetry::chain(&error), "a job cannot be begun; trying again");
                return Started::Failed;
            }
        }
    }
    if missed { Started::Missed } else { Started::All(wait) }
}

/// What can be begun now, and in what time there will be more.
fn ready(inner: &Inner) -> (Vec<(Address, Seen)>, Duration) {
    let (mut ready, mut wait) = (Vec::new(), Duration::MAX);
    for (address, seen) in inner.board.occupied() {
        if is_running(inner, &address) {
            continue;
        }
        match inner.ready(&seen) {
            Ready::Now => ready.push((address, seen)),
            Ready::In(left) => wait = wait.min(left),
            Ready::Never => {}
        }
    }
    (ready, wait)
}
