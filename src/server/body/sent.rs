//! A body on its way out: counted, fair to other tasks, and watched.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::BoxError;
use crate::activity::{Activity, Ours, Running};
use crate::body::Body;
use crate::entry::Protocol;
use crate::regions::Regions;

/// After so many bytes the task lets others run. Waking itself at once would not do: the runtime then looks at its sockets only
/// after 61 further polls, and a small request waits for all of them.
const QUANTUM: usize = 1024 * 1024;

/// What hyper sends: a [`Body`] that belongs to a connection.
pub(crate) struct Sent {
    body: Body,
    protocol: Protocol,
    activity: Arc<Activity>,
    /// Bytes handed out since the last pause.
    quantum: usize,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Set while the body has nothing to give yet: the peer is not to blame.
    waiting: Option<Ours>,
    _running: Running,
}

impl Sent {
    /// `regions` are those of a connection that can send files itself.
    pub(crate) fn new(mut body: Body, protocol: Protocol, activity: &Arc<Activity>, regions: Option<&Arc<Regions>>) -> Self {
        if let Some(regions) = regions {
            body.lend_to(regions);
        }
        let running = activity.running();
        let activity = Arc::clone(activity);
        Self { body, protocol, activity, quantum: 0, pause: None, waiting: None, _running: running }
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.activity.metrics().sent(u64::try_from(length).unwrap_or(u64::MAX));
        self.activity.progress();
        self.quantum += length;
        if self.quantum >= QUANTUM {
            self.quantum = 0;
            self.pause = Some(Box::pin(tokio::task::yield_now()));
        }
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) else {
            if self.waiting.is_none() {
                self.waiting = Some(self.activity.ours());
            }
            return Poll::Pending;
        };
        self.waiting = None;
        match &next {
            Some(Ok(frame)) => self.count(frame),
            Some(Err(error)) => {
                tracing::warn!(error = &**error as &dyn std::error::Error, "a response is broken off");
                // An HTTP/2 stream is reset by hyper and its siblings go on; HTTP/1 has only the connection.
                if self.protocol == Protocol::Http1 {
                    self.activity.break_off();
                }
            }
            None => {}
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
