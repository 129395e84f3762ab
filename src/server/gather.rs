//! Gathering the frames of a body before they are encrypted.
//!
//! HTTP/2 writes and flushes each frame by itself. Encrypted as it comes, a frame is two records, one of them with nothing but the head
//! of the frame, and a system call and a short segment of TCP. Together they are as cheap as what HTTP/1 writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most: what a stream has ready at a time, and the heads of its frames.
pub(crate) const MOST: usize = 68 * 1024;
/// What is at least this long is part of a body of which more is to come, or a flush after it.
const LONG: usize = 8 * 1024;

/// Keeps long writes back, through one flush each, until they are many or there are no more.
pub(crate) struct Gather<T> {
    io: T,
    gathers: bool,
    /// What is kept back, and how much of it has gone.
    kept: Vec<u8>,
    gone: usize,
    /// Something long was written since the last flush.
    is_long: bool,
    /// The task comes back, should nobody flush what is kept back.
    comes_back: bool,
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    /// Writes go through as they come unless it `gathers`.
    pub(crate) fn new(io: T, gathers: bool) -> Self {
        Self { io, gathers, kept: Vec::new(), gone: 0, is_long: false, comes_back: false }
    }

    /// Hands on all that is kept back.
    fn poll_hand_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.kept.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.kept[self.gone..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.gone += written,
            }
        }
        self.kept.clear();
        self.gone = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if this.kept.is_empty() && (!this.gathers || length < LONG) {
            this.is_long = false;
            return Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        }
        // What has gone in part cannot be added to without growing.
        if this.gone > 0 || this.kept.len() + length > MOST {
            ready!(this.poll_hand_on(cx))?;
        }
        this.is_long = length >= LONG;
        if this.kept.capacity() == 0 {
            this.kept.reserve_exact(MOST);
        }
        let mut room = MOST - this.kept.len();
        for slice in slices {
            let taken = slice.len().min(room);
            this.kept.extend_from_slice(&slice[..taken]);
            room -= taken;
        }
        Poll::Ready(Ok(length.min(MOST)))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if std::mem::take(&mut this.is_long) {
            if !std::mem::replace(&mut this.comes_back, true) {
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_hand_on(cx))?;
        this.comes_back = false;
        // A connection that waits for its next request keeps no room for answers.
        this.kept = Vec::new();
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_on(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Takes at most so much at a time, and every other time nothing, and notes what it was given.
    #[derive(Default)]
    struct Slow {
        most: usize,
        refuses: bool,
        writes: Vec<Vec<u8>>,
        flushes: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.refuses = !self.refuses && self.most < MOST;
            if self.refuses {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = bytes.len().min(self.most);
            self.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn gather(most: usize) -> Gather<Slow> {
        Gather::new(Slow { most, ..Slow::default() }, true)
    }

    #[tokio::test]
    async fn long_writes_go_together_and_the_second_flush_takes_them_along() {
        let mut gather = gather(usize::MAX);
        for _ in 0..4 {
            gather.write_all(&vec![1; 16_393]).await.unwrap();
            gather.flush().await.unwrap();
        }
        assert!(gather.io.writes.is_empty());
        gather.flush().await.unwrap();
        assert_eq!(gather.io.writes, [vec![1; 4 * 16_393]]);
        assert_eq!((gather.io.flushes, gather.kept.capacity()), (1, 0));
    }

    #[tokio::test]
    async fn whoever_does_not_flush_again_is_called_back() {
        struct Woken(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let woken = std::sync::Arc::new(Woken(false.into()));
        let waker = std::sync::Arc::clone(&woken).into();
        let mut gather = gather(usize::MAX);
        gather.write_all(&[1; LONG]).await.unwrap();
        assert!(Pin::new(&mut gather).poll_flush(&mut Context::from_waker(&waker)).is_ready());
        assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst) && gather.io.flushes == 0);
    }

    #[tokio::test]
    async fn short_writes_are_not_kept_back() {
        let mut gather = gather(usize::MAX);
        gather.write_all(&[1; 100]).await.unwrap();
        gather.flush().await.unwrap();
        assert_eq!((gather.io.writes.len(), gather.io.flushes), (1, 1));
        // Nor behind long ones: a flush after them is meant.
        gather.write_all(&[2; LONG]).await.unwrap();
        gather.write_all(&[3; 100]).await.unwrap();
        gather.flush().await.unwrap();
        assert_eq!((gather.io.writes.len(), gather.io.flushes), (2, 2));
    }

    #[tokio::test]
    async fn an_end_takes_along_what_is_kept_back() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut gather = Gather::new(near, true);
        let read = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all.len()
        };
        let write = async {
            gather.write_all(&[1; LONG]).await.unwrap();
            gather.shutdown().await.unwrap();
            drop(gather);
        };
        assert_eq!(tokio::join!(read, write).0, LONG);
    }

    #[tokio::test]
    async fn all_bytes_arrive_in_their_order_however_they_are_taken() {
        let sizes = [16_393, 1, LONG - 1, LONG, 0, MOST, 2 * MOST + 1, 16_393, 16_393, 16_393, 16_393, 40, MOST - 1, 2];
        for (most, every) in [(1_000, 1), (16_000, 2), (MOST - 1, 3), (usize::MAX, 4), (usize::MAX, 100)] {
            let (mut gather, mut all) = (gather(most), Vec::new());
            for (number, size) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..size).map(|index| u8::try_from((index + number) % 251).unwrap()).collect();
                all.extend_from_slice(&bytes);
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (one, other) = rest.split_at(rest.len() / 3);
                    let slices = [IoSlice::new(one), IoSlice::new(other)];
                    let taken = poll_fn(|cx| Pin::new(&mut gather).poll_write_vectored(cx, &slices)).await.unwrap();
                    rest = &rest[taken..];
                }
                if number % every == 0 {
                    gather.flush().await.unwrap();
                }
            }
            gather.shutdown().await.unwrap();
            assert!(gather.io.writes.concat() == all, "{most} {every}");
        }
    }
}
