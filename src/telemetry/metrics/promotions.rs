//! What is counted of promotions.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Promotion {
    promotion: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    promotion: String,
    outcome: &'static str,
}

pub(super) struct Promotions {
    ended: Family<Outcome, Counter>,
    took: Family<Promotion, Histogram, fn() -> Histogram>,
    held: Family<Promotion, Gauge>,
}

/// From a push to its commit: from 50 ms to some minutes.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.0, 14))
}

impl Default for Promotions {
    fn default() -> Self {
        Self { ended: Family::default(), took: Family::new_with_constructor(histogram), held: Family::default() }
    }
}

impl Promotions {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("promotions", "Promotions, by what became of them", self.ended.clone());
        let help = "From the change of a tag to its commit";
        registry.register_with_unit("promotion_commit_duration", help, Unit::Seconds, self.took.clone());
        registry.register("promotion_held", "1 while a promotion is held", self.held.clone());
    }
}

impl Metrics {
    /// A promotion of the rule `promotion` has come to this outcome.
    pub fn promotion_ended(&self, promotion: &str, outcome: &'static str) {
        self.0.promotions.ended.get_or_create(&Outcome { promotion: promotion.to_owned(), outcome }).inc();
    }

    /// From the change of a tag to its commit, in milliseconds.
    pub fn promotion_took(&self, promotion: &str, millis: u64) {
        let label = Promotion { promotion: promotion.to_owned() };
        let millis = u32::try_from(millis).unwrap_or(u32::MAX);
        self.0.promotions.took.get_or_create(&label).observe(f64::from(millis) / 1000.0);
    }

    /// Whether a rule is held. Told again and again, so that every replica shows it.
    pub fn promotion_held(&self, promotion: &str, is_held: bool) {
        self.0.promotions.held.get_or_create(&Promotion { promotion: promotion.to_owned() }).set(i64::from(is_held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotions_are_counted_by_rule_and_outcome() {
        let metrics = Metrics::new();
        metrics.promotion_ended("prod", "committed");
        metrics.promotion_took("prod", 400);
        metrics.promotion_held("prod", true);
        let text = metrics.encode();
        for line in [
            r#"roadstead_promotions_total{promotion="prod",outcome="committed"} 1"#,
            r#"roadstead_promotion_commit_duration_seconds_sum{promotion="prod"} 0.4"#,
            r#"roadstead_promotion_held{promotion="prod"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
    }
}
