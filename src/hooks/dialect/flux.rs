//! Plain JSON for a `generic-hmac` receiver of Flux, whose filters may look at any of it.

use serde_json::json;

use super::{Payload, Registry, image, timestamp};
use crate::event::Event;

pub(super) fn payload(event: &Event, registry: &Registry) -> Payload {
    let body = json!({
        "id": event.id,
        "time": timestamp(event),
        "action": event.action.as_str(),
        "registry": registry.host(),
        "repository": event.repository,
        "tag": event.tag,
        "digest": event.digest,
        "image": image(event, registry),
        "mediaType": event.media_type,
        "size": event.size,
        "actor": event.actor,
        "from": event.from,
    });
    Payload::json("application/json", body)
}
