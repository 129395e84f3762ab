//! Which tags a run sets for one source tag.

use std::fmt::Display;

use jiff::Zoned;
use oci::{Digest, Error, Push, Tag};

use crate::live::Live;
use crate::memory::Known;
use crate::settings::{Mirror, SameDay};

/// Dated tags of one name and day that a run looks at before it gives up.
const MOST_SUFFIXES: usize = 99;

/// What is to be done for a source tag that is at the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Tags to point at the digest.
    pub(crate) set: Vec<Tag>,
    /// Dated tags that will stand for the digest, with their templates: those that are set, and those that were found to.
    pub(crate) dated: Vec<(Tag, String)>,
    /// A tag for an index of the chosen platforms alone.
    pub(crate) trimmed: Option<Tag>,
}

/// Why a tag cannot be mirrored as it is configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// A target that is no tag.
    #[error("{template} makes of it no tag: {reason}")]
    Name {
        /// The template.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// A dated tag that stands for other content.
    #[error("{tag} stands for other content, and dated tags are never moved")]
    Taken {
        /// The tag.
        tag: Tag,
    },
    /// The target does not say where its tags point.
    #[error(transparent)]
    Target(#[from] Error),
}

/// What `template` makes is no tag.
fn no_tag(template: &dyn Display) -> impl FnOnce(oci::TagError) -> PlanError {
    let template = template.to_string();
    move |error| PlanError::Name { template, reason: error.to_string() }
}

impl Mirror {
    /// What to do for `source`, which is `digest` now.
    pub(crate) async fn plan(
        &self,
        source: &Tag,
        digest: &Digest,
        known: Option<&Known>,
        stamp: &Zoned,
        target: &dyn Push,
        live: &Live,
    ) -> Result<Plan, PlanError> {
        let mut plan = Plan::default();
        for template in &self.tag_as {
            let tag = template.render(source, stamp, digest).map_err(no_tag(template))?;
            if !template.is_dated() {
                if live.is_dated(&tag) {
                    return Err(PlanError::Taken { tag });
                }
                if target.tagged(&self.to, &tag).await?.as_ref() != Some(digest) {
                    plan.set.push(tag);
                }
                continue;
            }
            let dated =
                |known: &Known| known.dated.iter().any(|entry| entry.digest == *digest && entry.template == template.as_str());
            if !self.always && known.is_some_and(dated) {
                continue;
            }
            let (tag, is_free) = self.free(&tag, digest, target, live).await?;
            live.reserve(&tag);
            if is_free {
                plan.set.push(tag.clone());
            }
            plan.dated.push((tag, template.as_str().to_owned()));
        }
        if let Some(template) = &self.trimmed_as {
            let tag = template.render(source, stamp, digest).map_err(no_tag(template))?;
            let known = known.is_some_and(|known| known.digest == *digest) && target.tagged(&self.to, &tag).await?.is_some();
            plan.trimmed = (!known).then_some(tag);
        }
        Ok(plan)
    }

    /// A dated tag that may stand for `digest`: this one, or with a number after it; and whether it is still to be set.
    async fn free(&self, tag: &Tag, digest: &Digest, target: &dyn Push, live: &Live) -> Result<(Tag, bool), PlanError> {
        let mut candidate = tag.clone();
        for number in 2..=MOST_SUFFIXES + 1 {
            match target.tagged(&self.to, &candidate).await? {
                None if !live.is_retired(&candidate) => return Ok((candidate, true)),
                // A run that ended before it could remember it.
                Some(there) if there == *digest => return Ok((candidate, false)),
                _ if self.same_day == SameDay::Refuse => break,
                _ => {
                    candidate = Tag::parse(&format!("{tag}-{number}")).map_err(no_tag(tag))?;
                }
            }
        }
        Err(PlanError::Taken { tag: tag.clone() })
    }
}
