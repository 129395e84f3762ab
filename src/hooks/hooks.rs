//! All endpoints of this server: what they are told, and what operators are shown and may do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use jobs::{Kind, Random, State};
use telemetry::Clock;

use crate::dialect::Registry;
use crate::endpoint::{Bound, Endpoint, EndpointError};
use crate::event::Event;
use crate::lane::Lane;
use crate::queue::{Dead, Found, Name, Queue, QueueError, Queued};
use crate::recent::{self, Attempt, AttemptOutcome};

/// How deliveries are tried, and how many are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Attempts after which a delivery is given up.
    pub attempts: u32,
    /// The age at which one that fails is given up.
    pub age: Duration,
    /// Attempts after which one is given up that the receiver refuses.
    pub rejected_attempts: u32,
    /// The wait after the first attempt that failed; doubled for each further one, and shortened by up to a half at random.
    pub backoff: Duration,
    /// It is never longer than this.
    pub longest_backoff: Duration,
    /// Events that wait for one endpoint. Beyond it the oldest are given up.
    pub queue: usize,
    /// Events of one endpoint that were given up and are kept. Beyond it the oldest are forgotten.
    pub dead: usize,
    /// Jitter.
    pub random: Random,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attempts: 40,
            age: Duration::from_hours(24),
            rejected_attempts: 3,
            backoff: Duration::from_secs(5),
            longest_backoff: Duration::from_hours(1),
            queue: 10_000,
            dead: 1000,
            random: Random::from_system(),
        }
    }
}

/// What could not be done for an operator.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// There is no such endpoint.
    #[error("there is no endpoint {endpoint:?}")]
    Unknown {
        /// The name.
        endpoint: String,
    },
    /// No such delivery was given up.
    #[error("the endpoint {endpoint} has no dead delivery {id:?}")]
    NotDead {
        /// The endpoint.
        endpoint: String,
        /// The id of the event.
        id: String,
    },
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The endpoints, and the work of delivering to them. Cheap to clone; all clones are the same.
///
/// The root writes each event with [`Hooks::enqueue`] and submits the [`Lane::job`] of each lane that it is given. It also submits
/// those of [`Hooks::waiting`], at the start and every few seconds: an event that arrives while the last job of its lane ends, or
/// just before a crash, has no job otherwise.
#[derive(Clone)]
pub struct Hooks(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) endpoints: BTreeMap<String, Bound>,
    pub(crate) registry: Registry,
    pub(crate) state: Arc<dyn State>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    depths: Mutex<BTreeMap<String, Depth>>,
}

/// How many events wait for an endpoint, as far as this process knows.
#[derive(Clone, Copy, Default)]
struct Depth {
    /// When it was last counted.
    counted: usize,
    /// What this process added since then; `None` before it has ever counted.
    added: Option<usize>,
}

impl Hooks {
    /// Endpoints of distinct names, whose records lie in `state` under these names.
    pub fn new(
        endpoints: Vec<Endpoint>,
        registry: Registry,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, EndpointError> {
        let mut bound = BTreeMap::new();
        for endpoint in endpoints {
            let name = endpoint.name.clone();
            if bound.insert(name.clone(), Bound::new(endpoint)?).is_some() {
                return Err(EndpointError::Twice { name });
            }
        }
        Ok(Self(Arc::new(Inner { endpoints: bound, registry, state, clock, options, depths: Mutex::default() })))
    }

    /// How the jobs of [`crate::KIND`] are to be registered: when a delivery is given up is ours to say, not that of its job. An
    /// endpoint has a few of them at once, so that receivers that hang leave room for others.
    #[must_use]
    pub fn kind() -> Kind {
        Kind {
            attempts: u32::MAX,
            backoff: Duration::from_secs(5),
            longest_backoff: Duration::from_mins(10),
            history: 5,
            at_once: 24,
        }
    }

    /// The endpoints, in the order of their names.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.endpoints.values().map(|bound| &bound.settings)
    }

    /// Writes the event for each endpoint that wants it, durably, and gives the lanes whose job is to be submitted.
    ///
    /// The same event twice is one delivery, also when it was delivered a moment ago. After an error some endpoints may have it: it is
    /// harmless to call this again.
    pub async fn enqueue(&self, event: &Event) -> Result<Vec<Lane>, QueueError> {
        let mut lanes = Vec::new();
        let mut failure = None;
        for (name, bound) in &self.0.endpoints {
            if !bound.settings.wants(event) || bound.payload(event, &self.0.registry).is_none() {
                continue;
            }
            match self.0.enqueue(name, event).await {
                Ok(true) => lanes.push(Lane::new(name, &event.repository)),
                Ok(false) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(lanes), Err)
    }

    /// The lanes in which anything waits: each needs an open job.
    pub async fn waiting(&self) -> Result<Vec<Lane>, QueueError> {
        let mut lanes = BTreeSet::new();
        for endpoint in self.0.endpoints.keys() {
            lanes.extend(self.0.queue(endpoint).waiting().await?.iter().map(|name| name.lane(endpoint)));
        }
        Ok(lanes.into_iter().collect())
    }

    /// How many events wait for an endpoint.
    pub async fn pending(&self, endpoint: &str) -> Result<usize, HookError> {
        Ok(self.0.known(endpoint)?.waiting().await?.len())
    }

    /// What was given up for an endpoint and is kept, the oldest event first.
    pub async fn dead(&self, endpoint: &str) -> Result<Vec<Dead>, HookError> {
        let queue = self.0.known(endpoint)?;
        let mut dead = Vec::new();
        for name in queue.dead().await? {
            dead.extend(queue.read_dead(&name).await?);
        }
        Ok(dead)
    }

    /// The last attempts of an endpoint, the latest first; 20 at most.
    pub async fn recent(&self, endpoint: &str) -> Result<Vec<Attempt>, HookError> {
        Ok(recent::recent(&self.0.known(endpoint)?).await?)
    }

    /// Puts a delivery that was given up back into the queue, by the id of its event, as if it were new. Gives the lane whose job is
    /// to be submitted.
    pub async fn redeliver(&self, endpoint: &str, id: &str) -> Result<Lane, HookError> {
        let queue = self.0.known(endpoint)?;
        let not_dead = || HookError::NotDead { endpoint: endpoint.to_owned(), id: id.to_owned() };
        let name = queue.dead().await?.into_iter().find(|name| name.is_of(id)).ok_or_else(not_dead)?;
        let event = queue.read_dead(&name).await?.and_then(|dead| dead.event).ok_or_else(not_dead)?;
        // In this order: broken off between the two, it is in both and can be asked for again.
        queue.add(&name, &Queued { event, since: self.0.now(), attempts: 0 }).await?;
        queue.remove_dead(&name).await?;
        Ok(name.lane(endpoint))
    }
}

impl Inner {
    pub(crate) fn queue<'s>(&'s self, endpoint: &'s str) -> Queue<'s> {
        Queue::new(&self.state, endpoint)
    }

    fn known<'s>(&'s self, endpoint: &'s str) -> Result<Queue<'s>, HookError> {
        if !self.endpoints.contains_key(endpoint) {
            return Err(HookError::Unknown { endpoint: endpoint.to_owned() });
        }
        Ok(self.queue(endpoint))
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        let since = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// `false` if the endpoint has the event already.
    async fn enqueue(&self, endpoint: &str, event: &Event) -> Result<bool, QueueError> {
        let queue = self.queue(endpoint);
        let had = |attempt: &Attempt| attempt.id == event.id && attempt.outcome == AttemptOutcome::Delivered;
        if recent::recent(&queue).await?.iter().any(had) {
            return Ok(false);
        }
        let queued = Queued { event: event.clone(), since: self.now(), attempts: 0 };
        if queue.add(&Name::new(event), &queued).await? {
            self.bound(endpoint, &queue).await?;
        }
        Ok(true)
    }

    /// Keeps the queue within its limit. It is counted only now and then, because that lists all of it; replicas that add to it at
    /// the same time can take it over the limit by as much as each adds in between.
    async fn bound(&self, endpoint: &str, queue: &Queue<'_>) -> Result<(), QueueError> {
        let limit = self.options.queue.max(1);
        let slack = limit / 64;
        {
            let mut depths = self.depths.lock().unwrap_or_else(PoisonError::into_inner);
            let depth = depths.entry(endpoint.to_owned()).or_default();
            let added = depth.added.map(|added| added + 1);
            depth.added = added;
            if added.is_some_and(|added| added <= slack && depth.counted + added <= limit) {
                return Ok(());
            }
        }
        let waiting = queue.waiting().await?;
        let over = if waiting.len() > limit { waiting.len() - (limit - slack) } else { 0 };
        if over > 0 {
            tracing::error!(
                endpoint,
                waiting = waiting.len(),
                limit,
                "the queue of an endpoint is full: the oldest events are given up"
            );
        }
        for name in waiting.iter().take(over) {
            let reason = format!("more than {limit} events waited for the endpoint");
            let queued = match queue.read(name).await? {
                Found::Gone => continue,
                Found::Queued(queued, _) => Some(*queued),
                Found::Corrupt => None,
            };
            self.bury(queue, name, queued, &reason).await?;
        }
        let mut depths = self.depths.lock().unwrap_or_else(PoisonError::into_inner);
        depths.insert(endpoint.to_owned(), Depth { counted: waiting.len() - over, added: Some(0) });
        Ok(())
    }

    /// Gives a delivery up, and forgets the oldest of those that were if there are too many.
    pub(crate) async fn bury(
        &self,
        queue: &Queue<'_>,
        name: &Name,
        queued: Option<Queued>,
        reason: &str,
    ) -> Result<(), QueueError> {
        let dead = Dead::new(name, queued, reason, self.now());
        queue.bury(name, &dead).await?;
        let there = queue.dead().await?;
        let over = there.len().saturating_sub(self.options.dead.max(1));
        for forgotten in there.iter().take(over) {
            tracing::error!(id = ?forgotten, "a dead delivery is forgotten: there are too many");
            queue.remove_dead(forgotten).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hooks").field("endpoints", &self.0.endpoints.keys()).finish_non_exhaustive()
    }
}
