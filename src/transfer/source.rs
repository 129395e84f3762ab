//! Where content comes from, and every form of a blob as bytes that can be opened anywhere.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci::{Blob, ByteStream, Content, Discover, Error, GrowingFile, Pull, RangeSource};

/// So much is read of a file at once.
const PIECE: u64 = 256 * 1024;

/// What can be copied from: whatever can be pulled from and listed.
pub trait Source: Pull + Discover {}

impl<T: Pull + Discover + ?Sized> Source for T {}

/// The bytes of a blob, however it can be sent.
pub(crate) fn range_source(blob: Blob) -> Result<Arc<dyn RangeSource>, Error> {
    Ok(match blob.content {
        Content::Source(source) => source,
        Content::Bytes(bytes) => Arc::new(Whole(bytes)),
        Content::Growing(file) => Arc::new(Growing { file, size: blob.size }),
        Content::File(file) => {
            let length = match blob.size {
                Some(size) => size,
                None => file.metadata().map_err(|cause| Error::internal("looking at a blob's file", cause))?.len(),
            };
            Arc::new(Section { file, start: 0, length })
        }
    })
}

/// A part of a file that is a blob.
pub(crate) struct Section {
    pub(crate) file: Arc<File>,
    /// Where it begins in the file.
    pub(crate) start: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
}

#[async_trait]
impl RangeSource for Section {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        let end = end.unwrap_or(self.length).min(self.length);
        Ok(pieces(Arc::clone(&self.file), self.start + start.min(end), self.start + end))
    }
}

/// The bytes `at..end` of a file.
fn pieces(file: Arc<File>, at: u64, end: u64) -> ByteStream {
    Box::pin(stream::try_unfold((file, at), move |(file, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let bytes = read(&file, at, PIECE.min(end - at)).await?;
        let next = at + bytes.len() as u64;
        Ok(Some((bytes, (file, next))))
    }))
}

async fn read(file: &Arc<File>, at: u64, length: u64) -> Result<Bytes, Error> {
    let file = Arc::clone(file);
    let length = usize::try_from(length).map_err(|cause| Error::internal("reading a blob's file", cause))?;
    let reading = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, at).map(|()| Bytes::from(buffer))
    });
    let read = reading.await.map_err(|cause| Error::internal("reading a blob's file", cause))?;
    read.map_err(|cause| Error::internal("reading a blob's file", cause))
}

/// A blob in memory.
struct Whole(Bytes);

#[async_trait]
impl RangeSource for Whole {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let end = end.map_or(self.0.len(), bound);
        let bytes = self.0.slice(bound(start).min(end)..end);
        Ok(Box::pin(stream::iter((!bytes.is_empty()).then_some(Ok(bytes)))))
    }
}

/// A blob that the server itself is still fetching.
struct Growing {
    file: Arc<dyn GrowingFile>,
    size: Option<u64>,
}

#[async_trait]
impl RangeSource for Growing {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        let end = end.filter(|end| Some(*end) != self.size);
        let file = self.file.file();
        // Each step says how far the file can be read; the piece before it was read in the step before.
        let steps = self.file.readable(end).scan(start, move |known, step| {
            let from = *known;
            let part = step.map(|readable| {
                *known = readable.max(from);
                pieces(Arc::clone(&file), from, *known)
            });
            std::future::ready(Some(part))
        });
        Ok(Box::pin(steps.try_flatten()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use oci::{Algorithm, Hasher, Readable};

    use super::*;

    async fn read_all(source: &Arc<dyn RangeSource>, start: u64, end: Option<u64>) -> Vec<u8> {
        let pieces: Vec<Bytes> = source.open(start, end).await.unwrap().try_collect().await.unwrap();
        pieces.concat()
    }

    struct Steps(Arc<File>, Vec<u64>);

    impl GrowingFile for Steps {
        fn file(&self) -> Arc<File> {
            Arc::clone(&self.0)
        }

        fn readable(&self, end: Option<u64>) -> Readable {
            let last = end.unwrap_or(u64::MAX);
            let steps: Vec<_> = self.1.iter().map(|step| Ok((*step).min(last))).collect();
            Box::pin(stream::iter(steps))
        }
    }

    #[tokio::test]
    async fn every_form_of_a_blob_gives_every_range_of_it() {
        let bytes = testing::deterministic_bytes(600_000, 1);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(file);
        let forms = [
            Content::Bytes(bytes.clone()),
            Content::File(Arc::clone(&file)),
            Content::Growing(Arc::new(Steps(Arc::clone(&file), vec![1, 1, 300_000, 600_000]))),
            Content::Source(Arc::new(Section { file, start: 0, length: 600_000 })),
        ];
        for content in forms {
            let digest = Hasher::digest(Algorithm::Sha256, &bytes);
            let source = range_source(Blob { digest, size: Some(600_000), content }).unwrap();
            for (start, end) in
                [(0, None), (0, Some(600_000)), (599_999, None), (600_000, None), (7, Some(8)), (299_999, Some(300_001))]
            {
                let want = &bytes[usize::try_from(start).unwrap()..usize::try_from(end.unwrap_or(600_000)).unwrap()];
                assert!(read_all(&source, start, end).await == want, "{start}..{end:?}");
            }
        }
    }
}
