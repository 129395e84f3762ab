//! The socket itself: counted, cut when the peer takes nothing, reset when the response is broken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use telemetry::Metrics;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;

/// The lowest layer, below TLS, so that what it sees is what the peer really took.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    activity: Arc<Activity>,
    abort: CancellationToken,
    metrics: Metrics,
    idle_timeout: Duration,
    /// Made when the peer stalls for the first time, then reused.
    timer: Option<Pin<Box<Sleep>>>,
    stalled: bool,
}

impl Socket {
    /// Once `abort` is cancelled the connection is reset when it is dropped.
    pub(crate) fn new(
        stream: TcpStream,
        activity: Arc<Activity>,
        abort: CancellationToken,
        metrics: Metrics,
        idle_timeout: Duration,
    ) -> Self {
        metrics.connection_opened();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        Self { stream, activity, abort, metrics, idle_timeout, timer: None, stalled: false }
    }

    /// Turns a write that waits too long into an error. The timer runs only while a write waits.
    fn guard<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = false;
            return poll;
        }
        let idle_timeout = self.idle_timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_timeout)));
        if !self.stalled {
            self.stalled = true;
            timer.as_mut().reset(Instant::now() + idle_timeout);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.activity.break_off();
        let message = format!("the peer took no bytes for {idle_timeout:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.guard(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.guard(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A plain close ends the stream as if it were whole; HTTP/1.0 has no other mark of the end. A reset does not.
        if self.activity.is_broken() || self.abort.is_cancelled() {
            let _ = self.stream.set_zero_linger();
        }
        self.metrics.connection_closed();
    }
}
