//! A `CloudEvent` 1.0, structured. The types hold the word `image`, and the data the members, that the Argo CD Image Updater looks for.

use serde_json::json;

use super::{Payload, Registry, timestamp};
use crate::event::{Action, Event};

pub(super) fn payload(event: &Event, registry: &Registry) -> Payload {
    let kind = match event.action {
        Action::Push => "dev.roadstead.image.pushed",
        Action::Delete => "dev.roadstead.image.deleted",
    };
    // Receivers cut it at the first colon, so that a digest has no place in it.
    let subject = event.tag.as_ref().map_or_else(|| event.repository.to_string(), |tag| format!("{}:{tag}", event.repository));
    let body = json!({
        "specversion": "1.0",
        "id": event.id,
        "source": registry.url(),
        "type": kind,
        "subject": subject,
        "time": timestamp(event),
        "datacontenttype": "application/json",
        "data": {
            "action": event.action.as_str(),
            "registry": registry.host(),
            "repository": event.repository,
            "tag": event.tag,
            "digest": event.digest,
            "mediaType": event.media_type,
            "size": event.size,
            "actor": event.actor,
            "from": event.from,
        },
    });
    Payload::json("application/cloudevents+json", body)
}
