//! Trying again what failed for reasons that pass, after waits that grow.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oci::Error;
use telemetry::{Clock, chain};

use crate::options::Options;

/// How often something is tried, and how long is waited in between.
pub(crate) struct Patience {
    clock: Arc<dyn Clock>,
    retries: u32,
    backoff: Duration,
    longest: Duration,
    chance: AtomicU64,
}

impl Patience {
    pub(crate) fn new(clock: Arc<dyn Clock>, options: &Options) -> Self {
        let chance = AtomicU64::new(options.seed);
        Self { clock, retries: options.retries, backoff: options.backoff, longest: options.longest_backoff, chance }
    }

    /// Is there another attempt after this failure, the `failed`th without any progress?
    pub(crate) fn goes_on(&self, failure: &Error, failed: u32) -> bool {
        may_pass(failure) && failed < self.retries
    }

    /// Waits before the attempt after `failed` that brought nothing.
    pub(crate) async fn wait(&self, failed: u32) {
        let doubled = self.backoff.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
        let full = doubled.min(self.longest);
        self.clock.sleep(full.mul_f64(1.0 - self.chance() / 2.0)).await;
    }

    /// What `ask` gives, which may be asked several times.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, Error>>>(&self, ask: impl Fn() -> F) -> Result<T, Error> {
        let mut failed = 0;
        loop {
            let failure = match ask().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failed += 1;
            if !self.goes_on(&failure, failed) {
                return Err(failure);
            }
            tracing::debug!(error = %chain(&failure), failed, "a request of a copy is repeated");
            self.wait(failed).await;
        }
    }

    /// The next number of a sequence between 0 and 1, by the method splitmix64.
    fn chance(&self) -> f64 {
        let mut state = self.chance.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let top = u32::try_from((state ^ (state >> 31)) >> 32).unwrap_or_default();
        f64::from(top) / f64::from(u32::MAX)
    }
}

/// Failures of the network and of servers. A quota is not among them: whoever asked for the copy decides when to go on.
fn may_pass(failure: &Error) -> bool {
    matches!(failure, Error::Upstream { .. } | Error::Unavailable { .. } | Error::TimedOut { .. })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use telemetry::SystemClock;
    use testing::ManualClock;

    use super::*;

    fn gone() -> Error {
        Error::Unavailable { reason: "gone".to_owned(), source: None }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_so_often_and_other_failures_once() {
        let options = Options { retries: 3, backoff: Duration::ZERO, ..Options::default() };
        let patience = Patience::new(Arc::new(SystemClock::default()), &options);
        let asked = Cell::new(0);
        let count = |failure: fn() -> Error| {
            asked.set(asked.get() + 1);
            std::future::ready(Err::<(), _>(failure()))
        };
        assert!(patience.ask(|| count(gone)).await.is_err());
        assert_eq!(asked.take(), 3);
        assert!(patience.ask(|| count(|| Error::Unauthorized)).await.is_err());
        assert_eq!(asked.take(), 1);
        let quota = || Error::TooManyRequests { reason: String::new(), retry_after: Some(1) };
        assert!(patience.ask(|| count(quota)).await.is_err());
        assert_eq!(asked.take(), 1);
    }

    #[tokio::test]
    async fn waits_grow_up_to_the_longest_and_lose_at_most_their_half() {
        let options = Options { backoff: Duration::from_secs(1), longest_backoff: Duration::from_secs(4), ..Options::default() };
        let clock = Arc::new(ManualClock::new());
        let patience = Patience::new(Arc::<ManualClock>::clone(&clock), &options);
        for (failed, full) in [(1, 1000), (2, 2000), (3, 4000), (4, 4000), (40, 4000)] {
            let mut wait = Box::pin(patience.wait(failed));
            assert!(futures_util::poll!(wait.as_mut()).is_pending());
            clock.advance(Duration::from_millis(full / 2 - 1));
            assert!(futures_util::poll!(wait.as_mut()).is_pending(), "{failed}");
            clock.advance(Duration::from_millis(full / 2 + 1));
            assert!(futures_util::poll!(wait.as_mut()).is_ready(), "{failed}");
        }
    }
}
