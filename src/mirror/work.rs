//! Mirrors as jobs: one kind, one key for each mirror, so that no mirror runs twice at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jobs::{Level, Outcome, Running, Work};
use oci::{Error, Tag};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telemetry::{Clock, Metrics};
use tokio::sync::Mutex;
use transfer::Seen;

use crate::memory::{Memories, Memory};
use crate::report::{Report, TagOutcome, TagReport};
use crate::run::{Bound, Pins, Run, millis, stamp};
use crate::settings::Mirror;

/// The kind of the jobs.
pub const KIND: &str = "mirror";

/// How often a run that goes on saves what it has done. What was copied in between is found there and not copied again.
const SAVE: Duration = Duration::from_secs(2);
/// How often a run tells how far it is.
const TELL: Duration = Duration::from_millis(250);

/// What a run is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Change nothing, and say what would be.
    #[serde(default)]
    pub dry_run: bool,
    /// The moment that its dated tags are named by, in milliseconds since 1970.
    pub at: u64,
}

/// All mirrors of this server.
#[derive(Clone)]
pub struct Mirrors(Arc<Inner>);

struct Inner {
    mirrors: BTreeMap<String, Bound>,
    memories: Memories,
    pins: Arc<dyn Pins>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Mirrors {
    /// Mirrors of distinct names.
    #[must_use]
    pub fn new(mirrors: Vec<Bound>, memories: Memories, pins: Arc<dyn Pins>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let mirrors = mirrors.into_iter().map(|bound| (bound.settings.name.clone(), bound)).collect();
        Self(Arc::new(Inner { mirrors, memories, pins, clock, metrics }))
    }

    /// What is known of a mirror.
    #[must_use]
    pub fn settings(&self, name: &str) -> Option<&Arc<Mirror>> {
        self.0.mirrors.get(name).map(|bound| &bound.settings)
    }

    /// All of them, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Mirror>> {
        self.0.mirrors.values().map(|bound| &bound.settings)
    }

    /// What they remember.
    #[must_use]
    pub fn memories(&self) -> &Memories {
        &self.0.memories
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    async fn begin<'r>(&'r self, bound: &'r Bound, input: &Input) -> Result<Run<'r>, crate::MemoryError> {
        let memory = self.0.memories.of(&bound.settings.name).await?.unwrap_or_else(Memory::default);
        Ok(Run {
            bound,
            memories: &self.0.memories,
            pins: self.0.pins.as_ref(),
            clock: self.0.clock.as_ref(),
            stamp: stamp(&bound.settings, input.at),
            is_dry: input.dry_run,
            memory,
            exhausted: Mutex::new(None),
            stopped: AtomicBool::new(false),
            active: std::sync::Mutex::default(),
        })
    }

    fn count(&self, mirror: &Mirror, report: &Report, duration: Duration) {
        if report.dry_run {
            return;
        }
        let totals = report.totals();
        let ran = telemetry::MirrorRun {
            copied: totals.copied,
            unchanged: totals.unchanged,
            failed: totals.failed,
            bytes: totals.bytes_copied,
        };
        self.0.metrics.mirror_ended(&mirror.name, ran, duration);
    }
}

#[async_trait]
impl Work for Mirrors {
    async fn run(&self, job: Running) -> Outcome {
        let Some(bound) = self.0.mirrors.get(job.key()) else {
            let reason = format!("there is no mirror {} in the configuration", job.key());
            return Outcome::Failed { reason, result: Value::Null };
        };
        let input = match serde_json::from_value::<Input>(job.input().clone()) {
            Ok(input) => input,
            Err(error) => return Outcome::Failed { reason: format!("the input is not one: {error}"), result: Value::Null },
        };
        let run = match self.begin(bound, &input).await {
            Ok(run) => run,
            Err(error) => return Outcome::Retry { reason: telemetry::chain(&error), after: None },
        };
        let mut report: Report = serde_json::from_value(job.checkpoint()).unwrap_or_default();
        report.dry_run = input.dry_run;
        report.stamp = run.stamp.timestamp().to_string();
        let tags = match run.selected().await {
            Ok(tags) => tags,
            Err(error) => return not_listed(&error),
        };
        report.selected = tags.len();
        let rest: Vec<Tag> = tags.into_iter().filter(|tag| !report.is_done(tag.as_str())).collect();
        let (report, last) = (std::sync::Mutex::new(report), std::sync::Mutex::new(run.clock.monotonic()));
        let report = Saved { job: &job, run: &run, report, last }.copy(rest).await;
        self.ended(&job, &bound.settings, &run, report).await
    }
}

/// Tags that cannot be listed leave nothing to do.
fn not_listed(error: &Error) -> Outcome {
    match error {
        Error::TooManyRequests { retry_after, reason } => {
            Outcome::Later { after: Duration::from_secs(retry_after.unwrap_or(60)), reason: reason.clone() }
        }
        unknown if unknown.is_unknown() => Outcome::Failed { reason: telemetry::chain(unknown), result: Value::Null },
        other => Outcome::Retry { reason: telemetry::chain(other), after: None },
    }
}

/// A report that is saved and told while it grows.
struct Saved<'r> {
    job: &'r Running,
    run: &'r Run<'r>,
    report: std::sync::Mutex<Report>,
    /// When it was saved last, in the clock's monotonic time.
    last: std::sync::Mutex<Duration>,
}

impl Saved<'_> {
    async fn copy(self, tags: Vec<Tag>) -> Report {
        let stop = async {
            self.job.cancelled().cancelled().await;
            self.run.stopped.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        };
        let progress = async {
            loop {
                self.tell();
                self.run.clock.sleep(TELL).await;
            }
        };
        tokio::select! {
            () = self.run.copy(tags, |tag, report| self.done(tag, report)) => {}
            () = stop => {}
            () = progress => {}
        }
        self.tell();
        self.report.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn done(&self, tag: Tag, report: TagReport) {
        let level = match report.outcome {
            TagOutcome::Failed | TagOutcome::Refused => Some(Level::Error),
            TagOutcome::Unchanged => None,
            _ => Some(Level::Info),
        };
        if let Some(level) = level {
            self.job.log(level, line(&tag, &report));
        }
        self.report().tags.insert(tag.to_string(), report);
        if !self.is_to_be_saved() {
            return;
        }
        let checkpoint = serde_json::to_value(&*self.report());
        if let Ok(checkpoint) = checkpoint {
            // A lease that is lost drops this run.
            let _ = self.job.save(checkpoint).await;
        }
    }

    fn is_to_be_saved(&self) -> bool {
        let now = self.run.clock.monotonic();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let late = now.saturating_sub(*last) >= SAVE;
        if late {
            *last = now;
        }
        late
    }

    /// Tells how far the run is, for whoever watches it.
    fn tell(&self) {
        let images: Vec<Value> = self.run.active().iter().map(|(tag, progress)| image(tag, &progress.seen())).collect();
        let report = self.report();
        self.job.progress(json!({ "tags": report.selected, "tags_done": report.tags.len(), "images": images }));
    }
}

/// How far one image is.
fn image(tag: &Tag, seen: &Seen) -> Value {
    json!({
        "tag": tag, "bytes_done": seen.bytes_done, "bytes_known": seen.bytes_known, "blobs_done": seen.blobs_done,
        "blobs_known": seen.blobs_known, "manifests_done": seen.manifests_done,
    })
}

/// What was done for a tag, in a line.
fn line(tag: &Tag, report: &TagReport) -> String {
    let targets: Vec<&str> = report.targets.iter().map(Tag::as_str).collect();
    match report.outcome {
        TagOutcome::Copied => format!("{tag}: copied to {} ({} bytes)", targets.join(", "), report.bytes_copied),
        TagOutcome::WouldCopy => format!("{tag}: would be copied to {}", targets.join(", ")),
        TagOutcome::Unchanged => format!("{tag}: unchanged"),
        TagOutcome::Gone => format!("{tag}: is not at the upstream any more; what was copied stays"),
        TagOutcome::Removed => format!("{tag}: is not at the upstream any more, and was removed"),
        TagOutcome::Failed | TagOutcome::Refused => format!("{tag}: {}", report.error.as_deref().unwrap_or("failed")),
    }
}

impl Mirrors {
    async fn ended(&self, job: &Running, mirror: &Mirror, run: &Run<'_>, report: Report) -> Outcome {
        let result = match serde_json::to_value(&report) {
            Ok(result) => result,
            Err(error) => return Outcome::Failed { reason: error.to_string(), result: Value::Null },
        };
        if job.is_cancelled() {
            return Outcome::Failed { reason: "cancelled".to_owned(), result };
        }
        if run.stopped.load(Ordering::Relaxed) {
            return Outcome::Yield(result);
        }
        if let Some(seconds) = *run.exhausted.lock().await {
            // Where it goes on from. Without the lease somebody else has it.
            let _ = job.save(result).await;
            let done = report.tags.len();
            let reason = format!("{done} of {} tags done; the quota of {} is used up", report.selected, mirror.upstream);
            return Outcome::Later { after: Duration::from_secs(seconds.max(1)), reason };
        }
        let failed = report.tags.values().filter(|tag| tag.outcome == TagOutcome::Failed).count();
        if failed > 0 && job.attempt() < ATTEMPTS {
            let _ = job.save(result).await;
            return Outcome::Retry { reason: format!("{failed} of {} tags failed", report.selected), after: None };
        }
        let since = job.record().started.unwrap_or_default();
        let duration = Duration::from_millis(millis(self.0.clock.now()).saturating_sub(since));
        self.count(mirror, &report, duration);
        let totals = report.totals();
        if totals.failed > 0 {
            return Outcome::Failed { reason: report.summary(), result };
        }
        let now = millis(self.0.clock.now());
        if !report.dry_run
            && let Err(error) = self.0.memories.update(&mirror.name, |memory| memory.last_success = Some(now)).await
        {
            return Outcome::Retry { reason: telemetry::chain(&error), after: None };
        }
        Outcome::Done(result)
    }
}

/// Runs of which some tags may fail, before the job is given up.
pub const ATTEMPTS: u32 = 4;

impl fmt::Debug for Mirrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mirrors").field("mirrors", &self.0.mirrors.keys()).finish_non_exhaustive()
    }
}
