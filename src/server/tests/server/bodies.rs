//! Response bodies on the wire.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use roadstead_server::{Body, BoxError, RequestBody};
use tempfile::tempfile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Running, Tls, get, get2, http1_over, http2_over, limits, read, soon, start, start_with, until_closed};

const LENGTH: usize = 3 * 1024 * 1024 + 17;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

fn file() -> Arc<File> {
    let mut file = tempfile().unwrap();
    file.write_all(&content()).unwrap();
    Arc::new(file)
}

/// Answers `/OFFSET/LENGTH` with that range of a file of [`LENGTH`] bytes.
fn ranges() -> impl Fn(Request<RequestBody>) -> std::future::Ready<Response<Body>> + Clone + Unpin + Send + 'static {
    let file = file();
    move |request| {
        let mut numbers = request.uri().path().split('/').skip(1).map(|number| number.parse().unwrap());
        let (offset, length) = (numbers.next().unwrap(), numbers.next().unwrap());
        std::future::ready(Response::new(Body::file(Arc::clone(&file), offset, length)))
    }
}

#[tokio::test]
async fn ranges_of_a_file_arrive_whole_over_every_protocol() {
    let content = content();
    let tls = Tls::new();
    let plain = start(limits(), ranges()).await;
    let encrypted = start_with(limits(), Some(tls.server()), ranges()).await;
    let mut http1 = [plain.http1().await, http1_over(tls.connect(&encrypted, &["http/1.1"]).await).await];
    let mut http2 = [plain.http2().await, http2_over(tls.connect(&encrypted, &["h2"]).await).await];
    for (offset, length) in [(0, LENGTH), (0, 0), (LENGTH, 0), (1, 1), (262_143, 2), (5, 2_000_000), (LENGTH - 1, 1)] {
        let path = format!("/{offset}/{length}");
        let mut responses = Vec::new();
        for client in &mut http1 {
            client.ready().await.unwrap();
            responses.push(client.send_request(get(&path)).await.unwrap());
        }
        for client in &mut http2 {
            responses.push(client.send_request(get2(&path)).await.unwrap());
        }
        for response in responses {
            // An HTTP/2 answer without a body ends with its head, which says as much as a length of 0.
            let stated = response.headers().get("content-length").map_or("0", |value| value.to_str().unwrap());
            assert_eq!(stated, length.to_string(), "{path} {:?}", response.version());
            assert!(read(response).await.unwrap() == content[offset..offset + length], "{path}");
        }
    }
}

/// Both protocols say that the answer is not whole. A reset may overtake even its head.
async fn is_broken(server: &Running, path: &str) {
    if let Ok(response) = soon(server.http1().await.send_request(get(path))).await {
        assert!(read(response).await.is_err(), "{path}");
    }
    let mut http2 = server.http2().await;
    if let Ok(response) = soon(http2.send_request(get2(path))).await {
        assert!(read(response).await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn a_file_that_is_too_short_breaks_the_answer() {
    let server = start(limits(), ranges()).await;
    is_broken(&server, &format!("/0/{}", LENGTH + 1)).await;
    is_broken(&server, &format!("/{}/10", LENGTH - 5)).await;
}

#[tokio::test]
async fn a_stream_that_ends_early_or_late_or_in_an_error_breaks_the_answer() {
    let server = start(limits(), |request: Request<RequestBody>| async move {
        let chunk = || Ok(Bytes::from_static(b"chunk"));
        let chunks = |chunks: Vec<Result<Bytes, BoxError>>, length| Body::stream(Box::pin(stream::iter(chunks)), length);
        Response::new(match request.uri().path() {
            "/early" => chunks(vec![chunk()], Some(6)),
            "/late" => chunks(vec![chunk(), chunk()], Some(9)),
            "/error" => chunks(vec![chunk(), Err("wrong digest".into())], None),
            "/error-at-the-end" => chunks(vec![chunk(), chunk(), Err("wrong digest".into())], Some(10)),
            _ => Body::empty(),
        })
    })
    .await;
    for path in ["/early", "/late", "/error", "/error-at-the-end"] {
        is_broken(&server, path).await;
    }
}

#[tokio::test]
async fn an_old_client_that_knows_the_end_only_by_the_close_gets_a_reset_instead() {
    let server = start(limits(), |_request| async {
        let chunks = vec![Ok(Bytes::from_static(b"chunk")), Err(BoxError::from("wrong digest"))];
        Response::new(Body::stream(Box::pin(stream::iter(chunks)), None))
    })
    .await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let error = soon(stream.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_push_that_is_refused_before_its_body_is_read_learns_why() {
    let server = start(limits(), |_request| async { Response::builder().status(403).body(Body::full("no")).unwrap() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8388608\r\n\r\n").await.unwrap();
    // Larger than the buffers of the connection, so that a part of it is still unread when the server closes.
    let part = vec![0; 64 * 1024];
    for _ in 0..128 {
        if stream.write_all(&part).await.is_err() {
            break;
        }
    }
    let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("no"), "{answer}");
}

#[tokio::test]
async fn the_answer_to_head_has_the_length_and_no_body() {
    let server = start(limits(), ranges()).await;
    let answer = server.exchange("HEAD /0/100 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("content-length: 100\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}
