//! Writing: memory by copying it, parts of files by telling the kernel which.

use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use telemetry::Metrics;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

use crate::regions::{Place, Regions};

/// What is copied at a time where the kernel cannot send a file itself.
const COPY: usize = 64 * 1024;

/// Pieces that are shorter than this together are copied into one.
const JOINED: usize = 2 * 1024;

/// A connection that knows slices of files when it sees them.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    regions: Arc<Regions>,
    metrics: Metrics,
    /// Made for the first file that the kernel cannot send.
    scratch: Option<Vec<u8>>,
    /// The kernel keeps a segment back that is not full, because what fills it follows at once.
    corked: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, regions: Arc<Regions>, metrics: Metrics) -> Self {
        Self { stream, regions, metrics, scratch: None, corked: false }
    }

    /// Writes something of the slices. A part of a file that is not there any more is an error of the kind `UnexpectedEof`.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.regions.before_first(slices) {
            memory if memory == slices.len() => self.poll_send(cx, slices),
            0 => match self.regions.find(&slices[0]) {
                Some(place) => self.poll_send_slice(cx, &place, slices[0].len()),
                None => Poll::Ready(Err(io::Error::other("a file was taken from its connection"))),
            },
            // The file follows at once: its first bytes go into the same segment.
            memory => self.poll_send_more(cx, &slices[..memory]),
        }
    }

    /// Most answers are a head and a small body: as one piece they take a cheaper way through the kernel than as a list of pieces.
    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let [first, others @ ..] = slices else { return Poll::Ready(Ok(0)) };
        if others.is_empty() {
            return stream.poll_write(cx, first);
        }
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length > JOINED {
            return stream.poll_write_vectored(cx, slices);
        }
        let mut joined = [0; JOINED];
        let mut end = 0;
        for slice in slices {
            joined[end..end + slice.len()].copy_from_slice(slice);
            end += slice.len();
        }
        stream.poll_write(cx, &joined[..end])
    }

    fn poll_send_slice(&mut self, cx: &mut Context<'_>, place: &Place, length: usize) -> Poll<io::Result<usize>> {
        if place.rest.is_some_and(|rest| rest > length as u64) {
            self.cork(true);
        }
        let sent = ready!(self.poll_send_file(cx, place, length))?;
        if place.rest == Some(sent as u64) {
            self.cork(false);
        }
        Poll::Ready(Ok(sent))
    }

    /// A file is sent in slices that do not end where segments do. Without this each of them would end with a short one, which costs
    /// as much as a full one.
    fn cork(&mut self, corked: bool) {
        if self.corked != corked {
            self.corked = corked;
            if let Err(error) = set_cork(&self.stream, corked) {
                tracing::debug!(%error, "TCP_CORK was refused");
            }
        }
    }

    fn poll_send_more(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let flags = MORE | SendFlags::NOSIGNAL;
        poll_when_writable(&self.stream, cx, || Ok(sendmsg(&self.stream, slices, &mut SendAncillaryBuffer::default(), flags)?))
    }

    fn poll_send_file(&mut self, cx: &mut Context<'_>, place: &Place, length: usize) -> Poll<io::Result<usize>> {
        if self.scratch.is_some() {
            return self.poll_copy(cx, place, length);
        }
        let sent = ready!(poll_when_writable(&self.stream, cx, || send_file(&self.stream, place, length)));
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

/// More comes at once, so that what is sent need not go by itself.
#[cfg(target_os = "linux")]
const MORE: SendFlags = SendFlags::MORE;
#[cfg(not(target_os = "linux"))]
const MORE: SendFlags = SendFlags::empty();

#[cfg(target_os = "linux")]
fn set_cork(stream: &TcpStream, corked: bool) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_cork(stream, corked)?)
}

#[cfg(not(target_os = "linux"))]
fn set_cork(_stream: &TcpStream, _corked: bool) -> io::Result<()> {
    Ok(())
}

/// Has the kernel send from its page cache.
#[cfg(target_os = "linux")]
fn send_file(stream: &TcpStream, place: &Place, length: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(stream, &place.file, Some(&mut place.offset.clone()), length)?)
}

#[cfg(not(target_os = "linux"))]
fn send_file(_stream: &TcpStream, _place: &Place, _length: usize) -> io::Result<usize> {
    Err(Errno::NOSYS.into())
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::File;

    use bytes::Bytes;
    use tempfile::tempfile;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const LENGTH: u64 = 300_000;

    fn file() -> (Arc<File>, Vec<u8>) {
        let content: Vec<u8> = (0..LENGTH).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let file = tempfile().unwrap();
        file.write_all_at(&content, 0).unwrap();
        (Arc::new(file), content)
    }

    async fn wire() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Wire::new(near.unwrap(), Arc::default(), Metrics::new()), far.unwrap().0)
    }

    /// Writes all of it as hyper does, and then the end.
    async fn write(mut wire: Wire, mut parts: Vec<Bytes>) -> io::Result<()> {
        while let Some(first) = parts.first_mut() {
            if first.is_empty() {
                parts.remove(0);
                continue;
            }
            let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut written = std::future::poll_fn(|cx| wire.poll_write(cx, &slices)).await?;
            for part in &mut parts {
                let taken = written.min(part.len());
                drop(part.split_to(taken));
                written -= taken;
            }
        }
        Ok(())
    }

    async fn mixed(copied: bool) -> (u64, bool) {
        let (file, content) = file();
        let (mut wire, mut peer) = wire().await;
        wire.scratch = copied.then(|| vec![0; COPY]);
        let window = wire.regions.open(&file, 5..LENGTH, true).unwrap();
        let parts = vec![
            Bytes::from_static(b"head"),
            window.slice(5..200_000).unwrap(),
            window.slice(200_000..LENGTH).unwrap(),
            Bytes::from_static(b"between"),
            Bytes::from_static(b" and "),
            window.slice(7..9).unwrap(),
            Bytes::from_static(b"tail"),
        ];
        let expected = [b"head", &content[5..], b"between and ", &content[7..9], b"tail"].concat();
        let metrics = wire.metrics.clone();
        let mut got = Vec::new();
        let (written, read) = tokio::join!(write(wire, parts), peer.read_to_end(&mut got));
        written.unwrap();
        read.unwrap();
        let text = metrics.encode();
        let by_kernel = text.lines().find_map(|line| line.strip_prefix("roadstead_http_sendfile_bytes_total ")).unwrap();
        (by_kernel.parse().unwrap(), got == expected)
    }

    #[tokio::test]
    async fn memory_and_parts_of_files_arrive_in_their_order() {
        assert_eq!(mixed(false).await, (LENGTH - 5 + 2, true));
    }

    #[tokio::test]
    async fn what_the_kernel_cannot_send_is_copied() {
        assert_eq!(mixed(true).await, (0, true));
    }

    #[tokio::test]
    async fn a_file_that_was_cut_off_is_an_error_however_it_is_sent() {
        for copied in [false, true] {
            let (file, _) = file();
            let (mut wire, _peer) = wire().await;
            wire.scratch = copied.then(|| vec![0; COPY]);
            let window = wire.regions.open(&file, 0..LENGTH, true).unwrap();
            let slice = window.slice(10..LENGTH).unwrap();
            file.set_len(10).unwrap();
            let error = write(wire, vec![slice]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
