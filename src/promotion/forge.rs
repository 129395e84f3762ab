//! The forge of a repository, over its API: pull requests, and what is said of a commit.
//!
//! Gitea (and Forgejo), GitHub and GitLab differ in names and paths; what is meant is the same. Answers are looked at for what is
//! needed alone, so that a newer forge says more without harm.

mod contents;
mod words;

pub use contents::Contents;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use telemetry::Clock;
use url::Url;

use crate::ledger::Pull;
use crate::rollout::exchange::{Way, line, secret_header};
use crate::rollout::{RolloutError, SettingsError};

/// What a forge did not do, or why it is not known. The same as with those who are told of commits.
pub type ForgeError = RolloutError;

/// A forge answers within this, or not at all.
const LIMIT: Duration = Duration::from_secs(30);
/// The largest answer, in bytes.
const LONGEST: usize = 4 << 20;
/// Pages of open pull requests that are looked through.
const PAGES: usize = 20;
/// What every forge takes of a description, in characters.
const DESCRIPTION: usize = 140;

/// Which API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Gitea and Forgejo: `https://git.example.org/api/v1`.
    Gitea,
    /// GitHub: `https://api.github.com`, or `https://HOST/api/v3`.
    GitHub,
    /// GitLab: `https://gitlab.example.org/api/v4`.
    GitLab,
}

/// Where a repository is, and how this server is let in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which API.
    pub kind: Kind,
    /// Where it is, with its version.
    pub api: Url,
    /// The repository there: `owner/name`, at GitLab with all its groups.
    pub project: String,
    /// A token that may do this.
    pub token: SecretString,
    /// Trusted beside the system's roots.
    pub ca: Option<PathBuf>,
}

/// What is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The branch that has it, of this repository.
    pub branch: String,
    /// The branch that it is for.
    pub base: String,
    /// The title.
    pub title: String,
    /// The text.
    pub body: String,
}

/// How a pull request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullState {
    /// Somebody has to look at it.
    Open,
    /// It was merged, as this commit where the forge says so.
    Merged {
        /// Which.
        commit: Option<String>,
    },
    /// It was closed and not merged.
    Closed,
}

/// What is said of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being looked at.
    Pending,
    /// It is right.
    Success,
    /// It is wrong.
    Failure,
}

/// The forge of a repository. Cheap to clone.
#[derive(Clone)]
pub struct Forge {
    kind: Kind,
    api: Url,
    project: String,
    way: Arc<Way>,
    token: (HeaderName, HeaderValue),
}

impl Forge {
    /// A way to the forge of these settings.
    pub fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let Settings { kind, api, project, token, ca } = settings;
        let what = words::name(*kind);
        let secret = token.expose_secret();
        let token_header = match kind {
            Kind::Gitea => (AUTHORIZATION, secret_header(what, &format!("token {secret}"))?),
            Kind::GitHub => (AUTHORIZATION, secret_header(what, &format!("Bearer {secret}"))?),
            Kind::GitLab => (HeaderName::from_static("private-token"), secret_header(what, secret)?),
        };
        let way = Way::new(what, api, ca.as_ref(), words::advice, clock)?.hiding(Some(token));
        Ok(Self { kind: *kind, api: api.clone(), project: project.clone(), way: Arc::new(way), token: token_header })
    }

    /// Opens a pull request, or renews the one that is open for this branch.
    pub async fn propose(&self, proposal: &Proposal) -> Result<Pull, ForgeError> {
        if let Some(open) = self.find(&proposal.branch).await? {
            let (method, path, body) = words::renew(self.kind, open.number, proposal);
            self.ask(method, &path, &[], Some(body)).await?;
            return Ok(open);
        }
        let (path, body) = words::propose(self.kind, proposal);
        match self.ask(Method::POST, &path, &[], Some(body)).await {
            Ok(answer) => self.pull(&answer),
            // Its answer was lost, or another server was faster: then it is there now.
            Err(error) => match self.find(&proposal.branch).await {
                Ok(Some(open)) => Ok(open),
                _ => Err(error),
            },
        }
    }

    /// The open pull request of a branch of this repository.
    pub async fn find(&self, branch: &str) -> Result<Option<Pull>, ForgeError> {
        for page in 1..=PAGES {
            let (path, query) = words::open(self.kind, &self.project, branch, page);
            let answer = self.ask(Method::GET, &path, &query, None).await?;
            let Some(listed) = answer.as_array() else { return Err(self.way.strange("pull requests are no list")) };
            if let Some(found) = listed.iter().find(|one| words::is_of(self.kind, one, branch)) {
                return self.pull(found).map(Some);
            }
            // A forge may have shorter pages than what is asked for.
            if listed.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    /// How a pull request is. One that is not there any more is closed.
    pub async fn state(&self, number: u64) -> Result<PullState, ForgeError> {
        match self.ask(Method::GET, &words::one(self.kind, number), &[], None).await {
            Ok(answer) => words::state(&answer).ok_or_else(|| self.way.strange("a pull request without a state")),
            Err(error) if is_absent(&error) => Ok(PullState::Closed),
            Err(error) => Err(error),
        }
    }

    /// Closes a pull request, and says why. One that is closed already, or gone, is fine.
    pub async fn close(&self, number: u64, why: &str) -> Result<(), ForgeError> {
        if self.state(number).await? != PullState::Open {
            return Ok(());
        }
        let (path, body) = words::comment(self.kind, number, why);
        self.ask(Method::POST, &path, &[], Some(body)).await?;
        let (method, path, body) = words::close(self.kind, number);
        self.ask(method, &path, &[], Some(body)).await.map(|_| ())
    }

    /// Opens a closed pull request again, as Gitea calls it.
    async fn reopen(&self, number: u64) -> Result<(), ForgeError> {
        let opened = serde_json::json!({ "state": "open" });
        self.ask(Method::PATCH, &words::one(self.kind, number), &[], Some(opened)).await.map(|_| ())
    }

    /// Removes a branch of ours. Absence is fine.
    pub async fn delete_branch(&self, branch: &str) -> Result<(), ForgeError> {
        match self.ask(Method::DELETE, &words::branch(self.kind, branch), &[], None).await {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            // GitHub says so that there is no such reference, and also that it is protected.
            Err(error @ ForgeError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, .. }) => {
                match self.ask(Method::GET, &words::reference(self.kind, branch), &[], None).await {
                    Err(gone) if is_absent(&gone) => Ok(()),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Says something of a commit, under a name that is ours.
    pub async fn say(&self, commit: &str, state: State, context: &str, description: &str) -> Result<(), ForgeError> {
        let description = line(description, DESCRIPTION - 1);
        let (path, body) = words::status(self.kind, commit, state, context, &description);
        match self.ask(Method::POST, &path, &[], Some(body)).await {
            // GitLab takes no state that is there already.
            Err(error @ ForgeError::Refused { status: StatusCode::BAD_REQUEST, .. }) if self.kind == Kind::GitLab => {
                if error.to_string().contains("Cannot transition status") { Ok(()) } else { Err(error) }
            }
            other => other.map(|_| ()),
        }
    }

    fn pull(&self, answer: &Value) -> Result<Pull, ForgeError> {
        words::pull(self.kind, answer).ok_or_else(|| self.way.strange("a pull request without number or address"))
    }

    /// What is at a path of the repository.
    async fn ask(&self, method: Method, path: &str, query: &[(&str, String)], body: Option<Value>) -> Result<Value, ForgeError> {
        let url = self.url(path, query);
        let mut headers = HeaderMap::from_iter([self.token.clone()]);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let answer = self.way.ask(method, &url, headers, body, LONGEST, LIMIT).await?;
        if answer.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|error| self.way.strange(format!("its answer is no JSON: {error}")))
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.api.clone();
        let root = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{root}/{}/{path}", words::root(self.kind, &self.project)));
        url.query_pairs_mut().clear().extend_pairs(query.iter().map(|(key, value)| (*key, value.as_str())));
        if query.is_empty() {
            url.set_query(None);
        }
        url
    }
}

fn is_absent(error: &ForgeError) -> bool {
    matches!(error, ForgeError::Refused { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. })
}

impl fmt::Debug for Forge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Forge").field("kind", &self.kind).field("project", &self.project).finish_non_exhaustive()
    }
}
