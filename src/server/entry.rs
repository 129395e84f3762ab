//! The first bytes of a connection and of each request: which protocol they are, and how long they may take.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::activity::Activity;

/// What an HTTP/2 client that knows its server sends first. [RFC 9113, 3.4]
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that were read to look at them and must be read again.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    bytes: [u8; PREFACE.len()],
    start: usize,
    end: usize,
}

/// The protocol that the first bytes speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Reads until it is clear whether the peer sends the preface of HTTP/2. `None` if it closed without a byte.
///
/// Has no time limit of its own; must not be polled again once dropped, because what it read is gone.
pub(crate) async fn sniff<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<Option<(Protocol, Prefix)>> {
    let mut prefix = Prefix::default();
    loop {
        let read = io.read(&mut prefix.bytes[prefix.end..]).await?;
        prefix.end += read;
        if prefix.end == 0 {
            return Ok(None);
        }
        // A peer that closes within the preface gets what HTTP/1 has to say about it.
        if read == 0 || prefix.bytes[..prefix.end] != PREFACE[..prefix.end] {
            return Ok(Some((Protocol::Http1, prefix)));
        }
        if prefix.end == PREFACE.len() {
            return Ok(Some((Protocol::Http2, prefix)));
        }
    }
}

/// Replays a [`Prefix`], then reads on; and cuts a peer that does not finish the head of a request, or does not begin one.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    io: T,
    prefix: Prefix,
    heads: Option<Heads>,
}

/// The time limits on heads, for HTTP/1: there, what arrives while no request is running belongs to a head.
#[derive(Debug)]
pub(crate) struct Heads {
    activity: Arc<Activity>,
    timeout: Duration,
    keep_alive: Duration,
    /// How many requests had begun when `awaited` was set.
    begun: usize,
    /// What is waited for, and until when; nothing while a request is running.
    awaited: Option<(Instant, Awaited)>,
    /// Never later than the end of what is awaited, but perhaps earlier: to set it anew for every request would cost more than to
    /// look at the clock when it rings.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    FirstByte,
    WholeHead,
}

impl Heads {
    /// The first head ends before `first`, later ones begin within `keep_alive` and end within `timeout` from their first byte.
    pub(crate) fn new(activity: Arc<Activity>, first: Instant, timeout: Duration, keep_alive: Duration) -> Self {
        let awaited = Some((first, Awaited::WholeHead));
        Self { begun: activity.begun(), activity, timeout, keep_alive, awaited, timer: None }
    }

    fn arrived(&mut self) {
        self.forget_complete();
        if !self.activity.is_running() && !matches!(self.awaited, Some((_, Awaited::WholeHead))) {
            self.awaited = Some((Instant::now() + self.timeout, Awaited::WholeHead));
        }
    }

    /// What did not come in time, once that is so.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Awaited> {
        self.forget_complete();
        if self.activity.is_running() {
            return Poll::Pending;
        }
        let keep_alive = self.keep_alive;
        let (deadline, awaited) = *self.awaited.get_or_insert_with(|| (Instant::now() + keep_alive, Awaited::FirstByte));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(awaited);
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn forget_complete(&mut self) {
        let begun = self.activity.begun();
        if begun != self.begun {
            self.begun = begun;
            self.awaited = None;
        }
    }
}

impl<T> Entry<T> {
    pub(crate) fn new(io: T, prefix: Prefix, heads: Option<Heads>) -> Self {
        Self { io, prefix, heads }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Entry<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.prefix.start < this.prefix.end {
            let rest = &this.prefix.bytes[this.prefix.start..this.prefix.end];
            let taken = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..taken]);
            this.prefix.start += taken;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.io).poll_read(cx, buffer);
        let Some(heads) = &mut this.heads else { return poll };
        match &poll {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => heads.arrived(),
            Poll::Pending => {
                let message = match ready!(heads.poll_late(cx)) {
                    Awaited::WholeHead => format!("the head of the request was not complete within {:?}", heads.timeout),
                    Awaited::FirstByte => format!("no further request within {:?}", heads.keep_alive),
                };
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
            Poll::Ready(_) => {}
        }
        poll
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Entry<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn sniffed(pieces: &[&[u8]]) -> Option<(Protocol, Vec<u8>)> {
        let mut io = tokio_test_io(pieces);
        let (protocol, prefix) = sniff(&mut io).await.unwrap()?;
        let mut all = Vec::new();
        Entry::new(io, prefix, None).read_to_end(&mut all).await.unwrap();
        Some((protocol, all))
    }

    /// A reader that gives one piece per read.
    fn tokio_test_io(pieces: &[&[u8]]) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let (mut near, far) = tokio::io::duplex(64);
        tokio::spawn(async move {
            for piece in pieces {
                near.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        far
    }

    #[tokio::test]
    async fn a_preface_in_pieces_is_http2_and_is_read_again() {
        let (protocol, all) = sniffed(&[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r", b"\nrest"]).await.unwrap();
        assert_eq!(protocol, Protocol::Http2);
        assert_eq!(all, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest");
    }

    #[tokio::test]
    async fn a_method_that_begins_as_the_preface_does_is_http1() {
        let (protocol, all) = sniffed(&[b"P", b"UT / HTTP/1.1\r\n\r\n"]).await.unwrap();
        assert_eq!(protocol, Protocol::Http1);
        assert_eq!(all, b"PUT / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_request_shorter_than_the_preface_is_not_waited_for() {
        let (protocol, all) = sniffed(&[b"G"]).await.unwrap();
        assert_eq!((protocol, all.as_slice()), (Protocol::Http1, b"G".as_slice()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_go_on_is_late_but_not_before_its_time() {
        let activity = Activity::new(telemetry::Metrics::new());
        let (first, timeout, keep_alive) =
            (Instant::now() + Duration::from_secs(5), Duration::from_secs(7), Duration::from_mins(1));
        let heads = Heads::new(Arc::clone(&activity), first, timeout, keep_alive);
        let (mut near, far) = tokio::io::duplex(64);
        let mut entry = Entry::new(far, Prefix::default(), Some(heads));
        let mut byte = [0; 1];
        // Two requests, one after the other; the first takes longer than a head may.
        for _ in 0..2 {
            near.write_all(b"G").await.unwrap();
            entry.read_exact(&mut byte).await.unwrap();
            let running = activity.begin(false);
            assert!(tokio::time::timeout(Duration::from_secs(20), entry.read(&mut byte)).await.is_err());
            drop(running);
        }
        // Then nothing: the connection may be silent for as long as between any two requests.
        let silent = Instant::now();
        let late = entry.read(&mut byte).await.unwrap_err();
        assert!(late.to_string().contains("no further request"), "{late}");
        assert_eq!(silent.elapsed().as_secs(), 60);
        // A head that begins is cut earlier.
        let (mut near, far) = tokio::io::duplex(64);
        let heads = Heads::new(Arc::clone(&activity), first, timeout, keep_alive);
        let mut entry = Entry::new(far, Prefix::default(), Some(heads));
        drop(activity.begin(false));
        near.write_all(b"G").await.unwrap();
        entry.read_exact(&mut byte).await.unwrap();
        let begun = Instant::now();
        let late = entry.read(&mut byte).await.unwrap_err();
        assert!(late.to_string().contains("was not complete"), "{late}");
        assert_eq!(begun.elapsed().as_secs(), 7);
    }

    #[tokio::test]
    async fn a_connection_without_a_byte_is_nothing() {
        assert!(sniffed(&[]).await.is_none());
    }
}
