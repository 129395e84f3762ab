//! A push is told in every dialect, in order, whatever happens to the receiver and to the server.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::door::{self, Asked};
use crate::server::{Server, until};

/// Somebody who listens, and does not always answer well.
struct Listener {
    url: String,
    heard: Arc<Mutex<Vec<Asked>>>,
    status: Arc<Mutex<u16>>,
}

impl Listener {
    fn new() -> Self {
        let (heard, status) = (Arc::new(Mutex::new(Vec::<Asked>::new())), Arc::new(Mutex::new(200)));
        let (inside, answer) = (Arc::clone(&heard), Arc::clone(&status));
        let url = door::open(move |asked| {
            let status = *answer.lock().unwrap();
            if status == 200 {
                inside.lock().unwrap().push(asked.clone());
            }
            (status, String::new())
        });
        Self { url, heard, status }
    }

    fn answers(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn heard(&self) -> Vec<Asked> {
        self.heard.lock().unwrap().clone()
    }

    /// What was heard at a path, as JSON.
    fn at(&self, path: &str) -> Vec<Value> {
        let heard = self.heard();
        let here = heard.iter().filter(|asked| asked.line.contains(path));
        here.map(|asked| serde_json::from_slice(&asked.body).unwrap()).collect()
    }
}

fn hook(name: &str, url: &str, dialect: &str, more: &str) -> String {
    format!("[[hook]]\nname = \"{name}\"\nurl = \"{url}/{name}\"\ndialect = \"{dialect}\"\nallow_local = true\n{more}\n")
}

#[test]
fn a_push_and_a_deletion_are_told_in_every_dialect() {
    let listener = Listener::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hook-s3cret").unwrap();
    let secret = format!("secret_file = \"{}\"\n", folder.path().join("secret").display());
    let mut settings = String::new();
    for dialect in ["distribution", "harbor", "harbor-cloudevents", "dockerhub", "cloudevents", "flux-hmac"] {
        let _ = write!(settings, "{}", hook(dialect, &listener.url, dialect, &secret));
    }
    let server = Server::start_in(folder, &settings, &[("ROADSTEAD_SERVER__EXTERNAL_URL", "https://registry.example.org")]);
    let pushed = server.push("micro/app", "one", &["v1"]);
    until("all have heard it", || (listener.heard().len() == 6).then_some(()));
    let event = &listener.at("/distribution")[0]["events"][0];
    assert_eq!((event["action"].as_str(), event["target"]["tag"].as_str()), (Some("push"), Some("v1")));
    assert_eq!(
        (event["target"]["repository"].as_str(), event["target"]["digest"].as_str()),
        (Some("micro/app"), Some(pushed.digest.as_str()))
    );
    let harbor = &listener.at("/harbor ")[0];
    assert_eq!(harbor["type"], "PUSH_ARTIFACT");
    assert_eq!(harbor["event_data"]["resources"][0]["resource_url"], "registry.example.org/micro/app:v1");
    assert_eq!(listener.at("/dockerhub")[0]["push_data"]["tag"], "v1");
    for asked in listener.heard() {
        let (name, value) =
            if asked.line.contains("flux") { ("x-signature", "sha256=") } else { ("x-roadstead-signature-256", "sha256=") };
        assert!(asked.header(name).is_some_and(|signature| signature.starts_with(value) && signature.len() == 71), "{asked:?}");
    }
    server.delete_tag("micro/app", "v1");
    // Docker Hub has no words for it.
    until("the others have heard it", || (listener.heard().len() == 11).then_some(()));
    assert_eq!(listener.at("/harbor ")[1]["type"], "DELETE_ARTIFACT");
    assert_eq!(listener.at("/dockerhub").len(), 1);
}

#[test]
fn what_happened_while_the_receiver_was_away_is_told_in_order() {
    let listener = Listener::new();
    listener.answers(503);
    let mut server = Server::start(&hook("all", &listener.url, "cloudevents", ""));
    for number in 0..5 {
        server.push("micro/app", &number.to_string(), &[&format!("v{number}")]);
    }
    let tried = |server: &Server| server.api("hooks")["hooks"][0]["attempts"].as_array().unwrap().len();
    until("it was tried", || (tried(&server) > 0).then_some(()));
    server.kill();
    listener.answers(200);
    server.begin();
    until("all was told", || (listener.heard().len() >= 5).then_some(()));
    let tags: Vec<Value> = listener.at("/all").iter().map(|event| event["data"]["tag"].clone()).collect();
    let mut distinct = tags.clone();
    distinct.dedup();
    assert_eq!(distinct, ["v0", "v1", "v2", "v3", "v4"]);
    let list = server.says(&["hook", "list"]);
    assert!(list.contains("all   127.0.0.1  cloudevents  0"), "{list}");
}

#[test]
fn what_is_refused_is_given_up_and_sent_again_by_command() {
    let listener = Listener::new();
    listener.answers(410);
    let server = Server::start(&hook("picky", &listener.url, "harbor", "repositories = [\"micro/**\"]\ntags = [\"v*\"]"));
    server.push("micro/app", "one", &["v1", "other"]);
    server.push("elsewhere/app", "one", &["v1"]);
    let dead = until("it was given up", || {
        let shown = server.api("hooks/picky");
        Some(shown["dead"].as_array()?.first()?.clone())
    });
    assert!(dead["reason"].as_str().unwrap().contains("410"), "{dead}");
    let shown = server.says(&["hook", "show", "picky"]);
    assert!(shown.contains("given up ") && !shown.contains("other"), "{shown}");
    listener.answers(200);
    assert_eq!(server.says(&["hook", "redeliver", "picky"]), "1 sent again\n");
    until("it was heard", || (listener.heard().len() == 1).then_some(()));
    assert_eq!(server.api("hooks/picky")["dead"], serde_json::json!([]));
}

#[test]
fn nobody_is_reached_on_this_machine_unless_that_is_said() {
    let listener = Listener::new();
    let section = |url: &str| hook("local", url, "harbor", "").replace("allow_local = true\n", "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.toml");
    // Where other names lead is looked at when they are resolved, which the room tries by itself.
    for url in
        [listener.url.clone(), listener.url.replace("127.0.0.1", "localhost"), listener.url.replace("127.0.0.1", "10.0.0.1")]
    {
        std::fs::write(&file, section(&url)).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["check", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8(check.stderr).unwrap();
        assert!(check.status.code() == Some(64) && said.contains("with allow_local it may be"), "{said}");
    }
}
