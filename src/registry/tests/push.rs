//! The registry as a target of copies: what any `Push` promises, over a folder.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci::{
    Algorithm, ByteStream, Content, Digest, Error, Hasher, Manifest, Pull, Push, RangeSource, Reference, RepositoryName, Tag,
    media_type,
};
use roadstead_registry::{Limits, Registry, Rules};
use serde_json::json;
use storage::{Location, Store};
use telemetry::{Metrics, SystemClock};
use tempfile::TempDir;
use testing::deterministic_bytes;
use tokio_util::task::TaskTracker;

struct Stage {
    _folder: TempDir,
    tasks: TaskTracker,
    registry: Arc<Registry>,
    push: Arc<dyn Push>,
}

async fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::default());
    let location = Location::Folder(folder.path().to_owned());
    let store = Store::open(&location, Arc::<SystemClock>::clone(&clock), Metrics::new()).await.unwrap();
    let tasks = TaskTracker::new();
    let registry = Registry::new(store, clock, Limits::default(), Rules::default()).with_tasks(tasks.clone());
    let registry = Arc::new(registry);
    Stage { _folder: folder, tasks, push: Arc::<Registry>::clone(&registry), registry }
}

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

/// Bytes in small pieces, which may end before their end with an error, or never come to it.
#[derive(Default)]
struct Bytewise {
    bytes: Bytes,
    fails: bool,
    hangs: bool,
    opened: AtomicUsize,
}

#[async_trait]
impl RangeSource for Bytewise {
    async fn open(&self, start: u64, _end: Option<u64>) -> Result<ByteStream, Error> {
        assert_eq!(start, 0, "it is asked for the whole");
        self.opened.fetch_add(1, Ordering::Relaxed);
        let pieces: Vec<Result<Bytes, Error>> =
            self.bytes.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let gone = self.fails.then(|| Err(Error::Unavailable { reason: "gone".to_owned(), source: None }));
        let pieces = stream::iter(pieces.into_iter().chain(gone));
        if self.hangs { Ok(Box::pin(pieces.chain(stream::pending()))) } else { Ok(Box::pin(pieces)) }
    }
}

fn source(bytes: &Bytes) -> Arc<dyn RangeSource> {
    Arc::new(Bytewise { bytes: bytes.clone(), ..Bytewise::default() })
}

async fn read(registry: &Registry, name: &RepositoryName, digest: &Digest) -> Vec<u8> {
    match registry.blob(name, digest).await.unwrap().content {
        Content::Source(source) => {
            let pieces: Vec<Bytes> = source.open(0, None).await.unwrap().try_collect().await.unwrap();
            pieces.concat()
        }
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::File(file) => {
            use std::os::unix::fs::FileExt;
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        }
        Content::Growing(_) => unreachable!("nothing grows here"),
    }
}

fn manifest(algorithm: Algorithm, blobs: &[(&Digest, usize)]) -> Manifest {
    let describe = |(digest, size): &(&Digest, usize)| json!({ "mediaType": "x/y", "digest": digest.to_string(), "size": size });
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": describe(&blobs[0]),
        "layers": blobs[1..].iter().map(describe).collect::<Vec<_>>(),
    });
    let bytes = Bytes::from(value.to_string());
    let digest = Hasher::digest(algorithm, &bytes);
    Manifest { digest, media_type: media_type::OCI_MANIFEST.to_owned(), bytes, warning: None }
}

#[tokio::test]
async fn what_is_pushed_is_there_under_every_algorithm_and_size() {
    let stage = stage().await;
    let app = name("micro/app");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let mut pushed = Vec::new();
        for size in [0, 1, 300_000] {
            let bytes = deterministic_bytes(size, 7);
            let digest = Hasher::digest(algorithm, &bytes);
            assert!(!stage.push.has_blob(&app, &digest).await.unwrap());
            stage.push.push_blob(&app, &digest, None, source(&bytes)).await.unwrap();
            assert!(stage.push.has_blob(&app, &digest).await.unwrap());
            assert!(!stage.push.has_blob(&name("other"), &digest).await.unwrap());
            assert!(read(&stage.registry, &app, &digest).await == bytes);
            // Again without harm.
            stage.push.push_blob(&app, &digest, Some(size as u64), source(&bytes)).await.unwrap();
            pushed.push((digest, size));
        }
        let blobs: Vec<(&Digest, usize)> = pushed.iter().map(|(digest, size)| (digest, *size)).collect();
        let manifest = manifest(algorithm, &blobs);
        assert!(!stage.push.has_manifest(&app, &manifest.digest).await.unwrap());
        stage.push.push_manifest(&app, &manifest, &[]).await.unwrap();
        assert!(stage.push.has_manifest(&app, &manifest.digest).await.unwrap());
        assert_eq!(stage.push.tagged(&app, &tag("latest")).await.unwrap(), None);
        stage.push.push_manifest(&app, &manifest, &[tag("latest"), tag("v1")]).await.unwrap();
        for text in ["latest", "v1"] {
            assert_eq!(stage.push.tagged(&app, &tag(text)).await.unwrap(), Some(manifest.digest.clone()));
            let found = stage.registry.manifest(&app, &Reference::Tag(tag(text))).await.unwrap();
            assert_eq!((found.bytes, found.media_type), (manifest.bytes.clone(), manifest.media_type.clone()));
            stage.registry.delete_tag(&app, &tag(text)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_blob_is_mounted_from_where_it_is_and_from_nowhere_else() {
    let stage = stage().await;
    let bytes = deterministic_bytes(1000, 1);
    let digest = Hasher::digest(Algorithm::Sha512, &bytes);
    assert!(!stage.push.mount_blob(&name("to"), &digest, None).await.unwrap());
    stage.push.push_blob(&name("from"), &digest, None, source(&bytes)).await.unwrap();
    assert!(!stage.push.mount_blob(&name("to"), &digest, Some(&name("empty"))).await.unwrap());
    assert!(stage.push.mount_blob(&name("to"), &digest, Some(&name("from"))).await.unwrap());
    assert!(stage.push.mount_blob(&name("too"), &digest, None).await.unwrap());
    assert!(stage.push.has_blob(&name("to"), &digest).await.unwrap());
}

#[tokio::test]
async fn what_is_wrong_or_breaks_off_leaves_nothing() {
    let stage = stage().await;
    let app = name("micro/app");
    for size in [1000, 300_000] {
        let (bytes, others) = (deterministic_bytes(size, 1), deterministic_bytes(size, 2));
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        let wrong = stage.push.push_blob(&app, &digest, None, source(&others)).await;
        assert!(matches!(wrong, Err(Error::DigestInvalid { .. })), "{wrong:?}");
        let broken = Arc::new(Bytewise { bytes: bytes.clone(), fails: true, ..Bytewise::default() });
        let broken = stage.push.push_blob(&app, &digest, None, broken).await;
        assert!(matches!(&broken, Err(Error::Unavailable { reason, .. }) if reason == "gone"), "{broken:?}");
        assert!(!stage.push.has_blob(&app, &digest).await.unwrap());
        let manifest = manifest(Algorithm::Sha256, &[(&digest, size)]);
        let refused = stage.push.push_manifest(&app, &manifest, &[tag("latest")]).await;
        assert!(matches!(&refused, Err(Error::ManifestBlobUnknown { digest: named }) if *named == digest), "{refused:?}");
        assert!(!stage.push.has_manifest(&app, &manifest.digest).await.unwrap());
        assert_eq!(stage.push.tagged(&app, &tag("latest")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_push_that_is_left_before_its_end_ends_and_leaves_nothing() {
    let stage = stage().await;
    let app = name("micro/app");
    let bytes = deterministic_bytes(300_000, 1);
    let digest = Hasher::digest(Algorithm::Sha256, &bytes);
    let endless = Arc::new(Bytewise { bytes: bytes.clone(), hangs: true, ..Bytewise::default() });
    let mut push = stage.push.push_blob(&app, &digest, None, Arc::<Bytewise>::clone(&endless) as Arc<dyn RangeSource>);
    while endless.opened.load(Ordering::Relaxed) == 0 {
        assert!(futures_util::poll!(push.as_mut()).is_pending());
    }
    for _ in 0..100 {
        assert!(futures_util::poll!(push.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(push);
    stage.tasks.close();
    stage.tasks.wait().await;
    assert!(!stage.push.has_blob(&app, &digest).await.unwrap());
}
