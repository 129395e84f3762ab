//! The body of a request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::BoxError;
use crate::activity::{Activity, Running};
use crate::peer::Peer;

/// What a client sends. Reading it fails when the client is silent for [`crate::Limits::idle_timeout`] while someone reads; time
/// in which nobody reads does not count.
#[derive(Default)]
pub struct RequestBody {
    kind: Kind,
    peer: Option<Peer>,
    /// Where what is read is added up.
    counter: Option<Arc<AtomicU64>>,
}

/// Why a request's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The client sent nothing for this long.
    #[error("the client sent nothing for {0:?}")]
    Idle(Duration),
    /// The connection broke, or what came was not HTTP.
    #[error("the request body broke off")]
    Broken(#[source] BoxError),
}

enum Kind {
    Full(Bytes),
    Incoming(Box<Watched>),
}

struct Watched {
    incoming: Incoming,
    idle_timeout: Duration,
    /// Made when the client pauses for the first time, then reused.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    activity: Arc<Activity>,
    _running: Running,
}

impl Default for Kind {
    fn default() -> Self {
        Self::Full(Bytes::new())
    }
}

impl RequestBody {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    pub(crate) fn incoming(incoming: Incoming, idle_timeout: Duration, activity: &Arc<Activity>, peer: &Peer) -> Self {
        let peer = Some(peer.clone());
        if incoming.is_end_stream() {
            return Self { kind: Kind::default(), peer, counter: None };
        }
        let running = activity.running();
        let activity = Arc::clone(activity);
        let watched = Watched { incoming, idle_timeout, timer: None, waiting: false, activity, _running: running };
        Self { kind: Kind::Incoming(Box::new(watched)), peer, counter: None }
    }

    /// The same, whose bytes are added up there as they are read.
    #[must_use]
    pub fn counted(self, counter: Arc<AtomicU64>) -> Self {
        Self { counter: Some(counter), ..self }
    }

    /// Who sends it; nobody for one that did not come over a connection.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self { kind: Kind::Full(bytes), peer: None, counter: None }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Incoming(watched) => watched.poll_frame(cx),
        };
        if let (Poll::Ready(Some(Ok(frame))), Some(counter)) = (&polled, &self.counter) {
            let length = frame.data_ref().map_or(0, Bytes::len);
            counter.fetch_add(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Incoming(watched) => watched.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => u64::try_from(bytes.len()).map_or_else(|_| SizeHint::default(), SizeHint::with_exact),
            Kind::Incoming(watched) => watched.incoming.size_hint(),
        }
    }
}

impl Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(next) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.waiting = false;
            self.activity.progress();
            let next = next.map(|result| result.map_err(|error| BodyError::Broken(error.into())));
            if let Some(Ok(frame)) = &next {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.activity.metrics().received(u64::try_from(length).unwrap_or(u64::MAX));
            }
            return Poll::Ready(next);
        }
        let idle_timeout = self.idle_timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_timeout)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + idle_timeout);
        }
        timer.as_mut().poll(cx).map(|()| Some(Err(BodyError::Idle(idle_timeout))))
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RequestBody").field("size_hint", &self.size_hint()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_made_of_bytes_gives_them_once() {
        let body = RequestBody::from(Bytes::from_static(b"abc"));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert!(RequestBody::empty().is_end_stream());
    }
}
