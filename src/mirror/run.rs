//! One run of a mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::{Timestamp, Zoned};
use oci::{Digest, Discover, Error, Page, Push, Reference, RepositoryName, Tag};
use telemetry::Clock;
use tokio::sync::Mutex;
use transfer::{Copied, Progress, Source, Transfer};

use crate::memory::{Dated, Known, Memories, Memory};
use crate::plan::{Plan, PlanError};
use crate::report::{TagOutcome, TagReport};
use crate::retention;
use crate::settings::Mirror;

/// Tags of a listing that are asked for at once.
const TAG_PAGE: usize = 1000;
/// Pages of a listing after which it is taken for endless.
const MOST_PAGES: usize = 1000;

/// Where a mirror's copies go.
#[async_trait]
pub trait Target: Push {
    /// Removes a tag if it points at `only`. `false` if it does not.
    async fn remove_tag(&self, name: &RepositoryName, tag: &Tag, only: &Digest) -> Result<bool, Error>;
}

/// Tells which tags must stay: those that a promotion points at.
#[async_trait]
pub trait Pins: Send + Sync {
    /// Is something deployed by this tag, or by its digest?
    async fn is_pinned(&self, repository: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<bool, Error>;
}

/// A mirror with what it copies from and to.
#[derive(Clone)]
pub struct Bound {
    /// What the operator said.
    pub settings: Arc<Mirror>,
    /// The upstream.
    pub source: Arc<dyn Source>,
    /// The registry.
    pub target: Arc<dyn Target>,
    /// Between the two.
    pub transfer: Arc<Transfer>,
}

/// What a run needs beside the mirror itself.
pub(crate) struct Run<'r> {
    pub(crate) bound: &'r Bound,
    pub(crate) memories: &'r Memories,
    pub(crate) pins: &'r dyn Pins,
    pub(crate) clock: &'r dyn Clock,
    pub(crate) stamp: Zoned,
    /// Change nothing.
    pub(crate) is_dry: bool,
    /// What was known before the run.
    pub(crate) memory: Memory,
    /// Set once the upstream's quota is used up: nothing further is begun. Seconds until it may be asked again.
    pub(crate) exhausted: Mutex<Option<u64>>,
    pub(crate) stopped: AtomicBool,
    /// The tags that are being copied, and how far each is.
    pub(crate) active: std::sync::Mutex<BTreeMap<Tag, Progress>>,
}

/// Why a source tag could not be mirrored.
enum Failure {
    /// Not now.
    Quota(Option<u64>),
    /// Not like this.
    Told(TagReport),
}

impl Failure {
    fn new(cause: Option<&Error>, error: &(dyn std::error::Error + 'static)) -> Self {
        let outcome = match cause {
            Some(Error::TooManyRequests { retry_after, .. }) => return Self::Quota(*retry_after),
            // What is wrong with the content, or with us, is so the next time as well.
            Some(
                Error::DigestInvalid { .. }
                | Error::ManifestInvalid { .. }
                | Error::NameInvalid { .. }
                | Error::Denied { .. }
                | Error::Unauthorized
                | Error::Unsupported { .. }
                | Error::TooLarge { .. },
            )
            | None => TagOutcome::Refused,
            Some(_) => TagOutcome::Failed,
        };
        Self::Told(TagReport::failed(outcome, telemetry::chain(error)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Some(&error), &error)
    }
}

impl From<transfer::Error> for Failure {
    fn from(error: transfer::Error) -> Self {
        Self::new(error.cause(), &error)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Target(error) => error.into(),
            refused => Self::Told(TagReport::failed(TagOutcome::Refused, refused)),
        }
    }
}

impl Run<'_> {
    fn mirror(&self) -> &Mirror {
        &self.bound.settings
    }

    /// The source tags of this run, in order.
    pub(crate) async fn selected(&self) -> Result<Vec<Tag>, Error> {
        let mirror = self.mirror();
        let there = if mirror.is_exact() { Vec::new() } else { self.listed().await? };
        let mut selected = crate::select::select(&there, &mirror.tags, &mirror.exclude);
        if mirror.follow_deletions {
            // What was copied once and is gone has to be looked at to be removed.
            let selected_now: BTreeSet<Tag> = selected.iter().cloned().collect();
            let before = self.memory.tags.keys().filter_map(|tag| Tag::parse(tag).ok());
            selected.extend(before.filter(|tag| !selected_now.contains(tag) && !there.contains(tag)));
        }
        Ok(selected)
    }

    async fn listed(&self) -> Result<Vec<Tag>, Error> {
        let mut tags = Vec::new();
        let mut page = Page { limit: Some(TAG_PAGE), last: None };
        for _ in 0..MOST_PAGES {
            let listing = Discover::tags(self.bound.source.as_ref(), &self.mirror().from, &page).await?;
            tags.extend(listing.entries);
            match listing.next {
                Some(next) => page.last = Some(next),
                None => return Ok(tags),
            }
        }
        Err(Error::Upstream { upstream: self.mirror().upstream.clone(), reason: "its listing of tags has no end".to_owned() })
    }

    /// Mirrors these tags, several at a time, and hands each report to `told` as it comes. Ends early when the upstream wants to be
    /// left alone, or when the run is stopped.
    pub(crate) async fn copy<F>(&self, tags: Vec<Tag>, told: impl Fn(Tag, TagReport) -> F)
    where
        F: Future<Output = ()>,
    {
        let jobs = futures_util::stream::iter(tags).map(|tag| async {
            let report = self.tag(&tag).await;
            (tag, report)
        });
        let mut reports = jobs.buffer_unordered(self.mirror().at_once.max(1));
        while let Some((tag, report)) = reports.next().await {
            if let Some(report) = report {
                told(tag, report).await;
            }
        }
    }

    /// Mirrors one tag; `None` if that was not begun, or has to wait for the upstream.
    async fn tag(&self, tag: &Tag) -> Option<TagReport> {
        if self.stopped.load(Ordering::Relaxed) || self.exhausted.lock().await.is_some() {
            return None;
        }
        let start = self.clock.monotonic();
        let progress = Progress::new();
        self.active().insert(tag.clone(), progress.clone());
        let mirrored = self.mirror_tag(tag, &progress).await;
        self.active().remove(tag);
        let report = match mirrored {
            Ok(report) | Err(Failure::Told(report)) => report,
            Err(Failure::Quota(retry_after)) => {
                let mut exhausted = self.exhausted.lock().await;
                *exhausted = Some(exhausted.unwrap_or_default().max(retry_after.unwrap_or(60)));
                return None;
            }
        };
        let duration = self.clock.monotonic().saturating_sub(start);
        Some(TagReport { duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), ..report })
    }

    pub(crate) fn active(&self) -> MutexGuard<'_, BTreeMap<Tag, Progress>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn mirror_tag(&self, tag: &Tag, progress: &Progress) -> Result<TagReport, Failure> {
        let mirror = self.mirror();
        let known = self.memory.tags.get(tag.as_str());
        let digest = match self.bound.source.resolve(&mirror.from, &Reference::Tag(tag.clone())).await {
            Ok(stat) => stat.digest,
            Err(error) if error.is_unknown() => return self.gone(tag, known, &error).await,
            Err(error) => return Err(error.into()),
        };
        let target: &dyn Push = self.bound.target.as_ref();
        let plan = mirror.plan(tag, &digest, known, &self.stamp, target).await?;
        let same = known.filter(|known| known.digest == digest);
        if let Some(known) = same
            && plan == Plan::default()
        {
            return self.unchanged(tag, known, progress).await;
        }
        if self.is_dry {
            let targets = plan.set.into_iter().chain(plan.trimmed).collect();
            return Ok(TagReport { digest: Some(digest), targets, ..TagReport::new(TagOutcome::WouldCopy) });
        }
        // By digest: what the tag means is not asked a second time, and may have become something else.
        let reference = Reference::Digest(digest.clone());
        let transfer = &self.bound.transfer;
        let trimmed = plan.trimmed.as_slice();
        let copied = transfer.copy_trimmed(&mirror.from, &reference, &mirror.to, &plan.set, trimmed, progress).await?;
        let removed = self.remember(tag, &digest, &plan).await?;
        let targets = plan.set.into_iter().chain(plan.trimmed).collect();
        Ok(TagReport { digest: Some(digest), targets, removed, ..counted(TagOutcome::Copied, &copied) })
    }

    /// A tag that is as it was: what was attached to it later is looked for now and then.
    async fn unchanged(&self, tag: &Tag, known: &Known, progress: &Progress) -> Result<TagReport, Failure> {
        let mirror = self.mirror();
        let digest = Some(known.digest.clone());
        let now = millis(self.clock.now());
        let every = u64::try_from(mirror.referrers_every.as_millis()).unwrap_or(u64::MAX);
        if self.is_dry || now.saturating_sub(known.referrers_at) < every {
            return Ok(TagReport { digest, ..TagReport::new(TagOutcome::Unchanged) });
        }
        let copied = self.bound.transfer.copy_referrers(&mirror.from, &known.digest, &mirror.to, progress).await?;
        let noted = |memory: &mut Memory| {
            if let Some(known) = memory.tags.get_mut(tag.as_str()) {
                known.referrers_at = now;
            }
        };
        self.change(noted).await?;
        let outcome = if copied.manifests > 0 { TagOutcome::Copied } else { TagOutcome::Unchanged };
        Ok(TagReport { digest, ..counted(outcome, &copied) })
    }

    /// A tag that is not at the upstream.
    async fn gone(&self, tag: &Tag, known: Option<&Known>, error: &Error) -> Result<TagReport, Failure> {
        let mirror = self.mirror();
        let Some(known) = known else {
            return Ok(TagReport::failed(TagOutcome::Refused, telemetry::chain(error)));
        };
        let digest = Some(known.digest.clone());
        if !mirror.follow_deletions || self.is_dry {
            return Ok(TagReport { digest, ..TagReport::new(TagOutcome::Gone) });
        }
        let mut removed = Vec::new();
        for template in mirror.tag_as.iter().filter(|template| !template.is_dated()) {
            let Ok(alias) = template.render(tag, &self.stamp, &known.digest) else { continue };
            if self.bound.target.remove_tag(&mirror.to, &alias, &known.digest).await? {
                removed.push(alias);
            }
        }
        let forgotten = |memory: &mut Memory| drop(memory.tags.remove(tag.as_str()));
        self.change(forgotten).await?;
        Ok(TagReport { digest, removed, ..TagReport::new(TagOutcome::Removed) })
    }

    /// Notes what a tag is now, and removes the dated tags that are too many or too old. Gives those.
    async fn remember(&self, tag: &Tag, digest: &Digest, plan: &Plan) -> Result<Vec<Tag>, Failure> {
        let now = millis(self.clock.now());
        let mut dated = self.memory.tags.get(tag.as_str()).map(|known| known.dated.clone()).unwrap_or_default();
        for (name, template) in &plan.dated {
            dated.retain(|entry| entry.tag != *name);
            dated.push(Dated { tag: name.clone(), digest: digest.clone(), template: template.clone(), at: now });
        }
        let noted = |dated: Vec<Dated>| {
            let known = Known { digest: digest.clone(), at: now, referrers_at: now, dated };
            move |memory: &mut Memory| drop(memory.tags.insert(tag.to_string(), known.clone()))
        };
        self.change(noted(dated.clone())).await?;
        let mirror = self.mirror();
        let mut removed = Vec::new();
        for surplus in retention::surplus(&dated, mirror.keep, mirror.keep_for, now) {
            if self.pins.is_pinned(&mirror.to, &surplus.tag, &surplus.digest).await? {
                continue;
            }
            // One that points elsewhere now, or is gone, is not ours any more.
            let was_ours = self.bound.target.remove_tag(&mirror.to, &surplus.tag, &surplus.digest).await?;
            dated.retain(|entry| *entry != surplus);
            removed.extend(was_ours.then_some(surplus.tag));
        }
        if !removed.is_empty() {
            self.change(noted(dated)).await?;
        }
        Ok(removed)
    }

    async fn change(&self, change: impl FnMut(&mut Memory)) -> Result<(), Failure> {
        let changed = self.memories.update(&self.mirror().name, change).await;
        changed.map_err(|error| Failure::Told(TagReport::failed(TagOutcome::Failed, telemetry::chain(&error))))
    }
}

fn counted(outcome: TagOutcome, copied: &Copied) -> TagReport {
    TagReport {
        manifests: copied.manifests,
        blobs: copied.blobs_copied,
        bytes_copied: copied.bytes_copied,
        bytes_skipped: copied.bytes_skipped,
        referrers: copied.referrers,
        ..TagReport::new(outcome)
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The moment that a run's dated tags are named by, in the time zone of its mirror.
pub(crate) fn stamp(mirror: &Mirror, at: u64) -> Zoned {
    let zone = mirror.schedule.as_ref().map_or(jiff::tz::TimeZone::UTC, |schedule| schedule.zone().clone());
    let time = UNIX_EPOCH + Duration::from_millis(at);
    Timestamp::try_from(time).unwrap_or_default().to_zoned(zone)
}
