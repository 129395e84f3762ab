//! What follows a commit, as a job for each rule: those who deploy are told, and the cluster is watched until it is well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jobs::{Level, Outcome as Ended, Running, Work};
use serde_json::Value;

use crate::forge::Forge;
use crate::git::GitError;
use crate::ledger::{Ledger, LedgerError, Phase, Promotion};
use crate::operate;
use crate::promotions::{Poke, Promotions};
use crate::pulls::{self, proposed};
use crate::rollout::{ArgoCd, Moved, Notify, Observed, Verdict, Wanted, judge, tell};
use crate::rule::Rule;
use crate::turn::SELF;

/// The kind of the jobs that follow a commit.
pub const ROLLOUT_KIND: &str = "rollout";

/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is asked to look again, where what it says is from before.
const REFRESH: Duration = Duration::from_secs(10);
/// How often somebody who does not answer is told again.
const TELLINGS: u32 = 4;

/// Who deploys what a rule has written.
#[derive(Debug, Default)]
pub struct Deployer {
    /// They are told.
    pub notifies: Vec<Notify>,
    /// Where pull requests are made.
    pub forge: Option<Forge>,
    /// It is watched.
    pub argocd: Option<Arc<ArgoCd>>,
    /// So long it may take until it is well there.
    pub limit: Duration,
    /// If it is not well there, the image before it is written again.
    pub rolls_back: bool,
}

/// What follows commits, as jobs.
#[derive(Clone, Debug)]
pub struct Rollouts(pub Promotions);

/// What came of a look at the cluster.
enum Seen {
    /// Something that is final, and why.
    Ended(Phase, String),
    /// Not yet, for this reason; is what is seen there from before?
    NotYet { why: String, is_stale: bool },
}

#[async_trait]
impl Work for Rollouts {
    async fn run(&self, job: Running) -> Ended {
        let promotions = &self.0;
        let Some(rule) = promotions.rule(job.key()) else {
            return Ended::Failed { reason: "there is no such promotion in the configuration".to_owned(), result: Value::Null };
        };
        loop {
            let ledger = match promotions.ledger(&rule.name).await {
                Ok(ledger) => ledger,
                Err(error) => return Ended::Retry { reason: telemetry::chain(&error), after: None },
            };
            if let Some((promotion, pull)) = proposed(&ledger) {
                match promotions.look_at_pull(&job, rule, promotion, pull).await {
                    Ok(true) => return Ended::Later { after: pulls::LOOK, reason: format!("waits in {}", pull.url) },
                    Ok(false) => continue,
                    Err(error) => return Ended::Later { after: pulls::LOOK, reason: telemetry::chain(&error) },
                }
            }
            let Some(promotion) = followed(&ledger) else { return Ended::Done(Value::Null) };
            match promotions.follow(&job, rule, promotion).await {
                // Perhaps a later one stands in Git by now.
                Ok(true) => {}
                Ok(false) => return Ended::Yield(Value::Null),
                Err(error) => return Ended::Retry { reason: telemetry::chain(&error), after: None },
            }
            let ended = promotions.ledger(&rule.name).await;
            if ended.is_ok_and(|ledger| !promotions.is_to_be_followed(rule, &ledger)) {
                return Ended::Done(Value::Null);
            }
        }
    }
}

/// The promotion that stands in Git.
fn followed(ledger: &Ledger) -> Option<&Promotion> {
    ledger.promotion(ledger.written.as_ref()?.number).filter(|promotion| promotion.phase == Phase::Committed)
}

impl Promotions {
    /// Is the cluster of a rule watched?
    pub(crate) fn is_watched(&self, rule: &str) -> bool {
        self.0.deployers.get(rule).is_some_and(|deployer| deployer.argocd.is_some())
    }

    /// Is there something to be done after the last commit of a rule?
    pub(crate) fn is_to_be_followed(&self, rule: &Rule, ledger: &Ledger) -> bool {
        let Some(deployer) = self.0.deployers.get(&rule.name) else { return false };
        if proposed(ledger).is_some() {
            return true;
        }
        let has_to_tell = |promotion: &Promotion| !promotion.is_told && !deployer.notifies.is_empty();
        followed(ledger).is_some_and(|promotion| has_to_tell(promotion) || deployer.argocd.is_some())
    }

    /// Tells of a promotion and watches it to its end. `false` if the process stops.
    async fn follow(&self, job: &Running, rule: &Rule, promotion: &Promotion) -> Result<bool, LedgerError> {
        let Some(deployer) = self.0.deployers.get(&rule.name) else { return Ok(true) };
        if !promotion.is_told {
            let trouble = self.tell_all(job, rule, deployer, promotion).await;
            let told = |ledger: &mut Ledger| {
                if let Some(promotion) = ledger.promotion_mut(promotion.number) {
                    promotion.is_told = true;
                    promotion.why = promotion.why.take().or_else(|| trouble.clone());
                }
            };
            self.0.ledgers.update(&rule.name, told).await?;
        }
        let Some(argocd) = &deployer.argocd else { return Ok(true) };
        let Some((phase, why)) = self.watch_over(job, rule, deployer, argocd, promotion).await? else {
            return Ok(!job.cancelled().is_cancelled());
        };
        self.ended(job, rule, deployer, promotion, phase, why).await?;
        Ok(true)
    }

    /// Tells everybody, and those again who did not hear it. Gives what went wrong.
    async fn tell_all(&self, job: &Running, rule: &Rule, deployer: &Deployer, promotion: &Promotion) -> Option<String> {
        let moved = self.moved(rule, promotion)?;
        let mut trouble = None;
        for attempt in 1..=TELLINGS {
            let told = tell(&deployer.notifies, &moved).await;
            let (mut may_help, mut failures) = (false, Vec::new());
            for one in &told {
                match &one.result {
                    Ok(()) => job.log(Level::Info, format!("{} was told", one.to)),
                    Err(error) => {
                        may_help |= error.may_pass();
                        failures.push(format!("{}: {}", one.to, telemetry::chain(error)));
                    }
                }
            }
            trouble = (!failures.is_empty()).then(|| failures.join("; "));
            if !may_help || attempt == TELLINGS {
                break;
            }
            self.0.clock.sleep(LOOK * attempt).await;
        }
        let name = format!("{}/{}", rule.name, promotion.number);
        match &trouble {
            None => {
                tracing::info!(
                    promotion = name,
                    event = promotion.event,
                    commit = promotion.commit,
                    "those who deploy were told"
                );
            }
            Some(why) => {
                job.log(Level::Error, why.clone());
                tracing::warn!(promotion = name, event = promotion.event, why, "not everybody who deploys could be told");
            }
        }
        trouble
    }

    fn moved(&self, rule: &Rule, promotion: &Promotion) -> Option<Moved> {
        let place = self.place(rule)?;
        let signature = place.signature(self.0.clock.now());
        let after = promotion.commit.clone()?;
        // Where a crash has kept that from being known, no path may be the whole of what differs.
        let (before, paths) =
            promotion.moved.clone().unwrap_or_else(|| ("0".repeat(after.len()), promotion.path.clone().into_iter().collect()));
        let image = &promotion.image;
        Some(Moved {
            repository: place.remote().url().to_owned(),
            branch: place.remote().branch().to_owned(),
            before,
            after,
            paths,
            promotion: format!("{}/{}", rule.name, promotion.number),
            image: format!("{}:{}@{}", rule.repository, image.tag, image.digest),
            message: format!("promote {} to {}", rule.repository, image.tag),
            author: signature.name,
            email: signature.email,
        })
    }

    /// Looks at the cluster until it is known how it is. `None` if the process stops, or another promotion stands in Git.
    async fn watch_over(
        &self,
        job: &Running,
        rule: &Rule,
        deployer: &Deployer,
        argocd: &ArgoCd,
        promotion: &Promotion,
    ) -> Result<Option<(Phase, String)>, LedgerError> {
        let end =
            promotion.committed.unwrap_or_default().saturating_add(u64::try_from(deployer.limit.as_millis()).unwrap_or(u64::MAX));
        let mut refreshed = self.0.clock.monotonic();
        let mut ours = BTreeSet::new();
        loop {
            let ledger = self.ledger(&rule.name).await?;
            if job.cancelled().is_cancelled() || followed(&ledger).is_none_or(|other| other.number != promotion.number) {
                return Ok(None);
            }
            let (why, is_stale) = match self.look(rule, argocd, promotion, &mut ours).await {
                Seen::Ended(phase, why) => return Ok(Some((phase, why))),
                Seen::NotYet { why, is_stale } => (why, is_stale),
            };
            job.progress(Value::String(why.clone()));
            if self.now() >= end {
                let why = format!("not well within {} s: {why}", deployer.limit.as_secs());
                return Ok(Some((Phase::Unconfirmed, why)));
            }
            if is_stale && self.0.clock.monotonic() >= refreshed {
                refreshed = self.0.clock.monotonic() + REFRESH;
                if let Err(error) = argocd.refresh(false).await {
                    job.log(Level::Warn, telemetry::chain(&error));
                }
            }
            let cancelled = job.cancelled();
            tokio::select! {
                () = self.0.clock.sleep(LOOK) => {}
                () = cancelled.cancelled() => {}
            }
        }
    }

    async fn look(&self, rule: &Rule, argocd: &ArgoCd, promotion: &Promotion, ours: &mut BTreeSet<String>) -> Seen {
        let not_yet = |why| Seen::NotYet { why, is_stale: false };
        let Some(commit) = &promotion.commit else { return not_yet("the commit is not known".to_owned()) };
        let observed = match argocd.look().await {
            Ok(observed) => observed,
            // It is asked until its time is over, since an account may be mended.
            Err(error) => return not_yet(telemetry::chain(&error)),
        };
        if let Err(error) = self.learn(rule, commit, &observed, ours).await {
            return not_yet(telemetry::chain(&error));
        }
        let since = i64::try_from(promotion.committed.unwrap_or_default()).unwrap_or_default();
        let name = self.0.ledgers.of(&rule.name).await.ok().and_then(|ledger| ledger.written?.values.name);
        let wanted = Wanted {
            commit: commit.clone(),
            digest: promotion.image.digest.clone(),
            image: name.unwrap_or_else(|| rule.edit.image_name().unwrap_or(rule.repository.as_str()).to_owned()),
            tag: promotion.image.tag.clone(),
            since: Timestamp::from_millisecond(since).unwrap_or_default(),
        };
        match judge(&observed, &wanted, |revision| ours.contains(revision)) {
            Verdict::Healthy { message, .. } => Seen::Ended(Phase::Healthy, message),
            Verdict::Degraded { message } | Verdict::Failed { message } => Seen::Ended(Phase::Degraded, message),
            Verdict::Stale { message } => Seen::NotYet { why: message, is_stale: true },
            Verdict::Waiting { message } => Seen::NotYet { why: message, is_stale: false },
        }
    }

    /// Finds out which of the revisions that are seen have our commit in them.
    async fn learn(&self, rule: &Rule, commit: &str, observed: &Observed, ours: &mut BTreeSet<String>) -> Result<(), GitError> {
        let applied = observed.operation.iter().flat_map(|operation| &operation.revisions);
        for revision in observed.revisions.iter().chain(applied) {
            if ours.contains(revision) {
                continue;
            }
            let is_ours = *revision == commit
                || match self.place(rule) {
                    Some(place) => place.hold().await?.branch()?.backing().has_followed(commit, revision).await?,
                    None => false,
                };
            if is_ours {
                ours.insert(revision.clone());
            }
        }
        Ok(())
    }

    async fn ended(
        &self,
        job: &Running,
        rule: &Rule,
        deployer: &Deployer,
        promotion: &Promotion,
        phase: Phase,
        why: String,
    ) -> Result<(), LedgerError> {
        let (now, name) = (self.now(), format!("{}/{}", rule.name, promotion.number));
        let event = format!("rollback-of-{name}");
        let note = |ledger: &mut Ledger| {
            // Another one may stand there since it was looked at, by a push or by a person's wish.
            let stands = ledger.written.as_ref().is_some_and(|written| written.number == promotion.number);
            let promotion = ledger.promotion_mut(promotion.number).filter(|one| one.phase == Phase::Committed && stands)?;
            promotion.becomes(phase, Some(why.clone()), now);
            if phase == Phase::Healthy {
                promotion.healthy = Some(now);
            }
            let takes_back = deployer.rolls_back && phase == Phase::Degraded && !promotion.is_rollback;
            takes_back.then(|| operate::rollback(ledger, None, SELF, &event, now))
        };
        let (_, taken_back) = self.0.ledgers.update(&rule.name, note).await?;
        self.0.metrics.promotion_ended(&rule.name, phase.as_str());
        let level = if phase == Phase::Healthy { Level::Info } else { Level::Error };
        job.log(level, format!("{name} {}: {why}", phase.as_str()));
        tracing::info!(
            promotion = name,
            event = promotion.event,
            commit = promotion.commit,
            phase = phase.as_str(),
            why,
            "the cluster was looked at"
        );
        match taken_back {
            None => {}
            Some(Ok(number)) => {
                tracing::warn!(promotion = name, event = promotion.event, by = number, "it is not well, and is taken back");
                self.poke(Poke::Branch(rule.branch.clone()));
            }
            Some(Err(why)) => {
                tracing::error!(promotion = name, event = promotion.event, why, "it is not well, and cannot be taken back");
            }
        }
        // Stages that waited for this one may go on.
        for other in self.all().filter(|other| other.gate.after.as_ref().is_some_and(|(stage, _)| *stage == rule.name)) {
            self.hasten(other).await?;
        }
        Ok(())
    }

    /// Looks at what waits in a rule again, now.
    pub async fn hasten(&self, rule: &Rule) -> Result<(), LedgerError> {
        let hasten = |ledger: &mut Ledger| {
            for promotion in ledger.promotions.iter_mut().filter(|promotion| promotion.phase == Phase::Waiting) {
                promotion.not_before = 0;
            }
        };
        self.0.ledgers.update(&rule.name, hasten).await?;
        self.wake(rule);
        Ok(())
    }
}
