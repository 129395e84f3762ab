//! Whose name is it: hosted and cached names in one tree, and nothing of ours asked upstream.

use serde_json::Value;
use testing::FakeUpstream;

use crate::harness::{TestServer, config, docker_hub, refusal, refused, text};

#[tokio::test]
async fn a_cached_image_is_found_under_each_of_its_names() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    let server = TestServer::with_upstream(&fake).await;
    for (path, namespace) in [
        ("/v2/docker.io/library/alpine/manifests/3", ""),
        ("/v2/docker.io/alpine/manifests/3", ""),
        ("/v2/library/alpine/manifests/3", ""),
        ("/v2/library/alpine/manifests/3?ns=docker.io", "docker.io"),
        ("/v2/alpine/manifests/3?ns=docker.io", "docker.io"),
        ("/v2/library/alpine/manifests/3?ns=registry-1.docker.io", "registry-1.docker.io"),
    ] {
        let got = server.get(path).await;
        assert_eq!(got.status(), 200, "{path}");
        assert_eq!(text(&got, "oci-namespace"), namespace);
        assert_eq!(text(&got, "docker-content-digest"), image.digest.to_string());
        assert_eq!(got.bytes().await.unwrap(), image.bytes);
    }
    assert_eq!(fake.count("GET", "/manifests/"), 1);
    let catalog: Value = server.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog["repositories"], serde_json::json!(["docker.io/library/alpine"]));
    server.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_an_upstreams_is_never_asked_of_one() {
    let fake = FakeUpstream::start();
    fake.put_image("micro/app", "missing");
    fake.put_image("other/app", "v1");
    fake.put_image("library/hosted", "v2");
    let server = TestServer::with_upstream(&fake).await;
    server.push_image("micro/app", "v1", "ours").await;
    server.push_image("library/hosted", "v1", "ours").await;
    for path in [
        "/v2/micro/app/manifests/missing",
        "/v2/other/app/manifests/v1",
        "/v2/alpine/manifests/3",
        "/v2/library/manifests/3",
        "/v2/library/hosted/manifests/v2",
        "/v2/micro/app/manifests/v1?ns=example.org",
        "/v2/other/app/tags/list",
        "/v2/quay.io/some/app/manifests/v1",
    ] {
        assert_eq!(server.get(path).await.status(), 404, "{path}");
        assert_eq!(server.head(path).await.status(), 404, "{path}");
    }
    assert!(fake.requests().is_empty(), "{:?}", fake.requests());
    server.stop().await;
}

#[tokio::test]
async fn a_cached_repository_refuses_pushes_and_says_why() {
    let fake = FakeUpstream::start();
    let server = TestServer::with_upstream(&fake).await;
    for path in ["/v2/docker.io/library/x/blobs/uploads/", "/v2/docker.io/blobs/uploads/"] {
        let pushed = server.request("POST", path).send().await.unwrap();
        assert_eq!(refusal(pushed).await, refused(403, "DENIED"));
    }
    let pushed = server.put_manifest("/v2/docker.io/library/x/manifests/v1", oci::media_type::OCI_INDEX, "{}").await;
    let body = pushed.text().await.unwrap();
    assert!(body.contains("cache of docker.io") && body.contains("push under a name of your own"), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn upstreams_of_several_hosts_stand_side_by_side() {
    let (hub, quay) = (FakeUpstream::start(), FakeUpstream::start());
    let (ours, theirs) = (hub.put_image("team/app", "v1"), quay.put_image_with("team/app", "v1", b"another"));
    let mut config = config();
    let mut second = docker_hub(&quay);
    second.host = "10.0.0.1:5000".to_owned();
    second.name = "10.0.0.1_5000".parse().unwrap();
    second.default = false;
    config.upstreams = vec![docker_hub(&hub), second];
    let server = TestServer::start(config).await;
    for (path, image) in [
        ("/v2/docker.io/team/app/manifests/v1", &ours),
        ("/v2/team/app/manifests/v1?ns=docker.io", &ours),
        ("/v2/10.0.0.1_5000/team/app/manifests/v1", &theirs),
        ("/v2/team/app/manifests/v1?ns=10.0.0.1:5000", &theirs),
    ] {
        assert_eq!(server.get(path).await.bytes().await.unwrap(), image.bytes, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_upstreams_listings_are_the_listings_of_the_cache() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    fake.put_image("library/alpine", "2");
    let signature = fake.put_artifact("library/alpine", &image.digest, "x/signature");
    let server = TestServer::with_upstream(&fake).await;
    let tags: Value = server.get("/v2/library/alpine/tags/list?n=1").await.json().await.unwrap();
    assert_eq!(tags, serde_json::json!({ "name": "library/alpine", "tags": ["2"] }));
    for referrers in [true, false] {
        fake.referrers(referrers);
        let path = format!("/v2/docker.io/library/alpine/referrers/{}", image.digest);
        let index: Value = server.get(&path).await.json().await.unwrap();
        if referrers {
            assert_eq!(index["manifests"][0]["digest"], signature.to_string());
        } else {
            assert_eq!(index["manifests"], serde_json::json!([]));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_name_that_was_asked_of_the_upstream_is_ours_once_it_is_pushed() {
    let fake = FakeUpstream::start();
    fake.put_image("library/late", "theirs");
    let server = TestServer::with_upstream(&fake).await;
    assert_eq!(server.get("/v2/library/late/manifests/theirs").await.status(), 200);
    let digest = server.push_image("library/late", "ours", "layer").await;
    fake.clear_requests();
    assert_eq!(text(&server.get("/v2/library/late/manifests/ours").await, "docker-content-digest"), digest.to_string());
    assert_eq!(server.get("/v2/library/late/manifests/theirs").await.status(), 404);
    assert!(fake.requests().is_empty());
    server.stop().await;
}
