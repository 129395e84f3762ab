//! Pushing to a registry of another make: Debian's docker-registry, the reference implementation of old.
#![expect(clippy::unwrap_used, reason = "tests")]

mod program;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci::{
    Algorithm, ByteStream, Content, Digest, Discover, Error, Hasher, Manifest, Page, Pull, Push, RangeSource, Reference,
    ReferrersList, RepositoryName, Tag, media_type,
};
use roadstead_upstream::{Config, Upstream};
use serde_json::json;
use telemetry::{Metrics, SystemClock};
use testing::deterministic_bytes;

use program::DockerRegistry;

const LARGE: usize = 20 << 20;

/// Bytes in memory, and where they were opened.
struct Source {
    bytes: Bytes,
    opened: Mutex<Vec<u64>>,
}

#[async_trait]
impl RangeSource for Source {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        self.opened.lock().unwrap().push(start);
        let end = end.map_or(self.bytes.len(), |end| usize::try_from(end).unwrap());
        let bytes = self.bytes.slice(usize::try_from(start).unwrap()..end);
        let pieces: Vec<Result<Bytes, Error>> = bytes.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(stream::iter(pieces).boxed())
    }
}

fn source(size: usize, seed: u64) -> (Arc<Source>, Digest) {
    let bytes = deterministic_bytes(size, seed);
    let digest = Hasher::digest(Algorithm::Sha256, &bytes);
    (Arc::new(Source { bytes, opened: Mutex::default() }), digest)
}

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

fn upstream(port: u16) -> Upstream {
    let config = Config::new("docker-registry", format!("http://127.0.0.1:{port}").parse().unwrap());
    Upstream::new(config, Arc::new(SystemClock::default()), Metrics::new()).unwrap()
}

async fn pulled(upstream: &Upstream, name: &RepositoryName, digest: &Digest) -> Vec<u8> {
    let Content::Source(source) = upstream.blob(name, digest).await.unwrap().content else { unreachable!("a source") };
    let mut chunks = source.open(0, None).await.unwrap();
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.try_next().await.unwrap() {
        whole.extend_from_slice(&chunk);
    }
    whole
}

#[tokio::test]
async fn blobs_of_every_size_are_pushed_and_come_back() {
    let registry = DockerRegistry::start();
    let upstream = upstream(registry.port);
    let name = name("team/app");
    for (seed, (size, told)) in
        [(0, true), (1, true), (1 << 20, true), (LARGE, true), (0, false), (10, false), (LARGE, false)].into_iter().enumerate()
    {
        let (source, digest) = source(size, seed as u64);
        let told = told.then_some(size as u64);
        assert!(size == 0 || !upstream.has_blob(&name, &digest).await.unwrap());
        upstream.push_blob(&name, &digest, told, Arc::<Source>::clone(&source)).await.unwrap();
        assert!(upstream.has_blob(&name, &digest).await.unwrap());
        assert_eq!(pulled(&upstream, &name, &digest).await, source.bytes, "{size} {told:?}");
    }
    let (source, _) = source(10, 100);
    let digest = Hasher::digest(Algorithm::Sha512, &source.bytes);
    let wide = upstream.push_blob(&name, &digest, Some(10), source).await;
    assert!(wide.is_ok() || matches!(wide, Err(Error::DigestInvalid { .. })), "{wide:?}");
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let registry = DockerRegistry::start();
    let upstream = upstream(registry.port);
    let (source, _) = source(LARGE, 1);
    let digest = Hasher::digest(Algorithm::Sha256, b"other");
    let pushed = upstream.push_blob(&name("team/app"), &digest, Some(LARGE as u64), source).await;
    assert!(matches!(pushed, Err(Error::DigestInvalid { .. })), "{pushed:?}");
    assert!(!upstream.has_blob(&name("team/app"), &digest).await.unwrap());
}

#[tokio::test]
async fn a_blob_is_mounted_or_pushed_in_the_session_that_was_opened_instead() {
    let registry = DockerRegistry::start();
    let upstream = upstream(registry.port);
    let (base, app) = (name("team/base"), name("team/app"));
    let (first, digest) = source(1000, 1);
    upstream.push_blob(&base, &digest, Some(1000), first).await.unwrap();
    assert!(upstream.mount_blob(&app, &digest, Some(&base)).await.unwrap());
    assert!(upstream.has_blob(&app, &digest).await.unwrap());
    for size in [1000, LARGE] {
        let (source, digest) = source(size, 2);
        assert!(!upstream.mount_blob(&app, &digest, Some(&base)).await.unwrap());
        assert!(!upstream.mount_blob(&app, &digest, None).await.unwrap());
        upstream.push_blob(&app, &digest, Some(size as u64), Arc::<Source>::clone(&source)).await.unwrap();
        assert_eq!(pulled(&upstream, &app, &digest).await, source.bytes);
    }
}

#[tokio::test]
async fn manifests_are_pushed_with_their_tags_and_referrers() {
    let registry = DockerRegistry::start();
    let upstream = upstream(registry.port);
    let name = name("team/app");
    let config = Bytes::from_static(b"{}");
    let digest = Hasher::digest(Algorithm::Sha256, &config);
    let descriptor = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.to_string(), "size": 2 });
    let image = |subject: Option<&Manifest>| {
        let mut value = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor, "layers": [] });
        if let Some(subject) = subject {
            let (digest, size) = (subject.digest.to_string(), subject.bytes.len());
            value["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size });
        }
        let bytes = Bytes::from(value.to_string());
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        Manifest { digest, media_type: media_type::OCI_MANIFEST.to_owned(), bytes, warning: None }
    };
    let manifest = image(None);
    let early = upstream.push_manifest(&name, &manifest, &[]).await;
    assert!(matches!(&early, Err(Error::ManifestBlobUnknown { digest: missing }) if *missing == digest), "{early:?}");
    let blob = Arc::new(Source { bytes: config, opened: Mutex::default() });
    upstream.push_blob(&name, &digest, Some(2), blob).await.unwrap();
    let tags = ["latest", "v1"].map(|tag| Tag::parse(tag).unwrap());
    assert!(!upstream.has_manifest(&name, &manifest.digest).await.unwrap());
    upstream.push_manifest(&name, &manifest, &tags).await.unwrap();
    assert!(upstream.has_manifest(&name, &manifest.digest).await.unwrap());
    for tag in &tags {
        assert_eq!(upstream.tagged(&name, tag).await.unwrap(), Some(manifest.digest.clone()));
    }
    let signature = image(Some(&manifest));
    upstream.push_manifest(&name, &signature, &[]).await.unwrap();
    let found = upstream.referrers(&name, &manifest.digest, &ReferrersList::default()).await.unwrap();
    assert_eq!(found.entries.iter().map(|entry| &entry.digest).collect::<Vec<_>>(), [&signature.digest]);
    let listed = upstream.tags(&name, &Page::default()).await.unwrap();
    assert_eq!(listed.entries.len(), 3, "{listed:?}");
    let back = upstream.manifest(&name, &Reference::Tag(tags[0].clone())).await.unwrap();
    assert_eq!(back.bytes, manifest.bytes);
}

#[tokio::test]
async fn a_push_survives_a_connection_that_breaks() {
    let registry = DockerRegistry::start();
    // Breaks after these bytes of what the client sends, the first few times.
    let port = program::breaking_proxy(registry.port, 5_000_000, 3);
    let upstream = upstream(port);
    let (source, digest) = source(LARGE, 3);
    upstream.push_blob(&name("team/app"), &digest, Some(LARGE as u64), Arc::<Source>::clone(&source)).await.unwrap();
    assert_eq!(pulled(&upstream, &name("team/app"), &digest).await, source.bytes);
    // It cannot go on with a session that broke off, for the address of one holds the offset: each time it is begun anew, and in the
    // end in chunks.
    assert_eq!(*source.opened.lock().unwrap(), [0, 0, 0, 0, 16 << 20]);
}
