//! A server for one test, and what tests say to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher, media_type};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response};
use roadstead::config::{Config, Location, RootPattern, Upstream};
use serde_json::{Value, json};
use telemetry::{Clock, SystemClock};
use testing::FakeUpstream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running server.
pub(crate) struct TestServer {
    pub(crate) url: String,
    pub(crate) client: Client,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<bool>,
    /// Where it stores, removed with it.
    folder: Option<tempfile::TempDir>,
}

/// A configuration for a test: a free port, memory, no upstream.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.server.listen = "127.0.0.1:0".parse().unwrap();
    config.storage.location = Location::Memory;
    config.upstreams = Vec::new();
    config
}

/// `fake` as the default upstream, called docker.io.
pub(crate) fn docker_hub(fake: &FakeUpstream) -> Upstream {
    let mut hub = Config::default().upstreams.remove(0);
    hub.url = fake.url().parse().unwrap();
    hub.root = vec![RootPattern::parse("library/**").unwrap()];
    hub
}

impl TestServer {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_at(config, Arc::new(SystemClock::default())).await
    }

    pub(crate) async fn start_at(config: Config, clock: Arc<dyn Clock>) -> Self {
        let app = roadstead::build(config, clock).await.unwrap();
        let url = format!("http://{}", app.local_addr());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async move {
            // A test that panics drops the sender, which stops the server too.
            let _ = stopped.await;
        }));
        Self { url, client: client(), stop: Some(stop), running, folder: None }
    }

    /// One server on memory and one on a new folder: what holds for the one must hold for the other.
    pub(crate) async fn start_both() -> [Self; 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut on_folder = config();
        on_folder.storage.location = Location::Folder(folder.path().to_owned());
        let mut on_folder = Self::start(on_folder).await;
        on_folder.folder = Some(folder);
        [Self::start(config()).await, on_folder]
    }

    /// A server on memory with `fake` as Docker Hub.
    pub(crate) async fn with_upstream(fake: &FakeUpstream) -> Self {
        let mut config = config();
        config.upstreams = vec![docker_hub(fake)];
        Self::start(config).await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    pub(crate) async fn head(&self, path: &str) -> Response {
        self.request("HEAD", path).send().await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path).send().await.unwrap()
    }

    /// Pushes a blob in one request.
    pub(crate) async fn push_blob(&self, name: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        let pushed =
            self.request("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}")).body(bytes).send().await.unwrap();
        assert_eq!(pushed.status(), 201);
        digest
    }

    /// Opens an upload session and gives its path.
    pub(crate) async fn start_upload(&self, name: &str) -> String {
        let started = self.request("POST", &format!("/v2/{name}/blobs/uploads/")).send().await.unwrap();
        assert_eq!(started.status(), 202);
        text(&started, LOCATION.as_str())
    }

    pub(crate) async fn put_manifest(&self, path: &str, media_type: &str, body: impl Into<Bytes>) -> Response {
        self.request("PUT", path).header(CONTENT_TYPE, media_type).body(body.into()).send().await.unwrap()
    }

    /// Pushes an image of one layer and gives the digest of its manifest.
    pub(crate) async fn push_image(&self, name: &str, tag: &str, content: &str) -> Digest {
        let config = self.push_blob(name, "{}").await;
        let layer = self.push_blob(name, content.to_owned()).await;
        let body = image(&config, 2, &layer, content.len());
        let pushed = self.put_manifest(&format!("/v2/{name}/manifests/{tag}"), media_type::OCI_MANIFEST, body.clone()).await;
        assert_eq!(pushed.status(), 201);
        sha256(&body)
    }

    /// Stops the server and asserts that every request could finish.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let running = std::mem::replace(&mut self.running, tokio::spawn(async { true }));
        assert!(tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap());
        if let Some(folder) = &self.folder {
            let left: Vec<String> = files(folder.path()).into_iter().filter(|file| file.starts_with("tmp/")).collect();
            assert_eq!(left, Vec::<String>::new(), "temporary files were left behind");
        }
    }
}

pub(crate) fn client() -> Client {
    Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

pub(crate) fn image(config: &Digest, config_size: usize, layer: &Digest, layer_size: usize) -> Bytes {
    let body = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size }],
    });
    body.to_string().into()
}

/// A header as text; empty if it is absent.
pub(crate) fn text(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Status and the specification's error code.
pub(crate) async fn refusal(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(text(&response, "content-type"), "application/json");
    let body: Value = response.json().await.unwrap();
    let error = &body["errors"][0];
    assert!(!error["message"].as_str().unwrap().is_empty());
    (status, error["code"].as_str().unwrap().to_owned())
}

pub(crate) fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Every file in a folder of a store but its lock, its layout and the token of operators, to see what was left.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    // The log of what was written last is there as long as the folder is.
    found.retain(|file| !matches!(file.as_str(), "lock" | "layout" | "redo.0" | "redo.1" | "admin-token"));
    found.sort();
    found
}
