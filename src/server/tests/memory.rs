//! What downloads cost whose clients do not read: in a process of its own, whose memory is theirs.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "server/harness.rs"]
#[expect(dead_code, reason = "shared with tests that need more of it")]
mod harness;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use roadstead_server::{Body, Limits, raise_file_limit};
use tempfile::tempfile;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::harness::{PATIENCE, Running, Tls, get2, limits, soon, start, start_with};

const CLIENTS: usize = 100;
const LENGTH: u64 = 100 * 1024 * 1024;

/// Bytes of a process that are neither files nor shared, which Linux counts in pages.
fn anonymous_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Waits until each of so many downloads has begun and none goes on.
async fn at_rest(server: &Running, downloads: usize) {
    let sent = || -> usize {
        let text = server.metrics.encode();
        text.lines().find_map(|line| line.strip_prefix("roadstead_http_sent_bytes_total ")).unwrap().parse().unwrap()
    };
    soon(async {
        let mut before = sent();
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = sent();
            if now == before && now >= downloads * 32 * 1024 {
                break;
            }
            before = now;
        }
    })
    .await;
}

/// Asks for the file and reads nothing of it.
async fn ask<T: AsyncWrite + Unpin>(mut stream: T) -> T {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Asks for the file and takes no more than a stream's first window of it.
async fn ask2<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: T) -> impl Sized {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = soon(client.send_request(get2("/"))).await.unwrap();
    (client, response)
}

/// Bytes per connection that `connect` adds, its client's own included. The connections stay, because the next ones would be made of
/// the memory of these.
async fn cost<C: 'static, F: Future<Output = C>>(
    kept: &mut Vec<Box<dyn Any>>,
    server: &Running,
    connect: impl Fn() -> F,
) -> usize {
    kept.push(Box::new(connect().await));
    at_rest(server, 1).await;
    let before = anonymous_memory();
    for _ in 0..CLIENTS {
        kept.push(Box::new(connect().await));
    }
    at_rest(server, CLIENTS).await;
    anonymous_memory().saturating_sub(before) / CLIENTS
}

#[tokio::test]
async fn a_stalled_download_costs_little() {
    raise_file_limit();
    let file = tempfile().unwrap();
    file.set_len(LENGTH).unwrap();
    let file = Arc::new(file);
    let handler = move |_request| std::future::ready(Response::new(Body::file(Arc::clone(&file), 0, LENGTH)));
    let limits = Limits { idle_timeout: PATIENCE * 10, ..limits() };
    let tls = Tls::new();
    let plain = async || start(limits.clone(), handler.clone()).await;
    let encrypted = async || start_with(limits.clone(), Some(tls.server()), handler.clone()).await;
    let kept = &mut Vec::new();

    let server = plain().await;
    let cost_plain = cost(kept, &server, async || ask(server.connect().await).await).await;
    assert!(cost_plain <= 32 * 1024, "plain: {cost_plain} bytes");
    let server = plain().await;
    let cost_http2 = cost(kept, &server, async || ask2(server.connect().await).await).await;
    assert!(cost_http2 <= 400 * 1024, "HTTP/2: {cost_http2} bytes");
    let server = encrypted().await;
    let cost_tls = cost(kept, &server, async || ask(tls.connect(&server, &["http/1.1"]).await).await).await;
    assert!(cost_tls <= 400 * 1024, "TLS: {cost_tls} bytes");
    let server = encrypted().await;
    let cost_both = cost(kept, &server, async || ask2(tls.connect(&server, &["h2"]).await).await).await;
    assert!(cost_both <= 400 * 1024, "HTTP/2 and TLS: {cost_both} bytes");
}
