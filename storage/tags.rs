//! Tags: pointers changed by compare-and-swap.
//!
//! A tag that is removed is swapped for a tombstone, since object stores cannot delete on a condition: a removal must not take with
//! it what another writer has just set. Tombstones are told apart in a listing by their size, and stay until they are collected.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;

use crate::commit::Write;
use crate::error::Error;
use crate::journal::{Origin, TagEvent};
use crate::keys;
use crate::listing::{Index, Slice};
use crate::objects::encode;
use crate::store::Store;
use crate::time::millis;

/// Every pointer with a digest is longer than this, every tombstone shorter.
const TOMBSTONE: u64 = 64;

/// Where a tag points, and how it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// The manifest before that one.
    pub previous: Option<Digest>,
    /// How often the tag has moved; the first time is 1.
    pub sequence: u64,
    /// When it was set or last known to be right, in milliseconds since 1970.
    pub at: u64,
    /// The principal that set it, where there is one.
    pub by: Option<String>,
    /// Where it came from: the host of an upstream for what is cached, else as [`Origin::from`].
    pub from: Option<String>,
}

/// A tag at rest.
#[derive(Serialize, Deserialize)]
struct Pointer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Digest>,
    sequence: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Pointer {
    fn tombstone(sequence: u64) -> Self {
        Self { digest: None, previous: None, sequence, at: 0, by: None, from: None }
    }

    /// May a tag that stays where it is be set to this? It may be there already, or not be there at all.
    fn may_be(&self, digest: &Digest) -> bool {
        self.digest.as_ref().is_none_or(|there| there == digest)
    }

    fn record(self) -> Option<TagRecord> {
        let Self { digest, previous, sequence, at, by, from } = self;
        Some(TagRecord { digest: digest?, previous, sequence, at, by, from })
    }

    /// The pointer after `self` that leads to `digest`.
    fn next(current: Option<Self>, digest: &Digest, at: SystemTime, origin: &Origin) -> Self {
        let (previous, sequence) = match current {
            Some(same) if same.digest.as_ref() == Some(digest) => (same.previous, same.sequence),
            Some(other) => (other.digest, other.sequence.saturating_add(1)),
            None => (None, 1),
        };
        let Origin { by, from } = origin.clone();
        Self { digest: Some(digest.clone()), previous, sequence, at: millis(at), by, from }
    }
}

fn immutable(name: &RepositoryName, tag: &Tag) -> Error {
    Error::Immutable { name: name.to_string(), tag: tag.to_string() }
}

/// Where tags are to point after a push, all at the same manifest.
pub(crate) struct Moves<'store> {
    pub(crate) writes: Vec<Write>,
    keys: Vec<(RepositoryName, Tag)>,
    events: Vec<(Option<TagEvent>, u64)>,
    /// Until they have moved, nothing else in this process moves them.
    _turns: Vec<MutexGuard<'store, ()>>,
}

impl Store {
    /// Where the tag points.
    pub async fn tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<TagRecord>, Error> {
        let load = async {
            let pointer = self.objects.read_json::<Pointer>(&keys::tag(name, tag)).await?;
            Ok(pointer.and_then(Pointer::record))
        };
        if !self.backend.exact {
            return load.await;
        }
        self.caches.tags.or_load((name.clone(), tag.clone()), load).await
    }

    /// Points the tag at a manifest that is here, for a push. Setting it to where it points already changes nothing but `at`.
    ///
    /// Must run to its end: on a task that no client can cancel.
    pub async fn set_tag(&self, name: &RepositoryName, tag: &Tag, digest: &Digest, at: SystemTime) -> Result<(), Error> {
        let event = self.announce(name, tag, Some(digest), at).await?;
        let origin = &self.origin;
        let stays = self.stays(name, tag);
        let change = |current: Option<Pointer>| {
            let is_fine = !stays || current.as_ref().is_none_or(|current| current.may_be(digest));
            is_fine.then(|| Pointer::next(current, digest, at, origin))
        };
        if self.change_tag(name, tag, event, change).await? { Ok(()) } else { Err(immutable(name, tag)) }
    }

    /// Refuses if one of these tags stays where it is, and that is somewhere else.
    pub(crate) async fn check_stays(&self, name: &RepositoryName, tags: &[Tag], digest: &Digest) -> Result<(), Error> {
        for tag in tags.iter().filter(|tag| self.stays(name, tag)) {
            if self.tag(name, tag).await?.is_some_and(|there| there.digest != *digest) {
                return Err(immutable(name, tag));
            }
        }
        Ok(())
    }

    /// Is it a tag that stays where it is?
    fn stays(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.immutable.as_ref().is_some_and(|immutable| immutable(name, tag))
    }

    /// Points the tag at a manifest that is here and that the upstream `from` named at the time `at`. What the tag was known to be at
    /// a later time stays.
    ///
    /// Must run to its end, as [`Store::set_tag`].
    pub async fn set_cached_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        at: SystemTime,
        from: &str,
    ) -> Result<(), Error> {
        let origin = Origin { by: self.origin.by.clone(), from: Some(from.to_owned()) };
        let moves = AtomicBool::new(false);
        let change = |current: Option<Pointer>, may_move: bool| match current {
            Some(newer) if newer.digest.is_some() && newer.at >= millis(at) => None,
            other => {
                moves.store(other.as_ref().and_then(|other| other.digest.as_ref()) != Some(digest), Ordering::Relaxed);
                (may_move || !moves.load(Ordering::Relaxed)).then(|| Pointer::next(other, digest, at, &origin))
            }
        };
        // Most refreshes move nothing, and are no events.
        self.change_tag(name, tag, None, |current| change(current, false)).await?;
        if !moves.load(Ordering::Relaxed) {
            return Ok(());
        }
        let event = self.on_behalf(origin.clone()).announce(name, tag, Some(digest), at).await?;
        self.change_tag(name, tag, event, |current| change(current, true)).await.map(|_| ())
    }

    /// Removes the tag; with `only`, if that is where it points. `false` if there is nothing to remove.
    ///
    /// Must run to its end, as [`Store::set_tag`].
    pub async fn remove_tag(&self, name: &RepositoryName, tag: &Tag, only: Option<&Digest>) -> Result<bool, Error> {
        if self.stays(name, tag) {
            let there = self.tag(name, tag).await?;
            let is_meant = there.is_some_and(|there| only.is_none_or(|only| *only == there.digest));
            return if is_meant { Err(immutable(name, tag)) } else { Ok(false) };
        }
        if self.journal.is_some() {
            // Nothing is announced that will not be.
            let there = self.tag(name, tag).await?;
            if there.is_none_or(|there| only.is_some_and(|only| *only != there.digest)) {
                return Ok(false);
            }
        }
        let event = self.announce(name, tag, None, self.objects.clock.now()).await?;
        self.change_tag(name, tag, event, |current| {
            let current = current?;
            let digest = current.digest.as_ref()?;
            let meant = only.is_none_or(|only| only == digest);
            meant.then(|| Pointer::tombstone(current.sequence.saturating_add(1)))
        })
        .await
    }

    async fn change_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        event: Option<TagEvent>,
        mut change: impl FnMut(Option<Pointer>) -> Option<Pointer>,
    ) -> Result<bool, Error> {
        let mut made = None;
        let noted = |current| {
            let wanted = change(current);
            made = wanted.as_ref().map(|pointer| (pointer.digest.is_some(), pointer.sequence));
            wanted
        };
        let changed = self.objects.update(&keys::tag(name, tag), noted).await;
        let there = made.map(|(there, _)| there);
        self.tag_changed(name, tag, if changed.is_ok() { there } else { None });
        match (&changed, made) {
            (Ok(true), Some((_, sequence))) => self.happened(event, sequence),
            (Ok(_), _) => self.did_not_happen(event).await,
            // It may have been made: the entry stays, and is found.
            (Err(_), _) => {}
        }
        changed
    }

    /// What is remembered follows what was written. `there` says whether the tag is there now, if anything changed.
    fn tag_changed(&self, name: &RepositoryName, tag: &Tag, there: Option<bool>) {
        self.caches.tags.forget(&(name.clone(), tag.clone()));
        match there {
            Some(true) => self.caches.tag_lists.amend(name, |index| index.insert(tag.clone())),
            Some(false) => self.caches.tag_lists.amend(name, |index| index.remove(tag.as_str())),
            // Nothing was written, or it is not known what.
            None => self.caches.tag_lists.forget(name),
        }
    }

    /// Makes the writes that point tags at a manifest, for a store of which this process is the only writer.
    pub(crate) async fn move_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
        at: SystemTime,
    ) -> Result<Moves<'_>, Error> {
        let mut distinct: Vec<&Tag> = Vec::new();
        for tag in tags {
            if !distinct.contains(&tag) {
                distinct.push(tag);
            }
        }
        let paths: Vec<_> = distinct.iter().map(|tag| keys::tag(name, tag)).collect();
        let turns = self.objects.turns_of(&paths).await;
        // None of them, if one may not: before anything is announced.
        self.check_stays(name, tags, digest).await?;
        let (mut writes, mut events) = (Vec::new(), Vec::new());
        for (path, tag) in paths.into_iter().zip(&distinct) {
            let current = self.objects.read_json::<Pointer>(&path).await?;
            let pointer = Pointer::next(current, digest, at, &self.origin);
            let (event, entry) = self.entry(name, tag, Some(digest), at)?.unzip();
            writes.extend(entry);
            events.push((event, pointer.sequence));
            let bytes = encode(&path, &pointer)?;
            writes.push(Write::Put(path, bytes));
        }
        let keys = distinct.into_iter().map(|tag| (name.clone(), tag.clone())).collect();
        Ok(Moves { writes, keys, events, _turns: turns })
    }

    /// Lets what is remembered follow tags whose writes have ended, well or not.
    pub(crate) fn tags_moved(&self, moves: Moves<'_>, done: bool) {
        for (name, tag) in &moves.keys {
            self.tag_changed(name, tag, done.then_some(true));
        }
        if done {
            moves.events.into_iter().for_each(|(event, sequence)| self.happened(event, sequence));
        }
    }

    /// All tags of a repository in byte order; empty for an unknown one.
    pub async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Error> {
        self.tags_after(name, None, usize::MAX).await.map(|slice| slice.entries)
    }

    /// The first `limit` tags after `last`, which need not be one, in byte order; none for an unknown repository.
    pub async fn tags_after(&self, name: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Slice<Tag>, Error> {
        let parse = |segment: &str, size| if size > TOMBSTONE { Tag::parse(segment).ok() } else { None };
        if self.backend.exact {
            let load = async {
                let objects = self.objects.children(&keys::tags(name)).await?;
                Ok(Some(Index::new(objects.iter().filter_map(|(segment, size)| parse(segment, *size)))))
            };
            let index = self.caches.tag_lists.or_load(name.clone(), load).await?;
            return Ok(index.map_or_else(|| Slice { entries: Vec::new(), more: false }, |index| index.after(last, limit)));
        }
        // What is no tag has no place in the store's order: then all are looked at.
        let offset = last.filter(|last| Tag::parse(last).is_ok());
        let above = |segment: &str, size| parse(segment, size).filter(|tag| last.is_none_or(|last| tag.as_str() > last));
        self.objects.page(&keys::tags(name), offset, limit, above).await
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn tombstones_and_pointers_are_told_apart_by_size() {
        let tombstone = serde_json::to_vec(&Pointer::tombstone(u64::MAX)).unwrap();
        assert!(tombstone.len() as u64 <= TOMBSTONE);
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let pointer = Pointer::next(None, &digest, SystemTime::UNIX_EPOCH, &Origin::default());
        assert!(serde_json::to_vec(&pointer).unwrap().len() as u64 > TOMBSTONE);
    }

    #[test]
    fn a_record_with_the_last_sequence_can_still_be_moved() {
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let last = Pointer { sequence: u64::MAX, ..Pointer::next(None, &digest, SystemTime::UNIX_EPOCH, &Origin::default()) };
        let other = Digest::parse(&format!("sha256:{}", "b".repeat(64))).unwrap();
        let moved = Pointer::next(Some(last), &other, SystemTime::UNIX_EPOCH, &Origin::default());
        assert_eq!((moved.sequence, moved.previous), (u64::MAX, Some(digest)));
    }
}
