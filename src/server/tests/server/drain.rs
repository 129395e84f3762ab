//! Stopping.

use std::future::Ready;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use roadstead_server::{Body, BoxError, Drained, Limits, RequestBody};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::harness::{PATIENCE, SHORT, Tls, get, get2, limits, read, soon, start, start_with, until_closed};

const ALL: Drained = Drained { finished: true, aborted_connections: 0 };

/// Gives the second half of an answer.
type Rest = mpsc::Sender<Bytes>;

/// A response of eight bytes whose second half comes when its test says so.
fn in_two_halves() -> (Rest, Response<Body>) {
    let (rest, receiver) = mpsc::channel::<Bytes>(1);
    let first = stream::iter([Ok::<_, BoxError>(Bytes::from_static(b"half"))]);
    let second = stream::unfold(receiver, |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) });
    (rest, Response::new(Body::stream(Box::pin(first.chain(second)), Some(8))))
}

/// Answers every request with [`in_two_halves`] and passes on what gives the second.
fn halves(rests: mpsc::UnboundedSender<Rest>) -> impl Fn(Request<RequestBody>) -> Ready<Response<Body>> + Clone + Unpin + Send {
    move |_request| {
        let (rest, response) = in_two_halves();
        rests.send(rest).unwrap();
        std::future::ready(response)
    }
}

#[tokio::test]
async fn running_transfers_finish_and_new_connections_are_refused() {
    let (sender, mut rests) = mpsc::unbounded_channel();
    let mut server = start(limits(), halves(sender)).await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let mut responses = vec![http1.send_request(get("/")).await.unwrap(), http2.send_request(get2("/")).await.unwrap()];
    for response in &mut responses {
        assert_eq!(soon(response.frame()).await.unwrap().unwrap().into_data().unwrap(), "half");
    }
    server.stop();
    soon(async {
        while TcpStream::connect(server.addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for _ in 0..2 {
        rests.recv().await.unwrap().send(Bytes::from_static(b"done")).await.unwrap();
    }
    for response in responses {
        assert_eq!(read(response).await.unwrap(), "done");
    }
    assert_eq!(server.stopped().await, ALL);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_and_no_client_takes_it_for_whole() {
    let (sender, mut rests) = mpsc::unbounded_channel();
    let server = start(Limits { drain_timeout: SHORT, ..limits() }, halves(sender)).await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let first = http1.send_request(get("/")).await.unwrap();
    let second = http2.send_request(get2("/")).await.unwrap();
    let _rests = (rests.recv().await.unwrap(), rests.recv().await.unwrap());
    assert_eq!(server.stopped().await, Drained { finished: false, aborted_connections: 2 });
    assert!(read(first).await.is_err());
    assert!(read(second).await.is_err());
}

#[tokio::test]
async fn connections_without_a_request_do_not_hold_the_server_up() {
    let empty = |_request| async { Response::new(Body::empty()) };
    let tls = Tls::new();
    let encrypted = start_with(limits(), Some(tls.server()), empty).await;
    let plain = start(limits(), empty).await;
    let mut half_a_head = plain.connect().await;
    half_a_head.write_all(b"GET / HT").await.unwrap();
    let mut idle = (plain.connect().await, plain.http1().await, plain.http2().await, encrypted.connect().await);
    let mut shaken_hands = tls.connect(&encrypted, &["http/1.1"]).await;
    soon(idle.1.send_request(get("/"))).await.unwrap();
    soon(idle.2.send_request(get2("/"))).await.unwrap();
    plain.has_connections(4).await;
    encrypted.has_connections(2).await;
    let start = Instant::now();
    assert_eq!(plain.stopped().await, ALL);
    assert_eq!(encrypted.stopped().await, ALL);
    assert!(start.elapsed() < PATIENCE);
    assert!(until_closed(&mut idle.0).await.is_empty());
    assert!(until_closed(&mut half_a_head).await.is_empty());
    until_closed(&mut shaken_hands).await;
}
