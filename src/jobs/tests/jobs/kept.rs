//! Jobs in the records of a real store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_jobs::{Changed, JobId, JobState, Jobs, Kind, NewJob, Options, Outcome, State, StateError, Submitted, Version};
use serde_json::{Value, json};
use storage::{Location, OpenError, RecordChange, RecordVersion, Records, Store};
use telemetry::{Clock, Metrics, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::harness::work;

struct Kept(Records);

fn version(key: &str, version: &Version) -> Result<RecordVersion, StateError> {
    version.downcast_ref().cloned().ok_or_else(|| StateError::new(key, "the version is of another state"))
}

#[async_trait]
impl State for Kept {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StateError> {
        let found = self.0.read(key).await.map_err(|cause| StateError::new(key, cause))?;
        Ok(found.map(|(bytes, version)| (bytes, Version::new(version))))
    }

    async fn read_if_changed(&self, key: &str, known: &Version) -> Result<Changed, StateError> {
        let found = self.0.read_if_changed(key, &version(key, known)?).await;
        Ok(match found.map_err(|cause| StateError::new(key, cause))? {
            RecordChange::Unchanged => Changed::Not,
            RecordChange::To(bytes, version) => Changed::To(bytes, Version::new(version)),
            RecordChange::Gone => Changed::Gone,
        })
    }

    async fn swap(&self, key: &str, bytes: Bytes, expected: Option<&Version>) -> Result<Option<Version>, StateError> {
        let expected = expected.map(|expected| version(key, expected)).transpose()?;
        let swapped = self.0.swap(key, bytes, expected.as_ref()).await.map_err(|cause| StateError::new(key, cause))?;
        Ok(swapped.map(Version::new))
    }

    async fn remove(&self, key: &str) -> Result<(), StateError> {
        self.0.remove(key).await.map_err(|cause| StateError::new(key, cause))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.0.list(prefix).await.map_err(|cause| StateError::new(prefix, cause))
    }

    fn is_exclusive(&self) -> bool {
        self.0.is_exclusive()
    }
}

struct Server {
    jobs: Jobs,
    task: tokio::task::JoinHandle<()>,
}

async fn open(folder: &Path, clock: &Arc<dyn Clock>) -> Store {
    for _ in 0..1000 {
        match Store::open(&Location::Folder(folder.to_owned()), Arc::clone(clock), Metrics::new()).await {
            Ok(store) => return store,
            // What the one before was doing is being dropped, here in the same process.
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the folder is never let go of");
}

async fn start(folder: &Path) -> Server {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = open(folder, &clock).await;
    let jobs = Jobs::new(Arc::new(Kept(store.records("jobs"))), clock, Metrics::new(), Options::default());
    let counts = work(|job| async move {
        let count = job.checkpoint().as_u64().unwrap_or(0);
        if count == 10 {
            return Outcome::Done(json!(count));
        }
        job.save(json!(count + 1)).await.unwrap();
        // Killed here.
        std::future::pending().await
    });
    jobs.register("test", Kind::default(), counts);
    let running = jobs.clone();
    let task = tokio::spawn(async move { running.run(CancellationToken::new()).await });
    Server { jobs, task }
}

async fn until(jobs: &Jobs, id: JobId, reached: impl Fn(&roadstead_jobs::Record) -> bool) {
    for _ in 0..1000 {
        if reached(&jobs.job(id).await.unwrap().unwrap()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never comes to that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_in_a_folder_goes_on_after_each_death_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path()).await;
    let now = SystemClock::default().now();
    let job = NewJob { kind: "test".to_owned(), key: "a/b:c".to_owned(), input: Value::Null, due: now, stamp: Some(1), by: None };
    let Submitted::New(id) = server.jobs.submit(job.clone()).await.unwrap() else { panic!() };
    for count in 1..=10 {
        until(&server.jobs, id, |record| record.checkpoint == json!(count)).await;
        server.task.abort();
        let _ = server.task.await;
        drop(server.jobs);
        server = start(folder.path()).await;
        assert_eq!(server.jobs.submit(job.clone()).await.unwrap(), Submitted::Past);
    }
    until(&server.jobs, id, |record| record.state == JobState::Done).await;
    assert_eq!(server.jobs.history("test", "a/b:c", 9).await.unwrap()[0].lost, 10);
    server.task.abort();
}
