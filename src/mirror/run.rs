//! One run of a mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::{Timestamp, Zoned};
use oci::{Digest, Discover, Error, Page, Push, Reference, RepositoryName, Tag};
use telemetry::Clock;
use transfer::{Copied, Progress, Source, Transfer};

use crate::live::Live;
use crate::memory::{Dated, Known};
use crate::plan::{Plan, PlanError};
use crate::report::{TagOutcome, TagReport};
use crate::retention;
use crate::settings::Mirror;

/// Tags of a listing that are asked for at once.
const TAG_PAGE: usize = 1000;
/// Pages of a listing after which it is taken for endless.
const MOST_PAGES: usize = 1000;

/// Names of removed dated tags that are remembered for each source tag. Those of one day count: another day has other names.
const RETIRED: usize = 100;

/// Seconds after which a registry is asked again that did not say when.
const UNSAID: u64 = 60;

/// Takes tags away from the registry that a mirror copies to.
#[async_trait]
pub trait Untag: Send + Sync {
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
    pub target: Arc<dyn Push>,
    /// The same, where tags are removed in it; `None` for a registry elsewhere, in which they never are.
    pub untag: Option<Arc<dyn Untag>>,
    /// Between the two.
    pub transfer: Arc<Transfer>,
}

/// What a run needs beside the mirror itself.
pub(crate) struct Run<'r> {
    pub(crate) bound: &'r Bound,
    pub(crate) pins: &'r dyn Pins,
    pub(crate) clock: &'r dyn Clock,
    pub(crate) stamp: Zoned,
    /// Change nothing.
    pub(crate) is_dry: bool,
    pub(crate) live: Live,
    /// Remembered tags that are not selected any more, and are only looked at to see whether they are gone.
    pub(crate) followed: OnceLock<BTreeSet<Tag>>,
    /// Set once a registry's quota is used up: nothing further is begun. When it may be asked again, and what it said.
    pub(crate) exhausted: Mutex<Option<(u64, String)>>,
    /// The tags that are being copied, and how far each is.
    pub(crate) active: Mutex<BTreeMap<Tag, Progress>>,
}

/// Why a source tag could not be mirrored.
enum Failure {
    /// Not now; the seconds after which it may be asked again, and what was said.
    Quota(u64, String),
    /// Not like this.
    Told(TagReport),
}

impl Failure {
    fn new(cause: Option<&Error>, error: &(dyn std::error::Error + 'static)) -> Self {
        let outcome = match cause {
            Some(Error::TooManyRequests { retry_after, reason }) => {
                return Self::Quota(retry_after.unwrap_or(UNSAID).max(1), reason.clone());
            }
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
        let mut selected = oci::select(&there, &mirror.tags, &mirror.exclude);
        if mirror.follow_deletions {
            let now: BTreeSet<&Tag> = selected.iter().chain(&there).collect();
            let followed: BTreeSet<Tag> = self.live.known().into_iter().filter(|tag| !now.contains(tag)).collect();
            selected.extend(self.followed.get_or_init(|| followed).iter().cloned());
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

    /// Mirrors these tags, several at a time, and hands each report to `told` as it comes. Begins no more once a registry wants to be
    /// left alone.
    pub(crate) async fn copy(&self, tags: Vec<Tag>, told: impl Fn(Tag, TagReport)) {
        let copies = futures_util::stream::iter(tags).map(|tag| async {
            let report = self.tag(&tag).await;
            (tag, report)
        });
        let mut reports = copies.buffer_unordered(self.mirror().at_once.max(1));
        while let Some((tag, report)) = reports.next().await {
            if let Some(report) = report {
                told(tag, report);
            }
        }
    }

    /// Mirrors one tag; `None` if that was not begun, or has to wait.
    async fn tag(&self, tag: &Tag) -> Option<TagReport> {
        if lock(&self.exhausted).is_some() {
            return None;
        }
        let start = self.clock.monotonic();
        let progress = Progress::new();
        lock(&self.active).insert(tag.clone(), progress.clone());
        let mirrored = self.mirror_tag(tag, &progress).await;
        lock(&self.active).remove(tag);
        let report = match mirrored {
            Ok(report) | Err(Failure::Told(report)) => report,
            Err(Failure::Quota(seconds, reason)) => {
                let mut exhausted = lock(&self.exhausted);
                let longest = exhausted.as_ref().map_or(0, |(seconds, _)| *seconds).max(seconds);
                *exhausted = Some((longest, reason));
                return None;
            }
        };
        let duration = self.clock.monotonic().saturating_sub(start);
        Some(TagReport { duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), ..report })
    }

    async fn mirror_tag(&self, tag: &Tag, progress: &Progress) -> Result<TagReport, Failure> {
        let mirror = self.mirror();
        let known = self.live.get(tag);
        let digest = match self.bound.source.resolve(&mirror.from, &Reference::Tag(tag.clone())).await {
            Ok(stat) => stat.digest,
            Err(error) if error.is_unknown() => return self.gone(tag, known, &error).await,
            Err(error) => return Err(error.into()),
        };
        if self.followed.get().is_some_and(|followed| followed.contains(tag)) {
            // It is there, but nobody wants it any more.
            return Ok(TagReport { digest: Some(digest), ..TagReport::new(TagOutcome::Unchanged) });
        }
        let target: &dyn Push = self.bound.target.as_ref();
        // What was copied may have been removed here since.
        let same = known.as_ref().filter(|known| known.digest == digest);
        let is_here = same.is_some() && target.has_manifest(&mirror.to, &digest).await?;
        let plan =
            mirror.plan(tag, &digest, known.as_ref().filter(|_| is_here || same.is_none()), &self.stamp, target, &self.live);
        let plan = plan.await?;
        if let Some(known) = same.filter(|_| is_here)
            && plan == Plan::default()
        {
            return self.unchanged(tag, known.clone(), progress).await;
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
        let now = millis(self.clock.now());
        let (mut dated, retired) = known.map(|known| (known.dated, known.retired)).unwrap_or_default();
        for (name, template) in &plan.dated {
            dated.retain(|entry| entry.tag != *name);
            dated.push(Dated { tag: name.clone(), digest: digest.clone(), template: template.clone(), at: now });
        }
        self.live.set(tag, Known { digest: digest.clone(), referrers_at: now, is_gone: false, dated, retired });
        let targets: Vec<Tag> = plan.set.into_iter().chain(plan.trimmed).collect();
        // With `always` a run may find its dated tag in its place.
        let is_news = !targets.is_empty() || copied.manifests > 0 || copied.blobs_copied > 0;
        let outcome = if is_news { TagOutcome::Copied } else { TagOutcome::Unchanged };
        let report = TagReport { digest: Some(digest), targets, ..counted(outcome, &copied) };
        Ok(self.with_retention(tag, report).await)
    }

    /// A tag that is as it was: what was attached to it later is looked for now and then.
    async fn unchanged(&self, tag: &Tag, known: Known, progress: &Progress) -> Result<TagReport, Failure> {
        let mirror = self.mirror();
        let digest = Some(known.digest.clone());
        let now = millis(self.clock.now());
        let every = u64::try_from(mirror.referrers_every.as_millis()).unwrap_or(u64::MAX);
        if self.is_dry {
            return Ok(TagReport { digest, ..TagReport::new(TagOutcome::Unchanged) });
        }
        let mut report = TagReport { digest, ..TagReport::new(TagOutcome::Unchanged) };
        if now.saturating_sub(known.referrers_at) >= every {
            let copied = self.bound.transfer.copy_referrers(&mirror.from, &known.digest, &mirror.to, progress).await?;
            let outcome = if copied.manifests > 0 { TagOutcome::Copied } else { TagOutcome::Unchanged };
            report = TagReport { digest: report.digest, ..counted(outcome, &copied) };
            self.live.set(tag, Known { referrers_at: now, ..known });
        }
        Ok(self.with_retention(tag, report).await)
    }

    /// A tag that is not at the upstream.
    async fn gone(&self, tag: &Tag, known: Option<Known>, error: &Error) -> Result<TagReport, Failure> {
        let mirror = self.mirror();
        let Some(known) = known else {
            return Ok(TagReport::failed(TagOutcome::Refused, telemetry::chain(error)));
        };
        let report = TagReport { digest: Some(known.digest.clone()), ..TagReport::new(TagOutcome::Gone) };
        if self.is_dry {
            return Ok(report);
        }
        if !mirror.follow_deletions || known.is_gone {
            return Ok(self.with_retention(tag, report).await);
        }
        let mut removed = Vec::new();
        for template in mirror.tag_as.iter().filter(|template| !template.is_dated()) {
            let Ok(alias) = template.render(tag, &self.stamp, &known.digest) else { continue };
            if self.untag(&alias, &known.digest).await? {
                removed.push(alias);
            }
        }
        if let Some(Ok(trimmed)) = mirror.trimmed_as.as_ref().map(|template| template.render(tag, &self.stamp, &known.digest))
            && let Some(there) = self.bound.target.tagged(&mirror.to, &trimmed).await?
            && self.untag(&trimmed, &there).await?
        {
            removed.push(trimmed);
        }
        self.live.set(tag, Known { is_gone: true, ..known });
        Ok(self.with_retention(tag, TagReport { outcome: TagOutcome::Removed, removed, ..report }).await)
    }

    /// Removes the dated tags of a source tag that are too many or too old. What was done for it before counts, whatever happens here.
    async fn with_retention(&self, tag: &Tag, mut report: TagReport) -> TagReport {
        match self.retain(tag).await {
            Ok(removed) => report.removed.extend(removed),
            Err(error) => {
                report.outcome = TagOutcome::Failed;
                report.error = Some(format!("old dated tags could not be removed: {}", telemetry::chain(&error)));
            }
        }
        report
    }

    async fn untag(&self, tag: &Tag, only: &Digest) -> Result<bool, Error> {
        match &self.bound.untag {
            Some(untag) => untag.remove_tag(&self.mirror().to, tag, only).await,
            None => Ok(false),
        }
    }

    async fn retain(&self, tag: &Tag) -> Result<Vec<Tag>, Error> {
        let mirror = self.mirror();
        let Some(mut known) = self.live.get(tag) else { return Ok(Vec::new()) };
        let surplus = retention::surplus(&known.dated, mirror.keep, mirror.keep_for, millis(self.clock.now()));
        let mut removed = Vec::new();
        for entry in surplus {
            if self.pins.is_pinned(&mirror.to, &entry.tag, &entry.digest).await? {
                continue;
            }
            // One that points elsewhere now, or is gone, is not ours any more.
            let is_removed = !self.live.is_shared(tag, &entry) && self.untag(&entry.tag, &entry.digest).await?;
            known.dated.retain(|other| *other != entry);
            known.retired.push(entry.tag.clone());
            let forgotten = known.retired.len().saturating_sub(RETIRED);
            known.retired.drain(..forgotten);
            self.live.set(tag, known.clone());
            removed.extend(is_removed.then_some(entry.tag));
        }
        Ok(removed)
    }
}

/// A lock that nobody holds across a wait.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(crate) fn stamp(mirror: &Mirror, at: &str) -> Zoned {
    let zone = mirror.schedule.as_ref().map_or(jiff::tz::TimeZone::UTC, |schedule| schedule.zone().clone());
    at.parse::<Timestamp>().unwrap_or_default().to_zoned(zone)
}
