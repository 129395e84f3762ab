//! Jobs that have ended.
//!
//! A job ends when its slot is swapped for one with the ended record, result and all. Whoever finds such a record in a slot writes it
//! to the history, under a key that is the same whoever does it, and only then empties the slot.

use futures_util::{StreamExt, TryStreamExt};

use crate::address::{self, Address};
use crate::board::Seen;
use crate::error::Error;
use crate::jobs::Inner;
use crate::look::{AT_ONCE, encode, parse};
use crate::options::Kind;
use crate::record::{JobId, Record, Slot};

impl Inner {
    /// Brings a job that has ended from its slot to the history. Nothing happens to others.
    pub(crate) async fn archive(&self, address: &Address, seen: &Seen) -> Result<(), Error> {
        let Some(record) = seen.slot.open.as_ref().filter(|record| record.state.is_ended()) else { return Ok(()) };
        let key = format!("{}/{}", address.history(), address::entry(record.ended.unwrap_or(record.created), record.id));
        // If it is there, somebody else found the same record.
        self.state.swap(&key, encode(&key, record)?, None).await?;
        let slot =
            Slot { revision: seen.slot.revision.saturating_add(1), stamp: seen.slot.stamp, last: Some(record.id), open: None };
        if self.swap(address, slot, Some(&seen.version)).await?.is_some() {
            self.trim(address).await?;
        }
        Ok(())
    }

    /// Removes what is more than is kept.
    async fn trim(&self, address: &Address) -> Result<(), Error> {
        let kept = self.registered(&address.kind).map_or(Kind::default().history, |(_, registered)| registered.kind.history);
        let entries = self.state.list(&address.history()).await?;
        for entry in entries.iter().skip(kept) {
            self.state.remove(&format!("{}/{entry}", address.history())).await?;
        }
        Ok(())
    }

    pub(crate) async fn history(&self, address: &Address, limit: usize) -> Result<Vec<Record>, Error> {
        // What has just ended may still lie in the slot.
        if let Some(seen) = self.look(address).await? {
            self.archive(address, &seen).await?;
        }
        let entries = self.state.list(&address.history()).await?;
        let reads = entries.into_iter().take(limit).map(|entry| async move { self.entry(address, &entry).await });
        let records: Vec<Option<Record>> = futures_util::stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        Ok(records.into_iter().flatten().collect())
    }

    async fn entry(&self, address: &Address, entry: &str) -> Result<Option<Record>, Error> {
        let key = format!("{}/{entry}", address.history());
        // Absent: it was trimmed after it was listed.
        let Some((bytes, _)) = self.state.read(&key).await? else { return Ok(None) };
        parse(&key, &bytes).map(Some)
    }

    /// The slot in which the job is, if it is in one. It may have ended there.
    pub(crate) async fn find_open(&self, id: JobId) -> Result<Option<(Address, Seen)>, Error> {
        let is_it = |seen: &Seen| seen.slot.open.as_ref().is_some_and(|record| record.id == id);
        if let Some((address, _)) = self.board.occupied().into_iter().find(|(_, seen)| is_it(seen))
            && let Some(seen) = self.look(&address).await?.filter(is_it)
        {
            return Ok(Some((address, seen)));
        }
        Ok(self.look_at_all().await?.into_iter().find(|(_, seen)| is_it(seen)))
    }

    /// A job in the history.
    pub(crate) async fn find_ended(&self, id: JobId) -> Result<Option<(Address, Record)>, Error> {
        for kind in self.kinds() {
            for address in self.addresses(kind).await? {
                if let Some(record) = self.ended_at(&address, id).await? {
                    return Ok(Some((address, record)));
                }
            }
        }
        Ok(None)
    }

    /// The job, if it is in the history there.
    pub(crate) async fn ended_at(&self, address: &Address, id: JobId) -> Result<Option<Record>, Error> {
        let entries = self.state.list(&address.history()).await?;
        match entries.iter().find(|entry| address::is_entry_of(entry, id)) {
            Some(entry) => self.entry(address, entry).await,
            None => Ok(None),
        }
    }
}
