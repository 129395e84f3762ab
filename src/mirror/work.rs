//! Mirrors as jobs: one kind, one key for each mirror, so that no mirror runs twice at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jobs::{Level, Outcome, Running, Work};
use oci::{Error, Tag};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telemetry::{Clock, Metrics};
use transfer::Seen;

use crate::live::Live;
use crate::memory::{Memories, Memory, MemoryError};
use crate::report::{Report, TagOutcome, TagReport};
use crate::run::{Bound, Pins, Run, lock, millis, stamp};
use crate::settings::Mirror;
use crate::template::Template;

/// The kind of the jobs.
pub const KIND: &str = "mirror";

/// How often a run that goes on saves what it has done. What was copied in between is found there and not copied again.
const SAVE: Duration = Duration::from_secs(2);
/// How often a run tells how far it is.
const TELL: Duration = Duration::from_millis(250);

/// What a run is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Change nothing, and say what would be.
    #[serde(default)]
    pub dry_run: bool,
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

    async fn begin<'r>(&'r self, bound: &'r Bound, report: &Report) -> Result<Run<'r>, MemoryError> {
        let mirror = &bound.settings;
        let ends = mirror.ends();
        let mut memory = self.0.memories.of(&mirror.name).await?.unwrap_or_default();
        if memory.ends != ends {
            // It was between other repositories until now.
            memory.tags.clear();
            if !report.dry_run {
                let renewed = |memory: &mut Memory| (memory.ends, memory.tags) = (ends.clone(), BTreeMap::new());
                self.0.memories.update(&mirror.name, renewed).await?;
            }
        }
        Ok(Run {
            bound,
            pins: self.0.pins.as_ref(),
            clock: self.0.clock.as_ref(),
            stamp: stamp(mirror, &report.stamp),
            is_dry: report.dry_run,
            live: Live::new(memory),
            followed: OnceLock::new(),
            exhausted: Mutex::default(),
            active: Mutex::default(),
        })
    }

    async fn work(&self, job: &Running, bound: &Bound) -> Outcome {
        let input = match serde_json::from_value::<Input>(job.input().clone()) {
            Ok(input) => input,
            Err(error) => return Outcome::Failed { reason: format!("the input is not one: {error}"), result: Value::Null },
        };
        let Some(report) = self.report(job, &bound.settings, input).await else { return lost() };
        let run = match self.begin(bound, &report).await {
            Ok(run) => run,
            Err(error) => return Outcome::Retry { reason: telemetry::chain(&error), after: None },
        };
        let tags = match run.selected().await {
            Ok(tags) => tags,
            Err(error) => return not_listed(&error),
        };
        if tags.is_empty() {
            let reason = format!("{}/{} has none of the tags that are wanted", bound.settings.upstream, bound.settings.from);
            return Outcome::Failed { reason, result: Value::Null };
        }
        let report = Report { selected: tags.len(), ..report };
        let rest: Vec<Tag> = tags.into_iter().filter(|tag| !report.is_done(tag.as_str())).collect();
        let begun = Begun { mirrors: self, job, run: &run, report: Mutex::new(report), is_unsaved: AtomicBool::new(false) };
        begun.copy(rest).await;
        begun.ended().await
    }

    /// From where the run goes on. The moment that its dated tags are named by is that of its first begin, and is saved before any is
    /// written. `None` if the lease is lost.
    async fn report(&self, job: &Running, mirror: &Mirror, input: Input) -> Option<Report> {
        let run = job.id().to_string();
        let mut report: Report = serde_json::from_value(job.checkpoint()).unwrap_or_default();
        if report.run != run {
            // New, or done again: then what was refused may have been mended, and the content is that of today.
            report = Report { run, ..Report::default() };
        }
        report.dry_run = input.dry_run;
        if report.stamp.is_empty() {
            report.stamp = Timestamp::try_from(self.0.clock.now()).unwrap_or_default().to_string();
            if mirror.tag_as.iter().any(Template::is_dated) {
                job.save(serde_json::to_value(&report).ok()?).await.ok()?;
            }
        }
        Some(report)
    }

    /// Counts a run that has ended, whatever came of it.
    fn count(&self, job: &Running, mirror: &Mirror, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Done(result) | Outcome::Failed { result, .. } => result,
            Outcome::Retry { .. } if job.attempt() >= ATTEMPTS => &Value::Null,
            Outcome::Retry { .. } | Outcome::Later { .. } | Outcome::Yield(_) => return,
        };
        let report: Report = serde_json::from_value(result.clone()).unwrap_or_default();
        if report.dry_run || job.is_cancelled() {
            return;
        }
        let totals = report.totals();
        let ran = telemetry::MirrorRun {
            is_done: matches!(outcome, Outcome::Done(_)),
            copied: totals.copied,
            unchanged: totals.unchanged,
            failed: totals.failed,
            bytes: totals.bytes_copied,
        };
        let now = millis(self.0.clock.now());
        let duration = Duration::from_millis(now.saturating_sub(job.record().started.unwrap_or(now)));
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
        let outcome = self.work(&job, bound).await;
        self.count(&job, &bound.settings, &outcome);
        outcome
    }
}

/// What is answered once the lease is lost: nobody reads it.
fn lost() -> Outcome {
    Outcome::Retry { reason: "the lease is lost".to_owned(), after: None }
}

/// Tags that cannot be listed leave nothing to do.
fn not_listed(error: &Error) -> Outcome {
    match error {
        Error::TooManyRequests { retry_after, reason } => {
            Outcome::Later { after: Duration::from_secs(retry_after.unwrap_or(60).max(1)), reason: reason.clone() }
        }
        unknown if unknown.is_unknown() => Outcome::Failed { reason: telemetry::chain(unknown), result: Value::Null },
        other => Outcome::Retry { reason: telemetry::chain(other), after: None },
    }
}

/// A run that goes on: its report grows, is told, and is saved.
struct Begun<'r> {
    mirrors: &'r Mirrors,
    job: &'r Running,
    run: &'r Run<'r>,
    report: Mutex<Report>,
    is_unsaved: AtomicBool,
}

impl Begun<'_> {
    /// Copies these tags. A run that is cancelled, or whose process stops, leaves what is on its way: what has arrived is found again.
    async fn copy(&self, tags: Vec<Tag>) {
        let tell = async {
            loop {
                self.tell();
                self.run.clock.sleep(TELL).await;
            }
        };
        let save = async {
            loop {
                self.run.clock.sleep(SAVE).await;
                if self.is_unsaved.swap(false, Ordering::Relaxed) && self.save().await.is_err() {
                    // Tried again the next time.
                    self.is_unsaved.store(true, Ordering::Relaxed);
                }
            }
        };
        tokio::select! {
            () = self.run.copy(tags, |tag, report| self.done(&tag, report)) => {}
            () = self.job.cancelled().cancelled_owned() => {}
            () = tell => {}
            () = save => {}
        }
        self.tell();
    }

    fn done(&self, tag: &Tag, report: TagReport) {
        let level = match report.outcome {
            TagOutcome::Failed | TagOutcome::Refused => Some(Level::Error),
            TagOutcome::Unchanged => None,
            _ => Some(Level::Info),
        };
        if let Some(level) = level {
            self.job.log(level, line(tag, &report));
        }
        lock(&self.report).tags.insert(tag.to_string(), report);
        self.is_unsaved.store(true, Ordering::Relaxed);
    }

    /// Writes what was learned, and then from where the run is to go on: a tag that is done is remembered.
    async fn save(&self) -> Result<(), String> {
        self.learned().await?;
        let checkpoint = serde_json::to_value(&*lock(&self.report)).map_err(|error| error.to_string())?;
        self.job.save(checkpoint).await.map_err(|error| error.to_string())
    }

    async fn learned(&self) -> Result<(), String> {
        let written = self.run.live.write(&self.mirrors.0.memories, self.job.key()).await;
        written.map_err(|error| telemetry::chain(&error))
    }

    /// Tells how far the run is, for whoever watches it.
    fn tell(&self) {
        let images: Vec<Value> = lock(&self.run.active).iter().map(|(tag, progress)| image(tag, &progress.seen())).collect();
        let report = lock(&self.report);
        self.job.progress(json!({ "tags": report.selected, "tags_done": report.tags.len(), "images": images }));
    }

    async fn ended(&self) -> Outcome {
        if let Err(reason) = self.learned().await {
            return Outcome::Retry { reason, after: None };
        }
        let report = lock(&self.report).clone();
        let result = match serde_json::to_value(&report) {
            Ok(result) => result,
            Err(error) => return Outcome::Failed { reason: error.to_string(), result: Value::Null },
        };
        if self.job.is_cancelled() {
            return Outcome::Failed { reason: "cancelled".to_owned(), result };
        }
        if self.job.is_stopping() && report.tags.len() < report.selected {
            return Outcome::Yield(result);
        }
        let exhausted = lock(&self.run.exhausted).take();
        if let Some((seconds, reason)) = exhausted {
            // From where it goes on. Without the lease somebody else has it.
            let _ = self.job.save(result).await;
            let reason = format!("{} of {} tags done; {reason}", report.tags.len(), report.selected);
            return Outcome::Later { after: Duration::from_secs(seconds), reason };
        }
        let failed = report.tags.values().filter(|tag| tag.outcome == TagOutcome::Failed).count();
        if failed > 0 && self.job.attempt() < ATTEMPTS {
            let _ = self.job.save(result).await;
            return Outcome::Retry { reason: format!("{failed} of {} tags failed", report.selected), after: None };
        }
        if report.totals().failed > 0 {
            return Outcome::Failed { reason: report.summary(), result };
        }
        let now = millis(self.run.clock.now());
        let noted = |memory: &mut Memory| memory.last_success = Some(now);
        if !report.dry_run
            && let Err(error) = self.mirrors.0.memories.update(self.job.key(), noted).await
        {
            return Outcome::Retry { reason: telemetry::chain(&error), after: None };
        }
        Outcome::Done(result)
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

/// Runs of which some tags may fail, before the job is given up.
pub const ATTEMPTS: u32 = 4;

impl fmt::Debug for Mirrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mirrors").field("mirrors", &self.0.mirrors.keys()).finish_non_exhaustive()
    }
}
