//! The two series that a request counts into, found again without the locks and the hashing of their families.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::labels;

/// There are some twenty routes, and most answer with one or two statuses.
const SLOTS: usize = 128;

/// Each set of labels has one slot that it may be in; where another was first, the families are asked.
pub(super) struct Requests([OnceLock<Series>; SLOTS]);

pub(super) struct Series {
    labels: labels::Request,
    count: Counter,
    duration: Histogram,
}

impl Series {
    pub(super) fn new(labels: labels::Request, count: Counter, duration: Histogram) -> Self {
        Self { labels, count, duration }
    }

    fn observe(&self, duration: Duration) {
        self.count.inc();
        self.duration.observe(duration.as_secs_f64());
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self([const { OnceLock::new() }; SLOTS])
    }
}

impl Requests {
    /// Counts a request; `find` gives its series where they are not at hand.
    pub(super) fn observe(&self, labels: labels::Request, duration: Duration, find: impl Fn(labels::Request) -> Series) {
        let series = self.0[slot(&labels)].get_or_init(|| find(labels.clone()));
        if series.labels == labels {
            series.observe(duration);
        } else {
            find(labels).observe(duration);
        }
    }
}

/// Texts by their addresses: they are constants, and if one of them is there twice its series has two slots.
fn slot(labels: &labels::Request) -> usize {
    let mixed = labels.route.as_ptr().addr().wrapping_mul(31) ^ labels.method.as_ptr().addr();
    (mixed ^ usize::from(labels.status).wrapping_mul(0x9e37)).wrapping_mul(0x9e37_79b9_7f4a_7c15_usize) >> (usize::BITS - 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_that_share_a_slot_do_not_count_into_each_other() {
        let metrics = crate::Metrics::new();
        for status in 100..600 {
            for _ in 0..status % 3 {
                metrics.request("blob", "GET", status, Duration::ZERO);
            }
        }
        let text = metrics.encode();
        for status in 100..600 {
            let line =
                format!("roadstead_http_requests_total{{route=\"blob\",method=\"GET\",status=\"{status}\"}} {}", status % 3);
            assert_eq!(text.contains(&line), status % 3 > 0, "{line}");
        }
        assert!(text.contains("roadstead_http_request_duration_seconds_count{route=\"blob\"} 501"));
    }
}
