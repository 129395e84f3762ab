//! What we may ask of an upstream, and when: for every caller.
//!
//! A registry that wants to be left alone is left alone by all. What it lets us pull is for people first: background work takes
//! its turn from a token bucket, and stops when what is left of the quota is the reserve.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use telemetry::{Clock, Metrics};

use crate::outcome::{Refusal, retry_after};
use crate::quota::Quota;
use crate::wire::Reply;

/// How long an upstream is left alone that does not say for how long.
const UNSAID: Duration = Duration::from_secs(30);
/// No upstream is left alone for longer, whatever it says.
const LONGEST: Duration = Duration::from_hours(1);
/// What is known of a quota is old after this part of its window, and after [`OLD`] at the latest: others use it too.
const OLD_PART: u32 = 12;
const OLD: Duration = Duration::from_mins(30);

/// On whose behalf an upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody who waits for it.
    Person,
    /// Work that can wait itself.
    Background,
}

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// A manifest with its bytes: what quotas count.
    Manifest,
    /// A look at what is there: free, and a limit to it says what is left.
    Look,
    /// The bytes of a blob. Often served by others than the registry, and under no quota.
    Bytes,
    /// A look at a blob, and pushes.
    Other,
}

/// The budget of one upstream.
pub(crate) struct Budget {
    host: String,
    reserve: u64,
    metrics: Metrics,
    state: Mutex<State>,
}

struct State {
    /// Until when it wants to be left alone, in the clock's monotonic time.
    until: Duration,
    /// Until when background work leaves it alone beside that.
    background_until: Duration,
    bucket: Bucket,
    known: Known,
    /// Manifests that are being pulled: the last answer may not count them yet.
    under_way: u64,
    /// Refusals so far, so that each is told another time to come back.
    refusals: u64,
}

/// What is known of the quota.
#[derive(Clone, Copy)]
enum Known {
    /// No manifest has been asked for.
    Nothing,
    /// There is none.
    Unlimited,
    /// This, read at that time; a new window begins at `ends` at the latest.
    Quota { quota: Quota, read: Duration, ends: Duration },
}

/// A manifest that is being pulled, until its answer has been noted.
pub(crate) struct UnderWay<'a>(&'a Budget);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
    }
}

impl Budget {
    /// A budget that leaves `reserve` percent of the quota to people, with so many turns per second for background work.
    pub(crate) fn new(host: String, reserve: u8, per_second: u32, metrics: Metrics) -> Self {
        let state = State {
            until: Duration::ZERO,
            background_until: Duration::ZERO,
            bucket: Bucket::new(per_second),
            known: Known::Nothing,
            under_way: 0,
            refusals: 0,
        };
        Self { host, reserve: u64::from(reserve.min(100)), metrics, state: Mutex::new(state) }
    }

    /// Waits until the upstream may be asked something of this cost; else tells when to come back.
    pub(crate) async fn admit(&self, caller: Caller, cost: Cost, clock: &dyn Clock) -> Result<Option<UnderWay<'_>>, Refusal> {
        if caller == Caller::Person {
            let now = clock.monotonic();
            let mut state = self.lock();
            let left = state.until.saturating_sub(now);
            // Whoever fetches a blob for a person waits by himself, and out of quota for manifests is not out of blobs.
            if !left.is_zero() && cost != Cost::Bytes {
                return Err(Refusal::TooMany { retry_after: Some(left.as_secs().max(1)) });
            }
            state.bucket.take(now);
            return Ok(self.under_way(&mut state, cost));
        }
        let wait = {
            let mut state = self.lock();
            self.refuse_background(&mut state, cost, clock)?;
            state.bucket.turn(clock.monotonic())
        };
        if !wait.is_zero() {
            clock.sleep(wait).await;
        }
        let mut state = self.lock();
        // Others have had answers meanwhile.
        self.refuse_background(&mut state, cost, clock)?;
        Ok(self.under_way(&mut state, cost))
    }

    /// Is a free look to come before a manifest is pulled in the background, because it is not known what is left?
    pub(crate) fn wants_look(&self, now: Duration) -> bool {
        match self.lock().known {
            Known::Nothing => true,
            Known::Unlimited => false,
            Known::Quota { quota, read, .. } => now >= read + old(&quota),
        }
    }

    /// Notes what an answer of the registry, or of a place that it sent us to, says of our limits.
    pub(crate) fn note(&self, cost: Cost, reply: &Reply, clock: &dyn Clock) {
        let response = &reply.response;
        match response.status {
            StatusCode::TOO_MANY_REQUESTS => self.limited(cost, retry_after(response, clock.now()), clock),
            StatusCode::SERVICE_UNAVAILABLE => {
                if let Some(seconds) = retry_after(response, clock.now()) {
                    let until = clock.monotonic() + Duration::from_secs(seconds).min(LONGEST);
                    let mut state = self.lock();
                    state.background_until = state.background_until.max(until);
                }
            }
            _ => {}
        }
        if reply.crossed {
            return;
        }
        // Only what counts has to say so: some leave it out of answers to a look, and no listing has it.
        let is_manifest = cost == Cost::Manifest && response.status == StatusCode::OK;
        match Quota::read(&response.headers) {
            Some(quota) => self.learn(quota, clock.monotonic()),
            None if is_manifest => {
                let before = std::mem::replace(&mut self.lock().known, Known::Unlimited);
                if matches!(before, Known::Quota { .. }) {
                    self.metrics.upstream_quota(&self.host, None);
                }
            }
            None => {}
        }
    }

    /// The upstream, or its token realm, wants to be left alone.
    pub(crate) fn limited(&self, cost: Cost, seconds: Option<u64>, clock: &dyn Clock) {
        let until = clock.monotonic() + seconds.map_or(UNSAID, Duration::from_secs).min(LONGEST);
        let mut state = self.lock();
        state.background_until = state.background_until.max(until);
        // People's transfers wait by themselves, and nobody else has to because of them.
        if cost != Cost::Bytes {
            state.until = state.until.max(until);
        }
    }

    pub(crate) fn quota(&self) -> Option<Quota> {
        match self.lock().known {
            Known::Quota { quota, .. } => Some(quota),
            Known::Nothing | Known::Unlimited => None,
        }
    }

    fn learn(&self, quota: Quota, now: Duration) {
        let mut state = self.lock();
        // As long as less and less is left it is the window that was seen first, and it ends a window's length after that at the
        // latest. More than before: a new one, or one that slides.
        let ends = match state.known {
            Known::Quota { quota: before, ends, .. } if now < ends && quota.remaining <= before.remaining => ends,
            _ => now + quota.window,
        };
        let ends = quota.reset.map_or(ends, |reset| now + reset);
        state.known = Known::Quota { quota, read: now, ends };
        drop(state);
        self.metrics.upstream_quota(&self.host, Some((quota.limit, quota.remaining)));
    }

    fn under_way(&self, state: &mut State, cost: Cost) -> Option<UnderWay<'_>> {
        if cost != Cost::Manifest {
            return None;
        }
        state.under_way += 1;
        Some(UnderWay(self))
    }

    fn refuse_background(&self, state: &mut State, cost: Cost, clock: &dyn Clock) -> Result<(), Refusal> {
        let now = clock.monotonic();
        let alone = state.until.max(state.background_until).saturating_sub(now);
        let refusal = if !alone.is_zero() {
            state.refusals += 1;
            Refusal::TooMany { retry_after: Some(seconds(alone + jitter(alone, clock.now(), state.refusals))) }
        } else if let Some(wait) = self.reserved(state, cost, now) {
            Refusal::Reserved { retry_after: seconds(wait) }
        } else {
            return Ok(());
        };
        self.metrics.background_refused(&self.host);
        Err(refusal)
    }

    /// How long what is left is for people only, as far as is known.
    fn reserved(&self, state: &State, cost: Cost, now: Duration) -> Option<Duration> {
        let Known::Quota { quota, read, ends } = state.known else { return None };
        let left = quota.remaining.saturating_sub(state.under_way);
        let kept = quota.limit.saturating_mul(self.reserve) / 100;
        if matches!(cost, Cost::Bytes | Cost::Other) || now >= ends || left > kept {
            return None;
        }
        let look = read + old(&quota);
        if now < look {
            return Some(look.min(ends).saturating_sub(now));
        }
        // It is time to look again, and a look is free.
        (cost == Cost::Manifest).then(|| ends.saturating_sub(now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After how long what was said of a quota is asked for again.
fn old(quota: &Quota) -> Duration {
    (quota.window / OLD_PART).clamp(Duration::from_secs(1), OLD)
}

/// Whole seconds, of which there is at least one.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0 || duration.is_zero())
}

/// Up to a tenth of a wait, differently for each who waits: they must not come back together.
fn jitter(wait: Duration, now: SystemTime, refusals: u64) -> Duration {
    let nanos = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    // Multiples of the golden ratio are spread evenly, wherever they begin.
    let spread = nanos.wrapping_add(refusals).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    wait.mul_f64(f64::from(u32::try_from(spread).unwrap_or(0)) / f64::from(u32::MAX) / 10.0)
}

/// Turns, so many per second, and as many at once after a pause.
struct Bucket {
    interval: Duration,
    burst: Duration,
    /// When the bucket is full again.
    full: Duration,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: Duration::from_secs(1).max(interval), full: Duration::ZERO }
    }

    /// Takes a turn, and tells how long to wait for it.
    fn turn(&mut self, now: Duration) -> Duration {
        let before = self.full.max(now);
        self.full = before + self.interval;
        self.full.saturating_sub(now + self.burst)
    }

    /// Takes a turn if there is one: a person does not wait, and puts nobody off for longer than the bucket takes to fill.
    fn take(&mut self, now: Duration) {
        let after = self.full.max(now) + self.interval;
        if after <= now + self.burst {
            self.full = after;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
#[path = "budget/tests.rs"]
mod tests;
