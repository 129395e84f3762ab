//! A small forge: pull requests and statuses of commits over a real bare repository, in the words of Gitea, GitHub and GitLab.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::door::{self, Asked};
use crate::forge::{Bare, git};
use crate::forge_contents;

pub(crate) const TOKEN: &str = "forge-t0ken";

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) base: String,
    pub(crate) title: String,
    pub(crate) body: String,
    /// open, closed or merged.
    pub(crate) state: String,
    commit: Option<String>,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    comments: Vec<String>,
    statuses: Vec<Value>,
    /// The answers to changes are lost after they are made: this many, after those that are let through.
    lost: usize,
    let_through: usize,
    /// Closing is done and answered by an error.
    refuses_closing: bool,
    /// Somebody changes the place between a change and its lost answer.
    meddles: bool,
    /// Every request is answered so.
    refuses: Option<(u16, String)>,
    /// Everything but a GET is answered so.
    refuses_changes: Option<(u16, String)>,
    tokens: Vec<String>,
    /// Pull requests whose branch was removed, and how many requests later they are closed.
    closing: Option<(Vec<usize>, usize)>,
}

/// The forge; `kind` is how a configuration calls it, or "old gitea" for one before 1.26.
pub(crate) struct Forge {
    pub(crate) kind: &'static str,
    url: String,
    repository: String,
    state: Arc<Mutex<State>>,
}

impl Forge {
    pub(crate) fn start(bare: &Bare, kind: &'static str) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (inside, folder) = (Arc::clone(&state), bare.path());
        let url = door::open(move |asked| {
            let mut state = inside.lock().unwrap();
            if let Some(refusal) = state.refuses.clone() {
                return refusal;
            }
            if let Some(refusal) = state.refuses_changes.clone().filter(|_| !asked.line.starts_with("GET")) {
                return refusal;
            }
            let answer = state.answer(kind, asked, &folder);
            let closes = asked.line.starts_with("PATCH") && asked.body.windows(8).any(|part| part == b"\"closed\"");
            if closes && state.refuses_closing {
                return (502, "{}".to_owned());
            }
            if !asked.line.starts_with('P') || state.lost == 0 {
                return answer;
            }
            if state.let_through > 0 {
                state.let_through -= 1;
                return answer;
            }
            state.lost -= 1;
            if std::mem::take(&mut state.meddles) {
                forge_contents::meddle(&folder);
            }
            (502, "{}".to_owned())
        });
        Self { kind, url, repository: bare.url(), state }
    }

    /// `mode` and `forge` of a promotion.
    pub(crate) fn section(&self, folder: &std::path::Path) -> String {
        std::fs::write(folder.join("forge-token"), TOKEN).unwrap();
        let version = match self.kind {
            "gitea" | "old gitea" => "v1",
            "github" => "v3",
            _ => "v4",
        };
        format!(
            "mode = \"pull-request\"\nforge = {{ kind = \"{}\", api = \"{}/api/{version}\", project = \"team/infra\", token_file = \"{}\" }}\n",
            self.kind.trim_start_matches("old "),
            self.url,
            folder.join("forge-token").display()
        )
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(crate) fn comments(&self) -> Vec<String> {
        self.state.lock().unwrap().comments.clone()
    }

    pub(crate) fn statuses(&self) -> Vec<Value> {
        self.state.lock().unwrap().statuses.clone()
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state.lock().unwrap().tokens.clone()
    }

    pub(crate) fn loses(&self, answers: usize) {
        self.state.lock().unwrap().lost = answers;
    }

    /// Loses the answer to one change, after so many more.
    pub(crate) fn loses_the(&self, number: usize) {
        let mut state = self.state.lock().unwrap();
        (state.lost, state.let_through) = (1, number);
    }

    pub(crate) fn refuses_closing(&self, does: bool) {
        self.state.lock().unwrap().refuses_closing = does;
    }

    /// Somebody changes the place as soon as the next change is made whose answer is lost.
    pub(crate) fn meddles(&self) {
        self.state.lock().unwrap().meddles = true;
    }

    pub(crate) fn refuses_changes(&self, answer: Option<(u16, &str)>) {
        let message = |text: &str| json!({ "message": text }).to_string();
        self.state.lock().unwrap().refuses_changes = answer.map(|(status, text)| (status, message(text)));
    }

    pub(crate) fn refuses(&self, answer: Option<(u16, &str)>) {
        self.state.lock().unwrap().refuses = answer.map(|(status, body)| (status, body.to_owned()));
    }

    /// Somebody merges it.
    pub(crate) fn merge(&self, number: usize) {
        let request = self.requests()[number - 1].clone();
        let clone = tempfile::tempdir().unwrap();
        git(clone.path(), &["clone", "--quiet", &self.repository, "."]);
        git(clone.path(), &["checkout", "--quiet", &request.base]);
        let message = format!("Merge pull request #{number}");
        git(
            clone.path(),
            &[
                "-c",
                "user.name=h",
                "-c",
                "user.email=h@h",
                "merge",
                "--quiet",
                "--no-ff",
                "-m",
                &message,
                &format!("origin/{}", request.head),
            ],
        );
        git(clone.path(), &["push", "--quiet", "origin", &request.base]);
        let commit = git(clone.path(), &["rev-parse", "HEAD"]).trim().to_owned();
        let mut state = self.state.lock().unwrap();
        let request = &mut state.requests[number - 1];
        (request.state, request.commit) = ("merged".to_owned(), Some(commit));
    }

    /// Somebody closes it.
    pub(crate) fn close(&self, number: usize) {
        "closed".clone_into(&mut self.state.lock().unwrap().requests[number - 1].state);
    }
}

impl State {
    fn shown(&self, kind: &str, index: usize) -> Value {
        let request = &self.requests[index];
        let number = index + 1;
        if kind == "gitlab" {
            let state = if request.state == "open" { "opened" } else { &request.state };
            return json!({
                "iid": number, "web_url": format!("http://forge/mr/{number}"), "state": state, "title": request.title,
                "source_branch": request.head, "target_branch": request.base, "merge_commit_sha": request.commit,
                "source_project_id": 1, "target_project_id": 1,
            });
        }
        let repository = json!({ "full_name": "team/infra" });
        json!({
            "number": number, "html_url": format!("http://forge/pulls/{number}"), "title": request.title,
            "state": if request.state == "open" { "open" } else { "closed" }, "merged": request.state == "merged",
            "merge_commit_sha": request.commit,
            "head": { "ref": request.head, "repo": repository }, "base": { "ref": request.base, "repo": repository },
        })
    }

    fn answer(&mut self, kind: &str, asked: &Asked, folder: &std::path::Path) -> (u16, String) {
        let token = match kind {
            "gitlab" => asked.header("private-token").map(str::to_owned),
            "github" => asked.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
            _ => asked.header("authorization").and_then(|value| value.strip_prefix("token ")).map(str::to_owned),
        };
        self.close_what_has_no_branch();
        self.tokens.push(token.clone().unwrap_or_default());
        if token.as_deref() != Some(TOKEN) {
            return (401, json!({ "message": format!("the token {} is not known", token.unwrap_or_default()) }).to_string());
        }
        let words: Vec<&str> = asked.line.split(' ').collect();
        let (path, query) = words[1].split_once('?').unwrap_or((words[1], ""));
        let root = if kind == "gitlab" { "/projects/team%2Finfra/" } else { "/repos/team/infra/" };
        let Some((_, rest)) = path.split_once(root) else { return (404, "{}".to_owned()) };
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        if let Some(answer) = forge_contents::answer(kind, words[0], rest, query, &body, folder) {
            return answer;
        }
        let parts: Vec<&str> = rest.split('/').collect();
        match (words[0], parts.as_slice()) {
            ("GET", ["pulls" | "merge_requests"]) => {
                let open = |index: &usize| self.requests[*index].state == "open" && query.ends_with("page=1");
                let all: Vec<Value> = (0..self.requests.len()).filter(open).map(|index| self.shown(kind, index)).collect();
                (200, json!(all).to_string())
            }
            ("POST", ["pulls" | "merge_requests"]) => self.open(kind, &body, folder),
            ("GET", ["pulls" | "merge_requests", number]) => {
                (200, self.shown(kind, number.parse::<usize>().unwrap() - 1).to_string())
            }
            ("PATCH" | "PUT", ["pulls" | "merge_requests", number]) => {
                self.change(kind, number.parse::<usize>().unwrap() - 1, &body)
            }
            ("POST", ["issues", _, "comments"] | ["merge_requests", _, "notes"]) => {
                self.comments.push(body["body"].as_str().unwrap().to_owned());
                (201, "{}".to_owned())
            }
            ("POST", ["statuses", commit]) => {
                let mut status = body.clone();
                status["commit"] = json!(commit);
                self.statuses.push(status);
                (201, "{}".to_owned())
            }
            ("DELETE", _) => {
                let branch = rest.rsplit("heads/").next().unwrap().rsplit("branches/").next().unwrap().replace("%2F", "/");
                self.remove(&branch, folder);
                (204, String::new())
            }
            _ => (404, "{}".to_owned()),
        }
    }

    /// Changes a pull request.
    fn change(&mut self, kind: &str, index: usize, body: &Value) -> (u16, String) {
        let request = &mut self.requests[index];
        if body["state"] == "closed" || body["state_event"] == "close" {
            "closed".clone_into(&mut request.state);
        } else if body["state"] == "open" && request.state == "closed" {
            "open".clone_into(&mut request.state);
        }
        if let Some(title) = body["title"].as_str() {
            (request.title, request.body) = (title.to_owned(), body[names(kind).2].as_str().unwrap().to_owned());
        }
        (200, self.shown(kind, index).to_string())
    }

    /// Removes a branch: what has lost its branch is closed, when it has been looked at twice more.
    fn remove(&mut self, branch: &str, folder: &std::path::Path) {
        git(folder, &["update-ref", "-d", &format!("refs/heads/{branch}")]);
        let of = |index: &usize| self.requests[*index].head == branch && self.requests[*index].state == "open";
        self.closing = Some(((0..self.requests.len()).filter(of).collect(), 2));
    }

    fn close_what_has_no_branch(&mut self) {
        let Some((requests, looks)) = self.closing.take() else { return };
        if looks > 0 {
            self.closing = Some((requests, looks - 1));
            return;
        }
        for index in requests {
            "closed".clone_into(&mut self.requests[index].state);
        }
    }

    fn open(&mut self, kind: &str, body: &Value, folder: &std::path::Path) -> (u16, String) {
        let (head, base, text) = names(kind);
        let branch = body[head].as_str().unwrap().to_owned();
        if self.requests.iter().any(|request| request.state == "open" && request.head == branch) {
            return (409, json!({ "message": "pull request already exists" }).to_string());
        }
        let mut git = std::process::Command::new("git");
        let found = git.args(["rev-parse", "--verify", "--quiet", &branch]).current_dir(folder).output();
        if !found.unwrap().status.success() {
            return (404, json!({ "message": "the head branch is not there" }).to_string());
        }
        let of = |key: &str| body[key].as_str().unwrap().to_owned();
        let (base, title, body) = (of(base), of("title"), of(text));
        self.requests.push(Request { head: branch, base, title, body, state: "open".to_owned(), commit: None });
        (201, self.shown(kind, self.requests.len() - 1).to_string())
    }
}

/// How the head, the base and the text of a pull request are called.
fn names(kind: &str) -> (&'static str, &'static str, &'static str) {
    if kind == "gitlab" { ("source_branch", "target_branch", "description") } else { ("head", "base", "body") }
}
