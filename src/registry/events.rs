//! What follows from a change of a tag: whoever acts on changes is told of each at least once.

use std::time::Duration;

use oci::Error;
use storage::TagEvent;

use crate::fault;
use crate::registry::Registry;

/// How often events are looked for that nobody acted on.
const SWEEP: Duration = Duration::from_secs(20);

impl Registry {
    /// Hands every change of a tag to `act`, the changes of this process at once, those that a crash has left later. An event is done
    /// when `act` gives `true`, which promises that what follows from it is durable; else it comes again. Never returns. A store
    /// without a journal has no events.
    pub async fn act_on_events(&self, act: impl AsyncFn(&TagEvent) -> bool) {
        let mut next = self.clock.monotonic();
        loop {
            tokio::select! {
                events = self.store.events() => self.act(events, &act).await,
                () = self.clock.sleep(next.saturating_sub(self.clock.monotonic())) => {}
            }
            if self.clock.monotonic() < next {
                continue;
            }
            match self.abandoned().await {
                Ok(events) => self.act(events, &act).await,
                Err(error) => {
                    tracing::warn!(error = %telemetry::chain(&error), "the journal cannot be looked through; trying again")
                }
            }
            next = self.clock.monotonic() + SWEEP;
        }
    }

    async fn abandoned(&self) -> Result<Vec<TagEvent>, Error> {
        let now = self.clock.now();
        self.store.abandoned_events(now).await.map_err(fault::store("looking through the journal"))
    }

    async fn act(&self, events: Vec<TagEvent>, act: &impl AsyncFn(&TagEvent) -> bool) {
        for event in events {
            if act(&event).await
                && let Err(error) = self.store.event_done(&event).await
            {
                tracing::warn!(error = %telemetry::chain(&error), "an event may be acted on twice: its entry could not be removed");
            }
        }
    }
}
