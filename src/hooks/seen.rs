//! Deliveries that were done already, so that one that is sent again, by its forge or by somebody who listened, is not done again.
//!
//! ```text
//! <inbound>/<day since 1970>/<identity>           its id, and when it was done
//! ```
//!
//! By its bytes a delivery is known, not by its id: forges do not sign that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use jobs::{State, StateError};
use serde_json::json;
use telemetry::Clock;

use crate::inbound::{Delivery, Inbound};

const DAY: u64 = 24 * 60 * 60;
/// Days before those that are kept which are looked at for what is left there.
const LEFT: u64 = 30;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenLimits {
    /// Whole days for which a delivery is known at least. 1 at least.
    pub days: u64,
    /// Deliveries of a day that are remembered of each sender.
    pub per_day: usize,
}

impl Default for SeenLimits {
    fn default() -> Self {
        Self { days: 7, per_day: 10_000 }
    }
}

/// The memory of deliveries failed.
#[derive(Debug, thiserror::Error)]
#[error("it is not known which deliveries of {inbound} were done")]
pub struct SeenError {
    /// Whose.
    pub inbound: String,
    /// Why.
    #[source]
    pub source: StateError,
}

/// Which deliveries were done. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Seen {
    state: Arc<dyn State>,
    clock: Arc<dyn Clock>,
    limits: SeenLimits,
    /// For each sender the day that was last written to, and how many there were.
    today: Arc<Mutex<BTreeMap<String, (u64, usize)>>>,
}

impl Seen {
    /// A memory that lies in `state` under the names of the senders.
    #[must_use]
    pub fn new(state: Arc<dyn State>, clock: Arc<dyn Clock>, limits: SeenLimits) -> Self {
        Self { state, clock, limits, today: Arc::default() }
    }

    /// Was this delivery done already?
    pub async fn is_done(&self, inbound: &Inbound, delivery: &Delivery) -> Result<bool, SeenError> {
        let (today, identity) = (self.day(), inbound.identity(delivery));
        for day in today.saturating_sub(self.limits.days.max(1))..=today {
            let key = format!("{}/{day}/{identity}", inbound.name());
            if self.state.read(&key).await.map_err(|source| failed(inbound, source))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that a delivery is done. To be called when what it asks for is durable, and not before: a forge sends again what failed.
    ///
    /// Also removes what is older than the days that are kept, once a day.
    pub async fn done(&self, inbound: &Inbound, delivery: &Delivery) -> Result<(), SeenError> {
        let today = self.day();
        if !self.has_room(inbound, today).await.map_err(|source| failed(inbound, source))? {
            return Ok(());
        }
        let at = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let value = Bytes::from(json!({ "id": delivery.id, "at": at }).to_string());
        let key = format!("{}/{today}/{}", inbound.name(), inbound.identity(delivery));
        self.state.swap(&key, value, None).await.map_err(|source| failed(inbound, source))?;
        Ok(())
    }

    /// Whole days since 1970.
    fn day(&self) -> u64 {
        self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY
    }

    async fn has_room(&self, inbound: &Inbound, today: u64) -> Result<bool, StateError> {
        let known = {
            let mut days = self.today.lock().unwrap_or_else(PoisonError::into_inner);
            days.get_mut(inbound.name()).filter(|(day, _)| *day == today).map(|(_, count)| {
                *count += 1;
                *count
            })
        };
        let count = match known {
            Some(count) => count,
            None => self.begin(inbound, today).await?,
        };
        let has_room = count <= self.limits.per_day.max(1);
        if !has_room {
            tracing::error!(
                inbound = inbound.name(),
                limit = self.limits.per_day,
                "too many deliveries in one day: this one is not remembered"
            );
        }
        Ok(has_room)
    }

    /// Counts what is there of today, with the one that is about to come, and removes what is too old.
    async fn begin(&self, inbound: &Inbound, today: u64) -> Result<usize, StateError> {
        let oldest = today.saturating_sub(self.limits.days.max(1));
        for day in oldest.saturating_sub(LEFT)..oldest {
            let folder = format!("{}/{day}", inbound.name());
            for identity in self.state.list(&folder).await? {
                self.state.remove(&format!("{folder}/{identity}")).await?;
            }
        }
        let count = self.state.list(&format!("{}/{today}", inbound.name())).await?.len() + 1;
        let mut days = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        days.insert(inbound.name().to_owned(), (today, count));
        Ok(count)
    }
}

fn failed(inbound: &Inbound, source: StateError) -> SeenError {
    SeenError { inbound: inbound.name().to_owned(), source }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Seen").field("limits", &self.limits).finish_non_exhaustive()
    }
}
