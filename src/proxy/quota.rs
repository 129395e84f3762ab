//! Upstreams that have told us to wait.
//!
//! Clients that are answered 429 come again at once, some of them five times: none of that goes on to the upstream before the time
//! that it named.

use std::time::Duration;

use moka::sync::Cache as Memory;
use oci::Error;
use telemetry::Clock;

use crate::names::Upstream;

/// Upstreams are few; this is only a bound.
const UPSTREAMS: u64 = 1000;
/// How long an upstream is left alone that does not say for how long.
const UNSAID: Duration = Duration::from_secs(30);
/// No upstream is left alone for longer, whatever it says.
const LONGEST: Duration = Duration::from_hours(1);

/// Until when which upstream wants to be left alone, in the clock's monotonic time.
pub(crate) struct Quota(Memory<String, Duration>);

impl Default for Quota {
    fn default() -> Self {
        Self(Memory::new(UPSTREAMS))
    }
}

impl Quota {
    /// May the upstream be asked? Else what it has said, with what is left of its time.
    pub(crate) fn check(&self, upstream: &Upstream, clock: &dyn Clock) -> Result<(), Error> {
        let until = self.0.get(&upstream.host).unwrap_or_default();
        let left = until.saturating_sub(clock.monotonic());
        if left.is_zero() {
            return Ok(());
        }
        let reason = format!("{} limits our requests", upstream.host);
        Err(Error::TooManyRequests { reason, retry_after: Some(left.as_secs().max(1)) })
    }

    /// Notes what an answer says of it.
    pub(crate) fn note<T>(&self, upstream: &Upstream, clock: &dyn Clock, answer: &Result<T, Error>) {
        if let Err(Error::TooManyRequests { retry_after, .. }) = answer {
            let wait = retry_after.map_or(UNSAID, Duration::from_secs).min(LONGEST);
            let known = self.0.get(&upstream.host).unwrap_or_default();
            self.0.insert(upstream.host.clone(), known.max(clock.monotonic() + wait));
        }
    }
}
