//! Processes that do jobs, on one clock and over one state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use roadstead_jobs::{JobId, Jobs, Kind, NewJob, Options, Outcome, Random, Record, Running, Submitted, Work};
use serde_json::Value;
use telemetry::{Clock, Metrics};
use testing::ManualClock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::state::{Cloud, Line};

pub(crate) const POLL: Duration = Duration::from_secs(5);
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const GRACE: Duration = Duration::from_secs(10);

pub(crate) fn options(seed: u64) -> Options {
    Options { random: Random::seeded(seed), ..Options::default() }
}

/// All that processes share.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) cloud: Cloud,
    seeds: AtomicU64,
}

/// One process. Dropped, it is killed.
pub(crate) struct Process {
    pub(crate) jobs: Jobs,
    pub(crate) line: Line,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.cloud.broken(), Vec::<String>::new());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    /// A process that does jobs of the kind `test`, one of several.
    pub(crate) fn start(&self, work: Arc<dyn Work>) -> Process {
        self.start_with(false, Kind::default(), work, |_| {})
    }

    /// The only process there is.
    pub(crate) fn start_alone(&self, work: Arc<dyn Work>) -> Process {
        self.start_with(true, Kind::default(), work, |_| {})
    }

    pub(crate) fn start_with(
        &self,
        exclusive: bool,
        kind: Kind,
        work: Arc<dyn Work>,
        change: impl FnOnce(&mut Options),
    ) -> Process {
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        let (line, metrics, stop) = (self.cloud.line(exclusive, seed), Metrics::new(), CancellationToken::new());
        let mut options = options(seed);
        change(&mut options);
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let jobs = Jobs::new(Arc::new(line.clone()), clock, metrics.clone(), options);
        jobs.register("test", kind, work);
        let task = tokio::spawn({
            let (jobs, stop) = (jobs.clone(), stop.clone());
            async move { jobs.run(stop).await }
        });
        Process { jobs, line, metrics, stop, task }
    }

    /// Lets time pass, second by second, and everyone act on each.
    pub(crate) async fn pass(&self, duration: Duration) {
        settle().await;
        let mut left = duration;
        while !left.is_zero() {
            let step = left.min(Duration::from_secs(1));
            self.clock.advance(step);
            settle().await;
            left -= step;
        }
    }

    /// Lets time pass but for a second.
    pub(crate) async fn pass_almost(&self, duration: Duration) {
        self.pass(duration.saturating_sub(Duration::from_secs(1))).await;
    }

    pub(crate) fn job(&self, key: &str) -> NewJob {
        let (kind, key, due) = ("test".to_owned(), key.to_owned(), self.clock.now());
        NewJob { kind, key, input: Value::Null, due, stamp: None, by: Some("somebody".to_owned()) }
    }

    pub(crate) async fn submit(&self, process: &Process, key: &str) -> JobId {
        match process.jobs.submit(self.job(key)).await.unwrap() {
            Submitted::New(id) => id,
            other => panic!("{other:?}"),
        }
    }
}

/// Lets everything happen that can without time passing.
pub(crate) async fn settle() {
    for _ in 0..300 {
        tokio::task::yield_now().await;
    }
}

impl Process {
    pub(crate) async fn record(&self, id: JobId) -> Record {
        self.jobs.job(id).await.unwrap().unwrap()
    }
}

/// A work that is a function.
struct Does<F>(F);

#[async_trait]
impl<F: Fn(Running) -> BoxFuture<'static, Outcome> + Send + Sync> Work for Does<F> {
    async fn run(&self, job: Running) -> Outcome {
        (self.0)(job).await
    }
}

pub(crate) fn work<F, R>(does: F) -> Arc<dyn Work>
where
    F: Fn(Running) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(Does(move |job| Box::pin(does(job)) as BoxFuture<'static, Outcome>))
}

/// A work that never ends by itself.
pub(crate) fn endless() -> Arc<dyn Work> {
    work(|_| std::future::pending())
}

pub(crate) fn done() -> Arc<dyn Work> {
    work(|job| async move { Outcome::Done(job.input().clone()) })
}
