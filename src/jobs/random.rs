//! Randomness as a value, so that jitter is tested without luck.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use uuid::Builder;

use crate::record::{JobId, millis};

/// Where jitter and ids come from. All clones draw from one source.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// The machine's randomness.
    #[must_use]
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_rng(&mut rand::rng()))))
    }

    /// The same sequence for the same seed. Two processes on one state must not have the same.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Somewhere between two durations.
    #[must_use]
    pub fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        let part: f64 = self.0.lock().unwrap_or_else(PoisonError::into_inner).random();
        shortest + longest.saturating_sub(shortest).mul_f64(part)
    }

    /// An id that nobody has, of this time.
    pub(crate) fn id(&self, now: SystemTime) -> JobId {
        let mut bytes = [0; 10];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        JobId(Builder::from_unix_timestamp_millis(millis(now), &bytes).into_uuid())
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Random").finish_non_exhaustive()
    }
}
