//! What forges tell, in one set of words for all of them.
//!
//! A delivery is authentic when it comes here, but not therefore sound: names and commit ids are checked before they go anywhere
//! near a Git command, and what is not understood is [`ForgeEvent::Other`].

mod gitlab;
mod hub;

use serde_json::Value;

use crate::refusal::Refusal;

pub(crate) use gitlab::read as read_gitlab;
pub(crate) use hub::{read as read_hub, read_generic};

/// What happened at a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForgeEvent {
    /// A branch or tag points to another commit.
    Push(Push),
    /// A branch or tag is gone.
    Deleted(Deleted),
    /// Something happened to a pull request; GitLab says merge request.
    PullRequest(PullRequest),
    /// The forge tries whether we are there.
    Ping,
    /// Anything else.
    Other {
        /// As the forge calls it.
        name: String,
    },
}

/// What kind of name a commit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefKind {
    /// One that moves.
    Branch,
    /// One that should not.
    Tag,
}

/// A branch or tag points to another commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Branch or tag.
    pub kind: RefKind,
    /// Its name, without `refs/heads/` or `refs/tags/`.
    pub name: String,
    /// The commit that it pointed to; absent if it is new.
    pub before: Option<String>,
    /// The commit, or annotated tag, that it points to.
    pub after: String,
    /// The commits that came with it, the oldest first.
    pub commits: Vec<Commit>,
    /// There were more commits than the forge tells, so that the paths below are not all that changed.
    pub is_truncated: bool,
    /// Where.
    pub repository: Repository,
    /// Who.
    pub pusher: Option<String>,
}

/// A commit of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: String,
    /// Its message.
    pub message: String,
    /// The name of its author.
    pub author: String,
    /// The address of its author.
    pub email: String,
    /// What it changed.
    pub changes: Vec<Change>,
}

/// A path that a commit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added(String),
    /// It is another.
    Modified(String),
    /// It is gone.
    Removed(String),
}

impl Change {
    /// The path, whatever was done to it.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Added(path) | Self::Modified(path) | Self::Removed(path) => path,
        }
    }
}

/// A branch or tag is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Branch or tag.
    pub kind: RefKind,
    /// Its name.
    pub name: String,
    /// Where.
    pub repository: Repository,
}

/// A repository of a forge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// `owner/name`.
    pub full_name: String,
    /// Where people look at it.
    pub html_url: String,
    /// Where it is cloned from over HTTP.
    pub clone_url: String,
    /// Where it is cloned from over SSH.
    pub ssh_url: String,
    /// The branch that is meant if none is said.
    pub default_branch: String,
}

/// Something happened to a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// What, as the forge calls it: `opened`, `closed`, `synchronized`.
    pub action: String,
    /// Its number.
    pub number: u64,
    /// What is to be merged.
    pub head: Head,
    /// The branch that it is to be merged into.
    pub base: String,
    /// The head is in another repository, or in one that is not known: what it brings is a stranger's.
    pub is_fork: bool,
    /// Where it is to be merged.
    pub repository: Repository,
}

/// The head of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The repository that it is in, as `owner/name`; absent if that is gone.
    pub repository: Option<String>,
    /// The branch.
    pub name: String,
    /// The commit.
    pub sha: String,
}

/// The branch or tag of a full reference; `None` for any other reference.
fn reference(text: &str) -> Result<Option<(RefKind, String)>, Refusal> {
    let kinds = [("refs/heads/", RefKind::Branch), ("refs/tags/", RefKind::Tag)];
    let found = kinds.into_iter().find_map(|(prefix, kind)| Some((kind, text.strip_prefix(prefix)?)));
    found.map(|(kind, name)| Ok((kind, ref_name(name)?))).transpose()
}

/// The name of a branch or tag as Git allows it. [git-check-ref-format(1)] None begins with `-`, so that it is no option either.
fn ref_name(name: &str) -> Result<String, Refusal> {
    let is_locked = |part: &str| part.rsplit_once('.').is_some_and(|(_, end)| end == "lock");
    let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !is_locked(part);
    let is_sound = !name.is_empty()
        && name.len() <= 1024
        && name != "@"
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(|letter: char| letter.is_control() || letter.is_whitespace() || "~^:?*[\\".contains(letter))
        && name.split('/').all(component);
    if is_sound { Ok(name.to_owned()) } else { Err(Refusal::malformed("the name of a branch or tag is none that Git allows")) }
}

/// The id of a commit; `None` for zeros alone, which stand for none.
fn commit_id(text: &str) -> Result<Option<String>, Refusal> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !matches!(text.len(), 40 | 64) || !is_hex {
        return Err(Refusal::malformed("the id of a commit is none"));
    }
    Ok(text.bytes().any(|byte| byte != b'0').then(|| text.to_owned()))
}

/// The members of a payload that we look at.
fn parse<T: serde::de::DeserializeOwned>(payload: &Value) -> Result<T, Refusal> {
    T::deserialize(payload).map_err(|error| Refusal::malformed(error.to_string()))
}

/// A name that a forge gives something, fit for a log.
fn shown(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_git_refuses_are_refused() {
        for good in ["main", "feature/a", "v1.2.3", "#12-x", "ünïcode", "a-b_c.d", "a@b"] {
            assert_eq!(ref_name(good), Ok(good.to_owned()), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a b",
            "a..b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a\n",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "@",
            "a@{1}",
            "a.",
            ".lock",
        ] {
            assert!(ref_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_whole_and_zeros_are_none() {
        let sha = "a".repeat(40);
        assert_eq!(commit_id(&sha), Ok(Some(sha.clone())));
        assert_eq!(commit_id(&"0".repeat(64)), Ok(None));
        for bad in ["", "abc", &"A".repeat(40), &"g".repeat(40), &format!("{sha}0")] {
            assert!(commit_id(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_is_allowed_is_no_option_and_leaves_no_folder(name in "\\PC{0,20}") {
            if let Ok(name) = ref_name(&name) {
                prop_assert!(!name.starts_with('-') && !name.split('/').any(|part| part == ".." || part.is_empty()));
            }
        }
    }
}
