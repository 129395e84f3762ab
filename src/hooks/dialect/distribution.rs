//! The envelope of CNCF Distribution. Who listens takes the registry's host from the request.

use serde_json::json;

use super::{Payload, Registry, timestamp};
use crate::event::{Action, Event};

const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v2+json";

pub(super) fn payload(event: &Event, registry: &Registry) -> Payload {
    // A tag that is removed is told without a digest: with one it would be a manifest that is gone.
    let digest = event.digest.as_ref().filter(|_| event.action != Action::Delete || event.tag.is_none());
    let reference = digest.map(ToString::to_string).or_else(|| event.tag.as_ref().map(ToString::to_string));
    let url = reference.map(|reference| format!("{}/v2/{}/manifests/{reference}", registry.url(), event.repository));
    let method = match event.action {
        Action::Push => "PUT",
        Action::Delete => "DELETE",
    };
    let body = json!({ "events": [{
        "id": event.id,
        "timestamp": timestamp(event),
        "action": event.action.as_str(),
        "target": {
            "mediaType": event.media_type,
            "size": event.size,
            "digest": digest,
            "length": event.size,
            "repository": event.repository,
            "url": url,
            "tag": event.tag,
        },
        "request": {
            "id": event.id,
            "addr": event.source_address,
            "host": registry.host(),
            "method": method,
            "useragent": event.user_agent.as_deref().unwrap_or_default(),
        },
        "actor": { "name": event.actor },
        "source": { "addr": registry.host() },
    }] });
    Payload::json(MEDIA_TYPE, body)
}
