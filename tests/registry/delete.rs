//! Deletion.

use oci::media_type;

use crate::harness::{TestServer, refusal, refused, sha256};

#[tokio::test]
async fn a_tag_goes_alone_and_a_manifest_with_all_its_tags() {
    for server in TestServer::start_both().await {
        let digest = server.push_image("a", "v1", "layer").await;
        let by_digest = format!("/v2/a/manifests/{digest}");
        let body = server.get(&by_digest).await.bytes().await.unwrap();
        for tag in ["v2", "v3"] {
            server.put_manifest(&format!("/v2/a/manifests/{tag}"), media_type::OCI_MANIFEST, body.clone()).await;
        }
        assert_eq!(server.delete("/v2/a/manifests/v1").await.status(), 202);
        assert_eq!(server.head("/v2/a/manifests/v1").await.status(), 404);
        assert_eq!(server.head("/v2/a/manifests/v2").await.status(), 200);
        assert_eq!(server.delete(&by_digest).await.status(), 202);
        for path in ["/v2/a/manifests/v2", "/v2/a/manifests/v3", &by_digest] {
            assert_eq!(server.head(path).await.status(), 404, "{path}");
        }
        assert_eq!(refusal(server.delete(&by_digest).await).await, refused(404, "MANIFEST_UNKNOWN"));
        assert_eq!(refusal(server.delete("/v2/a/manifests/v1").await).await, refused(404, "MANIFEST_UNKNOWN"));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_blob_goes_from_one_repository_and_stays_in_the_other() {
    for server in TestServer::start_both().await {
        let digest = server.push_blob("a", "shared").await;
        server.push_blob("b", "shared").await;
        let path = format!("/v2/a/blobs/{digest}");
        assert_eq!(server.delete(&path).await.status(), 202);
        assert_eq!(server.head(&path).await.status(), 404);
        assert_eq!(refusal(server.delete(&path).await).await, refused(404, "BLOB_UNKNOWN"));
        assert_eq!(server.head(&format!("/v2/b/blobs/{digest}")).await.status(), 200);
        server.push_blob("a", "shared").await;
        assert_eq!(server.get(&path).await.text().await.unwrap(), "shared");
        let nowhere = format!("/v2/nowhere/blobs/{}", sha256(b"x"));
        assert_eq!(refusal(server.delete(&nowhere).await).await, refused(404, "NAME_UNKNOWN"));
        server.stop().await;
    }
}
