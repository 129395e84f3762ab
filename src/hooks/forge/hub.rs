//! The payloads of GitHub, which Gitea's are like.

use serde::Deserialize;
use serde_json::Value;

use super::{
    Change, Commit, Deleted, ForgeEvent, Head, PullRequest, Push, RefKind, Repository, commit_id, parse, ref_name, reference,
    shown,
};
use crate::refusal::Refusal;

/// GitHub tells no more commits of a push than this, and not how many there were.
const MOST_COMMITS: usize = 2048;

#[derive(Deserialize)]
struct RawPush {
    #[serde(rename = "ref")]
    reference: String,
    before: String,
    after: String,
    #[serde(default)]
    commits: Option<Vec<RawCommit>>,
    #[serde(default)]
    total_commits: Option<usize>,
    #[serde(default)]
    repository: RawRepository,
    #[serde(default)]
    pusher: Option<RawPerson>,
}

#[derive(Deserialize)]
struct RawCommit {
    id: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    author: RawPerson,
    #[serde(default)]
    added: Option<Vec<String>>,
    #[serde(default)]
    modified: Option<Vec<String>>,
    #[serde(default)]
    removed: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct RawPerson {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    login: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    email: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawRepository {
    #[serde(default)]
    full_name: String,
    #[serde(default)]
    html_url: String,
    #[serde(default)]
    clone_url: String,
    #[serde(default)]
    ssh_url: String,
    #[serde(default)]
    default_branch: Option<String>,
}

#[derive(Deserialize)]
struct RawDelete {
    #[serde(rename = "ref")]
    reference: String,
    ref_type: String,
    #[serde(default)]
    repository: RawRepository,
}

#[derive(Deserialize)]
struct RawPullRequest {
    action: String,
    number: u64,
    pull_request: RawRequest,
    #[serde(default)]
    repository: RawRepository,
}

#[derive(Deserialize)]
struct RawRequest {
    head: RawEnd,
    base: RawEnd,
}

#[derive(Deserialize)]
struct RawEnd {
    #[serde(rename = "ref")]
    reference: String,
    sha: String,
    #[serde(default)]
    repo: Option<RawRepository>,
}

/// The event of this name.
pub(crate) fn read(name: &str, payload: &Value) -> Result<ForgeEvent, Refusal> {
    match name {
        "push" => push(parse(payload)?),
        "delete" => deleted(parse(payload)?),
        "pull_request" => pull_request(parse(payload)?),
        "ping" => Ok(ForgeEvent::Ping),
        other => Ok(ForgeEvent::Other { name: shown(other) }),
    }
}

/// The event of a sender that has no names for events: a push if it looks like one.
pub(crate) fn read_generic(payload: &Value) -> Result<ForgeEvent, Refusal> {
    let is_push = ["ref", "before", "after"].iter().all(|key| payload.get(key).is_some_and(Value::is_string));
    if is_push { read("push", payload) } else { Ok(ForgeEvent::Other { name: "generic".to_owned() }) }
}

fn push(raw: RawPush) -> Result<ForgeEvent, Refusal> {
    let Some((kind, name)) = reference(&raw.reference)? else {
        return Ok(ForgeEvent::Other { name: "push of another reference".to_owned() });
    };
    let repository = raw.repository.into();
    let Some(after) = commit_id(&raw.after)? else {
        return Ok(ForgeEvent::Deleted(Deleted { kind, name, repository }));
    };
    let commits = raw.commits.unwrap_or_default();
    let total = raw.total_commits.unwrap_or_default();
    let is_truncated = total > commits.len() || commits.len() >= MOST_COMMITS;
    let commits = commits.into_iter().map(RawCommit::into_commit).collect::<Result<_, _>>()?;
    let pusher = raw.pusher.and_then(|person| person.login.or(person.username).or(person.name));
    Ok(ForgeEvent::Push(Push { kind, name, before: commit_id(&raw.before)?, after, commits, is_truncated, repository, pusher }))
}

fn deleted(raw: RawDelete) -> Result<ForgeEvent, Refusal> {
    let kind = match raw.ref_type.as_str() {
        "branch" => RefKind::Branch,
        "tag" => RefKind::Tag,
        other => return Ok(ForgeEvent::Other { name: shown(&format!("delete of a {other}")) }),
    };
    // Both forges send it short; some versions did not.
    let name = match reference(&raw.reference)? {
        Some((_, name)) => name,
        None => ref_name(&raw.reference)?,
    };
    Ok(ForgeEvent::Deleted(Deleted { kind, name, repository: raw.repository.into() }))
}

fn pull_request(raw: RawPullRequest) -> Result<ForgeEvent, Refusal> {
    let (head, base) = (raw.pull_request.head, raw.pull_request.base);
    let sha = commit_id(&head.sha)?.ok_or_else(|| Refusal::malformed("a pull request without a commit"))?;
    let named = |repository: Option<RawRepository>| repository.map(|it| it.full_name).filter(|name| !name.is_empty());
    let (from, into) = (named(head.repo), named(base.repo));
    let is_fork = from.is_none() || from != into;
    let head = Head { repository: from, name: ref_name(&head.reference)?, sha };
    Ok(ForgeEvent::PullRequest(PullRequest {
        action: shown(&raw.action),
        number: raw.number,
        head,
        base: ref_name(&base.reference)?,
        is_fork,
        repository: raw.repository.into(),
    }))
}

impl RawCommit {
    fn into_commit(self) -> Result<Commit, Refusal> {
        let id = commit_id(&self.id)?.ok_or_else(|| Refusal::malformed("a commit without an id"))?;
        let added = self.added.into_iter().flatten().map(Change::Added);
        let modified = self.modified.into_iter().flatten().map(Change::Modified);
        let removed = self.removed.into_iter().flatten().map(Change::Removed);
        let changes = added.chain(modified).chain(removed).collect();
        let author = self.author.name.unwrap_or_default();
        Ok(Commit { id, message: self.message, author, email: self.author.email.unwrap_or_default(), changes })
    }
}

impl From<RawRepository> for Repository {
    fn from(raw: RawRepository) -> Self {
        Self {
            full_name: raw.full_name,
            html_url: raw.html_url,
            clone_url: raw.clone_url,
            ssh_url: raw.ssh_url,
            default_branch: raw.default_branch.unwrap_or_default(),
        }
    }
}
