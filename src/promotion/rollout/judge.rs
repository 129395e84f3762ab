//! Whether an application runs what was promoted.
//!
//! Argo CD compares, syncs and looks at health in loops of their own, so each part of what is seen can be older than the others. What
//! is not known to belong to our commit decides nothing.

use jiff::Timestamp;
use oci::{Digest, Tag};

use crate::rollout::observed::{HealthStatus, Observed, Operation, Phase, SyncStatus};

/// Resources that are named in a reason.
const NAMED: usize = 3;
/// A commit is known by so much of it.
const SHORT: usize = 12;

/// What is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Our commit.
    pub commit: String,
    /// What was promoted.
    pub digest: Digest,
    /// The name of the image as it stands in the manifests, or is written there by kustomize.
    pub image: String,
    /// Its tag.
    pub tag: Tag,
    /// When the commit landed.
    pub since: Timestamp,
}

/// What could not be made sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Argo CD does not say which images run, or names none of this name.
    ImagesUnknown,
    /// The tag runs. Which digest that is nobody says, because none is written.
    TagOnly,
}

/// What is known of a promotion. All but `Waiting` and `Stale` are final until something happens; each says why, to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is deployed, and healthy.
    Healthy {
        /// What could not be made sure of.
        note: Option<Note>,
        /// Why.
        message: String,
    },
    /// It is on its way, or waits for somebody.
    Waiting {
        /// Why.
        message: String,
    },
    /// What is seen is from before. A refresh is needed.
    Stale {
        /// Why.
        message: String,
    },
    /// It is deployed, and does not work.
    Degraded {
        /// Why.
        message: String,
    },
    /// It could not be deployed.
    Failed {
        /// Why.
        message: String,
    },
}

impl Verdict {
    /// Why, for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Healthy { message, .. }
            | Self::Waiting { message }
            | Self::Stale { message }
            | Self::Degraded { message }
            | Self::Failed { message } => message,
        }
    }

    /// Whether nothing more is to be waited for.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Waiting { .. } | Self::Stale { .. })
    }

    fn waiting(message: impl Into<String>) -> Self {
        Self::Waiting { message: message.into() }
    }

    fn stale(message: impl Into<String>) -> Self {
        Self::Stale { message: message.into() }
    }
}

/// Says what is known of `wanted` by what is seen.
///
/// `is_ours` says of a revision whether it is our commit or has it among its ancestors. It is asked about all that Argo CD calls a
/// revision, versions of charts too.
#[must_use]
pub fn judge(seen: &Observed, wanted: &Wanted, is_ours: impl Fn(&str) -> bool) -> Verdict {
    let is_ours = |revisions: &[String]| revisions.iter().any(|revision| is_ours(revision));
    let (is_compared, none) = (is_ours(&seen.revisions), Operation::default());
    let operation = seen.operation.as_ref().unwrap_or(&none);
    let is_applied = is_ours(&operation.revisions);
    // One that failed early may not say of which revision it was: after our commit, and beside it, it is taken for its.
    let is_after = operation.finished_at.is_some_and(|finished| finished >= wanted.since);
    let is_mine = is_applied || (operation.revisions.is_empty() && is_compared && is_after);
    if is_mine && !seen.is_requested && matches!(operation.phase, Phase::Failed | Phase::Error) {
        let why = or(&operation.message, "Argo CD does not say why");
        return Verdict::Failed { message: format!("the sync of {} failed: {why}", short(operation, wanted)) };
    }
    if !is_compared {
        return elsewhere(seen, wanted);
    }
    if seen.is_requested {
        return Verdict::waiting("Argo CD knows the commit, and is about to sync it");
    }
    if seen.operation.is_none() {
        return Verdict::waiting(format!("Argo CD knows the commit, and has never synced this application{}", hint(seen)));
    }
    if operation.phase != Phase::Succeeded {
        return unfinished(operation);
    }
    if !is_applied && seen.sync != SyncStatus::Synced {
        return unsynced(seen);
    }
    match (seen.reconciled_at, operation.finished_at) {
        (Some(seen), Some(finished)) if seen >= finished => {}
        (Some(_), Some(_)) => {
            return Verdict::stale("the sync is done, and the health that is known is from before; a refresh is needed");
        }
        _ => return Verdict::stale("nobody says whether the health that is known is from after the sync; a refresh is needed"),
    }
    if seen.health == HealthStatus::Degraded {
        return Verdict::Degraded { message: format!("the commit is deployed, and the application is degraded: {}", ill(seen)) };
    }
    if seen.sync != SyncStatus::Synced {
        return unsynced(seen);
    }
    let waiting = match seen.health {
        HealthStatus::Healthy | HealthStatus::Degraded => return images(seen, wanted),
        HealthStatus::Progressing => "is applied, and its resources are still on their way",
        HealthStatus::Suspended => "is applied, and a resource is suspended: somebody has to resume it",
        HealthStatus::Missing => "is applied, and a resource is missing in the cluster",
        HealthStatus::Unknown => "is applied, and Argo CD cannot tell its health",
    };
    Verdict::waiting(format!("the commit {waiting}: {}", ill(seen)))
}

/// Argo CD has not seen our commit.
fn elsewhere(seen: &Observed, wanted: &Wanted) -> Verdict {
    let commit = cut(&wanted.commit);
    if seen.reconciled_at.is_none_or(|at| at < wanted.since) {
        return Verdict::stale(format!("Argo CD has not looked at the repository since {commit} landed; a refresh is needed"));
    }
    let Some(revision) = seen.revisions.first() else {
        return Verdict::waiting(format!("Argo CD does not know which revision runs{}", hint(seen)));
    };
    Verdict::waiting(format!(
        "Argo CD has looked, and sees {}, which does not have {commit}; if that stays so, it follows another branch or repository{}",
        cut(revision),
        hint(seen)
    ))
}

/// The last operation is not over, or failed for another revision.
fn unfinished(operation: &Operation) -> Verdict {
    let why = if operation.message.is_empty() { String::new() } else { format!(": {}", operation.message) };
    Verdict::waiting(match operation.phase {
        Phase::Running => format!("Argo CD is syncing{why}"),
        Phase::Terminating => format!("a sync is being ended{why}"),
        Phase::Failed | Phase::Error => format!("Argo CD knows the commit, and the last sync, of another one, failed{why}"),
        Phase::Succeeded | Phase::Unknown => format!("it is not known how far the last sync is{why}"),
    })
}

fn unsynced(seen: &Observed) -> Verdict {
    Verdict::waiting(match seen.sync {
        SyncStatus::Unknown => format!("Argo CD cannot compare the cluster with the commit{}", hint(seen)),
        _ => format!(
            "the cluster is not yet what the commit says; if that stays so, the application is not synced by itself, or something changes it back{}",
            hint(seen)
        ),
    })
}

/// All is well, if it is our image that is.
fn images(seen: &Observed, wanted: &Wanted) -> Verdict {
    let healthy = |note, message: String| Verdict::Healthy { note, message };
    let digest = wanted.digest.to_string();
    let parts: Vec<(&str, Option<&str>, Option<&str>)> = seen.images.iter().map(|image| split(image)).collect();
    // Under whatever name: a mirror's is another, and the content is ours.
    if parts.iter().any(|(_, _, found)| *found == Some(&digest)) {
        return healthy(None, format!("deployed and healthy: {digest} runs"));
    }
    let named: Vec<_> = parts.into_iter().filter(|(name, _, _)| plain(name) == plain(&wanted.image)).collect();
    if named.iter().any(|(_, tag, digest)| digest.is_none() && *tag == Some(wanted.tag.as_str())) {
        let message = format!("deployed and healthy: {}:{} runs, and no digest is written for it", wanted.image, wanted.tag);
        return healthy(Some(Note::TagOnly), message);
    }
    if let Some((_, tag, digest)) = named.first() {
        let is = digest.or(*tag).unwrap_or("no tag");
        return Verdict::waiting(format!("the application is healthy, but {} runs with {is} and not with ours", wanted.image));
    }
    let what = if seen.images.is_empty() { "does not say which images run" } else { "names no image of this name" };
    healthy(Some(Note::ImagesUnknown), format!("deployed and healthy, but Argo CD {what}, so that {digest} is not confirmed"))
}

/// `name[:tag][@digest]`.
fn split(image: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag), digest),
        _ => (rest, None, digest),
    }
}

/// A name without what may be left out of it.
fn plain(name: &str) -> &str {
    let name = name.strip_prefix("index.docker.io/").or_else(|| name.strip_prefix("docker.io/")).unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

/// What the unhealthy resources are, and why.
fn ill(seen: &Observed) -> String {
    let of_kind = seen.resources.iter().filter(|resource| resource.health == seen.health);
    let named = of_kind.take(NAMED).map(|resource| {
        let why = if resource.message.is_empty() { String::new() } else { format!(" ({})", resource.message) };
        format!("{} {}{why}", resource.kind, resource.name)
    });
    let named: Vec<String> = named.collect();
    let said = [seen.health_message.clone(), named.join(", ")];
    let said: Vec<String> = said.into_iter().filter(|text| !text.is_empty()).collect();
    or(&said.join("; "), "Argo CD does not say which").to_owned()
}

/// What Argo CD complains of, if it does.
fn hint(seen: &Observed) -> String {
    seen.conditions.first().map(|condition| format!(" ({condition})")).unwrap_or_default()
}

fn short(operation: &Operation, wanted: &Wanted) -> String {
    cut(operation.revisions.first().unwrap_or(&wanted.commit)).to_owned()
}

fn cut(revision: &str) -> &str {
    revision.char_indices().nth(SHORT).map_or(revision, |(end, _)| &revision[..end])
}

fn or<'t>(text: &'t str, instead: &'t str) -> &'t str {
    if text.is_empty() { instead } else { text }
}
