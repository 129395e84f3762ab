//! What an operator says of a mirror.

use std::time::Duration;

use oci::{Platform, RepositoryName, Selector};

use crate::schedule::Schedule;
use crate::template::Template;

/// One mirror: what is copied, from where, when, and under which names.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// What it is called, in letters, digits and dashes.
    pub name: String,
    /// When it runs; `None` if only when it is told to.
    pub schedule: Option<Schedule>,
    /// A run begins up to so much later than its schedule says, always the same for one time and mirror, so that many do not
    /// begin at once.
    pub jitter: Duration,
    /// The upstream, as it is configured.
    pub upstream: String,
    /// The repository there.
    pub from: RepositoryName,
    /// The host of the registry that it is copied to; `None` for this server.
    pub registry: Option<String>,
    /// The repository there.
    pub to: RepositoryName,
    /// Which tags.
    pub tags: Vec<Selector>,
    /// Which of them not.
    pub exclude: Vec<Selector>,
    /// What they are called here.
    pub tag_as: Vec<Template>,
    /// A tag for an index of the chosen platforms alone, beside the original one.
    pub trimmed_as: Option<Template>,
    /// Which images of an index; empty for all.
    pub platforms: Vec<Platform>,
    /// So many dated tags stay for each source tag; `None` for all.
    pub keep: Option<usize>,
    /// Dated tags go after this; `None` for never. The newest of a source tag stays.
    pub keep_for: Option<Duration>,
    /// Write a dated tag at each run, whether the content is new or not.
    pub always: bool,
    /// What happens to a dated tag that stands for other content.
    pub same_day: SameDay,
    /// A tag that is gone at the upstream goes here too; dated ones stay.
    pub follow_deletions: bool,
    /// How often signatures and the like are looked for that were attached to what is here already.
    pub referrers_every: Duration,
    /// How many tags are looked at at the same time.
    pub at_once: usize,
}

/// What happens when a run would write a dated tag that stands for other content: it is never moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameDay {
    /// The next one that is free gets it: `-2`, `-3`.
    #[default]
    Suffix,
    /// The run says that it was refused.
    Refuse,
}

impl Mirror {
    /// A template that makes one tag of all that are selected, where it is not known before a run which these are.
    #[must_use]
    pub fn may_meet(&self) -> Option<&Template> {
        if self.is_exact() { None } else { self.templates().find(|template| !template.tells_apart()) }
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.tag_as.iter().chain(&self.trimmed_as)
    }

    /// The repositories that it is between, as a memory names them.
    pub(crate) fn ends(&self) -> String {
        format!("{}/{} {}/{}", self.upstream, self.from, self.registry.as_deref().unwrap_or_default(), self.to)
    }

    /// Whether it is known before a run which tags are copied, so that none need be listed.
    pub(crate) fn is_exact(&self) -> bool {
        self.tags.iter().all(|selector| selector.as_exact().is_some())
    }
}
