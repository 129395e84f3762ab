//! What was done by whom is written down, and no secret is.

use serde_json::{Value, json};

use crate::harness::{As, Server};

const RULES: &str = r#"
[[access]]
who = ["user:alice"]
may = ["pull", "push", "delete"]
repositories = ["team/**"]
[[access]]
who = ["user:bob"]
may = ["pull"]
repositories = ["team/**"]
[[access]]
who = ["user:root"]
may = ["admin"]
"#;

#[tokio::test]
async fn each_act_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let server = Server::start(&format!("{RULES}[audit]\nfile = \"{}\"\n", file.display())).await;
    let (digest, _) = server.push_image(As::User("alice"), "team/app", "v1", "layer").await;
    server.ask(As::User("bob"), "GET", "/v2/team/app/manifests/v1").await;
    server.ask(As::User("bob"), "DELETE", "/v2/team/app/manifests/v1").await;
    server.ask(As::User("carol"), "GET", "/v2/team/app/manifests/v1").await;
    server.request(As::Nobody, "GET", "/v2/").basic_auth("alice", Some("a-wrong-secret")).send().await.unwrap();
    server.ask(As::Nobody, "GET", "/v2/").await;
    server.ask(As::User("alice"), "DELETE", "/v2/team/app/manifests/v1").await;
    let request = server.request(As::User("root"), "POST", "/api/v1/robots/ci/tokens").json(&json!({}));
    let made: Value = request.send().await.unwrap().json().await.unwrap();
    server.ask(As::User("alice"), "GET", "/api/v1/robots").await;
    server.ask(As::User("root"), "DELETE", "/api/v1/robots/ci").await;
    // They are written behind the answers.
    let mut text = String::new();
    for _ in 0..100 {
        text = std::fs::read_to_string(&file).unwrap();
        if text.contains("revoked") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let of = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {} {}", of("event"), of("outcome"), of("principal"), of("repository"), of("reason"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "push done user:alice team/app -",
            "access refused user:bob team/app denied",
            "access refused user:carol team/app hidden",
            "login refused - - login",
            "delete done user:alice team/app -",
            "token done user:root - -",
            "access refused - - -",
            "token done user:root - -",
        ]
    );
    assert_eq!((&lines[0]["reference"], &lines[0]["digest"]), (&json!("v1"), &json!(digest.to_string())));
    assert!(lines.iter().all(|line| line["from"] == "127.0.0.1" && line["at"].as_str().unwrap().ends_with('Z')));
    for secret in ["alice-password", "a-wrong-secret", made["token"].as_str().unwrap().rsplit('_').next().unwrap()] {
        assert!(!text.contains(secret));
    }
    let metrics = server.ask(As::User("root"), "GET", "/metrics").await.text().await.unwrap();
    for line in ["reason=\"denied\"} 1", "reason=\"hidden\"} 1", "reason=\"login\"} 1", "reason=\"credentials\"} 1"] {
        assert!(metrics.contains(line), "{line}");
    }
}
