//! What an operator says of a promotion.

use std::time::Duration;

use oci::{Platform, RepositoryName, Selector, Tag};

use crate::edit::Edit;
use crate::message::Template;
use crate::window::Window;

/// One promotion: which tags of a repository here go into which place of which branch, and when they may.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called, in letters, digits and dashes.
    pub name: String,
    /// The repository of this server.
    pub repository: RepositoryName,
    /// Which tags.
    pub tags: Vec<Selector>,
    /// Which of them not.
    pub exclude: Vec<Selector>,
    /// Which of two images is the later one. An older one never takes the place of a later one.
    pub order: Order,
    /// The branch, by the name that [`crate::Promotions`] was given it under.
    pub branch: String,
    /// The file; for a kustomization its folder is enough.
    pub path: String,
    /// The place in it.
    pub edit: Edit,
    /// How it gets into the branch.
    pub mode: Mode,
    /// Nothing is committed into a folder that cannot be built.
    pub validates: bool,
    /// The text of the commit.
    pub message: Template,
    /// What must hold of an image before it is written.
    pub gate: Gate,
    /// So many commits within so long, and it stops by itself; `None` for no limit.
    pub breaker: Option<(usize, Duration)>,
}

/// How a change gets into the branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By a commit.
    #[default]
    Commit,
    /// By a pull request, which somebody merges.
    PullRequest,
}

/// What must hold of an image before it is written. That it is here, whole, is always asked.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// An index must have images for these.
    pub platforms: Vec<Platform>,
    /// Somebody has to approve each digest.
    pub approval: bool,
    /// The promotion that it must have come through before, and for how long it must have been well there.
    pub after: Option<(String, Duration)>,
    /// When commits may be made; `None` for always.
    pub window: Option<Window>,
}

/// Which of two images is the later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The one whose tag was set later.
    #[default]
    Push,
    /// The one with the higher version. [semver 2.0.0]
    Version,
    /// The one with the higher number.
    Number,
    /// The one of the later day: `20260216`, `2026-02-16`.
    Date,
    /// The one whose tag comes later in the alphabet.
    Name,
    /// The one that was built later, by its configuration or `org.opencontainers.image.created`.
    Created,
}

impl Rule {
    /// Does it promote this tag? What registries use to attach things to an image is never one.
    #[must_use]
    pub fn wants(&self, tag: &Tag) -> bool {
        !is_attachment(tag)
            && self.tags.iter().any(|selector| selector.matches(tag))
            && !self.exclude.iter().any(|selector| selector.matches(tag))
    }

    /// The part of the tag that tells its age.
    pub(crate) fn part<'t>(&self, tag: &'t Tag) -> &'t str {
        self.tags.iter().find_map(|selector| selector.part(tag)).unwrap_or(tag.as_str())
    }
}

/// The tags of signatures and of lists of referrers: `sha256-…`, `sha256-….sig`. [distribution-spec, Referrers Tag Schema]
fn is_attachment(tag: &Tag) -> bool {
    let Some((algorithm, rest)) = tag.as_str().split_once('-') else { return false };
    let hex = rest.split('.').next().unwrap_or_default();
    matches!((algorithm, hex.len()), ("sha256", 64) | ("sha512", 128)) && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;
    use crate::edit::{Kustomization, Write};

    /// A rule for every tag.
    pub(crate) fn rule() -> Rule {
        Rule {
            name: "prod".to_owned(),
            repository: RepositoryName::parse("micro/app").unwrap(),
            tags: vec![Selector::glob("*").unwrap()],
            exclude: Vec::new(),
            order: Order::Push,
            branch: "branch".to_owned(),
            path: "k8s/overlays/prod".to_owned(),
            edit: Edit::Kustomization(Kustomization { image: "app".to_owned(), new_name: None, write: Write::TagAndDigest }),
            mode: Mode::Commit,
            validates: true,
            message: Template::default(),
            gate: Gate::default(),
            breaker: None,
        }
    }

    #[test]
    fn attachments_and_what_is_excluded_are_not_wanted() {
        let wanted = |rule: &Rule, tag: &str| rule.wants(&Tag::parse(tag).unwrap());
        let hex = "0123456789abcdef".repeat(4);
        assert!(wanted(&rule(), "latest") && wanted(&rule(), "sha256-short") && wanted(&rule(), &hex));
        assert!(!wanted(&rule(), &format!("sha256-{hex}")) && !wanted(&rule(), &format!("sha256-{hex}.sig")));
        let rule = Rule { exclude: vec![Selector::regex(".*-rc.*").unwrap()], ..rule() };
        assert!(!wanted(&rule, "1.0-rc.1") && wanted(&rule, "1.0"));
    }
}
