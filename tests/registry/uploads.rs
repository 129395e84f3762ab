//! Pushing blobs: sessions, chunks, mounts.

use std::time::Duration;

use bytes::Bytes;
use oci::{Algorithm, Hasher};

use crate::harness::{TestServer, config, refusal, refused, sha256, text};

#[tokio::test]
async fn chunks_in_order_make_the_blob() {
    for server in TestServer::start_both().await {
        let location = server.start_upload("a").await;
        for (range, body, received) in [("0-3", "0123", "0-3"), ("4-5", "45", "0-5")] {
            let patched = server.request("PATCH", &location).header("content-range", range).body(body).send().await.unwrap();
            assert_eq!((patched.status().as_u16(), text(&patched, "range").as_str()), (202, received));
        }
        let status = server.get(&location).await;
        assert_eq!((status.status().as_u16(), text(&status, "range")), (204, "0-5".to_owned()));
        let digest = sha256(b"0123456789");
        let put = server.request("PUT", &format!("{location}?digest={digest}")).header("content-range", "6-9").body("6789");
        let put = put.send().await.unwrap();
        assert_eq!((put.status().as_u16(), text(&put, "docker-content-digest")), (201, digest.to_string()));
        assert_eq!(server.get(&text(&put, "location")).await.text().await.unwrap(), "0123456789");
        assert_eq!(refusal(server.get(&location).await).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_chunk_out_of_order_changes_nothing() {
    for server in TestServer::start_both().await {
        let location = server.start_upload("a").await;
        server.request("PATCH", &location).header("content-range", "0-3").body("0123").send().await.unwrap();
        let digest = sha256(b"012345");
        let finish = format!("{location}?digest={digest}");
        for (method, target, range) in [("PATCH", &location, "8-9"), ("PATCH", &location, "0-1"), ("PUT", &finish, "6-7")] {
            let early = server.request(method, target).header("content-range", range).body("xx").send().await.unwrap();
            assert_eq!((early.status().as_u16(), text(&early, "range")), (416, "0-3".to_owned()), "{method} {range}");
        }
        let longer = server.request("PATCH", &location).header("content-range", "4-5").body("45678").send().await.unwrap();
        assert_eq!(refusal(longer).await, refused(400, "SIZE_INVALID"));
        let shorter = server.request("PATCH", &location).header("content-range", "4-9").body("45").send().await.unwrap();
        assert_eq!(refusal(shorter).await, refused(400, "SIZE_INVALID"));
        let garbled = server.request("PATCH", &location).header("content-range", "four-five").body("45").send().await.unwrap();
        assert_eq!(refusal(garbled).await, refused(400, "BLOB_UPLOAD_INVALID"));
        assert_eq!(text(&server.get(&location).await, "range"), "0-3");
        assert_eq!(server.request("PUT", &finish).body("45").send().await.unwrap().status(), 201);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_streamed_patch_needs_no_range() {
    for server in TestServer::start_both().await {
        let location = server.start_upload("a").await;
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            (0..100_u8).map(|number| Ok(Bytes::from(vec![number; 70_001]))).collect();
        let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.as_ref().unwrap().to_vec()).collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let patched = server.request("PATCH", &location).body(body).send().await.unwrap();
        assert_eq!(text(&patched, "range"), format!("0-{}", whole.len() - 1));
        let digest = sha256(&whole);
        let put = server.request("PUT", &format!("{location}?digest={digest}")).send().await.unwrap();
        assert_eq!(put.status(), 201);
        assert_eq!(server.get(&text(&put, "location")).await.bytes().await.unwrap(), whole);
        server.stop().await;
    }
}

#[tokio::test]
async fn both_algorithms_work_with_and_without_a_hint() {
    for server in TestServer::start_both().await {
        for query in ["", "?digest-algorithm=sha512", "?digest-algorithm=sha256"] {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = Hasher::digest(algorithm, query.as_bytes());
                let started = server.request("POST", &format!("/v2/a/blobs/uploads/{query}")).send().await.unwrap();
                let location = text(&started, "location");
                let put = server.request("PUT", &format!("{location}?digest={digest}")).body(query).send().await.unwrap();
                assert_eq!((put.status().as_u16(), text(&put, "docker-content-digest")), (201, digest.to_string()));
                assert_eq!(server.get(&text(&put, "location")).await.text().await.unwrap(), query);
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_digest_stores_nothing() {
    for server in TestServer::start_both().await {
        let other = sha256(b"other");
        let post = server.request("POST", &format!("/v2/a/blobs/uploads/?digest={other}")).body("content").send().await.unwrap();
        assert_eq!(refusal(post).await, refused(400, "DIGEST_INVALID"));
        let location = server.start_upload("a").await;
        let put = server.request("PUT", &format!("{location}?digest={other}")).body("content").send().await.unwrap();
        assert_eq!(refusal(put).await, refused(400, "DIGEST_INVALID"));
        for content in [&b"other"[..], b"content"] {
            assert_eq!(server.get(&format!("/v2/a/blobs/{}", sha256(content))).await.status(), 404);
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_cancelled_session_is_gone() {
    for server in TestServer::start_both().await {
        let location = server.start_upload("a").await;
        assert_eq!(server.delete(&location).await.status(), 204);
        for method in ["GET", "PATCH", "DELETE"] {
            let gone = server.request(method, &location).body("x").send().await.unwrap();
            assert_eq!(refusal(gone).await, refused(404, "BLOB_UPLOAD_UNKNOWN"), "{method}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_session_belongs_to_its_repository() {
    for server in TestServer::start_both().await {
        let location = server.start_upload("a").await;
        let elsewhere = location.replace("/v2/a/", "/v2/b/");
        assert_eq!(refusal(server.get(&elsewhere).await).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
        assert_eq!(server.get(&location).await.status(), 204);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_mount_shares_what_is_there_and_else_opens_a_session() {
    for server in TestServer::start_both().await {
        let digest = server.push_blob("a", "shared").await;
        let mount = async |name: &str, query: String| {
            server.request("POST", &format!("/v2/{name}/blobs/uploads/?mount={query}")).send().await.unwrap()
        };
        let mounted = mount("b", format!("{digest}&from=a")).await;
        assert_eq!((mounted.status().as_u16(), text(&mounted, "docker-content-digest")), (201, digest.to_string()));
        assert_eq!(server.get(&text(&mounted, "location")).await.text().await.unwrap(), "shared");
        assert_eq!(mount("c", digest.to_string()).await.status(), 201);
        let nobody = sha256(b"nobody has this");
        for query in [format!("{nobody}&from=a"), format!("{digest}&from=not/there"), nobody.to_string()] {
            let session = mount("d", query).await;
            assert_eq!(session.status(), 202);
            assert_eq!(server.get(&text(&session, "location")).await.status(), 204);
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn of_a_client_that_vanishes_what_arrived_is_kept() {
    use tokio::io::AsyncWriteExt;

    for server in TestServer::start_both().await {
        let location = server.start_upload("a").await;
        let address = server.url.trim_start_matches("http://");
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n0123456789");
        socket.write_all(head.as_bytes()).await.unwrap();
        wait_for_range(&server, &location, "0-9").await;
        drop(socket);
        let digest = sha256(b"0123456789ab");
        let rest = server.request("PATCH", &location).header("content-range", "10-11").body("ab").send().await.unwrap();
        assert_eq!(rest.status(), 202);
        assert_eq!(server.request("PUT", &format!("{location}?digest={digest}")).send().await.unwrap().status(), 201);
        server.stop().await;
    }
}

async fn wait_for_range(server: &TestServer, location: &str, wanted: &str) {
    for _ in 0..500 {
        if text(&server.get(location).await, "range") == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session never reached {wanted}");
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_and_its_session_ended() {
    let mut config = config();
    config.server.max_blob_size = Some(1000);
    let server = TestServer::start(config).await;
    let large = vec![0; 1001];
    let post = format!("/v2/a/blobs/uploads/?digest={}", sha256(&large));
    let posted = server.request("POST", &post).body(large.clone()).send().await.unwrap();
    assert_eq!(refusal(posted).await, refused(413, "SIZE_INVALID"));
    for (method, query) in [("PATCH", String::new()), ("PUT", format!("?digest={}", sha256(&large)))] {
        let location = server.start_upload("a").await;
        let sent = server.request(method, &format!("{location}{query}")).body(large.clone()).send().await.unwrap();
        assert_eq!(refusal(sent).await, refused(413, "SIZE_INVALID"));
        assert_eq!(server.get(&location).await.status(), 404);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_blob_is_finished_spoils_nothing() {
    use tokio::io::AsyncWriteExt;

    for server in TestServer::start_both().await {
        for round in 0..20_u8 {
            let content = vec![round; 400_000];
            let digest = sha256(&content);
            let location = server.start_upload("a").await;
            server.request("PATCH", &location).body(content.clone()).send().await.unwrap();
            let mut socket = tokio::net::TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
            let put = format!("PUT {location}?digest={digest} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
            socket.write_all(put.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_micros(u64::from(round) * 200)).await;
            drop(socket);
            // Whoever goes on with the session adds to the session or is refused, and never to the blob.
            let _ = server.request("PATCH", &location).body("EVIL").send().await.unwrap();
            assert_eq!(server.push_blob("b", content.clone()).await, digest);
            for name in ["a", "b"] {
                let got = server.get(&format!("/v2/{name}/blobs/{digest}")).await;
                assert!(got.status() == 404 && name == "a" || got.bytes().await.unwrap() == content);
            }
        }
        server.stop().await;
    }
}
