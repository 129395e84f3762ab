//! The payloads of GitLab, which say themselves what they are.

use serde::Deserialize;
use serde_json::Value;

use super::{
    Change, Commit, Deleted, ForgeEvent, Head, PullRequest, Push, Repository, commit_id, parse, ref_name, reference, shown,
};
use crate::refusal::Refusal;

#[derive(Deserialize)]
struct RawPush {
    #[serde(rename = "ref")]
    reference: String,
    before: String,
    after: String,
    #[serde(default)]
    commits: Option<Vec<RawCommit>>,
    #[serde(default)]
    total_commits_count: Option<usize>,
    #[serde(default)]
    project: RawProject,
    #[serde(default)]
    user_username: Option<String>,
}

#[derive(Deserialize)]
struct RawCommit {
    id: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    author: RawAuthor,
    #[serde(default)]
    added: Option<Vec<String>>,
    #[serde(default)]
    modified: Option<Vec<String>>,
    #[serde(default)]
    removed: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct RawAuthor {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
}

#[derive(Default, Deserialize)]
struct RawProject {
    #[serde(default)]
    path_with_namespace: String,
    #[serde(default)]
    web_url: String,
    #[serde(default)]
    git_http_url: String,
    #[serde(default)]
    git_ssh_url: String,
    #[serde(default)]
    default_branch: Option<String>,
}

#[derive(Deserialize)]
struct RawMergeRequest {
    object_attributes: RawAttributes,
    #[serde(default)]
    project: RawProject,
}

#[derive(Deserialize)]
struct RawAttributes {
    iid: u64,
    #[serde(default)]
    action: Option<String>,
    source_branch: String,
    target_branch: String,
    #[serde(default)]
    source_project_id: Option<u64>,
    #[serde(default)]
    target_project_id: Option<u64>,
    #[serde(default)]
    source: Option<RawProject>,
    #[serde(default)]
    last_commit: Option<RawLast>,
}

#[derive(Deserialize)]
struct RawLast {
    id: String,
}

/// The event that a payload says it is. The header is not signed, so that it does not count.
pub(crate) fn read(payload: &Value) -> Result<ForgeEvent, Refusal> {
    let kind = payload.get("object_kind").or_else(|| payload.get("event_name")).and_then(Value::as_str);
    match kind {
        Some("push" | "tag_push") => push(parse(payload)?),
        Some("merge_request") => merge_request(parse(payload)?),
        Some(other) => Ok(ForgeEvent::Other { name: shown(other) }),
        None => Err(Refusal::malformed("it does not say what it is")),
    }
}

fn push(raw: RawPush) -> Result<ForgeEvent, Refusal> {
    let Some((kind, name)) = reference(&raw.reference)? else {
        return Ok(ForgeEvent::Other { name: "push of another reference".to_owned() });
    };
    let repository = raw.project.into();
    let Some(after) = commit_id(&raw.after)? else {
        return Ok(ForgeEvent::Deleted(Deleted { kind, name, repository }));
    };
    let commits = raw.commits.unwrap_or_default();
    let is_truncated = raw.total_commits_count.is_some_and(|total| total > commits.len());
    let commits = commits.into_iter().map(RawCommit::into_commit).collect::<Result<_, _>>()?;
    let (before, pusher) = (commit_id(&raw.before)?, raw.user_username);
    Ok(ForgeEvent::Push(Push { kind, name, before, after, commits, is_truncated, repository, pusher }))
}

fn merge_request(raw: RawMergeRequest) -> Result<ForgeEvent, Refusal> {
    let attributes = raw.object_attributes;
    let last = attributes.last_commit.ok_or_else(|| Refusal::malformed("a merge request without a commit"))?;
    let sha = commit_id(&last.id)?.ok_or_else(|| Refusal::malformed("a merge request without a commit"))?;
    let is_fork = attributes.source_project_id.is_none() || attributes.source_project_id != attributes.target_project_id;
    let from = attributes.source.map(|project| project.path_with_namespace).filter(|name| !name.is_empty());
    Ok(ForgeEvent::PullRequest(PullRequest {
        action: shown(attributes.action.as_deref().unwrap_or_default()),
        number: attributes.iid,
        head: Head { repository: from, name: ref_name(&attributes.source_branch)?, sha },
        base: ref_name(&attributes.target_branch)?,
        is_fork,
        repository: raw.project.into(),
    }))
}

impl RawCommit {
    fn into_commit(self) -> Result<Commit, Refusal> {
        let id = commit_id(&self.id)?.ok_or_else(|| Refusal::malformed("a commit without an id"))?;
        let added = self.added.into_iter().flatten().map(Change::Added);
        let modified = self.modified.into_iter().flatten().map(Change::Modified);
        let removed = self.removed.into_iter().flatten().map(Change::Removed);
        let changes = added.chain(modified).chain(removed).collect();
        Ok(Commit { id, message: self.message, author: self.author.name, email: self.author.email, changes })
    }
}

impl From<RawProject> for Repository {
    fn from(raw: RawProject) -> Self {
        Self {
            full_name: raw.path_with_namespace,
            html_url: raw.web_url,
            clone_url: raw.git_http_url,
            ssh_url: raw.git_ssh_url,
            default_branch: raw.default_branch.unwrap_or_default(),
        }
    }
}
