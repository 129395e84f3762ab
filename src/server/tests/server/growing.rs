//! Files that grow while they are sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use roadstead_server::{Body, BoxError, RequestBody};
use tempfile::tempfile;
use tokio::sync::watch;

use crate::harness::{Running, Tls, get, get2, http1_over, http2_over, limits, read, soon, start, start_with};

const LENGTH: usize = 5 * 1024 * 1024 + 321;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|index| u8::try_from(index % 251).unwrap() ^ u8::try_from(index >> 20).unwrap()).collect()
}

/// How far a file has grown, or why it does not go on.
#[derive(Clone, Copy)]
enum State {
    Written(usize),
    Done(usize),
    Failed,
}

/// A file that a test writes.
struct Growing {
    file: Arc<File>,
    state: watch::Sender<State>,
}

impl Growing {
    fn new() -> Self {
        Self { file: Arc::new(tempfile().unwrap()), state: watch::Sender::new(State::Written(0)) }
    }

    /// Writes up to `end`, and tells it.
    fn grow(&self, content: &[u8], end: usize) {
        let State::Written(start) = *self.state.borrow() else { unreachable!("it grows") };
        self.file.write_all_at(&content[start..end], start as u64).unwrap();
        self.state.send_replace(State::Written(end));
    }

    fn become_of_it(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Answers `/OFFSET/LENGTH`, or `/OFFSET/` where the length is not to be known.
    fn handler(&self) -> impl Fn(Request<RequestBody>) -> std::future::Ready<Response<Body>> + Clone + Unpin + Send + 'static {
        let (file, state) = (Arc::clone(&self.file), self.state.subscribe());
        move |request| {
            let mut numbers = request.uri().path().split('/').skip(1).map(|number| number.parse().ok());
            let (offset, length) = (numbers.next().unwrap().unwrap(), numbers.next().unwrap());
            std::future::ready(Response::new(Body::growing(Arc::clone(&file), offset, length, follow(state.clone()))))
        }
    }
}

type Readable = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<u64, BoxError>> + Send>>;

fn follow(state: watch::Receiver<State>) -> Readable {
    Box::pin(stream::try_unfold(Some((state, 0)), |follower| async move {
        let Some((mut state, known)) = follower else { return Ok(None) };
        let now = *state.wait_for(|now| !matches!(now, State::Written(end) if *end <= known)).await?;
        match now {
            State::Written(end) => Ok(Some((end as u64, Some((state, end))))),
            State::Done(end) => Ok(Some((end as u64, None))),
            State::Failed => Err(BoxError::from("wrong digest")),
        }
    }))
}

async fn servers(growing: &Growing, tls: &Tls) -> (Running, Running) {
    (start(limits(), growing.handler()).await, start_with(limits(), Some(tls.server()), growing.handler()).await)
}

#[tokio::test]
async fn readers_of_every_protocol_follow_a_file_to_its_end() {
    let content = content();
    let growing = Growing::new();
    let tls = Tls::new();
    let (plain, encrypted) = servers(&growing, &tls).await;
    let mut http1 = [plain.http1().await, http1_over(tls.connect(&encrypted, &["http/1.1"]).await).await];
    let mut http2 = [plain.http2().await, http2_over(tls.connect(&encrypted, &["h2"]).await).await];
    let (mut responses, whole) = (Vec::new(), format!("/0/{LENGTH}"));
    for path in [whole.as_str(), "/0/"] {
        for client in &mut http2 {
            responses.push(client.send_request(get2(path)).await.unwrap());
        }
    }
    for client in &mut http1 {
        responses.push(client.send_request(get(&whole)).await.unwrap());
    }
    responses.push(plain.http1().await.send_request(get("/0/")).await.unwrap());
    let readers = responses.into_iter().map(read);
    let writer = async {
        // Steps of all sizes: within a page, over its edges, and more than a slice.
        for end in [1, 100, 4096, 4097, 70_000, 1 << 20, (3 << 20) + 5, LENGTH - 1] {
            growing.grow(&content, end);
            tokio::task::yield_now().await;
        }
        growing.grow(&content, LENGTH);
        growing.become_of_it(State::Done(LENGTH));
    };
    let (read, ()) = soon(async { tokio::join!(join_all(readers), writer) }).await;
    for body in read {
        assert!(body.unwrap() == content);
    }
}

#[tokio::test]
async fn what_is_written_is_sent_at_once_and_what_is_not_told_is_held() {
    let content = content();
    let growing = Growing::new();
    let server = start(limits(), growing.handler()).await;
    let mut client = server.http1().await;
    let mut response = client.send_request(get(&format!("/0/{LENGTH}"))).await.unwrap();
    let mut got = 0;
    for end in [10, 100_000, LENGTH - 1] {
        growing.grow(&content, end);
        while got < end {
            let frame = soon(response.frame()).await.unwrap().unwrap().into_data().unwrap();
            assert!(frame == content[got..got + frame.len()]);
            got += frame.len();
        }
        assert_eq!(got, end);
    }
    growing.file.write_all_at(&content[LENGTH - 1..], LENGTH as u64 - 1).unwrap();
    growing.become_of_it(State::Done(LENGTH));
    assert!(soon(response.frame()).await.unwrap().unwrap().into_data().unwrap() == content[LENGTH - 1..]);
    let text = server.metrics.encode();
    assert!(text.contains(&format!("roadstead_http_sendfile_bytes_total {LENGTH}\n")), "{text}");
}

#[tokio::test]
async fn a_range_of_a_growing_file_ends_where_it_should() {
    let content = content();
    let growing = Growing::new();
    growing.grow(&content, LENGTH);
    let server = start(limits(), growing.handler()).await;
    for (offset, length) in [(0, 1), (5, 70_000), (4097, 2 << 20), (LENGTH - 1, 1)] {
        let response = server.http1().await.send_request(get(&format!("/{offset}/{length}"))).await.unwrap();
        assert!(read(response).await.unwrap() == content[offset..offset + length], "{length} from {offset}");
    }
}

/// Reads to the end, which must not be a clean one.
async fn breaks(response: http::Response<hyper::body::Incoming>) {
    assert!(read(response).await.is_err());
}

#[tokio::test]
async fn a_file_that_fails_or_stops_growing_breaks_the_answers() {
    let content = content();
    for (path, end) in [
        (format!("/0/{LENGTH}"), State::Failed),
        ("/0/".to_owned(), State::Failed),
        (format!("/0/{LENGTH}"), State::Done(LENGTH - 1)),
    ] {
        let growing = Growing::new();
        let tls = Tls::new();
        let (plain, encrypted) = servers(&growing, &tls).await;
        let mut first = plain.http1().await;
        let mut second = plain.http2().await;
        let mut third = http1_over(tls.connect(&encrypted, &["http/1.1"]).await).await;
        let responses = [
            first.send_request(get(&path)).await.unwrap(),
            second.send_request(get2(&path)).await.unwrap(),
            third.send_request(get(&path)).await.unwrap(),
        ];
        growing.grow(&content, LENGTH - 1);
        growing.become_of_it(end);
        join_all(responses.map(breaks)).await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_growing_file() {
    let content = content();
    let growing = Growing::new();
    growing.grow(&content, LENGTH);
    let server = start(limits(), growing.handler()).await;
    let mut client: hyper::client::conn::http1::SendRequest<Full<Bytes>> = server.http1().await;
    for _ in 0..3 {
        client.ready().await.unwrap();
        let response = client.send_request(get(&format!("/0/{LENGTH}"))).await.unwrap();
        assert!(read(response).await.unwrap() == content);
    }
}
