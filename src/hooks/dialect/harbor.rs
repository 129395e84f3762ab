//! What Harbor sends, in both of its formats. As there, an artifact without a tag has its digest in the place of one.

use serde_json::{Value, json};

use super::{Payload, Registry, image, seconds};
use crate::event::{Action, Event};

pub(super) fn payload(event: &Event, registry: &Registry) -> Option<Payload> {
    let kind = match event.action {
        Action::Push => "PUSH_ARTIFACT",
        Action::Delete => "DELETE_ARTIFACT",
    };
    let body = json!({
        "type": kind,
        "occur_at": seconds(event),
        "operator": operator(event),
        "event_data": data(event, registry)?,
    });
    Some(Payload::json("application/json", body))
}

pub(super) fn cloudevent(event: &Event, registry: &Registry, endpoint: &str) -> Option<Payload> {
    let kind = match event.action {
        Action::Push => "harbor.artifact.pushed",
        Action::Delete => "harbor.artifact.deleted",
    };
    let (namespace, _) = project(event);
    let body = json!({
        "specversion": "1.0",
        "id": event.id,
        "requestid": event.id,
        "source": format!("/projects/{namespace}/webhook/policies/{endpoint}"),
        "type": kind,
        "datacontenttype": "application/json",
        "time": super::timestamp(event),
        "data": data(event, registry)?,
        "operator": operator(event),
    });
    Some(Payload::json("application/cloudevents+json", body))
}

fn data(event: &Event, registry: &Registry) -> Option<Value> {
    let tag = event.tag.as_ref().map(ToString::to_string).or_else(|| event.digest.as_ref().map(ToString::to_string))?;
    let (namespace, name) = project(event);
    Some(json!({
        "resources": [{ "digest": event.digest, "tag": tag, "resource_url": image(event, registry) }],
        "repository": {
            "name": name,
            "namespace": namespace,
            "repo_full_name": event.repository,
            "repo_type": "private",
        },
    }))
}

/// Harbor's project is the first component of a name; here a name may have one alone.
fn project(event: &Event) -> (&str, &str) {
    let name = event.repository.as_str();
    name.split_once('/').unwrap_or((name, name))
}

fn operator(event: &Event) -> &str {
    event.actor.as_deref().unwrap_or_default()
}
