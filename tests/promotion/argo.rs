//! A small Argo CD: it takes its webhook and answers for one application, whose manifests are what `kubectl kustomize` makes of the
//! branch. It looks at Git only when it is told to, as one would whose timer is far away.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use telemetry::Clock;

use crate::buckets::tool;
use crate::door::{self, Asked};
use crate::forge::{Bare, git};

pub(crate) const SECRET: &str = "gogs-s3cret-of-argocd";
pub(crate) const TOKEN: &str = "argocd-t0ken-for-the-api";
/// How Argo CD knows the repository: by another name than those who push to it.
pub(crate) const REPO_URL: &str = "http://gitea.gitea.svc.cluster.local:3000/micro/tinybird.git";
/// From the sync to the health of what was synced.
const UP: Duration = Duration::from_millis(700);

fn clock() -> telemetry::SystemClock {
    telemetry::SystemClock::default()
}

struct State {
    clone_of: String,
    path: String,
    /// The commit that is synced, what it has for images, and since when.
    synced: Option<(String, Vec<String>, SystemTime)>,
    /// Images with this in their name never become healthy.
    bad: BTreeSet<String>,
    heard: Vec<String>,
}

pub(crate) struct Argo {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Argo {
    /// Watches a folder of a repository's branch `main`.
    pub(crate) fn start(bare: &Bare, path: &str) -> Self {
        let state = State { clone_of: bare.url(), path: path.to_owned(), synced: None, bad: BTreeSet::new(), heard: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        state.lock().unwrap().sync();
        let inside = Arc::clone(&state);
        Self { url: door::open(move |asked| inside.lock().unwrap().answer(asked)), state }
    }

    /// Images with this in their name never become healthy.
    pub(crate) fn breaks(&self, image: &str) {
        self.state.lock().unwrap().bad.insert(image.to_owned());
    }

    /// The first line of each request.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.state.lock().unwrap().heard.clone()
    }

    pub(crate) fn images(&self) -> Vec<String> {
        self.state.lock().unwrap().synced.as_ref().unwrap().1.clone()
    }

    /// `argocd = …` of a promotion.
    pub(crate) fn section(&self, folder: &std::path::Path) -> String {
        std::fs::write(folder.join("argocd-secret"), SECRET).unwrap();
        std::fs::write(folder.join("argocd-token"), TOKEN).unwrap();
        format!(
            "argocd = {{ webhook = \"{url}/api/webhook\", secret_file = \"{secret}\", repo_url = \"{REPO_URL}\", api = \"{url}\", token_file = \"{token}\", application = \"tinybird\" }}\n",
            url = self.url,
            secret = folder.join("argocd-secret").display(),
            token = folder.join("argocd-token").display(),
        )
    }
}

impl State {
    /// Takes the tip of the branch for what is to be, if it can be built.
    fn sync(&mut self) {
        let clone = tempfile::tempdir().unwrap();
        git(clone.path(), &["clone", "--quiet", "--branch", "main", &self.clone_of, "."]);
        let commit = git(clone.path(), &["rev-parse", "HEAD"]).trim().to_owned();
        if self.synced.as_ref().is_some_and(|(known, ..)| *known == commit) {
            return;
        }
        let built = Command::new(tool("kubectl")).arg("kustomize").arg(clone.path().join(&self.path)).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let rendered = String::from_utf8(built.stdout).unwrap();
        let images = rendered.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("image: "));
        self.synced = Some((commit, images.map(|image| image.trim_matches('"').to_owned()).collect(), clock().now()));
    }

    fn application(&self) -> Value {
        let Some((commit, images, since)) = &self.synced else { return Value::Null };
        let is_bad = images.iter().any(|image| self.bad.iter().any(|bad| image.contains(bad)));
        let health = match (clock().now().duration_since(*since).unwrap_or_default() > UP, is_bad) {
            (false, _) => "Progressing",
            (true, true) => "Degraded",
            (true, false) => "Healthy",
        };
        let now = jiff::Timestamp::try_from(clock().now()).unwrap().to_string();
        json!({
            "metadata": { "name": "tinybird", "namespace": "argocd" },
            "spec": { "source": { "repoURL": REPO_URL, "targetRevision": "HEAD" } },
            "status": {
                "sync": { "status": "Synced", "revision": commit },
                "health": { "status": health },
                "operationState": {
                    "operation": { "sync": { "revision": commit } }, "phase": "Succeeded", "message": "successfully synced",
                    "syncResult": { "revision": commit }, "finishedAt": now,
                },
                "reconciledAt": now,
                "summary": { "images": images },
                "resources": [{ "kind": "Deployment", "name": "analytics", "health": { "status": health, "message": "0 of 1 pods" } }],
            },
        })
    }

    fn webhook(&mut self, asked: &Asked) -> (u16, String) {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(&asked.body);
        let signature = hex::encode(mac.finalize().into_bytes());
        if asked.header("x-gogs-event") != Some("push") || asked.header("x-gogs-signature") != Some(signature.as_str()) {
            return (400, "Webhook processing failed".to_owned());
        }
        let push: Value = serde_json::from_slice(&asked.body).unwrap();
        let told = push["repository"]["html_url"].as_str().unwrap();
        let path = |url: &str| url.split("://").last().unwrap().replace(":3000", "").trim_end_matches(".git").to_owned();
        // It follows HEAD: only the default branch is of interest.
        let is_followed = push["ref"] == format!("refs/heads/{}", push["repository"]["default_branch"].as_str().unwrap());
        if path(told) == path(REPO_URL) && is_followed {
            self.sync();
        }
        (200, String::new())
    }

    fn answer(&mut self, asked: &Asked) -> (u16, String) {
        self.heard.push(asked.line.clone());
        let authorized = asked.header("authorization") == Some(&format!("Bearer {TOKEN}"));
        match asked.line.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["POST", "/api/webhook"] => self.webhook(asked),
            ["GET", path] if path.starts_with("/api/v1/applications/tinybird") && authorized => {
                if path.contains("refresh=") {
                    self.sync();
                }
                (200, self.application().to_string())
            }
            ["GET", _] if !authorized => (401, "{\"error\":\"no session information\"}".to_owned()),
            _ => (404, "{}".to_owned()),
        }
    }
}
