//! What is known of a promotion rule: one object for each, changed by compare-and-swap alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jobs::{State, StateError};
use oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

use crate::edit::{Image, Values};

/// Promotions that have ended and never stood in Git, and are kept.
const ENDED: usize = 50;
/// Those that did: what is rolled back to, and what later stages wait for.
const LANDED_KEPT: usize = 200;
/// Promotions that may wait; beyond that those give way that are nearest in age to others.
const OPEN: usize = 100;
/// Images that were being written and of which it is not known what became of them.
const WRITING: usize = 10;
/// Digests that are refused or approved and remembered.
const DIGESTS: usize = 100;
/// Times of commits that are remembered, for the breaker.
pub(crate) const LANDED: usize = 1000;

/// What is known of a rule. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The number of the last promotion.
    #[serde(default)]
    pub last: u64,
    /// The latest last.
    #[serde(default)]
    pub promotions: Vec<Promotion>,
    /// What we wrote last, and nobody else since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// What is being written, or was: a crash or a lost answer may have left it there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writing: Vec<Image>,
    /// Nothing is written until it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Note>,
    /// These are not promoted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<Digest, Note>,
    /// These may be promoted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub approved: BTreeMap<Digest, Note>,
    /// Commits of others that are still to be looked over, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unvalidated: Vec<String>,
    /// When commits were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub landed: Vec<u64>,
}

/// Who decided something, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who; `roadstead` for what it decided by itself.
    pub by: String,
    /// When.
    pub at: u64,
    /// Why.
    pub why: String,
}

/// An image that arrived: what tells it from others, and its age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The tag.
    pub tag: Tag,
    /// What it stood for.
    pub digest: Digest,
    /// When it was set.
    pub at: u64,
    /// How often the tag had moved by then, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When the image was built, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
}

/// What stands in Git because we wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Which promotion.
    pub number: u64,
    /// Its image.
    pub image: Arrival,
    /// What the file has, as it was read after the edit.
    pub values: Values,
    /// The commit.
    pub commit: String,
}

/// One promotion: an image on its way into Git and from there into the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Counts the promotions of the rule.
    pub number: u64,
    /// The entry of the journal that it came from, or the request; also what its lines in the log have in common.
    pub event: String,
    /// Its image.
    pub image: Arrival,
    /// Who set the tag, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where it is.
    pub phase: Phase,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Asked for by somebody: it need not be later than what is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_forced: bool,
    /// It takes another one back: it is written although the rule is held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_rollback: bool,
    /// Since when it is being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<u64>,
    /// Why its pull request is being closed by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// It is not looked at before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_before: u64,
    /// The file that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What stood there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Values>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What stands there after it, in a pull request or in the branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Values>,
    /// Its pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// The commit on which that stands, and all files that it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<(String, Vec<String>)>,
    /// Those who deploy have been told, as far as they would hear it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_told: bool,
    /// When it was offered.
    pub offered: u64,
    /// When it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// When it was well in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<u64>,
    /// When it changed last.
    pub changed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Its number at the forge.
    pub number: u64,
    /// Where people look at it.
    pub url: String,
}

/// Where a promotion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It may not be written yet, or nobody has come to it.
    Waiting,
    /// It is being written: it may stand in Git already.
    Committing,
    /// A pull request has it, which waits for somebody to merge it.
    Proposed,
    /// Somebody closed its pull request.
    Rejected,
    /// It stands in Git. Where nobody watches the cluster, this is the end.
    Committed,
    /// It is well in the cluster.
    Healthy,
    /// It is not well in the cluster.
    Degraded,
    /// It is not known within its time whether it is well in the cluster.
    Unconfirmed,
    /// A later or more specific one took its place, or its tag has moved on.
    Superseded,
    /// Somebody changed the place in Git, and what he wrote stays.
    Held,
    /// It may not be promoted.
    Refused,
    /// It could not be written.
    Failed,
    /// It was taken back.
    RolledBack,
}

impl Phase {
    /// It has still to be written.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Committing)
    }

    /// Its name, as it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Committing => "committing",
            Self::Proposed => "proposed",
            Self::Rejected => "rejected",
            Self::Committed => "committed",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unconfirmed => "unconfirmed",
            Self::Superseded => "superseded",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
        }
    }
}

impl Promotion {
    /// It is here now, for this reason.
    pub(crate) fn becomes(&mut self, phase: Phase, why: Option<String>, now: u64) {
        if self.phase != phase || self.why != why {
            self.changed = now;
        }
        (self.phase, self.why) = (phase, why);
    }
}

impl Arrival {
    /// What of it is written.
    #[must_use]
    pub fn image(&self) -> Image {
        Image { tag: self.tag.clone(), digest: self.digest.clone() }
    }
}

impl Ledger {
    /// The promotion of this number.
    #[must_use]
    pub fn promotion(&self, number: u64) -> Option<&Promotion> {
        self.promotions.iter().find(|promotion| promotion.number == number)
    }

    pub(crate) fn promotion_mut(&mut self, number: u64) -> Option<&mut Promotion> {
        self.promotions.iter_mut().find(|promotion| promotion.number == number)
    }

    /// Those that have still to be written.
    pub fn open(&self) -> impl Iterator<Item = &Promotion> {
        self.promotions.iter().filter(|promotion| promotion.phase.is_open())
    }

    /// Is there anything to do before `now` is over?
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.open().any(|promotion| promotion.not_before <= now && self.may_go(promotion))
    }

    /// Does nothing hold this promotion? What takes another one back is what the hold is for; and what was begun may stand in Git.
    #[must_use]
    pub fn may_go(&self, promotion: &Promotion) -> bool {
        self.hold.is_none() || promotion.is_rollback || promotion.phase == Phase::Committing
    }

    /// Adds a promotion, which gets the next number.
    pub(crate) fn add(&mut self, promotion: Promotion) -> u64 {
        self.last += 1;
        self.promotions.push(Promotion { number: self.last, ..promotion });
        self.forget();
        self.last
    }

    /// An image is being written from now on.
    pub(crate) fn writes(&mut self, image: Image) {
        self.writing.retain(|known| *known != image);
        self.writing.push(image);
        self.writing.drain(..self.writing.len().saturating_sub(WRITING));
    }

    /// Keeps the ledger small.
    pub(crate) fn forget(&mut self) {
        let now = self.promotions.last().map_or(0, |promotion| promotion.changed);
        while self.promotions.iter().filter(|promotion| promotion.phase == Phase::Waiting).count() > OPEN {
            let Some(promotion) = self.least_missed().and_then(|number| self.promotion_mut(number)) else { break };
            promotion.becomes(Phase::Superseded, Some(format!("more than {OPEN} wait, and others are about as old")), now);
        }
        let written = self.written.as_ref().map(|written| written.number);
        let has_ended = |promotion: &Promotion| !promotion.phase.is_open() && promotion.phase != Phase::Proposed;
        for (has_landed, most) in [(false, ENDED), (true, LANDED_KEPT)] {
            let is_one = |promotion: &Promotion| has_ended(promotion) && promotion.committed.is_some() == has_landed;
            let mut surplus = self.promotions.iter().filter(|promotion| is_one(promotion)).count().saturating_sub(most);
            self.promotions.retain(|promotion| {
                let goes = surplus > 0 && is_one(promotion) && Some(promotion.number) != written;
                surplus -= usize::from(goes);
                !goes
            });
        }
        for notes in [&mut self.refused, &mut self.approved] {
            while notes.len() > DIGESTS {
                let Some(oldest) = notes.iter().min_by_key(|(_, note)| note.at).map(|(digest, _)| digest.clone()) else { break };
                notes.remove(&oldest);
            }
        }
        self.landed.drain(..self.landed.len().saturating_sub(LANDED));
    }
}

impl Ledger {
    /// The waiting promotion whose neighbours in age are nearest to each other: neither the first, which may be the next that is ripe,
    /// nor the last.
    fn least_missed(&self) -> Option<u64> {
        let waiting = self.promotions.iter().filter(|promotion| promotion.phase == Phase::Waiting && !promotion.is_forced);
        let mut waiting: Vec<(u64, u64)> = waiting.map(|promotion| (promotion.image.at, promotion.number)).collect();
        waiting.sort_unstable();
        let gap = |three: &&[(u64, u64)]| three[2].0 - three[0].0;
        waiting.windows(3).min_by_key(gap).map(|three| three[1].1).or_else(|| waiting.first().map(|one| one.1))
    }
}

/// The ledgers of all rules.
#[derive(Clone)]
pub struct Ledgers(Arc<dyn State>);

/// A ledger that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed.
    #[error("the ledger of the promotion {rule} cannot be had")]
    State {
        /// Whose.
        rule: String,
        /// Why.
        #[source]
        source: StateError,
    },
    /// It is not what this version writes.
    #[error("the ledger of the promotion {rule} cannot be understood; move promotions/{rule} away to begin a new one")]
    Corrupt {
        /// Whose.
        rule: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Ledgers {
    /// Ledgers that lie in this state.
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        Self(state)
    }

    /// The ledger of a rule; an empty one if it has none yet.
    pub async fn of(&self, rule: &str) -> Result<Ledger, LedgerError> {
        let found = self.0.read(rule).await.map_err(|source| LedgerError::State { rule: rule.to_owned(), source })?;
        found.map_or_else(|| Ok(Ledger::default()), |(bytes, _)| parse(rule, &bytes))
    }

    /// Changes the ledger of a rule, durably, and gives it as it is then, with what `change` gave. `change` is asked again when
    /// somebody else was faster.
    pub(crate) async fn update<T>(
        &self,
        rule: &str,
        mut change: impl FnMut(&mut Ledger) -> T,
    ) -> Result<(Ledger, T), LedgerError> {
        let failed = |source| LedgerError::State { rule: rule.to_owned(), source };
        loop {
            let (before, version) = match self.0.read(rule).await.map_err(failed)? {
                None => (Ledger::default(), None),
                Some((bytes, version)) => (parse(rule, &bytes)?, Some(version)),
            };
            let mut ledger = before.clone();
            let given = change(&mut ledger);
            if ledger == before {
                return Ok((ledger, given));
            }
            let bytes = serde_json::to_vec(&ledger);
            let bytes = bytes.map_err(|source| LedgerError::Corrupt { rule: rule.to_owned(), source })?;
            if self.0.swap(rule, Bytes::from(bytes), version.as_ref()).await.map_err(failed)?.is_some() {
                return Ok((ledger, given));
            }
        }
    }
}

fn parse(rule: &str, bytes: &[u8]) -> Result<Ledger, LedgerError> {
    serde_json::from_slice(bytes).map_err(|source| LedgerError::Corrupt { rule: rule.to_owned(), source })
}

impl std::fmt::Debug for Ledgers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ledgers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
