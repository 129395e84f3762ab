//! Promotions by pull request: one branch of ours and one open pull request for each rule, renewed in place by what comes later.

use std::time::Duration;

use jobs::{Level, Running};

use crate::follow::Deployer;
use crate::forge::{Forge, Proposal, PullState};
use crate::land::{Changed, Outcome};
use crate::ledger::{Ledger, Note, Phase, Promotion, Pull, Written};
use crate::message::title_and_body;
use crate::place::Place;
use crate::promotions::{Poke, Promotions};
use crate::rule::Rule;
use crate::turn::{Next, SELF};
use crate::work::{Stop, intent, text};

/// How often it is looked whether a pull request was merged.
pub(crate) const LOOK: Duration = Duration::from_secs(15);

/// The branch of a rule's pull request.
pub(crate) fn branch(rule: &Rule) -> String {
    format!("roadstead/{}", rule.name)
}

/// The promotion that a pull request has.
pub(crate) fn proposed(ledger: &Ledger) -> Option<(&Promotion, &Pull)> {
    let promotion = ledger.promotions.iter().rev().find(|promotion| promotion.phase == Phase::Proposed)?;
    Some((promotion, promotion.pull.as_ref()?))
}

impl Promotions {
    fn forge(&self, rule: &Rule) -> Result<&Forge, Stop> {
        let forge = self.0.deployers.get(&rule.name).and_then(|deployer: &Deployer| deployer.forge.as_ref());
        forge.ok_or_else(|| Stop::NoForge(rule.name.clone()))
    }

    /// Brings what is next into the pull request of its rule.
    pub(crate) async fn propose(&self, job: &Running, place: &Place, next: &Next<'_>) -> Result<String, Stop> {
        let (forge, branch, intent) = (self.forge(next.rule)?, branch(next.rule), intent(next));
        let due = std::slice::from_ref(next);
        let message = |changes: &[Changed<'_>]| text(due, std::slice::from_ref(&intent), changes);
        let held = place.hold().await?;
        let signature = place.signature(self.0.clock.now());
        let outcome = held.branch()?.propose(&intent, message, &signature, &branch).await?;
        drop(held);
        let Outcome::Committed { commit, parent, paths, path, before, after } = outcome else {
            self.withdraw(next.rule, &next.ledger, "what it proposed stands there already, or is not wanted any more").await?;
            let name = self.landed(job, next, outcome).await?;
            if proposed(&next.ledger).is_some() {
                self.tidy(next.rule).await;
            }
            return Ok(name);
        };
        let change = Changed { intent: &intent, path: &path, before: &before, after: &after };
        let (title, body) = title_and_body(&message(&[change]));
        let proposal = Proposal { branch, base: place.remote().branch().to_owned(), title, body };
        let pull = forge.propose(&proposal).await?;
        let (now, number) = (self.now(), next.promotion.number);
        let note = |ledger: &mut Ledger| {
            for other in ledger.promotions.iter_mut().filter(|other| other.phase == Phase::Proposed) {
                other.becomes(Phase::Superseded, Some("a later one took its place in the pull request".to_owned()), now);
            }
            ledger.writing.clear();
            if let Some(promotion) = ledger.promotion_mut(number) {
                promotion.path = Some(path.clone());
                (promotion.before, promotion.after) = (Some(before.clone()), Some(after.clone()));
                promotion.commit = Some(commit.as_str().to_owned());
                promotion.moved = Some((parent.as_str().to_owned(), paths.clone()));
                promotion.pull = Some(pull.clone());
                promotion.becomes(Phase::Proposed, Some(format!("waits in {}", pull.url)), now);
            }
        };
        let (ledger, ()) = self.0.ledgers.update(&next.rule.name, note).await?;
        self.poke(Poke::Rollout(next.rule.name.clone()));
        Ok(self.tell(job, next, &ledger))
    }

    /// Closes the pull request of a rule, if one is open. That it is our wish is known before it is done.
    async fn withdraw(&self, rule: &Rule, ledger: &Ledger, why: &str) -> Result<(), Stop> {
        let Some((promotion, pull)) = proposed(ledger) else { return Ok(()) };
        let number = promotion.number;
        let wish = |ledger: &mut Ledger| {
            if let Some(promotion) = ledger.promotion_mut(number).filter(|one| one.phase == Phase::Proposed) {
                promotion.withdrawn = Some(why.to_owned());
            }
        };
        self.0.ledgers.update(&rule.name, wish).await?;
        self.close(rule, number, pull, why).await
    }

    /// Closes a pull request that we do not want any more, and says so in the ledger.
    async fn close(&self, rule: &Rule, number: u64, pull: &Pull, why: &str) -> Result<(), Stop> {
        let forge = self.forge(rule)?;
        forge.close(pull.number, why).await?;
        let now = self.now();
        let note = |ledger: &mut Ledger| {
            if let Some(promotion) = ledger.promotion_mut(number).filter(|one| one.phase == Phase::Proposed) {
                promotion.becomes(Phase::Superseded, Some(why.to_owned()), now);
            }
        };
        self.0.ledgers.update(&rule.name, note).await?;
        self.tidy(rule).await;
        Ok(())
    }

    /// Looks at the pull request of a rule. `true` if it waits on.
    pub(crate) async fn look_at_pull(
        &self,
        job: &Running,
        rule: &Rule,
        promotion: &Promotion,
        pull: &Pull,
    ) -> Result<bool, Stop> {
        let forge = self.forge(rule)?;
        let state = forge.state(pull.number).await?;
        let (now, number, name) = (self.now(), promotion.number, format!("{}/{}", rule.name, promotion.number));
        let said = match (&state, &promotion.withdrawn) {
            (PullState::Open | PullState::Closed, Some(why)) => {
                self.close(rule, number, pull, why).await?;
                return Ok(false);
            }
            (PullState::Open, None) => return Ok(true),
            (PullState::Merged { .. }, _) => "merged",
            (PullState::Closed, None) => "closed",
        };
        let note = |ledger: &mut Ledger| settle(ledger, number, &state, pull, now);
        let (ledger, ()) = self.0.ledgers.update(&rule.name, note).await?;
        let phase = ledger.promotion(number).map_or(promotion.phase, |promotion| promotion.phase);
        self.0.metrics.promotion_ended(&rule.name, phase.as_str());
        job.log(Level::Info, format!("{name}: {} was {said}", pull.url));
        tracing::info!(promotion = name, event = promotion.event, pull = pull.url, said, "a pull request was looked at");
        self.tidy(rule).await;
        Ok(false)
    }

    /// Removes our branch, unless a later promotion has it, or is about to. It is made anew the next time.
    async fn tidy(&self, rule: &Rule) {
        let done = async {
            let place = self.place(rule).ok_or_else(|| Stop::NoForge(rule.name.clone()))?;
            let _held = place.hold().await?;
            let ledger = self.ledger(&rule.name).await?;
            let is_free = proposed(&ledger).is_none() && !ledger.promotions.iter().any(|one| one.phase == Phase::Committing);
            if is_free { self.forge(rule)?.delete_branch(&branch(rule)).await.map_err(Stop::from) } else { Ok(()) }
        };
        if let Err(error) = done.await {
            tracing::debug!(promotion = rule.name, error = %telemetry::chain(&error), "the branch of a pull request stays");
        }
    }
}

/// What became of a pull request, in the ledger.
fn settle(ledger: &mut Ledger, number: u64, state: &PullState, pull: &Pull, now: u64) {
    let is_renewed = ledger.promotions.iter().any(|one| one.phase == Phase::Committing);
    let Some(promotion) = ledger.promotion_mut(number).filter(|promotion| promotion.phase == Phase::Proposed) else { return };
    match state {
        PullState::Open => {}
        PullState::Merged { commit } => {
            promotion.commit = commit.clone().or(promotion.commit.take());
            // What differs is not known: others may have been merged between.
            promotion.moved = None;
            promotion.committed = Some(now);
            promotion.becomes(Phase::Committed, Some(format!("merged in {}", pull.url)), now);
            let (image, values) = (promotion.image.clone(), promotion.after.clone().unwrap_or_default());
            let commit = promotion.commit.clone().unwrap_or_default();
            ledger.written = Some(Written { number, image, values, commit });
            ledger.landed.push(now);
        }
        PullState::Closed if is_renewed => {
            // A forge that closes it with its branch, which is being made anew.
            promotion.becomes(Phase::Superseded, Some("a later one took its place".to_owned()), now);
        }
        PullState::Closed => {
            let why = format!("{} was closed", pull.url);
            promotion.becomes(Phase::Rejected, Some(why.clone()), now);
            let digest = promotion.image.digest.clone();
            ledger.refused.insert(digest, Note { by: SELF.to_owned(), at: now, why });
        }
    }
}
