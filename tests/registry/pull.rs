//! Pulling: headers, ranges, conditions.

use crate::harness::{TestServer, refusal, refused, sha256, text};

#[tokio::test]
async fn a_blob_is_served_byte_for_byte_with_its_headers() {
    for server in TestServer::start_both().await {
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let digest = server.push_blob("team/app", bytes.clone()).await;
        let path = format!("/v2/team/app/blobs/{digest}");
        let head = server.head(&path).await;
        assert_eq!((head.status().as_u16(), text(&head, "content-length")), (200, "300000".to_owned()));
        let got = server.get(&path).await;
        assert_eq!(text(&got, "docker-content-digest"), digest.to_string());
        assert_eq!(text(&got, "etag"), format!("\"{digest}\""));
        assert_eq!(text(&got, "accept-ranges"), "bytes");
        assert_eq!(text(&got, "content-type"), "application/octet-stream");
        assert_eq!(text(&got, "content-encoding"), "");
        assert_eq!(text(&got, "x-request-id").len(), 32);
        assert_eq!(got.bytes().await.unwrap(), bytes);
        server.stop().await;
    }
}

#[tokio::test]
async fn ranges_are_answered_in_all_their_forms() {
    for server in TestServer::start_both().await {
        let digest = server.push_blob("a", "0123456789").await;
        let path = format!("/v2/a/blobs/{digest}");
        for (range, status, content_range, body) in [
            ("bytes=2-4", 206, "bytes 2-4/10", "234"),
            ("bytes=7-", 206, "bytes 7-9/10", "789"),
            ("bytes=-3", 206, "bytes 7-9/10", "789"),
            ("bytes=-30", 206, "bytes 0-9/10", "0123456789"),
            ("bytes=8-100", 206, "bytes 8-9/10", "89"),
            ("bytes=0-0", 206, "bytes 0-0/10", "0"),
            ("bytes=10-", 416, "bytes */10", ""),
            ("bytes=5-2", 416, "bytes */10", ""),
            ("bytes=1-2,4-5", 200, "", "0123456789"),
            ("lines=1-2", 200, "", "0123456789"),
            ("nonsense", 200, "", "0123456789"),
        ] {
            let got = server.request("GET", &path).header("range", range).send().await.unwrap();
            assert_eq!((got.status().as_u16(), text(&got, "content-range").as_str()), (status, content_range), "{range}");
            assert_eq!(got.text().await.unwrap(), body, "{range}");
        }
        let other =
            server.request("GET", &path).header("range", "bytes=2-4").header("if-range", "\"other\"").send().await.unwrap();
        assert_eq!(other.status(), 200);
        let same = server.request("GET", &path).header("range", "bytes=2-4").header("if-range", format!("\"{digest}\""));
        assert_eq!(same.send().await.unwrap().status(), 206);
        server.stop().await;
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    for server in TestServer::start_both().await {
        let manifest = server.push_image("a", "v1", "layer").await;
        let blob = sha256(b"layer");
        for (path, digest) in [
            ("/v2/a/manifests/v1".to_owned(), &manifest),
            (format!("/v2/a/manifests/{manifest}"), &manifest),
            (format!("/v2/a/blobs/{blob}"), &blob),
        ] {
            for method in ["GET", "HEAD"] {
                let ask = |tag: String| server.request(method, &path).header("if-none-match", tag).send();
                let same = ask(format!("\"{digest}\"")).await.unwrap();
                assert_eq!((same.status().as_u16(), text(&same, "docker-content-digest")), (304, digest.to_string()));
                assert_eq!(ask("\"other\"".to_owned()).await.unwrap().status(), 200);
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn the_empty_blob_and_the_empty_configuration_work() {
    for server in TestServer::start_both().await {
        for content in ["", "{}"] {
            let digest = server.push_blob("a", content).await;
            let path = format!("/v2/a/blobs/{digest}");
            assert_eq!(text(&server.head(&path).await, "content-length"), content.len().to_string());
            assert_eq!(server.get(&path).await.text().await.unwrap(), content);
        }
        let empty = format!("/v2/a/blobs/{}", sha256(b""));
        let got = server.request("GET", &empty).header("range", "bytes=0-").send().await.unwrap();
        assert_eq!(got.status(), 416);
        server.stop().await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    for server in TestServer::start_both().await {
        server.push_image("a", "v1", "layer").await;
        let digest = sha256(b"nowhere");
        assert_eq!(refusal(server.get(&format!("/v2/a/blobs/{digest}")).await).await, refused(404, "BLOB_UNKNOWN"));
        assert_eq!(refusal(server.get(&format!("/v2/b/blobs/{digest}")).await).await, refused(404, "NAME_UNKNOWN"));
        assert_eq!(refusal(server.get("/v2/a/manifests/v2").await).await, refused(404, "MANIFEST_UNKNOWN"));
        assert_eq!(refusal(server.get("/v2/b/manifests/v2").await).await, refused(404, "NAME_UNKNOWN"));
        // A blob of one repository is not another's.
        server.push_blob("c", "c").await;
        assert_eq!(refusal(server.get(&format!("/v2/c/blobs/{}", sha256(b"layer"))).await).await, refused(404, "BLOB_UNKNOWN"));
        server.stop().await;
    }
}
