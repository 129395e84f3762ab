//! Writing to a branch, as a job: one kind, one key for each branch, so that nobody else of ours writes there at the same time.

use async_trait::async_trait;
use jobs::{Level, Outcome as Ended, Running, Work};
use serde_json::{Value, json};
use telemetry::AuditEntry;

use crate::content::Found;
use crate::edit::Values;
use crate::forge::ForgeError;
use crate::git::GitError;
use crate::land::{Changed, Intent, LandError, Outcome, Over};
use crate::ledger::{Ledger, LedgerError, Note, Phase, Promotion, Written};
use crate::message::Told;
use crate::place::Place;
use crate::promotions::{Poke, Promotions};
use crate::pulls::proposed;
use crate::rule::{Mode, Rule};
use crate::turn::{Next, SELF, TurnError};

/// Turns of one job; what comes after them is the next one's.
const TURNS: u32 = 100;

/// Why a job does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error(transparent)]
    Turn(#[from] TurnError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Land(#[from] LandError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error("the forge of the promotion {0} is not configured")]
    NoForge(String),
}

#[async_trait]
impl Work for Promotions {
    async fn run(&self, job: Running) -> Ended {
        let Some(place) = self.0.places.get(job.key()) else {
            return Ended::Failed {
                reason: "no promotion of the configuration commits to this branch".to_owned(),
                result: Value::Null,
            };
        };
        // What arrives meanwhile goes into the same commit.
        self.0.clock.sleep(place.batch()).await;
        let mut written = Vec::new();
        for _ in 0..TURNS {
            if job.cancelled().is_cancelled() {
                return Ended::Yield(Value::Null);
            }
            match self.turn(&job, place).await {
                Ok(names) if names.is_empty() => return Ended::Done(json!({ "promotions": written })),
                Ok(names) => written.extend(names),
                Err(stop) => return self.stopped(&job, place, &stop).await,
            }
        }
        Ended::Later { after: std::time::Duration::ZERO, reason: "there is more".to_owned() }
    }
}

impl Promotions {
    /// Writes what each rule of the branch has next, in one commit. Gives what was written or found out, nothing if there was nothing.
    /// What keeps one rule from going on keeps no other.
    async fn turn(&self, job: &Running, place: &Place) -> Result<Vec<String>, Stop> {
        let (mut due, mut names, mut stop) = (Vec::new(), Vec::new(), None);
        for rule in self.all().filter(|rule| rule.branch == job.key()) {
            match self.prepared(job, place, rule).await {
                Ok(next) => due.extend(next),
                // A forge that says no to a look says no to a request as well.
                Err(Stop::Forge(error)) if !error.may_pass() => {
                    if let Some(next) = self.next(rule, false).await? {
                        names.push(self.failed(job, &next, &telemetry::chain(&error)).await?);
                    }
                }
                Err(error) => {
                    self.trouble(rule, &error).await;
                    stop = Some(error);
                }
            }
        }
        let (proposed, due): (Vec<_>, Vec<_>) = due.into_iter().partition(|next: &Next<'_>| next.rule.mode == Mode::PullRequest);
        for next in &proposed {
            let done = match self.propose(job, place, next).await {
                Err(Stop::Land(LandError::Refused(reason))) => Ok(self.failed(job, next, &refusal(&reason)).await?),
                Err(Stop::Forge(error)) if !error.may_pass() => Ok(self.failed(job, next, &telemetry::chain(&error)).await?),
                other => other,
            };
            match done {
                Ok(name) => names.push(name),
                Err(error) => stop = Some(error),
            }
        }
        if !due.is_empty() {
            match self.commit(job, place, &due).await {
                Ok(more) => names.extend(more),
                Err(error) => stop = Some(error),
            }
        }
        match stop {
            Some(stop) if names.is_empty() => Err(stop),
            _ => Ok(names),
        }
    }

    /// What a rule writes next. What has happened to its pull request comes first; and what was being written when it was last heard of
    /// has to pass the gate again unless it stands in Git.
    async fn prepared<'r>(&self, job: &Running, place: &Place, rule: &'r Rule) -> Result<Option<Next<'r>>, Stop> {
        let ledger = self.ledger(&rule.name).await?;
        if let Some((promotion, pull)) = proposed(&ledger).filter(|_| ledger.is_due(self.now())) {
            self.look_at_pull(job, rule, promotion, pull).await?;
        }
        if let Some(begun) = ledger.promotions.iter().find(|promotion| promotion.phase == Phase::Committing) {
            let stands = match rule.mode {
                // It is proposed again, or not any more.
                Mode::PullRequest => false,
                Mode::Commit => {
                    let next = Next { rule, promotion: begun.clone(), ledger: ledger.clone(), found: Found::default() };
                    let held = place.hold().await?;
                    let outcome = held.branch()?.preview(&intent(&next)).await?.outcome;
                    matches!(outcome, Outcome::Present { .. })
                }
            };
            if !stands {
                let now = self.now();
                let again = |ledger: &mut Ledger| {
                    if let Some(promotion) = ledger.promotion_mut(begun.number).filter(|one| one.phase == Phase::Committing) {
                        promotion.becomes(Phase::Waiting, promotion.why.clone(), now);
                    }
                };
                self.0.ledgers.update(&rule.name, again).await?;
            }
        }
        Ok(self.next(rule, false).await?)
    }

    /// Tells on what waits why it is not looked at.
    async fn trouble(&self, rule: &Rule, stop: &Stop) {
        let (reason, now) = (telemetry::chain(stop), self.now());
        tracing::warn!(promotion = rule.name, reason, "it cannot be said what is next");
        let noted = |ledger: &mut Ledger| {
            if let Some(promotion) = ledger.promotions.iter_mut().rev().find(|promotion| promotion.phase == Phase::Waiting) {
                promotion.becomes(Phase::Waiting, Some(reason.clone()), now);
            }
        };
        if let Err(error) = self.0.ledgers.update(&rule.name, noted).await {
            tracing::warn!(promotion = rule.name, error = %telemetry::chain(&error), "it could not be told on the promotion");
        }
    }

    /// Writes these in one commit; each by itself if that is refused.
    async fn commit(&self, job: &Running, place: &Place, due: &[Next<'_>]) -> Result<Vec<String>, Stop> {
        match self.land(job, place, due).await {
            Err(Stop::Land(LandError::Refused(reason))) if due.len() == 1 => self.refused(job, due, &reason).await,
            // Perhaps one of them alone is not wanted, and the others need not suffer for it.
            Err(Stop::Land(LandError::Refused(_))) => {
                let mut names = Vec::new();
                for next in due.chunks(1) {
                    names.extend(match self.land(job, place, next).await {
                        Err(Stop::Land(LandError::Refused(reason))) => self.refused(job, next, &reason).await,
                        other => other,
                    }?);
                }
                Ok(names)
            }
            other => other,
        }
    }

    /// Brings these into one commit, and writes down what became of each.
    async fn land(&self, job: &Running, place: &Place, due: &[Next<'_>]) -> Result<Vec<String>, Stop> {
        let intents: Vec<Intent> = due.iter().map(intent).collect();
        let held = place.hold().await?;
        let message = |changes: &[Changed<'_>]| text(due, &intents, changes);
        let outcomes = held.branch()?.land(&intents, message, || place.signature(self.0.clock.now())).await?;
        drop(held);
        let mut names = Vec::new();
        for (next, outcome) in due.iter().zip(outcomes) {
            names.push(self.landed(job, next, outcome).await?);
        }
        Ok(names)
    }

    /// The server has said no, and would say it again.
    async fn refused(&self, job: &Running, due: &[Next<'_>], reason: &str) -> Result<Vec<String>, Stop> {
        let mut names = Vec::new();
        for next in due {
            names.push(self.failed(job, next, &refusal(reason)).await?);
        }
        Ok(names)
    }

    /// Writes down what became of a promotion.
    pub(crate) async fn landed(&self, job: &Running, next: &Next<'_>, outcome: Outcome) -> Result<String, LedgerError> {
        let now = self.now();
        let number = next.promotion.number;
        let told = |ledger: &mut Ledger| settle(ledger, number, &outcome, now);
        let (ledger, ()) = self.0.ledgers.update(&next.rule.name, told).await?;
        self.poke(Poke::Rollout(next.rule.name.clone()));
        Ok(self.tell(job, next, &ledger))
    }

    async fn failed(&self, job: &Running, next: &Next<'_>, why: &str) -> Result<String, LedgerError> {
        let now = self.now();
        let fail = |ledger: &mut Ledger| {
            if let Some(promotion) = ledger.promotion_mut(next.promotion.number) {
                promotion.becomes(Phase::Failed, Some(why.to_owned()), now);
            }
            ledger.writing.retain(|image| *image != next.promotion.image.image());
        };
        let (ledger, ()) = self.0.ledgers.update(&next.rule.name, fail).await?;
        Ok(self.tell(job, next, &ledger))
    }

    /// Says in the logs where a promotion is now.
    pub(crate) fn tell(&self, job: &Running, next: &Next<'_>, ledger: &Ledger) -> String {
        let name = format!("{}/{}", next.rule.name, next.promotion.number);
        let Some(promotion) = ledger.promotion(next.promotion.number) else { return name };
        let (phase, why) = (promotion.phase.as_str(), promotion.why.as_deref().unwrap_or_default());
        let level = if matches!(promotion.phase, Phase::Committed | Phase::Proposed) { Level::Info } else { Level::Error };
        job.log(level, format!("{name} {phase} {why}").trim_end());
        self.0.metrics.promotion_ended(&next.rule.name, phase);
        if let (Phase::Committed, Some(committed)) = (promotion.phase, promotion.committed) {
            self.0.metrics.promotion_took(&next.rule.name, committed.saturating_sub(promotion.image.at));
        }
        tracing::info!(
            promotion = name,
            event = promotion.event,
            repository = %next.rule.repository,
            tag = %promotion.image.tag,
            digest = %promotion.image.digest,
            commit = promotion.commit,
            phase,
            why,
            "a promotion was written down"
        );
        self.0.audit.record(self.0.clock.now(), &audited(next, promotion, &name));
        name
    }

    /// What is told of the promotions that were being written when git or the store failed. Each is given up when its own time is over.
    async fn stopped(&self, job: &Running, place: &Place, stop: &Stop) -> Ended {
        let reason = telemetry::chain(stop);
        let now = self.now();
        let patience = u64::try_from(place.patience().as_millis()).unwrap_or(u64::MAX);
        let (mut names, mut left) = (Vec::new(), 0);
        for rule in self.all().filter(|rule| rule.branch == job.key()) {
            let noted = |ledger: &mut Ledger| {
                let mut touched = Vec::new();
                for promotion in ledger.promotions.iter_mut().filter(|promotion| promotion.phase == Phase::Committing) {
                    let is_last = now.saturating_sub(promotion.begun.unwrap_or(promotion.offered)) >= patience;
                    let phase = if is_last { Phase::Failed } else { Phase::Committing };
                    promotion.becomes(phase, Some(reason.clone()), now);
                    touched.push((promotion.number, is_last));
                }
                touched
            };
            match self.0.ledgers.update(&rule.name, noted).await {
                Ok((_, touched)) => {
                    for (number, is_last) in touched {
                        self.0.metrics.promotion_ended(&rule.name, if is_last { "failed" } else { "retried" });
                        names.push(format!("{}/{number}", rule.name));
                        left += usize::from(!is_last);
                    }
                }
                Err(error) => {
                    tracing::warn!(promotion = rule.name, error = %telemetry::chain(&error), "it could not be told on the promotion");
                }
            }
        }
        let (names, repository) = (names.join(" "), place.remote().url());
        let has_been_long = now.saturating_sub(job.record().started.unwrap_or(now)) >= patience;
        if left == 0 && has_been_long {
            tracing::error!(promotions = names, repository, reason, "promotions were given up");
            return Ended::Failed { reason, result: Value::Null };
        }
        tracing::warn!(promotions = names, repository, reason, "promotions could not be written; trying again");
        Ended::Retry { reason, after: None }
    }
}

/// A promotion as the audit has it.
fn audited(next: &Next<'_>, promotion: &Promotion, name: &str) -> AuditEntry {
    let outcome = match promotion.phase {
        Phase::Committed | Phase::Proposed => "done",
        Phase::Failed => "failed",
        _ => "refused",
    };
    AuditEntry {
        event: "promotion",
        outcome,
        principal: promotion.by.clone(),
        from: promotion.from.clone(),
        repository: Some(next.rule.repository.to_string()),
        reference: Some(promotion.image.tag.to_string()),
        digest: Some(promotion.image.digest.to_string()),
        what: Some(match &promotion.commit {
            Some(commit) => format!("{name} {} in {commit}", promotion.phase.as_str()),
            None => format!("{name} {}", promotion.phase.as_str()),
        }),
        reason: promotion.why.clone(),
        request_id: None,
    }
}

fn refusal(reason: &str) -> String {
    format!("the repository refused the commit: {reason}")
}

/// What is to stand in the repository.
pub(crate) fn intent(next: &Next<'_>) -> Intent {
    let ledger = &next.ledger;
    let over = ledger.written.as_ref().map(|written| Over { written: written.values.clone(), writing: ledger.writing.clone() });
    Intent {
        path: next.rule.path.clone(),
        edit: next.rule.edit.clone(),
        image: next.promotion.image.image(),
        over,
        is_validated: next.rule.validates,
    }
}

/// The text of the commit: that of the first rule whose place it changes.
pub(crate) fn text(due: &[Next<'_>], intents: &[Intent], changes: &[Changed<'_>]) -> String {
    let next_of = |change: &Changed<'_>| {
        let at = intents.iter().position(|intent| std::ptr::eq(intent, change.intent))?;
        due.get(at)
    };
    let told: Vec<Told> = changes.iter().filter_map(|change| Some(told(next_of(change)?, change))).collect();
    let first = changes.first().and_then(next_of);
    first.map(|next| next.rule.message.message(&told)).unwrap_or_default()
}

fn told(next: &Next<'_>, change: &Changed<'_>) -> Told {
    let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let ((old_tag, old_digest), (tag, digest)) = (change.before.image(), change.after.image());
    Told {
        promotion: format!("{}/{}", next.rule.name, next.promotion.number),
        repository: next.rule.repository.to_string(),
        tag: owned(tag),
        digest: owned(digest),
        old_tag: owned(old_tag),
        old_digest: owned(old_digest),
        actor: owned(next.promotion.by.as_deref()),
        path: change.path.to_owned(),
        is_rollback: next.promotion.is_rollback,
        labels: next.found.labels.clone(),
    }
}

/// What became of a promotion, in its ledger.
fn settle(ledger: &mut Ledger, number: u64, outcome: &Outcome, now: u64) {
    let Some(promotion) = ledger.promotion_mut(number) else { return };
    match outcome {
        Outcome::Committed { commit, parent, paths, path, before, after } => {
            promotion.before = Some(before.clone());
            promotion.moved = Some((parent.as_str().to_owned(), paths.clone()));
            written(ledger, number, path.clone(), after, commit.as_str(), None, now);
            ledger.landed.push(now);
        }
        Outcome::Present { commit, values } => {
            // Where it was ours a crash kept it from being told, and what stood before is not known any more.
            let path = promotion.path.clone().unwrap_or_default();
            written(ledger, number, path, values, commit.as_str(), Some("it stood there already".to_owned()), now);
        }
        Outcome::Refused { path, refusal } => {
            promotion.path = Some(path.clone());
            promotion.becomes(Phase::Failed, Some(format!("{path}: {refusal}")), now);
            let image = promotion.image.image();
            ledger.writing.retain(|known| *known != image);
        }
        Outcome::Foreign { path, values, commit } => {
            let shown = shown(values);
            let why = format!("{path} has {shown} since {} at the latest, which somebody else wrote", commit.as_str());
            promotion.path = Some(path.clone());
            promotion.becomes(Phase::Held, Some(why.clone()), now);
            ledger.hold = Some(Note { by: SELF.to_owned(), at: now, why });
            ledger.writing.clear();
        }
    }
    ledger.forget();
}

/// A promotion stands in Git. What waited and is older need not be looked at any more: it will be found to be.
fn written(ledger: &mut Ledger, number: u64, path: String, values: &Values, commit: &str, why: Option<String>, now: u64) {
    let Some(promotion) = ledger.promotion_mut(number) else { return };
    promotion.path = Some(path).filter(|path| !path.is_empty());
    promotion.commit = Some(commit.to_owned());
    promotion.committed = Some(now);
    promotion.becomes(Phase::Committed, why, now);
    let image = promotion.image.clone();
    ledger.written = Some(Written { number, image, values: values.clone(), commit: commit.to_owned() });
    ledger.writing.clear();
    for other in ledger.promotions.iter_mut().filter(|other| other.phase == Phase::Waiting) {
        // Why it had to wait may hold no more.
        other.not_before = 0;
    }
}

/// What stands in a place, in words.
pub(crate) fn shown(values: &Values) -> String {
    match values.image() {
        (None, None) => "nothing".to_owned(),
        (Some(tag), None) => tag.to_owned(),
        (None, Some(digest)) => digest.to_owned(),
        (Some(tag), Some(digest)) => format!("{tag}@{digest}"),
    }
}
