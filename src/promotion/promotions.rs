//! The promotions of a server: what arrives is offered to the rules, and written by jobs, one for each branch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use oci::{Digest, RepositoryName, Tag};
use telemetry::{Audit, Clock, Metrics};
use tokio::sync::Notify;

use crate::content::{Content, Verdicts};
use crate::follow::Deployer;
use crate::ledger::{Arrival, Ledger, LedgerError, Ledgers, Phase, Promotion};
use crate::place::Place;
use crate::rule::Rule;

/// The kind of the jobs that write.
pub const KIND: &str = "promotion";

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
    /// Who deploys what a rule has written, by the rule's name.
    pub deployers: BTreeMap<String, Deployer>,
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
    /// Where it is written down what was promoted.
    pub audit: Audit,
}

/// All promotions of this server. Cheap to clone.
#[derive(Clone)]
pub struct Promotions(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) places: BTreeMap<String, Place>,
    pub(crate) deployers: BTreeMap<String, Deployer>,
    pub(crate) ledgers: Ledgers,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) verdicts: Arc<dyn Verdicts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) audit: Audit,
    /// What is to be done next.
    pub(crate) pokes: Mutex<BTreeSet<Poke>>,
    pub(crate) has_pokes: Notify,
}

/// Something that a job is to be submitted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Poke {
    /// There may be something to write to this branch.
    Branch(String),
    /// This rule has written something.
    Rollout(String),
    /// Commits in the repository of this rule are to be looked over.
    Validation(String),
}

impl Promotions {
    /// The promotions of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { rules, places, deployers, ledgers, content, verdicts, clock, metrics, audit } = parts;
        let rules = rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        let (pokes, has_pokes) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { rules, places, deployers, ledgers, content, verdicts, clock, metrics, audit, pokes, has_pokes }))
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

    /// Offers a change of a tag to every rule. What follows from it is durable when this returns; that
    /// it is done is seen to by [`Promotions::watch`].
    pub async fn offer(&self, event: &Event) -> Result<(), LedgerError> {
        let (now, mut failed) = (self.now(), None);
        for rule in self.all().filter(|rule| rule.repository == event.repository && rule.wants(&event.tag)) {
            let noted = match self.0.ledgers.update(&rule.name, |ledger| note(rule, ledger, event, now)).await {
                Ok(noted) => noted,
                Err(error) => {
                    // The others need not wait for this one.
                    failed = Some(error);
                    continue;
                }
            };
            if let Some(number) = noted.1 {
                let (promotion, event) = (format!("{}/{number}", rule.name), &event.id);
                tracing::info!(promotion, event, repository = %rule.repository, "a promotion was offered");
            }
            if noted.0.is_due(now) {
                self.wake(rule);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// There is something to do.
    pub(crate) fn poke(&self, poke: Poke) {
        self.0.pokes.lock().unwrap_or_else(PoisonError::into_inner).insert(poke);
        self.0.has_pokes.notify_one();
    }

    /// Looks at the rule again, now.
    pub fn wake(&self, rule: &Rule) {
        self.poke(Poke::Branch(rule.branch.clone()));
    }

    pub(crate) fn now(&self) -> u64 {
        millis(self.0.clock.now())
    }
}

/// What an event does to a ledger. Gives the number of the promotion that it makes.
fn note(rule: &Rule, ledger: &mut Ledger, event: &Event, now: u64) -> Option<u64> {
    let Some(digest) = &event.digest else {
        // It may be told late, when the tag is there again.
        let is_older = |one: &&mut Promotion| one.image.tag == event.tag && one.image.at <= event.at;
        let of_tag = ledger.promotions.iter_mut().filter(|one| one.phase == Phase::Waiting).filter(is_older);
        // One that waits for another stage is meant by its digest.
        for promotion in of_tag.filter(|_| rule.gate.after.is_none()) {
            promotion.becomes(Phase::Superseded, Some("the tag was removed".to_owned()), now);
        }
        return None;
    };
    let image = Arrival { tag: event.tag.clone(), digest: digest.clone(), at: event.at, sequence: event.sequence, created: None };
    // Its entry was taken for one that a crash has left, before the tag was set.
    let is_early = |one: &&mut Promotion| one.event == event.id && one.phase == Phase::Superseded && one.committed.is_none();
    if event.sequence.is_some()
        && let Some(promotion) = ledger.promotions.iter_mut().find(is_early)
    {
        promotion.image.sequence = event.sequence;
        promotion.becomes(Phase::Waiting, None, now);
        return Some(promotion.number);
    }
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
        begun: None,
        withdrawn: None,
        not_before: 0,
        path: None,
        before: None,
        commit: None,
        after: None,
        pull: None,
        moved: None,
        is_told: false,
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
