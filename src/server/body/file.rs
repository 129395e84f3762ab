//! A range of a file, read 256 KiB at a time: in place what the page cache has, by a blocking thread what it has not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

/// Larger buffers cost page faults, smaller ones system calls.
const CHUNK: usize = 256 * 1024;
/// Where many bodies share a connection, each of which may stand still with a chunk or two in hand.
const SHARED_CHUNK: usize = 64 * 1024;

pub(super) struct FileBody {
    file: Arc<File>,
    offset: u64,
    remaining: u64,
    /// Cleared when the file system cannot tell whether a read would block.
    in_place: bool,
    reading: Option<Reading>,
    spare: Spare,
    /// Bytes that are read at a time.
    chunk: usize,
}

/// A read on a blocking thread: the buffer, and how much of it is filled.
type Reading = JoinHandle<io::Result<(Vec<u8>, usize)>>;

/// Buffers that were sent and can be read into again, so that only the first ones of a body are zeroed and faulted in.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// The filled part of a buffer that goes back to its body.
struct Chunk {
    buffer: Vec<u8>,
    length: usize,
    home: Spare,
}

impl FileBody {
    pub(super) fn new(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self { file, offset, remaining: length, in_place: true, reading: None, spare: Spare::default(), chunk: CHUNK }
    }

    /// For a connection that carries other bodies too.
    pub(super) fn share_connection(&mut self) {
        self.chunk = SHARED_CHUNK;
    }

    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let read = match &mut self.reading {
            Some(reading) => {
                let joined = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                joined.map_err(io::Error::other).flatten()
            }
            None if self.remaining == 0 => return Poll::Ready(None),
            None => {
                let mut buffer = self.buffer();
                let Some(result) = self.read_in_place(&mut buffer) else {
                    self.read_elsewhere(buffer);
                    return self.poll_next(cx);
                };
                result.map(|length| (buffer, length))
            }
        };
        Poll::Ready(Some(read.and_then(|(buffer, length)| self.advance(buffer, length))))
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.remaining).map_or(self.chunk, |remaining| remaining.min(self.chunk))
    }

    fn buffer(&self) -> Vec<u8> {
        // All buffers of a body but that of a short only chunk have the full size, so a spare one always fits.
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; self.wanted()])
    }

    /// `None` if the read would wait for the disk.
    #[cfg(target_os = "linux")]
    fn read_in_place(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        use rustix::io::{Errno, ReadWriteFlags};

        if !self.in_place {
            return None;
        }
        let wanted = self.wanted().min(buffer.len());
        let mut slices = [io::IoSliceMut::new(&mut buffer[..wanted])];
        match rustix::io::preadv2(&self.file, &mut slices, self.offset, ReadWriteFlags::NOWAIT) {
            Ok(length) => Some(Ok(length)),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.in_place = false;
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_in_place(&mut self, _buffer: &mut [u8]) -> Option<io::Result<usize>> {
        self.in_place = false;
        None
    }

    fn read_elsewhere(&mut self, mut buffer: Vec<u8>) {
        let file = Arc::clone(&self.file);
        let offset = self.offset;
        let wanted = self.wanted().min(buffer.len());
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let length = read_at(&file, &mut buffer[..wanted], offset)?;
            Ok((buffer, length))
        }));
    }

    fn advance(&mut self, buffer: Vec<u8>, length: usize) -> io::Result<Bytes> {
        if length == 0 {
            let missing = self.remaining;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ends {missing} bytes too early")));
        }
        let read = u64::try_from(length).map_err(io::Error::other)?;
        self.offset += read;
        self.remaining = self.remaining.saturating_sub(read);
        Ok(Bytes::from_owner(Chunk { buffer, length, home: Arc::clone(&self.spare) }))
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        let at = offset + u64::try_from(length).map_err(io::Error::other)?;
        match file.read_at(&mut buffer[length..], at) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.home.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http_body_util::BodyExt;
    use tempfile::tempfile;

    use super::*;
    use crate::Body;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
    }

    fn file_of(bytes: &[u8]) -> Arc<File> {
        let file = tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Arc::new(file)
    }

    async fn read(file: &Arc<File>, offset: u64, length: u64) -> Result<Bytes, crate::BoxError> {
        Ok(Body::file(Arc::clone(file), offset, length).collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn every_range_of_a_file_has_its_bytes() {
        let all = content(3 * CHUNK + 17);
        let file = file_of(&all);
        let ranges =
            [(0, all.len()), (0, 0), (all.len(), 0), (1, 1), (0, CHUNK), (CHUNK - 1, 2), (5, 2 * CHUNK), (all.len() - 1, 1)];
        for (offset, length) in ranges {
            let got = read(&file, offset as u64, length as u64).await.unwrap();
            assert_eq!(got, all[offset..offset + length], "{length} from {offset}");
        }
    }

    #[tokio::test]
    async fn a_blocking_thread_reads_the_same_bytes() {
        let all = content(2 * CHUNK + 5);
        let mut body = FileBody::new(file_of(&all), 3, all.len() as u64 - 3);
        body.in_place = false;
        let mut got = Vec::new();
        while let Some(chunk) = std::future::poll_fn(|cx| body.poll_next(cx)).await {
            got.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(got, all[3..]);
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error_and_no_end() {
        let file = file_of(&content(CHUNK + 1));
        for length in [CHUNK + 2, 3 * CHUNK] {
            let error = read(&file, 0, length as u64).await.unwrap_err();
            let error = error.downcast::<io::Error>().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_buffer_that_was_sent_is_read_into_again() {
        let mut body = FileBody::new(file_of(&content(4 * CHUNK)), 0, 4 * CHUNK as u64);
        while let Some(chunk) = std::future::poll_fn(|cx| body.poll_next(cx)).await {
            drop(chunk.unwrap());
        }
        assert_eq!(body.spare.lock().unwrap().len(), 1);
    }
}
