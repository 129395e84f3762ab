//! What happens later: jobs, and the schedules that submit them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jobs::{Jobs, Kind, Options, State};
use mirror::{Memories, Mirrors};
use registry::Registry;
use storage::Store;
use telemetry::{Clock, Metrics};
use tokio_util::sync::CancellationToken;
use upstream::Upstream;

use crate::config::Config;
use crate::wiring::{self, Kept, NoPins};

/// Runs of a mirror that are kept.
const RUNS: usize = 100;
/// The wait after the first run of which tags failed.
const BACKOFF: Duration = Duration::from_secs(30);
/// And the longest.
const LONGEST_BACKOFF: Duration = Duration::from_mins(30);

/// Durable work of this server.
#[derive(Clone)]
pub(crate) struct Durable {
    pub(crate) jobs: Jobs,
    pub(crate) mirrors: Mirrors,
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
    ) -> anyhow::Result<Self> {
        let state: Arc<dyn State> = Arc::new(Kept(store.records("jobs")));
        let jobs = Jobs::new(state, Arc::clone(clock), metrics.clone(), Options::default());
        let bound: anyhow::Result<Vec<_>> =
            config.mirrors.iter().map(|mirror| wiring::bound(mirror, upstreams, registry, clock)).collect();
        let memories = Memories::new(Arc::new(Kept(store.records("mirrors"))));
        let mirrors = Mirrors::new(bound?, memories, Arc::new(NoPins), Arc::clone(clock), metrics.clone());
        let kind = Kind {
            attempts: mirror::ATTEMPTS,
            history: RUNS,
            backoff: BACKOFF,
            longest_backoff: LONGEST_BACKOFF,
            ..Kind::default()
        };
        jobs.register(mirror::KIND, kind, Arc::new(mirrors.clone()));
        Ok(Self { jobs, mirrors })
    }

    /// Works until `stop`, and then until what runs has ended or given way.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.jobs.run(stop.clone()), self.mirrors.schedule(&self.jobs, stop));
    }
}
