//! What a branch is to be told next: of each rule the image that is due, if there is one.

use std::cmp::Ordering;

use crate::choose::is_more_specific;
use crate::content::Found;
use crate::gate::{Verdict, Watch};
use crate::ledger::{Ledger, LedgerError, Note, Phase, Promotion};
use crate::promotions::Promotions;
use crate::pulls::proposed;
use crate::rule::{Order, Rule};

/// Who decides what nobody asked for.
pub(crate) const SELF: &str = "roadstead";

/// Why it cannot be said what is next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("what is held here cannot be looked at")]
    Content(#[from] oci::Error),
}

/// What a rule writes next.
#[derive(Clone, Debug)]
pub(crate) struct Next<'r> {
    pub(crate) rule: &'r Rule,
    pub(crate) promotion: Promotion,
    pub(crate) ledger: Ledger,
    pub(crate) found: Found,
}

/// What was found out of a promotion that is not written now.
type Noted = (u64, Phase, Option<String>, u64);

impl Promotions {
    /// What a rule writes next. What is found out of the others is in its ledger when this returns, and so is that this one is
    /// being written, unless it is `only_asked`.
    pub(crate) async fn next<'r>(&self, rule: &'r Rule, only_asked: bool) -> Result<Option<Next<'r>>, TurnError> {
        let ledger = self.ledger(&rule.name).await?;
        // What a crash has left half done is finished before anything else is begun.
        if let Some(begun) = ledger.promotions.iter().find(|promotion| promotion.phase == Phase::Committing) {
            let found = self.0.content.look(&rule.repository, &begun.image.digest, &rule.gate.platforms).await?;
            return Ok(Some(Next { rule, promotion: begun.clone(), ledger: ledger.clone(), found }));
        }
        let (chosen, noted) = self.choose(rule, &ledger, only_asked).await?;
        if only_asked {
            return Ok(chosen.map(|(promotion, found)| Next { rule, promotion, ledger, found }));
        }
        let now = self.now();
        let number = chosen.as_ref().map(|(promotion, _)| promotion.number);
        let begin =
            |ledger: &mut Ledger| begin(rule, ledger, number, chosen.as_ref().and_then(|(_, found)| found.created), &noted, now);
        let (ledger, is_begun) = self.0.ledgers.update(&rule.name, begin).await?;
        self.tell_noted(rule, &ledger, &noted, now);
        let Some((promotion, found)) = chosen.filter(|_| is_begun) else {
            if let Some(note) = ledger.hold.as_ref().filter(|note| note.by == SELF && note.at == now) {
                tracing::warn!(promotion = rule.name, why = note.why, "a promotion holds itself");
                self.0.metrics.promotion_ended(&rule.name, "held");
            }
            return Ok(None);
        };
        let promotion = ledger.promotion(promotion.number).cloned().unwrap_or(promotion);
        Ok(Some(Next { rule, promotion, ledger, found }))
    }

    /// Says in the log what was found out.
    fn tell_noted(&self, rule: &Rule, ledger: &Ledger, noted: &[Noted], now: u64) {
        for (number, phase, why, _) in noted {
            // What is as it was has been told.
            let Some(promotion) = ledger.promotion(*number).filter(|one| one.phase == *phase && one.changed == now) else {
                continue;
            };
            if !phase.is_open() {
                self.0.metrics.promotion_ended(&rule.name, phase.as_str());
            }
            let (name, phase) = (format!("{}/{number}", rule.name), phase.as_str());
            tracing::info!(promotion = name, event = promotion.event, phase, why, "a promotion was looked at");
        }
    }

    /// The latest that may be written, and what was found out of the others.
    async fn choose(
        &self,
        rule: &Rule,
        ledger: &Ledger,
        only_asked: bool,
    ) -> Result<(Option<(Promotion, Found)>, Vec<Noted>), TurnError> {
        let now = self.now();
        let is_asked = |promotion: &Promotion| only_asked || (promotion.not_before <= now && ledger.may_go(promotion));
        let before = match &rule.gate.after {
            Some((stage, _)) => Some(self.ledger(stage).await?),
            None => None,
        };
        let watch = Watch {
            content: self.0.content.as_ref(),
            verdicts: self.0.verdicts.as_ref(),
            before: before.as_ref().zip(rule.gate.after.as_ref()).map(|(ledger, (stage, _))| (ledger, self.is_watched(stage))),
            now: self.0.clock.now(),
        };
        let mut waiting: Vec<Promotion> = ledger.open().filter(|promotion| is_asked(promotion)).cloned().collect();
        waiting.sort_by(|one, other| later_first(rule, one, other));
        let (mut chosen, mut noted): (Option<(Promotion, Found)>, Vec<Noted>) = (None, Vec::new());
        for mut promotion in waiting {
            if chosen.as_ref().is_some_and(|(chosen, _)| chosen.image.digest != promotion.image.digest) {
                // It is older, and stays until the later one stands in Git.
                continue;
            }
            if rule.order == Order::Created && promotion.image.created.is_none() {
                let found = self.0.content.look(&rule.repository, &promotion.image.digest, &[]).await?;
                promotion.image.created = found.created;
            }
            if let Some(why) = overtaken(rule, ledger, &promotion) {
                noted.push((promotion.number, Phase::Superseded, Some(why), 0));
                continue;
            }
            match watch.verdict(rule, ledger, &promotion).await? {
                Verdict::Open(found) => {
                    promotion.image.created = found.created;
                    if chosen.as_ref().is_none_or(|(chosen, _)| is_more_specific(&promotion.image.tag, &chosen.image.tag)) {
                        chosen = Some((promotion, *found));
                    }
                }
                Verdict::Later(why, wait) => {
                    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    noted.push((promotion.number, Phase::Waiting, Some(why), now.saturating_add(wait)));
                }
                Verdict::Superseded(why) => noted.push((promotion.number, Phase::Superseded, Some(why), 0)),
                Verdict::Never(why) => noted.push((promotion.number, Phase::Refused, Some(why), 0)),
            }
        }
        Ok((chosen, noted))
    }
}

fn later_first(rule: &Rule, one: &Promotion, other: &Promotion) -> Ordering {
    // What somebody asked for comes before what merely arrived.
    other.is_forced.cmp(&one.is_forced).then_with(|| rule.compare(&other.image, &one.image))
}

/// Why what stands in Git is not to be replaced by this, if so.
fn overtaken(rule: &Rule, ledger: &Ledger, promotion: &Promotion) -> Option<String> {
    let written = ledger.written.as_ref().map(|written| (&written.image, "stands there"));
    let waits = proposed(ledger).map(|(other, _)| (&other.image, "waits in the pull request"));
    written.into_iter().chain(waits).filter(|_| !promotion.is_forced).find_map(|(image, does)| {
        let tag = &image.tag;
        if image.digest == promotion.image.digest {
            let says_more = is_more_specific(&promotion.image.tag, tag);
            return (!says_more).then(|| format!("the same image {does} as {tag}"));
        }
        let is_older = rule.compare(&promotion.image, image) == Ordering::Less;
        is_older.then(|| format!("{tag} {does}, and is later"))
    })
}

/// Writes down what was found out, and that a promotion is being written. `false` if it is not, after all.
fn begin(rule: &Rule, ledger: &mut Ledger, number: Option<u64>, created: Option<u64>, noted: &[Noted], now: u64) -> bool {
    for (number, phase, why, not_before) in noted {
        if let Some(promotion) = ledger.promotion_mut(*number).filter(|promotion| promotion.phase == Phase::Waiting) {
            promotion.becomes(*phase, why.clone(), now);
            promotion.not_before = *not_before;
        }
    }
    let chosen = number.and_then(|number| ledger.promotion(number)).filter(|promotion| ledger.may_go(promotion));
    let Some((number, is_rollback)) = chosen.map(|promotion| (promotion.number, promotion.is_rollback)) else { return false };
    if let Some(why) = tripped(rule, ledger, now).filter(|_| !is_rollback) {
        ledger.hold = Some(Note { by: SELF.to_owned(), at: now, why });
        return false;
    }
    let Some(promotion) = ledger.promotion_mut(number).filter(|promotion| promotion.phase == Phase::Waiting) else {
        return false;
    };
    promotion.image.created = created;
    promotion.becomes(Phase::Committing, None, now);
    // What was begun before has had a part of its time.
    promotion.begun = promotion.begun.or(Some(now));
    let image = promotion.image.image();
    ledger.writes(image);
    true
}

/// Why the rule stops by itself, if it does.
fn tripped(rule: &Rule, ledger: &Ledger, now: u64) -> Option<String> {
    let (most, within) = rule.breaker?;
    let since = now.saturating_sub(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    let landed = ledger.landed.iter().filter(|at| **at > since).count();
    (landed >= most).then(|| {
        format!("{landed} commits within {} s: something may promote in a circle; look, then release it", within.as_secs())
    })
}
