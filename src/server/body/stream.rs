//! A stream that keeps its promise of a length.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

use crate::BoxError;

pub(super) struct StreamBody {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>,
    /// Bytes that the stream still owes, if it promised any number.
    owed: Option<u64>,
    /// The chunk that completes the length, held until the stream ends.
    last: Option<Bytes>,
    ended: bool,
}

/// The stream did not keep its promise.
#[derive(Debug, thiserror::Error)]
enum Length {
    #[error("the stream ended {missing} bytes too early")]
    Short { missing: u64 },
    #[error("the stream gave more bytes than it promised")]
    Long,
}

impl StreamBody {
    pub(super) fn new(stream: Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>, length: Option<u64>) -> Self {
        Self { stream, owed: length, last: None, ended: false }
    }

    pub(super) fn remaining(&self) -> Option<u64> {
        if self.ended {
            return Some(0);
        }
        let held = self.last.as_ref().map_or(0, Bytes::len);
        Some(self.owed? + u64::try_from(held).ok()?)
    }

    pub(super) fn is_end(&self) -> bool {
        self.remaining() == Some(0)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        while !self.ended {
            let chunk = match ready!(self.stream.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return self.fail(error),
                None => {
                    if let Some(missing @ 1..) = self.owed {
                        return self.fail(Length::Short { missing }.into());
                    }
                    self.ended = true;
                    break;
                }
            };
            if chunk.is_empty() {
                continue;
            }
            let Some(owed) = self.owed else { return Poll::Ready(Some(Ok(chunk))) };
            match u64::try_from(chunk.len()).ok().and_then(|length| owed.checked_sub(length)) {
                None => return self.fail(Length::Long.into()),
                Some(0) => {
                    self.owed = Some(0);
                    self.last = Some(chunk);
                }
                left => {
                    self.owed = left;
                    return Poll::Ready(Some(Ok(chunk)));
                }
            }
        }
        Poll::Ready(self.last.take().map(Ok))
    }

    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Bytes, BoxError>>> {
        self.ended = true;
        self.last = None;
        Poll::Ready(Some(Err(error)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use futures_util::stream;
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;
    use crate::Body;

    fn body(chunks: &[&'static str], length: Option<u64>) -> Body {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        Body::stream(Box::pin(stream::iter(chunks)), length)
    }

    async fn read(body: Body) -> Result<Bytes, BoxError> {
        Ok(body.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn a_stream_that_keeps_its_promise_ends_cleanly() {
        assert_eq!(read(body(&["ab", "", "c"], Some(3))).await.unwrap(), "abc");
        assert_eq!(read(body(&["ab", "c"], None)).await.unwrap(), "abc");
        assert_eq!(read(body(&[], Some(0))).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_stream_that_gives_less_or_more_ends_with_an_error() {
        assert!(read(body(&["ab"], Some(3))).await.unwrap_err().to_string().contains("1 bytes too early"));
        assert!(read(body(&["ab", "cd"], Some(3))).await.unwrap_err().to_string().contains("more bytes"));
        assert!(read(body(&["abc", "d"], Some(3))).await.unwrap_err().to_string().contains("more bytes"));
    }

    #[tokio::test]
    async fn an_error_after_the_last_bytes_keeps_them_back() {
        let chunks = vec![Ok(Bytes::from_static(b"ab")), Ok(Bytes::from_static(b"c")), Err(BoxError::from("wrong digest"))];
        let mut body = Body::stream(Box::pin(stream::iter(chunks)), Some(3));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert_eq!(body.size_hint().exact(), Some(1));
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "wrong digest");
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn the_length_is_known_only_if_it_was_given() {
        assert_eq!(body(&["ab"], Some(2)).size_hint().exact(), Some(2));
        assert_eq!(body(&["ab"], None).size_hint().exact(), None);
        assert!(body(&[], Some(0)).is_end_stream());
        assert!(!body(&[], None).is_end_stream());
    }
}
