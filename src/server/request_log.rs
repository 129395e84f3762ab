//! The request log: every request has an id, one line when it has ended, and its place in the counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Response};
use telemetry::{Clock, Metrics};
use uuid::Uuid;

use crate::{Body, Peer};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What stands for the status where the client left before it could be given one, as other servers log it.
const CLIENT_LEFT: u16 = 499;

/// The longest path that is logged, in bytes.
const LONGEST_PATH: usize = 512;

/// What requests are called and where they are told of. A service has one among its parts, and shows it by `AsRef`, so that a
/// request is told of with nothing counted but the service itself.
#[derive(Debug)]
pub struct RequestLog {
    /// Of this log alone.
    prefix: u64,
    next: AtomicU64,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl RequestLog {
    /// A log that counts in `metrics`, by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let (prefix, next) = Uuid::new_v4().as_u64_pair();
        // Far from the end of the numbers.
        Self { prefix, next: AtomicU64::new(next >> 1), clock, metrics }
    }

    fn next(&self) -> RequestId {
        let number = u128::from(self.prefix) << 64 | u128::from(self.next.fetch_add(1, Ordering::Relaxed));
        let mut digits = [0; 32];
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[usize::try_from(number >> (124 - 4 * index) & 15).unwrap_or(0)];
        }
        RequestId(digits)
    }
}

/// What a request is called in its answer and in the log: 32 hexadecimal digits, never the same twice, also after a restart.
/// Every request has one, and hardly any needs more of it than a copy.
#[derive(Clone, Copy, Debug)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A request that is being answered. Dropped, it is told of: when the body of its answer has ended, or when its client has left
/// before there was an answer.
#[derive(Debug)]
pub struct Pending<S: AsRef<RequestLog>> {
    service: S,
    start: Duration,
    entry: Entry,
    /// Bytes of the body that were sent, and whether they were all.
    ended: Option<(u64, bool)>,
}

/// One line of the request log.
#[derive(Debug)]
struct Entry {
    request_id: RequestId,
    route: &'static str,
    method: Method,
    path: String,
    status: u16,
    peer: Option<Peer>,
    /// A copy: to hold the head itself would hold the connection's buffer.
    agent: Option<String>,
}

impl<S: AsRef<RequestLog> + Send + 'static> Pending<S> {
    /// A request that has just come, of no route yet.
    pub fn new(service: S, head: &http::request::Parts, peer: Option<Peer>) -> Self {
        let log = service.as_ref();
        let (start, request_id) = (log.clock.monotonic(), log.next());
        let entry = Entry {
            request_id,
            route: "none",
            method: head.method.clone(),
            path: cut(head.uri.path(), LONGEST_PATH).to_owned(),
            status: CLIENT_LEFT,
            peer,
            agent: head.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).map(str::to_owned),
        };
        Self { service, start, entry, ended: None }
    }

    /// The service that answers it.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// What it is called.
    pub fn id(&self) -> RequestId {
        self.entry.request_id
    }

    /// Its path, without the end of a very long one.
    pub fn path(&self) -> &str {
        &self.entry.path
    }

    /// Says what it is called in the log and the counters: one of a few names, whatever clients send.
    pub fn set_route(&mut self, route: &'static str) {
        self.entry.route = route;
    }

    /// The answer, with the request's id in `X-Request-Id`. The request is told of when its body has ended.
    pub fn answer(mut self, mut response: Response<Body>) -> Response<Body> {
        if let Ok(id) = HeaderValue::from_str(self.entry.request_id.as_str()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.entry.status = response.status().as_u16();
        response.map(|body| body.on_end(move |sent, complete| self.end(sent, complete)))
    }

    fn end(mut self, sent: u64, complete: bool) {
        // The body of an answer to HEAD is never asked for.
        self.ended = Some((sent, complete || self.entry.method == Method::HEAD));
    }
}

impl<S: AsRef<RequestLog>> Drop for Pending<S> {
    fn drop(&mut self) {
        let log = self.service.as_ref();
        let duration = log.clock.monotonic().saturating_sub(self.start);
        let (sent, complete) = self.ended.unwrap_or_default();
        self.entry.tell(&log.metrics, duration, sent, complete);
    }
}

impl Entry {
    fn tell(&self, metrics: &Metrics, duration: Duration, sent: u64, complete: bool) {
        metrics.request(self.route, self.method.as_str(), self.status, duration);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "roadstead::requests",
            request_id = self.request_id.as_str(),
            route = self.route,
            method = %self.method,
            path = self.path,
            status = self.status,
            duration_ms,
            size_bytes = sent,
            complete,
            peer = self.peer.as_ref().map(Peer::as_str),
            user_agent = self.agent,
            "request"
        );
    }
}

/// At most the first `length` bytes of a text.
fn cut(text: &str, length: usize) -> &str {
    text.get(..text.floor_char_boundary(length)).unwrap_or(text)
}
