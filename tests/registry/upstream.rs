use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci::{
    Algorithm, ByteStream, Discover, Error, Hasher, Manifest, Pull, Push, RangeSource, Reference, ReferrersList, RepositoryName,
    Tag, media_type,
};
use serde_json::json;
use telemetry::{Metrics, SystemClock};
use testing::deterministic_bytes;

use crate::harness::TestServer;

/// Bytes in memory.
struct Source(Bytes);

#[async_trait]
impl RangeSource for Source {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        let end = end.map_or(self.0.len(), |end| usize::try_from(end).unwrap());
        let bytes = self.0.slice(usize::try_from(start).unwrap()..end);
        Ok(stream::iter([Ok(bytes)]).boxed())
    }
}

/// This server as another one of its kind sees it.
fn upstream(server: &TestServer) -> upstream::Upstream {
    let config = upstream::Config::new("roadstead", server.url.parse().unwrap());
    upstream::Upstream::new(config, Arc::new(SystemClock::default()), Metrics::new()).unwrap()
}

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

#[tokio::test]
async fn one_server_pushes_blobs_to_another() {
    for server in TestServer::start_both().await {
        let upstream = upstream(&server);
        let (app, other) = (name("team/app"), name("team/other"));
        for (size, told) in [(0, true), (10, true), (5 << 20, true), (0, false), (10, false), (5 << 20, false)] {
            let bytes = deterministic_bytes(size, 7);
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = Hasher::digest(algorithm, &bytes);
                let source = Arc::new(Source(bytes.clone()));
                upstream.push_blob(&app, &digest, told.then_some(size as u64), source).await.unwrap();
                assert!(upstream.has_blob(&app, &digest).await.unwrap());
                assert_eq!(server.get(&format!("/v2/team/app/blobs/{digest}")).await.bytes().await.unwrap(), bytes);
            }
        }
        let digest = Hasher::digest(Algorithm::Sha256, &deterministic_bytes(10, 7));
        assert!(!upstream.has_blob(&other, &digest).await.unwrap());
        assert!(upstream.mount_blob(&other, &digest, Some(&app)).await.unwrap());
        assert!(upstream.has_blob(&other, &digest).await.unwrap());
        let wrong = Arc::new(Source(deterministic_bytes(2 << 20, 8)));
        let refused = upstream.push_blob(&other, &digest, Some(2 << 20), wrong).await;
        assert!(matches!(refused, Err(Error::DigestInvalid { .. })), "{refused:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn one_server_pushes_manifests_to_another() {
    for server in TestServer::start_both().await {
        let upstream = upstream(&server);
        let app = name("team/app");
        let config =
            json!({ "mediaType": "application/x.config", "digest": crate::harness::sha256(b"{}").to_string(), "size": 2 });
        let image = |subject: Option<&Manifest>, algorithm| {
            let mut value = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [] });
            if let Some(subject) = subject {
                let (digest, size) = (subject.digest.to_string(), subject.bytes.len());
                value["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size });
            }
            let bytes = Bytes::from(value.to_string());
            let digest = Hasher::digest(algorithm, &bytes);
            Manifest { digest, media_type: media_type::OCI_MANIFEST.to_owned(), bytes, warning: None }
        };
        let manifest = image(None, Algorithm::Sha256);
        let early = upstream.push_manifest(&app, &manifest, &[]).await;
        assert!(matches!(early, Err(Error::ManifestBlobUnknown { .. })), "{early:?}");
        upstream
            .push_blob(&app, &crate::harness::sha256(b"{}"), Some(2), Arc::new(Source(Bytes::from_static(b"{}"))))
            .await
            .unwrap();
        let tags = ["latest", "v1", "v2"].map(|tag| Tag::parse(tag).unwrap());
        upstream.push_manifest(&app, &manifest, &tags).await.unwrap();
        for tag in &tags {
            assert_eq!(upstream.tagged(&app, tag).await.unwrap(), Some(manifest.digest.clone()));
        }
        let wide = image(None, Algorithm::Sha512);
        upstream.push_manifest(&app, &wide, &tags[..1]).await.unwrap();
        assert_eq!(upstream.tagged(&app, &tags[0]).await.unwrap(), Some(wide.digest.clone()));
        let signature = image(Some(&manifest), Algorithm::Sha256);
        upstream.push_manifest(&app, &signature, &[]).await.unwrap();
        let found = upstream.referrers(&app, &manifest.digest, &ReferrersList::default()).await.unwrap();
        assert_eq!(found.entries.len(), 1);
        // It lists referrers by itself, so that no tag stands for them.
        let listed = upstream.tags(&app, &oci::Page::default()).await.unwrap();
        assert_eq!(listed.entries, tags);
        let back = upstream.manifest(&app, &Reference::Tag(tags[1].clone())).await.unwrap();
        assert_eq!((back.bytes, back.digest), (manifest.bytes, manifest.digest));
        server.stop().await;
    }
}
