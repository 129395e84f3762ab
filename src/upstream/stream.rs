//! Bodies that are exactly as long as they should be.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use oci::{ByteStream, Error};

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, outbound::Error>> + Send>>;

/// How a body relates to what was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// Bytes at its beginning that nobody asked for.
    pub(crate) skip: u64,
    /// Bytes that are wanted after those, if that is known.
    pub(crate) length: Option<u64>,
    /// More may follow and is left unread; otherwise more is an error.
    pub(crate) cut: bool,
}

struct State {
    chunks: Chunks,
    bounds: Bounds,
    passed: u64,
    host: String,
}

/// The wanted part of `chunks`. Too few or too many bytes are an error of the stream, so that it never ends cleanly on a torn
/// body whatever the HTTP stack thinks of it.
pub(crate) fn exact(
    chunks: impl Stream<Item = Result<Bytes, outbound::Error>> + Send + 'static,
    bounds: Bounds,
    host: &str,
) -> ByteStream {
    let state = State { chunks: Box::pin(chunks), bounds, passed: 0, host: host.to_owned() };
    Box::pin(stream::try_unfold(state, |mut state| async move {
        let chunk = state.next().await?;
        Ok(chunk.map(|chunk| (chunk, state)))
    }))
}

impl State {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let left = self.bounds.length.map(|length| length - self.passed);
            if self.bounds.cut && left == Some(0) {
                return Ok(None);
            }
            let Some(chunk) = self.chunks.next().await else {
                return self.end(left);
            };
            let mut chunk = chunk.map_err(|cause| self.failed(cause.to_string()))?;
            let skipped = usize::try_from(self.bounds.skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
            let _ = chunk.split_to(skipped);
            self.bounds.skip -= skipped as u64;
            if let Some(left) = left.filter(|left| chunk.len() as u64 > *left) {
                if !self.bounds.cut {
                    return Err(self.failed("the body is longer than announced".to_owned()));
                }
                chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            }
            if !chunk.is_empty() {
                self.passed += chunk.len() as u64;
                return Ok(Some(chunk));
            }
        }
    }

    fn end(&self, left: Option<u64>) -> Result<Option<Bytes>, Error> {
        match left {
            None | Some(0) if self.bounds.skip == 0 => Ok(None),
            _ => Err(self.failed(format!("the body ended after {} bytes and is shorter than announced", self.passed))),
        }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Upstream { upstream: self.host.clone(), reason }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use futures_util::TryStreamExt;

    use super::*;

    /// `None` for an error.
    fn read(chunks: &[&'static str], bounds: Bounds) -> Option<String> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        let whole = exact(stream::iter(chunks), bounds, "r.example").try_concat_bytes();
        let Poll::Ready(result) = pin!(whole).poll(&mut Context::from_waker(Waker::noop())) else {
            unreachable!("nothing here waits");
        };
        result.ok().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    trait ConcatBytes {
        async fn try_concat_bytes(self) -> Result<Vec<u8>, Error>;
    }

    impl ConcatBytes for ByteStream {
        async fn try_concat_bytes(self) -> Result<Vec<u8>, Error> {
            self.try_fold(Vec::new(), |mut whole, chunk| async move {
                whole.extend_from_slice(&chunk);
                Ok(whole)
            })
            .await
        }
    }

    #[test]
    fn a_body_of_the_right_length_passes() {
        let bounds = Bounds { length: Some(6), ..Bounds::default() };
        assert_eq!(read(&["abc", "", "def"], bounds).as_deref(), Some("abcdef"));
        assert_eq!(read(&["abc", "def"], Bounds::default()).as_deref(), Some("abcdef"));
        assert_eq!(read(&[], Bounds { length: Some(0), ..Bounds::default() }).as_deref(), Some(""));
    }

    #[test]
    fn a_short_or_long_body_is_an_error() {
        for length in [0, 1, 5, 7] {
            assert_eq!(read(&["abc", "def"], Bounds { length: Some(length), ..Bounds::default() }), None, "{length}");
        }
        assert_eq!(read(&["abc"], Bounds { skip: 4, ..Bounds::default() }), None);
    }

    #[test]
    fn what_was_not_asked_for_is_left_out() {
        for skip in 0..=6 {
            for length in 0..=(6 - skip) {
                let (start, end) = (usize::try_from(skip).unwrap(), usize::try_from(skip + length).unwrap());
                let bounds = Bounds { skip, length: Some(length), cut: true };
                assert_eq!(read(&["ab", "cde", "f"], bounds).as_deref(), Some(&"abcdef"[start..end]), "{bounds:?}");
            }
        }
    }
}
