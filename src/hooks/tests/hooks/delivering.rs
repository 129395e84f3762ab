use std::time::Duration;

use oci::Tag;
use roadstead_hooks::{Action, AttemptOutcome, Dialect, Endpoint, Event, Globs};

use crate::harness::{World, endpoint, push, settle, until};
use crate::receiver::{Receiver, Reply};
use crate::signed::openssl_hmac;

#[tokio::test]
async fn an_event_is_delivered_once_and_leaves_nothing_but_its_trace() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let guarded = Endpoint { authorization: Some("Bearer top-secret".into()), ..endpoint(&receiver, Dialect::Harbor) };
    let server = world.start(vec![guarded]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || server.pending().await == 0).await;
    let requests = receiver.received();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/hook");
    for (name, value) in [
        ("content-type", "application/json"),
        ("authorization", "Bearer top-secret"),
        ("x-roadstead-delivery", "micro.a-1"),
        ("x-roadstead-event", "push"),
    ] {
        assert_eq!(requests[0].header(name), Some(value), "{name}");
    }
    assert_eq!(requests[0].json()["type"], "PUSH_ARTIFACT");
    assert_eq!(requests[0].header("x-roadstead-signature-256"), None);
    let recent = server.recent().await;
    assert_eq!(recent.len(), 1);
    assert_eq!((recent[0].outcome, recent[0].status, recent[0].id.as_str()), (AttemptOutcome::Delivered, Some(200), "micro.a-1"));
    assert_eq!(world.records.keys(), ["argo/recent"]);
}

#[tokio::test]
async fn the_body_is_signed_as_another_program_signs_it() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let secret = "a secret with spaces and ünïcode";
    let named =
        |name: &str, dialect| Endpoint { name: name.to_owned(), secret: Some(secret.into()), ..endpoint(&receiver, dialect) };
    let server = world.start(vec![named("argo", Dialect::CloudEvents), named("flux", Dialect::FluxHmac)]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || receiver.received().len() == 2).await;
    for received in receiver.received() {
        let expected = format!("sha256={}", openssl_hmac("sha256", secret.as_bytes(), &received.body));
        let is_flux = received.header("content-type") == Some("application/json");
        let (ours, other) = ("x-roadstead-signature-256", "x-signature");
        let (there, absent) = if is_flux { (other, ours) } else { (ours, other) };
        assert_eq!(received.header(there), Some(expected.as_str()));
        assert_eq!(received.header(absent), None);
    }
}

#[tokio::test]
async fn deliveries_of_a_repository_are_in_order_whatever_happens_to_the_first() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Distribution)]);
    receiver.answer([Reply::status(500), Reply::status(503), Reply::Reset]);
    for n in [2, 1, 4, 3] {
        for lane in server.hooks.enqueue(&push("micro/a", n)).await.unwrap() {
            assert_eq!(lane.key(), "argo/micro=a");
        }
    }
    server.sweep(&world).await;
    world.pass_until(Duration::from_mins(5), async || server.pending().await == 0).await;
    let ids = ["micro.a-1", "micro.a-1", "micro.a-1", "micro.a-1", "micro.a-2", "micro.a-3", "micro.a-4"];
    assert_eq!(receiver.ids(), ids);
}

#[tokio::test]
async fn a_repository_that_waits_does_not_hold_up_another() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    receiver.answer([Reply::status(500)]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || server.recent().await.len() == 1).await;
    server.tell(&world, &push("micro/b", 1)).await;
    until(async || receiver.ids() == ["micro.a-1", "micro.b-1"]).await;
    assert_eq!(server.pending().await, 1);
}

#[tokio::test]
async fn only_what_an_endpoint_wants_and_has_words_for_is_written() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let named = |name: &str, dialect| Endpoint { name: name.to_owned(), ..endpoint(&receiver, dialect) };
    let filtered = Endpoint {
        repositories: Globs::new(["micro/*"]).unwrap(),
        tags: Globs::new(["v*"]).unwrap(),
        actions: vec![Action::Push],
        ..named("filtered", Dialect::Harbor)
    };
    let hooks = world
        .hooks(vec![named("all", Dialect::CloudEvents), named("hub", Dialect::DockerHub), filtered], crate::harness::options());
    let version = Event { tag: Some(Tag::parse("v1").unwrap()), ..push("micro/a", 2) };
    let deletion = Event { action: Action::Delete, ..push("micro/a", 3) };
    for (event, expected) in [
        (push("micro/a", 1), vec!["all/micro=a", "hub/micro=a"]),
        (version, vec!["all/micro=a", "filtered/micro=a", "hub/micro=a"]),
        (deletion, vec!["all/micro=a"]),
        (Event { tag: None, ..push("other", 4) }, vec!["all/other"]),
    ] {
        let lanes: Vec<String> = hooks.enqueue(&event).await.unwrap().iter().map(roadstead_hooks::Lane::key).collect();
        assert_eq!(lanes, expected, "{}", event.id);
    }
    let pending =
        [hooks.pending("all").await.unwrap(), hooks.pending("hub").await.unwrap(), hooks.pending("filtered").await.unwrap()];
    assert_eq!(pending, [4, 2, 1]);
}

#[tokio::test]
async fn the_same_event_twice_is_one_delivery_also_after_it_was_made() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    let event = push("micro/a", 1);
    for _ in 0..3 {
        // The job of the first may not have been submitted, so that each is given the lane.
        assert_eq!(server.hooks.enqueue(&event).await.unwrap().len(), 1);
    }
    assert_eq!(server.pending().await, 1);
    server.sweep(&world).await;
    until(async || server.pending().await == 0).await;
    assert!(server.hooks.enqueue(&event).await.unwrap().is_empty());
    server.sweep(&world).await;
    settle().await;
    assert_eq!(receiver.ids(), ["micro.a-1"]);
}

#[tokio::test]
async fn an_event_is_told_to_the_others_when_one_endpoint_cannot_be_written_to() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let named = |name: &str| Endpoint { name: name.to_owned(), ..endpoint(&receiver, Dialect::Harbor) };
    let server = world.start(vec![named("argo"), named("kargo")]);
    world.records.fail_once("argo/queue/");
    let error = server.hooks.enqueue(&push("micro/a", 1)).await.unwrap_err();
    assert!(error.to_string().contains("argo"), "{error}");
    assert_eq!(server.hooks.pending("kargo").await.unwrap(), 1);
    assert_eq!(server.hooks.enqueue(&push("micro/a", 1)).await.unwrap().len(), 2);
    assert_eq!((server.pending().await, server.hooks.pending("kargo").await.unwrap()), (1, 1));
}
