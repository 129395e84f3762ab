//! Files that a connection sends without reading them.
//!
//! A body gives slices of mapped files to hyper as if they were memory. The socket finds out here which of the slices that it is to
//! write are such, and of which file.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::pages::{self, Holder, Pages};

/// Files of one connection at the same time. A response has one; of those before it, at most a slice is still to be sent.
const MOST: usize = 8;

/// The files of one connection. Cheap to ask while there are none.
#[derive(Default)]
pub(crate) struct Regions {
    list: Mutex<Vec<Region>>,
    count: AtomicUsize,
}

struct Region {
    addresses: Range<usize>,
    offset: u64,
    file: Arc<File>,
    whole: bool,
}

/// A part of a file that its connection can send, for as long as this or a slice of it lives.
pub(crate) struct Window {
    pages: Pages,
    regions: Arc<Regions>,
}

/// What a slice is a part of.
pub(crate) struct Place {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    /// Bytes from here to the end of what was opened, if they are all there already and so follow at once.
    pub(crate) rest: Option<u64>,
}

impl Regions {
    /// Lets the connection send `range` of the file, which is `whole` if all of it is there already. Whatever speaks against that
    /// (too many files, a file system that cannot map) is no reason to fail: the file can still be read.
    pub(crate) fn open(self: &Arc<Self>, file: &Arc<File>, range: Range<u64>, whole: bool) -> Option<Arc<Window>> {
        if range.is_empty() || self.count.load(Ordering::Relaxed) >= MOST {
            return None;
        }
        let offset = range.start;
        let pages = Pages::map(file, range).inspect_err(|error| tracing::debug!(%error, "a file could not be mapped")).ok()?;
        let region = Region { addresses: pages.addresses(), offset, file: Arc::clone(file), whole };
        self.change(|list| list.push(region));
        Some(Arc::new(Window { pages, regions: Arc::clone(self) }))
    }

    /// Which part of which file this is, if it is one.
    pub(crate) fn find(&self, slice: &[u8]) -> Option<Place> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let address = slice.as_ptr().addr();
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let region = list.iter().find(|region| region.addresses.contains(&address))?;
        let distance = u64::try_from(address - region.addresses.start).ok()?;
        let rest = u64::try_from(region.addresses.end - address).ok().filter(|_| region.whole);
        Some(Place { file: Arc::clone(&region.file), offset: region.offset + distance, rest })
    }

    /// How many of the slices come before the first that is a part of a file.
    pub(crate) fn before_first(&self, slices: &[IoSlice<'_>]) -> usize {
        if self.count.load(Ordering::Relaxed) == 0 {
            return slices.len();
        }
        slices.iter().position(|slice| self.find(slice).is_some()).unwrap_or(slices.len())
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Region>)) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        // Only the tasks of one connection look, and one that was told of a slice sees what was done before.
        self.count.store(list.len(), Ordering::Relaxed);
    }
}

impl Window {
    /// The bytes `range` of the file, which must have been written and never change.
    pub(crate) fn slice(self: &Arc<Self>, range: Range<u64>) -> io::Result<Bytes> {
        pages::slice(self, range).ok_or_else(|| io::Error::other("a part of a file that is not mapped"))
    }
}

impl Holder for Window {
    fn pages(&self) -> &Pages {
        &self.pages
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Before the addresses are given back: the next mapping may have the same ones.
        let addresses = self.pages.addresses();
        self.regions.change(|list| list.retain(|region| region.addresses != addresses));
    }
}
