//! What a response carries: bytes, a range of a file, or a stream.

mod file;
mod lend;
mod read;
mod sent;
mod stream;

use std::fmt;
use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

use crate::BoxError;
use crate::regions::Regions;

pub(crate) use sent::Sent;

/// The body of a response.
///
/// One with a known length gives exactly that, or an error: never a clean end too early. Its `Content-Length` follows from the
/// length, so a handler need not set it (except for HEAD, whose answer has no body).
#[derive(Default)]
pub struct Body {
    kind: Kind,
    end: Option<End>,
}

/// What is to be told when a body ends, and what of it was handed out.
struct End {
    sent: u64,
    tell: Box<dyn FnOnce(u64, bool) + Send>,
}

/// How the bytes come. The connection can ask, to send a file without reading it.
enum Kind {
    Full(Bytes),
    File(file::FileBody),
    Stream(stream::StreamBody),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Full(Bytes::new())
    }
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Kind::Full(bytes.into()).into()
    }

    /// `length` bytes of `file`, from `offset`. The position of the file is neither used nor moved. A file that ends earlier
    /// makes the body end with an error of the kind `UnexpectedEof`.
    ///
    /// Must be read within a tokio runtime: what is not in the page cache is read by a blocking thread.
    #[must_use]
    pub fn file(file: Arc<File>, offset: u64, length: u64) -> Self {
        Kind::File(file::FileBody::new(file, offset, length)).into()
    }

    /// What `file` holds from `offset`, while it grows. `readable` tells up to which byte of the file what was written stays as it
    /// is and may be sent: again and again, a larger number each time. Its end is that of the body; before `length` bytes, if that
    /// is given, it makes the body end with an error, as one that it gives does.
    ///
    /// Must be read within a tokio runtime, as [`Body::file`].
    #[must_use]
    pub fn growing(
        file: Arc<File>,
        offset: u64,
        length: Option<u64>,
        readable: Pin<Box<dyn Stream<Item = Result<u64, BoxError>> + Send>>,
    ) -> Self {
        Kind::File(file::FileBody::growing(file, offset, length, Some(readable))).into()
    }

    /// What `stream` gives. With a `length`, a stream that gives less or more makes the body end with an error, and its last bytes
    /// are handed out only once the stream has ended cleanly: a source that finds out at its end that its bytes are wrong still
    /// keeps the client from taking them for whole.
    #[must_use]
    pub fn stream(stream: Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>, length: Option<u64>) -> Self {
        Kind::Stream(stream::StreamBody::new(stream, length)).into()
    }

    /// Calls `tell` once when the body is done with, however it ends: with the bytes that were handed to the connection, and
    /// whether they were all. Only the last one that is given counts.
    #[must_use]
    pub fn on_end(mut self, tell: impl FnOnce(u64, bool) + Send + 'static) -> Self {
        self.end = Some(End { sent: 0, tell: Box::new(tell) });
        self
    }
}

impl Body {
    /// For a connection that can send files itself.
    pub(crate) fn lend_to(&mut self, regions: &Arc<Regions>) {
        if let Kind::File(file) = &mut self.kind {
            file.lend_to(regions);
        }
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, end: None }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            (end.tell)(end.sent, http_body::Body::is_end_stream(self));
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = match &mut self.kind {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Kind::File(file) => file.poll_next(cx),
            Kind::Stream(stream) => stream.poll_next(cx),
        };
        if let (Poll::Ready(Some(Ok(bytes))), Some(end)) = (&next, &mut self.end) {
            end.sent += bytes.len() as u64;
        }
        next.map(|next| next.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::File(file) => file.remaining() == Some(0),
            Kind::Stream(stream) => stream.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match &self.kind {
            Kind::Full(bytes) => u64::try_from(bytes.len()).ok(),
            Kind::File(file) => file.remaining(),
            Kind::Stream(stream) => stream.remaining(),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, length) = match &self.kind {
            Kind::Full(bytes) => ("full", u64::try_from(bytes.len()).ok()),
            Kind::File(file) => ("file", file.remaining()),
            Kind::Stream(stream) => ("stream", stream.remaining()),
        };
        formatter.debug_struct("Body").field("kind", &kind).field("length", &length).finish_non_exhaustive()
    }
}
