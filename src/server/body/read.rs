//! Reading a file into buffers: in place what the page cache has, by a blocking thread what it has not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

/// Bytes that are read at a time. A body that stands still has a few of these in hand, and a connection may have many bodies; twice
/// as much saves few system calls, and leaves the processor's cache before it is encrypted.
pub(super) const CHUNK: usize = 64 * 1024;

/// Reads one file, a chunk at a time.
pub(super) struct Reader {
    /// Cleared when the file system cannot tell whether a read would block.
    in_place: bool,
    reading: Option<Reading>,
    spare: Option<Spare>,
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

impl Reader {
    pub(super) fn new() -> Self {
        Self { in_place: true, reading: None, spare: None }
    }

    /// Some bytes from `offset`, at most `available`, at least one. `left` is what the body will still ask for, if it knows.
    ///
    /// Until it has answered it must be asked for the same again, except that more may have become available.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<File>,
        offset: u64,
        available: u64,
        left: Option<u64>,
    ) -> Poll<io::Result<Bytes>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let joined = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                let (buffer, length) = joined.map_err(io::Error::other).flatten()?;
                return Poll::Ready(self.filled(buffer, length, available, left));
            }
            let bounded = |bytes: u64| usize::try_from(bytes).map_or(CHUNK, |bytes| bytes.min(CHUNK));
            let wanted = bounded(available);
            let mut buffer = self.buffer(left.map_or(CHUNK, bounded));
            match self.read_in_place(file, &mut buffer[..wanted], offset) {
                Some(Ok(length)) => return Poll::Ready(self.filled(buffer, length, available, left)),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => {
                    let file = Arc::clone(file);
                    self.reading = Some(tokio::task::spawn_blocking(move || {
                        let length = read_at(&file, &mut buffer[..wanted], offset)?;
                        Ok((buffer, length))
                    }));
                }
            }
        }
    }

    /// All buffers of a body but that of its last chunk have the full size, so a spare one always fits.
    fn buffer(&self, size: usize) -> Vec<u8> {
        let spare = self.spare.as_ref().and_then(|spare| spare.lock().unwrap_or_else(PoisonError::into_inner).pop());
        spare.unwrap_or_else(|| vec![0; size])
    }

    /// `None` if the read would wait for the disk.
    fn read_in_place(&mut self, file: &File, buffer: &mut [u8], offset: u64) -> Option<io::Result<usize>> {
        if !self.in_place {
            return None;
        }
        match read_cached(file, buffer, offset) {
            Cached::Read(length) => Some(Ok(length)),
            Cached::Missing => None,
            Cached::Unknown => {
                self.in_place = false;
                None
            }
            Cached::Failed(error) => Some(Err(error)),
        }
    }

    fn filled(&mut self, mut buffer: Vec<u8>, length: usize, available: u64, left: Option<u64>) -> io::Result<Bytes> {
        if length == 0 {
            let missing = left.unwrap_or(available);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ends {missing} bytes too early")));
        }
        if self.spare.is_none() && left == u64::try_from(length).ok() {
            // All there is, as most blobs are, in one piece: nothing comes after it for which the buffer would be kept.
            buffer.truncate(length);
            return Ok(Bytes::from(buffer));
        }
        let home = Arc::clone(self.spare.get_or_insert_default());
        Ok(Bytes::from_owner(Chunk { buffer, length, home }))
    }
}

/// What became of a read that may not wait.
pub(super) enum Cached {
    /// So many bytes were read.
    Read(usize),
    /// They are not in the page cache.
    Missing,
    /// The file system cannot tell.
    Unknown,
    /// Something else is wrong.
    Failed(io::Error),
}

/// Reads what the page cache has.
#[cfg(target_os = "linux")]
pub(super) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> Cached {
    use rustix::io::{Errno, ReadWriteFlags};

    match rustix::io::preadv2(file, &mut [io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(length) => Cached::Read(length),
        Err(Errno::AGAIN | Errno::INTR) => Cached::Missing,
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Cached::Unknown,
        Err(error) => Cached::Failed(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_cached(_file: &File, _buffer: &mut [u8], _offset: u64) -> Cached {
    Cached::Unknown
}

/// Reads until `buffer` is full or the file ends, however long it takes.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
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
    use tempfile::tempfile;

    use super::*;

    fn file(length: usize) -> (Arc<File>, Vec<u8>) {
        let content: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let file = tempfile().unwrap();
        file.write_all_at(&content, 0).unwrap();
        (Arc::new(file), content)
    }

    async fn read_all(reader: &mut Reader, file: &Arc<File>, range: std::ops::Range<usize>) -> Vec<u8> {
        let mut got = Vec::new();
        while range.start + got.len() < range.end {
            let offset = (range.start + got.len()) as u64;
            let left = range.end as u64 - offset;
            let read = std::future::poll_fn(|cx| reader.poll_read(cx, file, offset, left, Some(left))).await;
            got.extend_from_slice(&read.unwrap());
        }
        got
    }

    #[tokio::test]
    async fn a_blocking_thread_reads_the_same_bytes() {
        let (file, content) = file(2 * CHUNK + 5);
        let mut reader = Reader { in_place: false, ..Reader::new() };
        assert_eq!(read_all(&mut reader, &file, 3..content.len()).await, content[3..]);
    }

    #[tokio::test]
    async fn a_buffer_that_was_sent_is_read_into_again() {
        let (file, content) = file(4 * CHUNK + 1);
        let mut reader = Reader::new();
        assert_eq!(read_all(&mut reader, &file, 0..content.len()).await, content);
        assert_eq!(reader.spare.unwrap().lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_comes_in_one_piece_keeps_no_buffer() {
        let (file, content) = file(CHUNK);
        let mut reader = Reader::new();
        assert_eq!(read_all(&mut reader, &file, 5..content.len()).await, content[5..]);
        assert!(reader.spare.is_none());
    }
}
