//! What this process knows of the slots, so that those in which nothing happens need not be read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::address::Address;
use crate::record::{JobId, Slot};
use crate::state::Version;

/// The slots that were seen.
#[derive(Default)]
pub(crate) struct Board(Mutex<BTreeMap<Address, Entry>>);

#[derive(Default)]
struct Entry {
    seen: Option<Seen>,
    /// Since it was seen nothing was tried that may have changed it.
    sure: bool,
}

/// A slot as it was seen last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) slot: Arc<Slot>,
    pub(crate) version: Version,
    /// Since when its lease is seen as it is, on our monotonic clock.
    pub(crate) since: Duration,
}

impl Seen {
    /// What changes whenever the holder of the lease writes, and never else.
    fn pulse(&self) -> Option<(JobId, u64, Option<u64>)> {
        let open = self.slot.open.as_ref()?;
        Some((open.id, open.epoch, open.lease.as_ref().map(|lease| lease.beat)))
    }
}

impl Board {
    /// What is known, and whether it is sure to be so still where nobody else writes.
    pub(crate) fn find(&self, address: &Address) -> Option<(Seen, bool)> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(address)?;
        Some((entry.seen.clone()?, entry.sure))
    }

    /// The slot was read or written. Of two that were seen the later stays. Gives what is known now.
    pub(crate) fn note(&self, address: &Address, slot: Slot, version: Version, now: Duration) -> Seen {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(address.clone()).or_default();
        let mut new = Seen { slot: Arc::new(slot), version, since: now };
        match &entry.seen {
            Some(old) if old.slot.revision > new.slot.revision => return old.clone(),
            Some(old) if old.pulse() == new.pulse() => new.since = old.since,
            _ => {}
        }
        entry.seen = Some(new.clone());
        entry.sure = true;
        new
    }

    /// Something is tried that may change the slot, or the answer to it was lost.
    pub(crate) fn doubt(&self, address: &Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(address.clone()).or_default().sure = false;
    }

    /// As [`Board::doubt`], for all.
    pub(crate) fn doubt_all(&self) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values_mut().for_each(|entry| entry.sure = false);
    }

    /// What is known of the slot is wrong.
    pub(crate) fn forget(&self, address: &Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone(), Entry::default());
    }

    /// The slot is not there.
    pub(crate) fn remove(&self, address: &Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// Those in which there is a job.
    pub(crate) fn occupied(&self) -> Vec<(Address, Seen)> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = entries.iter().filter_map(|(address, entry)| Some((address, entry.seen.as_ref()?)));
        seen.filter(|(_, seen)| seen.slot.open.is_some()).map(|(address, seen)| (address.clone(), seen.clone())).collect()
    }

    /// Those of which something has to be read to know what is in them.
    pub(crate) fn unsure(&self) -> Vec<Address> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|(_, entry)| !entry.sure || entry.seen.is_none()).map(|(address, _)| address.clone()).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn slot(revision: u64) -> Slot {
        Slot { revision, ..Slot::default() }
    }

    #[test]
    fn of_two_that_were_seen_the_later_stays_until_it_is_known_to_be_wrong() {
        let (board, address) = (Board::default(), Address::new("test", "a").unwrap());
        let version = Version::new(());
        assert_eq!(board.note(&address, slot(2), version.clone(), Duration::ZERO).slot.revision, 2);
        assert_eq!(board.note(&address, slot(1), version.clone(), Duration::ZERO).slot.revision, 2);
        assert_eq!(board.find(&address).unwrap().0.slot.revision, 2);
        board.forget(&address);
        assert_eq!(board.unsure(), std::slice::from_ref(&address));
        assert_eq!(board.note(&address, slot(1), version, Duration::ZERO).slot.revision, 1);
        assert!(board.unsure().is_empty());
        board.doubt(&address);
        assert_eq!((board.unsure(), board.find(&address).unwrap().1), (vec![address], false));
    }
}
