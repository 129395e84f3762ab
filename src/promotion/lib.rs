//! Promotions: a tag that arrives becomes a commit in the `GitOps` repository.
//!
//! What is here so far: the edit, bytes of a file in and its bytes after the change out, or the reason why that is not safe
//! ([`Edit`]); and the commit, which brings edits to a branch whatever happens to it meanwhile ([`Branch`]). Rules, gates and what
//! follows a commit come on top of them.

mod edit;
mod git;
mod land;
mod rollout;
mod yaml;

pub use edit::{Application, Container, Edit, Edited, Helm, Image, Kustomization, Values, Write};
pub use git::{Cache, Commit, File, GitError, Login, Program, Pushed, Remote, RemoteError, Signature, Tip};
pub use land::{Branch, Changed, Intent, LandError, Outcome};
pub use rollout::{
    ArgoCd, ArgoCdApi, ArgoCdWebhook, FluxReceiver, HealthStatus, Moved, Note, Notify, NotifySettings, Observed, Operation,
    Phase, RepoUrl, ReportError, Resource, RolloutError, SettingsError, SyncStatus, Told, Verdict, Wanted, Webhook, judge, tell,
};
pub use yaml::Refusal;
