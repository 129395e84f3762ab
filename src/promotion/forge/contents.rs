//! A branch over the API of its forge, for hosts without git: files are read and commits made by requests.
//!
//! At GitHub a commit is made on the tip that was read, and the branch is moved if it is still there: a compare-and-swap. At Gitea and
//! GitLab it is made on whatever the tip is by then, if the files that it changes are the same as those that were read. What became of
//! a commit whose answer was lost is read from the branch.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::forge::words::{self, segment};
use crate::forge::{Forge, ForgeError, Kind, PullState, is_absent};
use crate::git::{Commit, File, GitError, Pushed, Signature, Tip};

/// Commits of a branch among which one is looked for.
const RECENT: usize = 50;

/// How often it is looked whether a commit has come whose answer was lost, and how long is waited between.
const LOOKS: usize = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// The modes of what is in a tree.
const PLAIN_FILE: &str = "100644";
const PROGRAM_FILE: &str = "100755";
const FOLDER: &str = "040000";
/// How often it is looked whether a pull request was closed with its branch, and how long is waited between.
const CLOSING: usize = 40;
const CLOSING_PAUSE: Duration = Duration::from_millis(250);

/// A branch of a forge.
#[derive(Clone, Debug)]
pub struct Contents {
    forge: Forge,
    branch: String,
}

impl Contents {
    /// This branch.
    #[must_use]
    pub fn new(forge: Forge, branch: &str) -> Self {
        Self { forge, branch: branch.to_owned() }
    }

    fn strange(&self, what: &str) -> ForgeError {
        self.forge.way.strange(format!("an answer without {what}"))
    }

    fn commit_of(&self, text: Option<&str>) -> Result<Commit, ForgeError> {
        text.and_then(Commit::of).ok_or_else(|| self.strange("the name of a commit"))
    }

    /// The last commit of the branch.
    pub(crate) async fn fetch(&self) -> Result<Tip, ForgeError> {
        let path = words::reference(self.forge.kind, &self.branch);
        let answer = self.forge.ask(Method::GET, &path, &[], None).await?;
        let at = if self.forge.kind == Kind::GitHub { "/object/sha" } else { "/commit/id" };
        self.commit_of(answer.pointer(at).and_then(Value::as_str)).map(Tip::of)
    }

    /// A file of a commit; `None` if there is none.
    pub(crate) async fn read(&self, tip: &Tip, path: &str) -> Result<Option<File>, GitError> {
        let at = match self.forge.kind {
            Kind::Gitea => format!("contents/{}", words::path(path)),
            Kind::GitHub => return self.read_at_github(tip, path).await,
            Kind::GitLab => format!("repository/files/{}", segment(path)),
        };
        let query = [("ref", tip.commit().as_str().to_owned())];
        let answer = match self.forge.ask(Method::GET, &at, &query, None).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A folder is a list; a link or a submodule has another type.
        if answer.is_array() || answer["type"].as_str().is_some_and(|kind| kind != "file") {
            return Err(GitError::NotAFile);
        }
        let bytes = self.bytes_of(&answer)?;
        let key = if self.forge.kind == Kind::GitLab { "last_commit_id" } else { "sha" };
        let version = answer[key].as_str().map(str::to_owned);
        let is_program = answer["execute_filemode"] == true;
        Ok(Some(File { path: path.to_owned(), bytes, is_program, version }))
    }

    /// By its tree: what GitHub says of the contents of a path has no mode, and follows links.
    async fn read_at_github(&self, tip: &Tip, path: &str) -> Result<Option<File>, GitError> {
        let (mut tree, mut parts) = (tip.commit().as_str().to_owned(), path.split('/').peekable());
        while let Some(part) = parts.next() {
            let listed = self.forge.ask(Method::GET, &format!("git/trees/{}", segment(&tree)), &[], None).await?;
            let entries = listed["tree"].as_array().ok_or_else(|| self.strange("what is in a folder"))?;
            let Some(entry) = entries.iter().find(|entry| entry["path"] == part) else { return Ok(None) };
            let mode = entry["mode"].as_str().unwrap_or_default();
            let sha = entry["sha"].as_str().ok_or_else(|| self.strange("the name of a file"))?;
            if parts.peek().is_some() {
                if mode != FOLDER {
                    return Err(GitError::NotAFile);
                }
                sha.clone_into(&mut tree);
                continue;
            }
            if !matches!(mode, PLAIN_FILE | PROGRAM_FILE) {
                return Err(GitError::NotAFile);
            }
            let blob = self.forge.ask(Method::GET, &format!("git/blobs/{}", segment(sha)), &[], None).await?;
            let (bytes, version) = (self.bytes_of(&blob)?, Some(sha.to_owned()));
            return Ok(Some(File { path: path.to_owned(), bytes, is_program: mode == PROGRAM_FILE, version }));
        }
        Ok(None)
    }

    fn bytes_of(&self, answer: &Value) -> Result<Vec<u8>, ForgeError> {
        let content = answer["content"].as_str().ok_or_else(|| self.strange("the bytes of a file"))?;
        let content: String = content.split_ascii_whitespace().collect();
        STANDARD.decode(content).map_err(|_| self.strange("bytes in base64"))
    }

    /// Makes a commit with these files changed, and brings it to the branch.
    pub(crate) async fn land(
        &self,
        tip: &Tip,
        files: &[File],
        message: &str,
        by: &Signature,
    ) -> Result<(Commit, Pushed), GitError> {
        let made = match self.forge.kind {
            Kind::Gitea => self.at_gitea(files, message, by, None).await,
            Kind::GitHub => self.at_github(tip, files, message, by).await,
            Kind::GitLab => self.at_gitlab(files, message, by, None).await,
        };
        let refusal = match made {
            Ok(commit) => return Ok((commit, Pushed::Landed)),
            Err(error) => error,
        };
        // Whatever was answered, the branch says what has happened; what was not answered may still come to it.
        let looks = if matches!(refusal, ForgeError::Refused { .. }) { 1 } else { LOOKS };
        for look in 1..=looks {
            let now = self.fetch().await?;
            if now != *tip {
                let ours = self.since(tip, files, message).await?;
                return Ok(ours.map_or((now.commit().clone(), Pushed::Moved), |ours| (ours, Pushed::Landed)));
            }
            if look < looks {
                self.forge.way.pause(LOOK_PAUSE).await;
            }
        }
        match refusal {
            ForgeError::Refused { .. } => Ok((tip.commit().clone(), Pushed::Refused(telemetry::chain(&refusal)))),
            other => Err(other.into()),
        }
    }

    /// Our commit among those that came after the tip: it has our text, and the files as we wrote them.
    async fn since(&self, tip: &Tip, files: &[File], message: &str) -> Result<Option<Commit>, GitError> {
        let recent = self.recent().await?;
        let later = recent.iter().take_while(|(name, _)| name != tip.commit().as_str());
        for (name, _) in later.filter(|(_, text)| text.trim() == message.trim()) {
            let commit = Tip::of(self.commit_of(Some(name))?);
            let mut is_ours = true;
            for file in files {
                is_ours &= self.read(&commit, &file.path).await?.is_some_and(|there| there.bytes == file.bytes);
            }
            if is_ours {
                return Ok(Some(commit.commit().clone()));
            }
        }
        Ok(None)
    }

    /// Names and texts of the last commits of the branch, the latest first.
    async fn recent(&self) -> Result<Vec<(String, String)>, ForgeError> {
        let branch = self.branch.clone();
        let (path, query, at) = match self.forge.kind {
            Kind::Gitea => {
                let plain = ["stat", "verification", "files"].map(|key| (key, "false".to_owned()));
                let query = [vec![("sha", branch), ("limit", RECENT.to_string())], plain.to_vec()].concat();
                ("commits", query, "/commit/message")
            }
            Kind::GitHub => ("commits", vec![("sha", branch), ("per_page", RECENT.to_string())], "/commit/message"),
            Kind::GitLab => ("repository/commits", vec![("ref_name", branch), ("per_page", RECENT.to_string())], "/message"),
        };
        let answer = self.forge.ask(Method::GET, path, &query, None).await?;
        let of = |one: &Value| {
            let name = one["sha"].as_str().or_else(|| one["id"].as_str())?;
            Some((name.to_owned(), one.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()))
        };
        Ok(answer.as_array().into_iter().flatten().filter_map(of).collect())
    }

    /// Makes a commit at a branch of our own, which is made anew.
    pub(crate) async fn propose(
        &self,
        tip: &Tip,
        files: &[File],
        message: &str,
        by: &Signature,
        branch: &str,
    ) -> Result<Commit, ForgeError> {
        match self.forge.kind {
            Kind::Gitea => self.propose_at_gitea(files, message, by, branch).await,
            Kind::GitLab => self.at_gitlab(files, message, by, Some(branch)).await,
            Kind::GitHub => {
                let commit = self.github_commit(tip, files, message, by).await?;
                let moved = json!({ "sha": commit.as_str(), "force": true });
                let path = format!("git/refs/heads/{}", words::path(branch));
                match self.forge.ask(Method::PATCH, &path, &[], Some(moved)).await {
                    Ok(_) => Ok(commit),
                    Err(ForgeError::Refused { status: StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY, .. }) => {
                        let made = json!({ "ref": format!("refs/heads/{branch}"), "sha": commit.as_str() });
                        self.forge.ask(Method::POST, "git/refs", &[], Some(made)).await?;
                        Ok(commit)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// A Gitea before 1.26 overwrites no branch: there it goes first, which closes its pull request, and that is opened again.
    async fn propose_at_gitea(&self, files: &[File], message: &str, by: &Signature, branch: &str) -> Result<Commit, ForgeError> {
        let refusal = match self.at_gitea(files, message, by, Some(branch)).await {
            Err(error @ ForgeError::Refused { status: StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY, .. }) => error,
            other => return other,
        };
        match self.forge.ask(Method::GET, &words::branch(self.forge.kind, branch), &[], None).await {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Err(refusal),
            Err(error) => return Err(error),
        }
        let open = self.forge.find(branch).await?;
        self.forge.delete_branch(branch).await?;
        if let Some(open) = &open {
            // It is closed in the background, a little later.
            for _ in 0..CLOSING {
                if self.forge.state(open.number).await? != PullState::Open {
                    break;
                }
                self.forge.way.pause(CLOSING_PAUSE).await;
            }
        }
        let commit = self.at_gitea(files, message, by, Some(branch)).await?;
        if let Some(open) = open {
            self.forge.reopen(open.number).await?;
        }
        Ok(commit)
    }

    /// Is a revision our commit, or one after it, among the last of the branch?
    pub(crate) async fn has_followed(&self, commit: &str, revision: &str) -> Result<bool, ForgeError> {
        if commit == revision {
            return Ok(true);
        }
        let recent = self.recent().await?;
        let place = |name: &str| recent.iter().position(|(known, _)| known == name);
        // The latest comes first.
        Ok(place(commit).zip(place(revision)).is_some_and(|(ours, theirs)| theirs <= ours))
    }

    async fn at_gitea(&self, files: &[File], message: &str, by: &Signature, new: Option<&str>) -> Result<Commit, ForgeError> {
        let file = |file: &File| json!({ "operation": "update", "path": file.path, "content": STANDARD.encode(&file.bytes), "sha": file.version });
        let who = json!({ "name": by.name, "email": by.email });
        let mut body = json!({
            "branch": self.branch, "message": message, "author": who, "committer": who,
            "files": files.iter().map(file).collect::<Vec<_>>(),
        });
        if let Some(new) = new {
            body["new_branch"] = json!(new);
            // Overwrites the branch: the first is Gitea's word, the second Forgejo's.
            (body["force_push"], body["force_overwrite_new_branch"]) = (json!(true), json!(true));
        }
        let answer = self.forge.ask(Method::POST, "contents", &[], Some(body)).await?;
        self.commit_of(answer.pointer("/commit/sha").and_then(Value::as_str))
    }

    async fn at_github(&self, tip: &Tip, files: &[File], message: &str, by: &Signature) -> Result<Commit, ForgeError> {
        let commit = self.github_commit(tip, files, message, by).await?;
        let path = format!("git/refs/heads/{}", words::path(&self.branch));
        let moved = json!({ "sha": commit.as_str(), "force": false });
        self.forge.ask(Method::PATCH, &path, &[], Some(moved)).await?;
        Ok(commit)
    }

    async fn github_commit(&self, tip: &Tip, files: &[File], message: &str, by: &Signature) -> Result<Commit, ForgeError> {
        let mut entries = Vec::new();
        for file in files {
            let blob = json!({ "content": STANDARD.encode(&file.bytes), "encoding": "base64" });
            let blob = self.forge.ask(Method::POST, "git/blobs", &[], Some(blob)).await?;
            let mode = if file.is_program { PROGRAM_FILE } else { PLAIN_FILE };
            entries.push(json!({ "path": file.path, "mode": mode, "type": "blob", "sha": blob["sha"] }));
        }
        let tree = json!({ "base_tree": tip.commit().as_str(), "tree": entries });
        let tree = self.forge.ask(Method::POST, "git/trees", &[], Some(tree)).await?;
        let who = json!({ "name": by.name, "email": by.email });
        let commit = json!({
            "message": message, "tree": tree["sha"], "parents": [tip.commit().as_str()], "author": who, "committer": who,
        });
        let answer = self.forge.ask(Method::POST, "git/commits", &[], Some(commit)).await?;
        self.commit_of(answer["sha"].as_str())
    }

    async fn at_gitlab(&self, files: &[File], message: &str, by: &Signature, new: Option<&str>) -> Result<Commit, ForgeError> {
        let action = |file: &File| {
            json!({
                "action": "update", "file_path": file.path, "content": STANDARD.encode(&file.bytes), "encoding": "base64",
                "last_commit_id": file.version,
            })
        };
        let mut body = json!({
            "branch": new.unwrap_or(&self.branch), "commit_message": message, "author_name": by.name, "author_email": by.email,
            "actions": files.iter().map(action).collect::<Vec<_>>(),
        });
        if new.is_some() {
            (body["start_branch"], body["force"]) = (json!(self.branch), json!(true));
        }
        let answer = self.forge.ask(Method::POST, "repository/commits", &[], Some(body)).await?;
        self.commit_of(answer["id"].as_str())
    }
}
