//! Pushing manifests.

use oci::{Algorithm, Hasher, media_type};
use serde_json::json;

use crate::harness::{TestServer, config, image, refusal, refused, sha256, text};

#[tokio::test]
async fn a_manifest_is_served_as_it_was_pushed() {
    for server in TestServer::start_both().await {
        let (configuration, layer) = (server.push_blob("a", "{}").await, server.push_blob("a", "layer").await);
        // White space, an unknown field and a foreign order of keys survive.
        let tight = String::from_utf8(image(&configuration, 2, &layer, 5).to_vec()).unwrap();
        let body = format!("\n  {{ \"x-unknown\" : [1.50, null],{}\t", &tight[1..]);
        for content_type in [media_type::OCI_MANIFEST, "Application/vnd.oci.image.manifest.v1+json; charset=utf-8"] {
            let pushed = server.put_manifest("/v2/a/manifests/v1", content_type, body.clone()).await;
            let digest = sha256(body.as_bytes());
            assert_eq!((pushed.status().as_u16(), text(&pushed, "docker-content-digest")), (201, digest.to_string()));
            for path in ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/manifests/{digest}"), text(&pushed, "location")] {
                let got = server.get(&path).await;
                assert_eq!(text(&got, "content-type"), media_type::OCI_MANIFEST);
                assert_eq!(text(&got, "docker-content-digest"), digest.to_string());
                assert_eq!(text(&server.head(&path).await, "content-length"), body.len().to_string());
                assert_eq!(got.text().await.unwrap(), body);
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn several_tags_and_sha512_go_with_a_push_by_digest() {
    for server in TestServer::start_both().await {
        let body = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] }).to_string();
        let digest = Hasher::digest(Algorithm::Sha512, body.as_bytes());
        let path = format!("/v2/a/manifests/{digest}?tag=x&tag=y&tag=x");
        let pushed = server.put_manifest(&path, media_type::OCI_INDEX, body).await;
        let tags: Vec<_> = pushed.headers().get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
        assert_eq!((pushed.status().as_u16(), tags), (201, vec!["x", "y", "x"]));
        for tag in ["x", "y"] {
            let got = server.head(&format!("/v2/a/manifests/{tag}")).await;
            assert_eq!(text(&got, "docker-content-digest"), digest.to_string());
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn more_tags_than_fit_are_refused_as_a_whole() {
    let server = TestServer::start(config()).await;
    let body = json!({ "schemaVersion": 2, "manifests": [] }).to_string();
    let tags: Vec<String> = (0..65).map(|number| format!("tag=t{number}")).collect();
    let path = format!("/v2/a/manifests/{}?{}", sha256(body.as_bytes()), tags.join("&"));
    assert_eq!(server.put_manifest(&path, media_type::OCI_INDEX, body).await.status(), 414);
    assert_eq!(server.get("/v2/a/tags/list").await.status(), 404);
    server.stop().await;
}

#[tokio::test]
async fn an_image_without_its_layers_is_refused_unless_that_is_allowed() {
    let missing = sha256(b"missing");
    let server = TestServer::start(config()).await;
    let configuration = server.push_blob("a", "{}").await;
    let body = image(&configuration, 2, &missing, 7);
    let pushed = server.put_manifest("/v2/a/manifests/v1", media_type::OCI_MANIFEST, body.clone()).await;
    assert_eq!(refusal(pushed).await, refused(400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(server.get("/v2/a/manifests/v1").await.status(), 404);
    server.stop().await;
    let mut sparse = config();
    sparse.server.sparse_images = true;
    let server = TestServer::start(sparse).await;
    assert_eq!(server.put_manifest("/v2/a/manifests/v1", media_type::OCI_MANIFEST, body).await.status(), 201);
    server.stop().await;
}

#[tokio::test]
async fn foreign_layers_and_the_children_of_an_index_may_be_missing() {
    for server in TestServer::start_both().await {
        let configuration = server.push_blob("a", "{}").await;
        let missing = sha256(b"missing");
        let foreign = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "digest": configuration, "size": 2 },
            "layers": [{ "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": missing, "size": 1 }],
        });
        let pushed = server.put_manifest("/v2/a/manifests/windows", media_type::DOCKER_MANIFEST, foreign.to_string()).await;
        assert_eq!(pushed.status(), 201);
        let sparse = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_LIST,
            "manifests": [{ "mediaType": media_type::DOCKER_MANIFEST, "digest": missing, "size": 1 }],
        });
        assert_eq!(server.put_manifest("/v2/a/manifests/list", media_type::DOCKER_LIST, sparse.to_string()).await.status(), 201);
        server.stop().await;
    }
}

#[tokio::test]
async fn malformed_manifests_are_refused_with_a_reason() {
    let server = TestServer::start(config()).await;
    let deep = format!("{{\"schemaVersion\":2,\"manifests\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (content_type, body) in [
        (media_type::OCI_INDEX, "not json"),
        (media_type::OCI_INDEX, ""),
        (media_type::OCI_INDEX, "[]"),
        (media_type::OCI_INDEX, "{\"schemaVersion\":2}"),
        (media_type::OCI_INDEX, &deep),
        (media_type::OCI_MANIFEST, "{\"schemaVersion\":2,\"manifests\":[]}"),
        (schema1, "{\"schemaVersion\":1}"),
        ("text/plain", "{\"schemaVersion\":2,\"manifests\":[]}"),
    ] {
        let pushed = server.put_manifest("/v2/a/manifests/v1", content_type, body.to_owned()).await;
        assert_eq!(refusal(pushed).await, refused(400, "MANIFEST_INVALID"), "{content_type} {body:.60}");
    }
    let index = "{\"schemaVersion\":2,\"manifests\":[]}";
    let path = format!("/v2/a/manifests/{}", sha256(b"other"));
    let pushed = server.put_manifest(&path, media_type::OCI_INDEX, index).await;
    assert_eq!(refusal(pushed).await, refused(400, "DIGEST_INVALID"));
    assert_eq!(refusal(server.get("/v2/a/tags/list").await).await, refused(404, "NAME_UNKNOWN"));
    server.stop().await;
}

#[tokio::test]
async fn four_mebibytes_are_taken_and_more_than_the_limit_is_not() {
    for server in TestServer::start_both().await {
        let body = |filler: usize| {
            let annotations = json!({ "filler": "x".repeat(filler) });
            json!({ "schemaVersion": 2, "manifests": [], "annotations": annotations }).to_string()
        };
        let large = body(4 * 1024 * 1024);
        assert_eq!(server.put_manifest("/v2/a/manifests/large", media_type::OCI_INDEX, large.clone()).await.status(), 201);
        assert_eq!(server.get("/v2/a/manifests/large").await.text().await.unwrap(), large);
        let refused_body = server.put_manifest("/v2/a/manifests/huge", media_type::OCI_INDEX, body(8 * 1024 * 1024)).await;
        assert_eq!(refusal(refused_body).await, refused(413, "SIZE_INVALID"));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_tag_moves_and_the_old_manifest_stays() {
    for server in TestServer::start_both().await {
        let first = server.push_image("a", "latest", "one").await;
        let second = server.push_image("a", "latest", "two").await;
        assert_eq!(text(&server.head("/v2/a/manifests/latest").await, "docker-content-digest"), second.to_string());
        assert_eq!(server.get(&format!("/v2/a/manifests/{first}")).await.status(), 200);
        server.stop().await;
    }
}

#[tokio::test]
async fn pushes_of_one_tag_at_once_leave_one_of_them() {
    for server in TestServer::start_both().await {
        let digests: Vec<_> = futures_util::future::join_all((0..16).map(|number| {
            let server = &server;
            async move { server.push_image("a", "latest", &format!("layer {number}")).await }
        }))
        .await;
        let digest = text(&server.head("/v2/a/manifests/latest").await, "docker-content-digest");
        assert!(digests.iter().any(|pushed| pushed.to_string() == digest));
        server.stop().await;
    }
}
