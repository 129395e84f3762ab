//! A process that delivers, over a state that outlives it.

use std::sync::Arc;
use std::time::Duration;

use jobs::{Jobs, Random};
use oci::{Digest, RepositoryName, Tag};
use roadstead_hooks::{Action, Attempt, Dialect, Endpoint, Event, Hooks, KIND, Options, Registry};
use telemetry::{Clock, Metrics};
use testing::ManualClock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::receiver::Receiver;
use crate::state::Memory;

/// 2026-01-01T00:00:00Z, where a manual clock begins.
pub(crate) const START: u64 = 1_767_225_600_000;
pub(crate) const DIGEST: &str = "sha256:b4758aaed11c155a476b9857e1178f157759c99cb04c907a04993f5481eff848";

/// One server. Dropped, it is killed.
pub(crate) struct Server {
    pub(crate) hooks: Hooks,
    pub(crate) jobs: Jobs,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What outlives a server.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) records: Memory,
    pub(crate) slots: Memory,
}

pub(crate) fn options() -> Options {
    Options { random: Random::seeded(7), ..Options::default() }
}

pub(crate) fn registry() -> Registry {
    Registry::new(&Url::parse("https://registry.example.org").unwrap()).unwrap()
}

/// An endpoint at this receiver.
pub(crate) fn endpoint(receiver: &Receiver, dialect: Dialect) -> Endpoint {
    Endpoint { allow_local: true, timeout: Duration::from_secs(30), ..Endpoint::new("argo", receiver.url.clone(), dialect) }
}

/// The n-th push to a repository.
pub(crate) fn push(repository: &str, n: u64) -> Event {
    Event {
        id: format!("{repository}-{n}").replace('/', "."),
        action: Action::Push,
        repository: RepositoryName::parse(repository).unwrap(),
        tag: Some(Tag::parse("latest").unwrap()),
        digest: Some(Digest::parse(DIGEST).unwrap()),
        media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()),
        size: Some(1234),
        at: START + n,
        actor: Some("robot:ci".to_owned()),
        from: None,
        source_address: None,
        user_agent: None,
    }
}

impl World {
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as _
    }

    pub(crate) fn hooks(&self, endpoints: Vec<Endpoint>, options: Options) -> Hooks {
        Hooks::new(endpoints, registry(), Arc::new(self.records.clone()), self.clock(), options).unwrap()
    }

    pub(crate) fn start(&self, endpoints: Vec<Endpoint>) -> Server {
        self.start_with(endpoints, options())
    }

    pub(crate) fn start_with(&self, endpoints: Vec<Endpoint>, options: Options) -> Server {
        let hooks = self.hooks(endpoints, options);
        let jobs = Jobs::new(Arc::new(self.slots.clone()), self.clock(), Metrics::new(), jobs::Options::default());
        jobs.register(KIND, Hooks::kind(), Arc::new(hooks.clone()));
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (jobs, stop) = (jobs.clone(), stop.clone());
            async move { jobs.run(stop).await }
        });
        Server { hooks, jobs, stop, task }
    }

    /// Lets time pass by seconds, and everyone act on each, until something is so.
    pub(crate) async fn pass_until(&self, most: Duration, mut is_so: impl AsyncFnMut() -> bool) {
        for _ in 0..=most.as_secs() {
            settle().await;
            if is_so().await {
                return;
            }
            self.clock.advance(Duration::from_secs(1));
        }
        panic!("it never comes to that");
    }
}

impl Server {
    /// As the root does it.
    pub(crate) async fn tell(&self, world: &World, event: &Event) {
        for lane in self.hooks.enqueue(event).await.unwrap() {
            self.jobs.submit(lane.job(world.clock.now(), "registry")).await.unwrap();
        }
    }

    /// As the root does it at its start, and every few seconds.
    pub(crate) async fn sweep(&self, world: &World) {
        for lane in self.hooks.waiting().await.unwrap() {
            self.jobs.submit(lane.job(world.clock.now(), "registry")).await.unwrap();
        }
    }

    pub(crate) async fn pending(&self) -> usize {
        self.hooks.pending("argo").await.unwrap()
    }

    pub(crate) async fn recent(&self) -> Vec<Attempt> {
        self.hooks.recent("argo").await.unwrap()
    }

    pub(crate) async fn dead(&self) -> Vec<(String, String)> {
        self.hooks.dead("argo").await.unwrap().into_iter().map(|dead| (dead.id, dead.reason)).collect()
    }
}

/// Lets everything happen that can without our clock moving. Sockets need the time of the machine.
pub(crate) async fn settle() {
    for _ in 0..10 {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until something on a socket is so, with our clock standing still.
pub(crate) async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never comes to that");
}
