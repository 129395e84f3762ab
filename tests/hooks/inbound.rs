//! A forge's webhook starts what it is to, once, if it is authentic.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::server::{Server, until};

const SECRET: &str = "webhook-s3cret";

fn start() -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    // Nobody is there: that a run was started is enough.
    let settings = format!(
        "[[upstream]]\nhost = \"docker.io\"\nurl = \"http://127.0.0.1:9\"\n[[mirror]]\nname = \"base\"\nfrom = \"docker.io/library/alpine\"\nto = \"base/alpine\"\ntags = [\"latest\"]\n\
         [[trigger]]\nname = \"infra\"\nforge = \"gitea\"\nsecret_file = \"{}\"\nrepository = \"micro/infra\"\nbranches = [\"main\"]\npaths = [\"images/**\"]\nrun = [\"mirror:base\"]\n",
        folder.path().join("secret").display()
    );
    Server::start_in(folder, &settings, &[])
}

fn push(branch: &str, path: &str, message: &str) -> Value {
    json!({
        "ref": format!("refs/heads/{branch}"),
        "before": "1".repeat(40),
        "after": "2".repeat(40),
        "commits": [{ "id": "2".repeat(40), "message": message, "author": { "name": "a", "email": "a@b" }, "added": [], "removed": [], "modified": [path] }],
        "total_commits": 1,
        "repository": { "full_name": "micro/infra", "html_url": "http://git/micro/infra", "clone_url": "http://git/micro/infra.git", "ssh_url": "git@git:micro/infra.git", "default_branch": "main" },
        "pusher": { "login": "a" },
        "sender": { "login": "a" },
    })
}

/// Sends it as Gitea does. The status and the text of the answer.
fn send(server: &Server, to: &str, event: &Value, secret: &str) -> (u16, String) {
    let body = event.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let client = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap();
    let request = client.post(format!("{}/hooks/{to}", server.url)).header("content-type", "application/json");
    let request = request.header("x-gitea-event", "push").header("x-gitea-delivery", "f6266f16-1bf3-46a5-9ea4-602e06ead473");
    let response = request.header("x-gitea-signature", hex::encode(mac.finalize().into_bytes())).body(body).send().unwrap();
    (response.status().as_u16(), response.text().unwrap().trim().to_owned())
}

fn runs(server: &Server) -> usize {
    server.api("mirrors/base/runs")["runs"].as_array().unwrap().len()
}

#[test]
fn a_push_starts_a_mirror_once() {
    let server = start();
    let event = push("main", "images/app", "a change");
    assert_eq!(send(&server, "infra", &event, SECRET), (200, "started".to_owned()));
    until("the mirror runs", || (runs(&server) == 1).then_some(()));
    let run = server.api("mirrors/base/runs")["runs"][0].clone();
    assert_eq!(run["by"], "trigger:infra");
    assert_eq!(send(&server, "infra", &event, SECRET), (200, "done already".to_owned()));
    assert_eq!(runs(&server), 1);
}

#[test]
fn what_is_of_no_interest_starts_nothing() {
    let server = start();
    let ours = format!("promote x\n\n{}\n", promotion::TRAILER);
    for event in [push("other", "images/app", "x"), push("main", "k8s/app", "x"), push("main", "images/app", &ours)] {
        assert_eq!(send(&server, "infra", &event, SECRET), (200, "nothing to do".to_owned()), "{event}");
    }
    let mut elsewhere = push("main", "images/app", "x");
    elsewhere["repository"]["full_name"] = json!("micro/other");
    assert_eq!(send(&server, "infra", &elsewhere, SECRET).1, "nothing to do");
    assert_eq!(runs(&server), 0);
}

#[test]
fn what_is_not_authentic_is_refused_and_learns_nothing() {
    let server = start();
    let event = push("main", "images/app", "x");
    let refused = (401, "unauthorized".to_owned());
    assert_eq!(send(&server, "infra", &event, "another"), refused);
    assert_eq!(send(&server, "nothing-here", &event, SECRET), refused);
    let client = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap();
    let unsigned = client.post(format!("{}/hooks/infra", server.url)).header("x-gitea-event", "push");
    let unsigned = unsigned.header("content-type", "application/json").body(event.to_string()).send().unwrap();
    assert_eq!(unsigned.status(), 401);
    assert_eq!(client.delete(format!("{}/hooks/infra", server.url)).send().unwrap().status(), 405);
    assert_eq!(runs(&server), 0);
    let log = std::fs::read_to_string(server.log_file()).unwrap();
    assert!(log.contains("a delivery was refused") && !log.contains(SECRET), "{log}");
}
