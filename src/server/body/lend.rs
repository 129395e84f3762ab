//! Lending a file's pages to the connection, which sends them without anyone reading them.
//!
//! Sending waits for what is not in the page cache, and would hold up every other task of its thread. So each slice is looked for
//! first, and what is missing is brought in by a blocking thread.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::body::read::{Cached, read_at, read_cached};
use crate::pages;
use crate::regions::{Regions, Window};

/// The largest slice, so that its sending holds up nobody for long.
const SLICE: u64 = 1024 * 1024;
/// What is shorter is read: a mapping costs more than the copy that it saves.
const SHORTEST: u64 = 64 * 1024;
/// The buffer of a thread that brings in what is missing.
const SCRATCH: usize = 64 * 1024;
/// Where the kernel cannot count pages, one is looked at per so many bytes; it reads and forgets them in runs.
const PROBE: u64 = 128 * 1024;

/// A file of which slices are lent.
pub(super) struct Lender {
    window: Arc<Window>,
    /// A thread brings this slice in.
    warming: Option<(Range<u64>, JoinHandle<io::Result<()>>)>,
}

impl Lender {
    /// `None` if the range is better read. It is `whole` if all of it is in the file already.
    pub(super) fn new(regions: &Arc<Regions>, file: &Arc<File>, range: Range<u64>, whole: bool) -> Option<Self> {
        if range.end.saturating_sub(range.start) <= SHORTEST {
            return None;
        }
        Some(Self { window: regions.open(file, range, whole)?, warming: None })
    }

    /// Bytes from `offset`, at most `available`. `None` if it cannot be known whether sending them would wait.
    ///
    /// Until it has answered it must be asked for the same offset again.
    pub(super) fn poll_slice(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<File>,
        offset: u64,
        available: u64,
    ) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some((range, warming)) = &mut self.warming {
                let joined = ready!(Pin::new(warming).poll(cx)).map_err(io::Error::other).flatten();
                let range = range.clone();
                self.warming = None;
                // Not looked for again: where memory is short it might always be gone by then, and nothing would ever be sent.
                return Poll::Ready(Some(joined.and_then(|()| self.window.slice(range))));
            }
            let range = offset..offset + available.min(SLICE);
            match is_cached(file, &range) {
                Some(true) => return Poll::Ready(Some(self.window.slice(range))),
                None => return Poll::Ready(None),
                Some(false) => {
                    let (file, missing) = (Arc::clone(file), range.clone());
                    self.warming = Some((range, tokio::task::spawn_blocking(move || bring_in(&file, &missing))));
                }
            }
        }
    }
}

/// Whether the page cache has all of the range. `None` where that cannot be known.
fn is_cached(file: &File, range: &Range<u64>) -> Option<bool> {
    // A page that is being read counts as cached. They arrive in order, so that the last one tells of all.
    match probe(file, range.end - 1) {
        Some(false) => Some(false),
        last => count(file, range).or_else(|| {
            last?;
            let step = usize::try_from(PROBE).ok()?;
            (range.start..range.end).step_by(step).try_fold(true, |all, offset| Some(all && probe(file, offset)?))
        }),
    }
}

/// Whether a read of the byte at `offset` would not wait. `None` where the file system cannot tell.
fn probe(file: &File, offset: u64) -> Option<bool> {
    match read_cached(file, &mut [0], offset) {
        // Errors, and a file that ends here, are for whoever sends it.
        Cached::Read(_) | Cached::Failed(_) => Some(true),
        Cached::Missing => Some(false),
        Cached::Unknown => None,
    }
}

/// Whether all pages of the range are counted. `None` if the kernel is too old for that, or may not tell.
#[cfg(target_os = "linux")]
fn count(file: &File, range: &Range<u64>) -> Option<bool> {
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    let pages = range.end.div_ceil(page) - range.start / page;
    let cached = pages::cached_pages(file, range.start, range.end - range.start).ok()?;
    Some(cached >= pages)
}

#[cfg(not(target_os = "linux"))]
fn count(_file: &File, _range: &Range<u64>) -> Option<bool> {
    None
}

/// Reads the range, for the sake of the page cache.
fn bring_in(file: &File, range: &Range<u64>) -> io::Result<()> {
    let mut scratch = vec![0; SCRATCH];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = usize::try_from(range.end - offset).map_or(SCRATCH, |rest| rest.min(SCRATCH));
        let read = read_at(file, &mut scratch[..wanted], offset)?;
        if read == 0 {
            let missing = range.end - offset;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ends {missing} bytes too early")));
        }
        offset += u64::try_from(read).map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::FileExt;

    use tempfile::tempfile;

    use super::*;

    /// A file that nobody has written or read in the middle.
    fn file() -> Arc<File> {
        let file = tempfile().unwrap();
        file.write_all_at(&vec![1; 70_000], 0).unwrap();
        file.set_len(3 * SLICE).unwrap();
        Arc::new(file)
    }

    #[test]
    fn what_was_just_written_is_cached_and_a_hole_is_not() {
        let file = file();
        for (range, cached) in [(0..1, true), (5..70_000, true), (0..100_000, false), (SLICE..2 * SLICE, false)] {
            assert_eq!(is_cached(&file, &range), Some(cached), "{range:?}");
        }
    }

    #[tokio::test]
    async fn slices_cover_the_range_whether_they_are_cached_or_not() {
        let file = file();
        let regions = Arc::new(Regions::default());
        let (mut offset, end) = (9, 3 * SLICE - 1);
        let mut lender = Lender::new(&regions, &file, offset..end, true).unwrap();
        let mut kept = Vec::new();
        while offset < end {
            let slice = std::future::poll_fn(|cx| lender.poll_slice(cx, &file, offset, end - offset)).await;
            let slice = slice.unwrap().unwrap();
            let place = regions.find(&slice).unwrap();
            assert!(place.offset == offset && Arc::ptr_eq(&place.file, &file));
            offset += slice.len() as u64;
            kept.push(slice);
        }
        assert_eq!(offset, end);
        drop(lender);
        assert!(regions.find(&kept[0]).is_some(), "a slice outlives the body");
        let last = kept.pop().unwrap();
        kept.clear();
        assert!(regions.find(&last).is_some());
        assert!(regions.find(b"something else").is_none());
        drop(last);
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_cut_off_before_it_was_brought_in_is_an_error() {
        let file = file();
        let regions = Arc::new(Regions::default());
        let mut lender = Lender::new(&regions, &file, 0..3 * SLICE, true).unwrap();
        file.set_len(SLICE).unwrap();
        let error = bring_in(&file, &(SLICE..2 * SLICE)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let slice = std::future::poll_fn(|cx| lender.poll_slice(cx, &file, 0, SLICE)).await;
        assert!(slice.unwrap().is_ok());
    }

    #[test]
    fn what_is_short_is_not_worth_it_and_a_connection_has_few_files() {
        let file = file();
        let regions = Arc::new(Regions::default());
        assert!(Lender::new(&regions, &file, 0..SHORTEST, true).is_none());
        let lenders: Vec<_> =
            std::iter::repeat_with(|| Lender::new(&regions, &file, 0..SLICE, true)).take(100).flatten().collect();
        assert!((1..100).contains(&lenders.len()));
        drop(lenders);
        assert!(Lender::new(&regions, &file, 0..SLICE, true).is_some());
    }
}
