//! What people push to the `GitOps` repository is looked over, and the forge shows the verdict beside the commit.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::forge::{Bare, FILE, OVERLAY};
use crate::forge_api::Forge;
use crate::server::{Server, rule, until};

const SECRET: &str = "validation-s3cret";

fn start(bare: &Bare, forge: &Forge) -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let section = forge.section(folder.path()).replace("mode = \"pull-request\"\n", "");
    let promotion = rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), "ghost/traffic-analytics", &section);
    let trigger = format!(
        "[[trigger]]\nname = \"infra\"\nforge = \"gitea\"\nsecret_file = \"{}\"\nbranches = [\"main\"]\nrun = [\"check:prod\"]\n",
        folder.path().join("secret").display()
    );
    Server::start_in(folder, &(promotion + &trigger), &[("ROADSTEAD_SERVER__EXTERNAL_URL", "https://registry.example.org")])
}

fn deliver(server: &Server, kind: &str, event: &Value) {
    let body = event.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("x-gitea-event", kind.to_owned()),
        ("x-gitea-delivery", "f6266f16-1bf3-46a5-9ea4-602e06ead473".to_owned()),
        ("x-gitea-signature", hex::encode(mac.finalize().into_bytes())),
    ];
    assert_eq!(server.post("/hooks/infra", &headers, body), (200, "started\n".to_owned()));
}

fn repository() -> Value {
    json!({ "full_name": "team/infra", "html_url": "http://git/team/infra", "clone_url": "http://git/team/infra.git", "ssh_url": "git@git:team/infra.git", "default_branch": "main" })
}

/// A push of the branch as it is now.
fn pushed(server: &Server, bare: &Bare) -> String {
    let commit = bare.git(&["rev-parse", "main"]).trim().to_owned();
    let event = json!({
        "ref": "refs/heads/main", "before": "1".repeat(40), "after": commit,
        "commits": [{ "id": commit, "message": "x", "author": { "name": "a", "email": "a@b" }, "added": [], "removed": [], "modified": [FILE] }],
        "total_commits": 1, "repository": repository(), "pusher": { "login": "a" }, "sender": { "login": "a" },
    });
    deliver(server, "push", &event);
    commit
}

/// What the forge shows beside a commit.
fn status(forge: &Forge, commit: &str) -> (String, String) {
    let found = until("the forge was told", || forge.statuses().into_iter().find(|status| status["commit"] == commit));
    assert_eq!(found["context"], "roadstead/validate");
    (found["state"].as_str().unwrap().to_owned(), found["description"].as_str().unwrap().to_owned())
}

#[test]
fn a_push_is_looked_over_and_its_commit_gets_a_status() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "gitea");
    let server = start(&bare, &forge);
    let (state, said) = status(&forge, &pushed(&server, &bare));
    assert_eq!((state.as_str(), said.as_str()), ("success", "5 files looked at, nothing wrong"));

    let broken = OVERLAY.replace("resource-limits.yaml", "gone.yaml").replace("newTag: latest\n", "newTag: 20260216\n");
    bare.human("broken", &[(FILE, &broken)]);
    let (state, said) = status(&forge, &pushed(&server, &bare));
    assert_eq!(state, "failure");
    assert!(said.starts_with(&format!("{FILE}:10: newTag is a number")) && said.ends_with(" and 1 more"), "{said}");

    let ours = OVERLAY.replace("    newTag: latest\n", "    newName: registry.example.org/micro/tinybird\n    newTag: v1\n");
    bare.human("not here", &[(FILE, &ours)]);
    let (state, said) = status(&forge, &pushed(&server, &bare));
    assert!(state == "failure" && said.contains("micro/tinybird:v1 is not here"), "{said}");
}

#[test]
fn a_pull_request_is_looked_over_before_it_is_merged() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "gitea");
    let server = start(&bare, &forge);
    bare.human("broken", &[("k8s/base/analytics.yaml", "kind: [")]);
    let head = bare.git(&["rev-parse", "main"]).trim().to_owned();
    bare.git(&["branch", "--force", "change", &head]);
    bare.git(&["update-ref", "refs/heads/main", &format!("{head}~1")]);
    let side = |name: &str, sha: &str| json!({ "ref": name, "sha": sha, "repo": repository() });
    let event = json!({
        "action": "opened", "number": 1, "repository": repository(), "sender": { "login": "a" },
        "pull_request": { "number": 1, "head": side("change", &head), "base": side("main", &"1".repeat(40)) },
    });
    deliver(&server, "pull_request", &event);
    let (state, said) = status(&forge, &head);
    assert!(state == "failure" && said.starts_with("k8s/base/analytics.yaml:"), "{said}");
}
