//! What Docker Hub sends when a tag is pushed. It has no digest, and no word for a deletion.
//!
//! Its receivers take every repository for one of `docker.io`. So a copy of one of those is told under its name there.

use serde_json::json;

use super::{Payload, Registry, seconds};
use crate::event::{Action, Event};

const HUB: &str = "docker.io";

pub(super) fn payload(event: &Event, registry: &Registry) -> Option<Payload> {
    let tag = event.tag.as_ref().filter(|_| event.action == Action::Push)?;
    let full = event.repository.as_str();
    let name = full.strip_prefix(HUB).and_then(|rest| rest.strip_prefix('/')).unwrap_or(full);
    let (namespace, last) = name.rsplit_once('/').unwrap_or(("", name));
    let pusher = event.actor.as_deref().unwrap_or_default();
    let body = json!({
        "push_data": { "pushed_at": seconds(event), "pusher": pusher, "tag": tag, "media_type": event.media_type },
        "repository": {
            "repo_name": name,
            "namespace": namespace,
            "name": last,
            "repo_url": format!("{}/{full}", registry.url()),
        },
    });
    Some(Payload::json("application/json", body))
}
