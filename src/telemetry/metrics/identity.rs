//! What is counted of certificates and of those who ask.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Certificate {
    certificate: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Denied {
    reason: &'static str,
}

#[derive(Default)]
pub(super) struct Identity {
    expires: Family<Certificate, Gauge>,
    denied: Family<Denied, Counter>,
    audit_lost: Counter,
}

impl Identity {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "When a certificate of this server expires, since 1970";
        registry.register_with_unit("certificate_expiry_timestamp", help, Unit::Seconds, self.expires.clone());
        registry.register("audit_lost", "Lines of the audit that could not be written", self.audit_lost.clone());
        registry.register("denied", "Requests that were not let in, by why", self.denied.clone());
    }
}

impl Metrics {
    /// A certificate of this server, by the name of its file, expires then.
    pub fn certificate_expires(&self, certificate: &str, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let label = Certificate { certificate: certificate.to_owned() };
        self.0.identity.expires.get_or_create(&label).set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// A line of the audit could not be written.
    pub fn audit_lost(&self) {
        self.0.identity.audit_lost.inc();
    }

    /// A request was not let in: `credentials`, `login`, `scope`, `denied`, `hidden`, `limit`.
    pub fn request_denied(&self, reason: &'static str) {
        self.0.identity.denied.get_or_create(&Denied { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn certificates_and_denials_are_told() {
        let metrics = Metrics::new();
        metrics.certificate_expires("/etc/tls.crt", UNIX_EPOCH + Duration::from_hours(500_000));
        metrics.request_denied("hidden");
        let text = metrics.encode();
        assert!(
            text.contains(r#"roadstead_certificate_expiry_timestamp_seconds{certificate="/etc/tls.crt"} 1800000000"#),
            "{text}"
        );
        assert!(text.contains(r#"roadstead_denied_total{reason="hidden"} 1"#), "{text}");
    }
}
