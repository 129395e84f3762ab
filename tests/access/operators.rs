//! `/api/v1/` and `/metrics` by the rules; robots.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{As, Server};

const RULES: &str = r#"
[[access]]
who = ["user:root"]
may = ["admin"]
[[access]]
who = ["robot:ci", "group:builders"]
may = ["pull", "push"]
repositories = ["team/**"]
"#;

#[tokio::test]
async fn operators_are_those_to_whom_the_rules_give_admin() {
    let server = Server::start(RULES).await;
    let admin = server.admin_token();
    for (who, status) in [
        (As::Nobody, 401),
        (As::User("mallory"), 401),
        (As::User("alice"), 403),
        (As::User("root"), 200),
        (As::Bearer(&admin), 200),
    ] {
        for path in ["/api/v1/mirrors", "/api/v1/jobs", "/api/v1/hooks", "/api/v1/robots"] {
            assert_eq!(server.status(who, "GET", path).await, status, "{who:?} {path}");
        }
    }
    // A token that was fetched for a pull is for that.
    let made = server.token(As::User("root"), &["repository:team/app:pull"]).await;
    assert_eq!(server.status(As::Bearer(made["token"].as_str().unwrap()), "GET", "/api/v1/jobs").await, 401);
    for (who, status) in [(As::Nobody, 401), (As::User("alice"), 403), (As::User("root"), 200)] {
        assert_eq!(server.status(who, "GET", "/metrics").await, status, "{who:?}");
    }
    let open = Server::start(&format!("public_metrics = true\n{RULES}")).await;
    assert_eq!(open.status(As::Nobody, "GET", "/metrics").await, 200);
}

#[tokio::test]
async fn a_robot_logs_in_with_its_token_until_it_is_revoked() {
    let server = Server::start(RULES).await;
    let create = |name: &str, body: Value| {
        server.request(As::User("root"), "POST", &format!("/api/v1/robots/{name}/tokens")).json(&body).send()
    };
    let made: Value = create("ci", json!({ "expires_in": 3600 })).await.unwrap().json().await.unwrap();
    let token = made["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("rst_") && made["by"] == "user:root", "{made}");
    server.push_image(As::Bearer(&token), "team/app", "v1", "layer").await;
    let by_password = || server.request(As::Nobody, "GET", "/v2/").basic_auth("anything", Some(&token)).send();
    assert_eq!(by_password().await.unwrap().status(), 200);
    // The token flow, with the robot's token as the password.
    let fetched = server.request(As::Nobody, "GET", "/token?service=roadstead&offline_token=true&scope=repository:team/app:pull");
    let fetched: Value = fetched.basic_auth("ci", Some(&token)).send().await.unwrap().json().await.unwrap();
    let access = fetched["token"].as_str().unwrap().to_owned();
    assert_eq!(server.status(As::Bearer(&access), "GET", "/v2/team/app/manifests/v1").await, 200);
    // A group of the token counts, whatever the robot is called.
    let made: Value = create("other", json!({ "groups": ["builders"] })).await.unwrap().json().await.unwrap();
    let other = made["token"].as_str().unwrap().to_owned();
    assert!(made["expires"].is_null());
    assert_eq!(server.status(As::Bearer(&other), "GET", "/v2/team/app/manifests/v1").await, 200);
    let listed: Value = server.ask(As::User("root"), "GET", "/api/v1/robots").await.json().await.unwrap();
    assert_eq!(listed["robots"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(token.rsplit('_').next().unwrap()));

    assert_eq!(server.status(As::User("root"), "DELETE", "/api/v1/robots/ci").await, 200);
    assert_eq!(by_password().await.unwrap().status(), 401);
    assert_eq!(server.status(As::Bearer(&token), "GET", "/v2/").await, 401);
    // What was fetched with it ends with it.
    assert_eq!(server.status(As::Bearer(&access), "GET", "/v2/team/app/manifests/v1").await, 401);
    let form = format!("grant_type=refresh_token&service=roadstead&refresh_token={}", fetched["refresh_token"].as_str().unwrap());
    assert_eq!(server.request(As::Nobody, "POST", "/token").body(form).send().await.unwrap().status(), 401);
    assert_eq!(server.status(As::User("root"), "DELETE", "/api/v1/robots/ci").await, 404);
    for (who, status) in [(As::Nobody, 401), (As::User("alice"), 403), (As::Bearer(&other), 403)] {
        assert_eq!(server.status(who, "POST", "/api/v1/robots/evil/tokens").await, status);
    }
    for (name, body, status) in [("UPPER", json!({}), 400), ("a", json!({ "x": 1 }), 400), ("a", json!({ "groups": [""] }), 400)]
    {
        assert_eq!(create(name, body).await.unwrap().status(), status, "{name}");
    }
}

#[tokio::test]
async fn a_robot_with_a_token_that_is_over_holds_up_no_other() {
    let server = Server::start(RULES).await;
    let made = server.request(As::User("root"), "POST", "/api/v1/robots/ci/tokens").send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(server.status(As::Bearer("rst_000000000000_revoked"), "GET", "/v2/").await);
    }
    assert!(statuses.starts_with(&[401; 5]) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(server.status(As::Bearer(made["token"].as_str().unwrap()), "GET", "/v2/").await, 200);
}

/// The program as somebody with this token in his environment runs it against the server.
async fn program(server: &Server, token: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.args(arguments).args(["--server", &server.url]).current_dir(server.folder.path()).env_remove("ROADSTEAD_TOKEN");
    command.envs(token.map(|token| ("ROADSTEAD_TOKEN", token)));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn bundles_go_out_and_in_with_the_token_of_a_robot() {
    let server = Server::start(RULES).await;
    let made = server.request(As::User("root"), "POST", "/api/v1/robots/ci/tokens").send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    server.push_image(As::Bearer(token), "team/app", "v1", "layer").await;
    let refused = program(&server, None, &["export", "bundle.tar", "team/app:v1"]).await;
    assert!(!refused.status.success() && !server.folder.path().join("bundle.tar").exists());
    for arguments in [&["export", "bundle.tar", "team/app:v1"][..], &["import", "bundle.tar", "--prefix", "team/copy"][..]] {
        let done = program(&server, Some(token), arguments).await;
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && !told.contains(token), "{arguments:?}: {told}");
    }
    assert_eq!(server.status(As::Bearer(token), "GET", "/v2/team/copy/team/app/manifests/v1").await, 200);
    // What is the operator's own is not shown as a password.
    let refused = program(&server, Some(&server.admin_token()), &["export", "other.tar", "team/app:v1"]).await;
    assert!(!refused.status.success());
}

#[tokio::test]
async fn a_page_of_a_stranger_does_nothing_with_the_credentials_of_a_browser() {
    let server = Server::start(RULES).await;
    let request = server.request(As::User("root"), "POST", "/api/v1/robots/evil/tokens").header("origin", "https://evil.example");
    assert_eq!(request.send().await.unwrap().status(), 403);
    let listed: Value = server.ask(As::User("root"), "GET", "/api/v1/robots").await.json().await.unwrap();
    assert_eq!(listed["robots"], json!([]));
}

#[test]
fn what_is_wrong_with_a_rule_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roadstead.toml");
    std::fs::write(&file, "[[access]]\nwho = [\"alice\"]\nmay = [\"pul\"]\nrepositories = [\"a***\"]\n").unwrap();
    let errors = roadstead::config::Config::load(Some(&file), std::iter::empty()).unwrap_err().to_string();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    for (line, told) in lines.iter().zip(["\"alice\" is nobody", "did you mean \"pull\"?", "three stars"]) {
        assert!(line.contains(told), "{line}");
    }
}

#[test]
fn admin_is_of_the_whole_server_and_for_somebody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roadstead.toml");
    for (rule, told) in [
        ("who = [\"user:a\"]\nmay = [\"pull\", \"admin\"]\nrepositories = [\"team/**\"]\n", "of the whole server"),
        ("who = [\"authenticated\"]\nmay = [\"admin\"]\n", "who can log in"),
        ("who = [\"anonymous\"]\nmay = [\"admin\"]\n", "to everybody"),
    ] {
        std::fs::write(&file, format!("[[access]]\n{rule}")).unwrap();
        let errors = roadstead::config::Config::load(Some(&file), std::iter::empty()).unwrap_err().to_string();
        assert!(errors.contains("access.may") && errors.contains(told), "{errors}");
    }
}
