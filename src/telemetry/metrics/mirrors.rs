//! What is counted of mirrors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

/// What a run of a mirror did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorRun {
    /// It ended well.
    pub is_done: bool,
    /// Tags that were copied.
    pub copied: u64,
    /// Tags that were as they should be.
    pub unchanged: u64,
    /// Tags that failed.
    pub failed: u64,
    /// Bytes that moved.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mirror {
    mirror: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    mirror: String,
    outcome: &'static str,
}

#[derive(Default)]
pub(super) struct Mirrors {
    last_success: Family<Mirror, Gauge>,
    period: Family<Mirror, Gauge>,
    runs: Family<Outcome, Counter>,
    tags: Family<Outcome, Counter>,
    copied: Family<Mirror, Counter>,
    last_duration: Family<Mirror, Gauge>,
}

impl Mirrors {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "When a mirror last succeeded, or was first known, in seconds since 1970";
        registry.register_with_unit("mirror_last_success_timestamp", help, Unit::Seconds, self.last_success.clone());
        let help = "From one time of a mirror's schedule to the next";
        registry.register_with_unit("mirror_period", help, Unit::Seconds, self.period.clone());
        registry.register("mirror_runs", "Runs of mirrors that ended", self.runs.clone());
        registry.register("mirror_tags", "Source tags of runs that ended", self.tags.clone());
        registry.register_with_unit("mirror_copied", "Bytes that runs copied", Unit::Bytes, self.copied.clone());
        let help = "How long the last run took that ended";
        registry.register_with_unit("mirror_last_duration", help, Unit::Seconds, self.last_duration.clone());
    }
}

impl Metrics {
    /// A run of `mirror`, which is named as in the configuration, ended.
    pub fn mirror_ended(&self, mirror: &str, run: MirrorRun, duration: Duration) {
        let mirrors = &self.0.mirrors;
        let outcome = |outcome| Outcome { mirror: mirror.to_owned(), outcome };
        mirrors.runs.get_or_create(&outcome(if run.is_done { "done" } else { "failed" })).inc();
        for (label, count) in [("copied", run.copied), ("unchanged", run.unchanged), ("failed", run.failed)] {
            mirrors.tags.get_or_create(&outcome(label)).inc_by(count);
        }
        let mirror = Mirror { mirror: mirror.to_owned() };
        mirrors.copied.get_or_create(&mirror).inc_by(run.bytes);
        mirrors.last_duration.get_or_create(&mirror).set(seconds(duration));
    }

    /// When `mirror` last succeeded, or was first known, if it never has. Told again and again, so that every replica shows it.
    pub fn mirror_succeeded(&self, mirror: &str, at: SystemTime) {
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.mirrors.last_success.get_or_create(&Mirror { mirror: mirror.to_owned() }).set(seconds(at));
    }

    /// How long the schedule of `mirror` is from one time to the next.
    pub fn mirror_scheduled(&self, mirror: &str, period: Duration) {
        self.0.mirrors.period.get_or_create(&Mirror { mirror: mirror.to_owned() }).set(seconds(period));
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_on_a_mirror_that_does_not_succeed_has_what_it_needs() {
        let metrics = Metrics::new();
        metrics.mirror_succeeded("nightly", UNIX_EPOCH + Duration::from_secs(1000));
        metrics.mirror_scheduled("nightly", Duration::from_hours(24));
        metrics.mirror_ended(
            "nightly",
            MirrorRun { is_done: false, copied: 2, unchanged: 3, failed: 1, bytes: 7 },
            Duration::from_secs(5),
        );
        let text = metrics.encode();
        for line in [
            r#"roadstead_mirror_last_success_timestamp_seconds{mirror="nightly"} 1000"#,
            r#"roadstead_mirror_period_seconds{mirror="nightly"} 86400"#,
            r#"roadstead_mirror_runs_total{mirror="nightly",outcome="failed"} 1"#,
            r#"roadstead_mirror_tags_total{mirror="nightly",outcome="unchanged"} 3"#,
            r#"roadstead_mirror_copied_bytes_total{mirror="nightly"} 7"#,
            r#"roadstead_mirror_last_duration_seconds{mirror="nightly"} 5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
    }
}
