//! The promotions of a server: what arrives is offered to the rules, and written by jobs, one for each branch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jobs::{JobState, Jobs, NewJob, Submitted};
use oci::{Digest, RepositoryName, Tag};
use serde_json::Value;
use telemetry::{Clock, Metrics};
use tokio_util::sync::CancellationToken;

use crate::content::{Content, Verdicts};
use crate::ledger::{Arrival, Ledger, LedgerError, Ledgers, Phase, Promotion};
use crate::place::Place;
use crate::rule::Rule;

/// The kind of the jobs that write.
pub const KIND: &str = "promotion";

/// How often the ledgers are looked through for what has become due.
const SWEEP: Duration = Duration::from_secs(5);
/// What is waited before a job is asked for again while another one of its branch is about to end; longer each time.
const AGAIN: Duration = Duration::from_millis(50);
/// And how many times.
const ATTEMPTS: u32 = 10;

/// A change of a tag, as promotions are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which: told twice, it is the same.
    pub id: String,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What it stands for; `None`: it was removed.
    pub digest: Option<Digest>,
    /// How often the tag has moved, where that is known.
    pub sequence: Option<u64>,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who did it.
    pub by: Option<String>,
    /// From where.
    pub from: Option<String>,
}

/// What promotions are made of.
pub struct Parts {
    /// The rules, of distinct names.
    pub rules: Vec<Rule>,
    /// The branches, by the names that the rules know them by. A name is the key of a job.
    pub places: BTreeMap<String, Place>,
    /// What is known of each rule.
    pub ledgers: Ledgers,
    /// What is held here.
    pub content: Arc<dyn Content>,
    /// What signs and scans.
    pub verdicts: Arc<dyn Verdicts>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
}

/// All promotions of this server. Cheap to clone.
#[derive(Clone)]
pub struct Promotions(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) places: BTreeMap<String, Place>,
    pub(crate) ledgers: Ledgers,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) verdicts: Arc<dyn Verdicts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

impl Promotions {
    /// The promotions of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { rules, places, ledgers, content, verdicts, clock, metrics } = parts;
        let rules = rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        Self(Arc::new(Inner { rules, places, ledgers, content, verdicts, clock, metrics }))
    }

    /// All rules, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.0.rules.values()
    }

    /// The rule of this name.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.0.rules.get(name)
    }

    /// Where a rule commits to.
    #[must_use]
    pub fn place(&self, rule: &Rule) -> Option<&Place> {
        self.0.places.get(&rule.branch)
    }

    /// Does this stand in Git because we wrote it, or is it about to? Then it is not to be removed here.
    pub async fn is_deployed(&self, repository: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<bool, LedgerError> {
        for rule in self.all().filter(|rule| rule.repository == *repository) {
            let ledger = self.ledger(&rule.name).await?;
            let is = |image: &Arrival| image.tag == *tag && image.digest == *digest;
            if ledger.written.as_ref().is_some_and(|written| is(&written.image)) || ledger.open().any(|one| is(&one.image)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is known of a rule.
    pub async fn ledger(&self, rule: &str) -> Result<Ledger, LedgerError> {
        self.0.ledgers.of(rule).await
    }

    /// Offers a change of a tag to every rule. What follows from it is durable when this returns; the branches are given that have
    /// something to write now.
    pub async fn offer(&self, event: &Event) -> Result<Vec<String>, LedgerError> {
        let now = self.now();
        let mut branches = Vec::new();
        for rule in self.all().filter(|rule| rule.repository == event.repository && rule.wants(&event.tag)) {
            let noted = self.0.ledgers.update(&rule.name, |ledger| note(rule, ledger, event, now)).await?;
            if let Some(number) = noted.1 {
                let (promotion, event) = (format!("{}/{number}", rule.name), &event.id);
                tracing::info!(promotion, event, repository = %rule.repository, "a promotion was offered");
            }
            if noted.0.is_due(now) && !branches.contains(&rule.branch) {
                branches.push(rule.branch.clone());
            }
        }
        Ok(branches)
    }

    /// Submits the job that writes to a branch. One that is open and has not begun will see what is in the ledgers now; for one that
    /// may have looked already this waits a little, until the next can be made.
    pub async fn submit(&self, jobs: &Jobs, branch: &str) {
        for attempt in 0..ATTEMPTS {
            let job = NewJob {
                kind: KIND.to_owned(),
                key: branch.to_owned(),
                input: Value::Null,
                due: self.0.clock.now(),
                stamp: None,
                by: None,
            };
            match jobs.submit(job).await {
                Ok(Submitted::New(_)) => return,
                Ok(Submitted::Open(_) | Submitted::Past) => {}
                Err(error) => {
                    tracing::warn!(branch, error = %telemetry::chain(&error), "a promotion could not be submitted; it is later");
                    return;
                }
            }
            if let Ok(Some(open)) = jobs.open_at(KIND, branch).await
                && open.state == JobState::Waiting
            {
                return;
            }
            self.0.clock.sleep(AGAIN * (attempt + 1)).await;
            if !self.is_due(branch).await {
                return;
            }
        }
        // The next look through the ledgers finds it.
    }

    /// Submits what has become due without an event, and what a crash has left, until `stop`. Several servers may do so.
    pub async fn watch(&self, jobs: &Jobs, stop: CancellationToken) {
        loop {
            for branch in self.0.places.keys() {
                if self.is_due(branch).await && matches!(jobs.open_at(KIND, branch).await, Ok(None)) {
                    self.submit(jobs, branch).await;
                }
            }
            tokio::select! {
                () = self.0.clock.sleep(SWEEP) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Has a rule of this branch something to write?
    async fn is_due(&self, branch: &str) -> bool {
        let now = self.now();
        for rule in self.all().filter(|rule| rule.branch == branch) {
            match self.ledger(&rule.name).await {
                Ok(ledger) if ledger.is_due(now) => return true,
                Ok(_) => {}
                Err(error) => tracing::warn!(promotion = rule.name, error = %telemetry::chain(&error), "trying again"),
            }
        }
        false
    }

    pub(crate) fn now(&self) -> u64 {
        millis(self.0.clock.now())
    }
}

/// What an event does to a ledger. Gives the number of the promotion that it makes.
fn note(rule: &Rule, ledger: &mut Ledger, event: &Event, now: u64) -> Option<u64> {
    let Some(digest) = &event.digest else {
        let of_tag = ledger.promotions.iter_mut().filter(|one| one.phase == Phase::Waiting && one.image.tag == event.tag);
        // One that waits for another stage is meant by its digest.
        for promotion in of_tag.filter(|_| rule.gate.after.is_none()) {
            promotion.becomes(Phase::Superseded, Some("the tag was removed".to_owned()), now);
        }
        return None;
    };
    let image = Arrival { tag: event.tag.clone(), digest: digest.clone(), at: event.at, sequence: event.sequence, created: None };
    let is_same = |other: &Arrival| other.tag == image.tag && other.digest == image.digest;
    let is_known = ledger.promotions.iter().any(|one| one.event == event.id || (one.phase.is_open() && is_same(&one.image)));
    // What stands there already needs nothing; what was there before may come again.
    if is_known || ledger.written.as_ref().is_some_and(|written| is_same(&written.image)) {
        return None;
    }
    let promotion = offered(event.id.clone(), image, event.by.clone(), event.from.clone(), now);
    Some(ledger.add(promotion))
}

/// A promotion that waits.
pub(crate) fn offered(event: String, image: Arrival, by: Option<String>, from: Option<String>, now: u64) -> Promotion {
    Promotion {
        number: 0,
        event,
        image,
        by,
        from,
        phase: Phase::Waiting,
        why: None,
        is_forced: false,
        is_rollback: false,
        not_before: 0,
        path: None,
        before: None,
        commit: None,
        offered: now,
        committed: None,
        healthy: None,
        changed: now,
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Promotions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Promotions").field("rules", &self.0.rules.keys()).finish_non_exhaustive()
    }
}
