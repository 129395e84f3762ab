//! What the benchmarks measure: texts as clients send them, a filled store, and a server that is asked without a socket.

use std::future::Future;
use std::sync::Arc;

use api::Api;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use oci::{Algorithm, Digest, Hasher, RepositoryName, Tag, media_type};
use roadstead::config::{Config, Location};
use server::RequestBody;
use storage::{ManifestPut, ManifestRecord, Owner, Store};
use telemetry::{Clock, Metrics, SystemClock};
use tempfile::TempDir;
use testing::deterministic_bytes;
use tokio::runtime::Runtime;
use tower::Service;

/// The repository of every measurement.
pub(crate) const NAME: &str = "team/backend/web-frontend";
/// The tag that is asked for.
pub(crate) const TAG: &str = "v1.4.2";
/// The tags that there are beside it.
const TAGS: usize = 200;
/// `sha256:` and the digest of nothing in particular.
pub(crate) const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Where a store keeps what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Memory,
    Folder,
}

/// A folder that goes when the measurement ends, and the location in it.
fn location(place: Place) -> (Location, Option<TempDir>) {
    match place {
        Place::Memory => (Location::Memory, None),
        Place::Folder => {
            let folder = tempfile::tempdir().unwrap();
            (Location::Folder(folder.path().to_owned()), Some(folder))
        }
    }
}

/// One thread, so that a measurement has no other thread's work in it.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An image manifest as clients push it: a configuration and eight layers, 1.6 KiB.
pub(crate) fn image(config: &Digest, layer: &Digest) -> Bytes {
    let descriptor = |media_type: &str, digest: &Digest, size: u64| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<String> =
        (0..8).map(|size| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer, 4096 + size)).collect();
    let config = descriptor("application/vnd.oci.image.config.v1+json", config, 2);
    let media_type = media_type::OCI_MANIFEST;
    Bytes::from(format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{}]}}"#, layers.join(",")))
}

/// A store with one image in it.
pub(crate) struct StoreStage {
    pub(crate) store: Store,
    pub(crate) name: RepositoryName,
    pub(crate) tag: Tag,
    pub(crate) manifest: Digest,
    pub(crate) blob: Digest,
    runtime: Runtime,
    _folder: Option<TempDir>,
}

impl StoreStage {
    pub(crate) fn new(place: Place) -> Self {
        let runtime = runtime();
        let (location, folder) = location(place);
        let (name, tag) = (RepositoryName::parse(NAME).unwrap(), Tag::parse(TAG).unwrap());
        let layer = deterministic_bytes(4096, 1);
        let blob = Hasher::digest(Algorithm::Sha256, &layer);
        let bytes = image(&blob, &blob);
        let manifest = Hasher::digest(Algorithm::Sha256, &bytes);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = runtime.block_on(async {
            let store = Store::open(&location, Arc::clone(&clock), Metrics::new()).await.unwrap();
            let at = clock.now();
            let mut spool = store.spool(Algorithm::Sha256).unwrap();
            spool.write(&layer).unwrap();
            spool.keep(&blob, Owner { repository: &name, cached_from: None, at }).await.unwrap();
            let record = ManifestRecord::new(media_type::OCI_MANIFEST.to_owned(), bytes.len() as u64, at);
            let tags = [tag.clone()];
            let put = ManifestPut { digest: &manifest, bytes, record: &record, tags: &tags, cached_from: None, at };
            store.put_manifest(&name, put).await.unwrap();
            store
        });
        let stage = Self { store, name, tag, manifest, blob, runtime, _folder: folder };
        // What is measured is what is asked again.
        for _ in 0..2 {
            assert!(stage.tag_hit() && stage.manifest_hit() && stage.member_hit() && stage.open_blob() == 4096);
        }
        stage
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn tag_hit(&self) -> bool {
        self.wait(self.store.tag(&self.name, &self.tag)).unwrap().is_some()
    }

    pub(crate) fn manifest_hit(&self) -> bool {
        self.wait(self.store.manifest(&self.name, &self.manifest)).unwrap().is_some()
    }

    pub(crate) fn member_hit(&self) -> bool {
        self.wait(self.store.is_member(&self.name, &self.blob)).unwrap()
    }

    pub(crate) fn open_blob(&self) -> u64 {
        self.wait(self.store.blob(&self.blob)).unwrap().unwrap().size
    }
}

/// A whole server with one image in it, as `build` makes it. Nothing goes over a socket.
pub(crate) struct ServerStage {
    api: Api,
    /// `GET` paths.
    pub(crate) by_tag: String,
    pub(crate) by_digest: String,
    pub(crate) blob: String,
    pub(crate) tags: String,
    runtime: Runtime,
    _folder: Option<TempDir>,
}

impl ServerStage {
    pub(crate) fn new(place: Place) -> Self {
        let runtime = runtime();
        let (location, folder) = location(place);
        let mut config = Config::default();
        config.server.listen = "127.0.0.1:0".parse().unwrap();
        config.storage.location = location;
        let app = runtime.block_on(roadstead::build(config, Arc::new(SystemClock::default()))).unwrap();
        let layer = deterministic_bytes(4096, 1);
        let blob = Hasher::digest(Algorithm::Sha256, &layer);
        let bytes = image(&blob, &blob);
        let manifest = Hasher::digest(Algorithm::Sha256, &bytes);
        let stage = Self {
            api: app.api(),
            by_tag: format!("/v2/{NAME}/manifests/{TAG}"),
            by_digest: format!("/v2/{NAME}/manifests/{manifest}"),
            blob: format!("/v2/{NAME}/blobs/{blob}"),
            tags: format!("/v2/{NAME}/tags/list?n=100&last=tag-0050"),
            runtime,
            _folder: folder,
        };
        let pushed = stage.ask(Method::POST, &format!("/v2/{NAME}/blobs/uploads/?digest={blob}"), layer);
        assert_eq!(pushed.0, StatusCode::CREATED);
        for number in 0..TAGS {
            let path = format!("/v2/{NAME}/manifests/tag-{number:04}");
            assert_eq!(stage.ask(Method::PUT, &path, bytes.clone()).0, StatusCode::CREATED);
        }
        assert_eq!(stage.ask(Method::PUT, &stage.by_tag, bytes.clone()).0, StatusCode::CREATED);
        for _ in 0..2 {
            assert_eq!(stage.pull(Method::GET, &stage.by_tag), bytes.len());
            assert_eq!(stage.pull(Method::GET, &stage.by_digest), bytes.len());
            assert_eq!(stage.pull(Method::HEAD, &stage.by_tag), 0);
            assert_eq!(stage.pull(Method::GET, &stage.blob), 4096);
            assert!(stage.pull(Method::GET, &stage.tags) > 1000);
            assert_eq!(stage.pull(Method::GET, "/v2/"), 2);
        }
        stage
    }

    /// Asks, reads the answer to its end, and gives its length.
    pub(crate) fn pull(&self, method: Method, path: &str) -> usize {
        let (status, length) = self.ask(method, path, Bytes::new());
        assert_eq!(status, StatusCode::OK);
        length
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> (StatusCode, usize) {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, media_type::OCI_MANIFEST);
        let request = request.body(RequestBody::from(body)).unwrap();
        self.runtime.block_on(async {
            let response = match self.api.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status();
            (status, response.into_body().collect().await.unwrap().to_bytes().len())
        })
    }
}
