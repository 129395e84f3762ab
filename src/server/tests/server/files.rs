//! Files on plain connections, where the kernel sends them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use roadstead_server::{Body, Drained, Limits, RequestBody};
use tempfile::tempfile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Running, SHORT, get, get2, limits, read, soon, start, until_closed};

/// More than the buffers of a connection hold, so that a peer that does not read stops its transfer.
const LENGTH: usize = 24 * 1024 * 1024 + 17;

/// What is shorter is read.
const SHORTEST: usize = 64 * 1024;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|index| u8::try_from(index % 251).unwrap() ^ u8::try_from(index >> 20).unwrap()).collect()
}

fn file(content: &[u8]) -> Arc<File> {
    let mut file = tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

/// Answers `/OFFSET/LENGTH` with that range of the file.
fn ranges(
    file: &Arc<File>,
) -> impl Fn(Request<RequestBody>) -> std::future::Ready<Response<Body>> + Clone + Unpin + Send + 'static {
    let file = Arc::clone(file);
    move |request| {
        let mut numbers = request.uri().path().split('/').skip(1).map(|number| number.parse().unwrap());
        let (offset, length) = (numbers.next().unwrap(), numbers.next().unwrap());
        std::future::ready(Response::new(Body::file(Arc::clone(&file), offset, length)))
    }
}

fn request(offset: usize, length: usize) -> String {
    format!("GET /{offset}/{length} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn body_of(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut body = vec![0; length];
    soon(stream.read_exact(&mut body)).await.unwrap();
    body
}

/// The bytes that the kernel took from files itself.
fn sent_by_kernel(server: &Running) -> usize {
    let text = server.metrics.encode();
    let line = text.lines().find_map(|line| line.strip_prefix("roadstead_http_sendfile_bytes_total "));
    line.unwrap().parse().unwrap()
}

/// Waits until nothing but the test and its handler has the file.
async fn is_let_go(file: &Arc<File>, held: usize) {
    soon(async {
        while Arc::strong_count(file) > held {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn large_ranges_are_sent_by_the_kernel_and_small_ones_read() {
    let content = content();
    let server = start(limits(), ranges(&file(&content))).await;
    let mut stream = server.connect().await;
    let mut large = 0;
    let edges = [(0, LENGTH), (0, 0), (LENGTH - 1, 1), (0, 1), (4095, 2), (0, SHORTEST), (7, SHORTEST + 1)];
    let slices =
        [(0, 1 << 20), (1, 1 << 20), (0, (1 << 20) + 1), (LENGTH - (1 << 20), 1 << 20), (4096, 3 << 20), (5, LENGTH - 5)];
    for (offset, length) in edges.into_iter().chain(slices) {
        stream.write_all(request(offset, length).as_bytes()).await.unwrap();
        let head = head_of(&mut stream).await;
        assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
        assert!(body_of(&mut stream, length).await == content[offset..offset + length], "{length} from {offset}");
        large += if length > SHORTEST { length } else { 0 };
        assert_eq!(sent_by_kernel(&server), large, "{length} from {offset}");
    }
}

#[tokio::test]
async fn http2_reads_what_it_sends() {
    let content = content();
    let server = start(limits(), ranges(&file(&content))).await;
    let response = server.http2().await.send_request(get2(&format!("/3/{}", LENGTH - 3))).await.unwrap();
    assert!(read(response).await.unwrap() == content[3..]);
    assert_eq!(sent_by_kernel(&server), 0);
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let content = content();
    let server = start(limits(), ranges(&file(&content))).await;
    let mut stream = server.connect().await;
    let wanted = [(0, 3 << 20), (9, 4), (1 << 20, 2 << 20), (5, 0), (17, 100_000), (LENGTH - 9, 9)];
    let head = "HEAD /0/70000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let requests: String = wanted.iter().map(|(offset, length)| request(*offset, *length) + head).collect();
    stream.write_all(requests.as_bytes()).await.unwrap();
    for (offset, length) in wanted {
        assert!(head_of(&mut stream).await.contains(&format!("content-length: {length}\r\n")));
        assert!(body_of(&mut stream, length).await == content[offset..offset + length], "{length} from {offset}");
        assert!(head_of(&mut stream).await.contains("content-length: 70000\r\n"));
    }
}

#[tokio::test]
async fn a_hundred_clients_get_the_same_bytes() {
    let content = content();
    let file = file(&content);
    let server = start(limits(), ranges(&file)).await;
    let downloads = (0..100).map(|index| {
        let (server, content) = (&server, &content);
        async move {
            let (offset, length) = (index * 4099, (2 << 20) + index);
            let response = server.http1().await.send_request(get(&format!("/{offset}/{length}"))).await.unwrap();
            assert!(read(response).await.unwrap() == content[offset..offset + length], "{index}");
        }
    });
    join_all(downloads).await;
    is_let_go(&file, 2).await;
}

#[tokio::test]
async fn an_old_client_gets_the_whole_file_and_then_the_end() {
    let content = content();
    let server = start(limits(), ranges(&file(&content))).await;
    let mut stream = server.connect().await;
    stream.write_all(format!("GET /0/{LENGTH} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    head_of(&mut stream).await;
    let mut body = Vec::new();
    soon(stream.read_to_end(&mut body)).await.unwrap();
    assert!(body == content);
}

/// A connection on which the transfer of the whole file has begun, and now waits for the client.
async fn stalled(server: &Running) -> TcpStream {
    let mut stream = server.connect().await;
    stream.write_all(request(0, LENGTH).as_bytes()).await.unwrap();
    head_of(&mut stream).await;
    stream
}

#[tokio::test]
async fn of_a_client_that_leaves_nothing_is_kept() {
    let file = file(&content());
    let server = start(limits(), ranges(&file)).await;
    let mut stream = stalled(&server).await;
    body_of(&mut stream, 1000).await;
    drop(stream);
    server.has_connections(0).await;
    is_let_go(&file, 2).await;
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_of_a_file_is_cut() {
    let content = content();
    let file = file(&content);
    let server = start(Limits { idle_timeout: SHORT, ..limits() }, ranges(&file)).await;
    let mut stream = stalled(&server).await;
    server.has_connections(0).await;
    is_let_go(&file, 2).await;
    let got = until_closed(&mut stream).await;
    assert!(got.len() < LENGTH && got == content[..got.len()]);
}

#[tokio::test]
async fn a_client_that_takes_a_file_slowly_is_not_cut() {
    let content = content();
    let server = start(Limits { idle_timeout: SHORT * 4, ..limits() }, ranges(&file(&content))).await;
    let mut stream = stalled(&server).await;
    let mut got = Vec::new();
    // Longer than the limit on silence in all, and with less than it between two reads.
    for _ in 0..8 {
        tokio::time::sleep(SHORT).await;
        got.extend(body_of(&mut stream, LENGTH / 8).await);
    }
    got.extend(body_of(&mut stream, LENGTH % 8).await);
    assert!(got == content);
}

#[tokio::test]
async fn a_stop_lets_a_file_finish() {
    let content = content();
    let mut server = start(limits(), ranges(&file(&content))).await;
    let mut stream = stalled(&server).await;
    server.stop();
    assert!(body_of(&mut stream, LENGTH).await == content);
    assert_eq!(server.stopped().await, Drained { finished: true, aborted_connections: 0 });
}

#[tokio::test]
async fn a_file_that_is_cut_short_by_a_stop_ends_in_a_reset() {
    let content = content();
    let server = start(Limits { drain_timeout: SHORT, ..limits() }, ranges(&file(&content))).await;
    let mut stream = stalled(&server).await;
    assert_eq!(server.stopped().await, Drained { finished: false, aborted_connections: 1 });
    let mut got = Vec::new();
    let error = soon(stream.read_to_end(&mut got)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(got == content[..got.len()]);
}

#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_sent_ends_in_a_reset_and_not_in_zeros() {
    let content = content();
    let file = file(&content);
    let server = start(limits(), ranges(&file)).await;
    let mut plain = stalled(&server).await;
    let mut http2 = server.http2().await;
    let mut encoded = soon(http2.send_request(get2(&format!("/0/{LENGTH}")))).await.unwrap();
    // Whatever is on its way by now ends before this: the buffers of a connection do not hold so much.
    file.set_len(20 * 1024 * 1024).unwrap();
    let mut got = Vec::new();
    let error = soon(plain.read_to_end(&mut got)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(got.len() <= 20 * 1024 * 1024 && got == content[..got.len()]);
    let broken = soon(async {
        loop {
            match encoded.frame().await.unwrap() {
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    });
    broken.await;
    server.has_connections(1).await;
}

#[tokio::test]
async fn what_the_page_cache_does_not_have_is_brought_in() {
    // Nobody has written or read the hole, so that it is not cached.
    let file = tempfile().unwrap();
    file.write_all_at(&[7; 5000], (3 << 20) + 10).unwrap();
    file.set_len(5 << 20).unwrap();
    let mut content = vec![0; 5 << 20];
    content[(3 << 20) + 10..][..5000].fill(7);
    let server = start(limits(), ranges(&Arc::new(file))).await;
    let response = server.http1().await.send_request(get(&format!("/1/{}", (5 << 20) - 1))).await.unwrap();
    assert!(read(response).await.unwrap() == content[1..]);
    assert_eq!(sent_by_kernel(&server), (5 << 20) - 1);
}
