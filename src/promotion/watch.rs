//! Sees to it that what is due has a job.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jobs::{JobState, Jobs, NewJob, Submitted};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::follow::ROLLOUT_KIND;
use crate::promotions::{KIND, Poke, Promotions};
use crate::validation::VALIDATION_KIND;

/// How often the ledgers are looked through for what has become due, and for what a crash has left.
const SWEEP: Duration = Duration::from_secs(5);
/// What is waited before a job is asked for again while another one is about to end; longer each time.
const AGAIN: Duration = Duration::from_millis(50);
/// And how many times.
const ATTEMPTS: u32 = 10;

impl Promotions {
    /// Submits the jobs of what is due, until `stop`. Several servers may do so.
    pub async fn watch(&self, jobs: &Jobs, stop: CancellationToken) {
        let (mut tasks, mut asked) = (FuturesUnordered::new(), BTreeSet::new());
        let mut next = self.0.clock.monotonic();
        loop {
            if self.0.clock.monotonic() >= next {
                self.look_through().await;
                next = self.0.clock.monotonic() + SWEEP;
            }
            let pokes = std::mem::take(&mut *self.0.pokes.lock().unwrap_or_else(PoisonError::into_inner));
            for poke in pokes {
                if asked.insert(poke.clone()) {
                    tasks.push(async move {
                        self.submit(jobs, &poke).await;
                        poke
                    });
                }
            }
            tokio::select! {
                Some(poke) = tasks.next() => {
                    asked.remove(&poke);
                }
                () = self.0.has_pokes.notified() => {}
                () = self.0.clock.sleep(next.saturating_sub(self.0.clock.monotonic())) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Finds what nobody has said to be due.
    async fn look_through(&self) {
        let now = self.now();
        for rule in self.all() {
            match self.ledger(&rule.name).await {
                Ok(ledger) => {
                    self.0.metrics.promotion_held(&rule.name, ledger.hold.is_some());
                    if ledger.is_due(now) {
                        self.wake(rule);
                    }
                    if self.is_to_be_followed(rule, &ledger) {
                        self.poke(Poke::Rollout(rule.name.clone()));
                    }
                    if !ledger.unvalidated.is_empty() {
                        self.poke(Poke::Validation(rule.name.clone()));
                    }
                }
                Err(error) => tracing::warn!(promotion = rule.name, error = %telemetry::chain(&error), "trying again"),
            }
        }
    }

    /// Submits a job. One that is open and has not begun will see what is in the ledgers now; for one that may have looked already
    /// this waits a little, until the next can be made.
    async fn submit(&self, jobs: &Jobs, poke: &Poke) {
        let (kind, key) = match poke {
            Poke::Branch(branch) => (KIND, branch),
            Poke::Rollout(rule) => (ROLLOUT_KIND, rule),
            Poke::Validation(rule) => (VALIDATION_KIND, rule),
        };
        for attempt in 0..ATTEMPTS {
            if !self.has_to(poke).await {
                return;
            }
            let (due, input) = (self.0.clock.now(), Value::Null);
            let job = NewJob { kind: kind.to_owned(), key: key.clone(), input, due, stamp: None, by: None };
            match jobs.submit(job).await {
                Ok(Submitted::New(_)) => return,
                Ok(Submitted::Open(_) | Submitted::Past) => {}
                Err(error) => {
                    tracing::warn!(kind, key, error = %telemetry::chain(&error), "a job could not be submitted; it is later");
                    return;
                }
            }
            if let Ok(Some(open)) = jobs.open_at(kind, key).await
                && open.state == JobState::Waiting
            {
                return;
            }
            self.0.clock.sleep(AGAIN * (attempt + 1)).await;
        }
        // The next look through the ledgers finds it.
    }

    async fn has_to(&self, poke: &Poke) -> bool {
        let now = self.now();
        let is_meant = |rule: &&crate::rule::Rule| match poke {
            Poke::Branch(branch) => rule.branch == *branch,
            Poke::Rollout(name) | Poke::Validation(name) => rule.name == *name,
        };
        for rule in self.all().filter(is_meant) {
            let Ok(ledger) = self.ledger(&rule.name).await else { return true };
            let has_to = match poke {
                Poke::Branch(_) => ledger.is_due(now),
                Poke::Rollout(_) => self.is_to_be_followed(rule, &ledger),
                Poke::Validation(_) => !ledger.unvalidated.is_empty(),
            };
            if has_to {
                return true;
            }
        }
        false
    }
}
