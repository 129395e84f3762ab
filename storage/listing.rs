//! Parts of listings: from an index in memory where nobody else writes to the store, else from the store's own order.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::error::Error;
use crate::objects::{Objects, is_child};

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<T> {
    /// The entries, in byte order.
    pub entries: Vec<T>,
    /// Whether there are further ones.
    pub more: bool,
}

impl<T> Slice<T> {
    /// The first `limit` of what an iterator gives.
    fn of(mut entries: impl Iterator<Item = T>, limit: usize) -> Self {
        let slice = entries.by_ref().take(limit).collect();
        // A part of no entries says nothing of what follows.
        Self { entries: slice, more: limit > 0 && entries.next().is_some() }
    }
}

/// All entries of a listing, in memory.
#[derive(Debug)]
pub(crate) struct Index<T>(Arc<RwLock<BTreeSet<T>>>);

impl<T> Clone for Index<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone + Ord + Borrow<str>> Index<T> {
    pub(crate) fn new(entries: impl IntoIterator<Item = T>) -> Self {
        Self(Arc::new(RwLock::new(entries.into_iter().collect())))
    }

    pub(crate) fn insert(&self, entry: T) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(entry);
    }

    pub(crate) fn remove(&self, entry: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(entry);
    }

    pub(crate) fn weight(&self) -> u32 {
        u32::try_from(self.0.read().unwrap_or_else(PoisonError::into_inner).len() + 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn after(&self, last: Option<&str>, limit: usize) -> Slice<T> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let start = last.map_or(Bound::Unbounded, Bound::Excluded);
        Slice::of(entries.range::<str, _>((start, Bound::Unbounded)).cloned(), limit)
    }
}

impl Objects {
    /// Those of the objects right under `prefix` that `parse` knows (by last segment and size), from the first on that comes after
    /// `last`. Asks the store for no more than it must.
    ///
    /// `last` as a segment must sort among the segments as its entry does among the entries.
    pub(crate) async fn page<T>(
        &self,
        prefix: &Path,
        last: Option<&str>,
        limit: usize,
        parse: impl Fn(&str, u64) -> Option<T>,
    ) -> Result<Slice<T>, Error> {
        let start = self.clock.monotonic();
        let listing = match last {
            Some(last) => self.store.list_with_offset(Some(prefix), &Path::from(format!("{prefix}/{last}"))),
            None => self.store.list(Some(prefix)),
        };
        let known = listing.try_filter_map(|object| {
            let segment = object.location.filename().filter(|_| is_child(&object.location, prefix));
            let segment = segment.filter(|segment| last.is_none_or(|last| *segment > last));
            let entry = segment.and_then(|segment| parse(segment, object.size));
            async move { Ok(entry) }
        });
        let found: Result<Vec<T>, _> = known.take(limit.saturating_add(1)).try_collect().await;
        self.note("list", found.as_ref().err().map(|error| error as _), start);
        let found = found.map_err(|source| Error::backend(prefix, source))?;
        Ok(Slice::of(found.into_iter(), limit))
    }
}
