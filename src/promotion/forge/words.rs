//! What each forge calls things. [Gitea API 1.x; GitHub REST 2022-11-28; GitLab REST v4]

use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::forge::{Kind, Proposal, PullState, State};
use crate::ledger::Pull;

/// Entries of a page.
pub(super) const PAGE: usize = 50;

/// What may stand in a segment of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A path, its parts each by itself.
pub(super) fn path(text: &str) -> String {
    text.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// As it is spoken of.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Gitea => "Gitea",
        Kind::GitHub => "GitHub",
        Kind::GitLab => "GitLab",
    }
}

/// What a refusal most likely means.
pub(super) fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "the token is wrong or has expired",
        StatusCode::FORBIDDEN => {
            "the token may not do this, or the branch is protected; it needs the right to write to the repository, to this branch, and to pull requests"
        }
        StatusCode::NOT_FOUND => {
            "the repository or what is asked for is not there, or the token may not see it; look at `project` and `api`"
        }
        StatusCode::LOCKED => "the repository is archived",
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => "it cannot be done as things are",
        _ => "look at `api`",
    }
}

/// Where a repository is.
pub(super) fn root(kind: Kind, project: &str) -> String {
    match kind {
        Kind::Gitea | Kind::GitHub => format!("repos/{}", path(project)),
        Kind::GitLab => format!("projects/{}", segment(project)),
    }
}

fn pulls(kind: Kind) -> &'static str {
    match kind {
        Kind::Gitea | Kind::GitHub => "pulls",
        Kind::GitLab => "merge_requests",
    }
}

/// Where a pull request is.
pub(super) fn one(kind: Kind, number: u64) -> String {
    format!("{}/{number}", pulls(kind))
}

/// How a pull request is opened.
pub(super) fn propose(kind: Kind, proposal: &Proposal) -> (String, Value) {
    let Proposal { branch, base, title, body } = proposal;
    let text = match kind {
        Kind::Gitea | Kind::GitHub => json!({ "head": branch, "base": base, "title": title, "body": body }),
        Kind::GitLab => json!({ "source_branch": branch, "target_branch": base, "title": title, "description": body }),
    };
    (pulls(kind).to_owned(), text)
}

/// How its title and text are changed.
pub(super) fn renew(kind: Kind, number: u64, proposal: &Proposal) -> (Method, String, Value) {
    let Proposal { title, body, .. } = proposal;
    match kind {
        Kind::Gitea | Kind::GitHub => (Method::PATCH, one(kind, number), json!({ "title": title, "body": body })),
        Kind::GitLab => (Method::PUT, one(kind, number), json!({ "title": title, "description": body })),
    }
}

/// How it is closed.
pub(super) fn close(kind: Kind, number: u64) -> (Method, String, Value) {
    match kind {
        Kind::Gitea | Kind::GitHub => (Method::PATCH, one(kind, number), json!({ "state": "closed" })),
        Kind::GitLab => (Method::PUT, one(kind, number), json!({ "state_event": "close" })),
    }
}

/// How something is said to it.
pub(super) fn comment(kind: Kind, number: u64, text: &str) -> (String, Value) {
    let path = match kind {
        Kind::Gitea | Kind::GitHub => format!("issues/{number}/comments"),
        Kind::GitLab => format!("merge_requests/{number}/notes"),
    };
    (path, json!({ "body": text }))
}

/// How those are listed that are open, as far as they may be of the branch.
pub(super) fn open(kind: Kind, project: &str, branch: &str, page: usize) -> (String, Vec<(&'static str, String)>) {
    let owner = project.split('/').next().unwrap_or_default();
    let mut query = match kind {
        Kind::Gitea => vec![("state", "open".to_owned()), ("limit", PAGE.to_string())],
        Kind::GitHub => {
            vec![("state", "open".to_owned()), ("head", format!("{owner}:{branch}")), ("per_page", PAGE.to_string())]
        }
        Kind::GitLab => {
            vec![("state", "opened".to_owned()), ("source_branch", branch.to_owned()), ("per_page", PAGE.to_string())]
        }
    };
    query.push(("page", page.to_string()));
    (pulls(kind).to_owned(), query)
}

/// Is a listed one of this branch?
pub(super) fn is_of(kind: Kind, listed: &Value, branch: &str) -> bool {
    match kind {
        Kind::Gitea | Kind::GitHub => {
            // One of a fork may be called the same.
            let is_fork = listed["head"]["repo"]["full_name"].is_string()
                && listed["head"]["repo"]["full_name"] != listed["base"]["repo"]["full_name"];
            listed["head"]["ref"] == branch && !is_fork
        }
        Kind::GitLab => listed["source_branch"] == branch && listed["source_project_id"] == listed["target_project_id"],
    }
}

/// The number and the address of one.
pub(super) fn pull(kind: Kind, answer: &Value) -> Option<Pull> {
    let (number, url) = match kind {
        Kind::Gitea | Kind::GitHub => ("number", "html_url"),
        Kind::GitLab => ("iid", "web_url"),
    };
    Some(Pull { number: answer[number].as_u64()?, url: answer[url].as_str()?.to_owned() })
}

/// How one is.
pub(super) fn state(answer: &Value) -> Option<PullState> {
    // A fast-forward at GitLab has no other name than its own.
    let commit = ["merge_commit_sha", "squash_commit_sha", "merged_commit_sha", "sha"];
    let commit = || commit.iter().find_map(|key| answer[*key].as_str()).filter(|sha| !sha.is_empty()).map(str::to_owned);
    Some(match answer["state"].as_str()? {
        "merged" => PullState::Merged { commit: commit() },
        _ if answer["merged"] == true => PullState::Merged { commit: commit() },
        "open" | "opened" | "locked" => PullState::Open,
        "closed" => PullState::Closed,
        _ => return None,
    })
}

/// Where a branch is removed.
pub(super) fn branch(kind: Kind, branch: &str) -> String {
    match kind {
        Kind::Gitea => format!("branches/{}", segment(branch)),
        Kind::GitHub => format!("git/refs/heads/{}", path(branch)),
        Kind::GitLab => format!("repository/branches/{}", segment(branch)),
    }
}

/// Where a branch is looked at.
pub(super) fn reference(kind: Kind, name: &str) -> String {
    match kind {
        Kind::GitHub => format!("git/ref/heads/{}", path(name)),
        Kind::Gitea | Kind::GitLab => branch(kind, name),
    }
}

/// How something is said of a commit.
pub(super) fn status(kind: Kind, commit: &str, state: State, context: &str, description: &str) -> (String, Value) {
    let word = match (kind, state) {
        (_, State::Pending) => "pending",
        (_, State::Success) => "success",
        (Kind::GitLab, State::Failure) => "failed",
        (_, State::Failure) => "failure",
    };
    let name = if kind == Kind::GitLab { "name" } else { "context" };
    (format!("statuses/{}", segment(commit)), json!({ "state": word, name: context, "description": description }))
}
