//! What must hold of an image before it is written.

use std::time::Duration;

use crate::content::{Content, Found, Verdicts};
use crate::ledger::{Ledger, Phase, Promotion};
use crate::rule::Rule;

/// How often it is looked whether what was missing has come.
const LOOK: Duration = Duration::from_secs(15);

/// May it be written?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Now; with what is known of the image.
    Open(Box<Found>),
    /// Not yet. Asked again after this.
    Later(String, Duration),
    /// Not this one: another one has come, or it is gone.
    Superseded(String),
    /// Never.
    Never(String),
}

/// What the gate of a rule looks at.
pub(crate) struct Watch<'g> {
    pub(crate) content: &'g dyn Content,
    pub(crate) verdicts: &'g dyn Verdicts,
    /// The ledger of the rule that an image must have come through before, and whether somebody watches its cluster.
    pub(crate) before: Option<(&'g Ledger, bool)>,
    pub(crate) now: std::time::SystemTime,
}

impl Watch<'_> {
    /// Asks everything that costs nothing first.
    pub(crate) async fn verdict(&self, rule: &Rule, ledger: &Ledger, promotion: &Promotion) -> Result<Verdict, oci::Error> {
        let digest = &promotion.image.digest;
        if let Some(note) = ledger.refused.get(digest) {
            return Ok(Verdict::Never(format!("{} refused this digest: {}; release it first", note.by, note.why)));
        }
        // What waits for another stage, or was asked for by somebody, is meant by its digest, not by its tag.
        if rule.gate.after.is_none() && !promotion.is_forced {
            match self.content.tagged(&rule.repository, &promotion.image.tag).await? {
                None => return Ok(Verdict::Superseded("the tag was removed".to_owned())),
                Some(now) if now.digest != *digest => {
                    return Ok(Verdict::Superseded(format!("the tag stands for {} by now", now.digest)));
                }
                Some(_) => {}
            }
        }
        let found = self.content.look(&rule.repository, digest, &rule.gate.platforms).await?;
        if let Some(why) = &found.no_image {
            return Ok(Verdict::Never(why.clone()));
        }
        if let Some(first) = found.missing.first() {
            let more = found.missing.len() - 1;
            let more = if more == 0 { String::new() } else { format!(", and {more} more") };
            return Ok(Verdict::Later(format!("waits for its content: {first}{more}"), LOOK));
        }
        if promotion.is_rollback {
            // It was well there before, and somebody is in a hurry.
            return Ok(Verdict::Open(Box::new(found)));
        }
        if let Some(later) = self.earlier_stage(rule, promotion) {
            return Ok(later);
        }
        match self.verdicts.verdict(&rule.name, &rule.repository, digest).await {
            Err(why) => return Ok(Verdict::Never(why)),
            Ok(Some(why)) => return Ok(Verdict::Later(why, LOOK)),
            Ok(None) => {}
        }
        if rule.gate.approval && !ledger.approved.contains_key(digest) {
            return Ok(Verdict::Later(format!("waits for the approval of {digest}"), Duration::from_hours(1)));
        }
        if let Some(window) = &rule.gate.window {
            match window.opens_in(self.now) {
                Some(Duration::ZERO) => {}
                Some(wait) => return Ok(Verdict::Later("waits for its hours".to_owned(), wait)),
                None => return Ok(Verdict::Never("the hours of this promotion never come".to_owned())),
            }
        }
        Ok(Verdict::Open(Box::new(found)))
    }

    /// Has the image been well in the stage before for long enough?
    fn earlier_stage(&self, rule: &Rule, promotion: &Promotion) -> Option<Verdict> {
        let (stage, soak) = rule.gate.after.as_ref()?;
        let (ledger, is_watched) = self.before?;
        let digest = &promotion.image.digest;
        let there = ledger.promotions.iter().rev().filter(|other| other.image.digest == *digest);
        // What was decided last counts.
        let mut since = None;
        for other in there {
            match other.phase {
                Phase::Degraded | Phase::RolledBack | Phase::Refused => {
                    return Some(Verdict::Later(format!("was {} in {stage}", other.phase.as_str()), LOOK));
                }
                Phase::Committed if !is_watched => since = other.committed,
                _ => since = other.healthy.or(other.committed.filter(|_| !is_watched)),
            }
            if since.is_some() {
                break;
            }
        }
        let Some(since) = since else { return Some(Verdict::Later(format!("waits for {stage}"), LOOK)) };
        let now =
            u64::try_from(self.now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let soak_ms = u64::try_from(soak.as_millis()).unwrap_or(u64::MAX);
        let ripe = since.saturating_add(soak_ms);
        let others = ledger.promotions.iter().filter(|other| other.image.digest != *digest);
        let replaced = others.filter_map(|other| other.committed).filter(|at| *at > since).min();
        if replaced.is_some_and(|at| at < ripe) {
            return Some(Verdict::Later(format!("was replaced in {stage} before it had been well there for long enough"), LOOK));
        }
        let left = ripe.saturating_sub(now);
        (left > 0).then(|| Verdict::Later(format!("has to be well in {stage} for longer"), Duration::from_millis(left)))
    }
}
