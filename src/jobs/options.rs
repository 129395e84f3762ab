//! How jobs are run: for all of them, and for one kind.

use std::time::Duration;

use crate::random::Random;

/// How this process runs jobs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Jobs that are done here at the same time.
    pub concurrency: usize,
    /// How often it is looked for jobs that others submitted or left, give or take a fifth. Not for those of this process.
    pub poll: Duration,
    /// How long a job that is not heard of stays its holder's. Renewed three times as often.
    pub lease: Duration,
    /// How long a work may take to end when it is cancelled or the process stops.
    pub grace: Duration,
    /// How often [`crate::Jobs::watch`] looks.
    pub watch: Duration,
    /// Jitter and ids.
    pub random: Random,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 4,
            poll: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            watch: Duration::from_millis(500),
            random: Random::from_system(),
        }
    }
}

/// What is particular to the jobs of one kind.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Runs that may fail with [`crate::Outcome::Retry`]; then the job has failed. At least 1.
    pub attempts: u32,
    /// The wait after the first of these; doubled for each further one, and shortened by up to a half at random.
    pub backoff: Duration,
    /// It is never longer than this.
    pub longest_backoff: Duration,
    /// Ended jobs that are kept for each key.
    pub history: usize,
    /// Jobs of this kind that are done here at the same time, within [`Options::concurrency`].
    pub at_once: usize,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff: Duration::from_secs(10),
            longest_backoff: Duration::from_hours(1),
            history: 50,
            at_once: usize::MAX,
        }
    }
}
