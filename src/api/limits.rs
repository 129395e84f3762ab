//! How much somebody may ask of the server at a time, so that one does not take it from all others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use auth::{Principal, Who};
use moka::sync::Cache;
use telemetry::Clock;

use crate::caller::Caller;

/// So many seconds' worth of requests may come at once: a client that pulls an image asks for all of its layers.
const BURST: u64 = 10;
const HOUR: u64 = 3_600_000;
/// Those who are remembered; beyond that the ones that were quiet longest begin anew.
const REMEMBERED: u64 = 100_000;
/// How long a client is told to wait that has too many uploads.
const UPLOADS: Duration = Duration::from_secs(2);

/// One limit, for each of those whom it is for.
#[derive(Clone, Debug)]
pub struct Limit {
    /// For whom it is.
    pub who: Vec<Who>,
    /// What it is counted by.
    pub per: Per,
    /// Requests.
    pub requests_per_second: Option<u32>,
    /// Uploads that are received at the same time.
    pub uploads: Option<usize>,
    /// Bytes of content, in and out.
    pub bytes_per_hour: Option<u64>,
}

/// What a limit is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Each principal; those of whom nothing is known, by their addresses.
    Principal,
    /// Each address, whoever asks from there.
    Address,
}

/// All limits, and how much of each is used.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    limits: Vec<Limit>,
    used: Cache<(usize, String), Arc<Mutex<Used>>>,
    clock: Arc<dyn Clock>,
}

/// What one has left of one limit.
struct Used {
    /// Thousandths of requests.
    requests: u64,
    /// Below nothing after a large one.
    bytes: i64,
    uploads: usize,
    /// Milliseconds since 1970.
    at: u64,
}

/// Lets a request through, and counts what it takes.
pub(crate) struct Pass {
    counted: Vec<Arc<Mutex<Used>>>,
    is_upload: bool,
}

/// Why a request has to wait, and how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) reason: &'static str,
    pub(crate) wait: Duration,
}

impl Limits {
    /// These limits.
    #[must_use]
    pub fn new(limits: Vec<Limit>, clock: Arc<dyn Clock>) -> Self {
        let used = Cache::builder().max_capacity(REMEMBERED).time_to_idle(Duration::from_hours(2)).build();
        Self(Arc::new(Inner { limits, used, clock }))
    }

    fn now(&self) -> u64 {
        let since = self.0.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts a request, or says how long it has to wait; then it is not counted.
    pub(crate) fn enter(&self, caller: &Caller, is_upload: bool) -> Result<Pass, Wait> {
        let mut counted = Vec::new();
        if self.0.limits.is_empty() {
            return Ok(Pass { counted, is_upload });
        }
        let (now, nobody) = (self.now(), Principal::anonymous());
        let principal = caller.identity().map_or(&nobody, |identity| identity.principal());
        let address = auth::network(caller.address()).to_string();
        for (index, limit) in self.0.limits.iter().enumerate() {
            if !limit.who.iter().any(|who| who.is(principal)) {
                continue;
            }
            let by_address = limit.per == Per::Address || principal.is_anonymous();
            let key = if by_address { address.clone() } else { principal.name().to_owned() };
            let used = self.0.used.get_with((index, key), || Arc::new(Mutex::new(Used::full(limit, now))));
            used.lock().unwrap_or_else(PoisonError::into_inner).has_room(limit, now, is_upload)?;
            counted.push(used);
        }
        for used in &counted {
            let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
            used.requests = used.requests.saturating_sub(1000);
            used.uploads += usize::from(is_upload);
        }
        Ok(Pass { counted, is_upload })
    }
}

impl Used {
    fn full(limit: &Limit, now: u64) -> Self {
        Self { requests: most_requests(limit), bytes: most_bytes(limit), uploads: 0, at: now }
    }

    fn has_room(&mut self, limit: &Limit, now: u64, is_upload: bool) -> Result<(), Wait> {
        let elapsed = now.saturating_sub(self.at).min(HOUR);
        self.at = self.at.max(now);
        if let Some(rate) = limit.requests_per_second {
            // A thousandth in each millisecond for each request in a second.
            self.requests = most_requests(limit).min(self.requests + elapsed * u64::from(rate));
            if self.requests < 1000 {
                let wait = (1000 - self.requests).div_ceil(u64::from(rate.max(1)));
                return Err(Wait { reason: "requests come too fast", wait: Duration::from_millis(wait) });
            }
        }
        if let Some(rate) = limit.bytes_per_hour {
            let gained = u128::from(elapsed) * u128::from(rate) / u128::from(HOUR);
            self.bytes = most_bytes(limit).min(self.bytes.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX)));
            if self.bytes <= 0 {
                let missing = u128::from(self.bytes.unsigned_abs()) + 1;
                let wait = (missing * u128::from(HOUR)).div_ceil(u128::from(rate.max(1)));
                let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX));
                return Err(Wait { reason: "the bytes of this hour are used up", wait });
            }
        }
        if is_upload && limit.uploads.is_some_and(|most| self.uploads >= most) {
            return Err(Wait { reason: "too many uploads at the same time", wait: UPLOADS });
        }
        Ok(())
    }
}

fn most_requests(limit: &Limit) -> u64 {
    u64::from(limit.requests_per_second.unwrap_or_default()) * 1000 * BURST
}

fn most_bytes(limit: &Limit) -> i64 {
    limit.bytes_per_hour.map_or(i64::MAX, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

impl Pass {
    /// Nothing is counted.
    pub(crate) fn free() -> Self {
        Self { counted: Vec::new(), is_upload: false }
    }

    /// So many bytes went in or out.
    pub(crate) fn took(&self, bytes: u64) {
        for used in &self.counted {
            let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
            used.bytes = used.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        for used in self.counted.iter().filter(|_| self.is_upload) {
            let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
            used.uploads = used.uploads.saturating_sub(1);
        }
    }
}

impl Wait {
    /// Whole seconds to come back after, not the same for all: those who were refused together do not come together.
    pub(crate) fn retry_after(&self) -> u64 {
        let least = self.wait.as_secs() + 1;
        least + rand::random_range(0..=(least / 2 + 2))
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Limits").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use testing::ManualClock;

    use super::*;

    fn limits(limit: Limit) -> (Limits, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        (Limits::new(vec![limit], Arc::clone(&clock) as _), clock)
    }

    fn limit() -> Limit {
        let who = vec![Who::Anonymous];
        Limit { who, per: Per::Principal, requests_per_second: None, uploads: None, bytes_per_hour: None }
    }

    #[test]
    fn requests_come_at_a_rate_with_a_burst() {
        let (limits, clock) = limits(Limit { requests_per_second: Some(5), ..limit() });
        let caller = Caller::anybody(None);
        for _ in 0..50 {
            limits.enter(&caller, false).unwrap();
        }
        let refused = limits.enter(&caller, false).err().unwrap();
        assert_eq!((refused.reason, refused.wait), ("requests come too fast", Duration::from_millis(200)));
        assert!((1..=3).contains(&refused.retry_after()));
        clock.advance(Duration::from_secs(1));
        let passed = (0..10).filter(|_| limits.enter(&caller, false).is_ok()).count();
        assert_eq!(passed, 5);
    }

    #[test]
    fn an_upload_that_ends_makes_room_however_it_ends() {
        let (limits, _) = limits(Limit { uploads: Some(2), ..limit() });
        let caller = Caller::anybody(None);
        let first = limits.enter(&caller, true).unwrap();
        let _second = limits.enter(&caller, true).unwrap();
        assert!(limits.enter(&caller, true).is_err() && limits.enter(&caller, false).is_ok());
        drop(first);
        assert!(limits.enter(&caller, true).is_ok());
    }

    #[test]
    fn bytes_are_paid_back_over_the_hour() {
        let (limits, clock) = limits(Limit { bytes_per_hour: Some(3_600), ..limit() });
        let caller = Caller::anybody(None);
        limits.enter(&caller, false).unwrap().took(3_600 + 60);
        let refused = limits.enter(&caller, false).err().unwrap();
        assert_eq!(refused.wait, Duration::from_secs(61));
        clock.advance(Duration::from_secs(61));
        assert!(limits.enter(&caller, false).is_ok());
        clock.advance(Duration::from_hours(5));
        limits.enter(&caller, false).unwrap().took(3_599);
        assert!(limits.enter(&caller, false).is_ok());
    }
}
