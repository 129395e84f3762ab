//! Peers that are slow, silent or many.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use roadstead_server::{Body, BodyError, BoxError, Limits, RequestBody, Server};
use telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{PATIENCE, SHORT, Tls, get, get2, limits, read, soon, start, start_with, until_closed};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn empty(_request: Request<RequestBody>) -> Response<Body> {
    Response::new(Body::empty())
}

/// A body that never ends by itself.
async fn endless(_request: Request<RequestBody>) -> Response<Body> {
    let chunk = Bytes::from(vec![0; 64 * 1024]);
    let chunks = stream::repeat_with(move || Ok::<_, BoxError>(chunk.clone()));
    Response::new(Body::stream(Box::pin(chunks), None))
}

fn short_heads() -> Limits {
    Limits { header_timeout: SHORT, ..limits() }
}

fn short_silence() -> Limits {
    Limits { idle_timeout: SHORT, ..limits() }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = start(short_heads(), empty).await;
    assert!(until_closed(&mut server.connect().await).await.is_empty());
    server.has_connections(0).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let tls = Tls::new();
    let server = start_with(short_heads(), Some(tls.server()), empty).await;
    assert!(until_closed(&mut server.connect().await).await.is_empty());
    for alpn in ["h2", "http/1.1"] {
        let mut stream = tls.connect(&server, &[alpn]).await;
        until_closed(&mut stream).await;
    }
    server.has_connections(0).await;
}

#[tokio::test]
async fn a_preface_that_stops_half_way_is_not_waited_for() {
    let server = start(short_heads(), empty).await;
    let mut stream = server.connect().await;
    stream.write_all(b"PRI * HTTP/2").await.unwrap();
    assert!(until_closed(&mut stream).await.is_empty());
    server.has_connections(0).await;
}

/// Sends a byte at a time, faster than any limit on silence, until the server has enough of it.
async fn trickle(mut stream: TcpStream) {
    let start = Instant::now();
    while stream.write_all(b"x").await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "the server puts up with it");
        tokio::time::sleep(SHORT / 10).await;
    }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut() {
    let server = start(short_heads(), empty).await;
    trickle(server.connect().await).await;
    server.has_connections(0).await;
}

#[tokio::test]
async fn a_later_head_that_trickles_in_is_cut_too() {
    let server = start(short_heads(), empty).await;
    let mut stream = server.connect().await;
    stream.write_all(HEAD).await.unwrap();
    let mut answer = [0; 16];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    trickle(stream).await;
    server.has_connections(0).await;
}

#[tokio::test]
async fn between_requests_a_connection_may_be_silent_for_longer_than_a_head_may_take() {
    let server = start(Limits { header_timeout: SHORT, idle_timeout: SHORT, ..limits() }, empty).await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    for _ in 0..2 {
        soon(http1.send_request(get("/"))).await.unwrap();
        soon(http2.send_request(get2("/"))).await.unwrap();
        tokio::time::sleep(SHORT * 2).await;
    }
    server.has_connections(2).await;
}

#[tokio::test]
async fn a_request_body_that_falls_silent_is_an_error_for_the_handler() {
    let server = start(short_silence(), |request: Request<RequestBody>| async move {
        let error = request.into_body().collect().await.unwrap_err();
        assert!(matches!(error, BodyError::Idle(SHORT)));
        Response::builder().status(408).body(Body::full(error.to_string())).unwrap()
    })
    .await;
    let answer = server.exchange("PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("the client sent nothing for 200ms"), "{answer}");
}

#[tokio::test]
async fn a_request_body_that_breaks_off_is_an_error_for_the_handler() {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let server = start(limits(), move |request: Request<RequestBody>| {
        let sender = sender.clone();
        async move {
            // A task of its own, because the handler goes with its client.
            tokio::spawn(async move { sender.send(request.into_body().collect().await.err()) });
            std::future::pending().await
        }
    })
    .await;
    let mut stream = server.connect().await;
    stream.write_all(b"PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    server.has_connections(1).await;
    stream.shutdown().await.unwrap();
    let error = soon(receiver.recv()).await.unwrap();
    assert!(matches!(error, Some(BodyError::Broken(_))), "{error:?}");
}

#[tokio::test]
async fn a_transfer_that_moves_may_take_longer_than_silence_may() {
    let server = start(short_silence(), |request: Request<RequestBody>| async move {
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        let chunks = stream::iter(sent).then(|byte| async move {
            tokio::time::sleep(SHORT / 4).await;
            Ok::<_, BoxError>(Bytes::copy_from_slice(&[byte]))
        });
        Response::new(Body::stream(Box::pin(chunks), None))
    })
    .await;
    let mut stream = server.connect().await;
    stream.write_all(b"PUT / HTTP/1.0\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n").await.unwrap();
    for byte in b"0123456789" {
        tokio::time::sleep(SHORT / 4).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    let answer = until_closed(&mut stream).await;
    assert!(answer.ends_with(b"\r\n\r\n0123456789"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_producer_that_is_slow_is_not_the_fault_of_the_peer() {
    let server = start(short_silence(), |_request| async {
        let chunks = stream::once(async {
            tokio::time::sleep(SHORT * 3).await;
            Ok::<_, BoxError>(Bytes::from_static(b"late"))
        });
        Response::new(Body::stream(Box::pin(chunks), Some(4)))
    })
    .await;
    let mut http1 = server.http1().await;
    assert_eq!(read(http1.send_request(get("/")).await.unwrap()).await.unwrap(), "late");
    let mut http2 = server.http2().await;
    assert_eq!(read(http2.send_request(get2("/")).await.unwrap()).await.unwrap(), "late");
}

#[tokio::test]
async fn a_peer_that_takes_no_bytes_is_cut() {
    let server = start(short_silence(), endless).await;
    let mut stream = server.connect().await;
    stream.write_all(HEAD).await.unwrap();
    server.has_connections(1).await;
    server.has_connections(0).await;
    drop(stream);
}

#[tokio::test]
async fn a_peer_that_takes_no_bytes_is_cut_under_tls() {
    let tls = Tls::new();
    let server = start_with(short_silence(), Some(tls.server()), endless).await;
    let mut stream = tls.connect(&server, &["http/1.1"]).await;
    stream.write_all(HEAD).await.unwrap();
    server.has_connections(1).await;
    server.has_connections(0).await;
    drop(stream);
}

#[tokio::test]
async fn a_peer_that_opens_no_window_is_cut() {
    let server = start(short_silence(), endless).await;
    let mut client = server.http2().await;
    // The head is taken, the body is not: the stream's window runs out while the socket still has room.
    let response = soon(client.send_request(get2("/"))).await.unwrap();
    server.has_connections(0).await;
    assert!(read(response).await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_seat() {
    let server = start(Limits { max_connections: 1, ..limits() }, empty).await;
    let mut first = server.http1().await;
    soon(first.send_request(get("/"))).await.unwrap();
    let mut second = server.connect().await;
    second.write_all(HEAD).await.unwrap();
    let mut answer = [0; 16];
    let early = tokio::time::timeout(Duration::from_millis(100), second.read_exact(&mut answer)).await;
    assert!(early.is_err());
    drop(first);
    soon(second.read_exact(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_burst_of_connections_finds_room_in_the_queue() {
    let server = Server::bind("127.0.0.1:0", None, limits(), Metrics::new()).await.unwrap();
    // Nobody accepts yet. What does not fit would be tried again by the kernel, after a second at the earliest.
    let mut waiting = Vec::new();
    for number in 0..600 {
        let connected = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(server.local_addr())).await;
        waiting.push(connected.unwrap_or_else(|_| panic!("number {number} found no room")).unwrap());
    }
}
