//! Malformed, hostile and broken requests: a clear answer, nothing stored.

use std::time::Duration;

use testing::{FakeUpstream, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{TestServer, config, refusal, refused, sha256, text};

/// Sends raw bytes and reads to the end of the connection.
async fn raw(server: &TestServer, request: &str) -> String {
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn tricks_with_paths_are_invalid_names() {
    let server = TestServer::start(config()).await;
    for path in [
        "/v2/../../etc/passwd/manifests/v1",
        "/v2/a/../b/manifests/v1",
        "/v2/%2e%2e/a/manifests/v1",
        "/v2/a/%2E%2E/b/manifests/v1",
        "/v2//a/manifests/v1",
        "/v2/a%00/manifests/v1",
        "/v2/a%0d%0ax:y/manifests/v1",
        "/v2/a/%ff/manifests/v1",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = raw(&server, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("NAME_INVALID"), "{path}: {answer}");
    }
    let long = format!("GET /v2/{}/manifests/v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a/".repeat(2000));
    assert!(raw(&server, &long).await.contains("NAME_INVALID"));
    server.stop().await;
}

#[tokio::test]
async fn malformed_references_have_their_codes() {
    let server = TestServer::start(config()).await;
    for (path, code) in [
        ("/v2/a/manifests/sha256:baddigeststring", "DIGEST_INVALID"),
        ("/v2/a/blobs/sha256:zz", "DIGEST_INVALID"),
        ("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID"),
        ("/v2/a/manifests/-bad", "MANIFEST_INVALID"),
        ("/v2/UPPER/manifests/v1", "NAME_INVALID"),
    ] {
        assert_eq!(refusal(server.get(path).await).await, refused(400, code), "{path}");
    }
    for path in ["/", "/v1/_ping", "/v2/a", "/favicon.ico"] {
        assert_eq!(refusal(server.get(path).await).await, refused(404, "UNSUPPORTED"), "{path}");
    }
    let method = server.request("POST", "/v2/a/manifests/v1").send().await.unwrap();
    assert_eq!(text(&method, "allow"), "GET, HEAD, PUT, DELETE");
    assert_eq!(refusal(method).await, refused(405, "UNSUPPORTED"));
    let without = server.start_upload("a").await;
    assert_eq!(refusal(server.request("PUT", &without).send().await.unwrap()).await, refused(400, "DIGEST_INVALID"));
    server.stop().await;
}

#[tokio::test]
async fn a_body_shorter_than_announced_stores_nothing() {
    for server in TestServer::start_both().await {
        let digest = sha256(b"0123");
        let head = format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0123");
        let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 2"));
        assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status(), 404);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut_at_its_announced_end() {
    let server = TestServer::start(config()).await;
    let digest = sha256(b"0123");
    let request = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\n\r\n0123456789"
    );
    assert!(raw(&server, &request).await.starts_with("HTTP/1.1 201 "));
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.text().await.unwrap(), "0123");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_sending_is_told_so_and_its_session_lives() {
    let mut config = config();
    config.server.idle_timeout = Duration::from_millis(300);
    let server = TestServer::start(config).await;
    let location = server.start_upload("a").await;
    let answer = raw(&server, &format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0123")).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("no byte of the body"), "{answer}");
    assert_eq!(text(&server.get(&location).await, "range"), "0-3");
    let manifest = raw(&server, "PUT /v2/a/manifests/v1 HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").await;
    assert!(manifest.starts_with("HTTP/1.1 408 "), "{manifest}");
    server.stop().await;
}

#[tokio::test]
async fn two_writers_of_one_session_do_not_mix() {
    for server in TestServer::start_both().await {
        let location = server.start_upload("a").await;
        let write = |byte: u8| {
            let body = vec![byte; 300_000];
            server.request("PATCH", &location).header("content-range", "0-299999").body(body).send()
        };
        let (first, second) = tokio::join!(write(b'a'), write(b'b'));
        let (first, second) = (first.unwrap().status().as_u16(), second.unwrap().status().as_u16());
        // One of them came first, and the other finds that its place is taken.
        let winner = match (first, second) {
            (202, 416) => b'a',
            (416, 202) => b'b',
            other => panic!("{other:?}"),
        };
        let content = vec![winner; 300_000];
        let put = server.request("PUT", &format!("{location}?digest={}", sha256(&content))).send().await.unwrap();
        assert_eq!(put.status(), 201);
        assert_eq!(server.get(&text(&put, "location")).await.bytes().await.unwrap(), content);
        server.stop().await;
    }
}

#[tokio::test]
async fn operators_endpoints_answer() {
    let server = TestServer::start(config()).await;
    server.push_image("a", "v1", "layer").await;
    assert_eq!(server.get("/livez").await.text().await.unwrap(), "ok\n");
    assert_eq!(server.get("/readyz").await.status(), 200);
    let metrics = server.get("/metrics").await.text().await.unwrap();
    for line in [
        "roadstead_http_requests_total{route=\"push_manifest\",method=\"PUT\",status=\"201\"} 1",
        "roadstead_store_operation_duration_seconds_count",
        "roadstead_build_info",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_told_of() {
    let fake = FakeUpstream::start();
    fake.fault("/", Fault::Delay(Duration::from_mins(10)));
    let server = TestServer::with_upstream(&fake).await;
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(b"GET /v2/docker.io/library/x/manifests/1 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    while fake.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(socket);
    let left = "roadstead_http_requests_total{route=\"pull_manifest\",method=\"GET\",status=\"499\"} 1";
    for _ in 0..500 {
        if server.get("/metrics").await.text().await.unwrap().contains(left) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was told of it");
}

#[tokio::test]
async fn a_web_page_changes_nothing() {
    let server = TestServer::start(config()).await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"x"));
    let pushed = server.request("POST", &path).header("origin", "http://evil.example").body("x").send().await.unwrap();
    assert_eq!(refusal(pushed).await, refused(403, "DENIED"));
    assert_eq!(server.request("GET", "/v2/").header("origin", "http://evil.example").send().await.unwrap().status(), 200);
    server.stop().await;
}
