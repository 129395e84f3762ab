//! Reading and swapping slots.

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::{self, Address};
use crate::board::Seen;
use crate::error::Error;
use crate::jobs::Inner;
use crate::record::Slot;
use crate::state::{Changed, Version};

/// Objects that are read at the same time.
pub(crate) const AT_ONCE: usize = 16;

impl Inner {
    /// The slot as it is now; read only if it may have changed.
    pub(crate) async fn look(&self, address: &Address) -> Result<Option<Seen>, Error> {
        let known = self.board.find(address);
        let changed = match &known {
            Some((seen, true)) if self.state.is_exclusive() => return Ok(Some(seen.clone())),
            Some((seen, _)) => self.state.read_if_changed(&address.slot(), &seen.version).await?,
            None => match self.state.read(&address.slot()).await? {
                Some((bytes, version)) => Changed::To(bytes, version),
                None => Changed::Gone,
            },
        };
        match (changed, known) {
            (Changed::To(bytes, version), _) => self.saw(address, &bytes, version).map(Some),
            (Changed::Not, Some((seen, _))) => {
                Ok(Some(self.board.note(address, Slot::clone(&seen.slot), seen.version, self.clock.monotonic())))
            }
            (Changed::Not | Changed::Gone, _) => {
                self.board.remove(address);
                Ok(None)
            }
        }
    }

    /// The slot as it is now, read whatever is known of it.
    pub(crate) async fn look_again(&self, address: &Address) -> Result<Option<Seen>, Error> {
        self.board.forget(address);
        self.look(address).await
    }

    fn saw(&self, address: &Address, bytes: &[u8], version: Version) -> Result<Seen, Error> {
        let slot = parse(&address.slot(), bytes)?;
        Ok(self.board.note(address, slot, version, self.clock.monotonic()))
    }

    /// Writes the slot if it is as `expected`. `None` if another writer was faster. After an error, or dropped, it may have been written.
    pub(crate) async fn swap(&self, address: &Address, slot: Slot, expected: Option<&Version>) -> Result<Option<Seen>, Error> {
        let bytes = encode(&address.slot(), &slot)?;
        self.board.doubt(address);
        let Some(version) = self.state.swap(&address.slot(), bytes, expected).await? else {
            self.board.forget(address);
            return Ok(None);
        };
        Ok(Some(self.board.note(address, slot, version, self.clock.monotonic())))
    }

    /// The addresses of a kind that ever had a job.
    pub(crate) async fn addresses(&self, kind: &str) -> Result<Vec<Address>, Error> {
        let segments = self.state.list(&address::slots(kind)).await?;
        let keys = segments.iter().filter_map(|segment| address::unescape(segment));
        Ok(keys.map(|key| Address { kind: kind.to_owned(), key }).collect())
    }

    /// Looks at all slots of the registered kinds, also those that others have made.
    pub(crate) async fn look_at_all(&self) -> Result<Vec<(Address, Seen)>, Error> {
        let mut addresses = Vec::new();
        for kind in self.kinds() {
            addresses.extend(self.addresses(kind).await?);
        }
        self.look_at(addresses).await
    }

    /// Looks at these. What is corrupt is told and left out.
    pub(crate) async fn look_at(&self, addresses: Vec<Address>) -> Result<Vec<(Address, Seen)>, Error> {
        let looks = addresses.into_iter().map(|address| async move {
            let seen = self.look(&address).await;
            (address, seen)
        });
        let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
        let mut found = Vec::new();
        while let Some((address, seen)) = looks.next().await {
            match seen {
                Ok(Some(seen)) => found.push((address, seen)),
                Ok(None) => {}
                Err(corrupt @ Error::Corrupt { .. }) => {
                    tracing::error!(kind = address.kind, key = address.key, error = %telemetry::chain(&corrupt), "a job cannot be read");
                }
                Err(other) => return Err(other),
            }
        }
        Ok(found)
    }
}

pub(crate) fn encode(key: &str, value: &impl Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Bytes::from).map_err(|cause| Error::Corrupt { key: key.to_owned(), reason: cause.to_string() })
}

pub(crate) fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|cause| Error::Corrupt { key: key.to_owned(), reason: cause.to_string() })
}
