//! A server with mirrors, an upstream, and a clock that is moved by hand.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::{Client, Method};
use roadstead::config::Config;
use serde_json::Value;
use telemetry::Clock;
use testing::{FakeUpstream, ManualClock};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What is asked for, as clients do.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// A running server. Its clock begins at 2026-01-01T00:00:00Z, a Thursday.
pub(crate) struct Stage {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) url: String,
    pub(crate) client: Client,
    folder: tempfile::TempDir,
    settings: String,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<bool>,
}

pub(crate) fn client() -> Client {
    Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap()
}

/// `fake` as docker.io.
pub(crate) fn docker_hub(fake: &FakeUpstream) -> String {
    format!("[[upstream]]\nhost = \"docker.io\"\ndefault = true\nurl = \"{}\"\nrequests_per_second = 100000\n", fake.url())
}

pub(crate) fn parse(text: &str) -> Config {
    let files = |path: &Path| -> io::Result<Vec<u8>> { std::fs::read(path) };
    Config::read("test.toml", text, &BTreeMap::new(), &[], &files).unwrap()
}

async fn start(folder: &Path, settings: &str, clock: Arc<ManualClock>) -> (String, oneshot::Sender<()>, JoinHandle<bool>) {
    let text =
        format!("[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"file:{}\"\n{settings}", folder.join("data").display());
    let app = roadstead::build(parse(&text), clock).await.unwrap();
    let url = format!("http://{}", app.local_addr());
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(app.run(async move {
        // A test that panics drops the sender, which stops the server too.
        let _ = stopped.await;
    }));
    (url, stop, running)
}

impl Stage {
    pub(crate) async fn new(settings: &str) -> Self {
        let clock = Arc::new(ManualClock::new());
        let folder = tempfile::tempdir().unwrap();
        let (url, stop, running) = start(folder.path(), settings, Arc::clone(&clock)).await;
        let stage = Self { clock, url, client: client(), folder, settings: settings.to_owned(), stop: Some(stop), running };
        if settings.contains("schedule =") {
            stage.scheduled().await;
        }
        stage
    }

    /// Waits until the schedules have been seen: what comes before is not caught up.
    async fn scheduled(&self) {
        for _ in 0..2000 {
            let metrics = self.client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
            if metrics.contains("roadstead_mirror_period_seconds{") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nothing is scheduled");
    }

    /// Stops the server, lets time pass, and starts it again.
    pub(crate) async fn asleep(&mut self, time: Duration) {
        self.end().await;
        self.clock.advance(time);
        let (url, stop, running) = start(self.folder.path(), &self.settings, Arc::clone(&self.clock)).await;
        (self.url, self.stop, self.running) = (url, Some(stop), running);
    }

    /// Stops the server and starts it with other settings.
    pub(crate) async fn restart_with(&mut self, settings: &str) {
        settings.clone_into(&mut self.settings);
        self.asleep(Duration::ZERO).await;
    }

    async fn end(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let running = std::mem::replace(&mut self.running, tokio::spawn(async { true }));
        let clock = Arc::clone(&self.clock);
        // What ends waits on the clock too.
        let driven = tokio::spawn(async move {
            loop {
                clock.advance(Duration::from_millis(500));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap());
        driven.abort();
    }

    /// The seconds since 1970 on the clock.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    /// Moves the clock to `time` (RFC 3339), in steps, as a clock goes.
    pub(crate) async fn until(&self, time: &str) {
        let target: jiff::Timestamp = time.parse().unwrap();
        let target = u64::try_from(target.as_second()).unwrap();
        while self.now() < target {
            let left = target - self.now();
            self.clock.advance(Duration::from_secs(left.min(3600)));
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        // Whoever woke has had its turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Moves the clock to `time` (RFC 3339) at once.
    pub(crate) fn leap(&self, time: &str) {
        let target: jiff::Timestamp = time.parse().unwrap();
        let target = u64::try_from(target.as_second()).unwrap();
        self.clock.advance(Duration::from_secs(target - self.now()));
    }

    /// Moves the clock on by seconds until something holds.
    pub(crate) async fn wait<T>(&self, what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..3000 {
            if let Some(found) = holds().await {
                return found;
            }
            self.clock.advance(Duration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} did not come");
    }

    /// Runs of a mirror as `/api/v1/` lists them, the latest first.
    pub(crate) async fn runs(&self, mirror: &str) -> Vec<Value> {
        let answer = self.api(Method::GET, &format!("mirrors/{mirror}/runs?n=1000"), None).await.1;
        answer["runs"].as_array().unwrap().clone()
    }

    /// Waits until a mirror has so many runs and the last of them has ended. Gives it.
    pub(crate) async fn ended(&self, mirror: &str, count: usize) -> Value {
        self.wait(&format!("run {count} of {mirror}"), async || {
            let runs = self.runs(mirror).await;
            (runs.len() >= count && !runs[0]["ended"].is_null()).then(|| runs[0].clone())
        })
        .await
    }

    /// Runs a mirror at once, and gives its record at the end.
    pub(crate) async fn run(&self, mirror: &str, body: Value) -> Value {
        let (status, asked) = self.api(Method::POST, &format!("mirrors/{mirror}/runs"), Some(body)).await;
        assert_eq!(status, 202, "{asked}");
        let id = asked["id"].as_str().unwrap().to_owned();
        self.wait("the end of a run", async || {
            let record = self.api(Method::GET, &format!("jobs/{id}"), None).await.1;
            (!record["ended"].is_null()).then_some(record)
        })
        .await
    }

    /// Status and body of an answer of `/api/v1/`.
    pub(crate) async fn api(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}/api/v1/{path}", self.url)).bearer_auth(self.token());
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        // Whoever changes a job may have to wait a moment for others, by the clock.
        let mut answer = std::pin::pin!(request.send());
        let response = loop {
            tokio::select! {
                response = &mut answer => break response.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(20)) => self.clock.advance(Duration::from_millis(5)),
            }
        };
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.token_file()).unwrap().trim().to_owned()
    }

    pub(crate) fn token_file(&self) -> std::path::PathBuf {
        self.data().join("admin-token")
    }

    /// The folder of the store.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// The tags of a repository; none if it is not there.
    pub(crate) async fn tags(&self, repository: &str) -> Vec<String> {
        let response = self.client.get(format!("{}/v2/{repository}/tags/list", self.url)).send().await.unwrap();
        if response.status() == 404 {
            return Vec::new();
        }
        let body: Value = response.json().await.unwrap();
        body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
    }

    /// The bytes of a manifest.
    pub(crate) async fn manifest(&self, repository: &str, reference: &str) -> Bytes {
        let url = format!("{}/v2/{repository}/manifests/{reference}", self.url);
        let response = self.client.get(url).header("accept", ACCEPT).send().await.unwrap();
        assert_eq!(response.status(), 200, "{repository}:{reference}");
        response.bytes().await.unwrap()
    }

    /// The digests of what refers to a manifest.
    pub(crate) async fn referrers(&self, repository: &str, digest: &oci::Digest) -> Vec<String> {
        let url = format!("{}/v2/{repository}/referrers/{digest}", self.url);
        let body: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
        body["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
    }

    /// Is this blob served, with its bytes?
    pub(crate) async fn has_blob(&self, repository: &str, digest: &oci::Digest) -> bool {
        let response = self.client.get(format!("{}/v2/{repository}/blobs/{digest}", self.url)).send().await.unwrap();
        let there = response.status() == 200;
        let bytes = response.bytes().await.unwrap();
        there && oci::Hasher::digest(digest.algorithm(), &bytes) == *digest
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.running.abort();
    }
}
