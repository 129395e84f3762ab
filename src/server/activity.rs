//! What a connection is doing, as far as its timers must know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use telemetry::Metrics;
use tokio::time::Instant;

/// Shared by a connection's socket, its requests and its driver. All of it is a hint to timers, so nothing orders by it.
#[derive(Debug)]
pub(crate) struct Activity {
    /// Here, because a count of references that all connections change costs more than it looks.
    metrics: Metrics,
    origin: Instant,
    /// Set once somebody asks for the silence: to ask the clock at every step costs more than most steps.
    timed: AtomicBool,
    /// Milliseconds after `origin`.
    progress: AtomicU64,
    begun: AtomicUsize,
    bodiless: AtomicUsize,
    running: AtomicUsize,
    ours: AtomicUsize,
    broken: AtomicBool,
}

/// A request is not over while one of these lives.
#[derive(Debug)]
pub(crate) struct Running(Arc<Activity>);

/// The peer waits for us while one of these lives.
#[derive(Debug)]
pub(crate) struct Ours(Arc<Activity>);

impl Activity {
    pub(crate) fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            origin: Instant::now(),
            timed: AtomicBool::new(false),
            progress: AtomicU64::new(0),
            begun: AtomicUsize::new(0),
            bodiless: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            ours: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// The head of a request is complete, and perhaps with it the request.
    pub(crate) fn begin(self: &Arc<Self>, has_body: bool) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if !has_body {
            self.bodiless.fetch_add(1, Ordering::Relaxed);
        }
        self.running()
    }

    /// One more part of a request that was begun: it may outlive the others.
    pub(crate) fn running(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.progress();
        Running(Arc::clone(self))
    }

    pub(crate) fn ours(self: &Arc<Self>) -> Ours {
        self.ours.fetch_add(1, Ordering::Relaxed);
        Ours(Arc::clone(self))
    }

    /// Where its bytes are counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// From now on [`Activity::silence`] is asked for.
    pub(crate) fn time(&self) {
        self.timed.store(true, Ordering::Relaxed);
        self.progress();
    }

    /// Bytes moved.
    pub(crate) fn progress(&self) {
        if !self.timed.load(Ordering::Relaxed) {
            return;
        }
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(now, Ordering::Relaxed);
    }

    /// How long no bytes of a body moved and no request began or ended, since [`Activity::time`] was called.
    pub(crate) fn silence(&self) -> Duration {
        let progress = Duration::from_millis(self.progress.load(Ordering::Relaxed));
        self.origin.elapsed().saturating_sub(progress)
    }

    /// How many heads of requests were complete so far.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many of them had no body.
    pub(crate) fn bodiless(&self) -> usize {
        self.bodiless.load(Ordering::Relaxed)
    }

    /// Whether a request is being read, handled or answered.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// Whether some request is waiting for us rather than for the peer.
    pub(crate) fn is_ours(&self) -> bool {
        self.ours.load(Ordering::Relaxed) > 0
    }

    /// The connection must not end in a way that looks like success.
    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.progress();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.progress();
        self.0.ours.fetch_sub(1, Ordering::Relaxed);
    }
}
