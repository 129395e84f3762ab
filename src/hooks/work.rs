//! The work of a lane: what waits in it is delivered, one after the other.

use std::time::Duration;

use async_trait::async_trait;
use jobs::{Level, Outcome, Running, Work};
use serde_json::{Value, json};
use telemetry::chain;

use crate::deliver::{Answer, Verdict, deliver};
use crate::endpoint::Bound;
use crate::hooks::{Hooks, Inner};
use crate::lane::Lane;
use crate::queue::{Found, Name, Queue, QueueError, Queued};
use crate::recent::{self, Attempt, AttemptOutcome};

/// What a lane waits where others of its endpoint are being delivered.
const FULL: Duration = Duration::from_secs(3);
/// How long a delivery that is under way may still take when its job is to end: broken off, it is made again later.
const LAST: Duration = Duration::from_secs(5);

#[async_trait]
impl Work for Hooks {
    async fn run(&self, job: Running) -> Outcome {
        let lane = Lane::parse(job.key());
        let found = lane.and_then(|lane| Some((self.0.endpoints.get(&lane.endpoint)?, lane)));
        let Some((endpoint, lane)) = found else {
            let reason = format!("there is no endpoint for {} in the configuration; its events are kept", job.key());
            return Outcome::Failed { reason, result: Value::Null };
        };
        let Ok(_turn) = endpoint.turns.try_acquire() else {
            let reason = "other repositories are being delivered there".to_owned();
            return Outcome::Later { after: FULL, reason };
        };
        let queue = self.0.queue(&lane.endpoint);
        let mut run = Run { hooks: &self.0, endpoint, lane: &lane, queue, job: &job, delivered: 0, dead: 0 };
        match Box::pin(run.all()).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Retry { reason: chain(&error), after: None },
        }
    }
}

struct Run<'r> {
    hooks: &'r Inner,
    endpoint: &'r Bound,
    lane: &'r Lane,
    queue: Queue<'r>,
    job: &'r Running,
    delivered: u64,
    dead: u64,
}

/// How the lane goes on after one event.
enum Next {
    /// With the one after it.
    Go,
    /// Not now.
    Stop(Outcome),
}

impl Run<'_> {
    async fn all(&mut self) -> Result<Outcome, QueueError> {
        loop {
            // What arrives meanwhile is seen when it is listed again. Without any, the lane is empty.
            let mut waiting = self.queue.waiting().await?;
            waiting.retain(|name| name.is_in(self.lane));
            if waiting.is_empty() {
                return Ok(Outcome::Done(json!({ "delivered": self.delivered, "dead": self.dead })));
            }
            for name in &waiting {
                if let Some(outcome) = self.ended() {
                    return Ok(outcome);
                }
                if let Next::Stop(outcome) = self.one(name).await? {
                    return Ok(outcome);
                }
            }
        }
    }

    /// What to answer if the job is to end.
    fn ended(&self) -> Option<Outcome> {
        if self.job.is_cancelled() {
            return Some(Outcome::Failed { reason: "cancelled".to_owned(), result: Value::Null });
        }
        self.job.is_stopping().then_some(Outcome::Yield(Value::Null))
    }

    async fn one(&mut self, name: &Name) -> Result<Next, QueueError> {
        let (queued, version) = match self.queue.read(name).await? {
            Found::Gone => return Ok(Next::Go),
            Found::Corrupt => {
                tracing::error!(endpoint = self.lane.endpoint, "the record of a delivery is corrupt, and is given up");
                self.bury(name, None, "its record could not be read").await?;
                return Ok(Next::Go);
            }
            Found::Queued(queued, version) => (*queued, version),
        };
        let at = self.hooks.now();
        let sending = deliver(self.endpoint, &queued.event, &self.hooks.registry, self.hooks.clock.as_ref());
        let answer = tokio::select! {
            biased;
            answer = sending => answer,
            () = self.ending() => return Ok(Next::Stop(self.ended().unwrap_or(Outcome::Yield(Value::Null)))),
        };
        let (reason, after, most) = match &answer.verdict {
            Verdict::Delivered => {
                self.note(&queued, &answer, at, AttemptOutcome::Delivered).await;
                self.queue.remove(name).await?;
                self.delivered += 1;
                return Ok(Next::Go);
            }
            Verdict::Rejected { reason } => (reason, None, self.hooks.options.rejected_attempts),
            Verdict::Failed { reason, after } => (reason, *after, self.hooks.options.attempts),
        };
        let failed = Queued { attempts: queued.attempts.saturating_add(1), ..queued };
        let age = Duration::from_millis(self.hooks.now().saturating_sub(failed.since));
        if failed.attempts >= most || age >= self.hooks.options.age {
            self.note(&failed, &answer, at, AttemptOutcome::Dead).await;
            self.bury(name, Some(failed), reason).await?;
            return Ok(Next::Go);
        }
        self.note(&failed, &answer, at, AttemptOutcome::Failed).await;
        if !self.queue.update(name, &failed, &version).await? {
            // Somebody else has it, or has given it up.
            return Ok(Next::Go);
        }
        let after = after.map_or_else(|| self.backoff(failed.attempts), |after| self.patient(after, age));
        let (endpoint, repository) = (&self.lane.endpoint, failed.event.repository.as_str());
        tracing::warn!(endpoint, repository, id = failed.event.id, reason, "a delivery failed, and is tried again");
        let reason = format!("{} was not delivered: {reason}", failed.event.id);
        Ok(Next::Stop(Outcome::Retry { reason, after: Some(after) }))
    }

    /// Until the job is to end and the delivery that is under way has had its time.
    async fn ending(&self) {
        self.job.cancelled().cancelled_owned().await;
        self.hooks.clock.sleep(LAST).await;
    }

    async fn bury(&mut self, name: &Name, queued: Option<Queued>, reason: &str) -> Result<(), QueueError> {
        let id = queued.as_ref().map(|queued| queued.event.id.clone()).unwrap_or_default();
        tracing::error!(endpoint = self.lane.endpoint, repository = self.lane.repository, id, reason, "a delivery was given up");
        self.job.log(Level::Error, format!("{id} was given up: {reason}"));
        self.hooks.bury(&self.queue, name, queued, reason).await?;
        self.dead += 1;
        Ok(())
    }

    /// As long as the receiver asks for, but not so long that the delivery would be too old by then, and never at once.
    fn patient(&self, after: Duration, age: Duration) -> Duration {
        after.min(self.hooks.options.age.saturating_sub(age)).max(Duration::from_secs(1))
    }

    fn backoff(&self, attempts: u32) -> Duration {
        let options = &self.hooks.options;
        let doubled = options.backoff.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
        let longest = doubled.min(options.longest_backoff);
        options.random.between(longest / 2, longest)
    }

    async fn note(&self, queued: &Queued, answer: &Answer, at: u64, outcome: AttemptOutcome) {
        let reason = match &answer.verdict {
            Verdict::Delivered => None,
            Verdict::Rejected { reason } | Verdict::Failed { reason, .. } => Some(reason.clone()),
        };
        let attempt = Attempt {
            id: queued.event.id.clone(),
            repository: queued.event.repository.to_string(),
            tag: queued.event.tag.as_ref().map(ToString::to_string),
            outcome,
            status: answer.status,
            reason,
            at,
            duration_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
        };
        if let Err(error) = recent::note(&self.queue, attempt).await {
            tracing::warn!(endpoint = self.lane.endpoint, error = chain(&error), "an attempt was not noted");
        }
    }
}
