//! Following a job while it runs.

use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::watch;

use crate::address::Address;
use crate::error::Error;
use crate::jobs::Inner;
use crate::record::{JobId, Record};

/// The record of a job, each time that it has changed: [`Watch::next`].
pub struct Watch {
    inner: Arc<Inner>,
    /// Where; or why that is nowhere, until it is told.
    address: Result<Address, Option<Error>>,
    ended: watch::Receiver<()>,
    id: Option<JobId>,
    last: Option<Record>,
    over: bool,
}

impl Watch {
    pub(crate) fn new(inner: Arc<Inner>, address: Result<Address, Error>) -> Self {
        let ended = inner.ended.subscribe();
        Self { inner, address: address.map_err(Some), ended, id: None, last: None, over: false }
    }

    /// The record as it is now, then each time that it is another one, and at last as it ended; `None` after that, and at once if no
    /// job is open there. It may be running anywhere; what was told in this process is seen before it is written. Several changes may
    /// come as one: it is looked every [`crate::Options::watch`]. After an error it may be asked again.
    pub async fn next(&mut self) -> Option<Result<Record, Error>> {
        let address = match &mut self.address {
            Ok(address) => address.clone(),
            Err(invalid) => return invalid.take().map(Err),
        };
        loop {
            if self.over {
                return None;
            }
            if self.last.is_some() {
                let inner = Arc::clone(&self.inner);
                tokio::select! {
                    () = inner.clock.sleep(inner.options.watch) => {}
                    // The sender lives as long as `inner`.
                    _ = self.ended.changed() => {}
                }
            }
            let found = match self.look(&address).await {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            let Some(record) = found else {
                self.over = true;
                return None;
            };
            self.id = Some(record.id);
            self.over = record.state.is_ended();
            if self.last.as_ref() != Some(&record) {
                self.last = Some(record.clone());
                return Some(Ok(record));
            }
        }
    }

    /// All that [`Watch::next`] gives.
    pub fn into_stream(self) -> impl Stream<Item = Result<Record, Error>> + Send {
        futures_util::stream::unfold(self, |mut watch| async move {
            let record = watch.next().await?;
            Some((record, watch))
        })
    }

    /// The job that is followed, or the one that is open.
    async fn look(&self, address: &Address) -> Result<Option<Record>, Error> {
        let seen = self.inner.look(address).await?;
        let open = seen.as_ref().and_then(|seen| seen.slot.open.as_ref());
        match (open, self.id) {
            (Some(record), Some(id)) if record.id == id => Ok(Some(self.inner.live(address, record))),
            (Some(record), None) if !record.state.is_ended() => Ok(Some(self.inner.live(address, record))),
            (_, Some(id)) => self.inner.ended_at(address, id).await,
            (_, None) => Ok(None),
        }
    }
}
