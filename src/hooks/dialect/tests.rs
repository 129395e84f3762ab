//! What is sent, to the letter.

use oci::{Digest, RepositoryName, Tag};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::event::Action;

const DIGEST: &str = "sha256:b4758aaed11c155a476b9857e1178f157759c99cb04c907a04993f5481eff848";

fn registry() -> Registry {
    Registry::new(&Url::parse("https://registry.example.org/ignored").unwrap()).unwrap()
}

fn event() -> Event {
    Event {
        id: "0199f0a0-0000-7000-8000-000000000001".to_owned(),
        action: Action::Push,
        repository: RepositoryName::parse("micro/tinybird-local").unwrap(),
        tag: Some(Tag::parse("latest").unwrap()),
        digest: Some(Digest::parse(DIGEST).unwrap()),
        media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()),
        size: Some(1234),
        at: 1_767_225_600_123,
        actor: Some("robot:ci".to_owned()),
        from: None,
        source_address: Some("192.0.2.7:4711".to_owned()),
        user_agent: Some("skopeo/1.20".to_owned()),
    }
}

fn deletion() -> Event {
    Event { action: Action::Delete, media_type: None, size: None, ..event() }
}

fn sent(dialect: Dialect, event: &Event) -> (&'static str, Value) {
    let payload = dialect.payload(event, &registry(), "argo").unwrap();
    (payload.content_type, serde_json::from_slice(&payload.body).unwrap())
}

#[test]
fn distribution_is_told_as_distribution_tells() {
    let (content_type, body) = sent(Dialect::Distribution, &event());
    assert_eq!(content_type, "application/vnd.docker.distribution.events.v2+json");
    let expected = json!({ "events": [{
        "id": "0199f0a0-0000-7000-8000-000000000001",
        "timestamp": "2026-01-01T00:00:00.123Z",
        "action": "push",
        "target": {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "size": 1234,
            "digest": DIGEST,
            "length": 1234,
            "repository": "micro/tinybird-local",
            "url": format!("https://registry.example.org/v2/micro/tinybird-local/manifests/{DIGEST}"),
            "tag": "latest",
        },
        "request": {
            "id": "0199f0a0-0000-7000-8000-000000000001",
            "addr": "192.0.2.7:4711",
            "host": "registry.example.org",
            "method": "PUT",
            "useragent": "skopeo/1.20",
        },
        "actor": { "name": "robot:ci" },
        "source": { "addr": "registry.example.org" },
    }] });
    assert_eq!(body, expected);
}

#[test]
fn a_tag_that_is_gone_is_told_to_distribution_without_a_digest() {
    let (_, body) = sent(Dialect::Distribution, &deletion());
    let target = &body["events"][0]["target"];
    assert_eq!((&target["tag"], target.get("digest")), (&json!("latest"), None));
    assert_eq!(target["url"], "https://registry.example.org/v2/micro/tinybird-local/manifests/latest");
    assert_eq!(body["events"][0]["request"]["method"], "DELETE");
    let (_, body) = sent(Dialect::Distribution, &Event { tag: None, ..deletion() });
    assert_eq!(body["events"][0]["target"]["digest"], DIGEST);
}

#[test]
fn harbor_is_told_as_harbor_tells() {
    let (content_type, body) = sent(Dialect::Harbor, &event());
    assert_eq!(content_type, "application/json");
    let data = json!({
        "resources": [{
            "digest": DIGEST,
            "tag": "latest",
            "resource_url": "registry.example.org/micro/tinybird-local:latest",
        }],
        "repository": {
            "name": "tinybird-local",
            "namespace": "micro",
            "repo_full_name": "micro/tinybird-local",
            "repo_type": "private",
        },
    });
    let expected = json!({ "type": "PUSH_ARTIFACT", "occur_at": 1_767_225_600, "operator": "robot:ci", "event_data": data });
    assert_eq!(body, expected);
    let (content_type, body) = sent(Dialect::HarborCloudEvents, &event());
    assert_eq!(content_type, "application/cloudevents+json");
    let expected = json!({
        "specversion": "1.0",
        "id": "0199f0a0-0000-7000-8000-000000000001",
        "requestid": "0199f0a0-0000-7000-8000-000000000001",
        "source": "/projects/micro/webhook/policies/argo",
        "type": "harbor.artifact.pushed",
        "datacontenttype": "application/json",
        "time": "2026-01-01T00:00:00.123Z",
        "data": data,
        "operator": "robot:ci",
    });
    assert_eq!(body, expected);
}

#[test]
fn harbor_has_a_word_for_a_deletion_and_the_digest_where_there_is_no_tag() {
    assert_eq!(sent(Dialect::Harbor, &deletion()).1["type"], "DELETE_ARTIFACT");
    assert_eq!(sent(Dialect::HarborCloudEvents, &deletion()).1["type"], "harbor.artifact.deleted");
    let (_, body) = sent(Dialect::Harbor, &Event { tag: None, ..event() });
    let resource = &body["event_data"]["resources"][0];
    assert_eq!(resource["tag"], DIGEST);
    assert_eq!(resource["resource_url"], format!("registry.example.org/micro/tinybird-local@{DIGEST}"));
    let nameless = Event { tag: None, digest: None, ..event() };
    assert_eq!(Dialect::Harbor.payload(&nameless, &registry(), "argo"), None);
}

#[test]
fn docker_hub_is_told_of_pushed_tags_alone_and_of_its_own_under_their_names_there() {
    let (content_type, body) = sent(Dialect::DockerHub, &event());
    assert_eq!(content_type, "application/json");
    let expected = json!({
        "push_data": {
            "pushed_at": 1_767_225_600,
            "pusher": "robot:ci",
            "tag": "latest",
            "media_type": "application/vnd.oci.image.index.v1+json",
        },
        "repository": {
            "repo_name": "micro/tinybird-local",
            "namespace": "micro",
            "name": "tinybird-local",
            "repo_url": "https://registry.example.org/micro/tinybird-local",
        },
    });
    assert_eq!(body, expected);
    let copy = Event { repository: RepositoryName::parse("docker.io/library/nginx").unwrap(), ..event() };
    assert_eq!(sent(Dialect::DockerHub, &copy).1["repository"]["repo_name"], "library/nginx");
    for untold in [deletion(), Event { tag: None, ..event() }] {
        assert_eq!(Dialect::DockerHub.payload(&untold, &registry(), "argo"), None);
    }
}

#[test]
fn a_cloud_event_has_what_the_image_updater_looks_for() {
    let (content_type, body) = sent(Dialect::CloudEvents, &event());
    assert_eq!(content_type, "application/cloudevents+json");
    let expected = json!({
        "specversion": "1.0",
        "id": "0199f0a0-0000-7000-8000-000000000001",
        "source": "https://registry.example.org",
        "type": "dev.roadstead.image.pushed",
        "subject": "micro/tinybird-local:latest",
        "time": "2026-01-01T00:00:00.123Z",
        "datacontenttype": "application/json",
        "data": {
            "action": "push",
            "registry": "registry.example.org",
            "repository": "micro/tinybird-local",
            "tag": "latest",
            "digest": DIGEST,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "size": 1234,
            "actor": "robot:ci",
        },
    });
    assert_eq!(body, expected);
    let (_, body) = sent(Dialect::CloudEvents, &Event { tag: None, ..deletion() });
    assert_eq!((&body["subject"], &body["type"]), (&json!("micro/tinybird-local"), &json!("dev.roadstead.image.deleted")));
}

#[test]
fn flux_is_told_in_plain_words() {
    let (content_type, body) = sent(Dialect::FluxHmac, &Event { from: Some("docker.io".to_owned()), ..event() });
    assert_eq!(content_type, "application/json");
    assert_eq!(body["image"], "registry.example.org/micro/tinybird-local:latest");
    assert_eq!((&body["action"], &body["digest"], &body["from"]), (&json!("push"), &json!(DIGEST), &json!("docker.io")));
}

#[test]
fn the_port_of_the_registry_is_part_of_its_name() {
    let registry = Registry::new(&Url::parse("http://10.0.0.1:5000").unwrap()).unwrap();
    assert_eq!(registry.host(), "10.0.0.1:5000");
    assert_eq!(registry.url(), "http://10.0.0.1:5000");
    for wrong in ["mailto:a@b", "ftp://registry.example.org"] {
        assert_eq!(Registry::new(&Url::parse(wrong).unwrap()), Err(RegistryError), "{wrong}");
    }
}

#[test]
fn every_dialect_is_known_by_its_name() {
    for dialect in Dialect::ALL {
        assert_eq!(Dialect::parse(dialect.as_str()), Some(dialect));
    }
    assert_eq!(Dialect::parse("quay"), None);
}

proptest! {
    #[test]
    fn whatever_happened_is_told_in_small_valid_json_or_not_at_all(
        id in "\\PC{0,40}", at in any::<u64>(), actor in proptest::option::of("\\PC{0,40}"), size in any::<Option<u64>>(),
        is_deletion in any::<bool>(), has_tag in any::<bool>(), has_digest in any::<bool>(),
    ) {
        let mut event = Event { id: id.clone(), at, actor, size, ..event() };
        event.action = if is_deletion { Action::Delete } else { Action::Push };
        event.tag = event.tag.filter(|_| has_tag);
        event.digest = event.digest.filter(|_| has_digest);
        for dialect in Dialect::ALL {
            let Some(payload) = dialect.payload(&event, &registry(), "argo") else { continue };
            let value: Value = serde_json::from_slice(&payload.body).unwrap();
            prop_assert!(value.is_object());
            prop_assert!(!payload.body.windows(5).any(|bytes| bytes == b":null"), "{dialect}");
        }
    }
}
