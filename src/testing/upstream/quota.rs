//! The fake's limit on manifests, in the manner of Docker Hub.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use telemetry::Clock;

use super::serve::{Answer, failure};

/// So many manifests in a window, which begins with the first of them.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: u64,
    window: Duration,
    clock: Arc<dyn Clock>,
    used: u64,
    began: Duration,
}

impl Quota {
    pub(crate) fn new(limit: u64, window: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { limit, window, clock, used: 0, began: Duration::ZERO }
    }

    /// How many are left now.
    pub(crate) fn remaining(&self) -> u64 {
        let is_over = self.clock.monotonic() >= self.began + self.window;
        if is_over { self.limit } else { self.limit.saturating_sub(self.used) }
    }

    /// The answer, if the quota lets it be given. What is served counts if `counts`.
    pub(crate) fn apply(&mut self, counts: bool, answer: impl FnOnce() -> Answer) -> Answer {
        let mut answer = if counts && self.remaining() == 0 { failure(429, "TOOMANYREQUESTS") } else { answer() };
        if counts && answer.status().is_success() {
            if self.remaining() == self.limit {
                (self.used, self.began) = (0, self.clock.monotonic());
            }
            self.used += 1;
        }
        self.tell(answer.headers_mut());
        answer
    }

    fn tell(&self, headers: &mut HeaderMap) {
        let window = self.window.as_secs();
        headers.insert("ratelimit-limit", format!("{};w={window}", self.limit).parse().unwrap());
        headers.insert("ratelimit-remaining", format!("{};w={window}", self.remaining()).parse().unwrap());
        headers.insert("docker-ratelimit-source", "127.0.0.1".parse().unwrap());
    }
}
