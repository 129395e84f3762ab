//! `roadstead mirror` against a running server, and `/api/v1/` itself.

use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use testing::FakeUpstream;

use crate::process::output;
use crate::stage::{Stage, docker_hub};

struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program beside the server, whose clock goes on meanwhile.
async fn roadstead(stage: &Stage, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.args(arguments).args(["--server", &stage.url, "--token-file"]).arg(stage.token_file());
    command.current_dir(Path::new("/")).env_remove("ROADSTEAD_TOKEN");
    let ended = tokio::task::spawn_blocking(move || output(&mut command));
    let clock = std::sync::Arc::clone(&stage.clock);
    let driven = tokio::spawn(async move {
        loop {
            clock.advance(std::time::Duration::from_millis(200));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let ended = ended.await.unwrap();
    driven.abort();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code().unwrap(), out: text(ended.stdout), err: text(ended.stderr) }
}

async fn stage(upstream: &FakeUpstream) -> Stage {
    upstream.put_index("team/app", "latest");
    upstream.put_index("team/app", "beta");
    let settings = docker_hub(upstream)
        + "[[mirror]]\nname = \"nightly\"\nschedule = \"0 2 * * *\"\nfrom = \"docker.io/team/app\"\nto = \"micro/app\"\n\
           tags = [\"latest\", \"beta\"]\ntag_as = [\"{tag}\", \"{tag}-{date}\"]\n";
    Stage::new(&settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_listed_run_and_shown() {
    let upstream = FakeUpstream::start();
    let stage = stage(&upstream).await;
    let list = roadstead(&stage, &["mirror", "list"]).await;
    assert_eq!(list.code, 0, "{}", list.err);
    assert!(list.out.contains("nightly  docker.io/team/app  micro/app  0 2 * * *"), "{}", list.out);
    assert!(list.out.contains("never"), "{}", list.out);

    let dry = roadstead(&stage, &["mirror", "run", "nightly", "--dry-run"]).await;
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(dry.out.contains("would copy"), "{}", dry.out);
    assert_eq!(stage.tags("micro/app").await, [""; 0]);

    let run = roadstead(&stage, &["mirror", "run", "nightly"]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("2 copied, 0 unchanged, 0 failed"), "{}", run.out);
    assert!(run.err.contains("latest: copied to latest, latest-20260101"), "{}", run.err);
    assert!(!run.err.contains('\u{1b}'), "no terminal, no bars");

    let history = roadstead(&stage, &["mirror", "history", "nightly", "--output", "json"]).await;
    let history: Value = serde_json::from_str(&history.out).unwrap();
    assert_eq!(history["runs"].as_array().unwrap().len(), 2);
    let id = history["runs"][0]["id"].as_str().unwrap();
    let show = roadstead(&stage, &["mirror", "show", id]).await;
    assert!(show.out.contains("beta-20260101"), "{}", show.out);
    let text = roadstead(&stage, &["mirror", "history", "nightly"]).await.out;
    assert!(text.contains(id) && text.contains("done (dry)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_fails_the_command() {
    let upstream = FakeUpstream::start();
    let stage = stage(&upstream).await;
    upstream.remove_tag("team/app", "beta");
    let run = roadstead(&stage, &["mirror", "run", "nightly"]).await;
    assert_eq!(run.code, 1, "{}", run.out);
    assert!(run.out.contains("1 copied, 0 unchanged, 1 failed"), "{}", run.out);
    assert!(run.err.contains("beta: "), "{}", run.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_a_line() {
    let upstream = FakeUpstream::start();
    let stage = stage(&upstream).await;
    for (arguments, expected) in [
        (vec!["mirror", "run", "nigthly"], "there is no mirror \"nigthly\"; there are nightly"),
        (vec!["mirror", "show", "x"], "is not the id of a job"),
        (vec!["mirror", "show", "01931d2a-0000-7000-8000-000000000000"], "there is no job"),
        (vec!["mirror", "history", "../jobs"], "there is no mirror \"../jobs\""),
    ] {
        let ended = roadstead(&stage, &arguments).await;
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{arguments:?}");
        assert!(ended.err.contains(expected) && ended.err.trim().lines().count() == 1, "{}", ended.err);
    }
    let nobody = Command::new(env!("CARGO_BIN_EXE_roadstead"))
        .args(["mirror", "list", "--server", "http://127.0.0.1:1", "--token-file"])
        .arg(stage.token_file())
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("is the server running there?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_is_told() {
    let upstream = FakeUpstream::start();
    let stage = stage(&upstream).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(stage.token_file()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for path in ["mirrors", "mirrors/nightly", "jobs", "nothing"] {
        for token in [None, Some("wrong")] {
            let mut request = stage.client.get(format!("{}/api/v1/{path}", stage.url));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
            assert!(response.headers().contains_key("www-authenticate"));
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["error"]["code"], "UNAUTHORIZED");
        }
    }
    let (status, body) = stage.api(Method::POST, "mirrors/nightly/runs", Some(json!({ "dry": 1 }))).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("INVALID")));
    let (status, _) = stage.api(Method::DELETE, "mirrors", None).await;
    assert_eq!(status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_and_done_again() {
    let upstream = FakeUpstream::start();
    let stage = stage(&upstream).await;
    upstream.fault("/blobs/", testing::Fault::Delay(std::time::Duration::from_secs(3)));
    let (_, asked) = stage.api(Method::POST, "mirrors/nightly/runs", Some(json!({}))).await;
    let id = asked["id"].as_str().unwrap().to_owned();
    let (status, again) = stage.api(Method::POST, "mirrors/nightly/runs", None).await;
    assert_eq!((status, &again["new"], &again["id"]), (200, &json!(false), &json!(id)));
    stage.api(Method::POST, &format!("jobs/{id}/cancel"), None).await;
    let record = stage
        .wait("the end", async || {
            let record = stage.api(Method::GET, &format!("jobs/{id}"), None).await.1;
            (!record["ended"].is_null()).then_some(record)
        })
        .await;
    assert_eq!(record["state"], "cancelled", "{record}");
    upstream.clear_faults();
    let retried = roadstead(&stage, &["mirror", "retry", &id]).await;
    assert_eq!(retried.code, 0, "{} {}", retried.out, retried.err);
    assert_eq!(stage.tags("micro/app").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_id_of_its_request_and_a_failure_names_it() {
    let upstream = FakeUpstream::start();
    let stage = stage(&upstream).await;
    let mut seen = std::collections::BTreeSet::new();
    for (token, path, expected) in [("wrong", "mirrors", 401), (&stage.token(), "mirrors", 200), (&stage.token(), "nothing", 404)]
    {
        let request = stage.client.get(format!("{}/api/v1/{path}", stage.url)).bearer_auth(token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), expected, "{path}");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.len() == 32 && seen.insert(id.clone()), "{id}");
    }

    assert_eq!(roadstead(&stage, &["mirror", "run", "nightly"]).await.code, 0);
    let memory = stage.data().join("mirrors/nightly");
    assert!(memory.is_file(), "{}", memory.display());
    std::fs::write(memory, "not JSON").unwrap();
    let request = stage.client.get(format!("{}/api/v1/mirrors", stage.url)).bearer_auth(stage.token());
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 500);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["message"], format!("the server failed; its log has the cause under request {id}"));
}
