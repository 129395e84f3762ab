//! Writing: memory by copying it, parts of files by telling the kernel which.

use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use telemetry::Metrics;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

use crate::regions::{Place, Regions};

/// What is copied at a time where the kernel cannot send a file itself.
const COPY: usize = 64 * 1024;

/// A connection that knows slices of files when it sees them.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    regions: Arc<Regions>,
    metrics: Metrics,
    /// Made for the first file that the kernel cannot send.
    scratch: Option<Vec<u8>>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, regions: Arc<Regions>, metrics: Metrics) -> Self {
        Self { stream, regions, metrics, scratch: None }
    }

    /// Writes something of the slices. A part of a file that is not there any more is an error of the kind `UnexpectedEof`.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.regions.before_first(slices) {
            memory if memory == slices.len() => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
            0 => match self.regions.find(&slices[0]) {
                Some(place) => self.poll_send_file(cx, &place, slices[0].len()),
                None => Poll::Ready(Err(io::Error::other("a file was taken from its connection"))),
            },
            // The file follows at once: its first bytes go into the same segment.
            memory => self.poll_send_more(cx, &slices[..memory]),
        }
    }

    fn poll_send_more(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        poll_when_writable(&self.stream, cx, || Ok(sendmsg(&self.stream, slices, &mut SendAncillaryBuffer::default(), flags)?))
    }

    fn poll_send_file(&mut self, cx: &mut Context<'_>, place: &Place, length: usize) -> Poll<io::Result<usize>> {
        if self.scratch.is_some() {
            return self.poll_copy(cx, place, length);
        }
        let sent = ready!(poll_when_writable(&self.stream, cx, || {
            Ok(sendfile(&self.stream, &place.file, Some(&mut place.offset.clone()), length)?)
        }));
        match sent {
            Ok(0) => Poll::Ready(Err(cut_off())),
            Ok(sent) => {
                self.metrics.sent_by_kernel(sent as u64);
                Poll::Ready(Ok(sent))
            }
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => {
                tracing::debug!(%error, "the kernel cannot send this file itself; it is copied");
                self.poll_copy(cx, place, length)
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Copies, for file systems of which nothing can be sent otherwise.
    fn poll_copy(&mut self, cx: &mut Context<'_>, place: &Place, length: usize) -> Poll<io::Result<usize>> {
        let scratch = self.scratch.get_or_insert_with(|| vec![0; COPY]);
        let wanted = length.min(COPY);
        poll_when_writable(&self.stream, cx, || match place.file.read_at(&mut scratch[..wanted], place.offset)? {
            0 => Err(cut_off()),
            read => Ok(send(&self.stream, &scratch[..read], SendFlags::NOSIGNAL)?),
        })
    }
}

/// Writes as soon as the peer takes something.
fn poll_when_writable(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, &mut write) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            result => return Poll::Ready(result),
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a file that is being sent was cut off")
}
