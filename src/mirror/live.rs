//! A mirror's memory while a run works with it.
//!
//! What a run learns is written together every few seconds, not tag by tag. What a killed run had not written is found out anew: a
//! dated tag of this run's day that stands for the digest is taken for ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::Tag;

use crate::memory::{Dated, Known, Memories, Memory, MemoryError};

/// What is known of each source tag, as far as the run is.
pub(crate) struct Live(Mutex<State>);

struct State {
    tags: BTreeMap<String, Known>,
    changed: BTreeSet<String>,
    /// Every dated tag of the mirror, those included that this run is about to write, and those that were removed.
    dated: BTreeSet<Tag>,
}

impl Live {
    pub(crate) fn new(memory: Memory) -> Self {
        let named =
            |known: &Known| known.dated.iter().map(|entry| entry.tag.clone()).chain(known.retired.clone()).collect::<Vec<_>>();
        let dated = memory.tags.values().flat_map(named).collect();
        Self(Mutex::new(State { tags: memory.tags, changed: BTreeSet::new(), dated }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, tag: &Tag) -> Option<Known> {
        self.lock().tags.get(tag.as_str()).cloned()
    }

    /// The source tags that are known.
    pub(crate) fn known(&self) -> Vec<Tag> {
        self.lock().tags.keys().filter_map(|tag| Tag::parse(tag).ok()).collect()
    }

    pub(crate) fn set(&self, tag: &Tag, known: Known) {
        let mut state = self.lock();
        state.dated.extend(known.dated.iter().map(|entry| entry.tag.clone()));
        state.tags.insert(tag.to_string(), known);
        state.changed.insert(tag.to_string());
    }

    /// Is this one of the mirror's dated tags, which no alias may move?
    pub(crate) fn is_dated(&self, tag: &Tag) -> bool {
        self.lock().dated.contains(tag)
    }

    /// Was this a dated tag that is not here any more? Then somebody may still know it for what it was.
    pub(crate) fn is_retired(&self, tag: &Tag) -> bool {
        self.lock().tags.values().any(|known| known.retired.contains(tag))
    }

    /// A dated tag is about to be written.
    pub(crate) fn reserve(&self, tag: &Tag) {
        self.lock().dated.insert(tag.clone());
    }

    /// Does another source tag count on the same dated tag, as with `{digest:12}`?
    pub(crate) fn is_shared(&self, tag: &Tag, entry: &Dated) -> bool {
        let same = |other: &Dated| other.tag == entry.tag && other.digest == entry.digest;
        self.lock().tags.iter().any(|(name, known)| name != tag.as_str() && known.dated.iter().any(same))
    }

    /// Writes what was learned since the last time.
    pub(crate) async fn write(&self, memories: &Memories, mirror: &str) -> Result<(), MemoryError> {
        let learned: Vec<(String, Known)> = {
            let mut state = self.lock();
            let changed = std::mem::take(&mut state.changed);
            changed.into_iter().filter_map(|tag| Some((tag.clone(), state.tags.get(&tag)?.clone()))).collect()
        };
        if learned.is_empty() {
            return Ok(());
        }
        let written = memories.update(mirror, |memory| memory.tags.extend(learned.iter().cloned())).await;
        if written.is_err() {
            self.lock().changed.extend(learned.into_iter().map(|(tag, _)| tag));
        }
        written
    }
}
