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
use crate::again::Yields;
use crate::regions::Regions;
use crate::wire::Wire;

/// What is shorter than this is sent after the other tasks that are ready now have had their turn. Under load the answers to many
/// requests then leave one after the other, and peers that wait for them are woken once and not for each of them.
const SHORT: usize = 16 * 1024;

/// The lowest layer, below TLS, so that what it sees is what the peer really took.
pub(crate) struct Socket {
    wire: Wire,
    watch: Watch,
    idle_timeout: Duration,
    /// Made when the peer stalls for the first time, then reused.
    timer: Option<Pin<Box<Sleep>>>,
    stalled: bool,
    /// How many requests without a body there were when something was put off the last time. Once for each is enough; and where hyper
    /// closes the connection after its answer (of a body that was not read, of what it cannot read) it does not write twice.
    put_off: usize,
}

/// What a socket tells, and is told.
pub(crate) struct Watch {
    pub(crate) activity: Arc<Activity>,
    pub(crate) yields: Yields,
    /// Small answers are put off. Where they are encrypted they wait in the layer above, which does not ask again by itself.
    pub(crate) puts_off: bool,
    /// Once it is cancelled the connection is reset when it is dropped.
    pub(crate) abort: CancellationToken,
    pub(crate) metrics: Metrics,
}

impl Socket {
    /// Slices of the files in `regions` are sent by the kernel.
    pub(crate) fn new(stream: TcpStream, watch: Watch, regions: Arc<Regions>, idle_timeout: Duration) -> Self {
        watch.metrics.connection_opened();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let wire = Wire::new(stream, regions, watch.metrics.clone());
        Self { wire, watch, idle_timeout, timer: None, stalled: false, put_off: 0 }
    }

    /// Turns a write that waits too long into an error. The timer runs only while a write waits.
    fn guard<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(result) = poll {
            self.stalled = false;
            // The peer was promised more than there is.
            if let Err(error) = &result
                && error.kind() == io::ErrorKind::UnexpectedEof
            {
                tracing::warn!(error = error as &dyn std::error::Error, "a response is broken off");
                self.watch.activity.break_off();
            }
            return Poll::Ready(result);
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
        self.watch.activity.break_off();
        let message = format!("the peer took no bytes for {idle_timeout:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bodiless = self.watch.activity.bodiless();
        if self.watch.puts_off && bodiless != self.put_off && slices.iter().map(|slice| slice.len()).sum::<usize>() <= SHORT {
            self.put_off = bodiless;
            self.watch.yields.put_off(cx);
            return Poll::Pending;
        }
        let poll = self.wire.poll_write(cx, slices);
        self.guard(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.stream).poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A plain close ends the stream as if it were whole; HTTP/1.0 has no other mark of the end. A reset does not.
        if self.watch.activity.is_broken() || self.watch.abort.is_cancelled() {
            let _ = self.wire.stream.set_zero_linger();
        }
        self.watch.metrics.connection_closed();
    }
}
