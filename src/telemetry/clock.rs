//! The clock as a value, so that lifetimes, schedules and backoff are tested without sleeping.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

/// Where time comes from. The rooms take `Arc<dyn Clock>`; only this file asks the operating system.
pub trait Clock: Send + Sync + Debug {
    /// The wall clock: for what is shown, stored or compared with other machines. It may jump.
    fn now(&self) -> SystemTime;

    /// Time since an arbitrary origin that is fixed for the life of this value; never goes back. For measuring durations.
    fn monotonic(&self) -> Duration;

    /// Resolves once `duration` has passed on this clock. Dropping the future cancels the wait.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's clock. [`Clock::sleep`] needs a tokio runtime with its timer enabled.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else takes")]
        let origin = Instant::now();
        Self { origin }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else takes")]
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_moves_the_monotonic_clock_by_at_least_its_length() {
        let clock = SystemClock::default();
        let before = clock.monotonic();
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.monotonic() >= before + Duration::from_millis(5));
    }
}
