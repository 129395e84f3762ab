//! Files as addresses: the one place with unsafe code.
//!
//! A slice of a mapped file is how bytes that nobody here reads travel through hyper, which moves [`Bytes`] and nothing else. At the
//! socket the slice is known by its address, and the kernel is told to send that part of the file. The memory behind it is not
//! touched on the way, so that no page of it is ever faulted in.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

/// A part of a file as a range of addresses.
pub(crate) struct Pages {
    map: MmapRaw,
    /// Where in the file the first of them is.
    offset: u64,
}

impl Pages {
    /// Maps `range`, which may end beyond the end of a file that still grows. Nothing is read.
    pub(crate) fn map(file: &File, range: Range<u64>) -> io::Result<Self> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        let map = MmapOptions::new().offset(range.start).len(length).map_raw_read_only(file)?;
        Ok(Self { map, offset: range.start })
    }

    /// The addresses.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.map.as_ptr().addr();
        start..start + self.map.len()
    }

    /// The index of the byte that is at `offset` of the file.
    fn index_of(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset.checked_sub(self.offset)?).ok()
    }
}

/// Something that keeps pages mapped, and knows when the last slice of them is gone.
pub(crate) trait Holder: Send + Sync + 'static {
    fn pages(&self) -> &Pages;
}

/// A part of the pages of `H` that has been written: what is in it does not change any more.
struct Slice<H> {
    holder: Arc<H>,
    range: Range<usize>,
}

/// The bytes `range` of the file, without reading them. `None` if they are not mapped.
///
/// They must have been written, and nothing of the file may be changed or cut off as long as they live: blobs are immutable, and a
/// fill only appends. Should someone from outside break that, nothing happens unless the bytes are looked at, which the socket does
/// not do.
pub(crate) fn slice<H: Holder>(holder: &Arc<H>, range: Range<u64>) -> Option<Bytes> {
    let pages = holder.pages();
    let range = pages.index_of(range.start)?..pages.index_of(range.end)?;
    let mapped = range.start <= range.end && range.end <= pages.map.len();
    mapped.then(|| Bytes::from_owner(Slice { holder: Arc::clone(holder), range }))
}

impl<H: Holder> AsRef<[u8]> for Slice<H> {
    #[expect(unsafe_code, reason = "memory of a file can be lent in no other way; the argument stands at the block")]
    fn as_ref(&self) -> &[u8] {
        let pages = self.holder.pages();
        // SAFETY: `slice` has checked that the range lies in the mapping, which is readable, one object, and lives as long as its
        // holder, of which `self` has a share. The file has these bytes and they do not change, as `slice` demands, so that the
        // memory is initialised and not written to while it is borrowed. `MmapRaw` itself never lends it.
        unsafe { std::slice::from_raw_parts(pages.map.as_ptr().add(self.range.start), self.range.len()) }
    }
}

/// How many pages of `length` bytes from `offset` the page cache has, or is reading. An error where the kernel cannot tell.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "neither rustix nor libc has a safe call for it; the argument stands at the block")]
pub(crate) fn cached_pages(file: &File, offset: u64, length: u64) -> io::Result<u64> {
    use std::os::fd::AsRawFd;

    /// `struct cachestat_range` and `struct cachestat` of the kernel's interface.
    #[repr(C)]
    struct Asked {
        offset: u64,
        length: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Told {
        cached: u64,
        dirty: u64,
        written_back: u64,
        evicted: u64,
        recently_evicted: u64,
    }

    /// The number of the call, the same wherever calls are numbered in the common way; elsewhere it is none.
    const CACHESTAT: libc::c_long = 451;

    let asked = Asked { offset, length };
    let mut told = Told::default();
    // SAFETY: cachestat(2) reads one `struct cachestat_range`, writes one `struct cachestat`, and keeps neither. Both live here, have
    // the kernel's layout, and consist of integers, for which every bit pattern is a value. The descriptor is open while `file` is
    // borrowed. No flags are defined.
    let result = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), &raw const asked, &raw mut told, 0) };
    if result == 0 { Ok(told.cached) } else { Err(io::Error::last_os_error()) }
}
