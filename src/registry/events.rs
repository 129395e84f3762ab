//! What follows from a change of a tag: whoever acts on changes is told of each at least once.

use std::time::Duration;

use async_trait::async_trait;
use oci::Error;
use storage::TagEvent;

use crate::fault;
use crate::registry::Registry;

/// How often events are looked for that nobody acted on.
const SWEEP: Duration = Duration::from_secs(20);

/// Whoever acts on changes of tags.
#[async_trait]
pub trait Actor: Send + Sync {
    /// Acts on a change. `true` promises that what follows from it is durable; else it comes again. One may come twice, and one may
    /// come whose change was never made, because of a crash.
    async fn act(&self, event: &TagEvent) -> bool;
}

impl Registry {
    /// Hands every change of a tag to `actor`: those of this process at once, those that a crash has left later. Never returns. A
    /// store without a journal has no events.
    pub async fn act_on_events(&self, actor: &dyn Actor) {
        // What is there at the start is from before it.
        let mut is_first = true;
        let mut next = self.clock.monotonic();
        loop {
            tokio::select! {
                events = self.store.events() => self.act(events, actor).await,
                () = self.clock.sleep(next.saturating_sub(self.clock.monotonic())) => {}
            }
            if self.clock.monotonic() < next {
                continue;
            }
            match self.abandoned(is_first).await {
                Ok(events) => self.act(events, actor).await,
                Err(error) => {
                    tracing::warn!(error = %telemetry::chain(&error), "the journal cannot be looked through; trying again");
                }
            }
            is_first = false;
            next = self.clock.monotonic() + SWEEP;
        }
    }

    async fn abandoned(&self, is_first: bool) -> Result<Vec<TagEvent>, Error> {
        let now = self.clock.now();
        self.store.abandoned_events(now, is_first).await.map_err(fault::store("looking through the journal"))
    }

    async fn act(&self, events: Vec<TagEvent>, actor: &dyn Actor) {
        for event in events {
            if actor.act(&event).await
                && let Err(error) = self.store.event_done(&event).await
            {
                tracing::warn!(error = %telemetry::chain(&error), "an event may be acted on twice: its entry could not be removed");
            }
        }
    }
}
