//! The code of Argo CD itself: its webhook must take our pushes, and we must read its applications.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

use roadstead_promotion::rollout::{ArgoCdWebhook, HealthStatus, Moved, NotifySettings, Observed, Phase, RepoUrl, SyncStatus};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::argo::SECRET;
use crate::stage::{Stage, moved};

/// The version of Go that this version of Argo CD asks for. An older Go fetches it by itself.
const TOOLCHAIN: &str = "go1.27.3";

/// The program of `tests/go/argocd`, built when it is used first: it takes minutes, and the network.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/go/argocd");
        let mut hasher = Sha256::new();
        for name in ["main.go", "go.mod", "go.sum"] {
            hasher.update(fs::read(source.join(name)).unwrap());
        }
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
        let cache = env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let tools = env::var_os("ROADSTEAD_TOOLS").map_or_else(|| cache.join("roadstead/tools"), PathBuf::from);
        let path = tools.join("bin").join(format!("argocd-webhook-{}", &hex::encode(hasher.finalize())[..12]));
        if !path.exists() {
            build(&source, &tools, &path);
        }
        path
    })
}

fn build(source: &Path, tools: &Path, path: &Path) {
    fs::create_dir_all(tools.join("bin")).unwrap();
    // Another run may build it at the same time.
    let unfinished = path.with_extension(std::process::id().to_string());
    let search = format!("{}:/usr/local/go/bin:{}", env::var("PATH").unwrap_or_default(), tools.join("go/bin").display());
    let go = env::split_paths(&search).map(|folder| folder.join("go")).find(|go| go.is_file());
    let Some(go) = go else { panic!("Go is missing, with which tests/go/argocd is built: run tests/tools/install") };
    let output = Command::new(go)
        .current_dir(source)
        .env("GOTOOLCHAIN", TOOLCHAIN)
        .env("GOFLAGS", "-mod=readonly -trimpath -buildvcs=false")
        .args(["build", "-ldflags=-s -w", "-o"])
        .arg(&unfinished)
        .arg(".")
        .output()
        .unwrap();
    assert!(output.status.success(), "tests/go/argocd does not build: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&unfinished, path).unwrap();
}

fn run(arguments: &[&str], input: &Value) -> Value {
    let mut child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What Argo CD makes of our push, when its secret is `secret` and it has these applications: name, `repoURL`, `targetRevision` and
/// the paths that they are made of.
async fn judged(
    settings: impl Fn(ArgoCdWebhook) -> ArgoCdWebhook,
    moved: &Moved,
    secret: &str,
    applications: &[(&str, &str, &str, &str)],
) -> (u64, Vec<String>) {
    let stage = Stage::new().await;
    let notify = stage.notify(NotifySettings::ArgoCdWebhook(settings(stage.webhook()))).unwrap();
    // The small Argo CD may refuse it; what counts is what was sent.
    let _ = notify.tell(moved).await;
    let argo = stage.argo.state();
    let request = &argo.log[0];
    let headers: Value =
        request.headers.iter().map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap()))).collect();
    let applications: Vec<Value> = applications
        .iter()
        .map(|(name, repo_url, revision, paths)| json!({ "name": name, "repo_url": repo_url, "revision": revision, "paths": paths }))
        .collect();
    let body = std::str::from_utf8(&request.body).unwrap();
    let said = run(&[], &json!({ "secret": secret, "headers": headers, "body": body, "applications": applications }));
    let refreshed = said["refreshed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    (said["status"].as_u64().unwrap(), refreshed.collect())
}

#[tokio::test]
async fn the_real_webhook_believes_us_and_refreshes_whom_it_concerns() {
    let applications = [
        ("https", "https://git.example.org/micro/tinybird", "main", ""),
        ("with-git", "https://git.example.org/micro/tinybird.git", "main", ""),
        ("ssh", "ssh://git@git.example.org:2222/micro/tinybird.git", "main", ""),
        ("short", "git@git.example.org:micro/tinybird.git", "main", ""),
        ("full-reference", "https://git.example.org/micro/tinybird", "refs/heads/main", ""),
        ("head", "https://git.example.org/micro/tinybird", "HEAD", ""),
        ("nothing", "https://git.example.org/micro/tinybird", "", ""),
        ("our-path", "https://git.example.org/micro/tinybird", "main", "/k8s/overlays/prod"),
        ("other-path", "https://git.example.org/micro/tinybird", "main", "/apps/other"),
        ("other-branch", "https://git.example.org/micro/tinybird", "release", ""),
        ("other-repository", "https://git.example.org/micro/tinybird-2", "main", ""),
        ("other-host", "https://gitea.local/micro/tinybird", "main", ""),
    ];
    let (status, refreshed) = judged(|settings| settings, &moved(), SECRET, &applications).await;
    assert_eq!(status, 200);
    assert_eq!(refreshed, ["full-reference", "head", "https", "nothing", "our-path", "short", "ssh", "with-git"]);
}

#[tokio::test]
async fn the_real_webhook_refuses_another_secret_and_no_signature() {
    let applications = [("tinybird", "https://git.example.org/micro/tinybird", "main", "")];
    let (status, refreshed) = judged(|settings| settings, &moved(), "another", &applications).await;
    assert_eq!((status, refreshed.len()), (400, 0));
    let unsigned = |settings| ArgoCdWebhook { secret: None, ..settings };
    let (status, refreshed) = judged(unsigned, &moved(), SECRET, &applications).await;
    assert_eq!((status, refreshed.len()), (400, 0));
    let (status, refreshed) = judged(unsigned, &moved(), "", &applications).await;
    assert_eq!((status, refreshed.len()), (200, 1), "without a secret of its own it believes everybody");
    let long = |settings| ArgoCdWebhook { secret: Some(SecretString::from("läuft ".repeat(40))), ..settings };
    let (status, refreshed) = judged(long, &moved(), &"läuft ".repeat(40), &applications).await;
    assert_eq!((status, refreshed.len()), (200, 1));
}

#[tokio::test]
async fn the_real_webhook_follows_head_by_the_default_branch_that_we_say() {
    let applications = [("head", "https://git.example.org/micro/tinybird", "HEAD", "")];
    for (default_branch, count) in [("main", 1), ("trunk", 0)] {
        let with = |settings| ArgoCdWebhook { default_branch: Some(default_branch.to_owned()), ..settings };
        let (status, refreshed) = judged(with, &moved(), SECRET, &applications).await;
        assert_eq!((status, refreshed.len()), (200, count), "{default_branch}");
    }
}

#[tokio::test]
async fn the_real_webhook_takes_every_text_and_every_url_that_we_do() {
    let repositories = [
        "http://gitea.gitea.svc.cluster.local:3000/micro/tinybird.git",
        "git@Git.example.org:micro/deep/er/tinybird.git",
        "ssh://git@git.example.org:2222/micro/tinybird",
        "https://bot@git.example.org/micro/tiny.bird+x_y~z",
        "https://10.38.229.242:3000/micro/tinybird",
    ];
    for repository in repositories {
        let moved = Moved {
            branch: "release/2026-läuft".to_owned(),
            message: "quotes \" and \\ and \u{1f426}\r\n\u{0}\u{2028}<script>".to_owned(),
            author: "O'Neil \"x\" <a@b>".to_owned(),
            paths: vec!["k8s/Übersicht \"1\".yaml".to_owned(), "a\\b".to_owned()],
            ..moved()
        };
        let with = |settings| ArgoCdWebhook { repo_url: RepoUrl::parse(repository).unwrap(), ..settings };
        let applications = [("tinybird", repository, "release/2026-läuft", "")];
        let (status, refreshed) = judged(with, &moved, SECRET, &applications).await;
        assert_eq!((status, refreshed.len()), (200, 1), "{repository}");
    }
}

#[test]
fn every_state_of_a_real_application_is_read() {
    let states = run(&["application"], &Value::Null);
    let states = states.as_array().unwrap();
    assert_eq!(states.len(), 3 * 6 * 5 + 1);
    for state in &states[..states.len() - 1] {
        let seen = Observed::parse(state["application"].to_string().as_bytes()).unwrap();
        let operation = seen.operation.unwrap();
        assert_eq!(format!("{:?} {:?} {:?}", seen.sync, seen.health, operation.phase), words(state), "{state}");
        assert_eq!(
            (seen.revisions, operation.revisions),
            (vec!["15.2.1".to_owned(), "abc".to_owned()], vec!["15.2.1".to_owned(), "abc".to_owned()])
        );
        assert_eq!(seen.reconciled_at.unwrap().to_string(), "2026-01-01T00:00:09Z");
        assert_eq!(operation.finished_at.unwrap().to_string(), "2026-01-01T00:00:05Z");
        assert_eq!((seen.images, seen.conditions), (vec!["redis:7".to_owned()], vec!["ComparisonError: no".to_owned()]));
        assert_eq!(seen.resources.len(), usize::from(seen.health != HealthStatus::Healthy));
        assert!(!seen.is_requested);
    }
    let new = Observed::parse(states.last().unwrap()["application"].to_string().as_bytes()).unwrap();
    assert_eq!(new, Observed { application: "tinybird".to_owned(), ..Observed::default() });
    assert_eq!((new.sync, new.health, Phase::default()), (SyncStatus::Unknown, HealthStatus::Unknown, Phase::Unknown));
}

fn words(state: &Value) -> String {
    ["sync", "health", "phase"].map(|name| state[name].as_str().unwrap()).join(" ")
}
