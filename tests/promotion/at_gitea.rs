//! Promotions at a real Gitea: commits over git and over its API, pull requests, protected branches, and its own webhooks.

use std::fs;

use serde_json::{Value, json};

use crate::forge::FILE;
use crate::gitea::Gitea;
use crate::server::{Server, rule, until};

const ANALYTICS: &str = "ghost/traffic-analytics";

fn start(gitea: &Gitea, token: &str, image: &str, more: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let section = rule("prod", "micro/app", "[{ glob = \"*\" }]", "URL", image, "");
    let section = section.replace("git = { url = \"URL\" }\n", &(gitea.section(folder.path(), token) + more));
    let environment = [("ROADSTEAD_SERVER__EXTERNAL_URL", "https://registry.example.org")];
    Server::start_in(folder, &(section + "[git]\nretry_for = \"3s\"\n"), &environment)
}

#[test]
fn a_push_becomes_a_commit_over_git_and_over_the_api() {
    for more in ["", "over = \"api\"\n"] {
        let gitea = Gitea::start();
        let server = start(&gitea, &gitea.token, ANALYTICS, more);
        let pushed = server.push("micro/app", "one", &["v1"]);
        let promotion = server.reaches("prod", "v1", &["committed"]);
        assert_eq!(promotion["commit"], gitea.tip());
        let expected = format!("    newTag: v1  # by the build\n    digest: {}\n", pushed.digest);
        assert!(gitea.overlay("main").contains(&expected), "{}", gitea.overlay("main"));
        let commit = &gitea.get("/commits?sha=main&limit=1")[0]["commit"];
        assert_eq!(
            (&commit["author"]["name"], &commit["committer"]["name"]),
            (&json!("roadstead[bot]"), &json!("roadstead[bot]"))
        );
        // Somebody works in the browser, and then changes the value itself.
        gitea.human("notes.md", "x");
        server.push("micro/app", "two", &["v2"]);
        server.reaches("prod", "v2", &["committed"]);
        gitea.human(FILE, &gitea.overlay("main").replace("newTag: v2", "newTag: mine"));
        server.push("micro/app", "three", &["v3"]);
        server.reaches("prod", "v3", &["held"]);
        let log = gitea.log();
        assert_eq!(log.len(), 5, "{log:?}");
        assert_eq!((log[1].as_str(), log[2].as_str()), ("promote micro/app to v1 [skip ci]", "human: notes.md"));
    }
}

#[test]
fn two_servers_and_a_human_lose_nothing() {
    let gitea = Gitea::start();
    let first = start(&gitea, &gitea.token, ANALYTICS, "over = \"api\"\n");
    let other = start(&gitea, &gitea.token, "tinybirdco/tinybird-local", "");
    std::thread::scope(|scope| {
        for server in [&first, &other] {
            scope.spawn(move || {
                for turn in 0..5 {
                    let tag = format!("v{turn}");
                    server.push("micro/app", &tag, &[&tag]);
                    server.reaches("prod", &tag, &["committed"]);
                }
            });
        }
    });
    gitea.human("notes.md", "x");
    assert_eq!(gitea.overlay("main").matches("newTag: v4").count(), 2, "{}", gitea.overlay("main"));
    assert_eq!(gitea.log().len(), 12, "{:?}", gitea.log());
}

#[test]
fn pull_requests_are_opened_renewed_merged_and_closed() {
    for (more, style) in [("", "merge"), ("over = \"api\"\n", "squash")] {
        let gitea = Gitea::start();
        let server = start(&gitea, &gitea.token, ANALYTICS, &format!("mode = \"pull-request\"\n{more}"));
        server.push("micro/app", "one", &["v1"]);
        let proposed = server.reaches("prod", "v1", &["proposed"]);
        let url = proposed["pull_request"]["url"].as_str().unwrap();
        assert_eq!(url, format!("{}/team/infra/pulls/1", gitea.url));
        gitea.human("notes.md", "x");
        server.push("micro/app", "two", &["v2"]);
        server.reaches("prod", "v2", &["proposed"]);
        server.reaches("prod", "v1", &["superseded"]);
        let open = gitea.get("/pulls?state=open");
        assert_eq!((open.as_array().unwrap().len(), &open[0]["title"]), (1, &json!("promote micro/app to v2")));
        assert!(open[0]["body"].as_str().unwrap().contains("latest -> v2@sha256:"), "{open}");
        let merge = || gitea.tell("POST", "/pulls/1/merge", &json!({ "Do": style }), 200);
        // It looks whether it can be merged for a moment after each push.
        until("it can be merged", || (gitea.get("/pulls/1")["mergeable"] == true).then_some(()));
        merge();
        let merged = server.reaches("prod", "v2", &["committed"]);
        assert_eq!(merged["commit"], gitea.tip(), "{style}");
        assert!(gitea.overlay("main").contains("newTag: v2"));
        until("the branch is gone", || (gitea.get("/branches").as_array()?.len() == 1).then_some(()));

        let pushed = server.push("micro/app", "three", &["v3"]);
        server.reaches("prod", "v3", &["proposed"]);
        gitea.tell("PATCH", "/pulls/2", &json!({ "state": "closed" }), 201);
        let rejected = server.reaches("prod", "v3", &["rejected"]);
        assert!(rejected["why"].as_str().unwrap().contains("was closed"), "{rejected}");
        server.push("micro/app", "three", &["again"]);
        server.reaches("prod", "again", &["refused"]);
        assert_eq!(gitea.get("/pulls?state=open"), json!([]), "{}", pushed.digest);
    }
}

/// The words on the failed promotion of a tag.
fn failure(server: &Server, tag: &str) -> String {
    server.push("micro/app", tag, &[tag]);
    server.reaches("prod", tag, &["failed"])["why"].as_str().unwrap().to_owned()
}

#[test]
fn what_it_refuses_is_told() {
    let gitea = Gitea::start();
    let over_git = start(&gitea, &gitea.token, ANALYTICS, "");
    let over_api = start(&gitea, &gitea.token, ANALYTICS, "over = \"api\"\n");
    let protection =
        json!({ "rule_name": "main", "enable_push": false, "apply_to_admins": true, "block_admin_merge_override": true });
    gitea.tell("POST", "/branch_protections", &protection, 201);
    for server in [&over_git, &over_api] {
        let why = failure(server, "protected");
        assert!(why.contains("protected branch") || why.contains("branch is protected"), "{why}");
    }
    gitea.tell("DELETE", "/branch_protections/main", &Value::Null, 204);
    gitea.tell("PATCH", "", &json!({ "archived": true }), 200);
    for server in [&over_git, &over_api] {
        let why = failure(server, "archived");
        assert!(why.contains("archived"), "{why}");
    }
    let wrong = "0123456789abcdef0123456789abcdef01234567";
    for more in ["", "over = \"api\"\n"] {
        let why = failure(&start(&gitea, wrong, ANALYTICS, more), "token");
        assert!(why.contains("wrong or has expired") && !why.contains(wrong), "{why}");
    }
    gitea.tell("DELETE", "", &Value::Null, 204);
    for server in [&over_git, &over_api] {
        let why = failure(server, "gone");
        assert!(why.contains("not found") || why.contains("404"), "{why}");
    }
    assert!(!fs::read_to_string(over_git.log_file()).unwrap().contains(&gitea.token));
}

/// A webhook of the repository that comes to `/hooks/infra`.
fn webhook(gitea: &Gitea, server: &Server) {
    let config = json!({ "url": format!("{}/hooks/infra", server.url), "content_type": "json", "secret": "gitea-s3cret" });
    let hook = json!({ "type": "gitea", "config": config, "events": ["push", "pull_request"], "active": true });
    gitea.tell("POST", "/hooks", &hook, 201);
}

/// What stands beside a commit.
fn status(gitea: &Gitea, commit: &str) -> (String, String) {
    until("the verdict is there", || {
        let statuses = gitea.get(&format!("/commits/{commit}/statuses"));
        let status = statuses.as_array()?.iter().find(|status| status["context"] == "roadstead/validate")?.clone();
        Some((status["status"].as_str()?.to_owned(), status["description"].as_str()?.to_owned()))
    })
}

#[test]
fn its_own_webhooks_have_commits_looked_over() {
    let gitea = Gitea::start();
    let secret = gitea.folder.path().join("secret");
    fs::write(&secret, "gitea-s3cret").unwrap();
    let trigger = format!(
        "[[trigger]]\nname = \"infra\"\nforge = \"gitea\"\nsecret_file = \"{}\"\nrepository = \"team/infra\"\nrun = [\"check:prod\"]\n",
        secret.display()
    );
    let server = start(&gitea, &gitea.token, ANALYTICS, "").with(|settings| format!("{settings}{trigger}"));
    webhook(&gitea, &server);
    gitea.human("notes.md", "x");
    let (state, said) = status(&gitea, &gitea.tip());
    assert_eq!(state, "success", "{said}");
    gitea.human("k8s/base/analytics.yaml", "kind: [");
    let (state, said) = status(&gitea, &gitea.tip());
    assert!(state == "failure" && said.starts_with("k8s/base/analytics.yaml:"), "{state} {said}");
    // A pull request that would mend it is looked over before it is merged.
    let base64 = "a2luZDogRGVwbG95bWVudAptZXRhZGF0YTogeyBuYW1lOiBhIH0K";
    let sha = gitea.get("/contents/k8s/base/analytics.yaml")["sha"].clone();
    let change = json!({ "content": base64, "sha": sha, "branch": "main", "new_branch": "mend", "message": "mend" });
    let head = gitea.tell("PUT", "/contents/k8s/base/analytics.yaml", &change, 200)["commit"]["sha"].clone();
    gitea.tell("POST", "/pulls", &json!({ "head": "mend", "base": "main", "title": "mend" }), 201);
    let (state, said) = status(&gitea, head.as_str().unwrap());
    assert!(state == "success" || said.contains("analytics.yaml"), "{state} {said}");
    // The server's own commits start nothing, though the forge tells of them.
    gitea.human("k8s/base/analytics.yaml", &crate::forge::deployment("analytics", "ghost/traffic-analytics:latest"));
    server.push("micro/app", "one", &["v1"]);
    let promotion = server.reaches("prod", "v1", &["committed"]);
    assert_eq!(promotion["commit"], gitea.tip());
    let (state, said) = status(&gitea, &gitea.tip());
    assert_eq!(state, "success", "{said}");
    assert_eq!(gitea.log().len(), 5, "{:?}", gitea.log());
}
