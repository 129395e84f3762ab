//! The numbers that an operator watches, as one value that the rooms share.

mod identity;
mod jobs;
mod labels;
mod mirrors;
mod promotions;
mod series;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::build;

pub use jobs::JobOutcome;
pub use labels::{CacheKind, CacheResult, FillOutcome};
pub use mirrors::MirrorRun;

/// The media type of what [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Counters, gauges and histograms. A clone counts into the same numbers; two values made by [`Metrics::new`] share nothing,
/// so that tests do not see each other.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<labels::Request, Counter>,
    request_duration: Histograms<labels::Route>,
    recent: series::Requests,
    received: Counter,
    sent: Counter,
    sendfile: Counter,
    connections: Gauge,
    cache: Family<labels::Cache, Counter>,
    fills_running: Family<labels::Upstream, Gauge>,
    fills: Family<labels::Fill, Counter>,
    fill_received: Family<labels::Upstream, Counter>,
    fills_resumed: Family<labels::Upstream, Counter>,
    upstream_requests: Family<labels::Call, Counter>,
    upstream_duration: Histograms<labels::Upstream>,
    quota_limit: Family<labels::Upstream, Gauge>,
    quota_remaining: Family<labels::Upstream, Gauge>,
    background_refused: Family<labels::Upstream, Counter>,
    store_duration: Histograms<labels::Operation>,
    store_errors: Family<labels::Operation, Counter>,
    mirrors: mirrors::Mirrors,
    promotions: promotions::Promotions,
    identity: identity::Identity,
    jobs: jobs::Jobs,
}

impl Metrics {
    /// A registry in which nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an answered request. `route` is the pattern, not the path; a method outside of GET, HEAD, POST, PUT, PATCH and
    /// DELETE is counted as `other`, so that a client cannot grow the set of labels.
    pub fn request(&self, route: &'static str, method: &str, status: u16, duration: Duration) {
        let method = labels::method_label(method);
        self.0.recent.observe(labels::Request { route, method, status }, duration, |labels| {
            let count = self.0.requests.get_or_create(&labels).clone();
            let duration = self.0.request_duration.get_or_create(&labels::Route { route }).clone();
            series::Series::new(labels, count, duration)
        });
    }

    /// Counts bytes of request bodies that arrived.
    pub fn received(&self, bytes: u64) {
        self.0.received.inc_by(bytes);
    }

    /// Counts bytes of response bodies that were handed to a connection.
    pub fn sent(&self, bytes: u64) {
        self.0.sent.inc_by(bytes);
    }

    /// Counts bytes of response bodies that the kernel took from a file itself. They are counted by [`Metrics::sent`] too.
    pub fn sent_by_kernel(&self, bytes: u64) {
        self.0.sendfile.inc_by(bytes);
    }

    /// A connection was accepted. Every call is followed by one of [`Metrics::connection_closed`].
    pub fn connection_opened(&self) {
        self.0.connections.inc();
    }

    /// A connection that was accepted has ended.
    pub fn connection_closed(&self) {
        self.0.connections.dec();
    }

    /// Counts one look into the cache of `upstream`, which is named as in the configuration.
    pub fn cache(&self, upstream: &str, kind: CacheKind, result: CacheResult) {
        let labels = labels::Cache { upstream: upstream.to_owned(), kind: kind.label(), result: result.label() };
        self.0.cache.get_or_create(&labels).inc();
    }

    /// A fill began. Every call is followed by one of [`Metrics::fill_ended`].
    pub fn fill_started(&self, upstream: &str) {
        self.0.fills_running.get_or_create(&per(upstream)).inc();
    }

    /// A fill that was counted by [`Metrics::fill_started`] ended; `bytes` came from the upstream, kept or not.
    pub fn fill_ended(&self, upstream: &str, outcome: FillOutcome, bytes: u64) {
        let ended = labels::Fill { upstream: upstream.to_owned(), outcome: outcome.label() };
        self.0.fills_running.get_or_create(&per(upstream)).dec();
        self.0.fills.get_or_create(&ended).inc();
        self.0.fill_received.get_or_create(&per(upstream)).inc_by(bytes);
    }

    /// A broken fill went on where it had stopped, instead of from the start.
    pub fn fill_resumed(&self, upstream: &str) {
        self.0.fills_resumed.get_or_create(&per(upstream)).inc();
    }

    /// Counts one HTTP request to an upstream. `outcome` is a word from the caller's fixed set (a status, or why there was
    /// none), never text from the network.
    pub fn upstream_call(&self, upstream: &str, method: &'static str, outcome: &str, duration: Duration) {
        let labels = labels::Call { upstream: upstream.to_owned(), method, outcome: outcome.to_owned() };
        self.0.upstream_requests.get_or_create(&labels).inc();
        self.0.upstream_duration.get_or_create(&per(upstream)).observe(duration.as_secs_f64());
    }

    /// What an upstream said of its quota: manifests that may be pulled in a window, and how many of them are left. `None` once it
    /// says nothing of one any more.
    pub fn upstream_quota(&self, upstream: &str, quota: Option<(u64, u64)>) {
        let (limits, left) = (&self.0.quota_limit, &self.0.quota_remaining);
        let Some((limit, remaining)) = quota else {
            limits.remove(&per(upstream));
            left.remove(&per(upstream));
            return;
        };
        limits.get_or_create(&per(upstream)).set(i64::try_from(limit).unwrap_or(i64::MAX));
        left.get_or_create(&per(upstream)).set(i64::try_from(remaining).unwrap_or(i64::MAX));
    }

    /// A call of background work was refused without asking the upstream: the rest of the quota is for people, or it wants to be
    /// left alone.
    pub fn background_refused(&self, upstream: &str) {
        self.0.background_refused.get_or_create(&per(upstream)).inc();
    }

    /// Counts one operation of the store. Absence is an answer, so `ok`; what is not `ok` deserves an operator.
    pub fn store_call(&self, operation: &'static str, ok: bool, duration: Duration) {
        let labels = labels::Operation { operation };
        self.0.store_duration.get_or_create(&labels).observe(duration.as_secs_f64());
        if !ok {
            self.0.store_errors.get_or_create(&labels).inc();
        }
    }

    /// Everything so far, as `OpenMetrics` text for [`CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.0.registry) {
            // A String takes everything that is written to it, so this is a defect of an encoder: a scraper must not see half.
            tracing::error!(%error, "metrics could not be encoded");
            text.clear();
            text.push_str("# EOF\n");
        }
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Inner {
    fn default() -> Self {
        let mut inner = Self {
            registry: Registry::with_prefix("roadstead"),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(transfer_histogram),
            recent: series::Requests::default(),
            received: Counter::default(),
            sent: Counter::default(),
            sendfile: Counter::default(),
            connections: Gauge::default(),
            cache: Family::default(),
            fills_running: Family::default(),
            fills: Family::default(),
            fill_received: Family::default(),
            fills_resumed: Family::default(),
            upstream_requests: Family::default(),
            upstream_duration: Family::new_with_constructor(call_histogram),
            quota_limit: Family::default(),
            quota_remaining: Family::default(),
            background_refused: Family::default(),
            store_duration: Family::new_with_constructor(call_histogram),
            store_errors: Family::default(),
            mirrors: mirrors::Mirrors::default(),
            promotions: promotions::Promotions::default(),
            identity: identity::Identity::default(),
            jobs: jobs::Jobs::default(),
        };
        inner.register_server();
        inner.register_cache();
        inner.register_outside();
        inner.mirrors.register(&mut inner.registry);
        inner.promotions.register(&mut inner.registry);
        inner.identity.register(&mut inner.registry);
        inner.jobs.register(&mut inner.registry);
        inner
    }
}

impl Inner {
    fn register_server(&mut self) {
        let info = build::info();
        let revision = info.revision.unwrap_or("unknown");
        let build = Info::new(labels::Build { version: info.version, revision, profile: info.profile });
        let registry = &mut self.registry;
        registry.register("build", "What this binary is", build);
        registry.register("http_requests", "Answered requests", self.requests.clone());
        let help = "From a request's head to its answer";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, self.request_duration.clone());
        registry.register_with_unit("http_received", "Bytes of request bodies", Unit::Bytes, self.received.clone());
        registry.register_with_unit("http_sent", "Bytes of response bodies", Unit::Bytes, self.sent.clone());
        let help = "Bytes of response bodies that the kernel took from files itself";
        registry.register_with_unit("http_sendfile", help, Unit::Bytes, self.sendfile.clone());
        registry.register("connections", "Open connections", self.connections.clone());
    }

    fn register_cache(&mut self) {
        let registry = &mut self.registry;
        registry.register("cache_requests", "Looks into the cache and what it had", self.cache.clone());
        registry.register("fills_running", "Fills under way", self.fills_running.clone());
        registry.register("fills", "Fills that ended", self.fills.clone());
        let help = "Bytes that fills took from the upstream, kept or not";
        registry.register_with_unit("fill_received", help, Unit::Bytes, self.fill_received.clone());
        registry.register("fills_resumed", "Broken fills that went on where they stopped", self.fills_resumed.clone());
    }

    fn register_outside(&mut self) {
        let registry = &mut self.registry;
        registry.register("upstream_requests", "HTTP requests to upstreams", self.upstream_requests.clone());
        let help = "From an upstream request to the head of its answer";
        registry.register_with_unit("upstream_request_duration", help, Unit::Seconds, self.upstream_duration.clone());
        let help = "Manifests that an upstream lets us pull in a window";
        registry.register("upstream_quota_limit", help, self.quota_limit.clone());
        registry.register("upstream_quota_remaining", "How many of them are left", self.quota_remaining.clone());
        let help = "Calls of background work that were refused without asking the upstream";
        registry.register("upstream_background_refused", help, self.background_refused.clone());
        let help = "Operations of the store";
        registry.register_with_unit("store_operation_duration", help, Unit::Seconds, self.store_duration.clone());
        registry.register("store_errors", "Operations of the store that failed", self.store_errors.clone());
    }
}

fn per(upstream: &str) -> labels::Upstream {
    labels::Upstream { upstream: upstream.to_owned() }
}

/// From a manifest out of memory to a layer over a slow line.
fn transfer_histogram() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0])
}

/// One exchange with a disk or another machine.
fn call_histogram() -> Histogram {
    Histogram::new([0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}
