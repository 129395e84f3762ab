//! What happens later: jobs, and the schedules that submit them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use hooks::{Hooks, Lane};
use jobs::{Jobs, Kind, Options, State};
use mirror::{Memories, Mirrors};
use promotion::{Event, Ledgers, Promotions, Rollouts, Validations};
use registry::{Actor, Registry, TagEvent};
use storage::Store;
use telemetry::{Audit, Clock, Metrics};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use upstream::Upstream;

use crate::config::Config;
use crate::wiring::{self, Deployed, Kept};

/// Runs of a mirror that are kept.
const RUNS: usize = 100;
/// The wait after the first run of which tags failed.
const BACKOFF: Duration = Duration::from_secs(30);
/// And the longest.
const LONGEST_BACKOFF: Duration = Duration::from_mins(30);

/// Jobs that are done here at the same time. Most wait for somebody else.
const AT_ONCE: usize = 256;
/// Mirrors that run here at the same time; a promotion never waits for them.
const MIRRORS_AT_ONCE: usize = 4;
/// Applications that are watched here at the same time.
const ROLLOUTS_AT_ONCE: usize = 200;
/// The wait after git failed first.
const GIT_BACKOFF: Duration = Duration::from_secs(2);
/// And the longest.
const LONGEST_GIT_BACKOFF: Duration = Duration::from_mins(1);

/// Runs that may fail of looking over what others commit.
const VALIDATION_ATTEMPTS: u32 = 10;
/// How often deliveries are looked for that have no job.
const DELIVERIES: Duration = Duration::from_secs(5);
/// Runs that may fail of what follows a commit.
const ROLLOUT_ATTEMPTS: u32 = 10;

/// Durable work of this server.
#[derive(Clone)]
pub(crate) struct Durable {
    pub(crate) jobs: Jobs,
    pub(crate) mirrors: Mirrors,
    pub(crate) promotions: Promotions,
    pub(crate) hooks: Hooks,
    clock: Arc<dyn Clock>,
    registry: Registry,
    /// What is known of branches, if it goes with the process.
    _folder: Option<Arc<TempDir>>,
}

impl Durable {
    /// The work that the configuration asks for. Nothing is begun yet.
    pub(crate) fn new(
        config: &Config,
        store: &Store,
        registry: &Registry,
        upstreams: &BTreeMap<String, Upstream>,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        audit: &Audit,
    ) -> anyhow::Result<Self> {
        let state: Arc<dyn State> = Arc::new(Kept(store.records("jobs")));
        let options = Options { concurrency: AT_ONCE, ..Options::default() };
        let jobs = Jobs::new(state, Arc::clone(clock), metrics.clone(), options);
        let (temporary, folder) = folder(config)?;
        let ledgers = Ledgers::new(Arc::new(Kept(store.records("promotions"))));
        let promotions = wiring::promotions(config, registry, ledgers, &folder, clock, metrics, audit)?;
        let bound: anyhow::Result<Vec<_>> =
            config.mirrors.iter().map(|mirror| wiring::bound(mirror, upstreams, registry, clock)).collect();
        let memories = Memories::new(Arc::new(Kept(store.records("mirrors"))));
        let mirrors = Mirrors::new(bound?, memories, Arc::new(Deployed(promotions.clone())), Arc::clone(clock), metrics.clone());
        let kind = Kind {
            attempts: mirror::ATTEMPTS,
            history: RUNS,
            backoff: BACKOFF,
            longest_backoff: LONGEST_BACKOFF,
            at_once: MIRRORS_AT_ONCE,
        };
        jobs.register(mirror::KIND, kind, Arc::new(mirrors.clone()));
        // It is tried until its time is over, which it knows itself.
        let kind = Kind { attempts: u32::MAX, backoff: GIT_BACKOFF, longest_backoff: LONGEST_GIT_BACKOFF, ..Kind::default() };
        jobs.register(promotion::KIND, kind.clone(), Arc::new(promotions.clone()));
        let kind = Kind { attempts: ROLLOUT_ATTEMPTS, at_once: ROLLOUTS_AT_ONCE, ..kind };
        jobs.register(promotion::ROLLOUT_KIND, kind.clone(), Arc::new(Rollouts(promotions.clone())));
        let validations = Validations { promotions: promotions.clone(), names: wiring::names(config) };
        let kind = Kind { attempts: VALIDATION_ATTEMPTS, ..kind };
        jobs.register(promotion::VALIDATION_KIND, kind, Arc::new(validations));
        let hooks = wiring::hooks::hooks(config, Arc::new(Kept(store.records("hooks"))), clock)?;
        jobs.register(hooks::KIND, Hooks::kind(), Arc::new(hooks.clone()));
        let (registry, clock) = (registry.clone(), Arc::clone(clock));
        Ok(Self { jobs, mirrors, promotions, hooks, clock, registry, _folder: temporary })
    }

    /// Works until `stop`, and then until what runs has ended or given way.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let events = async {
            tokio::select! {
                () = self.registry.act_on_events(&self) => {}
                () = self.deliver_what_waits() => {}
                () = stop.cancelled() => {}
            }
        };
        tokio::join!(
            self.jobs.run(stop.clone()),
            self.mirrors.schedule(&self.jobs, stop.clone()),
            self.promotions.watch(&self.jobs, stop.clone()),
            events,
        );
    }
}

impl Durable {
    /// Submits the jobs of deliveries that have none: an event may arrive while the last job of its lane ends. Never returns.
    async fn deliver_what_waits(&self) {
        while self.hooks.endpoints().next().is_some() {
            match self.hooks.waiting().await {
                Ok(lanes) => self.deliver(lanes).await,
                Err(error) => {
                    tracing::warn!(error = %telemetry::chain(&error), "deliveries cannot be looked through; trying again");
                }
            }
            self.clock.sleep(DELIVERIES).await;
        }
        std::future::pending::<()>().await;
    }

    async fn deliver(&self, lanes: Vec<Lane>) {
        for lane in lanes {
            if let Err(error) = self.jobs.submit(lane.job(self.clock.now(), "event")).await {
                tracing::warn!(lane = lane.key(), error = %telemetry::chain(&error), "a delivery could not be submitted; it is later");
            }
        }
    }

    /// Writes the event down for those who are told of it.
    async fn tell(&self, event: &TagEvent) -> Result<(), String> {
        if self.hooks.endpoints().next().is_none() {
            return Ok(());
        }
        let told = wiring::hooks::told(event, &self.registry).await.map_err(|error| telemetry::chain(&error))?;
        let lanes = self.hooks.enqueue(&told).await.map_err(|error| telemetry::chain(&error))?;
        self.deliver(lanes).await;
        Ok(())
    }
}

#[async_trait]
impl Actor for Durable {
    async fn act(&self, event: &TagEvent) -> bool {
        let told = Event {
            id: event.id.clone(),
            repository: event.repository.clone(),
            tag: event.tag.clone(),
            digest: event.digest.clone(),
            sequence: event.sequence,
            at: event.at,
            by: event.by.clone(),
            from: event.from.clone(),
        };
        let offered = self.promotions.offer(&told).await.map_err(|error| telemetry::chain(&error));
        // Neither waits for the other: what is done twice changes nothing.
        match (offered, self.tell(event).await) {
            (Ok(()), Ok(())) => true,
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(event = event.id, error, "a change of a tag could not be acted on; trying again");
                false
            }
        }
    }
}

/// Where what is known of branches lies.
fn folder(config: &Config) -> anyhow::Result<(Option<Arc<TempDir>>, PathBuf)> {
    if let Some(folder) = &config.git.cache {
        return Ok((None, folder.clone()));
    }
    if config.promotions.is_empty() {
        return Ok((None, PathBuf::new()));
    }
    let made = tempfile::Builder::new().prefix("roadstead-git-").tempdir();
    let made = made.context("making a temporary folder for git; name one with git.cache")?;
    let path = made.path().to_owned();
    Ok((Some(Arc::new(made)), path))
}
