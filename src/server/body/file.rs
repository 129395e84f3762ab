//! A range of a file, or as much of it as there is while it grows.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

use crate::BoxError;
use crate::body::lend::Lender;
use crate::body::read::Reader;
use crate::regions::Regions;

/// Tells up to which byte of a file bytes may be sent; each item replaces the one before.
pub(crate) type Growth = Pin<Box<dyn Stream<Item = Result<u64, BoxError>> + Send>>;

pub(super) struct FileBody {
    file: Arc<File>,
    offset: u64,
    /// Where the body ends, if that is known.
    end: Option<u64>,
    /// Up to here bytes may be sent.
    readable: u64,
    /// How that goes on.
    growth: Option<Growth>,
    /// Set while it is to be tried whether the connection can send the file itself.
    regions: Option<Arc<Regions>>,
    lender: Option<Lender>,
    reader: Reader,
}

impl FileBody {
    pub(super) fn new(file: Arc<File>, offset: u64, length: u64) -> Self {
        let end = offset.saturating_add(length);
        Self { readable: end, ..Self::growing(file, offset, Some(length), None) }
    }

    pub(super) fn growing(file: Arc<File>, offset: u64, length: Option<u64>, growth: Option<Growth>) -> Self {
        let end = length.map(|length| offset.saturating_add(length));
        Self { file, offset, end, readable: offset, growth, regions: None, lender: None, reader: Reader::new() }
    }

    /// For a connection that can send files itself.
    pub(super) fn lend_to(&mut self, regions: &Arc<Regions>) {
        self.regions = Some(Arc::clone(regions));
    }

    pub(super) fn remaining(&self) -> Option<u64> {
        match self.end {
            Some(end) => Some(end.saturating_sub(self.offset)),
            None => (self.growth.is_none() && self.offset >= self.readable).then_some(0),
        }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if self.remaining() == Some(0) {
            return Poll::Ready(None);
        }
        let available = match ready!(self.poll_available(cx)) {
            Ok(0) => return Poll::Ready(None),
            Ok(available) => available,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let bytes = ready!(self.poll_bytes(cx, available));
        Poll::Ready(Some(bytes.map_err(BoxError::from).inspect(|bytes| self.offset += bytes.len() as u64)))
    }

    /// How many bytes may be sent, once there are any; 0 at the end of a body whose length was not known.
    fn poll_available(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, BoxError>> {
        while self.readable <= self.offset
            && let Some(growth) = &mut self.growth
        {
            match ready!(growth.as_mut().poll_next(cx)) {
                Some(Ok(readable)) => self.readable = self.end.map_or(readable, |end| readable.min(end)),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => self.growth = None,
            }
        }
        let available = self.readable.saturating_sub(self.offset);
        match self.remaining() {
            Some(missing @ 1..) if available == 0 => {
                let message = format!("the file stops growing {missing} bytes too early");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message).into()))
            }
            _ => Poll::Ready(Ok(available)),
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, available: u64) -> Poll<io::Result<Bytes>> {
        if let Some(regions) = self.regions.take() {
            self.lender = self.lender(&regions);
        }
        if let Some(lender) = &mut self.lender {
            match ready!(lender.poll_slice(cx, &self.file, self.offset, available)) {
                Some(bytes) => return Poll::Ready(bytes),
                None => self.lender = None,
            }
        }
        self.reader.poll_read(cx, &self.file, self.offset, available, self.remaining())
    }

    /// A file that is too short is better read: that gives its bytes, and then says what is wrong.
    fn lender(&self, regions: &Arc<Regions>) -> Option<Lender> {
        let end = self.end?;
        let whole = self.growth.is_none();
        let will_be = !whole || self.file.metadata().is_ok_and(|metadata| metadata.len() >= end);
        will_be.then(|| Lender::new(regions, &self.file, self.offset..end, whole)).flatten()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::FileExt;

    use futures_util::stream;
    use http_body_util::BodyExt;
    use tempfile::tempfile;

    use super::*;
    use crate::Body;
    use crate::body::read::CHUNK;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
    }

    fn file_of(bytes: &[u8]) -> Arc<File> {
        let file = tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Arc::new(file)
    }

    async fn read(body: Body) -> Result<Bytes, BoxError> {
        Ok(body.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn every_range_of_a_file_has_its_bytes() {
        let all = content(12 * CHUNK + 17);
        let file = file_of(&all);
        let ranges =
            [(0, all.len()), (0, 0), (all.len(), 0), (1, 1), (0, CHUNK), (CHUNK - 1, 2), (5, 8 * CHUNK), (all.len() - 1, 1)];
        for (offset, length) in ranges {
            let got = read(Body::file(Arc::clone(&file), offset as u64, length as u64)).await.unwrap();
            assert_eq!(got, all[offset..offset + length], "{length} from {offset}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error_and_no_end() {
        let file = file_of(&content(CHUNK + 1));
        for length in [CHUNK + 2, 3 * CHUNK] {
            let error = read(Body::file(Arc::clone(&file), 0, length as u64)).await.unwrap_err();
            assert_eq!(error.downcast::<io::Error>().unwrap().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    fn growing(file: &Arc<File>, length: Option<u64>, steps: &[u64]) -> Body {
        let steps: Vec<_> = steps.iter().map(|step| Ok(*step)).collect();
        Body::growing(Arc::clone(file), 2, length, Box::pin(stream::iter(steps)))
    }

    #[tokio::test]
    async fn a_growing_file_gives_what_is_told_and_no_more() {
        let all = content(100);
        let file = file_of(&all);
        assert_eq!(read(growing(&file, Some(48), &[1, 10, 10, 50])).await.unwrap(), all[2..50]);
        assert_eq!(read(growing(&file, Some(48), &[90])).await.unwrap(), all[2..50]);
        assert_eq!(read(growing(&file, None, &[0, 10, 50])).await.unwrap(), all[2..50]);
        assert_eq!(read(growing(&file, None, &[])).await.unwrap(), "");
        assert_eq!(read(growing(&file, Some(0), &[])).await.unwrap(), "");
        let error = read(growing(&file, Some(48), &[49])).await.unwrap_err();
        assert!(error.to_string().contains("1 bytes too early"), "{error}");
    }

    #[test]
    fn the_length_of_a_growing_file_is_known_only_if_it_was_given() {
        use http_body::Body as _;

        let file = file_of(b"abc");
        assert_eq!(growing(&file, Some(1), &[]).size_hint().exact(), Some(1));
        assert_eq!(growing(&file, None, &[]).size_hint().exact(), None);
        assert!(!growing(&file, None, &[]).is_end_stream());
    }
}
