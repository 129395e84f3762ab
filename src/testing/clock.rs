//! A clock that stands still until it is moved.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use telemetry::Clock;
use tokio::sync::watch;

/// Seconds from the epoch to 2026-01-01T00:00:00Z, where every manual clock starts.
const START: u64 = 1_767_225_600;

/// A clock for tests: wall and monotonic time move together by [`ManualClock::advance`], and the wall's alone by
/// [`ManualClock::jump`].
#[derive(Debug)]
pub struct ManualClock {
    passed: watch::Sender<Duration>,
    /// Seconds by which the wall's time was set forward, or back.
    jumped: AtomicI64,
}

impl ManualClock {
    /// A clock at 2026-01-01T00:00:00Z whose monotonic time is zero.
    #[must_use]
    pub fn new() -> Self {
        Self { passed: watch::Sender::new(Duration::ZERO), jumped: AtomicI64::new(0) }
    }

    /// Moves the clock and wakes every sleeper whose time has come.
    pub fn advance(&self, duration: Duration) {
        self.passed.send_modify(|passed| *passed += duration);
    }

    /// Sets the wall's time forward by so many seconds, or back where they are negative. Nobody wakes for it.
    pub fn jump(&self, seconds: i64) {
        self.jumped.fetch_add(seconds, Ordering::Relaxed);
    }

    /// How many sleeps are under way, so that a test can wait until the code under test has gone to sleep.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.passed.receiver_count()
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(START) + *self.passed.borrow();
        let jumped = self.jumped.load(Ordering::Relaxed);
        let by = Duration::from_secs(jumped.unsigned_abs());
        if jumped < 0 { time - by } else { time + by }
    }

    fn monotonic(&self) -> Duration {
        *self.passed.borrow()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut passed = self.passed.subscribe();
        let deadline = *passed.borrow() + duration;
        Box::pin(async move {
            // The sender lives in `self`, which outlives this future.
            let _ = passed.wait_for(|passed| *passed >= deadline).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_their_time_has_come_and_not_before() {
        let clock = Arc::new(ManualClock::new());
        let sleeper = tokio::spawn({
            let clock = Arc::clone(&clock);
            async move { clock.sleep(Duration::from_secs(10)).await }
        });
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(9));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.monotonic(), Duration::from_secs(10));
        assert_eq!(clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap(), Duration::from_secs(START + 10));
    }
}
