use std::sync::Arc;

use roadstead_hooks::{Action, Dialect, Endpoint, Event, InboundKind};
use serde_json::{Value, json};
use testing::ManualClock;

use crate::forges::{SECRET, Sent, gitea, github, gitlab_push, inbound, inbound_with, push_body};
use crate::harness::{DIGEST, World, endpoint, push, until};
use crate::judge::Program;
use crate::receiver::{Received, Receiver};
use crate::signed::{openssl_base64, openssl_hmac};

const REPOSITORY: &str = "micro/tinybird-local";

/// These events as they come to a receiver.
async fn told(dialect: Dialect, events: &[Event]) -> Vec<Received> {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let secrets = Endpoint { secret: Some(SECRET.into()), authorization: Some(SECRET.into()), ..endpoint(&receiver, dialect) };
    let server = world.start(vec![secrets]);
    for event in events {
        server.tell(&world, event).await;
    }
    until(async || receiver.received().len() == events.len()).await;
    receiver.received()
}

fn deletion(n: u64) -> Event {
    Event { action: Action::Delete, media_type: None, size: None, ..push(REPOSITORY, n) }
}

#[tokio::test]
async fn distribution_itself_reads_what_it_is_told_in_its_words() {
    let untagged = Event { tag: None, ..deletion(3) };
    let events = told(Dialect::Distribution, &[push(REPOSITORY, 1), deletion(2), untagged]).await;
    let read: Vec<Value> = events
        .iter()
        .map(|sent| Program::Receivers.asks("distribution", &sent.head, &sent.body, "").unwrap()["events"][0].clone())
        .collect();
    let target = |n: usize| (&read[n]["action"], read[n]["target"].get("tag"), &read[n]["target"]["digest"]);
    let (tag, digest) = (json!("latest"), json!(DIGEST));
    assert_eq!(target(0), (&json!("push"), Some(&tag), &digest));
    assert_eq!(target(1), (&json!("delete"), Some(&tag), &json!("")));
    assert_eq!(target(2), (&json!("delete"), None, &digest));
    assert_eq!(read[0]["target"]["repository"], REPOSITORY);
    assert_eq!(read[0]["request"]["host"], "registry.example.org");
    assert_eq!(read[0]["timestamp"], "2026-01-01T00:00:00.001Z");
    assert_eq!(read[0]["target"]["size"], 1234);
}

#[tokio::test]
async fn the_library_of_cloud_events_takes_both_kinds_of_ours() {
    for (dialect, kind) in
        [(Dialect::CloudEvents, "dev.roadstead.image.pushed"), (Dialect::HarborCloudEvents, "harbor.artifact.pushed")]
    {
        let sent = &told(dialect, &[push(REPOSITORY, 1)]).await[0];
        let read = Program::Receivers.asks("cloudevents", &sent.head, &sent.body, "").unwrap();
        assert_eq!((&read["type"], &read["id"]), (&json!(kind), &json!("micro.tinybird-local-1")), "{dialect}");
        assert_eq!(read["time"], "2026-01-01T00:00:00.001Z");
    }
}

#[tokio::test]
async fn what_flux_verifies_with_takes_our_signature_and_no_other_body() {
    let sent = &told(Dialect::FluxHmac, &[push(REPOSITORY, 1)]).await[0];
    Program::Receivers.asks("flux-hmac", &sent.head, &sent.body, SECRET).unwrap();
    let mut changed = sent.body.clone();
    changed[10] ^= 1;
    assert!(Program::Receivers.asks("flux-hmac", &sent.head, &changed, SECRET).is_err());
    assert!(Program::Receivers.asks("flux-hmac", &sent.head, &sent.body, "another").is_err());
}

#[tokio::test]
async fn the_image_updater_knows_which_image_was_pushed() {
    let expected = |registry: &str, digest: &str| json!({ "RegistryURL": registry, "Repository": REPOSITORY, "Tag": "latest", "Digest": digest });
    for (dialect, judge, secret, query, read) in [
        (Dialect::Harbor, "harbor", SECRET, "", expected("registry.example.org", DIGEST)),
        (Dialect::CloudEvents, "cloudevents", "hidden", "secret=hidden", expected("registry.example.org", DIGEST)),
        (Dialect::DockerHub, "docker.io", "hidden", "secret=hidden", expected("docker.io", "")),
    ] {
        let sent = &told(dialect, &[push(REPOSITORY, 1)]).await[0];
        assert_eq!(Program::Updater.asks_with(judge, &sent.head, &sent.body, secret, query), Ok(read), "{dialect}");
        let refused = Program::Updater.asks_with(judge, &sent.head, &sent.body, "another", query);
        assert!(refused.unwrap_err().contains("invalid webhook secret"), "{dialect}");
    }
    let sent = &told(Dialect::Harbor, &[deletion(1)]).await[0];
    let refused = Program::Updater.asks("harbor", &sent.head, &sent.body, SECRET);
    assert!(refused.unwrap_err().contains("unsupported event type: DELETE_ARTIFACT"));
}

#[tokio::test]
async fn the_receivers_of_flux_take_what_they_are_told_and_from_nobody_else() {
    for (dialect, receiver, is_secret) in [
        (Dialect::FluxHmac, "generic-hmac", true),
        (Dialect::Harbor, "harbor", true),
        (Dialect::DockerHub, "dockerhub", false),
        (Dialect::CloudEvents, "generic", false),
    ] {
        let sent = &told(dialect, &[push(REPOSITORY, 1)]).await[0];
        assert_eq!(Program::Flux.asks(receiver, &sent.head, &sent.body, SECRET), Ok(Value::Null), "{dialect}");
        assert_eq!(Program::Flux.asks(receiver, &sent.head, &sent.body, "another").is_err(), is_secret, "{dialect}");
    }
}

/// What we and another reader make of a delivery.
fn verdicts(judge: &str, kind: InboundKind, sent: &Sent) -> (bool, bool) {
    let headers: Vec<(String, String)> =
        sent.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let theirs = Program::Receivers.asks(judge, &headers, &sent.body, SECRET);
    (sent.read(&inbound(kind)).is_ok(), theirs.is_ok())
}

#[test]
fn we_and_the_readers_of_others_agree_on_what_is_authentic() {
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &push_body().to_string()).finish();
    let form = Sent::new("application/x-www-form-urlencoded", form.into_bytes()).with("x-github-event", "push");
    let signature = format!("sha256={}", openssl_hmac("sha256", SECRET.as_bytes(), &form.body));
    let (hub, tea) = (github("push", &push_body()), gitea("push", &push_body()));
    let lab = Sent::json(&gitlab_push()).with("x-gitlab-event", "Push Hook");
    let other = openssl_hmac("sha256", b"another", &hub.body);
    for (judge, kind, sent, is_authentic) in [
        ("github", InboundKind::GitHub, hub.clone(), true),
        ("github", InboundKind::GitHub, form.clone().with("x-hub-signature-256", &signature), true),
        ("github", InboundKind::GitHub, form.with("x-hub-signature-256", "sha256=00"), false),
        ("github", InboundKind::GitHub, hub.clone().with("x-hub-signature-256", "sha256="), false),
        ("github", InboundKind::GitHub, hub.clone().with("x-hub-signature-256", &format!("sha256={other}")), false),
        ("github", InboundKind::GitHub, Sent { body: b"{}".to_vec(), ..hub }, false),
        ("gitea", InboundKind::Gitea, tea.clone(), true),
        ("gitea", InboundKind::Gitea, tea.clone().with("x-gitea-signature", ""), false),
        ("gitea", InboundKind::Gitea, tea.clone().with("x-gitea-signature", &other), false),
        ("gitea", InboundKind::Gitea, Sent { body: b"{}".to_vec(), ..tea }, false),
        ("gitlab", InboundKind::GitLab, lab.clone().with("x-gitlab-token", SECRET), true),
        ("gitlab", InboundKind::GitLab, lab.clone().with("x-gitlab-token", "another"), false),
        ("gitlab", InboundKind::GitLab, lab, false),
    ] {
        assert_eq!(verdicts(judge, kind, &sent), (is_authentic, is_authentic), "{judge}: {sent:?}");
    }
}

#[test]
fn the_library_of_standard_webhooks_agrees_with_us() {
    let (key, secret) = (b"0123456789abcdef01234567", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    let inbound = inbound_with(InboundKind::GitLab, secret, Arc::new(ManualClock::new()));
    let body = gitlab_push().to_string();
    let right = openssl_base64(key, format!("msg_1.1767225600.{body}").as_bytes());
    let wrong = openssl_base64(key, format!("msg_2.1767225600.{body}").as_bytes());
    for (signature, is_authentic) in [
        (format!("v1,{right}"), true),
        (format!("v1,{wrong} v1,{right}"), true),
        (format!("v1,{wrong}"), false),
        (format!("v2,{right}"), false),
    ] {
        let sent = Sent::json(&gitlab_push())
            .with("webhook-id", "msg_1")
            .with("webhook-timestamp", "1767225600")
            .with("webhook-signature", &signature);
        let headers: Vec<(String, String)> =
            sent.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let theirs = Program::Receivers.asks("standard", &headers, &sent.body, secret);
        assert_eq!((sent.read(&inbound).is_ok(), theirs.is_ok()), (is_authentic, is_authentic), "{signature}");
    }
}
